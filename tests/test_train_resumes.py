"""`headstart train` killed, interrupted and called again: the same run, byte for byte, and nothing done twice."""

from __future__ import annotations

import csv
import json
import os
import pathlib
import signal
from typing import Any

import keras
import numpy as np
import pytest

from headstart.cli import main
from headstart.training.fitting import checkpoint
from headstart.training.runs import run_folder
from headstart.training.runs.run_folder import Run
from headstart.training.train import train
from headstart.training.train_config import TrainConfig
from tests.conftest import after_epoch, raises


def config(store: pathlib.Path, run: pathlib.Path, **changes: Any) -> TrainConfig:
    return TrainConfig(**{"store": str(store), "run": str(run), "batch_size": 12, "learning_rate": 1e-3, **changes})


def history_of(run: pathlib.Path) -> list[list[str]]:
    with open(run / "history.csv", encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def metrics_of(run: pathlib.Path) -> dict[str, Any]:
    return json.loads((run / "metrics.json").read_text(encoding="utf-8"))


def same_runs(one: pathlib.Path, other: pathlib.Path) -> None:
    """The same figures and the same weights, bit for bit: what `python -m tests.soak` asks of whole files."""
    assert history_of(one) == history_of(other)
    weights = [Run.open(str(run)).model().get_layer("head").get_weights() for run in (one, other)]
    assert all(map(np.array_equal, *weights))
    assert set(os.listdir(one)) == set(os.listdir(other))


@pytest.mark.slow
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_training_that_was_killed_goes_on(
    head: str, maps_store: pathlib.Path, tmp_path: pathlib.Path, kept_each_epoch: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die() -> None:
        raise RuntimeError("pulled the plug")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="pulled the plug"):
        after_epoch(patch, 3, die)
        train(config(maps_store, tmp_path / "killed", head=head, epochs=5))
    assert (tmp_path / "killed" / ".partial" / "checkpoint.npz").exists()
    with raises("output-taken") as refused:
        train(config(maps_store, tmp_path / "killed", head=head, epochs=5, learning_rate=0.1))
    assert "learning_rate: 0.001 there, 0.1 here" in str(refused.value)
    steps: list[int] = []
    with monkeypatch.context() as patch:
        after_epoch(patch, 4, lambda: steps.append(4))
        train(config(maps_store, tmp_path / "killed", head=head, epochs=5))
    train(config(maps_store, tmp_path / "whole", head=head, epochs=5))
    assert steps == [4]
    same_runs(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
def test_a_training_that_was_killed_after_its_last_epoch_takes_no_further_step(
    maps_store: pathlib.Path, tmp_path: pathlib.Path, kept_each_epoch: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise RuntimeError("pulled the plug")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="pulled the plug"):
        patch.setattr(run_folder, "finish", die)
        train(config(maps_store, tmp_path / "killed", epochs=2))
    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", die)
        train(config(maps_store, tmp_path / "killed", epochs=2))
    train(config(maps_store, tmp_path / "whole", epochs=2))
    same_runs(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
def test_ctrl_c_leaves_the_best_head_so_far_and_the_same_command_goes_on(
    maps_store: pathlib.Path,
    tmp_path: pathlib.Path,
    kept_each_epoch: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["train", str(maps_store), "--batch_size", "12", "--epochs", "4", "--run"]
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        after_epoch(patch, 2, lambda: signal.getsignal(signal.SIGINT)(signal.SIGINT, None))  # type: ignore[operator,misc]
        assert main([*argv, str(tmp_path / "run")]) == 130
    assert "interrupted: this is the best so far; the same command ends it" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is handler
    assert metrics_of(tmp_path / "run")["interrupted"] is True and metrics_of(tmp_path / "run")["epochs"] == 2
    assert Run.open(str(tmp_path / "run")).model().output_shape == (None, 3)
    assert main([*argv, str(tmp_path / "run")]) == main([*argv, str(tmp_path / "whole")]) == 0
    assert "interrupted" not in capsys.readouterr().out
    same_runs(tmp_path / "run", tmp_path / "whole")


def test_a_checkpoint_costs_a_share_of_the_time(tmp_path: pathlib.Path) -> None:
    now = [0.0]
    small = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    small.compile("sgd", "mse")
    keep = checkpoint.BestCheckpoint(str(tmp_path / "kept.npz"), {}, "loss", 99, share=0.1, clock=lambda: now[0])
    keep.set_model(small)
    written, original = [], keep.save

    def save() -> None:
        original()
        now[0] += 2.0
        written.append(keep.epochs)

    keep.save = save  # type: ignore[method-assign]
    for epoch in range(30):
        now[0] += 1.0
        keep.on_epoch_end(epoch, {"loss": 1.0 - epoch / 100})
    assert written == [1, 21]  # then 2 seconds in 20
