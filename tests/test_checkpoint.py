"""Checkpoints: all of a training's state, whole or not there; the best epoch; and Ctrl-C between two steps."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import threading
from typing import Any

import keras
import numpy as np
import pytest

from headstart.features import files
from headstart.training.fitting.adam import FusedAdam
from headstart.training.fitting.checkpoint import BestCheckpoint, interruptible
from headstart.training.fitting.recipe import Recipe

X = np.random.default_rng(0).normal(size=(32, 5)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(np.int64)


def model(seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(7, "relu"), keras.layers.Dropout(0.5), keras.layers.Dense(2, "softmax")]
    made = keras.Sequential([keras.Input((5,)), *layers])
    made.compile(FusedAdam(0.02), "sparse_categorical_crossentropy", metrics=["accuracy"])
    made.optimizer.build(made.trainable_variables)
    return made


def keeping(
    path: pathlib.Path, made: keras.Model, monitor: str = "val_loss", patience: int = 9, **identity: Any
) -> BestCheckpoint:
    keep = BestCheckpoint(str(path / "checkpoint.npz"), identity, monitor, patience)
    keep.set_model(made)
    return keep


def fit(made: keras.Model, keep: BestCheckpoint, epochs: int) -> None:
    made.fit(
        X, Y, batch_size=8, epochs=epochs, initial_epoch=keep.epochs, shuffle=False, validation_data=(X, Y), verbose=0,
        callbacks=[keep],
    )  # fmt: skip


def test_a_training_goes_on_as_if_nothing_had_been(tmp_path: pathlib.Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = keeping(tmp_path / "whole", model())
    fit(whole.model, whole, 6)
    first = keeping(tmp_path, model(), seed=1)
    fit(first.model, first, 3)
    again = keeping(tmp_path, model(seed=9), seed=1)
    assert again.load() and again.epochs == 3 and again.history == first.history
    fit(again.model, again, 6)
    assert again.history == whole.history and again.best_epoch == whole.best_epoch
    for ours, theirs in zip(again.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    again.restore_best(), whole.restore_best()
    for ours, theirs in zip(again.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_checkpoint_of_another_training_is_left_alone(tmp_path: pathlib.Path) -> None:
    assert not keeping(tmp_path, model(), seed=1).load()
    first = keeping(tmp_path, model(), seed=1)
    fit(first.model, first, 1)
    other = keeping(tmp_path, model(seed=9), seed=2)
    before = other.model.get_weights()
    assert not other.load() and other.epochs == 0
    assert all(map(np.array_equal, before, other.model.get_weights()))


@pytest.mark.parametrize(
    ("monitor", "values", "best"),
    [
        ("val_loss", [0.5, 0.3, 0.4, 0.3], 2),
        ("val_accuracy", [0.5, 0.7, 0.7, 0.6], 2),
        ("loss", [0.5, 0.6, 0.7, 0.8], 1),
        ("accuracy", [0.1, 0.2, 0.3, 0.4], 4),
    ],
)
def test_the_best_epoch_is_kept(monitor: str, values: list[float], best: int, tmp_path: pathlib.Path) -> None:
    keep = keeping(tmp_path, model(), monitor)
    for epoch, value in enumerate(values):
        keep.model.layers[0].bias.assign(np.full(7, epoch + 1))
        keep.on_epoch_end(epoch, {monitor: value})
    assert keep.best_epoch == best and keep.best_value == values[best - 1]
    keep.restore_best()
    np.testing.assert_array_equal(keep.model.layers[0].bias.numpy(), np.full(7, best, np.float32))


def test_nothing_worse_than_the_beginning_is_kept(tmp_path: pathlib.Path) -> None:
    keep = keeping(tmp_path, model(), "val_loss", patience=2)
    keep.start({"val_loss": 0.2, "val_accuracy": 0.9})
    before = keep.model.get_weights()
    for epoch in range(2):
        keep.model.stop_training = False
        keep.model.layers[0].bias.assign(np.ones(7))
        keep.on_epoch_end(epoch, {"val_loss": 0.2, "val_accuracy": 1.0})
        assert keep.model.stop_training is keep.is_over() is (epoch == 1)
    keep.restore_best()
    assert keep.best_epoch == 0 and all(map(np.array_equal, before, keep.model.get_weights()))
    taken_up = keeping(tmp_path, model(seed=9), "val_loss", patience=2)
    assert taken_up.load() and taken_up.best_epoch == 0 and taken_up.baseline == {"val_loss": 0.2, "val_accuracy": 0.9}
    assert taken_up.is_over()


def test_patience_waits_for_the_rate_to_fall(tmp_path: pathlib.Path) -> None:
    assert Recipe(20, 5, "val_loss", 1e-5, 0.1).not_before == 11
    keep = BestCheckpoint(str(tmp_path / "checkpoint.npz"), {}, "val_loss", 2, not_before=4)
    keep.set_model(model())
    stopped = []
    for epoch, value in enumerate([0.1, 0.2, 0.3, 0.4]):
        keep.on_epoch_end(epoch, {"val_loss": value})
        stopped.append(bool(keep.model.stop_training))
    assert stopped == [False, False, False, True]


def test_a_checkpoint_is_whole_or_the_older_one(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = keeping(tmp_path, model())
    keep.on_epoch_end(0, {"val_loss": 1.0})
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no room"):
        original = np.savez

        def savez(file: Any, **arrays: Any) -> None:
            original(file, **arrays)
            raise OSError("no room")

        patch.setattr(np, "savez", savez)
        keep.on_epoch_end(1, {"val_loss": 0.5})
    assert os.listdir(tmp_path) == ["checkpoint.npz"]
    taken_up = keeping(tmp_path, model(seed=9))
    assert taken_up.load() and taken_up.history == {"val_loss": [1.0]}
    assert files.sha256_file(keep.path)


CTRL_C = """
import os, signal, threading
from headstart.training.fitting.checkpoint import Interrupted, StopOnInterrupt, interruptible

before = signal.default_int_handler
signal.signal(signal.SIGINT, before)  # a process in the background has it ignored
try:
    with interruptible() as asked:
        assert not asked()
        os.kill(os.getpid(), signal.SIGINT)
        assert asked()
        stop = StopOnInterrupt(asked)
        for look in (stop.on_train_batch_end, stop.on_test_batch_end):
            try:
                look(0)
            except Interrupted:
                print("stopped")
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(1)
except KeyboardInterrupt:
    print("interrupted")
assert signal.getsignal(signal.SIGINT) is before
"""


@pytest.mark.slow
def test_ctrl_c_is_taken_note_of_once() -> None:
    done = subprocess.run([sys.executable, "-c", CTRL_C], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["stopped", "stopped", "interrupted"]


def test_another_thread_has_no_signals() -> None:
    found: list[bool] = []

    def work() -> None:
        with interruptible() as asked:
            found.append(asked())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
