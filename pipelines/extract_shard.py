"""One work unit in, one shard and its marker out: read, decode, resize, backbone (batched), record.

Only reading and decoding may fail for one image, which then becomes a dead letter. Anything else fails the unit.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.metrics.metric import Metrics

from headstart.features import files
from headstart.features.backbones.source import BackboneSource
from headstart.features.engines.factory import shared_engine
from headstart.features.engines.options import EngineOptions
from headstart.features.engines.stream import ImageToRead, Unreadable, stream_features
from headstart.features.errors import UserError
from headstart.features.runtime import import_tensorflow_quietly, limit_intra_op_threads
from headstart.features.spec import FeatureSpec
from headstart.features.store import record
from headstart.pipelines.work_unit import StoredAt, UnitExample, WorkUnit

STOP_FILE = "stop"
HEARTBEAT_SUFFIX = ".progress"
UNIT_SUFFIX = ".unit"
HEARTBEAT_S = 1.0


@dataclass(frozen=True)
class DeadLetter:
    """An image that can't be stored: at which stage it fell, and why."""

    key: str
    digest: str
    label: str
    split: str
    stage: str
    reason: str


@dataclass(frozen=True)
class ShardJob:
    """What all units of an extraction share; small enough to travel with each of them.

    engine is what was asked for, which each worker settles for its own machine.
    """

    spec: FeatureSpec
    backbone_source: BackboneSource
    class_names: tuple[str, ...]
    folder: str
    engine: EngineOptions
    max_pixels: int
    max_dead: int


Packed = dict[str, bytes]  # tap name -> the feature's bytes


class ExtractShard(beam.DoFn):
    """A unit's name to its manifest row. The backbone is loaded once a process, and only when there is something to compute.

    The unit itself lies in the job's folder: a pipeline whose graph held every path would be too large for some runners.
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

    def process(self, shard: str) -> Iterable[dict[str, Any]]:
        started = time.monotonic()
        row = extract_unit(load_unit(self.job.folder, shard), self.job)
        self.stored.inc(row["examples"])
        self.dead.inc(len(row["dead_letters"]))
        self.inferences.inc(row["computed"])
        self.unit_time.update(int((time.monotonic() - started) * 1000))
        yield {**row, "dead_letters": len(row["dead_letters"])}  # their names, which need not be UTF-8, are in the marker


def extract_unit(unit: WorkUnit, job: ShardJob) -> dict[str, Any]:
    """Writes a unit's shard, then its marker; returns the marker, the shard's row in the manifest.

    A unit whose marker holds is not done again, but its row is returned again: a retried bundle must not lose rows.

    Raises:
        UserError: when more images fell than the whole job may lose, when the job was stopped, or when a feature does not fit.
    """
    if is_finished(job.folder, unit) and (marker := read_marker(job.folder, unit)):
        return marker
    path = os.path.join(job.folder, unit.shard)
    beat = _Heartbeat(job, unit)
    digest, size, stored = hashlib.sha256(), 0, 0
    fresh = [ImageToRead(example.path, example.digest) for example in unit.examples if example.stored_at is None]
    engine = shared_engine(job.spec, job.backbone_source, job.engine) if fresh else None
    views = unit.views if unit.views > 1 else 0
    computed = stream_features(fresh, job.spec, engine, job.max_pixels, views) if engine else iter(())
    identities = ((example.key, example.digest, example.labels) for example in unit.examples)
    length = record.common_length(record.record_lengths(job.spec, identities, unit.views))
    with files.atomic(path) as shard:
        for example, packed in _packed_features(unit, job.spec, computed):
            if isinstance(packed, Unreadable):
                label = job.class_names[example.labels[0]]
                beat.dead.append(DeadLetter(example.key, example.digest, label, unit.split, packed.stage, packed.reason))
            else:
                for view, features in enumerate(packed):
                    content = record.encode(example.key, example.digest, example.labels, features, length, view)
                    framed = record.write_record(shard, content)
                    digest.update(framed)
                    size += len(framed)
                stored += 1
            beat.tick(stored)
    if stored + len(beat.dead) != len(unit.examples):
        raise AssertionError(f"{unit.shard}: {stored} stored + {len(beat.dead)} dead is not {len(unit.examples)} planned")
    marker = {
        "name": unit.shard,
        "split": unit.split,
        "unit": unit.digest,
        "fingerprint": unit.fingerprint,
        "examples": stored,
        "planned": len(unit.examples),
        "bytes": size,
        "record_bytes": record.framed_length(length),
        "sha256": digest.hexdigest(),
        "computed": len(fresh) - len(beat.dead),
        "engine": engine.options.provenance if engine else None,
        "dead_letters": [vars(letter) for letter in beat.dead],
    }
    files.write_json(path + ".json", marker)
    beat.close()
    return marker


def save_unit(folder: str, unit: WorkUnit) -> None:
    """Leaves a unit where `load_unit` finds it."""
    with open(os.path.join(folder, unit.shard + UNIT_SUFFIX), "w", encoding="ascii") as file:
        json.dump(unit.to_json(), file)


def load_unit(folder: str, shard: str) -> WorkUnit:
    """Reads what `save_unit` left."""
    return WorkUnit.from_json(files.read_json(os.path.join(folder, shard + UNIT_SUFFIX)))


def read_marker(folder: str, unit: WorkUnit) -> dict[str, Any] | None:
    """The marker of a unit that is done, or None."""
    path = os.path.join(folder, unit.shard)
    try:
        marker = files.read_json(path + ".json")
        whole = os.path.getsize(path) == marker["bytes"]
        return marker if whole and marker["unit"] == unit.digest else None
    except (OSError, ValueError, KeyError, TypeError):  # not there, or not a marker
        return None


def is_finished(folder: str, unit: WorkUnit) -> bool:
    """Whether a unit is done, and would not do better now: what could not be read may be there again."""
    marker = read_marker(folder, unit)
    return marker is not None and not any(letter["stage"] == "read" for letter in marker["dead_letters"])


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


def _copy(place: StoredAt, view: int, spec: FeatureSpec) -> Packed:
    """The feature's bytes from the older shard that holds it."""
    with open(place.shard, "rb") as shard:
        offset = place.offset + view * record.framed_length(place.length)
        shard.seek(offset)
        content = shard.read(place.length)
        if shard.read(4) != record.masked_crc(content):
            raise UserError(
                f"the old shard {place.shard!r} is damaged at byte {offset}: delete it and its store, and extract again"
            )
    return record.packed_features(content, spec.taps)


