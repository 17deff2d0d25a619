"""Files that are whole or not there: written under a temporary name, synced, then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from typing import Any, BinaryIO

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
