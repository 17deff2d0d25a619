"""Features by number in, a tf.data pipeline of batches out, from the shards or from memory.

    row numbers and labels, shuffled globally -> cut into batches -> features gathered -> prefetch

tf.data's own rewriting of a pipeline would copy a captured table at each epoch's start, and is left out. Each function of a
pipeline takes milliseconds to start at each epoch, more than a small epoch lasts: there are two, or one where nothing is
shuffled.
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
    chosen: np.ndarray | None = None,
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
        chosen: the numbers of the split's examples that there are, int64 [N], one for each value of a column; None: all.

    Returns:
        A dataset of known cardinality.
    """
    views, count = features.views, len(features) // features.views if chosen is None else len(chosen)
    with tf.device("CPU"):
        gather = _from_memory(features) if in_memory else _checked(features, _from_shards(features))
        numbers = None if chosen is None else tf.constant(chosen)

    def batch(rows: tf.Tensor, beside: dict[str, tf.Tensor]) -> Any:
        own = rows if numbers is None else tf.gather(numbers, rows // views) * views + rows % views
        return element(tf.ensure_shape(gather(own), (None, *features.shape)), beside)

    return gathered(batch, count, columns, batch_size, seed, position, views)


def gathered(
    batch: Callable[[tf.Tensor, dict[str, tf.Tensor]], Any],
    count: int,
    columns: Mapping[str, Any],
    batch_size: int,
    seed: int | None,
    position: Position | None = None,
    views: int = 1,
) -> tf.data.Dataset:
    """Batches of whatever is looked up by row number; each iteration is an epoch.

    Args:
        batch: makes a batch of row numbers int64 [B], those of `count * views` rows, and what stands beside them.
        count: examples.
        columns, batch_size, seed, position: as `dataset` takes them.
        views: rows an example, one of which an epoch takes.

    Returns:
        A dataset of known cardinality.
    """
    with tf.device("CPU"):
        beside = {name: tf.constant(column) for name, column in columns.items()}

    def batch_of(rows: tf.Tensor) -> Any:
        return batch(rows, {name: tf.gather(column, rows // views) for name, column in beside.items()})

    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False  # it takes longer to start than a small epoch lasts
    found = _orders(count, views, batch_size, seed, position).map(batch_of, num_parallel_calls=NUM_PARALLEL_CALLS)
    exact = found.apply(tf.data.experimental.assert_cardinality(-(-count // batch_size)))
    return exact.prefetch(PREFETCH).with_options(options)


def _orders(count: int, views: int, batch_size: int, seed: int | None, position: Position | None) -> tf.data.Dataset:
    """Batches of row numbers, int64 [B]: an epoch is ordered whole, then cut."""
    iterations, whole = itertools.count(), count // batch_size * batch_size

    def cut(epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The batches that are full, [N, B], and the rest."""
        examples = epoch_order(count, seed, epoch)
        rows = examples * views + epoch_views(count, views, seed, epoch)[examples]
        return rows[:whole].reshape(-1, batch_size), rows[whole:]

    def batches(full: Any, rest: Any) -> tf.data.Dataset:
        found = tf.data.Dataset.from_tensor_slices(full)
        return found if whole == count else found.concatenate(tf.data.Dataset.from_tensors(rest))

    def epoch(_: tf.Tensor) -> tf.data.Dataset:
        full, rest = tf.numpy_function(lambda: cut(position.epoch if position else next(iterations)), [], (tf.int64, tf.int64))
        return batches(tf.ensure_shape(full, (whole // batch_size, batch_size)), tf.ensure_shape(rest, (count - whole,)))

    return batches(*cut(0)) if seed is None else tf.data.Dataset.range(1).flat_map(epoch)


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
