"""headstart learning_curve: a store in; how the accuracy grows with images a class, and what more of them would bring, out.

Linear probes learn from parts of the training split, the smaller ones inside the larger, and are scored on the validation
split. Each probe's regularisation is chosen inside its own images. The test split is never opened.
"""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.features import files
from headstart.features.dataset.labels import refuse_several
from headstart.features.errors import UserError
from headstart.features.places import mirror, place
from headstart.features.progress import Progress
from headstart.features.runtime import quietly
from headstart.features.shown import Shown
from headstart.features.store.feature_store import FeatureStore
from headstart.training.evaluation.plots.accuracy_by_images import accuracy_by_images
from headstart.training.probing import ridge
from headstart.training.probing.learning_curve_config import LearningCurveConfig
from headstart.training.probing.power_law import Curve, fit_curve
from headstart.training.probing.probe import SPLITS, read_tap

TABLE, RESULT, PLOT = "learning_curve.csv", "learning_curve.json", "learning_curve.png"
FEWEST, LEAST = 5, 20  # images a class of the smallest part, and of the whole training split
FARTHEST = 10.0  # times the images that there are, as far as anything is said

Ints = NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class LearningCurve(Shown):
    """What came of it.

    Args:
        tap: whose features were learned from.
        curve: errors and the law; images a class are the mean over the classes.
        accuracies: float64 [S, K], of each draw at each size.
        more: images a class.
        gain: what they would bring, low and high, in accuracy, 0..1.
        examples: images of each split.
        seconds: that it took.
    """

    tap: str
    curve: Curve
    accuracies: NDArray[np.float64]
    more: int
    gain: tuple[float, float, float]
    examples: dict[str, int]
    seconds: float

    def words(self) -> str:
        """The accuracy at each size, and what more images would bring."""
        rows = [f"{size:,.0f} a class {1 - error:.1%}" for size, error in zip(self.curve.sizes, self.curve.errors)]
        value, low, high = (100 * each for each in self.gain)
        return "\n".join([*rows, f"{self.more:,} more a class should bring about {value:.1f} points [{low:.1f}, {high:.1f}]"])


@quietly
def learning_curve(config: LearningCurveConfig) -> LearningCurve:
    """Fits the probes and writes RUN/learning_curve.csv, learning_curve.json and learning_curve.png.

    Raises:
        UserError: for a store that is not complete, lacks a split or has too few images; or a folder with something else.
    """
    started = time.monotonic()
    store = check_names(config)
    tap = store.tap(config.tap)
    rows = {split: list(range(min(store.count(split), config.max_examples))) for split in SPLITS}
    examples = {split: store.examples(split)[: len(rows[split])] for split in SPLITS}
    groups = {split: [each.group or each.digest for each in examples[split]] for split in SPLITS}
    (features, labels), (unseen, truth) = (read_tap(store, tap, split, rows[split]) for split in SPLITS)
    classes, shares = len(store.class_names), part_sizes(labels, config.sizes)
    progress = Progress("learn", config.draws * len(shares), unit="probes")
    correct = np.zeros((config.draws, len(shares), len(truth)), bool)
    for draw in range(config.draws):
        for size, part in enumerate(nested_parts(labels, groups["train"], shares, config.seed + draw)):
            names = [groups["train"][number] for number in part.tolist()]
            fitted = ridge.fit(features[part], labels[part], classes, names, config.seed)
            correct[draw, size] = fitted.predict(unseen) == truth
            progress.update(draw * len(shares) + size + 1)
    progress.close()
    present = len(np.unique(labels))
    sizes = [share * len(labels) / present for share in shares]
    curve = fit_curve(sizes, correct, groups["validation"], config.seed)
    more = min(config.more or round(sizes[-1]), round((FARTHEST - 1) * sizes[-1]))
    counts = {split: len(rows[split]) for split in SPLITS}
    seconds = round(time.monotonic() - started, 2)
    result = LearningCurve(tap.name, curve, correct.mean(2), more, curve.gain(more), counts, seconds)
    _save(config, result)
    return result


