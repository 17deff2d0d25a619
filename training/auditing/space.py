"""A store's features in, few numbers for each image out: the space that neighbours and probabilities are found in.

The features are turned to their principal directions, the labels never looked at. Reading and turning go block by block: of N
images with D features, two times N x 256 float32, a few times D x D float64 and one block are held at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.features.store.feature_store import FeatureStore
from headstart.training.probing.ridge import MIN_EIGENVALUE

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]

ROWS = 1024  # a block
MAX_DIRECTIONS = 256
IMAGES_A_DIRECTION = 4  # with fewer, the last directions are those in which single images stand out


class Space(NamedTuple):
    """Every image's coordinates, float32 [N, K], the largest directions first; K is at most 256 and at most N / 4.

    standard: of standardised features; their variances are over the features' mean variance. It tells images apart.
    plain: of the features as they are, from their origin, each row of length 1. It tells what is like nothing else.
    """

    standard: Floats
    plain: Floats


def read_space(store: FeatureStore, tap: str) -> Space:
    """Every image of a store, split after split in their order.

    Args:
        store: of N images.
        tap: its name; a feature map is averaged over its places.
    """
    width = store.tap(tap).shape[-1]
    count, total, square = 0, np.zeros(width), np.zeros((width, width))
    for block in _blocks(store, tap):
        wide = block.astype(np.float64)
        count, total, square = count + len(wide), total + wide.sum(0), square + wide.T @ wide
    mean, moments = total / count, square / count  # [D], [D, D]
    covariance = moments - np.outer(mean, mean)
    deviation = np.sqrt(np.maximum(np.diag(covariance), 0))
    deviation = np.maximum(deviation, max(0.1 * float(deviation.mean()), 1e-6))  # as in `ridge.fit`
    most = max(1, min(MAX_DIRECTIONS, count // IMAGES_A_DIRECTION))
    values, turning = _largest(covariance / np.outer(deviation, deviation), most)
    turning = (turning / deviation[:, None] / np.sqrt(max(values, 1e-30))).astype(np.float32)
    plain = _largest(moments, most)[1].astype(np.float32)
    middle = mean.astype(np.float32)
    turned = [((block - middle) @ turning, block @ plain) for block in _blocks(store, tap)]
    return Space(np.concatenate([each for each, _ in turned]), unit(np.concatenate([each for _, each in turned])))


def _largest(matrix: Floats, most: int) -> tuple[float, Floats]:
    """A symmetric matrix's mean eigenvalue, and its directions [D, K] of the largest ones."""
    from scipy.linalg import eigh

    width = len(matrix)
    values, vectors = eigh(matrix, subset_by_index=[max(0, width - most), width - 1])
    kept = max(1, int((values > MIN_EIGENVALUE * values[-1]).sum()))
    return float(np.trace(matrix)) / width, vectors[:, ::-1][:, :kept]


def unit(points: Floats) -> Floats:
    """Points [N, K] brought to length 1."""
    return (points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def softly_whitened(coordinates: Floats) -> Floats:
    """Principal coordinates with the large directions brought down to the size of the usual one, and of length 1.

    What most images differ by, such as their classes, no longer drowns what single images have in common; small directions,
    which hold noise, are not blown up.

    Args:
        coordinates: float32 [N, K].

    Returns:
        float32 [N, K], each row of length 1.
    """
    variances = coordinates.var(0)
    return unit(coordinates / np.sqrt(variances + max(float(variances.mean()), 1e-12)))


def _blocks(store: FeatureStore, tap: str) -> Iterator[Floats]:
    for split in store.splits:
        features = store.features(split, tap)
        for start in range(0, store.count(split), ROWS):
            rows = np.arange(start, min(start + ROWS, store.count(split))) * features.views
            block = features.take(rows).astype(np.float32)
            yield block.mean((1, 2)) if block.ndim == 4 else block.reshape(len(block), -1)
