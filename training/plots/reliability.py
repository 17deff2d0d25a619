"""How often a prediction is right that is so certain: bins of confidence in, a PNG out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart.training.plots.canvas import GRID, QUIET, TRAIN, VALIDATION, canvas, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions of about one confidence.

    Args:
        start, end: of the bin, 0..1.
        count: predictions in it.
        confidence: their mean probability, 0..1.
        accuracy: the share of them that is right, 0..1.
        low, high: its 95 % interval.
    """

    start: float
    end: float
    count: int
    confidence: float
    accuracy: float
    low: float
    high: float


def reliability(bins: Sequence[ReliabilityBin], before: Sequence[ReliabilityBin], path: str, title: str) -> None:
    """Draws accuracy over confidence, with intervals, and below it how many predictions each bin holds, as a PNG.

    Args:
        bins: those that hold predictions, by rising confidence, one at least.
        before: the same without calibration; empty where there was none.
        path: where the PNG goes.
        title: over it.
    """
    with canvas(5.6, 6.2, path) as figure:
        figure.suptitle(label(title, 60), fontsize=12, fontweight="bold")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
        upper.plot([0, 1], [0, 1], color=QUIET, linewidth=1.0, linestyle=(0, (4, 3)), label="as right as certain")
        if before:
            style: dict[str, Any] = {"color": VALIDATION, "markersize": 4, "linewidth": 1.0, "alpha": 0.7}
            upper.plot(*_line(before), "s-", label="without calibration", **style)
        _draw_bins(upper, bins, "as saved" if before else "this run")
        lower.bar(
            [each.start for each in bins],
            [each.count for each in bins],
            [each.end - each.start for each in bins],
            align="edge",
            color=TRAIN,
            edgecolor="white",
        )
        figure.legend(*upper.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
        _name_axes(upper, lower, min(each.start for each in (*bins, *before)), max(each.count for each in bins))


def _line(bins: Sequence[ReliabilityBin]) -> tuple[list[float], list[float]]:
    return [each.confidence for each in bins], [each.accuracy for each in bins]


def _draw_bins(axes: Axes, bins: Sequence[ReliabilityBin], name: str) -> None:
    bars = [[max(0.0, each.accuracy - each.low) for each in bins], [max(0.0, each.high - each.accuracy) for each in bins]]
    style: dict[str, Any] = {"color": TRAIN, "markersize": 6, "linewidth": 1.6, "markeredgecolor": "white"}
    axes.errorbar(*_line(bins), bars, fmt="o-", elinewidth=1.0, capsize=2.5, label=name, zorder=3, **style)


def _name_axes(upper: Axes, lower: Axes, start: float, most: int) -> None:
    upper.set_xlim(max(0.0, start - 0.02), 1.01)
    upper.set_ylim(-0.02, 1.02)
    upper.set_ylabel("share that is right, with 95% intervals")
    for axes in (upper, lower):
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
    lower.bar_label(lower.containers[0], fontsize=7, padding=1)  # type: ignore[arg-type]
    lower.set_ylim(0, 1.18 * most)
    lower.set_ylabel("examples")
    lower.set_xlabel("confidence: probability of the prediction")
