"""Files and folders of this machine, or of a disk that several share, in the words of `place`."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from headstart.features import files
from headstart.features.places.entry import Entry

PIECE = 1 << 20  # bytes
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)  # of file systems without hard links


def join(folder: str, *names: str) -> str:
    """A path below a folder; names have / between their parts."""
    return os.path.join(folder, *names)


def folder_of(path: str) -> str:
    """The folder that a file lies in."""
    return os.path.dirname(path)


def absolute(path: str) -> str:
    """The path for processes in other folders."""
    return os.path.abspath(path)


def is_folder(path: str) -> bool:
    """Whether there is a folder."""
    return os.path.isdir(path)


def read(path: str) -> bytes:
    """A whole file."""
    with files.open_regular(path) as file:
        return file.read()


def opened(path: str) -> tuple[Entry, Iterator[bytes]]:
    """What is known of a file, and its pieces."""
    status = os.stat(path)
    return _entry(path, status), _pieces(path)


def _entry(path: str, status: os.stat_result) -> Entry:
    """What is known of a file; a change of anything about it, its name too, changes its ctime, which nobody sets back."""
    mark = hash((status.st_ino, status.st_ctime_ns))  # of whole numbers, it is the same in every process
    return Entry(os.path.basename(path), status.st_size, status.st_mtime_ns, mark=mark)


def _pieces(path: str) -> Iterator[bytes]:
    with files.open_regular(path) as file:
        while piece := file.read(PIECE):
            yield piece


def read_range(path: str, start: int, end: int) -> bytes:
    """Some bytes of a file, all of which it has."""
    with files.open_regular(path) as file:
        content = os.pread(file.fileno(), end - start, start)
    if len(content) != end - start:
        raise OSError(5, "the file was cut short", path)
    return content


def head(path: str, size: int) -> bytes:
    """The first bytes of a file."""
    with files.open_regular(path) as file:
        return file.read(size)


def write(path: str, content: bytes) -> None:
    """Writes a file, whole or not at all, in the place of an older one; its folders are made."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    files.write_bytes(path, content)


def create(path: str, content: bytes) -> bool:
    """Writes a file where there is none, whole or not at all; False where there is one."""
    try:
        with creating(path) as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


@contextlib.contextmanager
def creating(path: str) -> Iterator[BinaryIO]:
    """Opens a temporary file for writing that becomes the file of a path when the block ends well, if there is none by then.

    Raises:
        FileExistsError: at the block's end, when somebody else was faster. Of several, over NFS too, one is the first.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with files.atomic(path, _name_once) as file:
        yield file


def _name_once(temporary: str, path: str) -> None:
    """Gives a file a name that nobody has taken."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno in NO_LINKS:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))  # where a file can't have two names, it is taken empty
            os.replace(temporary, path)
            return
        if os.stat(temporary).st_nlink < 2:  # over NFS it may have been done, and the answer got lost: link(2)
            raise
    os.remove(temporary)


def copy(source: str, target: str) -> None:
    """Makes a file what another one is, where there is none; they share their bytes where they can, for neither ever changes.

    Raises:
        FileExistsError: when there is one.
    """
    os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        with open(source, "rb") as content, creating(target) as file:
            shutil.copyfileobj(content, file)


def entry(path: str) -> Entry | None:
    """What is known of one file; None when there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return _entry(path, status) if stat.S_ISREG(status.st_mode) else None


def entries_at(paths: Sequence[str]) -> list[Entry | None]:
    """What is known of each of many files."""
    return list(map(entry, paths))


def names(folder: str) -> set[str]:
    """What lies right in a folder."""
    return set(os.listdir(folder))


def entries(folder: str) -> Iterator[Entry]:
    """Every file below a folder, in the order of their names; nothing when it is not there."""
    found = []
    for at, _, names in os.walk(folder):
        below = os.path.relpath(at, folder).replace(os.sep, "/")
        for name in names:
            if status := entry(os.path.join(at, name)):
                found.append(status._replace(name=name if below == "." else f"{below}/{name}"))
    return iter(sorted(found))


@contextlib.contextmanager
def scratch(folder: str) -> Iterator[str]:
    """An empty folder inside another one."""
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        yield inside


def remove(paths: Iterable[str]) -> None:
    """Removes files, those that are there."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


def remove_folder(path: str) -> None:
    """Removes a folder and all below it, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def remove_empty(folders: Iterable[str]) -> None:
    """Removes folders that hold nothing."""
    for folder in folders:
        with contextlib.suppress(OSError):  # it holds something, or is not there
            os.rmdir(folder)
