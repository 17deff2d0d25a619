"""Image files in, what can be seen of each without a network out: bytes, format, sides, brightness, a perceptual hash."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from headstart.features.dataset.examples import Example
from headstart.features.dataset.inputs import image_root
from headstart.features.dataset.record_inputs import is_record_input
from headstart.features.dataset.sources import image_paths
from headstart.features.errors import DecodeError
from headstart.features.images.decode import decode_image, header_size
from headstart.features.images.file_kinds import image_format
from headstart.features.places import place
from headstart.features.places.identity import read_same
from headstart.features.progress import Progress
from headstart.features.runtime import cores
from headstart.features.spec import FeatureSpec

HASH_SIDE, HASHED = 32, 8  # the picture that is hashed, and the lowest frequencies of it that are
LEAST = (256, 256)  # a large JPEG is decoded at a fraction that leaves this
AT_ONCE = 64  # images a thread, that are handed out at once


@dataclass(frozen=True)
class Thumbnail:
    """One image.

    Args:
        size: the file's bytes.
        kind: its format, such as JPEG.
        width, height: pixels, as stored.
        brightness, contrast: mean and standard deviation of its grey values, 0..255.
        colour: mean distance of a pixel's largest channel from its smallest, 0..255.
        grey: the picture, uint8 [32, 32], squeezed into a square.
        hashes: 64 bits of it, and of its mirror image.
    """

    size: int
    kind: str
    width: int
    height: int
    brightness: float
    contrast: float
    colour: float
    grey: np.ndarray
    hashes: tuple[int, int]


class ImageFiles:
    """Where a store's images lie, and how they are decoded. Its methods are safe in any thread.

    Args:
        root: the folder, table or files of records that the store was extracted from, or a copy of it.
        spec: the store's.
        max_pixels: of an image.
    """

    def __init__(self, root: str, spec: FeatureSpec, max_pixels: int) -> None:
        self.max_pixels, self.intensity = max_pixels, spec.intensity
        records = is_record_input(root)
        self._folder = "" if records else image_root(root)
        self._paths = image_paths(root, ()) if records else {}

    def read(self, example: Example) -> bytes | None:
        """An image's bytes; None where they are not at hand, or not those that its features were computed from."""
        path = place.join(self._folder, example.key) if self._folder else self._paths.get(example.key)
        if not path:
            return None
        try:
            return read_same(path, example.digest)
        except OSError:
            return None

    def picture(self, example: Example) -> np.ndarray | None:
        """An image's pixels, uint8 [H, W, 3], RGB, upright, a large JPEG at a fraction of its size; None as `read` says."""
        data = self.read(example)
        return None if data is None else self._decoded(data)

    def _decoded(self, data: bytes) -> np.ndarray | None:
        try:
            return decode_image(data, self.max_pixels, LEAST, self.intensity)
        except DecodeError:
            return None

    def thumbnail(self, example: Example) -> Thumbnail | None:
        """What can be seen of an image; None where it is not at hand."""
        data = self.read(example)
        if data is None or (pixels := self._decoded(data)) is None:
            return None
        height, width = header_size(data) or pixels.shape[:2]
        small = Image.fromarray(pixels).resize((HASH_SIDE, HASH_SIDE), Image.Resampling.BOX)
        grey = np.asarray(small.convert("L"))
        spread = float(np.ptp(np.asarray(small, np.float32), axis=2).mean())
        kind = image_format(data) or ""
        hashes = perceptual_hash(grey), perceptual_hash(grey[:, ::-1])
        return Thumbnail(len(data), kind, width, height, float(grey.mean()), float(grey.std()), spread, grey, hashes)


def read_thumbnails(files: ImageFiles, examples: Sequence[Example]) -> list[Thumbnail | None]:
    """Looks at every image, several at a time; memory is bounded by what waits."""
    workers, progress, found = cores(), Progress("audit", len(examples)), list[Thumbnail | None]()
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(examples), AT_ONCE * workers):
            found += pool.map(files.thumbnail, examples[start : start + AT_ONCE * workers])
            progress.update(len(found))
    progress.close()
    return found


def perceptual_hash(grey: np.ndarray) -> int:
    """64 bits that stay when a picture is encoded anew, resized, or made a little brighter: pHash.

    Args:
        grey: uint8 or float32 [32, 32].

    Source: Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", section 3.2.1,
    https://www.phash.org/docs/pubs/thesis_zauner.pdf
    """
    low = (_cosines() @ grey @ _cosines().T).ravel()  # without the mean and the slowest waves, as in the source
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


@functools.lru_cache(maxsize=1)
def _cosines() -> np.ndarray:
    """The cosines of the discrete cosine transform, frequencies 1 to 8, [8, 32]."""
    frequencies, places = np.arange(1, HASHED + 1)[:, None], np.arange(HASH_SIDE)[None]
    return np.cos(np.pi * frequencies * (2 * places + 1) / (2 * HASH_SIDE)).astype(np.float32)


def differing_bits(first: Sequence[int], second: Sequence[int]) -> np.ndarray:
    """In how many bits hashes differ, pair by pair, int64 [N], 0..64."""
    return np.array([(one ^ other).bit_count() for one, other in zip(first, second)], np.int64)
