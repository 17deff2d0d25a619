"""A network in int8: calibrated once, by NNCF, on some of the images that it is for; then a file that every worker runs.

What rounds its numbers is decided by the images, so the file itself is part of what a feature is: the spec has its digest.
Installed by `pip install 'headstart[int8]'`. Source: https://docs.openvino.ai, "Basic Quantization Flow".
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import os
import platform
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from headstart.features import files
from headstart.features.engines.freeze import FEATURE, PIXELS
from headstart.features.engines.options import instruction_sets
from headstart.features.errors import UserError
from headstart.features.places import place

if TYPE_CHECKING:
    import openvino

QUANTIZED = "backbone_int8.zip"  # its name in a store
PARTS = ("network.xml", "network.bin")  # as OpenVINO writes and reads them
CALIBRATION_IMAGES = 128  # twice as many take 2 to 4 seconds more, and change features and accuracy by nothing
X86 = ("x86_64", "amd64")
VNNI = ("avx_vnni", "avx512_vnni", "amx_int8")  # products of 8 bits added up in 32

_last = b""  # for the next in this process who asks for the same


def has_nncf() -> bool:
    """Whether what quantizes a network is installed; running one needs OpenVINO alone."""
    return importlib.util.find_spec("nncf") is not None


def check_nncf() -> None:
    """Raises UserError where no network can be quantized."""
    if not has_nncf():
        raise UserError("not-available", "--compute_dtype int8 needs NNCF: pip install 'headstart[int8]'")


def ranges_to_try() -> tuple[bool, ...]:
    """Whether weights may need half of int8's range on this processor: what to give `quantize`, the nearest to be kept.

    Where a processor has no VNNI, products are added up in pairs in 16 bits, which two of the whole range (127 * 255 each)
    overflow. Half of it never does, but is coarser: which of both is nearer to float32 hangs on the network.
    """
    overflows = platform.machine().lower() in X86 and not any(name in instruction_sets() for name in VNNI)
    return (False, True) if overflows else (False,)


def quantize(network: openvino.Model, images: Sequence[np.ndarray], halved: bool = False) -> bytes:
    """A network's weights and maps in int8, its outputs in float32: the content of a file of OpenVINO's.

    Args:
        network: of `openvino_engine.network_of`; it stays as it is.
        images: float32 [H, W, 3], 0..255, resized: what decides the ranges. The same ones give the same bytes here.
        halved: whether weights take only half of int8's range.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # it draws bars
        import nncf
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

        calibration, mixed = nncf.Dataset(images, lambda image: image[None]), nncf.QuantizationPreset.MIXED
        ranges = AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE if halved else OverflowFix.FIRST_LAYER)
        small = nncf.quantize(network.clone(), calibration, preset=mixed, subset_size=len(images), advanced_parameters=ranges)
    return _packed(_renamed(small))


def remembered(content: bytes) -> bytes:
    """Takes note of a network's file, which the same process is about to run."""
    global _last
    _last = content
    return content


def digest_of(content: bytes) -> str:
    """What a spec says of a network's file: its sha256; '' for none."""
    return hashlib.sha256(content).hexdigest() if content else ""


def load(path: str, digest: str) -> openvino.Model:
    """A quantized network, from float32 [B, H, W, 3] pixels to its features.

    Args:
        path: of its file, if it was not made by this very process.
        digest: the sha256 that it must have.

    Raises:
        UserError: when it is missing or another.
    """
    content = _last if digest_of(_last) == digest else b""
    if not content:
        with contextlib.suppress(FileNotFoundError):
            content = place.read(path)
    if digest_of(content) != digest:
        raise UserError("damaged", f"the int8 network {path!r} is missing or another one: delete the store and extract again")
    return read(remembered(content))


def read(content: bytes) -> openvino.Model:
    """A quantized network, of its file's content."""
    import openvino

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        graph, weights = (archive.read(name) for name in PARTS)
    return openvino.Core().read_model(graph, weights)


def _renamed(network: openvino.Model) -> openvino.Model:
    """The same network, whatever else the process made before: names count on, of operations and of tensors inside."""
    for number, operation in enumerate(network.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{number}")
        for output in operation.outputs():
            kept = {name for name in output.get_names() if name.startswith((FEATURE, PIXELS))}
            output.get_tensor().set_names(kept)
    return network


def _packed(network: openvino.Model) -> bytes:
    """Both of OpenVINO's files as one, without the time of day."""
    import openvino

    packed = io.BytesIO()
    with files.scratch_folder() as folder, zipfile.ZipFile(packed, "w") as archive:
        paths = [os.path.join(folder, name) for name in PARTS]
        openvino.serialize(network, *paths)
        for name, path in zip(PARTS, paths):
            with open(path, "rb") as file:
                archive.writestr(zipfile.ZipInfo(name), file.read())
    return packed.getvalue()
