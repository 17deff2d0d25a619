"""A model in, a TensorFlow graph with its weights inside as constants out: what every engine runs.

The model is traced with its weights as arguments, and each of these becomes a constant: a third of the time that
`convert_variables_to_constants_v2` takes, and the same bits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from headstart.features.keras_internals import every_layer

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

PIXELS, FEATURE = "pixels", "feature_"


def frozen_graph(model: keras.Model, batch_size: int | None, compute_dtype: str = "float32") -> tf.compat.v1.GraphDef:
    """A model's inference as a graph.

    Args:
        model: from float32 [B, H, W, 3] pixels to one feature or several.
        batch_size: the one it will take; None for any.
        compute_dtype: what its base multiplies in. The features are float32 all the same.

    Returns:
        A graph from the placeholder `pixels` to `feature_name(0)`, `feature_name(1)`, ...
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    weights = {f"weight_{number}": weight for number, weight in enumerate(weights_of(model))}
    signature = tf.TensorSpec((batch_size, *model.inputs[0].shape[1:]), tf.float32, name=PIXELS)
    specs = [tf.TensorSpec(weight.shape, weight.dtype, name=name) for name, weight in weights.items()]
    trainable = len(model.trainable_variables)

    def infer(pixels: tf.Tensor, *values: tf.Tensor) -> list[tf.Tensor]:
        outputs, _ = model.stateless_call(list(values[:trainable]), list(values[trainable:]), pixels, training=False)
        features = [tf.cast(output, tf.float32) for output in tf.nest.flatten(outputs)]
        return [tf.identity(feature, name=feature_name(number)) for number, feature in enumerate(features)]

    with computing_in(model, compute_dtype):
        traced = tf.function(infer).get_concrete_function(signature, *specs)
    if traced.captured_inputs:  # variables that are not Keras's own, such as a SavedModel's
        traced = convert_variables_to_constants_v2(traced)
    graph = traced.graph.as_graph_def()
    for node in graph.node:
        if node.name in weights:
            value = tf.make_tensor_proto(weights[node.name].numpy())
            node.op = "Const"
            node.attr.clear()
            node.attr["dtype"].type = value.dtype
            node.attr["value"].tensor.CopyFrom(value)
    return graph


def feature_name(number: int) -> str:
    """The name of the graph's output that gives a feature."""
    return f"{FEATURE}{number}"


def weights_of(model: keras.Model) -> list[Any]:
    """A model's weights as `stateless_call` takes them: the trainable ones, then the others."""
    return [*model.trainable_variables, *model.non_trainable_variables]


@contextlib.contextmanager
def computing_in(model: keras.Model, compute_dtype: str) -> Iterator[None]:
    """Lets a model's float32 layers compute in another dtype for as long as it is traced; its weights stay as they are.

    Of a tapped model it is the base: pixels are scaled and maps pooled in float32.
    """
    inner = [layer for layer in model.layers if layer.name == "base"]
    layers = [layer for layer in every_layer(inner[0] if inner else model) if layer.dtype_policy.name == "float32"]
    policy = "float32" if compute_dtype == "float32" else f"mixed_{compute_dtype}"
    try:
        for layer in layers:
            layer.dtype_policy = policy
        yield
    finally:
        for layer in layers:
            layer.dtype_policy = "float32"
