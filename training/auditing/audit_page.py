"""What may be wrong with a dataset, as a page: an audit's result in, report.html out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from headstart.features import files
from headstart.features.store.feature_store import FeatureStore
from headstart.training.auditing.audit_config import AuditConfig
from headstart.training.auditing.findings import Finding
from headstart.training.pages.again import again, command
from headstart.training.pages.album import Album
from headstart.training.pages.dataset import counts, network_facts
from headstart.training.pages.elements import facts, html, note, paragraph, percent, result, section, table
from headstart.training.pages.gallery import strips_gallery
from headstart.training.pages.page import REPORT, page

if TYPE_CHECKING:
    from headstart.training.auditing.audit import Audit

Pixels = Callable[[int], np.ndarray | None]
HOW = "At stake: the largest share of the score that it may account for; findings are ranked by it."


def write_page(folder: str, config: AuditConfig, found: Audit, store: FeatureStore, pixels: Pixels) -> None:
    """Writes the page.

    Args:
        folder: where it goes.
        config: what was asked for.
        found: what came out.
        store: that was audited.
        pixels: gives an image, uint8 [H, W, 3], by its number; None where it is not at hand.
    """
    album, ranked = Album(), [each for each in found.findings if each.count]
    sections = [
        result(_sentence(found, ranked), _caveats(found), [_overview(ranked), note(HOW)] if ranked else []),
        *(_finding(each, pixels, album, bool(found.at_hand)) for each in ranked),
        section("data", "What was audited", _data(found, store)),
        again([command("audit", AuditConfig, vars(config))]),
    ]
    files.write_bytes(os.path.join(folder, REPORT), page("Audit of a dataset", store.manifest.provenance.input, sections))


def _sentence(found: Audit, ranked: Sequence[Finding]) -> Markup:
    if not ranked:
        return html("<strong>Nothing was found</strong> in {} images.", f"{found.images:,}")
    kinds = f"{len(ranked)} of {len(found.findings)}"
    start = html("<strong>{} kinds of faults</strong> were found in {} images.", kinds, f"{found.images:,}")
    return html("{} What may matter most: {}", start, _sentence_of(ranked[0]))


def _sentence_of(finding: Finding) -> str:
    return finding.words if finding.words.endswith((".", "?")) else f"{finding.words}."


def _caveats(found: Audit) -> list[str]:
    """What the findings must not be read without."""
    said = [f"Compared at {found.tap}. A finding is a reason to look, no verdict."]
    if found.held_out:
        said.append(f"The labels of {found.held_out} were compared with what the other splits say, and chose nothing.")
    if found.at_hand < found.images:
        said.append(
            f"{found.images - found.at_hand:,} images are not at hand as extracted, and are left out of what needs pixels."
        )
    if clean := [_titled(each) for each in found.findings if not each.count]:
        said.append(f"Nothing was found of: {', '.join(clean).lower()}.")
    return said


def _titled(finding: Finding) -> str:
    return finding.kind.replace("_", " ").capitalize()


def _overview(ranked: Sequence[Finding]) -> Markup:
    rows = [
        (html('<a href="#{}">{}</a>', each.kind, _titled(each)), f"{each.count:,}", percent(each.at_stake)) for each in ranked
    ]
    return table("What was found, what may matter most first", ("finding", "count", "at stake"), rows)


def _finding(finding: Finding, pixels: Pixels, album: Album, at_hand: bool) -> Markup:
    where = [f"{finding.kind}.csv"] if finding.rows else []
    parts = [paragraph("{}", _sentence_of(finding))]
    if finding.strips and at_hand:
        parts.append(strips_gallery(finding.strips, pixels, album))
        where.append(f"{finding.kind}.png")
    if where:
        parts.append(note("All of it, beside this page: {}.", " and ".join(where)))
    return section(finding.kind, _titled(finding), parts)


def _data(found: Audit, store: FeatureStore) -> list[Markup]:
    rows = {"Store": store.path, "Tap": found.tap, **network_facts(store.spec), "Data": store.manifest.provenance.input}
    return [facts(rows), counts(store.dataset_table, store.class_names)]
