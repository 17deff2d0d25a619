"""Conditions such as `accuracy>=0.97`, and an evaluation's figures to those that they do not meet. Light."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart.features import files
from headstart.features.errors import UserError, nearest

if TYPE_CHECKING:
    from headstart.training.runs.run_folder import Run

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
CONDITION = re.compile(r"\s*(\w+)(?:\.(value|low|high))?\s*(>=|<=|>|<)\s*(\S+)\s*")


@dataclass(frozen=True)
class Requirement:
    """A metric of an evaluation, which of its ends (value, low, high), and what it is compared with."""

    text: str
    metric: str
    end: str
    comparison: str
    bound: float

    def figure(self, metrics: Mapping[str, Any]) -> float | None:
        """The figure that is meant, as an evaluation's metrics.json has it; None where it is undefined.

        Raises:
            UserError: for a metric that it does not have.
        """
        known = [name for name, each in metrics.items() if isinstance(each, dict) and "value" in each]
        if self.metric not in known:
            raise UserError(
                "bad-flag",
                f"--require {self.text!r} names no metric.{nearest(self.metric, known)} There are {', '.join(sorted(known))}",
            )
        figure: float | None = metrics[self.metric].get(self.end)
        return figure

    def met(self, figure: float | None) -> bool:
        """Whether a figure is as required; one that is undefined is not."""
        return figure is not None and COMPARISONS[self.comparison](figure, self.bound)


def parse_requirement(text: str) -> Requirement:
    """`METRIC>=NUMBER`, with `.low` or `.high` after the metric for an end of its interval; `<=`, `>` and `<` as well.

    Raises:
        UserError: for anything else.
    """
    found = CONDITION.fullmatch(text)
    try:
        if found:
            return Requirement(text, found[1], found[2] or "value", found[3], float(found[4]))
    except ValueError:
        pass
    raise UserError("bad-flag", f"--require takes a condition such as accuracy>=0.97 or log_loss<=0.3, not {text!r}")


def unmet(run: Run, split: str, conditions: Sequence[str]) -> list[str]:
    """A line for each condition that an evaluation of the run does not meet.

    Raises:
        UserError: when there is no such evaluation (with the command that makes it), or it has no such metric.
    """
    if not conditions:
        return []
    metrics = evaluations(run).get(split)
    if metrics is None:
        raise UserError(
            "missing-input",
            f"{run.home!r} has no evaluation {split!r} for --require to read; it has {', '.join(evaluations(run)) or 'none'}: "
            f"run headstart evaluate {run.home} --split {split}",
        )
    lines = []
    for requirement in map(parse_requirement, conditions):
        figure = requirement.figure(metrics)
        if not requirement.met(figure):
            what = requirement.metric if requirement.end == "value" else f"{requirement.metric}.{requirement.end}"
            shown = "undefined" if figure is None else f"{figure:.4g}"
            lines.append(f"{requirement.text} is required, and {what} on {split!r} is {shown}")
    return lines


def evaluations(run: Run) -> dict[str, dict[str, Any]]:
    """What `headstart evaluate` found of a run: each evaluation's metrics.json, by name."""
    from headstart.training.runs.run_folder import EVALUATION, METRICS

    folder = os.path.join(run.path, EVALUATION)
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    paths = {name: os.path.join(folder, name, METRICS) for name in names}
    return {name: files.read_json(path) for name, path in paths.items() if os.path.isfile(path)}
