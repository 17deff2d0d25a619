"""Fine-tuning: what moves and what must not, interruptions that cost nothing, two routes that agree, refusals that say why."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from headstart.cli import main
from headstart.commands.finetune import describe
from headstart.features.errors import UserError
from headstart.features.files import sha256_file
from headstart.features.store.feature_store import FeatureStore
from headstart.pipelines.extract import extract
from headstart.pipelines.extract_config import ExtractConfig
from headstart.training.evaluation.evaluate import evaluate
from headstart.training.evaluation.evaluate_config import EvaluateConfig
from headstart.training.finetuning import finetune, head_pretraining, starting_points, unfreeze
from headstart.training.finetuning.finetune_config import FinetuneConfig
from headstart.training.fitting import checkpoint
from headstart.training.fitting.adam import FusedAdam
from headstart.training.fitting.calibrate import NO_VALIDATION
from headstart.training.reporting import report
from headstart.training.runs import run_folder, save_run
from headstart.training.runs.run_folder import Run
from headstart.training.train import train
from headstart.training.train_config import TrainConfig
from tests.conftest import CLASSES, IMAGE_SIZE, after_epoch, raises, write_photos
from tests.pages import alone
from tests.test_train_head import history_of, metrics_of

pytestmark = pytest.mark.usefixtures("kept_each_epoch")

ROOT = pathlib.Path(__file__).resolve().parent.parent
BATCH = 12  # 36 training images: 3 steps an epoch
RATE = 0.003
ALL = [f"{block}_{layer}" for block in ("stem", "a", "b", "c") for layer in ("conv", "bn")]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what is looked at elsewhere: the plot, the page, and the last check of the saved model."""
    agrees = {"images": 0, "largest_difference": 0.0, "tolerance": 0.0}
    monkeypatch.setattr(save_run, "learning_curve", lambda *_: None)
    monkeypatch.setattr(report, "leave_training_report", lambda run: "no page")
    monkeypatch.setattr(starting_points, "check_images", lambda *_: agrees)
    monkeypatch.setattr(starting_points, "check_agreement", lambda *_: agrees)


def config(photos: pathlib.Path, start: pathlib.Path, run: pathlib.Path, **changes: Any) -> FinetuneConfig:
    values = {"input": str(photos), "init_from": str(start), "epochs": 2, "batch_size": BATCH, "learning_rate": RATE}
    return FinetuneConfig(run=str(run), **{**values, **changes})


def from_store(store: pathlib.Path, start: pathlib.Path | None, run: pathlib.Path, **changes: Any) -> FinetuneConfig:
    values = {"from_store": str(store), "init_from": str(start or ""), "unfreeze_after": "a_add", "epochs": 2}
    return FinetuneConfig(run=str(run), **{**values, "batch_size": BATCH, "learning_rate": RATE, **changes})


def flags(settings: FinetuneConfig) -> list[str]:
    """A configuration as a command line."""
    given = [settings.input] if settings.input else []
    for name, value in vars(settings).items():
        if name == "input" or value is False or value == "":
            continue
        given += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return ["finetune", *given]


def weights_of(run: pathlib.Path | str) -> dict[str, list[np.ndarray]]:
    """Each layer's weights in the saved model: those of the backbone by their names, the head's as head/NAME."""
    return saved_weights(str(run), sha256_file(os.path.join(run, run_folder.MODEL)))


@functools.cache
def saved_weights(run: str, _digest: str) -> dict[str, list[np.ndarray]]:
    """Loaded once: the run that others begin with is compared with all of them."""
    model = Run.open(run).model()
    base, head = model.get_layer("backbone").get_layer("base"), model.get_layer("head")
    found = {layer.name: layer.get_weights() for layer in base.layers if layer.weights}
    return found | {f"head/{layer.name}": layer.get_weights() for layer in head.layers if layer.weights}


def moved(before: dict[str, list[np.ndarray]], after: dict[str, list[np.ndarray]]) -> set[str]:
    """The layers of which a weight is another bit pattern."""
    assert before.keys() == after.keys()
    return {name for name in before if not all(map(np.array_equal, before[name], after[name]))}


def assert_kept(start: pathlib.Path | str, run: pathlib.Path | str) -> None:
    """A run's weights are those that it began with; its head's, calibrated anew, to rounding."""
    before, after = weights_of(start), weights_of(run)
    assert moved(before, after) <= {"head/logits"}
    for one, other in zip(before["head/logits"], after["head/logits"]):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-6)


def probabilities(run: pathlib.Path | str, photos: pathlib.Path, split: str = "test") -> np.ndarray:
    from headstart.training.predicting.classify import classify_files

    return np.stack(list(classify_files(Run.open(str(run)), sorted(map(str, (photos / split).rglob("*.*"))))))  # type: ignore[arg-type]


def assert_same_training(run: pathlib.Path | str, other: pathlib.Path | str) -> None:
    """Same figures of every epoch and same weights, to rounding."""
    ours, theirs = history_of(run), history_of(other)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-6, err_msg=name)
    a, b = weights_of(run), weights_of(other)
    assert a.keys() == b.keys()
    for name in a:
        for left, right in zip(a[name], b[name], strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5, err_msg=name)
    left, right = metrics_of(run), metrics_of(other)
    assert left["best_epoch"] == right["best_epoch"] and left["epochs"] == right["epochs"]
    assert left["val_loss"] == pytest.approx(right["val_loss"], rel=1e-5)


