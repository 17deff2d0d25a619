"""Two runs on the same images, as a page: a comparison in, report.html beside the second run's predictions out."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from headstart.features import files
from headstart.features.places.mirror import push_files
from headstart.training.comparing.compare_config import TABLE, CompareConfig
from headstart.training.comparing.differing import Differing, Found
from headstart.training.pages.again import again, command
from headstart.training.pages.album import Album
from headstart.training.pages.elements import facts, html, note, percent, result, section, table
from headstart.training.pages.gallery import strips_gallery
from headstart.training.pages.page import REPORT, page
from headstart.training.plots.contact_sheet import MOST as MOST_IMAGES
from headstart.training.plots.contact_sheet import Strip
from headstart.training.scoring.comparisons import PairedDifference

if TYPE_CHECKING:
    from headstart.training.comparing.compare import Comparison, Part
    from headstart.training.comparing.compare_sets import Pair, SetComparison, SetPart

MOST = 100  # rows of a table
PARTS = ("images", "A", "B", "B alone right", "A alone right", "McNemar's p")


def write_comparison(config: CompareConfig, found: Comparison, differing: Differing, pictures: Found) -> None:
    """The page of two runs that give each image one label."""
    figures = table(
        "Accuracy on the same images",
        ("figure", "value", "95% interval"),
        [
            ("A", percent(found.accuracy, 2), ""),
            ("B", percent(found.other, 2), ""),
            ("B less A, points", _points(found.difference), _ends(found.difference)),
            ("B alone right, images", f"{found.better:,}", ""),
            ("A alone right, images", f"{found.worse:,}", ""),
            ("McNemar's exact p", f"{found.p:.2g}", ""),
        ],
    )
    tables = [
        table(_titled(by, parts), (by, *PARTS), [_row(part) for part in parts[:MOST]]) for by, parts in found.parts.items()
    ]
    how = "Those come first on which more images changed sides. Each p is for itself: among many, some are small by chance."
    _write(
        config,
        found.table,
        [
            result(_sentence(config, "Accuracy", found.accuracy, found.other, found.difference), (), [figures]),
            _runs(config, found),
            section("parts", "Where they part", [*tables, note(how)]),
            _differing(differing, pictures),
        ],
    )


def write_set_comparison(config: CompareConfig, found: SetComparison, differing: Differing, pictures: Found) -> None:
    """The page of two runs that give each image several labels."""
    columns = ("A", "B", "B less A, points", "95% interval")
    first = found.means[0]
    means = table("On the same images", ("figure", *columns), map(_pair_row, found.means))
    classes = table(_titled("class", found.classes), ("average precision of", *columns), map(_pair_row, found.classes[:MOST]))
    parts = [
        table(_titled(by, values), (f"mean average precision of {by}", "images", *columns), map(_set_row, values[:MOST]))
        for by, values in found.parts.items()
    ]
    sentence = _sentence(config, "Mean average precision", first.first, first.second, first.difference)
    _write(
        config,
        found.table,
        [
            result(sentence, (), [means]),
            _runs(config, found),
            section("parts", "Where they part", [classes, *parts, note("Each interval is for its row alone.")]),
            _differing(differing, pictures),
        ],
    )


def _points(gap: PairedDifference) -> str:
    """A difference in points of percent."""
    return f"{100 * gap.difference:+.2f}"


def _ends(gap: PairedDifference) -> str:
    """Its interval; '' where there is none."""
    return "" if math.isnan(gap.low) else f"[{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]"


def _sentence(config: CompareConfig, what: str, first: float, second: float, gap: PairedDifference) -> Markup:
    within = "too few groups of images for an interval" if math.isnan(gap.low) else f"95% interval {_ends(gap)[1:-1]}"
    verdict = "" if gap.significant else "; no difference was seen"
    return html(
        "{} of B is {} on {}, of A {}: <strong>{} points</strong> ({}){}.",
        what, percent(second), config.split, percent(first), _points(gap), within.replace(", ", " to "), verdict,
    )  # fmt: skip


def _runs(config: CompareConfig, found: Comparison | SetComparison) -> Markup:
    chose = f", used for selection by {found.chose}" if found.chose else ""
    rows = {"A": config.baseline, "B": config.run, "Images": f"{found.examples:,}, of {config.split}{chose}"}
    return section("runs", "What was compared", [facts(rows)])


def _titled(by: str, parts: Sequence[object]) -> str:
    return f"By {by}" + (f", the first {MOST} of {len(parts):,}" if len(parts) > MOST else "")


def _row(part: Part) -> tuple[str, ...]:
    shares = percent(part.accuracy), percent(part.other)
    return part.value or "(empty)", f"{part.count:,}", *shares, f"{part.better:,}", f"{part.worse:,}", f"{part.p:.2g}"


def _pair_row(pair: Pair) -> tuple[str, ...]:
    shares = percent(pair.first), percent(pair.second)
    return pair.name.replace("_", " "), *shares, _points(pair.difference), _ends(pair.difference)


def _set_row(part: SetPart) -> tuple[str, ...]:
    name, *rest = _pair_row(part)
    return name or "(empty)", f"{part.count:,}", *rest


def _differing(differing: Differing, pictures: Found) -> Markup:
    where = note("All {} images that the two answer differently: {}, beside this page.", f"{len(differing.rows):,}", TABLE)
    if pictures.why_not:
        return section("differing", "Answered differently", [note("Without pictures: {}.", pictures.why_not), where])
    kinds = {title: [Strip(strip.tiles) for strip in pictures.strips if strip.title == title] for title in differing.titles}
    album = Album()
    shown = [
        html("<h3>{}</h3>{}", title, strips_gallery(strips, pictures.images.get, album, MOST_IMAGES))
        for title, strips in kinds.items()
        if strips
    ]
    return section("differing", "Answered differently", [*shown, where])


def _write(config: CompareConfig, beside: str, sections: Sequence[Markup]) -> None:
    path, last = os.path.join(os.path.dirname(beside), REPORT), again([command("compare", CompareConfig, vars(config))])
    files.write_bytes(path, page("Two runs on the same images", f"{config.run} against {config.baseline}", [*sections, last]))
    push_files(path)
