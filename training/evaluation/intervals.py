"""How far to trust a share of right answers, or a score.

In: whether each of N examples was classified rightly, bool [N], or measures of those examples; and N names of groups,
whose examples are seen together. Out: 95 % intervals, (low, high), of (nan, nan) where nothing can be said.

A measure takes weights [N, R] to values [R]. One column of ones gives a score itself, and a thousand columns of resampled
counts give its bootstrap, so that both come from the same lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
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
MIN_GROUPS = 5  # from which on something can be said of the next one
BLOCK = 4_000_000  # N * replicates held at once: 32 MB an array


# Of a proportion.


def wilson_interval(
    successes: float, n: float, confidence: float = 0.95, quantile: float | None = None
) -> tuple[float, float]:
    """Wilson's score interval of a proportion, for `n` independent trials; (0, 1) when there were none.

    Args:
        successes, n: counts, whole or effective.
        confidence: 0..1.
        quantile: in place of the normal distribution's at that confidence.

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
    z, share = quantile or NormalDist().inv_cdf((1 + confidence) / 2), successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (0.0 if successes == 0 else middle - half), (1.0 if successes == n else middle + half)


def accuracy_interval(correct: ArrayLike, groups: Sequence[str]) -> tuple[float, float]:
    """The 95 % interval of an accuracy: Wilson's, with as many trials as the groups are worth.

    Wilson's trials are independent, and the examples of a group are not. So n becomes the effective sample size
    p (1 - p) / (variance of the accuracy between groups), held between the number of groups (Kish's, for unequal ones)
    and N, and the quantile is Student's, for the variance is known from as many groups as there are. Where every example is
    its own group this is Wilson's interval itself. Where nothing is wrong, or nothing
    right, the data cannot tell how alike a group's examples are, and a group is worth one trial.

    Args:
        correct: bool [N], whether each example was classified rightly, N at least 1.
        groups: N names; '' is a name like any other.

    Raises:
        UserError: an array that is not bool [N], or another number of groups.

    Source: Franco et al., "Comparative Study of Confidence Intervals for Proportions in Complex Sample Surveys",
    https://pmc.ncbi.nlm.nih.gov/articles/PMC6690503
    """
    hits = checked_hits(correct)  # [N]
    members = numbered(groups, len(hits))
    share, sizes = float(hits.mean()), np.bincount(members)  # sizes: [G]
    fewest = len(hits) ** 2 / float(np.square(sizes).sum())
    between = float(np.square(np.bincount(members, hits) - share * sizes).sum()) / len(hits) ** 2
    if len(sizes) == len(hits):
        return wilson_interval(float(hits.sum()), len(hits))
    known = between > 0 and len(sizes) > 1
    trials = share * (1 - share) / (between * len(sizes) / (len(sizes) - 1)) if known else fewest
    return wilson_interval(share * (trials := min(max(trials, fewest), len(hits))), trials, quantile=student(len(sizes) - 1))


def balanced_accuracy_interval(labels: Ints, correct: ArrayLike, groups: Sequence[str]) -> tuple[float, float]:
    """The 95 % interval of the mean recall of the classes, from each class's own.

    A bootstrap can't leave a class all of whose examples are right: with few it would be too sure.

    Args:
        labels: int64 [N], the classes.
        correct: bool [N], whether each example was classified rightly.
        groups: N names.

    Source: Zou and Donner, "Construction of confidence limits about effect measures" (MOVER), https://doi.org/10.1002/sim.3095
    """
    hits, names = checked_hits(correct), np.asarray(groups, object)
    numbered(groups, len(hits))
    recalls, lows, highs = [], [], []
    for own in (labels == number for number in np.unique(labels)):
        low, high = accuracy_interval(hits[own] > 0, list(names[own]))
        recalls.append(float(hits[own].mean()))
        lows.append(low)
        highs.append(high)
    shares, mean = np.array(recalls), float(np.mean(recalls))
    below, above = (float(np.sqrt(np.square(shares - ends).sum())) / len(shares) for ends in (np.array(lows), np.array(highs)))
    return max(0.0, mean - below), min(1.0, mean + above)


# Of anything, by the bootstrap over groups.


