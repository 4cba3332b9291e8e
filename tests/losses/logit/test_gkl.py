"""GKL against the public code's numbers and against its definition, and the table of class weights over epochs."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stillroom.losses import GKL, gkl
from stillroom.losses.finite import NotFinite
from stillroom.losses.protocol import needs_of
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.gkl import class_means, gkl_terms

CLASSES = 4


@pytest.mark.parametrize("case", cases("gkl"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher, hyper = case.tensor("student_logits").requires_grad_(), case.tensor("teacher_logits"), case.hyper
    weights = case.tensor("class_prior")[case.tensor("target")] if hyper["GI"] else None
    settings = {"gamma": hyper.get("gamma", 1.0), "temperature": hyper["T"], "weight_temperature": hyper["T2"],
                "normalize": hyper["version"] == "gkl"}  # fmt: skip
    for name, alpha, beta in (("wmse", 0.0, 1.0), ("sce", 1.0, 0.0), ("total", hyper["alpha"], hyper["beta"])):
        loss = gkl(student, teacher, weights, alpha=alpha, beta=beta, **settings)
        case.check(name, loss, gradient_of(loss, student))


@QUICK
@given(data=logits(max_classes=6), gamma=st.floats(0, 2), temperature=st.floats(0.5, 20), normalize=st.booleans())
def test_reference(data: Logits, gamma: float, temperature: float, normalize: bool) -> None:
    student = data.student.requires_grad_()
    weights = (data.teacher / 3.0).softmax(1) ** gamma
    pairs, soft = gkl_terms(student, data.teacher, weights, temperature, normalize)
    expected = 2.5 * pairs + 0.5 * soft
    ours = gkl(
        student, data.teacher, alpha=0.5, beta=2.5, gamma=gamma, temperature=temperature, weight_temperature=3.0,
        normalize=normalize,
    )  # fmt: skip
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradient_of(ours, student), gradient_of(expected, student), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_networks_whose_logits_lie_far_apart_lose_no_digits(dtype: torch.dtype) -> None:
    teacher = torch.tensor([[200.0, 0.0, 1.0]], dtype=dtype)
    loss, exact = (
        gkl(teacher.to(wide) - torch.tensor([200.0, 198.0, 200.0], dtype=wide), teacher, alpha=0.0)
        for wide in (dtype, torch.float64)
    )
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)


def test_the_gradient_vanishes_where_the_networks_agree() -> None:
    student = make(5, 9, seed=1).student.requires_grad_()
    assert gradient_of(gkl(student, student.detach().clone()), student).abs().max() == 0


def test_large_batches_of_many_classes_need_no_tensor_of_pairs() -> None:
    data = make(64, 3000, seed=0)  # of all pairs it would be 4.6 GB in float64
    student = data.student.requires_grad_()
    assert gradient_of(gkl(student, data.teacher), student).isfinite().all()


def test_rows_of_zeros_weigh_nothing() -> None:
    data = make(3, 5, seed=2)
    student, weights = data.student.requires_grad_(), torch.rand(3, 5, dtype=torch.float64)
    weights[1] = 0.0
    rest = [0, 2]
    loss = gkl(student, data.teacher, weights, alpha=0.0, gamma=0.5)
    torch.testing.assert_close(loss, gkl(student[rest], data.teacher[rest], weights[rest], alpha=0.0, gamma=0.5))
    assert gradient_of(loss, student)[1].abs().max() == 0
    assert gkl(student, data.teacher, torch.zeros(3, 5), alpha=0.0, gamma=0.5) == 0


def batches(epochs: int, per_epoch: int = 3, size: int = 5) -> list[tuple[int, Tensor, Tensor]]:
    """(epoch, teacher logits, labels); class 2 occurs in the first epoch only, class 3 from the second on."""
    found = []
    for number in range(epochs * per_epoch):
        data, epoch = make(size, CLASSES, seed=50 + number), 1 + number // per_epoch
        allowed = torch.tensor([0, 1, 2] if epoch == 1 else [0, 1, 3])
        found.append((epoch, data.teacher.float(), allowed[data.target % 3]))
    return found


def test_the_table_holds_each_classs_mean_of_the_last_epoch_that_had_it() -> None:
    loss, expected = GKL(weight_temperature=2.0).connect(torch.zeros(1, CLASSES)), torch.empty(0)
    given_ = batches(epochs=4)
    for epoch, teacher, target in given_:
        expected = torch.tensor(class_means(given_, epoch, CLASSES, 2.0))
        value = loss(teacher.flip(1), teacher, target, epoch)
        torch.testing.assert_close(loss.table, expected**0.05)
        torch.testing.assert_close(value, gkl(teacher.flip(1), teacher, expected[target], weight_temperature=2.0))
    assert not torch.allclose(expected[2], expected[3])


def test_evaluation_reads_the_table_and_leaves_it_alone() -> None:
    loss, (*seen, (epoch, teacher, target)) = GKL().connect(torch.zeros(1, CLASSES)), batches(epochs=2)
    for batch in seen:
        loss(batch[1], *batch[1:], batch[0])
    before = copy.deepcopy(loss.state_dict())
    value = loss.eval()(teacher.flip(1), teacher, target, epoch + 1)
    torch.testing.assert_close(loss.state_dict(), before, rtol=0, atol=0)
    rows = before["table"][target] ** (1 / 0.05)
    torch.testing.assert_close(value, gkl(teacher.flip(1), teacher, rows), rtol=1e-4, atol=0)


@pytest.mark.parametrize("stop", range(1, 9))
def test_a_state_saved_anywhere_goes_on_alike(stop: int) -> None:
    given_ = batches(epochs=3)
    whole = GKL().connect(torch.zeros(1, CLASSES))
    for number, (epoch, teacher, target) in enumerate(given_):
        if number == stop:
            resumed = GKL().connect(torch.ones(2, CLASSES))
            resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
        value = whole(teacher.flip(1), teacher, target, epoch)
        if number >= stop:
            assert torch.equal(resumed(teacher.flip(1), teacher, target, epoch), value)
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_a_used_loss_that_loads_an_earlier_state_goes_on_from_it() -> None:
    loss, given_ = GKL().connect(torch.zeros(1, CLASSES)), batches(epochs=2)
    values, state = [], {}
    for number, (epoch, teacher, target) in enumerate(given_):
        if number == 3:  # the last state of the first epoch
            state = copy.deepcopy(loss.state_dict())
        values.append(loss(teacher.flip(1), teacher, target, epoch))
    loss.load_state_dict(state)
    again = [loss(teacher.flip(1), teacher, target, epoch) for epoch, teacher, target in given_[3:]]
    torch.testing.assert_close(again, values[3:], rtol=0, atol=0)


def test_compiled_it_goes_through_the_epochs_alike_in_one_graph() -> None:
    plain = GKL().connect(torch.zeros(1, CLASSES))
    twin = copy.deepcopy(plain)
    compiled = torch.compile(twin, fullgraph=True, backend="eager", dynamic=True)
    for epoch, teacher, target in batches(epochs=10, per_epoch=2):
        wanted = plain(teacher.flip(1), teacher, target, epoch)
        torch.testing.assert_close(compiled(teacher.flip(1), teacher, target, epoch), wanted)
    torch.testing.assert_close(twin.state_dict(), plain.state_dict())


def test_without_the_table_no_label_is_read() -> None:
    data, loss = make(4, CLASSES, seed=3), GKL(class_weights=False)
    assert needs_of(loss) == ("student_logits", "teacher_logits")
    assert loss.connect(data.teacher) is loss
    assert not loss.state_dict()
    torch.testing.assert_close(loss(data.student, data.teacher), gkl(data.student, data.teacher))
    assert not loss.per_sample
    assert GKL(class_weights=False, normalize=False).per_sample
    assert not GKL(normalize=False).per_sample


def test_refused() -> None:
    logits_, target = torch.zeros(2, CLASSES), torch.zeros(2, dtype=torch.long)
    with pytest.raises(RuntimeError, match=r"GKL has no connectors yet: call connect\(teacher_logits\)"):
        GKL()(logits_, logits_, target)
    loss = GKL().connect(logits_)
    with pytest.raises(ValueError, match="target is None: give the labels"):
        loss(logits_, logits_)
    with pytest.raises(ValueError, match="student_logits has 3 classes but the table of class weights has 4"):
        loss(logits_[:, 1:], logits_[:, 1:], target)
    with pytest.raises(ValueError, match=r"weights has shape \(2, 3\) but student_logits has \(2, 4\)"):
        gkl(logits_, logits_, logits_[:, 1:])
    with pytest.raises(ValueError, match=r"gamma is -0.1: it must be at least 0"):
        GKL(gamma=-0.1)
    with pytest.raises(ValueError, match="weight_temperature is 0"):
        GKL(weight_temperature=0.0)
    with pytest.raises(NotFinite, match=r"student_logits has values up to 1e\+30"):
        gkl(torch.tensor([[1e30, 0.0]]), torch.zeros(1, 2))
