"""Section: what is taken for what."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from headstart.training.pages.charts import chart
from headstart.training.pages.elements import html, note, section, table
from headstart.training.plots.confused_pairs import confused_pairs
from headstart.training.reporting.evaluated import Evaluated

DEEPEST = 45  # percent of colour in a cell: the number on it stays readable


def confusion(evaluated: Evaluated) -> Markup:
    """The matrix, as a table whose cells are shaded by their share of the row; the worst pairs where it is too large."""
    names, matrix = evaluated.run.class_names, evaluated.metrics["confusion"]
    if matrix is None:
        pairs = [(pair["truth"], pair["predicted"], pair["count"]) for pair in evaluated.metrics["most_confused"]]
        drawn = chart(
            lambda path: confused_pairs(pairs, path), "confused-chart", "The pairs of classes that are confused most"
        )
        return section("confusion", "What is taken for what", [drawn])
    rows = [(name, *_cells(number, counts)) for number, (name, counts) in enumerate(zip(names, matrix))]
    text = "A row is a class, a column what its images were taken for; shaded by share of the row. Right ones are outlined."
    caption = "Confusion matrix: images, truth down, prediction across"
    return section("confusion", "What is taken for what", [table(caption, ("truth", *names), rows), note(text)])


def _cells(own: int, counts: Sequence[int]) -> list[Markup]:
    whole = max(1, sum(counts))
    return [
        html(
            '<td class="cell{}" style="--share:{}%">{}</td>',
            " right" if number == own else "", round(DEEPEST * count / whole), f"{count:,}",
        )
        for number, count in enumerate(counts)
    ]  # fmt: skip
