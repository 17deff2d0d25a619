"""Files that are whole or not there: written under a temporary name, synced, then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from typing import Any, BinaryIO

from features.errors import UserError

TEMPORARY_SUFFIX = ".tmp"


@contextlib.contextmanager
def atomic(path: str) -> Iterator[BinaryIO]:
    """Opens a temporary file for writing that takes `path`'s place only when the block ends well."""
    temporary = f"{path}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}"  # no two writers, on any host, share it
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise


def sync_folder(path: str) -> None:
    """Makes the renames inside a folder outlive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def names_in(folder: str, flag: str) -> set[str]:
    """What a folder that a flag names holds; nothing when it is not there yet.

    Raises:
        UserError: when it is a file.
    """
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise UserError(f"{flag} {folder!r} is a file: give the name of a folder")
    return set(os.listdir(folder)) if os.path.isdir(folder) else set()


def write_bytes(path: str, content: bytes) -> None:
    """Writes a whole file, or none of it."""
    with atomic(path) as file:
        file.write(content)


def write_json(path: str, value: Any) -> None:
    """Writes JSON for machines and eyes: sorted, indented, UTF-8."""
    write_bytes(
        path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n"
    )


def read_json(path: str) -> Any:
    """Reads a JSON file."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return json.load(file)


def sha256_file(path: str) -> str:
    """The hex sha256 of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
