"""Features by number in, batches as numpy arrays out, epoch after epoch: the fastest way to read, for any framework."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from headstart.features.store.epochs import epoch_order, epoch_views
from headstart.features.store.shard_reader import TapReader


class NumpyBatches:
    """A split's batches. Each iteration is an epoch; where there is a seed, in an order of its own.

    Args:
        features: of a split.
        labels: int64 [N], or uint8 [N, classes].
        batch_size: examples a batch; the last one may be smaller.
        seed: of the orders; None for the store's own.
        in_memory: read all features now.
    """

    def __init__(self, features: TapReader, labels: np.ndarray, batch_size: int, seed: int | None, in_memory: bool) -> None:
        self.features, self.labels, self.batch_size, self.seed = features, labels, batch_size, seed
        self.table = features.all() if in_memory else None
        self.epoch = 0

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        count, views = len(self.labels), self.features.views
        order = epoch_order(count, self.seed, self.epoch)
        drawn = epoch_views(count, views, self.seed, self.epoch)
        self.epoch += 1
        for start in range(0, len(order), self.batch_size):
            examples = order[start : start + self.batch_size]
            rows = examples * views + drawn[examples]
            yield (self.features.take(rows) if self.table is None else self.table[rows]), self.labels[examples]
