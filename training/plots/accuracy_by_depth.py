"""How the accuracy grows with the depth of the layer that a head stands on: points in, a PNG out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.features.errors import UserError
from headstart.training.plots.canvas import GRID, INK, STYLE, TRAIN, VALIDATION, canvas, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LAYER_INCHES = 0.24  # between the slanting names of two layers
MAX_LAYER_LABEL = 40  # 'convnext_tiny_stage_3_block_2_identity' has 38
COLOURS = (TRAIN, VALIDATION, "#2f9460", "#b23a6b", "#7b57b5", "#17a2b0", "#b8951a", "#6b4f3a")
MARKERS = (("o", 6.0), ("s", 5.5), ("D", 5.5), ("^", 7.0), ("v", 7.0), ("P", 8.0), ("X", 7.5), ("*", 10.5))  # with their sizes


@dataclass(frozen=True)
class DepthPoint:
    """How accurate a head is on one layer of a network.

    Args:
        series: the line that it belongs to, such as 'avg', or 'VGG16 avg' where backbones are compared.
        layer: the layer's name.
        depth: 0..1, the share of the network's convolutions passed.
        accuracy: 0..1.
        low, high: the 95 % interval, 0..1, or nan where there is none.
    """

    series: str
    layer: str
    depth: float
    accuracy: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not (0 <= self.depth <= 1 and 0 <= self.accuracy <= 1):
            raise UserError("bad-value", f"expected a depth and an accuracy within 0..1, got {self.depth} and {self.accuracy}")


def accuracy_by_depth(points: Sequence[DepthPoint], path: str, title: str, measure: str = "accuracy") -> None:
    """Draws how the accuracy grows with the depth of the layer that a head stands on, as a PNG: a line for each series.

    Layers are named at their depths where all series are of one network, which shows in that they share a layer. Where
    they are of several, the legend names the best layer of each. The best point of all is marked and labelled; of equals
    it is the shallowest.

    Args:
        points: in any order; up to 8 series are told apart by their colours, 16 by colours and dashes.
        path: where the PNG goes.
        title: over it.
        measure: what accuracies are called.

    Raises:
        UserError: there is no point.
    """
    if not points:
        raise UserError("bad-value", "expected at least 1 layer's accuracy to draw, got none")
    series: dict[str, list[DepthPoint]] = {}
    for point in points:
        series.setdefault(point.series, []).append(point)
    layers = _layers_of_one_network(series)
    labels = [label(name) if layers else _with_best(name, own) for name, own in series.items()]
    columns = max(1, int(9.0 / (0.55 + 0.064 * max(len(line) for label in labels for line in label.split("\n")))))
    rows = math.ceil(len(series) / columns) * (1 if layers else 2) if len(series) > 1 else 0
    across = max(7.4, 1.1 * LAYER_INCHES * len(layers))  # inches of the axes, and of the slanting names beyond them
    slant = 0.05 * max((len(label(layer, MAX_LAYER_LABEL)) for _, layer in layers), default=0)
    with canvas(across + slant + 1.0, 3.9 + slant + 0.17 * rows, path) as figure:
        figure.suptitle(label(title, 80), fontsize=12, fontweight="bold")
        axes = figure.subplots()
        _scale_depths(axes, points, measure)
        _draw_depths(axes, series, _best(points))
        _name_layers(axes, layers, across)
        if len(series) > 1:
            handles: list[Any] = list(axes.containers)
            figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def _best(points: Sequence[DepthPoint]) -> DepthPoint:
    return max(points, key=lambda point: (point.accuracy, -point.depth))


def _with_best(series: str, points: Sequence[DepthPoint]) -> str:
    best = _best(points)
    return f"{label(series)}\nbest: {label(best.layer, MAX_LAYER_LABEL)}, {100 * best.accuracy:.2f}%"


def _layers_of_one_network(series: dict[str, list[DepthPoint]]) -> list[tuple[float, str]]:
    """Depths and names of the layers, by depth; none where the series don't seem to be of one network."""
    layers = sorted({(point.depth, point.layer) for own in series.values() for point in own})
    shared = set.intersection(*({(point.depth, point.layer) for point in own} for own in series.values()))
    return layers if shared and len({layer for _, layer in layers}) == len(layers) else []


