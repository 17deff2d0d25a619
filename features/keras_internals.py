"""All that is used of Keras beyond its documented interface, a function each.

tests/test_keras_internals.py holds what each of them relies on against the Keras that is installed: when an upgrade breaks
one, it says so there, and this file is all that has to follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    import keras

Result = TypeVar("Result")


class Use(NamedTuple):
    """One use of an operation: which operation, the number of its use and the number of its output, each from 0."""

    operation: Any
    use: int
    output: int


def in_fresh_thread(body: Callable[[], Result]) -> Result:
    """Calls a function where Keras has named no layer yet, so that it always names the same layers alike.

    Stands in for `keras.backend.clear_session`, which would reset what the caller has made. Keras numbers layers (conv2d_37)
    and keeps its dtype policy by thread.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(body).result()


def maker_of(tensor: Any) -> Use:
    """What a symbolic tensor comes from; `_keras_history` is where Keras's own graph search reads it."""
    return Use(*tensor._keras_history)


def inputs_of(made: Use) -> list[Any]:
    """The symbolic tensors that an operation took at one of its uses; `layer.input` knows of a single use only."""
    return list(made.operation._inbound_nodes[made.use].input_tensors)


def every_layer(model: keras.Model) -> Iterator[keras.Layer]:
    """A model, its layers, and the layers inside these; `model.layers` stops at the first level."""
    return iter(model._flatten_layers())


def is_loading_unsafe() -> bool:
    """Whether `load_model(safe_mode=False)` is making layers in this thread: a layer is not handed that setting."""
    import keras

    return keras.src.saving.serialization_lib.in_safe_mode() is False


def randaugment_layers(factor: float) -> dict[str, keras.Layer]:
    """The layers, by class, that RandAugment picks from: the layer itself computes all of them and keeps a few.

    They compute with TensorFlow, whichever backend Keras has: they are a part of a tf.data pipeline.

    Args:
        factor: how strongly they augment, 0..1.
    """
    import keras

    whole = keras.layers.RandAugment(value_range=(0, 255), factor=factor, dtype="float32")
    layers = {type(layer).__name__: layer for layer in vars(whole).values() if isinstance(layer, keras.layers.Layer)}
    for layer in layers.values():
        layer.backend.set_backend("tensorflow")
    if keras.backend.backend() == "jax":
        layers["Equalization"]._custom_histogram_fixed_width = histogram
    return layers


def histogram(values: Any, value_range: tuple[float, float], nbins: int) -> Any:
    """How many values lie in each bin, int32 [nbins], as Equalization counts them with TensorFlow.

    Where Keras has JAX, the layer counts bin by bin, whatever it computes with: some 15,000 operations in each graph.

    Args:
        values: float32, of any shape, a TensorFlow tensor.
        value_range: the least and the largest of them.
        nbins: how many bins.
    """
    import tensorflow as tf

    low, high = value_range
    bins = tf.cast((tf.cast(values, tf.float32) - low) * (nbins - 1) / (high - low), tf.int32)
    return tf.math.bincount(tf.reshape(tf.clip_by_value(bins, 0, nbins - 1), [-1]), minlength=nbins)


def augmented(layer: keras.Layer, images: Any, seed: Any) -> Any:
    """Images as an augmentation layer changes them, given a seed; `layer(images)` draws from a state of its own.

    Args:
        layer: of `randaugment_layers`.
        images: float32 [B, H, W, 3] in 0..255, a TensorFlow tensor.
        seed: int64 [2], a TensorFlow tensor.
    """
    transformation = layer.get_random_transformation(images, training=True, seed=_seed_generator(seed))
    return layer.transform_images(images, transformation, training=True)


def _seed_generator(seed: Any) -> keras.random.SeedGenerator:
    """A generator without a variable: a new seed for each draw, and no state but in the graph that is traced."""
    import keras

    class Stateless(keras.random.SeedGenerator):
        def __init__(self) -> None:
            self.draws = 0

        def next(self, ordered: bool = True) -> Any:
            import tensorflow as tf

            self.draws += 1
            return tf.bitcast(tf.random.fold_in(tf.cast(seed, tf.int32), self.draws), tf.uint32)

    return Stateless()


def adam_moments(optimizer: keras.optimizers.Adam, variable: Any) -> tuple[int, Any, Any]:
    """A variable's number among those that an Adam trains, and its two moments; Keras names none of the three."""
    number = optimizer._get_variable_index(variable)
    return number, optimizer._momentums[number], optimizer._velocities[number]
