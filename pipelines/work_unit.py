"""Divided examples in, work units out. One unit is one shard, and nothing but contents decides what is in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, NamedTuple

from headstart.features import tfrecord
from headstart.features.dataset.examples import Example, plan_order
from headstart.features.places import place
from headstart.features.spec import FeatureSpec
from headstart.features.store.feature_store import DATASET_NAME, FeatureStore


class StoredAt(NamedTuple):
    """Where an older shard holds a feature of the same content and spec: the shard's path, and the bytes of it."""

    shard: str
    offset: int
    length: int
    views: int = 1  # that lie there, one after the other


class UnitExample(NamedTuple):
    """One image of a work unit: what to read, what to write beside its feature, and where to copy that from, if anywhere."""

    key: str
    path: str
    digest: str
    labels: tuple[int, ...]
    stored_at: StoredAt | None


@dataclass(frozen=True)
class WorkUnit:
    """What becomes one shard."""

    shard: str
    split: str
    fingerprint: str
    examples: tuple[UnitExample, ...]
    max_pixels: int
    views: int = 1  # records of each example

    def to_json(self) -> dict[str, Any]:
        """The unit as plain JSON values. Names need not be UTF-8: escaped, they travel as they are."""
        return dict(vars(self))  # a tuple is written as a list

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> WorkUnit:
        """The inverse of to_json."""
        examples = tuple(
            UnitExample(key, path, digest, tuple(labels), StoredAt(*stored) if stored else None)
            for key, path, digest, labels, stored in values["examples"]
        )
        return cls(**{**values, "examples": examples})

    @property
    def digest(self) -> str:
        """sha256 of all that decides the shard's bytes: a marker that carries it need not be done again."""
        rows = [(example.key, example.digest, example.labels) for example in self.examples]
        return hashlib.sha256(json.dumps([self.fingerprint, self.shard, self.max_pixels, rows]).encode()).hexdigest()


def cut_units(
    examples: Sequence[Example],
    class_names: Sequence[str],
    paths: Mapping[str, str],
    stored: Mapping[str, StoredAt],
    spec: FeatureSpec,
    examples_per_shard: int,
    max_pixels: int,
) -> list[WorkUnit]:
    """Cuts each split, ordered by content hash, into units of equal size.

    Args:
        examples: the dataset, divided.
        class_names: an example's label ids are indices into them.
        paths: key to the file to read.
        stored: content digest to where an older shard holds its feature.
        spec: what a feature is; it says how many views of an example there are in each split.
        examples_per_shard: the most examples a unit may have.
        max_pixels: larger images are refused, so it decides what a unit stores.
    """
    ids = {name: index for index, name in enumerate(class_names)}
    units = []
    for split, members in groupby(plan_order(examples), key=lambda example: example.split):
        views = spec.views_of(split)
        rows = [
            UnitExample(e.key, paths[e.key], e.digest, tuple(ids[label] for label in e.labels), _with_views(stored, e, views))
            for e in members
        ]
        count = -(-len(rows) // examples_per_shard)
        bounds = [len(rows) * shard // count for shard in range(count + 1)]
        for shard, (start, stop) in enumerate(pairwise(bounds)):
            name = f"{DATASET_NAME}-{split}.tfrecord-{shard:05}-of-{count:05}"
            units.append(WorkUnit(name, split, spec.fingerprint, tuple(rows[start:stop]), max_pixels, views))
    return units


def _with_views(stored: Mapping[str, StoredAt], example: Example, views: int) -> StoredAt | None:
    """Where a feature is stored, if as many views of it are as are needed: an image may move into the training split."""
    found = stored.get(example.digest)
    return found if found and found.views >= views else None


def stored_features(store: FeatureStore) -> dict[str, StoredAt]:
    """Content digest to the place of its feature in a store: all records of a shard have one length, so no shard is read."""
    places: dict[str, StoredAt] = {}
    for split in store.splits:
        digests, views = (example.digest for example in store.examples(split)), store.spec.views_of(split)
        for path, shard in store.manifest.shards(split):
            address = place.absolute(place.join(store.path, path))
            length = tfrecord.unframed_length(shard.record_bytes)
            for number, digest in zip(range(shard.examples), digests):
                if digest not in places or places[digest].views < views:
                    offset = number * views * shard.record_bytes + tfrecord.HEADER_BYTES
                    places[digest] = StoredAt(address, offset, length, views)
    return places


def generation_name(number: int, units: Sequence[WorkUnit], dataset_digest: str) -> str:
    """The name of the folder that an extraction writes into: its number, and a digest of all that it will hold."""
    plan = json.dumps([dataset_digest, *(unit.digest for unit in units)])
    return f"{number:04}-{hashlib.sha256(plan.encode()).hexdigest()[:12]}"