def check_names(config: LearningCurveConfig) -> FeatureStore:
    """The store, once all that a configuration names was looked at.

    Raises:
        UserError: as `learning_curve` does.
    """
    if place.names_in(config.run, "--run") - {TABLE, RESULT, PLOT, mirror.RECORD}:
        raise UserError(
            "output-taken", f"--run {config.run!r} holds something else than a learning curve: give an empty folder"
        )
    store = FeatureStore.open(config.store)
    refuse_several(store.label_delimiter, "a learning curve")
    store.tap(config.tap)
    for split in SPLITS:
        if split not in store.splits:
            raise UserError(
                "missing-split",
                f"{store.path!r} has no {split} split, and a learning curve needs it; it has {', '.join(store.splits)}",
            )
    count, present = min(store.count("train"), config.max_examples), len(store.examples("train").labels.counts())
    if present < 2 or count < LEAST * present:
        raise UserError(
            "bad-input",
            f"{store.path!r} has {count} images of {present} classes to learn from: a learning curve needs two classes or "
            f"more, and {LEAST} images of each",
        )
    return store


def part_sizes(labels: Ints, count: int) -> list[float]:
    """Shares of the training images, evenly spaced in their logarithm, from 5 a class to all."""
    present = len(np.unique(labels))
    return [float(share) for share in np.geomspace(min(0.5, FEWEST * present / len(labels)), 1.0, count)]


def nested_parts(labels: Ints, groups: Sequence[str], shares: Sequence[float], seed: int) -> list[Ints]:
    """Row numbers of parts of the training images, each inside the next: of each class its share, groups whole.

    Args:
        labels: int64 [N].
        groups: N names, put in a random order; a group that would go beyond the share is left out, but the first.
        shares: 0..1, increasing.
        seed: of the order.
    """
    _, members = np.unique(np.asarray(groups, object).astype(str), return_inverse=True)
    order = np.random.default_rng(seed).permutation(members.max() + 1)[members]  # [N], one number for each group
    ends = np.zeros(len(labels))  # the share of its class that is taken up to the end of an image's group
    for name in np.unique(labels):
        own = np.flatnonzero(labels == name)
        ranks = np.sort(order[own])
        ends[own] = np.searchsorted(ranks, order[own], "right") / len(own)
        ends[own[order[own] == ranks[0]]] = 0.0  # its first group is always there
    return [np.flatnonzero(ends <= share + 1e-9) for share in shares]


def _save(config: LearningCurveConfig, result: LearningCurve) -> None:
    """The table, the plot and the summary into the folder."""
    folder = mirror.here(config.run)
    os.makedirs(folder, exist_ok=True)
    curve = result.curve
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("images_a_class", "accuracy", "fitted", "low", "high", *(f"draw_{n}" for n in range(config.draws))))
    for number, size in enumerate(curve.sizes):
        error, low, high = curve.error(size)
        draws = result.accuracies[:, number].tolist()
        writer.writerow((f"{size:g}", float(1 - curve.errors[number]), 1 - error, 1 - high, 1 - low, *draws))
    files.write_bytes(os.path.join(folder, TABLE), text.getvalue().encode())
    accuracy_by_images(result.curve, result.more, os.path.join(folder, PLOT), f"What more images bring, {result.tap}")
    files.write_json(os.path.join(folder, RESULT), to_json(config, result))
    mirror.push(config.run, RESULT)


def to_json(config: LearningCurveConfig, result: LearningCurve) -> dict[str, object]:
    """What learning_curve.json holds."""
    curve, law = result.curve, result.curve.law
    ahead = curve.sizes[-1] + result.more
    return {
        "config": vars(config),
        "tap": result.tap,
        "examples": result.examples,
        "seconds": result.seconds,
        "images_a_class": list(curve.sizes),
        "accuracies": (1 - curve.errors).tolist(),
        "law": {"floor": float(law.floors[0]), "scale": float(law.scales[0]), "exponent": float(law.exponents[0])},
        "more": result.more,
        "gain": dict(zip(("value", "low", "high"), result.gain)),
        "error_then": dict(zip(("value", "low", "high"), curve.error(ahead))),
    }
