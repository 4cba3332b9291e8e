"""Significance tests: paired over seeds, or over images where there is one seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import Tensor

Verdict = Literal["better", "worse", "not distinguishable"]
LEVEL = 0.05
EXACT_SEEDS = 14  # up to here all exchanges of sides are tried, 2^14; beyond, as many are drawn at random
NO_SPREAD = 1e-9  # points; smaller spreads are rounding errors


@dataclass(frozen=True)
class Difference:
    """The difference of one side from a reference, with its uncertainty.

    Attributes:
        mean: ours minus the reference's, in points of accuracy; None where nothing is paired.
        low: lower end of the 95 % confidence interval of the mean; None where there is none.
        high: upper end of it.
        p: two-sided, of the paired t-test (basis seeds) or of McNemar's exact test (basis images); None where
            there is no test. Where the same difference, not zero, shows at every seed, a t-test is not defined and
            this is p_permutation.
        effect: Cohen's d_z, the mean over the standard deviation of the differences; None for images and where
            the differences are all the same and not zero.
        seeds: how many seeds are paired.
        basis: what the test sums over.
        p_permutation: two-sided, of the exact permutation test over seeds; None for images and below two seeds.
        p_adjusted: p after correction for all comparisons of one pair; None before :func:`adjusted`.
        verdict: from p_adjusted where there is one, else from p, at level 0.05.
    """

    mean: float | None
    low: float | None
    high: float | None
    p: float | None
    effect: float | None
    seeds: int
    basis: Literal["seeds", "images"]
    p_permutation: float | None = None
    p_adjusted: float | None = None
    verdict: Verdict = "not distinguishable"


def paired_difference(ours: Mapping[int, float], reference: Mapping[int, float]) -> Difference:
    """Compare two methods over the seeds that both have.

    Args:
        ours: accuracy in percent by seed.
        reference: the same of the other method.
    """
    seeds = sorted(ours.keys() & reference.keys())
    left, right = (np.array([side[seed] for seed in seeds], dtype=np.float64) for side in (ours, reference))
    if len(seeds) < 2:
        mean = float(left[0] - right[0]) if seeds else None
        return Difference(mean, None, None, None, None, len(seeds), "seeds")
    p_permutation = _permutation(left, right)
    if np.ptp(left - right) < NO_SPREAD:
        return _without_spread(float(np.mean(left - right)), len(seeds), p_permutation)
    from scipy import stats

    test = stats.ttest_rel(left, right)
    low, high = (float(end) for end in test.confidence_interval(0.95))
    return _judged(
        Difference(
            mean=float(np.mean(left - right)),
            low=low,
            high=high,
            p=float(test.pvalue),
            effect=float(test.statistic / np.sqrt(len(seeds))),  # which is d_z
            seeds=len(seeds),
            basis="seeds",
            p_permutation=p_permutation,
        )
    )


def _without_spread(mean: float, seeds: int, p_permutation: float) -> Difference:
    """Where all differences are equal, a t-test is not defined."""
    if abs(mean) < NO_SPREAD:
        return Difference(0.0, 0.0, 0.0, 1.0, 0.0, seeds, "seeds", p_permutation)
    return _judged(Difference(mean, None, None, p_permutation, None, seeds, "seeds", p_permutation))


def _permutation(left: np.ndarray, right: np.ndarray) -> float:
    from scipy import stats

    result = stats.permutation_test(
        (left, right),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**EXACT_SEEDS,
        rng=0,
    )
    return float(result.pvalue)


def image_difference(ours: Tensor, reference: Tensor) -> Difference:
    """Compare two students over images with McNemar's exact test, which does not generalise to other seeds.

    Args:
        ours: whether each image was classified correctly, (N,), bool.
        reference: the same of the other student, (N,), bool.

    Raises:
        ValueError: the numbers of images differ or are 0.
    """
    if ours.shape != reference.shape or ours.dim() != 1 or len(ours) == 0:
        raise ValueError(f"ours is {tuple(ours.shape)}, reference {tuple(reference.shape)}; give one value an image")
    from scipy import stats

    gained, lost = int((ours & ~reference).sum()), int((reference & ~ours).sum())
    differ = gained + lost
    if differ == 0:
        return Difference(0.0, 0.0, 0.0, 1.0, None, 1, "images")
    test = stats.binomtest(gained, differ, 0.5)
    interval = test.proportion_ci(0.95, method="exact")
    points = 100 * differ / len(ours)  # the difference if all that differ were gained
    low, mean, high = (
        float((2 * fraction - 1) * points) for fraction in (interval.low, gained / differ, interval.high)
    )
    return _judged(Difference(mean, low, high, float(test.pvalue), None, 1, "images"))


def adjusted(differences: Sequence[Difference], level: float = LEVEL) -> list[Difference]:
    """Correct for multiple comparisons after Benjamini and Hochberg, and set the verdicts accordingly.

    Args:
        differences: all comparisons of one pair; those without a test do not count.
        level: false discovery rate, in (0, 1).
    """
    from scipy import stats

    tested = [difference.p for difference in differences if difference.p is not None]
    corrected = iter(stats.false_discovery_control(tested) if tested else [])
    return [
        difference if difference.p is None else _judged(replace(difference, p_adjusted=float(next(corrected))), level)
        for difference in differences
    ]


def _judged(difference: Difference, level: float = LEVEL) -> Difference:
    p = difference.p if difference.p_adjusted is None else difference.p_adjusted
    verdict: Verdict = "not distinguishable"
    if p is not None and p < level and difference.mean:
        verdict = "better" if difference.mean > 0 else "worse"
    return replace(difference, verdict=verdict)
