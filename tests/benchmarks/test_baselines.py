"""What Stillroom is timed against computes the same thing."""

from __future__ import annotations

import pytest
import torch
from benchmarks.baselines.kl import kl
from benchmarks.baselines.ldrld import recursive_ldrld
from benchmarks.baselines.loader import make_loader
from benchmarks.baselines.loop import make_optimizer, train_epoch

from stillroom.data import ImageSet, Loader
from stillroom.input_format import InputFormat
from stillroom.losses import kd, ldrld
from tests.conftest import tiny_model, tiny_set


@pytest.mark.parametrize(
    ("batch", "classes", "settings"),
    [
        (5, 12, {}),
        (3, 100, {"depth": 2}),
        (1, 9, {"depth": 5, "temperature": 2.0, "alpha": 1.0, "beta": 3.0}),
        (4, 20, {"delta": 1.0, "epsilon": 0.5, "decay": 0.2}),
    ],
)
def test_the_recursion_has_ldrlds_value_and_gradient(batch: int, classes: int, settings: dict[str, float]) -> None:
    teacher, student = 5 * torch.randn(2, batch, classes, generator=torch.Generator().manual_seed(classes))
    student.requires_grad_()
    theirs, ours = recursive_ldrld(student, teacher, **settings), ldrld(student, teacher, **settings)
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad(2 * loss, student)[0] for loss in (theirs, ours)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_pytorchs_kl_is_kd() -> None:
    student, teacher = 5 * torch.randn(2, 6, 10, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(kl(student, teacher), kd(student, teacher))


def test_the_pil_loader_gives_the_memory_loaders_images() -> None:
    images = tiny_set(5)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    place = {"batch_size": 8, "shuffle": False}
    theirs = make_loader(images.images, images.labels, workers=0, pad=0, flip=False, mean=mean, std=std, **place)
    ours = Loader(images, input_format=InputFormat(mean, std), **place)
    for (shown, labels), batch in zip(theirs, ours.epoch(0), strict=True):
        torch.testing.assert_close(shown, batch.images)
        assert torch.equal(labels, batch.labels)


def test_the_pil_loaders_crops_are_windows_of_the_padded_image() -> None:
    bright = ImageSet(
        torch.full((40, 3, 8, 8), 255, dtype=torch.uint8), torch.zeros(40).long(), torch.arange(40), ("a",)
    )
    loader = make_loader(bright.images, bright.labels, batch_size=40, mean=(0.0,) * 3, std=(1.0,) * 3, workers=0, pad=2)
    ((images, _),) = loader
    lit = images[:, 0].sum((1, 2))
    assert set(images.unique().tolist()) == {0.0, 1.0}
    assert lit.min() < 64
    assert lit.min() >= 36  # at most two rows and two columns of border


def test_the_public_loop_learns() -> None:
    images = tiny_set(20)
    torch.manual_seed(0)
    teacher, student = tiny_model(classes := 12), tiny_model(classes)
    loader = make_loader(images.images, images.labels, batch_size=16, mean=(0.5,) * 3, std=(0.25,) * 3, workers=0)
    before = [parameter.clone() for parameter in teacher.parameters()]
    optimizer = make_optimizer(student)
    first, *_, last = (train_epoch(teacher, student, loader, optimizer) for _ in range(8))
    assert last.loss < first.loss
    assert last.top1 > first.top1
    assert all(torch.equal(old, new) for old, new in zip(before, teacher.parameters(), strict=True))
