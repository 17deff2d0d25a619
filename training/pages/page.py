"""The page itself: sections in, one HTML document out that asks nobody for anything."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Sequence

from markupsafe import Markup

from headstart.training.pages.elements import html, joined

REPORT = "report.html"  # a page's name, in the folder of what it is of
STYLE = pathlib.Path(__file__).with_name("page.css")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # a browser refuses all else: no script, no request
HEADING = re.compile(r'<h2 id="([\w-]+)-title">(.*?)</h2>')
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<a class="skip" href="#result">To the result</a>
<header><p class="over">{over}</p><h1>{title}</h1></header>
<nav aria-label="Sections"><ul>{links}</ul></nav>
<main>
{sections}
</main>
</body>
</html>
"""


def page(over: str, title: str, sections: Sequence[Markup]) -> bytes:
    """A whole document, with links to its sections above them.

    Args:
        over: what kind of page it is, above the title.
        title: what it is of.
        sections: the first of them is called `result`.
    """
    headings = [found for each in sections for found in HEADING.findall(each)]
    links = joined(html('<li><a href="#{}">{}</a></li>', name, Markup(text)) for name, text in headings)
    style = Markup(STYLE.read_text(encoding="utf-8"))
    body = joined(sections)
    return html(PAGE, policy=Markup(POLICY), over=over, title=title, style=style, links=links, sections=body).encode()
