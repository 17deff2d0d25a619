"""Which network in int8 an extraction runs: the one that its store has, or one calibrated on some of the training images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from headstart.features.dataset.columns import Below, Text
from headstart.features.dataset.examples import Examples
from headstart.features.engines.factory import make_engine, quantized_engine
from headstart.features.engines.noise import check_noise
from headstart.features.engines.options import EngineOptions
from headstart.features.engines.quantized import CALIBRATION_IMAGES, QUANTIZED, digest_of, load, quantize, remembered
from headstart.features.engines.stream import ImageToRead, Unreadable, image_loader
from headstart.features.errors import UserError
from headstart.features.runtime import cores
from headstart.features.spec import FeatureSpec
from headstart.features.store.store_files import read_verified

if TYPE_CHECKING:
    import keras

    from headstart.features.store.feature_store import FeatureStore

COMPARED = 32  # of the images: how far their features move


def quantized_network(
    model: keras.Model, spec: FeatureSpec, examples: Examples, paths: Text | Below, max_pixels: int
) -> tuple[bytes, str]:
    """A network's file in int8, and a line that says what it was calibrated on.

    Args:
        model: from pixels to the spec's taps.
        spec: how images become pixels.
        examples: all of them, in the store's order, in which each split is shuffled by a hash.
        paths: of each.
        max_pixels: an image of more is refused.

    Raises:
        UserError: when no image of the training split can be read, when features move too far, or as `quantize` does.
    """
    load, splits = image_loader(spec, max_pixels), examples.splits
    rows = np.flatnonzero(splits.codes == splits.names.index("train") if "train" in splits.names else [])[:CALIBRATION_IMAGES]
    files = [ImageToRead(path, example.digest) for path, example in zip(paths.take(rows).values(), examples.take(rows))]
    with ThreadPoolExecutor(cores()) as pool:
        images = [pixels for pixels in pool.map(load, files) if not isinstance(pixels, Unreadable)]
    if not images:
        raise UserError("bad-input", "--compute_dtype int8 is calibrated on images of the split train, and none can be read")
    network = quantize(model, images)
    noise = max(_noises(model, network, images[:COMPARED], spec))
    return (
        network,
        f"int8: calibrated on {len(images)} images of the training split; features move by {noise:.1%} of their size",
    )


def _noises(model: keras.Model, network: bytes, images: Sequence[np.ndarray], spec: FeatureSpec) -> Iterator[float]:
    """How far each tap's features move."""
    options = EngineOptions("openvino")
    engines = make_engine(model, options), quantized_engine(load("", digest_of(network)), options)
    few = engines[0].batch_size
    batches = [np.stack(images[start : start + few]) for start in range(0, len(images), few)]
    exact, found = (list(zip(*(engine(batch) for batch in batches))) for engine in engines)
    for one, other in zip(exact, found):
        yield check_noise(np.concatenate(one), np.concatenate(other), "int8", spec.backbone)


def network_in(store: FeatureStore) -> bytes:
    """The network in int8 that a store keeps; nothing where it has none.

    Raises:
        UserError: when it is damaged.
    """
    if not store.spec.quantized:
        return b""
    return remembered(read_verified(store.path, store.manifest.path_of(QUANTIZED), store.manifest.digests))
