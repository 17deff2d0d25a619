"""Plots for people: a training's course, what is taken for what, accuracy by depth.

In: a history of training, a confusion matrix, points. Out: PNG files that are whole or not there. The same input gives the
same bytes with the same matplotlib, which is imported by the functions that draw, and drawn on without pyplot, so that no
display, thread or setting is involved.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike

from headstart.features.errors import UserError
from headstart.features.files import write_bytes
from headstart.features.formatting import display_width, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 120
LONGEST_LABEL = 24  # characters of a class name in a plot
LAYER_INCHES = 0.24  # between the slanting names of two layers
LONGEST_LAYER = 40  # 'convnext_tiny_stage_3_block_2_identity' has 38

TRAIN, VALIDATION, QUIET, INK = "#2a6fbb", "#e07b28", "#8a8f98", "#22262b"
GRID = "#e8eaed"
COLOURS = (TRAIN, VALIDATION, "#2f9460", "#b23a6b", "#7b57b5", "#17a2b0", "#b8951a", "#6b4f3a")
MARKERS = (("o", 6.0), ("s", 5.5), ("D", 5.5), ("^", 7.0), ("v", 7.0), ("P", 8.0), ("X", 7.5), ("*", 10.5))  # with their sizes
STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.edgecolor": "#c4c8ce",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called '$5'
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "white",
}
FALLBACK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "Hiragino Sans",
    "Arial Unicode MS",
)

# Plots.


def learning_curve(history: dict[str, list[float]], path: str, title: str, best_epoch: int | None = None) -> None:
    """Draws loss and accuracy by epoch, for training and validation, as a PNG.

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
        raise UserError(f"expected a history with a 'loss' of at least 1 epoch, got the keys {sorted(history)}")
    with _canvas(9.0, 3.8, path) as figure:
        figure.suptitle(_label(title, 90), fontsize=12, fontweight="bold")
        for axes, key in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            _draw_series(axes, history, key)
            if best_epoch is not None:
                _mark_epoch(axes, best_epoch, history.get(f"val_{key}"))
            if axes.lines:
                axes.legend(frameon=False, fontsize=9)


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
        raise UserError(f"expected a confusion matrix [{len(class_names)}, {len(class_names)}], got shape {counts.shape}")
    names = [_label(name) for name in class_names]
    cell = _cell_inches(len(names), counts)
    margin = 0.09 * max(map(display_width, names)) + 0.8
    with _canvas(cell * len(names) + margin + 1.1, cell * len(names) + margin, path) as figure:
        axes = figure.subplots()
        _draw_cells(axes, counts, cell)
        _name_axes(axes, names, cell)


def confused_pairs(pairs: Sequence[dict[str, Any]], path: str) -> None:
    """Draws the pairs of `scores.most_confused_pairs` as horizontal bars, a PNG: for more classes than a matrix can show.

    Args:
        pairs: dictionaries of truth, predicted, count, the largest first; may be empty.
        path: where the PNG goes.
    """
    with _canvas(8.0, 1.1 + 0.3 * max(3, len(pairs)), path) as figure:
        axes = figure.subplots()
        if not pairs:
            axes.set_axis_off()
            axes.text(0.5, 0.5, "no class was taken for another", ha="center", va="center", color=QUIET)
            return
        names = [f"{_label(pair['truth'])} → {_label(pair['predicted'])}" for pair in pairs]
        bars = axes.barh(range(len(pairs)), [pair["count"] for pair in pairs], height=0.72, color=TRAIN)
        axes.bar_label(bars, padding=4, fontsize=9)
        axes.set_yticks(range(len(pairs)), names, fontsize=9)
        axes.set_ylim(max(3, len(pairs)) - 0.5, -0.6)  # downwards, and no giant bar for a single pair
        axes.tick_params(left=False, bottom=False, labelbottom=False)
        axes.spines["bottom"].set_visible(False)
        axes.margins(x=0.08)
        axes.set_title("Most confused: truth → prediction, examples", fontsize=11, fontweight="bold", loc="left")


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
            raise UserError(f"expected a depth and an accuracy within 0..1, got {self.depth} and {self.accuracy}")


