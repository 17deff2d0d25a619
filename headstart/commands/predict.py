"""headstart predict: a run and images in; a row for every image out, or a table in parts by a Beam job."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from headstart.commands.beam_flags import BeamFlags
from headstart.commands.outcome import Outcome
from headstart.commands.runner import never, run_command
from headstart.features.formatting import counted
from headstart.features.places import place
from headstart.features.runtime import limit_intra_op_threads
from headstart.training.predicting.predict_config import PredictConfig

PROG = "headstart predict"


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status: 1 when an image failed."""
    return run_command(PROG, PredictConfig, argv, _predict, _prepare, never, beam_flags=BeamFlags())


def _prepare(config: PredictConfig) -> None:
    from headstart.training.runs.run_folder import Run
    from headstart.training.tasks.checks import check_prediction

    check_prediction(config, Run.open(config.run).label_delimiter)
    limit_intra_op_threads()


def _predict(config: PredictConfig) -> Outcome:
    return _in_parts(config) if config.in_parts else _in_order(config)


def _in_parts(config: PredictConfig) -> Outcome:
    from headstart.predicting.predict_files import DEAD_LETTERS, predict_files

    found = predict_files(config)
    text = _told(config, found.images, found.failed)
    if found.failed:
        text += f"; {counted(found.failed, 'dead letter')}, each with its reason in {place.join(config.output, DEAD_LETTERS)}"
    return Outcome(text, found, 1 if found.failed else 0)


def _in_order(config: PredictConfig) -> Outcome:
    from headstart.training.predicting.predict import write_rows
    from headstart.training.predicting.review import LIST, SHEET

    total, failed, rows = write_rows(config)
    if config.review:
        beside = [os.path.join(os.path.dirname(config.output), name) for name in (LIST, SHEET)]
        print(f"{PROG}: to label next: {beside[0]}, {beside[1]}", file=sys.stderr)
    if failed:
        print(f"{PROG}: {failed:,} of {total:,} failed, each with its reason in `error`", file=sys.stderr)
    value = {"output": config.output, "images": total, "failed": failed} if config.output else rows
    return Outcome(_told(config, total, failed) if config.output else "", value, 1 if failed else 0)


def _told(config: PredictConfig, images: int, failed: int) -> str:
    return f"{config.output}: {images - failed:,} of {counted(images, 'image')} predicted"
