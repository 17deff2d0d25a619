"""After a training: a temperature into the head, and a threshold for one class, or for each of several labels.

Images that the head was not trained on decide: the validation split, or, where there is none, `out_of_fold.py`'s.

The temperature goes into the weights of the head's last dense layer, divided by it, so that the saved model is the same layers
as before and loads with Keras alone. Before another training begins with such a head, it is taken out again: what that
training makes of it is compared, epoch by epoch, with what it was before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np

from headstart.features.dataset.examples import Example, drawn_together
from headstart.training.fitting.pipeline import Source, as_it_is
from headstart.training.scoring.goals import parse_goal, positive_of
from headstart.training.scoring.operating_point import achieved, choose
from headstart.training.scoring.set_measures import mean_average_precision, value
from headstart.training.scoring.temperature import (
    figures,
    fit_sigmoid_temperature,
    fit_temperature,
    set_figures,
    sigmoid,
    softmax,
)
from headstart.training.scoring.thresholds import choose_thresholds, unchosen
from headstart.training.tasks.task import ONE, Task

SOFTENED = 16.0  # a power of two: dividing weights by it rounds nothing
SAME = 1e-3  # between two ways to a probability, in float32
NO_VALIDATION = "there is no validation split, and a fine-tuning for each fold would take too long"
NOT_ASKED = "--no_calibrate"
INTERRUPTED = "it was interrupted before"
NO_LOGITS = "the head does not end in a dense layer and a softmax"
NO_SIGMOID_LOGITS = "the head does not end in a dense layer and a sigmoid"


Batches = Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]]  # features [B, ...] and labels


class _Link(NamedTuple):
    """What calibrates the answers of a task: logits to probabilities and back, the temperature, and figures to tell by."""

    probabilities: Callable[..., np.ndarray]
    logits: Callable[[np.ndarray], np.ndarray | None]
    fit_temperature: Callable[[np.ndarray, np.ndarray, Sequence[str]], float]
    figures: Callable[[np.ndarray, np.ndarray], dict[str, float]]
    why_not: str  # where there are no logits


def _of_softmax(probabilities: np.ndarray) -> np.ndarray | None:
    """Logits, less a number for each example; None where these are no probabilities above 0."""
    if not (probabilities.min() > 0 and np.abs(probabilities.sum(1) - 1).max() <= SAME):
        return None
    return np.log(probabilities.astype(np.float64))


def _of_sigmoid(probabilities: np.ndarray) -> np.ndarray | None:
    """Logits; None where these are no probabilities between 0 and 1."""
    if not (probabilities.min() > 0 and probabilities.max() < 1):
        return None
    shares = probabilities.astype(np.float64)
    return np.log(shares) - np.log1p(-shares)


LINKS = {
    "softmax": _Link(softmax, _of_softmax, fit_temperature, figures, NO_LOGITS),
    "sigmoid": _Link(sigmoid, _of_sigmoid, fit_sigmoid_temperature, set_figures, NO_SIGMOID_LOGITS),
}


@dataclass(frozen=True)
class Decisions:
    """What is to be decided by images that were held out, when a head is trained; fields as the flags of `headstart train`."""

    no_calibrate: bool
    operating_point: str
    positive_class: str
    class_names: Sequence[str]
    task: Task = ONE

    @classmethod
    def of(cls, config: Any, class_names: Sequence[str], task: Task) -> Decisions:
        """What a training's configuration asks for."""
        return cls(config.no_calibrate, config.operating_point, config.positive_class, class_names, task)


@dataclass(frozen=True)
class HeldOut:
    """What a head, or heads of its kind, made of images that they were not trained on.

    labels are int64 [N], or uint8 [N, classes]; probabilities float [N, classes]; logits the same before softmax or sigmoid,
    or why there are none; groups N names; folds how many the training split was cut into, 0 where it was the validation split.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    logits: np.ndarray | str
    groups: Sequence[str]
    folds: int = 0


def decide(
    head: keras.Model, trained: keras.Model, source: Source, examples: Sequence[Example], asked: Decisions
) -> dict[str, Any]:
    """Calibrates a head by the validation split, and chooses a threshold, of several labels one for each class.

    Args:
        head: what is saved; its weights are changed.
        trained: from the source's features to probabilities; ends in the head, or is it.
        source: of the training.
        examples: of the validation split, in the source's order; empty where there is none.
        asked: what to decide.

    Returns:
        As `decide_by`.
    """
    if not examples:
        return undecided(NO_VALIDATION, asked)

    def batches() -> Iterable[tuple[np.ndarray, np.ndarray]]:
        return source.validation(as_it_is).as_numpy_iterator()

    groups = drawn_together(examples)
    return decide_by(head, held_out(head, trained, batches, groups, asked), asked)


def decide_by(head: keras.Model, seen: HeldOut, asked: Decisions) -> dict[str, Any]:
    """Calibrates a head, and chooses a threshold, by what was held out.

    Args:
        head: what is saved; its weights are changed.
        seen: the images' answers.
        asked: what to decide.

    Returns:
        For the run's metrics: `calibration`, with the temperature and the figures of those answers before and after, or why
        there are none; `operating_point`, where one was asked for; of several labels `thresholds`, and of a validation split
        the mean average precision; `used_for_selection`, where that split decided any of it.
    """
    link, probabilities = LINKS[asked.task.activation], seen.probabilities
    if isinstance(seen.logits, str):
        found = _not_calibrated(seen.logits)
    else:
        temperature = link.fit_temperature(seen.labels, seen.logits, seen.groups)
        scale_logits(head, 1 / temperature)
        probabilities = link.probabilities(seen.logits, temperature)
        found = {
            "temperature": temperature,
            **({"out_of_fold": True, "folds": seen.folds} if seen.folds else {}),
            "examples": len(seen.groups),
            "groups": len(set(seen.groups)),
            "before": link.figures(seen.labels, link.probabilities(seen.logits)),
            "after": link.figures(seen.labels, probabilities),
        }
    decided = "before" in found or asked.task.several or bool(asked.operating_point)
    found = {"calibration": found, **({"used_for_selection": "validation"} if decided and not seen.folds else {})}
    if asked.task.several:
        return {**found, **_thresholds(asked, seen, probabilities)}
    return {**found, **_operating_point(asked, seen.labels, probabilities, seen.groups)}


def undecided(why: str, asked: Decisions) -> dict[str, Any]:
    """The same for the run's metrics where nothing was held out."""
    thresholds = {"thresholds": [vars(each) for each in unchosen(asked.class_names)]} if asked.task.several else {}
    return {"calibration": _not_calibrated(why), **thresholds}


