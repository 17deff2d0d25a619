"""Weights that PyTorch wrote before version 1.6 in, arrays by name out: without torch, and running none of the file's code."""

from __future__ import annotations

import collections
import pickle
import struct
from typing import IO, Any, ClassVar

import numpy as np

TORCH_MAGIC = 0x1950A86A20F9469CFC6C


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
