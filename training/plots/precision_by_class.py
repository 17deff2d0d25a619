"""How well each class of several labels is ranked and found: its scores with their intervals in, a PNG out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from headstart.training.plots.canvas import GRID, TRAIN, VALIDATION, canvas, label

MOST = 40  # classes


@dataclass(frozen=True)
class ClassPoint:
    """A class: its name, how many images have it, and (value, low, high) of its average precision and its F1, 0..1.

    The ends are nan where there is no interval.
    """

    name: str
    count: int
    average_precision: tuple[float, float, float]
    f1: tuple[float, float, float]


def precision_by_class(points: Sequence[ClassPoint], path: str, title: str) -> None:
    """Draws the classes of the least average precision, at most 40, a row for each, as a PNG.

    Args:
        points: one at least, each with images.
        path: where the PNG goes.
        title: over it.
    """
    shown = sorted(points, key=lambda point: point.average_precision[0])[:MOST]
    rows = range(len(shown))
    with canvas(8.0, 1.5 + 0.34 * max(3, len(shown)), path) as figure:
        axes = figure.subplots()
        for name, shift, colour, marker in (("average_precision", -0.13, TRAIN, "o"), ("f1", 0.13, VALIDATION, "s")):
            scores = [[100 * each for each in getattr(point, name)] for point in shown]
            ends = [(0.0, 0.0) if math.isnan(low) else (value - low, high - value) for value, low, high in scores]
            axes.errorbar(
                [value for value, _, _ in scores], [row + shift for row in rows], xerr=list(zip(*ends)), fmt=marker,
                color=colour, markersize=5, elinewidth=1.6, label=name.replace("_", " ").replace("f1", "F1"),
            )  # fmt: skip
        axes.set_yticks(rows, [f"{label(point.name)} ({point.count:,})" for point in shown], fontsize=9)
        axes.set_ylim(max(3, len(shown)) - 0.5, -0.6)  # downwards
        axes.set_xlim(-2, 102)
        axes.xaxis.set_major_formatter("{x:g}%")
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(left=False)
        axes.set_xlabel("with 95% intervals; images of each class in brackets")
        axes.set_title(label(title, 90), fontsize=11, fontweight="bold", loc="left")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=9)
