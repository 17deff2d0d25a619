"""Section: the images as points, near each other where the network finds them alike, each with its picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from headstart.features.errors import UserError
from headstart.training.pages.album import Album
from headstart.training.pages.charts import svg
from headstart.training.pages.elements import html, joined, note, percent, section
from headstart.training.plots.feature_map import MAX_SERIES, feature_map
from headstart.training.predicting.pictures import Pictures
from headstart.training.reporting.evaluated import Evaluated
from headstart.training.reporting.feature_places import FEWEST, features_of, places

if TYPE_CHECKING:
    import keras

MOST = 500  # points
SIDE, QUALITY = 64, 60  # of their pictures
TITLE = "A map of the features"
OTHERS = "other classes"


def map_section(evaluated: Evaluated, pictures: Pictures, model: keras.Model, album: Album) -> Markup:
    """A point for each of up to 500 images."""
    rows = evaluated.drawn(range(len(evaluated.keys)), MOST)
    try:
        features = features_of(evaluated, pictures, model, rows)
    except UserError as error:
        return section("map", TITLE, [note("Not drawn: {}.", str(error))])
    if len(features) < FEWEST:
        return section("map", TITLE, [note("Not drawn: {} images are too few.", len(features))])
    found = places(np.stack(list(features.values())), evaluated.seed)
    order = np.lexsort((found[:, 0], [evaluated.labels[row] for row in features]))  # the way of the arrow keys
    rows, found = [list(features)[number] for number in order], found[order]
    series, names = _series(evaluated, rows)
    shares = np.empty((0, 2))

    def draw(path: str) -> None:
        nonlocal shares
        shares = feature_map(found, series, names, ~evaluated.correct[rows], path)

    drawn = svg(draw, "map-chart", f"{len(rows)} images as points, coloured by class")
    images = {} if pictures.why_not else pictures.pixels(rows)
    points = [_point(evaluated, row, share, images.get(row), album) for row, share in zip(rows, shares)]
    legend = "Images on the map: an arrow key goes to the next one"
    body = html(
        '<div class="scroll"><fieldset class="map"><legend>{}</legend>{}{}</fieldset></div>', legend, drawn, joined(points)
    )
    return section("map", TITLE, [_how_to_read(evaluated, len(rows), len(images), pictures.why_not), body])


def _how_to_read(evaluated: Evaluated, points: int, shown: int, why_not: str) -> Markup:
    all_of_them = points == len(evaluated.keys)
    which = f"All {points:,} images" if all_of_them else f"{points:,} of {len(evaluated.keys):,} images, drawn at random"
    pictured = "Point at one, tap it, or go through them with the arrow keys." if shown else f"Without pictures: {why_not}."
    return note(
        "{}: what the head was given of each, laid out in two dimensions by t-SNE. Near means alike to the network; distances "
        "between clusters, their sizes and the axes mean nothing. {}",
        which, pictured,
    )  # fmt: skip


def _series(evaluated: Evaluated, rows: Sequence[int]) -> tuple[np.ndarray, list[str]]:
    """The number of each point's series, and their names: classes, the commonest where there are more than colours."""
    truths = [int(evaluated.labels[row]) for row in rows]
    classes = sorted(set(truths))
    if len(classes) <= MAX_SERIES:
        return np.array([classes.index(truth) for truth in truths]), [evaluated.run.class_names[each] for each in classes]
    common = sorted(each for each, _ in Counter(truths).most_common(MAX_SERIES - 1))
    numbers = [common.index(truth) if truth in common else len(common) for truth in truths]
    return np.array(numbers), [*(evaluated.run.class_names[each] for each in common), OTHERS]


def _point(evaluated: Evaluated, row: int, share: np.ndarray, image: np.ndarray | None, album: Album) -> Markup:
    (truth, answer, sure), key = evaluated.answer(row), evaluated.keys[row]
    says = f"{truth}, {'rightly' if truth == answer else f'taken for {answer}'}, {percent(sure)}"
    side = f"{'left' if share[0] > 0.5 else 'right'} {'up' if share[1] > 0.5 else 'down'}"
    return html(
        '<span class="point {}" style="left:{}%;top:{}%"><input type="radio" name="map" aria-label="{}: {}">'
        '<span class="card" aria-hidden="true">{}<b>{}</b> {}</span></span>',
        side, f"{100 * share[0]:.2f}", f"{100 * share[1]:.2f}", key, says,
        Markup("") if image is None else album.picture(image, "", SIDE, QUALITY), key.rpartition("/")[2], says,
    )  # fmt: skip
