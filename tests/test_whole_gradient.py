"""`headstart train --solver lbfgs`: a linear head by whole gradients, in few epochs, the same one each time."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from headstart.cli import main
from headstart.features.errors import UserError
from headstart.features.spec import Tap
from headstart.training.fitting import blocks, checkpoint, first_step
from headstart.training.fitting.fit import fit_head
from headstart.training.fitting.recipe import FitResult, Recipe
from headstart.training.fitting.sources import ArraySource, moments
from headstart.training.heads import begin_at_shares, build_head
from headstart.training.runs.run_folder import Run
from headstart.training.tasks.task import ONE, SEVERAL, Task
from headstart.training.train import train
from headstart.training.train_config import TrainConfig
from tests.conftest import extracted, raises
from tests.test_finetune import press_ctrl_c
from tests.test_train_head import history_of

SIZE, CLASSES = 6, 4


def examples(count: int, seed: int = 0, several: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Features of classes that overlap, along axes that are neither as long as each other nor upright; and labels."""
    generator = np.random.default_rng(seed)
    turn = np.linalg.qr(np.random.default_rng(9).normal(size=(SIZE, SIZE)))[0] * np.geomspace(1, 0.3, SIZE)
    centres = np.random.default_rng(8).normal(size=(CLASSES, SIZE))
    if several:
        labels = generator.integers(0, 2, (count, CLASSES), dtype=np.uint8)
        middle = labels @ centres
    else:
        labels = generator.choice(CLASSES, count, p=[0.55, 0.25, 0.15, 0.05])
        middle = centres[labels]
    return ((middle + generator.normal(size=(count, SIZE))) @ turn).astype(np.float32), labels


def fitted(
    splits: dict[str, tuple[np.ndarray, np.ndarray]], task: Task = ONE, **changes: Any
) -> tuple[keras.Model, FitResult]:
    features, labels = splits["train"]
    head = build_head("linear", Tap("x", "avg", (SIZE,)), CLASSES, moments([features]), activation=task.activation)
    if task.several:
        begin_at_shares(head, labels)
    monitor = "val_loss" if "validation" in splits else "loss"
    values = {"epochs": 100, "patience": 100, "monitor": monitor, "learning_rate": 1.0, "task": task, "solver": "lbfgs"}
    return head, fit_head(head, ArraySource(splits, 32, 0), Recipe(**{**values, **changes}))


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("largest", [4, first_step.LARGEST])
def test_it_ends_at_the_optimum(several: bool, largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing chooses the ridge, it is SIZE / images. Of 4 directions the covariance is known, of the others guessed."""
    monkeypatch.setattr(first_step, "LARGEST", largest)
    features, labels = examples(3000, several=several)
    head, result = fitted({"train": (features, labels)}, SEVERAL if several else ONE)
    mean, deviation = moments([features])
    standard = (features - mean) / deviation
    shares = labels.mean(0) if several else np.full(CLASSES, 1 / CLASSES)
    curvature = (shares * (1 - shares)).mean() if several else 1 / CLASSES
    known = LogisticRegression(C=1 / SIZE / curvature, max_iter=10_000, tol=1e-8)
    if several:
        theirs = np.stack([known.fit(standard, column).predict_proba(standard)[:, 1] for column in labels.T], 1)
    else:
        theirs = known.fit(standard, labels).predict_proba(standard)
    np.testing.assert_allclose(head.predict(features, verbose=0), theirs, atol=2e-3)
    assert ("accuracy" in result.history) is not several and not result.interrupted


@pytest.mark.parametrize("count", [3, 40, 250])
def test_many_numbers_are_as_good_as_few(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same features, turned in a room of 300 numbers: images span what is to be known, some as well as all."""
    monkeypatch.setattr(first_step, "LARGEST", 100)
    monkeypatch.setattr(first_step, "SPANNING", 90 * 300)
    few, many = examples(count), examples(2000, seed=1)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(300, SIZE)))[0].T  # [SIZE, 300]
    splits = {"train": few, "validation": many}
    turned = {name: (features @ turn, labels) for name, (features, labels) in splits.items()}
    mean, deviation = np.zeros(300, np.float32), np.ones(300, np.float32)
    losses = []
    for data, size in ((splits, SIZE), (turned, 300)):
        head = build_head("linear", Tap("x", "avg", (size,)), CLASSES, (mean[:size], deviation[:size]))
        recipe = Recipe(epochs=100, patience=100, monitor="val_loss", learning_rate=1.0, solver="lbfgs")
        losses.append(min(fit_head(head, ArraySource(data, 32, 0), recipe).history["val_loss"]))
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


@pytest.mark.parametrize("seed", range(4))
def test_the_ridge_is_the_same_from_wherever_it_is_looked_for(seed: int) -> None:
    one, other = examples(40, seed), examples(60, seed + 100)
    training, validation = ([(*split, np.ones(len(split[1]), np.float32))] for split in (one, other))
    found = first_step._moments(training, 40, (SIZE, CLASSES), False)  # type: ignore[arg-type]
    assert found.span is None
    np.testing.assert_allclose(found.products, one[0].T @ one[0] / 40, rtol=1e-5, atol=1e-6)

    def step(ridge: float) -> np.ndarray:
        return np.linalg.solve(found.products + ridge * np.eye(SIZE), found.slopes) / -found.shares

    bias = np.log(found.shares)
    chosen = {first_step._chosen(step, near, bias, validation, False) for near in first_step.RIDGES}  # type: ignore[arg-type]
    assert len(chosen) == 1