class _Heartbeat:
    """Says on disk, once a second, how far a unit is; stops the unit when the job must stop."""

    def __init__(self, job: ShardJob, unit: WorkUnit) -> None:
        self.job, self.dead = job, list[DeadLetter]()
        self.path = os.path.join(job.folder, unit.shard + HEARTBEAT_SUFFIX)
        self.last = time.monotonic()

    def tick(self, stored: int) -> None:
        if len(self.dead) > self.job.max_dead:
            raise UserError(too_many_dead([vars(letter) for letter in self.dead], self.job.max_dead))
        if time.monotonic() - self.last < HEARTBEAT_S:
            return
        self.last = time.monotonic()
        with open(self.path, "w", encoding="utf-8") as file:  # only for eyes: no need to be whole
            json.dump({"done": stored + len(self.dead), "letters": [vars(letter) for letter in self.dead]}, file)
        stop = os.path.join(self.job.folder, STOP_FILE)
        if os.path.exists(stop):
            with open(stop, encoding="utf-8", errors="surrogateescape") as file:
                raise UserError(file.read())

    def close(self) -> None:
        if os.path.exists(self.path):
            os.remove(self.path)


def too_many_dead(letters: Sequence[dict[str, str]], limit: int) -> str:
    """What to say when more images fell than may."""
    first = "; ".join(f"{letter['key']} ({letter['stage']}: {letter['reason']})" for letter in letters[:3])
    return (
        f"{len(letters)} images can't be read, more than the {limit} that --max_bad_fraction allows. The first: {first}. "
        f"Mend or remove them, or raise --max_bad_fraction; what is done so far is kept"
    )