def accuracy_by_depth(points: Sequence[DepthPoint], path: str, title: str) -> None:
    """Draws how the accuracy grows with the depth of the layer that a head stands on, as a PNG: a line for each series.

    Layers are named at their depths where all series are of one network, which shows in that they share a layer. Where
    they are of several, the legend names the best layer of each. The best point of all is marked and labelled; of equals
    it is the shallowest.

    Args:
        points: in any order; up to 8 series are told apart by their colours, 16 by colours and dashes.
        path: where the PNG goes.
        title: over it.

    Raises:
        UserError: there is no point.
    """
    if not points:
        raise UserError("expected at least 1 layer's accuracy to draw, got none")
    series: dict[str, list[DepthPoint]] = {}
    for point in points:
        series.setdefault(point.series, []).append(point)
    layers = _layers_of_one_network(series)
    labels = [_label(name) if layers else _with_best(name, own) for name, own in series.items()]
    columns = max(1, int(9.0 / (0.55 + 0.064 * max(len(line) for label in labels for line in label.split("\n")))))
    rows = math.ceil(len(series) / columns) * (1 if layers else 2) if len(series) > 1 else 0
    across = max(7.4, 1.1 * LAYER_INCHES * len(layers))  # inches of the axes, and of the slanting names beyond them
    slant = 0.05 * max((len(_label(layer, LONGEST_LAYER)) for _, layer in layers), default=0)
    with _canvas(across + slant + 1.0, 3.9 + slant + 0.17 * rows, path) as figure:
        figure.suptitle(_label(title, 80), fontsize=12, fontweight="bold")
        axes = figure.subplots()
        _scale_depths(axes, points)
        _draw_depths(axes, series, _best(points))
        _name_layers(axes, layers, across)
        if len(series) > 1:
            handles: list[Any] = list(axes.containers)
            figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


# The drawing itself.


@contextlib.contextmanager
def _canvas(width: float, height: float, path: str) -> Iterator[Figure]:
    """A figure in inches, in our style whatever the user's settings, saved as a PNG when the block ends well."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(cast(Any, STYLE | {"font.family": _fonts()}))
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        png = io.BytesIO()
        tight: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.12}  # the layout cuts labels beside a square image
        figure.savefig(png, format="png", metadata={"Software": None}, **tight)  # a version would change the bytes
    write_bytes(path, png.getvalue())


def _draw_series(axes: Axes, history: dict[str, list[float]], key: str) -> None:
    from matplotlib.ticker import MaxNLocator

    for name, prefix, colour in (("train", "", TRAIN), ("validation", "val_", VALIDATION)):
        if values := history.get(prefix + key):
            marker = "o" if len(values) <= 30 else ""
            axes.plot(
                range(1, len(values) + 1), values, color=colour, label=name, linewidth=1.8, marker=marker, markersize=3.5
            )
    if not axes.lines:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center", color=QUIET)
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


def _best(points: Sequence[DepthPoint]) -> DepthPoint:
    return max(points, key=lambda point: (point.accuracy, -point.depth))


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
    where = f"{_label(best.layer, LONGEST_LAYER)}, {_label(best.series)}" if several else _label(best.layer, LONGEST_LAYER)
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


def _scale_depths(axes: Axes, points: Sequence[DepthPoint]) -> None:
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
    axes.set_ylabel("accuracy, with 95% intervals" if len(ends) > len(points) else "accuracy")


def _name_layers(axes: Axes, layers: Sequence[tuple[float, str]], across: float) -> None:
    """Slanting names over the axes, each with a line down its depth; names that would touch are moved apart."""
    left, right = axes.get_xlim()
    places = _spread([depth for depth, _ in layers], LAYER_INCHES / across * (right - left))
    for place, (depth, layer) in zip(places, layers, strict=True):
        line: dict[str, Any] = {"color": "#d3d7dc", "linewidth": 0.8, "clip_on": False, "zorder": 1}
        axes.plot([depth, depth, place], [0, 1, 1.05], transform=axes.get_xaxis_transform(), **line)
        turned: dict[str, Any] = {"rotation": 40, "rotation_mode": "anchor", "fontsize": 8.5}
        axes.text(place, 1.06, _label(layer, LONGEST_LAYER), transform=axes.get_xaxis_transform(), **turned)


def _spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Rising places at least a gap apart, near the wanted ones, that end at 1 or before."""
    places: list[float] = []
    for place in wanted:
        places.append(max(place, places[-1] + gap) if places else place)
    for i, _ in reversed(list(enumerate(places))):
        places[i] = min(places[i], 1 - gap * (len(places) - 1 - i))
    return places


# Names.


def _with_best(series: str, points: Sequence[DepthPoint]) -> str:
    best = _best(points)
    return f"{_label(series)}\nbest: {_label(best.layer, LONGEST_LAYER)}, {100 * best.accuracy:.2f}%"


def _label(name: str, longest: int = LONGEST_LABEL) -> str:
    """A name as a plot can show it: one line, cut in the middle when long, \\uXXXX for what no font here can draw."""
    short = printable(name)
    if len(short) > longest:
        short = f"{short[: longest // 2]}…{short[-(longest - longest // 2 - 1) :]}"
    drawable = _drawable()
    return "".join(c if ord(c) in drawable else c.encode("ascii", "backslashreplace").decode() for c in short)


@functools.lru_cache(maxsize=1)
def _fonts() -> list[str]:
    """matplotlib's own font, then those for other scripts that are installed."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in FALLBACK_FONTS if name in installed)]


@functools.lru_cache(maxsize=1)
def _drawable() -> frozenset[int]:
    """The code points that some font in `_fonts` has."""
    from matplotlib.font_manager import findfont, get_font

    return frozenset().union(*(get_font(findfont(name)).get_charmap() for name in _fonts()))
