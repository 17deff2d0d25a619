"""A run in, images that it was trained on out, as their files have them: what an export is checked on and calibrated with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstart.features.errors import UserError
from headstart.features.images.decode import decode_image
from headstart.features.places import place
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.manifest import is_store
from headstart.features.store.sample import MAX_BYTES, MAX_IMAGES, MIN_IMAGES
from headstart.training.evaluation.evaluate import data_source
from headstart.training.predicting.answers import own_images
from headstart.training.runs.run_folder import Run


@dataclass(frozen=True)
class KeptImage:
    """An image by its key, encoded."""

    key: str
    encoded: bytes


def kept_images(run: Run) -> list[KeptImage]:
    """The sample of training images that a run's store keeps; of a run without a store, some of its validation split.

    At most 64, and fewer where they are large.

    Raises:
        UserError: when the store or the images have moved, or none of them can be read.
    """
    path = data_source(run)
    found = [KeptImage(each.key, each.encoded) for each in FeatureStore.open(path).sample()] if is_store(path) else _read(run)
    readable = [image for image in found if _can_be_decoded(run, image)]
    if not readable:
        raise UserError(
            "changed-images", f"none of the images that {run.home!r} was trained on can be read at {path!r}: train again"
        )
    return readable


def _can_be_decoded(run: Run, image: KeptImage) -> bool:
    try:
        decode_image(image.encoded, run.config["max_pixels"])
    except ValueError:
        return False
    return True


def _read(run: Run) -> list[KeptImage]:
    """Images of the validation split, or of the first one where there is none, evenly from all of it."""
    split = "validation" if "validation" in run.table.splits else run.table.splits[0]
    files = own_images(run, split).chosen
    found, size = list[KeptImage](), 0
    for number in np.linspace(0, len(files) - 1, min(MAX_IMAGES, len(files))).astype(int):
        try:
            content = place.read(files[number].path)
        except OSError:
            continue
        found.append(KeptImage(files[number].key, content))
        size += len(content)
        if len(found) >= MIN_IMAGES and size > MAX_BYTES:
            break
    return found
