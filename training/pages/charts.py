"""A plot of `training/plots/` inside the page: as SVG whose colours are the page's own, light or dark."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable

from markupsafe import Markup

from headstart.features import files
from headstart.training.pages.elements import html
from headstart.training.plots.accuracy_by_depth import COLOURS
from headstart.training.plots.canvas import GRID, INK, QUIET, STYLE

PAPER = "#ffffff"
VARIABLES = {  # a plot's colours to the page's, which page.css says for both modes
    **{colour: f"series-{number}" for number, colour in enumerate(COLOURS)},
    **{INK: "ink", QUIET: "quiet", GRID: "grid", STYLE["axes.edgecolor"]: "line", PAPER: "paper"},
}


def svg(draw: Callable[[str], object], name: str, title: str) -> Markup:
    """What a plot's function draws.

    Args:
        draw: draws it into a file of this path.
        name: of the chart, no other's on the page.
        title: what it shows, for those who don't see it.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, f"{name}.svg")
        draw(path)
        text = files.read_bytes(path).decode()
    width, height = (float(number) for number in re.findall(r'(?:width|height)="([\d.]+)pt"', text)[:2])
    body = re.sub(r"<[^>]*>", lambda tag: _own(tag[0], name), text[text.index("<defs") : text.rindex("</svg>")])
    start = (
        '<svg role="img" aria-label="{}" viewBox="0 0 {} {}" style="--width: {}px" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return html(start + "{}</svg>", title, width, height, round(width * 4 / 3), Markup(body))


def _own(tag: str, name: str) -> str:
    """A tag of a chart: no two charts share an id, and its colours are the page's."""
    tag = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", tag)
    return re.sub(
        r"#[0-9a-f]{6}\b", lambda colour: f"var(--{VARIABLES[colour[0]]})" if colour[0] in VARIABLES else colour[0], tag
    )


def chart(draw: Callable[[str], object], name: str, title: str) -> Markup:
    """The same as a figure of its own, which scrolls where it would be too small to read."""
    return html('<div class="chart" role="region" tabindex="0" aria-label="{}">{}</div>', title, svg(draw, name, title))
