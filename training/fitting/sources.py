"""Features as a training's source: a store's, or such as are in memory; and what is counted over a split of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from headstart.features.dataset.examples import Example
from headstart.features.spec import Tap
from headstart.features.store.epochs import Position
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.tf_dataset import dataset, gathered
from headstart.training.fitting.pipeline import Size, Transform

AT_ONCE = 256
BLOCK = 1024  # examples at once where order does not matter


class StoreSource:
    """The splits of a store, by one tap: from memory when they fit, from the shards when not.

    Args:
        store: has a training split, and perhaps a validation split.
        tap: which of its taps.
        batch_size: examples a step.
        validation_batch: examples a batch of the validation split.
        seed: of the orders.
        learned: the examples of the training split that are learned from, int64 [N], and nothing validates; None: all of
            them, and the validation split does.
    """

    def __init__(
        self,
        store: FeatureStore,
        tap: Tap,
        batch_size: int,
        validation_batch: int,
        seed: int,
        learned: np.ndarray | None = None,
    ) -> None:
        self.store, self.tap, self.seed, self.learned = store, tap, seed, learned
        self.size = Size(store.count("train") if learned is None else len(learned), batch_size)
        has_validation = learned is None and "validation" in store.splits
        self.validation_size = Size(store.count("validation"), validation_batch) if has_validation else None

    def epoch(self, position: Position, transform: Transform) -> tf.data.Dataset:
        """Batches of the training split, each iteration in the order of its epoch, each example in one of its views."""
        return self._batches("train", self.size.batch_size, self.seed, position, transform)

    def whole(self, transform: Transform) -> tf.data.Dataset:
        """Blocks of the training split, in the store's order, each example in its plain view."""
        return self._batches("train", BLOCK, None, None, transform)

    def validation(self, transform: Transform) -> tf.data.Dataset:
        """Batches of the validation split, in the store's order."""
        assert self.validation_size, "there is no validation split"
        return self._batches("validation", self.validation_size.batch_size, None, None, transform)

    def _batches(
        self, split: str, batch_size: int, seed: int | None, position: Position | None, transform: Transform
    ) -> tf.data.Dataset:
        features, labels = self.store.features(split, self.tap.name), self.store.labels(split)
        columns = {"label": labels if self.learned is None else labels[self.learned]}

        def element(feature: tf.Tensor, beside: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
            return transform(feature, beside["label"])

        return dataset(features, columns, batch_size, seed, features.is_held(), element, position, self.learned)


class ArraySource:
    """Splits in memory.

    Args:
        splits: name to features [N, ...] and labels int64 [N] or uint8 [N, classes]; `train`, and perhaps `validation`.
        batch_size: examples a step.
        seed: of the orders.
    """

    def __init__(self, splits: Mapping[str, tuple[np.ndarray, np.ndarray]], batch_size: int, seed: int) -> None:
        self.splits, self.seed = splits, seed
        self.size = Size(len(splits["train"][1]), batch_size)
        self.validation_size = Size(len(splits["validation"][1]), batch_size) if "validation" in splits else None

    def epoch(self, position: Position, transform: Transform) -> tf.data.Dataset:
        """Batches of the training split, each iteration in the order of its epoch."""
        return self._batches("train", self.seed, position, transform)

    def whole(self, transform: Transform) -> tf.data.Dataset:
        """Blocks of the training split, in order."""
        return self._batches("train", None, None, transform, BLOCK)

    def validation(self, transform: Transform) -> tf.data.Dataset:
        """Batches of the validation split, in order."""
        return self._batches("validation", None, None, transform)

    def _batches(
        self, split: str, seed: int | None, position: Position | None, transform: Transform, batch_size: int = 0
    ) -> tf.data.Dataset:
        values, labels = self.splits[split]
        with tf.device("CPU"):
            features = tf.constant(values)

        def batch(rows: tf.Tensor, beside: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
            return transform(tf.gather(features, rows), beside["label"])

        return gathered(batch, len(labels), {"label": labels}, batch_size or self.size.batch_size, seed, position)


def class_weights(kind: str, examples: Iterable[Example], class_names: Sequence[str]) -> dict[int, float] | None:
    """What each class's examples count: `none`, or `balanced`, N / (classes * count), so that every class has the same say."""
    if kind == "none":
        return None
    counts = Counter(example.labels[0] for example in examples)
    present = {label: counts[name] for label, name in enumerate(class_names) if counts[name]}
    return {label: sum(present.values()) / (len(present) * count) for label, count in present.items()}


def moments(features: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Each channel's mean and deviation, float32 [C], over batches of features [B, ..., C]; one pass, in float64."""
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for batch in features:
        rows = batch.reshape(-1, batch.shape[-1]).astype(np.float64)  # [B * places, C]
        count, total, squares = count + len(rows), total + rows.sum(0), squares + np.square(rows).sum(0)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - np.square(mean), 0))
    return mean.astype(np.float32), deviation.astype(np.float32)


def plain_batches(store: FeatureStore, tap: Tap, split: str, examples: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Some examples of a split as they are, not their augmented views: (features [B, *tap.shape], labels)."""
    features, labels = store.features(split, tap.name), store.labels(split)
    for start in range(0, len(examples), AT_ONCE):
        part = examples[start : start + AT_ONCE]
        yield features.take(part * features.views), labels[part]


def stored_moments(store: FeatureStore, tap: Tap, examples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`moments` of some examples of a store's training split, as they are."""
    return moments(feature for feature, _ in plain_batches(store, tap, "train", examples))
