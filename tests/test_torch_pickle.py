"""The reader of PyTorch's pickles: what is no file of weights is refused, and runs nothing."""

from __future__ import annotations

import collections
import importlib.util
import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.features.backbones.efficientnet_lite import VARIANTS
from headstart.features.backbones.torch_pickle import TORCH_MAGIC, read_torch_pickle

SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}


class _Runs:
    """Pickles to a call of os.system."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def pickles(*values: Any) -> io.BytesIO:
    return io.BytesIO(b"".join(pickle.dumps(value, protocol=2) for value in values))


def test_a_pickle_that_names_os_system_is_refused_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    evil = _Runs(f"touch {trace}")
    for values in (
        (evil,),
        (TORCH_MAGIC, evil),
        (TORCH_MAGIC, 1001, SYSTEM, {"w": evil}),
        (TORCH_MAGIC, 1001, SYSTEM, {}, [evil]),
    ):
        with pytest.raises(pickle.UnpicklingError, match=r"refused (posix|nt)\.system: not part of a file of weights"):
            read_torch_pickle(pickles(*values))
    assert not trace.exists()


@pytest.mark.parametrize(
    "name", ["builtins.eval", "builtins.getattr", "subprocess.Popen", "numpy.load", "collections.Counter"]
)
def test_a_pickle_that_names_anything_else_is_refused(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    with pytest.raises(pickle.UnpicklingError, match=f"refused {name}"):
        read_torch_pickle(io.BytesIO(f"c{module}\n{attribute}\n.".encode()))


@pytest.mark.parametrize("magic", [0, TORCH_MAGIC + 1, "text", {}])
def test_another_magic_number_is_refused(magic: Any) -> None:
    with pytest.raises(pickle.UnpicklingError, match="not a PyTorch file in the format before zip files"):
        read_torch_pickle(pickles(magic, 1001, SYSTEM, {}, []))


def test_a_big_endian_file_is_refused() -> None:
    with pytest.raises(pickle.UnpicklingError, match="big-endian"):
        read_torch_pickle(pickles(TORCH_MAGIC, 1001, {**SYSTEM, "little_endian": False}, {}, []))


def test_a_file_without_tensors() -> None:
    assert read_torch_pickle(pickles(TORCH_MAGIC, 1001, SYSTEM, collections.OrderedDict(), [])) == {}


@pytest.fixture(scope="module")
def weights_file() -> Path:
    variant = VARIANTS["EfficientNetLite0"]
    package = importlib.util.find_spec(variant.package.replace("-", "_"))
    assert package is not None and package.submodule_search_locations
    return Path(package.submodule_search_locations[0], variant.file)


def test_the_package_s_file_holds_the_network(weights_file: Path) -> None:
    with open(weights_file, "rb") as file:
        tensors = read_torch_pickle(file)
        assert file.read() == b""
    assert len(tensors) == 296
    assert all(np.isfinite(value).all() for value in tensors.values())
    first, *_ = tensors.values()
    assert first.shape == (32, 3, 3, 3) and first.dtype == np.dtype("<f4")
    assert [value.shape for value in list(tensors.values())[-2:]] == [(1000, 1280), (1000,)]


def test_a_file_cut_short_is_refused(weights_file: Path) -> None:
    content = weights_file.read_bytes()
    for size in (0, 5, 200, 30_000, len(content) // 2, len(content) - 8, len(content) - 1):
        with pytest.raises((pickle.UnpicklingError, EOFError, struct.error, ValueError, IndexError)):
            read_torch_pickle(io.BytesIO(content[:size]))


def test_a_storage_of_another_size_is_refused(weights_file: Path) -> None:
    content = bytearray(weights_file.read_bytes())
    with open(weights_file, "rb") as file:
        for _ in range(3):
            pickle.load(file)
        _skip_pickle(file)
        pickle.load(file)
        at = file.tell()
    content[at : at + 8] = struct.pack("<q", struct.unpack("<q", content[at : at + 8])[0] + 1)
    with pytest.raises(pickle.UnpicklingError, match=r"storage .* should hold \d+ numbers: the file is cut short or damaged"):
        read_torch_pickle(io.BytesIO(bytes(content)))


def _skip_pickle(file: Any) -> None:
    import pickletools

    for _ in pickletools.genops(file):
        pass
