"""A frozen backbone made fast: an engine for this machine, one a process, its batch shape fixed.

Two engines run the same frozen graph: `tensorflow` (any device) and `openvino` (a CPU, where it is installed). A third, `jax`,
is there where Keras computes with JAX. Equal bytes are promised for one engine, one build of it and one batch size on one kind
of processor, whatever the number of streams. Another batch size, engine or instruction set adds in another order: in float32
they agree to 1e-5 of the largest feature (tests/test_engine.py).
"""

from __future__ import annotations

import functools
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from headstart.features.backbones.build import build, weights_digest
from headstart.features.backbones.custom import architecture_digest
from headstart.features.backbones.feature_extractor import build_feature_extractor
from headstart.features.backbones.source import BackboneSource
from headstart.features.engines.options import EngineOptions
from headstart.features.errors import UserError
from headstart.features.spec import FeatureSpec

if TYPE_CHECKING:
    import keras


class Engine(ABC):
    """A backbone model as a graph of one batch shape. Safe to call from several threads."""

    name: ClassVar[str]

    def __init__(self, batch_size: int, streams: int) -> None:
        self.batch_size, self.streams = batch_size, streams

    def __call__(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Features of up to `batch_size` images.

        Args:
            pixels: float32 [n, H, W, 3], 0..255, already resized; n from 1 to batch_size.

        Returns:
            float32 [n, *shape] for each tap.
        """
        count = len(pixels)
        if count < self.batch_size:
            pixels = np.concatenate([pixels, np.zeros((self.batch_size - count, *pixels.shape[1:]), pixels.dtype)])
        return [output[:count] for output in self.run(pixels)]

    @abstractmethod
    def run(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Features of one whole batch."""

    @property
    def options(self) -> EngineOptions:
        """What it is, for the record."""
        return EngineOptions(self.name, self.batch_size, self.streams)


def make_engine(model: keras.Model, options: EngineOptions, compute_dtype: str = "float32") -> Engine:
    """An engine for a model from float32 [B, H, W, 3] pixels to features.

    Raises:
        UserError: when the engine is not installed, or does not take this network or dtype.
    """
    settled = options.here(compute_dtype)
    if settled.name == "jax":
        from headstart.features.engines.jax_engine import JaxEngine

        return JaxEngine(model, settled.batch_size, settled.streams, compute_dtype)
    if settled.name == "openvino":
        from headstart.features.engines.openvino_engine import OpenVinoEngine

        try:
            return OpenVinoEngine(model, settled.batch_size, settled.streams, compute_dtype)
        except UserError:
            if options.name != "auto":
                raise
    from headstart.features.engines.tensorflow_engine import TensorFlowEngine

    return TensorFlowEngine(model, settled.batch_size, settled.streams, compute_dtype)


LOADING = threading.RLock()  # one model a process, however many threads ask for it


def shared_base(origin: BackboneSource, image_size: tuple[int, int]) -> tuple[keras.Model, str]:
    """`build` and its weights digest, kept for the next one in this process who asks for the same."""
    with LOADING:
        return _base(origin, image_size, origin.version())


def shared_engine(spec: FeatureSpec, origin: BackboneSource, options: EngineOptions) -> Engine:
    """The spec's engine, one for this process.

    Raises:
        UserError: when the weights here are not those of the spec, or as `make_engine` does.
    """
    with LOADING:
        return _engine(spec, origin, options)


@functools.lru_cache(maxsize=1)
def _base(origin: BackboneSource, image_size: tuple[int, int], _: object) -> tuple[keras.Model, str]:
    base = build(origin, image_size)
    return base, weights_digest(base)


@functools.lru_cache(maxsize=1)
def _engine(spec: FeatureSpec, origin: BackboneSource, options: EngineOptions) -> Engine:
    base, digest = shared_base(origin, spec.image_size)
    if spec.architecture and (architecture := architecture_digest(base)) != spec.architecture:
        raise UserError(
            f"{spec.backbone} has the architecture {architecture[:12]} here, the features were asked for with "
            f"{spec.architecture[:12]}: give every worker the same model and the same version of Keras"
        )
    if digest != spec.weights_digest:
        raise UserError(
            f"the weights {origin.weights!r} of {spec.backbone} have digest {digest[:12]}, the features were asked for with "
            f"{spec.weights_digest[:12]}: give every worker the same weights"
        )
    return make_engine(
        build_feature_extractor(base, spec.taps, spec.preprocessing, spec.image_size)[0], options, spec.compute_dtype
    )
