"""A split's records by number, straight from its memory-mapped shards: no parsing, no reading of what is not asked for.

All records of a shard have one length, and a tap's bytes lie at one place in each of them, so that a feature is found by
multiplication. The shards stay ordinary TFRecord files of tf.train.Example.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from headstart.features import tfrecord
from headstart.features.errors import UserError
from headstart.features.places.cache import RemoteFile, local_paths
from headstart.features.runtime import fits_in_memory
from headstart.features.spec import FeatureSpec, Tap
from headstart.features.store import record
from headstart.features.store.mmap_files import map_files


class Shard(NamedTuple):
    """A shard's file, its number of examples, the bytes that each takes in it; and its sha256, asked for of a remote one."""

    path: str
    examples: int
    record_bytes: int
    digest: str = ""

    @property
    def size(self) -> int:
        """The file's bytes."""
        return self.examples * self.record_bytes


class ShardReader:
    """The records of a split, in the store's order. Each is compared with its checksum when it is first read.

    Another process opens the shards anew: they are not sent to it. Of remote ones, copies on this machine are read.

    Raises:
        UserError: when a shard is gone, or has another size than it must have.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = [shard for shard in shards if shard.examples]
        copies = local_paths([RemoteFile(shard.path, shard.size, shard.digest) for shard in self.shards])
        self.starts = np.array([0, *itertools.accumulate(shard.examples for shard in self.shards)])
        self.memory, self.at = map_files(list(map(_whole, copies, self.shards)))  # where each shard begins in it
        self.maps = [
            self.memory[start : start + shard.examples * shard.record_bytes].reshape(-1, shard.record_bytes)
            for start, shard in zip(self.at, self.shards)
        ]
        self.verified = np.zeros(len(self), bool)

    def __reduce__(self) -> tuple[type[ShardReader], tuple[list[Shard]]]:
        return ShardReader, (self.shards,)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def locate(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The shards' numbers and the rows within them, int64 [B] each, of rows of the split."""
        shards = np.searchsorted(self.starts, rows, "right") - 1
        return shards, rows - self.starts[shards]

    def content(self, row: int) -> bytes:
        """One record, a tf.train.Example.

        Raises:
            IndexError: when there is no such row.
            UserError: when it is damaged.
        """
        if not 0 <= row < len(self):
            raise IndexError(f"the split has {len(self)} examples, numbered from 0: there is no {row}")
        self.check(np.array([row]))
        (shard,), (at,) = self.locate(np.array([row]))
        return tfrecord.unframed(self.maps[shard][at].tobytes())

    def check(self, rows: np.ndarray) -> None:
        """Compares records that were not read before with their checksums.

        Raises:
            UserError: naming the shard, at the first that does not hold.
        """
        fresh = rows[~self.verified[rows]]
        for shard, at in zip(*(places.tolist() for places in self.locate(fresh))):
            if not tfrecord.is_intact(self.maps[shard][at].tobytes()):
                path = self.shards[shard].path
                raise UserError(
                    "damaged",
                    f"the shard {path!r} is damaged in its record {at}: delete the store and extract again; "
                    f"`headstart verify` lists every fault",
                )
        self.verified[fresh] = True


def _whole(path: str, shard: Shard) -> str:
    """The path of a shard or its copy that has all of its bytes: what lies beyond a mapped file's end can't be touched."""
    try:
        size = os.path.getsize(path)
    except FileNotFoundError:
        raise UserError(
            "replaced", f"the shard {shard.path!r} is gone: its store was extracted again and cleaned since; open it again"
        ) from None
    if size != shard.size:
        raise UserError(
            "damaged",
            f"the shard {shard.path!r} is cut short: delete the store and extract again; `headstart verify` lists every fault",
        )
    return path


class TapReader:
    """One tap's features of a split: `take` gives any of them, from any thread.

    A row is a record; where there are several views, those of an example lie one after the other.
    """

    def __init__(self, records: ShardReader, spec: FeatureSpec, tap: Tap, views: int = 1) -> None:
        self.spec, self.tap = spec, tap
        self.records, self.views, self.shape, self.dtype = records, views, tap.shape, record.numpy_dtype(spec.store_dtype)
        self.size = tap.size * self.dtype.itemsize  # bytes
        self.starts = [self._start(spec, tap, shard) for shard in records.shards]  # bytes into a record of each shard
        self.columns = [mapped[:, start : start + self.size] for mapped, start in zip(records.maps, self.starts)]

    def __reduce__(self) -> tuple[type[TapReader], tuple[ShardReader, FeatureSpec, Tap, int]]:
        return TapReader, (self.records, self.spec, self.tap, self.views)

    @staticmethod
    def _start(spec: FeatureSpec, tap: Tap, shard: Shard) -> int:
        return record.tap_offsets(spec.taps, spec.store_dtype, tfrecord.unframed_length(shard.record_bytes))[tap.name]

    def __len__(self) -> int:
        return len(self.records)

    def is_held(self, asked: bool | None = None) -> bool:
        """Whether all are to be read into memory: as asked, or if they take less than a quarter of what is free."""
        return fits_in_memory(len(self) * self.size) if asked is None else asked

    def addresses(self) -> np.ndarray:
        """Where each row's feature begins in the records' memory, int64 [N], bytes."""
        shards = zip(self.records.shards, self.records.at, self.starts)
        return np.concatenate([at + start + np.arange(shard.examples) * shard.record_bytes for shard, at, start in shards])

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The features of some rows, [len(rows), *tap.shape] in the store's dtype.

        Args:
            rows: int64 [B], any order; a run of neighbours is copied whole.

        Raises:
            UserError: when a record is damaged.
        """
        self.records.check(rows)
        found = np.empty((len(rows), *self.shape), self.dtype)
        to = found.reshape(-1).view(np.uint8).reshape(len(rows), self.size)
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
            self._copy_run(int(rows[0]), to)
        else:
            for row, shard, at in zip(to, *(places.tolist() for places in self.records.locate(rows))):
                row[:] = self.columns[shard][at]
        return found

    def all(self) -> np.ndarray:
        """Every feature, [N, *tap.shape], in the store's order."""
        return self.take(np.arange(len(self)))

    def unaugmented(self) -> np.ndarray:
        """The feature of every example as it is, [N / views, *tap.shape], in the store's order."""
        return self.take(np.arange(0, len(self), self.views))

    def _copy_run(self, first: int, out: np.ndarray) -> None:
        done = 0
        while done < len(out):
            (shard,), (at,) = self.records.locate(np.array([first + done]))
            part = self.columns[shard][at : at + len(out) - done]
            out[done : done + len(part)] = part
            done += len(part)
