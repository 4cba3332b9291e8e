"""DKD against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillroom.losses import DKD, dkd, kd
from stillroom.losses.logit.dkd import dkd_terms
from stillroom.losses.protocol import needs_of
from tests.golden import Golden, cases, read
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.dkd import dkd_terms as reference

# Logits of the edge cases on which the public code's log of a softmax returns inf.
SATURATED = torch.tensor([[200.0, 0, 0, 0], [0, 200, 0, 0]])
TEACHER = torch.tensor([[2.0, 1, 0, 0], [0, 2, 1, 0]])


@pytest.mark.parametrize("case", cases("dkd"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_logits").requires_grad_(), case.tensor("teacher_logits")
    target, hyper = case.tensor("target"), case.hyper
    terms = dkd_terms(student, teacher, target, temperature=hyper["T"])
    total = dkd(student, teacher, target, alpha=hyper["alpha"], beta=hyper["beta"], temperature=hyper["T"])
    for name, loss in (("dkd_tckd", terms.target), ("dkd_nckd", terms.non_target), ("total", total)):
        case.check(name, loss, gradient_of(loss, student))


@QUICK
@given(data=logits(max_classes=6), temperature=st.floats(0.1, 20))
def test_reference(data: Logits, temperature: float) -> None:
    student = data.student.requires_grad_()
    ours = dkd_terms(student, data.teacher, data.target, temperature=temperature)
    theirs = reference(student, data.teacher, data.target, temperature)
    for loss, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(gradient_of(loss, student), gradient_of(expected, student), rtol=1e-9, atol=1e-10)


@QUICK
@given(data=logits(max_classes=6), temperature=st.floats(0.1, 20), k=st.integers(1, 6), coupled=st.booleans())
def test_reference_of_fewer_classes(data: Logits, temperature: float, k: int, coupled: bool) -> None:
    student, k = data.student.requires_grad_(), min(k, data.student.shape[1])
    ours = dkd_terms(student, data.teacher, data.target, temperature=temperature, top_k=k, coupled=coupled)
    theirs = reference(student, data.teacher, data.target, temperature, k, coupled)
    for loss, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-10)
        if expected.requires_grad:
            expected_gradient = gradient_of(expected, student)
            torch.testing.assert_close(gradient_of(loss, student), expected_gradient, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("case", cases("deepkd_loss"), ids=lambda case: case.name)
def test_golden_of_deepkd(case: Golden) -> None:
    student, teacher = case.tensor("student_logits").requires_grad_(), case.tensor("teacher_logits")
    hyper, target = case.hyper, case.tensor("target")
    z = [(x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-7) for x in (student, teacher)]
    logits_ = z if hyper["logit_stand"] else (student, teacher)
    parts = dkd_terms(*logits_, target, temperature=hyper["T"], top_k=hyper["top_k"], reduction="none")
    others = parts.non_target
    if hyper["empty_sets"]:  # there the public code computes KD over all classes, and we nothing
        empty = teacher.argmax(1) == target
        assert int(empty.sum()) == hyper["empty_sets"]
        assert not others[empty].any()
        others = torch.where(empty, kd_rows(*logits_, hyper["T"]), others)
    ramp = min(hyper["epoch"] / hyper["warmup"], 1)
    confidence = (1 - (teacher / hyper["T"]).softmax(1).gather(1, target[:, None])).mean()
    weights = (hyper["alpha"] * ramp, hyper["beta"] * ramp) if hyper["dkd"] else (1.0, confidence)
    for name, loss in (("tckd", weights[0] * parts.target.mean()), ("nckd", weights[1] * others.mean())):
        case.check(name, loss, gradient_of(loss, student))


@QUICK
@given(data=logits())
def test_coupled_with_equal_weights_it_is_kd(data: Logits) -> None:
    loss = dkd(data.student, data.teacher, data.target, beta=1.0, temperature=3.0, coupled=True)
    torch.testing.assert_close(loss, kd(data.student, data.teacher, temperature=3.0), rtol=1e-8, atol=1e-10)


@QUICK
@given(data=logits())
def test_it_decouples_kd(data: Logits) -> None:
    whole = torch.zeros((), dtype=torch.float64)
    for i in range(len(data.target)):
        one = data.student[i : i + 1], data.teacher[i : i + 1]
        target, others = dkd_terms(*one, data.target[i : i + 1], temperature=3.0)
        rest = 1 - (one[1] / 3.0).softmax(1)[0, data.target[i]]
        whole += (target + rest * others) / len(data.target)
    torch.testing.assert_close(kd(data.student, data.teacher, temperature=3.0), whole, rtol=1e-8, atol=1e-10)


def test_two_classes_leave_nothing_to_the_others() -> None:
    data = make(5, 2, seed=0)
    terms = dkd_terms(data.student, data.teacher, data.target)
    assert terms.non_target == 0
    torch.testing.assert_close(terms.target, kd(data.student, data.teacher))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("labels", "name"), [([0, 1], "student_saturated"), ([1, 0], "student_saturated_wrong")])
def test_where_public_code_overflows(dtype: torch.dtype, labels: list[int], name: str) -> None:
    wanted = next(f for f in read_edges() if f["name"] == f"{name}_T1_float64")["result"]
    student = SATURATED.to(dtype).requires_grad_()
    loss = dkd(student, TEACHER.to(dtype), torch.tensor(labels), temperature=1.0)
    assert loss.item() == pytest.approx(float(wanted["value"]), rel=1e-6)
    largest = gradient_of(loss, student).abs().max().item()
    assert largest == pytest.approx(float(wanted["grad_absmax"]), rel=4 * torch.finfo(dtype).eps)


def test_where_public_code_leaks() -> None:
    teacher = TEACHER.clone()
    teacher[0, 0] = teacher[1, 1] = 3000.0
    student, target = make(2, 4, seed=1).student, torch.tensor([0, 1])
    leaky = dkd_terms(student, teacher, target, temperature=1.0).non_target
    modest = dkd_terms(student, TEACHER, target, temperature=1.0).non_target
    torch.testing.assert_close(leaky, modest)


def kd_rows(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """KD of each sample."""
    return torch.stack([kd(s[None], t[None], temperature=temperature) for s, t in zip(student, teacher, strict=True)])


def read_edges() -> list[dict[str, object]]:
    """The public code's behaviour on hard inputs."""
    return read("edge_cases_kd_dkd")["failures"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.zeros(3), "target has dtype torch.float32"),
        (torch.zeros(2).long(), r"target has shape \(2,\)"),
        (torch.zeros(3, 1).long(), r"target has shape \(3, 1\)"),
        (torch.zeros(3, device="meta").long(), "target is on meta"),
    ],
)
def test_refused_targets(target: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dkd(torch.zeros(3, 5), torch.zeros(3, 5), target)


@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_refused_weights(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is nan"):
        DKD(**{name: float("nan")})


@QUICK
@given(data=logits())
def test_rows_are_the_samples_losses(data: Logits) -> None:
    module, student = DKD(beta=2.0, temperature=3.0), data.student.requires_grad_()
    rows = module.rows(student, data.teacher, data.target)
    alone = [module(student[i : i + 1], data.teacher[i : i + 1], data.target[i : i + 1]) for i in range(len(rows))]
    torch.testing.assert_close(rows, torch.stack(alone), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(rows.mean(), module(student, data.teacher, data.target), rtol=1e-12, atol=1e-14)
    pull = torch.arange(1.0, 1 + len(rows), dtype=torch.float64)
    gradients = [gradient_of((pull * each).sum(), student) for each in (rows, torch.stack(alone))]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


def test_refused_reductions() -> None:
    with pytest.raises(ValueError, match="reduction is 'sum': give 'mean' or 'none'"):
        dkd(torch.zeros(3, 5), torch.zeros(3, 5), torch.zeros(3).long(), reduction="sum")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_no_class_left_adds_nothing_and_pulls_nowhere(dtype: torch.dtype) -> None:
    student = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 5.0]], dtype=dtype).requires_grad_()
    teacher = torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 1.0]], dtype=dtype)
    part = dkd_terms(student, teacher, torch.tensor([0, 1]), top_k=1).non_target
    assert part == 0
    assert not gradient_of(part, student).any()
    assert dkd_terms(student, teacher, torch.tensor([0, 1]), top_k=2, reduction="none").non_target.tolist() == [0, 0]


