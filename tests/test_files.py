"""Files are whole or not there."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from features.files import atomic, read_json, sha256_file, sync_folder, write_bytes, write_json


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
