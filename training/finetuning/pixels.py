"""A split's images as pixels, by their number: read and decoded as extraction does it, once where they fit into memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headstart.features.engines.stream import ImageToRead, Unreadable, image_loader
from headstart.features.errors import UserError
from headstart.features.runtime import fits_in_memory
from headstart.features.spec import FeatureSpec


class Pixels:
    """Images of files, float32 [H, W, 3] in 0..255, resized as the spec says. Several threads may ask at once.

    Args:
        files: each has the digest that its content must have.
        spec: how they are decoded and resized.
        max_pixels: an image of more is refused.
    """

    def __init__(self, files: Sequence[ImageToRead], spec: FeatureSpec, max_pixels: int) -> None:
        self.files, self.shape = files, (len(files), *spec.image_size, 3)
        self._load = image_loader(spec, max_pixels)
        self._kept: np.ndarray | None = None
        self._is_kept = np.zeros(len(files), bool)

    def keep(self) -> None:
        """From here on an image is read once, where all of them take less memory than `fits_in_memory` allows."""
        if self._kept is None and fits_in_memory(4 * int(np.prod(self.shape))):
            self._kept = np.empty(self.shape, np.float32)

    def __getitem__(self, row: int) -> np.ndarray:
        """An image, the caller's own.

        Raises:
            UserError: when its file can't be read any more, or holds something else than before.
        """
        if self._is_kept[row]:
            assert self._kept is not None
            return self._kept[row].copy()
        pixels = self._read(self.files[row])
        if self._kept is not None:
            self._kept[row] = pixels
            self._is_kept[row] = True
        return pixels

    def _read(self, file: ImageToRead) -> np.ndarray:
        pixels = self._load(file)
        if isinstance(pixels, Unreadable):
            raise UserError(
                "changed-images",
                f"{file.path!r} could be read when its features were made, and can't be any more: {pixels.reason}",
            )
        return pixels
