"""A linear head at its optimum on train and validation together: nothing is left out but what cross-validation leaves out.

For few images, where a fifth more of them is worth more than knowing when to stop. What then can be said of the head is what
cross-validation said while it chose the regularisation; validation says nothing any more.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from headstart.features.dataset.examples import drawn_together
from headstart.features.spec import Tap
from headstart.features.store.feature_store import FeatureStore
from headstart.training.fitting.calibrate import NOT_ASKED, scale_logits
from headstart.training.fitting.logistic import fit
from headstart.training.fitting.sources import class_weights, plain_batches
from headstart.training.scoring.temperature import figures, fit_temperature, softmax

SPLITS = ("train", "validation")


def refit(head: keras.Model, store: FeatureStore, tap: Tap, class_weight: str, seed: int, calibrate: bool) -> dict[str, Any]:
    """Fills a linear head's last layer.

    Args:
        head: of `build_head`, linear; its weights are changed.
        store: has a training split; its validation split is trained on as well.
        tap: whose features the head takes.
        class_weight: `none` or `balanced`.
        seed: of which group goes into which fold.
        calibrate: divide the logits by a temperature, by the logits of what was left out.

    Returns:
        For the run's metrics: what was trained on, the regularisation, cross-validated figures, `calibration`.
    """
    splits = [split for split in SPLITS if split in store.splits]
    body = keras.Model(head.input, head.get_layer("logits").input)
    found = [_standardised(body, store, tap, split) for split in splits]
    features, labels = (np.concatenate(part) for part in zip(*found))
    examples = [example for split in splits for example in store.examples(split)]
    groups = drawn_together(examples)
    counts = class_weights(class_weight, examples, store.class_names)
    weights = None if counts is None else np.array([counts[label] for label in labels])
    fitted = fit(features, labels, len(store.class_names), groups, weights, seed)
    head.get_layer("logits").set_weights([fitted.weights, fitted.bias])
    told = [groups[row] for row in fitted.told]
    temperature, cross_validated = _left_out(labels[fitted.told], fitted.left_out, calibrate, told)
    scale_logits(head, 1 / temperature)
    return {
        "refit": {"examples": len(labels), "splits": splits, "penalty": fitted.penalty},
        "accuracy": float(((features @ fitted.weights + fitted.bias).argmax(1) == labels).mean()),
        "used_for_selection": splits[-1],
        "interrupted": False,
        **cross_validated,
    }


def _standardised(body: keras.Model, store: FeatureStore, tap: Tap, split: str) -> tuple[np.ndarray, np.ndarray]:
    """What the last layer sees of a split's plain views, float32 [N, D]; and its labels."""
    batches = plain_batches(store, tap, split, np.arange(store.count(split)))
    parts = [np.asarray(body.predict_on_batch(features.astype(np.float32))) for features, _ in batches]
    return np.concatenate(parts), store.labels(split)


def _left_out(
    labels: np.ndarray, logits: np.ndarray | str, calibrate: bool, groups: list[str]
) -> tuple[float, dict[str, Any]]:
    """The temperature, and what cross-validation says of the head and of that: of the examples that it could tell of."""
    if isinstance(logits, str):
        return 1.0, {"calibration": {"temperature": 1.0, "why_not": logits}}
    accuracy = {"cross_validated_accuracy": float((logits.argmax(1) == labels).mean())}
    if not calibrate:
        return 1.0, {**accuracy, "calibration": {"temperature": 1.0, "why_not": NOT_ASKED}}
    temperature = fit_temperature(labels, logits, groups)
    before, after = (figures(labels, softmax(logits, t)) for t in (1.0, temperature))
    beside = {"examples": len(labels), "groups": len(set(groups)), "out_of_fold": True}
    return temperature, {**accuracy, "calibration": {"temperature": temperature, **beside, "before": before, "after": after}}
