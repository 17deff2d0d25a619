"""A frozen backbone made fast: variables folded into constants, one batch shape, one stream a core.

Equal bytes are promised for one machine and one build of TensorFlow: the graph and the batch shape (the last batch is
padded) are pinned. Other batch sizes and numbers of threads gave equal bits wherever they were tried on a CPU; where they do
not, features agree to 1e-5 of the largest.
"""

from __future__ import annotations

import functools
import os
import threading
from typing import TYPE_CHECKING

import numpy as np

from features import backbone
from features.backbone import Origin
from features.errors import UserError
from features.spec import FeatureSpec
from features.taps import tapped

if TYPE_CHECKING:
    import keras

CPU_BATCH_SIZE = 4  # small batches stay in a core's cache
GPU_BATCH_SIZE = 64
LARGEST_TO_FREEZE = (
    300_000_000  # bytes of weights: folding takes nearly 20 times as much memory, and a large network gains little
)


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


def default_batch_size() -> int:
    """Images a batch where nobody says."""
    return GPU_BATCH_SIZE if has_gpu() else CPU_BATCH_SIZE


def default_streams() -> int:
    """Batches under way at once: one a core, each reading, decoding and computing in turn."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Engine:
    """A backbone model as a graph of one batch shape, frozen unless it is very large. Safe to call from several threads."""

    def __init__(self, model: keras.Model, batch_size: int) -> None:
        import tensorflow as tf
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

        self.batch_size = batch_size
        height, width, channels = model.inputs[0].shape[1:]
        signature = tf.TensorSpec((batch_size, height, width, channels), tf.float32)
        traced = tf.function(lambda pixels: model(pixels, training=False)).get_concrete_function(signature)
        self._model = model  # an unfrozen graph does not keep its variables alive by itself
        size = sum(weight.numpy().nbytes for weight in model.weights)
        self._graph = convert_variables_to_constants_v2(traced) if size <= LARGEST_TO_FREEZE else traced

    def __call__(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Features of up to `batch_size` images.

        Args:
            pixels: float32 [n, H, W, 3], 0..255, already resized; n from 1 to batch_size.

        Returns:
            float32 [n, *shape] for each tap.
        """
        import tensorflow as tf

        count = len(pixels)
        if count < self.batch_size:
            pixels = np.concatenate([pixels, np.zeros((self.batch_size - count, *pixels.shape[1:]), pixels.dtype)])
        return [output.numpy()[:count] for output in tf.nest.flatten(self._graph(tf.constant(pixels)))]


_LOADING = threading.RLock()  # one model a process, however many threads ask for it


def shared_base(origin: Origin, image_size: tuple[int, int]) -> tuple[keras.Model, str]:
    """`backbone.build` and its weights digest, kept for the next one in this process who asks for the same."""
    with _LOADING:
        return _base(origin, image_size, origin.version())


def shared_engine(spec: FeatureSpec, origin: Origin, batch_size: int) -> Engine:
    """The spec's engine, one for this process.

    Raises:
        UserError: when the weights here are not those of the spec.
    """
    with _LOADING:
        return _engine(spec, origin, batch_size)


@functools.lru_cache(maxsize=1)
def _base(origin: Origin, image_size: tuple[int, int], _: object) -> tuple[keras.Model, str]:
    base = backbone.build(origin, image_size)
    return base, backbone.weights_digest(base)


@functools.lru_cache(maxsize=1)
def _engine(spec: FeatureSpec, origin: Origin, batch_size: int) -> Engine:
    base, digest = shared_base(origin, spec.image_size)
    if digest != spec.weights_digest:
        raise UserError(
            f"the weights {origin.weights!r} of {spec.backbone} have digest {digest[:12]}, the features were asked for with "
            f"{spec.weights_digest[:12]}: give every worker the same weights"
        )
    return Engine(tapped(base, spec.taps, spec.preprocessing, spec.image_size)[0], batch_size)
