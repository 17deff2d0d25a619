"""Files are whole or not there."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from headstart.features.errors import UserError
from headstart.features.files import (
    atomic,
    locked,
    open_regular,
    read_json,
    scratch_folder,
    sha256_file,
    sync_folder,
    write_bytes,
    write_json,
)
from tests.conftest import raises


def test_a_file_takes_its_place_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic(str(path)) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        assert len(os.listdir(tmp_path)) == 2
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file_and_no_temporary_one(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic(str(path)) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_a_failure_leaves_no_file_where_there_was_none(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic(str(tmp_path / "file")) as file:
        file.write(b"half")
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_a_failing_sync_or_rename_leaves_nothing_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
            patch.setattr(os, name, full)
            write_bytes(str(tmp_path / "file"), b"content")
        assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_bytes(str(tmp_path / "nowhere" / "file"), b"")


def test_json_is_sorted_and_reads_back(tmp_path: Path) -> None:
    path, value = str(tmp_path / "x.json"), {"b": [1, 2.5, None], "a": {"ä": "ねこ"}}
    write_json(path, value)
    assert read_json(path) == value
    text = Path(path).read_text(encoding="utf-8")
    assert text.index('"a"') < text.index('"b"') and "ねこ" in text and text.endswith("}\n")


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_the_digest_of_a_file(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    write_bytes(str(tmp_path / "file"), content[:size])
    assert sha256_file(str(tmp_path / "file")) == hashlib.sha256(content[:size]).hexdigest()


def test_a_folder_can_be_synced(tmp_path: Path) -> None:
    sync_folder(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        sync_folder(str(tmp_path / "nowhere"))


def test_a_lock_is_held_by_one_and_leaves_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "folder" / ".lock")
    with locked(path, "wait for it"):
        with raises("in-use"), locked(path, "wait for it"):
            raise AssertionError("both hold it")
        assert os.listdir(tmp_path / "folder") == [".lock"]
    assert os.listdir(tmp_path / "folder") == []
    with pytest.raises(RuntimeError), locked(path, "wait for it"):
        raise RuntimeError
    assert os.listdir(tmp_path / "folder") == []


def test_another_process_does_not_hold_it_too(tmp_path: Path) -> None:
    path = str(tmp_path / ".lock")
    code = f"from headstart.features.files import locked\nwith locked({path!r}, 'taken'): print('held')"
    with locked(path, "wait for it"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and "UserError: taken" in done.stderr
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout == "held\n"


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_lock_file_that_its_holder_removed_is_no_lock(
    made_anew: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, original, tries = tmp_path / ".lock", fcntl.flock, []

    def flock(handle: int, how: int) -> Any:
        tries.append(os.fstat(handle).st_ino)
        if len(tries) == 1:  # the one who held it leaves, and another may come, after this one has opened it
            (tmp_path / "kept").hardlink_to(path)  # or the new file would get its number
            path.unlink()
            if made_anew:
                path.touch()
        return original(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(str(path), "wait for it"):
        assert len(tries) == 2 and path.stat().st_ino == tries[1] != tries[0]
        with pytest.raises(UserError), locked(str(path), "wait for it"):
            raise AssertionError("both hold it")


def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "image.jpg").write_bytes(b"bytes")
    with open_regular(str(tmp_path / "image.jpg")) as file:
        assert file.read() == b"bytes"
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(OSError, match="not a regular file"), open_regular(str(tmp_path / "pipe.jpg")):
        pass


def test_scratch_that_a_killed_process_left_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = (
        f"import tempfile; tempfile.tempdir = {str(tmp_path)!r}\n"
        "import time; from headstart.features.files import scratch_folder\n"
        "with scratch_folder() as folder: open(folder + '/graph', 'w').close(); print(folder, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    theirs = process.stdout.readline().strip()
    with scratch_folder() as mine:
        assert {os.path.basename(mine), os.path.basename(theirs)} == set(os.listdir(tmp_path))
    process.kill()
    process.communicate()
    assert os.listdir(tmp_path) == [os.path.basename(theirs)]
    with scratch_folder() as mine:
        assert os.listdir(tmp_path) == [os.path.basename(mine)]
    assert not os.listdir(tmp_path)


def test_mapped_files_are_read_to_the_very_end_of_a_process(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\1" * 5_000)
    code = """
import atexit
found = []
atexit.register(lambda: print(found[0].sum()))  # it comes last, as the first that was registered
from headstart.features.store.mmap_files import map_files
found.append(map_files(["file"])[0])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "5000\n"), done.stderr
