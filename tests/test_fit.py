"""fit: a folder to an evaluated classifier, what is done already not done again; and the same through the public names."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

import headstart
from headstart.cli import main
from headstart.commands.fit import FitConfig, fit
from headstart.pipelines.extract_config import ExtractConfig
from headstart.training.train_config import TrainConfig
from tests.conftest import small_backbone, small_backbone_flags

FLAGS = small_backbone_flags()
FILES = {
    "config.json",
    "dead_letters.jsonl",
    "examples.csv",
    "history.csv",
    "learning_curve.png",
    "command.toml",
    "metrics.json",
    "report.html",
    "seen.txt",
    "model.keras",
    "evaluation",
    "store",
}


def snapshot(folder: pathlib.Path) -> dict[str, tuple[int, int]]:
    """Each file's inode and time of its last change."""
    paths = {path.relative_to(folder).as_posix(): path.stat() for path in folder.rglob("*") if path.is_file()}
    return {name: (found.st_ino, found.st_mtime_ns) for name, found in paths.items() if not name.startswith(".")}


@pytest.mark.slow
def test_fit_twice(photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    command = ["fit", str(photos), "--run", str(run), *FLAGS, "--epochs", "2"]
    assert main(command) == 0
    told = capsys.readouterr()
    assert "trained 2 epochs" in told.out and "test: 12 examples in 12 groups" in told.out
    assert f"plots and predictions: {run / 'evaluation' / 'test'}" in told.out
    assert set(os.listdir(run)) == FILES
    store, metrics = snapshot(run / "store"), json.loads((run / "evaluation" / "test" / "metrics.json").read_text())
    held = snapshot(run)
    assert main(command) == 0
    assert capsys.readouterr().err.count("already holds this: nothing to do") == 2
    assert {name for name, state in snapshot(run).items() if held.get(name) != state} <= {
        *(name for name in held if name.startswith("evaluation/test/")),
        "report.html",
    }
    assert main([*command, "--head", "mlp"]) == 0
    told = capsys.readouterr()
    assert "already holds this: nothing to do" in told.err
    assert snapshot(run / "store") == store  # not extracted again
    again = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())
    assert again["dataset_digest"] == metrics["dataset_digest"] and again["log_loss"] != metrics["log_loss"]
    assert json.loads((run / "config.json").read_text())["train"]["head"] == "mlp"


def test_fit_takes_a_store_of_its_own_and_measures_without_a_test_split(
    store: pathlib.Path, photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = pathlib.Path(shutil.copytree(photos, tmp_path / "photos", ignore=shutil.ignore_patterns("test")))
    store_folder, taps = str(tmp_path / "features"), ("top_activation", "block5c_add:grid1")
    extraction = ExtractConfig(input=str(images), store=store_folder, taps=taps, **small_backbone())
    training = TrainConfig(store=store_folder, run=str(tmp_path / "run"), epochs=1, batch_size=7, tap=taps[1])
    config = FitConfig(extract=extraction, train=training)
    metrics = fit(config)
    assert metrics.split == "validation" and metrics.used_for_selection is True
    assert "store" not in os.listdir(tmp_path / "run")
    run = headstart.Run.open(str(tmp_path / "run"))
    assert run.tap.name == "block5c_add:grid1" and run.config["train"]["batch_size"] == 7
    manifest = headstart.FeatureStore.open(str(tmp_path / "features")).manifest
    assert [each["batch_size"] for each in manifest.provenance.engines] == [2]  # --batch_size is the training's


def test_help_keeps_the_training_s_flags_together(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    extraction, training = capsys.readouterr().out.split("Trains a head on the features of a store:")
    assert "--batch_size" not in extraction.split("options:")[1] and "--streams" in extraction
    assert "--batch_size" in training and "--epochs" in training


def test_fit_refuses_before_the_long_part(photos: pathlib.Path, tmp_path: pathlib.Path, one_line: Callable[[], str]) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    assert main(["fit", str(photos), "--run", str(tmp_path), *FLAGS]) == 2
    assert "holds something else than a run" in one_line()
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_fit_refuses_to_replace_another_run_before_the_long_part(
    photos: pathlib.Path, run_copy: pathlib.Path, one_line: Callable[[], str]
) -> None:
    assert main(["fit", str(photos), "--run", str(run_copy), *FLAGS]) == 2
    assert "holds a run that `headstart train` made of" in one_line()
    assert not (run_copy / "store").exists()


def test_public_names(photos: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(photos)
    from headstart import EvaluateConfig, ExtractConfig, TrainConfig, evaluate, extract, train

    store = extract(ExtractConfig(input="photos", store="store", **small_backbone()))
    run = train(TrainConfig(store="store", run="run", epochs=10))
    assert evaluate(EvaluateConfig(run="run", split="test")).scores.accuracy.value >= 0.9
    assert isinstance(store, headstart.FeatureStore) and isinstance(run, headstart.Run)


@pytest.mark.parametrize("names", ["FitConfig, fit", "fit, FitConfig"])
def test_fit_is_the_function_in_any_order(names: str, tmp_path: pathlib.Path) -> None:
    code = f"from headstart import {names}; print(fit.__name__, callable(fit))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("fit True\n", "")


def test_every_public_name_is_there() -> None:
    assert all(getattr(headstart, name).__name__ == name for name in headstart.__all__ if name != "fit")  # has its own test
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        headstart.fitt  # noqa: B018
