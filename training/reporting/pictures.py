"""Images of an evaluation, found again where they lie; and small pictures of them inside the page, their bytes counted."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from PIL import Image

from headstart.features.dataset.record_inputs import is_record_input
from headstart.features.dataset.sources import image_paths
from headstart.features.errors import DecodeError, UserError
from headstart.features.images.decode import decode_image, least_size
from headstart.features.places import place
from headstart.features.places.identity import read_same
from headstart.features.runtime import cores
from headstart.features.spec import FeatureSpec
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.manifest import MANIFEST
from headstart.training.reporting.elements import html
from headstart.training.reporting.evaluated import Evaluated

MAX_BYTES = 2_400_000  # of all pictures on a page, which is to stay below 3 MB
SIDE = 96  # pixels, of a picture's longer side


@dataclass(frozen=True)
class Pictures:
    """Where an evaluation's images lie: paths by key; or why they can't be had."""

    paths: Mapping[str, str]
    evaluated: Evaluated
    why_not: str = ""

    @classmethod
    def of(cls, evaluated: Evaluated) -> Pictures:
        """Looks where the images were when they were evaluated."""
        try:
            source = _source(evaluated)
            if not is_record_input(source) and not place.exists(source):
                return cls({}, evaluated, f"the images are no longer at {source!r}")
            return cls(image_paths(source, evaluated.keys), evaluated)
        except UserError as error:
            return cls({}, evaluated, str(error))

    def pixels(self, rows: Sequence[int], spec: FeatureSpec | None = None) -> dict[int, np.ndarray]:
        """Decoded images by row, uint8 [any, any, 3]; without those that are gone, changed or damaged.

        Args:
            rows: of the evaluation.
            spec: decodes them as the network takes them; without it, about as small as a picture is.
        """
        with ThreadPoolExecutor(cores()) as pool:
            found = dict(zip(rows, pool.map(lambda row: self._decoded(row, spec), rows)))
        return {row: image for row, image in found.items() if image is not None}

    def _decoded(self, row: int, spec: FeatureSpec | None) -> np.ndarray | None:
        key, limit = self.evaluated.keys[row], self.evaluated.run.config["max_pixels"]
        least, intensity = (least_size(spec), spec.intensity) if spec else ((2 * SIDE, 2 * SIDE), "auto")
        try:
            content = read_same(self.paths[key], self.evaluated.digests.get(key, ""))
            return None if content is None else decode_image(content, limit, least, intensity)
        except (KeyError, OSError, DecodeError):
            return None


def _source(evaluated: Evaluated) -> str:
    """The folder, table or files of records that the images are of."""
    path = evaluated.metrics["input"]
    return path if is_record_input(path) or not is_store(path) else FeatureStore.open(path).manifest.provenance.input


def is_store(path: str) -> bool:
    """Whether an evaluation's input is a feature store."""
    return not is_record_input(path) and place.exists(place.join(path, MANIFEST))


class Album:
    """Makes small pictures of pixels, until they take as many bytes as a page has for them."""

    def __init__(self, most: int = MAX_BYTES) -> None:
        self.left = most

    def picture(self, pixels: np.ndarray, description: str, side: int = SIDE, quality: int = 75) -> Markup:
        """An image element; an empty one when there is no room left.

        Args:
            pixels: uint8 [any, any, 3].
            description: what it shows, for those who don't see it; '' where a text beside it says so.
            side: its longer one, in pixels.
            quality: of the JPEG.
        """
        image, content = Image.fromarray(np.ascontiguousarray(pixels)), io.BytesIO()
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        image.save(content, "JPEG", quality=quality, optimize=True)
        encoded = base64.b64encode(content.getvalue()).decode()
        if len(encoded) > self.left:
            return Markup("")
        self.left -= len(encoded)
        start = '<img src="data:image/jpeg;base64,{}" width="{}" height="{}" alt="{}">'
        return html(start, Markup(encoded), *image.size, description)
