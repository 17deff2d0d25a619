"""How good a classifier is: labels and probabilities of one set of examples in, scores with their intervals out.

In: `labels` int64 [N], each 0..C-1; `probabilities` float [N, C], each 0..1, rows summing to 1. Out: `Scores`, floats in it
nan where a number is undefined; its JSON has None there. The prediction is the first of the largest probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from headstart.features.errors import UserError
from headstart.training.scoring import measures
from headstart.training.scoring.bootstrap import bootstrap_intervals, bounded_replicates, telling_groups
from headstart.training.scoring.intervals import MIN_GROUPS, Floats, Ints, accuracy_interval, balanced_accuracy_interval

MIN_EXAMPLES = 10  # a class with fewer has no recall worth reading
MAX_CLASSES_IN_JSON = 40  # a larger matrix stays out of it


@dataclass(frozen=True)
class Interval:
    """A score and the ends of its 95% interval, nan where they are undefined."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """As plain values, None where one is undefined."""
        return {name: _plain(number) for name, number in vars(self).items()}


@dataclass(frozen=True)
class ClassScores:
    """One class: how many examples it has, how many of its predictions are right, how many of its examples are found."""

    name: str
    count: int
    precision: float  # 0..1, nan for a class never predicted
    recall: float  # 0..1, nan for a class without examples
    low: float = math.nan  # of the recall, the 95 % interval
    high: float = math.nan

    @property
    def note(self) -> str:
        """'too few' under 10 examples, else ''."""
        return "too few" if self.count < MIN_EXAMPLES else ""

    def to_json(self) -> dict[str, Any]:
        """As plain values, None where one is undefined."""
        found = {name: _plain(getattr(self, name)) for name in ("precision", "recall", "low", "high")}
        return {"class": self.name, "count": self.count, **found, "note": self.note}


@dataclass(frozen=True)
class ConfusedPair:
    """How many examples of one class were taken for another."""

    truth: str
    predicted: str
    count: int


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction, with the probabilities of what was predicted and of the truth, 0..1."""

    key: str
    truth: str
    predicted: str
    probability: float
    truth_probability: float


@dataclass(frozen=True)
class Scores:
    """All that is measured on one set of examples.

    The intervals of accuracies are exact ones of shares; the others' are the bootstrap's, and are left out where fewer than 5
    groups hold a mistake, or a right answer. The calibration error has none: that of a resample is biased upward.
    """

    examples: int
    groups: int
    accuracy: Interval
    balanced_accuracy: Interval
    macro_f1: Interval
    top_5: Interval
    auroc: Interval
    log_loss: Interval
    brier: Interval
    calibration_error: Interval
    majority_accuracy: float  # of always guessing the largest class of these very labels: the baseline to beat
    per_class: list[ClassScores]
    confusion: list[list[int]]  # [C][C], rows the truth, columns the prediction
    most_confused: list[ConfusedPair]
    worst_mistakes: list[Mistake]
    bootstrap_replicates: int  # 0 below 5 groups
    telling_groups: int  # that hold a mistake, or a right answer, whichever are fewer

    def to_json(self) -> dict[str, Any]:
        """As plain values, None where a number is undefined, and in place of the confusion matrix above 40 classes."""
        return {
            "examples": self.examples,
            "groups": self.groups,
            **{name: getattr(self, name).to_json() for name in measures.EVERY},
            "majority_accuracy": {"value": self.majority_accuracy},
            "per_class": [each.to_json() for each in self.per_class],
            "confusion": self.confusion if len(self.confusion) <= MAX_CLASSES_IN_JSON else None,
            "most_confused": [vars(pair) for pair in self.most_confused],
            "worst_mistakes": [vars(mistake) for mistake in self.worst_mistakes],
            "bootstrap_replicates": self.bootstrap_replicates,
            "telling_groups": self.telling_groups,
        }


