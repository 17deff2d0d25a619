"""headstart export: a run in, a folder with a model to ship out, which is there only if it answers as model.keras does."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import headstart
from headstart.features import files
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.features.runtime import quietly
from headstart.training.exporting.export_config import ExportConfig
from headstart.training.exporting.formats import FLOAT, FORMATS, INT8
from headstart.training.exporting.kinds import kind_of
from headstart.training.exporting.requirements import unmet
from headstart.training.runs.run_folder import MODEL, Run

if TYPE_CHECKING:
    import keras
    import numpy as np

    from headstart.training.exporting.agreements import Compared
    from headstart.training.exporting.kept_images import KeptImage

METADATA = "export.json"
ANY_SIZE = "float32 [B, any, any, 3], RGB, 0..255; images in 0..1 are known as such, negative pixels give NaN"


@dataclass(frozen=True)
class Exported:
    """A model that was exported: its folder, its format, its size on disk, and how it compares with model.keras."""

    folder: str
    format: str
    bytes: int
    compared: Compared


@quietly
def export(config: ExportConfig) -> Exported:
    """Exports a run's model.

    Args:
        config: what `headstart export` takes.

    Raises:
        UserError: for a run that is not complete, a requirement that it does not meet, a package that is missing, a folder
            that holds something else, or an export that disagrees with model.keras; nothing is left then.
    """
    check_output(config.output)
    form = FORMATS[config.format]
    form.check_installed()
    run = Run.open(config.run, config.unsafe)
    if lines := unmet(run, config.split, config.require):
        raise UserError("below-requirement", "; ".join(lines))
    check_backend()
    from headstart.training.exporting import model_card
    from headstart.training.exporting.agreements import compare_all
    from headstart.training.exporting.kept_images import kept_images

    images, model = kept_images(run), run.model()
    calibrating, checked = (images[::2], images[1::2] or images) if config.int8 else ((), images)
    with _in_place_of(config.output) as folder:
        importlib.import_module(form.writer).write(model, run, _calibration(run, calibrating), folder)
        compared = compare_all(form, folder, model, run, checked, config.int8)
        facts = _facts(config, run, model, compared)
        files.write_bytes(os.path.join(folder, model_card.LABELS), model_card.labels_of(run.class_names))
        model_card.write_card(folder, run, facts, compared)
        files.write_json(os.path.join(folder, METADATA), facts)
        size = sum(entry.size for entry in place.entries(folder))
    return Exported(config.output, config.format, size, compared)


def check_backend() -> None:
    """Raises UserError where Keras computes with something else than TensorFlow: the writers trace its functions."""
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        raise UserError("not-available", "headstart export needs Keras on TensorFlow: leave KERAS_BACKEND out")


def check_output(path: str) -> None:
    """Raises UserError when an export can't be left at `path`, because it holds something else than an older one."""
    if place.is_remote(path):
        raise UserError("bad-flag", f"--output is a folder of this machine, not {path!r}: export, then copy it there")
    held = place.names_in(path, "--output")
    if held and METADATA not in held:
        raise UserError("output-taken", f"--output {path!r} holds something else than an export: give a new or empty folder")


@contextlib.contextmanager
def _in_place_of(path: str) -> Iterator[str]:
    """An empty folder beside `path` that takes its place when the block ends well, and is gone when it does not."""
    path = os.path.abspath(path)
    new, old = (f"{path}.{uuid.uuid4().hex}{files.TEMPORARY_SUFFIX}" for _ in range(2))
    os.makedirs(new)
    try:
        yield new
        files.sync_tree(new)
        if os.path.isdir(path):
            os.rename(path, old)
        os.rename(new, path)
        files.sync_folder(os.path.dirname(path))
    finally:
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)


def _calibration(run: Run, images: Sequence[KeptImage]) -> list[np.ndarray]:
    """Images as the network sees them, float32 [H, W, 3]."""
    from headstart.features.images.decode import decoder
    from headstart.features.images.resize import resizer

    decode, resize = decoder(run.spec, run.config["max_pixels"]), resizer(run.spec)
    return [resize(decode(image.encoded)) for image in images]


def _facts(config: ExportConfig, run: Run, model: keras.Model, compared: Compared) -> dict[str, Any]:
    """What export.json holds."""
    import keras
    import tensorflow as tf

    classes = len(run.class_names)
    inputs, outputs = {"image": ANY_SIZE}, {"probabilities": f"float32 [B, {classes}]"}
    if FORMATS[config.format].fixed_size:
        height, width = run.spec.image_size
        dtype = "uint8" if config.int8 else "float32"
        inputs = {"image": f"{dtype} [1, {height}, {width}, 3], RGB, 0..255, resized by the caller ({run.spec.resize_mode})"}
        outputs = {"probabilities": f"float32 [1, {classes}]"}
    if config.format == "saved_model":
        inputs["image_bytes"] = (
            "string [B], JPEG or PNG files, of the signature serving_bytes; EXIF orientation is not applied"
        )
        outputs["classes"] = f"string [B, {classes}], the names in the order of the probabilities"
        if run.label_delimiter:
            outputs["thresholds"] = f"float32 [B, {classes}], the classes' own"
    return {
        "format": config.format,
        "int8": config.int8,
        "class_names": run.class_names,
        "inputs": inputs,
        "outputs": outputs,
        **kind_of(run).facts(),
        "model_sha256": files.sha256_file(os.path.join(run.path, MODEL)),
        "spec": run.spec.to_json(),
        "dataset_digest": run.config["dataset_digest"],
        "tolerance": dataclasses.asdict(INT8 if config.int8 else FLOAT),
        "agreement": {name: dataclasses.asdict(found) for name, found in compared.checked.items()},
        "measured": {name: dataclasses.asdict(found) for name, found in compared.measured.items()},
        "required": list(config.require),
        "versions": {"headstart": headstart.__version__, "keras": keras.__version__, "tensorflow": tf.__version__},
    }
