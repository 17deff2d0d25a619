"""Features by number in, a tf.data pipeline of batches out, from the shards or from memory.

    row numbers, shuffled globally -> batches of them -> features and labels gathered -> prefetch

tf.data's own rewriting of a pipeline would copy a captured table at each epoch's start, and is left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from features.rows import Features

GATHERED_AT_ONCE = 2
AHEAD = 4


def batches(
    features: Features,
    columns: Mapping[str, Any],
    batch_size: int,
    seed: int | None,
    in_memory: bool,
    element: Callable[[tf.Tensor, dict[str, tf.Tensor]], Any],
) -> tf.data.Dataset:
    """Batches of features with what stands beside them.

    Args:
        features: of a split.
        columns: names to one value a row, such as labels.
        batch_size: examples a batch; the last one may be smaller.
        seed: of the order, another one in each epoch; None for the rows' own.
        in_memory: read all features now.
        element: makes an element of a batch's features [B, *shape] and its columns [B].

    Returns:
        A dataset of known cardinality.
    """
    with tf.device("CPU"):
        beside = {name: tf.constant(column) for name, column in columns.items()}
        gather = _from_memory(features) if in_memory else _from_shards(features)

    def batch(rows: tf.Tensor) -> Any:
        feature = tf.ensure_shape(gather(rows), (None, *features.shape))
        return element(feature, {name: tf.gather(column, rows) for name, column in beside.items()})

    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    found = _row_numbers(len(features), batch_size, seed).map(batch, num_parallel_calls=GATHERED_AT_ONCE)
    exact = found.apply(tf.data.experimental.assert_cardinality(-(-len(features) // batch_size)))
    return exact.prefetch(AHEAD).with_options(options)


def _row_numbers(count: int, batch_size: int, seed: int | None) -> tf.data.Dataset:
    """Batches of row numbers, int64 [B]: an epoch's order is made whole, then cut."""
    epochs, whole = itertools.count(), count // batch_size * batch_size

    def order() -> np.ndarray:
        return np.arange(count) if seed is None else np.random.default_rng([seed, next(epochs)]).permutation(count)

    def epoch(_: tf.Tensor) -> tf.data.Dataset:
        rows = tf.ensure_shape(tf.numpy_function(order, [], tf.int64), (count,))
        cut = tf.data.Dataset.from_tensor_slices(tf.reshape(rows[:whole], (-1, batch_size)))
        return cut if whole == count else cut.concatenate(tf.data.Dataset.from_tensors(rows[whole:]))

    return tf.data.Dataset.range(1).flat_map(epoch)


def _from_memory(features: Features) -> Any:
    table = np.empty((len(features), *features.shape), features.dtype)
    features.take(np.arange(len(features)), table)
    held = tf.constant(table)
    return lambda rows: tf.gather(held, rows)


def _from_shards(features: Features) -> Any:
    dtype = tf.as_dtype(features.dtype)
    bits = np.dtype(f"u{features.dtype.itemsize}")  # bfloat16 is no numpy type of TensorFlow's

    def take(rows: np.ndarray) -> np.ndarray:
        return features.take(rows).view(bits)

    return lambda rows: tf.bitcast(tf.numpy_function(take, [rows], tf.as_dtype(bits)), dtype)
