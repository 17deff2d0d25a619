"""Classification scores as measures: labels and probabilities in, a function of the examples' weights out.

In: `labels` int64 [N], each 0..C-1; `probabilities` float [N, C], each 0..1, rows summing to 1. Each score here reads them
once (sorting, binning) and returns a measure, from weights [N, R] to values [R], nan where a score is undefined, which
`headstart.training.scoring.intervals` resamples. The prediction is the first of the largest probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headstart.features.errors import UserError
from headstart.training.scoring.bootstrap import LOSS, Measure
from headstart.training.scoring.intervals import Floats, Ints

Builder = Callable[[Ints, Floats], Measure]

CLIP = 1e-7  # log loss: a truth given less than this costs what this costs, 16.1
BINS = 15  # calibration error
TOP_K = 5
RANGE_SLACK = 1e-4  # what a half-precision softmax may stray outside 0..1


def value(build: Builder, labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> float:
    """A score of one set of examples.

    Args:
        build: one of the scores below.
        labels: int64 [N], 0..C-1, N at least 1.
        probabilities: float [N, C], 0..1.
        weights: float [N], how often each example counts, 0 allowed (default: once).

    Returns:
        The score, nan where it is undefined.

    Raises:
        UserError: what `checked` raises, or weights that don't fit.
    """
    truth, scores = checked(labels, probabilities)
    column = np.ones(len(truth)) if weights is None else np.asarray(weights, np.float64)
    if column.shape != truth.shape or not (column >= 0).all():
        raise UserError("bad-value", f"expected {len(truth)} weights of 0 or more, got an array of shape {column.shape}")
    return float(build(truth, scores)(column[:, None])[0])


def accuracy(labels: Ints, probabilities: Floats) -> Measure:
    """The weighted share of examples whose prediction is the truth, 0..1."""
    correct = (probabilities.argmax(1) == labels).astype(np.float64)
    return lambda weights: _mean(correct, weights)


def balanced_accuracy(labels: Ints, probabilities: Floats) -> Measure:
    """The mean recall over the classes that have examples (of weight above 0), 0..1."""
    classes, hits = probabilities.shape[1], np.flatnonzero(probabilities.argmax(1) == labels)

    def measure(weights: Floats) -> Floats:
        counts = _sums(labels, classes, weights)  # [C, R]
        return _mean_over_present(ratio(_sums(labels[hits], classes, weights[hits]), counts), counts)

    return measure


def macro_f1(labels: Ints, probabilities: Floats) -> Measure:
    """The mean F1 over the classes that are present in the truth, 0..1; a class never predicted has F1 0."""
    classes, predicted = probabilities.shape[1], probabilities.argmax(1)
    hits = np.flatnonzero(predicted == labels)

    def measure(weights: Floats) -> Floats:
        counts = _sums(labels, classes, weights)  # [C, R]
        both = counts + _sums(predicted, classes, weights)
        return _mean_over_present(ratio(2 * _sums(labels[hits], classes, weights[hits]), both), counts)

    return measure


def top_5(labels: Ints, probabilities: Floats) -> Measure:
    """Whether the truth is among the 5 likeliest classes, or among all C when they are fewer.

    A class as likely as the truth counts as ahead of it: a constant model scores 0 for C > 5, whatever its order.
    """
    found = in_top_5(labels, probabilities).astype(np.float64)
    return lambda weights: _mean(found, weights)


def in_top_5(labels: Ints, probabilities: Floats) -> NDArray[np.bool_]:
    """Whether each example's truth is among its likeliest classes, bool [N]."""
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)  # [N, 1]
    rank = (probabilities >= own).sum(1)  # [N], 1 at best: ties go against the truth
    return np.asarray(rank <= min(TOP_K, probabilities.shape[1]))


def log_loss(labels: Ints, probabilities: Floats) -> Measure:
    """The mean of -ln(probability of the truth), in nats, probabilities clipped from below at 1e-7: 0..16.12."""
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0].astype(np.float64)
    losses = -np.log(np.clip(own, CLIP, 1.0))
    return lambda weights: _mean(losses, weights)


