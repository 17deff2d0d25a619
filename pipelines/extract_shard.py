"""One work unit in, one shard and its marker out: read, decode, resize, backbone (batched), record."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

import numpy as np

from headstart.features import tfrecord
from headstart.features.engines.factory import shared_engine
from headstart.features.engines.stopwatch import Stopwatch
from headstart.features.engines.stream import ImageToRead, Unreadable, stream_features
from headstart.features.errors import UserError
from headstart.features.places.cache import local_path
from headstart.features.spec import FeatureSpec
from headstart.features.store import record
from headstart.features.store.manifest import ShardEntry
from headstart.pipelines.shard_job import ShardJob
from headstart.pipelines.units.markers import ShardMarker
from headstart.pipelines.units.stored_features import StoredAt
from headstart.pipelines.units.work_unit import UnitExample, WorkUnit
from headstart.pipelines.units.write_unit import UnitWork, WriteUnit, write_unit

Packed = dict[str, bytes]  # tap name -> the feature's bytes
_local_path = functools.lru_cache(1024)(local_path)  # a shard's name is used once


class ExtractShard(WriteUnit):
    """A unit's name in, and out again when its shard and its marker are written."""

    job: ShardJob

    def do(self, unit: WorkUnit) -> ShardMarker:
        """Writes the unit's shard."""
        return extract_unit(unit, self.job)


def extract_unit(unit: WorkUnit, job: ShardJob) -> ShardMarker:
    """Writes a unit's shard, then its marker, and returns the marker. A unit that is finished is not done again.

    Raises:
        UserError: as `write_unit` does, or when a feature does not fit.
    """

    def begin(watch: Stopwatch) -> UnitWork:
        fresh = [ImageToRead(example.path, example.digest) for example in unit.examples if example.stored_at is None]
        engine = shared_engine(job.spec, job.backbone_source, job.engine, job.quantized) if fresh else None
        views = unit.views if unit.views > 1 else 0
        computed = stream_features(fresh, job.spec, engine, job.max_pixels, views, watch) if engine else iter(())
        return UnitWork(
            results=_packed_features(unit, job.spec, computed),
            writer=lambda file: _ShardWriter(file, unit, job.spec),
            computed=len(fresh),
            engine=engine.options.provenance if engine else None,
        )

    return write_unit(unit, job, begin)


class CopyShard(WriteUnit):
    """The same, of a store that has it all: nothing is computed, and the keys in lost are dead letters, as they are there."""

    job: ShardJob

    def __init__(self, job: ShardJob, lost: Mapping[str, Unreadable]) -> None:
        super().__init__(job)
        self.lost = lost

    def do(self, unit: WorkUnit) -> ShardMarker:
        """Writes the unit's shard."""
        missing = [self.lost[example.key] for example in unit.examples if example.stored_at is None]
        work = UnitWork(
            results=_packed_features(unit, self.job.spec, iter(missing)),
            writer=lambda file: _ShardWriter(file, unit, self.job.spec),
            computed=len(missing),
            engine=None,
        )
        return write_unit(unit, self.job, lambda watch: work)


class _ShardWriter:
    """Appends the records of a unit, all of one length, to its shard's file."""

    def __init__(self, file: BinaryIO, unit: WorkUnit, spec: FeatureSpec) -> None:
        self.file, self.unit = file, unit
        identities = ((example.key, example.digest, example.labels) for example in unit.examples)
        self.length = record.common_length(record.record_lengths(spec, identities, unit.views))
        self.digest, self.bytes, self.examples = hashlib.sha256(), 0, 0

    def write(self, example: UnitExample, result: Sequence[Packed]) -> None:
        """Appends an example, a record for each view."""
        for view, features in enumerate(result):
            content = record.encode(example.key, example.digest, example.labels, features, self.length, view)
            framed = tfrecord.write_record(self.file, content)
            self.digest.update(framed)
            self.bytes += len(framed)
        self.examples += 1

    def finish(self) -> ShardEntry:
        """What the manifest says of the shard."""
        record_bytes, digest = tfrecord.framed_length(self.length), self.digest.hexdigest()
        return ShardEntry(self.unit.shard, self.examples, self.bytes, record_bytes, digest, self.unit.digest)


def _packed_features(
    unit: WorkUnit, spec: FeatureSpec, computed: Iterator[list[np.ndarray] | Unreadable]
) -> Iterator[tuple[UnitExample, list[Packed] | Unreadable]]:
    """Every example of a unit in its order, with its feature in each view: copied from an older shard, or computed."""
    for example in unit.examples:
        if example.stored_at:
            yield example, [_copy(example.stored_at, view, spec) for view in range(unit.views)]
            continue
        features = next(computed)
        if isinstance(features, Unreadable):
            yield example, features
        elif unit.views == 1:
            yield example, [_pack(features, spec)]
        else:
            yield example, [_pack(view, spec) for view in zip(*features)]


def _pack(features: Sequence[np.ndarray], spec: FeatureSpec) -> Packed:
    return {tap.name: record.pack(feature, tap, spec.store_dtype) for tap, feature in zip(spec.taps, features)}


def _copy(stored: StoredAt, view: int, spec: FeatureSpec) -> Packed:
    """The feature's bytes from the older shard that holds it."""
    with open(_local_path(stored.shard), "rb") as shard:
        offset = stored.offset + view * tfrecord.framed_length(stored.length)
        shard.seek(offset)
        content = shard.read(stored.length)
        if shard.read(4) != tfrecord.masked_crc(content):
            raise UserError(
                "damaged",
                f"the old shard {stored.shard!r} is damaged at byte {offset}: delete it and its store, and extract again",
            )
    return record.packed_features(content, spec.taps, spec.store_dtype)
