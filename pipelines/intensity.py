"""A look at a few images of 16 bits before the work starts: are they as dark as 12-bit sensors leave them?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from headstart.features.errors import UserError
from headstart.features.images.decode import deep_peak
from headstart.features.images.file_kinds import image_format
from headstart.features.places import place

LOOKED_AT, SAMPLED = 256, 8  # files whose first bytes are read; images of 16 bits among them that are decoded
SHALLOW = (".jpg", ".jpeg", ".webp", ".gif", ".bmp")  # names of images of 8 bits
DARK = 1 / 8  # of the range: from there on, three bits or more hold nothing
RANGE = 65_535


def dark_warning(paths: Iterable[str], max_pixels: int) -> str:
    """A warning when the sampled images of 16 bits use a small part of their range; '' otherwise.

    Args:
        paths: of image files, in any order that is a fair sample of them.
        max_pixels: a larger image is passed over.
    """
    peaks = list(islice(_peaks(list(islice(paths, LOOKED_AT)), max_pixels), SAMPLED))
    if not peaks or max(peaks) >= DARK * RANGE:
        return ""
    bits = max(peaks).bit_length()
    return (
        f"warning: the largest value of {len(peaks)} sampled 16-bit images is {max(peaks):,} of {RANGE:,}: the network sees "
        f"them almost black; for a sensor of {bits} bits say --intensity window:0,{2**bits - 1}, or --intensity auto"
    )


def _peaks(paths: Sequence[str], max_pixels: int) -> Iterator[int]:
    deep = [path for path in paths if not path.lower().endswith(SHALLOW)]
    heads = place.at_once(_head, deep, deep[0]) if deep else []
    for path, head in zip(deep, heads):
        try:
            data = place.read(path) if image_format(head) in ("PNG", "TIFF") else b""
        except (OSError, UserError):
            continue
        if data and (peak := deep_peak(data, max_pixels)) is not None:
            yield peak


def _head(path: str) -> bytes:
    try:
        return place.head(path, 32)
    except (OSError, UserError):  # the survey has told of it
        return b""
