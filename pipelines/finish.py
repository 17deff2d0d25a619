"""From finished shards to a complete store in STORE/.partial: tables, sample, TFDS metadata, and the manifest."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import os
import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

import numpy as np

from headstart.features import files
from headstart.features.backbones.backbone import Backbone
from headstart.features.backbones.keras_file import save_model
from headstart.features.dataset.dataset_table import CONFLICTS, DEAD_LETTERS, TABLE
from headstart.features.dataset.dead_letter import DeadLetter, to_json_lines
from headstart.features.dataset.examples import Example, conflicts, dataset_digest, plan_order, to_csv
from headstart.features.dataset.splits import copies_across_splits, groups_across_splits
from headstart.features.errors import UserError
from headstart.features.spec import FeatureSpec
from headstart.features.store import record
from headstart.features.store.feature_store import DATASET_NAME
from headstart.features.store.manifest import Manifest, Provenance, ShardEntry, SplitEntry, Totals, write_manifest
from headstart.features.store.sample import SAMPLE, SampleImage, write_sample
from headstart.features.store.store_files import BACKBONE, SPEC
from headstart.pipelines.markers import ShardMarker, read_marker
from headstart.pipelines.plan import ExtractionPlan
from headstart.pipelines.work_unit import WorkUnit

TFDS_INFO = ("features.json", "dataset_info.json")


def finish(plan: ExtractionPlan, provenance: Provenance) -> None:
    """Writes all that stands beside the shards, the manifest last.

    Args:
        plan: whose units are all done.
        provenance: where from, with which versions, and with which engines what is copied was computed.

    Raises:
        UserError: when more images were lost than may.
        AssertionError: when a unit has no marker.
    """
    folder, spec, class_names = plan.job.folder, plan.job.spec, plan.job.class_names
    markers = [marker for unit in plan.units if (marker := read_marker(folder, unit))]
    if len(markers) < len(plan.units):
        raise AssertionError(f"{len(plan.units) - len(markers)} of {len(plan.units)} units ended without a marker")
    letters = [*plan.unread, *(letter for marker in markers for letter in marker.dead_letters)]
    if reason := plan.job.too_many_dead(letters):
        raise UserError("too-many-unreadable", reason)
    splits = _splits(markers)
    manifest = Manifest(
        fingerprint=spec.fingerprint,
        dataset_digest=dataset_digest(plan.examples, class_names),
        class_names=class_names,
        splits=splits,
        totals=_totals(plan, splits, len(letters)),
        dead_by_class=dict(sorted(Counter(letter.label for letter in letters).items())),
        dead_by_split=dict(sorted(Counter(letter.split for letter in letters).items())),
        files=_write_files(plan, splits, letters),
        division=plan.division,
        groups_declared=plan.groups_declared,
        max_pixels=plan.job.max_pixels,
        groups_across_splits=len(groups_across_splits(plan.examples)),
        copies_across_splits=len(copies_across_splits(plan.examples)),
        left_out=plan.left_out,
        provenance=replace(provenance, engines=_engines(provenance.engines, markers)),
    )
    files.sync_folder(folder)
    write_manifest(folder, manifest)


def _totals(plan: ExtractionPlan, splits: Mapping[str, SplitEntry], dead: int) -> Totals:
    stored, left_out = sum(split.examples for split in splits.values()), sum(plan.left_out.values())
    if stored + dead != plan.planned:
        raise AssertionError(f"{stored} stored + {dead} dead is not {plan.planned} planned")
    return Totals(plan.planned + left_out, left_out, plan.planned, stored, dead)


def _write_files(plan: ExtractionPlan, splits: Mapping[str, SplitEntry], letters: Sequence[DeadLetter]) -> dict[str, str]:
    """Writes the files beside the shards; their names and digests."""
    folder, spec = plan.job.folder, plan.job.spec
    files.write_json(os.path.join(folder, SPEC), spec.to_json())
    files.write_bytes(os.path.join(folder, TABLE), to_csv(plan_order(plan.examples)))
    files.write_bytes(os.path.join(folder, DEAD_LETTERS), to_json_lines(letters))
    write_sample(os.path.join(folder, SAMPLE), _sampled(plan.units, {letter.key for letter in letters}))
    conflicting = _write_conflicts(folder, plan.examples)
    _write_tfds_metadata(folder, spec, plan.job.class_names, splits)
    names = [SPEC, TABLE, DEAD_LETTERS, SAMPLE, *conflicting, *_tfds_files(folder)]
    return {name: _synced_digest(os.path.join(folder, name)) for name in names} | {BACKBONE: _backbone_digest(folder)}


def _write_conflicts(folder: str, examples: Sequence[Example]) -> list[str]:
    """Lists the examples of one content with several labels, key,digest,label; its name, where there are any."""
    if not (conflicting := conflicts(examples)):
        return []
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("key", "digest", "label"))
    writer.writerows((example.key, example.digest, label) for example in conflicting for label in example.labels)
    files.write_bytes(os.path.join(folder, CONFLICTS), text.getvalue().encode("utf-8", "surrogateescape"))
    return [CONFLICTS]


def save_backbone(folder: str, backbone: Backbone) -> None:
    """Keeps the backbone beside the shards, so that what trains on the store needs nothing else."""
    save_model(backbone.base, os.path.join(folder, BACKBONE))


def _backbone_digest(folder: str) -> str:
    """Of the network that was saved beside the shards; a store that is made anew from another one keeps that one's."""
    path = os.path.join(folder, BACKBONE)
    return _synced_digest(path if os.path.exists(path) else os.path.join(os.path.dirname(folder), BACKBONE))


