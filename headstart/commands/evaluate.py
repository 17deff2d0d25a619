"""headstart evaluate: a run and a split, or any labelled images, in; figures with intervals, plots and predictions out."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headstart.commands.outcome import Outcome
from headstart.commands.runner import run_command
from headstart.commands.train import threshold_line
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
    from headstart.training.tasks.checks import check_evaluation

    check_evaluation(config, Run.open(config.run).label_delimiter)
    if config.input:
        check_exists(config.input)
    limit_intra_op_threads()


def _evaluate(config: EvaluateConfig) -> Outcome:
    from headstart.training.evaluation.evaluate import evaluate

    return outcome(config.run, evaluate(config))


def outcome(run: str, evaluation: Evaluation) -> Outcome:
    """An evaluation, with its page."""
    from headstart.training.reporting.report import leave_report

    name = evaluation.folder.rpartition("/")[2]
    return Outcome(describe(evaluation), evaluation, page=functools.partial(leave_report, run, name))


def describe(evaluation: Evaluation) -> str:
    """The figures for a terminal."""
    head, _, figures = evaluation.words().partition("\n")
    text = "\n".join([head, *_seen_lines(evaluation), figures])
    text += "".join(f"\n{line}" for line in _decision_lines(evaluation))
    text += "".join(f"\n{line}" for line in evaluation.lines_by())
    text += f"\nplots and predictions: {evaluation.folder}"
    if evaluation.unreadable:
        first = evaluation.unreadable[0]
        text += f"\n{len(evaluation.unreadable)} images can't be read, such as {first.key} ({first.reason})"
    return text


def _seen_lines(evaluation: Evaluation) -> list[str]:
    """How many of the images the run has learned from, and what it is worth on the others."""
    from headstart.training.evaluation.report import percent
    from headstart.training.scoring.scores import Interval

    if not evaluation.seen_in_training:
        return []
    line, others = f"  {evaluation.seen_in_training:,} of them were trained on or chose the model", evaluation.unseen
    if not others:
        return [f"{line}, which flatters it"]
    figure = Interval(*(math.nan if others[end] is None else others[end] for end in ("value", "low", "high")))
    return [f"{line}; {others['metric'].replace('_', ' ')} of the other {others['examples']:,}: {percent(figure).strip()}"]


def _decision_lines(evaluation: Evaluation) -> list[str]:
    """What the temperature and the threshold, both chosen by images that were held out, are worth here."""
    lines, before = [], evaluation.without_temperature
    if before:
        lines.append(
            f"  without its temperature of {before['temperature']:.3g}: calibration error "
            f"{100 * before['calibration_error']:.2f}%, log loss {before['log_loss']:.4f}, Brier score {before['brier']:.4f}"
        )
    if evaluation.operating_point:
        lines.append(f"  {threshold_line(evaluation.operating_point, 'achieved')} here")
    return lines
