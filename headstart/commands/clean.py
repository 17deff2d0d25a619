"""headstart clean: removes what a store's manifest no longer names, once nobody reads it any more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from headstart.commands.outcome import Outcome
from headstart.commands.runner import never, run_command
from headstart.features.config import check_fields, flag, positional


@dataclass(frozen=True)
class CleanConfig:
    """Removes the generations that a store was made anew from; those who opened it before may go on reading for a while."""

    store: str = positional("the folder of a feature store", metavar="STORE")
    grace: float = flag(24.0, "hours that a generation is kept once another one took its place", metavar="HOURS", least=0)

    def __post_init__(self) -> None:
        check_fields(self)


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status."""
    return run_command("headstart clean", CleanConfig, argv, _clean, _check_name, needs_tensorflow=never)


def _check_name(config: CleanConfig) -> None:
    from headstart.features.store.feature_store import FeatureStore

    FeatureStore.open(config.store)


def _clean(config: CleanConfig) -> Outcome:
    from headstart.features.places.claim import claimed
    from headstart.features.store.generations import clean, older
    from headstart.features.store.manifest import read_manifest

    with claimed(config.store, "extraction", "STORE"):
        removed, left = clean(config.store, config.grace, time.time()), older(config.store, read_manifest(config.store))
    if removed:
        text = f"removed {len(removed)} older {_generations(len(removed))}"
    elif left:
        keeps = f"{len(left)} older {_generations(len(left))} {'is' if len(left) == 1 else 'are'} kept until"
        text = f"nothing to remove: {keeps} it is {config.grace:g} hours old; --grace 0 removes it now"
    else:
        text = "nothing to remove"
    return Outcome(f"{config.store}: {text}", {"store": config.store, "removed": removed, "kept": left})


def _generations(count: int) -> str:
    return "generation" if count == 1 else "generations"
