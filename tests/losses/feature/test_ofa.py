"""OFA-KD against the public code's numbers and its definition, and its projectors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from stillroom.batch import Output
from stillroom.losses import OFA, kd, ofa
from stillroom.losses.protocol import needs_of
from stillroom.methods import parse_method
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.ofa import ofa as reference


@pytest.mark.parametrize("case", cases("ofa"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_logits").requires_grad_(), case.tensor("teacher_logits")
    loss = ofa(student, teacher, case.tensor("target"), epsilon=case.hyper["eps"], temperature=case.hyper["T"])
    case.check("ofa", loss, gradient_of(loss, student))


@QUICK
@given(data=logits(), epsilon=st.floats(0.3, 3), temperature=st.floats(0.5, 8))
def test_reference(data: Logits, epsilon: float, temperature: float) -> None:
    student = data.student.requires_grad_()
    settings = {"epsilon": epsilon, "temperature": temperature}
    ours, expected = (loss(student, data.teacher, data.target, **settings) for loss in (ofa, reference))
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(gradient_of(ours, student), gradient_of(expected, student), rtol=1e-8, atol=1e-11)


def test_without_enhancement_it_pulls_as_kd_does() -> None:
    data = make(4, 9, seed=1)
    student = data.student.requires_grad_()
    plain = ofa(student, data.teacher, data.target, epsilon=1.0)
    torch.testing.assert_close(
        gradient_of(plain, student), gradient_of(kd(student, data.teacher, temperature=1.0), student)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_gaps_of_two_hundred_are_exact(dtype: torch.dtype) -> None:
    student = torch.tensor([[200.0, 0.0, -3.0]], dtype=dtype).requires_grad_()
    loss = ofa(student, torch.tensor([[0.0, 200.0, 1.0]], dtype=dtype), torch.tensor([1]), epsilon=1.5)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(200 * (2**1.5 - 1), rel=1e-6)
    assert gradient_of(loss, student).isfinite().all()


def test_leading_dimensions_are_samples() -> None:
    data = make(6, 9, seed=2)
    rows = ofa(data.student, data.teacher, data.target, reduction="none")
    shaped = (data.student.reshape(2, 3, 9), data.teacher.reshape(2, 3, 9), data.target.reshape(2, 3))
    torch.testing.assert_close(ofa(*shaped, reduction="none"), rows.reshape(2, 3))
    torch.testing.assert_close(ofa(*shaped), rows.mean())


def drawn(*sides: int, channels: int = 4, batch: int = 5) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(batch, channels * 2**level, side, side) for level, side in enumerate(sides)]


def test_every_stage_has_its_term() -> None:
    data, maps = make(5, 9, seed=3), drawn(8, 4)
    loss = OFA(epsilon=1.5, stages=0.5).connect(maps, data.student).double().eval()
    maps = [level.double() for level in maps]
    heads = [projector(level) for projector, level in zip(loss.projectors, maps, strict=True)]
    terms = [ofa(head, data.teacher, data.target, epsilon=1.5) for head in (data.student, *heads)]
    torch.testing.assert_close(
        loss(data.student, data.teacher, data.target, maps), terms[0] + 0.5 * (terms[1] + terms[2])
    )


def test_rows_are_the_samples_losses() -> None:
    data, maps = make(5, 9, seed=4), drawn(8, 4)
    loss = OFA().connect(maps, data.student).eval()
    rows = loss.rows(data.student, data.teacher, data.target, maps)
    alone = [
        loss(data.student[i : i + 1], data.teacher[i : i + 1], data.target[i : i + 1], [m[i : i + 1] for m in maps])
        for i in range(5)
    ]
    torch.testing.assert_close(rows, torch.stack(alone), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(rows.mean(), loss(data.student, data.teacher, data.target, maps))


@pytest.mark.parametrize(
    ("sides", "strides"),
    [((32, 16, 8), [2, 1, 0]), ((56, 28, 14, 7), [3, 2, 1, 0]), ((9, 5), [1, 0]), ((4, 4, 4), [0, 0, 0])],
)
def test_projectors_halve_their_maps_to_the_deepest_ones_size(sides: tuple[int, ...], strides: list[int]) -> None:
    maps = drawn(*sides, channels=2, batch=2)
    loss = OFA().connect(maps, torch.zeros(2, 7))
    found = []
    for projector, level in zip(loss.projectors, maps, strict=True):
        assert isinstance(projector, nn.Sequential)
        assert projector(level).shape == (2, 7)
        found.append(sum(layer.stride == (2, 2) for layer in projector.modules() if isinstance(layer, nn.Conv2d)))
    assert found == strides


def test_projectors_learn_and_reach_the_students_stages() -> None:
    data, maps = make(5, 9, seed=5), [level.requires_grad_() for level in drawn(8, 4)]
    loss = OFA().connect(maps, data.student)
    loss(data.student.float(), data.teacher.float(), data.target, maps).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in loss.parameters())
    assert all(level.grad is not None and level.grad.any() for level in maps)


def test_a_method_reads_no_feature_of_the_teacher() -> None:
    assert needs_of(OFA()) == ("student_logits", "teacher_logits", "target", "student_maps")
    method = parse_method("ofa(epsilon=1.5)")
    assert method.parts_of("student") == ("maps",)
    assert method.parts_of("teacher") == ()
    assert method.bankable
    data, maps = make(5, 9, seed=6), tuple(drawn(8, 4))
    loss = method.terms[0].loss
    assert isinstance(loss, OFA)
    loss.connect(maps, data.student)
    student = Output(data.student.float(), {"maps": maps})
    assert method(student, Output(data.teacher.float()), data.target)["ofa"].isfinite()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epsilon": 0.0}, "epsilon is 0.0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"stages": float("nan")}, "stages is nan"),
    ],
)
def test_refused_settings(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OFA(**settings)


def test_refused_inputs() -> None:
    data = make(2, 5, seed=7)
    with pytest.raises(ValueError, match="reduction is 'sum'"):
        ofa(data.student, data.teacher, data.target, reduction="sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="target holds 5"):
        ofa(data.student, data.teacher, torch.tensor([0, 5]))
    with pytest.raises(ValueError, match="student_maps has 0 levels"):
        OFA().connect([], data.student)
    loss = OFA().connect(drawn(8, 4), data.student)
    with pytest.raises(ValueError, match="there are 1 levels but OFA was connected with 2"):
        loss(data.student, data.teacher, data.target, drawn(8, batch=2))
