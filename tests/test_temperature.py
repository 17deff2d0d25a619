"""Temperature: found where it is known, no prediction changed, in weights that Keras alone loads; and left out when asked."""

from __future__ import annotations

import pathlib
import shutil
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.commands.train import describe
from headstart.features.dataset.examples import Example
from headstart.features.keras_internals import every_layer
from headstart.features.store.feature_store import FeatureStore
from headstart.training.evaluation.evaluate import evaluate
from headstart.training.evaluation.evaluate_config import EvaluateConfig
from headstart.training.fitting.calibrate import NO_LOGITS, NOT_ASKED, Decisions, decide, scale_logits
from headstart.training.fitting.sources import ArraySource
from headstart.training.plots.reliability import reliability
from headstart.training.runs.run_folder import Run
from headstart.training.scoring.temperature import (
    figures,
    fit_temperature,
    reliability_bins,
    softmax,
    without_temperature,
)
from headstart.training.train import train
from headstart.training.train_config import TrainConfig

FEW = settings(max_examples=25, deadline=None)


def drawn(count: int, classes: int, temperature: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from probabilities, and those probabilities' logits times a temperature: too certain by so much."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2.5, (count, classes))
    labels = (softmax(logits).cumsum(1) > generator.random((count, 1))).argmax(1)
    return labels, logits * temperature


def apart(count: int) -> list[str]:
    return [str(number) for number in range(count)]


# The fit.


@FEW
@given(st.floats(0.5, 3.0), st.integers(2, 8), st.integers(0, 10**6))
def test_a_known_temperature_is_found(temperature: float, classes: int, seed: int) -> None:
    labels, logits = drawn(4000, classes, temperature, seed)
    assert fit_temperature(labels, logits, apart(4000)) == pytest.approx(temperature, rel=0.15)


@FEW
@given(st.floats(0.5, 3.0), st.integers(1, 60), st.integers(2, 8), st.integers(0, 10**6))
def test_what_it_was_fitted_to_is_never_worse_for_it_and_no_prediction_changes(
    temperature: float, count: int, classes: int, seed: int
) -> None:
    labels, logits = drawn(count, classes, temperature, seed)
    fitted = fit_temperature(labels, logits, apart(count))
    before, after = softmax(logits), softmax(logits, fitted)
    assert figures(labels, after)["log_loss"] <= figures(labels, before)["log_loss"] + 1e-12
    np.testing.assert_array_equal(after.argmax(1), before.argmax(1))
    assert fitted == fit_temperature(labels, logits, apart(count))
    np.testing.assert_allclose(without_temperature(after, fitted), before, atol=1e-6)


def test_a_few_that_are_all_right_make_it_no_more_than_a_little_more_certain() -> None:
    assert 0.6 < fit_temperature(np.zeros(5, np.int64), np.array([[2.0, 0.0]] * 5), apart(5)) < 1


def test_examples_of_one_group_are_worth_one() -> None:
    labels, logits = drawn(30, 3, 2.5, 0)
    copies = np.repeat(labels, 20), np.repeat(logits, 20, axis=0), np.repeat(apart(30), 20).tolist()
    once = fit_temperature(labels, logits, apart(30))
    assert fit_temperature(*copies) == pytest.approx(once, rel=1e-4)
    assert fit_temperature(copies[0], copies[1], apart(600)) > once + 0.1


@pytest.mark.parametrize("count", [10, 20, 50, 200])
def test_it_costs_next_to_nothing_where_nothing_is_to_be_mended_and_gains_where_it_is(count: int) -> None:
    """Log loss on other examples of the same kind, in the mean of 60 fits."""

    def gain(temperature: float) -> float:
        gains = []
        for seed in range(60):
            fitted = fit_temperature(*drawn(count, 3, temperature, seed), apart(count))
            labels, logits = drawn(2000, 3, temperature, 1000 + seed)
            gains.append(figures(labels, softmax(logits))["log_loss"] - figures(labels, softmax(logits, fitted))["log_loss"])
        return float(np.mean(gains))

    assert gain(1.0) > -0.008
    assert gain(2.0) > 0.02


# In a head.


def source(features: np.ndarray, labels: np.ndarray) -> tuple[ArraySource, list[Example]]:
    examples = [Example(name, name, ("x",), "validation") for name in apart(len(labels))]
    return ArraySource({"train": (features, labels), "validation": (features, labels)}, 16, 0), examples


def asked(**changes: Any) -> Decisions:
    return Decisions(**{"no_calibrate": False, "operating_point": "", "positive_class": "", "class_names": "abc", **changes})


def certain_head(inside: list[keras.layers.Layer]) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """A head whose logits are 30 times its features, so that float32 rounds probabilities to 0."""
    labels, features = drawn(200, 3, 1.0, 0)
    inputs = keras.Input((3,))
    head = keras.Model(inputs, keras.Sequential(inside)(inputs), name="head")
    for layer in inside:
        if isinstance(layer, keras.layers.Dense):
            layer.set_weights([30 * np.eye(3, dtype=np.float32), np.zeros(3, np.float32)])
    return head, features.astype(np.float32), labels


@pytest.mark.parametrize(
    "inside",
    [
        lambda: [keras.layers.Dense(3), keras.layers.Activation("softmax")],
        lambda: [keras.layers.Dense(3), keras.layers.Softmax()],
        lambda: [keras.layers.Dense(3, activation="softmax")],
        lambda: [keras.Sequential([keras.layers.Dense(3, activation="softmax")])],
    ],
    ids=["activation", "layer", "inside", "nested"],
)
def test_a_users_head_that_ends_in_a_softmax_is_calibrated(inside: Any) -> None:
    made = inside()
    if isinstance(made[0], keras.Sequential):
        made[0].build((None, 3))
        made[0].layers[0].set_weights([30 * np.eye(3, dtype=np.float32), np.zeros(3, np.float32)])
    head, features, labels = certain_head(made)
    before = np.asarray(head(features))
    assert before.min() == 0  # no logarithm of these would say how certain it is
    found = decide(head, head, *source(features, labels), asked())["calibration"]
    assert found["temperature"] > 12 and found["after"]["log_loss"] < found["before"]["log_loss"]
    after = np.asarray(head(features))
    np.testing.assert_allclose(after, softmax(30 * features.astype(np.float64), found["temperature"]), atol=1e-5)
    np.testing.assert_array_equal(after.argmax(1), before.argmax(1))
    scale_logits(head, found["temperature"])
    np.testing.assert_allclose(np.asarray(head(features)), before, atol=1e-4)


@pytest.mark.parametrize(
    "inside",
    [
        lambda: [keras.layers.Softmax()],
        lambda: [keras.layers.Dense(3), keras.layers.BatchNormalization(), keras.layers.Softmax()],
        lambda: [keras.layers.Dense(3), keras.layers.Activation("tanh"), keras.layers.Softmax()],
        lambda: [keras.layers.Dense(3), keras.layers.Activation("sigmoid")],
    ],
    ids=["no-dense", "shifted", "bent", "no-softmax"],
)
def test_any_other_head_stays_as_it_is(inside: Any) -> None:
    head, features, labels = certain_head(inside())
    for layer in head.layers[-1].layers:
        if isinstance(layer, keras.layers.BatchNormalization):  # what it takes away does not shrink with what it is given
            layer.moving_mean.assign([1.0, 20.0, 3.0])
    before = head.get_weights()
    assert decide(head, head, *source(features, labels), asked())["calibration"] == {"temperature": 1.0, "why_not": NO_LOGITS}
    assert all(map(np.array_equal, head.get_weights(), before))


# In a run.


@pytest.fixture(scope="module")
def plain(store: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What `run` is, but not calibrated."""
    path = tmp_path_factory.mktemp("plain") / "run"
    train(TrainConfig(store=str(store), run=str(path), epochs=20, batch_size=12, no_calibrate=True))
    return path


def test_the_saved_model_is_the_trained_one_with_its_logits_divided(
    run: pathlib.Path, plain: pathlib.Path, store: pathlib.Path
) -> None:
    opened, other = Run.open(str(run)), Run.open(str(plain))
    found = opened.metrics["calibration"]
    assert found["temperature"] == opened.temperature != 1 and found["examples"] == found["groups"] == 12
    assert found["after"]["log_loss"] < found["before"]["log_loss"] == pytest.approx(other.metrics["val_loss"], rel=1e-4)
    assert other.metrics["calibration"] == {"temperature": 1.0, "why_not": NOT_ASKED} and other.temperature == 1
    assert f"temperature {opened.temperature:.3g}" in describe(opened) and "not calibrated: --no_calibrate" in describe(other)
    same = {name: value for name, value in opened.metrics.items() if name not in ("calibration", "agreement", "seconds")}
    assert same == {name: other.metrics[name] for name in same}
    features = FeatureStore.open(str(store)).to_numpy("test").features.astype(np.float32)
    mine, others = (each.model().get_layer("head") for each in (opened, other))
    for one, before in zip(mine.get_layer("logits").get_weights(), others.get_layer("logits").get_weights()):
        np.testing.assert_array_equal(one, before * np.float32(1 / opened.temperature))
    probabilities, before = (np.asarray(head(features)) for head in (mine, others))
    np.testing.assert_allclose(without_temperature(probabilities, opened.temperature), before, atol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(1), before.argmax(1))


def test_it_is_made_of_kerass_own_layers_as_before(run: pathlib.Path, plain: pathlib.Path) -> None:
    """Without this project such a model loads: tests/test_model.py."""
    mine, other = (keras.saving.load_model(each / "model.keras", safe_mode=True) for each in (run, plain))
    assert [type(layer) for layer in every_layer(mine)] == [type(layer) for layer in every_layer(other)]
    assert all(type(layer).__module__.startswith("keras.") for layer in every_layer(mine))


def test_evaluation_says_what_it_would_be_without(
    run: pathlib.Path, plain: pathlib.Path, store: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    runs = [shutil.copytree(each, tmp_path / each.parent.name / "run") for each in (run, plain)]
    mine, other = (evaluate(EvaluateConfig(run=str(each))) for each in runs)
    assert mine.without_temperature["temperature"] == Run.open(str(run)).temperature and other.without_temperature == {}
    for name in ("log_loss", "brier", "calibration_error"):
        before = getattr(other.scores, name).value
        assert mine.without_temperature[name] == pytest.approx(before, rel=1e-4, abs=1e-6)
    assert mine.scores.log_loss.value != pytest.approx(other.scores.log_loss.value, rel=1e-3)


# The plot.


def test_bins_hold_every_prediction_once(tmp_path: pathlib.Path) -> None:
    labels, logits = drawn(500, 4, 2.0, 0)
    before = softmax(logits)
    bins = reliability_bins(labels, before, apart(500))
    assert sum(each.count for each in bins) == 500
    hits = sum(each.count * each.accuracy for each in bins)
    assert hits == pytest.approx((before.argmax(1) == labels).sum())
    assert all(each.start <= each.confidence <= each.end and each.low <= each.accuracy <= each.high for each in bins)
    path = tmp_path / "reliability.png"
    reliability(reliability_bins(labels, softmax(logits, 2.0), apart(500)), bins, str(path), "test")
    first = path.read_bytes()
    reliability(reliability_bins(labels, softmax(logits, 2.0), apart(500)), bins, str(path), "test")
    assert path.read_bytes() == first and first.startswith(b"\x89PNG")
    reliability(bins[-1:], [], str(path), "one bin")
    assert path.read_bytes() != first
