"""What is written of a work unit: what it is, how far it is, and the marker that says that its shard is finished.

Workers write it and whoever started them reads it, in the work folder of that start, which is the same for every runner.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from headstart.features.dataset.dead_letter import DeadLetter
from headstart.features.images.decode import is_readable_now
from headstart.features.places import place
from headstart.features.store.manifest import ShardEntry
from headstart.pipelines.units.unit_job import UnitJob
from headstart.pipelines.units.work_unit import WorkUnit

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
    seconds: dict[str, float] = field(default_factory=dict)  # by step, of all threads together

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ShardMarker:
        """The inverse of `dataclasses.asdict`."""
        letters = tuple(DeadLetter(**letter) for letter in values["dead_letters"])
        return cls(**{**values, "shard": ShardEntry(**values["shard"]), "dead_letters": letters})

    @property
    def is_final(self) -> bool:
        """Whether the unit would not do better now."""
        return not any(map(may_be_stored_now, self.dead_letters))


@dataclass(frozen=True)
class Heartbeat:
    """How far a unit is: images done, and which of them are lost."""

    done: int
    dead_letters: tuple[DeadLetter, ...]


def may_be_stored_now(letter: DeadLetter) -> bool:
    """Whether an image deserves another try: what could not be read may be there again, and what decodes it be installed."""
    return letter.stage == "read" or (letter.stage == "decode" and is_readable_now(letter.reason))


def write_marker(work: str, marker: ShardMarker) -> bool:
    """Says that a shard is finished; its bytes stand there already. False where another worker has said so."""
    return place.create(place.join(work, marker.shard.name + MARKER_SUFFIX), json.dumps(asdict(marker)).encode())


def read_marker(work: str, unit: WorkUnit) -> ShardMarker | None:
    """The marker of a unit that was finished in this start, or None."""
    marker = _marker(place.join(work, unit.shard + MARKER_SUFFIX))
    return marker if marker and marker.shard.unit == unit.digest else None


def _marker(path: str) -> ShardMarker | None:
    try:
        return ShardMarker.from_json(place.read_json(path))
    except (OSError, ValueError, KeyError, TypeError):  # not there, or not a marker
        return None


def markers_of(job: UnitJob, units: Sequence[WorkUnit]) -> dict[str, ShardMarker]:
    """What earlier starts of the same job finished, by the shard: its bytes are there, and would not be better now."""
    sizes = {entry.name: entry.size for entry in place.entries(job.folder)}
    digests = {unit.shard: unit.digest for unit in units}
    return {
        marker.shard.name: marker
        for marker in _all_markers(job.work_folders)
        if marker.is_final
        and marker.shard.unit == digests.get(marker.shard.name)
        and marker.shard.bytes == sizes.get(marker.shard.name)
    }


def _all_markers(folder: str) -> Iterator[ShardMarker]:
    paths = [place.join(folder, entry.name) for entry in place.entries(folder) if entry.name.endswith(MARKER_SUFFIX)]
    yield from filter(None, place.at_once(_marker, paths, folder))


def save_unit(work: str, unit: WorkUnit) -> None:
    """Leaves a unit where `load_unit` finds it."""
    place.write(place.join(work, unit.shard + UNIT_SUFFIX), json.dumps(unit.to_json()).encode("ascii"))


def load_unit(work: str, shard: str) -> WorkUnit:
    """Reads what `save_unit` left."""
    return WorkUnit.from_json(place.read_json(place.join(work, shard + UNIT_SUFFIX)))


def write_heartbeat(work: str, shard: str, done: int, dead_letters: Sequence[DeadLetter]) -> None:
    """Says how far a unit is, for eyes and for the limit of dead letters."""
    values = {"done": done, "dead_letters": [vars(letter) for letter in dead_letters]}
    place.write(place.join(work, shard + HEARTBEAT_SUFFIX), json.dumps(values).encode())


def read_heartbeat(work: str, shard: str) -> Heartbeat | None:
    """How far a unit is; None when nobody says so."""
    try:
        values = place.read_json(place.join(work, shard + HEARTBEAT_SUFFIX))
        return Heartbeat(values["done"], tuple(DeadLetter(**letter) for letter in values["dead_letters"]))
    except (OSError, ValueError):
        return None


def remove_heartbeat(work: str, shard: str) -> None:
    """Removes a unit's heartbeat, if there is one."""
    place.remove([place.join(work, shard + HEARTBEAT_SUFFIX)])


def ask_to_stop(work: str, reason: str) -> None:
    """Asks every worker to stop, and tells why."""
    place.write(place.join(work, STOP_FILE), reason.encode("utf-8", "surrogateescape"))


def why_to_stop(work: str) -> str:
    """Why workers are asked to stop; '' when they are not."""
    try:
        return place.read(place.join(work, STOP_FILE)).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""


def remove_stop(work: str) -> None:
    """Removes the request to stop, if there is one."""
    place.remove([place.join(work, STOP_FILE)])
