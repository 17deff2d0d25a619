"""Copies of remote files on this machine's disk: fetched once, checked, and mapped or loaded from there as local ones are.

A copy is named by the content's digest, or by path, size and time where nobody knows one, so that a second epoch, run or probe
finds it. There are never more bytes than allowed: those that were not used for longest go. One that is mapped stays readable.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from headstart.features import files
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.features.progress import Progress
from headstart.features.runtime import CACHE, CACHE_SIZE

DEFAULT_GB = 50.0
FILES_AT_ONCE = 8


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch: its path, its bytes and its sha256; the digest is '' where nobody knows it."""

    path: str
    size: int
    digest: str = ""

    def named(self, folder: str, version: str = "") -> str:
        """The path of its copy. Loaders look at how a name ends."""
        address = self.digest or hashlib.sha256(f"{self.path}\n{self.size}\n{version}".encode()).hexdigest()
        _, mark, ending = self.path.rpartition("/")[2].partition(".")
        return os.path.join(folder, address[:2], f"{address}{mark}{ending}")


def cache_root() -> str:
    """Where copies lie: HEADSTART_CACHE, or headstart/ in the user's own cache folder."""
    own = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.abspath(os.environ.get(CACHE) or os.path.join(own, "headstart"))


def cache_bytes() -> int:
    """How many bytes all copies may take together.

    Raises:
        UserError: when HEADSTART_CACHE_SIZE is no number of gigabytes.
    """
    text = os.environ.get(CACHE_SIZE) or str(DEFAULT_GB)
    try:
        size = float(text)
        if not 0 < size < float("inf"):
            raise ValueError
    except ValueError:
        raise UserError("bad-flag", f"--cache_size, or {CACHE_SIZE}, is a number of gigabytes above 0, not {text!r}") from None
    return int(size * 1e9)


def local_path(path: str) -> str:
    """The path itself, or that of a copy of what lies there now.

    Raises:
        OSError: FileNotFoundError when there is no such file.
        UserError: when it can't be fetched.
    """
    if not place.is_remote(path):
        return path
    found = place.entry(path)
    if found is None:
        raise FileNotFoundError(2, "it is not there", path)
    return _fetched([RemoteFile(path, found.size)], [str(found.time_ns)])[0]


def local_paths(wanted: Sequence[RemoteFile]) -> list[str]:
    """The paths themselves, or those of copies, several fetched at a time.

    Raises:
        UserError: when they take more than the cache may, one is not what its digest says, or it can't be fetched.
    """
    far = [file for file in wanted if place.is_remote(file.path)]
    copies = dict(zip((file.path for file in far), _fetched(far, [""] * len(far)))) if far else {}
    return [copies.get(file.path, file.path) for file in wanted]


def _fetched(wanted: Sequence[RemoteFile], versions: Sequence[str]) -> list[str]:
    folder, limit = os.path.join(cache_root(), "files"), cache_bytes()
    if (total := sum(file.size for file in wanted)) > limit:
        raise UserError(
            "disk-full",
            f"{wanted[0].path!r} and {len(wanted) - 1} more take {total / 1e9:.1f} GB, the cache {folder!r} at most "
            f"{limit / 1e9:g}: raise --cache_size",
        )
    copies = [file.named(folder, version) for file, version in zip(wanted, versions)]
    missing = {copy: file for copy, file in zip(copies, wanted) if not _is_there(copy, file.size)}
    if missing:
        make_room(folder, limit - sum(file.size for file in missing.values()), keep=set(copies))
        progress = Progress("fetch", len(missing), "files")
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            for done, _ in enumerate(pool.map(_fetch, missing.values(), missing), 1):
                progress.update(done)
        progress.close()
    return copies


def _is_there(copy: str, size: int) -> bool:
    """Whether there is a copy; then it counts as used now."""
    try:
        if os.path.getsize(copy) != size:
            return False
        os.utime(copy)
    except OSError:
        return False
    return True


def _fetch(file: RemoteFile, copy: str) -> None:
    os.makedirs(os.path.dirname(copy), exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with files.atomic(copy) as target:
        try:
            for piece in place.opened(file.path)[1]:
                target.write(piece)
                digest.update(piece)
                size += len(piece)
        except FileNotFoundError:
            raise UserError("replaced", f"{file.path!r} is gone: what it belongs to was made anew; open it again") from None
        if size != file.size or file.digest not in ("", digest.hexdigest()):
            raise UserError(
                "damaged", f"{file.path!r} is damaged: it is not what its digest says; `headstart verify` lists every fault"
            )


def make_room(folder: str, limit: int, keep: set[str]) -> None:
    """Removes the copies that were not used for longest, until the others take no more bytes than a limit."""
    found = [(each, os.path.join(folder, each.name)) for each in place.entries(folder)]
    total = sum(each.size for each, _ in found)
    for each, path in sorted(found, key=lambda pair: pair[0].time_ns):
        if total <= limit:
            break
        if path not in keep:
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)
            total -= each.size