def test_the_number_of_classes_grows_from_epoch_to_epoch() -> None:
    data = make(6, 9, seed=3)
    given_, module = (data.student, data.teacher, data.target), DKD(top_k=3, top_k_epochs=4)
    for epoch, k in ((1, 3), (2, 4), (3, 6), (5, 9), (50, 9)):
        assert torch.equal(module(*given_, epoch), dkd(*given_, top_k=k))
        assert torch.equal(module.rows(*given_, epoch), dkd(*given_, top_k=k, reduction="none"))
    assert needs_of(module)[-1] == "epoch"
    assert "epoch" not in needs_of(DKD(top_k=3))


@QUICK
@given(data=logits())
def test_the_parts_for_the_streams_add_up(data: Logits) -> None:
    module, given_ = DKD(alpha=0.5, beta=2.0, temperature=3.0), (data.student, data.teacher, data.target)
    parts = module.stream_rows(*given_)
    assert parts.keys() == {"target", "non_target"}
    torch.testing.assert_close(parts["target"] + parts["non_target"], module.rows(*given_))
    assert parts["target"].mean() == pytest.approx(float(dkd(*given_, alpha=0.5, beta=0.0, temperature=3.0)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_k": -1}, "top_k is -1: give 0 for all classes"),
        ({"top_k_epochs": 3}, "top_k_epochs is 3: give 0, or epochs together with top_k"),
        ({"top_k": 3, "top_k_epochs": -1}, "top_k_epochs is -1"),
    ],
)
def test_refused_numbers_of_classes(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DKD(**settings)


@pytest.mark.parametrize("settings", [{"top_k": 6}, {"top_k": 6, "top_k_epochs": 2}])
def test_more_classes_than_there_are_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="top_k is 6: give 0 for all classes, or at most 5"):
        DKD(**settings)(torch.zeros(3, 5), torch.zeros(3, 5), torch.zeros(3).long())
