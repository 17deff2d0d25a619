"""The files beside a store's shards, each read only if it is what the manifest says."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from headstart.features import files
from headstart.features.dataset.dataset_table import DEAD_LETTERS, TABLE
from headstart.features.errors import UserError
from headstart.features.spec import FeatureSpec
from headstart.features.store.manifest import MANIFEST, Manifest, Stamp, replaced

if TYPE_CHECKING:
    import keras

SPEC, BACKBONE = "spec.json", "backbone.keras"


def read_spec(folder: str, manifest: Manifest) -> FeatureSpec:
    """A store's spec.

    Raises:
        UserError: when its file is missing, damaged, or of another version.
    """
    path = os.path.join(folder, SPEC)
    content = files.read_bytes(path) if os.path.isfile(path) else b""
    if hashlib.sha256(content).hexdigest() != manifest.files[SPEC]:
        raise UserError("damaged", f"{path!r} is not what its manifest says: delete the store and extract again")
    try:
        return FeatureSpec.from_json(json.loads(content))
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            "other-version", f"{path!r} is of another version ({error}): delete the store and extract again"
        ) from error


def missing_files(folder: str, manifest: Manifest, stamps: Mapping[str, Stamp | None]) -> list[str]:
    """Files that a reader needs and that are not there, and shards of another size than the manifest's."""
    missing = [name for name in (TABLE, DEAD_LETTERS) if not os.path.isfile(os.path.join(folder, name))]
    for shard in manifest.shards:
        stamp = stamps[shard.name]
        if stamp is None or stamp.size != shard.bytes:
            missing.append(shard.name)
    return missing


def read_verified(folder: str, name: str, manifest: Manifest, stamps: Mapping[str, Stamp | None]) -> bytes:
    """A small file's bytes, if they are what the manifest says.

    Raises:
        UserError: when they are not, because another extraction replaced them or because they are damaged.
    """
    path = os.path.join(folder, name)
    try:
        content = files.read_bytes(path)
    except FileNotFoundError:
        content = b""
    if hashlib.sha256(content).hexdigest() == manifest.files[name]:
        return content
    if Stamp.of(os.path.join(folder, MANIFEST)) != stamps[MANIFEST]:
        raise replaced(folder)
    raise UserError(
        "damaged", f"{path!r} is missing or damaged: delete the store and extract again; `headstart verify` lists every fault"
    )


def load_base(folder: str, spec: FeatureSpec, unsafe: bool) -> keras.Model:
    """The network beside the shards, from preprocessed images to its last map.

    Raises:
        UserError: when it is missing, is not the one of the spec, or brings code along and is not trusted.
    """
    from headstart.features.backbones.build import weights_digest
    from headstart.features.backbones.keras_file import load_model

    path = os.path.join(folder, BACKBONE)
    if not os.path.isfile(path):
        raise UserError("damaged", f"{path!r} is missing: delete the store and extract again")
    base = load_model(path, unsafe)
    if (digest := weights_digest(base)) != spec.weights_digest:
        raise UserError(
            "damaged",
            f"the weights in {path!r} have digest {digest[:12]}, the store's features were made with "
            f"{spec.weights_digest[:12]}: delete the store and extract again",
        )
    return base
