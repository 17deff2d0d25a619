"""Plots, tables and predictions for people, from the numbers of `training.scores`.

In: a history of training, a confusion matrix, the dictionary of `scores.score`. Out: PNG and CSV files that are whole or
not there, and a text for the terminal. The same input gives the same bytes with the same matplotlib. matplotlib is
imported by the functions that draw, and drawn on without pyplot, so that no display, thread or setting is involved.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import math
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike

from features.errors import UserError
from features.files import atomic, write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 120
LONGEST_LABEL = 24  # characters of a class name in a plot
FIRST_CLASSES = 20  # rows of the terminal's table
FIRST_MISTAKES = 3

TRAIN, VALIDATION, QUIET, INK = "#2a6fbb", "#e07b28", "#8a8f98", "#22262b"
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

RATES = {  # shown as percent
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "top_5": "top-5 accuracy",
    "auroc": "AUROC",
    "calibration_error": "calibration error",
}


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
    margin = 0.09 * max(map(_width, names)) + 0.8
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


# Text.


def summary(metrics: dict[str, Any], split: str, used_for_selection: bool, groups_declared: bool) -> str:
    """The scores for a terminal, at most 24 lines, no newline at the end.

    Args:
        metrics: what `scores.score` returns.
        split: the name of the split that was scored.
        used_for_selection: the split chose the model, so its scores flatter it; the first line then says so.
        groups_declared: someone said which examples belong together, as opposed to each content being its own group.
    """
    mark = " (used for selection)" if used_for_selection else ""
    counts = f"{metrics['examples']:,} examples in {metrics['groups']:,} groups"
    head = f"{_printable(split)}{mark}: {counts}; 95% intervals in brackets"
    lines = [head, *_metric_lines(metrics, groups_declared), *_class_lines(metrics["per_class"])]
    return "\n".join(line.rstrip() for line in lines + _mistake_lines(metrics["worst_mistakes"]))


def _metric_lines(metrics: dict[str, Any], groups_declared: bool) -> list[str]:
    declared = "groups declared" if groups_declared else "groups not declared: each distinct content is its own group"
    few = len(metrics["per_class"]) <= 5  # the truth is then always among the first 5
    names = {name: title for name, title in RATES.items() if not (few and name == "top_5")}
    lines = [f"  {title:<18}{_percent(metrics[name])}" for name, title in names.items()]
    lines[0] += f"  {declared}"
    lines.append(f"  {'log loss':<18}{_nats(metrics['log_loss'])}")
    lines.append(f"  {'majority baseline':<18}{_percent(metrics['majority_accuracy'])}")
    return lines


def _percent(metric: dict[str, Any]) -> str:
    return _with_interval(metric, lambda value: f"{100 * value:.2f}", "%")


def _nats(metric: dict[str, Any]) -> str:
    return _with_interval(metric, lambda value: f"{value:.4f}", " ")


def _with_interval(metric: dict[str, Any], shown: Any, unit: str) -> str:
    if metric["value"] is None:
        return f"{'undefined':>9}"
    low, high = metric.get("low"), metric.get("high")
    interval = "" if low is None or high is None else f"  [{shown(low)}, {shown(high)}]"
    return f"{shown(metric['value']):>8}{unit}{interval}"


def _class_lines(classes: Sequence[dict[str, Any]]) -> list[str]:
    """A row for each of the first 20 classes; in two columns when there are more than 10."""
    header = f"  {'class':<18} {'count':>6} {'precision':>9} {'recall':>6}"
    rows = [_class_row(entry) for entry in classes[:FIRST_CLASSES]]
    if len(rows) > FIRST_CLASSES // 2:
        half = math.ceil(len(rows) / 2)
        rows = [f"{_fit(left, 52)}{right}" for left, right in zip(rows[:half], [*rows[half:], ""][:half], strict=True)]
        header = f"{header:<52}{header}"
    more = len(classes) - FIRST_CLASSES
    return [header + (f"   and {more:,} more classes" if more > 0 else ""), *rows]


def _class_row(entry: dict[str, Any]) -> str:
    precision, recall = ("-" if entry[key] is None else f"{100 * entry[key]:.1f}" for key in ("precision", "recall"))
    note = f" {entry['note']}" if entry.get("note") else ""
    return f"  {_fit(entry['class'], 18)} {entry['count']:>6} {precision:>9} {recall:>6}{note}"


def _mistake_lines(mistakes: Sequence[dict[str, Any]]) -> list[str]:
    rows = [
        f"  {_printable(entry['key'])}: {_printable(entry['truth'])} taken for {_printable(entry['predicted'])}"
        f" ({100 * entry['probability']:.1f}% against {100 * entry['truth_probability']:.1f}%)"
        for entry in mistakes[:FIRST_MISTAKES]
    ]
    return ["  worst mistakes", *rows] if rows else ["  no mistakes"]


# Predictions.


def write_predictions(
    path: str,
    keys: Sequence[str],
    groups: Sequence[str],
    labels: ArrayLike,
    probabilities: ArrayLike,
    class_names: Sequence[str],
) -> None:
    """Writes a CSV (UTF-8): key, group, truth, predicted, and 'p:NAME' for each class, with 6 significant digits.

    Args:
        path: where the file goes; it is whole or not there.
        keys, groups: N names each.
        labels: int64 [N], 0..C-1.
        probabilities: float [N, C]; the prediction is the first of the largest.
        class_names: C names.

    Raises:
        UserError: the lengths disagree.
    """
    truth, scores = np.asarray(labels), np.asarray(probabilities)
    if scores.shape != (len(keys), len(class_names)) or not len(keys) == len(groups) == len(truth):
        raise UserError(
            f"expected probabilities [{len(keys)}, {len(class_names)}] with as many groups and labels,"
            f" got shape {scores.shape}, {len(groups)} groups and {len(truth)} labels"
        )
    predicted = scores.argmax(1)
    with atomic(path) as file, _text(file) as text:
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["key", "group", "truth", "predicted", *(f"p:{name}" for name in class_names)])
        for i, row in enumerate(scores):
            named = [keys[i], groups[i], class_names[truth[i]], class_names[predicted[i]]]
            table.writerow(named + [f"{probability:.6g}" for probability in row.tolist()])


@contextlib.contextmanager
def _text(file: Any) -> Iterator[io.TextIOWrapper]:
    """UTF-8 over a binary file that stays open; a name that is not UTF-8 on disk keeps its bytes."""
    text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
    try:
        yield text
    finally:
        text.detach()  # flushes too; closing would close the file before its sync


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
    axes.grid(axis="y", color="#e8eaed", linewidth=0.8)
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
    steep = max(map(_width, names)) * 0.085 > cell - 0.08  # the names would touch
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


# Names.


def _label(name: str, longest: int = LONGEST_LABEL) -> str:
    """A name as a plot can show it: one line, cut in the middle when long, \\uXXXX for what no font here can draw."""
    short = _printable(name)
    if len(short) > longest:
        short = f"{short[: longest // 2]}…{short[-(longest - longest // 2 - 1) :]}"
    drawable = _drawable()
    return "".join(c if ord(c) in drawable else c.encode("ascii", "backslashreplace").decode() for c in short)


def _printable(name: str) -> str:
    """'?' for what would move the cursor, colour the terminal or fail to encode."""
    return "".join(c if c.isprintable() else "?" for c in name)


def _width(text: str) -> int:
    """Columns on a terminal: 2 for a wide character, 0 for a combining one."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _fit(text: str, columns: int) -> str:
    """Cut or padded to this many columns."""
    shown = _printable(text)
    if _width(shown) > columns:
        while _width(shown) > columns - 1:
            shown = shown[:-1]
        shown += "…"
    return shown + " " * (columns - _width(shown))


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
