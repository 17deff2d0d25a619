"""How far to trust a share of right answers.

In: whether each of N examples was classified rightly, bool [N]; and N names of groups, whose examples are seen together. Out:
95 % intervals, (low, high). Of any other score: `bootstrap.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headstart.features.errors import UserError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

REPLICATES = 1000
MIN_GROUPS = 5  # from which on something can be said of the next one
NORMAL = NormalDist().inv_cdf(0.975)
BLOCK = 4_000_000  # N * replicates held at once: 32 MB an array


def share_interval(successes: float, n: float, quantile: float = NORMAL) -> tuple[float, float]:
    """The 95 % interval of a proportion, Clopper's and Pearson's: it holds the truth in 95 of 100 cases at least.

    Shorter ones, such as Wilson's, hold it in so many on average over all proportions, and for some proportions in 89 of 100.

    Args:
        successes: 0..n, a count, or a share of effective trials.
        n: independent trials, or as many as the examples are worth; (0, 1) of none.
        quantile: how many errors to go each way, where the number of trials is itself estimated: Student's. The trials count
            less by the square of how much larger that is than the normal distribution's.

    Raises:
        UserError: successes are not within 0..n.

    Source: Clopper and Pearson, https://doi.org/10.1093/biomet/26.4.404; for effective trials Korn and Graubard, "Confidence
    Intervals for Proportions with Small Expected Number of Positive Counts Estimated from Survey Data", Survey Methodology 24
    """
    from scipy.stats import beta

    if not 0 <= successes <= n:
        raise UserError("bad-value", f"expected 0 <= successes <= n, got {successes} and {n}")
    if n == 0:
        return 0.0, 1.0
    worth = (NORMAL / quantile) ** 2
    right, wrong = successes * worth, (n - successes) * worth
    low = float(beta.ppf(0.025, right, wrong + 1)) if right else 0.0
    return low, float(beta.ppf(0.975, right + 1, wrong)) if wrong else 1.0


def accuracy_interval(correct: ArrayLike, groups: Sequence[str]) -> tuple[float, float]:
    """The 95 % interval of an accuracy: that of a share, with as many trials as the groups are worth.

    A share's trials are independent, and the examples of a group are not. So n becomes the effective sample size
    p (1 - p) / (variance of the accuracy between groups), held between the number of groups (Kish's, for unequal ones)
    and N, and the quantile is Student's, for the variance is known from as many groups as there are. Where every example is
    its own group n is N. Where nothing is wrong, or nothing right, the data cannot tell how alike a group's examples are, and
    a group is worth one trial: it can't be worth less.

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
    trials, sizes = _trials(hits, members), np.bincount(members)
    share = float(hits.mean())
    estimated = len(sizes) < len(hits) and 0 < share < 1
    return share_interval(share * trials, trials, student(len(sizes) - 1) if estimated else NORMAL)


def balanced_accuracy_interval(labels: Ints, correct: ArrayLike, groups: Sequence[str]) -> tuple[float, float]:
    """The 95 % interval of the mean recall of the classes: that of a share, with as many trials as its variance says.

    The variance is the sum of the classes' own, each recall taken as if one example more were right and one more wrong, so
    that a class all of whose few are right is not taken to be certain; and what their recalls have in common in a group. The
    degrees of freedom are Satterthwaite's. Of equal classes, and each example its own group, this is the accuracy's interval.

    Args:
        labels: int64 [N], the classes.
        correct: bool [N], whether each example was classified rightly.
        groups: N names.

    Source: effective trials as in `accuracy_interval`; Satterthwaite, https://doi.org/10.2307/3002019
    """
    hits = checked_hits(correct)
    members, classes = numbered(groups, len(hits)), np.unique(labels)
    count = int(members.max()) + 1
    recalls, shares, trials, degrees = np.zeros((4, len(classes)))
    strays = np.zeros((len(classes), count))  # of a class's hits in each group from what its recall makes of them
    for number in range(len(classes)):
        own = labels == classes[number]
        right, sizes = hits[own], np.bincount(members[own], minlength=count)
        recalls[number], shares[number] = right.mean(), (right.sum() + 1) / (len(right) + 2)
        trials[number], degrees[number] = _trials(right, members[own]), max(1, int(np.count_nonzero(sizes)) - 1)
        strays[number] = (np.bincount(members[own], right, count) - recalls[number] * sizes) / len(right)
    variances = shares * (1 - shares) / trials  # this, and all that follow, times the number of classes squared
    in_common = float(np.square(strays.sum(0)).sum() - np.square(strays).sum()) * count / max(1, count - 1)
    variance = variances.sum() + (max(0.0, in_common) if count < len(hits) else 0.0)
    most = 1 / (1 / trials).sum()  # were all recalls alike
    worth = len(classes) ** 2 * min(most, float(shares.mean() * (1 - shares.mean()) / variance))
    freedom = variance**2 / (np.square(variances) / degrees).sum()
    return share_interval(recalls.mean() * worth, worth, NORMAL if count == len(hits) else student(freedom))


def _trials(hits: Floats, members: Ints) -> float:
    """As how many independent examples these count, by how much shares differ between groups."""
    sizes, share = np.bincount(members), float(hits.mean())
    count, fewest = np.count_nonzero(sizes), len(hits) ** 2 / float(np.square(sizes).sum())
    if count == len(hits):
        return float(count)
    between = float(np.square(np.bincount(members, hits) - share * sizes).sum()) / len(hits) ** 2
    known = between > 0 and count > 1
    trials = share * (1 - share) / (between * count / (count - 1)) if known else fewest
    return min(max(trials, fewest), len(hits))


# What they stand on.


def resampled_groups(groups: int, seed: int, replicates: int, rows: int = 0) -> Iterator[Floats]:
    """Yields float64 [G, up to BLOCK / rows]: how often each group was drawn; rows is G where it is not given."""
    generator, width = np.random.default_rng(seed), max(1, BLOCK // (rows or groups))
    for start in range(0, replicates, width):
        columns = min(width, replicates - start)
        drawn = generator.integers(groups, size=(columns, groups)) + groups * np.arange(columns)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=columns * groups).reshape(columns, groups)
        yield np.ascontiguousarray(counts.T, dtype=np.float64)


def student(degrees: float) -> float:
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
