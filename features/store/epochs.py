"""The order of a split's examples in an epoch, and the view that each is seen in, by the seed and the epoch's number alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Position:
    """Where a training is: the number of the epoch that comes next, from 0.

    Whoever reads a split looks here when an epoch begins, so that a training that is taken up goes on with the orders to come.
    """

    epoch: int = 0


def epoch_order(count: int, seed: int | None, epoch: int) -> np.ndarray:
    """Row numbers, int64 [count], in the order of one epoch: shuffled as a whole, or as they are when there is no seed."""
    return np.arange(count) if seed is None else np.random.default_rng([seed, epoch]).permutation(count)


def epoch_views(count: int, views: int, seed: int | None, epoch: int) -> np.ndarray:
    """Which view of each example an epoch takes, int64 [count]: one drawn for each, or the plain one when there is no seed."""
    if views == 1 or seed is None:
        return np.zeros(count, np.int64)
    return np.random.default_rng([seed, epoch, views]).integers(views, size=count)
