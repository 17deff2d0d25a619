"""Survey and plan: an input in, and out comes all that is known before the backbone runs, down to the work units."""

from __future__ import annotations

import dataclasses
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headstart.features.backbones.backbone import Backbone, resolve_backbone
from headstart.features.backbones.source import BackboneSource
from headstart.features.dataset.dataset_table import CONFLICTS, count_lines, split_counts, thin_lines
from headstart.features.dataset.examples import Example, conflicts, dataset_digest
from headstart.features.dataset.sources import Source, SourceOptions, read_source
from headstart.features.dataset.splits import copies_across_splits, divide, groups_across_splits, parse_splits
from headstart.features.engines.base import Engine
from headstart.features.engines.factory import shared_engine
from headstart.features.engines.options import EngineOptions, slow_dtype
from headstart.features.engines.stream import ImageToRead, stream_features
from headstart.features.errors import UserError
from headstart.features.formatting import pace
from headstart.features.runtime import configure_gpus
from headstart.features.spec import FeatureSpec, Tap, parse_image_size
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.manifest import MANIFEST
from headstart.pipelines.extract_config import ExtractConfig
from headstart.pipelines.extract_shard import DeadLetter, ShardJob, is_finished, too_many_dead
from headstart.pipelines.finish import DIGESTS
from headstart.pipelines.intensity import dark_warning
from headstart.pipelines.run_units import beam_pipeline, translate_runner_errors
from headstart.pipelines.survey import Surveyed, survey
from headstart.pipelines.work_unit import WorkUnit, cut_units, stored_features

PASSES = 2  # of an estimate
LONG_PASS_S = 1.0  # an estimate that takes this long is not taken twice


@dataclass(frozen=True)
class ExtractionPlan:
    """All that is known before the backbone runs."""

    spec: FeatureSpec
    backbone: Backbone
    class_names: tuple[str, ...]
    examples: tuple[Example, ...]
    units: tuple[WorkUnit, ...]
    unread: tuple[DeadLetter, ...]
    dataset: dict[str, Any]
    problems: dict[str, str]  # key -> why it will be a dead letter
    notes: tuple[str, ...]
    engines: tuple[dict[str, Any], ...]  # what computed the features that the store has
    done: frozenset[str] = frozenset()  # the shards that an earlier run of this plan finished

    @property
    def planned(self) -> int:
        """Images found, readable or not."""
        return len(self.examples) + len(self.unread)

    @property
    def to_do(self) -> list[WorkUnit]:
        """The units that no earlier run finished."""
        return [unit for unit in self.units if unit.shard not in self.done]

    @property
    def to_compute(self) -> int:
        """Images that have to be read."""
        return sum(example.stored_at is None for unit in self.to_do for example in unit.examples)

    @property
    def to_copy(self) -> int:
        """Images whose features an older shard holds."""
        return sum(example.stored_at is not None for unit in self.to_do for example in unit.examples)

    @property
    def inferences(self) -> int:
        """Images that the backbone has to see, each view of an image being one."""
        return sum(unit.views * sum(example.stored_at is None for example in unit.examples) for unit in self.to_do)


def make_plan(config: ExtractConfig, work: str) -> ExtractionPlan:
    """Surveys an input, divides it, and cuts it into units; features that the store has already are not planned again.

    Raises:
        UserError: for anything wrong with the input or the configuration, and for a store of another spec or dataset.
    """
    slow = slow_dtype(_engine_options(config), config.compute_dtype)
    options = {field.name: getattr(config, field.name) for field in dataclasses.fields(SourceOptions)}
    source = read_source(config.input, SourceOptions(**options))
    old = FeatureStore.open(config.store) if os.path.exists(os.path.join(config.store, MANIFEST)) else None
    backbone = _backbone(config)
    spec = _spec(config, backbone)
    if old:
        FeatureStore.open(config.store, spec)  # refuses another spec, naming both values
    paths = {image.key: os.path.abspath(image.path) for image in source.images}
    with translate_runner_errors(work):
        cache = os.path.join(config.store, DIGESTS)
        rows = survey(list(paths.values()), work, cache, lambda: beam_pipeline(config.pipeline_options))
    surveyed = {key: rows[path] for key, path in paths.items()}
    if old and not {example.digest for example in old.table} & {row.digest for row in surveyed.values()}:
        raise UserError(
            f"--store {config.store!r} holds another dataset, with no image in common (from "
            f"{old.manifest['provenance']['input']}): give another --store, or delete it"
        )
    examples, dataset = _divided(config, source, surveyed, old)
    stored = stored_features(old) if old else {}
    units = cut_units(examples, source.class_names, paths, stored, spec, config.examples_per_shard, config.max_pixels)
    fresh = [example.path for unit in units for example in unit.examples if example.stored_at is None]
    dark = dark_warning(fresh, config.max_pixels) if spec.intensity == "full" else ""
    problems = {key: row.problem for key, row in surveyed.items() if row.problem}
    unread = _unread(source, surveyed)
    return ExtractionPlan(
        spec,
        backbone,
        source.class_names,
        tuple(examples),
        tuple(units),
        unread,
        dataset,
        problems,
        (*filter(None, (slow, dark)), *_notes(source, examples, dataset["division"])),
        tuple(old.manifest["provenance"]["engines"]) if old else (),
        frozenset(unit.shard for unit in units if is_finished(work, unit)),
    )


