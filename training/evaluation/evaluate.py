"""headstart evaluate: a run and a split, or any labelled images, in; figures with intervals, plots and predictions out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.features import files
from headstart.features.config import given
from headstart.features.dataset.examples import Example, drawn_together
from headstart.features.dataset.inputs import absolute_input
from headstart.features.dataset.record_inputs import is_record_input
from headstart.features.dataset.sources import SourceOptions
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.features.runtime import quietly
from headstart.features.shown import Shown, plots
from headstart.features.store.manifest import is_store
from headstart.training.evaluation import report, set_report
from headstart.training.evaluation.evaluate_config import READING, EvaluateConfig
from headstart.training.evaluation.evaluation_folder import written_whole
from headstart.training.plots.confused_pairs import confused_pairs
from headstart.training.plots.confusion_matrix import confusion_matrix
from headstart.training.plots.reliability import reliability
from headstart.training.predicting.answers import Answers, UnreadableImage, of_images, of_store
from headstart.training.predicting.predictions import PREDICTIONS
from headstart.training.runs.run_folder import EVALUATION, STORE, Run
from headstart.training.scoring.goals import parse_goal
from headstart.training.scoring.intervals import accuracy_interval
from headstart.training.scoring.operating_point import OperatingPoint, achieved
from headstart.training.scoring.scores import Interval, Scores, score
from headstart.training.scoring.set_scores import SetScores, score_sets
from headstart.training.scoring.set_subgroups import SetSubgroup, set_subgroups
from headstart.training.scoring.subgroups import Subgroup, subgroups, values_by
from headstart.training.scoring.temperature import figures, reliability_bins, without_temperature
from headstart.training.scoring.thresholds import thresholds_of
from headstart.training.tasks.checks import check_evaluation

MAX_CLASSES_IN_A_MATRIX = 40

MATRIX, RELIABILITY, BY_CLASS = "confusion_matrix.png", "reliability.png", "precision_by_class.png"


@dataclass(frozen=True, repr=False)
class Evaluation(Shown):
    """A run measured on some examples.

    Args:
        scores: what came of it.
        folder: where metrics.json, predictions.csv and plots are.
        split: the split's name, or 'all'.
        input: the store, folder or table, as an absolute path.
        used_for_selection: most of the contents were trained on or chosen by, so that the scores flatter the run.
        seen_in_training: how many of them.
        unseen: where some were and some were not, of the others: `examples`, and the `value`, `low` and `high` of a `metric`.
        groups_declared: someone said which examples belong together.
        unreadable: images that there is no score of.
        dataset_digest: of the dataset that was measured on.
        split_digest: of those of its examples that were.
        spec_fingerprint: of the features.
        without_temperature: log loss, Brier score and calibration error as they would be had the run not been calibrated, and
            the temperature; empty where it was not.
        operating_point: the run's threshold, and what it achieves here; empty where the run has none.
        by: for each `--by`, a row for each value.
    """

    scores: Scores | SetScores
    folder: str
    split: str
    input: str
    used_for_selection: bool
    seen_in_training: int
    unseen: dict[str, Any]
    groups_declared: bool
    unreadable: list[UnreadableImage]
    dataset_digest: str
    split_digest: str
    spec_fingerprint: str
    without_temperature: dict[str, float]
    operating_point: dict[str, Any]
    by: dict[str, list[Subgroup]] | dict[str, list[SetSubgroup]]

    def words(self) -> str:
        """The figures, with their intervals."""
        beside = (self.split, self.used_for_selection, self.groups_declared)
        if isinstance(self.scores, SetScores):
            return set_report.summary(self.scores, *beside)
        return report.summary(self.scores, *beside)

    def lines_by(self) -> list[str]:
        """A table for each `--by`, of its worst values."""
        return [line for by, rows in self.by.items() for line in report.subgroup_lines(by, rows)]

    def pictures(self) -> Iterable[tuple[str, bytes]]:
        """The confusion matrix, and how far probabilities hold; of several labels, how well each class is found."""
        return plots(*(place.join(self.folder, name) for name in (MATRIX, RELIABILITY, BY_CLASS)))

    def to_json(self) -> dict[str, Any]:
        """What metrics.json holds."""
        beside = {name: value for name, value in vars(self).items() if name != "scores"}
        by = {name: [row.to_json() for row in rows] for name, rows in self.by.items()}
        return {**self.scores.to_json(), **beside, "unreadable": [vars(image) for image in self.unreadable], "by": by}


@quietly
def evaluate(config: EvaluateConfig) -> Evaluation:
    """Measures a run and writes RUN/evaluation/NAME: metrics.json, predictions.csv and plots.

    Args:
        config: what `headstart evaluate` takes.

    Raises:
        UserError: for a split that does not exist (listing those that do), other classes or features than the run's, or a run
            that was trained again meanwhile.
    """
    run = Run.open(config.run, config.unsafe)
    check_evaluation(config, run.label_delimiter)
    path = config.input or data_source(run)
    found = _answers(config, run, path)
    groups = drawn_together(found.examples)
    known = run.seen()
    is_seen = np.array([example.content in known for example in found.examples])
    seen = int(is_seen.sum())
    evaluation = Evaluation(
        folder=place.join(run.home, EVALUATION, found.name),
        split=found.split,
        input=absolute_input(path),
        used_for_selection=2 * seen > len(found.examples),
        seen_in_training=seen,
        unseen=_unseen(config, run, found, groups, np.flatnonzero(~is_seen)) if seen else {},
        groups_declared=found.groups_declared,
        unreadable=found.unreadable,
        dataset_digest=found.dataset_digest,
        split_digest=_split_digest(found.examples),
        spec_fingerprint=run.spec.fingerprint,
        **(_measured_sets if run.label_delimiter else _measured)(config, run, found, groups),
    )
    with written_whole(run, found.name) as folder:
        _write(folder, evaluation, found, groups, run)
    return evaluation


def _answers(config: EvaluateConfig, run: Run, path: str) -> Answers:
    """What the run says of a store, or of images."""
    if not is_store(path):
        options = SourceOptions(**{name: getattr(config, name) for name in READING})
        return of_images(run, path, config.split, options)
    if extra := given(config, READING):
        raise UserError("bad-flag", f"{extra[0]} says how images are read, and {path!r} is a store: leave it out")
    return of_store(run, path, config.split)


def _measured(config: EvaluateConfig, run: Run, found: Answers, groups: Sequence[str]) -> dict[str, Any]:
    """The fields of an evaluation that depend on what answers are: here each is a class."""
    keys = [example.key for example in found.examples]
    correct = found.probabilities.argmax(1) == found.labels
    return {
        "scores": score(found.labels, found.probabilities, keys, groups, run.class_names, config.seed),
        "without_temperature": _without_temperature(run.temperature, found),
        "operating_point": _operating_point(run, found, groups),
        "by": {by: subgroups(values, correct, own) for by, values, own in _values_by(config, found, groups)},
    }


def _measured_sets(config: EvaluateConfig, run: Run, found: Answers, groups: Sequence[str]) -> dict[str, Any]:
    """The same where an answer is a set of labels."""
    thresholds = thresholds_of(run.metrics)
    answers = (found.labels, found.probabilities, thresholds)
    return {
        "scores": score_sets(found.labels, found.probabilities, groups, run.class_names, thresholds, config.seed),
        "without_temperature": {},
        "operating_point": {},
        "by": {by: set_subgroups(values, *answers, own, config.seed) for by, values, own in _values_by(config, found, groups)},
    }


def _unseen(config: EvaluateConfig, run: Run, found: Answers, groups: Sequence[str], rows: np.ndarray) -> dict[str, Any]:
    """The figure of the examples that the run was neither trained on nor chosen by; nothing where there are none."""
    if not len(rows):
        return {}
    labels, probabilities, own = found.labels[rows], found.probabilities[rows], [groups[row] for row in rows]
    if run.label_delimiter:
        sets = score_sets(labels, probabilities, own, run.class_names, thresholds_of(run.metrics), config.seed)
        return {"examples": len(rows), "metric": "mean_average_precision", **sets.mean_average_precision.to_json()}
    correct = probabilities.argmax(1) == labels
    accuracy = Interval(float(correct.mean()), *accuracy_interval(correct, own))
    return {"examples": len(rows), "metric": "accuracy", **accuracy.to_json()}


def _values_by(
    config: EvaluateConfig, found: Answers, groups: Sequence[str]
) -> Iterator[tuple[str, list[str], Sequence[str]]]:
    """For each `--by`, the examples' values, and which of them belong together: of one group, each content for itself."""
    contents = [example.digest for example in found.examples]
    for by in config.by:
        values = values_by(by, config.by_table, found.examples, found.source)
        yield by, values, contents if by == "group" else groups


