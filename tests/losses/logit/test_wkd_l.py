"""WKD-L against the public code's numbers, against its definition, and its cost."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from stillroom.losses import WKDL, class_cost, wkd_l
from stillroom.losses.logit.wkd_l import EPSILON, transport_cost
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.wkd_l import class_cost as cost_reference
from tests.references.wkd_l import wkd_l as reference


def weights(classes: int, seed: int = 0) -> Tensor:
    return torch.randn(classes, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("case", cases("wkd_l"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher, target = case.tensor("student_logits"), case.tensor("teacher_logits"), case.tensor("target")
    cost, hyper = case.tensor("cost_matrix"), case.hyper
    student.requires_grad_()
    sinkhorn = {"regularization": hyper["reg"], "iterations": hyper["iter"]}
    on_label, one, total = (
        wkd_l(student, teacher, target, cost, gamma=gamma, temperature=hyper["T"], **sinkhorn)
        for gamma in (0.0, 1.0, hyper["gamma"])
    )
    everywhere = transport_cost(
        (student / hyper["T"]).softmax(1), (teacher / hyper["T"]).softmax(1), cost.relu() + EPSILON,
        torch.full_like(teacher, 1 / len(cost)), **sinkhorn,
    ).mean()  # fmt: skip
    terms = {"target_term": on_label, "wd": one - on_label, "total": total, "wd_all": everywhere}
    for name, loss in terms.items():
        case.check(name, loss, gradient_of(loss, student))


@pytest.mark.parametrize("case", cases("wkd_l"), ids=lambda case: case.name)
def test_golden_cost(case: Golden) -> None:
    cost = class_cost(case.tensor("teacher_class_weight"), sharpness=case.hyper["sharpen"])
    torch.testing.assert_close(cost, case.tensor("cost_matrix"), rtol=1e-9, atol=1e-12)


@QUICK
@given(data=logits(max_classes=5), temperature=st.floats(0.5, 20), iterations=st.integers(1, 4))
def test_reference(data: Logits, temperature: float, iterations: int) -> None:
    student, cost = data.student.requires_grad_(), class_cost(weights(data.student.shape[1]))
    arguments = (student, data.teacher, data.target, cost)
    ours = wkd_l(*arguments, gamma=3.0, temperature=temperature, regularization=0.2, iterations=iterations)
    theirs = reference(*arguments, 3.0, temperature, 0.2, iterations)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(gradient_of(ours, student), gradient_of(theirs, student), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 2.5])
def test_the_cost_of_a_classifier(sharpness: float) -> None:
    weight = weights(5)
    expected = torch.tensor(cost_reference(weight, sharpness), dtype=torch.float64)
    torch.testing.assert_close(class_cost(weight, sharpness=sharpness), expected, rtol=1e-9, atol=1e-12)
    half = class_cost(weight.half(), sharpness=sharpness)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.double(), expected, rtol=0, atol=1e-2)
    assert not class_cost(weight.requires_grad_()).requires_grad


def test_a_mistake_among_similar_classes_costs_less() -> None:
    cost = torch.tensor([[0.0, 0.1, 0.6, 0.6], [0.1, 0.0, 0.6, 0.6], [0.6, 0.6, 0.0, 0.6], [0.6, 0.6, 0.6, 0.0]])
    teacher, target = torch.tensor([[4.0, 0.0, 0.0, 6.0]]), torch.tensor([3])
    near, far = torch.tensor([[0.0, 4.0, 0.0, 6.0]]), torch.tensor([[0.0, 0.0, 4.0, 6.0]])
    costs = [wkd_l(student, teacher, target, cost, gamma=100.0, temperature=1.0) for student in (near, far)]
    assert 2 * costs[0] < costs[1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("target", [[0, 1], [2, 2]])
def test_saturated_logits(dtype: torch.dtype, target: list[int]) -> None:
    student = torch.tensor([[200.0, 0, 0, 0], [0, 200, 0, 0]], dtype=dtype)
    teacher = torch.tensor([[0.0, 200, 0, 0], [0, 0, 0, 200]], dtype=dtype)
    cost, labels = class_cost(weights(4)), torch.tensor(target)
    exact = student.double().requires_grad_()
    wanted = wkd_l(exact, teacher.double(), labels, cost, gamma=20.0, temperature=1.0)
    student.requires_grad_()
    loss = wkd_l(student, teacher, labels, cost.float(), gamma=20.0, temperature=1.0)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-4)
    torch.testing.assert_close(gradient_of(loss, student).double(), gradient_of(wanted, exact), rtol=2e-2, atol=1e-4)


def test_two_classes_leave_nothing_to_transport() -> None:
    data = make(5, 2, seed=0)
    arguments = (data.student, data.teacher, data.target, class_cost(weights(2)))
    assert wkd_l(*arguments, gamma=1.0) - wkd_l(*arguments, gamma=0.0) < 1e-6


def test_a_whole_backward_pass_can_be_repeated() -> None:
    head, data = nn.Linear(6, 5), make(3, 5, seed=4)
    loss = WKDL(gamma=5.0).connect(head)
    for _ in range(2):  # the public code's cost keeps a graph, so that its second backward pass fails
        student = data.student.clone().requires_grad_()
        loss(student, data.teacher, data.target).backward()
    assert head.weight.grad is None


@QUICK
@given(data=logits(max_classes=6))
def test_rows_are_the_samples_losses(data: Logits) -> None:
    classes = data.student.shape[1]
    module, student = WKDL(gamma=30.0).double().connect(nn.Linear(6, classes).double()), data.student.requires_grad_()
    rows = module.rows(student, data.teacher, data.target)
    alone = [module(student[i : i + 1], data.teacher[i : i + 1], data.target[i : i + 1]) for i in range(len(rows))]
    torch.testing.assert_close(rows, torch.stack(alone), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(rows.mean(), module(student, data.teacher, data.target), rtol=1e-12, atol=1e-14)


def test_refused() -> None:
    logits_, target, cost = torch.zeros(2, 4), torch.zeros(2, dtype=torch.long), torch.ones(4, 4)
    with pytest.raises(RuntimeError, match=r"WKDL has no connectors yet: call connect\(teacher_head\)"):
        WKDL()(logits_, logits_, target)
    with pytest.raises(ValueError, match=r"cost has shape \(4, 3\) but the logits have 4 classes"):
        wkd_l(logits_, logits_, target, cost[:, :3])
    with pytest.raises(ValueError, match=r"cost has values up to 9: .* give regularization >= 0.113"):
        wkd_l(logits_, logits_, target, 9 * cost)
    with pytest.raises(ValueError, match="cost is on meta"):
        wkd_l(logits_, logits_, target, cost.to("meta"))
    with pytest.raises(ValueError, match="iterations is 0: it must be a whole number, at least 1"):
        WKDL(iterations=0)
    with pytest.raises(ValueError, match="regularization is 0"):
        WKDL(regularization=0.0)
    with pytest.raises(ValueError, match=r"sharpness is -1.0: it must be at least 0"):
        WKDL(sharpness=-1.0)
    with pytest.raises(ValueError, match="reduction is 'sum'"):
        wkd_l(logits_, logits_, target, cost, reduction="sum")  # type: ignore[arg-type]
