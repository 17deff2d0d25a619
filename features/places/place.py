"""Files and folders by their paths, in the words that a store needs: written once, whole or not there, never appended to.

A path is plain text: of a file of this machine, or `s3://bucket/key`, `gs://bucket/key`, `az://container/key`. Which of them
it is shows here, by its scheme, and nowhere else. What is only read may be a stretch of a file (`within`). A folder of an
object store is what its keys have in common before a /.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, Protocol, TypeVar

from headstart.features import files
from headstart.features.errors import UserError, nearest
from headstart.features.places import local, remote, web, within
from headstart.features.places.entry import Entry
from headstart.features.places.requests import REQUESTS_AT_ONCE, SCHEMES

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")

Item = TypeVar("Item")
Result = TypeVar("Result")


class _File(Protocol):
    """What `within`, `local` and `remote` are: modules with these functions."""

    def folder_of(self, path: str) -> str: ...
    def absolute(self, path: str) -> str: ...
    def is_folder(self, path: str) -> bool: ...
    def read(self, path: str) -> bytes: ...
    def opened(self, path: str) -> tuple[Entry, Iterator[bytes]]: ...
    def head(self, path: str, size: int) -> bytes: ...
    def entry(self, path: str) -> Entry | None: ...
    def entries_at(self, paths: Sequence[str]) -> list[Entry | None]: ...


class _Place(_File, Protocol):
    """What `local` and `remote` are as well."""

    def join(self, folder: str, *names: str) -> str: ...
    def write(self, path: str, content: bytes) -> None: ...
    def create(self, path: str, content: bytes) -> bool: ...
    def creating(self, path: str) -> contextlib.AbstractContextManager[BinaryIO]: ...
    def copy(self, source: str, target: str) -> None: ...
    def names(self, folder: str) -> set[str]: ...
    def entries(self, folder: str) -> Iterator[Entry]: ...
    def scratch(self, folder: str) -> contextlib.AbstractContextManager[str]: ...
    def remove(self, paths: Iterable[str]) -> None: ...
    def remove_folder(self, path: str) -> None: ...
    def remove_empty(self, folders: Iterable[str]) -> None: ...


def is_remote(path: str) -> bool:
    """Whether a path is one of an object store, or an address.

    Raises:
        UserError: when it has a scheme that nobody here speaks.
    """
    found = SCHEME.match(within.file_of(path))
    if found and found[1] not in (known := (*SCHEMES, *web.SCHEMES)):
        told = ", ".join(f"{name}://" for name in known)
        raise UserError("bad-flag", f"{path!r} has an unknown scheme.{nearest(found[1], known)} There are {told}")
    return found is not None


def is_address(path: str) -> bool:
    """Whether a path is an address: of a file that is read, and nothing else."""
    return path.startswith(("http://", "https://"))


def _at(path: str) -> _Place:
    if is_address(path):
        raise UserError("bad-flag", f"{path!r} can only be read: name a folder, or a place of {', '.join(SCHEMES)}")
    return remote if is_remote(path) else local


def _of(path: str) -> _File:
    if path.startswith("bytes:"):
        return within
    return web if is_address(path) else _at(path)


def join(folder: str, *names: str) -> str:
    """A path below a folder; names have / between their parts. A name that is a whole path stands for itself."""
    if len(names) == 1 and is_remote(names[0]):
        return names[0]
    return (web if is_address(folder) else _at(folder)).join(folder, *names)


def folder_of(path: str) -> str:
    """The folder that a file lies in."""
    return _of(path).folder_of(path)


def absolute(path: str) -> str:
    """The path by which processes in other folders find the same file."""
    return _of(path).absolute(path)


def common_folder(paths: Sequence[str]) -> str:
    """The folder that all of some absolute paths, of one place, have in common."""
    return remote.common_folder(paths)


def is_folder(path: str) -> bool:
    """Whether there is a folder; of an object store, whether anything lies below it."""
    return _of(path).is_folder(path)


def exists(path: str) -> bool:
    """Whether there is a file or a folder."""
    return entry(path) is not None or is_folder(path)


def read(path: str) -> bytes:
    """A whole file.

    Raises:
        OSError: FileNotFoundError when it is not there.
    """
    return _of(path).read(path)


def opened(path: str) -> tuple[Entry, Iterator[bytes]]:
    """What is known of a file, and its content a piece at a time.

    Raises:
        OSError: FileNotFoundError when it is not there; others come with the first piece.
    """
    return _of(path).opened(path)


def sha256(path: str) -> str:
    """The hex sha256 of a file's bytes.

    Raises:
        OSError: FileNotFoundError when it is not there.
    """
    return files.sha256_of(opened(path)[1])


def head(path: str, size: int) -> bytes:
    """The first bytes of a file, fewer where it is shorter.

    Raises:
        OSError: FileNotFoundError when it is not there.
    """
    return _of(path).head(path, size)


def read_json(path: str) -> Any:
    """Reads a JSON file.

    Raises:
        OSError: when it can't be read.
        ValueError: when it holds something else.
    """
    return json.loads(read(path).decode("utf-8", "surrogateescape"))


def write(path: str, content: bytes) -> None:
    """Writes a file, whole or not at all, in the place of an older one; its folders are made."""
    _at(path).write(path, content)


def create(path: str, content: bytes) -> bool:
    """Writes a file where there is none, whole or not at all; False where there is another one."""
    return _at(path).create(path, content)


def creating(path: str) -> contextlib.AbstractContextManager[BinaryIO]:
    """Opens a temporary file for writing that becomes the file of a path when the block ends well, if there is none by then.

    Raises:
        FileExistsError: at the block's end, when somebody else was faster. Of several, over NFS too, one is the first.
    """
    return _at(path).creating(path)


def copy(source: str, target: str) -> None:
    """Makes a file what another one of the same place is, where there is none; neither ever changes.

    Raises:
        FileExistsError: when there is one; an object store may replace it.
    """
    _at(target).copy(source, target)


def entry(path: str) -> Entry | None:
    """What is known of one file; None when there is none."""
    return _of(path).entry(path)


def entries_at(paths: Sequence[str]) -> list[Entry | None]:
    """What is known of each of several files; of very many, `states` of the dataset's listing asks less."""
    kinds: dict[int, list[str]] = {}
    for path in paths:
        kinds.setdefault(id(_of(path)), []).append(path)
    found: dict[str, Entry | None] = {}
    for some in kinds.values():
        found.update(zip(some, _of(some[0]).entries_at(some)))
    return [found[path] for path in paths]