def _without_temperature(temperature: float, found: Answers) -> dict[str, float]:
    if temperature == 1:
        return {}
    before = figures(found.labels, without_temperature(found.probabilities, temperature))
    return {"temperature": temperature, **before}


def _operating_point(run: Run, found: Answers, groups: Sequence[str]) -> dict[str, Any]:
    point = OperatingPoint.of_run(run)
    if point is None:
        return {}
    number = run.class_names.index(point.positive_class)
    truth, scores = found.labels == number, found.probabilities[:, number]
    return {**point.to_json(), "achieved": achieved(parse_goal(point.goal), truth, scores, point.threshold, groups)}


def data_source(run: Run) -> str:
    """Where the run's own splits are.

    Raises:
        UserError: when they have moved.
    """
    path, beside = run.data_source, place.join(run.home, STORE)
    if is_record_input(path) or place.exists(path):
        return path
    if run.config.get("store") and is_store(beside):  # a run that `headstart fit` made has moved with its store in it
        return beside
    what = "store" if run.config.get("store") else "images"
    raise UserError(
        "missing-input",
        f"the {what} that {run.home!r} was trained on {'is' if what == 'store' else 'are'} no longer at {path!r}: name the "
        f"new place, headstart evaluate {run.home} {what.upper()}",
    )


