"""Survey and plan: an input in, and out comes all that is known before the backbone runs, down to the work units."""

from __future__ import annotations

import dataclasses

import numpy as np

from headstart.features.backbones.backbone import Backbone, resolve_backbone
from headstart.features.backbones.source import BackboneSource
from headstart.features.dataset.columns import Below, Text
from headstart.features.dataset.dead_letter import DeadLetter
from headstart.features.dataset.dividing import divide
from headstart.features.dataset.examples import Examples, dataset_digest, groups_across_splits, plan_order
from headstart.features.dataset.record_inputs import is_record_input, record_input
from headstart.features.dataset.sources import Source, SourceOptions, read_source, source_of_records
from headstart.features.dataset.splits import Division, parse_splits
from headstart.features.dataset.uniting import united, unites
from headstart.features.engines.options import EngineOptions, slow_dtype
from headstart.features.engines.quantized import digest_of
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.features.spec import FeatureSpec, Tap, parse_image_size
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.manifest import MANIFEST, WORK_FOLDER
from headstart.pipelines.dataset_notes import dataset_notes
from headstart.pipelines.extract_config import ExtractConfig, check_ready_made
from headstart.pipelines.extraction_plan import ExtractionPlan
from headstart.pipelines.growth import added_rows
from headstart.pipelines.intensity import dark_warning
from headstart.pipelines.quantizing import quantized_network
from headstart.pipelines.shard_job import ShardJob
from headstart.pipelines.survey import CACHE, Survey, Surveyed, problems, survey, survey_listing, survey_records, unread
from headstart.pipelines.units.markers import markers_of, may_be_stored_now
from headstart.pipelines.units.runner import beam_pipeline, translate_runner_errors
from headstart.pipelines.units.stored_features import StoredFeatures
from headstart.pipelines.units.work_unit import cut_units, generation_name


def make_plan(config: ExtractConfig, token: str) -> ExtractionPlan:
    """Surveys an input, divides it, and cuts it into units; features that the store has already are not planned again.

    Args:
        config: what `headstart extract` takes.
        token: of the claim on the store.

    Raises:
        UserError: for anything wrong with the input or the configuration, and for a store of another spec or dataset.
    """
    slow_dtype(_engine(config), config.compute_dtype)  # refuses what can't be, before anything is read
    source, found = _source(config, token)
    old = FeatureStore.open(config.store) if place.entry(place.join(config.store, MANIFEST)) else None
    backbone = _backbone(config)
    if old:
        old.spec.check_same(_spec(config, backbone, old.spec.quantized), old.path)
    surveyed = _surveyed(config, source.images.paths, token) if found is None else found
    if unites(config.input, source):
        source, rows = united(source, surveyed.columns["digest"])
        surveyed = surveyed.take(rows)
    return plan_of(config, token, source, surveyed, backbone, old)


def plan_of(
    config: ExtractConfig, token: str, source: Source, surveyed: Survey, backbone: Backbone, old: FeatureStore | None
) -> ExtractionPlan:
    """Divides what was surveyed, and cuts it into units.

    Args:
        config: what `headstart extract` takes.
        token: of the claim on the store.
        source: what the input holds.
        surveyed: what is known of each of its images.
        backbone: for the features.
        old: the store that is there already, of the same spec.

    Raises:
        UserError: for splits that can't be had, and for a store of another dataset.
    """
    engine, paths = _engine(config), source.images.paths
    if old:
        _check_dataset(old, surveyed, config.store)
    division, divided = _divided(config, source, surveyed, old)
    order = plan_order(divided)
    examples, paths = divided.take(order), paths.take(surveyed.is_readable).take(order)
    asked = _spec(config, backbone)
    network, of_network = quantized_network(backbone, asked, old, examples, paths, config.max_pixels)
    spec = dataclasses.replace(asked, quantized=digest_of(network))
    is_added = added_rows(old, examples, source, config.max_pixels) if old else None
    new, of_new = (examples, paths) if is_added is None else (examples.take(is_added), paths.take(is_added))
    stored = StoredFeatures.in_store(old) if old else None
    units = cut_units(new, source.class_names, of_new, stored, spec, config.examples_per_shard, config.max_pixels)
    fresh = (example.path for unit in units for example in unit.examples if example.stored_at is None)
    dark = dark_warning(fresh, config.max_pixels) if spec.intensity == "full" else ""
    max_dead = int(config.max_bad_fraction * len(source.images))
    number = old.manifest.number + 1 if old else 1
    digest = dataset_digest(examples, source.class_names, source.is_several)
    generation = generation_name(number, units, digest)
    job = ShardJob(
        spec, backbone.source, source.class_names, place.absolute(config.store), generation, token, engine,
        config.max_pixels, max_dead, source.label_delimiter,
    )  # fmt: skip
    grown = old if is_added is not None else None
    warnings = slow_dtype(engine, spec.compute_dtype), _no_map(config, backbone), dark, of_network
    return ExtractionPlan(
        backbone=backbone,
        job=job,
        examples=examples,
        units=tuple(units),
        dataset_digest=digest,
        unread=unread(source.images, surveyed, source.label_delimiter),
        division=division,
        groups_declared=source.has_groups,
        left_out=source.reasons,
        problems=problems(source.images, surveyed),
        notes=(*filter(None, warnings), *dataset_notes(source, examples, division)),
        done=markers_of(job, units),
        old=old,
        kept=grown.manifest.generations if grown else (),
        added=new if grown else Examples.of(()),
        carried=tuple(grown.dead_letters) if grown else (),
        quantized=network,
    )


