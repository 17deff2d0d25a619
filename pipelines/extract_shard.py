"""One work unit in, one shard and its marker out: read, decode, resize, backbone (batched), record.

Only reading and decoding may fail for one image, which then becomes a dead letter. Anything else fails the unit.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

import apache_beam as beam
import numpy as np
from apache_beam.metrics.metric import Metrics

from headstart.features import tfrecord
from headstart.features.dataset.dead_letter import DeadLetter
from headstart.features.engines.factory import shared_engine
from headstart.features.engines.stopwatch import Stopwatch
from headstart.features.engines.stream import ImageToRead, Unreadable, stream_features
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.features.places.cache import local_path
from headstart.features.places.claim import check_claim
from headstart.features.runtime import import_tensorflow_quietly, limit_intra_op_threads
from headstart.features.spec import FeatureSpec
from headstart.features.store import record
from headstart.features.store.manifest import ShardEntry
from headstart.pipelines.markers import (
    ShardMarker,
    load_unit,
    read_marker,
    remove_heartbeat,
    why_to_stop,
    write_heartbeat,
    write_marker,
)
from headstart.pipelines.shard_job import ShardJob
from headstart.pipelines.stored_features import StoredAt
from headstart.pipelines.work_unit import UnitExample, WorkUnit

HEARTBEAT_S, REMOTE_HEARTBEAT_S = 1.0, 10.0  # each costs an object store a request or two
MARKER_WAIT_S = 10.0  # for the marker of a shard that another worker made: it comes right after the shard

Packed = dict[str, bytes]  # tap name -> the feature's bytes
_local_path = functools.lru_cache(1024)(local_path)  # a shard's name is used once


class ExtractShard(beam.DoFn):
    """A unit's name in, and out again when its shard and its marker are written.

    The backbone is loaded once a process, and only when there is something to compute. The unit itself lies in the job's
    work folder: a pipeline whose graph held every path would be too large for some runners.
    """

    def __init__(self, job: ShardJob) -> None:
        self.job = job
        self.stored = Metrics.counter("ExtractShard", "examples_stored")
        self.dead = Metrics.counter("ExtractShard", "examples_dead")
        self.inferences = Metrics.counter("ExtractShard", "num_inferences")
        self.unit_time = Metrics.distribution("ExtractShard", "unit_milli_secs")

    def setup(self) -> None:
        if "tensorflow" not in sys.modules:  # a worker process of its own, which nobody has prepared
            limit_intra_op_threads()
            import_tensorflow_quietly()

    def process(self, shard: str) -> Iterable[str]:
        started = time.monotonic()
        marker = extract_unit(load_unit(self.job.work, shard), self.job)
        self.stored.inc(marker.shard.examples)
        self.dead.inc(len(marker.dead_letters))
        self.inferences.inc(marker.computed)
        self.unit_time.update(int((time.monotonic() - started) * 1000))
        yield shard  # what became of it is in the marker


def extract_unit(unit: WorkUnit, job: ShardJob) -> ShardMarker:
    """Writes a unit's shard, then its marker, and returns the marker. A unit that is finished is not done again.

    A shard's name is taken once. Where another worker was given the same unit and was faster, its shard counts.

    Raises:
        UserError: when more images failed than the job may lose, when the job was stopped or its claim is another's, or when
            a feature does not fit.
    """
    if marker := read_marker(job.work, unit):
        return marker
    heartbeat = _Heartbeat(job, unit)
    fresh = [ImageToRead(example.path, example.digest) for example in unit.examples if example.stored_at is None]
    engine = shared_engine(job.spec, job.backbone_source, job.engine) if fresh else None
    views = unit.views if unit.views > 1 else 0
    watch = Stopwatch()
    computed = stream_features(fresh, job.spec, engine, job.max_pixels, views, watch) if engine else iter(())
    try:
        with place.creating(place.join(job.folder, unit.shard)) as file:
            shard = _ShardWriter(file, unit, job.spec)
            for example, packed in _packed_features(unit, job.spec, computed):
                if isinstance(packed, Unreadable):
                    label = job.class_names[example.labels[0]]
                    letter = DeadLetter(example.key, example.digest, label, unit.split, packed.stage, packed.reason)
                    heartbeat.dead.append(letter)
                else:
                    with watch.of("write"):
                        shard.write(example, packed)
                heartbeat.tick(shard.examples)
            if shard.examples + len(heartbeat.dead) != len(unit.examples):
                raise AssertionError(
                    f"{unit.shard}: {shard.examples} stored + {len(heartbeat.dead)} dead is not {len(unit.examples)} planned"
                )
            check_claim(job.store, job.token)
    except FileExistsError:
        if found := _others_marker(unit, job, shard.entry):
            return found
    marker = ShardMarker(
        shard=shard.entry,
        split=unit.split,
        planned=len(unit.examples),
        computed=len(fresh) - len(heartbeat.dead),
        engine=engine.options.provenance if engine else None,
        dead_letters=tuple(heartbeat.dead),
        seconds=watch.seconds,
    )
    check_claim(job.store, job.token)
    write_marker(job.work, marker)
    remove_heartbeat(job.work, unit.shard)
    return marker


def _others_marker(unit: WorkUnit, job: ShardJob, shard: ShardEntry) -> ShardMarker | None:
    """The marker of a shard that another worker made at the same time; None when it died before, and the shard is the same.

    Raises:
        UserError: when it died before, and what it left has other bytes, as another processor makes them; the next start
            removes it.
    """
    until = time.monotonic() + MARKER_WAIT_S
    while time.monotonic() < until:
        if marker := read_marker(job.work, unit):
            return marker
        time.sleep(MARKER_WAIT_S / 100)
    if place.sha256(place.join(job.folder, unit.shard)) == shard.sha256:
        return None
    raise UserError("worker-failed", f"a worker died while it finished {unit.shard}: run the same command again to go on")


class _ShardWriter:
    """Appends the records of a unit, all of one length, to its shard's file."""

    def __init__(self, file: BinaryIO, unit: WorkUnit, spec: FeatureSpec) -> None:
        self.file, self.unit = file, unit
        identities = ((example.key, example.digest, example.labels) for example in unit.examples)
        self.length = record.common_length(record.record_lengths(spec, identities, unit.views))
        self.digest, self.bytes, self.examples = hashlib.sha256(), 0, 0

    def write(self, example: UnitExample, views: Sequence[Packed]) -> None:
        """Appends an example, a record for each view."""
        for view, features in enumerate(views):
            content = record.encode(example.key, example.digest, example.labels, features, self.length, view)
            framed = tfrecord.write_record(self.file, content)
            self.digest.update(framed)
            self.bytes += len(framed)
        self.examples += 1

    @property
    def entry(self) -> ShardEntry:
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
    return record.packed_features(content, spec.taps)


class _Heartbeat:
    """Says now and then how far a unit is; stops the unit when the job must stop."""

    def __init__(self, job: ShardJob, unit: WorkUnit) -> None:
        self.job, self.unit, self.dead = job, unit, list[DeadLetter]()
        self.last = time.monotonic()
        write_heartbeat(job.work, unit.shard, 0, ())  # somebody has begun
        self.every = REMOTE_HEARTBEAT_S if place.is_remote(job.store) else HEARTBEAT_S

    def tick(self, stored: int) -> None:
        if reason := self.job.too_many_dead(self.dead):
            raise UserError("too-many-unreadable", reason)
        if time.monotonic() - self.last < self.every:
            return
        self.last = time.monotonic()
        write_heartbeat(self.job.work, self.unit.shard, stored + len(self.dead), self.dead)
        if reason := why_to_stop(self.job.work):
            raise UserError("too-many-unreadable", reason)
