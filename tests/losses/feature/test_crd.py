"""CRD against the public code's numbers and against its definition; its memories and its negatives."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from stillroom.losses.feature.crd import CRD, crd, crd_terms, update_memory
from stillroom.losses.kernels import crd as kernel
from stillroom.losses.numerics import unit_rows
from stillroom.losses.protocol import connect_needs_of, needs_of
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, gradient_of
from tests.references.crd import crd as reference

LABELS = torch.tensor([7, 3, 3, 9, 7, 3, 9, 9, 9, 3])


def rows(count: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return unit_rows(torch.randn(count, width, generator=generator, dtype=torch.float64))


def examples(batch: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 6, generator=generator), torch.randn(batch, 9, generator=generator)


def connected(seed: int = 0, **settings: float) -> CRD:
    torch.manual_seed(seed)
    return CRD(**{"dim": 5, "negatives": 8, **settings}).connect(*examples(), LABELS)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", cases("feat_crd"), ids=lambda case: case.name)
@pytest.mark.parametrize("all_rows", [64, 0])
def test_golden(case: Golden, all_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "ALL_ROWS", all_rows)
    feature = case.tensor("student_feature").requires_grad_()
    student = unit_rows(functional.linear(feature, case.tensor("ws"), case.tensor("bs")))
    teacher = unit_rows(functional.linear(case.tensor("teacher_feature"), case.tensor("wt"), case.tensor("bt")))
    memories = case.tensor("memory_v1"), case.tensor("memory_v2")
    terms = crd_terms(student, teacher, *memories, case.tensor("contrast_idx"), temperature=case.hyper["nce_t"])
    for memory, unit in zip(memories, (student, teacher), strict=True):
        update_memory(memory, case.tensor("idx"), unit, momentum=case.hyper["nce_m"])
    # Backward comes after the update, as in training.
    loss = terms.student + terms.teacher
    case.check("crd", loss, gradient_of(loss, feature))
    torch.testing.assert_close(terms.log_z.exp(), case.tensor("params_after")[2:4], rtol=1e-9, atol=0)
    torch.testing.assert_close(memories[0], case.tensor("memory_v1_after"), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(memories[1], case.tensor("memory_v2_after"), rtol=1e-9, atol=1e-11)


@QUICK
@given(
    batch=st.integers(1, 3),
    width=st.integers(1, 4),
    samples=st.integers(1, 9),
    negatives=st.integers(1, 5),
    temperature=st.floats(0.05, 5),
    seed=st.integers(0, 999),
)
@pytest.mark.parametrize("all_rows", [64, 0])
def test_reference(
    all_rows: int, batch: int, width: int, samples: int, negatives: int, temperature: float, seed: int
) -> None:
    student, teacher = rows(batch, width, seed).requires_grad_(), rows(batch, width, seed + 1).requires_grad_()
    memories = rows(samples, width, seed + 2), rows(samples, width, seed + 3)
    picks = torch.randint(samples, (batch, negatives + 1), generator=torch.Generator().manual_seed(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "ALL_ROWS", all_rows)
        ours = crd_terms(student, teacher, *memories, picks, temperature=temperature)
    theirs = reference(student, teacher, *memories, picks, temperature)
    for loss, expected, anchor in zip(ours[:2], theirs, (student, teacher), strict=True):
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(gradient_of(loss, anchor), gradient_of(expected, anchor), rtol=1e-8, atol=1e-10)


def test_given_normalisers_are_kept_and_only_missing_ones_are_worked_out() -> None:
    units, memories, picks = (rows(2, 3, 0), rows(2, 3, 1)), (rows(4, 3, 2), rows(4, 3, 3)), torch.tensor([[0, 2]] * 2)
    fresh = crd_terms(*units, *memories, picks).log_z
    log_z = torch.tensor([1.5, torch.nan]).double()
    assert torch.equal(crd_terms(*units, *memories, picks, log_z=log_z).log_z, torch.stack((log_z[0], fresh[1])))
    assert crd(*units, *memories, picks, log_z=fresh) == crd(*units, *memories, picks)


def test_a_low_temperature_stays_finite() -> None:
    student, teacher = rows(2, 3, 0).float().requires_grad_(), rows(2, 3, 1).float()
    memories = rows(5, 3, 2).float(), rows(5, 3, 3).float()
    picks = torch.tensor([[0, 2, 3], [1, 4, 4]])
    loss = crd(student, teacher, *memories, picks, temperature=1e-3)
    exact = crd(student.detach().double(), teacher.double(), *(m.double() for m in memories), picks, temperature=1e-3)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-4, atol=0)
    assert gradient_of(loss, student).isfinite().all()


def test_negatives_come_from_every_other_sample_of_another_class() -> None:
    loss = connected(negatives=4000)
    ids = torch.arange(len(LABELS))
    picks = loss.draw(ids)
    assert torch.equal(picks[:, 0], ids)
    for i, row in enumerate(picks[:, 1:]):
        counts = torch.bincount(row, minlength=len(LABELS))
        others = LABELS[i] != LABELS
        assert (counts[~others] == 0).all()
        share = counts[others] * others.sum() / 4000
        assert share.min() > 0.8
        assert share.max() < 1.2


def test_draws_follow_the_default_generator() -> None:
    loss, ids = connected(), torch.tensor([2, 0])
    state = torch.get_rng_state()
    first = loss.draw(ids)
    assert not torch.equal(loss.draw(ids), first)
    torch.set_rng_state(state)
    assert torch.equal(loss.draw(ids), first)


def test_connect_builds_layers_memories_and_no_normaliser_yet() -> None:
    loss = connected(dim=200)
    assert loss.student_layer is not None
    assert loss.teacher_layer is not None
    assert loss.student_layer.weight.shape == (200, 6)
    assert loss.teacher_layer.weight.shape == (200, 9)
    for memory in (loss.student_memory, loss.teacher_memory):
        assert memory.shape == (10, 200)
        # Uniform: no entry beyond the bound, and a variance of a third of its square.
        assert memory.abs().max() <= (3 / 200) ** 0.5
        assert 0.9 < memory.square().sum(1).mean() < 1.1
    assert loss.log_z.isnan().all()
    loss.connect(torch.randn(2, 3), torch.randn(2, 4), LABELS)
    assert loss.student_layer.weight.shape == (200, 3)


def test_training_moves_the_seen_memories_and_fixes_the_normalisers_once() -> None:
    loss, ids = connected(), torch.tensor([4, 1, 0, 8])
    before = loss.student_memory.clone()
    loss(*examples(), ids)
    log_z = loss.log_z.clone()
    assert log_z.isfinite().all()
    changed = (loss.student_memory != before).any(1)
    assert changed.nonzero().flatten().tolist() == [0, 1, 4, 8]
    torch.testing.assert_close(loss.student_memory[ids].norm(dim=1), torch.ones(4))
    loss(*examples(seed=1), ids)
    assert torch.equal(loss.log_z, log_z)
    assert not loss.student_memory.requires_grad


def test_evaluation_changes_nothing() -> None:
    loss = connected().eval()
    state = copy.deepcopy(loss.state_dict())
    loss(*examples(), torch.tensor([4, 1, 0, 8]))
    torch.testing.assert_close(dict(loss.state_dict()), dict(state), rtol=0, atol=0, equal_nan=True)


def test_of_a_repeated_id_the_last_counts() -> None:
    memory, units = rows(4, 3, 0), rows(3, 3, 1)
    once = memory.clone()
    update_memory(memory, torch.tensor([2, 1, 2]), units, momentum=0.25)
    update_memory(once, torch.tensor([1, 2]), units[1:], momentum=0.25)
    assert torch.equal(memory, once)


def test_opposite_embeddings_leave_a_finite_memory() -> None:
    memory = torch.eye(2)
    update_memory(memory, torch.tensor([0]), -memory[:1])
    assert memory.isfinite().all()


def test_training_goes_on_exactly_from_a_state_dict() -> None:
    def steps(loss: CRD, count: int) -> list[float]:
        return [float(loss(*examples(seed=i), torch.tensor([4, 1, 0, 8])).detach()) for i in range(count)]

    loss = connected()
    steps(loss, 2)
    stored, generator = copy.deepcopy(loss.state_dict()), torch.get_rng_state()
    expected = steps(loss, 3)
    resumed = connected(seed=99)
    resumed.load_state_dict(stored)
    torch.set_rng_state(generator)
    assert steps(resumed, 3) == expected


def test_training_layers_and_embedding_lowers_the_loss() -> None:
    loss, ids = connected(negatives=32), torch.tensor([4, 1, 0, 8])
    student, teacher = examples()
    student.requires_grad_()
    optimizer = torch.optim.SGD([student, *loss.parameters()], lr=0.05)
    history = []
    for _ in range(60):
        optimizer.zero_grad()
        value = loss(student, teacher, ids)
        value.backward()
        optimizer.step()
        history.append(float(value.detach()))
    assert loss.teacher_layer is not None
    assert loss.teacher_layer.weight.grad is not None
    assert sum(history[-10:]) < 0.7 * sum(history[:10])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    student, teacher = examples()
    student, teacher, ids = student.to(dtype).requires_grad_(), teacher.to(dtype), torch.tensor([4, 1, 0, 8])
    narrow, wide = connected(), connected()
    torch.manual_seed(5)
    loss = narrow(student, teacher, ids)
    torch.manual_seed(5)
    assert loss == wide(student.detach().float(), teacher.float(), ids)
    assert gradient_of(loss, student).dtype == dtype
    assert gradient_of(loss, student).isfinite().all()


def test_autocast_leaves_the_contrast_alone() -> None:
    units, memories = (rows(2, 8, 0).float(), rows(2, 8, 1).float()), (rows(9, 8, 2).float(), rows(9, 8, 3).float())
    picks = torch.randint(9, (2, 6), generator=torch.Generator().manual_seed(0))
    plain = crd(*units, *memories, picks)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert crd(*units, *memories, picks) == plain


@pytest.mark.usefixtures("unseen_values")
def test_nan_comes_through() -> None:
    student, teacher = examples()
    assert connected()(student.fill_(torch.nan), teacher, torch.tensor([4, 1, 0, 8])).isnan()


def test_the_teacher_feature_gets_no_gradient() -> None:
    student, teacher = examples()
    teacher.requires_grad_()
    connected()(student, teacher, torch.tensor([4, 1, 0, 8])).backward()
    assert teacher.grad is None


def test_compiles_whole() -> None:
    loss = connected()
    run = torch.compile(copy.deepcopy(loss), fullgraph=True, backend="aot_eager")
    values, gradients = [], []
    for call in (run, loss):
        torch.manual_seed(3)
        student, teacher = examples()
        value = call(student.requires_grad_(), teacher, torch.tensor([4, 1, 0, 8]))
        values.append(value.detach())
        gradients.append(gradient_of(value, student))
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*gradients)


def test_copies_and_needs() -> None:
    for loss in (CRD(), connected()):
        assert str(pickle.loads(pickle.dumps(loss))) == str(copy.deepcopy(loss)) == str(loss)
    assert needs_of(CRD()) == ("student_embedding", "teacher_embedding", "ids")
    assert connect_needs_of(CRD()) == ("student_embedding", "teacher_embedding", "train_labels")
    assert not list(CRD().parameters())


def test_forward_before_connect_says_so() -> None:
    with pytest.raises(RuntimeError, match=r"call connect\(student_embedding, teacher_embedding, train_labels\)"):
        CRD()(*examples(), torch.tensor([0, 1, 2, 3]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 0}, "dim is 0"),
        ({"negatives": 0}, "negatives is 0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"momentum": float("nan")}, "momentum is nan"),
    ],
)
def test_refused_settings(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CRD(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([1, 1, 1]), "train_labels has 1 class"),
        (torch.tensor([1]), "train_labels has 1 class"),
        (torch.tensor([], dtype=torch.int64), "train_labels has 0 class"),
        (torch.tensor([0.0, 1.0]), "dtype torch.float32"),
        (torch.tensor([[0, 1]]), r"train_labels has shape \(1, 2\)"),
    ],
)
def test_refused_labels(labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CRD().connect(*examples(), labels)


def test_refused_inputs() -> None:
    loss, (student, teacher) = connected(), examples()
    with pytest.raises(ValueError, match="ids has shape"):
        loss(student, teacher, torch.zeros(4))
    with pytest.raises(ValueError, match="ids has batch size 3"):
        loss(student, teacher, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"student_memory has shape \(5, 2\)"):
        crd(rows(2, 3, 0), rows(2, 3, 0), rows(5, 2, 0), rows(5, 3, 0), torch.zeros(2, 2).long())
    with pytest.raises(ValueError, match="temperature is -1"):
        crd(rows(2, 3, 0), rows(2, 3, 0), rows(5, 3, 0), rows(5, 3, 0), torch.zeros(2, 2).long(), temperature=-1)


def test_ids_that_do_not_occur_get_no_memory_and_change_nothing() -> None:
    generator = torch.Generator().manual_seed(3)
    student, teacher = torch.randn(4, 6, generator=generator), torch.randn(4, 5, generator=generator)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    scattered = torch.tensor([-1, 0, 1, -1, -1, 2, 0, 1, -1, 2, -1])
    losses = []
    for train_labels, ids in ((labels, torch.tensor([0, 2, 3, 5])), (scattered, torch.tensor([1, 5, 6, 9]))):
        torch.manual_seed(0)
        loss = CRD(dim=4, negatives=7).connect(student, teacher, train_labels)
        losses.append(loss)
        assert loss.student_memory.shape == (6, 4)
        values = torch.stack([loss(student, teacher, ids) for _ in range(3)])
        losses.append(values.detach())
    torch.testing.assert_close(losses[3], losses[1], rtol=0, atol=0)
    torch.testing.assert_close(losses[2].state_dict(), losses[0].state_dict(), rtol=0, atol=0)
