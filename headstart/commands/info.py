"""headstart info: what a store holds, for eyes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart.commands.outcome import Outcome
from headstart.commands.runner import never, run_command
from headstart.features.config import check_fields, positional
from headstart.features.formatting import counted, human_bytes
from headstart.features.spec import DTYPE_BYTES, Tap

if TYPE_CHECKING:
    from headstart.features.augmentation import Augmentation
    from headstart.features.store.feature_store import FeatureStore
    from headstart.features.store.manifest import Manifest, Totals

DEAD_LETTERS_SHOWN = 10


@dataclass(frozen=True)
class InfoConfig:
    """Tells what a feature store holds."""

    store: str = positional("the folder of a feature store", metavar="STORE")

    def __post_init__(self) -> None:
        check_fields(self)


def lines_of(store: FeatureStore) -> list[str]:
    """Spec, splits, classes, groups, counts, bytes and dead letters, as lines."""
    spec, manifest = store.spec, store.manifest
    height, width = spec.image_size
    lines = [
        f"store      {store.path}",
        f"spec       {spec.fingerprint[:12]}: {spec.backbone} at {height}x{width}, weights {spec.weights_digest[:12]}, "
        f"architecture {spec.architecture[:12]}",
        f"pixels     {spec.decode} decoding, {spec.resize_mode}, {spec.interpolation}; preprocessing {spec.preprocessing}",
        *([f"views      {spec.views} of each training image: {_policy(spec.augmentation)}"] if spec.views > 1 else []),
        *(f"tap        {_tap(tap, spec.store_dtype)}" for tap in spec.taps),
        f"computed   in {spec.compute_dtype} by {'; '.join(map(_engine, manifest.provenance.engines))}",
        f"dataset    {manifest.dataset_digest[:12]}: {_division(manifest)}",
        f"overlap    {manifest.copies_across_splits} contents and {manifest.groups_across_splits} groups in several splits",
    ]
    for name, count in manifest.splits.items():
        examples, shards = store.examples(name), [shard for _, shard in manifest.shards(name)]
        groups = f", {counted(len({e.group for e in examples}), 'group')}" if manifest.groups_declared else ""
        size = human_bytes(sum(shard.bytes for shard in shards))
        lines.append(f"split      {name}: {counted(count, 'example')} in {counted(len(shards), 'shard')}, {size}{groups}")
    return [*lines, *_classes(store), _total(manifest.totals), *_dead(store)]


def _classes(store: FeatureStore) -> list[str]:
    """How many images of each class each split holds, and where they are too few."""
    from headstart.features.dataset.dataset_table import count_lines, label_lines, split_counts, thin_lines

    division = store.manifest.division
    splits = list(division.splits or store.splits)
    stored = store.dataset_table.stored
    counts = split_counts(stored, store.class_names)
    return [
        *(label_lines(stored) if store.label_delimiter else []),
        *count_lines(counts, splits),
        *thin_lines(counts, splits, division.min_per_split),
    ]


def _total(totals: Totals) -> str:
    left_out = f"; {totals.left_out:,} of {totals.found:,} files left out" if totals.left_out else ""
    return f"total      {totals.stored:,} stored + {totals.dead:,} dead = {totals.planned:,} planned{left_out}"


def _dead(store: FeatureStore) -> Iterator[str]:
    for kind, counts in (("class", store.manifest.dead_by_class), ("split", store.manifest.dead_by_split)):
        for name, count in counts.items():
            yield f"dead       {kind} {name or '(none)'}: {count}"
    for letter in store.dead_letters[:DEAD_LETTERS_SHOWN]:
        yield f"dead       {letter.key}: {letter.stage}: {letter.reason}"
    if (more := len(store.dead_letters) - DEAD_LETTERS_SHOWN) > 0:
        yield f"dead       and {more} more in dead_letters.jsonl"


def _tap(tap: Tap, store_dtype: str) -> str:
    size = human_bytes(tap.size * DTYPE_BYTES[store_dtype])
    return f"{tap.name} {'x'.join(map(str, tap.shape))} {store_dtype}, {size} an image, depth {tap.depth:.0%}"


def _policy(augmentation: Augmentation) -> str:
    off = f" without {', '.join(augmentation.without)}" if augmentation.without else ""
    return f"{augmentation.policy}{off}, seed {augmentation.seed}"


def _engine(engine: dict[str, object]) -> str:
    return f"{engine['name']}, batches of {engine['batch_size']}, {engine['streams']} streams, on {engine['processor']}"


def _division(manifest: Manifest) -> str:
    division = manifest.division
    groups = "groups declared" if manifest.groups_declared else "groups not declared"
    return f"splits {'ready-made' if division.ready_made else _proportions(division.splits)}, {groups}"


def _proportions(splits: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:g}" for name, share in splits.items())


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status."""
    return run_command("headstart info", InfoConfig, argv, _info, needs_tensorflow=never)


def _info(config: InfoConfig) -> Outcome:
    from headstart.features.store.feature_store import FeatureStore

    store = FeatureStore.open(config.store)
    return Outcome("\n".join(lines_of(store)), summary(store))


def summary(store: FeatureStore) -> dict[str, Any]:
    """A store for programs."""
    manifest = store.manifest
    return {
        "store": store.path,
        "spec": store.spec,
        "fingerprint": store.spec.fingerprint,
        "class_names": store.class_names,
        "label_delimiter": store.label_delimiter,
        "splits": manifest.splits,
        "totals": manifest.totals,
        "dead_by_class": manifest.dead_by_class,
        "dead_by_split": manifest.dead_by_split,
        "groups_declared": manifest.groups_declared,
        "copies_across_splits": manifest.copies_across_splits,
        "groups_across_splits": manifest.groups_across_splits,
        "dataset_digest": manifest.dataset_digest,
        "generations": len(manifest.generations),
    }
