"""Models: a saved file that needs nothing of this project, resizing inside it, and heads that fit their taps."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest

from headstart.features.errors import UserError
from headstart.features.images.resize import resizer
from headstart.features.keras_internals import every_layer
from headstart.features.spec import FeatureSpec, Tap
from headstart.training.heads import attach_head, build_head, resolve_precision, wrap_head
from headstart.training.runs.run_folder import Run
from headstart.training.runs.shared_model import shared_model
from tests.conftest import draw, raises

ALONE = """
import json, sys
import keras
import numpy as np
model = keras.saving.load_model({model!r})
answers = [model.predict(np.load(path)[None], verbose=0)[0].tolist() for path in {images!r}]
mine = ("headstart", "features", "pipelines", "training", "apache_beam")
print(json.dumps({{"answers": answers, "loaded": [name for name in sys.modules if name.partition(".")[0] in mine]}}))
"""


def images() -> list[np.ndarray]:
    """Two images of different sizes, uint8 [H, W, 3]."""
    generator = np.random.default_rng(3)
    wide = np.asarray(draw("fern", generator).resize((71, 43)))
    return [wide, np.asarray(draw("anemone", generator).resize((40, 64)))]


@pytest.mark.slow
def test_saved_model_stands_alone(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    paths = [str(tmp_path / f"{number}.npy") for number in range(2)]
    for path, image in zip(paths, images()):
        np.save(path, image)
    code = ALONE.format(model=str(run / "model.keras"), images=paths)
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["loaded"] == []
    here = [Run.open(str(run)).model().predict(image[None], verbose=0)[0] for image in images()]
    np.testing.assert_allclose(found["answers"], here, atol=1e-5)
    np.testing.assert_allclose(np.sum(found["answers"], axis=1), 1, atol=1e-5)
    assert [Run.open(str(run)).class_names[np.argmax(row)] for row in found["answers"]] == ["fern", "anemone"]


def test_saved_model_takes_a_batch_of_any_size(run: pathlib.Path) -> None:
    model = Run.open(str(run)).model()
    assert model.input_shape == (None, None, None, 3)
    batch = np.stack([images()[0]] * 3)  # [3, 43, 71, 3]
    answers = model.predict(batch, verbose=0)
    assert answers.shape == (3, 3) and answers.dtype == np.float32
    np.testing.assert_allclose(answers, np.repeat(model.predict(batch[:1], verbose=0), 3, axis=0), atol=1e-5)


def test_a_model_is_shared_until_its_file_is_another(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    here, moved = tmp_path / "here", tmp_path / "moved"
    shutil.copytree(run, here)
    model = shared_model(Run.open(str(here)))
    here.rename(moved)  # as a training is, from where it works to where it is published
    assert shared_model(Run.open(str(moved))) is model
    (moved / "model.keras").write_bytes((run / "model.keras").read_bytes())
    assert shared_model(Run.open(str(moved))) is not model
    (moved / "model.keras").unlink()
    with raises("bad-model"):
        shared_model(Run.open(str(moved)))


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> keras.Model:
    """A classifier on a backbone of one layer, saved and loaded in safe mode."""
    pixels = keras.Input((24, 32, 3))
    backbone = keras.Model(pixels, keras.layers.AveragePooling2D(8)(pixels), name="backbone")
    tap = Tap("average", "none", (3, 4, 3))
    head = build_head("mlp", tap, 3, (np.full(3, 128.0), np.full(3, 50.0)))
    path = tmp_path_factory.mktemp("little") / "model.keras"
    attach_head(FeatureSpec("Tiny", "", (24, 32), (tap,), "none"), backbone, head).save(path)
    return keras.saving.load_model(path, safe_mode=True)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "int64"])
def test_pixels_of_any_type_and_of_0_to_1_give_the_same_answers(little: keras.Model, dtype: str) -> None:
    model, image = little, images()[0][None]
    expected = model.predict(image, verbose=0)
    assert np.array_equal(model.predict(image.astype(dtype), verbose=0), expected)
    if "float" in dtype:
        of_one = np.concatenate([image.astype(dtype) / 255, image.astype(dtype)])  # each image by itself
        np.testing.assert_allclose(model.predict(of_one, verbose=0), np.repeat(expected, 2, axis=0), atol=1e-4)
        np.testing.assert_allclose(model(of_one[:1]), expected, atol=1e-4)


def test_preprocessed_pixels_and_black_images(little: keras.Model) -> None:
    model, image = little, images()[0][None].astype(np.float32)
    answers = model.predict(np.concatenate([image / 127.5 - 1, image]), verbose=0)
    assert np.isnan(answers[0]).all() and np.isfinite(answers[1]).all()
    dark = np.zeros_like(image, np.uint8)
    dark[0, 0, 0] = 1  # a whole number is what it says
    np.testing.assert_allclose(model.predict(dark, verbose=0), model.predict(np.zeros_like(dark), verbose=0), atol=1e-2)


def test_backbone_stays_as_it_was_trained(run: pathlib.Path) -> None:
    model = Run.open(str(run)).model()
    layers = list(every_layer(model.get_layer("backbone")))
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) == 3  # one in each block of the stand-in
    assert not any(layer.trainable for layer in layers if layer.weights)
    before = [np.array(weight) for layer in norms for weight in layer.get_weights()]
    image = images()[0][None]
    np.testing.assert_array_equal(model(image, training=True), model(image, training=False))
    after = [np.array(weight) for layer in norms for weight in layer.get_weights()]
    assert all(np.array_equal(old, new) for old, new in zip(before, after, strict=True))
    assert [weight.path for weight in model.trainable_weights] == ["logits/kernel", "logits/bias"]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "area"])
@pytest.mark.parametrize("resize_mode", ["squash", "crop", "pad"])
def test_attached_head_sees_what_extraction_saw(resize_mode: str, interpolation: str) -> None:
    pixels = keras.Input((24, 32, 3))
    backbone = keras.Model(pixels, keras.layers.AveragePooling2D(8)(pixels), name="backbone")
    tap = Tap("average", "none", (3, 4, 3))
    spec = FeatureSpec("Tiny", "", (24, 32), (tap,), "none", resize_mode, interpolation)
    head = build_head("mlp", tap, 3, (np.full(3, 128.0), np.full(3, 50.0)))
    classifier = attach_head(spec, backbone, head)
    for image in images():
        expected = head(backbone(resizer(spec)(image)[None]))
        np.testing.assert_allclose(classifier(image[None]), expected, atol=1e-6)


def moments(channels: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(channels, np.float32), np.ones(channels, np.float32)


def filled(head: keras.Model, seed: int = 0) -> keras.Model:
    """A linear head starts at zero: gives it weights with something to tell."""
    generator = np.random.default_rng(seed)
    layer = head.get_layer("logits")
    layer.set_weights([generator.normal(size=weight.shape).astype(np.float32) for weight in layer.get_weights()])
    return head


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def test_linear_averages_a_whole_map() -> None:
    head = filled(build_head("linear", Tap("map", "none", (2, 3, 5)), 4, moments(5)))
    kernel, bias = head.get_layer("logits").get_weights()
    assert kernel.shape == (5, 4)
    feature = np.random.default_rng(1).normal(size=(7, 2, 3, 5)).astype(np.float32)
    np.testing.assert_allclose(head(feature), softmax(feature.mean((1, 2)) @ kernel + bias), atol=1e-5)
    turned = feature[:, ::-1, ::-1]  # an average doesn't know where
    np.testing.assert_allclose(head(feature), head(turned), atol=1e-5)


def test_linear_keeps_the_places_of_a_grid() -> None:
    head = filled(build_head("linear", Tap("map", "grid2", (2, 2, 5)), 4, moments(5)))
    kernel, bias = head.get_layer("logits").get_weights()
    assert kernel.shape == (2 * 2 * 5, 4)
    feature = np.random.default_rng(1).normal(size=(7, 2, 2, 5)).astype(np.float32)
    np.testing.assert_allclose(head(feature), softmax(feature.reshape(7, -1) @ kernel + bias), atol=1e-5)


def test_mlp_takes_all_of_a_map() -> None:
    head = build_head("mlp", Tap("map", "none", (2, 3, 5)), 4, moments(5))
    assert head.get_layer("hidden").get_weights()[0].shape == (2 * 3 * 5, 256)


def test_linear_starts_without_an_opinion() -> None:
    head = build_head("linear", Tap("map", "avg", (6,)), 4, moments(6))
    np.testing.assert_array_equal(head(np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)), np.full((3, 4), 0.25))


def test_standardises_each_channel() -> None:
    head = build_head("linear", Tap("map", "avg", (3,)), 2, (np.array([1.0, -2.0, 30.0]), np.array([2.0, 0.5, 10.0])))
    inner = keras.Model(head.inputs, head.get_layer("standardise").output)
    feature = np.float32([[3.0, -2.0, 10.0], [1.0, -1.0, 40.0]])
    np.testing.assert_allclose(inner(feature), [[1, 0, -2], [0, 2, 1]], atol=1e-4)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize("deviation", [[1.0, 0.0, 2.0], [0.0, 0.0, 0.0]], ids=["one-constant", "all-constant"])
def test_constant_channels_give_numbers(deviation: list[float], kind: str) -> None:
    head = build_head(kind, Tap("map", "avg", (3,)), 2, (np.float32([1, 5, 0]), np.float32(deviation)))
    if kind == "linear":
        filled(head)
    answers = np.asarray(head(np.float32([[1, 5, 0], [1.5, 5.01, -3]])))
    assert np.isfinite(answers).all()
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-5)


def test_a_channel_that_hardly_moved_does_not_shout() -> None:
    deviation = np.float32([1, 1, 1e-6])
    head = build_head("linear", Tap("map", "avg", (3,)), 2, (np.zeros(3, np.float32), deviation))
    inner = keras.Model(head.inputs, head.get_layer("standardise").output)
    assert np.abs(inner(np.float32([[0, 0, 1]]))).max() < 20  # not a million


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize("precision", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_probabilities_are_float32(precision: str, kind: str) -> None:
    head = build_head(kind, Tap("map", "avg", (6,)), 3, moments(6), precision=precision)
    answers = head(np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32))
    assert head.output.dtype == answers.dtype == "float32"
    assert {weight.dtype for weight in head.trainable_weights} == {"float32"}
    np.testing.assert_allclose(np.sum(answers, axis=1), 1, atol=1e-5)


def test_precision_without_a_gpu() -> None:
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU here")
    assert resolve_precision("auto") == "float32"
    assert resolve_precision("mixed_bfloat16") == "mixed_bfloat16"
    with pytest.raises(UserError, match="--precision mixed_float16 needs a GPU, and there is none"):
        resolve_precision("mixed_float16")


@pytest.mark.parametrize(
    ("capability", "automatic", "refused"),
    [
        ((9, 0), "mixed_bfloat16", []),
        ((7, 5), "mixed_float16", ["mixed_bfloat16"]),
        ((6, 1), "float32", ["mixed_bfloat16", "mixed_float16"]),
    ],
)
def test_precision_on_a_gpu(
    capability: tuple[int, int], automatic: str, refused: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {"compute_capability": capability})
    assert resolve_precision("auto") == automatic and resolve_precision("float32") == "float32"
    for precision in ("mixed_bfloat16", "mixed_float16"):
        if precision in refused:
            with pytest.raises(UserError, match=f"--precision {precision} needs a GPU of compute capability"):
                resolve_precision(precision)
        else:
            assert resolve_precision(precision) == precision


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(lambda: keras.layers.Dense(4), r"\(4,\)"), (lambda: keras.layers.Reshape((2, 3)), r"\(2, 3\)")],
    ids=["classes", "rank"],
)
def test_wrapping_what_does_not_fit(layer: Any, shape: str) -> None:
    with pytest.raises(UserError, match=rf"the head gives {shape} for an image; expected \(3,\)"):
        wrap_head(layer(), Tap("map", "avg", (6,)), 3, from_logits=False)
