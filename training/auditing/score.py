"""The score of the split that is held out, with and without its images that have a copy in another split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.features.dataset.labels import refuse_several
from headstart.features.errors import UserError
from headstart.training.auditing.findings import Images, Row
from headstart.training.auditing.label_errors import logistic_regression
from headstart.training.auditing.space import Floats
from headstart.training.evaluation.intervals import accuracy_interval
from headstart.training.evaluation.predictions import Predictions
from headstart.training.runs.run_folder import Run


@dataclass(frozen=True)
class Share:
    """An accuracy with its 95% interval, of so many images."""

    examples: int
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f}% [{100 * self.low:.1f}, {100 * self.high:.1f}]"


@dataclass(frozen=True)
class Score:
    """Of what, on all images that are held out, and on those without a copy elsewhere."""

    of: str
    all: Share
    without: Share

    @property
    def words(self) -> str:
        """A sentence."""
        return f"The accuracy of {self.of} is {self.all} with them, {self.without} without"

    def to_json(self) -> Row:
        """For the report."""
        return {"of": self.of, "all": vars(self.all), "without": vars(self.without)}


def with_and_without(of: str, right: np.ndarray, leaked: np.ndarray, groups: Sequence[str]) -> Score | None:
    """The score, if there are copies and something is left without them.

    Args:
        of: what was scored, in words.
        right: bool [N] of the images that are held out.
        leaked: bool [N], those that have a copy in another split.
        groups: N names.
    """
    if not leaked.any() or leaked.all():
        return None
    kept = ~leaked
    return Score(of, _share(right, groups), _share(right[kept], [group for group, each in zip(groups, kept) if each]))


def _share(right: np.ndarray, groups: Sequence[str]) -> Share:
    return Share(len(right), float(right.mean()), *accuracy_interval(right, groups))


def right_by_run(run: str, images: Images) -> np.ndarray:
    """Which images of the split that is held out a run classified rightly when it was evaluated, bool [N].

    Raises:
        UserError: for a run that was not evaluated on that split, or on other images; or when nothing is held out.
    """
    if not images.held_out_split:
        raise UserError("missing-split", f"the store has one split only, so that --run {run!r} has nothing to be scored on")
    opened = Run.open(run)
    refuse_several(opened.label_delimiter, "an audit", "name a run on the store's own labels")
    rows = {row["key"]: row["predicted"] == row["truth"] for row in Predictions.of_run(opened, images.held_out_split).rows}
    keys = [example.key for example, held in zip(images.examples, images.held_out) if held]
    if missing := [key for key in keys if key not in rows]:
        raise UserError(
            "other-dataset",
            f"--run {run!r} was not evaluated on {missing[0]!r} ({len(missing)} of {len(keys)} images of "
            f"{images.held_out_split} in all): name a run that was evaluated on this dataset",
        )
    return np.array([rows[key] for key in keys], bool)


def right_by_probe(coordinates: Floats, images: Images, strength: float) -> np.ndarray:
    """The same of a linear probe that is fitted to all other splits, copies and all.

    Args:
        coordinates: float32 [N, K].
        images: N.
        strength: of the regression, which the other splits chose.
    """
    fitted = ~images.held_out
    model = logistic_regression(coordinates[fitted], images.labels[fitted], strength)
    return model.predict(coordinates[images.held_out]) == images.labels[images.held_out]
