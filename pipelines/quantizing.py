"""Which network in int8 an extraction runs: the one that its store has, or one calibrated on some of the training images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from headstart.features.backbones.backbone import Backbone
from headstart.features.dataset.columns import Below, Text
from headstart.features.dataset.examples import Examples
from headstart.features.engines.factory import network_engine
from headstart.features.engines.noise import check_noise, noise_of
from headstart.features.engines.options import EngineOptions
from headstart.features.engines.quantized import (
    CALIBRATION_IMAGES,
    QUANTIZED,
    check_nncf,
    quantize,
    ranges_to_try,
    read,
    remembered,
)
from headstart.features.engines.stream import ImageToRead, Unreadable, image_loader
from headstart.features.errors import UserError
from headstart.features.runtime import cores
from headstart.features.spec import FeatureSpec
from headstart.features.store.store_files import read_verified

if TYPE_CHECKING:
    import openvino

    from headstart.features.engines.base import Engine
    from headstart.features.store.feature_store import FeatureStore

COMPARED = 32  # of the images: how far their features move


def quantized_network(
    backbone: Backbone,
    spec: FeatureSpec,
    old: FeatureStore | None,
    examples: Examples,
    paths: Text | Below,
    max_pixels: int,
) -> tuple[bytes, str]:
    """The file of a spec's network in int8, and a line that says what it was calibrated on; nothing for other dtypes.

    Args:
        backbone: of the features.
        spec: the dtype, and how images become pixels.
        old: the store that is there already, whose network stays.
        examples: all of them, in the store's order, in which each split is shuffled by a hash.
        paths: of each.
        max_pixels: an image of more is refused.

    Raises:
        UserError: when no image of the training split can be read, when features move too far, when NNCF is not installed, or
            OpenVINO can't read the network.
    """
    if spec.compute_dtype != "int8":
        return b"", ""
    if old:
        return network_in(old), ""
    check_nncf()
    from headstart.features.engines.openvino_engine import network_of

    images = _training_images(spec, examples, paths, max_pixels)
    exact = network_of(lambda: backbone.extractor, backbone.kept)
    tried = [quantize(exact, images, halved) for halved in ranges_to_try()]
    noises = _noises(exact, tried, images[:COMPARED])
    best = min(range(len(tried)), key=lambda number: (math.isnan(noises[number]), noises[number]))
    noise, network = check_noise(noises[best], "int8", spec.backbone), remembered(tried[best])
    told = f"int8: calibrated on {len(images)} images of the training split; features move by {noise:.1%} of their size"
    return network, told


def _training_images(spec: FeatureSpec, examples: Examples, paths: Text | Below, max_pixels: int) -> list[np.ndarray]:
    """Some images of the training split that can be read, float32 [H, W, 3]."""
    load, splits = image_loader(spec, max_pixels), examples.splits
    rows = np.flatnonzero(splits.codes == splits.names.index("train") if "train" in splits.names else [])[:CALIBRATION_IMAGES]
    files = [ImageToRead(path, example.digest) for path, example in zip(paths.take(rows).values(), examples.take(rows))]
    with ThreadPoolExecutor(cores()) as pool:
        images = [pixels for pixels in pool.map(load, files) if not isinstance(pixels, Unreadable)]
    if not images:
        raise UserError("bad-input", "--compute_dtype int8 is calibrated on images of the split train, and none can be read")
    return images


def _noises(exact: openvino.Model, networks: Sequence[bytes], images: Sequence[np.ndarray]) -> list[float]:
    """How far each network in int8 moves the features of its worst tap."""
    options = EngineOptions("openvino")
    engine = network_engine(exact, options, "float32")
    batches = [np.stack(images[start : start + engine.batch_size]) for start in range(0, len(images), engine.batch_size)]

    def features(engine: Engine) -> list[np.ndarray]:
        """Of each tap."""
        return [np.concatenate(batch) for batch in zip(*(engine(batch) for batch in batches))]

    expected, small = features(engine), (features(network_engine(read(each), options, "int8")) for each in networks)
    return [float(np.max(list(map(noise_of, expected, found)))) for found in small]  # NaN, if one is


def network_in(store: FeatureStore) -> bytes:
    """The network in int8 that a store keeps; nothing where it has none.

    Raises:
        UserError: when it is damaged.
    """
    if not store.spec.quantized:
        return b""
    return remembered(read_verified(store.path, store.manifest.path_of(QUANTIZED), store.manifest.digests))
