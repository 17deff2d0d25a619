"""Two runs on several labels an image, on the same images: what `headstart compare` says of them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from headstart.features.dataset.labels import labels_in
from headstart.features.errors import UserError
from headstart.features.shown import Shown, plots
from headstart.training.comparing.compare_config import LESS_IS_BETTER, CompareConfig
from headstart.training.comparing.differing import Left
from headstart.training.predicting.predictions import Predictions, chosen_by, knows_contents
from headstart.training.scoring import set_measures
from headstart.training.scoring.bootstrap import DIFFERENCE, NOTHING, Measure, bootstrap_rows, bounded_replicates
from headstart.training.scoring.comparisons import PairedDifference
from headstart.training.scoring.intervals import Floats
from headstart.training.scoring.set_measures import Truth
from headstart.training.scoring.set_subgroups import rows_by

AnyPair = TypeVar("AnyPair", bound="Pair")
MEANS = ("mean_average_precision", "macro_f1", "micro_f1")


@dataclass(frozen=True)
class Pair:
    """A score of both runs on the same images, and the second's less the first's, with its 95% interval."""

    name: str
    first: float
    second: float
    difference: PairedDifference


@dataclass(frozen=True)
class SetPart(Pair):
    """The mean average precision of both on the images of one value, over the classes that some of them has."""

    count: int


@dataclass(frozen=True, repr=False)
class SetComparison(Shown):
    """Two runs on the same images.

    Args:
        examples: how many images.
        evaluation: the first run's, by its name: of the same images as the second's, whose name is --split.
        chose: the runs that these images chose, as `Comparison` has it.
        means: the mean average precision, the mean F1 over classes, and F1 over all labels.
        classes: each class's average precision, those with the largest change first; each interval is for itself.
        parts: by each column that was asked for: its values, those with the largest change first; each interval is for itself.
        drop: how much worse the second run's metric is.
        table: the path of the images that the two answer differently.
        sheet: the path of their pictures; '' where there are none, or they are not at hand, which why_not tells.
    """

    examples: int
    evaluation: str
    chose: str
    means: list[Pair]
    classes: list[Pair]
    parts: dict[str, list[SetPart]]
    drop: float
    table: str
    sheet: str
    why_not: str

    def words(self) -> str:
        """The difference, and whether it is one."""
        found = self.means[0]
        gap = found.difference
        seen = "" if gap.significant else ": no difference was seen"
        return (
            f"{self.examples:,} examples: mean average precision of A {found.first:.2%}, of B {found.second:.2%}; B less A "
            f"{100 * gap.difference:+.2f} points [{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]{seen}"
        )

    def pictures(self) -> Iterable[tuple[str, bytes]]:
        """The images that the two answer differently."""
        return plots(self.sheet)


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


def compare_sets(
    config: CompareConfig, first: Predictions, second: Predictions, values_by: Mapping[str, Sequence[str]], left: Left
) -> SetComparison:
    """Compares two runs by a paired bootstrap over groups.

    Args:
        config: what `headstart compare` takes.
        first, second: their predictions of the same images.
        values_by: for each `--by`, the images' values.
        left: what was left of the images that the two answer differently.

    Raises:
        UserError: for other classes, or other labels.
    """
    names = first.run.class_names
    if sorted(names) != sorted(second.run.class_names):
        raise UserError("other-dataset", f"{config.baseline!r} and {config.run!r} were trained on other classes")
    answers = [_Answers.of(found, names) for found in (first, second)]
    if not np.array_equal(answers[0].truth, answers[1].truth):
        raise UserError("other-dataset", f"{config.baseline!r} and {config.run!r} were evaluated by other labels")
    known = knows_contents(first, second)
    groups = known.together
    of_each, of_means = set_measures.telling_of(answers[0].truth, groups)
    wrong = np.any([(each.decided != each.truth).any(1) for each in answers], axis=0)
    mistaken = len({group for group, one in zip(groups, wrong) if one})
    telling = [of_means, of_means, mistaken, *of_each]
    found = _pairs([each.measure() for each in answers], groups, len(names), config.seed, telling)
    pairs = [Pair(name, *own) for name, own in zip([*MEANS, *names], found)]
    classes = [pair for pair in pairs[len(MEANS) :] if not math.isnan(pair.first)]
    return SetComparison(
        len(first.rows),
        os.path.basename(first.folder),
        chosen_by(first, second),
        pairs[: len(MEANS)],
        _changed_most(classes),
        {
            by: _parts(each, answers, known.contents if by == "group" else groups, config.seed)
            for by, each in values_by.items()
        },
        _drop(config, first, second),
        *left,
    )


def _pairs(
    measures: Sequence[Measure], groups: Sequence[str], classes: int, seed: int, telling: Sequence[int]
) -> list[tuple[float, float, PairedDifference]]:
    """For each of the values that two measures of the same images give: both, and their difference.

    telling says of each in how many groups there is something to tell it by.
    """
    before, after = measures
    first, second = (np.atleast_1d(set_measures.value(measure, len(groups))) for measure in measures)
    replicates = bounded_replicates(len(groups), 2 * classes)

    def difference(weights: Floats) -> Floats:
        return np.atleast_2d(after(weights) - before(weights))

    ends = bootstrap_rows(difference, groups, seed, replicates, [DIFFERENCE] * len(first), telling) or [NOTHING] * len(first)
    return [(float(a), float(b), PairedDifference(float(b - a), *own)) for a, b, own in zip(first, second, ends)]


def _parts(values: Sequence[str], answers: Sequence[_Answers], groups: Sequence[str], seed: int) -> list[SetPart]:
    """A row for each value that some image with a label has."""
    parts = []
    for value, own in rows_by(values).items():
        measures = [set_measures.mean_average_precision(each.truth[own], each.probabilities[own]) for each in answers]
        truth, together = answers[0].truth[own], [groups[row] for row in own]
        telling = set_measures.telling_of(truth, together)[1]
        ((first, second, gap),) = _pairs(measures, together, truth.shape[1], seed, [telling])
        if not math.isnan(first):
            parts.append(SetPart(value, first, second, gap, len(own)))
    return _changed_most(parts)


def _changed_most(pairs: Sequence[AnyPair]) -> list[AnyPair]:
    return sorted(pairs, key=lambda pair: -abs(pair.difference.difference))


def _drop(config: CompareConfig, first: Predictions, second: Predictions) -> float:
    """By how much the second run is worse, by the metric that was asked for."""
    name = config.metric_of(several=True)
    before, after = (each.figure(name) for each in (first, second))
    return after - before if name in LESS_IS_BETTER else before - after
