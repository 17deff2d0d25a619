"""headstart compact: makes one generation of a store's several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headstart.commands.outcome import Outcome
from headstart.commands.runner import run_command
from headstart.features.config import check_fields, flag, positional


@dataclass(frozen=True)
class CompactConfig:
    """Makes one generation of the several that a store has grown by. No image is read, and no network runs."""

    store: str = positional("the folder of a feature store", metavar="STORE")
    examples_per_shard: int = flag(1024, "examples a shard, at most", least=1)

    def __post_init__(self) -> None:
        check_fields(self)


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status."""
    return run_command("headstart compact", CompactConfig, argv, _compact, _check_name)


def _check_name(config: CompactConfig) -> None:
    from headstart.features.store.feature_store import FeatureStore

    FeatureStore.open(config.store)


def _compact(config: CompactConfig) -> Outcome:
    from headstart.features.store.feature_store import FeatureStore
    from headstart.pipelines.compact import compact

    before = len(FeatureStore.open(config.store).manifest.generations)
    value = {"store": config.store, "generations_before": before}
    if before == 1:
        return Outcome(f"{config.store}: nothing to do, it has one generation", value)
    store = compact(config.store, config.examples_per_shard)
    return Outcome(f"{config.store}: one generation of {before}, {store.manifest.totals.stored:,} examples", value)
