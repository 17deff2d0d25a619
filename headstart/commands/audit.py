"""headstart audit: what may be wrong with a dataset, for people and for CI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headstart.commands.outcome import Outcome, read_result
from headstart.commands.runner import never, run_command
from headstart.features.formatting import printable
from headstart.training.auditing.audit_config import AuditConfig

if TYPE_CHECKING:
    from headstart.training.auditing.audit import Audit


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status: 1 when something of --fail_on was found."""
    return run_command("headstart audit", AuditConfig, argv, _audit, _check_names, needs_tensorflow=never)


def _check_names(config: AuditConfig) -> None:
    from headstart.training.auditing.audit import check_names

    check_names(config)


def _audit(config: AuditConfig) -> Outcome:
    from headstart.training.auditing.audit import RESULT, audit

    result = audit(config)
    failed = [kind for kind in config.failing if result.count(kind)]
    told = f"\nfound what --fail_on names: {', '.join(failed)}" if failed else ""
    return Outcome(f"{describe(config, result)}{told}", read_result(config.output, RESULT), int(bool(failed)))


def describe(config: AuditConfig, result: Audit) -> str:
    """The findings for a terminal, what may matter most to the score first."""
    head = f"{result.images:,} images, compared at {result.tap}"
    if result.held_out:
        head += f"; the labels of {result.held_out} were compared with what the other splits say, and chose nothing"
    lines = [head]
    if result.at_hand < result.images:
        missing = "no image is" if not result.at_hand else f"{result.images - result.at_hand:,} images are not"
        why = "no hashes, sheets or shortcuts" if not result.at_hand else "left out of hashes, sheets and shortcuts"
        lines.append(f"{missing} at hand as extracted ({why}): say where with --images")
    found = [each for each in result.findings if each.count]
    lines += [f"  {each.kind:<14}{printable(each.words)}" for each in found]
    if clean := [each.kind for each in result.findings if not each.count]:
        lines.append(f"  nothing of    {', '.join(clean)}")
    return "\n".join(
        [*lines, f"{config.output}: report.html, audit.json, and a table and a sheet for each ({result.seconds:.1f} s)"]
    )
