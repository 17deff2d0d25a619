"""How a result shows itself: its words in a console, its words and pictures in a notebook."""

from __future__ import annotations

import base64
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable

from markupsafe import escape

WIDTH, SIDE = 460, 96  # pixels of a plot, at most; and of a small picture's longer side


class Shown(ABC):
    """A result that says in a few lines what it is; its dataclass is made without a `__repr__` of its own."""

    @abstractmethod
    def words(self) -> str:
        """What it is, in a line or a few."""

    def pictures(self) -> Iterable[tuple[str, bytes]]:
        """What belongs to it: each a MIME type and a file's bytes."""
        return ()

    def __repr__(self) -> str:
        return self.words()

    def _repr_html_(self) -> str:
        """As a notebook shows it."""
        found = "".join(
            f'<img src="data:{kind};base64,{base64.b64encode(content).decode()}" style="max-width:{WIDTH}px">'
            for kind, content in self.pictures()
        )
        return f"<pre>{escape(self.words())}</pre>{found}"


def plots(*paths: str) -> Iterable[tuple[str, bytes]]:
    """PNG files as `Shown.pictures` has them, those that are there."""
    for path in paths:
        if os.path.isfile(path):
            with open(path, "rb") as file:
                yield "image/png", file.read()


def thumbnails(encoded: Iterable[bytes]) -> Iterable[tuple[str, bytes]]:
    """Image files as small JPEGs, those that Pillow reads."""
    from PIL import Image, ImageOps

    for content in encoded:
        small = io.BytesIO()
        try:
            with Image.open(io.BytesIO(content)) as image:
                image.draft("RGB", (2 * SIDE, 2 * SIDE))
                upright = ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        upright.thumbnail((SIDE, SIDE))
        upright.save(small, "JPEG")
        yield "image/jpeg", small.getvalue()
