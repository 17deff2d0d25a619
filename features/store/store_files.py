"""The files beside a store's shards, each read only if it is what the manifest says."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from headstart.features.dataset.dataset_table import DEAD_LETTERS, TABLE
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.features.places.cache import local_path
from headstart.features.spec import FeatureSpec
from headstart.features.store.manifest import GENERATIONS, Manifest, read_manifest

if TYPE_CHECKING:
    import keras

SPEC, BACKBONE = "spec.json", "backbone.keras"


def read_spec(store: str, manifest: Manifest) -> FeatureSpec:
    """A store's spec.

    Raises:
        UserError: when its file is missing, damaged, or of another version.
    """
    path = manifest.path_of(SPEC)
    content = read_verified(store, path, manifest.digests)
    try:
        return FeatureSpec.from_json(json.loads(content))
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            "other-version", f"{place.join(store, path)!r} is of another version ({error}): delete the store and extract again"
        ) from error


def check_whole(store: str, manifest: Manifest) -> None:
    """Raises UserError when a file is missing that a reader needs, or a shard has another size than it should have."""
    held = {f"{GENERATIONS}/{entry.name}": entry.size for entry in place.entries(place.join(store, GENERATIONS))}
    tables = [f"{each.folder}/{name}" for each in manifest.generations for name in (TABLE, DEAD_LETTERS)]
    shards = {path: shard.bytes for split in manifest.splits for path, shard in manifest.shards(split)}
    missing = [*(path for path in tables if path not in held), *(path for path in shards if held.get(path) != shards[path])]
    if missing:
        if _was_replaced(store, missing[0]):
            raise _missing(store, missing[0])
        raise UserError(
            "damaged",
            f"the store {store!r} is not whole: {missing[0]} is missing or cut short ({len(missing)} in all): copy it again, "
            f"or delete it and extract again; `headstart verify` lists every fault",
        )


def read_verified(store: str, path: str, digests: Mapping[str, str]) -> bytes:
    """A small file's bytes, if they are what the manifest says.

    Args:
        store: the store's folder.
        path: the file's, below it.
        digests: sha256 by path.

    Raises:
        UserError: when they are not, or it is gone with the generation that it belonged to.
    """
    try:
        content = place.read(place.join(store, path))
    except FileNotFoundError:
        raise _missing(store, path) from None
    if hashlib.sha256(content).hexdigest() == digests[path]:
        return content
    raise _damaged(store, path)


def local_file(store: str, path: str) -> str:
    """The path of a store's file, or of its copy on this machine.

    Raises:
        UserError: when it is missing, or gone with the generation that it belonged to.
    """
    with contextlib.suppress(FileNotFoundError):
        found = local_path(place.join(store, path))
        if place.entry(found):
            return found
    raise _missing(store, path)


def _missing(store: str, path: str) -> UserError:
    """What to raise where a file is not there that a manifest names, the one of today or one before it."""
    if _was_replaced(store, path):
        told = "is gone: its store was extracted again and cleaned since; open it again"
        return UserError("replaced", f"{place.join(store, path)!r} {told}")
    return _damaged(store, path)


def _was_replaced(store: str, path: str) -> bool:
    """Whether the store's manifest of today names no such file."""
    try:
        return path not in read_manifest(store).digests
    except (OSError, UserError):
        return False


def _damaged(store: str, path: str) -> UserError:
    return UserError(
        "damaged",
        f"{place.join(store, path)!r} is missing or damaged: delete the store and extract again; `headstart verify` lists "
        f"every fault",
    )


def load_base(path: str, spec: FeatureSpec, unsafe: bool) -> keras.Model:
    """The network that a store keeps, from preprocessed images to its last map.

    Args:
        path: of its file.
        spec: of the features that were made with it.
        unsafe: run Python code that it brings along in Lambda layers.

    Raises:
        UserError: when it is not the one of the spec, or brings code along and is not trusted.
    """
    from headstart.features.backbones.build import weights_digest
    from headstart.features.backbones.keras_file import load_model

    base = load_model(path, unsafe)
    if (digest := weights_digest(base)) != spec.weights_digest:
        raise UserError(
            "damaged",
            f"the weights in {path!r} have digest {digest[:12]}, the store's features were made with "
            f"{spec.weights_digest[:12]}: delete the store and extract again",
        )
    return base
