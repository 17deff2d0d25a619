"""A finished extraction takes an older store's place though it is killed before any rename, removal or sync on the way."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headstart.features import files
from headstart.features.dataset.splits import Division
from headstart.features.errors import UserError
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.manifest import MANIFEST, Manifest, Provenance, ShardEntry, SplitEntry, Totals, write_manifest
from headstart.pipelines.publish import publish


class Killed(BaseException):
    """No `except Exception` sees it, as none sees a kill -9."""


def complete(folder: Path, version: str, shards: int) -> dict[str, bytes]:
    """A folder that looks complete, by its names alone; its content."""
    folder.mkdir(parents=True)
    names = [f"features-train.tfrecord-{number:05}-of-{shards:05}" for number in range(shards)]
    kept = ["spec.json", "examples.csv", "backbone.keras", *(["conflicts.csv"] if version == "old" else [])]
    for name in (*names, *kept):
        (folder / name).write_text(f"{name} of the {version} one")
    shards = tuple(ShardEntry(name, 1, (folder / name).stat().st_size, 0, "", "") for name in names)
    write_manifest(str(folder), manifest_of(shards, kept))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def manifest_of(shards: tuple[ShardEntry, ...], kept: list[str]) -> Manifest:
    """A manifest that lists these files, and says nothing else."""
    return Manifest(
        fingerprint="", dataset_digest="", class_names=(), splits={"train": SplitEntry(len(shards), 0, shards)},
        totals=Totals(0, 0, 0, 0, 0), dead_by_class={}, dead_by_split={}, files=dict.fromkeys(kept, ""),
        division=Division(ready_made=True), groups_declared=False, max_pixels=0, groups_across_splits=0,
        copies_across_splits=0, left_out={}, provenance=Provenance("", "", {}, ()),
    )  # fmt: skip


def held(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def dying(monkeypatch: pytest.MonkeyPatch, at: int) -> list[str]:
    """Kills whoever renames, removes or syncs for the `at`th time; what was done, one after the other."""
    done: list[str] = []

    def step(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*arguments: Any, **keywords: Any) -> Any:
            done.append(name)
            if len(done) == at:
                raise Killed
            return real(*arguments, **keywords)

        return stepped

    for module, name in ((os, "replace"), (os, "remove"), (files, "sync_folder"), (shutil, "rmtree")):
        monkeypatch.setattr(module, name, step(name, getattr(module, name)))
    return done


def test_publishing_is_finished_by_the_next_run_wherever_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(1, 100):
        store = tmp_path / str(at)
        old, new = complete(store, "old", 3), complete(store / ".partial", "new", 2)
        (store / ".partial" / "features-train.tfrecord-00000-of-00002.json").touch()  # a marker is nobody's any more
        with monkeypatch.context() as patch:
            steps = dying(patch, at)
            try:
                publish(str(store))
            except Killed:
                assert MANIFEST not in held(store) or held(store) in (old, new)  # a reader sees one of both, or none
            else:
                break
        if MANIFEST not in held(store):
            with pytest.raises(UserError, match="is not complete: run its `headstart extract` command again"):
                FeatureStore.open(str(store))
        publish(str(store))
        assert held(store) == new, f"killed before step {at}, {steps[-1]}"
        left = {path.name for path in store.glob(".partial/*")}  # without a manifest: the next run removes them
        assert MANIFEST not in left and not left & new.keys()
    assert at > 10 and not (store / ".partial").exists()