def _engine_options(config: ExtractConfig) -> EngineOptions:
    return EngineOptions(config.engine, config.batch_size, config.streams)


def _backbone(config: ExtractConfig) -> Backbone:
    configure_gpus()  # before the first network takes all of its memory
    return resolve_backbone(
        BackboneSource.parse(config.backbone, config.weights, config.unsafe),
        parse_image_size(config.image_size) if config.image_size else None,
        config.preprocessing,
        [Tap.parse(text) for text in config.taps or ("",)],
    )


def _spec(config: ExtractConfig, backbone: Backbone) -> FeatureSpec:
    return FeatureSpec(
        backbone.name,
        backbone.weights_digest,
        backbone.image_size,
        backbone.taps,
        backbone.preprocessing,
        config.resize_mode,
        config.interpolation,
        compute_dtype=config.compute_dtype,
        store_dtype=config.store_dtype,
        architecture=backbone.architecture,
        decode=config.decode,
        intensity=config.intensity,
        views=config.views,
        augmentation=config.augmentation,
    )


def _divided(
    config: ExtractConfig, source: Source, surveyed: dict[str, Surveyed], old: FeatureStore | None
) -> tuple[list[Example], dict[str, Any]]:
    """The examples with their splits: ready-made, or the ones that the store has, or divided now."""
    examples = [
        Example(image.key, surveyed[image.key].digest, image.labels, image.split, image.group)
        for image in source.images
        if surveyed[image.key].digest
    ]
    if source.has_splits:
        if config.splits_from:
            raise UserError(f"{config.input!r} comes with splits of its own: leave --splits_from out")
        division: dict[str, Any] = {"ready_made": True}
        across = groups_across_splits(examples)
        if across and not config.allow_group_overlap:
            name, splits = next(iter(across.items()))
            raise UserError(
                f"{len(across)} groups stand on two sides, such as {name!r} in {' and '.join(sorted(splits))}: "
                f"a score would be too good to be true. Mend the splits, or say --allow_group_overlap"
            )
    else:
        proportions, minimum = parse_splits(config.splits), config.min_per_split
        division = {"ready_made": False, "splits": proportions, "seed": config.split_seed, "min_per_split": minimum}
        same = old is not None and old.manifest["division"] == division
        before = old.table if old and same else FeatureStore.open(config.splits_from).table if config.splits_from else ()
        kept = {example.digest: example.split for example in before}
        examples = divide(examples, proportions, config.split_seed, kept, minimum)
    dataset = {
        "division": division,
        "groups_declared": source.has_groups,
        "max_pixels": config.max_pixels,
        "groups_across_splits": len(groups_across_splits(examples)),
        "copies_across_splits": len(copies_across_splits(examples)),
        "left_out": {"outside_classes": source.left_out, "no_images": len(source.no_images)},
    }
    return examples, dataset


def _unread(source: Source, surveyed: dict[str, Surveyed]) -> tuple[DeadLetter, ...]:
    return tuple(
        DeadLetter(image.key, "", image.labels[0], image.split, "read", surveyed[image.key].problem)
        for image in source.images
        if not surveyed[image.key].digest
    )


def _notes(source: Source, examples: Sequence[Example], division: Mapping[str, Any]) -> tuple[str, ...]:
    """What people should know of the dataset, a line each."""
    counts = split_counts(examples, source.class_names)
    splits = list(division.get("splits") or dict.fromkeys(example.split for example in examples))
    notes = [*source.notes, *count_lines(counts, splits), *thin_lines(counts, splits, division.get("min_per_split", 1))]
    if across := copies_across_splits(examples):
        notes.append(f"warning: {len(across)} identical files stand on two sides of the splits; scores will flatter")
    if overlapping := groups_across_splits(examples):
        notes.append(
            f"warning: {len(overlapping)} groups stand on two sides of the splits, as --allow_group_overlap lets them"
        )
    if torn := conflicts(examples):
        first, second = torn[0], next(other for other in torn if other.labels != torn[0].labels)
        notes.append(
            f"warning: {len({example.digest for example in torn})} identical files carry different labels, such as "
            f"{first.key} ({first.labels[0]}) and {second.key} ({second.labels[0]}): all are in {CONFLICTS}"
        )
    return tuple(notes)


