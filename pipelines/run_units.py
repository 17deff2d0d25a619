"""Work units in, shards out: one Beam pipeline, watched from what stands on disk, which is the same for every runner."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options import pipeline_options
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from headstart.features import files
from headstart.features.errors import UserError, extract_user_error
from headstart.features.progress import Progress
from headstart.pipelines.extract_shard import (
    HEARTBEAT_SUFFIX,
    STOP_FILE,
    DeadLetter,
    ExtractShard,
    ShardJob,
    read_marker,
    save_unit,
    too_many_dead,
)
from headstart.pipelines.work_unit import WorkUnit

IN_PROCESS_RUNNERS = (None, "FnApiRunner", "DirectRunner", "BundleBasedDirectRunner")
POLL_S = 0.5


def run_units(units: Sequence[WorkUnit], unread: Sequence[DeadLetter], job: ShardJob, options: Sequence[str]) -> None:
    """Runs every unit that is not done yet.

    Args:
        units: all of them; those whose markers hold are passed over by their workers.
        unread: dead letters from before, which count toward the most that a job may have.
        job: what the units share.
        options: Beam's pipeline options, as on a command line.

    Raises:
        UserError: when more images fell than may, the disk is full, or a worker met a mistake of the user's.
    """
    for unit in units:
        save_unit(job.folder, unit)
    with _watched(units, unread, job), beam_pipeline(options) as pipeline:
        _ = pipeline | "Units" >> beam.Create([unit.shard for unit in units]) | "ExtractShard" >> beam.ParDo(ExtractShard(job))


def beam_pipeline(options: Sequence[str]) -> beam.Pipeline:
    """A pipeline in this process on FnApiRunner, unless another runner is named.

    Never plain DirectRunner: it looks for a binary to download, and behaves differently with what a pipeline contains.
    """
    parsed = pipeline_options.PipelineOptions(list(options))
    standard = parsed.view_as(pipeline_options.StandardOptions)
    if standard.runner in IN_PROCESS_RUNNERS:
        standard.runner = None
        return beam.Pipeline(runner=FnApiRunner(), options=parsed)
    try:
        return beam.Pipeline(options=parsed)
    except (ValueError, ImportError) as error:  # no such runner, or one whose packages are not installed
        raise UserError(f"--runner {standard.runner}: {error}") from error


@contextlib.contextmanager
def _watched(units: Sequence[WorkUnit], unread: Sequence[DeadLetter], job: ShardJob) -> Iterator[None]:
    """Shows progress, and stops a job that loses too many images before it has cost all it may."""
    board, ended = _Board(units, unread, job), threading.Event()

    def watch() -> None:
        while not ended.wait(POLL_S):
            board.look()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        with translate_runner_errors(job.folder):
            try:
                yield
            finally:
                ended.set()
                watcher.join()
        board.look()
    finally:
        reason = board.stopped()
        board.clear()
        if reason:
            raise UserError(reason)


class _Board:
    """What markers and heartbeats say of a running job."""

    def __init__(self, units: Sequence[WorkUnit], unread: Sequence[DeadLetter], job: ShardJob) -> None:
        self.folder, self.max_dead = job.folder, job.max_dead
        self.waiting = {unit.shard: unit for unit in units}
        self.done, self.letters = len(unread), [vars(letter) for letter in unread]
        self.progress = Progress("extract", len(unread) + sum(len(unit.examples) for unit in units))
        self.stop_path = os.path.join(job.folder, STOP_FILE)

    def look(self) -> None:
        """Counts what is done, shows it, and asks the workers to stop when too much is lost."""
        under_way, letters, names = 0, list[dict[str, str]](), set(os.listdir(self.folder))
        for shard, unit in list(self.waiting.items()):
            beat = shard + HEARTBEAT_SUFFIX
            if f"{shard}.json" in names and (marker := read_marker(self.folder, unit)):  # and no older plan's
                del self.waiting[shard]
                self.done += marker["planned"]
                self.letters += marker["dead_letters"]
            elif beat in names and (found := _read(os.path.join(self.folder, beat))):
                under_way += found["done"]
                letters += found["letters"]
        letters = self.letters + letters
        self.progress.update(self.done + under_way, len(letters))
        if len(letters) > self.max_dead:
            files.write_bytes(self.stop_path, too_many_dead(letters, self.max_dead).encode("utf-8", "surrogateescape"))

    def stopped(self) -> str | None:
        """Why the workers were asked to stop, if they were."""
        if not os.path.exists(self.stop_path):
            return None
        with open(self.stop_path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()

    def clear(self) -> None:
        """Leaves neither a bar nor a request to stop behind."""
        self.progress.close()
        if os.path.exists(self.stop_path):
            os.remove(self.stop_path)


def _read(path: str) -> Any:
    try:
        return files.read_json(path)
    except (OSError, ValueError):  # not there, or being written
        return None


@contextlib.contextmanager
def translate_runner_errors(folder: str) -> Iterator[None]:
    """A runner hands back a traceback as text; what a person can act on is found in it and becomes one line again."""
    try:
        yield
    except Exception as error:
        raise to_user_error(error, folder) from error


def to_user_error(error: Exception, folder: str) -> Exception:
    """The error to raise in place of one that a runner raised."""
    text = str(error)
    if "No space left on device" in text or "Disk quota exceeded" in text:
        return UserError(
            f"the disk of {folder!r} is full: make room and run the same command again, it goes on where it stopped"
        )
    if (told := extract_user_error(error)) is not None:
        return UserError(told)
    return UserError(text.split("\n")[0].partition(" [while running")[0]) if isinstance(error, UserError) else error
