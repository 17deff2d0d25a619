"""A custom model as a base: the user's `.keras` file or SavedModel in, a Keras model from images to maps out."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from headstart.features.backbones.keras_file import load_model
from headstart.features.errors import UserError

if TYPE_CHECKING:
    import keras

DEFAULT_SIZE = 224  # pixels a side, where the model takes any
REFERENCES = ("name", "keras_history", "input_layers", "output_layers")  # where a configuration says which layer it means
OF_TRAINING = re.compile("trainable|momentum|renorm.*|.*_(initializer|regularizer|constraint)")  # fields, not of inference


def load(path: str, image_size: tuple[int, int] | None, unsafe: bool = False) -> keras.Model:
    """Loads a model that takes one RGB image.

    Args:
        path: of a `.keras` file, or the folder of a SavedModel.
        image_size: (height, width) in pixels that it has to take; None for its own, or 224 where it takes any.
        unsafe: run Python code that the file carries.

    Raises:
        UserError: when it can't be loaded, or takes something else than RGB images of that size.
    """
    if os.path.isdir(path):
        from headstart.features.backbones import saved_model

        model = saved_model.as_model(path, image_size or (DEFAULT_SIZE, DEFAULT_SIZE), unsafe)
    else:
        model = load_model(path, unsafe)
    _check(model, path, image_size)
    return model


def input_size(model: keras.Model) -> tuple[int, int]:
    """The (height, width) in pixels that a model takes; 224 where it takes any."""
    height, width = model.inputs[0].shape[1:3]
    return height or DEFAULT_SIZE, width or DEFAULT_SIZE


def scales_its_pixels(model: keras.Model) -> bool:
    """Whether a model holds layers that bring pixels in 0..255 to what it was trained on."""
    return any(type(layer).__name__ in ("Rescaling", "Normalization") for layer in _every_layer(model))


def architecture_digest(model: keras.Model) -> str:
    """sha256 over what a model computes, its weights aside: its configuration, with layers numbered and not named."""
    names = [model.name, *(layer.name for layer in _every_layer(model))]
    numbers = {name: f"#{number}" for number, name in enumerate(names)}

    def numbered(value: Any, under: str = "") -> Any:
        if isinstance(value, dict):
            # What is None or False is left out: the next version of Keras adds such fields.
            given = {key: inner for key, inner in value.items() if inner is not None and inner is not False}
            kept = {key: inner for key, inner in given.items() if not OF_TRAINING.fullmatch(key)}
            return {key: inner if key == "dtype" else numbered(inner, key) for key, inner in kept.items()}
        if isinstance(value, (list, tuple)):
            return [numbered(inner, under) for inner in value]
        return numbers.get(value, value) if isinstance(value, str) and under in REFERENCES else value

    return hashlib.sha256(json.dumps(numbered(model.get_config()), sort_keys=True, default=str).encode()).hexdigest()


def _every_layer(model: Any) -> Iterator[Any]:
    """A model's layers; those of a model inside it right after it."""
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _every_layer(layer)


def _check(model: keras.Model, path: str, image_size: tuple[int, int] | None) -> None:
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) != 1 or not getattr(model, "outputs", None):
        raise UserError(
            "bad-model", f"{path!r} has {len(inputs)} inputs that are known; a backbone takes one, an image [H, W, 3]"
        )
    shape = tuple(inputs[0].shape)
    if len(shape) != 4 or shape[3] != 3:
        raise UserError("bad-model", f"{path!r} takes {list(shape[1:])}; a backbone takes RGB images [H, W, 3]")
    if shape[0] is not None:
        raise UserError("bad-model", f"{path!r} takes batches of {shape[0]} only: save it with a free batch axis")
    fits = image_size is None or all(given in (None, side) for given, side in zip(shape[1:3], image_size))
    if not fits:
        raise UserError(
            "image-size", f"{path!r} takes images of {shape[1]}x{shape[2]} pixels: leave --image_size out, or give that"
        )
