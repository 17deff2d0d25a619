"""`headstart audit` of images with several labels: each class is asked for by itself, on faults that were planted."""

from __future__ import annotations

import csv
import json
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics

from headstart.cli import main
from headstart.features.dataset.examples import Example
from headstart.features.store.feature_store import FeatureStore
from headstart.pipelines.extract import extract
from headstart.pipelines.extract_config import ExtractConfig
from headstart.training.auditing import duplicates, group_names, label_errors, shortcuts, small_classes
from headstart.training.auditing.audit import read_images
from headstart.training.auditing.findings import Images
from headstart.training.auditing.score import Rankings, scored_by_probe, scored_by_run, with_and_without
from headstart.training.auditing.space import unit
from headstart.training.auditing.thumbnails import Thumbnail
from headstart.training.evaluation.evaluate import evaluate
from headstart.training.evaluation.evaluate_config import EvaluateConfig
from headstart.training.scoring.set_scores import SetScores
from tests.conftest import SHAPES, draw_shapes, raises, several_config, shapes_of

NAMES = ("ash", "birch", "cedar")


def made_images(labels: np.ndarray, keys: list[str] | None = None, test: float = 0.25) -> Images:
    """Images with these sets of labels, uint8 [N, 3], some of them in test."""
    held = np.random.default_rng(0).random(len(labels)) < test
    rows = [
        Example(
            keys[number] if keys else f"{number:04}.jpg",
            f"{number:064x}",
            tuple(name for name, has in zip(NAMES, row) if has),
            "test" if held[number] else "train",
        )
        for number, row in enumerate(labels)
    ]
    return Images(rows, labels, NAMES, "test", held, "|")


