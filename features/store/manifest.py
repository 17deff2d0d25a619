"""What a store says of itself, with digests of every file and of its own bytes: it is whole when every byte is as it says.

It is written last, so a folder that has one was complete once.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from headstart.features import files
from headstart.features.dataset.splits import Division
from headstart.features.errors import UserError

FORMAT = 5
MANIFEST = "manifest.json"
WORK_FOLDER = ".partial"  # below a store: where an extraction works
OWN_DIGEST = "sha256_of_this_file_with_zeros_here"
_ZEROS = "0" * 64


@dataclass(frozen=True)
class ShardEntry:
    """A shard: its file's name, size and sha256, its examples, the bytes that each record takes, its work unit's digest."""

    name: str
    examples: int
    bytes: int
    record_bytes: int
    sha256: str
    unit: str


@dataclass(frozen=True)
class SplitEntry:
    """A split: its examples, the bytes of its shards, and the shards in order."""

    examples: int
    bytes: int
    shards: tuple[ShardEntry, ...]


@dataclass(frozen=True)
class Totals:
    """Every file that was found, accounted for: left out or planned; and of the planned ones, stored or dead."""

    found: int
    left_out: int
    planned: int
    stored: int
    dead: int


@dataclass(frozen=True)
class Provenance:
    """Where a store comes from: its input and weights as they were named, versions of packages, engines that computed.

    It decides no value, but the last bits of one.
    """

    input: str
    weights: str
    versions: dict[str, str]
    engines: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Manifest:
    """All that a store says of itself.

    fingerprint is the spec's. dead_by_class and dead_by_split count dead letters. files are those beside the shards, with
    their sha256. groups_across_splits and copies_across_splits count groups and contents that are in more than one split,
    left_out the files that are no examples, by the reason.
    """

    fingerprint: str
    dataset_digest: str
    class_names: tuple[str, ...]
    splits: dict[str, SplitEntry]
    totals: Totals
    dead_by_class: dict[str, int]
    dead_by_split: dict[str, int]
    files: dict[str, str]
    division: Division
    groups_declared: bool
    max_pixels: int
    groups_across_splits: int
    copies_across_splits: int
    left_out: dict[str, int]
    provenance: Provenance

    @property
    def shards(self) -> list[ShardEntry]:
        """The shards of all splits."""
        return [shard for split in self.splits.values() for shard in split.shards]

    def to_json(self) -> dict[str, Any]:
        """The manifest as JSON values, with the format's number."""
        return {**asdict(self), "division": self.division.to_json(), "format": FORMAT}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Manifest:
        """The inverse of `to_json`.

        Raises:
            KeyError, TypeError, AttributeError: for values of another form.
        """
        splits = {
            name: SplitEntry(**{**split, "shards": tuple(ShardEntry(**shard) for shard in split["shards"])})
            for name, split in values["splits"].items()
        }
        provenance = {**values["provenance"], "engines": tuple(values["provenance"]["engines"])}
        typed: dict[str, Any] = {
            "class_names": tuple(values["class_names"]),
            "splits": splits,
            "totals": Totals(**values["totals"]),
            "division": Division(**values["division"]),
            "provenance": Provenance(**provenance),
        }
        return cls(**{field.name: typed.get(field.name, values[field.name]) for field in fields(cls)})


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


def write_manifest(folder: str, manifest: Manifest) -> None:
    """Writes a manifest with the digest of its own bytes."""
    files.write_json(os.path.join(folder, MANIFEST), sealed(manifest.to_json()))


def sealed(values: dict[str, Any]) -> dict[str, Any]:
    """A manifest's JSON values with the digest of the bytes that they are written as."""
    digest = hashlib.sha256(files.json_bytes({**values, OWN_DIGEST: _ZEROS})).hexdigest()
    return {**values, OWN_DIGEST: digest}


def read_manifest(folder: str) -> Manifest:
    """Reads a manifest.

    Raises:
        OSError: when there is none.
        UserError: when it is damaged, or of another format than this version's.
    """
    path = os.path.join(folder, MANIFEST)
    content = files.read_bytes(path)
    try:
        values = json.loads(content.decode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise UserError("damaged", f"{path!r} is damaged ({error}): delete the store and extract again") from error
    found = values.get("format") if isinstance(values, dict) else None
    if isinstance(found, int) and found != FORMAT:
        raise UserError(
            "other-version",
            f"{folder!r} is a store of format {found}, this version reads {FORMAT}: delete it and run its "
            f"`headstart extract` command again",
        )
    own = values.get(OWN_DIGEST) if isinstance(values, dict) else None
    if not isinstance(own, str) or hashlib.sha256(content.replace(own.encode(), _ZEROS.encode())).hexdigest() != own:
        raise UserError(
            "damaged", f"{path!r} is damaged (its content is not what its digest says): delete the store and extract again"
        )
    try:
        return Manifest.from_json(values)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            "other-version", f"{path!r} is of another version ({error}): delete the store and extract again"
        ) from error


def stamped_manifest(folder: str) -> tuple[Manifest, dict[str, Stamp | None]]:
    """A manifest, and the stamps of itself and of every shard by name, all of one moment.

    Raises:
        OSError, UserError: as `read_manifest` does, or when another extraction takes its place meanwhile.
    """
    path = os.path.join(folder, MANIFEST)
    before = Stamp.of(path)
    manifest = read_manifest(folder)
    stamps = {shard.name: Stamp.of(os.path.join(folder, shard.name)) for shard in manifest.shards}
    if before is None or Stamp.of(path) != before:  # it is removed before a shard is replaced
        raise replaced(folder)
    return manifest, {**stamps, MANIFEST: before}


def replaced(folder: str) -> UserError:
    """What to raise when a store's files are not those of the manifest that was read."""
    return UserError("replaced", f"the store {folder!r} was replaced while it was read: open it again")


def no_store(path: str) -> UserError:
    """What to raise for a folder without a manifest."""
    if not os.path.isdir(path):
        return UserError(
            "missing-input",
            f"there is no feature store at {path!r}: make one with `headstart extract INPUT --store {path}`",
        )
    if os.path.isdir(os.path.join(path, WORK_FOLDER)):
        return UserError(
            "incomplete", f"the store {path!r} is not complete: run its `headstart extract` command again to finish it"
        )
    return UserError(
        "missing-input",
        f"{path!r} is not a feature store (it has no {MANIFEST}): make one with `headstart extract INPUT --store STORE`",
    )
