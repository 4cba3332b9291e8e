"""MLKD against the public code's numbers and against its definition."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stillroom.losses.logit import mlkd as mlkd_module
from stillroom.losses.logit.mlkd import MLKD, mlkd, mlkd_published_terms, mlkd_terms
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.mlkd import mlkd as reference
from tests.references.mlkd import mlkd_terms as reference_terms

VIEWS = ("student_logits", "teacher_logits", "student_logits_strong", "teacher_logits_strong")


def gradients(loss: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Gradients, zero for an input that has no part in the loss."""
    return torch.autograd.grad(loss, inputs, retain_graph=True, allow_unused=True, materialize_grads=True)


def views(data: Logits, seed: int) -> list[Tensor]:
    """Four logits of one shape; the strong view is the weak one disturbed."""
    generator = torch.Generator().manual_seed(seed)
    strong = [z + torch.randn(z.shape, generator=generator, dtype=z.dtype) for z in (data.student, data.teacher)]
    return [data.student.clone(), data.teacher.clone(), *strong]


@pytest.mark.parametrize("case", cases("mlkd_terms"), ids=lambda case: case.name)
def test_golden_terms(case: Golden) -> None:
    student = case.tensor("student_logits").requires_grad_()
    terms = mlkd_terms(student, case.tensor("teacher_logits"), temperature=case.hyper["T"])
    for name, loss in zip(("kd", "bc", "cc", "total"), (*terms, sum(terms)), strict=True):
        assert isinstance(loss, Tensor)
        case.check(name, loss, gradient_of(loss, student))


