"""Evaluation: of a split, of another store, of a folder or table; the same images give the same answers each way."""

from __future__ import annotations

import csv
import json
import os
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.cli import main
from headstart.commands.evaluate import describe
from headstart.features.errors import UserError
from headstart.features.files import sha256_file
from headstart.features.spec import FeatureSpec
from headstart.features.store.feature_store import FeatureStore
from headstart.training.evaluation.evaluate import Evaluation, evaluate
from headstart.training.evaluation.evaluate_config import EvaluateConfig
from tests.conftest import generation, raises, rewrite_manifest

pytestmark = pytest.mark.usefixtures("loaded_once")

FILES = {"metrics.json", "predictions.csv", "confusion_matrix.png", "reliability.png"}


def predictions(folder: pathlib.Path) -> list[dict[str, str]]:
    with open(folder / "predictions.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def probabilities(rows: list[dict[str, str]]) -> dict[str, np.ndarray]:
    """CLASS/NAME to the row's probabilities."""
    columns = [name for name in rows[0] if name.startswith("p:")]
    return {"/".join(row["key"].split("/")[-2:]): np.array([float(row[name]) for name in columns]) for row in rows}


def evaluated(run: pathlib.Path, source: pathlib.Path | None = None, **options: Any) -> Evaluation:
    return evaluate(EvaluateConfig(run=str(run), input=source and str(source), **options))


def other_spec(store: pathlib.Path) -> None:
    """Makes a store say that its images were cropped."""
    values = json.loads((generation(store) / "spec.json").read_text(encoding="utf-8")) | {"resize_mode": "crop"}
    (generation(store) / "spec.json").write_text(json.dumps(values), encoding="utf-8")
    rewrite_manifest(store, lambda manifest: manifest.update(fingerprint=FeatureSpec.from_json(values).fingerprint))


def only(run: pathlib.Path, name: str, split: str = "") -> pathlib.Path:
    """The one evaluation of a folder or store of that name: NAME-DIGEST[-SPLIT]."""
    (found,) = (run / "evaluation").glob(f"{name}*-????????" + (f"-{split}" if split else ""))
    return found


def test_of_the_test_split(run_copy: pathlib.Path, store: pathlib.Path) -> None:
    metrics = evaluated(run_copy)
    folder = run_copy / "evaluation" / "test"
    assert set(os.listdir(folder)) == FILES
    assert (written := json.loads((folder / "metrics.json").read_text(encoding="utf-8"))) == metrics.to_json()
    measured = {"balanced_accuracy", "macro_f1", "auroc", "log_loss", "brier", "calibration_error", "per_class", "confusion"}
    assert measured <= set(written)
    with Image.open(folder / "confusion_matrix.png") as image:
        image.load()
        assert image.format == "PNG"
    opened = FeatureStore.open(str(store))
    assert metrics.split == "test" and metrics.scores.examples == metrics.scores.groups == 12
    assert metrics.scores.accuracy.value >= 0.9
    assert 0 <= metrics.scores.accuracy.low <= metrics.scores.accuracy.value <= metrics.scores.accuracy.high <= 1
    assert metrics.scores.majority_accuracy == pytest.approx(1 / 3)
    assert [entry.name for entry in metrics.scores.per_class] == opened.class_names
    assert metrics.dataset_digest == opened.manifest.dataset_digest
    assert metrics.spec_fingerprint == opened.spec.fingerprint
    assert len(metrics.split_digest) == 64
    assert metrics.unreadable == [] and metrics.groups_declared is False
    assert metrics.input == str(store)


def test_predictions_are_those_of_the_head(run_copy: pathlib.Path, store: pathlib.Path) -> None:
    from headstart.training.runs.run_folder import Run

    metrics = evaluated(run_copy)
    rows = predictions(run_copy / "evaluation" / "test")
    opened, opened_run = FeatureStore.open(str(store)), Run.open(str(run_copy))
    arrays = opened.to_numpy("test")
    expected = opened_run.model().get_layer("head").predict(arrays.features.astype(np.float32), verbose=0)
    assert [row["key"] for row in rows] == arrays.keys
    assert [row["truth"] for row in rows] == [opened.class_names[label] for label in arrays.labels]
    assert [row["truth"] for row in rows] == [key.split("/")[-2] for key in arrays.keys]
    assert [row["predicted"] for row in rows] == [opened.class_names[at] for at in expected.argmax(1)]
    np.testing.assert_allclose(
        [probabilities(rows)["/".join(key.split("/")[-2:])] for key in arrays.keys], expected, atol=1e-5
    )
    hits = np.mean([row["truth"] == row["predicted"] for row in rows])
    assert hits == pytest.approx(metrics.scores.accuracy.value)


@pytest.mark.parametrize(("split", "used"), [("train", True), ("validation", True), ("test", False)])
def test_says_what_chose_the_model(split: str, used: bool, run_copy: pathlib.Path) -> None:
    metrics = evaluated(run_copy, split=split)
    assert metrics.used_for_selection is used
    assert ("used for selection" in describe(metrics)) is used
    assert (run_copy / "evaluation" / split / "metrics.json").exists()


def test_twice_the_same_and_splits_apart(run_copy: pathlib.Path) -> None:
    first, again, other = evaluated(run_copy), evaluated(run_copy), evaluated(run_copy, split="validation")
    assert first == again
    assert first.split_digest != other.split_digest
    assert set(os.listdir(run_copy / "evaluation")) == {"test", "validation"}


def trained_again(run: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Puts another training in the run's place as soon as an evaluation calls the function of that name."""
    from headstart.training.evaluation import evaluate as module
    from headstart.training.runs import run_folder

    original = getattr(module, name)

    def late(*args: Any, **options: Any) -> Any:
        work = pathlib.Path(run_folder.begin(str(run), lambda file: False))
        for each in ("config.json", "model.keras", "seen.txt", "examples.csv"):
            shutil.copy(run / each, work / each)
        run_folder.finish(str(work), json.loads((run / "metrics.json").read_text(encoding="utf-8")))
        run_folder.publish(str(run))
        return original(*args, **options)

    monkeypatch.setattr(module, name, late)


@pytest.mark.parametrize("name", ["score", "_write"])
def test_figures_of_an_older_model_do_not_land_in_a_newer_run(
    name: str, run_copy: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated(run_copy)
    trained_again(run_copy, monkeypatch, name)
    with raises("replaced"):
        evaluated(run_copy)
    assert not (run_copy / "evaluation").exists() and not list(run_copy.glob("headstart-scratch-*"))


def test_killed_it_leaves_the_older_evaluation_whole(run_copy: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headstart.training.evaluation import evaluate as module

    evaluated(run_copy)
    with monkeypatch.context() as patch:
        patch.setattr(module, "confusion_matrix", lambda *args: (_ for _ in ()).throw(SystemExit))
        for split in ("test", "validation"):
            with pytest.raises(SystemExit):
                evaluated(run_copy, split=split)
    assert os.listdir(run_copy / "evaluation") == ["test"]
    assert set(os.listdir(run_copy / "evaluation" / "test")) == FILES


@pytest.mark.parametrize("given", ["store", "photos"])
def test_unknown_split_lists_what_there_is(given: str, run: pathlib.Path, store: pathlib.Path, photos: pathlib.Path) -> None:
    with pytest.raises(UserError, match="no split 'tset'; it has") as caught:
        evaluated(run, {"store": store, "photos": photos}[given], split="tset")
    assert all(name in str(caught.value) for name in ("train", "validation", "test")) and "Did you mean test?" in str(
        caught.value
    )
    with pytest.raises(UserError, match=r"no split 'val'; it has .*\. Did you mean validation\?"):
        evaluated(run, {"store": store, "photos": photos}[given], split="val")


def test_folder_gives_what_the_stored_features_do(run_copy: pathlib.Path, flat: pathlib.Path) -> None:
    of_store, of_folder = evaluated(run_copy), evaluated(run_copy, flat)
    stored = probabilities(predictions(run_copy / "evaluation" / "test"))
    computed = probabilities(predictions(only(run_copy, "flat")))
    assert len(computed) == 12 and computed.keys() == stored.keys()
    for key, row in stored.items():
        np.testing.assert_allclose(computed[key], row, atol=2e-3)
    assert of_folder.split == "all" and of_folder.used_for_selection is False
    assert of_folder.scores.confusion == of_store.scores.confusion
    assert of_folder.dataset_digest != of_store.dataset_digest
    with pytest.raises(UserError, match="no split 'test'; it has no splits; leave --split out"):
        evaluated(run_copy, flat, split="test")


def test_folder_with_splits_is_measured_on_one(run_copy: pathlib.Path, photos: pathlib.Path) -> None:
    metrics = evaluated(run_copy, photos)
    assert metrics.split == "test" and metrics.scores.examples == 12
    validation = evaluated(run_copy, photos, split="validation")
    assert validation.scores.examples == 12
    assert set(os.listdir(run_copy / "evaluation")) == {
        only(run_copy, "photos", "test").name,
        only(run_copy, "photos", "validation").name,
    }


def test_folder_named_like_a_split_spares_its_evaluation(run_copy: pathlib.Path, photos: pathlib.Path) -> None:
    evaluated(run_copy)
    before = (run_copy / "evaluation" / "test" / "metrics.json").read_bytes()
    evaluated(run_copy, photos / "test")  # CLASS/NUMBER in a folder that is called test
    assert (run_copy / "evaluation" / "test" / "metrics.json").read_bytes() == before


def test_images_that_chose_the_model_are_known_in_a_folder_too(run_copy: pathlib.Path, photos: pathlib.Path) -> None:
    assert evaluated(run_copy, photos, split="validation").used_for_selection is True


def test_table(run_copy: pathlib.Path, photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copytree(photos / "test", tmp_path / "images")
    with open(tmp_path / "list.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "group"])
        for path in sorted((tmp_path / "images").rglob("*.*")):
            writer.writerow([path.relative_to(tmp_path), path.parent.name, f"roll-{int(path.stem) // 2}"])
    metrics = evaluated(run_copy, tmp_path / "list.csv")
    rows = predictions(only(run_copy, "list"))
    assert metrics.scores.examples == len(rows) == 12
    assert metrics.scores.groups == 2 and metrics.groups_declared is True
    assert {row["group"] for row in rows} == {"roll-0", "roll-1"}
    evaluated(run_copy)
    stored = probabilities(predictions(run_copy / "evaluation" / "test"))
    for key, row in probabilities(rows).items():
        np.testing.assert_allclose(row, stored[key], atol=2e-3)


def test_a_table_of_other_column_names(run_copy: pathlib.Path, flat: pathlib.Path, store: pathlib.Path) -> None:
    rows = [f"{path.relative_to(flat)},{path.parent.name},roll-{path.stem}\n" for path in flat.rglob("*.*")]
    (flat / "list.csv").write_text("file,kind,roll\n" + "".join(rows), encoding="utf-8")
    names = {"image_column": "file", "label_column": "kind", "group_column": "roll"}
    metrics = evaluated(run_copy, flat / "list.csv", **names)
    assert metrics.scores.examples == 12 and metrics.scores.groups == 4
    with raises("bad-flag") as caught:
        evaluated(run_copy, store, **names)
    assert f"--image_column says how images are read, and '{store}' is a store" in str(caught.value)
    with raises("bad-flag"):
        evaluated(run_copy, label_column="kind")


def test_fewer_classes_than_the_run_keep_their_ids(run_copy: pathlib.Path, flat: pathlib.Path) -> None:
    shutil.rmtree(flat / "anemone")  # the folder's first class is the run's second
    metrics = evaluated(run_copy, flat)
    assert metrics.scores.examples == 8 and metrics.scores.accuracy.value >= 0.8
    assert {row["truth"] for row in predictions(only(run_copy, "flat"))} == {"fern", "gentian"}


def test_store_of_fewer_classes_keeps_the_runs_ids(run_copy: pathlib.Path, lopsided: pathlib.Path) -> None:
    metrics = evaluated(run_copy, lopsided, split="train")
    assert metrics.scores.examples == 16 and metrics.scores.accuracy.value >= 0.8
    assert metrics.used_for_selection is False  # another dataset's train
    assert os.listdir(run_copy / "evaluation") == [only(run_copy, "store", "train").name]


def test_unknown_class_is_refused(run: pathlib.Path, flat: pathlib.Path) -> None:
    (flat / "fern").rename(flat / "moss")
    with pytest.raises(UserError, match="knows the classes anemone, fern, gentian; it was not trained on moss"):
        evaluated(run, flat)


def test_unreadable_images_are_listed_and_the_rest_counted(run_copy: pathlib.Path, flat: pathlib.Path) -> None:
    (flat / "fern" / "00.jpg").write_bytes(b"not an image")
    damaged = (flat / "gentian" / "01.png").read_bytes()
    (flat / "gentian" / "01.png").write_bytes(damaged[: len(damaged) // 2])
    metrics = evaluated(run_copy, flat)
    assert metrics.scores.examples == 10
    assert [(entry.key, entry.stage) for entry in metrics.unreadable] == [
        ("fern/00.jpg", "decode"),
        ("gentian/01.png", "decode"),
    ]
    assert "not a JPEG" in metrics.unreadable[0].reason and "damaged PNG" in metrics.unreadable[1].reason
    rows = predictions(only(run_copy, "flat"))
    assert len(rows) == 10 and not {"fern/00.jpg", "gentian/01.png"} & {row["key"] for row in rows}
    assert all(row["truth"] == row["key"].split("/")[0] for row in rows)  # no row slipped into another's place
    assert "2 images can't be read, such as fern/00.jpg" in describe(metrics)


def test_nothing_readable_is_refused(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "bad" / "fern").mkdir(parents=True)
    (tmp_path / "bad" / "fern" / "a.jpg").write_bytes(b"no")
    with pytest.raises(UserError, match="none of the 1 images"):
        evaluated(run, tmp_path / "bad")


def test_other_features_are_refused_naming_both(run: pathlib.Path, store_copy: pathlib.Path) -> None:
    other_spec(store_copy)
    with pytest.raises(UserError, match=r"other features than the run was trained on .*resize_mode: crop is not squash"):
        evaluated(run, store_copy)


def change_config(run: pathlib.Path, **changes: str) -> None:
    config = json.loads((run / "config.json").read_text(encoding="utf-8")) | changes
    (run / "config.json").write_text(json.dumps(config), encoding="utf-8")


def test_store_that_moved(run_copy: pathlib.Path, store_copy: pathlib.Path, tmp_path: pathlib.Path) -> None:
    change_config(run_copy, store=str(tmp_path / "gone"))
    told = r"the store that '.*run-copy' was trained on is no longer at '.*gone': .*, headstart evaluate .*run-copy STORE"
    with pytest.raises(UserError, match=told):
        evaluated(run_copy)
    assert evaluated(run_copy, store_copy).split == "test"
    assert os.listdir(run_copy / "evaluation") == ["test"]  # the run's own dataset, wherever it lies
    assert evaluated(run_copy, store_copy, split="validation").used_for_selection is True


def test_images_that_moved(run_copy: pathlib.Path, tmp_path: pathlib.Path) -> None:
    change_config(run_copy, store="", input=str(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"the images that '.*run-copy' was trained on are no longer at '.*gone': .* IMAGES"):
        evaluated(run_copy)


def test_a_run_that_moved_with_its_store_inside(run_copy: pathlib.Path, store: pathlib.Path, tmp_path: pathlib.Path) -> None:
    change_config(run_copy, store=str(tmp_path / "where it was" / "store"))
    shutil.copytree(store, run_copy / "store")
    assert evaluated(run_copy).input == str(run_copy / "store")


def test_own_images_of_a_table_with_absolute_paths(
    run_copy: pathlib.Path, photos: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    table = tmp_path / "elsewhere" / "list.csv"
    table.parent.mkdir()
    table.write_text("path,label,split\n")
    keyed = (run_copy / "examples.csv").read_bytes().decode()
    for split in ("train", "validation", "test"):
        keyed = keyed.replace(f"\n{split}/", f"\n{photos}/{split}/")
    (run_copy / "examples.csv").write_bytes(keyed.encode())
    change_config(run_copy, store="", input=str(table))
    metrics = evaluated(run_copy)
    assert metrics.scores.examples == 12 and not metrics.unreadable
    assert {row["key"] for row in predictions(run_copy / "evaluation" / "test")} == {
        str(path) for path in (photos / "test").rglob("*.*")
    }


def test_copies_of_what_was_trained_on_are_counted_by_row(
    run_copy: pathlib.Path, photos: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "copies" / "fern").mkdir(parents=True)
    for number in range(9):
        shutil.copy(photos / "train" / "fern" / "00.jpg", tmp_path / "copies" / "fern" / f"{number}.jpg")
    shutil.copy(photos / "test" / "fern" / "00.jpg", tmp_path / "copies" / "fern" / "new.jpg")
    metrics = evaluated(run_copy, tmp_path / "copies")
    assert metrics.seen_in_training == 9 and metrics.used_for_selection is True
    assert metrics.unseen == {"examples": 1, "metric": "accuracy", "value": 1.0, "low": 0.025, "high": 1.0}
    told = describe(metrics).splitlines()
    assert told[1] == "  9 of them were trained on or chose the model; accuracy of the other 1: 100.00%  [2.50, 100.00]"
    assert told[2].startswith("  accuracy")
    seen = describe(evaluated(run_copy, split="train")).splitlines()
    assert seen[1] == "  36 of them were trained on or chose the model, which flatters it"


def test_digests_are_those_of_the_files(run_copy: pathlib.Path, photos: pathlib.Path, store: pathlib.Path) -> None:
    examples = FeatureStore.open(str(store)).examples("test")
    assert {example.key: example.digest for example in examples} == {
        path.relative_to(photos).as_posix(): sha256_file(str(path)) for path in (photos / "test").rglob("*.*")
    }


def test_no_run(tmp_path: pathlib.Path, store: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"there is no run at .*headstart train STORE --run"):
        evaluated(tmp_path / "none")


def test_main_prints_the_figures(run_copy: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run_copy), "--split", "validation"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("validation (used for selection): 12 examples in 12 groups")
    assert main(["evaluate", str(run_copy), "--split", "valid"]) == 2
    assert "it has train, validation, test" in (line := capsys.readouterr().err) or "it has test" in line


def test_images_that_chose_the_model_stay_known_when_the_store_grows(run_copy: pathlib.Path, store_copy: pathlib.Path) -> None:
    rewrite_manifest(store_copy, lambda manifest: manifest.update(dataset_digest="grown" + manifest["dataset_digest"]))
    assert evaluated(run_copy, store_copy, split="validation").used_for_selection
    metrics = evaluated(run_copy, store_copy, split="test")
    assert not metrics.used_for_selection and metrics.seen_in_training == 0
