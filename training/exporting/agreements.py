"""An export and the run's kept images in; every comparison with model.keras out, or an error where one is too far off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from headstart.features.images import jpeg
from headstart.features.images.decode import decoder, deep_peak
from headstart.features.images.file_kinds import image_format
from headstart.features.images.resize import framed, resizer
from headstart.features.spec import FeatureSpec
from headstart.training.exporting.check import Agreement, agreement, answers_of, check
from headstart.training.exporting.formats import FLOAT, INT8, Format
from headstart.training.exporting.kept_images import KeptImage
from headstart.training.exporting.kinds import Kind, kind_of
from headstart.training.runs.agreement import classify_images
from headstart.training.runs.run_folder import Run

if TYPE_CHECKING:
    import keras

IMAGES, PIXELS, PIXELS_8 = "images", "resized as headstart does", "in 8 bits, resized as headstart does"
FILES, PILLOW, PLAIN = "JPEG and PNG files", "resized by Pillow (BILINEAR)", "resized without antialiasing (bilinear)"
Resizing = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Compared:
    """What was compared, by name; those in `checked` had to agree, the others tell what a caller's own way changes."""

    checked: dict[str, Agreement]
    measured: dict[str, Agreement]
    notes: tuple[str, ...] = ()


def compare_all(form: Format, folder: str, model: keras.Model, run: Run, images: Sequence[KeptImage], int8: bool) -> Compared:
    """Compares an export with model.keras.

    Args:
        form: its format.
        folder: where it lies.
        model: model.keras, loaded.
        run: whose model it is.
        images: real ones; with int8, none that it was calibrated on.
        int8: whether it computes in 8 bits.

    Raises:
        UserError: when its answers lie further from model.keras's than the format's tolerance, or it does not run.
    """
    names, decode = [image.key for image in images], decoder(run.spec, run.config["max_pixels"])

    def pixels() -> Iterator[np.ndarray]:
        return (decode(image.encoded) for image in images)

    expected, kind = classify_images(model, pixels()), kind_of(run)
    if form.fixed_size:
        return _of_pixels(folder, run.spec, kind, names, pixels, expected, int8)
    runtime = "keras_and_headstart" if form.name == "keras" and _needs_headstart(model, run) else form.name
    received = answers_of(runtime, folder, pixels())
    found = {IMAGES: check(f"the {form.name} export", kind, names, expected, received, FLOAT)}
    if form.name != "saved_model":
        return Compared(found, {})
    files, note = _of_files(folder, model, run, images)
    return Compared({**found, **files}, {}, note)


def resizings(spec: FeatureSpec) -> dict[str, Resizing]:
    """headstart's resizing, uint8 [h, w, 3] to float32 [H, W, 3] of 0..255, and what callers have in its place."""
    height, width = spec.image_size

    def pillow(image: np.ndarray) -> np.ndarray:
        source = Image.fromarray(np.ascontiguousarray(framed(image, spec.image_size, spec.resize_mode)))
        return np.asarray(source.resize((width, height), Image.Resampling.BILINEAR), np.float32)

    def plain(image: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        source = tf.constant(framed(image, spec.image_size, spec.resize_mode))
        return np.asarray(tf.image.resize(source, (height, width), antialias=False), np.float32)

    return {PIXELS: resizer(spec), PILLOW: pillow, PLAIN: plain}


def _of_pixels(
    folder: str,
    spec: FeatureSpec,
    kind: Kind,
    names: list[str],
    pixels: Callable[[], Iterator[np.ndarray]],
    expected: np.ndarray,
    int8: bool,
) -> Compared:
    """A model of the network's own size: on pixels as headstart resizes them, which it is held to, and as others do."""
    ways = resizings(spec)
    inputs = (resize(image) for resize in ways.values() for image in pixels())
    received = dict(zip(ways, np.split(answers_of("tflite", folder, inputs), len(ways))))
    own = received.pop(PIXELS)
    found = check("the tflite export", kind, names, expected, own, INT8 if int8 else FLOAT)
    return Compared(
        {PIXELS_8 if int8 else PIXELS: found}, {way: agreement(kind, expected, answers) for way, answers in received.items()}
    )


def _of_files(
    folder: str, model: keras.Model, run: Run, images: Sequence[KeptImage]
) -> tuple[dict[str, Agreement], tuple[str, ...]]:
    """The signature for encoded images, on those that it should answer alike."""
    alike = [image for image in images if _decodes_alike(image.encoded, run.spec)]
    note = (
        f"{len(images) - len(alike)} of the {len(images)} kept images are left out of the comparison of files: "
        f"no JPEG or PNG, CMYK, with an EXIF orientation, or grey of 16 bits with an intensity of one's own",
    )
    if not alike:
        return {}, note
    decode = decoder(replace(run.spec, decode="full"), run.config["max_pixels"])
    expected = classify_images(model, (decode(image.encoded) for image in alike))
    received = answers_of("saved_model_bytes", folder, (np.frombuffer(image.encoded, np.uint8) for image in alike))
    names = [image.key for image in alike]
    found = check("the saved_model export, given files,", kind_of(run), names, expected, received, FLOAT)
    return {FILES: found}, note


def _decodes_alike(encoded: bytes, spec: FeatureSpec) -> bool:
    """Whether TensorFlow should give the pixels that headstart does: it turns nothing upright and knows no intensity."""
    kind = image_format(encoded)
    if kind == "JPEG":
        return jpeg.header(encoded) is not None and jpeg.orientation(encoded) == 1
    return kind == "PNG" and b"eXIf" not in encoded and (spec.intensity == "full" or deep_peak(encoded) is None)


def _needs_headstart(model: keras.Model, run: Run) -> bool:
    """Whether model.keras holds what Keras alone does not load: a SavedModel as its backbone, or trusted Python code."""
    from headstart.features.keras_internals import every_layer

    return run.unsafe or any(type(layer).__name__ == "SavedModelLayer" for layer in every_layer(model))
