"""`headstart train --refit`: a linear head at its optimum, on train and validation together."""

from __future__ import annotations

import pathlib
import re

import numpy as np
import pytest

from headstart.cli import main
from headstart.features.store.feature_store import FeatureStore
from headstart.training.evaluation.evaluate import evaluate
from headstart.training.evaluation.evaluate_config import EvaluateConfig
from headstart.training.runs.run_folder import Run
from headstart.training.scoring.folds import ALL_ALONE
from headstart.training.train import train
from headstart.training.train_config import TrainConfig
from tests.conftest import extracted, raises, small_backbone_flags, write_photos


@pytest.fixture(scope="module")
def refitted(store: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(TrainConfig(store=str(store), run=str(tmp_path_factory.mktemp("refit") / "run"), refit=True))


def test_it_is_trained_on_both_splits_and_says_so(refitted: Run, store: pathlib.Path) -> None:
    metrics, opened = refitted.metrics, FeatureStore.open(str(store))
    assert metrics["refit"]["examples"] == opened.count("train") + opened.count("validation") == 48
    assert metrics["accuracy"] > 0.9 and metrics["cross_validated_accuracy"] > 0.8 and "val_accuracy" not in metrics
    found = metrics["calibration"]
    assert found["out_of_fold"] and found["after"]["log_loss"] <= found["before"]["log_loss"]
    on_test, on_validation = (evaluate(EvaluateConfig(run=refitted.path, split=split)) for split in ("test", "validation"))
    assert not on_test.used_for_selection and on_validation.used_for_selection
    assert on_test.scores.accuracy.value > 0.8


def test_its_model_is_the_optimum_and_the_same_again(refitted: Run, store: pathlib.Path, tmp_path: pathlib.Path) -> None:
    again = train(TrainConfig(store=str(store), run=str(tmp_path / "run"), refit=True))
    layers = [run.model().get_layer("head").get_layer("logits").get_weights() for run in (refitted, again)]
    assert all(np.array_equal(one, other) for one, other in zip(*layers))
    plain = train(TrainConfig(store=str(store), run=str(tmp_path / "plain"), refit=True, no_calibrate=True))
    kernel, temperature = plain.model().get_layer("head").get_layer("logits").get_weights()[0], again.temperature
    assert np.allclose(layers[0][0] * temperature, kernel, rtol=1e-5, atol=1e-7)


def test_the_command_tells_what_it_came_to(
    store: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["train", str(store), "--run", str(tmp_path / "run"), "--refit", "--class_weight", "balanced"]
    assert main(argv) == 0
    out = capsys.readouterr().out.splitlines()
    figures = r"temperature [\d.]+, log loss [\d.]+ -> [\d.]+"  # and no calibration error, which few images can't tell
    assert out[0].startswith("fitted to 48 images of train and validation in ") and "cross-validated" in out[0]
    assert "agrees with the stored features" in out[1] and re.fullmatch(f"calibrated by 48 left-out images: {figures}", out[2])


def test_augmented_views_are_left_out_and_it_says_so(
    photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(tmp_path / "store")
    assert main(["extract", str(photos), "--store", store, "--views", "2", *small_backbone_flags()]) == 0
    assert main(["train", store, "--run", str(tmp_path / "run"), "--refit"]) == 0
    assert "warning: --refit learns from plain images alone, not from the augmented views of" in capsys.readouterr().err


def test_without_a_validation_split_it_is_trained_on_train_alone(photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / split).symlink_to(photos / split)
    run = train(TrainConfig(store=str(extracted(folder, tmp_path / "store")), run=str(tmp_path / "run"), refit=True))
    assert run.metrics["refit"]["splits"] == ["train"] and run.metrics["refit"]["examples"] == 36


def test_classes_of_one_group_each_are_not_cross_validated_and_it_says_so(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, store = write_photos(tmp_path / "photos", {"train": {"anemone": 4, "fern": 3}}), str(tmp_path / "store")
    assert main(["extract", str(photos), "--store", store, "--group_by", r"(train/\w+)/", *small_backbone_flags()]) == 0
    assert main(["train", store, "--run", str(tmp_path / "run"), "--refit"]) == 0
    told = capsys.readouterr().out
    assert "cross-validated" not in told and f"not calibrated: {ALL_ALONE}" in told


def test_what_it_leaves_no_split_for_is_refused(
    refitted: Run, store: pathlib.Path, photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["train", str(store), "--run", str(tmp_path / "run"), "--refit"]
    assert main([*argv, "--head", "mlp"]) == 2 and "--refit is for the linear head" in capsys.readouterr().err
    assert main([*argv, "--operating_point", "recall@precision=0.9", "--positive_class", "fern"]) == 2
    assert "which --refit trains on" in capsys.readouterr().err
    tuned = ["finetune", str(photos), "--init_from", refitted.path, "--run", str(tmp_path / "tuned"), "--epochs", "1"]
    assert main(tuned) == 2 and "nothing could say when to stop" in capsys.readouterr().err


def test_a_learner_of_one_s_own_is_not_refitted(store: pathlib.Path, tmp_path: pathlib.Path) -> None:
    import keras

    with raises("bad-flag"):
        train(TrainConfig(store=str(store), run=str(tmp_path / "run"), refit=True), head=keras.layers.Dense(3))
