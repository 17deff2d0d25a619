"""Objects of S3, Google Cloud Storage and Azure in the words of `place`."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, TypeVar

from headstart.features import files
from headstart.features.errors import UserError
from headstart.features.places.entry import Entry
from headstart.features.places.requests import (
    REQUESTS_AT_ONCE,
    SILENCE_S,
    UPLOAD_BYTES_PER_S,
    CutShort,
    asked,
    client,
    divided,
    library,
)

PIECE = 8 << 20  # bytes of one request to read a large object
MAX_OBJECT = 5000 << 20  # bytes of one request to write; Azure's, the others take 5 GiB
DELETIONS = 1000  # in a request

Made = TypeVar("Made")


def join(folder: str, *names: str) -> str:
    """A key below a folder."""
    return "/".join([folder.rstrip("/"), *names])


def folder_of(path: str) -> str:
    """What comes before the last /."""
    return path.rpartition("/")[0]


def absolute(path: str) -> str:
    """The same, without a / at its end."""
    return path.rstrip("/")


def common_folder(paths: Sequence[str]) -> str:
    """What all of some paths have in common before a /."""
    least, most = min(paths), max(paths)  # what these two have in common, all have
    return next((least[:at] for at in range(len(least)) if least[at] != most[at : at + 1]), least).rpartition("/")[0]


def is_folder(path: str) -> bool:
    """Whether anything lies below it."""
    root, key = divided(path)
    return asked(path, lambda: next(iter(library().list(client(root), _prefix(key), chunk_size=1)), None)) is not None


def read(path: str) -> bytes:
    """A whole object."""
    return b"".join(opened(path)[1])


def opened(path: str) -> tuple[Entry, Iterator[bytes]]:
    """What is known of an object, and its pieces: a small one is one, and comes with one request."""
    root, key = divided(path)

    def get() -> tuple[Entry, bytes]:
        answer = library().get(client(root), key)
        found = _entry(answer.meta, key.rpartition("/")[2])
        content = bytes(answer.bytes()) if found.size <= PIECE else b""
        if len(content) not in (0, found.size):
            raise CutShort(f"{len(content):,} of {found.size:,} bytes came")
        return found, content

    found, content = asked(path, get)
    if found.size <= PIECE:
        return found, iter([content])
    return found, (read_range(path, start, min(start + PIECE, found.size)) for start in range(0, found.size, PIECE))


def read_range(path: str, start: int, end: int) -> bytes:
    """Some bytes of an object, all of which it has."""
    root, key = divided(path)

    def get() -> bytes:
        content = bytes(library().get_range(client(root), key, start=start, end=end))
        if len(content) != end - start:
            raise CutShort(f"{len(content):,} of {end - start:,} bytes came")
        return content

    return asked(path, get)


def head(path: str, size: int) -> bytes:
    """The first bytes of an object, all of one that is shorter."""
    root, key = divided(path)

    def get() -> bytes:
        answer = library().get(client(root), key, options={"range": (0, size)})
        content = bytes(answer.bytes())
        if len(content) != min(size, answer.meta["size"]):
            raise CutShort(f"{len(content):,} of {min(size, answer.meta['size']):,} bytes came")
        return content

    try:
        return asked(path, get)
    except UserError:  # an empty object has no first byte
        if (found := entry(path)) and not found.size:
            return b""
        raise


def write(path: str, content: bytes) -> None:
    """Writes an object in the place of an older one."""
    _put(path, content, "overwrite")


def create(path: str, content: bytes) -> bool:
    """Writes an object where there is none; False where there is another one.

    The answer to a request may get lost, and it is repeated then: one of the same content is taken for its own.
    """
    try:
        _put(path, content, "create")
    except FileExistsError:
        return read(path) == content
    return True


@contextlib.contextmanager
def creating(path: str) -> Iterator[BinaryIO]:
    """A temporary file of this machine that becomes an object when the block ends well, if there is none by then."""
    with tempfile.TemporaryFile() as file:
        yield file
        file.seek(0)
        content = file.read()
    try:
        _put(path, content, "create")
    except FileExistsError:
        if read(path) != content:
            raise


def _put(path: str, content: bytes, mode: Any) -> None:
    """Writes an object by one request: in parts it could not be conditional."""
    size = len(content)
    if size > MAX_OBJECT:
        raise UserError(
            "place-failed",
            f"{path!r} would take {size / 1e9:.1f} GB, an object takes {MAX_OBJECT / 1e9:.1f} at most: lower "
            f"--examples_per_shard",
        )
    root, key = divided(path)
    seconds = 1 << int(SILENCE_S + size / UPLOAD_BYTES_PER_S).bit_length()  # few clients for all sizes
    asked(path, lambda: library().put(client(root, seconds), key, content, mode=mode, use_multipart=False))


def copy(source: str, target: str) -> None:
    """Copies an object where it lies."""
    (root, old), (other, new) = divided(source), divided(target)
    if root != other:
        raise ValueError(f"{source!r} and {target!r} are of two buckets")
    asked(target, lambda: library().copy(client(root), old, new))


def entry(path: str) -> Entry | None:
    """What is known of an object; None when there is none."""
    root, key = divided(path)
    if not key or path.endswith("/"):
        return None
    try:
        return _entry(asked(path, lambda: library().head(client(root), key)), key.rpartition("/")[2])
    except FileNotFoundError:
        return None


def entries_at(paths: Sequence[str]) -> list[Entry | None]:
    """What is known of several objects, by a request for each."""
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        return list(pool.map(entry, paths))


def names(folder: str) -> set[str]:
    """What lies right below a folder."""
    root, key = divided(folder)
    found = asked(folder, lambda: library().list_with_delimiter(client(root), _prefix(key)))
    paths = [*found["common_prefixes"], *(each["path"] for each in found["objects"])]
    held = {path.rpartition("/")[2] for path in paths if path != key}  # which is what a console leaves for the folder itself
    if not held and entry(folder):
        raise NotADirectoryError(20, "is an object", folder)
    return held


def entries(folder: str) -> Iterator[Entry]:
    """Every object below a folder, in the order of their names; what consoles leave in the place of folders is none."""
    every = listed(folder, sorted)
    folders = folders_among({each.name for each in every if not each.size}, (each.name for each in every))
    return (each for each in every if each.name not in folders)


def listed(folder: str, made: Callable[[Iterable[Entry]], Made]) -> Made:
    """What a function makes of every object below a folder, in whatever order they come; when a request fails, of all anew."""
    root, key = divided(folder)
    length = len(_prefix(key) or "")

    def entries_of(pages: Iterable[Any]) -> Iterator[Entry]:
        return (_entry(each, each["path"][length:]) for page in pages for each in page)

    return asked(folder, lambda: made(entries_of(library().list(client(root), _prefix(key)))))


def folders_among(empty: Container[str], names: Iterable[str]) -> set[str]:
    """Those of some empty objects that consoles leave in the place of folders: other objects lie right below them."""
    return {folder for name in names if (folder := name.rpartition("/")[0]) in empty}


@contextlib.contextmanager
def scratch(folder: str) -> Iterator[str]:
    """An empty folder of this machine."""
    with files.scratch_folder() as inside:
        yield inside


def remove(paths: Iterable[str]) -> None:
    """Removes objects, those that are there."""
    by_root: dict[str, list[str]] = {}
    for path in paths:
        root, key = divided(path)
        by_root.setdefault(root, []).append(key)
    for root, keys in by_root.items():
        for at in range(0, len(keys), DELETIONS):
            some = keys[at : at + DELETIONS]
            try:
                asked(root, functools.partial(library().delete, client(root), some))
            except FileNotFoundError:  # of several one is gone already, which S3 alone does not mind
                for key in some:
                    with contextlib.suppress(FileNotFoundError):
                        asked(root, functools.partial(library().delete, client(root), key))


def remove_folder(path: str) -> None:
    """Removes all below a folder."""
    remove(join(path, each.name) for each in entries(path))


def remove_empty(folders: Iterable[str]) -> None:
    """There is nothing to remove: a folder is what its keys have in common."""


def _prefix(key: str) -> str | None:
    return f"{key}/" if key else None


def _entry(found: Any, name: str) -> Entry:
    """What a listing and an answer say in the same words: some list versions without quotes, times in milliseconds."""
    version = found["e_tag"] or ""
    quoted = version if not version or version.endswith('"') else f'"{version}"'
    return Entry(name, found["size"], int(found["last_modified"].timestamp()) * 10**9, quoted)
