"""Section: how the training went, epoch by epoch."""

from __future__ import annotations

import csv
import os

from markupsafe import Markup

from headstart.training.pages.charts import chart
from headstart.training.pages.elements import note, section
from headstart.training.plots.learning_curve import learning_curve
from headstart.training.runs.run_folder import HISTORY, Run


def learning(run: Run) -> Markup:
    """The learning curves."""
    path, best = os.path.join(run.path, HISTORY), run.metrics.get("best_epoch") or None
    if not os.path.isfile(path):
        return section(
            "learning", "Learning curves", [note("There are none: the head was fitted to its optimum, without epochs.")]
        )
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    history = {name: [float(row[name]) for row in rows] for name in rows[0] if name != "epoch"}
    title = f"{run.spec.backbone} {run.tap.name}, {run.title}"
    spoken = f"{'Loss and accuracy' if 'accuracy' in history else 'Loss'} over {len(rows)} epochs" + (
        f"; the best is epoch {best}" if best else ""
    )
    curves = chart(lambda drawn: learning_curve(history, drawn, title, best), "learning-chart", spoken)
    text = (
        "The best epoch's weights are kept. Where training goes on improving and validation does not, it is learning by heart."
    )
    return section("learning", "Learning curves", [curves, note(text)])
