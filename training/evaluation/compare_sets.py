"""Two runs on several labels an image, on the same images: what `headstart compare` says of them."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.features import files
from headstart.features.dataset.labels import labels_in
from headstart.features.errors import UserError
from headstart.features.places.mirror import push_files
from headstart.features.shown import Shown
from headstart.training.evaluation import set_measures
from headstart.training.evaluation.compare_config import LESS_IS_BETTER, TABLE, CompareConfig
from headstart.training.evaluation.comparisons import PairedDifference
from headstart.training.evaluation.intervals import Floats, Measure, bootstrap_rows, bounded_replicates
from headstart.training.evaluation.predictions import Predictions
from headstart.training.evaluation.set_measures import Truth

MEANS = ("mean_average_precision", "macro_f1", "micro_f1")


@dataclass(frozen=True)
class Pair:
    """A score of both runs on the same images, and the second's less the first's, with its 95% interval."""

    name: str
    first: float
    second: float
    difference: PairedDifference


@dataclass(frozen=True, repr=False)
class SetComparison(Shown):
    """Two runs on the same images.

    Args:
        examples: how many images.
        means: the mean average precision, the mean F1 over classes, and F1 over all labels.
        classes: each class's average precision, those with the largest change first; each interval is for itself.
        drop: how much worse the second run's metric is.
        table: the path of the images that the two answer differently.
    """

    examples: int
    means: list[Pair]
    classes: list[Pair]
    drop: float
    table: str

    def words(self) -> str:
        """The difference, and whether it is one."""
        found = self.means[0]
        gap = found.difference
        seen = "" if gap.significant else ": no difference was seen"
        return (
            f"{self.examples:,} examples: mean average precision of A {found.first:.2%}, of B {found.second:.2%}; B less A "
            f"{100 * gap.difference:+.2f} points [{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]{seen}"
        )


@dataclass(frozen=True)
class _Answers:
    """A run's, of the same images in the same order."""

    truth: Truth
    decided: Truth
    probabilities: Floats

    @classmethod
    def of(cls, found: Predictions, class_names: Sequence[str]) -> _Answers:
        numbers = {name: number for number, name in enumerate(class_names)}

        def sets(column: str) -> Truth:
            made = np.zeros((len(found.rows), len(class_names)), np.uint8)
            for row, values in zip(made, found.rows):
                row[[numbers[name] for name in labels_in(values[column], found.run.label_delimiter)]] = 1
            return made

        shares = [[float(row[f"p:{name}"]) for name in class_names] for row in found.rows]
        return cls(sets("truth"), sets("predicted"), np.array(shares))

    def measure(self) -> Measure:
        """The means, and each class's average precision, [3 + C, R]."""
        precisions = set_measures.average_precisions(self.truth, self.probabilities)
        f1s, micro = set_measures.f1s(self.truth, self.decided), set_measures.micro_f1(self.truth, self.decided)

        def measure(weights: Floats) -> Floats:
            each = precisions(weights)
            means = map(set_measures.mean_over_defined, (each, f1s(weights)))
            return np.concatenate([np.stack([*means, micro(weights)]), each])

        return measure


def compare_sets(config: CompareConfig, first: Predictions, second: Predictions) -> SetComparison:
    """Compares two runs by a paired bootstrap over groups.

    Args:
        config: what `headstart compare` takes.
        first, second: their predictions of the same images.

    Raises:
        UserError: for other classes, or other labels.
    """
    names = first.run.class_names
    if sorted(names) != sorted(second.run.class_names):
        raise UserError("other-dataset", f"{config.baseline!r} and {config.run!r} were trained on other classes")
    answers = [_Answers.of(found, names) for found in (first, second)]
    if not np.array_equal(answers[0].truth, answers[1].truth):
        raise UserError("other-dataset", f"{config.baseline!r} and {config.run!r} were evaluated by other labels")
    before, after = (each.measure() for each in answers)
    groups, count = [row["group"] or row["key"] for row in first.rows], len(first.rows)
    values = [set_measures.value(measure, count) for measure in (before, after)]
    ends = bootstrap_rows(
        lambda weights: after(weights) - before(weights), groups, config.seed, bounded_replicates(count, 2 * len(names))
    )
    ends = ends or [(math.nan, math.nan)] * len(values[0])
    pairs = [
        Pair(name, float(a), float(b), PairedDifference(float(b - a), *own))
        for name, a, b, own in zip([*MEANS, *names], *values, ends)
    ]
    classes = [pair for pair in pairs[len(MEANS) :] if not math.isnan(pair.first)]
    return SetComparison(
        count,
        pairs[: len(MEANS)],
        sorted(classes, key=lambda pair: -abs(pair.difference.difference)),
        _drop(config, first, second),
        _save(first, second),
    )


def _drop(config: CompareConfig, first: Predictions, second: Predictions) -> float:
    """By how much the second run is worse, by the metric that was asked for."""
    name = config.metric_of(several=True)
    before, after = (float(each.metrics[name]["value"]) for each in (first, second))
    return after - before if name in LESS_IS_BETTER else before - after


def _save(first: Predictions, second: Predictions) -> str:
    """Writes the table of images that the two answer differently, beside the second's predictions; its path."""
    rows = [
        {"key": one["key"], "truth": one["truth"], "predicted_a": one["predicted"], "predicted_b": other["predicted"]}
        for one, other in zip(first.rows, second.rows)
    ]
    path = os.path.join(second.folder, TABLE)
    differing = [row for row in rows if row["predicted_a"] != row["predicted_b"]]
    header = ",".join(rows[0]) + "\n"
    files.write_bytes(path, files.csv_bytes(differing) if differing else header.encode())
    push_files(path)
    return path