def names(folder: str) -> set[str]:
    """What lies right in a folder: names of files and folders.

    Raises:
        OSError: FileNotFoundError when it is not there, NotADirectoryError when it is a file.
    """
    return _at(folder).names(folder)


def names_in(folder: str, flag: str) -> set[str]:
    """What a folder that a flag names holds; nothing when it is not there yet.

    Raises:
        UserError: when it is a file.
    """
    try:
        return names(folder)
    except FileNotFoundError:
        return set()
    except NotADirectoryError as error:
        raise UserError("output-taken", f"{flag} {folder!r} is a file: give the name of a folder") from error


def entries(folder: str) -> Iterator[Entry]:
    """Every file below a folder, in the order of their names; nothing when it is not there."""
    return _at(folder).entries(folder)


def scratch(folder: str) -> contextlib.AbstractContextManager[str]:
    """An empty folder of this machine, for a library that writes files of its own; gone when the block ends.

    It lies in the folder given where that is local, so that what a killed process leaves goes with it.
    """
    return _at(folder).scratch(folder)


def remove(paths: Iterable[str]) -> None:
    """Removes files, those that are there."""
    paths = list(paths)
    local.remove(path for path in paths if not is_remote(path))
    remote.remove(path for path in paths if is_remote(path))


def remove_folder(path: str) -> None:
    """Removes a folder and all below it, if it is there."""
    _at(path).remove_folder(path)


def remove_empty(folders: Iterable[str]) -> None:
    """Removes folders that hold nothing; an object store has none."""
    for folder in folders:
        _at(folder).remove_empty([folder])


def at_once(function: Callable[[Item], Result], items: Iterable[Item], path: str) -> list[Result]:
    """Does something for each of many files below a path, in order; to an object store, several at a time."""
    if not is_remote(path):
        return list(map(function, items))
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        return list(pool.map(function, items))
