"""A split of a store as batches for a head: from memory when it fits, from disk when not."""

from __future__ import annotations

import numpy as np
import psutil
import tensorflow as tf

from features.spec import Tap
from features.store import FeatureStore

SHARE_OF_MEMORY = 0.25


class SplitBatches:
    """A split's batches: from memory when they fit in a quarter of it, from disk when not."""

    def __init__(self, store: FeatureStore, name: str, tap: Tap, batch_size: int) -> None:
        self.store, self.name, self.tap, self.batch_size = store, name, tap, batch_size
        size = store.count(name) * tap.size * 4
        self.arrays = store.arrays(name, tap.name) if size < SHARE_OF_MEMORY * psutil.virtual_memory().available else None

    def __len__(self) -> int:
        return -(-self.store.count(self.name) // self.batch_size)

    def shuffled(self, seed: int) -> tf.data.Dataset:
        """In another order each epoch."""
        if self.arrays is None:
            return self.store.dataset(self.name, self.batch_size, shuffle=True, seed=seed, tap=self.tap.name)
        return self._rows().shuffle(len(self.arrays.labels), seed=seed).batch(self.batch_size)

    def in_order(self) -> tf.data.Dataset:
        """In the store's order."""
        if self.arrays is None:
            return self.store.dataset(self.name, self.batch_size, tap=self.tap.name)
        return self._rows().batch(self.batch_size)

    def _rows(self) -> tf.data.Dataset:
        assert self.arrays is not None
        with tf.device("CPU"):
            return tf.data.Dataset.from_tensor_slices((self.arrays.features, self.arrays.labels))


def for_loss(batches: tf.data.Dataset, classes: int, sparse: bool) -> tf.data.Dataset:
    """Features as float32, labels as the loss wants them, the next batches under way."""

    def convert(feature: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.cast(feature, tf.float32), label if sparse else tf.one_hot(label, classes)

    return batches.map(convert, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def moments(split: SplitBatches) -> tuple[np.ndarray, np.ndarray]:
    """Each channel's mean and deviation over a split, float32 [C]; one pass, in float64."""
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for feature, _ in split.in_order().as_numpy_iterator():
        rows = feature.reshape(-1, feature.shape[-1]).astype(np.float64)  # [B * places, C]
        count, total, squares = count + len(rows), total + rows.sum(0), squares + np.square(rows).sum(0)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - np.square(mean), 0))
    return mean.astype(np.float32), deviation.astype(np.float32)
