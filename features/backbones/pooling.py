"""A layer's output in, what its tap keeps of it out: the map as it is, averaged, its maxima, or a grid of averages."""

from __future__ import annotations

import re
from typing import Any

from headstart.features.errors import UserError
from headstart.features.spec import Tap


def cells(pool: str) -> int:
    """The cells a side that a pooling keeps: 3 of grid3, 1 of the others."""
    return int(pool.removeprefix("grid")) if pool.startswith("grid") else 1


def pooled(output: Any, tap: Tap) -> Any:
    """A layer's symbolic output [B, H, W, C] to what the tap keeps of it, float32."""
    import keras

    name = re.sub(r"[^A-Za-z0-9_.-]", "_", f"pool_{tap.name}")  # a shared layer's second use is LAYER#1
    if tap.pool == "none":
        return keras.layers.Activation("linear", name=name, dtype="float32")(output)  # [B, H, W, C], or [B, C]
    if tap.pool == "avg":
        return keras.layers.GlobalAveragePooling2D(name=name)(output)  # [B, C]
    if tap.pool == "max":
        return keras.layers.GlobalMaxPooling2D(name=name)(output)  # [B, C]
    height, width = output.shape[1:3]
    if cells(tap.pool) > min(height, width):
        raise UserError(
            "bad-model",
            f"{tap.name}: a {cells(tap.pool)}x{cells(tap.pool)} grid needs a map at least that large; "
            f"this one is {height}x{width}",
        )
    if output.dtype != "float32":
        output = keras.ops.cast(output, "float32")
    return _grid(_grid(output, cells(tap.pool), axis=1), cells(tap.pool), axis=2)  # [B, K, K, C]


def _grid(feature_map: Any, count: int, axis: int) -> Any:
    """Averages one axis over cells that cover it evenly, as PyTorch's AdaptiveAvgPool2d places them.

    A window that slides over it gives the same cells wherever they are evenly spaced, and costs engines far less than slices.
    """
    import keras

    size = feature_map.shape[axis]
    window = evenly_spaced(size, count)
    if window:
        length, stride = ((each, 1) if axis == 1 else (1, each) for each in window[:2])
        return keras.layers.AveragePooling2D(length, stride, padding=window[2])(feature_map)
    parts = [feature_map[:, a:b] if axis == 1 else feature_map[:, :, a:b] for a, b in bounds(size, count)]
    return keras.ops.stack([keras.ops.mean(part, axis=axis) for part in parts], axis=axis)


def bounds(size: int, count: int) -> list[tuple[int, int]]:
    """Where `count` cells that cover `size` evenly begin and end; they overlap where it can't be divided."""
    return [(cell * size // count, -(-(cell + 1) * size // count)) for cell in range(count)]


def evenly_spaced(size: int, count: int) -> tuple[int, int, str] | None:
    """The (length, stride, padding) of an average pooling whose windows are `bounds(size, count)`.

    Padding is "valid", or "same", whose first and last window are cut off at the border; padding is not averaged. None where
    there is no such pooling: never for one to three cells.
    """
    cells_wanted = bounds(size, count)
    length = max(end - start for start, end in cells_wanted)
    for stride in (size // count, size // count + 1):
        for padding, windows in (("valid", (size - length) // stride + 1), ("same", -(-size // stride))):
            before = max((windows - 1) * stride + length - size, 0) // 2 if padding == "same" else 0
            starts = [number * stride - before for number in range(windows)]
            if [(max(start, 0), min(start + length, size)) for start in starts] == cells_wanted:
                return length, stride, padding
    return None
