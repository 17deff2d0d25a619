"""Features by number in, a tf.data pipeline of batches out, from the shards or from memory.

    row numbers and labels, shuffled globally -> cut into batches -> features gathered -> prefetch

tf.data's own rewriting of a pipeline would copy a captured table at each epoch's start, and is left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from headstart.features.store.epochs import Position, epoch_order, epoch_views
from headstart.features.store.record import ALIGNMENT
from headstart.features.store.shard_reader import TapReader

Gather = Callable[[tf.Tensor], tf.Tensor]  # row numbers int64 [B] -> their features [B, *shape]

NUM_PARALLEL_CALLS = 2
PREFETCH = 4


def dataset(
    features: TapReader,
    columns: Mapping[str, Any],
    batch_size: int,
    seed: int | None,
    in_memory: bool,
    element: Callable[[tf.Tensor, dict[str, tf.Tensor]], Any],
    position: Position | None = None,
) -> tf.data.Dataset:
    """Batches of features with what stands beside them; each iteration is an epoch.

    Args:
        features: of a split; of an example with several views, each epoch takes one.
        columns: names to one value, or one row, an example, such as labels.
        batch_size: examples a batch; the last one may be smaller.
        seed: of the order, another one in each epoch; None for the rows' own.
        in_memory: read all features now.
        element: makes an element of a batch's features [B, *shape] and its columns [B, ...].
        position: says which epoch an iteration is; when not given, each is the next one.

    Returns:
        A dataset of known cardinality.
    """
    with tf.device("CPU"):
        beside = {name: tf.constant(column) for name, column in columns.items()}
        gather = _from_memory(features) if in_memory else _checked(features, _from_shards(features))

    def batch(rows: tf.Tensor, beside: dict[str, tf.Tensor]) -> Any:
        return element(tf.ensure_shape(gather(rows), (None, *features.shape)), beside)

    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False  # it takes longer to start than a small epoch lasts
    count = len(features) // features.views
    orders = _orders(count, features.views, beside, batch_size, seed, position)
    found = orders.map(batch, num_parallel_calls=NUM_PARALLEL_CALLS)
    exact = found.apply(tf.data.experimental.assert_cardinality(-(-count // batch_size)))
    return exact.prefetch(PREFETCH).with_options(options)


def _orders(
    count: int, views: int, beside: dict[str, tf.Tensor], batch_size: int, seed: int | None, position: Position | None
) -> tf.data.Dataset:
    """Batches of row numbers, int64 [B], and of what stands beside them: an epoch is ordered whole, then cut."""
    iterations, whole = itertools.count(), count // batch_size * batch_size

    def order() -> tuple[np.ndarray, np.ndarray]:
        epoch = position.epoch if position else next(iterations)
        examples = epoch_order(count, seed, epoch)
        return examples, examples * views + epoch_views(count, views, seed, epoch)[examples]

    def epoch(_: tf.Tensor) -> tf.data.Dataset:
        orders = tf.numpy_function(order, [], (tf.int64, tf.int64))
        examples, rows = (tf.ensure_shape(found, (count,)) for found in orders)
        columns = (rows, {name: tf.gather(column, examples) for name, column in beside.items()})
        many = tf.nest.map_structure(lambda column: tf.reshape(column[:whole], (-1, batch_size, *column.shape[1:])), columns)
        cut = tf.data.Dataset.from_tensor_slices(many)
        if whole == count:
            return cut
        return cut.concatenate(tf.data.Dataset.from_tensors(tf.nest.map_structure(lambda column: column[whole:], columns)))

    return tf.data.Dataset.range(1).flat_map(epoch)


def _checked(features: TapReader, gather: Gather) -> Gather:
    """Compares each record with its checksum when it is first read; once all are known to be sound, that costs nothing."""
    unread = tf.Variable(True, trainable=False)

    def check(rows: np.ndarray) -> bool:
        features.records.check(rows)
        if features.records.verified.all():
            unread.assign(False)
        return True

    def checked(rows: tf.Tensor) -> tf.Tensor:
        sound = tf.cond(unread, lambda: tf.numpy_function(check, [rows], tf.bool), lambda: True)
        with tf.control_dependencies([sound]):
            return gather(rows)

    return checked


def _from_memory(features: TapReader) -> Gather:
    held = tf.constant(features.all())
    return lambda rows: tf.gather(held, rows)


def _from_shards(features: TapReader) -> Gather:
    """TensorFlow reads the mapped shards itself, a row as the aligned blocks that it lies in, without Python in between."""
    memory = tf.experimental.dlpack.from_dlpack(features.records.memory.reshape(-1, ALIGNMENT).__dlpack__())
    addresses = features.addresses()
    skip = int(addresses[0] % ALIGNMENT)
    if (addresses % ALIGNMENT != skip).any():  # shards around 16 kB or 2 MB a record, where a length takes another byte
        return _by_python(features)
    first = tf.constant(addresses // ALIGNMENT)
    span = tf.range(-(-(skip + features.size) // ALIGNMENT), dtype=tf.int64)

    def gather(rows: tf.Tensor) -> tf.Tensor:
        blocks = tf.gather(memory, tf.gather(first, rows)[:, None] + span)  # [B, blocks, ALIGNMENT]
        stored = tf.slice(tf.reshape(blocks, (-1, len(span) * ALIGNMENT)), (0, skip), (-1, features.size))
        numbers = tf.bitcast(
            tf.reshape(stored, (-1, features.size // features.dtype.itemsize, features.dtype.itemsize)), dtype
        )
        return tf.reshape(numbers, (-1, *features.shape))

    dtype = tf.as_dtype(features.dtype)
    return gather


def _by_python(features: TapReader) -> Gather:
    dtype = tf.as_dtype(features.dtype)
    bits = np.dtype(f"u{features.dtype.itemsize}")  # bfloat16 is no numpy type of TensorFlow's

    def take(rows: np.ndarray) -> np.ndarray:
        return features.take(rows).view(bits)

    return lambda rows: tf.bitcast(tf.numpy_function(take, [rows], tf.as_dtype(bits)), dtype)
