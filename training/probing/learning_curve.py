"""headstart learning_curve: a store in; how the accuracy grows with images a class, and what more of them would bring, out.

Where images may have several labels, the mean average precision has the accuracy's place.

Linear probes learn from parts of the training split, the smaller ones inside the larger, and are scored on the validation
split. Each probe's regularisation is chosen inside its own images. The test split is never opened.
"""

from __future__ import annotations

import csv
import io
import math
import os
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.features import files
from headstart.features.dataset.examples import drawn_together
from headstart.features.errors import UserError
from headstart.features.places import mirror, place
from headstart.features.progress import Progress
from headstart.features.runtime import quietly
from headstart.features.shown import Shown
from headstart.features.store.feature_store import FeatureStore
from headstart.training.plots.accuracy_by_images import accuracy_by_images
from headstart.training.probing.learners import learner_of
from headstart.training.probing.learning_curve_config import LearningCurveConfig
from headstart.training.probing.power_law import REPLICATES, Curve, fit_curve, replicated
from headstart.training.probing.probe import SPLITS, read_tap
from headstart.training.scoring.bootstrap import bounded_replicates

TABLE, RESULT, PLOT = "learning_curve.csv", "learning_curve.json", "learning_curve.png"
FEWEST, LEAST = 5, 20  # images a class of the smallest part, and of the whole training split
FARTHEST = 10.0  # times the images that there are, as far as anything is said


@dataclass(frozen=True, repr=False)
class LearningCurve(Shown):
    """What came of it.

    Args:
        tap: whose features were learned from.
        measure: "accuracy", or of several labels an image "mean average precision".
        curve: errors and the law; images a class are the mean over the classes.
        accuracies: float64 [S, K], of each draw at each size, by the measure.
        more: images a class.
        gain: what they would bring, low and high, by the measure, 0..1.
        examples: images of each split.
        seconds: that it took.
    """

    tap: str
    measure: str
    curve: Curve
    accuracies: NDArray[np.float64]
    more: int
    gain: tuple[float, float, float]
    examples: dict[str, int]
    seconds: float

    def words(self) -> str:
        """The measure at each size, and what more images would bring."""
        rows = [f"{size:,.0f} a class {1 - error:.1%}" for size, error in zip(self.curve.sizes, self.curve.errors)]
        return "\n".join([self.measure, *rows, self.promise()])

    def promise(self) -> str:
        """What more images should bring, as far as that can be said."""
        value, low, high = (100 * each for each in self.gain)
        if math.isnan(low):
            told = f"of its {self.curve.groups} groups {self.curve.telling} can tell how large the error is, and 5 are needed"
            return f"validation is too small to say what more images would bring: {told}"
        found = f"{self.more:,} more a class should bring about {value:.1f} points [{low:.1f}, {high:.1f}]"
        return f"{found}: perhaps nothing" if low < 0.05 < high else found


