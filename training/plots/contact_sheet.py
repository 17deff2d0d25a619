"""What was found, as images in rows with a line or two below each: strips in, a PNG out."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from headstart.features.files import write_bytes
from headstart.training.plots.canvas import INK, QUIET, label

SIDE, GAP, MARGIN, LINE = 150, 8, 16, 15  # pixels
TITLE = 26
WIDE = 8  # images beside each other
MOST = 96  # images on a sheet
LETTERS = 24  # that fit below an image
SMALL, LARGE = 11, 16  # points
FRAME, EMPTY = "#d5d8dd", "#f1f2f4"


@dataclass(frozen=True)
class Tile:
    """An image by its number, with a line or two below it."""

    number: int
    caption: str


@dataclass(frozen=True)
class Strip:
    """Images that belong together, such as a pair."""

    tiles: Sequence[Tile]
    title: str = ""


def draw_sheet(title: str, strips: Sequence[Strip], pixels: Callable[[int], np.ndarray | None], path: str) -> None:
    """Draws strips one after the other, several in a row where they are short, as a PNG.

    Args:
        title: above all.
        strips: the most important first; those beyond 96 images are left out.
        pixels: gives an image, uint8 [H, W, 3], RGB, by its number; None where it is not at hand.
        path: of the PNG.
    """
    shown = first_strips(strips)
    width = max(len(strip.tiles) for strip in shown)
    lines = 1 + max(tile.caption.count("\n") for strip in shown for tile in strip.tiles)
    head = LINE + 4 if any(strip.title for strip in shown) else 0
    columns = max(1, min(WIDE // width, len(shown)))
    cell = width * (SIDE + GAP) - GAP, head + SIDE + 4 + lines * LINE
    between = GAP if width == 1 else 3 * GAP
    rows = -(-len(shown) // columns)
    across = max(columns * cell[0] + (columns - 1) * between, 480)
    sheet = Image.new("RGB", (across + 2 * MARGIN, 2 * MARGIN + TITLE + rows * (cell[1] + 2 * GAP)), "white")
    draw, small = ImageDraw.Draw(sheet), _font(SMALL)
    left_out = f" (the first {len(shown):,} of {len(strips):,})" if len(shown) < len(strips) else ""
    draw.text((MARGIN, MARGIN), label(f"{title}{left_out}", 100), INK, _font(LARGE, bold=True))
    for number, strip in enumerate(shown):
        x = MARGIN + number % columns * (cell[0] + between)
        y = MARGIN + TITLE + number // columns * (cell[1] + 2 * GAP)
        if strip.title:
            draw.text((x, y), label(strip.title, LETTERS * len(strip.tiles)), INK, _font(SMALL, bold=True))
        for tile in strip.tiles:
            _put(sheet, draw, x, y + head, _thumbnail(pixels(tile.number)))
            for line, text in enumerate(tile.caption.split("\n")):
                place = (x, y + head + SIDE + 4 + line * LINE)
                draw.text(place, label(_end(text), LETTERS), QUIET if line else INK, small)
            x += SIDE + GAP
    png = io.BytesIO()
    sheet.save(png, "PNG")
    write_bytes(path, png.getvalue())


def first_strips(strips: Sequence[Strip], most: int = MOST) -> Sequence[Strip]:
    """Those that have room, and one at least: of so many images in all."""
    ends = np.cumsum([len(strip.tiles) for strip in strips])
    return strips[: max(1, int((ends <= most).sum()))]


def _end(text: str) -> str:
    """A key's end, where its name is, if it is too long."""
    return text if len(text) <= LETTERS or "/" not in text else f"…{text[-(LETTERS - 1) :]}"


def _put(sheet: Image.Image, draw: ImageDraw.ImageDraw, x: int, y: int, picture: Image.Image | None) -> None:
    if picture is None:
        draw.rectangle((x, y, x + SIDE - 1, y + SIDE - 1), EMPTY, FRAME)
        draw.text((x + SIDE // 2, y + SIDE // 2), "not at hand", QUIET, _font(SMALL), anchor="mm")
        return
    left, top = x + (SIDE - picture.width) // 2, y + (SIDE - picture.height) // 2
    draw.rectangle((x, y, x + SIDE - 1, y + SIDE - 1), EMPTY)
    sheet.paste(picture, (left, top))


def _thumbnail(pixels: np.ndarray | None) -> Image.Image | None:
    """An image in a square, its sides in proportion; enlarged where it is tiny."""
    if pixels is None:
        return None
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    scale = SIDE / max(picture.size)
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    return picture.resize((size[0], size[1]), Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)


@functools.lru_cache(maxsize=8)
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font that comes with matplotlib, which plots are lettered in."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", name), size)
