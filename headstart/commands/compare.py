"""headstart compare: two runs on the same images, for people and for CI."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headstart.commands.outcome import Outcome
from headstart.commands.runner import never, run_command
from headstart.features.formatting import printable
from headstart.training.comparing.compare_config import CompareConfig

if TYPE_CHECKING:
    from headstart.training.comparing.compare import Comparison, Part
    from headstart.training.comparing.compare_sets import Pair, SetComparison

MAX_ROWS = 20  # classes, or values of a column, on which the two differ most


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status: 1 when the second run is worse by more than --max_drop."""
    return run_command("headstart compare", CompareConfig, argv, _compare, _check_names, needs_tensorflow=never)


def _check_names(config: CompareConfig) -> None:
    from headstart.training.runs.run_folder import Run
    from headstart.training.tasks.checks import check_comparison

    check_comparison(config, *(Run.open(path).label_delimiter for path in (config.baseline, config.run)))


def _compare(config: CompareConfig) -> Outcome:
    from headstart.training.comparing.compare import Comparison, compare
    from headstart.training.pages.page import REPORT

    found = compare(config)
    several = not isinstance(found, Comparison)
    lines = [describe(config, found) if isinstance(found, Comparison) else describe_sets(config, found)]
    lines.append(f"as a page: {os.path.join(os.path.dirname(found.table), REPORT)}")
    dropped = config.max_drop is not None and found.drop > config.max_drop + 1e-12
    if config.metric or config.max_drop is not None:
        lines.append(_verdict(config, config.metric_of(several), found.drop, dropped))
    return Outcome("\n".join(lines), found, int(dropped))


def _verdict(config: CompareConfig, metric: str, drop: float, dropped: bool) -> str:
    """What --metric came to, and what --max_drop says of it."""
    change = f"{metric} of B is {'worse' if drop > 0 else 'better'} by {abs(drop):.4f}" if drop else f"{metric} is the same"
    if config.max_drop is None:
        return change
    return f"{change}: --max_drop {config.max_drop:g} {'is exceeded' if dropped else 'is kept'}"


def describe(config: CompareConfig, found: Comparison) -> str:
    """The comparison for a terminal."""
    gap = found.difference
    interval = "too few groups for an interval"
    if not math.isnan(gap.low):
        seen = "" if gap.significant else ": no difference was seen"
        interval = f"[{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]{seen}"
    lines = [
        f"{_split(config, found)}: {found.examples:,} examples; B less A, 95% intervals in brackets",
        f"  A {100 * found.accuracy:.2f}%  {config.baseline}{_elsewhere(config, found)}",
        f"  B {100 * found.other:.2f}%  {config.run}",
        f"  difference {100 * gap.difference:+.2f} points {interval}",
        f"  B alone right on {found.better:,}, A alone on {found.worse:,} (McNemar's exact p {found.p:.2g})",
    ]
    for by, parts in found.parts.items():
        lines.append(f"  {printable(by)[:18]:<18} {'count':>6} {'A':>6} {'B':>6} {'gained':>7} {'lost':>5} {'p':>7}")
        lines += [_line(part) for part in parts[:MAX_ROWS]]
        if len(parts) > MAX_ROWS:
            lines.append(f"  and {len(parts) - MAX_ROWS} more")
    return "\n".join([*lines, *_left(found)])


def describe_sets(config: CompareConfig, found: SetComparison) -> str:
    """The same of two runs on several labels an image."""
    lines = [
        f"{_split(config, found)}: {found.examples:,} examples; B less A, 95% intervals in brackets, each for itself",
        f"  A {config.baseline}{_elsewhere(config, found)}",
        f"  B {config.run}",
        f"  {'':<24} {'A':>6} {'B':>6}  difference, points",
        *(_pair(pair.name.replace("_", " "), pair) for pair in found.means),
        "  average precision of",
        *(_pair(printable(pair.name)[:24], pair) for pair in found.classes[:MAX_ROWS]),
    ]
    if len(found.classes) > MAX_ROWS:
        lines.append(f"  and {len(found.classes) - MAX_ROWS} more")
    for by, parts in found.parts.items():
        lines.append(f"  mean average precision by {printable(by)}")
        lines += [_pair(f"{printable(part.name)[:16]:<16} {part.count:>7,}", part) for part in parts[:MAX_ROWS]]
        if len(parts) > MAX_ROWS:
            lines.append(f"  and {len(parts) - MAX_ROWS} more")
    return "\n".join([*lines, *_left(found)])


def _left(found: Comparison | SetComparison) -> list[str]:
    """Where the images are that the two answer differently."""
    pictures = f"as pictures: {found.sheet}" if found.sheet else f"no pictures: {found.why_not}"
    return [f"answered differently, image by image: {found.table}", pictures]


def _split(config: CompareConfig, found: Comparison | SetComparison) -> str:
    """What was compared on, and what it chose."""
    return f"{config.split} (used for selection by {found.chose})" if found.chose else config.split


def _elsewhere(config: CompareConfig, found: Comparison | SetComparison) -> str:
    """Which of the first run's evaluations was taken, where it is not the one that was asked for."""
    return f", evaluated as {found.evaluation}" if found.evaluation != config.split else ""


def _pair(name: str, pair: Pair) -> str:
    gap = pair.difference
    interval = "no interval"
    if not math.isnan(gap.low):
        interval = f"[{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]{'' if gap.significant else ': no difference was seen'}"
    return f"  {name:<24} {100 * pair.first:>6.1f} {100 * pair.second:>6.1f}  {100 * gap.difference:+.2f} {interval}"


def _line(part: Part) -> str:
    return (
        f"  {printable(part.value)[:18]:<18} {part.count:>6} {100 * part.accuracy:>6.1f} {100 * part.other:>6.1f} "
        f"{part.better:>7} {part.worse:>5} {part.p:>7.2g}"
    )
