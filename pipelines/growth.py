"""A store that grows: what it has stays where it is, and what is new becomes a generation beside it.

A small store is rather made anew: then it is, byte for byte, what it would be if it had been made at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from headstart.features.dataset.examples import Example
from headstart.features.store.feature_store import FeatureStore

APPEND_FROM = 10_000  # stored examples, from which on they are not copied any more
MAX_SHARE = 0.5  # of what is stored: where more than that is new, all is made anew
MAX_GENERATIONS = 32  # then all are made one again


def added_examples(old: FeatureStore, examples: Sequence[Example], class_names: Sequence[str]) -> list[Example] | None:
    """The examples that a store lacks, where it can keep all that it has as it is; else None.

    It can where the same examples are to have the same labels, splits and groups, where ids of classes stay what they are, and
    where nothing that could not be read is to be tried again.
    """
    manifest, held = old.manifest, {example.key: example for example in old.table}
    wanted = {example.key: example for example in examples}
    added = [example for example in examples if example.key not in held]
    grows = len(manifest.generations) > 1 or (added and manifest.totals.stored >= APPEND_FROM)
    if not grows or len(added) > MAX_SHARE * manifest.totals.stored or len(manifest.generations) >= MAX_GENERATIONS:
        return None
    same = all(wanted.get(key) == example for key, example in held.items())
    same_ids = tuple(class_names[: len(manifest.class_names)]) == manifest.class_names
    tried = any(letter.stage == "read" for letter in old.dead_letters)
    return added if same and same_ids and not tried else None
