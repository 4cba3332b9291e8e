"""KD against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillroom.losses import KD, kd
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.ctkd import kd as reference_with_learned_temperature
from tests.references.kd import kd as reference


@pytest.mark.parametrize("case", cases("kd"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher, hyper = case.tensor("student_logits").requires_grad_(), case.tensor("teacher_logits"), case.hyper
    loss = kd(student, teacher, temperature=hyper["T"])
    case.check("kd", loss, gradient_of(loss, student))
    # The other public form is the cross-entropy: larger by the teacher's entropy, with the same gradient.
    p = (teacher / hyper["T"]).softmax(1)
    entropy = -(p * p.log()).sum(1).mean() * hyper["T"] ** 2
    case.check("kd_ce_form_cls_KD_alpha1", loss + entropy, gradient_of(loss, student))


@QUICK
@given(data=logits(max_classes=6), temperature=st.floats(0.1, 20))
def test_reference(data: Logits, temperature: float) -> None:
    student = data.student.requires_grad_()
    loss, expected = kd(student, data.teacher, temperature=temperature), reference(student, data.teacher, temperature)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(gradient_of(loss, student), gradient_of(expected, student), rtol=1e-9, atol=1e-10)


def test_a_saturated_student_stays_finite() -> None:
    student = torch.tensor([[200.0, 0, 0, 0], [0, 200, 0, 0]], requires_grad=True)
    loss = kd(student, torch.tensor([[2.0, 1, 0, 0], [0, 2, 1, 0]]), temperature=1.0)
    torch.testing.assert_close(loss.item(), 76.89215850830078, rtol=1e-6, atol=0)
    assert gradient_of(loss, student).abs().max().item() == pytest.approx(0.19485212, rel=1e-5)


@QUICK
@given(data=logits(max_classes=6), temperature=st.floats(0.3, 20))
def test_a_tensor_temperature_has_the_references_gradient(data: Logits, temperature: float) -> None:
    student = data.student.requires_grad_()
    learned = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    loss = kd(student, data.teacher, temperature=learned)
    expected = reference_with_learned_temperature(student, data.teacher, learned)
    close = {"rtol": 1e-8, "atol": 1e-9}
    torch.testing.assert_close(loss, expected, **close)
    torch.testing.assert_close(gradient_of(loss, student), gradient_of(expected, student), **close)
    torch.testing.assert_close(gradient_of(loss, learned), gradient_of(expected, learned), **close)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_tensor_temperature_is_a_number_whatever_its_shape_and_dtype(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    data = make(4, 6, seed=0)
    student, teacher = data.student.float(), data.teacher.float()
    temperature = torch.full(shape, 2.5, dtype=dtype, requires_grad=True)
    loss = kd(student, teacher, temperature=temperature)
    assert loss.dtype == torch.float32
    assert loss.shape == ()
    assert kd(student, teacher, temperature=temperature, reduction="none").shape == (4,)
    torch.testing.assert_close(loss, kd(student, teacher, temperature=2.5), rtol=1e-6, atol=0)
    assert gradient_of(loss, temperature).dtype == dtype


def test_rows_are_the_samples_own_losses() -> None:
    data, module = make(5, 7, seed=1), KD(temperature=3.0)
    rows = module.rows(data.student, data.teacher)
    assert torch.equal(rows, kd(data.student, data.teacher, temperature=3.0, reduction="none"))
    torch.testing.assert_close(rows.mean(), module(data.student, data.teacher), rtol=1e-12, atol=0)
    for b in range(5):
        alone = module(data.student[b : b + 1], data.teacher[b : b + 1])
        torch.testing.assert_close(rows[b], alone, rtol=1e-12, atol=1e-15)


def test_refused_temperatures_and_reductions() -> None:
    logits_ = torch.zeros(3, 5)
    with pytest.raises(ValueError, match=r"temperature has shape \(3, 1\)"):
        kd(logits_, logits_, temperature=torch.ones(3, 1))
    with pytest.raises(ValueError, match=r"temperature has shape \(\) and dtype torch.int64"):
        kd(logits_, logits_, temperature=torch.tensor(4))
    with pytest.raises(ValueError, match="temperature is on meta"):
        kd(logits_, logits_, temperature=torch.ones((), device="meta"))
    with pytest.raises(ValueError, match="temperature is 0"):
        kd(logits_, logits_, temperature=0.0)
    with pytest.raises(ValueError, match="reduction is 'sum'"):
        kd(logits_, logits_, reduction="sum")  # type: ignore[arg-type]
