"""What each loss declares to read of the teacher's logits, measured."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stillroom import losses
from stillroom.losses.protocol import Offer, connect_needs_of, needs_of, properties_of
from stillroom.methods import PRESETS
from tests.losses.draw import make

LOSSES = {name: preset.loss for name, preset in PRESETS.items()} | {
    "mlkd standardized": lambda: losses.MLKD(standardized=True),
    "standardized kd": lambda: losses.Standardized(losses.KD()),
    "standardized ldrld": lambda: losses.Standardized(losses.LDRLD()),
    "standardized revision": lambda: losses.Standardized(losses.REVISION()),
    "standardized hard": lambda: losses.Standardized(losses.HardLabels()),
}
READS = {"teacher_logits", "teacher_logits_strong"}
ON_LOGITS = [name for name, loss in LOSSES.items() if READS & {*needs_of(loss())}]
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}


def declared(name: str) -> Offer:
    return properties_of(LOSSES[name]()).teacher_offer


def value(name: str, teacher: Tensor, strong: Tensor, dtype: torch.dtype) -> Tensor:
    """The loss and the gradient of the student for these teacher logits, in one tensor."""
    data, loss = make(8, 12, seed=5), LOSSES[name]()
    student = data.student.to(dtype).float().requires_grad_()
    given = {"student_logits": student, "student_logits_strong": student + 1, "target": data.target, "epoch": 3,
             "teacher_logits": teacher.to(dtype), "teacher_logits_strong": strong.to(dtype)}  # fmt: skip
    torch.manual_seed(6)
    given |= {"student_maps": (torch.randn(8, 3, 4, 4),), "student_embedding": torch.randn(8, 5),
              "teacher_embedding": torch.randn(8, 5), "teacher_head": torch.nn.Linear(6, 12)}  # fmt: skip
    if connect_needs_of(loss):
        loss.connect(**{need: given[need] for need in connect_needs_of(loss)})
    total = loss(**{need: given[need] for need in needs_of(loss)})
    (gradient,) = torch.autograd.grad(total, student)
    return torch.cat([total.detach().reshape(1), gradient.flatten()])


def teacher_logits() -> tuple[Tensor, Tensor]:
    """Logits for two views that both precisions hold exactly, also with 4 added: multiples of 1/8 up to 3.5.

    Half of the samples are classified correctly, because REVISION reads the logits of these only.
    """
    generator, target = torch.Generator().manual_seed(3), make(8, 12, seed=5).target
    views = [torch.randint(-24, 25, (8, 12), generator=generator) / 8 for _ in range(2)]
    for view in views:
        view[:4] = view[:4].scatter(1, target[:4, None], 3.5)
    return views[0], views[1]


def same(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ON_LOGITS)
def test_a_loss_that_needs_no_more_than_probabilities_ignores_a_constant_per_sample(name: str, precision: str) -> None:
    first, second = teacher_logits()
    shift = torch.tensor([4.0, -3.0, 2.0, 0.5] * 2)[:, None]
    before = value(name, first, second, PRECISIONS[precision])
    after = value(name, first + shift, second - shift, PRECISIONS[precision])
    assert before[1:].abs().max() > 1e-4
    assert same(before, after) == (declared(name) != "logits")


@pytest.mark.parametrize("name", ON_LOGITS)
def test_a_loss_that_needs_labels_only_reads_the_place_of_the_largest_logit(name: str) -> None:
    first, second = (logits + torch.linspace(0, 0.01, 12) for logits in teacher_logits())  # no ties
    hot = [torch.nn.functional.one_hot(logits.argmax(1), 12) * 256.0 for logits in (first, second)]
    before, after = value(name, first, second, torch.float32), value(name, *hot, torch.float32)
    assert same(before, after) == (declared(name) == "labels")


def test_only_divergences_over_all_classes_take_the_top_k() -> None:
    assert {name for name in ON_LOGITS if declared(name) == "top-k"} == {
        "kd", "ctkd", "ttm", "wttm", "wsld", "swap", "crld", "ofa", "srd",
    }  # fmt: skip


def test_a_loss_that_reads_no_teacher_logits_declares_none() -> None:
    assert {declared(name) for name in LOSSES if name not in ON_LOGITS} == {"logits"}
