from __future__ import annotations

import pytest
import torch

from stillroom.engine.checkpoint import Progress
from stillroom.engine.epoch_row import epoch_row
from stillroom.engine.loaders import make_loaders
from tests.prepare.test_run_identity import Opening


def test_a_row_has_the_means_of_the_steps_that_were_taken(tmp_path, tiny_data):
    job = Opening(tmp_path, tiny_data)(name="run", method="ce + kd")
    steps, _ = make_loaders(job.data, job.recipe, job.machine, strong=False)
    losses = torch.tensor([[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]])
    now = Progress(losses, torch.tensor(12), epoch=1, step=2, seconds=2.0, seen=32)
    labels = torch.tensor([0, 1, 2, 3])
    logits = torch.eye(4)[[0, 1, 2, 0]]
    row = epoch_row(job, now, 0.05, (logits, labels), (torch.eye(4)[[1, 1, 2, 0]], labels), steps.loader)
    assert row["terms"] == {"ce": 2.0, "kd": 4.0}
    assert row["loss"] == 6.0
    assert row["train_top1"] == pytest.approx(100 * 12 / 32)
    assert (row["val_top1"], row["agreement"]) == (75.0, 75.0)
    assert (row["lr"], row["images_per_second"]) == (0.05, 16.0)