def score(
    labels: ArrayLike,
    probabilities: ArrayLike,
    keys: Sequence[str],
    groups: Sequence[str],
    class_names: Sequence[str],
    seed: int = 0,
) -> Scores:
    """Measures everything.

    Args:
        labels: int64 [N], 0..C-1, N at least 1.
        probabilities: float [N, C], 0..1.
        keys: N names of examples, for the worst mistakes.
        groups: N names of groups, for the intervals.
        class_names: C names.
        seed: of the bootstrap.

    Raises:
        UserError: no examples, lengths that disagree, a label outside 0..C-1, or a probability outside 0..1 or not finite.
    """
    truth, scores = measures.checked(labels, probabilities)
    _same_length("keys", keys, len(truth))
    _same_length("class names", class_names, scores.shape[1])
    group_count = len(set(groups))
    table = confusion(truth, scores)
    return Scores(
        examples=len(truth),
        groups=group_count,
        **_with_intervals(truth, scores, groups, seed),
        majority_accuracy=measures.value(measures.majority_accuracy, truth, scores),
        per_class=_with_recall_intervals(per_class(table, class_names), truth, scores, groups),
        confusion=table.tolist(),
        most_confused=most_confused_pairs(table, class_names),
        worst_mistakes=worst_mistakes(truth, scores, keys, class_names),
        bootstrap_replicates=bounded_replicates(len(scores), scores.shape[1]) if group_count >= MIN_GROUPS else 0,
        telling_groups=telling_groups(scores.argmax(1) == truth, groups),
    )


def _with_intervals(labels: Ints, probabilities: Floats, groups: Sequence[str], seed: int) -> dict[str, Interval]:
    correct = probabilities.argmax(1) == labels
    bootstrapped = {name: build(labels, probabilities) for name, build in measures.BOOTSTRAPPED.items()}
    intervals = {"accuracy": accuracy_interval(correct, groups)}
    replicates = bounded_replicates(*probabilities.shape)
    intervals |= bootstrap_intervals(bootstrapped, groups, seed, replicates, measures.SCALES, telling_groups(correct, groups))
    intervals["balanced_accuracy"] = balanced_accuracy_interval(labels, correct, groups)
    intervals["top_5"] = accuracy_interval(measures.in_top_5(labels, probabilities), groups)
    intervals["calibration_error"] = math.nan, math.nan  # that of a resample is biased upward
    return {
        name: Interval(measures.value(build, labels, probabilities), *intervals[name])
        for name, build in measures.EVERY.items()
    }


def _with_recall_intervals(
    classes: Sequence[ClassScores], labels: Ints, probabilities: Floats, groups: Sequence[str]
) -> list[ClassScores]:
    correct, names, found = probabilities.argmax(1) == labels, np.asarray(groups, object), []
    for number, each in enumerate(classes):
        own = labels == number
        low, high = accuracy_interval(correct[own], list(names[own])) if each.count else (math.nan, math.nan)
        found.append(replace(each, low=low, high=high))
    return found


def confusion(labels: ArrayLike, probabilities: ArrayLike) -> Ints:
    """Counts, int64 [C, C]: rows the truth, columns the prediction."""
    truth, scores = measures.checked(labels, probabilities)
    classes = scores.shape[1]
    cells = np.bincount(truth * classes + scores.argmax(1), minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def per_class(confusion: Ints, class_names: Sequence[str]) -> list[ClassScores]:
    """Precision and recall of each class, from the counts int64 [C, C] of `confusion`."""
    hits, counts, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)  # [C] each
    precision, recall = measures.ratio(hits, predicted), measures.ratio(hits, counts)
    return [ClassScores(name, int(counts[i]), float(precision[i]), float(recall[i])) for i, name in enumerate(class_names)]


def most_confused_pairs(confusion: Ints, class_names: Sequence[str], limit: int = 20) -> list[ConfusedPair]:
    """The largest counts off the diagonal of int64 [C, C], largest first."""
    mistakes = np.array(confusion)  # [C, C]
    np.fill_diagonal(mistakes, 0)
    truths, predictions = np.nonzero(mistakes)
    counts = mistakes[truths, predictions]
    return [
        ConfusedPair(class_names[truths[i]], class_names[predictions[i]], int(counts[i]))
        for i in np.argsort(-counts, kind="stable")[:limit]
    ]


def worst_mistakes(
    labels: ArrayLike, probabilities: ArrayLike, keys: Sequence[str], class_names: Sequence[str], limit: int = 10
) -> list[Mistake]:
    """The most confident wrong predictions: the largest lead of the prediction over the truth first, ties by key."""
    truth, scores = measures.checked(labels, probabilities)
    predicted, rows = scores.argmax(1), np.arange(len(truth))
    top, own = scores[rows, predicted], scores[rows, truth]
    wrong = sorted(np.flatnonzero(predicted != truth).tolist(), key=lambda i: (own[i] - top[i], keys[i]))
    return [
        Mistake(keys[i], class_names[truth[i]], class_names[predicted[i]], float(top[i]), float(own[i])) for i in wrong[:limit]
    ]


def _plain(number: float) -> float | None:
    return None if math.isnan(number) else float(number)


def _same_length(what: str, values: Sequence[Any], expected: int) -> None:
    if len(values) != expected:
        raise UserError("bad-value", f"expected {expected} {what}, one for each, got {len(values)}")