def _draw_depths(axes: Axes, series: dict[str, list[DepthPoint]], best: DepthPoint) -> None:
    from matplotlib.transforms import ScaledTranslation

    for i, (name, points) in enumerate(series.items()):
        points = sorted(points, key=lambda point: point.depth)
        aside = (i - (len(series) - 1) / 2) * min(6, 20 / len(series)) / 72  # inches: intervals of one depth stand apart
        place = axes.transData + ScaledTranslation(aside, 0, axes.figure.dpi_scale_trans)
        bars = [[point.accuracy - point.low, point.high - point.accuracy] for point in points]
        places, values = [point.depth for point in points], [100 * point.accuracy for point in points]
        colour, (marker, size) = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        style: dict[str, Any] = {"color": colour, "linewidth": 1.6, "linestyle": "-" if i < len(COLOURS) else "--"}
        style |= {"marker": marker, "markersize": size, "markeredgecolor": "white", "markeredgewidth": 0.6}
        style |= {"elinewidth": 1.0, "capsize": 2.5, "zorder": 3}
        axes.errorbar(places, values, 100 * np.maximum(bars, 0).T, transform=place, **style)
        if name == best.series:
            _mark_best(axes, best, place, several=len(series) > 1)


def _mark_best(axes: Axes, best: DepthPoint, place: Any, several: bool) -> None:
    """A ring around the point, and a label in the strip that `_scale_depths` leaves free above all points."""
    where = f"{label(best.layer, MAX_LAYER_LABEL)}, {label(best.series)}" if several else label(best.layer, MAX_LAYER_LABEL)
    value = 100 * best.accuracy
    ring: dict[str, Any] = {"markersize": 12, "markerfacecolor": "none", "markeredgecolor": INK, "markeredgewidth": 1.3}
    axes.plot([best.depth], [value], "o", transform=place, zorder=4, **ring)
    left, right = axes.get_xlim()
    side = ("left", "center", "right")[int(2.999 * (best.depth - left) / (right - left))]
    axes.text(
        best.depth,
        0.98,
        f"best: {where}, {value:.2f}%",
        transform=axes.get_xaxis_transform(),
        ha=side,
        va="top",
        fontsize=9,
        fontweight="bold",
        zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
    )


def _scale_depths(axes: Axes, points: Sequence[DepthPoint], measure: str) -> None:
    from matplotlib.ticker import MaxNLocator

    ends = [100 * end for point in points for end in (point.accuracy, point.low, point.high) if not math.isnan(end)]
    span = max(max(ends) - min(ends), 4.0)
    low, high = min(ends) - 0.08 * span, max(ends) + 0.2 * span
    axes.set_ylim(low, high)
    ticks = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(low, high)
    axes.set_yticks([tick for tick in ticks if max(low, 0) <= tick <= min(high, 100)])
    axes.yaxis.set_major_formatter("{x:g}%")
    shallowest = min(point.depth for point in points)
    start = 0.0 if shallowest < 0.5 else math.floor(min(10 * shallowest, 9)) / 10
    axes.set_xlim(start - 0.04 * (1 - start), 1 + 0.04 * (1 - start))
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("depth: share of the convolutions passed")
    axes.set_ylabel(f"{measure}, with 95% intervals" if len(ends) > len(points) else measure)


def _name_layers(axes: Axes, layers: Sequence[tuple[float, str]], across: float) -> None:
    """Slanting names over the axes, each with a line down its depth; names that would touch are moved apart."""
    left, right = axes.get_xlim()
    places = _spread([depth for depth, _ in layers], LAYER_INCHES / across * (right - left))
    for place, (depth, layer) in zip(places, layers, strict=True):
        line: dict[str, Any] = {"color": STYLE["axes.edgecolor"], "linewidth": 0.8, "clip_on": False, "zorder": 1}
        axes.plot([depth, depth, place], [0, 1, 1.05], transform=axes.get_xaxis_transform(), **line)
        turned: dict[str, Any] = {"rotation": 40, "rotation_mode": "anchor", "fontsize": 8.5}
        axes.text(place, 1.06, label(layer, MAX_LAYER_LABEL), transform=axes.get_xaxis_transform(), **turned)


def _spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Rising places at least a gap apart, near the wanted ones, that end at 1 or before."""
    places: list[float] = []
    for place in wanted:
        places.append(max(place, places[-1] + gap) if places else place)
    for i, _ in reversed(list(enumerate(places))):
        places[i] = min(places[i], 1 - gap * (len(places) - 1 - i))
    return places
