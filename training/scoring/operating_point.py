"""A threshold for one class: chosen for a goal on one split, and what it achieves on another.

In: whether each of N examples is of the class, bool [N], and its probability of being so, float [N]. An example is taken for
the class when its probability is the threshold or more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headstart.training.runs.run_folder import Run
from headstart.training.scoring.goals import Goal
from headstart.training.scoring.intervals import Floats, accuracy_interval
from headstart.training.scoring.measures import ratio

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, and what it was chosen for.

    Args:
        goal: as `--operating_point` had it.
        positive_class: the class that is looked for.
        threshold: of its probability, 0..1; nan where no threshold reaches the goal.
        best: the most there can be of the measure that was to be held, on what it was chosen by; nan where it is undefined.
    """

    goal: str
    positive_class: str
    threshold: float
    best: float

    @classmethod
    def of_run(cls, run: Run) -> OperatingPoint | None:
        """The one that a run's training froze, if it did."""
        kept = run.metrics.get("operating_point") or {"threshold": None}
        if kept["threshold"] is None:
            return None
        return cls(**{field.name: kept[field.name] for field in fields(cls)})

    def to_json(self) -> dict[str, Any]:
        """As plain values, None where one is undefined."""
        return {name: None if value != value else value for name, value in vars(self).items()}


def choose(goal: Goal, positive_class: str, truth: ArrayLike, scores: ArrayLike) -> OperatingPoint:
    """The threshold that gives the most of what is wanted among those that hold the other measure.

    Of several it is the one that holds more, then the highest. It lies in the middle between two probabilities, so that
    rounding decides nothing. A threshold that nothing reaches is no choice.

    Args:
        goal: what for.
        positive_class: the class's name.
        truth: bool [N], N at least 1.
        scores: float [N], 0..1.
    """
    positive, probabilities = np.asarray(truth, bool), np.asarray(scores, np.float64)
    levels = np.unique(probabilities)[::-1]  # [L], falling
    rows = np.searchsorted(-levels, -probabilities)  # [N]
    hits, alarms = (np.bincount(rows, kind, len(levels)).cumsum() for kind in (positive, ~positive))  # [L] each
    found = _rates(hits, alarms, float(positive.sum()), float((~positive).sum()))
    wanted, held = (np.nan_to_num(found[name], nan=-1.0) for name in (goal.wanted, goal.held))
    best = float(held.max()) if held.max() >= 0 else math.nan
    reached = np.flatnonzero((held >= goal.least) & (wanted >= 0))
    if not len(reached):
        return OperatingPoint(str(goal), positive_class, math.nan, best)
    at = max(reached, key=lambda level: (wanted[level], held[level], -level))
    below = levels[at + 1] if at + 1 < len(levels) else 0.0
    return OperatingPoint(str(goal), positive_class, float((levels[at] + below) / 2), best)


def achieved(
    goal: Goal, truth: ArrayLike, scores: ArrayLike, threshold: float, groups: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Both measures of a goal at a threshold: value, 95 % interval, hits and trials; None where one is undefined.

    Args:
        goal: which measures.
        truth: bool [N].
        scores: float [N], 0..1.
        threshold: 0..1.
        groups: N names; examples of one name are seen together.
    """
    positive, taken = np.asarray(truth, bool), np.asarray(scores, np.float64) >= threshold
    names = np.asarray(groups, object)
    trials = {"recall": positive, "sensitivity": positive, "precision": taken, "specificity": ~positive}
    right = {"recall": taken, "sensitivity": taken, "precision": positive, "specificity": ~taken}
    return {name: _share(right[name][trials[name]], list(names[trials[name]])) for name in (goal.wanted, goal.held)}


def _share(right: Flags, groups: Sequence[str]) -> dict[str, Any]:
    if not len(right):
        return {"value": None, "low": None, "high": None, "hits": 0, "trials": 0}
    low, high = accuracy_interval(right, groups)
    return {"value": float(right.mean()), "low": low, "high": high, "hits": int(right.sum()), "trials": len(right)}


def _rates(hits: Floats, alarms: Floats, positives: float, negatives: float) -> dict[str, Floats]:
    """The measures at each of L levels, [L], nan where one is undefined, from true and false positives [L]."""
    recall, missed = (ratio(part, np.full(len(hits), whole)) for part, whole in ((hits, positives), (alarms, negatives)))
    return {"recall": recall, "sensitivity": recall, "precision": ratio(hits, hits + alarms), "specificity": 1 - missed}
