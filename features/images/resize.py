"""Pixels in, pixels of another size out: Keras's `Resizing` of one image, as two sparse matrix products.

A resized row is a weighted sum of a few rows, so each axis is one sparse matrix, kept for the next image of that size. The
weights are those of TensorFlow's kernels, in float32 as there, which Keras's layer runs inside a saved model: the two agree to
rounding (tests/test_resize.py), and this one takes a third of the time or less for photographs.

Sources: tensorflow/core/kernels/image/scale_and_translate_op.cc and resize_area_op.cc; keras/src/backend/tensorflow/image.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from headstart.features.spec import FeatureSpec

SIZES_KEPT = 256  # weights of an axis: a folder of photographs has few sizes
STRIP_BYTES = 1 << 19  # of an image, made float32 and weighed at once


def resizer(spec: FeatureSpec) -> Callable[[np.ndarray], np.ndarray]:
    """The spec's resizing: uint8 [any, any, 3] to float32 [H, W, 3], both 0..255."""
    return functools.partial(resize, size=spec.image_size, mode=spec.resize_mode, interpolation=spec.interpolation)


def resize(image: np.ndarray, size: tuple[int, int], mode: str, interpolation: str) -> np.ndarray:
    """Resizes one image, antialiased.

    Args:
        image: uint8 [h, w, 3], 0..255.
        size: (height, width) in pixels.
        mode: `squash`, `crop` or `pad`, as `spec.RESIZE_MODES`.
        interpolation: `bilinear`, `bicubic` or `area`.

    Returns:
        float32 [H, W, 3], 0..255; bicubic values may lie beyond.
    """
    image = framed(image, size, mode)
    if abs(image.strides[0]) < abs(image.strides[1]):  # a turned view: along its memory
        return _squash(image.transpose(1, 0, 2), size[::-1], interpolation).transpose(1, 0, 2)
    return _squash(image, size, interpolation)


