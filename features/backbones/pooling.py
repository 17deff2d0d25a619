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
    """Averages one axis over cells that cover it evenly, as PyTorch's AdaptiveAvgPool2d places them."""
    import keras

    size = feature_map.shape[axis]
    bounds = [(cell * size // count, -(-(cell + 1) * size // count)) for cell in range(count)]
    parts = [feature_map[:, a:b] if axis == 1 else feature_map[:, :, a:b] for a, b in bounds]
    return keras.ops.stack([keras.ops.mean(part, axis=axis) for part in parts], axis=axis)
