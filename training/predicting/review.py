"""Which images to label next: answers and features in, those that a run is unsure of and that differ from each other, out.

The least certain are kept, ten times as many as are asked for. Of these the first is the least certain one, and each next one
is as uncertain, and as far from all that were chosen, as can be: of ten like each other one is asked for.

Of one label an image, a run is unsure where its two most probable classes are near each other; of several, where many labels
may be there or not: by the mean entropy of the classes, each a yes or no.

Source: Zhdanov, "Diverse mini-batch Active Learning", https://arxiv.org/abs/1901.05954; Sener and Savarese, "Active Learning
for Convolutional Neural Networks: A Core-Set Approach", https://arxiv.org/abs/1708.00489; of several labels, the mean entropy
with diversity, as in "OMAL: A Multi-Label Active Learning Approach from Data Streams", https://doi.org/10.3390/e27040363
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from headstart.features.errors import DecodeError
from headstart.features.files import write_bytes
from headstart.features.images.decode import decode_image
from headstart.features.places import place
from headstart.training.plots.contact_sheet import Strip, Tile, draw_sheet
from headstart.training.runs.run_folder import Run

LIST, SHEET = "review.csv", "review.png"
DECODED = (256, 256)  # a large JPEG is decoded at a fraction that leaves this
KEPT = 10  # times as many as are asked for
LEAST_KEPT = 200


class Doubt(NamedTuple):
    """How unsure a run is of an image, by its probabilities, float32 [C], C at least 2.

    amount: 0..1. classes: the ids of all classes, those that the doubt is about first, [C].
    """

    amount: Callable[[np.ndarray], float]
    classes: Callable[[np.ndarray], np.ndarray]


def margin(probabilities: np.ndarray) -> float:
    """1 less the margin between the two most probable classes: 1 where they are equal, 0 where one is certain."""
    second, first = np.sort(probabilities)[-2:]
    return float(1 - (first - second))


def mean_entropy(probabilities: np.ndarray) -> float:
    """The mean over classes of the entropy of having it or not, in bits: 1 where all are 0.5, 0 where all are certain."""
    each = np.stack([probabilities, 1 - probabilities]).astype(np.float64)
    return float(-(each * np.log2(np.maximum(each, np.finfo(np.float64).tiny))).sum(0).mean())


OF_ONE = Doubt(margin, lambda probabilities: np.argsort(-probabilities, kind="stable"))
OF_SEVERAL = Doubt(mean_entropy, lambda probabilities: np.argsort(np.abs(probabilities - 0.5), kind="stable"))


class Chosen(NamedTuple):
    """An image to label: its path, the two classes that the doubt is about with their probabilities, and how large it is.

    Of one label an image these are the two most probable classes, of several the two nearest to a half.
    """

    key: str
    classes: tuple[int, int]
    probabilities: tuple[float, float]
    uncertainty: float  # 0..1


class Pool:
    """The least certain images so far: of any number of images, memory is that of 20 times those that are asked for."""

    def __init__(self, wanted: int, doubt: Doubt = OF_ONE) -> None:
        self.wanted, self.most, self.doubt = wanted, max(LEAST_KEPT, KEPT * wanted), doubt
        self.kept: list[tuple[float, str, np.ndarray, np.ndarray]] = []  # uncertainty, key, probabilities, feature

    def add(self, key: str, probabilities: np.ndarray, feature: np.ndarray) -> None:
        """Takes an image into account.

        Args:
            key: its path.
            probabilities: float32 [C], C at least 2.
            feature: float32 [D], or a feature map [H, W, D], which is averaged.
        """
        flat = feature.mean((0, 1)) if feature.ndim == 3 else feature
        self.kept.append((self.doubt.amount(probabilities), key, probabilities, flat.astype(np.float32)))
        if len(self.kept) >= 2 * self.most:
            self._prune()

    def _prune(self) -> None:
        self.kept.sort(key=lambda each: (-each[0], each[1]))
        del self.kept[self.most :]

    def chosen(self) -> list[Chosen]:
        """The images to label, the most telling first; all of them where there are no more than are asked for."""
        self._prune()
        if not self.kept:
            return []
        features = np.stack([feature for _, _, _, feature in self.kept])
        order = spread(features, np.array([each[0] for each in self.kept]), self.wanted)
        found = []
        for doubt, key, probabilities, _ in (self.kept[each] for each in order):
            first, second = self.doubt.classes(probabilities)[:2].tolist()
            pair = float(probabilities[first]), float(probabilities[second])
            found.append(Chosen(key, (first, second), pair, doubt))
        return found


def write_review(run: Run, chosen: Sequence[Chosen], folder: str) -> None:
    """Writes review.csv and review.png, the most telling image first.

    Args:
        run: that is unsure of them.
        chosen: images; where there are none, only a header is written.
        folder: '' for the current one.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("rank", "key", "class_1", "probability_1", "class_2", "probability_2", "uncertainty"))
    strips = list[Strip]()
    for rank, each in enumerate(chosen, 1):
        (first, second), (one, other) = ((run.class_names[name] for name in each.classes), each.probabilities)
        writer.writerow((rank, each.key, first, f"{one:.6g}", second, f"{other:.6g}", f"{each.uncertainty:.4f}"))
        strips.append(Strip([Tile(rank - 1, f"{first} {one:.0%}, {second} {other:.0%}\n{each.key}")]))
    write_bytes(os.path.join(folder, LIST), text.getvalue().encode("utf-8", "surrogateescape"))

    def pixels(number: int) -> np.ndarray | None:
        try:
            return decode_image(place.read(chosen[number].key), run.config["max_pixels"], DECODED, run.spec.intensity)
        except (OSError, DecodeError):
            return None

    if strips:
        draw_sheet(f"to label next: {len(strips):,}", strips, pixels, os.path.join(folder, SHEET))


def spread(features: np.ndarray, weights: np.ndarray, count: int) -> list[int]:
    """Rows that are far from each other and weigh much, greedily: the farthest point, its distance times its weight.

    Args:
        features: float32 [N, D]; their directions from the mean are compared.
        weights: [N], above 0.
        count: how many, at most N.
    """
    points = features - features.mean(0)
    points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    order, left = [int(weights.argmax())], np.ones(len(points), bool)
    distances = np.full(len(points), np.inf)
    while True:
        left[order[-1]] = False
        if len(order) == min(count, len(points)):
            return order
        distances = np.minimum(distances, np.linalg.norm(points - points[order[-1]], axis=1))
        order.append(int(np.where(left, distances * weights, -1.0).argmax()))
