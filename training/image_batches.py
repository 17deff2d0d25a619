"""Image files as batches for training: read, decode, resize, augment, then the frozen part of the network, prefetch.

    row numbers, shuffled globally -> read, decode and resize in parallel -> augment -> batch -> frozen prefix -> prefetch

Decoding and resizing are those of extraction. What is augmented is never kept: each epoch draws anew, from the seed, the
example's content and the epoch's number alone. The frozen prefix is the engine that extraction runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from features.augment import Augmentation
from features.engine import Engine
from features.engine_options import cores
from features.epochs import epoch_order
from features.errors import UserError
from features.spec import FeatureSpec
from features.stream import ImageToRead, Unreadable, image_loader

AHEAD = 2


@dataclass(frozen=True)
class ImageSplit:
    """A split's files with their labels, int64 [N]; each file has the digest that its content must have."""

    files: Sequence[ImageToRead]
    labels: np.ndarray


class ImageBatches:
    """Batches of what the unfrozen part of a network takes.

    Args:
        split: files and labels.
        spec: how images are decoded and resized.
        engine: the frozen prefix, or None for the pixels themselves.
        shape: what it gives for an image.
        batch_size: images a batch; the last one may be smaller.
        max_pixels: an image of more is refused.
        to_target: what the loss takes of the labels, int64 [B].
    """

    def __init__(
        self,
        split: ImageSplit,
        spec: FeatureSpec,
        engine: Engine | None,
        shape: tuple[int, ...],
        batch_size: int,
        max_pixels: int,
        to_target: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
    ) -> None:
        self.split, self.spec, self.engine, self.shape, self.batch_size = split, spec, engine, shape, batch_size
        self.to_target, self._load = to_target, image_loader(spec, max_pixels)

    def __len__(self) -> int:
        return -(-len(self.split.files) // self.batch_size)

    def shuffled(self, seed: int, augmentation: Augmentation, first_epoch: int = 0) -> tf.data.Dataset:
        """Without end: an epoch after the other, each in an order and with an augmentation of its own.

        Args:
            seed: of the orders.
            augmentation: what is done to each image.
            first_epoch: the number of the first one, from 0.
        """
        epochs = tf.data.Dataset.counter(first_epoch).flat_map(lambda epoch: self._rows(epoch, seed))
        return self._batches(epochs, augmentation)

    def in_order(self) -> tf.data.Dataset:
        """One epoch, in order, as it is."""
        rows = self._rows(tf.constant(0, tf.int64), None)
        return self._batches(rows, Augmentation()).apply(tf.data.experimental.assert_cardinality(len(self)))

    def looks(self, augmentation: Augmentation, rows: Sequence[int], epochs: int) -> np.ndarray:
        """What the network sees of some images, float32 [len(rows), 1 + epochs, H, W, 3] in 0..255; the plain ones first."""
        augment = augmentation.of_arrays()
        found = []
        for row in rows:
            pixels = self._read(row)
            seeds = [self._seed(row, epoch, augmentation) for epoch in range(epochs)]
            found.append([pixels, *(augment(pixels, seed) for seed in seeds)])
        return np.array(found)

    def _rows(self, epoch: tf.Tensor, seed: int | None) -> tf.data.Dataset:
        count = len(self.split.files)
        order = tf.numpy_function(lambda number: epoch_order(count, seed, int(number)), [epoch], tf.int64)
        rows = tf.data.Dataset.from_tensor_slices(tf.ensure_shape(order, (count,)))
        return rows.map(lambda row: (row, epoch))

    def _batches(self, rows: tf.data.Dataset, augmentation: Augmentation) -> tf.data.Dataset:
        """Every epoch ends with a batch of its own, so that each has the same number of steps."""
        augment, labels = augmentation.augmenter(), tf.constant(self.split.labels, tf.int64)
        count, size = len(self.split.files), self.batch_size
        pixels_shape = (*self.spec.image_size, 3)

        def load(row: tf.Tensor, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            read = tf.numpy_function(
                lambda r, e: (self._read(int(r)), self._seed(int(r), int(e), augmentation)),
                [row, epoch],
                (tf.float32, tf.int64),
                stateful=False,
            )
            return augment(tf.ensure_shape(read[0], pixels_shape), tf.ensure_shape(read[1], (2,))), tf.gather(labels, row)

        at_once = cores() + 1
        images = rows.map(load, num_parallel_calls=at_once, deterministic=True)
        features = self._through_prefix(images)
        # An epoch's last batch is smaller, and the next epoch begins a new one.
        cut = features.window(count).flat_map(lambda x, y: tf.data.Dataset.zip((x, y)).batch(size))
        options = tf.data.Options()
        options.autotune.enabled = False
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        ready = cut.map(lambda feature, label: (feature, self.to_target(label)))
        return ready.prefetch(AHEAD).with_options(options)

    def _through_prefix(self, images: tf.data.Dataset) -> tf.data.Dataset:
        if self.engine is None:
            return images
        engine = self.engine

        def prefix(pixels: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            found = tf.numpy_function(lambda batch: engine(batch)[0], [pixels], tf.float32, stateful=False)
            return tf.ensure_shape(found, (None, *self.shape)), label

        few = images.batch(engine.batch_size, num_parallel_calls=None)
        return few.map(prefix, num_parallel_calls=engine.streams + 1, deterministic=True).unbatch()

    def _read(self, row: int) -> np.ndarray:
        file = self.split.files[row]
        pixels = self._load(file)
        if isinstance(pixels, Unreadable):
            raise UserError(f"{file.path!r} could be read when its features were made, and can't be any more: {pixels.reason}")
        return pixels

    def _seed(self, row: int, epoch: int, augmentation: Augmentation) -> np.ndarray:
        return augmentation.seed_of(self.split.files[row].digest, epoch)
