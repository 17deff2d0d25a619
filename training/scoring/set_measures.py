"""Scores of answers that are sets of labels: what an image has and how probable each label is in, measures out.

In: `truth` uint8 [N, C], 1 for each label that an image has; `probabilities` float [N, C], each 0..1, whatever the others are.
Each function here reads them once (sorting, deciding) and returns a measure, from the examples' weights [N, R] to values [R],
or [C, R] where there is one for each class; nan where a score is undefined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headstart.features.errors import UserError
from headstart.training.scoring.bootstrap import Measure
from headstart.training.scoring.intervals import Floats, numbered
from headstart.training.scoring.measures import CLIP, RANGE_SLACK, ratio

Truth = NDArray[np.uint8]
SetBuilder = Callable[[Truth, Floats], Measure]


def average_precisions(truth: Truth, probabilities: Floats) -> Measure:
    """Each class's average precision, 0..1: the mean, over its images, of the precision among those at least as probable.

    That is the area below the steps of the precision-recall curve, without interpolation, images of one probability passed
    together; nan for a class that no image has.

    Source: Manning, Raghavan and Schütze, "Introduction to Information Retrieval", section 8.4, https://nlp.stanford.edu/IR-book
    """
    rankings = [_ranking(truth[:, number], probabilities[:, number]) for number in range(truth.shape[1])]

    def measure(weights: Floats) -> Floats:
        return np.stack([_average_precision(*ranking, weights) for ranking in rankings])  # [C, R]

    return measure


def _ranking(has: Truth, scores: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Images by falling probability, [N]; where those stand that have the label, [P]; and where each one's equals end, [P]."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # of each probability
    hits = np.flatnonzero(has[order])
    return order, hits, ends[np.searchsorted(ends, hits)]


def _average_precision(order: NDArray[np.intp], hits: NDArray[np.intp], ends: NDArray[np.intp], weights: Floats) -> Floats:
    ranked = weights[order]
    own = ranked[hits]  # [P, R]
    found = np.cumsum(own, axis=0)[np.searchsorted(hits, ends, "right") - 1]
    precision = np.nan_to_num(ratio(found, np.cumsum(ranked, axis=0)[ends]))
    return ratio((own * precision).sum(0), own.sum(0))


def mean_average_precision(truth: Truth, probabilities: Floats) -> Measure:
    """The mean of `average_precisions` over the classes that some image has, 0..1."""
    each = average_precisions(truth, probabilities)
    return lambda weights: mean_over_defined(each(weights))


def f1s(truth: Truth, decided: Truth) -> Measure:
    """Each class's F1, 0..1, of labels decided uint8 [N, C]; nan for a class that no image has."""
    both, counts = (truth & decided).T.astype(np.float64), truth.T.astype(np.float64)
    sums = counts + decided.T

    def measure(weights: Floats) -> Floats:
        return np.where(counts @ weights > 0, ratio(2 * (both @ weights), sums @ weights), np.nan)  # [C, R]

    return measure


def micro_f1(truth: Truth, decided: Truth) -> Measure:
    """F1 over all pairs of an image and a label, 0..1; nan where there is neither a label nor one decided."""
    both, sums = ((truth & decided).sum(1, dtype=np.float64), (truth.sum(1) + decided.sum(1)).astype(np.float64))
    return lambda weights: ratio(2 * (both @ weights), sums @ weights)


def log_loss(truth: Truth, probabilities: Floats) -> Measure:
    """The binary cross-entropy: the mean over images and classes of -ln(probability of what is so), clipped at 1e-7."""
    likely = np.where(truth == 1, probabilities, 1 - probabilities.astype(np.float64))
    losses = -np.log(np.clip(likely, CLIP, 1.0)).mean(1)  # [N]
    return lambda weights: ratio(losses @ weights, weights.sum(0))


def mean_over_defined(values: Floats) -> Floats:
    """The mean of those of values [C, R] that are defined, [R]."""
    return ratio(np.nansum(values, axis=0), (~np.isnan(values)).sum(0))


def telling_of(truth: Truth, groups: Sequence[str]) -> tuple[list[int], int]:
    """How many groups tell something of each class, [C], and of means over classes: those of the rarest that some image has.

    Args:
        truth: uint8 [N, C].
        groups: N names.
    """
    members = numbered(groups, len(truth))
    having, lacking = ([len(np.unique(members[own])) for own in kind.T] for kind in (truth == 1, truth == 0))
    return list(map(min, having, lacking)), min(filter(None, having), default=0)


def value(measure: Measure, examples: int) -> Floats:
    """A measure of all examples, each counted once: a number, or [C]."""
    found: Floats = measure(np.ones((examples, 1)))[..., 0]
    return found


def checked_sets(truth: ArrayLike, probabilities: ArrayLike) -> tuple[Truth, Floats]:
    """Labels and probabilities as arrays.

    Raises:
        UserError: no examples, shapes that disagree, a label that is neither 0 nor 1, or a probability outside 0..1.
    """
    labels, scores = np.asarray(truth), np.asarray(probabilities)
    if labels.ndim != 2 or labels.shape != scores.shape or not len(labels):
        raise UserError(
            "bad-value", f"expected labels [N, C] and probabilities [N, C], N above 0, got {labels.shape} and {scores.shape}"
        )
    if not np.isin(labels, (0, 1)).all():
        raise UserError("bad-value", f"expected 1 for each label of an image and 0 for each other, got {labels.max()}")
    low, high = float(scores.min()), float(scores.max())
    if not (low >= -RANGE_SLACK and high <= 1 + RANGE_SLACK):  # also when one is nan
        raise UserError("bad-value", f"expected probabilities within 0..1, got {low:.6g}..{high:.6g}: logits need a sigmoid")
    return labels.astype(np.uint8), scores if scores.dtype.kind == "f" else scores.astype(np.float64)
