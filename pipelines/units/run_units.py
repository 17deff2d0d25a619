"""Work units in, their files out: one Beam pipeline, watched from what workers leave, which is the same for every runner."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import apache_beam as beam

from headstart.features.dataset.dead_letter import DeadLetter
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.features.progress import Progress
from headstart.pipelines.units.markers import (
    HEARTBEAT_SUFFIX,
    MARKER_SUFFIX,
    ShardMarker,
    ask_to_stop,
    read_heartbeat,
    read_marker,
    remove_stop,
    save_unit,
    why_to_stop,
)
from headstart.pipelines.units.runner import beam_pipeline, translate_runner_errors
from headstart.pipelines.units.unit_job import UnitJob
from headstart.pipelines.units.work_unit import WorkUnit
from headstart.pipelines.units.write_unit import WriteUnit

POLL_S, REMOTE_POLL_S = 0.5, 5.0
SILENCE_S = 120.0  # without a worker that has begun, from which on it is told
NOBODY = (
    f"warning: no worker has begun a unit in {SILENCE_S:.0f} s. Look at the runner's logs: do workers start, is headstart "
    f"installed there, can they reach input and output? Still waiting; Ctrl-C ends it"
)


class UnitPlan(Protocol):
    """What is known of a job before its units run.

    done are the markers of units that earlier starts finished; lost are images that are dead letters already, and settled
    counts those of which no unit decides.
    """

    @property
    def job(self) -> UnitJob: ...
    @property
    def to_do(self) -> list[WorkUnit]: ...
    @property
    def done(self) -> Mapping[str, ShardMarker]: ...
    @property
    def planned(self) -> int: ...
    @property
    def lost(self) -> Sequence[DeadLetter]: ...
    @property
    def settled(self) -> int: ...


def run_units(plan: UnitPlan, step: WriteUnit, what: str, options: Sequence[str]) -> None:
    """Runs every unit of a plan that is not done yet.

    Args:
        plan: what is lost already, and what its finished units lost, count toward the images that a job may lose.
        step: does a unit.
        what: is done, for the progress.
        options: Beam's pipeline options, as on a command line.

    Raises:
        UserError: when more images failed than may, the disk is full, or a worker met a mistake of the user's.
    """
    if not plan.to_do:
        return
    shards = [unit.shard for unit in plan.to_do]
    place.at_once(lambda unit: save_unit(plan.job.work, unit), plan.to_do, plan.job.work)
    with _watched(plan, what), beam_pipeline(options) as pipeline:
        _ = pipeline | "Units" >> beam.Create(shards) | type(step).__name__ >> beam.ParDo(step)


@contextlib.contextmanager
def _watched(plan: UnitPlan, what: str) -> Iterator[None]:
    """Shows progress, and stops a job that loses too many images before it has cost all it may."""
    board, ended = _Board(plan, what), threading.Event()
    every = REMOTE_POLL_S if place.is_remote(plan.job.store) else POLL_S

    def watch() -> None:
        while not ended.wait(every):
            board.look()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        with translate_runner_errors(plan.job.store):
            try:
                yield
            finally:
                ended.set()
                watcher.join()
        board.look()
    finally:
        if reason := board.clear():
            raise UserError("too-many-unreadable", reason)


class _Board:
    """What markers and heartbeats say of a running job."""

    def __init__(self, plan: UnitPlan, what: str) -> None:
        self.job = plan.job
        self.waiting = {unit.shard: unit for unit in plan.to_do}
        self.done = plan.settled + sum(marker.planned for marker in plan.done.values())
        self.dead_letters = [*plan.lost, *(letter for marker in plan.done.values() for letter in marker.dead_letters)]
        self.progress = Progress(what, plan.planned)
        self.silent_since: float | None = time.monotonic()  # until a worker has begun

    def look(self) -> None:
        """Counts what is done, shows it, and asks the workers to stop when too much is lost."""
        under_way, lost, names = 0, list[DeadLetter](), {entry.name for entry in place.entries(self.job.work)}
        if any(name.endswith((MARKER_SUFFIX, HEARTBEAT_SUFFIX)) for name in names):
            self.silent_since = None
        elif self.silent_since is not None and time.monotonic() - self.silent_since > SILENCE_S:
            self.silent_since = None
            print(NOBODY, file=sys.stderr, flush=True)
        for shard, unit in list(self.waiting.items()):
            if shard + MARKER_SUFFIX in names and (marker := read_marker(self.job.work, unit)):
                del self.waiting[shard]
                self.done += marker.planned
                self.dead_letters += marker.dead_letters
            elif shard + HEARTBEAT_SUFFIX in names and (heartbeat := read_heartbeat(self.job.work, shard)):
                under_way += heartbeat.done
                lost += heartbeat.dead_letters
        lost = self.dead_letters + lost
        self.progress.update(self.done + under_way, len(lost))
        if reason := self.job.too_many_dead(lost):
            ask_to_stop(self.job.work, reason)

    def clear(self) -> str:
        """Leaves neither a bar nor a request to stop behind; tells why the workers were asked to stop, '' if they were not."""
        self.progress.close()
        reason = why_to_stop(self.job.work)
        remove_stop(self.job.work)
        return reason