@pytest.mark.parametrize("case", [*cases("mlkd"), *cases("lskd_mlkd")], ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    weak, teacher, strong, teacher_strong = (case.tensor(name) for name in VIEWS)
    weak, strong = weak.requires_grad_(), strong.requires_grad_()
    settings = {"temperature": case.hyper["T"], "standardized": case.hyper.get("logit_stand", False)}
    terms = mlkd_published_terms(weak, teacher, strong, teacher_strong, **settings)
    total = MLKD(**settings)(weak, teacher, strong, teacher_strong)
    for name, loss in zip(("kd", "bc", "cc", "distill_total"), (*terms, total), strict=True):
        weighted = case.hyper["kd_weight"] * loss
        of_weak, of_strong = gradients(weighted, weak, strong)
        case.check(name, weighted, of_weak)
        case.check(name, weighted, of_strong, wrt="student_logits_strong")


@QUICK
@given(data=logits(max_classes=12), temperature=st.floats(0.3, 10))
def test_reference_terms(data: Logits, temperature: float) -> None:
    student = data.student.requires_grad_()
    ours = mlkd_terms(student, data.teacher, temperature=temperature)
    for loss, expected in zip(ours, reference_terms(student, data.teacher, temperature), strict=True):
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(gradient_of(loss, student), gradient_of(expected, student), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("standardized", [False, True])
@pytest.mark.parametrize(("batch", "classes"), [(1, 2), (2, 9), (5, 4), (6, 3)])
def test_reference(batch: int, classes: int, standardized: bool) -> None:
    student, teacher, strong, teacher_strong = views(make(batch, classes, seed=batch), seed=1)
    student, strong = student.requires_grad_(), strong.requires_grad_()
    loss = mlkd(student, teacher, strong, teacher_strong, temperature=1.5, standardized=standardized)
    expected = reference((student, teacher), (strong, teacher_strong), 1.5, standardized)
    torch.testing.assert_close(loss, expected, rtol=1e-8, atol=1e-10)
    for ours, theirs in zip(gradients(loss, student, strong), gradients(expected, student, strong), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("temperature", [2.0, 3.0, 6.0])
def test_a_first_temperature_that_is_already_there_counts_again(temperature: float) -> None:
    student, teacher, strong, teacher_strong = views(make(4, 6, seed=0), seed=2)
    loss = mlkd(student, teacher, strong, teacher_strong, temperature=temperature)
    expected = reference((student, teacher), (strong, teacher_strong), temperature, False)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-10)


def test_the_narrow_and_the_wide_way_to_the_class_level_agree() -> None:
    for batch, classes in ((8, 16), (8, 17)):  # on either side of where the way changes
        data = make(batch, classes, seed=3)
        p_s, p_t = (data.student / 4).softmax(1), (data.teacher / 4).softmax(1)
        direct = (p_t.T @ p_t - p_s.T @ p_s).square().sum() / classes
        torch.testing.assert_close(mlkd_terms(data.student, data.teacher).class_, direct, rtol=1e-10, atol=0)


@pytest.mark.parametrize(("batch", "classes"), [(64, 100), (16, 1000)])
def test_close_networks_keep_float32s_precision(batch: int, classes: int) -> None:
    # ||A||^2 + ||B||^2 - 2 <A, B> on the Grams, the usual way around a (C, C) matrix, has no right digit here.
    data = make(batch, classes, seed=4)
    student = data.teacher + 1e-3 * data.student
    exact = mlkd_terms(student.float().double(), data.teacher.float().double())
    ours = mlkd_terms(student.float(), data.teacher.float())
    for level in ("batch", "class_"):
        torch.testing.assert_close(getattr(ours, level).double(), getattr(exact, level), rtol=1e-2, atol=0)


@QUICK
@given(data=logits(scales=(0.1, 5.0, 1e4, 1e30)))
def test_agreement_costs_nothing_and_pulls_nowhere(data: Logits) -> None:
    for dtype, rounding in ((torch.float32, 1e-5), (torch.float64, 1e-11)):
        student, teacher = data.teacher.to(dtype).requires_grad_(), data.teacher.to(dtype)
        strong, teacher_strong = data.student.to(dtype).requires_grad_(), data.student.to(dtype)
        loss = mlkd(student, teacher, strong, teacher_strong)
        assert loss.item() == pytest.approx(0.0, abs=rounding)
        for gradient in gradients(loss, student, strong):
            assert gradient.abs().max().item() == pytest.approx(0.0, abs=rounding)


def test_samples_in_another_order_look_alike_to_classes_and_classes_to_samples() -> None:
    data = make(6, 6, seed=5)
    mixed_samples = mlkd_terms(data.teacher.roll(1, 0), data.teacher)
    mixed_classes = mlkd_terms(data.teacher.roll(1, 1), data.teacher)
    assert mixed_samples.class_ == pytest.approx(0, abs=1e-15)
    assert mixed_samples.batch > 1e-3
    assert mixed_classes.batch == pytest.approx(0, abs=1e-15)
    assert mixed_classes.class_ > 1e-3


def test_the_strong_view_moves_the_instance_level_only_and_not_at_2_and_6() -> None:
    student, teacher, strong, teacher_strong = views(make(4, 6, seed=6), seed=6)
    plain = mlkd_published_terms(student, teacher, strong, teacher_strong)
    other = mlkd_published_terms(student, teacher, teacher_strong, teacher_strong)
    torch.testing.assert_close(other.batch, plain.batch, rtol=0, atol=0)
    torch.testing.assert_close(other.class_, plain.class_, rtol=0, atol=0)
    dropped = sum(mlkd_terms(strong, teacher_strong, temperature=t).instance for t in (4.0, 3.0, 5.0))
    torch.testing.assert_close(plain.instance - other.instance, dropped)


def test_standardizing_concerns_the_instance_level_only() -> None:
    data = views(make(4, 6, seed=7), seed=7)
    moved = [3 * data[0] + 5, data[1], 3 * data[2] + 5, data[3]]
    plain, larger = (mlkd_published_terms(*z, standardized=True) for z in (data, moved))
    torch.testing.assert_close(larger.instance, plain.instance, rtol=1e-5, atol=0)
    assert (larger.class_ - plain.class_).abs() > 1e-3


def test_unsure_and_sure_samples_count_alike_but_ties_at_the_top_raise_the_weight() -> None:
    # Three of four samples the teacher is sure of: in float32 they tie at 1, above the median are none.
    student = make(4, 3, seed=8).student
    teacher = torch.tensor([[1.0, 0, 0], [30, 0, 0], [0, 40, 0], [0, 0, 50]], dtype=torch.float64)
    exact = mlkd_published_terms(student, teacher, student, student)
    tied = mlkd_published_terms(student.float(), teacher.float(), student.float(), student.float())
    torch.testing.assert_close(tied.batch.double(), 2 * exact.batch, rtol=1e-5, atol=0)


def test_the_fraction_up_to_the_median() -> None:
    def fraction(*values: float) -> float:
        return float(mlkd_module._fraction_up_to_median(torch.tensor(values, dtype=torch.float32)))

    assert fraction(3, 1, 2, 4) == 0.5
    assert fraction(3, 1, 2) == pytest.approx(2 / 3)
    assert fraction(1, 1, 1, 0) == 1
    assert fraction(5) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("standardized", [False, True])
def test_hard_inputs_stay_finite(dtype: torch.dtype, standardized: bool) -> None:
    student = torch.tensor([[200.0, 0, 0, 0], [0, 200, 0, 0], [0, 0, 0, 0]], dtype=dtype).requires_grad_()
    strong = (-student.detach()).requires_grad_()
    teacher = torch.tensor([[2.0, 1, 0, 0], [0, 0, 3e4, -3e4], [5, 5, 5, 5]], dtype=dtype)
    loss = mlkd(student, teacher, strong, teacher, standardized=standardized)
    assert loss.dtype == torch.float32
    exact = mlkd(*(z.detach().double() for z in (student, teacher, strong, teacher)), standardized=standardized)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=0)
    for gradient, view in zip(gradients(loss, student, strong), (student, strong), strict=True):
        assert gradient.dtype == view.dtype
        if not (standardized and dtype == torch.float16):  # a constant row's slope is 1e7, beyond what float16 holds
            assert gradient.isfinite().all()


@pytest.mark.usefixtures("unseen_values")
def test_nan_in_any_view_stays_nan() -> None:
    for place in range(4):
        given_ = views(make(4, 6, seed=9), seed=9)
        given_[place][2, 1] = float("nan")
        assert mlkd(*given_).isnan()


def test_the_teacher_gets_no_gradient() -> None:
    student, teacher, strong, teacher_strong = (z.requires_grad_() for z in views(make(4, 6, seed=10), seed=10))
    mlkd(student, teacher, strong, teacher_strong, standardized=True).backward()
    assert teacher.grad is None
    assert teacher_strong.grad is None
    assert student.grad is not None
    assert strong.grad is not None


@pytest.mark.parametrize(("batch", "classes"), [(8, 10), (4, 20)])
def test_autocast_changes_nothing(batch: int, classes: int) -> None:
    given_ = [z.float() for z in views(make(batch, classes, seed=11), seed=11)]
    given_[0].requires_grad_()
    plain = mlkd(*given_)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = mlkd(*given_)
    assert torch.equal(loss, plain)
    assert torch.equal(gradient_of(loss, given_[0]), gradient_of(plain, given_[0]))


@pytest.mark.parametrize("standardized", [False, True])
def test_compiled_it_is_the_same(standardized: bool) -> None:
    compiled = torch.compile(mlkd, fullgraph=True, backend="aot_eager")
    given_ = [z.float() for z in views(make(4, 6, seed=12), seed=12)]
    for temperature in (4.0, 2.0, 1.7):
        loss = compiled(*given_, temperature=temperature, standardized=standardized)
        expected = mlkd(*given_, temperature=temperature, standardized=standardized)
        torch.testing.assert_close(loss, expected)


def test_modules_copy_pickle_and_carry_no_state() -> None:
    module, given_ = MLKD(temperature=2.0, standardized=True), views(make(4, 6, seed=13), seed=13)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert repr(twin) == repr(module) == "MLKD(temperature=2.0, standardized=True)"
        assert torch.equal(twin(*given_), module(*given_))
    assert not module.state_dict()


def test_refused_input() -> None:
    good = torch.zeros(3, 5)
    with pytest.raises(ValueError, match=r"student_logits_strong has \(2, 5\)|student_logits_strong has batch size 2"):
        mlkd(good, good, torch.zeros(2, 5), torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r"teacher_logits_strong has \(3, 6\)"):
        mlkd(good, good, good, torch.zeros(3, 6))
    with pytest.raises(ValueError, match=r"student_logits_strong has dtype torch\.int64"):
        mlkd(good, good, good.long(), good)
    with pytest.raises(ValueError, match="student_logits has batch size 0"):
        mlkd(good[:0], good[:0], good[:0], good[:0])
    with pytest.raises(ValueError, match=r"teacher_logits has shape \(3, 4\)"):
        mlkd(good, good[:, :4], good, good)
    for call in (MLKD, lambda temperature: mlkd(good, good, good, good, temperature=temperature)):
        with pytest.raises(ValueError, match=r"temperature is 0\.0"):
            call(temperature=0.0)
