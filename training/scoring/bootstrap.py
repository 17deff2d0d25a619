"""How far to trust a score: measures of N examples, and N names of groups, in; 95 % intervals by the bootstrap out.

A measure takes weights [N, R] to values [R]. One column of ones gives a score itself, and a thousand columns of resampled
counts give its bootstrap, so that both come from the same lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from headstart.training.scoring.intervals import MIN_GROUPS, REPLICATES, Floats, Ints, numbered, resampled_groups, student

Measure = Callable[[Floats], Floats]  # weights [N, R] -> values [R]

BOOTSTRAP_WORK = 200_000_000  # N * C * replicates: a few seconds
MIN_REPLICATES = 100  # below this their spread is not known to a tenth
NOTHING = (math.nan, math.nan)  # can be said
ROUNDING = 1e-12
FARTHEST = 700.0  # that the exponential function takes


def bounded_replicates(examples: int, classes: int, replicates: int = REPLICATES) -> int:
    """How many bootstrap replicates to draw: as asked, but N * C * replicates at most 2e8, and no fewer than 100.

    The floor stays where the bound would go below it: then the work is 100 N C, and grows with the data.
    """
    return min(replicates, max(MIN_REPLICATES, BOOTSTRAP_WORK // max(1, examples * classes)))


class Scale(NamedTuple):
    """Where the errors of a score are about as large upward as downward: a function of it, its slope, and its inverse.

    bias says how many times as far as the replicates lie from the score it is reckoned to lie from the truth.
    """

    there: Callable[[float], float]
    slope: Callable[[float], float]
    back: Callable[[float], float]
    bias: float = 1.0


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-max(-FARTHEST, min(FARTHEST, value))))


SHARE = Scale(lambda share: math.log(share / (1 - share)), lambda share: 1 / (share * (1 - share)), _logistic)  # of 0..1
# Of an average precision: with the bias once, intervals hold the truth in four of five simulated cases, and not in nearly all.
RANKING = SHARE._replace(bias=2.0)
LOSS = Scale(math.log, lambda loss: 1 / loss, lambda value: math.exp(min(FARTHEST, value)))  # of 0 and more
DIFFERENCE = Scale(float, lambda _: 1.0, float)  # of anything


def bootstrap_rows(
    measure: Measure,
    groups: Sequence[str],
    seed: int = 0,
    replicates: int = REPLICATES,
    scales: Sequence[Scale] | None = None,
    telling: Sequence[int] | None = None,
) -> list[tuple[float, float]]:
    """95 % intervals of K values, from groups drawn whole, with replacement.

    The replicates say how large the error is, and Student's quantile how far to go, both ways alike on the value's scale: so
    the interval reaches farther to where there is more room. As they lie above or below the value, it is likely to lie so
    itself, as an average precision of few images lies above: the interval begins on the other side of so many times that as
    the scale says. That the truth lies within is tested by simulation (tests/test_coverage.py); percentiles do not stand it.

    Args:
        measure: from weights [N, R] to [K, R].
        groups: N names; examples of one name are drawn together. '' is a name like any other.
        seed: of the draws; the same seed gives the same intervals.
        replicates: how many to draw, see `bounded_replicates`.
        scales: of each value; all are shares where none are given.
        telling: for each value, how many groups tell something of it: of a loss those with a mistake. As many less one are
            the degrees of freedom. All where it is not given.

    Returns:
        (low, high) of each. A replicate where the measure is undefined is left out; (nan, nan) where none is left, where it is
        the same in all of them, which says nothing of the next example, at the end of its scale, and where fewer than 5 groups
        tell; [] below 5 groups.

    Source: Davison and Hinkley, "Bootstrap Methods and their Application", sections 3.8 and 5.2, https://doi.org/10.1017/CBO9780511802843
    """
    members = numbered(groups, len(groups))
    count = int(members.max(initial=0)) + 1
    if count < MIN_GROUPS:
        return []
    values = measure(np.ones((len(members), 1)))[:, 0]
    drawn = np.concatenate([measure(weights) for weights in _resampled(members, seed, replicates)], axis=1)
    more = math.sqrt(count / (count - 1))
    return [
        _interval(float(value), row[~np.isnan(row)], more, scale, tells)
        for value, row, scale, tells in zip(values, drawn, scales or [SHARE] * len(values), telling or [count] * len(values))
    ]


def bootstrap_intervals(
    measures: Mapping[str, Measure],
    groups: Sequence[str],
    seed: int = 0,
    replicates: int = REPLICATES,
    scales: Mapping[str, Scale] | None = None,
    telling: int | None = None,
) -> dict[str, tuple[float, float]]:
    """The same of measures by their names; those that have no scale are shares."""
    if not measures:
        return {}
    found = bootstrap_rows(
        lambda weights: np.stack([measure(weights) for measure in measures.values()]),
        groups,
        seed,
        replicates,
        [(scales or {}).get(name, SHARE) for name in measures],
        None if telling is None else [telling] * len(measures),
    )
    return dict(zip(measures, found or [NOTHING] * len(measures)))


def groups_with(flags: ArrayLike, groups: Sequence[str]) -> int:
    """How many groups hold an example that is flagged, of bool [N] and N names."""
    return len(np.unique(numbered(groups, len(groups))[np.asarray(flags, bool)]))


def telling_groups(flags: ArrayLike, groups: Sequence[str]) -> int:
    """How many groups hold an example of the kind that fewer of them hold.

    Args:
        flags: bool [N], of which of two kinds each example is.
        groups: N names.
    """
    kinds = np.asarray(flags, bool)
    return min(groups_with(kinds, groups), groups_with(~kinds, groups))


def _interval(value: float, drawn: Floats, more: float, scale: Scale, telling: int) -> tuple[float, float]:
    """Of a value and its replicates, whose standard deviation is so much too small; telling is as in `bootstrap_rows`."""
    at_its_end = value <= 0 or (scale.there is SHARE.there and value >= 1)
    if math.isnan(value) or (scale is not DIFFERENCE and at_its_end) or telling < MIN_GROUPS or not len(drawn):
        return NOTHING
    if (error := more * float(drawn.std())) < ROUNDING:
        return NOTHING
    middle, slope = scale.there(value), scale.slope(value)
    half, bias = student(telling - 1) * error * slope, scale.bias * slope * (float(drawn.mean()) - value)
    return scale.back(middle - half - max(0.0, bias)), scale.back(middle + half - min(0.0, bias))


def _resampled(members: Ints, seed: int, replicates: int) -> Iterator[Floats]:
    """Yields weights float64 [N, up to BLOCK / N]: how often each example's group was drawn."""
    for counts in resampled_groups(int(members.max()) + 1, seed, replicates, len(members)):
        yield counts[members]