@pytest.mark.slow
def test_frozen_trains_the_head_alone(
    photos: pathlib.Path, maps_run: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(flags(config(photos, maps_run, run))) == 0
    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert lines[0] == "trainable: 51 of 4,491 weights, 2 arrays"
    assert lines[1] == "unfrozen:  none; the backbone is frozen and the head is trained"
    assert lines[2].startswith("first step: 20 frozen arrays of the backbone are bit-equal, 8 moving means and variances")
    assert "the best epoch is the last one allowed: more --epochs may do better" in told.out
    assert told.out.startswith("trained 2 epochs in ") and "agrees with what was trained on 36 images" in told.out
    assert moved(weights_of(maps_run), weights_of(run)) == {"head/logits"}
    assert set(os.listdir(run)) == {
        "augmented.png", "command.toml", "config.json", "dead_letters.jsonl", "evaluation", "examples.csv", "history.csv",
        "learning_curve.png", "logs", "metrics.json", "model.keras", "report.html", "seen.txt",
    }  # fmt: skip
    page = alone(run / "report.html")
    assert "fine-tuned: the head alone, the network frozen" in page.texts["data"]
    assert "of the 12 images of validation" in page.texts["result"] and len(page.all("img")) == 1 + 12  # the augmentation's
    with Image.open(run / "augmented.png") as image:
        image.load()
        assert image.format == "PNG" and image.width > 8 * IMAGE_SIZE and image.height > 6 * IMAGE_SIZE
    assert list(history_of(run)["epoch"]) == [1, 2]
    assert set(history_of(run)) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"}
    kept, metrics = json.loads((run / "config.json").read_text(encoding="utf-8")), metrics_of(run)
    assert kept["finetune"]["augment"] == "standard" and kept["unfrozen"] == []
    assert kept["fingerprint"] == Run.open(str(maps_run)).spec.fingerprint  # the features are what they were
    assert metrics["val_loss"] < metrics["before"]["val_loss"] and metrics["interrupted"] is False
    assert metrics["agreement"]["images"] == 36 and metrics["agreement"]["largest_difference"] < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "unfrozen", "below"),
    [
        ({"unfreeze_last": 2}, ALL[-2:], "after b_relu"),
        ({"unfreeze_from": "b_conv"}, ALL[4:], "after a_add"),
        ({"unfreeze_after": "a_add"}, ALL[4:], "after a_add"),
        ({"unfreeze_from": "a_relu"}, ALL[4:], "after a_add"),
        ({"unfreeze_all": True}, ALL, "from the pixels on"),
    ],
    ids=lambda value: "=".join(map(str, *value.items())) if isinstance(value, dict) else "",
)
def test_unfrozen_layers_move_and_nothing_else(
    changes: dict[str, Any],
    unfrozen: list[str],
    below: str,
    photos: pathlib.Path,
    maps_run: pathlib.Path,
    tmp_path: pathlib.Path,
    quick: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    assert main(flags(config(photos, maps_run, run, epochs=1, **changes))) == 0
    lines = capsys.readouterr().err.splitlines()
    before, after = weights_of(maps_run), weights_of(run)
    count = 51 + sum(weight.size for name in unfrozen for weight in before[name][: 2 if name.endswith("_bn") else None])
    assert lines[0].startswith(f"trainable: {count:,} of 4,491 weights")
    assert lines[1] == f"unfrozen:  {len(unfrozen)} layers: {', '.join(unfrozen)}"
    assert lines[2] == f"trained {below}; BatchNorm stays in inference mode"
    assert f"8 moving means and variances among them, {len(unfrozen)} of {len(unfrozen)} unfrozen layers moved" in lines[3]
    assert moved(before, after) == {*unfrozen, "head/logits"}
    for name in before:
        if name.endswith("_bn"):
            assert all(map(np.array_equal, before[name][2:], after[name][2:])), name
    kept = Run.open(str(run))
    assert kept.config["unfrozen"] == unfrozen and kept.spec.fingerprint != Run.open(str(maps_run)).spec.fingerprint


@pytest.mark.slow
def test_efficientnet_lite_with_its_last_block_unfrozen(photos: pathlib.Path, tmp_path: pathlib.Path, quick: None) -> None:
    run = tmp_path / "run"
    extract(ExtractConfig(input=str(photos), store=str(tmp_path / "store"), weights="random:0", image_size=IMAGE_SIZE))
    train(TrainConfig(store=str(tmp_path / "store"), run=str(run), epochs=1, batch_size=12))
    tuned = finetune.finetune(config(photos, run, tmp_path / "tuned", epochs=1, unfreeze_last=4, learning_rate=1e-4))
    before, after = weights_of(run), weights_of(tuned.path)
    unfrozen = {"block7a_project_conv", "block7a_project_bn", "top_conv", "top_bn"}
    assert moved(before, after) == {*unfrozen, "head/logits"}
    for name in before:
        if name.endswith("_bn"):
            assert all(map(np.array_equal, before[name][2:], after[name][2:])), name


def test_batchnorm_that_moves_fails_the_run(
    photos: pathlib.Path, maps_run: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unfreeze, "_in_inference", lambda model: lambda x: model(x, training=False))
    with pytest.raises(AssertionError, match=r"8 frozen weights moved: .*moving_mean"):
        finetune.finetune(config(photos, maps_run, tmp_path / "run", unfreeze_all=True))
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_a_frozen_layer_that_moves_fails_the_run(
    photos: pathlib.Path, maps_run: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = checkpoint.BestCheckpoint.restore_best

    def restore(self: checkpoint.BestCheckpoint) -> None:
        original(self)
        frozen = next(weight for weight in self.model.weights if weight.path.startswith("c_bn/moving_mean"))
        frozen.assign(frozen + 1e-6)

    monkeypatch.setattr(checkpoint.BestCheckpoint, "restore_best", restore)
    with pytest.raises(AssertionError, match="1 frozen weights moved: c_bn/moving_mean"):
        finetune.finetune(config(photos, maps_run, tmp_path / "run", unfreeze_last=2))


def test_worse_than_the_beginning_keeps_the_beginning(
    photos: pathlib.Path, maps_run: pathlib.Path, tmp_path: pathlib.Path, quick: None
) -> None:
    tuned = finetune.finetune(config(photos, maps_run, tmp_path / "run", unfreeze_last=2, learning_rate=1.0))
    metrics = metrics_of(tuned.path)
    assert metrics["best_epoch"] == 0 and metrics["epochs"] == 2
    assert metrics["val_loss"] == metrics["before"]["val_loss"] < min(history_of(tuned.path)["val_loss"])
    assert_kept(maps_run, tuned.path)
    assert "no epoch was better by val_loss than what it began with: that is kept" in describe(tuned)


@pytest.mark.slow
def test_begins_without_the_temperature_and_is_made_again_when_other_decisions_are_asked_for(
    photos: pathlib.Path, maps_run: pathlib.Path, tmp_path: pathlib.Path, quick: None
) -> None:
    first = finetune.finetune(config(photos, maps_run, tmp_path / "run", epochs=1)).metrics
    assert Run.open(str(maps_run)).temperature != 1 and first["calibration"]["temperature"] != 1
    assert first["before"]["val_loss"] == pytest.approx(metrics_of(maps_run)["val_loss"], rel=1e-3)
    plain = finetune.finetune(config(photos, maps_run, tmp_path / "run", epochs=1, no_calibrate=True)).metrics
    assert plain["calibration"]["temperature"] == 1 and plain["val_loss"] == first["val_loss"]


@pytest.mark.slow
def test_patience_ends_a_training(photos: pathlib.Path, maps_run: pathlib.Path, tmp_path: pathlib.Path, quick: None) -> None:
    changes = {"unfreeze_last": 2, "learning_rate": 1.0, "epochs": 9, "patience": 3}
    tuned = finetune.finetune(config(photos, maps_run, tmp_path / "run", **changes))
    assert (
        metrics_of(tuned.path)["epochs"] == max(5, metrics_of(tuned.path)["best_epoch"] + 3) < 9
    )  # the rate is at half after 5


def not_finite_from(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Makes the gradients of one step infinite."""
    original = FusedAdam.apply

    def apply(self: FusedAdam, grads: Any, variables: Any = None) -> None:
        factor = tf.where(self.iterations.value == step - 1, np.float32("inf"), np.float32(1))
        original(self, [gradient * factor for gradient in grads], variables)

    monkeypatch.setattr(FusedAdam, "apply", apply)


@pytest.mark.slow
@pytest.mark.parametrize(("step", "told"), [(1, "epoch 1, batch 1"), (5, "epoch 2, batch 2")])
def test_a_gradient_that_is_not_finite_names_its_step(
    step: int,
    told: str,
    photos: pathlib.Path,
    maps_run: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    not_finite_from(monkeypatch, step)
    with pytest.raises(UserError, match=rf"a gradient is not finite at step {step} \({told}\): lower --learning_rate"):
        finetune.finetune(config(photos, maps_run, tmp_path / "run", unfreeze_last=2))
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.slow
def test_a_store_gives_what_its_images_give(
    photos: pathlib.Path, maps_store: pathlib.Path, maps_run: pathlib.Path, tmp_path: pathlib.Path, quick: None
) -> None:
    same = {"unfreeze_after": "a_add", "augment": "none", "epochs": 3}
    images = finetune.finetune(config(photos, maps_run, tmp_path / "images", **same))
    stored = finetune.finetune(from_store(maps_store, maps_run, tmp_path / "stored", **same))
    assert_same_training(images.path, stored.path)
    assert moved(weights_of(maps_run), weights_of(stored.path)) == {*ALL[4:], "head/logits"}
    np.testing.assert_allclose(probabilities(images.path, photos), probabilities(stored.path, photos), atol=1e-5)
    assert stored.data_source == str(photos) and "augmented.png" not in os.listdir(stored.path)


@pytest.mark.slow
def test_a_store_without_a_run_trains_a_head_first(
    maps_store: pathlib.Path, tmp_path: pathlib.Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_pretraining, "EPOCHS", 40)
    tuned = finetune.finetune(from_store(maps_store, None, tmp_path / "run", head="mlp", unfreeze_after="a_add"))
    metrics = metrics_of(tuned.path)
    assert metrics["before"]["val_accuracy"] >= 0.9 and metrics["val_loss"] <= metrics["before"]["val_loss"]
    assert [layer.name for layer in tuned.model().get_layer("head").layers][2:4] == ["hidden", "dropout"]
    assert evaluate(EvaluateConfig(run=tuned.path)).scores.accuracy.value >= 0.9


class Killed(BaseException):
    """What a kill is in these tests: nothing catches it."""


def die() -> None:
    raise Killed


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{}, {"unfreeze_from": "b_conv", "augment": "light", "class_weight": "balanced"}],
    ids=["head", "layers"],
)
def test_killed_and_called_again_ends_the_same(
    changes: dict[str, Any],
    photos: pathlib.Path,
    maps_run: pathlib.Path,
    tmp_path: pathlib.Path,
    quick: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def settings(run: str) -> FinetuneConfig:
        return config(photos, maps_run, tmp_path / run, epochs=4, **changes)

    whole = finetune.finetune(settings("whole"))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        after_epoch(patch, 2, die)
        finetune.finetune(settings("killed"))
    with pytest.raises(UserError, match="is not complete"):
        Run.open(str(tmp_path / "killed"))
    again = finetune.finetune(settings("killed"))
    assert_same_training(again.path, whole.path)
    assert set(os.listdir(again.path)) == set(os.listdir(whole.path))


@pytest.mark.slow
def test_dropout_goes_on_where_it_was(
    maps_store: pathlib.Path, tmp_path: pathlib.Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_pretraining, "EPOCHS", 5)

    def settings(run: str) -> FinetuneConfig:
        return from_store(maps_store, None, tmp_path / run, head="mlp", epochs=4)

    whole = finetune.finetune(settings("whole"))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        after_epoch(patch, 2, die)
        finetune.finetune(settings("killed"))
    assert_same_training(finetune.finetune(settings("killed")).path, whole.path)


@pytest.mark.slow
def test_a_changed_flag_costs_no_checkpoint(
    photos: pathlib.Path,
    maps_store: pathlib.Path,
    maps_run: pathlib.Path,
    tmp_path: pathlib.Path,
    quick: None,
    monkeypatch: pytest.MonkeyPatch,
    one_line: Callable[[], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        after_epoch(patch, 2, die)
        finetune.finetune(config(photos, maps_run, run, epochs=3, seed=1))
    kept = run / ".partial" / "checkpoint.npz"
    before = kept.read_bytes()
    capsys.readouterr()
    assert main(flags(config(photos, maps_run, run, epochs=4, learning_rate=0.01))) == 2
    line = one_line()
    assert f"'{kept}' keeps 2 epochs of another training" in line and "or another --run, or delete that file" in line
    assert "(epochs: 3 there, 4 here; learning_rate: 0.003 there, 0.01 here; seed: 1 there, 0 here)" in line
    assert main(["train", str(maps_store), "--run", str(run)]) == 2
    line = one_line()
    assert f"'{kept}' keeps 2 epochs of another training (augment: standard there, not set here; " in line
    assert " more): give its flags again" in line
    assert kept.read_bytes() == before
    moved_images = shutil.copytree(photos, tmp_path / "moved")
    start = pathlib.Path(shutil.copytree(maps_run, tmp_path / "start"))
    again = finetune.finetune(config(moved_images, start, run, epochs=3, seed=1, patience=7, precision="float32"))
    assert metrics_of(again.path)["epochs"] == 3
    whole = finetune.finetune(config(photos, maps_run, tmp_path / "whole", epochs=3, seed=1))
    assert_same_training(again.path, whole.path)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "finetune"])
def test_killed_while_it_is_put_in_its_place(
    command: str,
    photos: pathlib.Path,
    maps_store: pathlib.Path,
    maps_run: pathlib.Path,
    tmp_path: pathlib.Path,
    quick: None,
    monkeypatch: pytest.MonkeyPatch,
    one_line: Callable[[], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, original = tmp_path / "run", os.replace
    argv = {
        "train": ["train", str(maps_store), "--run", str(run), "--epochs", "2"],
        "finetune": flags(config(photos, maps_run, run)),
    }[command]

    def replace(source: str, target: str) -> None:
        if target == str(run / "model.keras"):
            raise Killed
        original(source, target)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "replace", replace)
        main(argv)
    capsys.readouterr()
    assert main(["predict", str(run), str(photos / "test")]) == 2
    assert f"is finished but not in its place yet: run its `headstart {command}` command again" in one_line()
    monkeypatch.setattr(FusedAdam, "apply", lambda *_: pytest.fail("a step was taken"))
    assert main(argv) == 0
    assert "trained 2 epochs" in capsys.readouterr().out
    assert Run.open(str(run)).model().output_shape == (None, 3)
    assert {".lock", ".partial"}.isdisjoint(os.listdir(run))


def test_killed_after_training_is_not_trained_again(
    photos: pathlib.Path, maps_run: pathlib.Path, tmp_path: pathlib.Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(photos, maps_run, tmp_path / "run", unfreeze_last=2)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(finetune, "_finish", lambda *_: die())
        finetune.finetune(settings)
    monkeypatch.setattr(FusedAdam, "apply", lambda *_: pytest.fail("a step was taken"))
    tuned = finetune.finetune(settings)
    assert metrics_of(tuned.path)["epochs"] == 2 and len(history_of(tuned.path)["loss"]) == 2


@pytest.mark.slow
def test_ctrl_c_leaves_the_best_so_far_and_the_same_command_goes_on(
    photos: pathlib.Path,
    maps_run: pathlib.Path,
    tmp_path: pathlib.Path,
    quick: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def settings(run: str) -> FinetuneConfig:
        return config(photos, maps_run, tmp_path / run, epochs=4, unfreeze_from="b_conv")

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        after_epoch(patch, 2, press_ctrl_c)
        assert main(flags(settings("run"))) == 130
    assert "interrupted: this is the best so far; the same command ends it" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is before
    assert metrics_of(tmp_path / "run")["interrupted"] is True and metrics_of(tmp_path / "run")["epochs"] == 2
    assert probabilities(tmp_path / "run", photos).shape == (12, 3)
    assert main(flags(settings("run"))) == 0
    assert "interrupted" not in capsys.readouterr().out
    assert main(flags(settings("whole"))) == 0
    assert_same_training(tmp_path / "run", tmp_path / "whole")
    assert set(os.listdir(tmp_path / "run")) == set(os.listdir(tmp_path / "whole"))


@pytest.mark.slow
def test_ctrl_c_before_the_first_epoch_ends_keeps_the_beginning(
    photos: pathlib.Path, maps_run: pathlib.Path, tmp_path: pathlib.Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = checkpoint.BestCheckpoint.start

    def start(self: checkpoint.BestCheckpoint, figures: Any) -> None:
        original(self, figures)
        press_ctrl_c()

    settings = config(photos, maps_run, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.BestCheckpoint, "start", start)
        assert main(flags(settings)) == 130
    assert metrics_of(tmp_path / "run")["epochs"] == 0
    assert_kept(maps_run, tmp_path / "run")
    assert main(flags(settings)) == 0
    assert metrics_of(tmp_path / "run")["epochs"] == 2


def press_ctrl_c() -> None:
    """What SIGINT does, without the signal itself, which would come to a process full of other tests' threads."""
    handler = signal.getsignal(signal.SIGINT)
    assert callable(handler)
    handler(signal.SIGINT, None)


def begun(settings: FinetuneConfig) -> subprocess.Popen[str]:
    """The command in a process of its own, after its first checkpoint."""
    command = [sys.executable, "-m", "headstart", *flags(settings)]
    path = pathlib.Path(settings.run, run_folder.WORK_FOLDER, run_folder.CHECKPOINT)
    older = path.stat().st_mtime_ns if path.exists() else 0
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while not path.exists() or path.stat().st_mtime_ns == older:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    return process


@pytest.mark.slow
def test_a_process_that_is_killed_or_interrupted_goes_on(
    photos: pathlib.Path, maps_run: pathlib.Path, tmp_path: pathlib.Path, quick: None
) -> None:
    def settings(run: str) -> FinetuneConfig:
        return config(photos, maps_run, tmp_path / run, epochs=8, patience=8, unfreeze_from="b_conv", learning_rate=1e-3)

    process = begun(settings("run"))
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not (tmp_path / "run" / "metrics.json").exists()
    process = begun(settings("run"))
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=100)
    assert process.returncode == 130 and "interrupted: this is the best so far" in out
    metrics = metrics_of(tmp_path / "run")
    assert metrics["interrupted"] is True and 1 <= metrics["epochs"] < 8
    assert Run.open(str(tmp_path / "run")).class_names == list(CLASSES)
    assert main(flags(settings("run"))) == 0
    assert main(flags(settings("whole"))) == 0
    assert_same_training(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_mixed_bfloat16_learns_what_float32_does_and_saves_float32(
    photos: pathlib.Path, maps_run: pathlib.Path, tmp_path: pathlib.Path, quick: None
) -> None:
    curves = []
    for precision in ("float32", "mixed_bfloat16"):
        settings = config(
            photos, maps_run, tmp_path / precision, unfreeze_from="b_conv", precision=precision, augment="light", epochs=3
        )
        curves.append(history_of(finetune.finetune(settings).path))
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(curves[1][name], curves[0][name], rtol=0.03)
    model = Run.open(str(tmp_path / "mixed_bfloat16")).model()
    parts = (model.get_layer("head"), model.get_layer("backbone").get_layer("base"))
    assert {layer.dtype_policy.name for part in parts for layer in part.layers} == {"float32"}
    assert weights_of(tmp_path / "mixed_bfloat16")["b_conv"][0].dtype == np.float32


TWO_DEVICES = """
import json, sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from headstart.training.finetuning.finetune import finetune
from headstart.training.finetuning.finetune_config import FinetuneConfig
for settings in json.loads(sys.argv[1]):
    finetune(FinetuneConfig(**settings))
"""


@pytest.mark.slow
def test_two_devices_learn_what_one_does(
    photos: pathlib.Path, maps_store: pathlib.Path, maps_run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """From images and from a store, all of it in one process that has two devices."""

    def trainings(devices: int) -> list[dict[str, Any]]:
        images, store = (tmp_path / f"{kind}{devices}" for kind in ("images", "store"))
        found = (
            config(photos, maps_run, images, unfreeze_from="b_conv", devices=devices),
            from_store(maps_store, maps_run, store, devices=devices),
        )
        return [dataclasses.asdict(settings) for settings in found]

    code = [sys.executable, "-c", TWO_DEVICES, json.dumps([*trainings(1), *trainings(2)])]
    done = subprocess.run(code, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    for kind in ("images", "store"):
        assert_same_training(tmp_path / f"{kind}2", tmp_path / f"{kind}1")


A_CALLBACK_FAILS = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from headstart.features.errors import UserError
from headstart.cli import main
from headstart.training.fitting import callbacks

def fail(self, *_, **__):
    raise RuntimeError("boom") if sys.argv[1] == "1" else UserError("bad-value", "boom")

callbacks.ShowProgress.on_train_batch_end = fail
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("status", [1, 2])
def test_two_devices_end_when_a_callback_fails(
    status: int, maps_store: pathlib.Path, maps_run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    argv = flags(from_store(maps_store, maps_run, tmp_path / "run", devices=2, epochs=50))
    code = [sys.executable, "-c", A_CALLBACK_FAILS, str(status), *argv]
    done = subprocess.run(code, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == status and "boom" in done.stderr
    assert ("Traceback" in done.stderr) is (status == 1)


@pytest.mark.parametrize(("kind", "dtype", "solver"), [("linear", "float32", "lbfgs"), ("mlp", "bfloat16", "adam")])
def test_a_head_is_pretrained_as_it_is_asked_to_be(
    kind: str, dtype: str, solver: str, maps_store: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headstart.features.backbones.feature_extractor import build_feature_extractor
    from headstart.features.spec import Tap
    from headstart.training.fitting import sources

    given: list[Any] = []
    original = head_pretraining.fit_head

    def fit(head: keras.Model, source: Any, recipe: Any) -> Any:
        given.append((head.get_layer("logits").compute_dtype, recipe.solver, recipe.class_weight, source.validation_size))
        return original(head, source, recipe)

    monkeypatch.setattr(head_pretraining, "fit_head", fit)
    monkeypatch.setattr(head_pretraining, "EPOCHS", 1)
    monkeypatch.setattr(sources, "Counter", lambda labels: {"anemone": 24, "fern": 6, "gentian": 6})
    store = FeatureStore.open(str(maps_store))
    settings = from_store(maps_store, None, tmp_path / "run", head=kind, class_weight="balanced")
    boundary = store.tap("a_add:none")
    backbone, (tap,) = build_feature_extractor(store.base(), [Tap("")], store.spec.preprocessing, store.spec.image_size)
    head = head_pretraining.pretrain_head(settings, "mixed_bfloat16", store, backbone, boundary, tap)
    assert given == [(dtype, solver, {0: 0.5, 1: 2.0, 2: 2.0}, (12, 32))]
    assert {layer.dtype_policy.name for layer in head.layers} == {"float32"}


@pytest.fixture(scope="module")
def tuned(photos: pathlib.Path, maps_run: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run of fine-tuned layers; read-only."""
    run = tmp_path_factory.mktemp("tuned") / "run"
    finetune.finetune(config(photos, maps_run, run, unfreeze_from="b_conv"))
    return run


@pytest.fixture
def tuned_copy(tuned: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(tuned, tmp_path / "tuned"))


@pytest.mark.slow
def test_a_tuned_run_is_measured_on_its_images(
    photos: pathlib.Path, tuned_copy: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tuned_copy)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("test: 12 examples in 12 groups") and "warning" not in told
    metrics = json.loads((tuned_copy / "evaluation" / "test" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["input"] == str(photos) and metrics["seen_in_training"] == 0
    with open(tuned_copy / "evaluation" / "test" / "predictions.csv", encoding="utf-8", newline="") as file:
        keys = [row["key"] for row in csv.DictReader(file)]
    assert len(keys) == 12 and all(key.startswith("test/") for key in keys)
    own = evaluate(EvaluateConfig(run=str(tuned_copy), input=str(photos), split="validation"))
    assert own.used_for_selection is True and own.folder.endswith("validation")
    with pytest.raises(UserError, match="has no split 'tset'; it has test, train, validation"):
        evaluate(EvaluateConfig(run=str(tuned_copy), split="tset"))


@pytest.mark.slow
def test_what_chose_the_run_that_it_begins_with_chose_it_too(
    photos: pathlib.Path, maps_run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    changes = {"unfreeze_from": "b_conv", "epochs": 1, "monitor": "loss", "no_calibrate": True}
    run = finetune.finetune(config(photos, maps_run, tmp_path / "run", **changes))
    assert metrics_of(run.path)["used_for_selection"] == metrics_of(run.path)["began_chosen_by"] == "validation"
    assert "validation accuracy, used for selection" in describe(run)
    assert evaluate(EvaluateConfig(run=run.path, input=str(photos), split="validation")).used_for_selection


def test_a_tuned_run_is_not_measured_on_the_older_features(
    maps_store: pathlib.Path, tuned_copy: pathlib.Path, one_line: Callable[[], str]
) -> None:
    assert main(["evaluate", str(tuned_copy), str(maps_store)]) == 2
    line = one_line()
    assert "holds other features than the run was trained on" in line and "weights_digest" in line


def test_a_frozen_run_is_measured_on_its_store(
    photos: pathlib.Path, maps_store: pathlib.Path, maps_run: pathlib.Path, tmp_path: pathlib.Path, quick: None
) -> None:
    frozen = finetune.finetune(config(photos, maps_run, tmp_path / "run", epochs=1))
    assert frozen.data_source == str(maps_store)
    metrics = evaluate(EvaluateConfig(run=frozen.path))
    assert metrics.scores.examples == 12 and metrics.input == str(maps_store)
    assert metrics.dataset_digest == FeatureStore.open(str(maps_store)).manifest.dataset_digest


def test_a_tuned_run_predicts(
    photos: pathlib.Path, tuned: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(tuned), str(photos / "test"), "--top_k", "3"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(rows) == 12 and not any(row["error"] for row in rows)
    assert sum(row["class_1"] in row["key"] for row in rows) >= 10


@pytest.mark.slow
def test_a_chain_of_fine_tunings(
    photos: pathlib.Path, tuned: pathlib.Path, maps_store: pathlib.Path, tmp_path: pathlib.Path, quick: None
) -> None:
    next_one = finetune.finetune(config(photos, tuned, tmp_path / "next", unfreeze_last=2, epochs=1))
    assert moved(weights_of(tuned), weights_of(next_one.path)) == {"c_conv", "c_bn", "head/logits"}
    assert metrics_of(next_one.path)["before"]["val_loss"] == pytest.approx(metrics_of(tuned)["val_loss"], rel=1e-4)
    head = finetune.finetune(config(photos, next_one.path and pathlib.Path(next_one.path), tmp_path / "head", epochs=1))
    assert moved(weights_of(next_one.path), weights_of(head.path)) == {"head/logits"}
    assert head.spec.fingerprint == next_one.spec.fingerprint
    assert evaluate(EvaluateConfig(run=head.path)).input == str(photos)
    with pytest.raises(UserError, match=r"has another backbone than .*weights_digest"):
        finetune.finetune(from_store(maps_store, tuned, tmp_path / "other"))


@pytest.mark.slow
def test_images_without_splits_are_measured_by_the_splits_of_the_run(tmp_path: pathlib.Path, quick: None) -> None:
    from headstart.pipelines.extract import extract
    from headstart.pipelines.extract_config import ExtractConfig
    from headstart.training.train import train
    from headstart.training.train_config import TrainConfig
    from tests.conftest import little_base

    photos = write_photos(tmp_path, {"photos": dict.fromkeys(CLASSES, 15)}, seed=5) / "photos"
    base = little_base(tmp_path / "little.keras")
    extract(
        ExtractConfig(
            input=str(photos), store=str(tmp_path / "store"), backbone=str(base), preprocessing="tf",
            image_size=str(IMAGE_SIZE), splits="train=0.6,validation=0.2,test=0.2",
        )
    )  # fmt: skip
    run = train(TrainConfig(store=str(tmp_path / "store"), run=str(tmp_path / "run"), epochs=5, learning_rate=3e-3))
    tuned = finetune.finetune(config(photos, pathlib.Path(run.path), tmp_path / "tuned", unfreeze_last=2))
    metrics = evaluate(EvaluateConfig(run=tuned.path))
    assert metrics.split == "test" and metrics.scores.examples == 9 and metrics.seen_in_training == 0
    store = FeatureStore.open(str(tmp_path / "store"))
    with open(os.path.join(metrics.folder, "predictions.csv"), encoding="utf-8", newline="") as file:
        assert {row["key"] for row in csv.DictReader(file)} == {example.key for example in store.examples("test")}
    assert evaluate(EvaluateConfig(run=tuned.path, input=str(photos))).scores.examples == 9


def test_without_validation_all_epochs_are_trained(
    photos: pathlib.Path,
    tmp_path: pathlib.Path,
    quick: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from headstart.pipelines.extract import extract
    from headstart.pipelines.extract_config import ExtractConfig
    from tests.conftest import little_base

    monkeypatch.setattr(head_pretraining, "EPOCHS", 10)
    images = shutil.copytree(photos, tmp_path / "photos", ignore=shutil.ignore_patterns("validation", "test"))
    base = little_base(tmp_path / "little.keras")
    extract(
        ExtractConfig(
            input=str(images), store=str(tmp_path / "store"), backbone=str(base), preprocessing="tf",
            image_size=str(IMAGE_SIZE), taps=("a_add:none",),
        )
    )  # fmt: skip
    tuned = finetune.finetune(from_store(tmp_path / "store", None, tmp_path / "run", epochs=7, patience=1))
    assert "there is no validation split" in capsys.readouterr().err
    metrics = metrics_of(tuned.path)
    assert metrics["epochs"] == 7 and metrics["monitor"] == "loss" and metrics["used_for_selection"] == "train"
    assert metrics["calibration"] == {"temperature": 1.0, "why_not": NO_VALIDATION}
    assert set(history_of(tuned.path)) == {"epoch", "loss", "accuracy"}
    assert "training accuracy" in describe(tuned)


def test_the_older_run_stays_whole_until_the_new_one_is(
    photos: pathlib.Path, maps_run: pathlib.Path, tuned_copy: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in tuned_copy.iterdir() if path.is_file()}
    not_finite_from(monkeypatch, 2)
    with pytest.raises(UserError, match="not finite at step 2"):
        finetune.finetune(config(photos, maps_run, tuned_copy, unfreeze_last=2))
    assert {path.name: path.read_bytes() for path in tuned_copy.iterdir() if path.is_file()} == before
    assert Run.open(str(tuned_copy)).class_names == list(CLASSES)


def test_a_run_that_is_there_already_is_left_alone_and_another_command_s_too(
    photos: pathlib.Path, maps_run: pathlib.Path, maps_store: pathlib.Path, tmp_path: pathlib.Path, quick: None,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    settings = config(photos, maps_run, tmp_path / "run", epochs=1, unfreeze_last=1)
    before = metrics_of(finetune.finetune(settings).path)
    capsys.readouterr()
    finetune.finetune(settings)
    assert capsys.readouterr().err == f"{tmp_path / 'run'} already holds this: nothing to do\n"
    assert metrics_of(tmp_path / "run") == before
    with raises("output-taken") as caught:
        train(TrainConfig(store=str(maps_store), run=str(tmp_path / "run"), epochs=1))
    assert "holds a run that `headstart finetune` made of" in str(caught.value)


@pytest.fixture
def images(photos: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of `photos` that a test may change."""
    return pathlib.Path(shutil.copytree(photos, tmp_path / "images"))


def table(images: pathlib.Path, change: Callable[[dict[str, str]], Any] = lambda row: None) -> pathlib.Path:
    """A folder's images as a table, each row changed; False leaves it out."""
    paths = [path.relative_to(images) for path in sorted(images.rglob("*.*"))]
    rows = [{"path": str(path), "label": path.parts[1], "split": path.parts[0]} for path in paths]
    rows = [row for row in rows if change(row) is not False]
    with open(images / "table.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["path", "label", "split"])
        writer.writeheader()
        writer.writerows(rows)
    return images / "table.csv"


@pytest.mark.slow
def test_a_table_of_the_same_images_is_taken(
    images: pathlib.Path, maps_run: pathlib.Path, tmp_path: pathlib.Path, quick: None
) -> None:
    by_table = finetune.finetune(config(table(images), maps_run, tmp_path / "table", unfreeze_last=2))
    (images / "table.csv").unlink()
    by_folder = finetune.finetune(config(images, maps_run, tmp_path / "folder", unfreeze_last=2))
    assert_same_training(by_table.path, by_folder.path)


def only_first(row: dict[str, str], key: str, **values: str) -> None:
    if row["path"] == key:
        row.update(values)


FIRST = "train/anemone/00.jpg"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda row: only_first(row, FIRST, label="fern"), f"1 images .* have another label .*'{FIRST}'"),
        (lambda row: only_first(row, FIRST, split="test"), f"1 images .* stand in another split .*'{FIRST}'"),
        (lambda row: row["path"] != FIRST, f"1 images that the head was trained on are not in .*'{FIRST}'"),
        (
            lambda row: row.update(label=row["label"].upper()),
            "has the classes ANEMONE, FERN, GENTIAN; the head was trained on",
        ),
        (
            lambda row: row["label"] != "fern",
            "has the classes anemone, gentian; the head was trained on anemone, fern, gentian",
        ),
    ],
    ids=["label", "split", "missing", "names", "fewer"],
)
def test_other_images_are_refused(
    change: Callable[[dict[str, str]], Any],
    told: str,
    images: pathlib.Path,
    maps_run: pathlib.Path,
    tmp_path: pathlib.Path,
    one_line: Callable[[], str],
) -> None:
    assert main(flags(config(table(images, change), maps_run, tmp_path / "run"))) == 2
    assert re.search(told, line := one_line()), line
    assert not (tmp_path / "run").exists()


def test_images_that_changed_or_are_new_or_missing_are_refused(
    images: pathlib.Path, maps_run: pathlib.Path, tmp_path: pathlib.Path, one_line: Callable[[], str]
) -> None:
    settings = flags(config(images, maps_run, tmp_path / "run"))
    new = shutil.copyfile(images / FIRST, images / "train" / "fern" / "new.jpg")
    assert main(settings) == 2
    assert "1 images of" in (line := one_line()) and "not known" in line and "'train/fern/new.jpg'" in line
    os.remove(new)
    content = (images / FIRST).read_bytes()
    (images / FIRST).write_bytes(content + b"\0")
    assert main(settings) == 2
    assert "1 images are not what they were" in (line := one_line()) and f"'{FIRST}'" in line and "extract" in line
    (images / FIRST).unlink()
    assert main(settings) == 2
    assert "1 images that the head was trained on are not in" in (line := one_line()) and f"'{FIRST}'" in line
    (images / FIRST).write_bytes(content)
    (images / "test" / "fern" / "00.jpg").write_bytes(b"another test image")
    assert main([*settings, "--epochs", "1"]) == 0  # neither trained on nor chosen by


def test_another_order_of_classes_is_refused(
    photos: pathlib.Path, maps_run: pathlib.Path, tmp_path: pathlib.Path, one_line: Callable[[], str]
) -> None:
    start = pathlib.Path(shutil.copytree(maps_run, tmp_path / "start"))
    kept = json.loads((start / "config.json").read_text(encoding="utf-8"))
    kept["class_names"].reverse()
    (start / "config.json").write_text(json.dumps(kept), encoding="utf-8")
    assert main(flags(config(photos, start, tmp_path / "run"))) == 2
    assert "trained on gentian, fern, anemone, in that order" in one_line()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["--unfreeze_from", "c_cnv"], "'c_cnv' is no layer of the backbone below the head. Did you mean c_conv"),
        (["--unfreeze-after", "zzz"], "'zzz' is no layer of the backbone below the head. `headstart backbones NAME`"),
        (["--unfreeze_last", "9"], "--unfreeze_last 9: the backbone has 8 layers with weights below the head"),
        (["--unfreeze_last", "-1"], "--unfreeze_last counts layers from 1, not -1"),
        (["--unfreeze_last", "1", "--unfreeze_all"], "give one of --unfreeze_from, --unfreeze_after"),
        (["--unfreeze_from", "c_conv", "--unfreeze_after", "c_conv"], "give one of --unfreeze_from, --unfreeze_after"),
        (["--unfreeze_from", "c_relu"], "no layer from 'c_relu' on has weights to train"),
        (["--unfreeze_after", "c_add"], "no layer from 'c_add' on has weights to train"),
        (["--precision", "mixed_float16"], "--precision mixed_float16 needs a GPU"),
        (["--devices", "3"], "--devices 3: TensorFlow sees 1 CPU here"),
        (["--devices", "5"], "--batch_size 12 can't be spread over 5 devices"),
        (["--devices", "0"], "--devices must be at least 1"),
        (["--layer_decay", "0"], "--layer_decay lies above 0 and up to 1"),
        (["--warm_up", "1"], "--lr_warmup lies from 0 to below 1"),
        (["--lr", "-1"], "--learning_rate must be above 0"),
        (["--augment", "strange"], "--augment"),
        (["--from_store", "store", "--unfreeze_after", "a_add"], "give INPUT with --init_from, or --from_store, not both"),
        (["--layout", "class"], "has the classes"),
        (["--head", "mlp"], "--head is of a head to train first, and that of --init_from is there: leave it out"),
        (["--layer_decay", "0.1"], "--layer_decay is of layers of the backbone, and none is unfrozen: leave it out"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_bad_flags(
    changes: list[str],
    told: str,
    photos: pathlib.Path,
    maps_run: pathlib.Path,
    tmp_path: pathlib.Path,
    one_line: Callable[[], str],
) -> None:
    assert main([*flags(config(photos, maps_run, tmp_path / "run")), *changes]) == 2
    assert told in one_line()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], "give INPUT and --init_from RUN0"),
        (["PHOTOS"], "give INPUT and --init_from RUN0"),
        (["--init_from", "RUN0"], "give INPUT and --init_from RUN0"),
        (["PHOTOS", "--init_from", "nowhere"], "there is no run at 'nowhere': make one with `headstart train"),
        (["nowhere", "--init_from", "RUN0"], "the input 'nowhere' does not exist"),
        (["--from_store", "STORE"], "--from_store needs --unfreeze_after LAYER"),
        (["--from_store", "STORE", "--unfreeze_last", "2"], "--from_store needs --unfreeze_after LAYER"),
        (
            ["--from_store", "STORE", "--unfreeze_after", "b_relu"],
            "has no unpooled tap b_relu:none, only c_add:avg, a_add:none",
        ),
        (
            ["--from_store", "STORE", "--unfreeze_after", "c_conv", "--init_from", "RUN0"],
            "not every path of the backbone leads through 'c_conv'",
        ),
        (["--from_store", "STORE", "--unfreeze_after", "c_add"], "has no unpooled tap c_add:none"),
        (
            ["--from_store", "STORE", "--unfreeze_after", "a_add", "--label_column", "kind"],
            "--label_column says how INPUT is read, and --from_store reads what is stored: leave it out",
        ),
        (["--from_store", "STORE", "--unfreeze_after", "a_add", "--dropout", "0.9"], "--dropout is of the mlp"),
        (["--from_store", "nowhere", "--unfreeze_after", "a_add"], "headstart extract INPUT --store nowhere"),
    ],
)
def test_bad_sources(
    argv: list[str],
    told: str,
    photos: pathlib.Path,
    maps_store: pathlib.Path,
    maps_run: pathlib.Path,
    tmp_path: pathlib.Path,
    one_line: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    known = {"PHOTOS": str(photos), "STORE": str(maps_store), "RUN0": str(maps_run)}
    assert main(["finetune", *(known.get(argument, argument) for argument in argv), "--run", "run"]) == 2
    assert told in one_line()
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_backbone_or_dataset_is_refused(
    run: pathlib.Path, maps_run: pathlib.Path, maps_store: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(UserError, match=r"has another backbone than .* \(.*backbone"):
        finetune.finetune(from_store(maps_store, run, tmp_path / "run"))
    start = pathlib.Path(shutil.copytree(maps_run, tmp_path / "start"))
    kept = json.loads((start / "config.json").read_text(encoding="utf-8"))
    (start / "config.json").write_text(json.dumps({**kept, "dataset_digest": "0"}), encoding="utf-8")
    with pytest.raises(UserError, match="was trained on another dataset than"):
        finetune.finetune(from_store(maps_store, start, tmp_path / "run"))


def test_a_run_that_is_not_complete_or_a_foreign_folder_is_refused(
    photos: pathlib.Path, maps_run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    start = pathlib.Path(shutil.copytree(maps_run, tmp_path / "start"))
    (start / "metrics.json").unlink()
    with pytest.raises(UserError, match="is not complete"):
        finetune.finetune(config(photos, start, tmp_path / "run"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="holds something else than a run"):
        finetune.finetune(config(photos, maps_run, tmp_path / "mine"))


def test_keras_is_left_as_it_was(photos: pathlib.Path, tuned: pathlib.Path) -> None:
    loaded = keras.saving.load_model(tuned / "model.keras", compile=False)
    answer = loaded(np.zeros((1, 50, 60, 3), np.uint8), training=True)
    np.testing.assert_allclose(np.asarray(answer), np.asarray(loaded(np.zeros((1, 50, 60, 3), np.uint8), training=False)))
