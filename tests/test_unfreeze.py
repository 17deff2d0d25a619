"""Unfreezing: which layers a flag means, where the network is cut, and a cut network that answers as the whole one does."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import numpy as np
import pytest

from headstart.features.backbones.build import build
from headstart.features.backbones.feature_extractor import build_feature_extractor
from headstart.features.backbones.feature_maps import above, frozen_boundaries
from headstart.features.backbones.source import BackboneSource
from headstart.features.errors import UserError
from headstart.features.formatting import shortened
from headstart.features.spec import FeatureSpec, Tap
from headstart.training.finetuning.unfreeze import SplitNetwork, Unfreezing, describe, split_network, training_in
from tests.conftest import IMAGE_SIZE, little_base

SIZE = (IMAGE_SIZE, IMAGE_SIZE)
LITTLE = [f"{block}_{layer}" for block in ("stem", "a", "b", "c") for layer in ("conv", "bn")]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, keras.Model]:
    found = {name: build(BackboneSource(name, "random:0"), SIZE) for name in ("VGG16", "MobileNetV2", "EfficientNetLite0")}
    path = little_base(tmp_path_factory.mktemp("little") / "little.keras")
    return found | {"little": keras.saving.load_model(path, compile=False)}


def network(base: keras.Model, unfreezing: Unfreezing, tap: str = "", pool: str = "", classes: int = 3) -> SplitNetwork:
    backbone, (found,) = build_feature_extractor(base, [Tap(tap, pool)], "tf", SIZE)
    features = keras.Input(found.shape, name="feature")
    x = keras.layers.Flatten()(features) if len(found.shape) > 1 else features
    head = keras.Model(features, keras.layers.Dense(classes, "softmax", name="logits")(x), name="head")
    return split_network(backbone, head, found, unfreezing, SIZE)


@pytest.mark.parametrize(
    ("unfreezing", "expected"),
    [
        (Unfreezing(), []),
        (Unfreezing(last=1), ["c_bn"]),
        (Unfreezing(last=3), ["b_bn", "c_conv", "c_bn"]),
        (Unfreezing(last=8), LITTLE),
        (Unfreezing(everything=True), LITTLE),
        (Unfreezing(layer_from="b_conv"), LITTLE[4:]),
        (Unfreezing(layer_from="b_bn"), LITTLE[5:]),
        (Unfreezing(layer_from="a_add"), LITTLE[4:]),
        (Unfreezing(layer_after="a_add"), LITTLE[4:]),
        (Unfreezing(layer_after="b_conv"), LITTLE[5:]),
        (Unfreezing(layer_after="c_conv"), ["c_bn"]),
        (Unfreezing(layer_from="image"), LITTLE),
        (Unfreezing(layer_after="image"), LITTLE),
    ],
    ids=str,
)
def test_which_layers_a_flag_means(unfreezing: Unfreezing, expected: list[str], bases: dict[str, keras.Model]) -> None:
    assert unfreezing.layers(bases["little"]) == expected


@pytest.mark.parametrize(
    ("unfreezing", "told"),
    [
        (Unfreezing(layer_from="b_cnov"), "'b_cnov' is no layer of the backbone below the head. Did you mean b_conv"),
        (Unfreezing(layer_after="C_ADD_1"), "Did you mean c_add"),
        (Unfreezing(layer_from="zzz"), "'zzz' is no layer of the backbone below the head. `headstart backbones NAME`"),
        (Unfreezing(last=9), "--unfreeze_last 9: the backbone has 8 layers with weights below the head"),
        (Unfreezing(layer_from="c_relu"), "no layer from 'c_relu' on has weights to train: name an earlier one"),
        (Unfreezing(layer_after="c_add"), "no layer from 'c_add' on has weights to train"),
    ],
    ids=str,
)
def test_what_there_is_not_is_refused(unfreezing: Unfreezing, told: str, bases: dict[str, keras.Model]) -> None:
    with pytest.raises(UserError, match=told) as caught:
        unfreezing.layers(bases["little"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"layer_from": "a", "layer_after": "a"},
        {"layer_from": "a", "last": 1},
        {"last": 1, "everything": True},
        {"layer_after": "a", "everything": True},
    ],
)
def test_one_flag_at_once(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="give one of --unfreeze_from"):
        Unfreezing(**given)
    with pytest.raises(UserError, match="--unfreeze_last counts layers from 1, not -2"):
        Unfreezing(last=-2)


@pytest.mark.parametrize(
    ("name", "unfreezing", "boundary", "shape"),
    [
        ("VGG16", Unfreezing(layer_from="block5_conv1"), "block4_pool", (2, 2, 512)),
        ("VGG16", Unfreezing(layer_from="block5_conv3"), "block5_conv2", (2, 2, 512)),
        ("VGG16", Unfreezing(layer_after="block3_pool"), "block3_pool", (4, 4, 256)),
        ("VGG16", Unfreezing(layer_from="block1_conv2"), "block1_conv1", (32, 32, 64)),
        ("VGG16", Unfreezing(layer_from="block1_conv1"), None, None),
        ("VGG16", Unfreezing(everything=True), None, None),
        ("MobileNetV2", Unfreezing(layer_from="block_15_depthwise"), "block_14_add", (1, 1, 160)),
        ("MobileNetV2", Unfreezing(layer_after="block_15_add"), "block_15_add", (1, 1, 160)),
        ("MobileNetV2", Unfreezing(layer_after="block_15_expand_relu"), "block_14_add", (1, 1, 160)),
        ("MobileNetV2", Unfreezing(last=1), "Conv_1", (1, 1, 1280)),
        ("MobileNetV2", Unfreezing(everything=True), None, None),
        ("little", Unfreezing(layer_from="c_bn"), "b_relu", (8, 8, 16)),
        ("little", Unfreezing(layer_from="b_bn"), "b_conv", (8, 8, 16)),
    ],
    ids=str,
)
def test_where_the_network_is_cut(
    name: str, unfreezing: Unfreezing, boundary: str | None, shape: tuple[int, ...] | None, bases: dict[str, keras.Model]
) -> None:
    made = network(bases[name], unfreezing)
    assert (made.boundary and made.boundary.layer) == boundary
    assert (made.boundary and made.boundary.shape) == shape
    assert made.unfrozen == tuple(unfreezing.layers(made.base))
    assert [layer.name for layer in made.base.layers if layer.trainable and layer.weights] == list(made.unfrozen)
    expected = {id(weight) for layer in made.unfrozen for weight in made.base.get_layer(layer).trainable_weights}
    assert {id(weight) for weight in made.trained.trainable_variables} == expected | {id(w) for w in made.head.weights}


@pytest.mark.parametrize(
    ("name", "unfreezing", "tap", "pool"),
    [
        ("little", Unfreezing(), "", ""),
        ("little", Unfreezing(layer_from="c_bn"), "", ""),
        ("little", Unfreezing(layer_after="a_add"), "", "grid3"),
        ("little", Unfreezing(layer_after="stem_relu"), "b_relu", "max"),
        ("little", Unfreezing(everything=True), "", "none"),
        ("VGG16", Unfreezing(layer_from="block5_conv1"), "", ""),
        ("MobileNetV2", Unfreezing(layer_from="block_15_depthwise"), "", ""),
        ("MobileNetV2", Unfreezing(everything=True), "", ""),
        ("EfficientNetLite0", Unfreezing(last=2), "", ""),
    ],
    ids=str,
)
def test_the_two_parts_answer_as_the_whole(
    name: str, unfreezing: Unfreezing, tap: str, pool: str, bases: dict[str, keras.Model]
) -> None:
    made = network(bases[name], unfreezing, tap, pool)
    pixels = np.random.default_rng(0).uniform(0, 255, (3, *SIZE, 3)).astype(np.float32)
    whole = np.asarray(made.head(made.backbone(pixels, training=False)))
    spec = FeatureSpec(name, "", SIZE, (made.tap,), "tf")
    features = pixels if made.boundary is None else np.asarray(made.frozen_model(spec)(pixels, training=False))
    for training in (False, True):
        answers = np.asarray(made.trained(features, training=training))
        np.testing.assert_allclose(answers, whole, atol=1e-5)
    assert [layer.name for layer in made.base.layers if layer.trainable and layer.weights] == list(made.unfrozen)


@pytest.mark.parametrize("decay", [0.5, 0.1, 1.0])
def test_each_stage_below_the_top_one_learns_less(decay: float, bases: dict[str, keras.Model]) -> None:
    made = network(bases["VGG16"], Unfreezing(layer_from="block3_conv1"))
    rate_of = dict(zip((weight.path for weight in made.trained.trainable_variables), made.rates(decay, SIZE), strict=True))
    for path, rate in rate_of.items():
        stages_below = 5 - int(path[5]) if path.startswith("block") else 0
        assert rate == pytest.approx(decay**stages_below), path
    assert len(rate_of) == 2 * 9 + 2


def test_rates_of_every_stage_of_a_residual_network(bases: dict[str, keras.Model]) -> None:
    made = network(bases["little"], Unfreezing(everything=True))
    rate_of = dict(zip((weight.path for weight in made.trained.trainable_variables), made.rates(0.5, SIZE), strict=True))
    for path, rate in rate_of.items():
        assert rate == (0.5 if path.startswith(("stem", "a_")) else 1.0), path
    frozen = network(bases["little"], Unfreezing())
    assert frozen.rates(0.5, SIZE) == [1.0, 1.0]


def test_batchnorm_has_no_say_in_training(bases: dict[str, keras.Model]) -> None:
    base = keras.models.clone_model(bases["little"])
    base.set_weights(bases["little"].get_weights())
    made = network(base, Unfreezing(everything=True))
    before = [weight.numpy() for weight in made.base.non_trainable_weights]
    made.trained.compile("sgd", "sparse_categorical_crossentropy")
    pixels = np.random.default_rng(0).uniform(0, 255, (8, *SIZE, 3)).astype(np.float32)
    made.trained.fit(pixels, np.arange(8) % 3, batch_size=4, epochs=2, verbose=0)
    assert len(before) == 8
    for weight, value in zip(made.base.non_trainable_weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_a_mixed_precision_is_for_the_training_alone(precision: str, bases: dict[str, keras.Model]) -> None:
    made = network(bases["little"], Unfreezing(layer_after="a_add"))
    features = np.random.default_rng(0).normal(size=(2, 16, 16, 8)).astype(np.float32)
    plain = np.asarray(made.trained(features))
    with training_in(made, precision):
        assert made.base.get_layer("c_conv").compute_dtype == precision.removeprefix("mixed_")
        assert made.head.layers[-1].compute_dtype == "float32"
        mixed = np.asarray(made.trained(features))
    assert 0 < np.abs(mixed - plain).max() < 0.05 and mixed.dtype == np.float32
    assert {layer.dtype_policy.name for layer in made.base.layers} == {"float32"}
    np.testing.assert_array_equal(np.asarray(made.trained(features)), plain)


def test_a_network_without_layers_to_train_is_told() -> None:
    image = keras.Input((*SIZE, 3))
    base = keras.Model(image, keras.layers.Rescaling(2.0)(image))  # a SavedModel's layer has no weights of Keras's either
    for unfreezing in (Unfreezing(last=1), Unfreezing(everything=True)):
        with pytest.raises(UserError, match="no layers of Keras's to train, as a SavedModel has none"):
            unfreezing.layers(base)
    assert Unfreezing().layers(base) == []


def test_a_precision_is_taken_back_when_training_fails(bases: dict[str, keras.Model]) -> None:
    made = network(bases["little"], Unfreezing(last=1))
    with pytest.raises(UserError), training_in(made, "mixed_bfloat16"):
        raise UserError("bad-flag", "no")
    assert {layer.dtype_policy.name for layer in made.base.layers} == {"float32"}


def test_what_is_told(bases: dict[str, keras.Model]) -> None:
    assert describe(network(bases["little"], Unfreezing(last=2))) == [
        "trainable: 2,387 of 4,491 weights, 5 arrays",
        "unfrozen:  2 layers: c_conv, c_bn",
        "trained after b_relu; BatchNorm stays in inference mode",
    ]
    told = describe(network(bases["MobileNetV2"], Unfreezing(everything=True)))
    assert len(told) == 3 and told[1].startswith("unfrozen:  104 layers: Conv1, bn_Conv1, ") and len(told[1]) < 250
    assert shortened([f"{n}" for n in range(20)]) == "0, 1, 2, 3, 4, 5, ... 14, 15, 16, 17, 18, 19"


def test_what_lies_above_a_layer(bases: dict[str, keras.Model]) -> None:
    assert above(bases["little"], "b_relu") == {"c_conv", "c_bn", "c_relu", "c_add"}
    assert above(bases["little"], "c_add") == set()
    found, _ = frozen_boundaries(bases["little"], {"c_conv"}, SIZE)[-1]
    assert (found.layer, found.shape) == ("b_relu", (8, 8, 16))
    assert frozen_boundaries(bases["little"], {"stem_conv"}, SIZE) == []
    assert frozen_boundaries(bases["little"], set(), SIZE)[-1][0].layer == "c_add"


def test_a_tap_below_the_end_hides_the_layers_above_it(bases: dict[str, keras.Model], tmp_path: pathlib.Path) -> None:
    made = network(bases["little"], Unfreezing(last=2), tap="b_relu")
    assert made.unfrozen == ("b_conv", "b_bn")
    with pytest.raises(UserError, match="'c_conv' is no layer of the backbone below the head"):
        network(bases["little"], Unfreezing(layer_from="c_conv"), tap="b_relu")