def brier(labels: Ints, probabilities: Floats) -> Measure:
    """The mean squared distance between the probabilities and the truth's 0 and 1, 0..2; of two classes of one of them, 0..1.

    Source: Brier, "Verification of forecasts expressed in terms of probability", halved for two classes as scikit-learn does
    """
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0].astype(np.float64)
    squares = np.einsum("nc,nc->n", probabilities, probabilities, dtype=np.float64) - 2 * own + 1  # [N]
    scale = 0.5 if probabilities.shape[1] == 2 else 1.0
    return lambda weights: _mean(scale * squares, weights)


def confidence_bins(probabilities: Floats) -> tuple[Floats, Ints]:
    """The top probability of each example, float64 [N], and which of 15 bins of equal width it is in, int64 [N].

    The bins are (0, 1/15] to (14/15, 1].
    """
    top = probabilities.max(1).astype(np.float64)
    return top, np.clip(np.ceil(top * BINS).astype(np.int64) - 1, 0, BINS - 1)


def calibration_error(labels: Ints, probabilities: Floats) -> Measure:
    """The expected calibration error, 0..1, less what chance adds: the gap between confidence and accuracy, over bins.

    A bin's gap is its accuracy less its mean top probability; gaps count by size, so that chance alone makes some, the more
    the fewer examples there are. Were a gap g what it seems, with a standard error s, a new one would be |normal(g, s)| in the
    mean: by so much as that is above |g| the gap is taken to be too large. The accuracy in s counts the bin's confidence as
    one more example, so that a bin all of whose few are right is not taken to be certain.

    Source: Guo et al., "On Calibration of Modern Neural Networks", https://arxiv.org/abs/1706.04599; debiased as by Kumar
    et al., "Verified Uncertainty Calibration", https://arxiv.org/abs/1909.10155, in closed form
    """
    top, bins = confidence_bins(probabilities)
    correct = (probabilities.argmax(1) == labels).astype(np.float64)

    def measure(weights: Floats) -> Floats:
        counts, hits, sums = (_sums(bins, BINS, column[:, None] * weights) for column in (np.ones(len(top)), correct, top))
        gaps = np.nan_to_num(np.abs(ratio(hits - sums, counts)))  # [BINS, R]
        accuracies = np.nan_to_num(ratio(hits + ratio(sums, counts), counts + 1))
        errors = np.sqrt(np.nan_to_num(ratio(accuracies * (1 - accuracies), counts)))
        debiased = 2 * gaps - _mean_size(gaps, errors)
        return np.maximum(0.0, ratio((counts * debiased).sum(0), counts.sum(0)))

    return measure


def _mean_size(means: Floats, deviations: Floats) -> Floats:
    """The mean of |x| where x is normal: of the folded normal distribution."""
    from scipy.special import erf

    ratios = np.divide(means, deviations * np.sqrt(2), out=np.full_like(means, np.inf), where=deviations > 0)
    size: Floats = deviations * np.sqrt(2 / np.pi) * np.exp(-np.square(ratios)) + means * erf(ratios)
    return size


def majority_accuracy(labels: Ints, probabilities: Floats) -> Measure:
    """The accuracy of always guessing the largest class of these very labels, 0..1: the baseline to beat."""
    classes = probabilities.shape[1]
    return lambda weights: ratio(_sums(labels, classes, weights).max(0), weights.sum(0))


def auroc(labels: Ints, probabilities: Floats) -> Measure:
    """The area under the ROC curve, 0..1: how often a positive outranks a negative, a tie counting half.

    Two classes: class 1 by its own probability. More: the mean of one class against the rest, over the classes that have
    positives and negatives. Exact: the Mann-Whitney statistic, each pair weighted by the product of its weights.

    Returns:
        nan where no class has both positives and negatives.

    Source: Hanley and McNeil, "The meaning and use of the area under a ROC curve", https://doi.org/10.1148/radiology.143.1.7063747
    """
    classes = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    rankings = [_Ranking.of(labels == i, probabilities[:, i]) for i in classes if 0 < counts[i] < len(labels)]

    def measure(weights: Floats) -> Floats:
        total, defined = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
        for ranking in rankings:
            area = ranking.area(weights)
            total += np.nan_to_num(area)
            defined += ~np.isnan(area)
        return ratio(total, defined)

    return measure


