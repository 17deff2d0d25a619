"""What the network sees: a few images under augmentation as one PNG, a row an image, the plain one first."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

GAP = 4  # pixels between images
LARGEST = 160  # pixels a side of one


def save_grid(images: np.ndarray, path: str) -> None:
    """Writes float32 [rows, columns, H, W, 3] in 0..255 as a PNG."""
    temporary = f"{path}.unfinished"
    _sheet(images).save(temporary, "PNG")
    os.replace(temporary, path)


def grid(images: np.ndarray) -> np.ndarray:
    """The same as pixels, uint8 [H, W, 3]."""
    return np.asarray(_sheet(images))


def _sheet(images: np.ndarray) -> Image.Image:
    rows, columns, height, width = images.shape[:4]
    shrink = min(1.0, LARGEST / max(height, width))
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    sheet = Image.new("RGB", (columns * (size[0] + GAP) - GAP, rows * (size[1] + GAP) - GAP), "white")
    for row in range(rows):
        for column in range(columns):
            image = Image.fromarray(np.round(images[row, column].clip(0, 255)).astype(np.uint8))
            sheet.paste(image.resize(size, Image.Resampling.BICUBIC), (column * (size[0] + GAP), row * (size[1] + GAP)))
    return sheet
