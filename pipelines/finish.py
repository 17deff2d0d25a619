"""From finished shards to a complete store: tables, sample, TFDS metadata, and the manifest, which names all of it."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import os
import platform
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

from headstart.features import files
from headstart.features.backbones.backbone import Backbone
from headstart.features.backbones.kept import NETWORK
from headstart.features.backbones.keras_file import save_model
from headstart.features.dataset.dataset_table import CONFLICTS, DEAD_LETTERS, TABLE
from headstart.features.dataset.dead_letter import DeadLetter, by_class, to_json_lines
from headstart.features.dataset.examples import Examples, conflicts, copies_across_splits, csv_parts, groups_across_splits
from headstart.features.engines.quantized import QUANTIZED
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.features.places.claim import check_claim
from headstart.features.places.identity import read_same
from headstart.features.runtime import keras_backend
from headstart.features.store.manifest import (
    GENERATIONS,
    Generation,
    Manifest,
    Provenance,
    ShardEntry,
    SplitEntry,
    Totals,
    write_manifest,
)
from headstart.features.store.sample import SAMPLE, SampleImage, write_sample
from headstart.features.store.store_files import BACKBONE, SPEC
from headstart.pipelines.extraction_plan import ExtractionPlan
from headstart.pipelines.tfds_metadata import tfds_metadata
from headstart.pipelines.units.markers import ShardMarker, read_marker
from headstart.pipelines.units.work_unit import WorkUnit


def finish(plan: ExtractionPlan, provenance: Provenance, backbone: dict[str, str]) -> list[ShardMarker]:
    """Writes all that stands beside the shards, and the manifest last: with it, the store is what the plan says.

    Args:
        plan: whose units are all done.
        provenance: where from, with which versions, and with which engines what is copied was computed.
        backbone: the name and digest of the network beside the shards.

    Returns:
        What became of each unit.

    Raises:
        UserError: when more images were lost than may, or the claim is another's.
        AssertionError: when a unit has no marker.
    """
    job, spec, class_names = plan.job, plan.job.spec, plan.job.class_names
    found = place.at_once(lambda unit: plan.done.get(unit.shard) or read_marker(job.work, unit), plan.units, job.work)
    markers = list(filter(None, found))
    if len(markers) < len(plan.units):
        raise AssertionError(f"{len(plan.units) - len(markers)} of {len(plan.units)} units ended without a marker")
    new = [*plan.unread, *(letter for marker in markers for letter in marker.dead_letters)]
    letters = [*plan.carried, *new]
    if reason := plan.job.too_many_dead(letters):
        raise UserError("too-many-unreadable", reason)
    splits = _splits(markers)
    written = _write_files(plan, splits, new if plan.kept else letters)
    generations = (*plan.kept, Generation(f"{GENERATIONS}/{job.generation}", splits, {**written, **backbone}))
    manifest = Manifest(
        fingerprint=spec.fingerprint,
        dataset_digest=plan.dataset_digest,
        class_names=class_names,
        generations=generations,
        totals=_totals(plan, generations, len(letters)),
        dead_by_class=dict(sorted(by_class(letters, job.label_delimiter).items())),
        dead_by_split=dict(sorted(Counter(letter.split for letter in letters).items())),
        division=plan.division,
        groups_declared=plan.groups_declared,
        max_pixels=plan.job.max_pixels,
        groups_across_splits=len(groups_across_splits(plan.examples)),
        copies_across_splits=len(copies_across_splits(plan.examples)),
        left_out=plan.left_out,
        provenance=replace(provenance, engines=_engines(provenance.engines, markers)),
        label_delimiter=job.label_delimiter,
    )
    check_claim(job.store, job.token)
    write_manifest(job.store, manifest)
    return markers


def _totals(plan: ExtractionPlan, generations: Sequence[Generation], dead: int) -> Totals:
    stored = sum(split.examples for generation in generations for split in generation.splits.values())
    left_out = sum(plan.left_out.values())
    if stored + dead != plan.planned:
        raise AssertionError(f"{stored} stored + {dead} dead is not {plan.planned} planned")
    return Totals(plan.planned + left_out, left_out, plan.planned, stored, dead)


def _write_files(plan: ExtractionPlan, splits: Mapping[str, SplitEntry], letters: Sequence[DeadLetter]) -> dict[str, str]:
    """Writes the files beside the shards; their names and digests."""
    contents = {
        SPEC: files.json_bytes(plan.job.spec.to_json()),
        DEAD_LETTERS: to_json_lines(letters),
        **_conflicts(plan.examples),
    }
    if not plan.kept:  # else the first generation has one
        contents[SAMPLE] = _sample(plan, {letter.key for letter in letters})
        contents |= {QUANTIZED: plan.quantized} if plan.quantized else {}
    with place.scratch(plan.job.work) as folder:
        contents |= tfds_metadata(plan.job.spec, plan.job.class_names, splits, folder)
    folder = plan.job.folder
    place.at_once(lambda name: place.write(place.join(folder, name), contents[name]), contents, folder)
    table = hashlib.sha256()
    with place.creating(place.join(folder, TABLE)) as file:
        for part in csv_parts(plan.of_generation):
            file.write(part)
            table.update(part)
    return {TABLE: table.hexdigest(), **{name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}}


def _sample(plan: ExtractionPlan, dead: set[str]) -> bytes:
    """The sample's file: the older store's where no image is read, else a new one."""
    if plan.backbone is None and plan.old:
        return place.read(place.join(plan.old.path, plan.old.manifest.path_of(SAMPLE)))
    sample = io.BytesIO()
    write_sample(sample, _sampled(plan.units, dead))
    return sample.getvalue()


def _conflicts(examples: Examples) -> dict[str, bytes]:
    """The table of the examples of one content with several labels, key,digest,label; nothing where there are none."""
    if not (conflicting := conflicts(examples)):
        return {}
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("key", "digest", "label"))
    writer.writerows((example.key, example.digest, label) for example in conflicting for label in example.labels)
    return {CONFLICTS: text.getvalue().encode("utf-8", "surrogateescape")}


def save_backbone(plan: ExtractionPlan) -> dict[str, str]:
    """Keeps the backbone beside the shards, so that what trains on the store needs nothing else; its name and digest."""
    path = place.join(plan.job.folder, BACKBONE)
    if plan.kept:  # it stands beside older shards
        return {}
    if plan.old:
        older = plan.old.manifest.path_of(BACKBONE)
        place.copy(place.join(plan.old.path, older), path)
        return {BACKBONE: plan.old.manifest.digests[older]}
    if plan.backbone is None:
        raise AssertionError("a store that is made from nothing has a network")
    with place.scratch(plan.job.work) as folder:
        saved = _network_file(plan.backbone, folder)
        with open(saved, "rb") as source, place.creating(path) as target:
            shutil.copyfileobj(source, target)
        return {BACKBONE: files.sha256_file(saved)}


def _network_file(backbone: Backbone, folder: str) -> str:
    """The path of the network's `.keras` file: the one that is kept on this machine, or a new one in a folder."""
    kept = backbone.kept
    if kept and (path := kept.find(NETWORK)):
        return path
    saved = os.path.join(folder, NETWORK)
    save_model(backbone.base, saved)
    if kept:
        with open(saved, "rb") as source:
            kept.keep(NETWORK, source)
    return saved


