"""What is taken for what: a confusion matrix in, a PNG out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from headstart.features.errors import UserError
from headstart.features.formatting import display_width
from headstart.training.plots.canvas import INK, canvas, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def confusion_matrix(confusion: ArrayLike, class_names: Sequence[str], path: str) -> None:
    """Draws a confusion matrix as a PNG: counts in the cells, each row's shares as colour.

    Args:
        confusion: int [C, C], rows the truth, columns the prediction; 2 to 40 classes stay readable.
        class_names: C names, in any script; what no installed font can draw is written as \\uXXXX.
        path: where the PNG goes.

    Raises:
        UserError: the matrix is not C by C.
    """
    counts = np.asarray(confusion)
    if counts.shape != (len(class_names), len(class_names)):
        raise UserError(
            "bad-value", f"expected a confusion matrix [{len(class_names)}, {len(class_names)}], got shape {counts.shape}"
        )
    names = [label(name) for name in class_names]
    cell = _cell_inches(len(names), counts)
    margin = 0.09 * max(map(display_width, names)) + 0.8
    with canvas(cell * len(names) + margin + 1.1, cell * len(names) + margin, path) as figure:
        axes = figure.subplots()
        _draw_cells(axes, counts, cell)
        _name_axes(axes, names, cell)


def _cell_inches(classes: int, counts: np.ndarray[Any, Any]) -> float:
    """Wide enough for the longest count, at 7 points or more."""
    digits = len(str(int(counts.max(initial=0))))
    return max(0.085 * digits + 0.1, 0.9 if classes <= 4 else 0.62 if classes <= 12 else 0.42)


def _draw_cells(axes: Axes, counts: np.ndarray[Any, Any], cell: float) -> None:
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)  # [C, C], 0..1
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    digits = len(str(int(counts.max(initial=0))))
    size = min(12.0, 25 * cell, 62 * cell / (0.62 * digits))
    for row, column in np.ndindex(*counts.shape):
        count = int(counts[row, column])
        colour = "white" if shares[row, column] > 0.55 else INK if count else "#c4c8ce"
        axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=size)
    shrink = min(0.8, 4.0 / (cell * len(counts)))
    bar = axes.figure.colorbar(image, ax=axes, fraction=0.04, pad=0.03, shrink=shrink, aspect=24)
    bar.outline.set_visible(False)
    bar.set_label("share of the true class")


def _name_axes(axes: Axes, names: Sequence[str], cell: float) -> None:
    steep = max(map(display_width, names)) * 0.085 > cell - 0.08  # the names would touch
    turned: dict[str, Any] = {"rotation": 90 if cell < 0.5 else 45, "ha": "center" if cell < 0.5 else "right"}
    turned["rotation_mode"] = "default" if cell < 0.5 else "anchor"
    axes.set_xticks(range(len(names)), names, fontsize=9, **(turned if steep else {}))
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_xticks(np.arange(0.5, len(names) - 1), minor=True)
    axes.set_yticks(np.arange(0.5, len(names) - 1), minor=True)
    axes.grid(which="minor", color="white", linewidth=1.2)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
