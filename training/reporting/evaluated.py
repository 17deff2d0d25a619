"""What a report is of: a run and one evaluation of it, as arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.training.predicting.predictions import Predictions
from headstart.training.runs.run_folder import Run


@dataclass(frozen=True)
class Evaluated:
    """A run, measured.

    Args:
        predictions: of the run that was measured.
        labels: int64 [N], 0..C-1.
        probabilities: float64 [N, C].
        predicted: int64 [N], 0..C-1.
        seed: of whatever is drawn at random.
    """

    predictions: Predictions
    labels: np.ndarray
    probabilities: np.ndarray
    predicted: np.ndarray
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
        return cls(found, labels, probabilities, predicted, seed)

    @property
    def run(self) -> Run:
        """The run that was measured."""
        return self.predictions.run

    @property
    def name(self) -> str:
        """Of the evaluation."""
        return self.predictions.name

    @property
    def metrics(self) -> dict[str, Any]:
        """The evaluation's metrics.json."""
        return self.predictions.metrics

    @property
    def keys(self) -> list[str]:
        """N names of images, in order."""
        return self.predictions.keys

    @property
    def groups(self) -> list[str]:
        """Names of what is seen together."""
        return self.predictions.together

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
