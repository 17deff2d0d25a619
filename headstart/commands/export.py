"""headstart export: a run as a file that other programs load, checked against model.keras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headstart.commands.outcome import Outcome
from headstart.commands.runner import run_command
from headstart.features.formatting import human_bytes, printable
from headstart.training.exporting.export_config import ExportConfig

if TYPE_CHECKING:
    from headstart.training.exporting.export import Exported


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status: 1 when a condition of --require is not met."""
    return run_command("headstart export", ExportConfig, argv, _export, _prepare, lambda config: not _unmet(config))


def _prepare(config: ExportConfig) -> None:
    from headstart.training.exporting.export import check_backend, check_output
    from headstart.training.exporting.formats import FORMATS
    from headstart.training.runs.run_folder import Run

    check_output(config.output)
    FORMATS[config.format].check_installed()
    check_backend()
    Run.open(config.run)  # one that is not there is told before anything heavy is loaded


def _unmet(config: ExportConfig) -> list[str]:
    from headstart.training.exporting.requirements import unmet
    from headstart.training.runs.run_folder import Run

    return unmet(Run.open(config.run), config.split, config.require)


def _export(config: ExportConfig) -> Outcome:
    if lines := _unmet(config):
        return Outcome(f"not exported: {'; '.join(lines)}", {"unmet": lines}, status=1)
    from headstart.training.exporting.export import export

    exported = export(config)
    return Outcome(describe(exported), exported)


def describe(exported: Exported) -> str:
    """The export for a terminal."""
    compared = exported.compared
    lines = [f"{printable(exported.folder)}: {exported.format}, {human_bytes(exported.bytes)}; against model.keras:"]
    lines += [f"  {what}: {found}" for what, found in compared.checked.items()]
    lines += [f"  {what}, as callers may: {found}" for what, found in compared.measured.items()]
    return "\n".join([*lines, *(f"  {note}" for note in compared.notes)])
