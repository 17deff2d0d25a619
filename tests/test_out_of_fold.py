"""A temperature where there is no validation split: from heads that did not see the images that decide it."""

from __future__ import annotations

import pathlib
import shutil
import signal
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.cli import main
from headstart.commands.train import describe
from headstart.features import runtime
from headstart.features.store.epochs import Position
from headstart.features.store.feature_store import FeatureStore
from headstart.training.fitting import fit, out_of_fold
from headstart.training.fitting.calibrate import INTERRUPTED, NO_LOGITS, NOT_ASKED
from headstart.training.fitting.pipeline import as_it_is
from headstart.training.fitting.sources import StoreSource
from headstart.training.runs.run_folder import Run
from headstart.training.scoring.folds import ALL_ALONE, FOLDS, ONE_GROUP, fold_of
from headstart.training.scoring.temperature import figures, without_temperature
from headstart.training.train import train
from headstart.training.train_config import TrainConfig
from tests.conftest import CLASSES, extracted, raises, rewrite_manifest, small_backbone_flags, write_photos
from tests.test_train_head import change_features, quick, stand_in  # noqa: F401  # fixtures

# The folds.


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=60), st.integers(0, 99))
def test_folds_hold_whole_groups_and_each_class_in_several(pairs: list[tuple[int, int]], seed: int) -> None:
    groups, labels = [str(group) for group, _ in pairs], np.array([label for _, label in pairs])
    folds = fold_of(groups, labels, 4, seed)
    of = {group: {fold for name, fold in zip(groups, folds) if name == group} for group in groups}
    assert all(len(each) == 1 for each in of.values())
    assert set(folds) == set(range(min(FOLDS, len(of))))
    assert np.array_equal(folds, fold_of(groups, labels, 4, seed))
    assert np.array_equal(folds, fold_of(groups, np.eye(4, dtype=np.uint8)[labels], 4, seed))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(2, 30), min_size=2, max_size=5), st.integers(0, 99))
