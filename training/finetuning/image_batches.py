"""Image files as batches for training: read, decode, resize, augment, then the frozen part of the network, prefetch.

    row numbers, shuffled globally -> read, decode and resize in parallel -> augment -> frozen layers -> batch -> prefetch

Decoding and resizing are those of extraction; what training has decoded is kept where memory allows. What is augmented never
is: each epoch draws anew, from the seed, the example's content and the epoch's number alone. The frozen prefix is the engine
that extraction runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from headstart.features.augmentation import Augmentation
from headstart.features.engines.base import Engine
from headstart.features.engines.factory import make_engine
from headstart.features.engines.options import EngineOptions
from headstart.features.engines.stream import ImageToRead
from headstart.features.images.augment import array_augmenter, augmenter, view_seed
from headstart.features.runtime import cores, fits_in_memory
from headstart.features.spec import FeatureSpec
from headstart.features.store.epochs import Position, epoch_order
from headstart.training.finetuning.pixels import Pixels
from headstart.training.fitting.pipeline import Size, Transform, as_it_is

if TYPE_CHECKING:
    from headstart.training.finetuning.finetune_config import FinetuneConfig
    from headstart.training.finetuning.unfreeze import SplitNetwork

PREFETCH = 2
ENGINE_DTYPES = {"float32": "float32", "mixed_float16": "float32", "mixed_bfloat16": "bfloat16"}


@dataclass(frozen=True)
class ImageSplit:
    """A split's files with labels, int64 [N] or uint8 [N, classes]; each file has the digest that its content must have."""

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
    """

    def __init__(
        self,
        split: ImageSplit,
        spec: FeatureSpec,
        engine: Engine | None,
        shape: tuple[int, ...],
        batch_size: int,
        max_pixels: int,
    ) -> None:
        self.split, self.spec, self.engine, self.shape, self.batch_size = split, spec, engine, shape, batch_size
        self.pixels = Pixels(split.files, spec, max_pixels)

    def __len__(self) -> int:
        return -(-len(self.split.files) // self.batch_size)

    def shuffled(
        self, seed: int, augmentation: Augmentation, position: Position, transform: Transform = as_it_is
    ) -> tf.data.Dataset:
        """Each iteration is the epoch of the position, with an order and an augmentation of its own.

        Args:
            seed: of the orders.
            augmentation: what is done to each image.
            position: where the training is when the iteration begins.
            transform: what becomes of a batch.
        """
        self.pixels.keep()
        return self._batches(seed, augmentation, position, transform)

    def in_order(self, transform: Transform = as_it_is) -> tf.data.Dataset:
        """Each iteration is all of it, in order, as it is."""
        return self._batches(None, Augmentation(), Position(), transform)

    def _batches(
        self, seed: int | None, augmentation: Augmentation, position: Position, transform: Transform
    ) -> tf.data.Dataset:
        def epoch(_: tf.Tensor) -> tf.data.Dataset:
            return self._epoch(tf.numpy_function(lambda: np.int64(position.epoch), [], tf.int64), seed, augmentation)

        batches = tf.data.Dataset.range(1).flat_map(epoch).map(transform)
        return _quick(batches.apply(tf.data.experimental.assert_cardinality(len(self))))

    def preview(self, augmentation: Augmentation, rows: Sequence[int], epochs: int) -> np.ndarray:
        """What the network sees of some images, float32 [len(rows), 1 + epochs, H, W, 3] in 0..255; the plain ones first."""
        augment = array_augmenter(augmentation)
        found = []
        for row in rows:
            pixels = self.pixels[row]
            seeds = [self._seed(row, epoch, augmentation) for epoch in range(epochs)]
            found.append([pixels, *(augment(pixels, seed) for seed in seeds)])
        return np.array(found)

    def _epoch(self, epoch: tf.Tensor, seed: int | None, augmentation: Augmentation) -> tf.data.Dataset:
        augment, labels = augmenter(augmentation), tf.constant(self.split.labels)
        count, pixels_shape = len(self.split.files), (*self.spec.image_size, 3)

        def load(row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            pixels, own_seed = tf.numpy_function(
                lambda r, e: (self.pixels[int(r)], self._seed(int(r), int(e), augmentation)),
                [row, epoch],
                (tf.float32, tf.int64),
                stateful=False,
            )
            return augment(tf.ensure_shape(pixels, pixels_shape), tf.ensure_shape(own_seed, (2,))), tf.gather(labels, row)

        order = tf.numpy_function(lambda number: epoch_order(count, seed, int(number)), [epoch], tf.int64)
        rows = tf.data.Dataset.from_tensor_slices(tf.ensure_shape(order, (count,)))
        images = rows.map(load, num_parallel_calls=cores() + 1, deterministic=True)
        return self._through_prefix(images).batch(self.batch_size)

    def _through_prefix(self, images: tf.data.Dataset) -> tf.data.Dataset:
        if self.engine is None:
            return images
        engine = self.engine

        def prefix(pixels: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            found = tf.numpy_function(lambda batch: engine(batch)[0], [pixels], tf.float32, stateful=False)
            return tf.ensure_shape(found, (None, *self.shape)), label

        few = images.batch(engine.batch_size, num_parallel_calls=None)
        return few.map(prefix, num_parallel_calls=engine.streams + 1, deterministic=True).unbatch()

    def _seed(self, row: int, epoch: int, augmentation: Augmentation) -> np.ndarray:
        return view_seed(augmentation, self.split.files[row].digest, epoch)


def _quick(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Made ahead, and spread over devices batch by batch."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.prefetch(PREFETCH).with_options(options)


class ImageSource:
    """Image files as a training's source: augmented for training, as they are for validation, through the frozen layers.

    Args:
        network: whose frozen layers they go through.
        spec: how images become pixels.
        found: files and labels of train and, perhaps, validation.
        config: augmentation, batch size, seed.
        max_pixels: an image of more is refused.
        precision: what is trained in; frozen layers compute in bfloat16 where that is bfloat16.
    """

    def __init__(
        self,
        network: SplitNetwork,
        spec: FeatureSpec,
        found: Mapping[str, ImageSplit],
        config: FinetuneConfig,
        max_pixels: int,
        precision: str,
    ) -> None:
        engine, shape = _frozen_engine(network, spec, precision)
        self.config = config
        made = {
            split: ImageBatches(images, spec, engine, shape, config.batch_size, max_pixels) for split, images in found.items()
        }
        self.train, self.held_out = made["train"], made.get("validation")
        self.size = Size(len(found["train"].files), config.batch_size)
        self.validation_size = Size(len(found["validation"].files), config.batch_size) if self.held_out else None
        self._bytes = 4 * int(np.prod(shape)) * len(found["validation"].files) if self.held_out else 0

    def epoch(self, position: Position, transform: Transform) -> tf.data.Dataset:
        """Batches of the training split; each epoch has an order and an augmentation of its own."""
        return self.train.shuffled(self.config.seed, self.config.augmentation, position, transform)

    def validation(self, transform: Transform) -> tf.data.Dataset:
        """The validation split. What the frozen layers make of it stays the same, and is kept where memory allows."""
        assert self.held_out, "there is no validation split"
        batches = self.held_out.in_order(transform)
        return batches.cache() if fits_in_memory(self._bytes) else batches


def _frozen_engine(network: SplitNetwork, spec: FeatureSpec, precision: str) -> tuple[Engine | None, tuple[int, ...]]:
    """What runs the frozen layers, and what they give for an image: the pixels themselves where none is frozen."""
    if network.boundary is None:
        return None, (*spec.image_size, 3)
    below = network.frozen_model(spec)
    return make_engine(below, EngineOptions(), ENGINE_DTYPES[precision]), network.boundary.shape
