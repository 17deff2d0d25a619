"""What a store's manifest says of its files, and a digest of its own bytes: a store is whole when every byte is as it says.

It is written last, so a folder that has one was complete once.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any, NamedTuple

from headstart.features import files
from headstart.features.errors import UserError

FORMAT = 5
MANIFEST = "manifest.json"
OWN_DIGEST = "sha256_of_this_file_with_zeros_here"
_ZEROS = "0" * 64


class Stamp(NamedTuple):
    """What tells a file from another that took its place: its inode, bytes, and time of change in nanoseconds."""

    inode: int
    size: int
    time_ns: int

    @classmethod
    def of(cls, path: str) -> Stamp | None:
        """A file's stamp; None when it is not there."""
        try:
            found = os.stat(path)
        except OSError:
            return None
        return cls(found.st_ino, found.st_size, found.st_mtime_ns)


def write_manifest(folder: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """Writes a manifest with the digest of its own bytes; returns what was written."""
    path = os.path.join(folder, MANIFEST)
    digest = hashlib.sha256(files.json_bytes({**manifest, OWN_DIGEST: _ZEROS})).hexdigest()
    files.write_json(path, {**manifest, OWN_DIGEST: digest})
    return {**manifest, OWN_DIGEST: digest}


def read_manifest(folder: str) -> dict[str, Any]:
    """Reads a manifest.

    Raises:
        OSError: when there is none.
        UserError: when it is damaged, or of another format than this version's.
    """
    path = os.path.join(folder, MANIFEST)
    with open(path, "rb") as file:
        content = file.read()
    try:
        manifest = json.loads(content.decode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise UserError(f"{path!r} is damaged ({error}): delete the store and extract again") from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if isinstance(found, int) and found != FORMAT:
        raise UserError(
            f"{folder!r} is a store of format {found}, this version reads {FORMAT}: delete it and run its "
            f"`headstart extract` command again"
        )
    own = manifest.get(OWN_DIGEST) if isinstance(manifest, dict) else None
    if not isinstance(own, str) or hashlib.sha256(content.replace(own.encode(), _ZEROS.encode())).hexdigest() != own:
        raise UserError(f"{path!r} is damaged (its content is not what its digest says): delete the store and extract again")
    return manifest


def stamped_manifest(folder: str) -> tuple[dict[str, Any], dict[str, Stamp | None]]:
    """A manifest, and the stamps of itself and of every shard by name, all of one moment.

    Raises:
        OSError, UserError: as `read_manifest` does, or when another extraction takes its place meanwhile.
    """
    path = os.path.join(folder, MANIFEST)
    before = Stamp.of(path)
    manifest = read_manifest(folder)
    stamps = {shard["name"]: Stamp.of(os.path.join(folder, shard["name"])) for shard in shards_of(manifest)}
    if before is None or Stamp.of(path) != before:  # it is removed before a shard is replaced
        raise replaced(folder)
    return manifest, {**stamps, MANIFEST: before}


def replaced(folder: str) -> UserError:
    """What to raise when a store's files are not those of the manifest that was read."""
    return UserError(f"the store {folder!r} was replaced while it was read: open it again")


def shards_of(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of all shards of all splits."""
    return [shard for split in manifest["splits"].values() for shard in split["shards"]]
