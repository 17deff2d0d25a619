"""TensorFlow as an engine: on a CPU with one stream a core, on a GPU with large batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from headstart.features.engines.base import Engine
from headstart.features.engines.freeze import PIXELS, computing_in, feature_name, frozen_graph

if TYPE_CHECKING:
    import keras

LARGEST_TO_FREEZE = (
    300_000_000  # bytes of weights: constants take several times as much memory, and a large network gains little
)


class TensorFlowEngine(Engine):
    """A graph of one batch shape, frozen unless the network is very large."""

    name = "tensorflow"

    def __init__(self, model: keras.Model, batch_size: int, streams: int, compute_dtype: str) -> None:
        super().__init__(batch_size, streams)
        signature = tf.TensorSpec((batch_size, *model.inputs[0].shape[1:]), tf.float32)
        if sum(weight.numpy().nbytes for weight in model.weights) <= LARGEST_TO_FREEZE:
            graph, count = frozen_graph(model, batch_size, compute_dtype), len(model.outputs)
            self._graph = tf.compat.v1.wrap_function(lambda pixels: _imported(graph, pixels, count), [signature])
            return
        self._model = model  # an unfrozen graph does not keep its variables alive by itself
        with computing_in(model, compute_dtype):
            self._graph = tf.function(lambda pixels: _float32(model(pixels, training=False))).get_concrete_function(signature)

    def run(self, pixels: np.ndarray) -> list[np.ndarray]:
        return [output.numpy() for output in self._graph(tf.constant(pixels))]


def _imported(graph: tf.compat.v1.GraphDef, pixels: tf.Tensor, count: int) -> list[tf.Tensor]:
    outputs = [f"{feature_name(number)}:0" for number in range(count)]
    return tf.graph_util.import_graph_def(graph, input_map={f"{PIXELS}:0": pixels}, return_elements=outputs, name="")


def _float32(outputs: Any) -> list[tf.Tensor]:
    return [tf.cast(output, tf.float32) for output in tf.nest.flatten(outputs)]
