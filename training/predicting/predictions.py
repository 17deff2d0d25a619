"""What `headstart evaluate` left of a split, read back: a row for each image."""

from __future__ import annotations

import csv
import functools
import itertools
import os
from dataclasses import dataclass
from typing import Any

from headstart.features import files
from headstart.features.dataset.examples import Example, drawn_together
from headstart.features.errors import UserError
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.manifest import is_store
from headstart.training.runs.run_folder import EVALUATION, METRICS, Run

PREDICTIONS = "predictions.csv"


@dataclass(frozen=True)
class Predictions:
    """A run's evaluation: its folder, and its rows by key, with the columns of `report.write_predictions`."""

    run: Run
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
                return cls(run, folder, sorted(csv.DictReader(file), key=lambda row: row["key"]))
        except FileNotFoundError:
            above = os.path.dirname(folder)
            held = sorted(os.listdir(above)) if os.path.isdir(above) else []
            raise UserError(
                "missing-input",
                f"{run.home!r} has no evaluation {name!r}; it has {', '.join(held) or 'none'}: run headstart evaluate "
                f"{run.home} --split {name}",
            ) from None

    @property
    def name(self) -> str:
        """The evaluation's: a split, or what `headstart evaluate` called it."""
        return os.path.basename(self.folder)

    def of_the_same_images(self, run: Run, name: str, truth: str) -> Predictions | None:
        """Another run's evaluation of these very images: that of a name or, where its images have changed since, any other.

        A store that has grown holds other images; a run of before is evaluated on them under a name of their own.

        Args:
            run: the other run.
            name: of the evaluation to look at first.
            truth: the column that has to agree, besides the key.

        Raises:
            UserError: when there is none of that name.
        """
        asked = self.of_run(run, name)
        others = (self.of_run(run, held) for held in sorted(os.listdir(os.path.dirname(asked.folder))) if held != name)
        mine = [(row["key"], row[truth]) for row in self.rows]
        return next(
            (each for each in itertools.chain([asked], others) if [(row["key"], row[truth]) for row in each.rows] == mine),
            None,
        )

    @property
    def used_for_selection(self) -> bool:
        """Whether these images chose the run, so that its figures flatter it."""
        return bool(self.metrics.get("used_for_selection"))

    @functools.cached_property
    def metrics(self) -> dict[str, Any]:
        """Its metrics.json."""
        found: dict[str, Any] = files.read_json(os.path.join(self.folder, METRICS))
        return found

    def figure(self, name: str) -> float:
        """One of its figures.

        Raises:
            UserError: when it is undefined on these images.
        """
        value = self.metrics[name]["value"]
        if value is None:
            raise UserError(
                "bad-value", f"{name} of {self.run.home!r} on {self.name} is undefined: compare by another --metric"
            )
        return float(value)

    @functools.cached_property
    def source(self) -> str:
        """The folder, table or files of records that the images are of.

        Raises:
            UserError: when that is known by a store which is gone.
        """
        path: str = self.metrics["input"]
        return FeatureStore.open(path).manifest.provenance.input if is_store(path) else path

    @functools.cached_property
    def keys(self) -> list[str]:
        """The images' names, in order."""
        return [row["key"] for row in self.rows]

    @functools.cached_property
    def contents(self) -> list[str]:
        """Names of the images' contents; the images' own where neither an older evaluation nor the run's dataset has them."""
        return [row.get("content") or self.digests.get(row["key"], row["key"]) for row in self.rows]

    @functools.cached_property
    def together(self) -> list[str]:
        """Names of what each image stands or falls with, as `drawn_together` has them."""
        rows = zip(self.rows, self.contents)
        return drawn_together(Example(row["key"], content, (), "", row["group"]) for row, content in rows)

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        """Content digests by key, where the images are of the run's own dataset."""
        own = self.metrics["dataset_digest"] == self.run.config.get("dataset_digest")
        return {example.key: example.digest for example in self.run.table.examples(self.metrics["split"])} if own else {}


def knows_contents(first: Predictions, second: Predictions) -> Predictions:
    """Of two evaluations of the same images one that says which are copies of each other, if any does."""
    return second if all(row.get("content") for row in second.rows) else first


def chosen_by(first: Predictions, second: Predictions) -> str:
    """Which of two runs, called A and B, was chosen by the images that both are evaluated on; '' where none was."""
    return " and ".join(name for name, each in (("A", first), ("B", second)) if each.used_for_selection)
