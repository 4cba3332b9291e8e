from __future__ import annotations

import torch
from torch import nn

from stillroom.batch import Batch
from stillroom.engine.accumulation import Part
from stillroom.engine.training_step import TrainingStep
from stillroom.methods import Method
from stillroom.runtime.device import Machine
from stillroom.runtime.distributed import Group
from stillroom.runtime.global_batch_norm import BatchNorms
from stillroom.tasks.classification import Classification


def test_the_terms_of_parts_sum_up_to_those_of_the_whole_batch_where_images_have_no_label():
    machine = Machine(torch.device("cpu"), "32")
    student, method = nn.Linear(3, 4), Method()
    step = TrainingStep(student, method, None, BatchNorms([student], Group(machine)), machine, 0, Classification())
    images, labels, ids = torch.randn(6, 3), torch.tensor([0, -1, 2, 3, -1, -1]), torch.arange(6)

    def terms(where, number, last):
        part = Part(number, len(ids[where]), 6, 3, 0, last)
        values, correct = step(Batch(images[where], labels[where], ids[where]), None, part, 1)
        assert not correct.requires_grad
        return values

    whole = terms(slice(0, 6), 0, last=True)
    parts = terms(slice(0, 4), 0, last=False) + terms(slice(4, 6), 1, last=True)
    torch.testing.assert_close(parts, whole)
