"""Training: heads that learn, folders that are whole, answers that are the same twice, and refusals that say why."""

from __future__ import annotations

import csv
import json
import os
import pathlib
import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from headstart.commands.train import describe
from headstart.features import runtime
from headstart.features.errors import UserError
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.shard_reader import TapReader
from headstart.training import heads as model
from headstart.training.evaluation.evaluate import evaluate
from headstart.training.evaluation.evaluate_config import EvaluateConfig
from headstart.training.fitting import fit as fitting
from headstart.training.fitting import sources
from headstart.training.runs import agreement, save_run
from headstart.training.runs.run_folder import Run
from headstart.training.train import train
from headstart.training.train_config import TrainConfig
from tests.conftest import generation, raises, rewrite_manifest, shift_sample

TAP = "top_activation:avg"
CHANNELS = 1280  # of the stand-in's last map
BATCH = 12  # 36 training examples: 3 steps an epoch


def config(store: pathlib.Path, run: pathlib.Path, **changes: Any) -> TrainConfig:
    return TrainConfig(**{"store": str(store), "run": str(run), "epochs": 3, "batch_size": BATCH, **changes})


def history_of(run: pathlib.Path | str) -> dict[str, list[float]]:
    with open(os.path.join(run, "history.csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def metrics_of(run: pathlib.Path | str) -> dict[str, Any]:
    return json.loads(pathlib.Path(run, "metrics.json").read_text(encoding="utf-8"))


def answers(run: Run, store: pathlib.Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """(labels, probabilities) of the saved model's head on stored features."""
    arrays = FeatureStore.open(str(store)).to_numpy(split)
    return arrays.labels, run.model().get_layer("head").predict(arrays.features.astype(np.float32), verbose=0)


def without_split(store: pathlib.Path, split: str) -> None:
    """Takes a split out of a store's manifest."""
    rewrite_manifest(store, lambda manifest: manifest["generations"][0]["splits"].pop(split))


@pytest.fixture(scope="module")
def stand_in() -> keras.Model:
    """A backbone of no weight: fast to save and to load."""
    pixels = keras.Input((32, 32, 3))
    return keras.Model(pixels, keras.layers.Flatten()(pixels)[:, :CHANNELS], name="backbone")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, stand_in: keras.Model) -> None:
    """Training without what takes its time: a stand-in for the backbone, no check of agreement with it, no plot."""
    agreed = {"images": 0, "largest_difference": 0.0, "tolerance": 0.0}
    monkeypatch.setattr(FeatureStore, "backbone", lambda self, tap: stand_in)
    monkeypatch.setattr(agreement, "check_agreement", lambda *_: agreed)
    monkeypatch.setattr(save_run, "learning_curve", lambda *_: None)


def test_linear_learns_colours_and_leaves_every_file(store: pathlib.Path, run: pathlib.Path) -> None:
    metrics, history = metrics_of(run), history_of(run)
    assert metrics["val_accuracy"] >= 0.9
    assert metrics["used_for_selection"] == "validation" and metrics["monitor"] == "val_loss"
    assert metrics["agreement"]["images"] == 36
    assert metrics["agreement"]["largest_difference"] <= metrics["agreement"]["tolerance"] < 0.01
    assert set(os.listdir(run)) == {
        "command.toml", "config.json", "dead_letters.jsonl", "examples.csv", "history.csv", "learning_curve.png", "logs",
        "metrics.json", "model.keras", "seen.txt",
    }  # fmt: skip
    for name in ("dead_letters.jsonl", "examples.csv"):
        assert (run / name).read_bytes() == (generation(store) / name).read_bytes()
    assert history["epoch"] == list(range(1, metrics["epochs"] + 1))
    assert set(history) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"}
    assert metrics["val_loss"] == history["val_loss"][metrics["best_epoch"] - 1] == min(history["val_loss"])
    with Image.open(run / "learning_curve.png") as image:
        image.load()
        assert image.format == "PNG" and min(image.size) > 200
    events = [path for path in (run / "logs").rglob("events.out.tfevents.*") if path.stat().st_size]
    assert {path.parent.name for path in events} == {"train", "validation"}


def test_config_tells_what_was_trained_on(store: pathlib.Path, run: pathlib.Path) -> None:
    saved, opened = Run.open(str(run)), FeatureStore.open(str(store))
    assert saved.spec == opened.spec and saved.tap == opened.tap() and saved.tap.name == TAP
    assert saved.class_names == ["anemone", "fern", "gentian"]
    assert saved.config["store"] == os.path.abspath(store)
    assert saved.config["dataset_digest"] == opened.manifest.dataset_digest
    assert saved.config["train"]["epochs"] == 20 and saved.config["train"]["head"] == "linear"


def test_mlp_learns(store: pathlib.Path, tmp_path: pathlib.Path) -> None:
    saved = train(config(store, tmp_path / "mlp", head="mlp", epochs=10))
    labels, probabilities = answers(saved, store, "validation")
    assert np.mean(probabilities.argmax(1) == labels) >= 0.9
    names = [layer.name for layer in saved.model().get_layer("head").layers]
    assert names == ["feature", "standardise", "hidden", "dropout", "logits", "probabilities"]


@pytest.mark.slow
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_same_seed_same_weights_other_seed_other_weights(
    head: str, store: pathlib.Path, tmp_path: pathlib.Path, quick: None
) -> None:
    runs = [train(config(store, tmp_path / f"{n}", head=head, seed=seed)) for n, seed in enumerate((5, 5, 6))]
    first, again, other = ([*map(np.asarray, run.model().get_layer("head").get_weights())] for run in runs)
    assert history_of(runs[0].path) == history_of(runs[1].path) != history_of(runs[2].path)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_from_disk_learns_what_memory_does(
    store: pathlib.Path, tmp_path: pathlib.Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "SHARE_OF_MEMORY", 0.0)
    monkeypatch.setattr(TapReader, "all", lambda *_: pytest.fail("the split was read into memory"))
    first, again = (train(config(store, tmp_path / name, epochs=6)) for name in ("first", "again"))
    assert metrics_of(first.path)["val_accuracy"] >= 0.8
    assert history_of(first.path) == history_of(again.path)


def change_features(monkeypatch: pytest.MonkeyPatch, change: Callable[[np.ndarray, np.ndarray, str], np.ndarray]) -> None:
    """Lets a store give other features than it holds."""
    original = FeatureStore.features

    def features(self: FeatureStore, split: str, tap: str | None = None) -> Any:
        found = original(self, split, tap)
        changed = change(found.all(), self.labels(split), split).astype(found.dtype)
        found.all = lambda: changed.copy()  # type: ignore[method-assign]
        found.take = lambda rows: changed[rows]  # type: ignore[method-assign]
        return found

    monkeypatch.setattr(FeatureStore, "features", features)


@pytest.fixture
def noisy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of much noise and little to learn: epochs differ, and the last is not the best."""
    change_features(
        monkeypatch,
        lambda features, labels, split: (
            np.random.default_rng(len(split)).normal(size=features.shape) + 0.1 * np.eye(CHANNELS)[labels]
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy", "loss", "accuracy"])
def test_best_epoch_is_the_one_saved(
    monitor: str, store: pathlib.Path, tmp_path: pathlib.Path, quick: None, noisy: None
) -> None:
    changes = {"head": "mlp", "learning_rate": 0.01, "epochs": 6, "patience": 6, "dropout": 0.9}
    saved = train(config(store, tmp_path / "run", monitor=monitor, no_calibrate=True, **changes))
    history, metrics = history_of(saved.path), metrics_of(saved.path)
    assert len(set(history["val_loss"])) == 6  # any other epoch's weights would show
    best = max if monitor.endswith("accuracy") else min
    at = history[monitor].index(best(history[monitor]))
    assert metrics["monitor"] == monitor and metrics["best_epoch"] == at + 1
    assert metrics["used_for_selection"] == ("validation" if monitor.startswith("val_") else "train")
    assert {name: metrics[name] for name in history if name != "epoch"} == {
        name: column[at] for name, column in history.items() if name != "epoch"
    }
    labels, probabilities = answers(saved, store, "validation")
    assert np.mean(probabilities.argmax(1) == labels) == pytest.approx(history["val_accuracy"][at], abs=1e-6)
    loss = -np.log(probabilities[np.arange(len(labels)), labels].clip(1e-7, 1)).mean()
    assert loss == pytest.approx(history["val_loss"][at], rel=1e-3)
    assert monitor != "val_loss" or at < 5  # the last epoch was not the best


def test_stops_early(store: pathlib.Path, tmp_path: pathlib.Path, quick: None) -> None:
    saved = train(config(store, tmp_path / "run", head="mlp", learning_rate=0.3, dropout=0.9, epochs=50, patience=2))
    metrics = metrics_of(saved.path)
    assert metrics["epochs"] < 50 and metrics["epochs"] == metrics["best_epoch"] + 2


def test_balanced_weights_reach_the_fit(
    lopsided: pathlib.Path, tmp_path: pathlib.Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    original = fitting.training_pipeline

    def pipeline(source: Any, position: Any, labels: Any, devices: int) -> Any:
        given.append(labels.class_weight)
        return original(source, position, labels, devices)

    monkeypatch.setattr(fitting, "training_pipeline", pipeline)
    plain = train(config(lopsided, tmp_path / "plain", no_calibrate=True))  # whose folds have weights of their own
    balanced = train(config(lopsided, tmp_path / "balanced", class_weight="balanced", no_calibrate=True))
    assert given == [None, {0: pytest.approx(16 / 24), 1: pytest.approx(16 / 8)}]
    assert history_of(plain.path)["loss"] != history_of(balanced.path)["loss"]
    given.clear()
    folds = train(config(lopsided, tmp_path / "folds", class_weight="balanced")).metrics["calibration"]["folds"]
    assert given[0] == {0: pytest.approx(16 / 24), 1: pytest.approx(16 / 8)} and len(given) == 1 + folds and all(given)


@pytest.mark.parametrize("loss", [None, "categorical_crossentropy"], ids=["ids", "one-hot"])
def test_balanced_weights_choose_the_epoch_too(
    loss: str | None, store: pathlib.Path, tmp_path: pathlib.Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {0: 3.0, 1: 2.0, 2: 0.25}
    monkeypatch.setattr(sources, "class_weights", lambda *_: weights)
    saved = train(config(store, tmp_path / "run", epochs=1, no_calibrate=True), loss=loss)
    labels, probabilities = answers(saved, store, "validation")
    losses = -np.log(probabilities[np.arange(len(labels)), labels].clip(1e-7, 1))
    expected = np.mean(losses * np.array([weights[label] for label in labels]))
    assert metrics_of(saved.path)["val_loss"] == pytest.approx(expected, rel=1e-3)
    assert expected != pytest.approx(losses.mean(), rel=1e-2)


def test_a_last_epoch_that_is_the_best_hints_at_more(store: pathlib.Path, run_copy: pathlib.Path) -> None:
    opened = Run.open(str(run_copy))
    hint = "the best epoch is the last one allowed: more --epochs may do better"
    for best, told in ((20, True), (19, False)):
        (run_copy / "metrics.json").write_text(json.dumps({**metrics_of(run_copy), "best_epoch": best}), encoding="utf-8")
        assert (hint in describe(opened)) is told


def test_the_check_holds_one_image_at_a_time(
    store: pathlib.Path, run: pathlib.Path, loaded_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: weakref.WeakSet[Pixels] = weakref.WeakSet()
    most = []
    original = agreement.decoder

    def decoder(*args: Any) -> Callable[[bytes], np.ndarray]:
        def decode(data: bytes) -> np.ndarray:
            pixels = original(*args)(data).view(Pixels)
            alive.add(pixels)
            most.append(len(alive))
            return pixels

        return decode

    monkeypatch.setattr(agreement, "decoder", decoder)
    trained, features = Run.open(str(run)), FeatureStore.open(str(store))
    agreement.check_agreement(trained, features, trained.tap, trained.model().get_layer("head"))
    assert len(most) == 36 and max(most) <= 2


class Pixels(np.ndarray):
    """An image of which it is known whether it is still held."""

    __hash__ = object.__hash__


def test_not_complete_until_metrics_are_written(
    store: pathlib.Path, tmp_path: pathlib.Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    original = os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: (original(source, target), written.append(str(target)))[0])
    train(config(store, tmp_path / "run", epochs=1))
    assert [pathlib.Path(path).name for path in written][-1] == "metrics.json"
    newest = max((tmp_path / "run").rglob("*"), key=lambda path: (path.is_file(), path.stat().st_mtime_ns))
    assert newest.name == "metrics.json"


def kill(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


def killed_during_training(store: pathlib.Path, run: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves what a kill in the second epoch does."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        original = keras.callbacks.TensorBoard.on_epoch_end
        patch.setattr(
            keras.callbacks.TensorBoard,
            "on_epoch_end",
            lambda self, epoch, logs=None: kill() if epoch == 1 else original(self, epoch, logs),
        )
        train(config(store, run))


def test_killed_during_training_is_refused_and_named(
    store: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_during_training(store, tmp_path / "run", monkeypatch)
    assert not (tmp_path / "run" / "metrics.json").exists()
    with pytest.raises(UserError, match="run the command that makes it again"):
        Run.open(str(tmp_path / "run"))


def test_the_same_command_again_after_a_kill_during_training(
    store: pathlib.Path, tmp_path: pathlib.Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_during_training(store, tmp_path / "run", monkeypatch)
    train(config(store, tmp_path / "run"))
    assert Run.open(str(tmp_path / "run")).class_names
    assert len(history_of(tmp_path / "run")["epoch"]) == 3


def test_killed_after_saving_is_refused_and_trains_again(
    store: pathlib.Path, tmp_path: pathlib.Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(agreement, "check_agreement", kill)
        train(config(store, tmp_path / "run"))
    with pytest.raises(UserError, match="is not complete: run the command that makes it again"):
        Run.open(str(tmp_path / "run"))
    train(config(store, tmp_path / "run"))
    Run.open(str(tmp_path / "run"))


def test_training_again_removes_the_older_evaluation(run_copy: pathlib.Path, store: pathlib.Path, quick: None) -> None:
    (run_copy / "evaluation" / "test").mkdir(parents=True)
    train(config(store, run_copy, epochs=1))
    assert not (run_copy / "evaluation").exists()
    assert len(history_of(run_copy)["epoch"]) == 1


def test_the_tap_that_was_taken_is_told_where_there_are_several(
    maps_store: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(config(maps_store, tmp_path / "run", epochs=1))
    assert "tap c_add:avg, the deepest of 3: --tap names another\n" in capsys.readouterr().err


def test_a_run_that_is_there_already_is_left_alone(
    run: pathlib.Path, store: pathlib.Path, tmp_path: pathlib.Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run"
    train(config(store, path, epochs=1))
    (path / "evaluation" / "test").mkdir(parents=True)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    capsys.readouterr()
    assert train(config(store, path, epochs=1, unsafe=True)).home == str(path)
    assert capsys.readouterr().err == f"{path} already holds this: nothing to do\n"
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before
    train(config(store, path, epochs=2, patience=3))
    told = f"{path}: the run there, which differs by epochs, patience, is replaced, and its evaluations go with it\n"
    assert capsys.readouterr().err == told and metrics_of(path)["epochs"] == 2
    train(config(store, path, epochs=2, patience=3), loss="categorical_crossentropy")
    assert "differs by what it learns from or with, is replaced" in capsys.readouterr().err


def test_a_run_of_something_else_is_not_replaced(
    run_copy: pathlib.Path, store: pathlib.Path, store_copy: pathlib.Path, lopsided: pathlib.Path, quick: None
) -> None:
    told = f"--run '{run_copy}' holds a run that `headstart train` made of '{store}', and this is `headstart train` of "
    with raises("output-taken") as caught:
        train(config(lopsided, run_copy, epochs=1))
    assert str(caught.value) == f"{told}'{lopsided}': give another --run, or delete that one"
    assert metrics_of(run_copy)["epochs"] == 20
    assert train(config(store_copy, run_copy, epochs=1)).config["store"] == str(store_copy)  # the same features, elsewhere
    changed = json.loads((run_copy / "config.json").read_text(encoding="utf-8")) | {"dataset_digest": "before it grew"}
    (run_copy / "config.json").write_text(json.dumps(changed), encoding="utf-8")
    assert train(config(store_copy, run_copy, epochs=2)).config["dataset_digest"] != "before it grew"


def nan_from(call: int) -> Any:
    """A loss that is NaN from its n-th batch on."""
    calls = tf.Variable(0)

    def loss(truth: Any, answer: Any) -> Any:
        count = calls.assign_add(1)
        return tf.where(count >= call, np.float32("nan"), keras.losses.categorical_crossentropy(truth, answer))

    return loss


def spoil(monkeypatch: pytest.MonkeyPatch, spoilt: str) -> None:
    """Puts a NaN into a split's features."""

    def change(features: np.ndarray, labels: np.ndarray, split: str) -> np.ndarray:
        if split == spoilt:
            features[0, 7] = np.nan
        return features

    change_features(monkeypatch, change)


@pytest.mark.parametrize("loop_steps", [0, fitting.LOOP_STEPS])
def test_nan_features_are_told_at_the_first_step(
    loop_steps: int, store: pathlib.Path, tmp_path: pathlib.Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "LOOP_STEPS", loop_steps)
    spoil(monkeypatch, "train")
    with pytest.raises(UserError, match=r"the loss is nan at step 1 \(epoch 1, batch 1\)"):
        train(config(store, tmp_path / "run"))
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_nan_in_validation_is_told_too(
    store: pathlib.Path, tmp_path: pathlib.Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, "validation")  # no epoch would ever be better than the first
    with pytest.raises(UserError, match="nan"):
        train(config(store, tmp_path / "run"))


@pytest.mark.parametrize(
    ("call", "told"), [(2, "step 2 (epoch 1, batch 2)"), (5, "step 4 (epoch 2, batch 1)")], ids=["epoch-1", "epoch-2"]
)
def test_nan_names_its_step(call: int, told: str, store: pathlib.Path, tmp_path: pathlib.Path, quick: None) -> None:
    # 3 batches to train on and 1 to validate in an epoch: the 5th call is the 4th step.
    with pytest.raises(UserError) as caught:
        train(config(store, tmp_path / "run"), loss=nan_from(call))
    assert told in str(caught.value) and "--learning_rate" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "head"), [("mixed_float16", "mlp"), ("mixed_bfloat16", "linear")])
