"""`headstart audit` and its parts, on faults that were planted in made features and images."""

from __future__ import annotations

import csv
import json
import pathlib
import re
import shutil
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headstart.cli import main
from headstart.features.dataset.examples import Example
from headstart.training.auditing import duplicates, group_names, label_errors, outliers, shortcuts, small_classes
from headstart.training.auditing.audit import audit, together
from headstart.training.auditing.audit_config import KINDS, AuditConfig
from headstart.training.auditing.findings import Images
from headstart.training.auditing.neighbours import nearest
from headstart.training.auditing.overlap import overlap
from headstart.training.auditing.score import Rights, with_and_without
from headstart.training.auditing.space import softly_whitened, unit
from headstart.training.auditing.thumbnails import Thumbnail, perceptual_hash
from headstart.training.scoring.folds import fold_of
from tests.conftest import CLASSES, extracted, generation, raises, rewrite_manifest, write_photos
from tests.pages import alone
from tests.test_record_inputs import example, extract, images_of, write

NAMES = ("ash", "birch", "cedar")


def made_images(labels: np.ndarray, keys: Sequence[str] = (), test: float = 0.25, seed: int = 0) -> Images:
    """Images of these classes, some of them in test."""
    held = np.random.default_rng(seed).random(len(labels)) < test
    named = list(keys) or [f"{number:04}.jpg" for number in range(len(labels))]
    rows = [
        Example(key, f"{number:064x}", (NAMES[label],), "test" if own else "train")
        for number, (key, label, own) in enumerate(zip(named, labels.tolist(), held))
    ]
    return Images(rows, labels, NAMES, "test", held)


