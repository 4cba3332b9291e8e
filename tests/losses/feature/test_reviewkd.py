"""ReviewKD against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stillroom.losses.feature.reviewkd import ReviewKD, reviewkd
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, gradient_of
from tests.references.reviewkd import reviewkd as reference

GOLDEN_LEVELS = ("h8", "h4", "h1")


@pytest.mark.parametrize("case", cases("feat_reviewkd_hcl"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student = [case.tensor(f"student_feature_{level}").requires_grad_() for level in GOLDEN_LEVELS]
    teacher = [case.tensor(f"teacher_feature_{level}") for level in GOLDEN_LEVELS]
    terms = {
        "hcl": reviewkd(student, teacher),
        **{f"hcl_level_{n}": reviewkd([s], [t]) for n, s, t in zip(GOLDEN_LEVELS, student, teacher, strict=True)},
    }
    for term, loss in terms.items():
        for level, leaf in zip(GOLDEN_LEVELS, student, strict=True):
            (gradient,) = torch.autograd.grad(loss, leaf, retain_graph=True, materialize_grads=True, allow_unused=True)
            case.check(term, loss, gradient, wrt="" if level == "h8" else f"student_feature_{level}")


@QUICK
@given(
    sizes=st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=2), seed=st.integers(0, 9999)
)
def test_reference(sizes: list[tuple[int, int]], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    student = [torch.randn(2, 2, *size, generator=generator).double().requires_grad_() for size in sizes]
    teacher = [torch.randn(2, 2, *size, generator=generator).double() for size in sizes]
    ours, expected = reviewkd(student, teacher), reference(student, teacher)
    torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-13)
    for leaf in student:
        torch.testing.assert_close(gradient_of(ours, leaf), gradient_of(expected, leaf), rtol=1e-10, atol=1e-13)


def test_equal_maps_cost_nothing_and_pull_nowhere() -> None:
    same = torch.randn(2, 3, 5, 5).requires_grad_()
    loss = reviewkd([same], [same])
    assert loss == 0
    assert gradient_of(loss, same).abs().max() == 0


def test_a_shared_shift_weighs_more_than_noise_of_the_same_size() -> None:
    teacher = torch.zeros(1, 1, 8, 8)
    shift = torch.ones(1, 1, 8, 8)
    checkers = shift * (1 - 2 * ((torch.arange(8)[:, None] + torch.arange(8)) % 2))
    assert reviewkd([shift], [teacher]) == 1
    torch.testing.assert_close(reviewkd([checkers], [teacher]), torch.tensor(8 / 15))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_large_maps_stay_finite(dtype: torch.dtype) -> None:
    student = torch.full((2, 3, 8, 8), 6e4, dtype=dtype).requires_grad_()
    loss = reviewkd([student], [-student.detach()])
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert gradient_of(loss, student).isfinite().all()


Features = tuple[list[Tensor], list[Tensor], Tensor, Tensor]


def features(sizes: tuple[tuple[int, int], ...], teacher_sizes: tuple[tuple[int, int], ...]) -> Features:
    generator = torch.Generator().manual_seed(0)
    return (
        [torch.randn(3, 4 + level, *size, generator=generator) for level, size in enumerate(sizes)],
        [torch.randn(3, 6 + level, *size, generator=generator) for level, size in enumerate(teacher_sizes)],
        torch.randn(3, 10, generator=generator),
        torch.randn(3, 12, generator=generator),
    )


@pytest.mark.parametrize(
    ("sizes", "teacher_sizes"),
    [
        (((8, 8), (4, 4)), ((8, 8), (4, 4))),
        (((7, 7), (7, 7)), ((7, 7), (7, 7))),  # isotropic
        (((7, 7), (7, 7)), ((16, 16), (8, 8))),
        (((8, 6), (5, 3)), ((3, 4), (9, 1))),
    ],
)
def test_any_pair_of_sizes(sizes: tuple[tuple[int, int], ...], teacher_sizes: tuple[tuple[int, int], ...]) -> None:
    given_ = features(sizes, teacher_sizes)
    module = ReviewKD(mid_channels=8).connect(*given_)
    loss = module(*given_)
    assert loss.isfinite()
    # Another resolution than the examples': sizes are read from the maps.
    other = features(tuple((2 * h, 2 * w) for h, w in sizes), teacher_sizes)
    assert module(*other).isfinite()


def test_every_level_reviews_the_deeper_ones_only() -> None:
    student, teacher, embedding, wanted = features(((8, 8), (4, 4)), ((8, 8), (4, 4)))
    leaves = [embedding.requires_grad_(), *(feature.requires_grad_() for feature in reversed(student))]
    module = ReviewKD().connect(student, teacher, embedding, wanted)
    predictions: list[Tensor] = []
    for fusion in module.fusions:
        fusion.register_forward_hook(lambda _module, _inputs, outputs: predictions.append(outputs[0]))
    module(student, teacher, embedding, wanted)
    assert [p.shape for p in predictions] == [(3, 12, 1, 1), (3, 7, 4, 4), (3, 6, 8, 8)]
    for depth, prediction in enumerate(predictions):
        gradients = torch.autograd.grad(prediction.square().sum(), leaves, allow_unused=True, retain_graph=True)
        assert [gradient is not None for gradient in gradients] == [level <= depth for level in range(3)]


def test_a_fusion_is_a_weighted_sum_place_by_place() -> None:
    given_ = features(((4, 6),), ((4, 6),))
    _, fusion = ReviewKD(mid_channels=3).connect(*given_).fusions
    (own,), passed = given_[0], torch.randn(3, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        prediction, fused = fusion(own, passed, (4, 6))
        entry, weight, bias = fusion.entry(own), fusion.attention.weight[:, :, 0, 0], fusion.attention.bias
        for b in range(3):
            for y in range(4):
                for x in range(6):
                    mine, deeper = entry[b, :, y, x], passed[b, :, y // 2, x // 3]
                    first, second = torch.sigmoid(weight @ torch.cat((mine, deeper)) + bias)
                    torch.testing.assert_close(fused[b, :, y, x], first * mine + second * deeper)
        torch.testing.assert_close(prediction, fusion.exit(fused))


def test_the_sum_takes_the_teachers_size_by_nearest_neighbours() -> None:
    given_ = features(((4, 4),), ((8, 2),))
    deepest, fusion = ReviewKD(mid_channels=3).connect(*given_).fusions
    (own,), passed = given_[0], torch.randn(3, 3, 1, 1)
    assert deepest.attention is None
    small, large = fusion(own, passed, (4, 4))[1], fusion(own, passed, (8, 2))[1]
    torch.testing.assert_close(large, small.repeat_interleave(2, 2)[:, :, :, ::2])


@pytest.mark.parametrize(("asked", "built"), [(4, 4), (512, 10)])
def test_blocks_pass_on_no_more_channels_than_the_embedding_has(asked: int, built: int) -> None:
    given_ = features(((4, 4),), ((4, 4),))
    module = ReviewKD(mid_channels=asked).connect(*given_)
    assert [fusion.entry[0].out_channels for fusion in module.fusions] == [built, built]


def test_refused_settings_and_features() -> None:
    with pytest.raises(ValueError, match="mid_channels is 0"):
        ReviewKD(mid_channels=0)
    with pytest.raises(ValueError, match=r"student_maps\[1\] has shape .* fuse the student's maps"):
        reviewkd([torch.zeros(1, 1, 2, 2)] * 2, [torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 4, 4)])
    student, teacher, embedding, _ = features(((4, 4),), ((4, 4),))
    with pytest.raises(ValueError, match="teacher_embedding has shape"):
        ReviewKD().connect(student, teacher, embedding, torch.zeros(3, 12, 1))
