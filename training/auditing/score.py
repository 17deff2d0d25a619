"""The score of the split that is held out, with and without its images that have a copy in another split.

It is the accuracy; where images may have several labels, the mean average precision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from headstart.features.errors import UserError
from headstart.training.auditing.findings import Images, Row
from headstart.training.auditing.label_errors import logistic_regression
from headstart.training.auditing.space import Floats, Ints
from headstart.training.predicting.answers import check_same_task
from headstart.training.predicting.predictions import Predictions
from headstart.training.runs.run_folder import Run
from headstart.training.scoring.bootstrap import RANKING, bootstrap_intervals, bounded_replicates
from headstart.training.scoring.intervals import accuracy_interval
from headstart.training.scoring.set_measures import mean_average_precision, telling_of, value


@dataclass(frozen=True)
class Share:
    """A score with its 95% interval, of so many images."""

    examples: int
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        interval = "" if math.isnan(self.low) else f" [{100 * self.low:.1f}, {100 * self.high:.1f}]"
        return f"{100 * self.value:.1f}%{interval}"

    def to_json(self) -> Row:
        """As plain values, None where there is no interval."""
        return {name: None if math.isnan(value) else value for name, value in vars(self).items()}


class Scored(Protocol):
    """What was answered to the H images that are held out."""

    measure: ClassVar[str]

    def share(self, chosen: Ints, groups: Sequence[str]) -> Share:
        """The score of some of them, by their numbers; groups are those of H images."""
        ...


@dataclass(frozen=True)
class Rights:
    """Which were classified rightly, bool [H]."""

    measure: ClassVar[str] = "accuracy"
    right: np.ndarray

    def share(self, chosen: Ints, groups: Sequence[str]) -> Share:
        """Their accuracy."""
        right = self.right[chosen]
        return Share(len(right), float(right.mean()), *accuracy_interval(right, [groups[each] for each in chosen]))


@dataclass(frozen=True)
class Rankings:
    """Labels, uint8 [H, C], and how probable each was called, float [H, C]."""

    measure: ClassVar[str] = "mean average precision"
    truth: np.ndarray
    probabilities: np.ndarray

    def share(self, chosen: Ints, groups: Sequence[str]) -> Share:
        """Their mean average precision."""
        measure = mean_average_precision(self.truth[chosen], self.probabilities[chosen])
        own, replicates = [groups[each] for each in chosen], bounded_replicates(len(chosen), self.truth.shape[1])
        _, telling = telling_of(self.truth[chosen], own)
        low, high = bootstrap_intervals({"": measure}, own, 0, replicates, {"": RANKING}, telling)[""]
        return Share(len(chosen), float(value(measure, len(chosen))), low, high)


@dataclass(frozen=True)
class Score:
    """Of what, on all images that are held out, and on those without a copy elsewhere."""

    of: str
    measure: str
    all: Share
    without: Share

    @property
    def words(self) -> str:
        """A sentence."""
        return f"The {self.measure} of {self.of} is {self.all} with them, {self.without} without"

    def to_json(self) -> Row:
        """For the report."""
        return {"of": self.of, "measure": self.measure, "all": self.all.to_json(), "without": self.without.to_json()}


def with_and_without(of: str, scored: Scored, leaked: np.ndarray, groups: Sequence[str]) -> Score | None:
    """The score, if there are copies and something is left without them.

    Args:
        of: what was scored, in words.
        scored: the answers to the H images that are held out.
        leaked: bool [H], those that have a copy in another split.
        groups: H names.
    """
    if not leaked.any() or leaked.all():
        return None
    shares = [scored.share(np.flatnonzero(chosen), groups) for chosen in (np.ones(len(leaked), bool), ~leaked)]
    return Score(of, scored.measure, *shares)


def scored_by_run(run: str, images: Images) -> Scored:
    """What a run answered to the split that is held out when it was evaluated.

    Raises:
        UserError: for a run that was not evaluated on that split, or on other images; or when nothing is held out.
    """
    if not images.held_out_split:
        raise UserError("missing-split", f"the store has one split only, so that --run {run!r} has nothing to be scored on")
    opened = Run.open(run)
    check_same_task(opened, images.delimiter, "the store")
    rows = {row["key"]: row for row in Predictions.of_run(opened, images.held_out_split).rows}
    keys = [example.key for example, held in zip(images.examples, images.held_out) if held]
    if missing := [key for key in keys if key not in rows]:
        raise UserError(
            "other-dataset",
            f"--run {run!r} was not evaluated on {missing[0]!r} ({len(missing)} of {len(keys)} images of "
            f"{images.held_out_split} in all): name a run that was evaluated on this dataset",
        )
    if not images.delimiter:
        return Rights(np.array([rows[key]["predicted"] == rows[key]["truth"] for key in keys], bool))
    if sorted(opened.class_names) != sorted(images.class_names):
        raise UserError("other-dataset", f"--run {run!r} was trained on other classes: name a run on the store's own labels")
    shares = [[float(rows[key][f"p:{name}"]) for name in images.class_names] for key in keys]
    return Rankings(images.labels[images.held_out].astype(np.uint8), np.array(shares))


def scored_by_probe(coordinates: Floats, images: Images, strengths: Sequence[float]) -> Scored:
    """The same of a linear probe that is fitted to all other splits, copies and all.

    Args:
        coordinates: float32 [N, K].
        images: N.
        strengths: of the regression for each question, which the other splits chose.
    """
    held, answers = images.held_out, []
    for question, strength in zip(images.questions, strengths):
        learned = question.labels[~held]
        if len(np.unique(learned)) > 1:
            answers.append(logistic_regression(coordinates[~held], learned, strength).predict_proba(coordinates[held]))
        else:  # a class that all images of the other splits have, or none
            answers.append(np.eye(2)[np.full(int(held.sum()), learned[0])])
    if images.delimiter:
        return Rankings(images.labels[held].astype(np.uint8), np.stack([each[:, 1] for each in answers], axis=1))
    known = np.unique(images.labels[~held])
    return Rights(known[answers[0].argmax(1)] == images.labels[held])
