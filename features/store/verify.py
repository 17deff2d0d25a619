"""A store's folder in, a line for each thing that does not hold out.

Digests come first and find any changed byte of any file; what follows asks whether the files fit each other, as they would not
if whoever wrote them was at fault. Only a file whose digest holds is opened for that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from headstart.features import tfrecord
from headstart.features.dataset.dataset_table import TABLE
from headstart.features.dataset.examples import Example, dataset_digest
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.features.places.claim import CLAIMS
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.manifest import GENERATIONS, MANIFEST, Manifest, is_unfinished, no_store, read_manifest
from headstart.features.store.record import parser
from headstart.features.store.sample import SAMPLE
from headstart.features.store.store_files import BACKBONE, SPEC


def faults(path: str, unsafe: bool = False) -> Iterator[str]:
    """Reads every byte of a store.

    Args:
        path: its folder.
        unsafe: run Python code that its backbone brings along in Lambda layers.

    Returns:
        A line for each fault, beginning with the file's name; nothing when the store is sound.

    Raises:
        UserError: when there is no complete store.
    """
    try:
        manifest = read_manifest(path)
    except (FileNotFoundError, NotADirectoryError):
        raise no_store(path) from None
    except UserError as error:
        return iter([f"{MANIFEST}: {error}"])
    return _faults(path, manifest, unsafe)


def _faults(path: str, manifest: Manifest, unsafe: bool) -> Iterator[str]:
    damaged = set()
    for name, fault in _digest_faults(path, manifest):
        damaged.add(name)
        yield fault
    backbone = manifest.path_of(BACKBONE)
    if not damaged - {backbone, manifest.path_of(SAMPLE)} & set(manifest.digests):
        yield from _misfits(FeatureStore.open(path, unsafe=unsafe), backbone not in damaged)


def _digest_faults(path: str, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """(file, fault) for each file that is missing, not what the manifest says, or in one of its generations and not in it."""
    digests = manifest.digests
    for name, digest in digests.items():
        try:
            found = place.sha256(place.join(path, name))
        except FileNotFoundError:
            yield name, f"{name}: missing"
        except OSError as error:
            yield name, f"{name}: can't be read: {error}"
        else:
            if found != digest:
                yield name, f"{name}: its content is not what the manifest says"
    folders = tuple(f"{generation.folder}/" for generation in manifest.generations)
    for entry in place.entries(path):
        beside = entry.name.startswith((".", f"{CLAIMS}/")) or is_unfinished(entry.name)  # the survey's cache, work, a claim
        known = entry.name in digests or entry.name == MANIFEST or beside
        if not known and (entry.name.startswith(folders) or not entry.name.startswith(f"{GENERATIONS}/")):
            yield entry.name, f"{entry.name}: not in the manifest"


def _misfits(store: FeatureStore, backbone: bool) -> Iterator[str]:
    """What does not fit although every byte is as it was written."""
    steps: list[tuple[str, Callable[[], Iterator[str]]]] = [(MANIFEST, functools.partial(_table_faults, store))]
    if backbone:
        steps.append((BACKBONE, functools.partial(_backbone_faults, store)))
    steps += [(split, functools.partial(_split_faults, store, split)) for split in store.manifest.splits]
    for name, step in steps:
        try:
            yield from step()
        except Exception as error:  # whatever is wrong with a file, it is a fault of the store and not of the reader
            yield f"{name}: can't be read: {type(error).__name__}: {error}"


def _table_faults(store: FeatureStore) -> Iterator[str]:
    if store.spec.fingerprint != store.manifest.fingerprint:
        yield f"{SPEC}: its fingerprint is not the manifest's"
    several = bool(store.label_delimiter)
    if dataset_digest(store.table, store.class_names, several) != store.manifest.dataset_digest:
        yield f"{TABLE}: its digest is not the manifest's dataset digest"
    totals = store.manifest.totals
    if totals.stored + totals.dead != totals.planned or totals.dead != len(store.dead_letters):
        yield f"{MANIFEST}: stored {totals.stored} + dead {totals.dead} is not planned {totals.planned}"
    if totals.planned + totals.left_out != totals.found:
        yield f"{MANIFEST}: planned {totals.planned} + left out {totals.left_out} is not found {totals.found}"


def _backbone_faults(store: FeatureStore) -> Iterator[str]:
    try:
        store.backbone(store.spec.taps[0])
    except UserError as error:
        yield f"{BACKBONE}: {error}"


def _split_faults(store: FeatureStore, split: str) -> Iterator[str]:
    examples = iter(store.examples(split))
    for path, (name, shard) in zip(store.shard_paths(split), store.manifest.shards(split)):
        expected = [next(examples, None) for _ in range(shard.examples)]
        yield from _shard_faults(store, name, tfrecord.read_records(path), expected, store.spec.views_of(split))
    if (left := len(list(examples))) > 0:
        yield f"{TABLE}: {left} examples of the split {split} are in no shard"


def _shard_faults(
    store: FeatureStore, name: str, records: Iterable[bytes], examples: list[Example | None], views: int
) -> Iterator[str]:
    count = 0
    for number, content in enumerate(records):
        count += 1
        example = examples[number // views] if number < len(examples) * views else None
        field = parser().FromString(content).features.feature
        if example is None or not _is_of(store, field, example, number % views):
            yield f"{name}: record {number} is not the example that {TABLE} has in its place"
            return
    if count != len(examples) * views:
        yield f"{name}: {count} records, the manifest says {len(examples) * views}"


def _is_of(store: FeatureStore, field: Any, example: Example, view: int) -> bool:
    ids = [store.class_names.index(label) for label in example.labels]
    identity = (example.key.encode("utf-8", "surrogateescape"), example.digest.encode())
    found = tuple(field[name].bytes_list.value[0] for name in ("key", "digest"))
    numbers = [list(field[name].int64_list.value) for name in ("label", "view")]
    return found == identity and numbers == [ids, [view]]
