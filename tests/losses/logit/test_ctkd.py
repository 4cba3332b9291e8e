"""CTKD against the public code's numbers and against its definition."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stillroom.losses.logit.ctkd import CTKD, ctkd, curriculum
from stillroom.losses.logit.kd import kd
from tests.golden import Golden, arrays, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references import ctkd as reference


@pytest.mark.parametrize("case", cases("ctkd"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, p = case.tensor("student_logits").requires_grad_(), case.tensor("temp_param").requires_grad_()
    hyper = case.hyper
    for term, reversal in (("kd", hyper["lambda_"]), ("kd_nogrl", 1.0)):
        loss = ctkd(
            student,
            case.tensor("teacher_logits"),
            p,
            reversal=reversal,
            start=hyper["t_start"],
            span=hyper["t_end"],
        )
        case.check(term, loss, gradient_of(loss, student))
        case.check(term, loss, gradient_of(loss, p), wrt="temp_param")


@pytest.mark.parametrize("case", cases("ctkd"), ids=lambda case: case.name)
def test_golden_through_the_module(case: Golden) -> None:
    # The parameter is float32 there, so the temperature agrees to float32 only.
    student, module = case.tensor("student_logits").requires_grad_(), CTKD(initial=case.hyper["temp_param"])
    module(student, case.tensor("teacher_logits"), epoch=case.hyper["epoch"]).backward()
    assert module.parameter.grad is not None
    for got, key in ((student.grad, "grad_kd"), (module.parameter.grad, "grad_kd_wrt_temp_param")):
        if key in case.arrays:
            assert got is not None
            expected = case.tensor(key).reshape(got.shape)
            torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("loops", [5, 10])
def test_golden_schedule(loops: int) -> None:
    stored = arrays("ctkd")
    expected = stored[f"sched_cos_max0_min-1_loops{loops}"]
    for epoch, value in zip(stored["sched_epochs"].tolist(), expected.tolist(), strict=True):
        assert curriculum(epoch, loops) == pytest.approx(value, rel=1e-12, abs=1e-15)


@QUICK
@given(epoch=st.integers(0, 300), loops=st.integers(1, 200))
def test_the_curriculum_falls_to_minus_one_and_stays(epoch: int, loops: int) -> None:
    now, then = curriculum(epoch, loops), curriculum(epoch + 1, loops)
    assert now == pytest.approx(reference.curriculum(epoch, loops), abs=1e-12)
    assert then < now if epoch < loops else then == now == -1
    assert curriculum(-epoch, loops) == 0


@QUICK
@given(data=logits(max_classes=6), p=st.floats(-6, 6), reversal=st.floats(-1, 1), span=st.floats(0.5, 30))
def test_reference(data: Logits, p: float, reversal: float, span: float) -> None:
    student, parameter = data.student.requires_grad_(), torch.tensor(p, dtype=torch.float64, requires_grad=True)
    loss = ctkd(student, data.teacher, parameter, reversal=reversal, start=0.7, span=span)
    expected = reference.kd(student, data.teacher, reference.temperature_of(parameter, 0.7, span))
    close = {"rtol": 1e-8, "atol": 1e-9}
    torch.testing.assert_close(loss, expected, **close)
    torch.testing.assert_close(gradient_of(loss, student), gradient_of(expected, student), **close)
    torch.testing.assert_close(gradient_of(loss, parameter), reversal * gradient_of(expected, parameter), **close)


@pytest.mark.parametrize("p", [1.0, 0.1, -3.3, 1e-8, 12345.678])
@pytest.mark.parametrize("reversal", [-1.0, -0.0244717, 0.0])
def test_the_reversal_leaves_the_value_as_it_is(p: float, reversal: float) -> None:
    data, parameter = make(4, 6, seed=0), torch.tensor(p, requires_grad=True)
    plain = kd(data.student, data.teacher, temperature=1.0 + 20.0 * parameter.sigmoid())
    assert ctkd(data.student, data.teacher, parameter, reversal=reversal).item() == plain.item()


def test_a_descending_step_makes_the_distillation_harder() -> None:
    data, module = make(8, 10, seed=1), CTKD(initial=-2.0)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = module(data.student, data.teacher, epoch=10)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses)
    assert losses[-1] > losses[0] + 0.1


def test_early_epochs_move_the_temperature_less() -> None:
    data, sizes = make(8, 10, seed=1), []
    for epoch in (1, 5, 10, 200):
        module = CTKD()
        module(data.student, data.teacher, epoch=epoch).backward()
        assert module.parameter.grad is not None
        sizes.append(module.parameter.grad.abs().item())
    assert sizes[0] < sizes[1] < sizes[2] == sizes[3]


def test_agreement_costs_nothing_and_moves_nothing() -> None:
    data, module = make(5, 7, seed=2), CTKD()
    student = data.teacher.float().requires_grad_()
    loss = module(student, data.teacher.float(), epoch=10)
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert gradient_of(loss, student).abs().max().item() == pytest.approx(0, abs=1e-5)
    assert gradient_of(loss, module.parameter).item() == pytest.approx(0, abs=1e-4)


def test_the_teacher_gets_no_gradient_but_its_softness_counts_for_the_temperature() -> None:
    data = make(4, 6, seed=3)
    teacher, p = data.teacher.clone().requires_grad_(), torch.tensor(0.0, requires_grad=True)
    ctkd(data.student, teacher, p).backward()
    assert teacher.grad is None
    assert p.grad is not None
    one_sided = torch.tensor(11.0, dtype=torch.float64, requires_grad=True)
    log_q, p_fixed = (data.student / one_sided).log_softmax(1), (data.teacher / 11.0).softmax(1)
    (one_sided**2 * (p_fixed * (p_fixed.log() - log_q)).sum(1).mean()).backward()
    assert one_sided.grad is not None
    assert abs(p.grad.item() - -5 * one_sided.grad.item()) > 1e-2  # dT/dp = 20 / 4 there


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_saturated_logits_stay_finite(dtype: torch.dtype) -> None:
    student = torch.tensor([[2e4, 0, 0, -2e4], [0, 200, 0, 0]], dtype=dtype).requires_grad_()
    teacher = torch.tensor([[-2e4, 1e4, 1e4, 0], [0, 0, 2e4, 2e4]], dtype=dtype)
    module = CTKD(initial=-40.0)  # T = 1
    loss = module(student, teacher, epoch=10)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    loss.backward()
    assert student.grad is not None
    assert module.parameter.grad is not None
    assert student.grad.isfinite().all()
    assert module.parameter.grad.isfinite()


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_any_magnitude_gives_the_temperature_a_finite_gradient(size: float) -> None:
    teacher = torch.tensor([[1.0, 1.0, 0.0], [0.5, 1.0, 1.0]]) * size
    student = (torch.tensor([[0.0, 1.0, 2.0], [1.0, -1.0, 0.0]]) * size).requires_grad_()
    p = torch.tensor(0.0, requires_grad=True)
    loss = ctkd(student, teacher, p)
    assert loss.isfinite()
    assert gradient_of(loss, p).isfinite()
    assert gradient_of(loss, student).isfinite().all()


def test_a_rows_offset_does_not_cost_the_temperatures_gradient_its_precision() -> None:
    # Quarters and an offset that float32 holds exactly, so that only the loss can lose something.
    data = make(6, 9, seed=5)
    student, teacher = (torch.round(4 * z) / 4 for z in (data.student, data.teacher))

    def gradient(offset: float, dtype: torch.dtype) -> Tensor:
        p = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
        return gradient_of(ctkd((student + offset).to(dtype), (teacher + offset).to(dtype), p), p)

    torch.testing.assert_close(gradient(1e5, torch.float32), gradient(0.0, torch.float64), rtol=1e-5, atol=0)


@pytest.mark.usefixtures("unseen_values")
def test_nan_stays_nan() -> None:
    data = make(3, 5, seed=0)
    data.student[1, 2] = float("nan")
    assert CTKD()(data.student, data.teacher).isnan()


def test_the_parameter_is_one_float32_number_that_is_saved() -> None:
    module = CTKD(initial=0.0)
    data = make(3, 5, seed=0)
    state = module.state_dict()
    assert {name: value.dtype for name, value in state.items()} == {"parameter": torch.float32}
    with torch.no_grad():
        module.parameter.fill_(2.5)
    other = CTKD(initial=0.0)
    other.load_state_dict(module.state_dict())
    for twin in (other, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin.temperature, module.temperature)
        assert torch.equal(twin(data.student, data.teacher), module(data.student, data.teacher))
    assert module.temperature.item() == pytest.approx(1 + 20 / (1 + 2.718281828**-2.5))
    assert not module.temperature.requires_grad


def test_float64_default_dtype_keeps_the_parameter_float32() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert CTKD().parameter.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_compiled_it_is_the_same_over_the_epochs() -> None:
    data, module, twin = make(4, 6, seed=4), CTKD(loops=4), CTKD(loops=4)
    compiled = torch.compile(twin, fullgraph=True, backend="aot_eager")
    student, teacher = data.student.float(), data.teacher.float()
    for epoch in (1, 2, 3, 9):
        for one in (module, compiled):
            one.zero_grad()
        expected, loss = module(student, teacher, epoch=epoch), compiled(student, teacher, epoch=epoch)
        torch.testing.assert_close(loss, expected)
        expected.backward()
        loss.backward()
        torch.testing.assert_close(twin.parameter.grad, module.parameter.grad)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": 0.0}, "start is 0.0"),
        ({"span": -1.0}, "span is -1.0"),
        ({"initial": float("nan")}, "initial is nan"),
        ({"loops": 0}, "loops is 0"),
    ],
)
def test_refused_settings(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CTKD(**settings)  # type: ignore[arg-type]


def test_refused_calls() -> None:
    student, teacher = torch.zeros(2, 3), torch.zeros(2, 3)
    with pytest.raises(ValueError, match="loops is 0"):
        curriculum(1, 0)
    with pytest.raises(ValueError, match="reversal is inf"):
        ctkd(student, teacher, torch.zeros(()), reversal=float("inf"))
    with pytest.raises(ValueError, match=r"temperature has shape \(2,\)"):
        ctkd(student, teacher, torch.zeros(2))
