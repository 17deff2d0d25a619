"""Extraction at the seam where a user meets it: the command in, the store on disk out."""

from __future__ import annotations

import csv
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from headstart.cli import main
from headstart.commands.info import lines_of
from headstart.features import files
from headstart.features.backbones.source import BackboneSource
from headstart.features.dataset.dead_letter import DeadLetter
from headstart.features.engines.factory import shared_engine
from headstart.features.engines.options import EngineOptions
from headstart.features.errors import UserError
from headstart.features.images import decode
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.manifest import ShardEntry, Totals
from headstart.features.store.verify import faults
from headstart.pipelines import extract_shard, finish, growth
from headstart.pipelines.extract import dry_run, extract
from headstart.pipelines.extract_config import ExtractConfig
from headstart.pipelines.survey import CACHE, Survey, Surveyed, read_cache, survey_file, write_cache
from headstart.pipelines.units import run_units, runner, write_unit
from headstart.pipelines.units.markers import ShardMarker, write_marker
from headstart.pipelines.units.work_unit import UnitExamples, WorkUnit
from tests import conftest

CLASSES = ("blå", "red", "sand")


def paint(path: Path, seed: int, size: tuple[int, int] = (40, 36)) -> None:
    """A small image that no other seed gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")


@pytest.fixture()
def photos(tmp_path: Path) -> Path:
    """Three classes of 20 images each, no splits."""
    root = tmp_path / "photos"
    for number in range(60):
        paint(root / CLASSES[number % 3] / "deep" / f"image {number}.JPG", number)
    return root


def config(photos: Path, store: Path, **changes: object) -> ExtractConfig:
    """A quick extraction in shards of 8."""
    values = {"input": str(photos), "store": str(store), "examples_per_shard": 8, **conftest.small_backbone(), **changes}
    return ExtractConfig(**values)  # type: ignore[arg-type]


def totals(planned: int, stored: int, dead: int, left_out: int = 0) -> Totals:
    """What a manifest counts."""
    return Totals(planned + left_out, left_out, planned, stored, dead)


def digests(store: FeatureStore) -> dict[str, str]:
    """Shard name to the digest of its bytes on disk."""
    return {Path(p).name: files.sha256_file(p) for split in store.splits for p in store.shard_paths(split)}


def features_by_digest(store: FeatureStore) -> dict[str, bytes]:
    """Content digest to the feature's bytes as stored."""
    found = {}
    for split in store.splits:
        for example, feature in zip(store.examples(split), store.to_numpy(split).features):
            found[example.digest] = feature.tobytes()
    return found


