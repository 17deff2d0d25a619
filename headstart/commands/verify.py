"""headstart verify: every byte of a store read and compared with what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headstart.commands.outcome import Outcome
from headstart.commands.runner import run_command
from headstart.features.config import check_fields, flag, positional
from headstart.features.formatting import counted


@dataclass(frozen=True)
class VerifyConfig:
    """Reads every byte of a feature store and checks every digest and count."""

    store: str = positional("the folder of a feature store", metavar="STORE")
    unsafe: bool = flag(False, "run Python code that the store's backbone brings along in Lambda layers")

    def __post_init__(self) -> None:
        check_fields(self)


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status: 1, and a line for each fault, when something does not hold."""
    return run_command("headstart verify", VerifyConfig, argv, _verify, _check_name)


def _check_name(config: VerifyConfig) -> None:
    from headstart.features.store.verify import faults

    faults(config.store)  # refuses what is no store, and reads nothing yet


def _verify(config: VerifyConfig) -> Outcome:
    from headstart.features.store.manifest import read_manifest
    from headstart.features.store.verify import faults

    found = list(faults(config.store, config.unsafe))
    if found:
        return Outcome("\n".join(found), {"store": config.store, "faults": found}, status=1)
    totals = read_manifest(config.store).totals
    text = f"{config.store}: sound, {totals.stored:,} examples and {counted(totals.dead, 'dead letter')}"
    return Outcome(text, {"store": config.store, "faults": found, "totals": totals})
