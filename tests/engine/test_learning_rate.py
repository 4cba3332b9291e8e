from __future__ import annotations

import math

import pytest
import torch

from stillroom.config import make_recipe
from stillroom.engine.learning_rate import lr_at, peak_lr, set_lr


def options(**settings):
    return make_recipe("train", {"model": "m", "data": "d", "lr": 1.0, **settings}).optim


def rates(optim, epochs):
    return [lr_at(optim, epoch, 0, 10, epochs) for epoch in range(1, epochs + 1)]


def steps_of(optim, steps, epochs):
    return [lr_at(optim, epoch, step, steps, epochs) for epoch in range(1, epochs + 1) for step in range(steps)]


def test_milestones_act_after_their_epoch():
    got = rates(options(epochs=6, milestones=[2, 4]), 6)
    assert got == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_warm_up_reaches_the_full_rate():
    got = rates(options(epochs=8, milestones=[6], warmup_epochs=4), 8)
    assert got == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.1, 0.1])


def test_the_published_accident_stays_below_the_full_rate_until_the_first_milestone():
    optim = options(epochs=240, warmup_epochs=20, unfinished_warmup=True)
    got = rates(optim, 240)
    assert got[:19] == pytest.approx([e / 20 for e in range(1, 20)])
    assert got[18:150] == pytest.approx([0.95] * 132)
    assert got[150] == pytest.approx(0.1)


def test_cosine_rises_by_steps_and_ends_near_zero():
    optim = options(epochs=5, schedule="cosine", warmup_epochs=1)
    assert [lr_at(optim, 1, step, 4, 5) for step in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1])
    assert lr_at(optim, 2, 0, 4, 5) == pytest.approx(1)
    assert lr_at(optim, 4, 0, 4, 5) == pytest.approx(0.5)
    assert lr_at(optim, 5, 3, 4, 5) == pytest.approx(0.5 * (1 + math.cos(math.pi * 3.75 / 4)))


def test_a_constant_learning_rate_only_warms_up():
    assert steps_of(options(epochs=3, schedule="constant", warmup_epochs=1), 2, 3) == pytest.approx(
        [0.5, 1, 1, 1, 1, 1]
    )
    assert set(steps_of(options(epochs=2, schedule="constant"), 3, 2)) == {1.0}


@pytest.mark.parametrize("warmup", [0, 1, 2])
def test_one_cycle_is_that_of_pytorch(warmup):
    steps, epochs = 7, 5
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    rise = warmup / epochs if warmup else 0.3
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=steps * epochs, pct_start=rise, cycle_momentum=False
    )
    expected = []
    for _ in range(steps * epochs):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    ours = steps_of(options(epochs=epochs, schedule="onecycle", warmup_epochs=warmup), steps, epochs)
    assert ours == pytest.approx(expected)


def test_one_step_of_one_cycle_is_finite():
    assert 0 < lr_at(options(epochs=1, schedule="onecycle"), 1, 0, 1, 1) <= 1


def test_groups_keep_their_factor_and_the_peak_is_the_largest_learning_rate():
    plain, slow = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    optimizer = torch.optim.SGD([{"params": [slow], "lr_scale": 0.1}, {"params": [plain]}], lr=1.0)
    set_lr(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.5]
    assert peak_lr(optimizer) == 0.5


def test_one_cycle_that_rises_in_one_step_begins_at_its_peak():
    got = steps_of(options(epochs=3, schedule="onecycle", warmup_epochs=1), 1, 3)
    assert got == pytest.approx([1, 0.500002, 4e-6])
