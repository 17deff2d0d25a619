"""headstart compare: two runs' predictions of the same images in; the difference, its interval and where they part out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from headstart.features.dataset.examples import Example
from headstart.features.errors import UserError
from headstart.features.shown import Shown, plots
from headstart.training.comparing.compare_config import LESS_IS_BETTER, CompareConfig
from headstart.training.comparing.compare_page import write_comparison, write_set_comparison
from headstart.training.comparing.compare_sets import SetComparison, compare_sets
from headstart.training.comparing.differing import Differing, DifferingSets, find_pictures, leave
from headstart.training.predicting.predictions import Predictions, chosen_by, knows_contents
from headstart.training.runs.run_folder import Run
from headstart.training.scoring.comparisons import PairedDifference, against_best, gains_of, mcnemar
from headstart.training.scoring.subgroups import values_by
from headstart.training.tasks.checks import check_comparison


@dataclass(frozen=True)
class Part:
    """The images of one class, or of one value: how many, each run's accuracy, and those on which one run alone is right.

    p is McNemar's exact test that both are equally accurate, of groups whole.
    """

    value: str
    count: int
    accuracy: float
    other: float
    better: int
    worse: int
    p: float


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """Two runs on the same images.

    Args:
        examples: how many images.
        evaluation: the first run's, by its name: of the same images as the second's, whose name is --split.
        chose: the runs that these images chose, "A", "B", or "A and B", whose figures they flatter; '' where they chose none.
        accuracy, other: of the first run, and of the second.
        difference: the second's accuracy less the first's.
        drop: how much worse the second run's metric is.
        better, worse: images on which the second run alone is right, and the first alone.
        p: McNemar's exact test that both are equally accurate; groups, and copies of an image, change sides whole.
        parts: by `class`, and by each column that was asked for: its values, those with the largest change first.
        table: the path of the images that the two answer differently.
        sheet: the path of their pictures; '' where there are none, or they are not at hand, which why_not tells.
    """

    examples: int
    evaluation: str
    chose: str
    accuracy: float
    other: float
    difference: PairedDifference
    drop: float
    better: int
    worse: int
    p: float
    parts: dict[str, list[Part]]
    table: str
    sheet: str
    why_not: str

    def words(self) -> str:
        """The difference, and whether it is one."""
        gap = self.difference
        seen = "" if gap.significant else ": no difference was seen"
        return (
            f"{self.examples:,} examples: A {self.accuracy:.2%}, B {self.other:.2%}; B less A "
            f"{100 * gap.difference:+.2f} points [{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]{seen}"
        )

    def pictures(self) -> Iterable[tuple[str, bytes]]:
        """The images that the two answer differently."""
        return plots(self.sheet)


def compare(config: CompareConfig) -> Comparison | SetComparison:
    """Compares two runs, and leaves a page and the images that they answer differently beside the second's predictions.

    Args:
        config: what `headstart compare` takes.

    Raises:
        UserError: for a run that is not complete or was not evaluated, or evaluations of other images or labels.
    """
    runs = [Run.open(path) for path in (config.baseline, config.run)]
    several = check_comparison(config, *(run.label_delimiter for run in runs))
    second = Predictions.of_run(runs[1], config.split)
    first = _beside(second, config, runs[0], "key" if several else "truth")  # another delimiter may part sets
    values = {by: values_by(by, config.by_table, _examples(second), second.source) for by in config.by}
    delimiters = (runs[0].label_delimiter, runs[1].label_delimiter)
    differing = DifferingSets(first.rows, second.rows, delimiters) if several else Differing(first.rows, second.rows)
    pictures = find_pictures(differing, second)
    left = leave(differing, pictures, second.folder)
    if several:
        sets = compare_sets(config, first, second, values, left)
        write_set_comparison(config, sets, differing, pictures)
        return sets
    values = {"class": [row["truth"] for row in first.rows], **values}
    known = knows_contents(first, second)
    contents, groups = known.contents, known.together
    hits = [np.array([row["predicted"] == row["truth"] for row in each.rows]) for each in (first, second)]
    before, after = (float(each.mean()) for each in hits)
    comparison = Comparison(
        len(first.rows),
        os.path.basename(first.folder),
        chosen_by(first, second),
        before,
        after,
        against_best(hits, groups, config.seed)[1],
        _drop(config, first, second) if config.metric_of(several=False) != "accuracy" else before - after,
        int((hits[1] & ~hits[0]).sum()),
        int((hits[0] & ~hits[1]).sum()),
        mcnemar(gains_of(hits[0], hits[1], groups)),
        {by: _parts(each, hits[0], hits[1], contents if by == "group" else groups) for by, each in values.items()},
        *left,
    )
    write_comparison(config, comparison, differing, pictures)
    return comparison


def _beside(second: Predictions, config: CompareConfig, run: Run, truth: str) -> Predictions:
    """The first run's evaluation of the second's images."""
    if found := second.of_the_same_images(run, config.split, truth):
        return found
    counts = len(Predictions.of_run(run, config.split).rows), len(second.rows)
    raise UserError(
        "other-dataset",
        f"{config.baseline!r} and {config.run!r} were not evaluated on the same images with the same labels "
        f"({counts[0]} and {counts[1]}): run headstart evaluate again, of the older one where its store has grown, "
        f"or of both on one folder, headstart evaluate RUN FOLDER",
    )


def _examples(predictions: Predictions) -> list[Example]:
    return [Example(row["key"], "", (row["truth"],), "", row["group"]) for row in predictions.rows]


def _parts(values: Sequence[str], first: np.ndarray, second: np.ndarray, groups: Sequence[str]) -> list[Part]:
    """A row for each value, those first whose images changed sides most; bool [N] says where each run was right."""
    named, belonging, rows = np.array(values, object), np.array(groups, object), []
    for value in sorted(set(values)):
        own = named == value
        before, after, p = first[own], second[own], mcnemar(gains_of(first[own], second[own], list(belonging[own])))
        gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
        rows.append(Part(value, len(before), float(before.mean()), float(after.mean()), gained, lost, p))
    return sorted(rows, key=lambda row: -abs(row.better - row.worse))


def _drop(config: CompareConfig, first: Predictions, second: Predictions) -> float:
    """By how much the second run is worse, by the metric that was asked for."""
    name = config.metric_of(several=False)
    before, after = (each.figure(name) for each in (first, second))
    return after - before if name in LESS_IS_BETTER else before - after