def test_mixed_precision_saves_float32(
    precision: str, head: str, store: pathlib.Path, tmp_path: pathlib.Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "resolve_precision", lambda precision: precision)  # a CPU computes in float16 too, slowly
    compiled: list[keras.Model] = []
    original = keras.Model.compile
    monkeypatch.setattr(keras.Model, "compile", lambda self, *a, **k: (compiled.append(self), original(self, *a, **k))[1])
    saved = train(config(store, tmp_path / "run", head=head, precision=precision, epochs=20))
    trained = compiled[0]
    assert trained.output.dtype == "float32"
    assert trained.get_layer("logits").compute_dtype == precision.removeprefix("mixed_")
    assert metrics_of(saved.path)["val_accuracy"] >= 0.9
    loaded = saved.model()
    assert {layer.dtype_policy.name for part in ("head", "backbone") for layer in loaded.get_layer(part).layers} == {"float32"}
    assert loaded.output.dtype == "float32"
    labels, probabilities = answers(saved, store, "validation")
    assert probabilities.dtype == np.float32
    assert np.mean(probabilities.argmax(1) == labels) >= 0.9


def custom(activation: str | None, classes: int = 3) -> keras.Sequential:
    return keras.Sequential([keras.layers.LayerNormalization(), keras.layers.Dense(classes, activation=activation)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "loss"),
    [
        (lambda: custom("softmax"), None),
        (lambda: custom("softmax"), lambda: keras.losses.CategoricalCrossentropy(label_smoothing=0.1)),
        (lambda: custom("softmax"), lambda: "kl_divergence"),
        (lambda: custom("softmax"), lambda: "SparseCategoricalCrossentropy"),
        (lambda: custom(None), lambda: keras.losses.CategoricalCrossentropy(from_logits=True)),
        (lambda: keras.layers.Dense(3), lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True)),
        (lambda: keras.layers.Dense(3), lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True, name="loss")),
    ],
    ids=["default", "categorical", "kl_divergence", "sparse-by-name", "logits", "sparse-logits", "sparse-renamed"],
)
def test_custom_head_and_loss(head: Any, loss: Any, store: pathlib.Path, tmp_path: pathlib.Path, quick: None) -> None:
    saved = train(config(store, tmp_path / "run", epochs=15, learning_rate=3e-3), head=head(), loss=loss and loss())
    assert metrics_of(saved.path)["val_accuracy"] >= 0.9
    labels, probabilities = answers(saved, store, "validation")
    assert np.mean(probabilities.argmax(1) == labels) >= 0.9
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)  # probabilities, whatever the head gave


