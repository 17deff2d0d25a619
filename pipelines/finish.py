"""From finished shards to a complete store: tables, sample, TFDS metadata and manifest, then everything into its place.

An extraction works in STORE/.partial. `publish` moves a finished one over whatever the store held; killed anywhere, the
next run goes on from there, because the new manifest in .partial says what belongs where until the last rename.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import platform
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from headstart.features import files
from headstart.features.backbones.backbone import Backbone
from headstart.features.backbones.keras_file import save_model
from headstart.features.dataset.dataset_table import CONFLICTS, DEAD_LETTERS, TABLE
from headstart.features.dataset.examples import Example, conflicts, dataset_digest, plan_order, to_csv
from headstart.features.errors import UserError
from headstart.features.spec import FeatureSpec
from headstart.features.store import record
from headstart.features.store.feature_store import (
    BACKBONE,
    DATASET_NAME,
    SAMPLE,
    SAMPLE_BYTES,
    SAMPLE_LEAST,
    SAMPLE_SIZE,
    SPEC,
    WORK_FOLDER,
)
from headstart.features.store.manifest import FORMAT, MANIFEST, read_manifest, shards_of, write_manifest
from headstart.pipelines.extract_shard import DeadLetter, read_marker, too_many_dead
from headstart.pipelines.work_unit import WorkUnit

TABLES = (SPEC, TABLE, DEAD_LETTERS, SAMPLE)
TFDS_INFO = ("features.json", "dataset_info.json")
DIGESTS = ".digests.jsonl"  # the survey's cache; not part of the store's identity


def finish(
    folder: str,
    spec: FeatureSpec,
    examples: Sequence[Example],
    class_names: Sequence[str],
    units: Sequence[WorkUnit],
    unread: Sequence[DeadLetter],
    dataset: Mapping[str, Any],
    provenance: Mapping[str, Any],
    max_dead: int,
) -> dict[str, Any]:
    """Writes all that stands beside the shards, the manifest last; returns the manifest.

    Args:
        folder: where the shards and their markers are.
        spec: what a feature is.
        examples: the dataset, divided; files that could not be read at all are not among them.
        class_names: in the order of their ids.
        units: every one of them done.
        unread: dead letters of files that could not be read at all.
        dataset: what the manifest says of it beside its digest: how it was divided, whether groups were declared.
        provenance: what does not decide any byte: where from, with which versions.
        max_dead: images that the job may lose.

    Raises:
        UserError: when more images were lost.
        AssertionError: when a unit has no marker.
    """
    markers = [read_marker(folder, unit) for unit in units]
    rows: list[dict[str, Any]] = [marker for marker in markers if marker]
    if len(rows) < len(units):
        raise AssertionError(f"{len(units) - len(rows)} of {len(units)} units ended without a marker")
    letters = [vars(letter) for letter in unread] + [letter for row in rows for letter in row["dead_letters"]]
    if len(letters) > max_dead:
        raise UserError(too_many_dead(letters, max_dead))
    totals = _totals(len(examples) + len(unread), rows, len(letters), sum(dataset["left_out"].values()))
    files.write_json(os.path.join(folder, SPEC), spec.to_json())
    files.write_bytes(os.path.join(folder, TABLE), to_csv(plan_order(examples)))
    lines = (json.dumps(letter, ensure_ascii=False, sort_keys=True) + "\n" for letter in letters)
    files.write_bytes(os.path.join(folder, DEAD_LETTERS), "".join(lines).encode("utf-8", "surrogateescape"))
    _write_sample(os.path.join(folder, SAMPLE), units, {letter["key"] for letter in letters})
    tables = [*TABLES, *_write_conflicts(folder, examples)]
    splits = _splits(rows)
    _write_tfds_metadata(folder, spec, class_names, splits)
    manifest = {
        "format": FORMAT,
        "fingerprint": spec.fingerprint,
        "dataset_digest": dataset_digest(examples, class_names),
        "class_names": list(class_names),
        "splits": splits,
        "totals": totals,
        "dead_by_class": dict(sorted(Counter(letter["label"] for letter in letters).items())),
        "dead_by_split": dict(sorted(Counter(letter["split"] for letter in letters).items())),
        "files": {name: _synced_digest(os.path.join(folder, name)) for name in (*tables, *_tfds_files(folder))}
        | {BACKBONE: _backbone_digest(folder)},
        **dataset,
        "provenance": {**provenance, "engines": _engines(provenance["engines"], rows)},
    }
    files.sync_folder(folder)
    return write_manifest(folder, manifest)


def _totals(planned: int, rows: Sequence[dict[str, Any]], dead: int, left_out: int) -> dict[str, int]:
    """Every file that was found, accounted for."""
    stored = sum(row["examples"] for row in rows)
    if stored + dead != planned:
        raise AssertionError(f"{stored} stored + {dead} dead is not {planned} planned")
    return {"found": planned + left_out, "left_out": left_out, "planned": planned, "stored": stored, "dead": dead}


def _write_conflicts(folder: str, examples: Sequence[Example]) -> list[str]:
    """Lists the examples of one content with several labels, key,digest,label; its name, where there are any."""
    if not (torn := conflicts(examples)):
        return []
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("key", "digest", "label"))
    writer.writerows((example.key, example.digest, label) for example in torn for label in example.labels)
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


def _splits(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    splits: dict[str, Any] = {}
    for row in rows:
        split = splits.setdefault(row["split"], {"examples": 0, "bytes": 0, "shards": []})
        split["examples"] += row["examples"]
        split["bytes"] += row["bytes"]
        split["shards"].append({key: row[key] for key in ("name", "examples", "bytes", "record_bytes", "sha256", "unit")})
    return splits


def _engines(older: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What computed the features: each engine once."""
    found = [*older, *(row["engine"] for row in rows if row["engine"])]
    return [engine for number, engine in enumerate(found) if engine not in found[:number]]


