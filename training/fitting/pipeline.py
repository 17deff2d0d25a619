"""Examples in, what a training step takes out: the input of every training and every validation, a step a line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from headstart.features.store.epochs import Position
from headstart.training.fitting.devices import evenly, to_device

Transform = Callable[[tf.Tensor, tf.Tensor], Any]  # what becomes of a batch (feature [B, ...], label)


def as_it_is(feature: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """No change to a batch."""
    return feature, label


class Size(NamedTuple):
    """How many examples a split has, and how many of them a batch."""

    examples: int
    batch_size: int

    def steps(self, devices: int = 1) -> int:
        """Batches of an epoch, when each can be divided among the devices."""
        return self.examples // self.batch_size + (self.examples % self.batch_size >= devices)


class Source(Protocol):
    """Where the examples of a training come from: batches (feature [B, ...], label id int64 [B]), the last one smaller.

    Labels are uint8 [B, classes] where an image may have several. Batches are transformed where they are made, and made ahead.
    """

    size: Size
    validation_size: Size | None  # None where there is no validation split

    def epoch(self, position: Position, transform: Transform) -> tf.data.Dataset:
        """The training split; each iteration is the epoch of the position, whose number decides order and augmentation."""

    def validation(self, transform: Transform) -> tf.data.Dataset:
        """The validation split, as it is."""


class WholeSource(Source, Protocol):
    """A source whose training split can be had as it is, too."""

    def whole(self, transform: Transform) -> tf.data.Dataset:
        """The training split in its own order, not augmented, in large batches."""


class Labels(NamedTuple):
    """How a loss takes labels: ids or rows of so many classes, and what each class counts, where they differ.

    Rows are one-hot, or of several labels what the source gives.
    """

    classes: int
    one_hot: bool = False
    class_weight: dict[int, float] | None = None
    several: bool = False

    def of(self, feature: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """A batch as a loss takes it. A class without training examples has no weight, and counts as it is."""
        made = (tf.cast(feature, tf.float32), self._made(label))
        if self.class_weight is None:
            return made
        weights = np.ones(self.classes, np.float32)
        weights[list(self.class_weight)] = list(self.class_weight.values())
        return (*made, tf.gather(weights, label))

    def _made(self, label: tf.Tensor) -> tf.Tensor:
        if self.several:
            return tf.cast(label, tf.float32)
        return tf.one_hot(label, self.classes) if self.one_hot else label


def training_pipeline(source: Source, position: Position, labels: Labels, devices: int = 1) -> tf.data.Dataset:
    """What `fit` takes; each iteration is the epoch of the position."""
    # Shuffled as a whole before it is cut, read or decoded in parallel, augmented anew, all ahead of the step that takes it;
    # to float32; and weights, which Keras would add on the device.
    batches = source.epoch(position, labels.of)
    batches = evenly(batches, devices, source.size.steps(devices))
    return to_device(batches, devices)  # copied ahead too; last, for nothing but copies may follow


def validation_pipeline(source: Source, labels: Labels, devices: int = 1) -> tf.data.Dataset | None:
    """What `evaluate` takes, weighted as the training is, so that what is trained chooses the epoch; None without it."""
    if source.validation_size is None:
        return None
    return evenly(source.validation(labels.of), devices, source.validation_size.steps(devices))
