"""A frozen backbone made fast: an engine for this machine, one a process, its batch shape fixed.

Two engines run the same frozen graph: `tensorflow` (any device) and `openvino` (a CPU, where it is installed). A third, `jax`,
is there where Keras computes with JAX. Equal bytes are promised for one engine, one build of it and one batch size on one kind
of processor, whatever the number of streams. Another batch size, engine or instruction set adds in another order: in float32
they agree to 1e-5 of the largest feature (tests/test_engine.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from headstart.features.backbones.backbone import LOADING, resolve_for_spec
from headstart.features.backbones.kept import Kept
from headstart.features.backbones.source import BackboneSource
from headstart.features.engines.base import Engine
from headstart.features.engines.options import EngineOptions
from headstart.features.errors import UserError
from headstart.features.runtime import configure_gpus
from headstart.features.spec import FeatureSpec

if TYPE_CHECKING:
    import keras
    import openvino


def make_engine(model: keras.Model, options: EngineOptions, compute_dtype: str = "float32") -> Engine:
    """An engine for a model from float32 [B, H, W, 3] pixels to features.

    Args:
        model: the network.
        options: what runs it.
        compute_dtype: what its base multiplies in.

    Raises:
        UserError: when the engine is not installed, or does not take this network or dtype.
    """
    return kept_engine(None, lambda: model, options, compute_dtype)


def kept_engine(
    kept: Kept | None, model: Callable[[], keras.Model], options: EngineOptions, compute_dtype: str = "float32"
) -> Engine:
    """The same for a network of which a graph may be kept on this machine: OpenVINO needs no model then.

    Args:
        kept: what is kept of the network; where its graph is not, it will be.
        model: builds it.
        options: what runs it.
        compute_dtype: what its base multiplies in.

    Raises:
        UserError: as `make_engine` does.
    """
    settled = options.resolve(compute_dtype)
    if settled.name == "openvino":
        from headstart.features.engines.openvino_engine import network_of

        try:
            return network_engine(network_of(model, kept), settled, compute_dtype)
        except UserError:
            if options.name != "auto":
                raise
    configure_gpus()
    if settled.name == "jax":
        from headstart.features.engines.jax_engine import JaxEngine

        return JaxEngine(model(), settled.batch_size, settled.streams, compute_dtype)
    from headstart.features.engines.tensorflow_engine import TensorFlowEngine

    return TensorFlowEngine(model(), settled.batch_size, settled.streams, compute_dtype)


def network_engine(network: openvino.Model, options: EngineOptions, compute_dtype: str) -> Engine:
    """An engine for a network as OpenVINO has it; its batch shape is fixed thereby."""
    from headstart.features.engines.openvino_engine import OpenVinoEngine

    settled = options.resolve(compute_dtype)
    return OpenVinoEngine(network, settled.batch_size, settled.streams, compute_dtype)


def shared_engine(spec: FeatureSpec, source: BackboneSource, options: EngineOptions, quantized: str = "") -> Engine:
    """The spec's engine, one for this process.

    Args:
        spec: whose features it computes.
        source: where the backbone comes from.
        options: which engine, and how much at once.
        quantized: the path of its network, where the spec is of one in int8.

    Raises:
        UserError: when the network or the weights here are not those of the spec, or as `make_engine` does.
    """
    with LOADING:
        return _engine(spec, source, options, quantized)


@functools.lru_cache(maxsize=1)
def _engine(spec: FeatureSpec, source: BackboneSource, options: EngineOptions, quantized: str) -> Engine:
    if spec.quantized:
        from headstart.features.engines.quantized import load

        return network_engine(load(quantized, spec.quantized), options, spec.compute_dtype)
    backbone = resolve_for_spec(spec, source)
    return kept_engine(backbone.kept, lambda: backbone.extractor, options, spec.compute_dtype)
