from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from stillroom.report.statistics import Difference, adjusted, image_difference, paired_difference

OURS = {0: 71.2, 1: 70.4, 2: 71.9, 3: 70.8, 4: 71.5}
REFERENCE = {0: 70.1, 1: 70.6, 2: 70.3, 3: 70.2, 4: 70.9}
accuracies = st.dictionaries(st.integers(0, 6), st.integers(0, 1000).map(lambda n: n / 10), max_size=5)


def sign_flips(differences):
    """Two-sided p of the exact paired permutation test, by trying every way to swap the two sides."""
    seen = abs(sum(differences))
    flipped = [
        abs(sum(sign * d for sign, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    return sum(total >= seen - 1e-9 for total in flipped) / len(flipped)


def students_t(differences):
    """Mean, half width of the 95 % interval, two-sided p and d_z from sums and the incomplete beta function."""
    count = len(differences)
    mean = sum(differences) / count
    deviation = math.sqrt(sum((d - mean) ** 2 for d in differences) / (count - 1))
    free, t = count - 1, mean / (deviation / math.sqrt(count))
    p = float(special.betainc(free / 2, 0.5, free / (free + t * t)))
    quantile = math.sqrt(free * (1 / float(special.betaincinv(free / 2, 0.5, 0.05)) - 1))
    return mean, quantile * deviation / math.sqrt(count), p, mean / deviation


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_paired_test_agrees_with_one_written_out(seeds):
    ours, reference = ({seed: side[seed] for seed in range(seeds)} for side in (OURS, REFERENCE))
    got = paired_difference(ours, reference)
    differences = [ours[seed] - reference[seed] for seed in range(seeds)]
    mean, half, p, effect = students_t(differences)
    assert [got.mean, got.low, got.high, got.p, got.effect] == pytest.approx(
        [mean, mean - half, mean + half, p, effect]
    )
    assert got.p_permutation == pytest.approx(sign_flips(differences))
    assert (got.seeds, got.basis) == (seeds, "seeds")


@given(accuracies, accuracies)
@settings(max_examples=40, deadline=None)
def test_swapping_the_sides_turns_every_sign_and_nothing_else(ours, reference):
    there, back = paired_difference(ours, reference), paired_difference(reference, ours)
    turned = {"better": "worse", "worse": "better"}
    assert back.verdict == turned.get(there.verdict, there.verdict)
    for name in ("p", "p_permutation"):
        assert getattr(back, name) == pytest.approx(getattr(there, name))
    for one, other in (
        (there.mean, back.mean),
        (there.low, back.high),
        (there.high, back.low),
        (there.effect, back.effect),
    ):
        assert (one is None and other is None) or other == pytest.approx(-one)
    numbers = [there.mean, there.low, there.high, there.p, there.effect, there.p_permutation]
    assert all(number is None or math.isfinite(number) for number in numbers)
    common = sorted(ours.keys() & reference.keys())
    if len(common) > 1:
        assert there.p_permutation == pytest.approx(sign_flips([ours[seed] - reference[seed] for seed in common]))


def test_only_seeds_that_both_have_are_paired():
    got = paired_difference({0: 50.0, 1: 60.0, 7: 0.0}, {1: 58.0, 0: 49.0, 9: 99.0})
    assert (got.seeds, got.mean) == (2, 1.5)


def test_without_a_common_seed_nothing_is_claimed():
    got = paired_difference({0: 50.0}, {1: 10.0})
    assert got == Difference(None, None, None, None, None, 0, "seeds")
    assert got.verdict == "not distinguishable"


def test_one_seed_gives_a_difference_and_no_test():
    got = paired_difference({3: 50.0}, {3: 10.0})
    assert (got.mean, got.p, got.low, got.verdict) == (40.0, None, None, "not distinguishable")


def test_identical_accuracies_are_no_difference():
    got = paired_difference(OURS, dict(OURS))
    assert (got.mean, got.low, got.high, got.p, got.effect) == (0.0, 0.0, 0.0, 1.0, 0.0)
    assert got.verdict == "not distinguishable"


def test_the_same_gain_at_every_seed_is_not_taken_for_certainty():
    # 0.1 + 0.2 style rounding leaves differences that vary in the last digits only.
    got = paired_difference({0: 70.1, 1: 60.1, 2: 50.1}, {0: 70.0, 1: 60.0, 2: 50.0})
    assert got.mean == pytest.approx(0.1)
    assert (got.p, got.low, got.high, got.effect) == (0.25, None, None, None)
    assert got.verdict == "not distinguishable"


def test_many_seeds_are_drawn_the_same_way_every_time():
    rng = np.random.default_rng(0)
    ours, reference = (dict(enumerate(rng.normal(70, 1, 18))) for _ in range(2))
    first, second = (paired_difference(ours, reference) for _ in range(2))
    assert first == second
    assert first.p_permutation == pytest.approx(first.p, abs=0.05)


def mcnemar(gained, lost):
    """Two-sided exact p from binomial coefficients."""
    count = gained + lost
    tail = sum(math.comb(count, k) for k in range(min(gained, lost) + 1)) / 2**count
    return min(1.0, 2 * tail)


@pytest.mark.parametrize(("gained", "lost"), [(9, 2), (30, 10), (4, 4), (0, 6), (1, 0)])
def test_the_test_over_images_agrees_with_one_written_out(gained, lost):
    ours = torch.tensor([True] * gained + [False] * lost + [True, False] * 20)
    reference = torch.tensor([False] * gained + [True] * lost + [True, False] * 20)
    got = image_difference(ours, reference)
    assert got.mean == pytest.approx(100 * (gained - lost) / len(ours))
    assert got.p == pytest.approx(mcnemar(gained, lost))
    assert got.low <= got.mean <= got.high
    assert (got.p < 0.05) == (got.low > 0 or got.high < 0)
    assert (got.basis, got.seeds, got.effect, got.p_permutation) == ("images", 1, None, None)
    back = image_difference(reference, ours)
    assert (back.mean, back.low, back.high) == pytest.approx((-got.mean, -got.high, -got.low))


def test_students_that_classify_the_same_images_correctly_do_not_differ():
    right = torch.tensor([True, False, True])
    got = image_difference(right, right)
    assert (got.mean, got.low, got.high, got.p, got.verdict) == (0.0, 0.0, 0.0, 1.0, "not distinguishable")


@pytest.mark.parametrize(("ours", "reference"), [(3, 4), (0, 0)])
def test_images_that_cannot_be_paired_are_refused(ours, reference):
    with pytest.raises(ValueError, match="one value an image"):
        image_difference(torch.ones(ours).bool(), torch.ones(reference).bool())


def difference(p, mean=1.0):
    return Difference(mean, None, None, p, None, 3, "seeds")


def benjamini_hochberg(ps):
    """The step-up procedure by its definition: the smallest level at which each hypothesis falls."""
    out = []
    for p in ps:
        levels = [min(1.0, q * len(ps) / sum(other <= q for other in ps)) for q in ps if q >= p]
        out.append(min(levels))
    return out


@given(st.lists(st.integers(1, 1000).map(lambda n: n / 1000), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_the_correction_is_benjaminis_and_hochbergs(ps):
    got = adjusted([difference(p) for p in ps])
    assert [one.p_adjusted for one in got] == pytest.approx(benjamini_hochberg(ps))
    assert [one.verdict == "better" for one in got] == [p < 0.05 for p in (one.p_adjusted for one in got)]


def test_a_verdict_that_chance_explains_among_many_comparisons_is_taken_back():
    alone = adjusted([difference(0.04, -1.0)])
    among = adjusted([difference(0.04, -1.0), difference(0.9), difference(0.8)])
    assert alone[0].verdict == "worse"
    assert among[0].verdict == "not distinguishable"
    assert among[0].p == 0.04


def test_what_was_not_tested_neither_counts_nor_gets_a_verdict():
    got = adjusted([difference(0.04), difference(None), difference(None)])
    assert [one.p_adjusted for one in got] == [0.04, None, None]
    assert [one.verdict for one in got] == ["better", "not distinguishable", "not distinguishable"]
    assert adjusted([]) == []


def test_a_stricter_level_can_be_asked_for():
    assert adjusted([difference(0.04)], level=0.01)[0].verdict == "not distinguishable"
