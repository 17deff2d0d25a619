"""What a store says of itself, with digests of every file and of its own bytes: it is whole when every byte is as it says.

It is the only file of a store that is ever replaced, by one write, last: a store that has one is complete, and whoever read it
goes on reading the files that it names, whose names are never used again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from headstart.features.dataset.record_inputs import is_record_input
from headstart.features.dataset.splits import Division
from headstart.features.errors import UserError
from headstart.features.files import TEMPORARY_SUFFIX, json_bytes
from headstart.features.places import place

FORMAT = 6
FORMAT_SEVERAL = 7  # of images with several labels, which nobody may take for one of format 6
MANIFEST = "manifest.json"
GENERATIONS = "generations"  # below a store: a folder for each extraction that it was made by
WORK_FOLDER = ".work"  # below a store: what an extraction leaves there while it runs
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
class Generation:
    """What one extraction brought: its folder below the store, which TFDS reads as a dataset of its own, and what lies in it.

    files are those beside the shards, name to sha256.
    """

    folder: str
    splits: dict[str, SplitEntry]
    files: dict[str, str]

    @property
    def digests(self) -> dict[str, str]:
        """Every file of the generation: its path below the store to its sha256."""
        shards = {shard.name: shard.sha256 for split in self.splits.values() for shard in split.shards}
        return {f"{self.folder}/{name}": digest for name, digest in {**self.files, **shards}.items()}


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

    fingerprint is the spec's. dead_by_class and dead_by_split count dead letters. groups_across_splits and
    copies_across_splits count groups and contents that are in more than one split, left_out the files that are no examples,
    by the reason. label_delimiter parts an image's labels in a cell; '' where each has one.
    """

    fingerprint: str
    dataset_digest: str
    class_names: tuple[str, ...]
    generations: tuple[Generation, ...]
    totals: Totals
    dead_by_class: dict[str, int]
    dead_by_split: dict[str, int]
    division: Division
    groups_declared: bool
    max_pixels: int
    groups_across_splits: int
    copies_across_splits: int
    left_out: dict[str, int]
    provenance: Provenance
    label_delimiter: str = ""

    @property
    def number(self) -> int:
        """That of the last generation; the next one has a greater one."""
        return int(self.generations[-1].folder.rpartition("/")[2].partition("-")[0])

    @property
    def splits(self) -> dict[str, int]:
        """The examples of each split."""
        counts: dict[str, int] = {}
        for generation in self.generations:
            for name, split in generation.splits.items():
                counts[name] = counts.get(name, 0) + split.examples
        return counts

    def shards(self, split: str) -> Iterator[tuple[str, ShardEntry]]:
        """A split's shards in order, each with its path below the store."""
        for generation in self.generations:
            for shard in generation.splits[split].shards if split in generation.splits else ():
                yield f"{generation.folder}/{shard.name}", shard

    @property
    def digests(self) -> dict[str, str]:
        """Every file that the store is made of: its path below the store to its sha256."""
        return {path: digest for generation in self.generations for path, digest in generation.digests.items()}

    def path_of(self, name: str) -> str:
        """Where a file beside the shards lies below the store: in the first generation that has it.

        Raises:
            KeyError: when none has.
        """
        for generation in self.generations:
            if name in generation.files:
                return f"{generation.folder}/{name}"
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """The manifest as JSON values, with the format's number; of images with one label, nothing is said of a delimiter."""
        values = {**asdict(self), "division": self.division.to_json(), "format": FORMAT}
        if not values["label_delimiter"]:
            del values["label_delimiter"]
            return values
        return {**values, "format": FORMAT_SEVERAL}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Manifest:
        """The inverse of `to_json`.

        Raises:
            KeyError, TypeError, AttributeError: for values of another form.
        """
        provenance = {**values["provenance"], "engines": tuple(values["provenance"]["engines"])}
        typed: dict[str, Any] = {
            "class_names": tuple(values["class_names"]),
            "generations": tuple(map(_generation, values["generations"])),
            "totals": Totals(**values["totals"]),
            "division": Division(**values["division"]),
            "provenance": Provenance(**provenance),
            "label_delimiter": values.get("label_delimiter", ""),
        }
        return cls(**{field.name: typed[field.name] if field.name in typed else values[field.name] for field in fields(cls)})


def _generation(values: dict[str, Any]) -> Generation:
    splits = {
        name: SplitEntry(**{**split, "shards": tuple(ShardEntry(**shard) for shard in split["shards"])})
        for name, split in values["splits"].items()
    }
    return Generation(values["folder"], splits, values["files"])


def write_manifest(folder: str, manifest: Manifest) -> None:
    """Writes a manifest with the digest of its own bytes, in the place of an older one."""
    place.write(place.join(folder, MANIFEST), json_bytes(sealed(manifest.to_json())))


def is_unfinished(name: str) -> bool:
    """Whether a file right below a store is a manifest that is being written, or was when its writer was killed."""
    return name.startswith(f"{MANIFEST}.") and name.endswith(TEMPORARY_SUFFIX)


def sealed(values: dict[str, Any]) -> dict[str, Any]:
    """A manifest's JSON values with the digest of the bytes that they are written as."""
    digest = hashlib.sha256(json_bytes({**values, OWN_DIGEST: _ZEROS})).hexdigest()
    return {**values, OWN_DIGEST: digest}


def read_manifest(folder: str) -> Manifest:
    """Reads a manifest.

    Raises:
        OSError: when there is none.
        UserError: when it is damaged, or of another format than this version's.
    """
    path = place.join(folder, MANIFEST)
    content = place.read(path)
    try:
        values = json.loads(content.decode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise UserError("damaged", f"{path!r} is damaged ({error}): delete the store and extract again") from error
    found = values.get("format") if isinstance(values, dict) else None
    if isinstance(found, int) and found not in (FORMAT, FORMAT_SEVERAL):
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


def is_store(path: str) -> bool:
    """Whether a path is a store's, complete or not, rather than an input of images."""
    if is_record_input(path) or place.is_address(path):
        return False
    return any(place.exists(place.join(path, name)) for name in (MANIFEST, WORK_FOLDER))


def no_store(path: str) -> UserError:
    """What to raise for a folder without a manifest."""
    if place.is_address(path):
        return UserError("bad-flag", f"{path!r} is an address, and a feature store can't be read from one: copy it here")
    if not place.is_folder(path):
        return UserError(
            "missing-input",
            f"there is no feature store at {path!r}: make one with `headstart extract INPUT --store {path}`",
        )
    if place.is_folder(place.join(path, WORK_FOLDER)):
        return UserError(
            "incomplete", f"the store {path!r} is not complete: run its `headstart extract` command again to finish it"
        )
    return UserError(
        "missing-input",
        f"{path!r} is not a feature store (it has no {MANIFEST}): make one with `headstart extract INPUT --store STORE`",
    )
