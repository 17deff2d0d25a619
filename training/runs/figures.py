"""The one figure that says how good a training is: a run's metrics in, its name and what it is out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FIGURES = {  # the first that a training has
    "val_accuracy": "validation accuracy, used for selection",
    "val_mean_average_precision": "validation mean average precision, used for selection",
    "cross_validated_accuracy": "cross-validated accuracy, used for selection",
    "accuracy": "training accuracy",
    "loss": "training loss",  # of several labels an image, without a validation split
}


def chosen_figure(metrics: Mapping[str, Any]) -> tuple[str, str]:
    """The name of the figure among a training's metrics, and what it is."""
    return next((name, what) for name, what in FIGURES.items() if name in metrics)
