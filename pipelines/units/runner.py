"""Beam's options in, a pipeline to run in out, and what a runner says of a failure as one line for people."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, cast

import apache_beam as beam
from apache_beam import pipeline as beam_module
from apache_beam.options import pipeline_options
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from headstart.features.errors import Code, UserError, extract_user_error
from headstart.pipelines.units.spark_runner import spark_runner

OF_CELLS = {"alter_label_if_ipython": lambda transform, value: None, "is_in_ipython": lambda: False}  # Beam's own questions
SPARK_RUNNER = "sparkrunner"
IN_PROCESS_RUNNERS = ("", "fnapirunner", "directrunner", "bundlebaseddirectrunner")


def beam_pipeline(options: Sequence[str]) -> beam.Pipeline:
    """A pipeline in this process on FnApiRunner, unless another runner is named. SparkRunner is the one of this room.

    Never plain DirectRunner: it looks for a binary to download, and behaves differently with what a pipeline contains.
    """
    parsed = pipeline_options.PipelineOptions(list(options))
    standard = parsed.view_as(pipeline_options.StandardOptions)
    name = _as_beam_reads(standard.runner or "")
    if name in IN_PROCESS_RUNNERS:
        standard.runner = None
        return _Pipeline(runner=FnApiRunner(), options=parsed)
    if name == SPARK_RUNNER:
        standard.runner = None
        return _Pipeline(runner=spark_runner(options, parsed), options=parsed)
    try:
        return _Pipeline(options=parsed)
    except (ValueError, ImportError) as error:  # no such runner, or one whose packages are not installed
        raise UserError("bad-flag", f"--runner {standard.runner}: {error}") from error


def _as_beam_reads(name: str) -> str:
    """A runner's name in lower case and with the word that may be left out at its end: Beam finds its own by either."""
    return name.lower() if not name or name.lower().endswith("runner") else f"{name.lower()}runner"


class _Pipeline(beam.Pipeline):
    """A pipeline that is nobody's cell: what a notebook's cell defines is labelled by pandas, and its files are kept."""

    def __enter__(self) -> beam.Pipeline:
        self._elsewhere = contextlib.ExitStack()
        self._elsewhere.enter_context(_of_no_cell())
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        with self._elsewhere:
            super().__exit__(*raised)


@contextlib.contextmanager
def _of_no_cell() -> Iterator[None]:
    kept = {name: getattr(beam_module, name) for name in OF_CELLS}
    vars(beam_module).update(OF_CELLS)
    try:
        yield
    finally:
        vars(beam_module).update(kept)


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
            "disk-full",
            f"the disk of {folder!r} is full: make room and run the same command again, it goes on where it stopped",
        )
    if isinstance(error, UserError):  # Beam makes it anew, with the name of its step after the first argument
        return UserError(cast(Code, error.code.partition(" [while running")[0]), text)
    told = extract_user_error(error)
    return error if told is None else UserError("worker-failed", told)
