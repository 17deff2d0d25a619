"""What lies in a store beside what its manifest names: older generations, and such as were never finished."""

from __future__ import annotations

from headstart.features.places import place
from headstart.features.store.manifest import GENERATIONS, MANIFEST, Manifest, read_manifest
from headstart.features.store.sample import SAMPLE

GRACE_HOURS = 24.0  # an older generation is kept for those who opened it


def unpublished(store: str, manifest: Manifest | None) -> set[str]:
    """The generations that no manifest ever named."""
    number = manifest.number if manifest else 0
    return {name for name in names_below(place.join(store, GENERATIONS)) if _number(name) > number}


def clean(store: str, grace_hours: float, now_s: float) -> list[str]:
    """Removes the generations that the manifest no longer names, each once it has not been named for a while.

    Args:
        store: its folder.
        grace_hours: for how long a reader that opened the store before may go on reading.
        now_s: seconds since the epoch.

    Returns:
        The names of the removed generations.

    Raises:
        UserError: when the manifest is damaged or of another version.
    """
    entry = place.entry(place.join(store, MANIFEST))
    if entry is None:
        return []
    came = _came(store)
    removed = list[str]()
    for name in sorted(older(store, read_manifest(store))):
        successors = [number for number in came if number > _number(name)]
        replaced_ns = came[min(successors)] if successors else entry.time_ns
        if now_s - replaced_ns / 1e9 >= grace_hours * 3600:
            place.remove_folder(place.join(store, GENERATIONS, name))
            removed.append(name)
    return removed


def _came(store: str) -> dict[int, int]:
    """The numbers of the generations that replaced all before them, and when each came, in nanoseconds since the epoch.

    They are told by their samples: one that a store has grown by has none.
    """
    found = (entry for entry in place.entries(place.join(store, GENERATIONS)) if entry.name.endswith(f"/{SAMPLE}"))
    return {_number(entry.name): entry.time_ns for entry in found}


def older(store: str, manifest: Manifest) -> set[str]:
    """The generations that an older manifest named and this one does not."""
    named = {generation.folder.rpartition("/")[2] for generation in manifest.generations}
    return names_below(place.join(store, GENERATIONS)) - named - unpublished(store, manifest)


def names_below(folder: str) -> set[str]:
    """The folders right below a folder that hold files."""
    return {entry.name.partition("/")[0] for entry in place.entries(folder)}


def _number(generation: str) -> int:
    """The number in a generation's name; one that nobody gave is taken for new."""
    number = generation.partition("-")[0]
    return int(number) if number.isdigit() else 1 << 62
