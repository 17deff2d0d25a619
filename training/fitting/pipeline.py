"""Examples in, what a training step takes out: the input of every training and every validation, a step a line."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from headstart.features.store.epochs import Position
from headstart.training.fitting.devices import evenly, to_device

PREFETCH, NUM_PARALLEL_CALLS = 2, 2


class Size(NamedTuple):
    """How many examples a split has, and how many of them a batch."""

    examples: int
    batch_size: int

    def steps(self, devices: int = 1) -> int:
        """Batches of an epoch, when each can be divided among the devices."""
        return self.examples // self.batch_size + (self.examples % self.batch_size >= devices)


class Source(Protocol):
    """Where the examples of a training come from: batches (feature [B, ...], label id int64 [B]), the last one smaller.

    Labels are uint8 [B, classes] where an image may have several.
    """

    size: Size
    validation_size: Size | None  # None where there is no validation split

    def epoch(self, position: Position) -> tf.data.Dataset:
        """The training split; each iteration is the epoch of the position, whose number decides order and augmentation."""

    def validation(self) -> tf.data.Dataset:
        """The validation split, as it is."""


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
    batches = source.epoch(position)  # shuffled as a whole before it is cut, read or decoded in parallel, augmented anew
    batches = evenly(batches, devices, source.size.steps(devices))  # first of all: what is left out costs nothing further on
    batches = batches.map(labels.of, NUM_PARALLEL_CALLS)  # to float32; and weights, which Keras would add on the device
    batches = batches.prefetch(PREFETCH)  # made while a step computes
    return to_device(batches, devices)  # and copied meanwhile, last, for nothing but copies may follow


def validation_pipeline(source: Source, labels: Labels, devices: int = 1) -> tf.data.Dataset | None:
    """What `evaluate` takes, weighted as the training is, so that what is trained chooses the epoch; None without it."""
    if source.validation_size is None:
        return None
    batches = evenly(source.validation(), devices, source.validation_size.steps(devices))
    return batches.map(labels.of, NUM_PARALLEL_CALLS).prefetch(PREFETCH)
