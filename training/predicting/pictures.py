"""Images of an evaluation, found again where they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from headstart.features.dataset.record_inputs import is_record_input
from headstart.features.dataset.sources import image_paths
from headstart.features.errors import DecodeError, UserError
from headstart.features.images.decode import decode_image, least_size
from headstart.features.places import place
from headstart.features.places.identity import read_same
from headstart.features.runtime import cores
from headstart.features.spec import FeatureSpec
from headstart.training.predicting.predictions import Predictions

LEAST = (192, 192)  # a large JPEG is decoded at a fraction that leaves this, unless a network is to see it


@dataclass(frozen=True)
class Pictures:
    """Where the images of an evaluation's rows lie: paths by key; or why they can't be had."""

    paths: Mapping[str, str]
    predictions: Predictions
    why_not: str = ""

    @classmethod
    def of(cls, predictions: Predictions) -> Pictures:
        """Looks where the images were when they were evaluated."""
        try:
            source = predictions.source
            if not is_record_input(source) and not place.exists(source):
                return cls({}, predictions, f"the images are no longer at {source!r}")
            return cls(image_paths(source, predictions.keys), predictions)
        except UserError as error:
            return cls({}, predictions, str(error))

    def pixels(self, rows: Sequence[int], spec: FeatureSpec | None = None) -> dict[int, np.ndarray]:
        """Decoded images by row, uint8 [any, any, 3]; without those that are gone, changed or damaged.

        Args:
            rows: of the evaluation.
            spec: decodes them as the network takes them; without it, small ones for people.
        """
        with ThreadPoolExecutor(cores()) as pool:
            found = dict(zip(rows, pool.map(lambda row: self._decoded(row, spec), rows)))
        return {row: image for row, image in found.items() if image is not None}

    def _decoded(self, row: int, spec: FeatureSpec | None) -> np.ndarray | None:
        key, limit = self.predictions.keys[row], self.predictions.run.config["max_pixels"]
        least, intensity = (least_size(spec), spec.intensity) if spec else (LEAST, "auto")
        try:
            content = read_same(self.paths[key], self.predictions.digests.get(key, ""))
            return None if content is None else decode_image(content, limit, least, intensity)
        except (KeyError, OSError, DecodeError):
            return None
