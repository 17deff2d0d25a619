"""A `.keras` file in, a model out. A file that brings Python code along is refused unless its reader says otherwise."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from features.errors import UserError

if TYPE_CHECKING:
    import keras


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
            f"{path!r} carries Python code in the Lambda layer {', '.join(lambdas)}, which would run with all your rights: "
            f"save the model without Lambda, or say --unsafe if you trust whoever made the file"
        )
    if any("SavedModelLayer" in _classes(layer) for layer in _objects(config)):
        from features import saved_model  # noqa: F401  Keras finds its layer by its registered name
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=not unsafe)
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:900]
        raise UserError(f"{path!r} can't be loaded ({reason}): give a model made of Keras's own layers") from error


def _config(path: str) -> Any:
    try:
        with zipfile.ZipFile(path) as file:
            return json.loads(file.read("config.json"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path!r} is no .keras file ({error}): save it with model.save('NAME.keras')") from error


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
