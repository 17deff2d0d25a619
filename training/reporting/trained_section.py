"""Section: what a training came to, for a run that was not evaluated, and how to evaluate it."""

from __future__ import annotations

from markupsafe import Markup

from headstart.training.evaluation.evaluate_config import EvaluateConfig
from headstart.training.pages.again import command
from headstart.training.pages.elements import html, note, percent, result
from headstart.training.runs.figures import chosen_figure
from headstart.training.runs.run_folder import Run

HELD_OUT = {
    "validation": "Measured on validation, which chose, as often as you like: <code>{}</code>.",
    "test": "On test, at the end and once: <code>{}</code>.",
}


def trained_section(run: Run) -> Markup:
    """The figure that chose, and what is still to be done."""
    metrics = run.metrics
    name, kind = chosen_figure(metrics)
    figure = f"{metrics[name]:.4f}" if name == "loss" else percent(metrics[name])
    known = metrics.get("refit", {}).get("splits", ())  # the head was fitted to these
    notes = [
        note(text, command("evaluate", EvaluateConfig, {"run": run.home, "split": split}))
        for split, text in HELD_OUT.items()
        if split in run.table.splits and split not in known
    ]
    sentence = html("<strong>{}</strong> {}.", figure, kind)
    caveat = "Not evaluated yet: no interval, nothing by class, no mistakes to look at, and a figure that flatters the run."
    return result(sentence, [caveat], notes)
