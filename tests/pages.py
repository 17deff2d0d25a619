"""A page taken apart, and the check that every one of them needs nothing but itself."""

from __future__ import annotations

import itertools
import pathlib
import re
from html.parser import HTMLParser

MOST_BYTES = 3_000_000
RESOURCES = {"src", "href", "srcset", "data", "poster", "action", "xlink:href"}


class Page(HTMLParser):
    """What a document is made of: elements with their attributes, in order, headings, and the text of each section."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.within = ""
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "section":
            self.within = dict(attrs)["id"] or ""

    def handle_data(self, data: str) -> None:
        self.texts[self.within] = self.texts.get(self.within, "") + data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every element of a kind."""
        return [found for name, found in self.elements if name == tag]

    @property
    def sections(self) -> list[str | None]:
        """Their ids, in order."""
        return [each["id"] for each in self.all("section")]


def alone(path: pathlib.Path) -> Page:
    """A page that asks nobody for anything, is small, and whose headings and links are in order."""
    content = path.read_bytes()
    page = Page(content.decode())
    assert len(content) < MOST_BYTES
    outside = [
        value for _, found in page.elements for name, value in found.items() if name in RESOURCES
        if not (value or "").startswith(("#", "data:image/jpeg;base64,", "data:image/png;base64,"))
    ]  # fmt: skip
    assert outside == [] and not page.all("script") and not page.all("link")
    assert b"url(http" not in content and b"@import" not in content
    headings = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(headings))
    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(ids) == len(set(ids))
    named = {
        value.removeprefix("#")
        for _, found in page.elements
        for name, value in found.items()
        if value and value[0] == "#" and name in RESOURCES
    }
    assert named <= set(ids)
    assert page.sections[0] == "result" and page.sections[-1] == "repeat" and "headstart " in page.texts["repeat"]
    assert all("alt" in found for found in page.all("img"))
    return page
