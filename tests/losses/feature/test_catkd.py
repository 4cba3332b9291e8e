"""CAT-KD against its definition."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from stillroom.losses.feature.catkd import CATKD, cams, catkd
from stillroom.losses.protocol import needs_of
from tests.losses.draw import QUICK, gradient_of
from tests.references.catkd import cam
from tests.references.catkd import catkd as reference


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def head(channels: int, classes: int, seed: int = 0) -> nn.Linear:
    layer = nn.Linear(channels, classes).double()
    layer.weight.data.copy_(normal(classes, channels, seed=seed))
    return layer


@QUICK
@given(
    batch=st.integers(1, 2),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    multiples=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    size=st.integers(1, 2),
    normalize=st.booleans(),
    seed=st.integers(0, 999),
)
def test_reference(
    batch: int, channels: tuple[int, int], multiples: tuple[int, int], size: int, normalize: bool, seed: int
) -> None:
    student = normal(batch, channels[0], size * multiples[0], size, seed=seed).requires_grad_()
    teacher = normal(batch, channels[1], size, size * multiples[1], seed=seed + 1)
    heads = head(channels[0], 3, seed + 2), head(channels[1], 3, seed + 3)
    ours = CATKD(size, normalize)(student, teacher, *heads)
    theirs = reference(student, heads[0].weight, teacher, heads[1].weight, size, normalize)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    for leaf in (student, heads[0].weight):
        torch.testing.assert_close(gradient_of(ours, leaf), gradient_of(theirs, leaf), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("side", [1, 3, 4, 7])
def test_pooling_before_the_head_is_the_same_as_after(side: int) -> None:
    student, teacher, heads = normal(2, 5, side, side), normal(2, 4, 6, 6, seed=1), (head(5, 3), head(4, 3))
    whole = catkd(cams(student, heads[0].weight), cams(teacher, heads[1].weight))
    torch.testing.assert_close(CATKD()(student, teacher, *heads), whole, rtol=1e-9, atol=1e-12)


def test_cams_add_up_to_the_logits_and_each_place_counts_for_itself() -> None:
    final_map, layer = normal(2, 5, 3, 4), head(5, 6)
    ours = cams(final_map, layer.weight)
    torch.testing.assert_close(ours.mean((2, 3)) + layer.bias, layer(final_map.mean((2, 3))))
    torch.testing.assert_close(ours[1, 4, 2, 3], cam(final_map, layer.weight, 1, 4, 2, 3))


def test_strength_counts_only_without_normalising() -> None:
    student, teacher = normal(2, 3, 4, 4), normal(2, 3, 4, 4, seed=1)
    scale = torch.tensor([0.1, 1.0, 30.0]).double()[None, :, None, None]
    torch.testing.assert_close(catkd(student * scale, teacher), catkd(student, teacher))
    assert catkd(teacher * scale, teacher) < 1e-12
    assert catkd(teacher * scale, teacher, normalize=False) > 1
    assert catkd(teacher, teacher, normalize=False) == 0


def test_opposite_maps_are_the_worst() -> None:
    teacher = normal(2, 3, 4, 4)
    torch.testing.assert_close(catkd(-teacher, teacher, size=4), torch.tensor(4 / 16).double())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("normalize", [True, False])
def test_zero_and_equal_maps_stay_finite(dtype: torch.dtype, normalize: bool) -> None:
    teacher, heads = normal(2, 3, 4, 4).to(dtype), (head(3, 4).to(dtype), head(3, 4).to(dtype))
    for student in (torch.zeros_like(teacher), teacher.clone(), teacher * 100):
        student.requires_grad_()
        loss = CATKD(normalize=normalize)(student, teacher, *heads)
        assert loss.dtype == torch.float32
        assert loss.isfinite()
        gradient = gradient_of(loss, student)
        assert gradient.dtype == dtype
        assert gradient.abs().max() < 1e4


def test_the_student_learns_map_and_head_and_the_teacher_nothing() -> None:
    student, teacher, heads = normal(4, 5, 4, 4), normal(4, 3, 2, 2, seed=1), (head(5, 6), head(3, 6, seed=2))
    student.requires_grad_()
    teacher.requires_grad_()
    optimizer = torch.optim.SGD([student, *heads[0].parameters()], lr=20.0)
    history = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = CATKD()(student, teacher, *heads)
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    assert history[-1] < 0.3 * history[0]
    assert heads[0].weight.grad is not None
    assert heads[0].bias.grad is None
    assert teacher.grad is None
    assert heads[1].weight.grad is None


def test_autocast_leaves_the_value_alone() -> None:
    final_map, layer = normal(2, 8, 4, 4).float(), head(8, 5).float()
    plain = cams(final_map, layer.weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(cams(final_map, layer.weight), plain)


@pytest.mark.usefixtures("unseen_values")
def test_nan_comes_through() -> None:
    student, teacher = normal(2, 3, 4, 4), normal(2, 3, 4, 4)
    student[0, 0, 0, 0] = torch.nan
    assert catkd(student, teacher).isnan()


def test_compiles_whole() -> None:
    arguments = normal(2, 5, 4, 4), normal(2, 3, 8, 8, seed=1), head(5, 6), head(3, 6)
    run = torch.compile(CATKD(), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(run(*arguments), CATKD()(*arguments))


def test_copies_and_needs() -> None:
    loss = CATKD(size=4, normalize=False)
    assert str(copy.deepcopy(loss)) == str(pickle.loads(pickle.dumps(loss))) == "CATKD(size=4, normalize=False)"
    assert needs_of(loss) == ("student_final_map", "teacher_final_map", "student_head", "teacher_head")


def test_refused_inputs() -> None:
    with pytest.raises(ValueError, match="size is 0"):
        CATKD(size=0)
    with pytest.raises(ValueError, match="teacher_cam has 4 classes but student_cam has 3"):
        catkd(torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4, 4))
    with pytest.raises(ValueError, match=r"weight has shape \(5, 7\) but final_map has 3 channels"):
        cams(torch.zeros(2, 3, 4, 4), torch.zeros(5, 7))
    with pytest.raises(ValueError, match=r"student_final_map has shape \(2, 3\)"):
        CATKD()(torch.zeros(2, 3), torch.zeros(2, 3, 4, 4), head(3, 4), head(3, 4))
    with pytest.raises(ValueError, match="teacher_cam has batch size 1 but student_cam has 2"):
        catkd(torch.zeros(2, 3, 4, 4), torch.zeros(1, 3, 4, 4))
