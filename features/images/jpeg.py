"""A JPEG's bytes in, pixels out: libjpeg-turbo straight into the array that is handed on, whole or at 1/2, 1/4 or 1/8.

Pillow gives the same pixels in more than twice the time, most of it copies. What libjpeg-turbo complains about, such as
damage or CMYK, is left to Pillow, which reads it or says why not.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator

import numpy as np
import simplejpeg
from PIL.JpegImagePlugin import JpegImageFile

SCALES = (8, 4, 2)
SCRATCH_BYTES = 64 << 20  # a thread keeps at most: photographs of 22 megapixels
DIRECT = ("YCbCr", "RGB", "Gray")
ORIENTATION = 0x0112  # EXIF's tag; its values: https://exiftool.org/TagNames/EXIF.html
APP1, START_OF_SCAN, PROGRESSIVE = 0xE1, 0xDA, 0xC2  # markers, after 0xFF: EXIF and XMP, coefficients, the kind of frame
FILL = 0xFF


class Scratch(threading.local):
    """Memory of each thread's own that photographs are decoded into one after the other: the pages of a fresh array of 36 MB
    cost an eighth of decoding it."""

    def __init__(self) -> None:
        self.memory = np.empty(0, np.uint8)

    def room(self, size: int) -> np.ndarray | None:
        """Memory for so many bytes, uint8, until the thread asks again; None where that is more than is worth keeping."""
        if size > SCRATCH_BYTES:
            return None
        if size > len(self.memory):
            self.memory = np.empty(size, np.uint8)
        return self.memory


def header(data: bytes) -> tuple[int, int] | None:
    """(height, width) in pixels as the file stores them; None where `decode` does not take it."""
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return (height, width) if space in DIRECT else None


def decode(
    data: bytes, size: tuple[int, int], least: tuple[int, int] | None = None, scratch: Scratch | None = None
) -> np.ndarray | None:
    """The upright pixels, uint8 [H, W, 3], 0..255, RGB, perhaps as a turned view; None where Pillow has to look at it.

    Args:
        data: the file's bytes.
        size: what `header` said.
        least: (height, width) of the upright image that the scale must leave; None for the whole size.
        scratch: when given, the pixels lie in it, and hold until the thread decodes the next image.
    """
    turned = orientation(data)
    if least and turned >= 5:
        least = least[::-1]
    scale = _scale(size, least) if least else 1
    height, width = (-(-side // scale) for side in size)
    room = scratch.room(height * width * 3) if scratch else None
    try:
        pixels = simplejpeg.decode_jpeg(data, min_height=height, min_width=width, min_factor=scale, buffer=room)
    except ValueError:
        return None
    return upright(pixels, turned) if pixels.shape == (height, width, 3) else None


def working_bytes(data: bytes, size: tuple[int, int], least: tuple[int, int] | None = None) -> int:
    """Bytes that `decode` holds at most: the pixels, and a progressive file's coefficients."""
    coefficients = 6 * size[0] * size[1] if PROGRESSIVE in _markers(data) else 0
    scale = _scale(size, (max(least), max(least))) if least else 1
    return 3 * (size[0] // scale) * (size[1] // scale) + coefficients


def _scale(size: tuple[int, int], least: tuple[int, int]) -> int:
    fits = (scale for scale in SCALES if all(-(-side // scale) >= small for side, small in zip(size, least)))
    return next(fits, 1)


def orientation(data: bytes) -> int:
    """How the camera was held, 1..8, as Pillow finds it in EXIF or XMP; 1 where nothing says."""
    if not any(marker == APP1 for marker in _markers(data)):
        return 1
    try:
        with JpegImageFile(io.BytesIO(data), "") as image:  # `Image.open` would ask a limit of the whole process
            found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # a broken EXIF block does not make the pixels worse
        return 1
    return found if found in range(1, 9) else 1


def _markers(data: bytes) -> Iterator[int]:
    """The markers before the first scan, in order: what the file says of itself.

    Any marker may be preceded by any number of fill bytes. Source: ITU-T T.81, B.1.1.2
    """
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != START_OF_SCAN:
        if data[at + 1] == FILL:
            at += 1
            continue
        yield data[at + 1]
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def upright(pixels: np.ndarray, turned: int) -> np.ndarray:
    """A view of stored pixels [h, w, 3] the right way up, by EXIF's orientation."""
    if turned >= 5:
        pixels = pixels.transpose(1, 0, 2)
    down, across = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}[turned]
    return pixels[::down, ::across]
