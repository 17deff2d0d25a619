"""Files that are whole or not there: written under a temporary name, synced, then renamed."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from headstart.features.errors import UserError

TEMPORARY_SUFFIX = ".tmp"
SCRATCH_PREFIX = "headstart-scratch-"


@contextlib.contextmanager
def atomic(path: str, name: Callable[[str, str], object] | None = None) -> Iterator[BinaryIO]:
    """Opens a temporary file for writing that takes `path`'s place only when the block ends well.

    Args:
        path: of the file.
        name: gives the temporary file, the first, the name of the second; when not given, whatever has that name is replaced.
    """
    temporary = f"{path}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}"  # no two writers, on any host, share it
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        (name or os.replace)(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise


@contextlib.contextmanager
def locked(path: str, message: str) -> Iterator[None]:
    """Holds a lock for the length of the block: the only process on this machine that does. Its file is gone afterwards.

    Args:
        path: the lock file; its folder is made when it is not there.
        message: what to tell when another holds it.

    Raises:
        UserError: then.
    """
    handle = None
    while handle is None:
        handle = _lock(path, message)
    try:
        yield
    finally:
        try:
            with contextlib.suppress(FileNotFoundError):  # removed while held: who opened it meanwhile finds that it is gone
                os.remove(path)
        finally:
            os.close(handle)


def _lock(path: str, message: str) -> int | None:
    """One try: the open and locked file, or None when its holder removed it between opening and locking it."""
    folder = os.path.dirname(path) or "."
    try:
        os.makedirs(folder, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except FileNotFoundError:  # its folder went away
        return None
    except FileExistsError:
        if os.path.isfile(folder):
            raise
        return None  # its folder was made by another, and went away before that could be seen
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), os.stat(path)):
            return handle
    except BlockingIOError:
        os.close(handle)
        raise UserError("in-use", message) from None
    except FileNotFoundError:
        pass
    os.close(handle)
    return None


@contextlib.contextmanager
def scratch_folder(root: str = "") -> Iterator[str]:
    """An empty folder for the length of the block, inside another one, or where the system has its temporary files.

    It is locked while it is used: what killed processes left is told by that, and goes.
    """
    root = root or tempfile.gettempdir()
    for name in os.listdir(root):
        if name.startswith(SCRATCH_PREFIX) and (handle := _held_alone(os.path.join(root, name))) is not None:
            shutil.rmtree(os.path.join(root, name), ignore_errors=True)
            os.close(handle)
    handle = None
    while handle is None:  # one that was not locked yet may be taken for one that was left
        folder = tempfile.mkdtemp(prefix=SCRATCH_PREFIX, dir=root)
        handle = _held_alone(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _held_alone(folder: str) -> int | None:
    """A handle by which a folder is locked; None when another process has it, or it is gone."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.isdir(folder):
            return handle
    except OSError:
        pass
    os.close(handle)
    return None


@contextlib.contextmanager
def held(folder: str) -> Iterator[None]:
    """Holds a folder for the length of the block, once nobody else on this machine does; where that can't be, goes on."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # of a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def sync_folder(path: str) -> None:
    """Makes the renames inside a folder, or a file's bytes, outlive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(path: str) -> None:
    """Makes a folder, and every file and folder inside it, outlive a power cut."""
    for folder, _, names in os.walk(path):
        for name in names:
            sync_folder(os.path.join(folder, name))  # a file is synced as a folder is
        sync_folder(folder)


def write_bytes(path: str, content: bytes) -> None:
    """Writes a whole file, or none of it."""
    with atomic(path) as file:
        file.write(content)


def write_json(path: str, value: Any) -> None:
    """Writes JSON for machines and eyes: sorted, indented, UTF-8."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """What `write_json` writes."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n"


def read_json(path: str) -> Any:
    """Reads a JSON file."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return json.load(file)


def read_bytes(path: str) -> bytes:
    """Reads a whole file."""
    with open(path, "rb") as file:
        return file.read()


@contextlib.contextmanager
def open_regular(path: str) -> Iterator[BinaryIO]:
    """Opens a regular file for reading. A pipe in its place is refused: it would be waited for without end.

    Raises:
        OSError: when it can't be opened, or is no regular file.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(0, "not a regular file")
        yield file


def csv_bytes(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows, one at least, as a CSV table with a header: the first row's names."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def sha256_of(pieces: Iterable[bytes]) -> str:
    """The hex sha256 of bytes that come piece by piece."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def sha256_file(path: str) -> str:
    """The hex sha256 of a file's bytes, read in pieces."""
    with open(path, "rb") as file:
        return sha256_of(iter(lambda: file.read(1 << 20), b""))
