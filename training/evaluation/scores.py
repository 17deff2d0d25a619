"""Classification scores, each with its interval.

In: `labels` int64 [N], each 0..C-1; `probabilities` float [N, C], each 0..1, rows summing to 1; at times `weights` float
[N], the number of times that each example counts, 0 allowed. Out: floats, nan where a score is undefined, and from
`score` one dictionary fit for JSON, with None in nan's place. The prediction is the first of the largest probabilities.

Each score is a builder that reads labels and probabilities once (sorting, binning) and returns a measure, from weights
[N, R] to values [R], which `headstart.training.evaluation.intervals` resamples. numpy and the standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headstart.features.errors import UserError
from headstart.training.evaluation.intervals import (
    Floats,
    Ints,
    Measure,
    accuracy_interval,
    bootstrap_intervals,
    bounded_replicates,
)

Builder = Callable[[Ints, Floats], Measure]

CLIP = 1e-7  # log loss: a truth given less than this costs what this costs, 16.1
BINS = 15  # calibration error
TOP_K = 5
TOO_FEW = 10  # a class with fewer examples has no recall worth reading
LARGEST_CONFUSION = 40  # classes; a larger matrix stays out of the JSON
RANGE_SLACK = 1e-4  # what a half-precision softmax may stray outside 0..1


# Scores of one set of examples.


def accuracy(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The weighted share of examples whose prediction is the truth, 0..1."""
    return _point(_accuracy, labels, probabilities, weights)


