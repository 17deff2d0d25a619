"""What every engine is: up to a batch of pixels in, their features out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from headstart.features.engines.options import EngineOptions


class Engine(ABC):
    """A backbone model as a graph of one batch shape. Safe to call from several threads."""

    name: ClassVar[str]

    def __init__(self, batch_size: int, streams: int) -> None:
        self.batch_size, self.streams = batch_size, streams

    def __call__(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Features of up to `batch_size` images.

        Args:
            pixels: float32 [n, H, W, 3], 0..255, already resized; n from 1 to batch_size.

        Returns:
            float32 [n, *shape] for each tap.
        """
        count = len(pixels)
        if count < self.batch_size:
            pixels = np.concatenate([pixels, np.zeros((self.batch_size - count, *pixels.shape[1:]), pixels.dtype)])
        return [output[:count] for output in self.run(pixels)]

    @abstractmethod
    def run(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Features of one whole batch."""

    @property
    def options(self) -> EngineOptions:
        """What it is, for the record."""
        return EngineOptions(self.name, self.batch_size, self.streams)
