"""headstart probe: feature stores in, a linear probe for each of their taps, and a table that says which one transfers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headstart.commands.outcome import Outcome, read_result
from headstart.commands.runner import run_command
from headstart.features.formatting import human_bytes
from headstart.training.probing.probe_config import ProbeConfig

if TYPE_CHECKING:
    from headstart.training.probing.probe import ProbeResult, TapProbe
    from headstart.training.scoring.comparisons import PairedDifference


MEASURES = {"accuracy": "accuracy", "mean average precision": "average precision"}  # at the head of a column


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status."""
    return run_command("headstart probe", ProbeConfig, argv, _probe, _check_names)


def _check_names(config: ProbeConfig) -> None:
    from headstart.features.store.feature_store import FeatureStore
    from headstart.training.probing.probe import check_output_folder

    check_output_folder(config.run)
    for store in config.stores:
        FeatureStore.open(store)


def _probe(config: ProbeConfig) -> Outcome:
    from headstart.training.probing.probe import RESULT, probe

    result = probe(config)
    return Outcome(describe(config, result), read_result(config.run, RESULT))


def describe(config: ProbeConfig, result: ProbeResult) -> str:
    """The table and the advice, for a terminal."""
    from headstart.training.evaluation.report import ends
    from headstart.training.pages.page import REPORT
    from headstart.training.probing.probe import PLOT, RESULT, TABLE

    width = max(len(found.tap) for found in result.probes)
    where = (
        max(len(name) for name in ("store", *(found.store for found in result.probes))) + 1 if len(config.stores) > 1 else 0
    )
    lines = [
        f"validation {result.measure} of linear probes, used for selection; 95% intervals in brackets, those against the best "
        "for all of them together"
    ]
    place = "store" if where else ""
    head = f"  {'tap':<{width}} {place:<{where}}depth  {MEASURES[result.measure]:<20} {'against the best, points':<24}"
    lines.append(f"{head} {'features':>8} {'an image':>9}")
    for found, against in zip(result.probes, result.against_best):
        place = found.store if where else ""
        accuracy = f"{found.accuracy:6.1%} {ends(found.low, found.high)}"
        row = f"  {found.tap:<{width}} {place:<{where}}{found.depth:>5.0%}  {accuracy:<20} "
        row += f"{_against(found, result.probes[0], against):<24} {found.features:>8,} {human_bytes(found.bytes_per_image):>9}"
        lines.append(row)
    return "\n".join(
        [*lines, f"Advice: {result.advice}", f"{config.run}: {REPORT}, {TABLE}, {RESULT}, {PLOT} ({result.seconds:.1f} s)"]
    )


def _against(found: TapProbe, best: TapProbe, against: PairedDifference) -> str:
    if found is best:
        return "the best"
    if not against.significant:
        return "no difference seen"
    return f"{100 * against.difference:.1f} [{100 * against.low:.1f}, {100 * against.high:.1f}]"
