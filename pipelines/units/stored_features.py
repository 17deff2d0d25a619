"""A store in, and out where each content's feature lies in it: what is stored already is copied, and not computed again.

All records of a shard have one length, so that no shard is read to know this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from headstart.features import tfrecord
from headstart.features.dataset.columns import Rows
from headstart.features.places import place
from headstart.features.store.feature_store import FeatureStore


class StoredAt(NamedTuple):
    """Where an older shard holds a feature of the same content and spec: the shard's path, and the bytes of it."""

    shard: str
    offset: int
    length: int
    views: int = 1  # that lie there, one after the other


class Stored:
    """A column of where features lie, or that they lie nowhere."""

    def __init__(self, shards: tuple[tuple[str, int, int], ...], shard: np.ndarray, offset: np.ndarray) -> None:
        self.shards, self.shard, self.offset = shards, shard, offset  # path, length, views; int32, int64 [N], -1 for nowhere

    @classmethod
    def of(cls, values: Sequence[StoredAt | None]) -> Stored:
        """The column of some values."""
        shards = {(each.shard, each.length, each.views): 0 for each in values if each}
        numbers = {shard: number for number, shard in enumerate(shards)}
        shard = [numbers[each.shard, each.length, each.views] if each else -1 for each in values]
        return cls(tuple(shards), np.array(shard, np.int32), np.array([each.offset if each else -1 for each in values]))

    @classmethod
    def joined(cls, columns: Sequence[Stored]) -> Stored:
        """Columns, one after the other."""
        return cls.of([value for column in columns for value in column.values()])

    def __len__(self) -> int:
        return len(self.shard)

    def take(self, rows: Rows) -> Stored:
        """The values of some rows, in their order."""
        return Stored(self.shards, self.shard[rows], self.offset[rows])

    def values(self) -> list[StoredAt | None]:
        """All values, as objects."""
        found = zip(self.shard.tolist(), self.offset.tolist())
        return [self._at(shard, offset) if shard >= 0 else None for shard, offset in found]

    def _at(self, shard: int, offset: int) -> StoredAt:
        path, length, views = self.shards[shard]
        return StoredAt(path, offset, length, views)


def nothing_stored(count: int) -> Stored:
    """The column of as many features that lie nowhere."""
    return Stored((), np.full(count, -1, np.int32), np.full(count, -1))


@dataclass(frozen=True)
class StoredFeatures:
    """All features of a store, each content once, where most of its views lie."""

    digests: np.ndarray  # 32 bytes [N], sorted
    at: Stored

    @classmethod
    def in_store(cls, store: FeatureStore) -> StoredFeatures:
        """Those of a store."""
        shards, digests = list[tuple[str, int, int]](), [np.empty(0, "S32")]
        numbers, offsets = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
        for split in sorted(store.splits, key=lambda split: -store.spec.views_of(split)):
            views = store.spec.views_of(split)
            digests.append(store.examples(split).digests)
            for path, shard in store.manifest.shards(split):
                address = place.absolute(place.join(store.path, path))
                numbers.append(np.full(shard.examples, len(shards), np.int32))
                offsets.append(np.arange(shard.examples) * views * shard.record_bytes + tfrecord.HEADER_BYTES)
                shards.append((address, tfrecord.unframed_length(shard.record_bytes), views))
        found, first = np.unique(np.concatenate(digests), return_index=True)
        everything = Stored(tuple(shards), np.concatenate(numbers), np.concatenate(offsets))
        return cls(found, everything.take(first))

    def of(self, digests: np.ndarray, views: int) -> Stored:
        """Where the features of some contents lie, 32 bytes [n], if as many views of them do: an image may move to train."""
        if not len(self.digests):
            return nothing_stored(len(digests))
        row = np.minimum(np.searchsorted(self.digests, digests), len(self.digests) - 1)
        found = self.at.take(row)
        enough = np.array([held for _, _, held in self.at.shards])[found.shard] >= views
        lies = (self.digests[row] == digests) & enough
        return Stored(found.shards, np.where(lies, found.shard, -1).astype(np.int32), np.where(lies, found.offset, -1))