def made_features(count: int, seed: int = 0, width: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Three classes that lie apart, float32 [count, width], and their labels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(3, size=count)
    return (generator.normal(0, 3, (3, width))[labels] + generator.normal(0, 1, (count, width))).astype(np.float32), labels


def thumbnail(
    size: int = 10_000, kind: str = "JPEG", brightness: float = 100.0, hashes: tuple[int, int] = (0, 0)
) -> Thumbnail:
    return Thumbnail(size, kind, 300, 200, brightness, 50.0, 30.0, np.zeros((32, 32), np.uint8), hashes)


# Neighbours and copies.


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(8, 60), st.integers(1, 9))
def test_neighbours_are_those_of_every_comparison(seed: int, count: int, wanted: int) -> None:
    points = np.random.default_rng(seed).normal(size=(count, 5)).astype(np.float32)
    points[1] = points[0]
    found = nearest(points, wanted)
    far = np.linalg.norm(points[:, None].astype(np.float64) - points[None], axis=2)
    np.fill_diagonal(far, np.inf)
    width = min(wanted, count // 4)
    assert found.distances.shape == (count, width)
    np.testing.assert_allclose(found.distances, np.sort(far, axis=1)[:, :width], atol=1e-3)
    assert not (found.others == np.arange(count)[:, None]).any()


def test_more_copies_than_neighbours_that_are_asked_for() -> None:
    points = np.ones((40, 3), np.float32)
    found = nearest(points, 5)
    assert found.distances.shape == (40, 5) and not found.distances.any()
    assert not (found.others == np.arange(40)[:, None]).any()


def planted_copies(noise: float) -> tuple[list[str], np.ndarray, set[tuple[int, int]]]:
    """Digests and features of 300 images of which 20 have a near copy, and 5 an exact one; and these pairs."""
    features, _ = made_features(300)
    generator = np.random.default_rng(1)
    digests = [f"{number}" for number in range(325)]
    features = np.concatenate([features, features[:25] + generator.normal(0, noise, (25, 32)).astype(np.float32)])
    for number in range(20, 25):
        features[300 + number], digests[300 + number] = features[number], digests[number]
    return digests, features, {(number, 300 + number) for number in range(25)}


def test_copies_are_found_and_nothing_else() -> None:
    digests, features, planted = planted_copies(0.2)
    pairs = duplicates.find_pairs(digests, nearest(softly_whitened(features)), [None] * 325)
    assert set(zip(pairs.first.tolist(), pairs.second.tolist())) == planted
    assert pairs.exact.sum() == 5 and pairs.exact[:5].all() and not pairs.nearness[:5].any()
    assert (pairs.bits[5:] == duplicates.UNKNOWN).all()


def test_a_hash_confirms_copies_that_are_farther_away() -> None:
    digests, features, planted = planted_copies(0.7)
    neighbours = nearest(softly_whitened(features))
    alone = duplicates.find_pairs(digests, neighbours, [None] * 325)
    generator = np.random.default_rng(0)
    hashes = [int.from_bytes(generator.bytes(8), "big") for _ in range(325)]
    for number in range(20):
        hashes[300 + number] = hashes[number] ^ 0b111  # 3 bits
    helped = duplicates.find_pairs(digests, neighbours, [thumbnail(hashes=(each, ~each % 2**64)) for each in hashes])
    found = [len(planted & set(zip(each.first.tolist(), each.second.tolist()))) for each in (alone, helped)]
    assert found[0] < found[1] and found[1] >= 20
    assert {*zip(helped.first.tolist(), helped.second.tolist())} - {
        *zip(alone.first.tolist(), alone.second.tolist())
    } <= planted


def test_of_few_images_a_near_one_has_to_look_the_same() -> None:
    points = np.random.default_rng(3).normal(0, 1, (24, 8)).astype(np.float32)
    points[1] = points[0] + 0.3  # near, as one of so few may be by chance
    points[3] = points[2] + 0.3
    generator = np.random.default_rng(0)
    hashes = [int.from_bytes(generator.bytes(8), "big") for _ in points]
    hashes[3] = hashes[2] ^ 0b111
    names = [f"{number}" for number in range(24)]

    def found(thumbnails: Sequence[Thumbnail | None]) -> set[tuple[int, int]]:
        pairs = duplicates.find_pairs(names, nearest(points), thumbnails)
        return set(zip(pairs.first.tolist(), pairs.second.tolist()))

    assert found([None] * 24) == {(0, 1), (2, 3)}
    assert found([thumbnail(hashes=(each, ~each % 2**64)) for each in hashes]) == {(2, 3)}


def test_a_mirrored_picture_has_the_hash_of_the_mirror_image() -> None:
    grey = np.random.default_rng(0).normal(128, 40, (32, 32)).astype(np.float32)
    mirrored = perceptual_hash(grey[:, ::-1])
    other = np.random.default_rng(1).normal(128, 40, (32, 32)).astype(np.float32)
    assert (perceptual_hash(grey) ^ perceptual_hash(grey * 0.9 + 5)).bit_count() == 0
    assert (perceptual_hash(grey) ^ mirrored).bit_count() > 16
    assert (perceptual_hash(grey) ^ perceptual_hash(other)).bit_count() > 16


def test_a_crop_fits_into_its_picture_and_into_no_other() -> None:
    from scipy.ndimage import gaussian_filter

    generator = np.random.default_rng(0)
    one, other = (gaussian_filter(generator.normal(0, 1, (64, 64)), 3) for _ in range(2))
    grey = [((each - each.min()) / np.ptp(each) * 255).astype(np.uint8) for each in (one, other, one[6:54, 10:58])]
    small = [np.asarray(Image.fromarray(each).resize((32, 32), Image.Resampling.BOX)) for each in grey]
    assert overlap(small[0], small[2]) == overlap(small[2], small[0]) > 0.95
    assert overlap(small[1], small[2]) < 0.8 and overlap(small[0], np.zeros((32, 32), np.uint8)) <= 0.1


def test_copies_of_copies_and_declared_groups_stay_together() -> None:
    pairs = duplicates.Pairs(np.array([0, 1]), np.array([1, 2]), np.zeros(2, bool), np.zeros(2), np.zeros(2, np.int64))
    clusters = duplicates.clusters(6, pairs)
    assert len({*clusters[:3].tolist()}) == 1 and len({*clusters.tolist()}) == 4
    rows = [Example(f"{number}", f"{number}", ("ash",), "train", "g" if number in (2, 3) else "") for number in range(6)]
    names = together(rows, clusters)
    assert len({*names[:4]}) == 1 and len({*names}) == 3


def test_leaks_duplicates_and_conflicts_are_told_apart() -> None:
    labels = np.array([0, 0, 1, 1, 0, 1])
    images = made_images(labels)
    splits = ("test", "train", "train", "train", "train", "validation")
    rows = [Example(f"{n}", f"{n}", (NAMES[label],), split) for n, (label, split) in enumerate(zip(labels.tolist(), splits))]
    images = Images(rows, labels, NAMES, "test", np.array([split == "test" for split in splits]))
    near = np.full(3, 0.2)
    pairs = duplicates.Pairs(
        np.array([0, 2, 3]), np.array([1, 3, 4]), np.array([True, False, False]), near, np.array([0, 3, -1])
    )
    assert duplicates.leaked(images, pairs).tolist() == [True] + [False] * 5
    leaks, twice, conflicts = (
        duplicates.leaks(images, pairs, None),
        duplicates.duplicates(images, pairs),
        duplicates.conflicts(images, pairs),
    )
    assert [(each.count, each.rows[0]["key"], each.rows[0]["other_key"]) for each in (leaks, twice, conflicts)] == [
        (1, "0", "1"), (2, "2", "3"), (1, "3", "4")
    ]  # fmt: skip
    assert leaks.at_stake == 1.0 and "1 of 1 images of test (100.0%) have one elsewhere" in leaks.words


def test_the_score_with_and_without_copies() -> None:
    right, leaked = np.array([True] * 80 + [True] * 10 + [False] * 10), np.arange(100) < 80
    names = [f"{number}" for number in range(100)]
    score = with_and_without("a run", Rights(right), leaked, names)
    assert score and (score.all.value, score.without.value, score.without.examples) == (0.9, 0.5, 20)
    assert score.without.low < 0.5 < score.without.high and score.words.startswith("The accuracy of a run is 90.0% [")
    assert with_and_without("a run", Rights(right), np.zeros(100, bool), names) is None


# Labels.


def answers_to(features: np.ndarray, labels: np.ndarray, fitted: np.ndarray, groups: Sequence[str]) -> label_errors.OutOfFold:
    return label_errors.out_of_fold(features, labels, 3, groups, fitted, 0)


def test_flipped_labels_are_found_and_clean_ones_left_alone() -> None:
    features, truth = made_features(600)
    generator = np.random.default_rng(2)
    flipped = generator.permutation(600)[:30]
    labels = truth.copy()
    labels[flipped] = (labels[flipped] + generator.integers(1, 3, 30)) % 3
    names, fitted = [f"{number}" for number in range(600)], np.arange(600) < 500
    found = label_errors.candidates(answers_to(features, labels, fitted, names).values, labels, fitted)
    hits = set(found.numbers.tolist()) & set(flipped.tolist())
    assert len(hits) >= 24 and len(hits) >= 0.9 * len(found.numbers)
    right = np.isin(found.numbers, flipped)
    assert (found.suggested[right] == truth[found.numbers[right]]).all()
    margins = found.own - found.other
    assert (np.diff(margins) >= 0).all()
    clean = label_errors.candidates(answers_to(features, truth, fitted, names).values, truth, fitted)
    assert len(clean.numbers) <= 6


def test_labels_that_are_held_out_choose_nothing() -> None:
    features, labels = made_features(200)
    fitted, names = np.arange(200) < 150, [f"{number}" for number in range(200)]
    other = np.where(fitted, labels, (labels + 1) % 3)
    one, two = (answers_to(features, each, fitted, names) for each in (labels, other))
    assert one.strength == two.strength
    np.testing.assert_array_equal(one.values, two.values)
    found = label_errors.candidates(two.values, other, fitted)
    kept = label_errors.candidates(one.values, labels, fitted)
    assert set(kept.numbers[fitted[kept.numbers]].tolist()) == set(found.numbers[fitted[found.numbers]].tolist())
    assert (~fitted[found.numbers]).sum() > 25  # all of them are wrong now


def test_few_images_of_a_class_are_divided_between_the_folds() -> None:
    known = []
    for seed in range(3):
        generator = np.random.default_rng(seed)
        labels = np.repeat(np.arange(10), 5)
        features = (0.6 * generator.normal(size=(10, 64))[labels] + generator.normal(size=(50, 64))).astype(np.float32)
        names, fitted = [f"{number}" for number in range(50)], np.ones(50, bool)
        known.append((label_errors.out_of_fold(features, labels, 10, names, fitted, seed).predicted() == labels).mean())
    assert np.mean(known) > 0.9


def test_a_copy_does_not_vouch_for_a_label() -> None:
    features, labels = made_features(200)
    twice = np.concatenate([features, features[:40]])
    labels = np.concatenate([labels, labels[:40]])
    wrong = np.array([*range(10), *range(200, 210)])
    labels[wrong] = (labels[wrong] + 1) % 3
    fitted = np.ones(240, bool)
    apart, kept = [f"{number}" for number in range(240)], [f"{number % 200}" for number in range(240)]
    one, two = (answers_to(twice, labels, fitted, groups).values[wrong, labels[wrong]].mean() for groups in (apart, kept))
    assert two < one
    found = label_errors.candidates(answers_to(twice, labels, fitted, kept).values, labels, fitted).numbers
    assert np.isin(wrong, found).sum() >= 18  # of one seed in two a pair looks as its label says


def test_a_class_of_one_image_is_not_called_an_error() -> None:
    features, labels = made_features(60)
    labels = labels % 2
    labels[0] = 2
    fitted = np.ones(60, bool)
    answers = answers_to(features, labels, fitted, [f"{number}" for number in range(60)])
    assert np.isnan(answers.values[0, 2])
    assert 0 not in label_errors.candidates(answers.values, labels, fitted).numbers


# Outliers, shortcuts, names, sizes.


def test_what_tells_a_class_of_two_images_is_learned_from_one_of_them() -> None:
    labels = np.repeat(np.arange(4), [40, 40, 2, 2])
    names, values = [str(number) for number in range(len(labels))], [f"camera {label}" for label in labels]
    folds = [fold_of(names, labels, 4, seed) for seed in range(40)]
    assert {shortcuts.told_by(values, labels, names, each)[0] for each in folds} == {1.0}


def test_an_image_like_no_other_is_found() -> None:
    generator = np.random.default_rng(0)
    features = np.abs(made_features(400)[0]) + 5
    features[7] = 0
    features[7, :3] = 30
    found = outliers.outliers(made_images(generator.integers(3, size=400)), outliers.outlyingness(nearest(unit(features), 10)))
    assert found.rows[0]["key"] == "0007.jpg" and found.count <= 8


@pytest.mark.parametrize("name", ["brightness", "format", "file size", "none"])
def test_a_property_that_tells_the_class(name: str) -> None:
    generator = np.random.default_rng(3)
    labels = generator.integers(3, size=300)
    images = made_images(labels)

    def made(label: int) -> Thumbnail:
        told = generator.random() < 0.8 and label == 1
        bright = 100 + 15 * generator.normal() + 60 * (told and name == "brightness")
        size = int(10_000 * np.exp(0.3 * generator.normal()) * (3 if told and name == "file size" else 1))
        return thumbnail(size, "PNG" if told and name == "format" else "JPEG", bright)

    names = [f"{number}" for number in range(300)]
    found = shortcuts.find_shortcuts(images, [made(label) for label in labels.tolist()], names, 0)
    told = {row["property"] for row in found.rows}
    assert told == {"none": set(), "file size": {"file size", "bytes a pixel"}}.get(name, {name})
    if told:
        row = found.rows[0]
        assert 1 / 3 < row["low"] < row["balanced_accuracy"] < row["high"]
        assert found.at_stake == pytest.approx(row["low"] - 1 / 3) and found.strips


def test_a_folder_that_tells_the_class_needs_no_pixels() -> None:
    generator = np.random.default_rng(4)
    labels = generator.integers(2, size=200)
    sources = np.where(generator.random(200) < 0.9, labels, 1 - labels)
    keys = [
        f"train/{NAMES[label]}/hospital{source}/{n}.png"
        for n, (label, source) in enumerate(zip(labels.tolist(), sources.tolist()))
    ]
    images = made_images(labels, keys)
    found = shortcuts.find_shortcuts(images, [None] * 200, keys, 0)
    assert [row["property"] for row in found.rows] == [shortcuts.FOLDER]
    assert shortcuts.source_folder(images.examples[0]) == f"hospital{sources[0]}"
    plain = made_images(labels, [f"train/{NAMES[label]}/{n}.png" for n, label in enumerate(labels.tolist())])
    assert shortcuts.find_shortcuts(plain, [None] * 200, keys, 0).count == 0


@pytest.mark.parametrize(
    ("key", "alike", "pattern"),
    [
        ("{label}/patient{group}_{number:03}.png", True, 0),
        ("{label}/patient{group}_{number:03}.png", False, None),
        ("{label}/case{group}/{number:03}.png", True, 2),
        ("{label}/{number:05}.png", True, None),
        ("{label}/IMG_{number}.jpg", True, None),
        ("{label}/{label}_{number}.jpg", True, None),
    ],
)
def test_names_that_look_like_groups(key: str, alike: bool, pattern: int | None) -> None:
    generator = np.random.default_rng(5)
    groups = np.arange(240) % 40
    labels = groups % 3
    points = unit(generator.normal(0, 1, (40, 16))[groups] * (0.5 if alike else 0) + generator.normal(0, 1, (240, 16)))
    keys = [key.format(label=NAMES[label], group=group, number=n) for n, (label, group) in enumerate(zip(labels, groups))]
    images = made_images(labels, keys)
    found = group_names.find_groups(images, points)
    assert (found.pattern if found else None) == (None if pattern is None else group_names.PATTERNS[pattern])
    finding = group_names.undeclared_groups(images, found)
    assert finding.count == (0 if pattern is None else 40)
    if found:
        assert finding.at_stake > 0.9 and "--group_by" in finding.words and finding.rows[0]["splits"] == "test train"


def test_small_classes() -> None:
    images = made_images(np.array([0] * 100 + [1] * 100 + [2] * 5), test=0.3)
    found = small_classes.small_classes(images)
    assert {(row["label"], row["split"]) for row in found.rows} == {("cedar", "train"), ("cedar", "test")}
    assert found.count == 1 and found.at_stake == pytest.approx(1 / 3)


# The command.


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A store of 96 images: one of test is a copy of one in train, another has a wrong label; its images lie beside it."""
    folder = tmp_path_factory.mktemp("faulty")
    write_photos(folder / "photos", {"train": dict.fromkeys(CLASSES, 24), "test": dict.fromkeys(CLASSES, 8)}, seed=3)
    shutil.copy(folder / "photos/train/fern/00.jpg", folder / "photos/test/fern/copy.jpg")
    shutil.copy(folder / "photos/train/fern/02.jpg", folder / "photos/train/gentian/02-wrong.jpg")
    extracted(folder / "photos", folder / "store")
    return folder


def rows_of(path: pathlib.Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_command(faulty: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "audit"
    flags = ["audit", str(faulty / "store"), "--output", str(out)]
    assert main([*flags, "--fail_on", "leaks, groups"]) == 1
    told = capsys.readouterr().out
    assert "98 images, compared at top_activation:avg; the labels of test were compared" in told
    leak = next(row for row in rows_of(out / "leaks.csv") if row["exact"] == "True")
    assert {leak["key"], leak["other_key"]} == {"train/fern/00.jpg", "test/fern/copy.jpg"}
    conflict = rows_of(out / "conflicts.csv")[0]
    assert {conflict["key"], conflict["other_key"]} == {"train/fern/02.jpg", "train/gentian/02-wrong.jpg"}
    assert {conflict["label"], conflict["other_label"]} == {"fern", "gentian"}
    summary = json.loads((out / "audit.json").read_text(encoding="utf-8"))
    assert set(summary["findings"]) == set(KINDS) and {"leaks", "conflicts", "small_classes"} <= set(summary["ranked"])
    assert summary["held_out"] == "test" and summary["at_hand"] == 98 and summary["score"]["all"]["examples"] == 25
    stakes = [summary["findings"][kind]["at_stake"] for kind in summary["ranked"]]
    assert stakes == sorted(stakes, reverse=True)
    for kind in summary["ranked"]:
        with Image.open(out / f"{kind}.png") as sheet:
            assert sheet.width > 300 and len(sheet.getcolors(1 << 24) or ()) > 50
    page = alone(out / "report.html")
    assert page.sections == ["result", *summary["ranked"], "data", "repeat"]
    assert page.texts["result"].strip().startswith(f"The result\n{len(summary['ranked'])} of {len(KINDS)} kinds of faults")
    for kind in summary["ranked"]:
        assert summary["findings"][kind]["words"] in page.texts[kind]
        assert f"All of it, beside this page: {kind}.csv and {kind}.png" in page.texts[kind]
    assert len(page.all("img")) > 20 and "copy.jpg" in page.texts["leaks"]
    assert re.search(r"fern\s*24\s*9\s*33", page.texts["data"])  # train, test, both
    assert told.endswith("found what --fail_on names: leaks\n")
    assert main([*flags, "--fail_on", "groups"]) == 0


@pytest.mark.slow
def test_twice_the_same(faulty: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for name in ("one", "two"):
        audit(AuditConfig(str(faulty / "store"), str(tmp_path / name), seed=1))
    one, two = (
        {path.name: path.read_bytes().replace(bytes(folder), b"") for path in folder.iterdir()}
        for folder in (tmp_path / "one", tmp_path / "two")
    )
    assert one.keys() == two.keys()
    assert all(one[name] == two[name] for name in one if name != "audit.json")


@pytest.mark.slow
def test_without_its_images(faulty: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "store"
    shutil.copytree(faulty / "store", store)
    rewrite_manifest(store, lambda manifest: manifest["provenance"].update(input=str(tmp_path / "gone")))
    out = tmp_path / "audit"
    assert main(["audit", str(store), "--output", str(out)]) == 0
    assert (
        "no image is at hand as extracted (no hashes, sheets or shortcuts): say where with --images" in capsys.readouterr().out
    )
    assert (out / "leaks.csv").exists() and not list(out.glob("*.png"))
    page = alone(out / "report.html")
    assert not page.all("img") and "98 images are not at hand" in page.texts["result"]
    moved = tmp_path / "moved"
    shutil.copytree(faulty / "photos", moved)
    (moved / "train/fern/03.png").write_bytes(b"something else")
    assert main(["audit", str(store), "--output", str(out), "--images", str(moved)]) == 0
    assert "1 images are not at hand as extracted (left out of hashes, sheets and shortcuts)" in capsys.readouterr().out
    assert (out / "leaks.png").exists()


@pytest.mark.slow
def test_images_in_files_of_records(photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    records = tmp_path / "all.tfrecord"
    write(records, [example(data, label.encode()) for split in ("train", "test") for data, label in images_of(photos, split)])
    assert extract(f"tfrecord:{records}", tmp_path / "store") == 0
    config = AuditConfig(str(tmp_path / "store"), str(tmp_path / "audit"))
    assert audit(config).at_hand == 48
    records.unlink()
    assert audit(config).at_hand == 0


@pytest.mark.slow
def test_the_score_of_a_run(
    store: pathlib.Path, run_copy: pathlib.Path, tmp_path: pathlib.Path, one_line: Callable[[], str]
) -> None:
    flags = ["audit", str(store), "--output", str(tmp_path / "out"), "--run", str(run_copy)]
    assert main(flags) == 2
    assert "has no evaluation 'test'" in one_line()
    from headstart.training.evaluation.evaluate import evaluate
    from headstart.training.evaluation.evaluate_config import EvaluateConfig

    evaluate(EvaluateConfig(run=str(run_copy), split="test"))
    assert main(flags) == 0


def test_what_cannot_be_audited(
    store: pathlib.Path, store_copy: pathlib.Path, lopsided: pathlib.Path, tmp_path: pathlib.Path, one_line: Callable[[], str]
) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("", encoding="utf-8")
    wrong = {
        (str(lopsided), str(tmp_path / "a")): "holds 16 images, and an audit needs 20",
        (str(tmp_path), str(tmp_path / "a")): "is not a feature store",
        (str(store), str(taken)): "holds something else than an audit",
        (str(store), str(tmp_path / "a"), "--tap", "block9"): "block9",
        (str(store), str(tmp_path / "a"), "--images", str(tmp_path / "no")): "does not exist",
        (str(store), str(tmp_path / "a"), "--fail_on", "leak"): "not 'leak'. Did you mean leaks?",
    }
    for (path, out, *flags), words in wrong.items():
        assert main(["audit", path, "--output", out, *flags]) == 2
        assert words in one_line()
    table = generation(store_copy) / "examples.csv"
    text = table.read_text(encoding="utf-8")
    for name in CLASSES[1:]:
        text = text.replace(f",{name},", f",{CLASSES[0]},")
    table.write_text(text, encoding="utf-8", newline="")
    rewrite_manifest(store_copy)
    with raises("bad-input") as caught:
        audit(AuditConfig(str(store_copy), str(tmp_path / "a")))
    assert "holds images of one class only" in str(caught.value)
