"""How the accuracy grows with the images that a head learns from: a curve in, a PNG out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from headstart.training.plots.canvas import GRID, INK, QUIET, TRAIN, VALIDATION, canvas, label


class ErrorCurve(Protocol):
    """Errors at some sizes, and what is expected at any other."""

    @property
    def sizes(self) -> Sequence[float]:
        """Images a class, K."""

    @property
    def errors(self) -> np.ndarray:
        """float64 [K], 0..1."""

    def error(self, size: float) -> tuple[float, float, float]:
        """The expected error at a size, and its 95% interval, nan where there is none."""


def accuracy_by_images(curve: ErrorCurve, more: int, path: str, title: str, measure: str = "accuracy") -> None:
    """Draws accuracies against images a class, the law through them with its band, and what more images would bring, as a PNG.

    Args:
        curve: of errors.
        more: images a class beyond those that there are; the law is drawn as far as that.
        path: where the PNG goes.
        title: over it.
        measure: what the errors are one less.
    """
    most = curve.sizes[-1]
    ahead = most + more
    across = np.geomspace(curve.sizes[0], ahead, 80)
    expected, upper, lower = (100 * (1 - np.array(each)) for each in zip(*map(curve.error, across)))
    with canvas(7.4, 4.2, path) as figure:
        figure.suptitle(label(title, 80), fontsize=12, fontweight="bold")
        axes = figure.subplots()
        known = across <= most
        if np.isfinite(lower).all():
            axes.fill_between(across, lower, upper, color=TRAIN, alpha=0.15, linewidth=0, label="95% interval")
        axes.plot(across[known], expected[known], color=TRAIN, linewidth=1.8, label="power law")
        axes.plot(across[~known], expected[~known], color=TRAIN, linewidth=1.8, linestyle=(0, (4, 2)))
        axes.plot(curve.sizes, 100 * (1 - curve.errors), "o", color=INK, markersize=5, label="measured on validation")
        axes.axvline(most, color=QUIET, linestyle=(0, (4, 3)), linewidth=1.0, zorder=1)
        axes.plot([ahead], [expected[-1]], "o", color=VALIDATION, markersize=8, markeredgecolor="white", zorder=5)
        interval = f" [{lower[-1]:.1f}, {upper[-1]:.1f}]" if np.isfinite(lower[-1]) else ""
        axes.annotate(
            f"{more:,} more: {expected[-1]:.1f}%{interval}",
            (ahead, expected[-1]), (-8, -34), textcoords="offset points", ha="right", va="top", color=VALIDATION, fontsize=9,
        )  # fmt: skip
        axes.set_xscale("log")
        ticks = [*(size for size in (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000) if size <= ahead)]
        axes.set_xticks(ticks, [f"{size:,}" for size in ticks])
        axes.minorticks_off()
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_xlabel("training images a class")
        axes.set_ylabel(f"{measure}, %")
        axes.legend(frameon=False, fontsize=9, loc="lower right")
