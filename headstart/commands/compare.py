"""headstart compare: two runs on the same images, for people and for CI."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headstart.commands.outcome import Outcome
from headstart.commands.runner import run_command
from headstart.features.formatting import printable
from headstart.training.evaluation.compare_config import CompareConfig

if TYPE_CHECKING:
    from headstart.training.evaluation.compare import Comparison, Part

MAX_ROWS = 20  # classes, or values of a column, on which the two differ most


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status: 1 when the second run is worse by more than --max_drop."""
    return run_command("headstart compare", CompareConfig, argv, _compare, _check_names, needs_tensorflow=lambda config: False)


def _check_names(config: CompareConfig) -> None:
    from headstart.training.runs.run_folder import Run

    for path in (config.baseline, config.run):
        Run.open(path)


def _compare(config: CompareConfig) -> Outcome:
    from headstart.training.evaluation.compare import compare

    found = compare(config)
    lines = [describe(config, found)]
    if dropped := config.max_drop is not None and found.drop > config.max_drop + 1e-12:
        lines.append(f"{config.metric} is worse by {found.drop:.4f}, more than --max_drop {config.max_drop:g} allows")
    return Outcome("\n".join(lines), found, int(dropped))


def describe(config: CompareConfig, found: Comparison) -> str:
    """The comparison for a terminal."""
    gap = found.difference
    interval = "too few groups for an interval"
    if not math.isnan(gap.low):
        seen = "" if gap.significant else ": no difference was seen"
        interval = f"[{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]{seen}"
    lines = [
        f"{config.split}: {found.examples:,} examples; B less A, 95% intervals in brackets",
        f"  A {100 * found.accuracy:.2f}%  {config.baseline}",
        f"  B {100 * found.other:.2f}%  {config.run}",
        f"  difference {100 * gap.difference:+.2f} points {interval}",
        f"  B alone right on {found.better:,}, A alone on {found.worse:,} (McNemar's exact p {found.p:.2g})",
    ]
    for by, parts in found.parts.items():
        lines.append(f"  {printable(by)[:18]:<18} {'count':>6} {'A':>6} {'B':>6} {'gained':>7} {'lost':>5} {'p':>7}")
        lines += [_line(part) for part in parts[:MAX_ROWS]]
        if len(parts) > MAX_ROWS:
            lines.append(f"  and {len(parts) - MAX_ROWS} more")
    pictures = f"as pictures: {found.sheet}" if found.sheet else f"no pictures: {found.why_not}"
    return "\n".join([*lines, f"answered differently, image by image: {found.table}", pictures])


def _line(part: Part) -> str:
    return (
        f"  {printable(part.value)[:18]:<18} {part.count:>6} {100 * part.accuracy:>6.1f} {100 * part.other:>6.1f} "
        f"{part.better:>7} {part.worse:>5} {part.p:>7.2g}"
    )