@dataclass(frozen=True)
class _Ranking:
    """One class against the rest: the sorting that every replicate shares. P positives, M negatives."""

    positives: NDArray[np.int32]  # [P] rows
    negatives: NDArray[np.int32]  # [M] rows, by rising score
    below: Ints  # [P] how many negatives score less
    not_above: Ints  # [P] how many score less or the same

    @classmethod
    def of(cls, positive: NDArray[np.bool_], scores: Floats) -> _Ranking:
        """From bool [N] and the class's scores [N]."""
        positives, negatives = np.flatnonzero(positive), np.flatnonzero(~positive)
        negatives = negatives[np.argsort(scores[negatives], kind="stable")]
        found = [np.searchsorted(scores[negatives], scores[positives], side) for side in ("left", "right")]
        return cls(positives.astype(np.int32), negatives.astype(np.int32), *found)

    def area(self, weights: Floats) -> Floats:
        """Weights [N, R] to areas [R]."""
        passed = np.zeros((len(self.negatives) + 1, weights.shape[1]))  # weight of the first 0..M negatives
        np.cumsum(weights[self.negatives], axis=0, out=passed[1:])
        own = weights[self.positives]  # [P, R]
        wins = np.einsum("pr,pr->r", own, passed[self.below]) + np.einsum("pr,pr->r", own, passed[self.not_above])
        return ratio(wins / 2, own.sum(0) * passed[-1])


BOOTSTRAPPED: dict[str, Builder] = {"macro_f1": macro_f1, "auroc": auroc, "log_loss": log_loss, "brier": brier}
SCALES = {"log_loss": LOSS, "brier": LOSS}  # those of the others are SHARE
EVERY: dict[str, Builder] = {  # in the order in which they are told
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "top_5": top_5,
    "auroc": auroc,
    "log_loss": log_loss,
    "brier": brier,
    "calibration_error": calibration_error,
}


def _mean(values: Floats, weights: Floats) -> Floats:
    return ratio(values @ weights, weights.sum(0))  # [R]


def _mean_over_present(values: Floats, counts: Floats) -> Floats:
    present = counts > 0  # [C, R]
    return ratio(np.where(present, values, 0.0).sum(0), present.sum(0))


def ratio(parts: NDArray[Any], wholes: NDArray[Any]) -> Floats:
    """Parts over wholes, nan where the whole is 0."""
    shares: Floats = np.full(np.shape(parts), np.nan)
    np.divide(parts, wholes, out=shares, where=np.asarray(wholes) > 0)
    return shares


def _sums(classes: Ints, count: int, weights: Floats) -> Floats:
    """The weights [N, R] summed within each class: [count, R]."""
    sums = np.zeros((count, weights.shape[1]))
    if len(classes):  # reduceat knows no empty array
        order = np.argsort(classes, kind="stable")
        present, starts = np.unique(classes[order], return_index=True)
        sums[present] = np.add.reduceat(weights[order], starts, axis=0)
    return sums


def checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Ints, Floats]:
    """Labels and probabilities as arrays.

    Raises:
        UserError: no examples, lengths that disagree, a label outside 0..C-1, or a probability outside 0..1 or not finite.
    """
    truth, scores = np.asarray(labels), np.asarray(probabilities)
    if truth.ndim != 1 or scores.ndim != 2 or len(truth) != len(scores):
        raise UserError(
            "bad-value", f"expected labels [N] and probabilities [N, C], got shapes {truth.shape} and {scores.shape}"
        )
    if not len(truth):
        raise UserError(
            "bad-value", "there are no examples to score: the split is empty, or all of its images were dead letters"
        )
    if truth.dtype.kind not in "iu" or truth.min() < 0 or truth.max() >= scores.shape[1]:
        raise UserError(
            "bad-value", f"expected integer labels 0..{scores.shape[1] - 1}, got {truth.dtype} {truth.min()}..{truth.max()}"
        )
    low, high = float(scores.min()), float(scores.max())
    if not (low >= -RANGE_SLACK and high <= 1 + RANGE_SLACK):  # also when one is nan
        raise UserError(
            "bad-value", f"expected probabilities within 0..1, got {low:.6g}..{high:.6g}: logits need a softmax first"
        )
    return truth.astype(np.int64, copy=False), scores if scores.dtype.kind == "f" else scores.astype(np.float64)
