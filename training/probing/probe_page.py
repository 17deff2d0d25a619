"""Which tap transfers, as a page: a probe's result in, report.html out."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from headstart.features import files
from headstart.features.formatting import human_bytes
from headstart.features.store.feature_store import FeatureStore
from headstart.training.pages.again import again, command
from headstart.training.pages.charts import chart
from headstart.training.pages.dataset import counts, network_facts
from headstart.training.pages.elements import facts, html, interval, note, percent, result, section, table
from headstart.training.pages.page import REPORT, page
from headstart.training.probing.probe_config import ProbeConfig
from headstart.training.scoring.comparisons import PairedDifference

if TYPE_CHECKING:
    from headstart.training.probing.probe import ProbeResult, TapProbe

COLUMNS = ("interval", "against the best, points", "interval for all", "features", "an image")
HOW = (
    "The interval beside a tap is its own; of differences from the best, the intervals hold for all taps together, because "
    "the best was chosen by the same images. Where one leaves out zero, the tap is worse."
)


def write_page(
    folder: str,
    config: ProbeConfig,
    found: ProbeResult,
    stores: Sequence[FeatureStore],
    examples: Mapping[str, int],
    draw: Callable[[str], object],
) -> None:
    """Writes the page.

    Args:
        folder: where it goes.
        config: what was asked for.
        found: the probes, the best first.
        stores: that were probed.
        examples: split to how many of its images were used.
        draw: draws the plot into a file of the path that it is given.
    """
    advice, semicolon, more = (found.advice[0].upper() + found.advice[1:]).partition(";")
    caveats = [
        f"By {found.measure} on validation, which chose the tap: that of the best one flatters it. No test split was opened.",
        f"Learned from {examples['train']:,} images of train, measured on {examples['validation']:,} of validation.",
    ]
    depth = chart(draw, "depth-chart", f"Validation {found.measure} by depth; the numbers are in the table")
    sections = [
        result(html("<strong>{}</strong>{}{}", advice, semicolon, more), caveats),
        section("taps", "Tap by tap", [_taps(found, several=len(stores) > 1), note(HOW)]),
        section("depth", f"{found.measure.capitalize()} by depth", [depth]),
        section("data", "What was probed", [part for store in stores for part in _store(store, several=len(stores) > 1)]),
        again([command("probe", ProbeConfig, vars(config))]),
    ]
    files.write_bytes(os.path.join(folder, REPORT), page("Linear probes", "Which tap to take", sections))


def _taps(found: ProbeResult, several: bool) -> Markup:
    columns = ("tap", *(["store"] if several else []), "depth", found.measure, *COLUMNS)
    rows = [
        (
            each.tap,
            *([each.store] if several else []),
            f"{each.depth:.0%}",
            percent(each.accuracy),
            interval(each.low, each.high),
            *_against(each, found.probes[0], against),
            f"{each.features:,}",
            human_bytes(each.bytes_per_image),
        )
        for each, against in zip(found.probes, found.against_best)
    ]
    return table("The best first", columns, rows)


def _against(found: TapProbe, best: TapProbe, against: PairedDifference) -> tuple[str, str]:
    if found is best:
        return "the best", ""
    seen = "" if math.isnan(against.low) else f"[{100 * against.low:+.1f}, {100 * against.high:+.1f}]"
    return f"{100 * against.difference:+.1f}", seen


def _store(store: FeatureStore, several: bool) -> list[Markup]:
    """What a store holds; of several, under its name."""
    named = [html("<h3>{}</h3>", store.path)] if several else []
    rows = {"Store": store.path, **network_facts(store.spec), "Data": store.manifest.provenance.input}
    return [*named, facts(rows), counts(store.dataset_table, store.class_names)]
