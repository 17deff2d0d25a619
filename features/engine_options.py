"""What may run a backbone, and what suits this machine: an engine, images a batch, batches at once."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass

from features.errors import UserError

ENGINES = ("auto", "tensorflow", "openvino", "jax")
CPU_BATCH_SIZE = 2  # small batches stay in a core's cache
GPU_BATCH_SIZE = 64
GPU_STREAMS = 2  # one computes while the other copies


@dataclass(frozen=True)
class EngineOptions:
    """What runs the backbone: an engine's name, images a batch, batches at once. `auto` and 0: what suits the machine."""

    name: str = "auto"
    batch_size: int = 0
    streams: int = 0

    def here(self, compute_dtype: str) -> EngineOptions:
        """The options with everything settled for this machine.

        Raises:
            UserError: when the engine is not installed.
        """
        if self.name not in ENGINES:
            raise UserError(f"--engine is one of {', '.join(ENGINES)}, not {self.name!r}")
        on_gpu = self.name != "openvino" and has_gpu()
        return EngineOptions(
            _engine_here(self.name, compute_dtype, on_gpu),
            self.batch_size or (GPU_BATCH_SIZE if on_gpu else CPU_BATCH_SIZE),
            self.streams or (GPU_STREAMS if on_gpu else cores()),
        )


def _engine_here(name: str, compute_dtype: str, on_gpu: bool) -> str:
    installed = has_openvino()
    if name == "openvino" and not installed:
        raise UserError("--engine openvino is not installed: pip install 'headstart[openvino]', or take --engine tensorflow")
    import keras

    backend = keras.backend.backend()
    if name == "auto" and backend == "jax":
        return "jax"
    if name != "auto" and (name == "jax") != (backend == "jax"):
        raise UserError(f"--engine {name} does not go with Keras's backend {backend} (KERAS_BACKEND): take --engine auto")
    if name != "auto":
        return name
    if on_gpu or not installed:
        return "tensorflow"
    from features.openvino_engine import has_bfloat16

    return "openvino" if compute_dtype == "float32" or has_bfloat16() else "tensorflow"


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU; makes it take memory as it grows, if it has not started yet, and compute exactly."""
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(False)  # float32 means float32, on a GPU too
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # already started, with whatever was chosen then
            break
    return bool(gpus)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
