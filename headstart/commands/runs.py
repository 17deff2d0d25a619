"""headstart runs: every run below a folder in one table, dataset by dataset, the best one first."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from headstart.commands.outcome import Outcome
from headstart.commands.runner import never, run_command
from headstart.features.config import check_fields, flag, positional
from headstart.features.files import csv_bytes
from headstart.features.formatting import display_width, printable

if TYPE_CHECKING:
    from headstart.training.runs.listing import RunRow


@dataclass(frozen=True)
class RunsConfig:
    """Lists every run below a folder: backbone, tap, technique, accuracy with its interval, size, seconds."""

    folder: str = positional("a folder with runs below it", metavar="DIR")
    split: str = flag("test", "the evaluation to list: a split, or what `headstart evaluate` called it")
    csv: bool = flag(False, "as CSV")

    def __post_init__(self) -> None:
        check_fields(self)


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status."""
    return run_command("headstart runs", RunsConfig, argv, _runs, needs_tensorflow=never)


def _runs(config: RunsConfig) -> Outcome:
    from headstart.training.runs.listing import list_runs

    rows = list_runs(config.folder, config.split)
    if config.csv:
        table = csv_bytes([asdict(row) for row in rows]).decode("utf-8", "surrogateescape")
        return Outcome(table.removesuffix("\n"), rows)
    for warning in _warnings(rows):
        print(warning, file=sys.stderr)
    return Outcome(as_table(rows), rows)


def _warnings(rows: Sequence[RunRow]) -> Iterator[str]:
    """What the accuracies may not be taken for."""
    evaluated = [row for row in rows if row.accuracy is not None]
    if len({row.data for row in evaluated}) > 1:
        yield "warning: these runs are of several datasets (the column `dataset`), between which accuracies do not compare"
    if chosen := sum(bool(row.used_for_selection) for row in evaluated):
        yield f"warning: {chosen} of {len(rows)} runs were trained on this split or chosen by it, which flatters them"


def as_table(rows: Sequence[RunRow]) -> str:
    """The rows for a terminal."""
    from headstart.training.runs.listing import COLUMNS, cells

    lines = [COLUMNS, *([printable(cell) for cell in row] for row in cells(rows))]
    widths = [max(map(display_width, column)) for column in zip(*lines)]
    return "\n".join(
        "  ".join(cell + " " * (width - display_width(cell)) for cell, width in zip(line, widths)).rstrip() for line in lines
    )
