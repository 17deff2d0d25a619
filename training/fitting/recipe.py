"""How a network is trained, and what that came to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from headstart.training.tasks.task import ONE, Task, takes_ids


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    from_nothing says that what it begins with is not worth keeping, so that epoch 0 is never the best. Of a solver other than
    adam, rates, batches and precision have no say.
    """

    epochs: int
    patience: int
    monitor: str
    learning_rate: float
    lr_warmup: float | None = None  # the share of all steps in which the rate rises, then a cosine to 0; None: it stays
    rates: Sequence[float] = ()  # what it is multiplied by for each trained weight; 1 for all when empty
    precision: str = "float32"
    max_steps_at_once: int = 1  # between two looks of Python's
    devices: int = 1
    class_weight: dict[int, float] | None = None
    loss: Any = field(default_factory=ONE.loss)
    task: Task = ONE
    from_nothing: bool = False
    solver: str = "adam"
    progress: str = "train"  # what its progress is called

    @property
    def not_before(self) -> int:
        """The epoch at whose end the rate has fallen to half of its peak: patience ends no training before."""
        return 0 if self.lr_warmup is None else math.ceil(self.epochs * (1 + self.lr_warmup) / 2)

    @property
    def one_hot(self) -> bool:
        """Whether the loss takes one-hot rows, and not class ids."""
        return not self.task.several and not takes_ids(self.loss)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """What is counted beside the loss; of several labels nothing, whose accuracy would be high for deciding none."""
        if self.task.several:
            return []
        metric = keras.metrics.CategoricalAccuracy if self.one_hot else keras.metrics.SparseCategoricalAccuracy
        return [metric(name="accuracy")]


@dataclass(frozen=True)
class FitResult:
    """What a training came to; the best epoch's weights are in the model, epoch 0 being those that it began with."""

    history: dict[str, list[float]]
    baseline: dict[str, float]
    best_epoch: int
    monitor: str
    interrupted: bool
    begun_by: str = ""  # the split that chose what it began with

    @property
    def figures(self) -> dict[str, Any]:
        """For a run's metrics: which epoch is the best and by what, its values, and which split chose it."""
        best = {name: column[self.best_epoch - 1] for name, column in self.history.items()}
        return {
            "best_epoch": self.best_epoch,
            "epochs": len(next(iter(self.history.values()), ())),
            "monitor": self.monitor,
            "used_for_selection": self.used_for_selection,
            "interrupted": self.interrupted,
            **(best if self.best_epoch else self.baseline),
        }

    @property
    def used_for_selection(self) -> str:
        """The split that chose the weights."""
        return "validation" if self.monitor.startswith("val_") else self.begun_by or "train"
