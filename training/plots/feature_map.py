"""Images as points, near where their features are alike: places and classes in, a plot out and where each point lies in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headstart.training.plots.accuracy_by_depth import COLOURS, MARKERS
from headstart.training.plots.canvas import GRID, INK, canvas, label

MAX_SERIES = len(COLOURS)
WIDTH, HEIGHT = 8.0, 6.2  # inches


def feature_map(places: np.ndarray, series: np.ndarray, names: Sequence[str], wrong: np.ndarray, path: str) -> np.ndarray:
    """Draws points in the colour and shape of their series, those of wrong answers in a ring.

    Args:
        places: float [N, 2], in any unit.
        series: int64 [N], the number of each point's name.
        names: of up to 8 series.
        wrong: bool [N].
        path: where it goes, a PNG, or an SVG where it ends so.

    Returns:
        float64 [N, 2]: each point's place from the picture's left and top, as shares of its width and height.
    """
    with canvas(WIDTH, HEIGHT, path, tight=False) as figure:
        axes = figure.subplots()
        for number, name in enumerate(names):
            own, (marker, size) = series == number, MARKERS[number]
            style: dict[str, Any] = {"s": size**2, "edgecolor": "white", "linewidth": 0.5, "label": label(name)}
            axes.scatter(*places[own].T, color=COLOURS[number], marker=marker, **style)
        if wrong.any():
            ring: dict[str, Any] = {
                "s": 110,
                "facecolor": "none",
                "edgecolor": INK,
                "linewidth": 1.3,
                "label": "answered wrongly",
            }
            axes.scatter(*places[wrong].T, marker="o", **ring)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.margins(0.05)
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color(GRID)
        figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=10)
        figure.draw_without_rendering()  # the layout is settled now
        pixels = axes.transData.transform(places)  # [N, 2], from the left and the bottom
        shares = pixels / (figure.bbox.width, figure.bbox.height)
    return np.stack([shares[:, 0], 1 - shares[:, 1]], 1)
