"""Divided examples in, work units out. One unit is one shard, and nothing but contents decides what is in it."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from headstart.features.dataset.columns import Below, Columns, Digests, Few, Text
from headstart.features.dataset.examples import Examples
from headstart.features.spec import FeatureSpec
from headstart.features.store.feature_store import DATASET_NAME
from headstart.pipelines.units.stored_features import Stored, StoredAt, StoredFeatures, nothing_stored


class UnitExample(NamedTuple):
    """One image of a work unit: what to read, what to write beside its feature, and where to copy that from, if anywhere."""

    key: str
    path: str
    digest: str
    labels: tuple[int, ...]
    stored_at: StoredAt | None


class UnitExamples(Columns[UnitExample]):
    """A table of them."""

    row = UnitExample
    kinds = {"key": Text, "path": Text, "digest": Digests, "labels": Few, "stored_at": Stored}  # noqa: RUF012

    @property
    def to_copy(self) -> int:
        """How many have a feature in an older shard."""
        return int(np.count_nonzero(self.columns["stored_at"].shard >= 0))


@dataclass(frozen=True)
class WorkUnit:
    """What becomes one shard."""

    shard: str
    split: str
    fingerprint: str
    examples: UnitExamples
    max_pixels: int
    views: int = 1  # records of each example

    def to_json(self) -> dict[str, Any]:
        """The unit as plain JSON values. Names need not be UTF-8: escaped, they travel as they are."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, "examples": list(self.examples)}  # a tuple is written as a list

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> WorkUnit:
        """The inverse of to_json."""
        rows = (
            (key, path, digest, tuple(labels), StoredAt(*stored) if stored else None)
            for key, path, digest, labels, stored in values["examples"]
        )
        return cls(**{**values, "examples": UnitExamples.of_values(rows)})

    @functools.cached_property
    def digest(self) -> str:
        """sha256 of all that decides the shard's bytes: a marker that carries it need not be done again."""
        rows = [*zip(*(self.examples.columns[name].values() for name in ("key", "digest", "labels")))]
        return hashlib.sha256(json.dumps([self.fingerprint, self.shard, self.max_pixels, rows]).encode()).hexdigest()

    @property
    def to_compute(self) -> int:
        """Images that have to be read."""
        return len(self.examples) - self.examples.to_copy


def cut_units(
    examples: Examples,
    class_names: Sequence[str],
    paths: Text | Below,
    stored: StoredFeatures | None,
    spec: FeatureSpec,
    examples_per_shard: int,
    max_pixels: int,
) -> list[WorkUnit]:
    """Cuts each split into units of equal size.

    Args:
        examples: the dataset, divided, in the store's order.
        class_names: an example's label ids are indices into them.
        paths: the file to read of each.
        stored: where an older store holds features.
        spec: what a feature is; it says how many views of an example there are in each split.
        examples_per_shard: the most examples a unit may have.
        max_pixels: larger images are refused, so it decides what a unit stores.
    """
    ids, units, start = {name: index for index, name in enumerate(class_names)}, list[WorkUnit](), 0
    labels = Few(examples.labels.codes, tuple(tuple(ids.get(each, -1) for each in label) for label in examples.labels.names))
    for split, count in examples.splits.counts().items():
        views, shards = spec.views_of(split), -(-count // examples_per_shard)
        bounds = [start + count * shard // shards for shard in range(shards + 1)]
        for shard, (first, end) in enumerate(pairwise(bounds)):
            own = slice(first, end)
            digests = examples.digests[own]
            rows = UnitExamples(
                key=examples.keys.take(own),
                path=paths.take(own),
                digest=Digests(digests),
                labels=labels.take(own),
                stored_at=stored.of(digests, views) if stored else nothing_stored(end - first),
            )
            name = f"{DATASET_NAME}-{split}.tfrecord-{shard:05}-of-{shards:05}"
            units.append(WorkUnit(name, split, spec.fingerprint, rows, max_pixels, views))
        start += count
    return units


def generation_name(number: int, units: Sequence[WorkUnit], dataset_digest: str) -> str:
    """The name of the folder that an extraction writes into: its number, and a digest of all that it will hold."""
    plan = json.dumps([dataset_digest, *(unit.digest for unit in units)])
    return f"{number:04}-{hashlib.sha256(plan.encode()).hexdigest()[:12]}"
