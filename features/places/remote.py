"""Objects of S3, Google Cloud Storage and Azure in the words of `place`; obstore speaks to them.

Who asks is known by the environment variables that each cloud's own tools read, or by what the machine is; none of it is ever
part of a path. What may be asked again is, for a while: answers of 408, 429 and 5xx, lost connections, cut bodies, silence.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from headstart.features.errors import UserError
from headstart.features.places.entry import Entry

SCHEMES = ("s3", "gs", "az")
PATIENCE_S = 120.0  # for one request, with all its repetitions
PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 12.8, 12.8)  # between them
CONNECT_S, SILENCE_S = 5.0, 15.0  # until a connection stands; without a byte of an answer
UPLOAD_BYTES_PER_S = 1 << 20  # slower than that is taken for a hanging request
PIECE = 8 << 20  # bytes of one request to read a large object
MAX_OBJECT = 5 << 30  # bytes of one request to write
DELETIONS = 1000  # in a request
AGAIN = {408, 425, 429, *range(500, 600)}  # answers after which a request is repeated
STATUS, CODE, MESSAGE = re.compile(r"status code: (\d{3})"), re.compile(r"<Code>(.*?)</Code>"), re.compile(r"<Message>(.*?)</")

Result = TypeVar("Result")


def join(folder: str, *names: str) -> str:
    """A key below a folder."""
    return "/".join([folder.rstrip("/"), *names])


def folder_of(path: str) -> str:
    """What comes before the last /."""
    return path.rpartition("/")[0]


def absolute(path: str) -> str:
    """The same, without a / at its end."""
    return path.rstrip("/")


def is_folder(path: str) -> bool:
    """Whether anything lies below it."""
    import obstore

    root, key = _divided(path)
    return _asked(path, lambda: next(iter(obstore.list(_client(root), _prefix(key), chunk_size=1)), None)) is not None


def read(path: str) -> bytes:
    """A whole object."""
    return b"".join(opened(path)[1])


def opened(path: str) -> tuple[Entry, Iterator[bytes]]:
    """What is known of an object, and its pieces: a small one is one, and comes with one request."""
    import obstore

    root, key = _divided(path)

    def get() -> tuple[Entry, bytes]:
        answer = obstore.get(_client(root), key)
        found = _entry(answer.meta, key.rpartition("/")[2])
        content = bytes(answer.bytes()) if found.size <= PIECE else b""
        if len(content) not in (0, found.size):
            raise _CutShort(f"{len(content):,} of {found.size:,} bytes came")
        return found, content

    found, content = _asked(path, get)
    if found.size <= PIECE:
        return found, iter([content])
    return found, (read_range(path, start, min(start + PIECE, found.size)) for start in range(0, found.size, PIECE))


def read_range(path: str, start: int, end: int) -> bytes:
    """Some bytes of an object, all of which it has."""
    import obstore

    root, key = _divided(path)

    def get() -> bytes:
        content = bytes(obstore.get_range(_client(root), key, start=start, end=end))
        if len(content) != end - start:
            raise _CutShort(f"{len(content):,} of {end - start:,} bytes came")
        return content

    return _asked(path, get)


def head(path: str, size: int) -> bytes:
    """The first bytes of an object, all of one that is shorter."""
    import obstore

    root, key = _divided(path)

    def get() -> bytes:
        answer = obstore.get(_client(root), key, options={"range": (0, size)})
        content = bytes(answer.bytes())
        if len(content) != min(size, answer.meta["size"]):
            raise _CutShort(f"{len(content):,} of {min(size, answer.meta['size']):,} bytes came")
        return content

    try:
        return _asked(path, get)
    except UserError:  # an empty object has no first byte
        if (found := entry(path)) and not found.size:
            return b""
        raise


def write(path: str, content: bytes) -> None:
    """Writes an object in the place of an older one."""
    _put(path, content, len(content), "overwrite")


def create(path: str, content: bytes) -> bool:
    """Writes an object where there is none; False where there is another one.

    The answer to a request may get lost, and it is repeated then: one of the same content is taken for its own.
    """
    try:
        _put(path, content, len(content), "create")
    except FileExistsError:
        return read(path) == content
    return True


@contextlib.contextmanager
def creating(path: str) -> Iterator[BinaryIO]:
    """A temporary file of this machine that becomes an object when the block ends well, if there is none by then."""
    with tempfile.NamedTemporaryFile(prefix="headstart-") as file:
        yield file  # type: ignore[misc]
        file.flush()
        content = Path(file.name)
        try:
            _put(path, content, os.path.getsize(file.name), "create")
        except FileExistsError:
            if read(path) != content.read_bytes():
                raise


def _put(path: str, content: bytes | Path, size: int, mode: Any) -> None:
    """Writes an object by one request: in parts it could not be conditional."""
    import obstore

    if size > MAX_OBJECT:
        raise UserError(
            "place-failed",
            f"{path!r} would take {size / 1e9:.1f} GB, an object takes {MAX_OBJECT / 1e9:.1f} at most: lower "
            f"--examples_per_shard",
        )
    root, key = _divided(path)
    seconds = 1 << int(SILENCE_S + size / UPLOAD_BYTES_PER_S).bit_length()  # few clients for all sizes
    _asked(path, lambda: obstore.put(_client(root, seconds), key, content, mode=mode, use_multipart=False))


def copy(source: str, target: str) -> None:
    """Copies an object where it lies."""
    import obstore

    (root, old), (other, new) = _divided(source), _divided(target)
    if root != other:
        raise ValueError(f"{source!r} and {target!r} are of two buckets")
    _asked(target, lambda: obstore.copy(_client(root), old, new))


def entry(path: str) -> Entry | None:
    """What is known of an object; None when there is none."""
    import obstore

    root, key = _divided(path)
    if not key or path.endswith("/"):
        return None
    try:
        return _entry(_asked(path, lambda: obstore.head(_client(root), key)), key.rpartition("/")[2])
    except FileNotFoundError:
        return None


def entries_at(paths: Sequence[str]) -> list[Entry | None]:
    """What is known of many objects, by one listing of what they have in common."""
    if len(paths) < 2:
        return list(map(entry, paths))
    if len({_divided(path)[0] for path in paths}) > 1:  # of several buckets
        return list(map(entry, paths))
    least, most = min(paths), max(paths)  # what these two have in common, all have
    common = next((least[:at] for at in range(len(least)) if least[at] != most[at : at + 1]), least).rpartition("/")[0]
    found = {join(common, each.name): each._replace(name=each.name.rpartition("/")[2]) for each in entries(common)}
    return [found.get(path) for path in paths]


def names(folder: str) -> set[str]:
    """What lies right below a folder."""
    import obstore

    root, key = _divided(folder)
    found = _asked(folder, lambda: obstore.list_with_delimiter(_client(root), _prefix(key)))
    held = {path.rpartition("/")[2] for path in [*found["common_prefixes"], *(each["path"] for each in found["objects"])]}
    if not held and entry(folder):
        raise NotADirectoryError(20, "is an object", folder)
    return held


def entries(folder: str) -> Iterator[Entry]:
    """Every object below a folder, in the order of their names; what consoles leave in the place of folders is none."""
    import obstore

    root, key = _divided(folder)
    length = len(_prefix(key) or "")
    found = _asked(folder, lambda: [each for part in obstore.list(_client(root), _prefix(key)) for each in part])
    every = sorted(_entry(each, each["path"][length:]) for each in found)
    folders = {each.name.rpartition("/")[0] for each in every}
    return (each for each in every if each.size or each.name not in folders)


@contextlib.contextmanager
def scratch(folder: str) -> Iterator[str]:
    """An empty folder of this machine."""
    with tempfile.TemporaryDirectory(prefix="headstart-") as inside:
        yield inside


def remove(paths: Iterable[str]) -> None:
    """Removes objects, those that are there."""
    import obstore

    by_root: dict[str, list[str]] = {}
    for path in paths:
        root, key = _divided(path)
        by_root.setdefault(root, []).append(key)
    for root, keys in by_root.items():
        for at in range(0, len(keys), DELETIONS):
            some = keys[at : at + DELETIONS]
            try:
                _asked(root, functools.partial(obstore.delete, _client(root), some))
            except FileNotFoundError:  # of several one is gone already, which S3 alone does not mind
                for key in some:
                    with contextlib.suppress(FileNotFoundError):
                        _asked(root, functools.partial(obstore.delete, _client(root), key))


def remove_folder(path: str) -> None:
    """Removes all below a folder."""
    remove(join(path, each.name) for each in entries(path))


def remove_empty(folders: Iterable[str]) -> None:
    """There is nothing to remove: a folder is what its keys have in common."""


class _CutShort(Exception):
    """A body that ended too early."""


def _divided(path: str) -> tuple[str, str]:
    """A path's bucket, with its scheme, and the key."""
    scheme, _, rest = path.partition("://")
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise UserError("bad-flag", f"{path!r} names no bucket: expected {scheme}://BUCKET/KEY")
    return f"{scheme}://{bucket}", key.strip("/")


