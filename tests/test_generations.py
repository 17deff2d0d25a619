"""A store that is made anew: at every moment it is the older one or the newer one, and what nobody names goes in the end."""

from __future__ import annotations

import os
import pathlib
import shutil
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from headstart.cli import main
from headstart.features.files import sha256_file
from headstart.features.places import claim, place
from headstart.features.places.claim import claimed
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.generations import clean, older
from headstart.features.store.store_files import check_whole
from headstart.features.store.verify import faults
from headstart.pipelines import extract_shard, growth
from headstart.pipelines.compact import compact
from headstart.pipelines.extract import extract
from headstart.pipelines.extract_config import ExtractConfig
from headstart.pipelines.plan import make_plan
from headstart.pipelines.units.markers import ShardMarker, save_unit
from tests.conftest import draw, little_base, raises, write_photos

HOUR_S = 3600.0


class Killed(BaseException):
    """As a process is: nothing that cleans up after errors takes it for one."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder of photos, a network, and a store made of them."""
    root = tmp_path_factory.mktemp("made")
    write_photos(root / "photos", {"train": {"fern": 5, "gentian": 4}, "test": {"fern": 2, "gentian": 2}})
    little_base(root / "little.keras")
    extract(config(root))
    return root


@pytest.fixture
def root(made: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(made, tmp_path / "root"))


def config(root: pathlib.Path, store: str = "store", **changes: Any) -> ExtractConfig:
    values = {"input": str(root / "photos"), "store": str(root / store), "backbone": str(root / "little.keras")}
    return ExtractConfig(**{**values, "preprocessing": "tf", "image_size": "32", "examples_per_shard": 4, **changes})


def contents(store: pathlib.Path) -> dict[str, str]:
    """Every file that a store's manifest names, and the manifest, by name; of generations, whichever they are."""
    opened = FeatureStore.open(str(store))
    (generation,) = opened.manifest.generations
    return {name: sha256_file(str(store / generation.folder / name)) for name in os.listdir(store / generation.folder)}


def one_more(root: pathlib.Path) -> None:
    draw("fern", np.random.default_rng(99)).save(root / "photos" / "train" / "fern" / "one more.png")


def dying(patch: pytest.MonkeyPatch, at: int) -> list[str]:
    """Ends the process, as it were, at the n-th thing that is written or removed; what was done until then."""
    done: list[str] = []

    def step(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any) -> Any:
            done.append(name)
            if len(done) == at:
                raise Killed
            return real(*arguments)

        return instead

    for name in ("write", "create", "creating", "copy", "remove", "remove_folder"):
        patch.setattr(place, name, step(name, getattr(place, name)))
    return done