def test_each_class_is_in_about_equal_parts(counts: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    folds = fold_of([str(number) for number in range(len(labels))], labels, len(counts), seed)
    for label in range(len(counts)):
        parts = np.bincount(folds[labels == label], minlength=FOLDS)
        assert parts.max() - parts.min() <= 1


def test_another_seed_is_another_division() -> None:
    names, labels = [str(number) for number in range(80)], np.arange(80) % 2
    assert not np.array_equal(fold_of(names, labels, 2, 3), fold_of(names, labels, 2, 4))


# In a run.

CHANNELS = 1280  # of the stand-in's last map


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A store of 180, 90 and 180 images of three classes."""
    folder = tmp_path_factory.mktemp("many")
    counts = {split: dict.fromkeys(CLASSES, count) for split, count in {"train": 60, "validation": 30, "test": 60}.items()}
    write_photos(folder / "photos", counts)
    return extracted(folder / "photos", folder / "store")


@pytest.fixture
def without(many: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """The same without its validation split."""
    copy = pathlib.Path(shutil.copytree(many, tmp_path / "without"))
    rewrite_manifest(copy, lambda manifest: manifest["generations"][0]["splits"].pop("validation"))
    return copy


@pytest.fixture
def overconfident(monkeypatch: pytest.MonkeyPatch, quick: None) -> None:  # noqa: F811
    """Features of much noise and a little of the class, which a head learns by heart."""

    def noise(features: np.ndarray, labels: np.ndarray, split: str) -> np.ndarray:
        return np.random.default_rng(len(split)).normal(size=features.shape) + 1.5 * np.eye(CHANNELS)[labels]

    change_features(monkeypatch, noise)


def config(store: pathlib.Path, run: pathlib.Path, **changes: Any) -> TrainConfig:
    return TrainConfig(**{"store": str(store), "run": str(run), "epochs": 12, "learning_rate": 3e-3, **changes})


def answers(run: Run, store: pathlib.Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """(labels, probabilities) of the saved model's head on a split's features."""
    opened = FeatureStore.open(str(store))
    features = opened.features(split).all().astype(np.float32)
    return opened.labels(split), np.asarray(run.model().get_layer("head")(features))


@pytest.mark.slow
def test_it_finds_what_a_validation_split_finds_and_mends_the_test_split(
    many: pathlib.Path, without: pathlib.Path, tmp_path: pathlib.Path, overconfident: None
) -> None:
    run = train(config(without, tmp_path / "run"))
    plain = train(config(without, tmp_path / "plain", no_calibrate=True))
    by_validation = train(config(many, tmp_path / "validation", monitor="loss", patience=12))
    found = run.metrics["calibration"]
    assert found["out_of_fold"] and found["folds"] == FOLDS and found["examples"] == found["groups"] == 180
    assert found["after"]["log_loss"] < found["before"]["log_loss"]
    assert run.temperature > 1.2 and abs(np.log(run.temperature / by_validation.temperature)) < 0.2
    by = "calibrated by 180 images out of fold (5 folds of the training split)"
    assert f"{by}: temperature {run.temperature:.3g}, log loss" in describe(run)
    assert plain.metrics["calibration"] == {"temperature": 1.0, "why_not": NOT_ASKED}
    (labels, after), (_, before) = answers(run, without, "test"), answers(plain, without, "test")
    assert figures(labels, after)["log_loss"] < figures(labels, before)["log_loss"] - 0.05
    np.testing.assert_allclose(without_temperature(after, run.temperature), before, atol=1e-5)


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """24 images to learn from, two in each group, each in two views; and 3 to test on."""
    folder = tmp_path_factory.mktemp("grouped")
    write_photos(folder / "photos", {"train": dict.fromkeys(CLASSES, 8), "test": dict.fromkeys(CLASSES, 1)})
    for path in list((folder / "photos").glob("*/*/*")):
        path.rename(path.with_name(f"{int(path.stem) // 2}-{path.name}"))
    argv = ["extract", str(folder / "photos"), "--store", str(folder / "store"), "--group_by", r"(.*)-", "--views", "2"]
    assert main([*argv, *small_backbone_flags()]) == 0
    return folder / "store"


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_no_group_is_torn_no_other_split_is_read_and_plain_views_answer(
    grouped: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned, answered, read = list[np.ndarray](), list[np.ndarray](), set[str]()
    fit_network, plain_batches, reader = fit.fit_network, out_of_fold.plain_batches, FeatureStore._reader

    def fitted(head: keras.Model, source: StoreSource, recipe: fit.Recipe) -> fit.FitResult:
        learned.append(source.learned)
        return fit_network(head, source, recipe)

    def batches(store: FeatureStore, tap: Any, split: str, examples: np.ndarray) -> Any:
        assert split == "train"
        answered.append(examples)
        for features, labels in plain_batches(store, tap, split, examples):
            np.testing.assert_array_equal(features, store.features("train").unaugmented()[examples])
            yield features, labels

    monkeypatch.setattr(out_of_fold, "fit_head", fitted)
    monkeypatch.setattr(out_of_fold, "plain_batches", batches)
    monkeypatch.setattr(FeatureStore, "_reader", lambda self, split: (read.add(split), reader(self, split))[1])
    run = train(config(grouped, tmp_path / "run", epochs=2))
    names = [example.group for example in FeatureStore.open(str(grouped)).examples("train")]
    assert len(set(names)) == 12 and run.metrics["calibration"]["groups"] == 12
    assert read == {"train"} and len(learned) == FOLDS and len(answered) == 2 * FOLDS
    for known, own in zip(learned, answered[::2]):
        assert not {names[row] for row in known} & {names[row] for row in own}
        assert sorted([*known, *own]) == list(range(24))
    assert sorted(np.concatenate(answered[::2])) == list(range(24))


@pytest.mark.parametrize("share_of_memory", [0.25, 0.0], ids=["memory", "disk"])
def test_an_epoch_of_some_examples_is_of_their_views_alone(
    grouped: pathlib.Path, share_of_memory: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "SHARE_OF_MEMORY", share_of_memory)
    store, learned = FeatureStore.open(str(grouped)), np.array([1, 4, 5, 20, 23])
    source = StoreSource(store, store.tap(), 2, 2, 7, learned)
    assert source.size.examples == 5 and source.validation_size is None
    everything, labels, views = store.features("train").all(), store.labels("train"), set()
    for epoch in range(8):
        seen = []
        for features, ids in source.epoch(Position(epoch), as_it_is).as_numpy_iterator():
            for feature, label in zip(features, ids):
                (row,) = np.flatnonzero((everything == feature).all(1))
                assert label == labels[row // 2]
                seen.append(row // 2)
                views.add(row % 2)
        assert sorted(seen) == learned.tolist()
    assert views == {0, 1}


@pytest.mark.slow
@pytest.mark.parametrize(("pattern", "why"), [("(train)/", ONE_GROUP), (r"(train/\w+)/", ALL_ALONE)])
def test_what_cannot_be_left_out_is_told(
    pattern: str, why: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = write_photos(tmp_path / "photos", {"train": {"anemone": 4, "fern": 3}})
    argv = ["extract", str(photos), "--store", str(tmp_path / "store"), "--group_by", pattern, *small_backbone_flags()]
    assert main(argv) == main(["train", str(tmp_path / "store"), "--run", str(tmp_path / "run"), "--epochs", "1"]) == 0
    assert f"not calibrated: {why}" in capsys.readouterr().out
    assert Run.open(str(tmp_path / "run")).metrics["calibration"] == {"temperature": 1.0, "why_not": why}


@pytest.mark.slow
def test_an_image_whose_class_the_others_lack_has_no_say(tmp_path: pathlib.Path) -> None:
    photos = write_photos(tmp_path / "photos", {"train": {"anemone": 6, "fern": 6, "gentian": 1}})
    run = train(config(extracted(photos, tmp_path / "store"), tmp_path / "run", epochs=2))
    assert run.metrics["calibration"]["examples"] == 12


def own_head() -> keras.Model:
    layers = [keras.layers.Dense(8, "relu"), keras.layers.Dropout(0.5), keras.layers.Dense(3, "softmax")]
    return keras.Sequential([keras.Input((CHANNELS,)), *layers])


@pytest.mark.slow
def test_a_head_of_ones_own_is_begun_again_for_each_fold_and_saved_as_it_was_trained(
    without: pathlib.Path, tmp_path: pathlib.Path, overconfident: None
) -> None:
    def trained(name: str, **changes: Any) -> Run:
        keras.utils.set_random_seed(1)
        return train(config(without, tmp_path / name, epochs=2, **changes), head=own_head())

    run, plain = trained("run"), trained("plain", no_calibrate=True)
    assert run.metrics["calibration"]["folds"] == FOLDS and run.temperature != 1
    mine, others = (each.model().get_layer("head").get_weights() for each in (run, plain))
    for one, other in zip(mine[:-2], others[:-2]):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(mine[-2:], others[-2:]):
        np.testing.assert_array_equal(one, other * np.float32(1 / run.temperature))


@pytest.mark.usefixtures("quick")
def test_a_head_without_logits_says_so(without: pathlib.Path, tmp_path: pathlib.Path) -> None:
    other = keras.Sequential([keras.Input((CHANNELS,)), keras.layers.Dense(3, "sigmoid")])
    run = train(config(without, tmp_path / "run", epochs=1), head=other)
    assert run.metrics["calibration"] == {"temperature": 1.0, "why_not": NO_LOGITS}


@pytest.mark.slow
def test_ctrl_c_in_a_fold_keeps_the_head_and_the_same_command_goes_on(
    without: pathlib.Path, tmp_path: pathlib.Path, overconfident: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def pressed(head: keras.Model, source: StoreSource, recipe: fit.Recipe) -> fit.FitResult:
        calls.append(recipe.progress)
        if len(calls) == 2:
            signal.getsignal(signal.SIGINT)(signal.SIGINT, None)  # type: ignore[operator,misc]
        return fit.fit_head(head, source, recipe)

    with monkeypatch.context() as patch:
        patch.setattr(out_of_fold, "fit_head", pressed)
        run = train(config(without, tmp_path / "run", epochs=2))
    assert calls == ["calibrate: fold 1 of 5", "calibrate: fold 2 of 5"] and run.metrics["interrupted"]
    assert run.metrics["calibration"] == {"temperature": 1.0, "why_not": INTERRUPTED} and run.metrics["epochs"] == 2
    again, whole = (train(config(without, tmp_path / name, epochs=2)) for name in ("run", "whole"))
    assert not again.metrics["interrupted"] and again.metrics["calibration"] == whole.metrics["calibration"]
    weights = [each.model().get_layer("head").get_weights() for each in (again, whole)]
    assert all(map(np.array_equal, *weights))


@pytest.mark.slow
def test_of_several_labels_thresholds_are_chosen_out_of_fold_too(
    several: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = pathlib.Path(shutil.copytree(several, tmp_path / "store"))
    rewrite_manifest(copy, lambda manifest: manifest["generations"][0]["splits"].pop("validation"))
    count = FeatureStore.open(str(copy)).count("train")
    assert main(["train", str(copy), "--run", str(tmp_path / "run"), "--epochs", "3"]) == 0
    told, metrics = capsys.readouterr().out, Run.open(str(tmp_path / "run")).metrics
    assert metrics["calibration"]["folds"] == FOLDS and metrics["calibration"]["examples"] == count
    assert all(0 < each["f1"] <= 1 for each in metrics["thresholds"]) and "val_mean_average_precision" not in metrics
    assert "thresholds of 3 classes, by the largest F1 out of fold: " in told
    assert main(["train", str(copy), "--run", str(tmp_path / "plain"), "--epochs", "1", "--no_calibrate"]) == 0
    assert all(each["f1"] is None for each in Run.open(str(tmp_path / "plain")).metrics["thresholds"])


def test_a_threshold_for_one_class_still_asks_for_a_validation_split(without: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with raises("missing-split"):
        train(config(without, tmp_path / "run", operating_point="recall@precision=0.9", positive_class="fern"))