def _prefix(key: str) -> str | None:
    return f"{key}/" if key else None


def _entry(found: Any, name: str) -> Entry:
    return Entry(name, found["size"], int(found["last_modified"].timestamp() * 1e9), found["e_tag"] or "")


@functools.lru_cache(64)
def _client(root: str, upload_s: int = 0) -> Any:
    """Speaks to a bucket; one that writes waits longer for an answer."""
    try:
        from obstore.store import from_url
    except ImportError:
        raise UserError("not-available", f"{root} needs a package: pip install 'headstart[remote]'") from None
    http = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")
    return from_url(
        root,
        client_options={
            "connect_timeout": timedelta(seconds=CONNECT_S),
            "read_timeout": timedelta(seconds=upload_s or SILENCE_S),
            "timeout": timedelta(hours=1),
            **({"allow_http": True} if http else {}),
        },
        retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=PATIENCE_S)},
    )


def _asked(path: str, request: Callable[[], Result]) -> Result:
    """A request's answer, asked for again where that may help.

    Raises:
        OSError: FileNotFoundError and FileExistsError.
        UserError: when the bucket is not there, access is denied, or all repetitions were in vain.
    """
    from obstore import exceptions

    until = time.monotonic() + PATIENCE_S
    for pause in (*PAUSES_S, None):
        try:
            return request()
        except exceptions.AlreadyExistsError:
            raise FileExistsError(17, "there is one already", path) from None
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise _no_bucket(path) from None
            raise FileNotFoundError(2, "there is no such object", path) from None
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise UserError("no-access", f"{path}: access denied ({_reason(error)}): check the credentials' rights") from None
        except exceptions.InvalidPathError as error:
            raise UserError("bad-input", f"{path}: a key can't be used as a path ({_reason(error)}): rename it") from None
        except (exceptions.BaseError, _CutShort) as error:
            if "NoSuchBucket" in str(error):
                raise _no_bucket(path) from None
            if pause is None or time.monotonic() + pause > until or not _is_passing(error):
                raise UserError("place-failed", f"{path}: {_reason(error)}; run the same command again to go on") from None
        time.sleep(pause)
    raise AssertionError


def _no_bucket(path: str) -> UserError:
    return UserError("missing-input", f"there is no bucket {_divided(path)[0]!r}: make it, or give another place")


def _is_passing(error: Exception) -> bool:
    """Whether an error may be gone the next time."""
    status = STATUS.search(str(error))
    return not status or int(status[1]) in AGAIN


def _reason(error: Exception) -> str:
    """An error's reason in a line, without what a request was signed with."""
    text = str(error)
    if code := CODE.search(text):
        message = MESSAGE.search(text)
        return f"{code[1]}: {message[1]}" if message else code[1]
    return re.sub(r"\?\S+", "", text.partition("\n")[0])[:200]
