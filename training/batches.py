"""Splits as batches for a training: of a store, from memory when they fit and from its shards when not; of image files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import tensorflow as tf

from features.dataset import AHEAD, GATHERED_AT_ONCE
from features.engine import Engine, make_engine
from features.engine_options import EngineOptions
from features.spec import FeatureSpec, Tap
from features.store import SHARE_OF_MEMORY, FeatureStore
from training.image_batches import ImageBatches

if TYPE_CHECKING:
    from training.finetune_config import FinetuneConfig
    from training.unfreeze import Network

ENGINE_DTYPES = {"float32": "float32", "mixed_float16": "float32", "mixed_bfloat16": "bfloat16"}


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


class SplitImages:
    """Image files as `learn` takes them: augmented for training, as they are for validation, through the frozen layers.

    Args:
        network: whose frozen layers they go through.
        spec: how images become pixels.
        found: files and labels of train and, perhaps, validation.
        config: augmentation, batch size, seed.
        max_pixels: an image of more is refused.
        precision: what is trained in; frozen layers compute in bfloat16 where that is bfloat16.
    """

    def __init__(
        self, network: Network, spec: FeatureSpec, found: Any, config: FinetuneConfig, max_pixels: int, precision: str
    ) -> None:
        engine, shape = _frozen_engine(network, spec, precision)
        self.config = config
        made = {
            split: ImageBatches(images, spec, engine, shape, config.batch_size, max_pixels) for split, images in found.items()
        }
        self.train, self._validation, self.steps = made["train"], made.get("validation"), len(made["train"])
        self._bytes = 4 * int(np.prod(shape)) * len(found["validation"].files) if self._validation else 0

    def training(self, first_epoch: int) -> tf.data.Dataset:
        """Epoch after epoch, each under another augmentation."""
        return to_device(self.train.shuffled(self.config.seed, self.config.augmentation, first_epoch), self.config.devices)

    def validation(self) -> tf.data.Dataset | None:
        """The validation split. What the frozen layers make of it stays the same, and is kept where memory allows."""
        if self._validation is None:
            return None
        batches = self._validation.in_order()
        return batches.cache() if self._bytes < SHARE_OF_MEMORY * psutil.virtual_memory().available else batches


def _frozen_engine(network: Network, spec: FeatureSpec, precision: str) -> tuple[Engine | None, tuple[int, ...]]:
    """What runs the frozen layers, and what they give for an image: the pixels themselves where none is frozen."""
    if network.boundary is None:
        return None, (*spec.image_size, 3)
    below = network.frozen_model(spec)
    return make_engine(below, EngineOptions(), ENGINE_DTYPES[precision]), network.boundary.shape


def to_device(batches: tf.data.Dataset, devices: int) -> tf.data.Dataset:
    """Copies batches to the GPU ahead of their use; several devices are fed by their strategy."""
    gpus = tf.config.list_logical_devices("GPU")
    if devices > 1 or not gpus:
        return batches
    return batches.apply(tf.data.experimental.prefetch_to_device(gpus[0].name))


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
