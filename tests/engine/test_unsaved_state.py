from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from stillroom.methods import Method, Term
from stillroom.runtime.reporters import Silent
from tests.conftest import tiny_model
from tests.engine.test_loop import run


class Drifting(nn.Module):
    """Its factor grows with every batch, once in an attribute and once in a buffer."""

    def __init__(self, saved):
        super().__init__()
        self.saved, self.scale = saved, 1.0
        self.register_buffer("count", torch.ones(()))

    def forward(self, student_logits, teacher_logits):
        if self.saved:
            self.count += 0.1
        else:
            self.scale += 0.1
        return self.scale * self.count * F.mse_loss(student_logits, teacher_logits)


def told(tmp_path, data, saved):
    said, reporter = [], Silent()
    reporter.say = said.append
    made = Method([Term(Drifting(saved))])
    run(tmp_path, data, tiny_model(width=16), made, name=str(saved), reporter=reporter, epochs=2)
    return [line for line in said if "no checkpoint has" in line]


def test_what_a_loss_changes_and_no_checkpoint_has_is_said_once(tmp_path, tiny_data):
    (line,) = told(tmp_path, tiny_data, saved=False)
    assert "Drifting changes scale in training" in line
    assert "register_buffer" in line


def test_what_a_loss_keeps_in_a_buffer_is_saved_and_nothing_is_said(tmp_path, tiny_data):
    assert not told(tmp_path, tiny_data, saved=True)
