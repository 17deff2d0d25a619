"""Images with several labels, from a table or a folder to predictions; and what is refused, in one line."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import pathlib
import shutil
from collections import Counter
from collections.abc import Callable

import keras
import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from headstart.cli import main
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.manifest import FORMAT_SEVERAL, read_manifest
from headstart.features.store.verify import faults
from headstart.pipelines import growth
from headstart.pipelines.extract import extract
from headstart.training.evaluation.evaluate import evaluate
from headstart.training.evaluation.evaluate_config import EvaluateConfig
from headstart.training.finetuning import head_pretraining
from headstart.training.finetuning.finetune import finetune
from headstart.training.finetuning.finetune_config import FinetuneConfig
from headstart.training.predicting.predict import predict
from headstart.training.predicting.predict_config import PredictConfig
from headstart.training.predicting.review import mean_entropy
from headstart.training.runs.run_folder import Run
from headstart.training.scoring.set_scores import SetScores
from headstart.training.train import train
from headstart.training.train_config import TrainConfig
from tests.conftest import SHAPES, after_epoch, draw_shapes, raises, small_backbone_flags
from tests.conftest import several_config as config
from tests.conftest import shapes_of as truth_of
from tests.pages import alone


def test_the_store_holds_sets(several: pathlib.Path, table: pathlib.Path) -> None:
    store, truth = FeatureStore.open(str(several)), truth_of(table)
    assert store.class_names == ["blue", "green", "red"] and store.label_delimiter == "|"
    assert json.loads((several / "manifest.json").read_text())["format"] == FORMAT_SEVERAL
    assert list(faults(str(several))) == []
    assert sum(map(store.count, store.splits)) == 120 and () in truth.values()
    for split in store.splits:
        arrays = store.to_numpy(split)
        assert arrays.labels.dtype == np.uint8 and arrays.labels.shape == (store.count(split), 3)
        for row, (key, labels) in enumerate(zip(arrays.keys, arrays.labels)):
            names = tuple(name for name, has in zip(store.class_names, labels) if has)
            assert names == truth[key] == store.examples(split)[row].labels
            assert store.example(split, row).labels == tuple(np.flatnonzero(labels))
    features, labels = next(iter(store.dataset("train", 8, shuffle=True)))
    assert labels.shape == (8, 3) and len(features) == 8
    assert store.map_style("test")[0][1].tolist() == store.labels("test")[0].tolist()


def test_a_store_is_exported_and_read_by_tfds(several: pathlib.Path, tmp_path: pathlib.Path) -> None:
    store = FeatureStore.open(str(several))
    store.to_parquet("test", str(tmp_path / "test.parquet"))
    assert [tuple(each) for each in pq.read_table(tmp_path / "test.parquet")["label"].to_pylist()] == [
        example.labels for example in store.examples("test")
    ]
    (folder,) = store.tfds_folders
    builder = tfds.builder_from_directory(folder)
    assert builder.info.features["label"].feature.names == store.class_names
    found = {each["key"].decode(): tuple(each["label"].tolist()) for each in tfds.as_numpy(builder.as_dataset(split="train"))}
    ids = {name: number for number, name in enumerate(store.class_names)}
    assert found == {each.key: tuple(ids[label] for label in each.labels) for each in store.examples("train")}
    assert () in found.values()


@pytest.mark.slow
def test_a_head_learns_decides_and_loads_in_keras_alone(several: pathlib.Path, several_run: pathlib.Path) -> None:
    run, store = Run.open(str(several_run)), FeatureStore.open(str(several))
    assert run.label_delimiter == "|" and run.metrics["val_mean_average_precision"] > 0.8
    assert "mean average precision" in run.words()
    assert [each["name"] for each in run.metrics["thresholds"]] == store.class_names
    model = keras.saving.load_model(several_run / "model.keras", safe_mode=True)
    assert model.get_layer("head").layers[-1].activation is keras.activations.sigmoid
    image = draw_shapes(("blue", "red"), np.random.default_rng(5))
    shares = np.asarray(model(np.asarray(image)[None]))[0]
    assert shares.shape == (3,) and (shares >= 0).all() and shares[0] + shares[2] > 1 + shares[1]
    history = (several_run / "history.csv").read_text().splitlines()[0]
    assert history == "epoch,loss,val_loss"


def test_it_is_evaluated_with_the_thresholds_of_validation(several_run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    copy = shutil.copytree(several_run, tmp_path / "run")
    found = evaluate(EvaluateConfig(run=str(copy)))
    assert isinstance(found.scores, SetScores)
    assert found.scores.mean_average_precision.value > found.scores.chance + 0.2
    assert found.scores.mean_average_precision.low <= found.scores.mean_average_precision.value
    thresholds = {each["name"]: each["threshold"] for each in Run.open(str(copy)).metrics["thresholds"]}
    assert {each.name: each.threshold for each in found.scores.per_class} == thresholds
    with open(os.path.join(found.folder, "predictions.csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == found.scores.examples
    for row in rows:
        assert row["predicted"] == "|".join(name for name in thresholds if float(row[f"p:{name}"]) >= thresholds[name])
    exact = np.mean([row["truth"] == row["predicted"] for row in rows])
    assert found.scores.subset_accuracy.value == pytest.approx(exact)
    assert [kind for kind, _ in found.pictures()] == ["image/png"] and "exact sets" in found.words()
    written = json.loads(pathlib.Path(found.folder, "metrics.json").read_text())
    assert written["mean_average_precision"]["value"] == found.scores.mean_average_precision.value
    assert main(["report", str(copy)]) == 0
    page = alone(copy / "report.html")
    assert page.sections == ["result", "data", "learning", "classes", "examples", "augmentation", "repeat"]
    assert f"{100 * found.scores.mean_average_precision.value:.1f}% on the {len(rows)} images of test" in page.texts["result"]
    assert all(name in page.texts["classes"] for name in thresholds) and len(page.all("svg")) == 2
    wrong = sum(row["truth"] != row["predicted"] for row in rows)
    assert f"{wrong} of {len(rows)} images have another set of labels" in page.texts["examples"]
    assert len(page.all("img")) == min(18, wrong)


def test_other_images_are_measured_too(several_run: pathlib.Path, table: pathlib.Path, tmp_path: pathlib.Path) -> None:
    copy, other = shutil.copytree(several_run, tmp_path / "run"), tmp_path / "other.csv"
    rows = [(str(table.parent / name), ";".join(labels)) for name, labels in list(truth_of(table).items())[:12]]
    with open(other, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([("path", "label"), *rows])
    found = evaluate(EvaluateConfig(run=str(copy), input=str(other), label_delimiter=";"))
    assert found.split == "all" and found.scores.examples == 12
    with raises("other-dataset"):  # as it is, "red;blue" is a label that nobody knows
        evaluate(EvaluateConfig(run=str(copy), input=str(other)))


def test_predictions_are_sets(
    several_run: pathlib.Path, table: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(table.parent / f"{number:03}.png") for number in range(4)]
    run = Run.open(str(several_run))
    thresholds = {each["name"]: each["threshold"] for each in run.metrics["thresholds"]}
    found = list(predict(PredictConfig(str(several_run), paths)))
    for each in found:
        assert each.labels == tuple(name for name in thresholds if each.probabilities[name] >= thresholds[name])
    capsys.readouterr()
    assert main(["predict", str(several_run), *paths, "nothing.png"]) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(rows[0]) == ["key", "labels", "p:blue", "p:green", "p:red", "error"]
    assert [row["labels"] for row in rows] == [*("|".join(each.labels) for each in found), ""] and rows[4]["error"]
    assert main(["predict", str(several_run), *paths, "--output", str(tmp_path / "p.jsonl"), "--review", "2"]) == 0
    with open(tmp_path / "review.csv", encoding="utf-8", newline="") as file:
        review = list(csv.DictReader(file))
    doubts = {each.key: mean_entropy(np.array(list(each.probabilities.values()))) for each in found}
    assert (
        len(review) == 2
        and (tmp_path / "review.png").exists()
        and review[0]["key"] == max(doubts, key=lambda key: doubts[key])
    )
    assert [float(row["uncertainty"]) for row in review] == [pytest.approx(doubts[row["key"]], abs=1e-3) for row in review]
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [tuple(line["labels"]) for line in lines] == [each.labels for each in found]
    assert main(["predict", str(several_run), *paths, "--output", str(tmp_path / "parts")]) == 0
    (part,) = (tmp_path / "parts" / "predictions").iterdir()
    assert [tuple(each) for each in pq.read_table(part)["labels"].to_pylist()] == [each.labels for each in found]


@pytest.mark.slow
def test_training_goes_on_where_it_was_killed(
    several: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, kept_each_epoch: None
) -> None:
    asked = {"store": str(several), "tap": "top_activation:avg", "epochs": 4, "head": "mlp", "precision": "mixed_bfloat16"}
    whole = train(TrainConfig(**asked, run=str(tmp_path / "whole")))

    def killed() -> None:
        raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        after_epoch(patch, 2, killed)
        train(TrainConfig(**asked, run=str(tmp_path / "again")))
    again = train(TrainConfig(**asked, run=str(tmp_path / "again")))
    assert again.metrics["thresholds"] == whole.metrics["thresholds"]
    histories = [(tmp_path / name / "history.csv").read_bytes() for name in ("whole", "again")]
    assert histories[0] == histories[1]


def test_a_head_and_a_loss_of_ones_own(several: pathlib.Path, tmp_path: pathlib.Path) -> None:
    asked = TrainConfig(store=str(several), run=str(tmp_path / "run"), tap="top_activation:avg", epochs=1)
    run = train(asked, head=keras.layers.Dense(3), loss=keras.losses.BinaryCrossentropy(from_logits=True))
    assert run.model().get_layer("head").layers[-1].activation is keras.activations.sigmoid
    with raises("bad-flag"):
        train(asked, loss="sparse_categorical_crossentropy")


@pytest.mark.slow
def test_fine_tuning_from_images_and_from_maps(
    several: pathlib.Path,
    several_run: pathlib.Path,
    table: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(head_pretraining, "EPOCHS", 10)
    asked = {"epochs": 1, "batch_size": 24}
    tuned = finetune(
        FinetuneConfig(
            input=str(table),
            init_from=str(several_run),
            run=str(tmp_path / "images"),
            unfreeze_from="top_conv",
            **asked,
        )
    )
    maps = finetune(FinetuneConfig(from_store=str(several), unfreeze_after="block5c_add", run=str(tmp_path / "maps"), **asked))
    for run in (tuned, maps):
        assert run.label_delimiter == "|" and len(run.metrics["thresholds"]) == 3
        found = evaluate(EvaluateConfig(run=run.path))
        assert isinstance(found.scores, SetScores) and found.scores.mean_average_precision.value > found.scores.chance


@pytest.mark.slow
def test_without_validation_thresholds_are_chosen_out_of_fold(table: pathlib.Path, tmp_path: pathlib.Path) -> None:
    store = extract(config(table, tmp_path / "store", splits="train=0.8,test=0.2"))
    run = train(TrainConfig(store=store.path, run=str(tmp_path / "run"), epochs=1))
    assert run.metrics["calibration"]["out_of_fold"] and run.metrics["calibration"]["folds"] > 1
    assert all(0 < each["threshold"] < 1 and each["f1"] is not None for each in run.metrics["thresholds"])
    assert "training loss" in run.words()
    plain = train(TrainConfig(store=store.path, run=str(tmp_path / "plain"), epochs=1, no_calibrate=True))
    assert {each["threshold"] for each in plain.metrics["thresholds"]} == {0.5}


def test_two_runs_are_compared(
    several: pathlib.Path,
    several_run: pathlib.Path,
    table: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cameras = {key: f"cam-{number % 2}" if labels else "empty" for number, (key, labels) in enumerate(truth_of(table).items())}
    with open(tmp_path / "cameras.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "camera"), *cameras.items()])
    by = {"by": ("camera",), "by_table": str(tmp_path / "cameras.csv")}
    first = shutil.copytree(several_run, tmp_path / "a")
    train(TrainConfig(store=str(several), run=str(tmp_path / "b"), tap="top_activation:avg", epochs=1))
    values = {}
    for path in (first, tmp_path / "b"):
        evaluation = evaluate(EvaluateConfig(run=str(path), **by))
        assert isinstance(evaluation.scores, SetScores)
        values[path.name] = evaluation.scores.mean_average_precision.value
        assert [row.value for row in evaluation.by["camera"]][-1] == "empty"
        assert {row.value: row.count for row in evaluation.by["camera"]} == Counter(
            cameras[example.key] for example in FeatureStore.open(str(several)).examples("test")
        )
        written = json.loads(pathlib.Path(evaluation.folder, "metrics.json").read_text())["by"]["camera"]
        figures = [row["mean_average_precision"]["value"] for row in written]
        assert figures[0] <= figures[1] and figures[2] is None and written[2]["chance"] is None
        assert "mean average precision  chance" in evaluation.lines_by()[0]
    capsys.readouterr()
    assert main(["compare", str(first), str(tmp_path / "b"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    with open(found["table"], encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows and all(row["predicted_a"] != row["predicted_b"] for row in rows) and not found["why_not"]
    with Image.open(found["sheet"]) as sheet:
        assert sheet.width > 150
    assert "A " in alone(tmp_path / "b/evaluation/test/report.html").texts["differing"]
    mean = found["means"][0]
    assert (mean["first"], mean["second"]) == (pytest.approx(values["a"], abs=1e-3), pytest.approx(values["b"], abs=1e-3))
    assert mean["difference"]["low"] <= mean["difference"]["difference"] <= mean["difference"]["high"]
    drop = values["a"] - values["b"]
    assert found["drop"] == pytest.approx(drop) and {each["name"] for each in found["classes"]} == set(SHAPES)
    flags = ["--max_drop", "0", "--by", "camera", "--by_table", by["by_table"]]
    assert main(["compare", str(first), str(tmp_path / "b"), *flags]) == int(drop > 0)
    told = capsys.readouterr().out.split("mean average precision by camera")[1].splitlines()[1:3]
    assert {line.split()[0]: int(line.split()[1]) for line in told} == {
        row["value"]: row["count"] for row in written if row["value"] != "empty"
    }
    page = alone(tmp_path / "b" / "evaluation" / "test" / "report.html").texts["parts"]
    assert "By camera" in page and "mean average precision of camera" in page
    evaluations = pathlib.Path(first, "evaluation")
    shutil.copytree(evaluations / "test", evaluations / "store-1-test")
    lines = (evaluations / "test" / "predictions.csv").read_text().splitlines(keepends=True)
    (evaluations / "test" / "predictions.csv").write_text("".join(lines[:-1]))  # as before its store grew
    assert main(["compare", str(first), str(tmp_path / "b")]) == 0
    assert f"  A {first}, evaluated as store-1-test\n  B {tmp_path / 'b'}\n" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "b")]) == 0
    page = alone(tmp_path / "b" / "report.html").texts["classes"]
    assert "By camera, the worst first" in page and f"{100 * figures[0]:.1f}%" in page


def link(path: pathlib.Path, *others: pathlib.Path) -> None:
    for other in others:
        other.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, other)


@pytest.fixture
def folder(table: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """The same images in class folders, one of several labels in each of them; one without any where only a + stands."""
    for name, labels in list(truth_of(table).items())[:60]:
        link(table.parent / name, *(tmp_path / "folder" / label / f"{label}-{name}" for label in labels or ("+",)))
    return tmp_path / "folder"


@pytest.mark.slow
def test_copies_in_several_class_folders_are_one_image(
    folder: pathlib.Path, table: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    store = extract(config(folder, tmp_path / "store", label_delimiter="+"))
    expected = {
        hashlib.sha256((table.parent / name).read_bytes()).hexdigest(): labels
        for name, labels in list(truth_of(table).items())[:60]
    }
    assert {example.digest: example.labels for example in store.table} == expected and len(store.table) == 60
    copies = sum(max(0, len(labels) - 1) for labels in expected.values())
    assert store.manifest.left_out["copies"] == copies and list(faults(store.path)) == []
    totals = store.manifest.totals
    assert totals.found == totals.stored + totals.left_out
    run = train(TrainConfig(store=store.path, run=str(tmp_path / "run"), epochs=1))
    tuned = finetune(FinetuneConfig(input=str(folder), init_from=run.path, run=str(tmp_path / "tuned"), epochs=1))
    assert tuned.label_delimiter == "+"
    found = evaluate(EvaluateConfig(run=run.path, input=str(folder)))
    assert found.scores.examples == 60 and found.used_for_selection


def test_copies_in_several_groups_are_refused(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with raises("bad-input") as caught:
        extract(config(folder, tmp_path / "store", label_delimiter="+", group_by=r"([a-z]+|\+)-"))
    assert "copies of one image in the groups" in str(caught.value)


def test_records_may_hold_several_labels(table: pathlib.Path, tmp_path: pathlib.Path) -> None:
    truth = dict(list(truth_of(table).items())[:30])
    with tf.io.TFRecordWriter(str(tmp_path / "train.tfrecord")) as writer:
        for name, labels in truth.items():
            ids = [list(SHAPES).index(label) for label in labels]
            features = {
                "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[(table.parent / name).read_bytes()])),
                "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=ids)),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    (tmp_path / "names.txt").write_text("\n".join(SHAPES))
    asked = {"input": f"tfrecord:{tmp_path}/train.tfrecord", "label_names": str(tmp_path / "names.txt")}
    store = extract(config(table, tmp_path / "store", **asked))
    by_key = {example.key: example.labels for example in store.table}
    assert [by_key[f"train.tfrecord/{number}"] for number in range(30)] == list(truth.values())
    (tmp_path / "names.txt").write_text("a|b\nc\nd")
    with raises("bad-flag"):
        extract(config(table, tmp_path / "other", **asked))


def test_a_store_grows_loses_images_and_is_made_one_again(
    table: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "APPEND_FROM", 1)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    rows = [(str(table.parent / name), "|".join(labels)) for name, labels in list(truth_of(table).items())[:40]]
    rows[30:30] = [("broken.jpg", "red|blue")]
    splits = list[dict[str, str]]()
    for count in (35, 41):
        with open(tmp_path / "t.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("path", "label"), *rows[:count]])
        store = extract(config(tmp_path / "t.csv", tmp_path / "store", max_bad_fraction=0.1))
        splits.append({example.key: example.split for example in store.table})
    assert splits[1].items() >= splits[0].items() and len(store.manifest.generations) == 2
    assert store.manifest.dead_by_class == {"blue": 1, "red": 1} and store.manifest.totals.dead == 1
    assert [letter.label for letter in store.dead_letters] == ["blue|red"]
    assert list(faults(store.path)) == []
    labels = {split: store.labels(split) for split in store.splits}
    assert main(["compact", store.path]) == 0
    again = FeatureStore.open(store.path)
    assert len(again.manifest.generations) == 1 and again.label_delimiter == "|" and list(faults(store.path)) == []
    assert {split: len(rows) for split, rows in labels.items()} == {split: again.count(split) for split in again.splits}


def test_the_same_cells_are_one_label_without_the_flag(table: pathlib.Path, tmp_path: pathlib.Path) -> None:
    filled = tmp_path / "filled.csv"
    rows = [(str(table.parent / name), "|".join(labels) or "none") for name, labels in truth_of(table).items()]
    with open(filled, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    one = extract(config(filled, tmp_path / "one", label_delimiter=""))
    assert "blue|red" in one.class_names and "label_delimiter" not in json.loads((tmp_path / "one/manifest.json").read_text())
    digest = one.manifest.dataset_digest
    again = extract(config(filled, tmp_path / "one"))  # the same store, now of several labels: only features are copied
    assert again.class_names == ["blue", "green", "none", "red"]
    assert again.manifest.dataset_digest != digest and read_manifest(again.path).label_delimiter == "|"


def test_a_set_of_one_is_not_one_label(table: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Where no cell holds the delimiter, the two kinds of stores differ all the same."""
    rows = [(str(table.parent / name), "even" if number % 2 else "odd") for number, name in enumerate(truth_of(table))]
    with open(tmp_path / "t.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    one = extract(config(tmp_path / "t.csv", tmp_path / "store", label_delimiter=""))
    assert one.labels("train").ndim == 1
    assert extract(config(tmp_path / "t.csv", tmp_path / "store")).labels("train").ndim == 2


@pytest.mark.parametrize(
    ("cells", "delimiter", "told"),
    [
        ("path,label\na.png,red,blue\nb.png,red\n", ",", "more cells than columns"),
        ("path,label\na.png,\nb.png,|\n", "|", "no label at all"),
        ("path,label\n,red\n", "|", "every image needs a path"),
    ],
)
def test_a_table_that_says_something_else_is_refused(
    cells: str, delimiter: str, told: str, tmp_path: pathlib.Path, one_line: Callable[[], str]
) -> None:
    (tmp_path / "t.csv").write_text(cells)
    argv = ["extract", str(tmp_path / "t.csv"), "--store", str(tmp_path / "s"), "--label_delimiter", delimiter]
    assert main([*argv, *small_backbone_flags()]) == 2
    assert told in one_line()


@pytest.mark.parametrize(
    "argv",
    [
        ["evaluate", "RUN", "--by", "class"],
        ["predict", "RUN", "TABLE", "--top_k", "2"],
        ["train", "STORE", "--run", "OUT", "--refit"],
        ["train", "STORE", "--run", "OUT", "--operating_point", "recall@precision=0.9", "--positive_class", "red"],
        ["train", "STORE", "--run", "OUT", "--class_weight", "balanced"],
        ["train", "STORE", "--run", "OUT", "--monitor", "val_accuracy"],
        ["finetune", "TABLE", "--init_from", "RUN", "--run", "OUT", "--monitor", "accuracy"],
        ["finetune", "--from_store", "STORE", "--unfreeze_after", "block5c_add", "--run", "OUT", "--class_weight", "balanced"],
        ["fit", "TABLE", "--run", "OUT", "--label_delimiter", "|", "--refit"],
        ["compare", "RUN", "RUN", "--by", "class"],
        ["compare", "RUN", "ONE"],
    ],
    ids=" ".join,
)
def test_what_is_for_one_label_is_refused_in_a_line(
    argv: list[str],
    several: pathlib.Path,
    several_run: pathlib.Path,
    run: pathlib.Path,
    table: pathlib.Path,
    tmp_path: pathlib.Path,
    one_line: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heavy = "headstart.commands.runner.load_tensorflow"
    monkeypatch.setattr(heavy, lambda *_: pytest.fail("refused before anything heavy is loaded"))
    names = {"STORE": several, "RUN": several_run, "ONE": run, "TABLE": table, "OUT": tmp_path / "out"}
    words = [str(names.get(word.removesuffix(".csv"), word)) + ".csv" * word.endswith(".csv") for word in argv]
    assert main(words) == 2
    assert "is for one label an image, and these images may have several" in one_line()
    assert not (tmp_path / "out").exists()


def test_a_delimiter_where_there_is_one_label(run: pathlib.Path, photos: pathlib.Path, one_line: Callable[[], str]) -> None:
    assert main(["evaluate", str(run), str(photos), "--label_delimiter", "|"]) == 2
    assert "trained on one label an image" in one_line()


def test_stores_of_the_other_kind_are_refused(run: pathlib.Path, several: pathlib.Path, several_run: pathlib.Path) -> None:
    one = Run.open(str(run)).config["store"]
    with raises("other-dataset"):
        evaluate(EvaluateConfig(run=str(several_run), input=one, split="test"))


def test_taps_are_probed_by_the_mean_average_precision(
    several: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", str(several), "--run", str(tmp_path / "probe")]) == 0
    assert "validation mean average precision of linear probes" in capsys.readouterr().out
    found = json.loads((tmp_path / "probe" / "probe.json").read_text())
    assert found["measure"] == "mean average precision" and len(found["probes"]) == 2
    best, other = found["probes"]
    assert best["mean_average_precision"] >= other["mean_average_precision"] and best["mean_average_precision"] > 0.6
    assert best["low"] <= best["mean_average_precision"] <= best["high"] and best["difference"] == 0
    assert other["difference_low"] <= other["difference"] <= other["difference_high"]
    assert 0 < best["training_mean_average_precision"] <= 1 and "accuracy" not in best


def test_a_learning_curve_is_of_the_mean_average_precision(
    several: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["learning_curve", str(several), "--tap", "top_activation:avg", "--sizes", "4", "--draws", "3"]
    assert main([*flags, "--run", str(tmp_path / "curve"), "--more", "20"]) == 0
    told = capsys.readouterr().out
    assert "mean average precision on validation of linear probes" in told and "20 more a class should bring about" in told
    with open(tmp_path / "curve" / "learning_curve.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = FeatureStore.open(str(several)).labels("train")
    assert [float(row["images_a_class"]) for row in rows][::3] == [pytest.approx(5), pytest.approx(labels.sum() / 3, rel=1e-5)]
    assert all(float(row["low"]) <= float(row["fitted"]) <= float(row["high"]) for row in rows)
    assert float(rows[-1]["mean_average_precision"]) > float(rows[0]["mean_average_precision"])
    assert len({rows[-1][f"draw_{number}"] for number in range(3)}) == 1
    assert json.loads((tmp_path / "curve" / "learning_curve.json").read_text())["measure"] == "mean average precision"
    assert main(["probe", str(several), "--run", str(tmp_path / "probe")]) == 0
    (probe,) = (
        each
        for each in json.loads((tmp_path / "probe" / "probe.json").read_text())["probes"]
        if each["tap"] == "top_activation:avg"
    )
    assert float(rows[-1]["draw_0"]) == pytest.approx(probe["mean_average_precision"])  # the same probe of all images
