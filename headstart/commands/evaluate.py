"""headstart evaluate: a run and a split, or any labelled images, in; figures with intervals, plots and predictions out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headstart.commands.runner import run_command
from headstart.features.dataset.inputs import check_exists
from headstart.features.runtime import limit_intra_op_threads
from headstart.training.evaluation.evaluate_config import EvaluateConfig

if TYPE_CHECKING:
    from headstart.training.evaluation.evaluate import Evaluation


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


def describe(evaluation: Evaluation) -> str:
    """The figures for a terminal."""
    from headstart.training.evaluation import report

    text = report.summary(evaluation.scores, evaluation.split, evaluation.used_for_selection, evaluation.groups_declared)
    if evaluation.seen_in_training and not evaluation.used_for_selection:
        text += f"\nwarning: {evaluation.seen_in_training} of these contents were trained on or chosen by"
    text += f"\nplots and predictions: {evaluation.folder}"
    if evaluation.unreadable:
        first = evaluation.unreadable[0]
        text += f"\n{len(evaluation.unreadable)} images can't be read, such as {first.key} ({first.reason})"
    return text
