"""What is known of a file without reading it. Standard library only."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """A file: its name, below what was listed and with /, its bytes, and the time of its last change in nanoseconds.

    version is what an object store calls a content: no other content has it, and most stores give the same one the
    same version again (Azure does not); '' on a disk. mark is what a disk knows beside: a file that takes
    another's place, or is written anew, has another one, whatever its size and time; 0 elsewhere.
    """

    name: str
    size: int
    time_ns: int
    version: str = ""
    mark: int = 0
