"""How far to trust a share of right answers, a score, or the difference between two classifiers.

In: whether each of N examples was classified rightly, bool [N], or measures of those examples; and N names of groups,
whose examples are seen together. Out: 95 % intervals, (low, high), of (nan, nan) where nothing can be said.

A measure takes weights [N, R] to values [R]. One column of ones gives a score itself, and a thousand columns of resampled
counts give its bootstrap, so that both come from the same lines. numpy and the standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headstart.features.errors import UserError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Measure = Callable[[Floats], Floats]  # weights [N, R] -> values [R]

REPLICATES = 1000
BOOTSTRAP_WORK = 200_000_000  # N * C * replicates: a few seconds
MIN_REPLICATES = 100  # below this a 2.5 % percentile means nothing
BLOCK = 4_000_000  # N * replicates held at once: 32 MB an array


# Of a proportion.


def wilson_interval(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion, for `n` independent trials; (0, 1) when there were none.

    Raises:
        UserError: successes are not within 0..n, or the confidence not within 0..1.

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", https://doi.org/10.1080/01621459.1927.10502953
    """
    if not 0 <= successes <= n or not 0 < confidence < 1:
        raise UserError(
            "bad-value", f"expected 0 <= successes <= n and 0 < confidence < 1, got {successes}, {n} and {confidence}"
        )
    if n == 0:
        return 0.0, 1.0
    z, share = NormalDist().inv_cdf((1 + confidence) / 2), successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (0.0 if successes == 0 else middle - half), (1.0 if successes == n else middle + half)


def accuracy_interval(correct: ArrayLike, groups: Sequence[str]) -> tuple[float, float]:
    """The 95 % interval of an accuracy: Wilson's, with as many trials as the groups are worth.

    Wilson's trials are independent, and the examples of a group are not. So n becomes the effective sample size
    p (1 - p) / (variance of the accuracy between groups), held between the number of groups (Kish's, for unequal ones)
    and N. Where every example is its own group this is Wilson's interval itself. Where nothing is wrong, or nothing
    right, the data cannot tell how alike a group's examples are, and a group is worth one trial.

    Args:
        correct: bool [N], whether each example was classified rightly, N at least 1.
        groups: N names; '' is a name like any other.

    Raises:
        UserError: an array that is not bool [N], or another number of groups.

    Source: Franco et al., "Comparative Study of Confidence Intervals for Proportions in Complex Sample Surveys",
    https://pmc.ncbi.nlm.nih.gov/articles/PMC6690503
    """
    hits = _hits(correct)  # [N]
    members = _numbered(groups, len(hits))
    share, sizes = float(hits.mean()), np.bincount(members)  # sizes: [G]
    fewest = len(hits) ** 2 / float(np.square(sizes).sum())
    between = float(np.square(np.bincount(members, hits) - share * sizes).sum()) / len(hits) ** 2
    known = between > 0 and len(sizes) > 1
    trials = share * (1 - share) / (between * len(sizes) / (len(sizes) - 1)) if known else fewest
    trials = min(max(trials, fewest), len(hits)) if len(sizes) < len(hits) else len(hits)
    return wilson_interval(share * trials, trials)


# Of anything, by the bootstrap over groups.


