"""What a report is of: a run and one evaluation of it, as arrays."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.features import files
from headstart.training.evaluation.predictions import Predictions
from headstart.training.runs.run_folder import Run


@dataclass(frozen=True)
class Evaluated:
    """A run, measured.

    Args:
        run: that was measured.
        name: of the evaluation: a split, or what `headstart evaluate` called it.
        metrics: its metrics.json.
        keys: N names of images, in order.
        labels: int64 [N], 0..C-1.
        probabilities: float64 [N, C].
        predicted: int64 [N], 0..C-1.
        declared: N groups, '' where none was declared.
        seed: of whatever is drawn at random.
    """

    run: Run
    name: str
    metrics: dict[str, Any]
    keys: list[str]
    labels: np.ndarray
    probabilities: np.ndarray
    predicted: np.ndarray
    declared: list[str]
    seed: int

    @classmethod
    def read(cls, run: Run, name: str, seed: int = 0) -> Evaluated:
        """Reads what `headstart evaluate` left.

        Raises:
            UserError: when there is no evaluation of that name.
        """
        found = Predictions.of_run(run, name)
        ids = {each: number for number, each in enumerate(run.class_names)}
        labels, predicted = (np.array([ids[row[column]] for row in found.rows], np.int64) for column in ("truth", "predicted"))
        probabilities = np.array([[float(row[f"p:{each}"]) for each in run.class_names] for row in found.rows])
        keys, groups = ([row[column] for row in found.rows] for column in ("key", "group"))
        return cls(
            run,
            name,
            files.read_json(os.path.join(found.folder, "metrics.json")),
            keys,
            labels,
            probabilities,
            predicted,
            groups,
            seed,
        )

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        """Content digests by key, where the images are of the run's own dataset."""
        own = self.metrics["dataset_digest"] == self.run.config.get("dataset_digest")
        return {example.key: example.digest for example in self.run.table.examples(self.metrics["split"])} if own else {}

    @property
    def groups(self) -> list[str]:
        """Names of what is seen together: the declared group, or the content, or the image."""
        return [group or self.digests.get(key, key) for group, key in zip(self.declared, self.keys)]

    @property
    def correct(self) -> np.ndarray:
        """bool [N]."""
        return self.predicted == self.labels

    def drawn(self, rows: Sequence[int], count: int) -> list[int]:
        """Some of the rows, in their order; which ones, the seed and the images' names decide."""
        lots = {
            row: hashlib.sha256(f"{self.seed}:{self.keys[row]}".encode("utf-8", "surrogateescape")).digest() for row in rows
        }
        return sorted(sorted(rows, key=lots.__getitem__)[:count])

    def worst(self, count: int) -> list[int]:
        """Rows of the wrong predictions, the largest lead over the truth first, ties by name."""
        rows = np.arange(len(self.labels))
        lead = self.probabilities.max(1) - self.probabilities[rows, self.labels]
        return sorted(np.flatnonzero(~self.correct).tolist(), key=lambda row: (-lead[row], self.keys[row]))[:count]

    def right(self, count: int) -> list[int]:
        """Some rows of right predictions."""
        return self.drawn(np.flatnonzero(self.correct).tolist(), count)

    def answer(self, row: int) -> tuple[str, str, float]:
        """An image's class, what it was taken for, and with which probability."""
        names, answer = self.run.class_names, self.predicted[row]
        return names[self.labels[row]], names[answer], float(self.probabilities[row, answer])
