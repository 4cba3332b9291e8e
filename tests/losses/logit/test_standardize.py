"""Standardised losses against the public code's numbers and against the definition."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given
from torch import Tensor, nn

from stillroom.losses import DKD, GKL, KD, LDRLD, WKDL, Standardized, kd, standardize
from stillroom.losses.logit.ctkd import CTKD
from stillroom.losses.logit.dkd import dkd_terms
from stillroom.losses.logit.mlkd import MLKD
from stillroom.losses.protocol import connect_needs_of, needs_of
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.standardize import standardize as reference

NO_LABELS = torch.zeros(0)


@pytest.mark.parametrize("case", cases("lskd_kd"), ids=lambda case: case.name)
def test_golden_kd(case: Golden) -> None:
    student, teacher = case.tensor("student_logits").requires_grad_(), case.tensor("teacher_logits")
    loss = Standardized(KD(temperature=case.hyper["T"]))(student, teacher)
    case.check("kd", loss, gradient_of(loss, student))


@pytest.mark.parametrize("case", cases("lskd_dkd"), ids=lambda case: case.name)
def test_golden_dkd(case: Golden) -> None:
    student, teacher = case.tensor("student_logits").requires_grad_(), case.tensor("teacher_logits")
    target, hyper = case.tensor("target"), case.hyper
    loss = Standardized(DKD(hyper["alpha"], hyper["beta"], hyper["T"]))(student, teacher, target)
    case.check("total", loss, gradient_of(loss, student))
    terms = dkd_terms(standardize(student), standardize(teacher), target, temperature=hyper["T"])
    case.check("dkd_tckd", terms.target, gradient_of(terms.target, student))
    case.check("dkd_nckd", terms.non_target, gradient_of(terms.non_target, student))


@pytest.mark.parametrize("case", cases("lskd_ctkd"), ids=lambda case: case.name)
def test_golden_ctkd(case: Golden) -> None:
    student, teacher = case.tensor("student_logits").requires_grad_(), case.tensor("teacher_logits")
    temperature = case.tensor("temp").requires_grad_()
    loss = kd(standardize(student), standardize(teacher), temperature=temperature)
    case.check("kd", loss, gradient_of(loss, student))
    case.check("kd", loss, gradient_of(loss, temperature), wrt="temp")


@pytest.mark.parametrize(
    ("student", "teacher", "value", "largest"),  # as the public code's, in float32
    [
        ("constant first row", "varied", 0.6515762209892273, 1853591.75),
        ("varied", "constant first row", 0.6702934503555298, 0.1624511182308197),
    ],
)
def test_a_constant_row_is_as_in_public_code(student: str, teacher: str, value: float, largest: float) -> None:
    rows = {
        "constant first row": torch.tensor([[0.0, 0, 0, 0], [1, 2, 3, 4]]),
        "varied": torch.tensor([[2.0, 1, 0, 0], [0, 2, 1, 0]]),
    }
    leaf = rows[student].requires_grad_()
    loss = Standardized(KD(temperature=2.0))(leaf, rows[teacher])
    assert loss.item() == pytest.approx(value, rel=1e-6)
    assert gradient_of(loss, leaf).abs().max().item() == pytest.approx(largest, rel=1e-6)


def test_two_classes_leave_only_the_sign() -> None:
    z = standardize(torch.tensor([[3.0, 1.0], [-5.0, 100.0]], dtype=torch.float64))
    half = 0.5**0.5
    expected = torch.tensor([[half, -half], [-half, half]], dtype=torch.float64)
    torch.testing.assert_close(z, expected, rtol=1e-6, atol=0)


@QUICK
@given(data=logits(max_classes=6))
def test_reference(data: Logits) -> None:
    torch.testing.assert_close(standardize(data.student), reference(data.student), rtol=1e-6, atol=1e-6)


def test_scale_and_shift_of_either_network_do_not_matter() -> None:
    data = make(4, 9, seed=0)
    loss = Standardized(LDRLD(depth=4))
    moved = loss(3 * data.student + 5, 0.5 * data.teacher - 2)
    torch.testing.assert_close(moved, loss(data.student, data.teacher), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e30])
def test_any_magnitude_is_finite_in_float32(size: float) -> None:
    student = (make(4, 9, seed=0).student.float() * size).requires_grad_()
    z = standardize(student)
    assert z.isfinite().all()
    assert gradient_of(z.square().sum() + z[:, 0].sum(), student).isfinite().all()


def test_a_constant_row_becomes_zeros_with_a_finite_gradient() -> None:
    student = torch.full((2, 5), 3.0, requires_grad=True)
    z = standardize(student)
    assert (z == 0).all()
    assert gradient_of((z * torch.arange(5.0)).sum(), student).isfinite().all()


def test_the_teacher_gets_no_gradient() -> None:
    data = make(3, 5, seed=1)
    teacher = data.teacher.clone().requires_grad_()
    Standardized(KD())(data.student.clone().requires_grad_(), teacher).backward()
    assert teacher.grad is None


class Recorder(nn.Module):
    """Keeps what it was given."""

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, epoch: int = 1, target: Tensor = NO_LABELS
    ) -> Tensor:
        self.seen = (epoch, target)
        return (student_logits - teacher_logits).sum()


def test_what_the_inner_loss_needs_goes_on_by_name() -> None:
    data, inner = make(4, 6, seed=2), Recorder()
    wrapper = Standardized(inner)
    wrapper(data.student, data.teacher, target=data.target, epoch=7)
    assert inner.seen[0] == 7
    assert inner.seen[1] is data.target


def test_needs_are_the_inner_losss() -> None:
    assert needs_of(Standardized(KD())) == ("student_logits", "teacher_logits")
    assert needs_of(Standardized(DKD())) == ("student_logits", "teacher_logits", "target")
    assert needs_of(Standardized(CTKD())) == ("student_logits", "teacher_logits", "epoch")
    assert needs_of(Standardized(Recorder())) == ("student_logits", "teacher_logits", "epoch", "target")
    assert needs_of(Standardized(Standardized(DKD()))) == ("student_logits", "teacher_logits", "target")


def test_a_learned_temperature_is_seen_trained_and_saved_through_the_wrapper() -> None:
    data, inner = make(4, 6, seed=2), CTKD(loops=5)
    wrapper = Standardized(inner)
    assert [name for name, _ in wrapper.named_parameters()] == ["loss.parameter"]
    assert list(wrapper.state_dict()) == ["loss.parameter"]
    loss = wrapper(data.student, data.teacher, epoch=3)
    expected = CTKD(loops=5)(standardize(data.student), standardize(data.teacher), epoch=3)
    assert torch.equal(loss, expected)
    assert gradient_of(loss, inner.parameter) != gradient_of(wrapper(data.student, data.teacher), inner.parameter)
    for twin in (copy.deepcopy(wrapper), pickle.loads(pickle.dumps(wrapper))):
        assert needs_of(twin) == wrapper.needs
        assert torch.equal(twin(data.student, data.teacher, epoch=3), loss)


def test_rows_are_the_inner_losss_rows() -> None:
    data, wrapper = make(4, 6, seed=3), Standardized(KD(temperature=2.0))
    rows = wrapper.rows(data.student, data.teacher)
    assert rows.shape == (4,)
    torch.testing.assert_close(rows.mean(), wrapper(data.student, data.teacher), rtol=1e-12, atol=0)
    assert torch.equal(rows, KD(temperature=2.0).rows(standardize(data.student), standardize(data.teacher)))
    assert Standardized(Recorder()).rows is None


@pytest.mark.parametrize("inner", [GKL(), WKDL()])
def test_connect_is_the_inner_losss(inner: nn.Module) -> None:
    data, wrapper = make(4, 6, seed=4), Standardized(inner)
    given_ = {"teacher_logits": data.teacher, "teacher_head": nn.Linear(3, 6)}
    wrapper.connect(**{name: given_[name] for name in connect_needs_of(wrapper)})
    assert connect_needs_of(wrapper) == connect_needs_of(inner) != ()
    expected = inner(standardize(data.student), standardize(data.teacher), data.target)
    torch.testing.assert_close(wrapper(data.student, data.teacher, data.target), expected)
    assert connect_needs_of(Standardized(KD())) == ()


def test_missing_labels_are_named() -> None:
    data = make(3, 5, seed=0)
    with pytest.raises(ValueError, match="target is None: DKD needs the labels"):
        Standardized(DKD())(data.student, data.teacher)


def test_shapes_and_losses_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(5,\)"):
        standardize(torch.zeros(5))
    with pytest.raises(ValueError, match="Linear with forward"):
        Standardized(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"loss is MLKD, .*use MLKD\(standardized=True\)"):
        Standardized(MLKD())
