"""The pairs of classes that are confused most: their counts in, a PNG out."""

from __future__ import annotations

from collections.abc import Sequence

from headstart.training.plots.canvas import QUIET, TRAIN, canvas, label


def confused_pairs(pairs: Sequence[tuple[str, str, int]], path: str) -> None:
    """Draws pairs of classes as horizontal bars, a PNG: for more classes than a matrix can show.

    Args:
        pairs: truth, prediction and how many examples, the largest count first; may be empty.
        path: where the PNG goes.
    """
    with canvas(8.0, 1.1 + 0.3 * max(3, len(pairs)), path) as figure:
        axes = figure.subplots()
        if not pairs:
            axes.set_axis_off()
            axes.text(0.5, 0.5, "no class was taken for another", ha="center", va="center", color=QUIET)
            return
        names = [f"{label(truth)} → {label(predicted)}" for truth, predicted, _ in pairs]
        bars = axes.barh(range(len(pairs)), [count for _, _, count in pairs], height=0.72, color=TRAIN)
        axes.bar_label(bars, padding=4, fontsize=9)
        axes.set_yticks(range(len(pairs)), names, fontsize=9)
        axes.set_ylim(max(3, len(pairs)) - 0.5, -0.6)  # downwards, and no giant bar for a single pair
        axes.tick_params(left=False, bottom=False, labelbottom=False)
        axes.spines["bottom"].set_visible(False)
        axes.margins(x=0.08)
        axes.set_title("Most confused: truth → prediction, examples", fontsize=11, fontweight="bold", loc="left")