def framed(image: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
    """What of an image is resized, uint8 [any, any, 3]: all of it, its middle, or it with borders, as the mode says."""
    frame = {"crop": _crop, "pad": _pad}.get(mode)
    return frame(image, size) if frame else image


def _squash(image: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """[h, w, 3] to float32 [H, W, 3]: rows by one matrix, then columns by the other."""
    across = axis_weights(image.shape[1], size[1], interpolation)
    if image.strides[1] < 0:  # a mirrored view: mirror the weights
        image, across = image[:, ::-1], across[:, ::-1]
    width = image.shape[1]
    rows = _rows(image, size[0], interpolation)  # [H, w * 3]
    columns = np.ascontiguousarray(rows.reshape(size[0], width, 3).transpose(1, 2, 0))  # [w, 3, H]
    resized = across @ columns.reshape(width, 3 * size[0])  # [W, 3 * H]
    return resized.reshape(size[1], 3, size[0]).transpose(2, 0, 1)


def _rows(image: np.ndarray, to: int, interpolation: str) -> np.ndarray:
    """uint8 [h, w, 3] to float32 [to, w * 3], in strips of rows that stay in a core's cache as float32."""
    height, width = image.shape[0], 3 * image.shape[1]
    if height * width <= STRIP_BYTES:
        return axis_weights(height, to, interpolation) @ _numbers(image)
    total = np.zeros((to, width), np.float32)
    for start, stop, first, last, weights in _strips(height, to, interpolation, max(1, STRIP_BYTES // width)):
        total[first:last] += weights @ _numbers(image[start:stop])
    return total


def _numbers(rows: np.ndarray) -> np.ndarray:
    return rows.astype(np.float32, "C").reshape(len(rows), -1)


@functools.lru_cache(SIZES_KEPT)
def _strips(of: int, to: int, interpolation: str, step: int) -> list[tuple[int, int, int, int, Any]]:
    """`axis_weights` cut every `step` columns: (first column, the one after the last, the same of rows, what lies between)."""
    by_column, found = axis_weights(of, to, interpolation).tocsc(), []
    for start in range(0, of, step):
        stop = min(start + step, of)
        part = by_column[:, start:stop]
        if part.nnz:
            first, last = int(part.indices.min()), int(part.indices.max()) + 1
            found.append((start, stop, first, last, part[first:last].tocsr()))
    return found


@functools.lru_cache(SIZES_KEPT)
def axis_weights(of: int, to: int, interpolation: str) -> Any:
    """What each of `to` pixels along an axis takes from each of `of`: a sparse float32 [to, of], its rows summing to 1."""
    weights = _area(of, to) if interpolation == "area" else _kernel(of, to, interpolation)
    return sparse.csr_matrix(weights)


def _kernel(of: int, to: int, interpolation: str) -> Any:
    """ScaleAndTranslate's weights: a kernel around each pixel's centre, widened when the axis shrinks."""
    one = np.float32(1)
    inverse = one / (np.float32(to) / np.float32(of))
    widened = max(inverse, one)
    reach = np.float32({"bilinear": 1, "bicubic": 2}[interpolation]) * widened
    centre = (np.arange(to, dtype=np.float32) + np.float32(0.5)) * inverse  # [to]
    first = np.clip(np.ceil(centre - reach - np.float32(0.5)).astype(np.int64), 0, of - 1)
    last = np.clip(np.floor(centre + reach - np.float32(0.5)).astype(np.int64), 0, of - 1)
    source = first[:, None] + np.arange(int((last - first).max()) + 1)  # [to, span]
    distance = np.abs((source.astype(np.float32) + np.float32(0.5) - centre[:, None]) * (one / widened))
    weight = (_triangle if interpolation == "bilinear" else _cubic)(distance)
    weight[source > last[:, None]] = 0
    weight *= one / weight.sum(axis=1, keepdims=True, dtype=np.float32)
    return _scattered(weight, source, of)


def _area(of: int, to: int) -> Any:
    """ResizeArea's weights: the share of each pixel that the new one covers."""
    scale = np.float32(of) / np.float32(to)
    start = (np.arange(to, dtype=np.float32) * scale)[:, None]
    stop = (np.arange(1, to + 1, dtype=np.float32) * scale)[:, None]
    source = np.floor(start).astype(np.int64) + np.arange(int(np.ceil(scale)) + 2)  # [to, span]
    covered = np.minimum(source + np.float32(1), stop) - np.maximum(source.astype(np.float32), start)
    return _scattered(np.maximum(covered, 0) / scale, source, of)


def _scattered(weight: np.ndarray, source: np.ndarray, of: int) -> Any:
    taken = (weight != 0) & (source < of)
    return sparse.coo_matrix((weight[taken], (np.nonzero(taken)[0], source[taken])), (len(weight), of), np.float32)


def _triangle(distance: np.ndarray) -> np.ndarray:
    return np.maximum(np.float32(1) - distance, np.float32(0))


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' cubic kernel with a = -0.5."""
    near = ((1.5 * distance - 2.5) * distance) * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0)).astype(np.float32)


def _share(extent: int, target: int, other: int) -> int:
    """The extent that has an image's other extent in the target's proportion, rounded as Keras does."""
    return int(np.float32(extent * target) / np.float32(other))


def _crop(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The largest part of the target's proportions, from the middle."""
    height, width = image.shape[:2]
    rows = max(min(height, _share(width, size[0], size[1])), 1)
    columns = max(min(width, _share(height, size[1], size[0])), 1)
    top, left = (height - rows) // 2, (width - columns) // 2
    return image[top : top + rows, left : left + columns]


def _pad(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Black borders, equal on both sides, up to the target's proportions."""
    height, width = image.shape[:2]
    top = (max(height, _share(width, size[0], size[1])) - height) // 2
    left = (max(width, _share(height, size[1], size[0])) - width) // 2
    return np.pad(image, ((top, top), (left, left), (0, 0)))
