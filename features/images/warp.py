"""Pixels and a transform in, the same image turned, mirrored, moved and zoomed out.

Each new pixel is a weighted sum of four, so an image is one product with a sparse matrix: the numbers of TensorFlow's
ImageProjectiveTransformV3 (BILINEAR, REFLECT) to rounding in less than half of its time, since a matrix's rows are filled in
by whole arrays and not pixel by pixel (tests/test_warp.py).

Source: tensorflow/core/kernels/image/image_ops.h
"""

from __future__ import annotations

import functools

import numpy as np
from scipy import sparse

NEIGHBOURS = 4


def warp(pixels: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """Samples an image, bilinearly; what comes in from outside is its own mirror image.

    Args:
        pixels: float32 [H, W, 3].
        transform: float32 [6], (a, b, c, d, e, f): the new pixel (x, y) is the old one at (ax + by + c, dx + ey + f).

    Returns:
        float32 [H, W, 3].
    """
    height, width, channels = pixels.shape
    a, b, c, d, e, f = transform.astype(np.float32)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    left, right_share = _mirrored((a * x + c) + b * y, width)
    top, bottom_share = _mirrored((d * x + f) + e * y, height)

    index = np.empty((height, width, NEIGHBOURS), np.int32)
    index[..., 0] = top * width + left
    index[..., 1] = index[..., 0] + (left < width - 1)
    down = np.where(top < height - 1, np.int32(width), np.int32(0))
    index[..., 2] = index[..., 0] + down
    index[..., 3] = index[..., 1] + down

    weight = np.empty((height, width, NEIGHBOURS), np.float32)
    left_share, top_share = 1 - right_share, 1 - bottom_share
    np.multiply(left_share, top_share, out=weight[..., 0])
    np.multiply(right_share, top_share, out=weight[..., 1])
    np.multiply(left_share, bottom_share, out=weight[..., 2])
    np.multiply(right_share, bottom_share, out=weight[..., 3])

    count = height * width
    matrix = sparse.csr_matrix((weight.ravel(), index.ravel(), _row_starts(count)), (count, count))
    warped: np.ndarray = (matrix @ pixels.reshape(count, channels)).reshape(pixels.shape)
    return warped


def _mirrored(position: np.ndarray, extent: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions along an axis that goes on as ...ba|abcd|dc... beyond its ends, to the pixel before each, int32, and the share
    of the one after it, float32. The array is used up."""
    period = np.float32(2 * extent)
    position -= np.floor(position / period) * period  # 0..period, of which the second half runs backwards
    np.minimum(position, period - 1 - position, out=position)
    np.clip(position, 0, extent - 1, out=position)
    before = position.astype(np.int32)
    position -= before
    return before, position


@functools.lru_cache(8)
def _row_starts(count: int) -> np.ndarray:
    return np.arange(0, NEIGHBOURS * count + 1, NEIGHBOURS, dtype=np.int32)
