"""A split's records by number, straight from its memory-mapped shards: no parsing, no reading of what is not asked for.

All records of a shard have one length, and a tap's bytes lie at one place in each of them, so that a feature is found by
multiplication. The shards stay ordinary TFRecord files of tf.train.Example.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from features import record
from features.errors import UserError
from features.spec import FeatureSpec, Tap


class Shard(NamedTuple):
    """A shard's file, its number of examples, and the bytes that each takes in it."""

    path: str
    examples: int
    record_bytes: int


class Records:
    """The records of a split, in the store's order. Each is compared with its checksum when it is first read."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = [shard for shard in shards if shard.examples]
        self.starts = np.array([0, *itertools.accumulate(shard.examples for shard in self.shards)])
        self.maps = [np.memmap(shard.path, np.uint8, "r").reshape(-1, shard.record_bytes) for shard in self.shards]
        self.sound = np.zeros(len(self), bool)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def place(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
        (shard,), (at,) = self.place(np.array([row]))
        return record.unframed(self.maps[shard][at].tobytes())

    def check(self, rows: np.ndarray) -> None:
        """Compares records that were not read before with their checksums.

        Raises:
            UserError: naming the shard, at the first that does not hold.
        """
        fresh = rows[~self.sound[rows]]
        for shard, at in zip(*(places.tolist() for places in self.place(fresh))):
            if not record.is_sound(self.maps[shard][at].tobytes()):
                path = self.shards[shard].path
                raise UserError(
                    f"the shard {path!r} is damaged in its record {at}: delete the store and extract again; "
                    f"`headstart verify` lists every fault"
                )
        self.sound[fresh] = True


class Features:
    """One tap's features of a split: `take` gives any of them, from any thread."""

    def __init__(self, records: Records, spec: FeatureSpec, tap: Tap) -> None:
        self.records, self.shape, self.dtype = records, tap.shape, record.numpy_dtype(spec.store_dtype)
        self.size = tap.size * self.dtype.itemsize  # bytes
        self.columns = [
            mapped[:, start : start + self.size]  # [examples, bytes]
            for mapped, start in zip(records.maps, (self._start(spec, tap, shard) for shard in records.shards))
        ]
        self.buffers = Buffers()

    @staticmethod
    def _start(spec: FeatureSpec, tap: Tap, shard: Shard) -> int:
        return record.tap_offsets(spec.taps, spec.store_dtype, record.unframed_length(shard.record_bytes))[tap.name]

    def __len__(self) -> int:
        return len(self.records)

    def take(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The features of some rows, [len(rows), *tap.shape] in the store's dtype.

        Args:
            rows: int64 [B], any order; a run of neighbours is copied whole.
            out: where to put them; memory that is used again once nobody holds it, when not given.

        Raises:
            UserError: when a record is damaged.
        """
        self.records.check(rows)
        memory = self.buffers.free(len(rows) * self.size) if out is None else out.reshape(-1).view(np.uint8)
        to = memory.reshape(len(rows), self.size)
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
            self._copy_run(int(rows[0]), to)
        else:
            for row, shard, at in zip(to, *(places.tolist() for places in self.records.place(rows))):
                row[:] = self.columns[shard][at]
        return memory.view(self.dtype).reshape(len(rows), *self.shape)

    def _copy_run(self, first: int, out: np.ndarray) -> None:
        done = 0
        while done < len(out):
            (shard,), (at,) = self.records.place(np.array([first + done]))
            part = self.columns[shard][at : at + len(out) - done]
            out[done : done + len(part)] = part
            done += len(part)


class Buffers:
    """Memory that is used again when nobody holds it any more: fresh pages cost more than copying into them."""

    KEPT = 16

    def __init__(self) -> None:
        self.kept: list[np.ndarray] = []
        self.lock = threading.Lock()

    def free(self, size: int) -> np.ndarray:
        """uint8 [size], its content left over from before."""
        with self.lock:
            for number in range(len(self.kept)):
                if self.kept[number].nbytes == size and sys.getrefcount(self.kept[number]) == 2:  # the list's, and the call's
                    return self.kept[number]
            buffer = np.empty(size, np.uint8)
            self.kept = [*self.kept[-self.KEPT + 1 :], buffer]
            return buffer