@pytest.mark.slow
def test_it_may_be_killed_anywhere(root: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(root / "store")
    shutil.copytree(root / "store", root / "kept")
    one_more(root)
    extract(config(root))
    after, at, killed = contents(root / "store"), 0, True
    assert before != after
    while killed:
        at += 3
        monkeypatch.setattr(claim, "_process_started", lambda _, process=float(at): process)  # each try is one of its own
        shutil.rmtree(root / "store")
        shutil.copytree(root / "kept", root / "store")
        with pytest.MonkeyPatch.context() as patch:
            dying(patch, at)
            try:
                extract(config(root))
                killed = False
            except BaseException as error:
                if "Killed" not in repr(error):
                    raise
        monkeypatch.setattr(claim, "_process_started", lambda _, process=float(at + 1): process)
        assert contents(root / "store") in (before, after), at  # whoever opens it finds one of both, whole
        assert not list(faults(str(root / "store"))), at
        store = extract(config(root))
        assert contents(root / "store") == after, at
        assert {*os.listdir(root / "store")} == {"manifest.json", "generations", ".digests.parquet"}, at
        named = {generation.folder.split("/")[1] for generation in store.manifest.generations}
        assert {*os.listdir(root / "store" / "generations")} - named == older(str(root / "store"), store.manifest), at
        assert len(older(str(root / "store"), store.manifest)) == 1, at
    assert at > 30


def test_a_manifest_that_was_not_written_to_its_end_is_no_fault_and_goes(root: pathlib.Path) -> None:
    left = root / "store" / "manifest.json.0123abcd.tmp"
    left.write_text("{")
    assert not list(faults(str(root / "store")))
    extract(config(root))
    assert not left.exists() and (root / "store" / "manifest.json").exists()


def test_an_older_generation_is_kept_for_a_while(root: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = FeatureStore.open(str(root / "store"))
    one_more(root)
    extract(config(root))
    assert opened.features("train").all().shape[0] == 9  # whoever opened it goes on
    assert clean(str(root / "store"), 24, time.time() + 23 * HOUR_S) == []
    assert main(["clean", str(root / "store")]) == 0
    assert "nothing to remove: 1 older generation is kept until it is 24 hours old" in capsys.readouterr().out
    assert main(["clean", str(root / "store"), "--grace", "0"]) == 0
    assert "removed 1 older generation" in capsys.readouterr().out
    assert len(os.listdir(root / "store" / "generations")) == 1 and not list(faults(str(root / "store")))


def generations(store: pathlib.Path) -> list[str]:
    return sorted(name.partition("-")[0] for name in os.listdir(store / "generations"))


def later(store: pathlib.Path, hours: float) -> None:
    """Makes a store look as if all of it was written so much longer ago."""
    for path in filter(pathlib.Path.is_file, store.rglob("*")):
        seconds = path.stat().st_mtime - hours * HOUR_S
        os.utime(path, (seconds, seconds))


def test_a_store_that_is_made_anew_all_the_time_keeps_what_it_was_for_a_day(
    root: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, seen = root / "store", []
    for number in range(4):
        draw("fern", np.random.default_rng(number)).save(root / "photos" / "train" / "fern" / f"more {number}.png")
        extract(config(root))
        seen.append(generations(store))
        later(store, 20)
    assert seen == [["0001", "0002"], ["0001", "0002", "0003"], ["0002", "0003", "0004"], ["0003", "0004", "0005"]]
    later(store, 24)
    extract(config(root))  # nothing to do
    assert generations(store) == ["0005"]
    monkeypatch.setattr(growth, "APPEND_FROM", 1)
    one_more(root)
    extract(config(root))  # added to the one that there is, which nothing has replaced
    later(store, 48)
    compact(str(store), 5)
    assert generations(store) == ["0005", "0006", "0007"] and clean(str(store), 24, time.time()) == []
    assert len(clean(str(store), 24, time.time() + 25 * HOUR_S)) == 2 and not list(faults(str(store)))


@pytest.mark.parametrize(
    "read",
    [
        lambda store: store.features("train"),
        lambda store: store.table,
        lambda store: store.dead_letters,  # an empty file
        lambda store: store.sample(),
        lambda store: store.base(),
        lambda store: check_whole(store.path, store.manifest),
    ],
    ids=["features", "table", "dead letters", "sample", "base", "opening"],
)
def test_whoever_reads_what_was_cleaned_is_told_to_open_it_again(
    read: Callable[[FeatureStore], object], root: pathlib.Path
) -> None:
    opened = FeatureStore.open(str(root / "store"))
    one_more(root)
    extract(config(root))
    clean(opened.path, 0, time.time())
    with raises("replaced") as caught:
        read(opened)
    assert "open it again" in str(caught.value)


def test_an_empty_file_that_is_missing_is_missed(root: pathlib.Path) -> None:
    opened = FeatureStore.open(str(root / "store"))
    letters = root / "store" / opened.manifest.path_of("dead_letters.jsonl")
    assert letters.read_bytes() == b""
    letters.unlink()
    with raises("damaged"):
        _ = opened.dead_letters


def test_what_is_being_written_is_not_cleaned(root: pathlib.Path, one_line: Callable[[], str]) -> None:
    with claimed(str(root / "store"), "extraction", "--store"):
        assert main(["clean", str(root / "store"), "--grace", "0"]) == 2
    assert "another extraction is writing to" in one_line()


def test_a_worker_that_outlives_its_job_harms_nobody(root: pathlib.Path) -> None:
    """It has a unit of a start that is over: its shard is not named, its marker not read, and it is told to stop."""
    expected = contents(root / "store")
    shutil.rmtree(root / "store")
    with claimed(str(root / "store"), "extraction", "--store") as claim:
        plan = make_plan(config(root), claim.token)
        for unit in plan.units:
            save_unit(plan.job.work, unit)
    with raises("in-use"):
        extract_shard.extract_unit(plan.units[0], plan.job)
    assert not os.path.exists(place.join(plan.job.folder, plan.units[0].shard))
    place.write(place.join(plan.job.folder, plan.units[1].shard), b"half of a shard")
    extract(config(root))
    assert contents(root / "store") == expected and not list(faults(str(root / "store")))


def test_of_two_workers_with_one_unit_the_first_counts(root: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(root / "store")
    with claimed(str(root / "store"), "extraction", "--store") as claim:
        plan = make_plan(config(root), claim.token)
        unit, first = plan.units[0], list[ShardMarker]()
        real = extract_shard.stream_features

        def slower(*arguments: Any) -> Any:
            monkeypatch.setattr(extract_shard, "stream_features", real)
            first.append(extract_shard.extract_unit(unit, plan.job))  # another worker, meanwhile
            return real(*arguments)

        monkeypatch.setattr(extract_shard, "stream_features", slower)
        assert extract_shard.extract_unit(unit, plan.job) == first[0]