def _synced_digest(path: str) -> str:
    """A file's digest, once its bytes outlive a power cut: Keras and TFDS write without waiting for the disk."""
    files.sync_folder(path)
    return files.sha256_file(path)


def versions() -> dict[str, str]:
    """What a feature's last bits may depend on."""
    packages = {name: metadata.version(name) for name in ("keras", "numpy", "pillow", "scipy", "apache-beam")}
    with contextlib.suppress(metadata.PackageNotFoundError):
        packages["openvino"] = metadata.version("openvino")
    import keras
    import tensorflow as tf

    packages["keras backend"] = keras.backend.backend()
    return {**packages, "tensorflow": tf.__version__, "python": platform.python_version(), "machine": platform.machine()}


def _tfds_files(folder: str) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name in TFDS_INFO or name.endswith(".labels.txt"))


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
            with files.open_regular(example.path) as image:
                encoded = image.read()
        except OSError:
            continue
        if hashlib.sha256(encoded).hexdigest() == example.digest:  # else it is gone or changed since: another one will do
            yield SampleImage(example.key, example.digest, example.labels[0], encoded)


def _write_tfds_metadata(folder: str, spec: FeatureSpec, class_names: Sequence[str], splits: Mapping[str, SplitEntry]) -> None:
    """So that `tfds.builder_from_directory(STORE)` reads the store with equal values."""
    import tensorflow_datasets as tfds

    taps = {
        tap.name: tfds.features.Tensor(
            shape=tap.shape, dtype=record.numpy_dtype(spec.store_dtype).type, encoding=tfds.features.Encoding.BYTES
        )
        for tap in spec.taps
    }
    names = [name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for name in class_names]
    features = tfds.features.FeaturesDict(
        {
            "key": tfds.features.Text(),
            "digest": tfds.features.Text(),
            "view": tfds.features.Scalar(np.int64),
            "label": tfds.features.Sequence(tfds.features.ClassLabel(names=[name.replace("\n", "\\n") for name in names])),
            **taps,
        }
    )
    template = tfds.core.ShardedFileTemplate(data_dir=folder, dataset_name=DATASET_NAME, filetype_suffix="tfrecord")
    infos = [
        tfds.core.SplitInfo(
            name=name,
            shard_lengths=[shard.examples * spec.views_of(name) for shard in split.shards],
            num_bytes=split.bytes,
            filename_template=template.replace(split=name),
        )
        for name, split in splits.items()
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=features, split_infos=infos, filename_template=template, check_data=False
    )