def bounded_replicates(examples: int, classes: int, replicates: int = REPLICATES) -> int:
    """How many bootstrap replicates to draw: as asked, but N * C * replicates at most 2e8, and no fewer than 100.

    The floor stays where the bound would go below it: then the work is 100 N C, and grows with the data.
    """
    return min(replicates, max(MIN_REPLICATES, BOOTSTRAP_WORK // max(1, examples * classes)))


def bootstrap_intervals(
    measures: Mapping[str, Measure], groups: Sequence[str], seed: int = 0, replicates: int = REPLICATES
) -> dict[str, tuple[float, float]]:
    """95 % intervals of measures, from groups drawn whole, with replacement: percentiles, farther out where groups are few.

    Args:
        measures: by name, each of the same N examples.
        groups: N names; examples of one name are drawn together. '' is a name like any other.
        seed: of the draws; the same seed gives the same intervals.
        replicates: how many to draw, see `bounded_replicates`.

    Returns:
        (low, high) by the measure's name. A replicate where the measure is undefined is left out; (nan, nan) where none
        is left, where it is the same in all of them, which says nothing of the next example, and below 5 groups.

    Source: Davison and Hinkley, "Bootstrap Methods and their Application", section 3.8, https://doi.org/10.1017/CBO9780511802843;
    the percentiles: Hesterberg, "What Teachers Should Know About the Bootstrap", section 5.2, https://arxiv.org/abs/1411.5279
    """
    if not measures:
        return {}
    together = bootstrap_rows(
        lambda weights: np.stack([measure(weights) for measure in measures.values()]), groups, seed, replicates
    )
    return dict(zip(measures, together or [(math.nan, math.nan)] * len(measures)))


def bootstrap_rows(
    measure: Measure, groups: Sequence[str], seed: int = 0, replicates: int = REPLICATES
) -> list[tuple[float, float]]:
    """The same of one measure that gives K values at once, from weights [N, R] to [K, R]: K intervals; [] below 5 groups."""
    members = numbered(groups, len(groups))
    count = int(members.max(initial=0)) + 1
    if count < MIN_GROUPS:
        return []
    drawn = np.concatenate([measure(weights) for weights in _resampled(members, seed, replicates)], axis=1)
    return [_percentiles(values, count) for values in drawn]


# What they stand on.


def _resampled(members: Ints, seed: int, replicates: int) -> Iterator[Floats]:
    """Yields weights float64 [N, up to BLOCK / N]: how often each example's group was drawn."""
    for counts in resampled_groups(int(members.max()) + 1, seed, replicates, len(members)):
        yield counts[members]


def resampled_groups(groups: int, seed: int, replicates: int, rows: int = 0) -> Iterator[Floats]:
    """Yields float64 [G, up to BLOCK / rows]: how often each group was drawn; rows is G where it is not given."""
    generator, width = np.random.default_rng(seed), max(1, BLOCK // (rows or groups))
    for start in range(0, replicates, width):
        columns = min(width, replicates - start)
        drawn = generator.integers(groups, size=(columns, groups)) + groups * np.arange(columns)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=columns * groups).reshape(columns, groups)
        yield np.ascontiguousarray(counts.T, dtype=np.float64)


def _percentiles(values: Floats, groups: int) -> tuple[float, float]:
    defined = values[~np.isnan(values)]
    if not len(defined) or defined.min() == defined.max():
        return math.nan, math.nan
    tail = 100 * NormalDist().cdf(-math.sqrt(groups / (groups - 1)) * student(groups - 1))
    low, high = np.percentile(defined, [tail, 100 - tail])
    return float(low), float(high)


def student(degrees: int) -> float:
    """The 97.5th percentile of Student's t; of one degree where there is none."""
    from scipy.stats import t

    return float(t.ppf(0.975, max(1, degrees)))


def checked_hits(correct: ArrayLike) -> Floats:
    """1 for right, 0 for wrong, [N]."""
    hits = np.asarray(correct)
    if hits.ndim != 1 or not len(hits) or hits.dtype != np.bool_:
        raise UserError(
            "bad-value", f"expected whether each example was classified rightly, bool [N], got {hits.dtype} {hits.shape}"
        )
    return hits.astype(np.float64)


def numbered(groups: Sequence[str], examples: int) -> Ints:
    """The groups' numbers, 0..G-1, in the order of their first examples."""
    if len(groups) != examples:
        raise UserError("bad-value", f"expected {examples} groups, one for each, got {len(groups)}")
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], np.int64)