def bounded_replicates(examples: int, classes: int, replicates: int = REPLICATES) -> int:
    """How many bootstrap replicates to draw: as asked, but N * C * replicates at most 2e8, and no fewer than 100.

    The floor stays where the bound would go below it: then the work is 100 N C, and grows with the data.
    """
    return min(replicates, max(MIN_REPLICATES, BOOTSTRAP_WORK // max(1, examples * classes)))


def bootstrap_intervals(
    measures: Mapping[str, Measure], groups: Sequence[str], seed: int = 0, replicates: int = REPLICATES
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of measures, from groups drawn whole, with replacement.

    Args:
        measures: by name, each of the same N examples.
        groups: N names; examples of one name are drawn together. '' is a name like any other.
        seed: of the draws; the same seed gives the same intervals.
        replicates: how many to draw, see `bounded_replicates`.

    Returns:
        (low, high) by the measure's name. A replicate where the measure is undefined is left out; (nan, nan) where none
        is left, and where there is a single group, from which nothing can be learned about the next. Where a measure is
        perfect in every replicate the interval has no width.

    Source: Davison and Hinkley, "Bootstrap Methods and their Application", section 3.8, https://doi.org/10.1017/CBO9780511802843
    """
    members = _numbered(groups, len(groups))
    if members.max(initial=0) == 0:
        return dict.fromkeys(measures, (math.nan, math.nan))
    drawn: dict[str, list[Floats]] = {name: [] for name in measures}
    for weights in _resampled(members, seed, replicates):
        for name, measure in measures.items():
            drawn[name].append(measure(weights))
    return {name: _percentiles(np.concatenate(values)) for name, values in drawn.items()}


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


def paired_difference(
    correct: ArrayLike, other: ArrayLike, groups: Sequence[str], seed: int = 0, replicates: int = REPLICATES
) -> PairedDifference:
    """The accuracy of one classifier less that of another, both on the same N examples.

    The two answers to an example are drawn together, so that what is hard for both does not blur the difference, as it
    does when two accuracies' own intervals are compared. The interval is the bootstrap's over groups, of percentiles: with
    few groups, or few examples on which the two disagree, it is too narrow.

    Args:
        correct, other: bool [N], whether each classified each example rightly, N at least 1.
        groups: N names; examples of one name are drawn together. '' is a name like any other.
        seed: of the draws; the same seed gives the same interval.
        replicates: at most this many; `bounded_replicates(N, 1, replicates)` says how many are drawn.

    Returns:
        The difference, and its interval, which is (nan, nan) where there is a single group.

    Raises:
        UserError: arrays that are not bool [N], or lengths that disagree.

    Source: Davison and Hinkley, "Bootstrap Methods and their Application", section 3.8, https://doi.org/10.1017/CBO9780511802843
    """
    first, second = _hits(correct), _hits(other)
    if not len(first) == len(second) == len(groups):
        raise UserError(
            "bad-value",
            f"expected two classifiers' answers and the groups of the same examples, got {len(first)} and {len(second)}"
            f" answers and {len(groups)} groups",
        )
    gaps = first - second  # [N] of -1, 0, 1: their sums are exact, in whatever order
    measures: dict[str, Measure] = {"difference": lambda weights: gaps @ weights / weights.sum(0)}
    intervals = bootstrap_intervals(measures, groups, seed, bounded_replicates(len(gaps), 1, replicates))
    return PairedDifference(float(gaps.mean()), *intervals["difference"])


# What they stand on.


def _resampled(members: Ints, seed: int, replicates: int) -> Iterator[Floats]:
    """Yields weights float64 [N, up to BLOCK / N]: how often each example's group was drawn."""
    generator, groups = np.random.default_rng(seed), int(members.max()) + 1
    width = max(1, BLOCK // len(members))
    for start in range(0, replicates, width):
        columns = min(width, replicates - start)
        drawn = generator.integers(groups, size=(columns, groups)) + groups * np.arange(columns)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=columns * groups).reshape(columns, groups)
        yield np.ascontiguousarray(counts.T, dtype=np.float64)[members]


def _percentiles(values: Floats) -> tuple[float, float]:
    defined = values[~np.isnan(values)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)


def _hits(correct: ArrayLike) -> Floats:
    """1 for right, 0 for wrong, [N]."""
    hits = np.asarray(correct)
    if hits.ndim != 1 or not len(hits) or hits.dtype != np.bool_:
        raise UserError(
            "bad-value", f"expected whether each example was classified rightly, bool [N], got {hits.dtype} {hits.shape}"
        )
    return hits.astype(np.float64)


def _numbered(groups: Sequence[str], examples: int) -> Ints:
    """The groups' numbers, 0..G-1, in the order of their first examples."""
    if len(groups) != examples:
        raise UserError("bad-value", f"expected {examples} groups, one for each, got {len(groups)}")
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], np.int64)
