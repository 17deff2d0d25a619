"""One work unit in, its file and then its marker out, whatever is computed and written of its images.

Only reading and decoding may fail for one image, which then becomes a dead letter. Anything else fails the unit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import apache_beam as beam
from apache_beam.metrics.metric import Metrics

from headstart.features.dataset.dead_letter import DeadLetter
from headstart.features.dataset.labels import in_a_cell
from headstart.features.engines.stopwatch import Stopwatch
from headstart.features.engines.stream import Unreadable
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.features.places.claim import check_claim
from headstart.features.runtime import hush, is_hushed, limit_intra_op_threads
from headstart.features.store.manifest import ShardEntry
from headstart.pipelines.units.markers import (
    ShardMarker,
    load_unit,
    read_marker,
    remove_heartbeat,
    why_to_stop,
    write_heartbeat,
    write_marker,
)
from headstart.pipelines.units.unit_job import UnitJob
from headstart.pipelines.units.work_unit import UnitExample, WorkUnit

HEARTBEAT_S, REMOTE_HEARTBEAT_S = 1.0, 10.0  # each costs an object store a request or two
MARKER_WAIT_S = 10.0  # for the marker of a file that another worker made: it comes right after the file


class UnitWriter(Protocol):
    """What writes a unit's file, an example after the other."""

    @property
    def examples(self) -> int:
        """How many were written so far."""

    def write(self, example: UnitExample, result: Any) -> None:
        """Takes the next example, and what was computed of it."""

    def finish(self) -> ShardEntry:
        """Writes what is still held; what the file is."""


@dataclass(frozen=True)
class UnitWork:
    """What a unit comes to: each example with its result, in order, as they are taken; and what writes them into a file.

    computed is how many of the examples an engine computes, engine what it is.
    """

    results: Iterator[tuple[UnitExample, Any]]
    writer: Callable[[BinaryIO], UnitWriter]
    computed: int
    engine: dict[str, Any] | None


class WriteUnit(beam.DoFn):
    """A unit's name in, and out again when its file and its marker are written.

    A network is loaded once a process, and only when there is something to compute. The unit itself lies in the job's work
    folder: a pipeline whose graph held every path would be too large for some runners. Counters have the subclass's name.
    """

    def __init__(self, job: UnitJob) -> None:
        self.job, name = job, type(self).__name__
        self.stored = Metrics.counter(name, "examples_stored")
        self.dead = Metrics.counter(name, "examples_dead")
        self.inferences = Metrics.counter(name, "num_inferences")
        self.unit_time = Metrics.distribution(name, "unit_milli_secs")

    def do(self, unit: WorkUnit) -> ShardMarker:
        """Does a unit, by `write_unit`."""
        raise NotImplementedError

    def setup(self) -> None:
        if not is_hushed():  # a worker process of its own, which nobody has prepared
            limit_intra_op_threads()
            hush()

    def process(self, shard: str) -> Iterable[str]:
        started = time.monotonic()
        marker = self.do(load_unit(self.job.work, shard))
        self.stored.inc(marker.shard.examples)
        self.dead.inc(len(marker.dead_letters))
        self.inferences.inc(marker.computed)
        self.unit_time.update(int((time.monotonic() - started) * 1000))
        yield shard  # what became of it is in the marker


def write_unit(unit: WorkUnit, job: UnitJob, begin: Callable[[Stopwatch], UnitWork]) -> ShardMarker:
    """Writes a unit's file, then its marker, and returns the marker. A unit that is finished is not done again.

    A file's name is taken once. Where another worker was given the same unit and was faster, its file counts.

    Args:
        unit: what is to be done.
        job: where, and how much may be lost.
        begin: is called when there is something to do, with what takes the time of it.

    Raises:
        UserError: when more images failed than the job may lose, or when the job was stopped or its claim is another's.
    """
    if marker := read_marker(job.work, unit):
        return marker
    heartbeat, watch = _Heartbeat(job, unit), Stopwatch()
    work = begin(watch)
    try:
        with place.creating(place.join(job.folder, unit.shard)) as file:
            writer = work.writer(file)
            for example, result in work.results:
                if isinstance(result, Unreadable):
                    label = in_a_cell([job.class_names[each] for each in example.labels], job.label_delimiter)
                    letter = DeadLetter(example.key, example.digest, label, unit.split, result.stage, result.reason)
                    heartbeat.dead.append(letter)
                else:
                    with watch.of("write"):
                        writer.write(example, result)
                heartbeat.tick(writer.examples)
            if writer.examples + len(heartbeat.dead) != len(unit.examples):
                raise AssertionError(
                    f"{unit.shard}: {writer.examples} stored + {len(heartbeat.dead)} dead is not {len(unit.examples)} planned"
                )
            entry = writer.finish()
            check_claim(job.store, job.token)
    except FileExistsError:
        if found := _others_marker(unit, job, entry):
            return found
    marker = ShardMarker(
        shard=entry,
        split=unit.split,
        planned=len(unit.examples),
        computed=work.computed - len(heartbeat.dead),
        engine=work.engine,
        dead_letters=tuple(heartbeat.dead),
        seconds=watch.seconds,
    )
    check_claim(job.store, job.token)
    write_marker(job.work, marker)
    remove_heartbeat(job.work, unit.shard)
    return marker


def _others_marker(unit: WorkUnit, job: UnitJob, shard: ShardEntry) -> ShardMarker | None:
    """The marker of a file that another worker made at the same time; None when it died before, and the file is the same.

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


class _Heartbeat:
    """Says now and then how far a unit is; stops the unit when the job must stop."""

    def __init__(self, job: UnitJob, unit: WorkUnit) -> None:
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
