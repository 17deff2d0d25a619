"""Small pictures inside a page, their bytes counted."""

from __future__ import annotations

import base64
import io

import numpy as np
from markupsafe import Markup
from PIL import Image

from headstart.training.pages.elements import html

MAX_BYTES = 2_400_000  # of all pictures on a page, which is to stay below 3 MB
SIDE = 96  # pixels, of a picture's longer side


class Album:
    """Makes small pictures of pixels, until they take as many bytes as a page has for them."""

    def __init__(self, most: int = MAX_BYTES) -> None:
        self.left = most

    def picture(self, pixels: np.ndarray, description: str, side: int = SIDE, quality: int = 75) -> Markup:
        """An image element; an empty one when there is no room left.

        Args:
            pixels: uint8 [any, any, 3].
            description: what it shows, for those who don't see it; '' where a text beside it says so.
            side: its longer one, in pixels.
            quality: of the JPEG.
        """
        image, content = Image.fromarray(np.ascontiguousarray(pixels)), io.BytesIO()
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        image.save(content, "JPEG", quality=quality, optimize=True)
        encoded = base64.b64encode(content.getvalue()).decode()
        if len(encoded) > self.left:
            return Markup("")
        self.left -= len(encoded)
        start = '<img src="data:image/jpeg;base64,{}" width="{}" height="{}" alt="{}">'
        return html(start, Markup(encoded), *image.size, description)
