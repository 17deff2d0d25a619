"""A split of a store as batches for a head: from memory when it fits, from its shards when not."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from features.dataset import AHEAD, GATHERED_AT_ONCE
from features.spec import Tap
from features.store import FeatureStore


class SplitBatches:
    """A split's batches as a loss wants them: float32 features, and class ids or one-hot rows."""

    def __init__(self, store: FeatureStore, name: str, tap: Tap, batch_size: int, sparse: bool) -> None:
        self.store, self.name, self.tap, self.batch_size, self.sparse = store, name, tap, batch_size, sparse

    def __len__(self) -> int:
        return -(-self.store.count(self.name) // self.batch_size)

    def shuffled(self, seed: int) -> tf.data.Dataset:
        """In another order each epoch."""
        return self._for_loss(self.store.dataset(self.name, self.batch_size, shuffle=True, seed=seed, tap=self.tap.name))

    def in_order(self) -> tf.data.Dataset:
        """In the store's order."""
        return self._for_loss(self.store.dataset(self.name, self.batch_size, tap=self.tap.name))

    def _for_loss(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        classes = len(self.store.class_names)

        def convert(feature: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return tf.cast(feature, tf.float32), label if self.sparse else tf.one_hot(label, classes)

        return batches.map(convert, num_parallel_calls=GATHERED_AT_ONCE).prefetch(AHEAD)


def moments(store: FeatureStore, split: str, tap: Tap) -> tuple[np.ndarray, np.ndarray]:
    """Each channel's mean and deviation over a split, float32 [C]; one pass, in float64."""
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for feature, _ in store.batches(split, 256, tap=tap.name, in_memory=False):
        rows = feature.reshape(-1, feature.shape[-1]).astype(np.float64)  # [B * places, C]
        count, total, squares = count + len(rows), total + rows.sum(0), squares + np.square(rows).sum(0)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - np.square(mean), 0))
    return mean.astype(np.float32), deviation.astype(np.float32)
