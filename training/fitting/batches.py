"""Splits of a store as batches for a training: from memory when they fit, from its shards when not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from headstart.features.dataset.examples import Example
from headstart.features.spec import Tap
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.tf_dataset import NUM_PARALLEL_CALLS, PREFETCH
from headstart.training.fitting.devices import evenly, steps_of

if TYPE_CHECKING:
    from headstart.training.finetuning.finetune_config import FinetuneConfig


class SplitBatches:
    """A split's batches as a loss wants them: float32 features, and class ids or one-hot rows."""

    def __init__(self, store: FeatureStore, name: str, tap: Tap, batch_size: int, sparse: bool) -> None:
        self.store, self.name, self.tap, self.batch_size, self.sparse = store, name, tap, batch_size, sparse

    def __len__(self) -> int:
        return -(-self.store.count(self.name) // self.batch_size)

    def shuffled(self, seed: int, endless_from: int | None = None) -> tf.data.Dataset:
        """In another order each epoch; each iteration is one, or there is no end."""
        return self._for_loss(
            self.store.dataset(
                self.name, self.batch_size, shuffle=True, seed=seed, tap=self.tap.name, endless_from=endless_from
            )
        )

    def in_order(self) -> tf.data.Dataset:
        """In the store's order."""
        return self._for_loss(self.store.dataset(self.name, self.batch_size, tap=self.tap.name))

    def _for_loss(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        classes = len(self.store.class_names)

        def convert(feature: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return tf.cast(feature, tf.float32), label if self.sparse else tf.one_hot(label, classes)

        return batches.map(convert, num_parallel_calls=NUM_PARALLEL_CALLS).prefetch(PREFETCH)


class SplitMaps:
    """A store's splits as `fit_network` takes them: one tap's maps, the training split in another order each epoch."""

    def __init__(self, store: FeatureStore, tap: Tap, config: FinetuneConfig) -> None:
        self.store, self.tap, self.config = store, tap, config
        self.steps = steps_of(store.count("train"), config.batch_size, config.devices)

    def training(self, first_epoch: int) -> tf.data.Dataset:
        """Epoch after epoch."""
        train = SplitBatches(self.store, "train", self.tap, self.config.batch_size, sparse=True)
        return evenly(train.shuffled(self.config.seed, first_epoch), self.config.devices)

    def validation(self) -> tf.data.Dataset | None:
        """The validation split, if there is one."""
        if "validation" not in self.store.splits:
            return None
        validation = SplitBatches(self.store, "validation", self.tap, self.config.batch_size, sparse=True)
        steps = steps_of(self.store.count("validation"), self.config.batch_size, self.config.devices)
        return evenly(validation.in_order(), self.config.devices, steps)


def class_weights(kind: str, examples: Sequence[Example], class_names: Sequence[str]) -> dict[int, float] | None:
    """What each class's examples count: `none`, or `balanced`, N / (classes * count), so that every class has the same say."""
    if kind == "none":
        return None
    counts = Counter(example.labels[0] for example in examples)
    present = {label: counts[name] for label, name in enumerate(class_names) if counts[name]}
    return {label: sum(present.values()) / (len(present) * count) for label, count in present.items()}


def weighted(batches: tf.data.Dataset, class_weight: dict[int, float] | None, classes: int) -> tf.data.Dataset:
    """Batches (feature, label) with each example's weight beside it, so that a loss counts classes as the training does.

    Labels are ids or one-hot rows. A class without training examples has no weight, and counts as it is.
    """
    if class_weight is None:
        return batches
    weights = np.ones(classes, np.float32)
    weights[list(class_weight)] = list(class_weight.values())

    def add(feature: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return feature, label, tf.gather(weights, label if label.shape.rank == 1 else tf.argmax(label, axis=-1))

    return batches.map(add)


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
