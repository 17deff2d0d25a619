"""Section: the worst mistakes, and some right answers beside them, as pictures."""

from __future__ import annotations

from markupsafe import Markup

from headstart.training.pages.album import Album
from headstart.training.pages.elements import html, note, percent, section
from headstart.training.pages.gallery import figure, gallery
from headstart.training.predicting.pictures import Pictures
from headstart.training.reporting.evaluated import Evaluated

EACH = 18  # images of either kind


def examples_section(evaluated: Evaluated, pictures: Pictures, album: Album) -> Markup:
    """Two galleries; where the images are not at hand, the same in words."""
    worst, right = evaluated.worst(EACH), evaluated.right(EACH)
    images = {} if pictures.why_not else pictures.pixels([*worst, *right])
    parts = []
    if pictures.why_not:
        parts.append(note("Without pictures: {}.", pictures.why_not))
    elif gone := len(worst) + len(right) - len(images):
        parts.append(note("{} of these images are gone or have changed since the run was made, and are not shown.", gone))
    for title, rows in (("Worst mistakes", worst), ("Right, drawn at random", right)):
        entries = [_entry(evaluated, row, pictures, images, album) for row in rows]
        listed = gallery(entries) if rows else note("There are none.")
        parts.append(html("<h3>{}</h3>{}", title, listed))
    text = (
        "The worst mistakes are those of which the run was surest. Look whether they are mislabelled, or alike in something."
    )
    return section("examples", "Mistakes and right answers", [*parts, note(text)])


def _entry(evaluated: Evaluated, row: int, pictures: Pictures, images: dict, album: Album) -> Markup:
    (truth, answer, sure), key = evaluated.answer(row), evaluated.keys[row]
    picture = album.picture(images[row], f"{key}: {truth}") if row in images else Markup("")
    says = html("taken for <em>{}</em>, {}", answer, percent(sure)) if truth != answer else html("{}", percent(sure))
    caption = html('<b>{}</b> {} <span class="key" title="{}">{}</span>', truth, says, key, key.rpartition("/")[2])
    return figure(picture, caption)