def held_out(head: keras.Model, trained: keras.Model, batches: Batches, groups: Sequence[str], asked: Decisions) -> HeldOut:
    """A head's answers to images, and, unless --no_calibrate, its logits.

    Args:
        head, trained: as `decide` takes them.
        batches: of features and labels, the same each time.
        groups: of all their examples, N names.
        asked: what is to be decided.
    """
    link, (labels, probabilities) = LINKS[asked.task.activation], _answers(trained, batches)
    if asked.no_calibrate:
        return HeldOut(labels, probabilities, NOT_ASKED, groups)
    logits = _logits(head, trained, batches, probabilities, link)
    return HeldOut(labels, probabilities, link.why_not if logits is None else logits, groups)


def _thresholds(asked: Decisions, seen: HeldOut, probabilities: np.ndarray) -> dict[str, Any]:
    """A threshold for each class; and how well the classes are ranked, by the split that chose the epoch."""
    chosen = {"thresholds": [vars(each) for each in choose_thresholds(seen.labels, probabilities, asked.class_names)]}
    if seen.folds:
        return chosen
    precision = float(value(mean_average_precision(seen.labels, probabilities), len(seen.labels)))
    return {"val_mean_average_precision": precision, **chosen}


def scale_logits(head: keras.Model, factor: float) -> None:
    """Multiplies what a head's last dense layer gives, by way of its weights; by 1 it changes nothing."""
    layer = _last_dense(head)
    if layer is not None:
        layer.set_weights([weight * np.float32(factor) for weight in layer.get_weights()])


def _operating_point(asked: Decisions, labels: np.ndarray, probabilities: Any, groups: Sequence[str]) -> dict[str, Any]:
    if not asked.operating_point:
        return {}
    goal, number = parse_goal(asked.operating_point), positive_of(asked.positive_class, asked.class_names)
    truth, scores = labels == number, probabilities[:, number]
    point = choose(goal, asked.class_names[number], truth, scores)
    there = {} if math.isnan(point.threshold) else achieved(goal, truth, scores, point.threshold, groups)
    return {"operating_point": {**point.to_json(), "validation": there}}


def _not_calibrated(why: str) -> dict[str, Any]:
    return {"temperature": 1.0, "why_not": why}


def _answers(trained: keras.Model, batches: Batches) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and what a network makes of features; `predict_on_batch` would answer once for each device it was trained on."""
    labels, answers = [], []
    for features, ids in batches():
        answers.append(np.asarray(trained(features.astype(np.float32), training=False)))
        labels.append(ids)
    return np.concatenate(labels), np.concatenate(answers)


def _logits(
    head: keras.Model, trained: keras.Model, batches: Batches, probabilities: np.ndarray, link: _Link
) -> np.ndarray | None:
    """The logits of such probabilities as the link has them, float [N, C]; None where there are none.

    Probabilities are looked at once more through logits made 16 times smaller, so that none is rounded to 0; that these
    explain those that were there before is the proof that dividing the last dense layer's weights divides the logits.
    """
    layer = _last_dense(head)
    if layer is None:
        return None
    before = layer.get_weights()
    try:
        scale_logits(head, 1 / SOFTENED)
        _, softened = _answers(trained, batches)
    finally:
        layer.set_weights(before)
    if (small := link.logits(softened)) is None:
        return None
    logits = SOFTENED * small
    return logits if np.abs(link.probabilities(logits) - probabilities).max() <= SAME else None


def _last_dense(layer: keras.Layer) -> keras.layers.Dense | None:
    """The last dense layer inside a layer, or the layer itself."""
    if isinstance(layer, keras.layers.Dense):
        return layer
    inside = map(_last_dense, reversed(getattr(layer, "layers", [])))
    return next((found for found in inside if found is not None), None)
