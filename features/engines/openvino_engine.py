"""OpenVINO as an engine, on a CPU: float32 as TensorFlow computes it, to rounding, and bfloat16 where the processor has it.

Installed by `pip install 'headstart[openvino]'`. Reference: https://docs.openvino.ai, "CPU device".
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino

from headstart.features.backbones.kept import GRAPH, Kept
from headstart.features.engines.base import Engine
from headstart.features.engines.freeze import feature_name, frozen_graph
from headstart.features.errors import UserError
from headstart.features.files import scratch_folder

if TYPE_CHECKING:
    import keras

PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}  # of what is not quantized

# OpenVINO's bindings fill static tables on first use, and give up the GIL while they hold the guard of such a table: two
# threads that come first together wait for each other for ever. So the first inference of a process is done by one alone.
_FIRST_USE = threading.Lock()


class OpenVinoEngine(Engine):
    """A network compiled for this processor, with a request for each stream."""

    name = "openvino"

    def __init__(self, network: openvino.Model, batch_size: int, streams: int, compute_dtype: str) -> None:
        super().__init__(batch_size, streams)
        core = openvino.Core()
        if compute_dtype == "bfloat16" and not has_bfloat16(core):
            raise UserError(
                "not-available", "this processor has no bfloat16: take --compute_dtype float32, or --engine tensorflow (slow)"
            )
        shape = [batch_size, *(side.get_length() for side in list(network.inputs[0].partial_shape)[1:])]
        network.reshape({network.inputs[0]: shape})
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[compute_dtype],  # without it, bfloat16 wherever the processor can
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams,
            "ENABLE_CPU_PINNING": False,  # decoding has to run somewhere too
        }
        compiled = core.compile_model(network, "CPU", settings)
        self._outputs = [compiled.output(f"{feature_name(number)}:0") for number in range(len(network.outputs))]
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(streams):
            self._requests.put(compiled.create_infer_request())
        with _FIRST_USE:
            self.run(np.zeros(shape, np.float32))

    def run(self, pixels: np.ndarray) -> list[np.ndarray]:
        request = self._requests.get()
        try:
            request.infer([pixels], share_inputs=True)
            return [np.array(request.get_tensor(output).data) for output in self._outputs]
        finally:
            self._requests.put(request)


def has_bfloat16(core: openvino.Core | None = None) -> bool:
    """Whether the processor multiplies in bfloat16."""
    return "BF16" in (core or openvino.Core()).get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def network_of(model: Callable[[], keras.Model], kept: Kept | None = None) -> openvino.Model:
    """A model frozen, for batches of any size, from float32 [B, H, W, 3] pixels to its features.

    OpenVINO reads the graph itself: ten times as fast as its converter, which asks Python for every node.

    Args:
        model: builds it, where its graph is not kept.
        kept: what is kept of it on this machine.

    Raises:
        UserError: when OpenVINO can't read it.
    """
    if kept and (graph := kept.find(GRAPH)):
        return _read(graph)
    with scratch_folder() as folder:
        path = os.path.join(folder, GRAPH)
        with open(path, "wb") as target:
            target.write(frozen_graph(model(), None).SerializeToString())
        network = _read(path)
        if kept:
            with open(path, "rb") as source:
                kept.keep(GRAPH, source)
    return network


def _read(graph: str) -> openvino.Model:
    try:
        return openvino.Core().read_model(graph)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError("not-available", f"OpenVINO can't read this network ({reason}): take --engine tensorflow") from error
