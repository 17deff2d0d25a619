"""Sections of a run on several labels an image: the result, each class, and the images it got most wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from headstart.features.dataset.labels import labels_in
from headstart.training.evaluation.set_report import RATES
from headstart.training.pages.album import Album
from headstart.training.pages.charts import chart
from headstart.training.pages.elements import NOTHING, html, interval, note, percent, result, section, table, within
from headstart.training.pages.gallery import figure, gallery
from headstart.training.plots.precision_by_class import ClassPoint, precision_by_class
from headstart.training.predicting.pictures import Pictures
from headstart.training.predicting.predictions import Predictions
from headstart.training.reporting.result_section import caveats, figures, still_to_do

NUMBERS = {"log_loss": "log loss"}
COLUMNS = ("class", "images", "average precision", "interval", "F1", "its interval", "precision", "recall", "from", "note")
BY_COLUMNS = ("images", "mean average precision", "interval", "by chance", "F1 of all labels", "its interval")
MOST = 100  # rows of a table
SHOWN = 18  # images


def sets_result(found: Predictions) -> Markup:
    """The sentence and what belongs to it."""
    metrics = found.metrics
    score = metrics["mean_average_precision"]
    sentence = html(
        "Mean average precision <strong>{}</strong> on the {} images of {}{}; an order that knows nothing would get {}.",
        percent(score["value"]), f"{metrics['examples']:,}", found.name, within(score["low"], score["high"]),
        percent(metrics["chance"]["value"]),
    )  # fmt: skip
    return result(sentence, caveats(metrics), [*still_to_do(found), figures(metrics, RATES, NUMBERS)])


def label_classes(found: Predictions) -> Markup:
    """How well each class is ranked, and found from its threshold on, as a plot and as a table."""
    classes = sorted(
        found.metrics["per_class"], key=lambda each: (each["count"] == 0, each["average_precision"]["value"] or 0)
    )
    points = [
        ClassPoint(each["class"], each["count"], _ends(each["average_precision"]), _ends(each["f1"]))
        for each in classes
        if each["count"]
    ]
    title = "Average precision and F1 by class; the numbers are in the table"
    drawn = chart(lambda path: precision_by_class(points, path, found.name), "classes-chart", title) if points else NOTHING
    more = f", the worst {MOST} of {len(classes):,}" if len(classes) > MOST else ", the worst first"
    text = "From: the probability from which on a label is given. Intervals are of 95%, each for itself."
    tables = [table(f"By class{more}", COLUMNS, map(_row, classes[:MOST]))]
    for by, values in found.metrics["by"].items():
        tables.append(table(f"By {by}, the worst first", (by, *BY_COLUMNS), map(_by_row, values[:MOST])))
    return section("classes", "Class by class", [drawn, *tables, note(text)])


def _by_row(found: Mapping[str, Any]) -> tuple[str, ...]:
    ranked, decided = _shown(found["mean_average_precision"]), _shown(found["micro_f1"])
    return found["value"] or "(empty)", f"{found['count']:,}", *ranked, percent(found["chance"]), *decided


def _row(found: Mapping[str, Any]) -> tuple[str, ...]:
    shares = [text for name in ("average_precision", "f1") for text in _shown(found[name])]
    rates = percent(found["precision"]), percent(found["recall"])
    return found["class"], f"{found['count']:,}", *shares, *rates, f"{found['threshold']:.3f}", found["note"]


def _shown(score: Mapping[str, Any]) -> tuple[str, str]:
    return percent(score["value"]), interval(score["low"], score["high"])


def _ends(score: Mapping[str, Any]) -> tuple[float, float, float]:
    value, low, high = (math.nan if score[name] is None else score[name] for name in ("value", "low", "high"))
    return value, low, high


def set_examples(found: Predictions, pictures: Pictures, album: Album) -> Markup:
    """The images whose labels are most wrong, by the mean log loss over classes."""
    losses = _losses(found)
    wrong = [row for row, each in enumerate(found.rows) if each["truth"] != each["predicted"]]
    worst = sorted(wrong, key=lambda row: (-losses[row], found.keys[row]))[:SHOWN]
    images = {} if pictures.why_not else pictures.pixels(worst)
    parts = [note("Without pictures: {}.", pictures.why_not)] if pictures.why_not else []
    parts.append(gallery(_entry(found, row, images, album) for row in worst) if worst else note("There are none."))
    text = "{} of {} images have another set of labels than they should; those come first that its probabilities fit least."
    return section("examples", "Mistakes", [*parts, note(text, f"{len(wrong):,}", f"{len(found.rows):,}")])


def _losses(found: Predictions) -> np.ndarray:
    """Each image's log loss, the mean over classes, float64 [N]."""
    names, delimiter = found.run.class_names, found.run.label_delimiter
    shares = np.array([[float(row[f"p:{name}"]) for name in names] for row in found.rows])  # [N, C]
    sets = [set(labels_in(row["truth"], delimiter)) for row in found.rows]
    truth = np.array([[name in each for name in names] for each in sets])
    losses: np.ndarray = -np.log(np.clip(np.where(truth, shares, 1 - shares), 1e-15, 1)).mean(1)
    return losses


def _entry(found: Predictions, row: int, images: Mapping[int, np.ndarray], album: Album) -> Markup:
    key, delimiter = found.keys[row], found.run.label_delimiter
    truth, answer = (labels_in(found.rows[row][name], delimiter) for name in ("truth", "predicted"))
    missed, wrong = sorted({*truth} - {*answer}), sorted({*answer} - {*truth})
    said = [f"{what} {', '.join(names)}" for what, names in (("missed", missed), ("wrongly", wrong)) if names]
    picture = album.picture(images[row], f"{key}: {_named(truth)}") if row in images else NOTHING
    caption = html(
        '<b>{}</b> <span>{}</span><span class="key" title="{}">{}</span>',
        _named(truth), "; ".join(said), key, key.rpartition("/")[2],
    )  # fmt: skip
    return figure(picture, caption)


def _named(labels: Sequence[str]) -> str:
    return ", ".join(labels) or "no label"
