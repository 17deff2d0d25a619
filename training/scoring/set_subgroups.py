"""Where a run on several labels an image is weakest: its answers, and a value for each image, in; a row for each value out.

What values are is `headstart.training.scoring.subgroups`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from headstart.training.scoring import set_measures
from headstart.training.scoring.bootstrap import NOTHING, RANKING, SHARE, bootstrap_rows, bounded_replicates, groups_with
from headstart.training.scoring.intervals import Floats
from headstart.training.scoring.scores import Interval
from headstart.training.scoring.set_measures import Truth
from headstart.training.scoring.thresholds import decided


@dataclass(frozen=True)
class SetSubgroup:
    """The images of one value: how many they are, in how many groups, how well their labels are ranked and decided.

    The mean average precision is over the classes that some of these images has, and so is chance, what an order that knows
    nothing would have: a value whose images have more labels has more of both. Nan where none of them has a label.
    """

    value: str
    count: int
    groups: int
    mean_average_precision: Interval
    chance: float
    micro_f1: Interval

    def figures(self) -> dict[str, Interval]:
        """What is told of them, by its title."""
        chance = Interval(self.chance, math.nan, math.nan)
        return {"mean average precision": self.mean_average_precision, "chance": chance, "micro F1": self.micro_f1}

    def to_json(self) -> dict[str, Any]:
        """As plain values, None where one is undefined."""
        found = {name: getattr(self, name).to_json() for name in ("mean_average_precision", "micro_f1")}
        return {**asdict(self), **found, "chance": None if math.isnan(self.chance) else self.chance}


def set_subgroups(
    values: Sequence[str], truth: Truth, probabilities: Floats, thresholds: Floats, groups: Sequence[str], seed: int = 0
) -> list[SetSubgroup]:
    """A row for each value, the lowest mean average precision first, of equal ones the larger; undefined ones last.

    Args:
        values: N names.
        truth: uint8 [N, C].
        probabilities: float [N, C], 0..1.
        thresholds: float [C]: from which probability on a label is decided.
        groups: N names; images of one name are drawn together.
        seed: of the bootstrap.
    """
    rows = [
        _of_images(value, truth[own], probabilities[own], thresholds, [groups[row] for row in own], seed)
        for value, own in rows_by(values).items()
    ]
    return sorted(rows, key=lambda row: (math.isnan(at := row.mean_average_precision.value), at, -row.count))


def rows_by(values: Sequence[str]) -> dict[str, np.ndarray]:
    """The rows of each value, in the values' order."""
    named = np.asarray(values, object)
    return {value: np.flatnonzero(named == value) for value in sorted(set(values))}


def _of_images(
    value: str, truth: Truth, probabilities: Floats, thresholds: Floats, groups: Sequence[str], seed: int
) -> SetSubgroup:
    precision = set_measures.mean_average_precision(truth, probabilities)
    answers = decided(probabilities, thresholds)
    micro = set_measures.micro_f1(truth, answers)

    def measure(weights: Floats) -> Floats:
        return np.stack([precision(weights), micro(weights)])

    found = set_measures.value(measure, len(truth))
    telling = [set_measures.telling_of(truth, groups)[1], groups_with((answers != truth).any(1), groups)]
    replicates, scales = bounded_replicates(*truth.shape), [RANKING, SHARE]
    ends = bootstrap_rows(measure, groups, seed, replicates, scales, telling) or [NOTHING] * 2
    shares = truth.mean(0)
    return SetSubgroup(
        value,
        len(truth),
        len(set(groups)),
        Interval(float(found[0]), *ends[0]),
        float(shares[shares > 0].mean()) if shares.any() else math.nan,
        Interval(float(found[1]), *ends[1]),
    )
