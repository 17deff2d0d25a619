"""What may run a backbone, and what suits this machine: an engine, images a batch, batches at once.

The batch size is a constant of the kind of device and not tried out: on some processors another one gives other last bits, so
a trial would decide bytes, and two starts of one job could end with different ones.
"""

from __future__ import annotations

import importlib.util
import os
import platform
from dataclasses import asdict, dataclass
from typing import Any

from headstart.features.errors import UserError
from headstart.features.runtime import cores, gpu_available, keras_backend

ENGINES = ("auto", "tensorflow", "openvino", "jax")
CPU_BATCH_SIZE = 2  # small batches stay in a core's cache
GPU_BATCH_SIZE = 64
GPU_STREAMS = 2  # one computes while the other copies
CPUINFO = "/proc/cpuinfo"
INSTRUCTION_SETS = (  # those that decide how a sum is taken, as Linux writes them
    *("sse4_1", "sse4_2", "avx", "fma", "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "asimd", "asimdhp", "asimddp", "sve", "sve2", "i8mm", "bf16"),
)
INT8 = ("avx2", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")  # products of 8-bit integers, added up


@dataclass(frozen=True)
class EngineOptions:
    """What runs the backbone: an engine's name, images a batch, batches at once. `auto` and 0: what suits the machine."""

    name: str = "auto"
    batch_size: int = 0
    streams: int = 0

    def resolve(self, compute_dtype: str) -> EngineOptions:
        """The options with nothing left open, for this machine.

        Raises:
            UserError: when the engine is not installed.
        """
        if self.name not in ENGINES:
            raise UserError("bad-flag", f"--engine is one of {', '.join(ENGINES)}, not {self.name!r}")
        name = _engine_name(self.name, compute_dtype)
        on_gpu = name != "openvino" and gpu_available()
        return EngineOptions(
            name,
            self.batch_size or (GPU_BATCH_SIZE if on_gpu else CPU_BATCH_SIZE),
            self.streams or (GPU_STREAMS if on_gpu else cores()),
        )

    @property
    def provenance(self) -> dict[str, Any]:
        """The options, and what computes here: all that decides a feature's last bits beside the spec and the versions."""
        return {**asdict(self), "processor": processor(self.name)}


def _engine_name(name: str, compute_dtype: str) -> str:
    installed = has_openvino()
    if compute_dtype == "int8":
        return _engine_of_int8(name, installed)
    if name == "openvino" and not installed:
        raise UserError(
            "not-available",
            "--engine openvino is not installed: pip install 'headstart[openvino]', or take --engine tensorflow",
        )
    backend = keras_backend()
    if name == "auto" and backend == "jax":
        return "jax"
    if name != "auto" and (name == "jax") != (backend == "jax"):
        raise UserError(
            "not-available", f"--engine {name} does not go with Keras's backend {backend} (KERAS_BACKEND): take --engine auto"
        )
    if name != "auto":
        return name
    if not installed or gpu_available():
        return "tensorflow"
    return "openvino" if compute_dtype == "float32" or has_bfloat16() else "tensorflow"


def _engine_of_int8(name: str, installed: bool) -> str:
    if name not in ("auto", "openvino"):
        raise UserError("bad-flag", f"--compute_dtype int8 is computed by OpenVINO, on a processor: leave --engine {name} out")
    if not installed:
        raise UserError("not-available", "--compute_dtype int8 is computed by OpenVINO: pip install 'headstart[int8]'")
    return "openvino"


def slow_dtype(options: EngineOptions, compute_dtype: str) -> str:
    """A warning, or '', where the processor has no instructions for the backbone's compute dtype.

    Raises:
        UserError: for such a dtype, unless the engine was asked for by name; for an engine that is not there.
    """
    options.resolve(compute_dtype)
    if _has(compute_dtype, options.name):
        return ""
    all_the_same = _engine_name("auto", compute_dtype)
    if options.name in ("auto", "openvino") and options.name != all_the_same:
        raise UserError(
            "not-available",
            f"this processor has no {compute_dtype}, so --compute_dtype {compute_dtype} would be slower than float32: take "
            f"--compute_dtype float32, or say --engine {all_the_same} to have it all the same",
        )
    return f"warning: this processor has no {compute_dtype}: --compute_dtype {compute_dtype} takes longer here than float32"


def _has(compute_dtype: str, engine: str) -> bool:
    """Whether what an engine computes on has instructions for a dtype."""
    if compute_dtype == "int8":
        return has_int8()
    on_gpu = engine != "openvino" and gpu_available()
    return compute_dtype == "float32" or on_gpu or has_bfloat16()


def has_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16; assumed where it cannot be found out."""
    if has_openvino():
        from headstart.features.engines import openvino_engine

        return openvino_engine.has_bfloat16()
    found = instruction_sets()
    return not os.path.exists(CPUINFO) or any("bf16" in name for name in found)


def has_int8() -> bool:
    """Whether the processor is faster in int8 than in float32; assumed where it cannot be found out."""
    return not os.path.exists(CPUINFO) or any(name in INT8 for name in instruction_sets())


def processor(engine: str) -> str:
    """What an engine computes on: the GPU's name, or the processor's kind and those of its instruction sets that matter."""
    if engine != "openvino" and gpu_available():
        import tensorflow as tf

        details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
        return str(details.get("device_name", "GPU"))
    return f"{platform.machine()} with {', '.join(instruction_sets()) or 'unknown instruction sets'}"


def instruction_sets() -> tuple[str, ...]:
    """The processor's instruction sets, of those in INSTRUCTION_SETS; where Linux tells none, all that numpy found."""
    try:
        with open(CPUINFO, encoding="utf-8") as file:
            lines = [line.partition(":") for line in file]
    except OSError:
        import numpy as np

        return tuple(np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", ()))
    flags = {flag for name, _, value in lines if name.strip() in ("flags", "Features") for flag in value.split()}
    return tuple(name for name in INSTRUCTION_SETS if name in flags)


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None
