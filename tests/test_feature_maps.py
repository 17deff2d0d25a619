"""Where a stage ends, for networks of every style, without a layer's name in the code."""

from __future__ import annotations

from typing import Any

import pytest

from headstart.features.backbones.build import build
from headstart.features.backbones.catalogue import BACKBONES
from headstart.features.backbones.feature_extractor import build_feature_extractor
from headstart.features.backbones.feature_maps import FeatureMap, feature_maps, last_map, stage_ends
from headstart.features.backbones.source import BackboneSource
from headstart.features.keras_internals import maker_of
from headstart.features.spec import Tap

SIZE = (150, 150)
ENDS = {
    "VGG16": ["block1_pool", "block2_pool", "block3_pool", "block4_pool", "block5_pool"],
    "ResNet50": ["pool1_pool", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"],
    "MobileNetV2": [
        *("block_1_expand_relu", "block_3_expand_relu", "block_6_expand_relu", "block_13_expand_relu", "out_relu"),
    ],
    "EfficientNetLite0": [
        *("block2a_expand_activation", "block3a_expand_activation", "block4a_expand_activation"),
        *("block6a_expand_activation", "top_activation"),
    ],
    "InceptionV3": ["max_pooling2d", "max_pooling2d_1", "mixed2", "mixed7", "mixed10"],
    "DenseNet121": ["pool1", "pool2_pool", "pool3_pool", "pool4_pool", "relu"],
    "NASNetMobile": None,  # its cells reach over each other: no name is a stage's natural end
}


@pytest.fixture(scope="module", params=ENDS)
def network(request: pytest.FixtureRequest) -> tuple[str, Any, list[FeatureMap]]:
    base = build(BackboneSource(request.param, "random:0"), SIZE)
    return request.param, base, feature_maps(base, SIZE)


@pytest.mark.slow
def test_stages_end_where_the_map_halves(network: tuple[str, Any, list[FeatureMap]]) -> None:
    name, base, maps = network
    ends = stage_ends(maps, SIZE)
    if ENDS[name]:
        assert [end.layer for end in ends] == ENDS[name]
    assert ends[-1] == last_map(maps) and ends[-1].layer == maker_of(base.output).operation.name
    sizes, depths = [end.shape[0] for end in ends], [end.depth for end in ends]
    assert sizes == sorted(sizes, reverse=True) and len(ends) >= 4
    assert depths == sorted(depths) and depths[-1] == 1.0 and depths[0] > 0
    assert all(end.shape == tuple(base.get_layer(end.layer).output.shape[1:]) for end in ends)


@pytest.mark.slow
def test_auto_takes_every_end_twice(network: tuple[str, Any, list[FeatureMap]]) -> None:
    name, base, maps = network
    ends = [end.layer for end in stage_ends(maps, SIZE)]
    _, taps = build_feature_extractor(base, [Tap("auto"), Tap(ends[-1], "avg")], BACKBONES[name].preprocessing, SIZE)
    assert [(tap.layer, tap.pool) for tap in taps] == [(end, pool) for end in ends for pool in ("avg", "grid3")]
    assert all(tap.shape == ((tap.shape[-1],) if tap.pool == "avg" else (3, 3, tap.shape[-1])) for tap in taps)
    _, averages = build_feature_extractor(base, [Tap("auto", "avg")], BACKBONES[name].preprocessing, SIZE)
    assert averages == tuple(tap for tap in taps if tap.pool == "avg")


def test_a_grid_larger_than_its_map_is_left_out() -> None:
    base = build(BackboneSource("VGG16", "random:0"), (64, 64))
    _, taps = build_feature_extractor(base, [Tap("auto")], "caffe", (64, 64))
    assert [tap.pool for tap in taps if tap.layer == "block5_pool"] == ["avg"]  # 2x2
    assert [tap.pool for tap in taps if tap.layer == "block4_pool"] == ["avg", "grid3"]  # 4x4


def test_a_network_of_any_size_has_its_shapes_at_the_one_asked_for() -> None:
    import keras

    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="one")(image)
    outputs = keras.layers.Dense(5, name="top")(keras.layers.GlobalAveragePooling2D(name="mean")(x))
    maps = {found.layer: found for found in feature_maps(keras.Model(image, outputs), (40, 20))}
    assert maps["one"].shape == (20, 10, 4) and maps["mean"].shape == (4,) and maps["top"].shape == (5,)
    assert last_map(list(maps.values())).layer == "one" and not maps["top"].is_map
