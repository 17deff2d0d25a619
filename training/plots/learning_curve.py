"""A training's course: loss and accuracy by epoch in, a PNG out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.features.errors import UserError
from headstart.training.plots.canvas import GRID, QUIET, TRAIN, VALIDATION, canvas, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def learning_curve(history: dict[str, list[float]], path: str, title: str, best_epoch: int | None = None) -> None:
    """Draws loss and accuracy, where there is one, by epoch, for training and validation, as a PNG.

    Args:
        history: what Keras's `fit` returns: 'loss', 'accuracy', and perhaps 'val_loss' and 'val_accuracy', one number an
            epoch.
        path: where the PNG goes.
        title: over both panels.
        best_epoch: counted from 1, marked in both panels.

    Raises:
        UserError: there is no epoch.
    """
    if not history.get("loss"):
        raise UserError("bad-value", f"expected a history with a 'loss' of at least 1 epoch, got the keys {sorted(history)}")
    with canvas(9.0, 3.8, path) as figure:
        figure.suptitle(label(title, 90), fontsize=12, fontweight="bold")
        shown = ("loss", "accuracy") if "accuracy" in history else ("loss",)  # of several labels there is none
        for axes, key in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            _draw_series(axes, history, key)
            if best_epoch is not None:
                _mark_epoch(axes, best_epoch, history.get(f"val_{key}"))
            if axes.lines:
                axes.legend(frameon=False, fontsize=9)


def _draw_series(axes: Axes, history: dict[str, list[float]], key: str) -> None:
    from matplotlib.ticker import MaxNLocator

    for name, prefix, colour in (("train", "", TRAIN), ("validation", "val_", VALIDATION)):
        if values := history.get(prefix + key):
            marker = "o" if len(values) <= 30 else ""
            axes.plot(
                range(1, len(values) + 1), values, color=colour, label=name, linewidth=1.8, marker=marker, markersize=3.5
            )
    epochs = len(history["loss"])
    axes.set_xlim(1 - 0.03 * epochs, epochs + 0.03 * epochs)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("epoch")
    axes.set_title(key, fontsize=11)


def _mark_epoch(axes: Axes, epoch: int, values: list[float] | None) -> None:
    axes.axvline(epoch, color=QUIET, linestyle=(0, (4, 3)), linewidth=1.0, zorder=1, label=f"best epoch, {epoch}")
    if values:
        axes.plot([epoch], [values[epoch - 1]], "o", color=VALIDATION, markersize=8, markeredgecolor="white", zorder=5)
