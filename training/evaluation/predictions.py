"""What `headstart evaluate` left of a split, read back: a row for each image."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass

from headstart.features.errors import UserError
from headstart.training.runs.run_folder import EVALUATION, Run

PREDICTIONS = "predictions.csv"


@dataclass(frozen=True)
class Predictions:
    """An evaluation's folder, and its rows by key: key, group, truth, predicted, and 'p:NAME' for each class."""

    folder: str
    rows: list[dict[str, str]]

    @classmethod
    def of_run(cls, run: Run, name: str) -> Predictions:
        """Those of an evaluation of a run.

        Raises:
            UserError: when there is none of that name, listing those that there are.
        """
        folder = os.path.join(run.path, EVALUATION, name)
        try:
            with open(os.path.join(folder, PREDICTIONS), encoding="utf-8", errors="surrogateescape", newline="") as file:
                return cls(folder, sorted(csv.DictReader(file), key=lambda row: row["key"]))
        except FileNotFoundError:
            above = os.path.dirname(folder)
            held = sorted(os.listdir(above)) if os.path.isdir(above) else []
            raise UserError(
                "missing-input",
                f"{run.home!r} has no evaluation {name!r}; it has {', '.join(held) or 'none'}: run headstart evaluate "
                f"{run.home} --split {name}",
            ) from None
