"""After a training: a temperature into the head, and a threshold for one class; both by the validation split.

The temperature goes into the weights of the head's last dense layer, divided by it, so that the saved model is the same layers
as before and loads with Keras alone. Before another training begins with such a head, it is taken out again: what that
training makes of it is compared, epoch by epoch, with what it was before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np

from headstart.features.dataset.examples import Example
from headstart.training.evaluation.goals import parse_goal, positive_of
from headstart.training.evaluation.operating_point import achieved, choose
from headstart.training.evaluation.temperature import figures, fit_temperature, softmax
from headstart.training.fitting.pipeline import Source

SOFTENED = 16.0  # a power of two: dividing weights by it rounds nothing
SAME = 1e-3  # between two ways to a probability, in float32
NO_VALIDATION = "there is no validation split (`headstart train --refit` calibrates without one)"
NOT_ASKED = "--no_calibrate"
NO_LOGITS = "the head does not end in a dense layer and a softmax"


@dataclass(frozen=True)
class Decisions:
    """What is to be decided by the validation split, when a head is trained; fields as the flags of `headstart train`."""

    no_calibrate: bool
    operating_point: str
    positive_class: str
    class_names: Sequence[str]

    @classmethod
    def of(cls, config: Any, class_names: Sequence[str]) -> Decisions:
        """What a training's configuration asks for."""
        return cls(config.no_calibrate, config.operating_point, config.positive_class, class_names)


def decide(
    head: keras.Model, trained: keras.Model, source: Source, examples: Sequence[Example], asked: Decisions
) -> dict[str, Any]:
    """Calibrates a head, and chooses a threshold.

    Args:
        head: what is saved; its weights are changed.
        trained: from the source's features to probabilities; ends in the head, or is it.
        source: of the training.
        examples: of the validation split, in the source's order; empty where there is none.
        asked: what to decide.

    Returns:
        For the run's metrics: `calibration`, with the temperature and validation's figures before and after, or why there are
        none; and `operating_point`, where one was asked for.
    """
    if not examples:
        return {"calibration": _not_calibrated(NO_VALIDATION)}
    groups = [example.group or example.digest for example in examples]
    seen = _answers(trained, source)
    logits, why_not = None, NOT_ASKED
    if not asked.no_calibrate:
        logits, why_not = _logits(head, trained, source, seen), NO_LOGITS
    if logits is None:
        found, probabilities = _not_calibrated(why_not), seen.probabilities
    else:
        temperature = fit_temperature(seen.labels, logits, groups)
        scale_logits(head, 1 / temperature)
        probabilities = softmax(logits, temperature)
        found = {
            "temperature": temperature,
            "examples": len(groups),
            "groups": len(set(groups)),
            "before": figures(seen.labels, softmax(logits)),
            "after": figures(seen.labels, probabilities),
        }
    return {"calibration": found, **_operating_point(asked, seen.labels, probabilities, groups)}


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


class _Seen(NamedTuple):
    labels: np.ndarray  # int64 [N]
    probabilities: np.ndarray  # float32 [N, classes]


def _answers(trained: keras.Model, source: Source) -> _Seen:
    """What a network makes of the validation split; `predict_on_batch` would answer once for each device it was trained on."""
    labels, answers = [], []
    for features, ids in source.validation().as_numpy_iterator():
        answers.append(np.asarray(trained(features.astype(np.float32), training=False)))
        labels.append(ids)
    return _Seen(np.concatenate(labels), np.concatenate(answers))


def _logits(head: keras.Model, trained: keras.Model, source: Source, seen: _Seen) -> np.ndarray | None:
    """The validation split's logits, float [N, classes], less a number for each example; None where there are none.

    Probabilities are looked at once more through logits made 16 times smaller, so that none is rounded to 0; that these
    explain those that were there before is the proof that dividing the last dense layer's weights divides the logits.
    """
    layer = _last_dense(head)
    if layer is None:
        return None
    before = layer.get_weights()
    try:
        scale_logits(head, 1 / SOFTENED)
        softened = _answers(trained, source).probabilities
    finally:
        layer.set_weights(before)
    if not (softened.min() > 0 and np.abs(softened.sum(1) - 1).max() <= SAME):
        return None
    logits = SOFTENED * np.log(softened.astype(np.float64))
    return logits if np.abs(softmax(logits) - seen.probabilities).max() <= SAME else None


def _last_dense(layer: keras.Layer) -> keras.layers.Dense | None:
    """The last dense layer inside a layer, or the layer itself."""
    if isinstance(layer, keras.layers.Dense):
        return layer
    inside = map(_last_dense, reversed(getattr(layer, "layers", [])))
    return next((found for found in inside if found is not None), None)
