"""The networks that the usual notebook names, at its image size: shapes inferred, values those of keras.applications."""

from __future__ import annotations

import pathlib
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from headstart.features.backbones.build import build
from headstart.features.backbones.catalogue import BACKBONES
from headstart.features.backbones.feature_extractor import build_feature_extractor
from headstart.features.backbones.source import BackboneSource
from headstart.features.spec import Tap

SHAPES = {  # at 150 pixels a side, as Keras gives them; the deeper ones of a kind: `make backbones`
    "VGG16": (4, 4, 512),
    "InceptionV3": (3, 3, 2048),
    "ResNet50": (5, 5, 2048),
    "ResNet50V2": (5, 5, 2048),
    "InceptionResNetV2": (3, 3, 1536),
    "Xception": (5, 5, 2048),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation")
@pytest.mark.parametrize(
    ("name", "size"), [*((name, (150, 150)) for name in SHAPES), ("VGG16", (150, 96)), ("Xception", (71, 150))]
)
def test_maps_are_those_of_keras(name: str, size: tuple[int, int]) -> None:
    application = getattr(keras.applications, name)
    pixels = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    base = build(BackboneSource(name, "random:0"), size)
    model, (tap,) = build_feature_extractor(base, [Tap("", "none")], BACKBONES[name].preprocessing, size)
    found = model(pixels.astype(np.float32))
    reference = application(include_top=False, weights=None, input_shape=(*size, 3))
    reference.set_weights(base.get_weights())
    expected = reference(sys.modules[application.__module__].preprocess_input(pixels.astype(np.float32)), training=False)
    assert tap.shape == tuple(expected.shape[1:])
    if size == (150, 150):
        assert tap.shape == SHAPES[name]
    largest = np.abs(expected).max()
    assert largest > 0 and np.abs(found - expected).max() <= 1e-4 * largest


def test_a_split_s_last_batch_counts(tmp_path: pathlib.Path) -> None:
    from headstart.pipelines.extract import extract
    from headstart.pipelines.extract_config import ExtractConfig

    for number in range(10):
        path = tmp_path / "photos" / "train" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 30), (25 * number, 9, 9)).save(path)
    store = extract(
        ExtractConfig(
            input=str(tmp_path / "photos"),
            store=str(tmp_path / "store"),
            backbone="VGG16",
            weights="random:0",
            image_size="32",
            taps=("block4_pool:none", "block5_pool:none"),
            batch_size=4,
        )
    )
    assert store.count("train") == 10
    assert store.to_numpy("train", "block4_pool:none").features.shape == (10, 2, 2, 512)
    assert store.to_numpy("train", "block5_pool:none").features.shape == (10, 1, 1, 512)
