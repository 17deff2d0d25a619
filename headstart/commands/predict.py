"""headstart predict: a run and images in, a row for every file out, in the order given."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from headstart.commands.outcome import Outcome
from headstart.commands.runner import run_command
from headstart.features.places import place
from headstart.features.runtime import limit_intra_op_threads
from headstart.training.evaluation.predict_config import PredictConfig

PROG = "headstart predict"


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status: 1 when a file failed."""
    return run_command(PROG, PredictConfig, argv, _predict, _prepare, _names_a_path)


def _prepare(config: PredictConfig) -> None:
    from headstart.training.runs.run_folder import Run

    Run.open(config.run)
    limit_intra_op_threads()


def _names_a_path(config: PredictConfig) -> bool:
    return any(map(place.exists, config.images))  # else there is nothing to load a model for


def _predict(config: PredictConfig) -> Outcome:
    from headstart.training.evaluation.predict import write_rows
    from headstart.training.evaluation.review import LIST, SHEET

    total, failed = write_rows(config)
    if config.review:
        beside = [os.path.join(os.path.dirname(config.output), name) for name in (LIST, SHEET)]
        print(f"{PROG}: to label next: {beside[0]}, {beside[1]}", file=sys.stderr)
    if failed:
        print(f"{PROG}: {failed:,} of {total:,} failed, each with its reason in `error`", file=sys.stderr)
    return Outcome(value={"images": total, "failed": failed, "output": config.output}, status=1 if failed else 0)
