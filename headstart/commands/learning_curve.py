"""headstart learning_curve: what more images would bring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headstart.commands.outcome import Outcome, read_result
from headstart.commands.runner import run_command
from headstart.training.probing.learning_curve_config import LearningCurveConfig

if TYPE_CHECKING:
    from headstart.training.probing.learning_curve import LearningCurve


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status."""
    return run_command("headstart learning_curve", LearningCurveConfig, argv, _learning_curve, _check_names)


def _check_names(config: LearningCurveConfig) -> None:
    from headstart.training.probing.learning_curve import check_names

    check_names(config)


def _learning_curve(config: LearningCurveConfig) -> Outcome:
    from headstart.training.probing.learning_curve import RESULT, learning_curve

    result = learning_curve(config)
    return Outcome(describe(config, result), read_result(config.run, RESULT))


def describe(config: LearningCurveConfig, result: LearningCurve) -> str:
    """The curve and what it says of more images, for a terminal."""
    from headstart.training.evaluation.report import ends
    from headstart.training.probing.learning_curve import PLOT, RESULT, TABLE

    curve = result.curve
    lines = [
        f"{result.measure} on validation of linear probes at {result.tap}, learned from parts of train: the mean of "
        f"{config.draws} draws, and the law fitted to all sizes, its 95% interval in brackets",
        f"  {'':>16}   draws  fitted",
    ]
    for size, error in zip(curve.sizes, curve.errors):
        fitted, low, high = curve.error(size)
        lines.append(f"  {size:>8,.0f} a class {1 - error:7.1%} {1 - fitted:7.1%}  {ends(1 - high, 1 - low)}".rstrip())
    lines.append(result.promise())
    if config.more and config.more > result.more:
        lines.append(
            f"nothing is said of more than 10 times the images that there are: {result.more:,} more, not {config.more:,}"
        )
    return "\n".join([*lines, f"{config.run}: {TABLE}, {RESULT}, {PLOT} ({result.seconds:.1f} s)"])
