"""A small folder that programs write file by file, such as a run, where it lies in an object store: a copy here, and back.

One file is the folder's marker: it goes first and comes last, so that a folder with a marker is whole, as on a disk.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Collection
from typing import Any

from headstart.features import files
from headstart.features.places import place
from headstart.features.places.cache import cache_root
from headstart.features.places.entry import Entry

RECORD = ".mirror.json"  # in a copy: name to what the object and the file of the copy were when they were the same
_mirrors: dict[str, str] = {}  # of this process: a copy's folder to what it is a copy of


def here(path: str) -> str:
    """The folder itself, or that of its copy on this machine."""
    if not place.is_remote(path):
        return path
    url = place.absolute(path)
    copy = os.path.join(cache_root(), "mirrors", hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:16])
    _mirrors[copy] = url
    return copy


def pull(path: str, marker: str, without: Collection[str] = ()) -> str:
    """Makes the copy what the folder is; nothing where it is on this machine.

    Args:
        path: the folder.
        marker: the name of its marker; a folder that changed on the way is looked at again.
        without: names right in the folder that are not part of it.

    Returns:
        The folder to read and write on this machine.
    """
    if not place.is_remote(path):
        return path
    there = None
    while there is None or _version(there.get(marker)) != _version(place.entry(place.join(path, marker))):
        there, copy = _entries(path, without), here(path)
        held, record = _entries(copy, (RECORD,)), _record(copy)
        stale = [name for name in there if not _is_same(record.get(name), there[name], held.get(name))]
        place.remove(place.join(copy, name) for name in {*stale, *held} if name in stale or name not in there)
        place.at_once(lambda name: _fetch(path, name), stale, path)
        _keep(copy, there)
    return here(path)


def push(path: str, marker: str, without: Collection[str] = ()) -> None:
    """Makes the folder what its copy is; nothing where it is on this machine. Killed on the way, it has no marker."""
    if not place.is_remote(path):
        return
    copy, there = here(path), _entries(path, without)
    held, record = _entries(copy, (RECORD, *without)), _record(copy)
    changed = [name for name in held if not _is_same(record.get(name), there.get(name), held[name]) and name != marker]
    gone = [name for name in there if name not in held]
    if changed or gone:
        place.remove([place.join(path, marker)])
    place.at_once(lambda name: _send(path, name), changed, path)
    place.remove(place.join(path, name) for name in gone)
    if marker in held:
        _send(path, marker)
    _keep(copy, _entries(path, without))


def is_current(path: str, marker: str) -> bool:
    """Whether a folder's marker is still the one that its copy has; True where the folder is on this machine."""
    if not place.is_remote(path):
        return True
    known = _record(here(path)).get(marker)
    return known is not None and known[0] == _version(place.entry(place.join(path, marker)))


def push_files(path: str) -> None:
    """Puts a file of a copy, or all files below a folder of it, where they belong; nothing where they are of none."""
    for copy, url in _mirrors.items():
        if path.startswith(copy + os.sep):
            inside = [os.path.join(path, entry.name) for entry in place.entries(path)] or [path]
            names = [os.path.relpath(file, copy).replace(os.sep, "/") for file in inside]
            place.at_once(functools.partial(_send, url), names, url)


def _entries(folder: str, without: Collection[str]) -> dict[str, Entry]:
    """What a folder holds, by name."""
    return {entry.name: entry for entry in place.entries(folder) if entry.name.partition("/")[0] not in without}


def _version(entry: Entry | None) -> list[Any] | None:
    """What tells an object's content from any other's."""
    return [entry.size, entry.version] if entry else None


def _is_same(known: Any, there: Entry | None, held: Entry | None) -> bool:
    """Whether an object and the file of the copy are both what they were when they were the same."""
    return held is not None and known == [_version(there), [held.size, held.time_ns]]


def _record(copy: str) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        return dict(files.read_json(os.path.join(copy, RECORD)))
    return {}


def _keep(copy: str, there: dict[str, Entry]) -> None:
    """Notes down what is the same now."""
    held = _entries(copy, (RECORD,))
    known = {name: [_version(there[name]), [held[name].size, held[name].time_ns]] for name in there if name in held}
    place.write(os.path.join(copy, RECORD), files.json_bytes(known))


def _fetch(path: str, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # it went away, and the marker with it: all is looked at again
        place.write(place.join(here(path), name), place.read(place.join(path, name)))


def _send(path: str, name: str) -> None:
    place.write(place.join(path, name), files.read_bytes(place.join(here(path), name)))
