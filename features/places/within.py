"""A stretch of bytes inside a file, read as a file of its own, such as an image in a record: `bytes:OFFSET+LENGTH:PATH`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from types import ModuleType

from headstart.features.places import local, remote
from headstart.features.places.entry import Entry

STRETCH = re.compile(r"bytes:(\d+)\+(\d+):(.*)", re.DOTALL)


def stretch(path: str, offset: int, length: int) -> str:
    """The path of some bytes of a file."""
    return f"bytes:{offset}+{length}:{path}"


def file_of(path: str) -> str:
    """The file that a stretch is of; any other path itself."""
    found = STRETCH.fullmatch(path) if path.startswith("bytes:") else None
    return found[3] if found else path


def _divided(path: str) -> tuple[str, int, int]:
    found = STRETCH.fullmatch(path)
    if not found:
        raise FileNotFoundError(2, "is no stretch of a file", path)
    return found[3], int(found[1]), int(found[2])


def _at(file: str) -> ModuleType:
    """What reads a file's place."""
    return remote if "://" in file else local


def absolute(path: str) -> str:
    """The same: whoever makes one names its file by an absolute path."""
    return path


def folder_of(path: str) -> str:
    """The folder that its file lies in."""
    file, _, _ = _divided(path)
    return _at(file).folder_of(file)


def read(path: str) -> bytes:
    """All of it."""
    file, offset, length = _divided(path)
    return _at(file).read_range(file, offset, offset + length)


def opened(path: str) -> tuple[Entry, Iterator[bytes]]:
    """What is known of it, and its bytes in one piece."""
    content = read(path)
    return Entry(path, len(content), 0), iter([content])


def head(path: str, size: int) -> bytes:
    """Its first bytes."""
    file, offset, length = _divided(path)
    return _at(file).read_range(file, offset, offset + min(size, length))


def entry(path: str) -> Entry | None:
    """What is known of it, if its file is there."""
    file, _, length = _divided(path)
    found = _at(file).entry(file)
    return found and Entry(path, length, found.time_ns, found.version)


def entries_at(paths: Sequence[str]) -> list[Entry | None]:
    """What is known of each of several."""
    return list(map(entry, paths))


def is_folder(path: str) -> bool:
    """It is none."""
    return False
