"""Splits of a store as batches for a training: from memory when they fit, from its shards when not."""

from __future__ import annotations

from collections.abc import Sequence

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

    def shuffled(self, seed: int, first_epoch: int = 0) -> tf.data.Dataset:
        """In another order each epoch."""
        return self._for_loss(
            self.store.dataset(self.name, self.batch_size, shuffle=True, seed=seed, tap=self.tap.name, first_epoch=first_epoch)
        )

    def in_order(self) -> tf.data.Dataset:
        """In the store's order."""
        return self._for_loss(self.store.dataset(self.name, self.batch_size, tap=self.tap.name))

    def _for_loss(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        classes = len(self.store.class_names)

        def convert(feature: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return tf.cast(feature, tf.float32), label if self.sparse else tf.one_hot(label, classes)

        return batches.map(convert, num_parallel_calls=GATHERED_AT_ONCE).prefetch(AHEAD)


class SplitMaps:
    """A store's splits as `learn` takes them: one tap's maps, the training split in another order each epoch."""

    def __init__(self, store: FeatureStore, tap: Tap, batch_size: int, seed: int) -> None:
        self.train = SplitBatches(store, "train", tap, batch_size, sparse=True)
        self.store, self.tap, self.batch_size, self.seed, self.steps = store, tap, batch_size, seed, len(self.train)

    def training(self, first_epoch: int) -> tf.data.Dataset:
        """Epoch after epoch."""
        return self.train.shuffled(self.seed, first_epoch).repeat()

    def validation(self) -> tf.data.Dataset | None:
        """The validation split, if there is one."""
        if "validation" not in self.store.splits:
            return None
        return SplitBatches(self.store, "validation", self.tap, self.batch_size, sparse=True).in_order()


def balanced(counts: Sequence[int]) -> dict[int, float]:
    """A weight for each class, N / (classes * count), so that every class has the same say; none for an empty one."""
    present = {label: count for label, count in enumerate(counts) if count}
    return {label: sum(present.values()) / (len(present) * count) for label, count in present.items()}


def array_moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`moments` of features in memory, [N, ..., C]."""
    rows = features.reshape(-1, features.shape[-1]).astype(np.float64)
    return rows.mean(0).astype(np.float32), rows.std(0).astype(np.float32)


def moments(store: FeatureStore, split: str, tap: Tap) -> tuple[np.ndarray, np.ndarray]:
    """Each channel's mean and deviation over a split, float32 [C]; one pass, in float64."""
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for feature, _ in store.batches(split, 256, tap=tap.name, in_memory=False):
        rows = feature.reshape(-1, feature.shape[-1]).astype(np.float64)  # [B * places, C]
        count, total, squares = count + len(rows), total + rows.sum(0), squares + np.square(rows).sum(0)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - np.square(mean), 0))
    return mean.astype(np.float32), deviation.astype(np.float32)