def versions() -> dict[str, str]:
    """What a feature's last bits may depend on."""
    packages = {name: metadata.version(name) for name in ("keras", "numpy", "pillow", "scipy", "apache-beam")}
    with contextlib.suppress(metadata.PackageNotFoundError):
        packages["openvino"] = metadata.version("openvino")
    packages["keras backend"] = keras_backend()
    return {**packages, "tensorflow": _tensorflow(), "python": platform.python_version(), "machine": platform.machine()}


def _tensorflow() -> str:
    """TensorFlow's version; it is loaded for that only where a package of another name brings it."""
    try:
        return metadata.version("tensorflow")
    except metadata.PackageNotFoundError:
        import tensorflow as tf

        return str(tf.__version__)


def _splits(markers: Sequence[ShardMarker]) -> dict[str, SplitEntry]:
    shards: dict[str, list[ShardEntry]] = {}
    for marker in markers:
        shards.setdefault(marker.split, []).append(marker.shard)
    return {
        split: SplitEntry(sum(shard.examples for shard in found), sum(shard.bytes for shard in found), tuple(found))
        for split, found in shards.items()
    }


def _engines(older: Sequence[dict[str, Any]], markers: Sequence[ShardMarker]) -> tuple[dict[str, Any], ...]:
    """What computed the features: each engine once."""
    found = [*older, *(marker.engine for marker in markers if marker.engine)]
    return tuple(engine for number, engine in enumerate(found) if engine not in found[:number])


def _sampled(units: Sequence[WorkUnit], dead: set[str]) -> Iterator[SampleImage]:
    """The images of the training split, encoded as they came, in the store's order, which is random: by a hash."""
    training = (example for unit in units if unit.split == "train" for example in unit.examples if example.key not in dead)
    for example in training:
        try:
            encoded = read_same(example.path, example.digest)
        except (OSError, UserError):
            continue
        if encoded is not None:  # else it has changed since: another one will do
            yield SampleImage(example.key, example.digest, example.labels, encoded)