def test_custom_head_agrees_with_its_model(store: pathlib.Path, tmp_path: pathlib.Path) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    saved = train(config(store, tmp_path / "run"), head=keras.layers.Dense(3), loss=loss)
    agreement = metrics_of(saved.path)["agreement"]
    assert agreement["images"] == 36 and agreement["largest_difference"] <= agreement["tolerance"]


def test_built_in_head_with_a_loss_by_name(store: pathlib.Path, tmp_path: pathlib.Path, quick: None) -> None:
    saved = train(config(store, tmp_path / "run", epochs=15), loss="kl_divergence")
    assert metrics_of(saved.path)["val_accuracy"] >= 0.9


def test_head_of_another_size_is_refused(store: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"the head gives \(4,\) for an image; expected \(3,\)"):
        train(config(store, tmp_path / "run"), head=keras.layers.Dense(4))


@pytest.mark.parametrize(("changes", "used"), [({}, True), ({"no_calibrate": True}, False)])
def test_a_split_that_gave_the_temperature_alone_was_used_too(
    changes: dict[str, Any], used: bool, store: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    saved = train(config(store, tmp_path / "run", epochs=2, monitor="loss", **changes))
    assert metrics_of(saved.path)["used_for_selection"] == ("validation" if used else "train")
    assert "(validation accuracy)" in describe(saved)  # which chose nothing
    assert evaluate(EvaluateConfig(run=saved.path, split="validation")).used_for_selection is used


def test_without_validation_trains_with_a_warning(
    lopsided: pathlib.Path, tmp_path: pathlib.Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = train(config(lopsided, tmp_path / "run", epochs=15, patience=1))
    assert "warning" in (told := capsys.readouterr().err) and "no validation split" in told
    metrics = metrics_of(saved.path)
    assert metrics["epochs"] == 15  # nothing to stop by
    assert metrics["used_for_selection"] == "train" and metrics["monitor"] == "loss"
    assert set(history_of(saved.path)) == {"epoch", "loss", "accuracy"}
    assert "training accuracy" in describe(saved)
    with pytest.raises(UserError, match="--monitor val_accuracy needs a validation split"):
        train(config(lopsided, tmp_path / "other", monitor="val_accuracy"))


def test_without_train_is_refused(store_copy: pathlib.Path, tmp_path: pathlib.Path) -> None:
    without_split(store_copy, "train")
    with pytest.raises(UserError, match=r"no examples in a train split; it has (validation, test|test, validation)"):
        train(config(store_copy, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_unknown_tap_names_the_nearest(store: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=f"no tap 'top_activaton:avg'. Did you mean {TAP}"):
        train(config(store, tmp_path / "run", tap="top_activaton:avg"))
    assert not (tmp_path / "run").exists()


def test_folder_of_something_else_is_left_alone(store: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "old.log").write_text("mine too", encoding="utf-8")
    with pytest.raises(UserError, match="holds something else than a run"):
        train(config(store, tmp_path))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["logs", "notes.txt", "old.log"]
    with pytest.raises(UserError, match="is a file"):
        train(config(store, tmp_path / "notes.txt"))


@pytest.mark.parametrize(
    ("changes", "head"),
    [({"monitor": "val_accuracy"}, None), ({}, 4), ({"tap": "nothing:avg"}, None)],
    ids=["monitor", "head-size", "tap"],
)
def test_a_refusal_leaves_the_older_run_whole(
    changes: dict[str, str], head: int | None, lopsided: pathlib.Path, run_copy: pathlib.Path
) -> None:
    with pytest.raises(UserError):
        train(config(lopsided, run_copy, **changes), head=keras.layers.Dense(head) if head else None)
    assert Run.open(str(run_copy)).class_names == ["anemone", "fern", "gentian"]


def test_store_that_is_not_complete_names_the_command(store_copy: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (store_copy / "manifest.json").unlink()
    (store_copy / ".work").mkdir(exist_ok=True)
    with pytest.raises(UserError, match="not complete: run its `headstart extract` command again"):
        train(config(store_copy, tmp_path / "run"))
    with pytest.raises(UserError, match="headstart extract INPUT --store"):
        train(config(tmp_path / "nowhere", tmp_path / "run"))


def test_backbone_of_other_weights_is_refused(store_copy: pathlib.Path, tmp_path: pathlib.Path) -> None:
    model = keras.saving.load_model(generation(store_copy) / "backbone.keras", compile=False)
    weights = model.get_weights()
    model.set_weights([weights[0] + 1e-3, *weights[1:]])
    model.save(generation(store_copy) / "backbone.keras")
    with pytest.raises(UserError, match="digest"):
        train(config(store_copy, tmp_path / "run", epochs=1))


def test_other_answers_from_images_are_a_disagreement(
    store: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = agreement.classify_images
    monkeypatch.setattr(agreement, "classify_images", lambda *args: original(*args) + np.float32([0.02, -0.01, -0.01]))
    with pytest.raises(UserError, match=r"disagree: on 'train/.*' probabilities differ by 0\.02"):
        train(config(store, tmp_path / "run", epochs=1))
    with pytest.raises(UserError, match="is not complete"):
        Run.open(str(tmp_path / "run"))


def test_what_lies_around_the_network_is_checked_too(
    store: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "_in_0_to_255", lambda images: images * 0.2)
    with pytest.raises(UserError, match=r"model\.keras and the features it was trained on disagree"):
        train(config(store, tmp_path / "run", epochs=1))


def test_other_images_in_the_sample_are_a_disagreement(store_copy: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shift_sample(store_copy)
    with pytest.raises(UserError, match="disagree"):
        train(config(store_copy, tmp_path / "run", epochs=6))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"epochs": 0}, "--epochs must be at least 1, not 0"),
        ({"patience": 0}, "--patience must be at least 1"),
        ({"batch_size": -1}, "--batch_size must be at least 1"),
        ({"learning_rate": 0.0}, "--learning_rate must be above 0"),
        ({"learning_rate": float("nan")}, "--learning_rate must be above 0"),
        ({"dropout": 1.0}, "--dropout lies from 0 to below 1"),
        ({"dropout": 0.9}, "--dropout is of the mlp, and --head is linear: leave it out"),
        ({"refit": True, "batch_size": 32}, "--epochs is of training by epochs, and --refit finds the optimum without"),
        ({"refit": True, "batch_size": 32, "epochs": 100, "monitor": "loss"}, "--monitor is of training by epochs"),
        ({"head": "linar"}, "--head is one of linear, mlp, not 'linar'. Did you mean linear"),
        ({"class_weight": "balance"}, "Did you mean balanced"),
        ({"monitor": "val_los"}, "Did you mean val_loss"),
        ({"precision": "float16"}, "--precision is one of"),
    ],
)
def test_configuration_is_checked(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told.replace("(", r"\(")):
        config(pathlib.Path("store"), pathlib.Path("run"), **changes)
    with pytest.raises((AttributeError, TypeError)):
        config(pathlib.Path("store"), pathlib.Path("run")).epochs = 3  # type: ignore[misc]


def test_a_training_that_fails_spares_the_older_run(run_copy: pathlib.Path, store: pathlib.Path, quick: None) -> None:
    before = {path.name: path.read_bytes() for path in run_copy.iterdir() if path.is_file()}
    with pytest.raises(UserError, match="the loss is nan at step 1 "):
        train(config(store, run_copy), loss=lambda truth, answer: tf.reduce_sum(answer) * float("nan"))
    assert {path.name: path.read_bytes() for path in run_copy.iterdir() if path.is_file()} == before
    assert Run.open(str(run_copy)).class_names