def describe(plan: ExtractionPlan) -> list[str]:
    """The plan in lines, the last of which says how much is to be done."""
    per_split = Counter(unit.split for unit in plan.units)
    images = Counter({split: 0 for split in per_split})
    for unit in plan.units:
        images[unit.split] += len(unit.examples)
    height, width = plan.spec.image_size
    taps = ", ".join(f"{tap.name} {'x'.join(map(str, tap.shape))}" for tap in plan.spec.taps)
    names = ", ".join(plan.class_names[:10]) + (", ..." if len(plan.class_names) > 10 else "")
    size = plan.spec.bytes_per_example * sum(unit.views * len(unit.examples) for unit in plan.units)
    lines = [
        f"backbone  {plan.spec.backbone} at {height}x{width}, {taps}, {plan.spec.store_dtype}",
        f"classes   {len(plan.class_names)}: {names}",
    ]
    lines += [f"split     {split}: {images[split]:,} images in {shards} shards" for split, shards in per_split.items()]
    if plan.spec.views > 1:
        lines.append(f"views     {plan.spec.views} of each training image, augmented ({plan.spec.augmentation.policy})")
    if plan.problems:
        lines.append(f"unread    {len(plan.problems)} files will be dead letters")
    done = len(plan.examples) - plan.to_compute - plan.to_copy
    computed = f"{f'{done:,} done already, ' if done else ''}{plan.to_compute:,} to compute, {plan.to_copy:,} to copy"
    return [
        *lines,
        f"extract: {plan.planned:,} images ({computed}), {len(plan.units)} shards, {size / 1e6:,.1f} MB of features",
    ]


def estimate(plan: ExtractionPlan, job: ShardJob, share: float = 1.0) -> str:
    """The engine, and the time to go from all of reading, decoding, resizing and the backbone on a few of the images.

    Args:
        plan: what is to be done.
        job: how.
        share: the most of the whole job that the estimate may cost; where it would cost more, the time is left out.
    """
    fresh = [ImageToRead(e.path) for unit in plan.to_do for e in unit.examples if e.stored_at is None]
    if not fresh:
        return "time      that of copying" if plan.to_do else "time      none: every shard is done already"
    engine = shared_engine(plan.spec, job.backbone_source, job.engine)
    few = fresh[: engine.streams * engine.batch_size]  # a batch for each stream
    kind = f"{engine.name} in {plan.spec.compute_dtype}, batches of {engine.batch_size}, {engine.streams} streams"
    if PASSES * len(few) > share * len(fresh):
        return f"engine    {kind}"
    rate = _rate(engine, plan.spec, few, job.max_pixels)
    return f"engine    {kind}\ntime      about {plan.inferences / rate:,.0f} s at {pace(rate, 'images')} here"


def _rate(engine: Engine, spec: FeatureSpec, images: Sequence[ImageToRead], max_pixels: int) -> float:
    """Images a second from files to features; the first pass warms up, and is what counts where it is long."""
    for _ in range(PASSES):
        started = time.monotonic()
        for _ in stream_features(images, spec, engine, max_pixels):
            pass
        if (passed := time.monotonic() - started) >= LONG_PASS_S:
            break
    return len(images) / max(passed, 1e-9)


def is_done(store: str, plan: ExtractionPlan) -> bool:
    """Whether a complete store is what the plan would make."""
    if not os.path.exists(os.path.join(store, MANIFEST)):
        return False
    manifest = FeatureStore.open(store).manifest
    done = [shard["unit"] for split in manifest["splits"].values() for shard in split["shards"]]
    if any(letter["stage"] == "read" and letter["digest"] for letter in FeatureStore.open(store).dead_letters):
        return False  # it could be read once, and may be again
    same_dataset = manifest["dataset_digest"] == dataset_digest(plan.examples, plan.class_names)
    return same_dataset and done == [unit.digest for unit in plan.units] and manifest["totals"]["planned"] == plan.planned


def shard_job(config: ExtractConfig, plan: ExtractionPlan, work: str) -> ShardJob:
    """What the plan's units share.

    Raises:
        UserError: when more files are known to be no images than the job may lose, before anything is computed.
    """
    max_dead = int(config.max_bad_fraction * plan.planned)
    if len(plan.problems) > max_dead:
        letters = [{"key": key, "stage": "read", "reason": reason} for key, reason in sorted(plan.problems.items())]
        raise UserError(too_many_dead(letters, max_dead))
    return ShardJob(
        plan.spec,
        plan.backbone.source,
        plan.class_names,
        os.path.abspath(work),
        _engine_options(config),
        config.max_pixels,
        max_dead,
    )


def remove_stale_outputs(work: str, plan: ExtractionPlan) -> None:
    """Removes all but the plan's finished shards: those of another plan would stand beside the new ones, or count for them."""
    belongs = {name for shard in plan.done for name in (shard, f"{shard}.json")}
    for name in set(os.listdir(work)) - belongs:
        os.remove(os.path.join(work, name))
