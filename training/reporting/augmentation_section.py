"""Section: what the network saw of a training image, where it was augmented."""

from __future__ import annotations

import os

import numpy as np
from markupsafe import Markup
from PIL import Image

from headstart.features.errors import UserError
from headstart.features.images.augment import array_augmenter, view_seed
from headstart.features.images.decode import decoder
from headstart.features.images.resize import resizer
from headstart.features.store.feature_store import FeatureStore
from headstart.training.finetuning.augmentation_grid import grid
from headstart.training.pages.album import Album
from headstart.training.pages.elements import html, note, section
from headstart.training.runs.run_folder import GRID, Run

TITLE = "What the augmentation does"
ROWS, COLUMNS = 4, 6  # images, and views of each
SIDE, QUALITY = 900, 70


def augmentation_section(run: Run, album: Album) -> Markup:
    """A grid: a row an image, the plain one first."""
    path = os.path.join(run.path, GRID)
    try:
        if os.path.isfile(path):
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
        elif run.spec.views > 1:
            pixels = grid(stored_views(run))
        else:
            return section("augmentation", TITLE, [note("Nothing: training images were taken as they are.")])
    except UserError as error:
        return section("augmentation", TITLE, [note("Not shown: {}.", str(error))])
    picture = album.picture(pixels, "Training images, a row each: as they are, then augmented", SIDE, QUALITY)
    text = "A row is a training image, as it is at the left, augmented beside it. What can't be told in them can't be learned."
    return section("augmentation", TITLE, [html('<div class="sheet">{}</div>', picture), note(text)])


def stored_views(run: Run) -> np.ndarray:
    """The first views of some training images that the store keeps, float32 [rows, columns, H, W, 3], 0..255.

    Raises:
        UserError: when the store is no longer there.
    """
    store, spec = FeatureStore.open(run.data_source), run.spec
    decode, resize, augment = decoder(spec, store.manifest.max_pixels), resizer(spec), array_augmenter(spec.augmentation)
    rows = []
    for _, image in zip(range(ROWS), store.sample()):
        plain = np.asarray(resize(decode(image.encoded)), np.float32)
        seeds = [view_seed(spec.augmentation, image.digest, view) for view in range(1, min(COLUMNS, spec.views))]
        rows.append(np.stack([plain, *(augment(plain, seed) for seed in seeds)]))
    return np.stack(rows)
