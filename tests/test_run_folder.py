"""A run's folder: killed anywhere, the next training finds the older run whole or puts the new one in place; one at a time."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from headstart.features import files
from headstart.features.errors import UserError
from headstart.training.runs import run_folder
from headstart.training.runs.run_folder import Run, begin, claimed, finish, publish

OLDER = {"config.json", "model.keras", "seen.txt", "history.csv", "logs", "augmented.png", "checkpoint.npz", "evaluation"}
NEWER = {"config.json", "model.keras", "seen.txt", "history.csv", "logs", "learning_curve.png"}


class Killed(BaseException):
    """What a kill is in these tests: nothing catches it."""


def fill(folder: pathlib.Path, names: set[str], content: str) -> None:
    for name in names:
        if "." in name:
            (folder / name).write_text(f'{{"is": "{content}", "train": {{}}}}', encoding="utf-8")
        else:
            (folder / name / content).mkdir(parents=True, exist_ok=True)
            (folder / name / content / "file").write_text(content, encoding="utf-8")


def older_run(path: pathlib.Path) -> None:
    """A complete run, and the store that `headstart fit` keeps in it."""
    (path / "store").mkdir(parents=True)
    fill(path, OLDER, "older")
    (path / "metrics.json").write_text('{"is": "older"}', encoding="utf-8")


def train_anew(path: pathlib.Path, keep: Callable[[str], bool] = lambda file: True) -> None:
    """What a training does with its folder. A checkpoint of "older" is one to go on from."""
    with claimed(str(path)) as published:
        if published:
            return
        work = pathlib.Path(begin(str(path), keep))
        assert set(os.listdir(work)) <= {"checkpoint.npz", "logs"}
        fill(work, NEWER, "newer")
        finish(str(work), {"is": "newer"}, without=["checkpoint.npz"])
        publish(str(path))


def tree(path: pathlib.Path) -> dict[str, str]:
    """Every file's content; the marker's without the names of what belongs to it."""
    found = {str(file.relative_to(path)): file.read_text(encoding="utf-8") for file in path.rglob("*") if file.is_file()}
    found.pop("logs/older/file", None)  # stay where a training goes on
    return {**found, "metrics.json": files.read_json(str(path / "metrics.json"))["is"]}


def kill_at(monkeypatch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Kills before the n-th change of the disk, from 0; the changes so far."""
    done: list[str] = []

    def watched(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def change(*args: Any, **options: Any) -> Any:
            if len(done) == number:
                raise Killed
            done.append(name)
            return original(*args, **options)

        return change

    for module, name in ((os, "replace"), (os, "remove"), (os, "unlink"), (os, "rmdir"), (os, "makedirs")):
        monkeypatch.setattr(module, name, watched(name, getattr(module, name)))
    return done


def changes_of_a_training(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, older: bool) -> int:
    path = tmp_path / "counted"
    if older:
        older_run(path)
    with monkeypatch.context() as patch:
        done = kill_at(patch, 10_000)
        train_anew(path)
    return len(done)


@pytest.mark.parametrize("older", [True, False])
@pytest.mark.parametrize("spoil", [False, True])
def test_killed_anywhere_the_next_training_ends_whole(
    older: bool, spoil: bool, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = changes_of_a_training(tmp_path, monkeypatch, older)
    whole = tree(tmp_path / "counted")
    assert count >= 12 and set(os.listdir(tmp_path / "counted")) == NEWER | {"metrics.json"} | ({"store"} if older else set())
    for number in range(count):
        path = tmp_path / f"{number}"
        if older:
            older_run(path)
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            kill_at(patch, number)
            train_anew(path)
        finished = (path / ".partial" / "metrics.json").exists()
        if (path / "metrics.json").exists():
            opened = Run.open(str(path))
            assert opened.config["is"] == files.read_json(str(path / "metrics.json"))["is"]
            assert {text for name, text in tree(path).items() if name == "model.keras"} == {
                (path / "config.json").read_text(encoding="utf-8")
            }
        else:
            assert finished or not older
            if (path / ".partial").exists():
                told = "is finished but not in its place yet: run its `headstart train`" if finished else "is not complete"
                with pytest.raises(UserError, match=told):
                    Run.open(str(path))
        kept = (path / "checkpoint.npz").exists() or (path / ".partial" / "checkpoint.npz").exists()
        assert kept or finished or not older or Run.open(str(path)).config["is"] == "newer"
        if spoil and finished:  # the next training fails at once: what was finished is in its place all the same
            with contextlib.suppress(ZeroDivisionError), claimed(str(path)):
                raise ZeroDivisionError
        else:
            train_anew(path)
        assert tree(path) == whole, number
        assert set(os.listdir(path)) - {"store"} == NEWER | {"metrics.json"}, number


@pytest.mark.parametrize("where", [".", ".partial"])
def test_a_checkpoint_outlives_a_kill_in_begin(where: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(name: str) -> pathlib.Path:
        older_run(tmp_path / name)
        (tmp_path / name / "checkpoint.npz").unlink()
        (tmp_path / name / ".partial" / "logs").mkdir(parents=True)
        (tmp_path / name / where / "checkpoint.npz").write_text("epochs", encoding="utf-8")
        return tmp_path / name

    for number in range(9):
        path = made(str(number))
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            kill_at(patch, number)
            begin(str(path), lambda file: True)
        work = begin(str(path), lambda file: True)
        assert set(os.listdir(work)) <= {"checkpoint.npz", "logs"}
        assert pathlib.Path(work, "checkpoint.npz").read_text(encoding="utf-8") == "epochs"
        assert Run.open(str(path)).config["is"] == "older"


def test_a_second_training_is_refused_and_takes_nothing(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "run"
    with claimed(str(path)):
        work = pathlib.Path(begin(str(path), lambda file: False))
        (work / "config.json").touch()
        with pytest.raises(UserError, match=r"another training is writing to .*: wait for it, or give another --run"):
            train_anew(path)
        assert os.listdir(work) == ["config.json"]
    train_anew(path)
    assert Run.open(str(path)).config["is"] == "newer"


def test_a_lock_that_a_killed_training_left_is_none(tmp_path: pathlib.Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()
    train_anew(tmp_path / "run")
    assert ".lock" not in os.listdir(tmp_path / "run")


def test_a_refusal_leaves_no_folder(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError), claimed(str(tmp_path / "new")):
        raise UserError("bad-flag", "no")
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError), claimed(str(tmp_path / "mine")):
        raise UserError("bad-flag", "no")
    assert os.listdir(tmp_path) == ["mine"] and os.listdir(tmp_path / "mine") == []


def test_everything_is_synced_before_the_marker(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[int] = set()
    marked: list[set[int]] = []
    fsync, replace = os.fsync, os.replace

    def noted(handle: int) -> None:
        synced.add(os.fstat(handle).st_ino)
        fsync(handle)

    def renamed(source: str, target: str) -> None:
        if str(target).endswith("metrics.json"):
            marked.append(set(synced))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", renamed)
    train_anew(tmp_path / "run")
    everything = {path.stat().st_ino for path in (tmp_path / "run").rglob("*")}
    assert len(marked) == 2 and everything <= marked[0]


def test_a_run_that_is_trained_again_while_it_is_read_is_told(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headstart.features.backbones import keras_file as model_file

    older_run(tmp_path / "run")
    opened = Run.open(str(tmp_path / "run"))
    monkeypatch.setattr(run_folder, "load_tensorflow", lambda: None)
    monkeypatch.setattr(model_file, "load_model", lambda *_: "a model")
    assert opened.model() == "a model" and opened.seen()  # type: ignore[comparison-overlap]
    shutil.rmtree(tmp_path / "run" / "store")
    train_anew(tmp_path / "run", lambda file: False)
    for read in (opened.model, opened.seen):
        with pytest.raises(UserError, match="was trained again while it was read: run the same command again"):
            read()  # type: ignore[operator]
    assert run_folder.Run.open(str(tmp_path / "run")).seen()
