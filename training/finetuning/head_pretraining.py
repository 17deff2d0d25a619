"""A head before fine-tuning, where no run brings one: trained on what the frozen backbone makes of stored maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np

from headstart.features.spec import Tap
from headstart.features.store.feature_store import FeatureStore
from headstart.training.finetuning.unfreeze import Unfreezing, split_network
from headstart.training.fitting.adam import adam
from headstart.training.fitting.batches import array_moments, class_weights
from headstart.training.fitting.callbacks import LossMonitor, ShowProgress, TerminateOnNonFinite
from headstart.training.heads import build_head

if TYPE_CHECKING:
    from headstart.training.finetuning.finetune_config import FinetuneConfig

EPOCHS, PATIENCE, RATE, BATCH = 100, 10, 3e-4, 32
FEATURE_BATCH = 64


def pretrain_head(
    config: FinetuneConfig, precision: str, store: FeatureStore, backbone: keras.Model, boundary: Tap, tap: Tap
) -> keras.Model:
    """Trains a head from nothing on the tap's features, which are computed once from the boundary's stored maps.

    Early stopping as in `headstart train`; without a validation split, all of the epochs.
    """
    through = _features_of(backbone, boundary, tap, store.spec.image_size)
    splits = [split for split in ("train", "validation") if split in store.splits]
    data = {split: (_features(through, store, split, boundary), store.labels(split)) for split in splits}
    standard, classes = array_moments(data["train"][0]), len(store.class_names)
    weights = class_weights(config.class_weight, store.examples("train"), store.class_names)
    head = build_head(config.head, tap, classes, standard, config.dropout, precision)
    learner = LossMonitor(head)
    learner.compile(adam(RATE, precision), "sparse_categorical_crossentropy")
    stop = keras.callbacks.EarlyStopping("val_loss", patience=PATIENCE, restore_best_weights=True)
    learner.fit(
        *data["train"],
        batch_size=BATCH,
        epochs=EPOCHS,
        validation_data=_weighted(data["validation"], weights) if "validation" in data else None,
        class_weight=weights,
        callbacks=[
            TerminateOnNonFinite(-(-len(data["train"][1]) // BATCH)),
            ShowProgress(EPOCHS),
            *([stop] if "validation" in data else []),
        ],
        verbose=0,
    )
    plain = build_head(config.head, tap, classes, standard, config.dropout)
    plain.set_weights(head.get_weights())
    return plain


def _weighted(data: tuple[np.ndarray, np.ndarray], weights: dict[int, float] | None) -> tuple[np.ndarray, ...]:
    """Features and labels with each example's weight, where classes have any."""
    return data if weights is None else (*data, np.array([weights.get(int(label), 1.0) for label in data[1]], np.float32))


def _features_of(backbone: keras.Model, boundary: Tap, tap: Tap, image_size: tuple[int, int]) -> keras.Model:
    """The frozen layers between the boundary and the tap."""
    identity = keras.Sequential([keras.Input(tap.shape), keras.layers.Activation("linear", dtype="float32")], name="head")
    return split_network(backbone, identity, tap, Unfreezing(layer_after=boundary.layer), image_size, boundary.layer).trained


def _features(through: keras.Model, store: FeatureStore, split: str, boundary: Tap) -> np.ndarray:
    batches = store.batches(split, FEATURE_BATCH, tap=boundary.name, in_memory=False)
    return np.concatenate([through.predict_on_batch(maps.astype(np.float32)) for maps, _ in batches])
