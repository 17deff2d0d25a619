"""headstart extract: a folder or table of images in, a feature store out."""

from __future__ import annotations

from collections.abc import Sequence

from headstart.commands.beam_flags import BeamFlags
from headstart.commands.info import summary
from headstart.commands.outcome import Outcome
from headstart.commands.runner import never, run_command
from headstart.features.runtime import limit_intra_op_threads
from headstart.pipelines.extract_config import ExtractConfig, check_names


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status."""
    return run_command("headstart extract", ExtractConfig, argv, _extract, _prepare, never, beam_flags=BeamFlags())


def _prepare(config: ExtractConfig) -> None:
    check_names(config)
    limit_intra_op_threads()


def _extract(config: ExtractConfig) -> Outcome:
    from headstart.pipelines.extract import dry_run, extract

    if config.dry_run:
        lines = dry_run(config)
        return Outcome("\n".join(lines), {"plan": lines})
    return Outcome(value=summary(extract(config)))
