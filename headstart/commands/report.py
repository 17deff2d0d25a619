"""headstart report: a run and its evaluation in, one page out."""

from __future__ import annotations

from collections.abc import Sequence

from headstart.commands.outcome import Outcome
from headstart.commands.runner import run_command
from headstart.features.runtime import limit_intra_op_threads
from headstart.training.reporting.report_config import ReportConfig


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status."""
    return run_command("headstart report", ReportConfig, argv, _report, _prepare)


def _prepare(config: ReportConfig) -> None:
    from headstart.training.predicting.predictions import Predictions
    from headstart.training.runs.run_folder import Run

    Predictions.of_run(Run.open(config.run), config.split)
    limit_intra_op_threads()


def _report(config: ReportConfig) -> Outcome:
    from headstart.training.reporting.report import report

    path = report(config)
    return Outcome(path, {"report": path})
