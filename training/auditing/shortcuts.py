"""What tells the class without the picture's content: properties of files in, those that predict the class alone out.

A property is cut into bins; in each, the class that is there more than elsewhere is the guess, learned on four fifths of the
images and scored on the rest. The split that is held out takes no part. Where images may have several labels, it is whether
an image has one of them that is told, for each of them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from headstart.features.dataset.examples import Example
from headstart.features.dataset.splits import SPLIT_NAMES
from headstart.training.auditing.findings import Finding, Images, Question, Row
from headstart.training.auditing.space import Ints
from headstart.training.auditing.thumbnails import Thumbnail
from headstart.training.plots.contact_sheet import Strip, Tile
from headstart.training.scoring.folds import fold_of
from headstart.training.scoring.intervals import balanced_accuracy_interval

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
    """A property, and how well it alone answers a question: balanced accuracy with its 95% interval; guessing gets chance."""

    question: Question
    name: str
    accuracy: float
    low: float
    high: float
    chance: float

    @property
    def above_chance(self) -> float:
        """How far the interval is above it."""
        return self.low - self.chance

    @property
    def told(self) -> bool:
        """Whether that is clearly so."""
        return self.above_chance > ABOVE_CHANCE * (1 - self.chance)

    def row(self) -> Row:
        """As a table's columns."""
        own = {"class": self.question.of} if self.question.of else {}
        return {**own, "property": self.name, "balanced_accuracy": self.accuracy, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        of = f"{self.question.of} by " if self.question.of else ""
        return f"{of}{self.name} {self.accuracy:.0%} [{100 * self.low:.0f}, {100 * self.high:.0f}]"


def source_folder(example: Example, delimiter: str = "") -> str:
    """The folder that an image came from, without the parts that say its split, its class or that it has none."""
    parts, labels = os.path.dirname(example.key).split("/"), [label.lower() for label in example.labels]
    return "/".join(
        part
        for part in parts
        if part.lower() not in {*SPLIT_NAMES, delimiter} and not any(_alike(part.lower(), label) for label in labels)
    )


def _alike(part: str, label: str) -> bool:
    return part in label or label in part


def told_by(values: Sequence[float | str], labels: Ints, groups: Sequence[str], folds: Ints) -> tuple[float, float, float]:
    """How well a property tells the class: balanced accuracy with its 95% interval, 0..1.

    Args:
        values: N numbers, or N names.
        labels: int64 [N].
        groups: N names; images of one name are drawn together.
        folds: int64 [N], of which each is told by the others.
    """
    bins, right = _binned(values), np.zeros(len(labels), bool)
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
    """Properties that tell the class clearly better than chance, the best first; of several labels, whether an image has one.

    Args:
        images: N.
        thumbnails: N, None where an image is not at hand; folders need none.
        groups: N names.
        seed: of the folds.
    """
    fitted = ~images.held_out
    chosen = np.random.default_rng(seed).permutation(np.flatnonzero(fitted))[:MOST]
    folders = [source_folder(images.examples[number], images.delimiter) for number in chosen]
    columns: dict[str, tuple[Ints, list[float | str]]] = {FOLDER: (chosen, list(folders))}
    seen = [(int(number), thumbnail) for number in chosen if (thumbnail := thumbnails[number])]
    numbers = np.array([number for number, _ in seen], np.int64)
    columns |= {name: (numbers, [of(each) for _, each in seen]) for name, of in PROPERTIES.items()} if seen else {}
    questions, found = images.questions, list[Shortcut]()
    for question in questions:
        asked, folds = question.labels[chosen], np.zeros(len(fitted), np.int64)
        if len(np.unique(asked)) < 2:
            continue
        folds[chosen] = fold_of([groups[number] for number in chosen], asked, int(asked.max()) + 1, seed)
        chance = 1 / len(np.unique(question.labels[fitted]))
        for name, (rows, values) in columns.items():
            labels = question.labels[rows]
            if len(np.unique(labels)) > 1 and len(set(values)) > 1:
                shares = told_by(values, labels, [groups[number] for number in rows], folds[rows])
                found.append(Shortcut(question, name, *shares, chance))
    told = sorted((each for each in found if each.told), key=lambda each: -each.accuracy)
    strips = [strip for each in told[:SHOWN] for strip in _strips(images, each.question, each.name, *columns[each.name])]
    best = {each.question.of: each.above_chance for each in reversed(told)}  # the most accurate of each question
    figures = {f"{each.question.of}: {each.name}" if each.question.of else each.name: each[2:5] for each in found}
    return Finding(
        "shortcuts",
        len(told),
        sum(best.values()) / len(questions),
        _words(told),
        [each.row() for each in told],
        strips,
        {"chance": 0.5 if images.delimiter else chance, "properties": figures},
    )


def _words(told: Sequence[Shortcut]) -> str:
    if not told:
        return ""
    best = ", ".join(map(str, told[:SHOWN]))
    return f"the class is told without the content (balanced accuracy; guessing gets {told[0].chance:.0%}): {best}"


def _strips(images: Images, question: Question, name: str, numbers: Ints, values: Sequence[float | str]) -> list[Strip]:
    """For each of the first classes, images that have what the class usually has."""
    strips = []
    for label in np.unique(question.labels[numbers])[:CLASSES_SHOWN]:
        own = np.flatnonzero(question.labels[numbers] == label).tolist()
        mine = [values[each] for each in own]
        if isinstance(mine[0], str):
            usual = Counter(mine).most_common(1)[0][0]
            near = [each for each in own if values[each] == usual]
        else:
            usual = float(np.median(np.array(mine, np.float64)))
            near = sorted(own, key=lambda each: abs(float(values[each]) - usual))
        said = usual if isinstance(usual, str) else f"{usual:,.0f}" if usual >= 100 else f"{usual:.3g}"
        tiles = [Tile(int(numbers[each]), images.examples[numbers[each]].key) for each in near[:IN_A_STRIP]]
        strips.append(Strip(tiles, f"{question.names[label]}: {name} {said or '(none)'}"))
    return strips
