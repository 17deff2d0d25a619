"""What tells the class without the picture's content: properties of files in, those that predict the class alone out.

A property is cut into bins; in each, the class that is there more than elsewhere is the guess, learned on four fifths of the
images and scored on the rest. The split that is held out takes no part.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from headstart.features.dataset.examples import Example
from headstart.features.dataset.splits import SPLIT_NAMES
from headstart.training.auditing.findings import Finding, Images
from headstart.training.auditing.space import Ints
from headstart.training.auditing.thumbnails import Thumbnail
from headstart.training.evaluation.folds import fold_of
from headstart.training.evaluation.intervals import balanced_accuracy_interval
from headstart.training.evaluation.plots.contact_sheet import Strip, Tile

BINS = 20
MOST = 20_000  # images, at most, that it is learned from
ABOVE_CHANCE = 0.2  # of what there is between chance and 1: less may be what the pictures show
SHOWN, IN_A_STRIP, CLASSES_SHOWN = 3, 6, 6

PROPERTIES: dict[str, Callable[[Thumbnail], float | str]] = {
    "file size": lambda thumbnail: thumbnail.size,
    "bytes a pixel": lambda thumbnail: thumbnail.size / (thumbnail.width * thumbnail.height),
    "pixels": lambda thumbnail: thumbnail.width * thumbnail.height,
    "aspect": lambda thumbnail: thumbnail.width / thumbnail.height,
    "format": lambda thumbnail: thumbnail.kind,
    "brightness": lambda thumbnail: thumbnail.brightness,
    "contrast": lambda thumbnail: thumbnail.contrast,
    "colour": lambda thumbnail: thumbnail.colour,
}
FOLDER = "source folder"


class Shortcut(NamedTuple):
    """A property, and how well it alone tells the class: balanced accuracy with its 95% interval."""

    name: str
    accuracy: float
    low: float
    high: float


def source_folder(example: Example) -> str:
    """The folder that an image came from, without the parts that say its split or its class."""
    parts, label = os.path.dirname(example.key).split("/"), example.labels[0].lower()
    return "/".join(part for part in parts if part.lower() not in SPLIT_NAMES and not _alike(part.lower(), label))


def _alike(part: str, label: str) -> bool:
    return part in label or label in part


def told_by(values: Sequence[float | str], labels: Ints, groups: Sequence[str], seed: int = 0) -> tuple[float, float, float]:
    """How well a property tells the class: balanced accuracy with its 95% interval, 0..1.

    Args:
        values: N numbers, or N names.
        labels: int64 [N].
        groups: N names; images of one name are in one fold.
        seed: of the folds.
    """
    bins, folds, right = _binned(values), fold_of(groups, seed), np.zeros(len(labels), bool)
    sizes = np.bincount(labels).astype(np.float64)
    for fold in np.unique(folds):
        own = folds == fold
        counts = np.zeros((bins.max() + 1, len(sizes)))
        np.add.at(counts, (bins[~own], labels[~own]), 1)
        shares = (counts + 1 / len(counts)) / np.maximum(sizes, 1)  # of each class's images, with a little for empty bins
        right[own] = shares.argmax(1)[bins[own]] == labels[own]
    found = [float(right[labels == name].mean()) for name in np.unique(labels)]
    return float(np.mean(found)), *balanced_accuracy_interval(labels, right, groups)


def _binned(values: Sequence[float | str]) -> Ints:
    """Numbers of bins: 20 of about as many images each, or one for each name."""
    if isinstance(values[0], str):
        return np.unique(np.array(values, object).astype(str), return_inverse=True)[1].astype(np.int64)
    numbers = np.array(values, np.float64)
    return np.searchsorted(np.unique(np.quantile(numbers, np.arange(1, BINS) / BINS)), numbers, "right").astype(np.int64)


def find_shortcuts(images: Images, thumbnails: Sequence[Thumbnail | None], groups: Sequence[str], seed: int) -> Finding:
    """Properties that tell the class clearly better than chance, the best first.

    Args:
        images: N.
        thumbnails: N, None where an image is not at hand; folders need none.
        groups: N names.
        seed: of the folds.
    """
    chosen = np.random.default_rng(seed).permutation(np.flatnonzero(~images.held_out))[:MOST]
    columns: dict[str, list[float | str]] = {FOLDER: [source_folder(images.examples[number]) for number in chosen]}
    seen = [(int(number), thumbnail) for number in chosen if (thumbnail := thumbnails[number])]
    columns |= {name: [value(thumbnail) for _, thumbnail in seen] for name, value in PROPERTIES.items()} if seen else {}
    found, sheets = list[Shortcut](), dict[str, Sequence[Strip]]()
    for name, values in columns.items():
        numbers = np.array([number for number, _ in seen]) if name in PROPERTIES else chosen
        labels = images.labels[numbers]
        if len(np.unique(labels)) > 1 and len(set(values)) > 1:
            found.append(Shortcut(name, *told_by(values, labels, [groups[number] for number in numbers], seed)))
            sheets[name] = _strips(images, name, values, numbers)
    chance = 1 / len(np.unique(images.labels[~images.held_out]))
    told = sorted((each for each in found if each.low > chance + ABOVE_CHANCE * (1 - chance)), key=lambda each: -each.accuracy)
    rows = [{"property": each.name, "balanced_accuracy": each.accuracy, "low": each.low, "high": each.high} for each in told]
    strips = [strip for each in told[:SHOWN] for strip in sheets[each.name]]
    stake = told[0].low - chance if told else 0.0
    figures = {each.name: [each.accuracy, each.low, each.high] for each in found}
    return Finding(
        "shortcuts", len(rows), stake, _words(told, chance), rows, strips, {"chance": chance, "properties": figures}
    )


def _words(told: Sequence[Shortcut], chance: float) -> str:
    each = [f"{one.name} {one.accuracy:.0%} [{100 * one.low:.0f}, {100 * one.high:.0f}]" for one in told[:SHOWN]]
    return f"the class is told without the content (balanced accuracy; guessing gets {chance:.0%}): {', '.join(each)}"


def _strips(images: Images, name: str, values: Sequence[float | str], numbers: Ints) -> list[Strip]:
    """For each of the first classes, images that have what the class usually has."""
    strips = []
    for label in np.unique(images.labels[numbers])[:CLASSES_SHOWN]:
        own = np.flatnonzero(images.labels[numbers] == label).tolist()
        mine = [values[each] for each in own]
        if isinstance(mine[0], str):
            usual = Counter(mine).most_common(1)[0][0]
            near = [each for each in own if values[each] == usual]
        else:
            usual = float(np.median(np.array(mine, np.float64)))
            near = sorted(own, key=lambda each: abs(float(values[each]) - usual))
        said = usual if isinstance(usual, str) else f"{usual:,.0f}" if usual >= 100 else f"{usual:.3g}"
        tiles = [Tile(int(numbers[each]), images.examples[numbers[each]].key) for each in near[:IN_A_STRIP]]
        strips.append(Strip(tiles, f"{images.class_names[label]}: {name} {said or '(none)'}"))
    return strips