def _write_sample(path: str, units: Sequence[WorkUnit], dead: set[str]) -> None:
    """The first images of the training split, encoded as they came: a random sample, since units are ordered by hash."""
    training = (example for unit in units if unit.split == "train" for example in unit.examples if example.key not in dead)
    kept = 0
    with files.atomic(path) as file:
        for example in training:
            if kept == SAMPLE_SIZE or (kept >= SAMPLE_LEAST and file.tell() > SAMPLE_BYTES):
                break
            try:
                with files.open_regular(example.path) as image:
                    encoded = image.read()
            except OSError:
                continue
            if hashlib.sha256(encoded).hexdigest() != example.digest:  # gone or changed since: another one will do
                continue
            content = record.encode(example.key, example.digest, example.labels, {"encoded": encoded})
            record.write_record(file, content)
            kept += 1


def _write_tfds_metadata(folder: str, spec: FeatureSpec, class_names: Sequence[str], splits: Mapping[str, Any]) -> None:
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
            shard_lengths=[shard["examples"] * spec.views_of(name) for shard in split["shards"]],
            num_bytes=split["bytes"],
            filename_template=template.replace(split=name),
        )
        for name, split in splits.items()
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=features, split_infos=infos, filename_template=template, check_data=False
    )


def publish(store: str) -> bool:
    """Moves a finished extraction out of STORE/.partial over what the store held; False when there is none.

    The old manifest goes first and the new one comes last, so a store that a reader opens is whole.
    """
    work = os.path.join(store, WORK_FOLDER)
    if not os.path.isfile(os.path.join(work, MANIFEST)):
        return False
    manifest = read_manifest(work)
    belongs = {*manifest["files"], *(shard["name"] for shard in shards_of(manifest))}
    if os.path.exists(os.path.join(store, MANIFEST)):
        os.remove(os.path.join(store, MANIFEST))
        files.sync_folder(store)
    for name in os.listdir(store):
        if (".tfrecord-" in name or name == CONFLICTS) and name not in belongs:
            os.remove(os.path.join(store, name))
    for name in sorted(belongs & set(os.listdir(work))):
        os.replace(os.path.join(work, name), os.path.join(store, name))
    files.sync_folder(store)
    os.replace(os.path.join(work, MANIFEST), os.path.join(store, MANIFEST))
    files.sync_folder(store)
    shutil.rmtree(work)
    return True