def made_sets(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sets of labels that are independent of each other, and features that tell each of them."""
    generator = np.random.default_rng(seed)
    labels = (generator.random((count, 3)) < (0.5, 0.3, 0.2)).astype(np.uint8)
    return labels, (labels @ generator.normal(0, 2, (3, 24)) + generator.normal(0, 1, (count, 24))).astype(np.float32)


def test_labels_that_are_wrong_or_missing_are_found() -> None:
    truth, features = made_sets(400)
    labels, generator = truth.copy(), np.random.default_rng(1)
    for number, name in zip(generator.permutation(400)[:24], np.arange(24) % 3):
        labels[number, name] ^= 1
    images = made_images(labels)
    answers = label_errors.answer(images, features, [f"{number}" for number in range(400)], 0)
    found = label_errors.label_errors(images, answers)
    wrong = {(f"{number:04}.jpg", NAMES[name]) for number, name in zip(*np.nonzero(labels != truth))}
    told = [(row["key"], row["class"]) for row in found.rows]
    assert len(wrong & set(told)) >= 18 and len(wrong & set(told)) >= 0.85 * len(told)
    for row in found.rows:
        number = int(row["key"][:4])
        if (row["key"], row["class"]) in wrong:
            assert row["suggested"] == "|".join(name for name, has in zip(NAMES, truth[number]) if has)
        assert row["label_probability"] < row["suggested_probability"]
    margins = [row["label_probability"] - row["suggested_probability"] for row in found.rows]
    assert margins == sorted(margins) and set(found.figures["regularisation"]) == set(NAMES)
    assert 0.8 < found.figures["out_of_fold_mean_average_precision"] < 1 and "or missing" in found.words


def test_a_class_that_no_image_to_learn_from_has_is_no_error() -> None:
    labels, features = made_sets(120)
    images = made_images(labels)
    labels[~images.held_out, 2], labels[images.held_out, 2] = 0, 1
    names = [f"{number}" for number in range(120)]
    answers = label_errors.answer(images, features, names, 0)
    assert np.isnan(answers[2].values).any()
    assert {row["class"] for row in label_errors.label_errors(images, answers).rows} <= {"ash", "birch"}
    scored = scored_by_probe(features, images, [each.strength for each in answers])
    assert isinstance(scored, Rankings) and not scored.probabilities[:, 2].any()


def test_a_property_that_tells_one_class_of_several() -> None:
    labels, _ = made_sets(300, 3)
    generator = np.random.default_rng(4)

    def made(has_birch: int) -> Thumbnail:
        bright = 100 + 10 * generator.normal() + 50 * has_birch
        return Thumbnail(10_000, "JPEG", 300, 200, bright, 50.0, 30.0, np.zeros((32, 32), np.uint8), (0, 0))

    images, groups = made_images(labels), [f"{number}" for number in range(300)]
    found = shortcuts.find_shortcuts(images, [made(row[1]) for row in labels.tolist()], groups, 0)
    assert [(row["class"], row["property"]) for row in found.rows] == [("birch", "brightness")]
    assert found.rows[0]["low"] > 0.8 and found.at_stake == pytest.approx((found.rows[0]["low"] - 0.5) / 3)
    assert "birch by brightness" in found.words and [strip.title.split(":")[0] for strip in found.strips] == [
        "not birch",
        "birch",
    ]
    plain = shortcuts.find_shortcuts(images, [made(0) for _ in groups], groups, 0)
    assert plain.count == 0 and plain.at_stake == 0


def test_folders_of_classes_are_no_shortcut() -> None:
    labels, _ = made_sets(200, 5)
    keys = [f"{'+'.join(n for n, has in zip(NAMES, row) if has) or '+'}/{at}.jpg" for at, row in enumerate(labels)]
    images = Images(made_images(labels, keys).examples, labels, NAMES, "", np.zeros(200, bool), "+")
    assert {shortcuts.source_folder(example, "+") for example in images.examples} == {""}
    assert shortcuts.find_shortcuts(images, [None] * 200, keys, 0).count == 0


def test_copies_small_classes_and_names_of_groups() -> None:
    labels = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]] + [[1, 1, 0]] * 30, np.uint8)
    images = made_images(labels, test=0)
    pairs = duplicates.Pairs(np.array([0, 1]), np.array([1, 2]), np.ones(2, bool), np.zeros(2), np.zeros(2, np.int64))
    conflicts = duplicates.conflicts(images, pairs)
    assert conflicts.count == 1 and (conflicts.rows[0]["label"], conflicts.rows[0]["other_label"]) == ("ash|birch", "ash")
    small = small_classes.small_classes(images)
    assert [(row["label"], row["images"]) for row in small.rows] == [("cedar", 0)]
    generator, groups = np.random.default_rng(5), np.arange(240) % 40
    points = unit(generator.normal(0, 0.5, (40, 16))[groups] + generator.normal(0, 1, (240, 16)))
    sets = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]], np.uint8)[groups % 3]
    keys = [f"patient{group}_{number:03}.png" for number, group in enumerate(groups)]
    found = group_names.find_groups(made_images(sets, keys), points)
    assert found and len(set(found.groups)) == 40


def test_the_score_with_and_without_copies_is_the_mean_average_precision() -> None:
    truth, _ = made_sets(100, 6)
    shares = np.clip(0.3 * truth + np.random.default_rng(7).normal(0.4, 0.2, truth.shape), 0, 1)
    copied, names = np.arange(100) < 60, [f"{number}" for number in range(100)]
    shares[copied] = truth[copied]
    score = with_and_without("a run", Rankings(truth, shares), copied, names)
    assert score and score.all.value == pytest.approx(metrics.average_precision_score(truth, shares))
    assert score.without.value == pytest.approx(metrics.average_precision_score(truth[60:], shares[60:]))
    assert score.without.low < score.without.value < score.without.high and score.without.value < score.all.value
    assert score.words.startswith("The mean average precision of a run is")
    few = with_and_without("a run", Rankings(truth, shares), copied, ["one"] * 100)
    assert few and few.to_json()["all"]["low"] is None and "[" not in few.words


def test_what_a_run_answered(
    several: pathlib.Path, several_run: pathlib.Path, run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    copy, images = shutil.copytree(several_run, tmp_path / "run"), read_images(FeatureStore.open(str(several)))
    scores = evaluate(EvaluateConfig(run=str(copy))).scores
    scored = scored_by_run(str(copy), images)
    share = scored.share(np.arange(images.held_out.sum()), [f"{number}" for number in range(len(images.examples))])
    assert isinstance(scores, SetScores) and share.value == pytest.approx(scores.mean_average_precision.value, abs=1e-3)
    with raises("other-dataset"):
        scored_by_run(str(run), images)


@pytest.fixture(scope="module")
def faulty(table: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A store of 102 images: one of test is a copy of one in train, and one in train is there with another set of labels."""
    folder = tmp_path_factory.mktemp("faulty-sets")
    rows = []
    for number, (name, labels) in enumerate(list(shapes_of(table).items())[:100]):
        rows.append([str(table.parent / name), "|".join(labels), "test" if number % 5 == 0 else "train"])
    draw_shapes(("blue", "red"), np.random.default_rng(9)).save(folder / "conflict.png")
    for name, path, label, split in (
        ("leak.png", rows[1][0], rows[1][1], "test"),
        ("other.png", str(folder / "conflict.png"), "blue", "train"),
    ):
        shutil.copy(path, folder / name)
        rows.append([str(folder / name), label, split])
    rows.append([str(folder / "conflict.png"), "blue|red", "train"])
    with open(folder / "table.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    extract(several_config(folder / "table.csv", folder / "store", splits=ExtractConfig.splits))
    return folder


def test_the_command(faulty: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "audit"
    assert main(["audit", str(faulty / "store"), "--output", str(out), "--fail_on", "conflicts"]) == 1
    told = capsys.readouterr().out
    assert "103 images, compared at" in told and "found what --fail_on names: conflicts" in told
    summary = json.loads((out / "audit.json").read_text(encoding="utf-8"))
    assert set(summary["classes"]) == set(SHAPES) and summary["at_hand"] == 103
    assert summary["score"]["measure"] == "mean average precision" and "mean average precision of a linear probe" in told
    with open(out / "conflicts.csv", encoding="utf-8", newline="") as file:
        conflict = next(row for row in csv.DictReader(file) if row["exact"] == "True")
    assert {conflict["label"], conflict["other_label"]} == {"blue", "blue|red"}
    with open(out / "leaks.csv", encoding="utf-8", newline="") as file:
        assert any(row["exact"] == "True" and "leak.png" in row["key"] + row["other_key"] for row in csv.DictReader(file))
    for kind in summary["ranked"]:
        with Image.open(out / f"{kind}.png") as sheet:
            assert sheet.width > 300
