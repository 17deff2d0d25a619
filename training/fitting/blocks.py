"""A split in blocks: what a head's last layer sees of it, and what the images come to under some weights. numpy alone.

Products of blocks take both cores by themselves; memory does not grow with the images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy.special import expit

from headstart.training.fitting.checkpoint import Interrupted

Floats = NDArray[np.floating]
Block = tuple[Floats, Any, Floats]  # what the last layer sees, float32 [B, D], labels, and what each image counts, float32 [B]

KEPT_BYTES = 256 << 20  # of a split's blocks
ROWS = 2048  # of a block that is kept


class Blocks:
    """A split in blocks: read anew each time, or kept from the first time on where that takes little memory.

    Args:
        body: from features to what the last layer sees.
        batches: of features, labels, and perhaps what each image counts.
        asked: whether Ctrl-C was pressed.

    Raises:
        Interrupted: when it was.
    """

    def __init__(self, body: keras.Model, batches: tf.data.Dataset, asked: Callable[[], bool]) -> None:
        self.body, self.batches, self.asked, self.kept = body, batches, asked, list[Block]()

    def __iter__(self) -> Iterator[Block]:
        if self.kept:
            yield from self.kept
            return
        read, found, size = self._read(), list[Block](), 0
        for block in read:
            found.append(block)
            if (size := size + block[0].nbytes) > KEPT_BYTES:
                while found:
                    yield found.pop(0)
                yield from read
                return
        self.kept = _merged(found)
        yield from self.kept

    def _read(self) -> Iterator[Block]:
        for feature, label, *weight in self.batches.as_numpy_iterator():
            if self.asked():
                raise Interrupted
            seen = np.asarray(self.body(feature), np.float32)
            yield seen, label, weight[0] if weight else np.ones(len(seen), np.float32)


def _merged(blocks: list[Block]) -> list[Block]:
    """The same in blocks of ROWS, since small products are slow: each has its threads to wake."""
    whole = [np.concatenate(column) for column in zip(*blocks)]
    return [tuple(column[at : at + ROWS] for column in whole) for at in range(0, len(whole[0]), ROWS)]  # type: ignore[misc]


@dataclass
class Sums:
    """What some images come to: their count, and sums of their losses, of right answers, and of the loss's gradient."""

    images: int
    loss: float
    right: int
    weights: Floats  # [D, C]
    bias: Floats  # [C]

    def figures(self, prefix: str, several: bool) -> dict[str, float]:
        """The mean loss and, where an image has one label, the accuracy."""
        accuracy = {} if several else {f"{prefix}accuracy": self.right / self.images}
        return {f"{prefix}loss": self.loss / self.images, **accuracy}


def sums(blocks: Iterable[Block], weights: Floats, bias: Floats, several: bool, with_gradient: bool) -> Sums:
    """Adds up a split under a last layer's weights [D, C] and bias [C]; without the gradient, that is 0."""
    slopes, slope = np.zeros(weights.shape), np.zeros(bias.shape)
    kernel, shift = weights.astype(np.float32), bias.astype(np.float32)
    images, loss, right = 0, 0.0, 0
    for feature, label, weight in blocks:
        logits = feature @ kernel + shift  # [B, C]
        if not several:
            right += int((logits.argmax(1) == label).sum())
        losses, errors = cross_entropy(logits, label, several)
        images, loss = images + len(feature), loss + float(weight @ losses)
        if with_gradient:
            weighted = errors() * weight[:, None]
            slopes += feature.T @ weighted
            slope += weighted.sum(0)
    return Sums(images, loss, right, slopes, slope)


def cross_entropy(logits: Floats, label: Any, several: bool) -> tuple[Floats, Callable[[], Floats]]:
    """Each image's loss, [B]; and, asked for, its derivative in the logits, [B, C].

    Args:
        logits: float32 [B, C]; its memory is used.
        label: class ids int64 [B], or where an image may have several, rows float32 [B, C] with a 1 for each.
        several: which of the two; of several the loss is the mean over the classes.
    """
    if several:
        losses = (np.logaddexp(0, logits) - label * logits).mean(1)
        return losses, lambda: (expit(logits) - label) / np.float32(logits.shape[1])
    logits -= logits.max(1, keepdims=True)
    own = logits[rows := np.arange(len(label)), label]
    powers = np.exp(logits, out=logits)
    total = powers.sum(1)

    def errors() -> Floats:
        found = np.divide(powers, total[:, None], out=powers)
        found[rows, label] -= 1
        return found

    return np.log(total) - own, errors
