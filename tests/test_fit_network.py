"""The trainer of every command, on features in memory: its epochs are whole, its order follows from the epoch's number."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from headstart.features.store.epochs import Position
from headstart.training.fitting import fit as fitting
from headstart.training.fitting.fit import fit_network
from headstart.training.fitting.pipeline import Labels, Size, training_pipeline, validation_pipeline
from headstart.training.fitting.recipe import FitResult, Recipe
from headstart.training.fitting.sources import ArraySource, moments

EXAMPLES, BATCH = 22, 4  # six steps an epoch, the last one of two examples
FEATURES = np.random.default_rng(0).normal(size=(EXAMPLES, 3)).astype(np.float32)
LABELS = (FEATURES[:, 0] > 0).astype(np.int64)


def source(validation: bool = True) -> ArraySource:
    train = (FEATURES, LABELS)
    return ArraySource({"train": train, "validation": train} if validation else {"train": train}, BATCH, seed=5)


def recipe(**changes: Any) -> Recipe:
    values = {"epochs": 3, "patience": 9, "monitor": "val_loss", "learning_rate": 0.1, "max_steps_at_once": 4}
    return Recipe(**{**values, **changes})


def head() -> keras.Model:
    keras.utils.set_random_seed(1)
    feature = keras.Input((3,))
    hidden = keras.layers.Dropout(0.5)(keras.layers.Dense(8, "relu")(feature))
    return keras.Model(feature, keras.layers.Dense(2, "softmax")(hidden))


def fit(model: keras.Model, **changes: Any) -> FitResult:
    return fit_network(model, source(), recipe(**changes))


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 4, 5, 6, 256])
def test_an_epoch_has_its_steps_however_many_are_done_at_once(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    learners: list[Any] = []
    monkeypatch.setattr(fitting, "LOOP_STEPS", 0)
    original = fitting.LossMonitor
    monkeypatch.setattr(fitting, "LossMonitor", lambda model: learners.append(original(model)) or learners[-1])
    model = head()
    fitted = fit(model, max_steps_at_once=at_once)
    assert int(learners[0].optimizer.iterations.numpy()) == 3 * 6
    assert len(fitted.history["val_loss"]) == 3
    other = head()
    fit(other, max_steps_at_once=1)
    for ours, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_each_epoch_has_every_example_once_in_an_order_of_its_number() -> None:
    position = Position()
    data = training_pipeline(source(), position, Labels(2))

    def epoch(number: int) -> list[float]:
        position.epoch = number
        batches = list(data.as_numpy_iterator())
        assert [len(labels) for _, labels in batches] == [4, 4, 4, 4, 4, 2] and len(data) == 6
        return [float(row[0]) for features, _ in batches for row in features]

    first, second, again = epoch(0), epoch(1), epoch(0)
    assert first == again != second and sorted(first) == sorted(second) == sorted(FEATURES[:, 0].tolist())


def test_labels_are_as_the_loss_takes_them() -> None:
    weights = {0: 2.0, 1: 0.5}
    features, labels, counts = next(training_pipeline(source(), Position(), Labels(3, True, weights)).as_numpy_iterator())
    assert features.dtype == np.float32 and labels.shape == (4, 3) and (labels.sum(1) == 1).all()
    assert counts.tolist() == [weights[int(label)] for label in labels.argmax(1)]
    held_out = validation_pipeline(source(), Labels(2))
    assert held_out is not None and np.concatenate([y for _, y in held_out.as_numpy_iterator()]).tolist() == LABELS.tolist()
    assert validation_pipeline(source(validation=False), Labels(2)) is None


@pytest.mark.parametrize(
    ("examples", "devices", "steps"), [(8, 1, 2), (9, 1, 3), (9, 2, 2), (10, 2, 3), (10, 3, 2), (11, 3, 3)]
)
def test_steps_that_can_be_divided(examples: int, devices: int, steps: int) -> None:
    assert Size(examples, 4).steps(devices) == steps


def test_what_it_begins_with_may_be_the_best_or_never_is() -> None:
    begun = head()
    fitted = fit(begun, learning_rate=5.0, epochs=2)
    assert fitted.baseline and (fitted.best_epoch == 0) is (min(fitted.history["val_loss"]) >= fitted.baseline["val_loss"])
    from_nothing = fit(head(), learning_rate=5.0, epochs=2, from_nothing=True)
    assert not from_nothing.baseline and from_nothing.best_epoch >= 1


def test_a_rate_stays_or_rises_and_falls() -> None:
    assert fitting._rate(recipe(), 10) == 0.1
    schedule = fitting._rate(recipe(lr_warmup=0.5, epochs=4), 10)
    rates = [float(schedule(step)) for step in range(41)]
    assert rates[0] == pytest.approx(0.01) and max(rates) == pytest.approx(0.1) and rates[20] == pytest.approx(0.1)
    assert rates[40] == pytest.approx(0, abs=1e-6) and rates[20:] == sorted(rates[20:], reverse=True)


def test_nothing_is_left_on_disk_without_a_folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fit(head())
    assert list(tmp_path.iterdir()) == []


def test_moments_are_those_of_all_batches_together() -> None:
    maps = np.random.default_rng(1).normal(3, 2, (10, 4, 4, 5))
    mean, deviation = moments([maps[:3], maps[3:4], maps[4:]])
    np.testing.assert_allclose(mean, maps.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(deviation, maps.std((0, 1, 2)), rtol=1e-6)
    assert mean.dtype == deviation.dtype == np.float32


def test_a_source_in_memory_knows_its_sizes() -> None:
    assert source().size == (EXAMPLES, BATCH) == source().validation_size and source(False).validation_size is None
    assert isinstance(source().epoch(Position(), Labels(2).of), tf.data.Dataset)
