"""Words for what a training came to, from a run's metrics: the one figure that says how good it is, what calibrated it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FIGURES = {  # the first that a training has
    "val_accuracy": "validation accuracy",
    "val_mean_average_precision": "validation mean average precision",
    "cross_validated_accuracy": "cross-validated accuracy, used for selection",
    "accuracy": "training accuracy",
    "loss": "training loss",  # of several labels an image, without a validation split
}


def chosen_figure(metrics: Mapping[str, Any]) -> tuple[str, str]:
    """The name of the figure among a training's metrics, and what it is: whether that split chose the weights, too."""
    name, what = next((name, what) for name, what in FIGURES.items() if name in metrics)
    chose = metrics.get("monitor", "").startswith("val_") or metrics.get("began_chosen_by") == "validation"
    return name, f"{what}, used for selection" if chose and name.startswith("val_") else what


def deciding_images(calibration: Mapping[str, Any]) -> str:
    """Which images a temperature was found by, of a run's `calibration`."""
    if folds := calibration.get("folds"):
        return f"images out of fold ({folds} folds of the training split)"
    return "left-out images" if calibration.get("out_of_fold") else "validation images"
