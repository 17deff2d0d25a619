"""A store that grows by generations: what it has stays, what is new alone is computed and written; and back to one."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from headstart.cli import main
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.verify import faults
from headstart.pipelines import growth
from headstart.pipelines.extract import extract
from headstart.pipelines.extract_config import ExtractConfig
from headstart.training.probing.probe import _common_rows
from tests.conftest import draw, small_backbone, write_photos


@pytest.fixture(autouse=True)
def from_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small stores grow as large ones do."""
    monkeypatch.setattr(growth, "APPEND_FROM", 1)


@pytest.fixture
def root(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Photos and a store of them, one of which is no image."""
    write_photos(tmp_path / "photos", {"train": {"fern": 12, "gentian": 12}, "test": {"fern": 4, "gentian": 4}})
    (tmp_path / "photos" / "train" / "fern" / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    extract(config(tmp_path))
    yield tmp_path


def config(root: pathlib.Path, store: str = "store", **changes: Any) -> ExtractConfig:
    values = {"input": str(root / "photos"), "store": str(root / store), "max_bad_fraction": 0.2, "examples_per_shard": 8}
    return ExtractConfig(**{**values, **small_backbone(), **changes})


def add(root: pathlib.Path, number: int, folder: str = "train/fern") -> None:
    (root / "photos" / folder).mkdir(exist_ok=True)
    draw("fern", np.random.default_rng(number)).save(root / "photos" / folder / f"new {number}.png")


def files_of(store: pathlib.Path) -> dict[str, tuple[int, int]]:
    """Every file of its generations: its inode and the time of its last change."""
    found = (path for path in (store / "generations").rglob("*") if path.is_file())
    return {str(path.relative_to(store)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def shards(store: FeatureStore) -> list[tuple[str, str]]:
    return [(shard.name, shard.sha256) for split in sorted(store.splits) for _, shard in store.manifest.shards(split)]


def test_what_is_new_alone_is_written(root: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, old = files_of(root / "store"), FeatureStore.open(str(root / "store"))
    for number in range(3):
        add(root, number)
    add(root, 3, "test/gentian")
    capsys.readouterr()
    store = extract(config(root))
    told = capsys.readouterr().err
    assert "37 images (33 done already, 4 to compute, 0 to copy), 2 shards" in told
    letters = os.path.join(old.path, old.manifest.generations[0].folder, "dead_letters.jsonl")
    assert f"1 dead letter (train 1), each with its reason in {letters}\n" in told
    after = files_of(root / "store")
    assert {name: after[name] for name in before} == before
    new = {os.path.basename(name) for name in after.keys() - before.keys()}
    assert {name for name in new if "tfrecord" in name} == {
        "features-train.tfrecord-00000-of-00001", "features-test.tfrecord-00000-of-00001"
    }  # fmt: skip
    assert not new & {"backbone.keras", "sample.tfrecord"} and not list(faults(str(root / "store")))
    assert store.manifest.totals.stored == 36 and len(store.dead_letters) == 1 and store.count("train") == 27
    assert np.array_equal(store.to_numpy("train").features[:24], old.to_numpy("train").features)
    assert extract(config(root)).manifest == store.manifest and "nothing to do" in capsys.readouterr().err
    assert main(["info", str(root / "store")]) == 0 and "36 stored + 1 dead = 37 planned" in capsys.readouterr().out


def test_a_part_of_the_images_is_a_sample_of_old_and_new_ones(root: pathlib.Path) -> None:
    for number in range(8):
        add(root, number)
    store = extract(config(root))
    examples, limit = store.examples("train"), 16
    (rows,), names = _common_rows([store], "train", limit)
    assert names == sorted(each.digest for each in examples)[:limit]
    assert sorted(rows) == examples.sample(limit).tolist() and 0 < sum(row >= 24 for row in rows) < 8  # 8 of 32 are new


def test_generations_are_read_as_one(root: pathlib.Path) -> None:
    for number in range(3):
        add(root, number)
        store = extract(config(root))
    assert len(store.manifest.generations) == 4
    whole = extract(config(root, "at once"))
    rows = [
        {key: row.tobytes() for key, row in zip(each.to_numpy("train").keys, each.to_numpy("train").features)}
        for each in (store, whole)
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 27
    seen = [features for features, _ in store.dataset("train", 5, shuffle=True).as_numpy_iterator()]
    assert sorted(row.tobytes() for batch in seen for row in batch) == sorted(rows[0].values())
    assert store.example("train", 26).key == store.examples("train")[26].key
    by_tfds = tfds.builder_from_directories(store.tfds_folders).as_dataset(split="train")
    assert sorted(row["key"].decode() for row in tfds.as_numpy(by_tfds)) == sorted(rows[0])


@pytest.mark.slow
@pytest.mark.parametrize("change", ["another label", "one less", "a class before", "split", "too much"])
def test_what_can_not_be_kept_is_made_anew(change: str, root: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = root / "photos"
    if change == "another label":
        (photos / "train" / "fern" / "00.jpg").rename(photos / "train" / "gentian" / "moved.jpg")
    elif change == "one less":
        (photos / "train" / "fern" / "00.jpg").unlink()
    elif change == "a class before":
        add(root, 1, "train/anemone")
    elif change == "split":
        (photos / "train" / "fern" / "00.jpg").rename(photos / "test" / "fern" / "moved.jpg")
    else:
        for number in range(20):
            add(root, number)
    store = extract(config(root))
    assert len(store.manifest.generations) == 1 and not list(faults(store.path))
    assert shards(store) == shards(extract(config(root, "at once")))


def test_a_class_behind_the_others_is_added(root: pathlib.Path) -> None:
    add(root, 1, "train/violet")
    store = extract(config(root))
    assert store.class_names == ["fern", "gentian", "violet"] and len(store.manifest.generations) == 2
    assert list(store.labels("train")).count(2) == 1 and not list(faults(store.path))


def test_a_file_that_could_not_be_read_is_tried_again(root: pathlib.Path) -> None:
    link = root / "photos" / "train" / "fern" / "link.jpg"
    link.symlink_to(root / "not there yet.jpg")
    add(root, 1)
    assert len(extract(config(root)).manifest.generations) == 2
    draw("fern", np.random.default_rng(5)).save(root / "not there yet.jpg")
    store = extract(config(root))
    assert len(store.manifest.generations) == 1 and store.manifest.totals.dead == 1 and store.manifest.totals.stored == 34


def test_a_file_that_alone_is_added_and_can_not_be_read_is_a_dead_letter(
    root: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(root, 1)
    extract(config(root))
    (root / "photos" / "train" / "fern" / "link.jpg").symlink_to(root / "nowhere.jpg")
    store = extract(config(root))
    assert [letter.key for letter in store.dead_letters if letter.stage == "read"] == ["train/fern/link.jpg"]
    assert store.manifest.totals.stored == 33 and store.manifest.totals.dead == 2 and not list(faults(store.path))
    capsys.readouterr()
    assert extract(config(root)).manifest == store.manifest and "nothing to do" in capsys.readouterr().err


@pytest.mark.parametrize("more", [False, True])
def test_a_larger_limit_of_pixels_is_one_for_all_images(more: bool, root: pathlib.Path) -> None:
    draw("fern", np.random.default_rng(7)).resize((100, 100)).save(root / "photos" / "train" / "fern" / "large.png")
    add(root, 1)
    assert len(extract(config(root, max_pixels=9_000)).manifest.generations) == 1
    add(root, 2)
    grown = extract(config(root, max_pixels=9_000))
    assert len(grown.manifest.generations) == 2 and len(grown.dead_letters) == 2
    if more:
        add(root, 3)
    store = extract(config(root))
    assert [letter.key for letter in store.dead_letters] == ["train/fern/broken.jpg"] and not list(faults(store.path))
    assert store.manifest.max_pixels == config(root).max_pixels and store.manifest.totals.stored == 35 + more


def test_what_parts_labels_is_said_of_all_generations(root: pathlib.Path) -> None:
    add(root, 1)
    extract(config(root))
    store = extract(config(root, label_delimiter="|"))
    assert store.label_delimiter == "|" and store.labels("train").shape == (25, 2) and not list(faults(store.path))


def test_compacted_it_is_as_if_made_at_once(root: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "photos" / "train" / "fern" / "broken.jpg").unlink()
    extract(config(root))
    for number in range(2):
        add(root, number)
        grown = extract(config(root))
    assert main(["compact", str(root / "store"), "--examples_per_shard", "8"]) == 0
    assert "one generation of 3, 34 examples" in capsys.readouterr().out
    store, whole = FeatureStore.open(str(root / "store")), extract(config(root, "at once"))
    assert shards(store) == shards(whole) and not list(faults(store.path))
    assert store.manifest.dataset_digest == grown.manifest.dataset_digest and grown.to_numpy("train").features.shape[0] == 26
    assert main(["compact", str(root / "store")]) == 0 and "nothing to do" in capsys.readouterr().out
    assert extract(config(root)).manifest == store.manifest


def test_dead_letters_stay_when_it_is_compacted(root: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "photos" / "train" / "fern" / "link.jpg").symlink_to(root / "nowhere.jpg")
    add(root, 1)
    extract(config(root))
    assert main(["compact", str(root / "store")]) == 0
    store = FeatureStore.open(str(root / "store"))
    assert {letter.key for letter in store.dead_letters} == {"train/fern/broken.jpg", "train/fern/link.jpg"}
    assert store.manifest.totals.stored == 33 and store.manifest.totals.dead == 2 and not list(faults(store.path))
    whole = extract(config(root, "at once", examples_per_shard=1024))
    assert shards(store) == shards(whole) and store.dead_letters == whole.dead_letters
    capsys.readouterr()
    assert extract(config(root, examples_per_shard=1024)).manifest == store.manifest
    assert "nothing to do" in capsys.readouterr().err
