"""What a file's content is known by: the sha256 of it, or what an object store says of it, for which nobody has to read it."""

from __future__ import annotations

import hashlib

from headstart.features.files import sha256_of
from headstart.features.places import place
from headstart.features.places.entry import Entry

IDENTITIES = ("content", "listing")


def listed_digest(found: Entry) -> str:
    """A digest of what a listing says of an object, its version (ETag) and size; '' where it says nothing, as on a disk."""
    return hashlib.sha256(f"{found.version}\n{found.size}".encode()).hexdigest() if found.version else ""


def read_same(path: str, digest: str) -> bytes | None:
    """A whole file, if it is the one that a digest of either kind is of ('' of any); None when it is another by now.

    Raises:
        OSError: when it can't be read, FileNotFoundError when it is not there.
    """
    found, pieces = place.opened(path)
    content = b"".join(pieces)
    same = not digest or digest == listed_digest(found) or digest == hashlib.sha256(content).hexdigest()
    return content if same else None


def digest_of(path: str, expected: str = "") -> str:
    """The hex sha256 of a file's bytes; what was expected, where that is what its place says of it.

    Raises:
        OSError: FileNotFoundError when it is not there.
    """
    found, pieces = place.opened(path)
    return expected if expected and listed_digest(found) == expected else sha256_of(pieces)
