"""A `.keras` file in, a model out. A file that brings Python code along is refused unless its reader says otherwise."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from headstart.features import files
from headstart.features.errors import UserError

if TYPE_CHECKING:
    import keras

METADATA, NO_DATE = "metadata.json", "1980-01-01@00:00:00"  # what a `.keras` file says of its making
CONFIG, SHARED = "config.json", re.compile(rb'("shared_object_id": )(\d+)')


def load_model(path: str, unsafe: bool = False) -> keras.Model:
    """Loads a model for inference.

    Args:
        path: of a `.keras` file.
        unsafe: run Python code that the file carries in Lambda layers.

    Raises:
        UserError: for a file that can't be read, or that carries code and is not trusted.

    Source: https://keras.io/api/models/model_saving_apis/model_saving_and_loading
    """
    import keras

    config = _config(path)
    lambdas = sorted({str(layer["config"].get("name", "?")) for layer in _objects(config) if "Lambda" in _classes(layer)})
    if lambdas and not unsafe:
        raise UserError(
            "unsafe-model",
            f"{path!r} carries Python code in the Lambda layer {', '.join(lambdas)}, which would run with all your rights: "
            f"save the model without Lambda, or say --unsafe if you trust whoever made the file",
        )
    if any("SavedModelLayer" in _classes(layer) for layer in _objects(config)):
        from headstart.features.backbones import saved_model  # noqa: F401  Keras finds its layer by its registered name
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=not unsafe)
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:900]
        raise UserError(
            "bad-model", f"{path!r} can't be loaded ({reason}): give a model made of Keras's own layers"
        ) from error


def save_model(model: keras.Model, path: str) -> None:
    """Saves a model, whole or not at all; equal models give equal bytes: Keras writes times and addresses into its files.

    Args:
        model: any.
        path: of the `.keras` file; another one beside it is used on the way.
    """
    unfinished = os.path.join(os.path.dirname(path), f"unfinished-{os.path.basename(path)}")
    model.save(unfinished)
    with zipfile.ZipFile(unfinished) as saved, files.atomic(path) as file, zipfile.ZipFile(file, "w") as timeless:
        for name in saved.namelist():
            with timeless.open(zipfile.ZipInfo(name), "w", force_zip64=True) as target:
                if name == METADATA:
                    target.write(json.dumps({**json.loads(saved.read(name)), "date_saved": NO_DATE}).encode())
                elif name == CONFIG:
                    target.write(_numbered(saved.read(name)))
                else:
                    with saved.open(name) as source:
                        shutil.copyfileobj(source, target, 1 << 20)
    os.remove(unfinished)


def _numbered(config: bytes) -> bytes:
    """A configuration whose shared objects have numbers in the order that they come in, in place of their addresses."""
    numbers: dict[bytes, bytes] = {}
    return SHARED.sub(lambda found: found[1] + numbers.setdefault(found[2], b"%d" % len(numbers)), config)


def _config(path: str) -> Any:
    try:
        with zipfile.ZipFile(path) as file:
            return json.loads(file.read(CONFIG))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError("bad-model", f"{path!r} is no .keras file ({error}): save it with model.save('NAME.keras')") from error


def _classes(described: dict[str, Any]) -> set[str]:
    """The classes that Keras may make of a serialised object: it joins module and class_name, so each may hold any part."""
    return {re.split("[.>]", str(described.get(field)))[-1] for field in ("class_name", "registered_name")}


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every serialised object of a configuration, however deep."""
    if isinstance(value, dict):
        if "class_name" in value and isinstance(value.get("config"), dict):
            yield value
        for inner in value.values():
            yield from _objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _objects(inner)
