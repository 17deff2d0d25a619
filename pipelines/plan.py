"""Survey and plan: an input in, and out comes all that is known before the backbone runs, down to the work units."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headstart.features.backbones.backbone import Backbone, resolve_backbone
from headstart.features.backbones.source import BackboneSource
from headstart.features.dataset.dataset_table import CONFLICTS, count_lines, split_counts, thin_lines
from headstart.features.dataset.dead_letter import DeadLetter
from headstart.features.dataset.examples import Example, conflicts, dataset_digest
from headstart.features.dataset.record_inputs import is_record_input, record_input
from headstart.features.dataset.sources import Source, SourceOptions, read_source, source_of_records
from headstart.features.dataset.splits import Division, copies_across_splits, divide, groups_across_splits, parse_splits
from headstart.features.engines.options import EngineOptions, slow_dtype
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.features.runtime import configure_gpus
from headstart.features.spec import FeatureSpec, Tap, parse_image_size
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.manifest import MANIFEST, WORK_FOLDER, Generation
from headstart.pipelines.extract_config import ExtractConfig
from headstart.pipelines.growth import added_examples
from headstart.pipelines.intensity import dark_warning
from headstart.pipelines.markers import ShardMarker, markers_of
from headstart.pipelines.runner import beam_pipeline, translate_runner_errors
from headstart.pipelines.shard_job import ShardJob
from headstart.pipelines.survey import DIGESTS, Surveyed, survey, survey_records
from headstart.pipelines.work_unit import WorkUnit, cut_units, generation_name, stored_features


@dataclass(frozen=True)
class ExtractionPlan:
    """All that is known before the backbone runs.

    unread are files that could not be read at all; problems says, by the key, why a file will be a dead letter; done are the
    markers of the shards that earlier starts of this plan finished; old is the complete store that the new one takes the
    place of. Where that keeps all it has, kept are its generations, and added the examples of the new one. carried are dead
    letters of the older store that stay.
    """

    backbone: Backbone | None  # None where nothing is computed
    job: ShardJob
    examples: tuple[Example, ...]
    units: tuple[WorkUnit, ...]
    dataset_digest: str
    unread: tuple[DeadLetter, ...]
    division: Division
    groups_declared: bool
    left_out: dict[str, int]  # why -> files
    problems: dict[str, str]
    notes: tuple[str, ...]
    done: Mapping[str, ShardMarker] = dataclasses.field(default_factory=dict)
    old: FeatureStore | None = None
    kept: tuple[Generation, ...] = ()
    added: tuple[Example, ...] = ()
    carried: tuple[DeadLetter, ...] = ()

    @property
    def of_generation(self) -> tuple[Example, ...]:
        """The examples that the new generation is of."""
        return self.added if self.kept else self.examples

    @property
    def standing(self) -> int:
        """Images of the generations that are kept."""
        return len(self.examples) - len(self.of_generation)

    @property
    def planned(self) -> int:
        """Images found, readable or not."""
        return len(self.examples) + len(self.unread)

    @property
    def to_do(self) -> list[WorkUnit]:
        """The units that no earlier start finished."""
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
        """Images that go through the backbone, each view of an image being one."""
        return sum(unit.views * sum(example.stored_at is None for example in unit.examples) for unit in self.to_do)


def make_plan(config: ExtractConfig, token: str) -> ExtractionPlan:
    """Surveys an input, divides it, and cuts it into units; features that the store has already are not planned again.

    Args:
        config: what `headstart extract` takes.
        token: of the claim on the store.

    Raises:
        UserError: for anything wrong with the input or the configuration, and for a store of another spec or dataset.
    """
    engine = EngineOptions(config.engine, config.batch_size, config.streams)
    slow = slow_dtype(engine, config.compute_dtype)
    source, found = _source(config, token)
    old = FeatureStore.open(config.store) if place.entry(place.join(config.store, MANIFEST)) else None
    backbone = _backbone(config)
    spec = _spec(config, backbone)
    if old:
        old.check_spec(spec)
    paths = {image.key: place.absolute(image.path) for image in source.images}
    surveyed = found or _surveyed(config, paths, token)
    if old and not {example.digest for example in old.table} & {row.digest for row in surveyed.values()}:
        raise UserError(
            "other-dataset",
            f"--store {config.store!r} holds another dataset, with no image in common (from "
            f"{old.manifest.provenance.input}): give another --store, or delete it",
        )
    division, examples = _divided(config, source, surveyed, old)
    stored = stored_features(old) if old else {}
    added = added_examples(old, examples, source.class_names) if old else None
    new = examples if added is None else added
    units = cut_units(new, source.class_names, paths, stored, spec, config.examples_per_shard, config.max_pixels)
    fresh = [example.path for unit in units for example in unit.examples if example.stored_at is None]
    dark = dark_warning(fresh, config.max_pixels) if spec.intensity == "full" else ""
    max_dead = int(config.max_bad_fraction * len(source.images))
    number = old.manifest.number + 1 if old else 1
    digest = dataset_digest(examples, source.class_names)
    generation = generation_name(number, units, digest)
    store = place.absolute(config.store)
    job = ShardJob(spec, backbone.source, source.class_names, store, generation, token, engine, config.max_pixels, max_dead)
    return ExtractionPlan(
        backbone=backbone,
        job=job,
        examples=tuple(examples),
        units=tuple(units),
        dataset_digest=digest,
        unread=_unread(source, surveyed),
        division=division,
        groups_declared=source.has_groups,
        left_out={"outside_classes": source.left_out, "no_images": len(source.no_images)},
        problems={key: row.problem for key, row in surveyed.items() if row.problem},
        notes=(*filter(None, (slow, dark)), *_notes(source, examples, division)),
        done=markers_of(job, units),
        old=old,
        kept=old.manifest.generations if old and added is not None else (),
        added=tuple(added or ()),
        carried=tuple(old.dead_letters) if old and added is not None else (),
    )


def _source(config: ExtractConfig, token: str) -> tuple[Source, dict[str, Surveyed]]:
    """What the input holds; and, where it has to be read to know that, what the survey says of each image, by its key."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(SourceOptions)}
    options = SourceOptions(**values)
    if not is_record_input(config.input):
        return read_source(config.input, options), {}
    records = record_input(config.input, options)
    with translate_runner_errors(config.store):
        images = survey_records(records, _survey_folder(config, token), lambda: beam_pipeline(config.pipeline_options))
    rows = {each.key: Surveyed(each.path, each.size, 0, each.digest, each.problem) for each in images}
    return source_of_records(config.input, records, images, options), rows


