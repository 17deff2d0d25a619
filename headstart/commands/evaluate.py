"""headstart evaluate: a run and a split, or any labelled images, in; figures with intervals, plots and predictions out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headstart.commands.runner import run_command
from headstart.features.dataset.sources import check_exists
from headstart.features.runtime import limit_intra_op_threads
from headstart.training.evaluation.evaluate_config import EvaluateConfig


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status."""
    return run_command("headstart evaluate", EvaluateConfig, argv, _evaluate, _prepare)


def _prepare(config: EvaluateConfig) -> None:
    from headstart.training.runs.run_folder import Run

    Run.open(config.run)
    if config.input:
        check_exists(config.input)
    limit_intra_op_threads()


def _evaluate(config: EvaluateConfig) -> None:
    from headstart.training.evaluation.evaluate import evaluate

    print(describe(evaluate(config)))


def describe(metrics: dict[str, Any]) -> str:
    """The figures for a terminal."""
    from headstart.training.evaluation import report

    text = report.summary(metrics, metrics["split"], metrics["used_for_selection"], metrics["groups_declared"])
    if metrics["seen_in_training"] and not metrics["used_for_selection"]:
        text += f"\nwarning: {metrics['seen_in_training']} of these contents were trained on or chosen by"
    text += f"\nplots and predictions: {metrics['folder']}"
    if metrics["unreadable"]:
        first = metrics["unreadable"][0]
        text += f"\n{len(metrics['unreadable'])} images can't be read, such as {first['key']} ({first['reason']})"
    return text
