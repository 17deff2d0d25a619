"""Section: the result in one sentence, what to hold against it, and the other figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from headstart.training.evaluation.report import FEW_GROUPS, RATES
from headstart.training.pages.elements import html, interval, percent, result, table, within
from headstart.training.predicting.predictions import Predictions
from headstart.training.reporting.evaluated import Evaluated
from headstart.training.reporting.trained_section import to_measure

NUMBERS = {"log_loss": "log loss", "brier": "Brier score"}
FEW_CLASSES = 5  # with so many the truth is always among the first 5


def result_section(evaluated: Evaluated) -> Markup:
    """The sentence and what belongs to it."""
    return result(
        sentence(evaluated), caveats(evaluated.metrics), [*still_to_do(evaluated.predictions), _figures(evaluated.metrics)]
    )


def still_to_do(found: Predictions) -> list[Markup]:
    """How to measure on test, where this is of the split that chose."""
    run = found.run
    return [to_measure(run, "test")] if found.name == "validation" and "test" in run.table.splits else []


def sentence(evaluated: Evaluated) -> Markup:
    """How good the run is, on what, and compared with what."""
    metrics = evaluated.metrics
    found, baseline = metrics["accuracy"], metrics["majority_accuracy"]["value"]
    return html(
        "<strong>{}</strong> of the {} images of {} are classified rightly{}; guessing the commonest class would get {}.",
        percent(found["value"]), f"{metrics['examples']:,}", evaluated.name, within(found["low"], found["high"]),
        percent(baseline),
    )  # fmt: skip


def caveats(metrics: dict[str, Any]) -> list[str]:
    """What the figure must not be read without."""
    found, groups = [], metrics["groups"]
    if metrics["used_for_selection"]:
        found.append("This split chose the model, or was trained on: its figures flatter the run.")
    elif metrics["seen_in_training"]:
        found.append(f"{metrics['seen_in_training']:,} of these contents were trained on or chosen by.")
    if groups < FEW_GROUPS:
        found.append(f"With {groups} groups of images, intervals are rough or missing.")
    if metrics["groups_declared"]:
        found.append(f"Images that belong together count together: {groups:,} groups.")
    else:
        found.append("Nobody said which images belong together: each distinct content counts by itself.")
    return found


def _figures(metrics: dict[str, Any]) -> Markup:
    few = len(metrics["per_class"]) <= FEW_CLASSES
    rates = {name: title for name, title in RATES.items() if not (few and name == "top_5")}
    rows = []
    for point in [metrics["operating_point"]] if metrics["operating_point"] else []:
        where = f"for {point['positive_class']} at the threshold of {point['threshold']:.4g}"
        rows += [
            (f"{name} {where}", percent(share["value"], 2), interval(share["low"], share["high"]))
            for name, share in point["achieved"].items()
        ]
    return figures(metrics, rates, NUMBERS, rows)


def figures(
    metrics: Mapping[str, Any], rates: Mapping[str, str], numbers: Mapping[str, str], more: Sequence[tuple[str, str, str]] = ()
) -> Markup:
    """An evaluation's figures as a table.

    Args:
        metrics: its metrics.json.
        rates: names of those that are shares, and what they are called.
        numbers: the same of those that are none.
        more: rows that are made already.
    """
    rows = [
        (title, percent(metrics[name]["value"], 2), interval(metrics[name]["low"], metrics[name]["high"]))
        for name, title in rates.items()
    ]
    rows += [(title, _number(metrics[name]["value"]), _ends(metrics[name])) for name, title in numbers.items()]
    return table("Figures with their 95% intervals", ("figure", "value", "interval"), [*rows, *more])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _ends(score: dict[str, float | None]) -> str:
    return "" if score["low"] is None else f"[{_number(score['low'])}, {_number(score['high'])}]"