def test_the_best_epoch_is_kept_and_patience_ends_it() -> None:
    few, many = examples(40), examples(2000, seed=1)
    head, result = fitted({"train": few, "validation": many}, patience=3)
    losses = result.history["val_loss"]
    assert result.best_epoch == np.argmin(losses) + 1 and len(losses) == result.best_epoch + 3
    loss = keras.losses.SparseCategoricalCrossentropy()(many[1], head.predict(many[0], verbose=0))
    assert float(loss) == pytest.approx(min(losses), rel=1e-4)


def test_validation_counts_as_used_where_it_chose_the_first_step_alone() -> None:
    _, result = fitted({"train": examples(60), "validation": examples(60, seed=1)}, monitor="loss", epochs=2)
    assert result.used_for_selection == "validation"
    assert fitted({"train": examples(60)}, epochs=2)[1].used_for_selection == "train"


@pytest.mark.slow
def test_weights_count_as_copies_do() -> None:
    features, labels = examples(4000)
    twice = np.concatenate([np.arange(4000), np.flatnonzero(labels == 3)])
    head, _ = fitted({"train": (features, labels)}, class_weight={0: 1.0, 1: 1.0, 2: 1.0, 3: 2.0})
    other, _ = fitted({"train": (features[twice], labels[twice])})
    np.testing.assert_allclose(head.predict(features, verbose=0), other.predict(features, verbose=0), atol=1e-2)


def test_features_that_tell_nothing_leave_the_shares() -> None:
    labels = np.array([0, 0, 0, 1])
    head, result = fitted({"train": (np.ones((4, SIZE), np.float32), labels)})
    assert not result.interrupted
    np.testing.assert_allclose(head.predict(np.ones((1, SIZE), np.float32), verbose=0)[0], [0.75, 0.25, 0, 0], atol=0.01)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_features_that_are_no_numbers_are_told(split: str) -> None:
    splits = {"train": examples(50), "validation": examples(50)}
    splits[split][0][7] = np.nan
    with pytest.raises(UserError, match="split is not finite"):
        fitted(splits)


@pytest.mark.slow
def test_the_command_trains_the_same_head_again(
    store: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [tmp_path / name for name in ("one", "other")]
    for run in runs:
        assert main(["train", str(store), "--run", str(run), "--solver", "lbfgs", "--class_weight", "balanced"]) == 0
    one, other = (Run.open(str(run)) for run in runs)
    assert "agrees with the stored features" in capsys.readouterr().out
    assert one.metrics["val_accuracy"] > 0.8 and one.metrics["calibration"]["temperature"] > 0
    for ours, theirs in zip(one.model().get_weights(), other.model().get_weights()):
        assert np.array_equal(ours, theirs)
    assert len(history_of(runs[0])["val_loss"]) == one.metrics["epochs"]


@pytest.mark.slow
def test_without_a_validation_split_the_temperature_is_out_of_fold(photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "train").symlink_to(photos / "train")
    store = extracted(tmp_path / "photos", tmp_path / "store")
    run = train(TrainConfig(store=str(store), run=str(tmp_path / "run"), solver="lbfgs", epochs=5))
    assert run.metrics["calibration"]["out_of_fold"] and run.metrics["best_epoch"] == len(history_of(run.path)["loss"])


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0, blocks.KEPT_BYTES])
def test_ctrl_c_keeps_the_best_so_far(
    kept: int, store: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["train", str(store), "--run", str(tmp_path / "run"), "--solver", "lbfgs"]
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.BestCheckpoint, "is_over", lambda keep: press_ctrl_c() if keep.epochs == 2 else False)
        patch.setattr(blocks, "KEPT_BYTES", kept)
        assert main(argv) == 130
    assert "interrupted: this is the best so far" in capsys.readouterr().out
    assert Run.open(str(tmp_path / "run")).metrics["epochs"] == 2
    assert main(argv) == 0
    assert Run.open(str(tmp_path / "run")).metrics["epochs"] > 2


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--head", "mlp"], "--solver lbfgs is for the linear head, and --head is mlp"),
        (["--refit"], "solver is of training by epochs, and --refit finds the optimum without: leave it out"),
        (["--learning_rate", "0.1"], "learning_rate is of --solver adam, and --solver lbfgs has none: leave it out"),
        (["--batch_size", "64"], "batch_size is of --solver adam"),
    ],
)
def test_what_does_not_go_with_it_is_refused(
    flags: list[str], told: str, store: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(store), "--run", str(tmp_path / "run"), "--solver", "lbfgs", *flags]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "plain", "solver"),
    [
        ({}, True, "lbfgs"),
        ({}, False, "adam"),
        ({"head": "mlp"}, True, "adam"),
        ({"learning_rate": 0.1}, True, "adam"),
        ({"epochs": 3, "patience": 2}, True, "lbfgs"),
        ({"solver": "adam"}, True, "adam"),
        ({"solver": "lbfgs"}, False, "lbfgs"),
    ],
)
def test_it_is_what_auto_means_for_a_linear_head(flags: dict[str, Any], plain: bool, solver: str) -> None:
    settled = TrainConfig(store="store", run="run", **flags).settled(plain)
    assert settled.solver == solver and settled.precision_asked == ("float32" if solver == "lbfgs" else "auto")


def test_a_head_of_one_s_own_is_not_for_it(store: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with raises("bad-flag"):
        train(TrainConfig(store=str(store), run=str(tmp_path / "run"), solver="lbfgs"), head=keras.layers.Dense(3))
