"""What stands on disk of a work unit: what it is, how far it is, and the marker that says that its shard is finished.

Workers write it and whoever started them reads it, in the job's folder, which is the same for every runner.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from headstart.features import files
from headstart.features.dataset.dead_letter import DeadLetter
from headstart.features.store.manifest import ShardEntry
from headstart.pipelines.work_unit import WorkUnit

MARKER_SUFFIX, HEARTBEAT_SUFFIX, UNIT_SUFFIX = ".json", ".progress", ".unit"  # behind a shard's name
STOP_FILE = "stop"


@dataclass(frozen=True)
class ShardMarker:
    """A finished shard: its row in the manifest, what became of the unit's images, and what computed them (None: nothing did).

    Of the `planned` images, `shard.examples` are stored, `computed` of them by the engine, and the others are dead letters.
    """

    shard: ShardEntry
    split: str
    planned: int
    computed: int
    engine: dict[str, Any] | None
    dead_letters: tuple[DeadLetter, ...]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ShardMarker:
        """The inverse of `dataclasses.asdict`."""
        letters = tuple(DeadLetter(**letter) for letter in values["dead_letters"])
        return cls(**{**values, "shard": ShardEntry(**values["shard"]), "dead_letters": letters})

    @property
    def is_final(self) -> bool:
        """Whether the unit would not do better now: what could not be read may be there again."""
        return not any(letter.stage == "read" for letter in self.dead_letters)


@dataclass(frozen=True)
class Heartbeat:
    """How far a unit is: images done, and which of them are lost."""

    done: int
    dead_letters: tuple[DeadLetter, ...]


def write_marker(folder: str, marker: ShardMarker) -> None:
    """Says that a shard is finished; its bytes stand there already."""
    files.write_json(os.path.join(folder, marker.shard.name + MARKER_SUFFIX), asdict(marker))


def read_marker(folder: str, unit: WorkUnit) -> ShardMarker | None:
    """The marker of a unit that is finished, or None."""
    path = os.path.join(folder, unit.shard)
    try:
        marker = ShardMarker.from_json(files.read_json(path + MARKER_SUFFIX))
        whole = os.path.getsize(path) == marker.shard.bytes
        return marker if whole and marker.shard.unit == unit.digest else None
    except (OSError, ValueError, KeyError, TypeError):  # not there, or not a marker
        return None


def is_finished(folder: str, unit: WorkUnit) -> bool:
    """Whether a unit need not be done again."""
    marker = read_marker(folder, unit)
    return marker is not None and marker.is_final


def save_unit(folder: str, unit: WorkUnit) -> None:
    """Leaves a unit where `load_unit` finds it."""
    with open(os.path.join(folder, unit.shard + UNIT_SUFFIX), "w", encoding="ascii") as file:
        json.dump(unit.to_json(), file)


def load_unit(folder: str, shard: str) -> WorkUnit:
    """Reads what `save_unit` left."""
    return WorkUnit.from_json(files.read_json(os.path.join(folder, shard + UNIT_SUFFIX)))


def write_heartbeat(folder: str, shard: str, done: int, dead_letters: Sequence[DeadLetter]) -> None:
    """Says how far a unit is: only for eyes, so that it need not be whole."""
    with open(os.path.join(folder, shard + HEARTBEAT_SUFFIX), "w", encoding="utf-8") as file:
        json.dump({"done": done, "dead_letters": [vars(letter) for letter in dead_letters]}, file)


def read_heartbeat(folder: str, shard: str) -> Heartbeat | None:
    """How far a unit is; None when nobody says so, or is just saying it."""
    try:
        values = files.read_json(os.path.join(folder, shard + HEARTBEAT_SUFFIX))
        return Heartbeat(values["done"], tuple(DeadLetter(**letter) for letter in values["dead_letters"]))
    except (OSError, ValueError):
        return None


def remove_heartbeat(folder: str, shard: str) -> None:
    """Removes a unit's heartbeat, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(folder, shard + HEARTBEAT_SUFFIX))


def ask_to_stop(folder: str, reason: str) -> None:
    """Asks every worker to stop, and tells why."""
    files.write_bytes(os.path.join(folder, STOP_FILE), reason.encode("utf-8", "surrogateescape"))


def why_to_stop(folder: str) -> str:
    """Why workers are asked to stop; '' when they are not."""
    path = os.path.join(folder, STOP_FILE)
    return files.read_bytes(path).decode("utf-8", "surrogateescape") if os.path.exists(path) else ""


def remove_stop(folder: str) -> None:
    """Removes the request to stop, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(folder, STOP_FILE))