@quietly
def learning_curve(config: LearningCurveConfig) -> LearningCurve:
    """Fits the probes and writes RUN/learning_curve.csv, learning_curve.json and learning_curve.png.

    Raises:
        UserError: for a store that is not complete, lacks a split or has too few images; or a folder with something else.
    """
    started = time.monotonic()
    store = check_names(config)
    tap = store.tap(config.tap)
    rows = {split: store.examples(split).sample(config.max_examples) for split in SPLITS}
    examples = {split: store.examples(split).take(rows[split]) for split in SPLITS}
    groups = {split: drawn_together(examples[split]) for split in SPLITS}
    (features, labels), (unseen, truth) = (read_tap(store, tap, split, rows[split].tolist()) for split in SPLITS)
    learner = learner_of(store)
    shares = part_sizes(learner.images_a_class(labels), config.sizes)
    replicates = bounded_replicates(truth.size, config.draws * len(shares), REPLICATES)
    weights = replicated(groups["validation"], config.seed, replicates)
    progress = Progress("learn", config.draws * len(shares), unit="probes")
    errors = np.zeros((config.draws, len(shares), weights.shape[1]))
    for draw in range(config.draws):
        for size, part in enumerate(learner.parts(labels, groups["train"], shares, config.seed + draw)):
            names = [groups["train"][number] for number in part.tolist()]
            fitted = learner.fit(features[part], labels[part], names, config.seed)
            errors[draw, size] = learner.errors(fitted, unseen, truth)(weights)
            progress.update(draw * len(shares) + size + 1)
    progress.close()
    sizes = [share * learner.images_a_class(labels) for share in shares]
    telling = learner.telling(fitted, unseen, truth, groups["validation"])  # of the last probe, which learned from all
    curve = fit_curve(sizes, errors, len(truth), config.seed, len(set(groups["validation"])), telling)
    more = min(config.more or round(sizes[-1]), round((FARTHEST - 1) * sizes[-1]))
    counts = {split: len(rows[split]) for split in SPLITS}
    seconds = round(time.monotonic() - started, 2)
    result = LearningCurve(tap.name, learner.measure, curve, 1 - errors[..., 0], more, curve.gain(more), counts, seconds)
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
    store.tap(config.tap)
    for split in SPLITS:
        if split not in store.splits:
            raise UserError(
                "missing-split",
                f"{store.path!r} has no {split} split, and a learning curve needs it; it has {', '.join(store.splits)}",
            )
    count, labels = min(store.count("train"), config.max_examples), store.examples("train").labels.counts()
    present, an_image = len({name for each in labels for name in each}), _labels_an_image(labels)
    if present < 2 or count * an_image < LEAST * present:
        raise UserError(
            "bad-input",
            f"{store.path!r} has {count} images of {present} classes to learn from: a learning curve needs two classes or "
            f"more, and {LEAST} images of each",
        )
    return store


def _labels_an_image(counts: dict[tuple[str, ...], int]) -> float:
    """The mean number of labels, by the number of images that have each set of them."""
    return sum(len(each) * count for each, count in counts.items()) / max(1, sum(counts.values()))


def part_sizes(images_a_class: float, count: int) -> list[float]:
    """Shares of the training images, evenly spaced in their logarithm, from 5 a class to all."""
    return [float(share) for share in np.geomspace(min(0.5, FEWEST / images_a_class), 1.0, count)]


def _save(config: LearningCurveConfig, result: LearningCurve) -> None:
    """The table, the plot and the summary into the folder."""
    folder = mirror.here(config.run)
    os.makedirs(folder, exist_ok=True)
    curve = result.curve
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    name = result.measure.replace(" ", "_")
    writer.writerow(("images_a_class", name, "fitted", "low", "high", *(f"draw_{n}" for n in range(config.draws))))
    for number, size in enumerate(curve.sizes):
        error, low, high = curve.error(size)
        draws = result.accuracies[:, number].tolist()
        ends = ["" if math.isnan(end) else 1 - end for end in (high, low)]
        writer.writerow((f"{size:g}", float(1 - curve.errors[number]), 1 - error, *ends, *draws))
    files.write_bytes(os.path.join(folder, TABLE), text.getvalue().encode())
    title = f"What more images bring, {result.tap}"
    accuracy_by_images(result.curve, result.more, os.path.join(folder, PLOT), title, result.measure)
    files.write_json(os.path.join(folder, RESULT), to_json(config, result))
    mirror.push(config.run, RESULT)


def to_json(config: LearningCurveConfig, result: LearningCurve) -> dict[str, object]:
    """What learning_curve.json holds."""
    curve, law = result.curve, result.curve.law
    ahead = curve.sizes[-1] + result.more
    return {
        "config": vars(config),
        "tap": result.tap,
        "measure": result.measure,
        "examples": result.examples,
        "seconds": result.seconds,
        "images_a_class": list(curve.sizes),
        "accuracies": (1 - curve.errors).tolist(),
        "law": {"floor": float(law.floors[0]), "scale": float(law.scales[0]), "exponent": float(law.exponents[0])},
        "more": result.more,
        "gain": _plain(result.gain),
        "error_then": _plain(curve.error(ahead)),
    }


def _plain(found: tuple[float, float, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(each) else each for name, each in zip(("value", "low", "high"), found)}
