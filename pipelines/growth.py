"""A store that grows: what it has stays where it is, and what is new becomes a generation beside it.

A small store is rather made anew: then it is, byte for byte, what it would be if it had been made at once.
"""

from __future__ import annotations

import numpy as np

from headstart.features.dataset.columns import Few
from headstart.features.dataset.examples import Examples
from headstart.features.dataset.sources import Source
from headstart.features.store.feature_store import FeatureStore
from headstart.pipelines.units.markers import may_be_stored_now

APPEND_FROM = 10_000  # stored examples, from which on they are not copied any more
MAX_SHARE = 0.5  # of what is stored: where more than that is new, all is made anew
MAX_GENERATIONS = 32  # then all are made one again


def added_rows(old: FeatureStore, examples: Examples, source: Source, max_pixels: int) -> np.ndarray | None:
    """Which examples a store lacks, bool [N], where it can keep all that it has as it is; else None.

    It can where the same examples are to have the same labels, splits and groups, where ids of classes, what parts labels and
    the limit of pixels stay what they are, and where nothing that could not be stored is to be tried again. A generation of no
    example, beside files that can't be read, is not made.
    """
    manifest = old.manifest
    row = examples.keys.where_in(old.table.keys)
    is_added = row < 0
    added = int(is_added.sum())
    grows = len(manifest.generations) > 1 or (added and manifest.totals.stored >= APPEND_FROM)
    if not grows or added > MAX_SHARE * manifest.totals.stored or len(manifest.generations) >= MAX_GENERATIONS:
        return None
    same = len(examples) - added == len(old.table) and _are_equal(examples.take(~is_added), old.table.take(row[~is_added]))
    same_ids = source.class_names[: len(manifest.class_names)] == manifest.class_names
    same_rules = (source.label_delimiter, max_pixels) == (manifest.label_delimiter, manifest.max_pixels)
    tried = any(map(may_be_stored_now, old.dead_letters))
    worth_it = added or len(source.images) == manifest.totals.planned
    return is_added if same and same_ids and same_rules and worth_it and not tried else None


def _are_equal(one: Examples, other: Examples) -> bool:
    """Whether two tables of as many rows are the same."""

    def is_equal(left: Few, right: Few) -> bool:
        codes = Few.joined([left, right]).codes
        return np.array_equal(codes[: len(left)], codes[len(left) :])

    alike = is_equal(one.labels, other.labels) and is_equal(one.splits, other.splits)
    return alike and np.array_equal(one.digests, other.digests) and one.groups.array.equals(other.groups.array)
