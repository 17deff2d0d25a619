"""Pictures beside each other, each with a line or two below it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from markupsafe import Markup

from headstart.training.pages.album import Album
from headstart.training.pages.elements import NOTHING, html, joined, note
from headstart.training.plots.contact_sheet import Strip, Tile, first_strips

SHOWN = 24  # images of a contact sheet that a page shows


def figure(picture: Markup, caption: Markup) -> Markup:
    """A picture, or nothing in its place, and what is said of it."""
    return html("<figure>{}<figcaption>{}</figcaption></figure>", picture, caption)


def gallery(entries: Iterable[Markup], kind: str = "gallery") -> Markup:
    """Entries in rows."""
    return html('<ul class="{}">{}</ul>', kind, joined(html("<li>{}</li>", entry) for entry in entries))


def strips_gallery(
    strips: Sequence[Strip], pixels: Callable[[int], np.ndarray | None], album: Album, most: int = SHOWN
) -> Markup:
    """The first images of a contact sheet.

    Args:
        strips: images that belong together stay so.
        pixels: gives an image, uint8 [H, W, 3], by its number; None where it is not at hand.
        album: of the page.
        most: so many images.
    """
    shown = first_strips(strips, most)
    left_out = note("The first {} of {}.", f"{len(shown):,}", f"{len(strips):,}") if len(shown) < len(strips) else NOTHING
    return html("{}{}", left_out, gallery((_strip(strip, pixels, album) for strip in shown), "strips"))


def _strip(strip: Strip, pixels: Callable[[int], np.ndarray | None], album: Album) -> Markup:
    title = html("<b>{}</b>", strip.title) if strip.title else NOTHING
    return html(
        '{}<div class="tiles">{}</div>', title, joined(_tile(tile, pixels(tile.number), album) for tile in strip.tiles)
    )


def _tile(tile: Tile, image: np.ndarray | None, album: Album) -> Markup:
    caption = joined(html("<span>{}</span>", line) for line in tile.caption.split("\n"))
    return figure(NOTHING if image is None else album.picture(image, ""), caption)