def _source(config: ExtractConfig, token: str) -> tuple[Source, Survey | None]:
    """What the input holds; and, where it has to be read to know that, what the survey says of each image."""
    values = {each.name: getattr(config, each.name) for each in dataclasses.fields(SourceOptions)}
    options = SourceOptions(**values)
    if not is_record_input(config.input):
        return read_source(config.input, options), None
    records = record_input(config.input, options)
    with translate_runner_errors(config.store):
        images = survey_records(records, _survey_folder(config, token), lambda: beam_pipeline(config.pipeline_options))
    rows = Survey.of(Surveyed(each.path, each.size, 0, each.digest, each.problem) for each in images)
    return source_of_records(config.input, records, images, options), rows


def _survey_folder(config: ExtractConfig, token: str) -> str:
    return place.join(place.absolute(config.store), WORK_FOLDER, f"survey-{token}")


def _surveyed(config: ExtractConfig, paths: Text | Below, token: str) -> Survey:
    """What the survey says of each file."""
    if config.identity == "listing":
        return survey_listing(paths)
    folder, cache = _survey_folder(config, token), place.join(config.store, CACHE)
    with translate_runner_errors(config.store):
        return survey(paths, folder, cache, lambda: beam_pipeline(config.pipeline_options))


def _backbone(config: ExtractConfig) -> Backbone:
    return resolve_backbone(
        BackboneSource.parse(config.backbone, config.weights, config.unsafe),
        parse_image_size(config.image_size) if config.image_size else None,
        config.preprocessing,
        [Tap.parse(text) for text in config.taps or ("",)],
    )


def _check_dataset(old: FeatureStore, surveyed: Survey, store: str) -> None:
    """Raises UserError when none of the images is in the store that is there already."""
    if not np.isin(old.table.digests, surveyed.columns["digest"].array).any():
        raise UserError(
            "other-dataset",
            f"--store {store!r} holds another dataset, with no image in common (from "
            f"{old.manifest.provenance.input}, or by another --identity): give another --store, or delete it",
        )


def _no_map(config: ExtractConfig, backbone: Backbone) -> str:
    """A warning, or '', where nothing was said of a tap and the network gives no feature map."""
    tap = backbone.taps[0]
    if config.taps or len(tap.shape) > 1 or tap.pool != "none":
        return ""
    return (
        f"warning: {backbone.name} gives no feature map, so its output {tap.layer!r} is stored, {tap.size:,} numbers: poor "
        f"features if these are a classifier's probabilities. Save it with its maps as outputs, and name one by --tap"
    )


def _engine(config: ExtractConfig) -> EngineOptions:
    return EngineOptions(config.engine, config.batch_size, config.streams)


def _spec(config: ExtractConfig, backbone: Backbone, quantized: str = "") -> FeatureSpec:
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
        quantized=quantized,
    )


def _divided(config: ExtractConfig, source: Source, surveyed: Survey, old: FeatureStore | None) -> tuple[Division, Examples]:
    """The examples with their splits: ready-made, or the ones that the store has, or divided now."""
    images = source.images.columns
    table = Examples(**{name: images.get(name, surveyed.columns["digest"]) for name in Examples.kinds})
    examples = table.take(surveyed.is_readable)
    if source.has_splits:
        _check_ready_made(config, examples)
        return Division(ready_made=True), examples
    division = Division(False, parse_splits(config.splits), config.split_seed, config.min_per_split)
    same = old is not None and old.manifest.division == division
    own = old.table if old and same else ()
    others = FeatureStore.open(config.splits_from).table if config.splits_from else ()
    return division, divide(
        examples, division.splits, division.seed, own, division.min_per_split, source.is_several, kept_elsewhere=others
    )


def _check_ready_made(config: ExtractConfig, examples: Examples) -> None:
    """Raises UserError when splits that came with the input are not to be used, or tear groups apart."""
    check_ready_made(config)
    across = groups_across_splits(examples)
    if across and not config.allow_group_overlap:
        name, splits = next(iter(across.items()))
        raise UserError(
            "bad-input",
            f"{len(across)} groups are in more than one split, such as {name!r} in {' and '.join(sorted(splits))}: "
            f"a score would be too good to be true. Fix the splits, or say --allow_group_overlap",
        )


def is_done(store: FeatureStore, plan: ExtractionPlan) -> bool:
    """Whether a complete store is what the plan would make."""
    manifest = store.manifest
    if any(letter.digest and may_be_stored_now(letter) for letter in store.dead_letters):
        return False  # it was there when it was surveyed
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