def _split_digest(examples: Sequence[Example]) -> str:
    rows = sorted(f"{example.key}\0{example.digest}\0{example.labels}" for example in examples)
    return hashlib.sha256("\n".join(rows).encode("utf-8", "surrogateescape")).hexdigest()


def _write(folder: str, evaluation: Evaluation, found: Answers, groups: Sequence[str], run: Run) -> None:
    if isinstance(evaluation.scores, SetScores):
        answers = (found.examples, found.probabilities, thresholds_of(run.metrics), run.class_names, run.label_delimiter)
        set_report.write_predictions(os.path.join(folder, PREDICTIONS), *answers)
        set_report.draw_classes(evaluation.scores, os.path.join(folder, BY_CLASS), evaluation.split)
    else:
        _write_classes(folder, evaluation.scores, evaluation.split, found, groups, run)
    files.write_json(os.path.join(folder, "metrics.json"), evaluation.to_json())


def _write_classes(folder: str, scores: Scores, split: str, found: Answers, groups: Sequence[str], run: Run) -> None:
    """Predictions and plots where each answer is a class."""
    class_names = run.class_names
    report.write_predictions(os.path.join(folder, PREDICTIONS), found.examples, found.labels, found.probabilities, class_names)
    before = without_temperature(found.probabilities, run.temperature) if run.temperature != 1 else None
    title = f"How often a prediction is right, {split}"
    bins = [reliability_bins(found.labels, each, groups) for each in (found.probabilities, before) if each is not None]
    reliability(bins[0], bins[-1] if before is not None else [], os.path.join(folder, RELIABILITY), title)
    if len(class_names) <= MAX_CLASSES_IN_A_MATRIX:
        confusion_matrix(scores.confusion, class_names, os.path.join(folder, MATRIX))
    else:
        confused_pairs(
            [(pair.truth, pair.predicted, pair.count) for pair in scores.most_confused],
            os.path.join(folder, "most_confused.png"),
        )