def count_inferences(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the images that the backbone sees from here on."""
    seen: list[int] = []
    real = extract_shard.shared_engine

    def counting(*arguments: object) -> object:
        engine = real(*arguments)  # type: ignore[arg-type]

        class Counting:
            batch_size, streams, options = engine.batch_size, engine.streams, engine.options

            def __call__(self, pixels: np.ndarray) -> list[np.ndarray]:
                seen.append(len(pixels))
                return engine(pixels)

        return Counting()

    monkeypatch.setattr(extract_shard, "shared_engine", counting)
    return seen


def test_stored_features_are_the_backbones(photos: Path, tmp_path: Path) -> None:
    store = extract(config(photos, tmp_path / "store"))
    assert store.class_names == sorted(CLASSES) and len(store.spec.architecture) == 64
    assert {split: store.count(split) for split in store.splits} == {"test": 6, "train": 48, "validation": 6}
    backbone = store.backbone(store.spec.taps[0])
    arrays = store.to_numpy("train")
    from headstart.features.images.decode import decode_image
    from headstart.features.images.resize import resizer

    resize = resizer(store.spec)
    for row in (0, 17, 47):
        pixels = resize(decode_image((photos / arrays.keys[row]).read_bytes()))
        expected = np.ravel(backbone.predict(pixels[None], verbose=0))
        np.testing.assert_allclose(arrays.features[row].astype(np.float32), expected, rtol=2e-3, atol=1e-5)
        assert store.class_names[arrays.labels[row]] == arrays.keys[row].split("/")[0]


def test_the_same_inputs_give_the_same_bytes_wherever_they_lie(photos: Path, tmp_path: Path) -> None:
    first = extract(config(photos, tmp_path / "one"))
    moved = tmp_path / "elsewhere"
    shutil.copytree(photos, moved)
    second = extract(config(moved, tmp_path / "two", batch_size=3))
    assert digests(first) == digests(second)
    assert first.manifest.generations == second.manifest.generations and first.spec == second.spec
    assert first.manifest.dataset_digest == second.manifest.dataset_digest


def test_names_do_not_decide_the_division(photos: Path, tmp_path: Path) -> None:
    first = extract(config(photos, tmp_path / "one"))
    for number, path in enumerate(sorted(photos.rglob("*.JPG"))):
        path.rename(path.with_name(f"renamed-{number * 7 % 61}.png"))
    second = extract(config(photos, tmp_path / "two"))
    for split in first.splits:
        assert {e.digest for e in first.examples(split)} == {e.digest for e in second.examples(split)}


def test_nothing_is_done_twice(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = extract(config(photos, tmp_path / "store"))
    seen = count_inferences(monkeypatch)
    after = extract(config(photos, tmp_path / "store"))
    assert not seen and digests(before) == digests(after)
    assert "nothing to do" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path / "store")) == [".digests.parquet", "generations", "manifest.json"]


@pytest.mark.slow
@pytest.mark.parametrize("change", ["rename a class", "add a class", "relabel", "divide anew", "group", "smaller shards"])
def test_a_changed_dataset_copies_its_features(
    change: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = extract(config(photos, tmp_path / "store"))
    old, new_images = features_by_digest(before), 0
    changes: dict[str, object] = {}
    if change == "rename a class":
        (photos / "red").rename(photos / "a rouge")
    elif change == "add a class":
        for number in range(5):
            paint(photos / "new" / f"{number}.png", 1000 + number)
        new_images = 5
    elif change == "relabel":
        source = next((photos / "red" / "deep").iterdir())
        source.rename(photos / "sand" / "deep" / source.name)
    elif change == "divide anew":
        changes = {"splits": "train=0.5,test=0.5", "split_seed": 3}
    elif change == "group":
        changes = {"group_by": r"(\d)\.JPG"}
    else:
        changes = {"examples_per_shard": 5}
    seen = count_inferences(monkeypatch)
    after = extract(config(photos, tmp_path / "store", **changes))
    new = features_by_digest(after)
    assert sum(seen) == new_images
    assert {digest: feature for digest, feature in new.items() if digest in old} == old
    assert not list(faults(after.path))
    if change in ("add a class", "relabel"):
        kept = {e.digest: e.split for e in before.table}
        assert all(kept[e.digest] == e.split for e in after.table if e.digest in kept)
    assert extract(config(photos, tmp_path / "fresh", **changes)).class_names == after.class_names


def test_an_added_image_moves_no_other(photos: Path, tmp_path: Path) -> None:
    before = {e.digest: e.split for e in extract(config(photos, tmp_path / "store")).table}
    for number in range(30):
        paint(photos / "red" / f"later {number}.png", 5000 + number)
    after = {e.digest: e.split for e in extract(config(photos, tmp_path / "store")).table}
    assert before.items() <= after.items() and len(after) == len(before) + 30


def test_names_need_not_be_utf8(photos: Path, tmp_path: Path) -> None:
    for number, name in enumerate((b"caf\xe9.png", b"broken \xff.png", 'ключ, "и"\n.png'.encode())):
        path = os.path.join(os.fsencode(photos), b"red", name)
        paint(photos / "red" / "temporary.png", 900 + number)
        os.replace(photos / "red" / "temporary.png", path)
        if b"broken" in name:
            with open(path, "wb") as file:
                file.write(b"no image")
    store = extract(config(photos, tmp_path / "store", max_bad_fraction=0.1))
    keys = [key for split in store.splits for key in store.to_numpy(split).keys]
    assert {"red/caf\udce9.png", 'red/ключ, "и"\n.png'} <= set(keys) and len(keys) == 62
    assert [letter.key for letter in store.dead_letters] == ["red/broken \udcff.png"]
    assert not list(faults(store.path))


def test_a_larger_limit_gives_a_refused_image_another_chance(photos: Path, tmp_path: Path) -> None:
    paint(photos / "red" / "large.png", 800, (100, 100))
    before = extract(config(photos, tmp_path / "store", max_pixels=5000, max_bad_fraction=0.1))
    assert [letter.key for letter in before.dead_letters] == ["red/large.png"]
    assert not extract(config(photos, tmp_path / "store")).dead_letters


@pytest.mark.parametrize("name", ["DirectRunner", "FnApiRunner", "directrunner", "Direct", "fnapirunner"])
def test_a_local_runner_by_any_name_is_the_one_in_this_process(name: str) -> None:
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

    assert isinstance(runner.beam_pipeline([f"--runner={name}"]).runner, FnApiRunner)


def test_an_unfinished_store_takes_over_no_other_backbone(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(finish, "write_sample", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        extract(config(photos, tmp_path / "store"))
    store = extract(config(photos, tmp_path / "store", backbone="EfficientNetLite0", preprocessing="auto", weights="random:1"))
    assert not list(faults(store.path))


def test_what_could_not_be_read_gets_another_chance(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headstart.features.engines import stream

    real = stream._read

    def broken_disk(file: stream.ImageToRead) -> object:
        return stream.Unreadable("read", "Input/output error") if "image 7." in file.path else real(file)

    with monkeypatch.context() as patch:
        patch.setattr(stream, "_read", broken_disk)
        store = extract(config(photos, tmp_path / "store", max_bad_fraction=0.1))
    assert [letter.reason for letter in store.dead_letters] == ["Input/output error"]
    assert extract(config(photos, tmp_path / "store")).manifest.totals == totals(60, 60, 0)


@pytest.mark.parametrize("append_from", [growth.APPEND_FROM, 1])
def test_what_a_missing_decoder_lost_is_stored_once_it_is_there(
    append_from: int, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(growth, "APPEND_FROM", append_from)
    extract(config(photos, tmp_path / "store"))
    conftest.draw("fern", np.random.default_rng(0)).save(photos / "red" / "drawn.gif")
    asked = config(photos, tmp_path / "store", max_bad_fraction=0.1)
    with monkeypatch.context() as patch:
        patch.setitem(decode.PLUGINS, "GIF", ("headstart.nothing", ""))
        store = extract(asked)
        assert [letter.reason for letter in store.dead_letters] == ["this Pillow reads no GIF"]
        assert len(store.manifest.generations) == (2 if append_from == 1 else 1)
        capsys.readouterr()
        assert extract(asked).manifest == store.manifest and "nothing to do" in capsys.readouterr().err
    seen = count_inferences(monkeypatch)
    assert extract(asked).manifest.totals == totals(61, 61, 0) and sum(seen) == 1


def test_a_class_need_not_be_utf8(photos: Path, tmp_path: Path) -> None:
    os.rename(photos / "red", os.path.join(os.fsencode(photos), b"caf\xe9"))
    store = extract(config(photos, tmp_path / "store"))
    assert "caf\udce9" in store.class_names and not list(faults(store.path))


def test_an_empty_folder_that_was_there_stays(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with pytest.raises(UserError, match="has no layer"):
        extract(config(photos, tmp_path / "store", taps=("nope",)))
    assert (tmp_path / "store").is_dir() and not os.listdir(tmp_path / "store")


def test_a_division_is_the_same_however_it_is_written(photos: Path, tmp_path: Path) -> None:
    first = extract(config(photos, tmp_path / "one", splits="train=0.8,val=0.2"))
    assert first.splits == ["train", "validation"]
    again = extract(config(photos, tmp_path / "one", splits="validation=0.20, train=0.80"))
    assert {e.key: e.split for e in first.table} == {e.key: e.split for e in again.table}


def test_copies_stay_together(photos: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted((photos / "red").rglob("*.JPG"))):
        shutil.copy(path, photos / "red" / f"copy {number}.png")
    store = extract(config(photos, tmp_path / "store"))
    splits: dict[str, set[str]] = {}
    for example in store.table:
        splits.setdefault(example.digest, set()).add(example.split)
    assert len(store.table) == 80 and all(len(found) == 1 for found in splits.values())


def damage(photos: Path) -> dict[str, str]:
    """Adds files of five kinds that can't be read; key to the words that its reason must have."""
    whole = next((photos / "red" / "deep").iterdir()).read_bytes()
    bad = {
        "red/truncated.png": (whole[:200], "damaged PNG"),
        "sand/empty.jpg": (b"", "empty"),
        "sand/notes.jpg": (b"not a picture", "not a JPEG"),
        "sand/bomb.png": (whole[:16] + b"\x00\x00\xff\xff\x00\x00\xff\xff" + whole[24:], "limit|damaged PNG"),
    }
    for key, (content, _) in bad.items():
        (photos / key).write_bytes(content)
    (photos / "sand" / "gone.jpg").symlink_to(photos / "nowhere")
    return {**{key: reason for key, (_, reason) in bad.items()}, "sand/gone.jpg": "No such file"}


def test_what_cannot_be_read_becomes_a_dead_letter(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reasons = damage(photos)
    store = extract(config(photos, tmp_path / "store", max_bad_fraction=0.1))
    letters = {letter.key: letter for letter in store.dead_letters}
    assert letters.keys() == reasons.keys()
    for key, words in reasons.items():
        assert any(word in letters[key].reason for word in words.split("|")), letters[key]
        assert letters[key].label == key.split("/")[0]
    assert store.manifest.totals == totals(65, 60, 5)
    assert store.manifest.dead_by_class == {"red": 1, "sand": 4}
    assert sum(store.count(split) for split in store.splits) == 60
    assert not list(faults(store.path))
    err = capsys.readouterr().err
    assert "5 dead letters" in err and "'sand' lost" in err


def test_what_is_no_image_is_left_out_and_copies_with_several_labels_are_listed(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "sand" / "notes.txt").write_text("shot on a Tuesday")
    (photos / "sand" / "link").symlink_to(photos / "nowhere")
    (photos / "readme").touch()
    shutil.copy(photos / "red" / "deep" / "image 1.JPG", photos / "sand" / "copy.jpg")
    store = extract(config(photos, tmp_path / "store", max_bad_fraction=0))
    assert store.manifest.totals == totals(61, 61, 0, left_out=3)
    assert store.manifest.left_out == {"outside_classes": 1, "no_images": 2} and not list(faults(store.path))
    err = capsys.readouterr().err
    assert "2 files are no images and are left out, such as sand/link" in err
    assert "class      red: 20 (train 16, validation 2, test 2)" in err
    assert "1 identical files carry different labels, such as red/deep/image 1.JPG (red) and sand/copy.jpg (sand)" in err
    path = conftest.generation(store.path) / "conflicts.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["key"], row["label"]) for row in rows] == [("red/deep/image 1.JPG", "red"), ("sand/copy.jpg", "sand")]
    path.write_text("spoiled")
    assert any("conflicts.csv: its content is not what the manifest says" in fault for fault in faults(store.path))
    (photos / "sand" / "copy.jpg").unlink()
    store = extract(config(photos, tmp_path / "store"))
    assert not list(faults(store.path)) and path.name not in store.manifest.generations[-1].files


def test_small_classes_are_told(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in sorted((photos / "red" / "deep").iterdir())[2:]:
        path.unlink()
    lines = "\n".join(dry_run(config(photos, tmp_path / "store", min_per_split=3)))
    assert "class      sand: 20 (train 14, validation 3, test 3)" in lines
    assert "warning: 1 of 3 classes have fewer than 3 images in test: 'red' (0 of 2)" in lines
    store = extract(config(photos, tmp_path / "store"))
    assert store.manifest.division.min_per_split == 1
    told = "\n".join(lines_of(store))
    for text in (capsys.readouterr().err, told):
        assert "class      red: 2 (train 2, validation 0, test 0)" in text
        assert "warning: 1 of 3 classes have no image in validation: 'red' (0 of 2)" in text


def test_too_many_dead_letters_stop_before_the_bill(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(photos)
    seen = count_inferences(monkeypatch)
    with pytest.raises(UserError, match=r"can't be read, more than the 1 .*sand/notes.jpg|sand/empty.jpg"):
        extract(config(photos, tmp_path / "store", max_bad_fraction=0.02))
    assert not seen and not (tmp_path / "store").exists()


def test_damage_that_only_decoding_finds_stops_the_job_too(photos: Path, tmp_path: Path) -> None:
    for path in sorted(photos.rglob("*.JPG"))[:30]:
        path.write_bytes(path.read_bytes()[:300] + path.name.encode())
    with pytest.raises(UserError, match="max_bad_fraction"):
        extract(config(photos, tmp_path / "store", max_bad_fraction=0.2))
    assert not (tmp_path / "store" / "manifest.json").exists()
    with pytest.raises(UserError, match=r"not complete: run its `headstart extract` command again"):
        FeatureStore.open(str(tmp_path / "store"))
    store = extract(config(photos, tmp_path / "store", max_bad_fraction=0.6))  # and what was done is not done again
    assert store.manifest.totals == totals(60, 30, 30)


def test_a_mended_dataset_is_not_measured_by_what_it_was(photos: Path, tmp_path: Path) -> None:
    whole = {path: path.read_bytes() for path in sorted(photos.rglob("*.JPG"))[:30]}
    for path, content in whole.items():
        path.write_bytes(content[:300] + path.name.encode())
    with pytest.raises(UserError, match="max_bad_fraction"):
        extract(config(photos, tmp_path / "store", max_bad_fraction=0.2))
    assert list((tmp_path / "store" / ".work").glob("*/*/*-of-*.json"))
    for path, content in whole.items():
        path.write_bytes(content)
    store = extract(config(photos, tmp_path / "store", max_bad_fraction=0.2))
    assert store.manifest.totals.stored == 60 and not store.dead_letters


@pytest.mark.parametrize("unit", ["an older plan's", "its own"])
def test_a_marker_counts_for_the_unit_that_it_is_of(unit: str, tmp_path: Path) -> None:
    work = WorkUnit("features-train.tfrecord-00000-of-00001", "train", "f", UnitExamples.of(()), 9)
    (tmp_path / work.shard).write_bytes(b"")
    shard = ShardEntry(work.shard, 4, 0, 0, "", work.digest if unit == "its own" else unit)
    letter = DeadLetter("x", "", "", "train", "decode", "cut short")
    write_marker(str(tmp_path), ShardMarker(shard, "train", 5, 4, None, (letter,)))
    job = SimpleNamespace(work=str(tmp_path), too_many_dead=lambda letters: "")
    plan = SimpleNamespace(job=job, to_do=[work], done={}, lost=(), settled=0, planned=5)
    board = run_units._Board(plan, "extract")  # type: ignore[arg-type]
    board.look()
    assert (board.done, len(board.dead_letters)) == ((5, 1) if unit == "its own" else (0, 0))


def test_too_many_dead_letters_are_no_store(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in sorted(photos.rglob("*.JPG"))[:12]:
        path.write_bytes(path.read_bytes()[:300] + path.name.encode())
    monkeypatch.setattr(run_units._Board, "look", lambda self: None)  # nobody watches
    with pytest.raises(UserError, match="12 images can't be read, more than the 11 that"):
        extract(config(photos, tmp_path / "store", max_bad_fraction=11.5 / 60))
    assert not (tmp_path / "store" / "manifest.json").exists()


def test_a_failed_unit_goes_on_where_it_stopped(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = extract(config(photos, tmp_path / "whole"))
    real, calls = write_unit.write_marker, []

    def dies_at_the_third_marker(work: str, marker: ShardMarker) -> bool:
        calls.append(marker)
        if len(calls) == 3:
            raise RuntimeError("pulled the plug")
        return real(work, marker)

    monkeypatch.setattr(write_unit, "write_marker", dies_at_the_third_marker)
    with pytest.raises(Exception, match="pulled the plug"):
        extract(config(photos, tmp_path / "store"))
    monkeypatch.setattr(write_unit, "write_marker", real)
    seen = count_inferences(monkeypatch)
    capsys.readouterr()
    resumed = extract(config(photos, tmp_path / "store"))
    done = re.search(r"60 images \((\d+) done already, (\d+) to compute, 0 to copy\)", capsys.readouterr().err)
    assert done and int(done[1]) > 0 and int(done[1]) + int(done[2]) == 60
    assert sum(seen) == int(done[2])
    assert digests(resumed) == digests(whole)


@pytest.mark.slow
def test_a_killed_process_leaves_what_the_next_one_finishes(photos: Path, tmp_path: Path) -> None:
    for number in range(60, 400):
        paint(photos / CLASSES[number % 3] / f"{number}.png", number, (300, 300))
    command = [sys.executable, "-m", "headstart", "extract", str(photos), "--store", str(tmp_path / "killed"),
               *conftest.small_backbone_flags(), "--examples_per_shard", "16"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if len(list((tmp_path / "killed").glob(".work/*/*/*-of-*.json"))) >= 3:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.005)
    assert process.wait() == -signal.SIGKILL, "it should have been killed on the way"
    with pytest.raises(UserError, match="not complete"):
        FeatureStore.open(str(tmp_path / "killed"))
    resumed, whole = (extract(config(photos, tmp_path / name, examples_per_shard=16)) for name in ("killed", "whole"))
    assert digests(resumed) == digests(whole) and not list(faults(resumed.path))


def test_a_retried_bundle_gives_its_rows_again(photos: Path, tmp_path: Path) -> None:
    store = extract(config(photos, tmp_path / "store", pipeline_options=("--direct_runner_bundle_repeat=1",)))
    assert store.manifest.totals == totals(60, 60, 0)
    assert not list(faults(store.path))


@pytest.mark.slow
def test_fresh_worker_processes_make_the_same_store(photos: Path, tmp_path: Path) -> None:
    options = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
    apart = subprocess.run(
        [sys.executable, "-m", "headstart", "extract", str(photos), "--store", str(tmp_path / "apart"),
         *conftest.small_backbone_flags(), "--examples_per_shard", "8", *options],
        timeout=240, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert apart.returncode == 0, apart.stderr
    here = extract(config(photos, tmp_path / "here"))
    assert digests(FeatureStore.open(str(tmp_path / "apart"))) == digests(here)


def test_another_spec_is_refused_naming_both_values(photos: Path, tmp_path: Path) -> None:
    extract(config(photos, tmp_path / "store"))
    with pytest.raises(UserError, match=r"image_size: \[32, 32\] is not \[48, 48\]"):
        extract(config(photos, tmp_path / "store", image_size="48"))
    with pytest.raises(UserError, match="weights_digest"):
        extract(config(photos, tmp_path / "store", backbone="EfficientNetLite0", preprocessing="auto", weights="random:1"))


def test_another_dataset_is_not_written_over(photos: Path, tmp_path: Path) -> None:
    extract(config(photos, tmp_path / "store"))
    for number in range(8):
        paint(tmp_path / "others" / "ab"[number % 2] / f"{number}.png", 700 + number)
    with pytest.raises(UserError, match="no image in common"):
        extract(config(tmp_path / "others", tmp_path / "store"))
    assert not list(faults(str(tmp_path / "store")))


def test_a_folder_that_holds_something_else_is_left_alone(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("do not lose")
    with pytest.raises(UserError, match="holds something else"):
        extract(config(photos, tmp_path / "precious"))
    assert os.listdir(tmp_path / "precious") == ["thesis.txt"]


def test_groups_of_one_image_each_are_told_of(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = len(list(photos.rglob("*.*")))
    extract(config(photos, tmp_path / "alone", group_by=r"(.+)\.", dry_run=True))
    assert f"warning: each of the {names} images has a group of its own" in capsys.readouterr().err
    extract(config(photos, tmp_path / "none", dry_run=True))
    assert "of its own" not in capsys.readouterr().err


def test_ready_made_splits_are_kept_and_overlaps_reported(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "split"
    for number in range(24):
        paint(root / ("Train" if number < 16 else "val") / CLASSES[number % 3] / f"g{number % 12}-{number}.png", number)
    shutil.copy(root / "Train" / "red" / "g1-1.png", root / "val" / "red" / "copy-g1.png")
    store = extract(config(root, tmp_path / "store"))
    assert {split: store.count(split) for split in store.splits} == {"train": 16, "validation": 9}
    assert "1 identical files are in more than one split" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"groups are in more than one split, such as 'g1'.*--allow_group_overlap"):
        extract(config(root, tmp_path / "grouped", group_by=r"g\d+"))
    allowed = extract(config(root, tmp_path / "grouped", group_by=r"g\d+", allow_group_overlap=True))
    assert allowed.manifest.groups_declared and {e.group for e in allowed.table} == {f"g{n}" for n in range(12)}


def test_a_table_with_groups(photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "group"))
        for number, path in enumerate(sorted(photos.rglob("*.JPG"))):
            writer.writerow((path.relative_to(tmp_path), path.relative_to(photos).parts[0], f"patient {number % 15}"))
    store = extract(config(table, tmp_path / "store"))
    sides: dict[str, set[str]] = {}
    for example in store.table:
        sides.setdefault(example.group, set()).add(example.split)
    assert len(sides) == 15 and all(len(found) == 1 for found in sides.values())


def test_dry_run_says_what_would_be_done_and_leaves_no_trace(photos: Path, tmp_path: Path) -> None:
    lines = "\n".join(dry_run(config(photos, tmp_path / "store")))
    for words in ("60 images (60 to compute, 0 to copy)", "train: 48 images in 6 shards", "classes   3", "images/s"):
        assert words in lines
    assert not (tmp_path / "store").exists()
    extract(config(photos, tmp_path / "store"))
    before = sorted(os.listdir(tmp_path / "store"))
    assert "0 to compute, 60 to copy" in "\n".join(dry_run(config(photos, tmp_path / "store", split_seed=9)))
    assert sorted(os.listdir(tmp_path / "store")) == before


def test_two_extractions_into_one_store_do_not_meet(photos: Path, tmp_path: Path) -> None:
    from headstart.pipelines.extract import claimed_store

    with claimed_store(str(tmp_path / "store")), pytest.raises(UserError, match="another extraction is writing"):
        extract(config(photos, tmp_path / "store"))


def test_files_that_go_grow_or_are_replaced_after_the_survey_become_dead_letters(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, (gone, grown, replaced, *_) = run_units.run_units, sorted((photos / "red" / "deep").iterdir())

    def meanwhile(*arguments: Any) -> None:
        gone.unlink()
        grown.write_bytes(grown.read_bytes() + b"more")
        paint(replaced, 4321)
        real(*arguments)

    monkeypatch.setattr(run_units, "run_units", meanwhile)
    store = extract(config(photos, tmp_path / "store", max_bad_fraction=0.1))
    reasons = {letter.key.split("/")[-1]: letter.reason for letter in store.dead_letters}
    assert reasons.keys() == {gone.name, grown.name, replaced.name}
    assert "No such file" in reasons[gone.name] and all("changed" in reasons[path.name] for path in (grown, replaced))
    assert store.manifest.totals.stored == 57 and not list(faults(store.path))


def test_a_store_may_have_any_name_on_any_file_system(photos: Path, tmp_path: Path) -> None:
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one file system only")
    with tempfile.TemporaryDirectory(dir=elsewhere) as folder:
        path = Path(folder, "my 'new' \"store\"\n of 🌻 [*] %s {0}")
        store = extract(config(photos, path))
        assert not list(faults(store.path)) and store.manifest.totals.stored == 60
        assert os.listdir(folder) == [path.name]


def test_a_store_has_one_writer_at_a_time_however_many_come_and_go(tmp_path: Path) -> None:
    """A lock file that its holder has removed is nobody's lock, though another process may have it open."""
    from headstart.pipelines.extract import claimed_store

    writers, most, refused = [], [], []

    def come_and_go() -> None:
        for _ in range(150):
            try:
                with claimed_store(str(tmp_path / "store")):
                    writers.append(1)
                    most.append(len(writers))
                    time.sleep(1e-4)
                    writers.pop()
            except UserError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and len(most) + len(refused) == 4 * 150
    assert all("another extraction is writing" in reason for reason in refused)
    assert not any(held for _, _, held in os.walk(tmp_path))


def test_a_full_disk_is_one_line(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = extract_shard.tfrecord.write_record
    written = []

    def full(file: object, content: bytes) -> bytes:
        written.append(1)
        if len(written) > 20:
            raise OSError(28, "No space left on device")
        return real(file, content)  # type: ignore[arg-type]

    monkeypatch.setattr(extract_shard.tfrecord, "write_record", full)
    flags = [
        "extract",
        str(photos),
        "--store",
        str(tmp_path / "store"),
        *conftest.small_backbone_flags(),
        "--examples-per-shard",
        "8",
    ]
    assert main(flags) == 2
    err = capsys.readouterr().err
    assert "is full: make room and run the same command again" in err and "Traceback" not in err
    assert not (tmp_path / "store" / "manifest.json").exists()
    monkeypatch.setattr(extract_shard.tfrecord, "write_record", real)
    assert main(flags) == 0


def test_a_feature_too_large_for_float16_is_an_error(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = extract_shard.shared_engine

    def huge(*arguments: object) -> object:
        engine = real(*arguments)  # type: ignore[arg-type]
        same = {"batch_size": engine.batch_size, "streams": engine.streams, "options": engine.options}
        return type("Huge", (), {**same, "__call__": lambda _, pixels: [y + 1e5 for y in engine(pixels)]})()

    monkeypatch.setattr(extract_shard, "shared_engine", huge)
    with pytest.raises(UserError, match="float16 can't hold: take --store_dtype bfloat16 or float32"):
        extract(config(photos, tmp_path / "store"))


def test_weights_that_are_not_the_specs_are_refused(photos: Path, tmp_path: Path) -> None:
    spec = extract(config(photos, tmp_path / "store")).spec
    with pytest.raises(UserError, match=r"have digest .* the features were asked for with"):
        shared_engine(
            dataclasses.replace(spec, weights_digest="0" * 64),
            BackboneSource.parse(conftest.small_backbone()["backbone"], "imagenet", False),
            EngineOptions(),
        )


@pytest.mark.parametrize("rows", [0, 300])
def test_a_damaged_cache_of_the_survey_is_none(rows: int, tmp_path: Path) -> None:
    path = tmp_path / "digests.parquet"
    write_cache(str(path), Survey.of(Surveyed(f"/photos/{number}.jpg", number, number, "ab" * 32) for number in range(rows)))
    whole = path.read_bytes()
    assert len(read_cache(str(path))) == rows
    for at in range(0, len(whole), 29):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        assert len(read_cache(str(path))) <= rows
    path.write_bytes(whole[: len(whole) // 2])
    assert len(read_cache(str(path))) == 0


def test_the_survey_reads_a_file_once(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headstart.pipelines import survey

    read: list[str] = []
    monkeypatch.setattr(survey, "survey_file", lambda path: read.append(path) or survey_file(path))
    extract(config(photos, tmp_path / "store"))
    assert len(read) == 60
    paint(photos / "red" / "deep" / "image 1.JPG", 4242)
    extract(config(photos, tmp_path / "store"))
    assert len(read) == 61


def test_files_that_change_places_are_read_again(photos: Path, tmp_path: Path) -> None:
    one, other = photos / "red" / "one.bmp", photos / "sand" / "other.bmp"
    for number, path in enumerate((one, other)):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
        os.utime(path, (10**9, 10**9))
    extract(config(photos, tmp_path / "store"))
    one.rename(photos / "aside")  # of one size and time, they are told apart by neither
    other.rename(one)
    (photos / "aside").rename(other)
    found = {e.key: e.digest for e in extract(config(photos, tmp_path / "store")).table}
    assert {key: found[key] for key in ("red/one.bmp", "sand/other.bmp")} == {
        "red/one.bmp": files.sha256_file(str(one)), "sand/other.bmp": files.sha256_file(str(other))
    }  # fmt: skip


def test_what_an_earlier_version_knew_of_files_is_not_believed(photos: Path, tmp_path: Path) -> None:
    cache = tmp_path / "store" / CACHE
    extract(config(photos, tmp_path / "store"))
    known = pq.read_table(cache)
    assert len(read_cache(str(cache))) == 60
    pq.write_table(known.drop_columns(["version", "mark"]), cache)
    assert len(read_cache(str(cache))) == 0
    extract(config(photos, tmp_path / "store"))
    assert pq.read_table(cache).sort_by("path") == known.sort_by("path")


def test_an_engine_is_made_once_for_all_jobs_of_a_process(photos: Path, tmp_path: Path) -> None:
    from headstart.features.engines.factory import _engine

    extract(config(photos, tmp_path / "one"))
    made = _engine.cache_info().misses
    extract(config(photos, tmp_path / "other"))
    assert _engine.cache_info().misses == made


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--splits", "train=0.5,test=0.2"], "add up to 1"),
        (["--image_size", "huge"], "--image_size is N or H,W"),
        (["--tap", "nope"], "has no layer 'nope'"),
        (["--tap", "top_activation:mean"], "pooling is none, avg, max or gridK"),
        (["--backbone", "VGG61"], "Did you mean VGG"),
        (["--weights", "file.h5"], "there is no file 'file.h5'"),
        (["--max_bad_fraction", "3"], "lies from 0 to 1"),
        (["--store", "hdfs://host/store"], "unknown scheme. There are s3://, gs://, az://"),
        (["--examples_per_shard", "0"], "at least 1"),
        (["--resize_mode", "stretch"], "--resize_mode is one of squash, crop, pad, not 'stretch'"),
        (["--runner", "NoSuchRunner"], "--runner NoSuchRunner: "),
        (["--direct_num_worker", "2"], "Did you mean --direct_num_workers"),
        (["--label_names", "names.txt"], "--label_names is of records, as in tfrecord:GLOB, and INPUT is "),
    ],
)
def test_mistakes_are_one_line_and_exit_status_2(
    flags: list[str], words: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["extract", str(photos), "--store", str(tmp_path / "store"), *flags]) == 2
    err = capsys.readouterr().err.strip()
    assert words in err and "Traceback" not in err and len(err.splitlines()) == 1
    assert not (tmp_path / "store").exists()


def test_a_worker_hands_its_mistake_to_the_person(tmp_path: Path) -> None:
    error = runner.to_user_error(
        RuntimeError("Traceback ...\nfeatures.errors.UserError: take the other one [while running 'X']"), ""
    )
    assert isinstance(error, UserError) and (error.code, str(error)) == ("worker-failed", "take the other one")


def test_a_mistake_inside_a_step_keeps_its_code(tmp_path: Path) -> None:
    def refuse(number: int) -> None:
        raise UserError("bad-numbers", f"not {number}")

    translated = runner.translate_runner_errors(str(tmp_path))
    with pytest.raises(UserError) as caught, translated, runner.beam_pipeline([]) as pipeline:
        _ = pipeline | beam.Create([1]) | beam.Map(refuse)
    assert (caught.value.code, str(caught.value)) == ("bad-numbers", "not 1")


def test_markers_do_not_stay_beside_what_is_complete(photos: Path, tmp_path: Path) -> None:
    store = extract(config(photos, tmp_path / "store"))
    assert set(os.listdir(store.path)) == {"manifest.json", "generations", ".digests.parquet"}
    (held,) = store.manifest.generations
    shards = {Path(path).name for split in store.splits for path in store.shard_paths(split)}
    assert set(os.listdir(Path(store.path, held.folder))) == shards | held.files.keys()


def test_another_store_s_splits_are_kept(tmp_path: Path) -> None:
    flat = conftest.write_photos(tmp_path, {"flat": dict.fromkeys(conftest.CLASSES, 4)}) / "flat"
    first = extract(ExtractConfig(input=str(flat), store=str(tmp_path / "first"), **conftest.small_backbone()))
    for number, kind in enumerate(conftest.CLASSES):
        conftest.draw(kind, np.random.default_rng(number)).save(flat / kind / "new.png")
    options = {**conftest.small_backbone(), "image_size": 40, "split_seed": 1, "splits": "train=0.5,validation=0.25,test=0.25"}
    grown = extract(ExtractConfig(input=str(flat), store=str(tmp_path / "grown"), splits_from=first.path, **options))
    before, after = ({example.key: example.split for example in store.table} for store in (first, grown))
    assert len(after) == len(before) + 3
    assert {key: after[key] for key in before} == before
    for kind in conftest.CLASSES:
        shutil.copytree(flat / kind, tmp_path / "half" / kind)
        for path in sorted((tmp_path / "half" / kind).glob("0*"))[:2]:
            path.unlink()
    half = ExtractConfig(input=str(tmp_path / "half"), store=str(tmp_path / "half store"), splits_from=first.path, **options)
    own = {example.key: example.split for example in extract(half).table}
    shutil.copytree(flat, tmp_path / "half", dirs_exist_ok=True)
    whole = {example.key: example.split for example in extract(half).table}
    assert whole == {**before, **own}
    conftest.write_photos(tmp_path / "split", {"train": dict.fromkeys(conftest.CLASSES, 1)})
    divisions = {"splits_from": first.path, "splits": "train=1", "split_seed": 1, "min_per_split": 0}
    for name, value in divisions.items():
        refused = {"input": str(tmp_path / "split"), "store": str(tmp_path / "s"), name: value, **conftest.small_backbone()}
        with pytest.raises(UserError, match=f"--{name} divides images, .* comes with splits of its own: leave it out"):
            extract(ExtractConfig(**refused))
