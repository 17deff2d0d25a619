"""Several classifiers on the same examples: which differences from the best are there, when the best was chosen by them.

The most accurate of K equal classifiers looks better than each of the others, and compared with one at a time it is often
called so. Here one bound holds for all pairs together: a percentile, over replicates of the groups, of the largest difference
between two of them from what it is, in standard errors. So among equal ones any is called worse in about 5 of 100 cases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from headstart.training.scoring.bootstrap import bounded_replicates
from headstart.training.scoring.intervals import (
    MIN_GROUPS,
    REPLICATES,
    Floats,
    checked_hits,
    numbered,
    resampled_groups,
    student,
)

EXACT_BELOW = 25  # groups that speak for one of two: below, the exact test has to agree
LEVEL = 0.05
PERCENTILE = 96.5  # and not 95: the bootstrap is a little too sure of itself, by simulation (tests/test_comparisons.py)


@dataclass(frozen=True)
class PairedDifference:
    """By how much one classifier is more accurate than another on the same examples, -1..1, and the 95 % interval."""

    difference: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves zero out; never where there is no interval."""
        return self.low > 0 or self.high < 0


def against_best(
    correct: Sequence[ArrayLike], groups: Sequence[str], seed: int = 0, replicates: int = REPLICATES
) -> list[PairedDifference]:
    """Each classifier's accuracy less that of the first, with intervals that hold for all pairs of them together.

    Args:
        correct: K arrays, bool [N]: whether each classified each example rightly; the first is the most accurate.
        groups: N names; examples of one name are drawn together.
        seed: of the draws; the same seed gives the same intervals.
        replicates: at most this many.

    Returns:
        K differences, the first of them 0. Below 5 groups there are no intervals: (nan, nan).

    Raises:
        UserError: arrays that are not bool [N], or lengths that disagree.

    Source: Hsu, "Multiple Comparisons: Theory and Methods", chapters 4 and 5; the critical value by the bootstrap as in
    Westfall and Young, "Resampling-Based Multiple Testing". McNemar's exact test, with Bonferroni's bound, where few tell.
    Classifiers that differ on few examples or none: Bonett and Price, https://doi.org/10.3102/1076998611411915
    """
    hits = np.stack([checked_hits(each) for each in correct])  # [K, N]
    members = numbered(groups, hits.shape[1])
    sizes = np.bincount(members).astype(np.float64)  # [G]
    rights: Floats = np.stack([np.bincount(members, row, len(sizes)) for row in hits]).astype(np.float64)  # [K, G]
    shares = hits.mean(1)  # [K]
    gaps = shares - shares[0]
    if len(sizes) < MIN_GROUPS:
        return [PairedDifference(float(gap), math.nan, math.nan) for gap in gaps]
    errors = _standard_errors(rights, sizes, shares)  # [K, K]
    bound = _critical_value(rights, sizes, shares, errors, seed, replicates)
    halves = bound * np.maximum(errors[:, 0], _least_errors(hits, sizes, errors[:, 0]))
    halves[0] = 0.0
    found = []
    for each, (gap, half) in enumerate(zip(gaps, halves)):
        low, high = max(-1.0, gap - half), min(1.0, gap + half)
        gains = rights[each] - rights[0]  # [G]
        if np.count_nonzero(gains) < EXACT_BELOW and mcnemar(gains) * (len(hits) - 1) > LEVEL:
            low, high = min(low, 0.0), max(high, 0.0)
        found.append(PairedDifference(float(gap), float(low), float(high)))
    return found


def gains_of(first: ArrayLike, second: ArrayLike, groups: Sequence[str]) -> Floats:
    """For each group, how many more of its examples the second classified rightly, [G]; bool [N] each, and N names."""
    members = numbered(groups, len(np.asarray(first)))
    more: Floats = np.asarray(second, np.float64) - np.asarray(first, np.float64)  # [N]
    return np.bincount(members, more).astype(np.float64)


def mcnemar(gains: ArrayLike) -> float:
    """The exact test that two classifiers are equally accurate, two-sided: how likely sums as far from 0 are, 0..1.

    Were they equal, each group's gain could as well be the other's. With each example a group of its own it is McNemar's.

    Args:
        gains: of each group, how many more of its examples the second classified rightly, whole numbers [G].

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions", doi:10.1007/BF02295996
    """
    from scipy.stats import binom

    whole = np.asarray(gains).astype(np.int64)
    chances = np.ones(1)  # of what the second gains altogether, 0..total
    for size, count in zip(*np.unique(np.abs(whole[whole != 0]), return_counts=True)):
        own = np.zeros(size * count + 1)
        own[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, own)
    total = len(chances) - 1
    apart = np.abs(2 * np.arange(total + 1) - total) >= abs(int(whole.sum()))
    return min(1.0, float(chances[apart].sum()))


def _standard_errors(rights: Floats, sizes: Floats, shares: Floats) -> Floats:
    """Of the difference between each two accuracies, [K, K], from how it differs between groups."""
    residuals = (rights - shares[:, None] * sizes) / sizes.sum()  # [K, G]
    products = residuals @ residuals.T
    squares = np.diag(products)
    return np.sqrt(np.maximum(0.0, squares[:, None] + squares - 2 * products) * len(sizes) / (len(sizes) - 1))


def _least_errors(hits: Floats, sizes: Floats, errors: Floats) -> Floats:
    """The standard error of each difference from the first, [K], were there one example more on which each alone is right.

    Two that differ nowhere are not known to be equal. Groups count as many examples as they are worth, by the `errors` [K].
    """
    count, fewest = hits.shape[1], hits.shape[1] ** 2 / np.square(sizes).sum()
    better, worse = ((hits > hits[0]).mean(1), (hits < hits[0]).mean(1))  # [K] each
    alone = better + worse - np.square(better - worse)  # the variance of one example's difference
    trials = np.divide(alone, np.square(errors), out=np.full(len(hits), fewest), where=errors > 1e-12).clip(fewest, count)
    more, less = ((share * trials + 1) / (trials + 2) for share in (better, worse))
    return np.asarray(np.sqrt((more + less - np.square(more - less)) / (trials + 2)))


def _critical_value(rights: Floats, sizes: Floats, shares: Floats, errors: Floats, seed: int, replicates: int) -> float:
    """How many standard errors no pair's difference strays from what it is, in most replicates."""
    largest = []
    inverse = np.divide(1.0, errors, out=np.zeros_like(errors), where=errors > 1e-12)
    gaps = shares[:, None] - shares
    count = bounded_replicates(len(sizes), len(shares), replicates)
    for weights in resampled_groups(len(sizes), seed, count):  # [G, R]
        drawn = (rights @ weights) / (sizes @ weights)  # [K, R]
        most = np.zeros(drawn.shape[1])
        for each, row in enumerate(drawn):
            strays = np.abs(row - drawn - gaps[each][:, None]) * inverse[each][:, None]
            most = np.maximum(most, strays.max(0))
        largest.append(most)
    usual = student(len(sizes) - 1)
    return max(usual, float(np.percentile(np.concatenate(largest), PERCENTILE)) * usual / NormalDist().inv_cdf(0.975))