def _survey_folder(config: ExtractConfig, token: str) -> str:
    return place.join(place.absolute(config.store), WORK_FOLDER, f"survey-{token}")


def _surveyed(config: ExtractConfig, paths: Mapping[str, str], token: str) -> dict[str, Surveyed]:
    """What the survey says of each file, by its key."""
    folder, cache = _survey_folder(config, token), place.join(config.store, DIGESTS)
    with translate_runner_errors(config.store):
        rows = survey(list(paths.values()), folder, cache, lambda: beam_pipeline(config.pipeline_options))
    return {key: rows[path] for key, path in paths.items()}


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
    config: ExtractConfig, source: Source, surveyed: Mapping[str, Surveyed], old: FeatureStore | None
) -> tuple[Division, list[Example]]:
    """The examples with their splits: ready-made, or the ones that the store has, or divided now."""
    examples = [
        Example(image.key, surveyed[image.key].digest, image.labels, image.split, image.group)
        for image in source.images
        if surveyed[image.key].digest
    ]
    if source.has_splits:
        _check_ready_made(config, examples)
        return Division(ready_made=True), examples
    division = Division(False, parse_splits(config.splits), config.split_seed, config.min_per_split)
    same = old is not None and old.manifest.division == division
    before = old.table if old and same else FeatureStore.open(config.splits_from).table if config.splits_from else ()
    kept = {example.digest: example.split for example in before}
    return division, divide(examples, division.splits, division.seed, kept, division.min_per_split)


def _check_ready_made(config: ExtractConfig, examples: Sequence[Example]) -> None:
    """Raises UserError when splits that came with the input are not to be used, or tear groups apart."""
    if config.splits_from:
        raise UserError("bad-flag", f"{config.input!r} comes with splits of its own: leave --splits_from out")
    across = groups_across_splits(examples)
    if across and not config.allow_group_overlap:
        name, splits = next(iter(across.items()))
        raise UserError(
            "bad-input",
            f"{len(across)} groups are in more than one split, such as {name!r} in {' and '.join(sorted(splits))}: "
            f"a score would be too good to be true. Fix the splits, or say --allow_group_overlap",
        )


def _unread(source: Source, surveyed: Mapping[str, Surveyed]) -> tuple[DeadLetter, ...]:
    return tuple(
        DeadLetter(image.key, "", image.labels[0], image.split, "read", surveyed[image.key].problem)
        for image in source.images
        if not surveyed[image.key].digest
    )


def _notes(source: Source, examples: Sequence[Example], division: Division) -> tuple[str, ...]:
    """What people should know of the dataset, a line each."""
    counts = split_counts(examples, source.class_names)
    splits = list(division.splits or dict.fromkeys(example.split for example in examples))
    notes = [*source.notes, *count_lines(counts, splits), *thin_lines(counts, splits, division.min_per_split)]
    if across := copies_across_splits(examples):
        notes.append(f"warning: {len(across)} identical files are in more than one split; scores will flatter")
    if overlapping := groups_across_splits(examples):
        notes.append(f"warning: {len(overlapping)} groups are in more than one split, as --allow_group_overlap lets them be")
    if conflicting := conflicts(examples):
        first = conflicting[0]
        second = next(other for other in conflicting if other.labels != first.labels)
        notes.append(
            f"warning: {len({example.digest for example in conflicting})} identical files carry different labels, such as "
            f"{first.key} ({first.labels[0]}) and {second.key} ({second.labels[0]}): all are in {CONFLICTS}"
        )
    return tuple(notes)


def is_done(store: FeatureStore, plan: ExtractionPlan) -> bool:
    """Whether a complete store is what the plan would make."""
    manifest = store.manifest
    if any(letter.stage == "read" and letter.digest for letter in store.dead_letters):
        return False  # it could be read once, and may be again
    same_dataset = manifest.dataset_digest == plan.dataset_digest
    stored = [shard.unit for split in manifest.splits for _, shard in manifest.shards(split)]
    same_units = not plan.units if plan.kept else stored == [unit.digest for unit in plan.units]
    return same_dataset and same_units and manifest.totals.planned == plan.planned


def check_problems(plan: ExtractionPlan) -> None:
    """Stops before anything is computed when the survey alone lost too much.

    Raises:
        UserError: when more files are known to be no images than the job may lose.
    """
    letters = [DeadLetter(key, "", "", "", "read", problem) for key, problem in sorted(plan.problems.items())]
    if reason := plan.job.too_many_dead(letters):
        raise UserError("too-many-unreadable", reason)