def balanced_accuracy(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The mean recall over the classes that have examples (of weight above 0), 0..1."""
    return _point(_balanced_accuracy, labels, probabilities, weights)


def macro_f1(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The mean F1 over the classes that are present in the truth, 0..1; a class never predicted has F1 0."""
    return _point(_macro_f1, labels, probabilities, weights)


def auroc(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The area under the ROC curve, 0..1: how often a positive outranks a negative, a tie counting half.

    Two classes: class 1 by its own probability. More: the mean of one class against the rest, over the classes that have
    positives and negatives. Exact: the Mann-Whitney statistic, each pair weighted by the product of its weights.

    Returns:
        nan where no class has both positives and negatives.

    Source: Hanley and McNeil, "The meaning and use of the area under a ROC curve", https://doi.org/10.1148/radiology.143.1.7063747
    """
    return _point(_auroc, labels, probabilities, weights)


def log_loss(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The mean of -ln(probability of the truth), in nats, probabilities clipped from below at 1e-7: 0..16.12."""
    return _point(_log_loss, labels, probabilities, weights)


def calibration_error(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The expected calibration error, 0..1: the gap between confidence and accuracy, averaged over bins by their weight.

    15 bins of equal width, (0, 1/15] to (14/15, 1], on the top probability.

    Source: Guo et al., "On Calibration of Modern Neural Networks", https://arxiv.org/abs/1706.04599
    """
    return _point(_calibration_error, labels, probabilities, weights)


def majority_accuracy(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The accuracy of always guessing the largest class of these very labels, 0..1: the baseline to beat."""
    return _point(_majority_accuracy, labels, probabilities, weights)


# Where the mistakes are.


def confusion(labels: ArrayLike, probabilities: ArrayLike) -> Ints:
    """Counts, int64 [C, C]: rows the truth, columns the prediction."""
    truth, scores = _checked(labels, probabilities)
    classes = scores.shape[1]
    cells = np.bincount(truth * classes + scores.argmax(1), minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def most_confused_pairs(confusion: Ints, class_names: Sequence[str], limit: int = 20) -> list[dict[str, Any]]:
    """The largest counts off the diagonal, largest first: dictionaries of truth, predicted, count."""
    mistakes = np.array(confusion)  # [C, C]
    np.fill_diagonal(mistakes, 0)
    truths, predictions = np.nonzero(mistakes)
    counts = mistakes[truths, predictions]
    return [
        {"truth": class_names[truths[i]], "predicted": class_names[predictions[i]], "count": int(counts[i])}
        for i in np.argsort(-counts, kind="stable")[:limit]
    ]


def per_class(labels: ArrayLike, probabilities: ArrayLike, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """For each class: its name, count of examples, precision, recall, and note, 'too few' under 10 examples, else ''.

    Precision is None for a class never predicted, recall None for a class without examples.
    """
    return _per_class(confusion(labels, probabilities), class_names)


def worst_mistakes(
    labels: ArrayLike, probabilities: ArrayLike, keys: Sequence[str], class_names: Sequence[str], limit: int = 10
) -> list[dict[str, Any]]:
    """The most confident wrong predictions: the largest lead of the prediction over the truth first, ties by key.

    Returns:
        Dictionaries of key, truth, predicted, probability (of the prediction), truth_probability.
    """
    truth, scores = _checked(labels, probabilities)
    predicted, rows = scores.argmax(1), np.arange(len(truth))
    top, own = scores[rows, predicted], scores[rows, truth]
    wrong = sorted(np.flatnonzero(predicted != truth).tolist(), key=lambda i: (own[i] - top[i], keys[i]))
    return [
        {
            "key": keys[i],
            "truth": class_names[truth[i]],
            "predicted": class_names[predicted[i]],
            "probability": float(top[i]),
            "truth_probability": float(own[i]),
        }
        for i in wrong[:limit]
    ]


def score(
    labels: ArrayLike,
    probabilities: ArrayLike,
    keys: Sequence[str],
    groups: Sequence[str],
    class_names: Sequence[str],
    seed: int = 0,
) -> dict[str, Any]:
    """Everything above in one dictionary of plain Python values, None where a number is undefined.

    Args:
        labels: int64 [N], 0..C-1, N at least 1.
        probabilities: float [N, C], 0..1.
        keys: N names of examples, for the worst mistakes.
        groups: N names of groups, for the intervals.
        class_names: C names.
        seed: of the bootstrap.

    Returns:
        examples, groups: counts. accuracy and the six of BOOTSTRAPPED: {value, low, high}, the interval Wilson's for the
        accuracy and the bootstrap's for the six. Where one of those is perfect in every replicate its interval has no
        width: read the accuracy's then. The calibration error of a resample is biased upward, so its interval lies high,
        in small sets even above the value. majority_accuracy: {value}.
        per_class, most_confused, worst_mistakes: lists of dictionaries. confusion: lists [C][C], None above 40 classes.
        bootstrap_replicates: how many were drawn, 0 for a single group.

    Raises:
        UserError: no examples, lengths that disagree, a label outside 0..C-1, or a probability outside 0..1 or not finite.
    """
    truth, scores = _checked(labels, probabilities)
    _same_length("keys", keys, len(truth))
    _same_length("class names", class_names, scores.shape[1])
    group_count = len(set(groups))
    table = confusion(truth, scores)
    return {
        "examples": len(truth),
        "groups": group_count,
        **_with_intervals(truth, scores, groups, seed),
        "majority_accuracy": {"value": majority_accuracy(truth, scores)},
        "per_class": _per_class(table, class_names),
        "confusion": table.tolist() if len(table) <= LARGEST_CONFUSION else None,
        "most_confused": most_confused_pairs(table, class_names),
        "worst_mistakes": worst_mistakes(truth, scores, keys, class_names),
        "bootstrap_replicates": bounded_replicates(len(scores), scores.shape[1]) if group_count > 1 else 0,
    }


def _with_intervals(labels: Ints, probabilities: Floats, groups: Sequence[str], seed: int) -> dict[str, Any]:
    measures = {name: build(labels, probabilities) for name, build in BOOTSTRAPPED.items()}
    intervals = {"accuracy": accuracy_interval(probabilities.argmax(1) == labels, groups)}
    intervals |= bootstrap_intervals(measures, groups, seed, bounded_replicates(*probabilities.shape))
    result: dict[str, Any] = {}
    for name, build in {"accuracy": _accuracy, **BOOTSTRAPPED}.items():
        low, high = intervals[name]
        value = _point(build, labels, probabilities, None)
        result[name] = {"value": _plain(value), "low": _plain(low), "high": _plain(high)}
    return result


def _per_class(table: Ints, class_names: Sequence[str]) -> list[dict[str, Any]]:
    hits, counts, predicted = np.diag(table), table.sum(1), table.sum(0)  # [C] each
    precision, recall = _ratio(hits, predicted), _ratio(hits, counts)
    return [
        {
            "class": name,
            "count": int(counts[i]),
            "precision": _plain(precision[i]),
            "recall": _plain(recall[i]),
            "note": "too few" if counts[i] < TOO_FEW else "",
        }
        for i, name in enumerate(class_names)
    ]


# Builders: labels [N] and probabilities [N, C] to a measure of weights [N, R].


def _accuracy(labels: Ints, probabilities: Floats) -> Measure:
    correct = (probabilities.argmax(1) == labels).astype(np.float64)
    return lambda weights: _mean(correct, weights)


def _balanced_accuracy(labels: Ints, probabilities: Floats) -> Measure:
    classes, hits = probabilities.shape[1], np.flatnonzero(probabilities.argmax(1) == labels)

    def measure(weights: Floats) -> Floats:
        counts = _sums(labels, classes, weights)  # [C, R]
        return _mean_over_present(_ratio(_sums(labels[hits], classes, weights[hits]), counts), counts)

    return measure


def _macro_f1(labels: Ints, probabilities: Floats) -> Measure:
    classes, predicted = probabilities.shape[1], probabilities.argmax(1)
    hits = np.flatnonzero(predicted == labels)

    def measure(weights: Floats) -> Floats:
        counts = _sums(labels, classes, weights)  # [C, R]
        both = counts + _sums(predicted, classes, weights)
        return _mean_over_present(_ratio(2 * _sums(labels[hits], classes, weights[hits]), both), counts)

    return measure


def _top_5(labels: Ints, probabilities: Floats) -> Measure:
    """Whether the truth is among the 5 likeliest classes, or among all C when they are fewer.

    A class as likely as the truth counts as ahead of it: a constant model scores 0 for C > 5, whatever its order.
    """
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)  # [N, 1]
    rank = (probabilities >= own).sum(1)  # [N], 1 at best: ties go against the truth
    found = (rank <= min(TOP_K, probabilities.shape[1])).astype(np.float64)
    return lambda weights: _mean(found, weights)


def _log_loss(labels: Ints, probabilities: Floats) -> Measure:
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0].astype(np.float64)
    losses = -np.log(np.clip(own, CLIP, 1.0))
    return lambda weights: _mean(losses, weights)


def _calibration_error(labels: Ints, probabilities: Floats) -> Measure:
    top = probabilities.max(1).astype(np.float64)
    gaps = (probabilities.argmax(1) == labels) - top  # [N]
    bins = np.clip(np.ceil(top * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return lambda weights: _ratio(np.abs(_sums(bins, BINS, gaps[:, None] * weights)).sum(0), weights.sum(0))


def _majority_accuracy(labels: Ints, probabilities: Floats) -> Measure:
    classes = probabilities.shape[1]
    return lambda weights: _ratio(_sums(labels, classes, weights).max(0), weights.sum(0))


def _auroc(labels: Ints, probabilities: Floats) -> Measure:
    classes = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    rankings = [_Ranking.of(labels == i, probabilities[:, i]) for i in classes if 0 < counts[i] < len(labels)]

    def measure(weights: Floats) -> Floats:
        total, defined = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
        for ranking in rankings:
            area = ranking.area(weights)
            total += np.nan_to_num(area)
            defined += ~np.isnan(area)
        return _ratio(total, defined)

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
        return _ratio(wins / 2, own.sum(0) * passed[-1])


BOOTSTRAPPED: dict[str, Builder] = {
    "balanced_accuracy": _balanced_accuracy,
    "macro_f1": _macro_f1,
    "top_5": _top_5,
    "auroc": _auroc,
    "log_loss": _log_loss,
    "calibration_error": _calibration_error,
}


# What the builders stand on.


def _point(build: Builder, labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None) -> float:
    truth, scores = _checked(labels, probabilities)
    column = np.ones(len(truth)) if weights is None else np.asarray(weights, np.float64)
    if column.shape != truth.shape or not (column >= 0).all():
        raise UserError("bad-value", f"expected {len(truth)} weights of 0 or more, got an array of shape {column.shape}")
    return float(build(truth, scores)(column[:, None])[0])


def _mean(values: Floats, weights: Floats) -> Floats:
    return _ratio(values @ weights, weights.sum(0))  # [R]


def _mean_over_present(values: Floats, counts: Floats) -> Floats:
    present = counts > 0  # [C, R]
    return _ratio(np.where(present, values, 0.0).sum(0), present.sum(0))


def _ratio(parts: NDArray[Any], wholes: NDArray[Any]) -> Floats:
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


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _same_length(what: str, values: Sequence[Any], expected: int) -> None:
    if len(values) != expected:
        raise UserError("bad-value", f"expected {expected} {what}, one for each, got {len(values)}")


def _checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Ints, Floats]:
    """The two as arrays, or an error that says which rule they break."""
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
