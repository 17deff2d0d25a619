"""Pieces of a page: text and numbers in, HTML out in which every name is escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup

from headstart.features.formatting import printable

Cell = str | int | Markup
NOTHING = Markup("")


def html(template: str, *parts: object, **named: object) -> Markup:
    """A template with its `{}` filled in; what is not HTML already is escaped, and shown as text that can be shown."""
    return Markup(template).format(*map(_shown, parts), **{name: _shown(part) for name, part in named.items()})


def _shown(part: object) -> object:
    return part if isinstance(part, Markup | int | float) else printable(str(part))


def joined(parts: Iterable[Markup]) -> Markup:
    """One after another."""
    return Markup("\n").join(parts)


def paragraph(text: str, *parts: object) -> Markup:
    """A paragraph; `text` is a template."""
    return html("<p>" + text + "</p>", *parts)


def note(text: str, *parts: object) -> Markup:
    """How to read what stands above it, or why something is not there."""
    return html('<p class="note">' + text + "</p>", *parts)


def section(name: str, title: str, body: Iterable[Markup]) -> Markup:
    """A section under a heading of its own."""
    return html(
        '<section id="{0}" aria-labelledby="{0}-title"><h2 id="{0}-title">{1}</h2>\n{2}\n</section>', name, title, joined(body)
    )


def result(sentence: Markup, caveats: Iterable[str], figures: Iterable[Markup] = ()) -> Markup:
    """The first section: what came out, what must be held against it, and figures."""
    held = joined(html("<li>{}</li>", text) for text in caveats)
    parts = [html('<p class="result">{}</p>', sentence), html('<ul class="caveats">{}</ul>', held) if held else NOTHING]
    return section("result", "The result", [*parts, *figures])


def facts(rows: Mapping[str, object]) -> Markup:
    """Names and what they are."""
    return html("<dl>{}</dl>", joined(html("<div><dt>{}</dt><dd>{}</dd></div>", name, value) for name, value in rows.items()))


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], numbers: bool = True) -> Markup:
    """A table whose first column names its rows; it scrolls by itself where it is wider than the page.

    Args:
        caption: what it says.
        columns: their names.
        rows: as many cells each.
        numbers: all columns but the first hold numbers.
    """
    kind = Markup(' class="numbers"') if numbers else NOTHING
    head = joined(html('<th scope="col">{}</th>', name) for name in columns)
    body = joined(html('<tr><th scope="row">{}</th>{}</tr>', first, joined(map(_cell, rest))) for first, *rest in rows)
    return html(
        '<div class="scroll" role="region" tabindex="0" aria-label="{0}"><table{1}><caption>{0}</caption>'
        "<thead><tr>{2}</tr></thead><tbody>{3}</tbody></table></div>",
        caption, kind, head, body,
    )  # fmt: skip


def _cell(value: Cell) -> Markup:
    """A cell of some text, or one that is made already."""
    return value if isinstance(value, Markup) else html("<td>{}</td>", value)


def percent(share: float | None, digits: int = 1) -> str:
    """A share, 0..1, for people."""
    return "-" if share is None or math.isnan(share) else f"{100 * share:.{digits}f}%"


def interval(low: float | None, high: float | None) -> str:
    """The ends of a share's interval; '' where there is none."""
    return "" if low is None or high is None or math.isnan(low) else f"[{100 * low:.1f}, {100 * high:.1f}]"


def within(low: float | None, high: float | None) -> str:
    """The same in a sentence, in brackets."""
    ends = interval(low, high)
    return f" (95% interval {ends[1:-1].replace(', ', ' to ')})" if ends else ""
