"""Section: each class, and each value of what was asked for by `--by`, the worst first."""

from __future__ import annotations

from markupsafe import Markup

from headstart.training.pages.elements import interval, note, percent, section, table
from headstart.training.reporting.evaluated import Evaluated

MOST = 100  # rows of a table


def classes(evaluated: Evaluated) -> Markup:
    """The tables."""
    found = sorted(
        evaluated.metrics["per_class"], key=lambda each: (each["count"] == 0, each["recall"] or 0.0, -each["count"])
    )
    rows = [
        (each["class"], f"{each['count']:,}", percent(each["precision"]), *_share(each["recall"], each), each["note"])
        for each in found[:MOST]
    ]
    more = f", the worst {MOST} of {len(found):,}" if len(found) > MOST else ", the worst first"
    parts = [table(f"By class{more}", ("class", "images", "precision", "recall", "interval of recall", "note"), rows)]
    for by, values in evaluated.metrics["by"].items():
        lines = [
            (each["value"] or "(empty)", f"{each['count']:,}", f"{each['groups']:,}", *_share(score["value"], score))
            for each in values[:MOST]
            for score in (each["accuracy"],)
        ]
        parts.append(table(f"By {by}, the worst first", (by, "images", "groups", "accuracy", "interval"), lines))
    text = "Recall: how many images of the class are found. Precision: how many of those taken for it are of it."
    return section("classes", "Class by class", [*parts, note("{} Intervals are of 95%.", text)])


def _share(value: float | None, ends: dict[str, float | None]) -> tuple[str, str]:
    return percent(value), interval(ends["low"], ends["high"])
