"""Section: what a training came to, for a run that was not evaluated, and how to evaluate it."""

from __future__ import annotations

from markupsafe import Markup

from headstart.training.evaluation.evaluate_config import EvaluateConfig
from headstart.training.pages.again import command
from headstart.training.pages.elements import html, note, percent, result
from headstart.training.runs.figures import chosen_figure
from headstart.training.runs.run_folder import Run

HELD_OUT = {
    "validation": "Measured on validation, as often as you like: <code>{}</code>.",
    "test": "On test, at the end and once: <code>{}</code>.",
}


def trained_section(run: Run) -> Markup:
    """The figure that chose, and what is still to be done."""
    metrics = run.metrics
    name, kind = chosen_figure(metrics)
    figure = f"{metrics[name]:.4f}" if name == "loss" else percent(metrics[name])
    known = metrics.get("refit", {}).get("splits", ())  # the head was fitted to these
    notes = [to_measure(run, split) for split in HELD_OUT if split in run.table.splits and split not in known]
    sentence = html("<strong>{}</strong> {}.", figure, kind)
    caveat = "Not evaluated yet: no interval, nothing by class, no mistakes to look at, and a figure that flatters the run."
    return result(sentence, [caveat], notes)


def to_measure(run: Run, split: str) -> Markup:
    """How to measure a run on a split that holds some images out."""
    return note(HELD_OUT[split], command("evaluate", EvaluateConfig, {"run": run.home, "split": split}))
