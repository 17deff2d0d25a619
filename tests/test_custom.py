"""A model of the user's as a backbone: .keras files and SavedModels, what they are asked, and what is refused."""

from __future__ import annotations

import json
import os
import pathlib
import re
import time
import zipfile
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from headstart.cli import main
from headstart.features.backbones.build import build, preprocessing_of, weights_digest
from headstart.features.backbones.custom import architecture_digest, input_size
from headstart.features.backbones.feature_extractor import build_feature_extractor
from headstart.features.backbones.keras_file import _numbered, load_model, save_model
from headstart.features.backbones.source import CUSTOM, BackboneSource
from headstart.features.errors import UserError
from headstart.features.spec import Tap

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)


def network(
    size: int | None = 32, rescaled: bool = True, top: bool = False, activation: str = "relu", dtype: str = "float32"
) -> keras.Model:
    """Two convolutions, perhaps with a top."""
    keras.utils.set_random_seed(0)
    image = keras.Input((size, size, 3), dtype=dtype)
    x = keras.ops.cast(image, "float32") if dtype != "float32" else image
    x = keras.layers.Rescaling(1 / 255)(x) if rescaled else x
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="one")(x)
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", activation=activation, name="two")(x)
    if top:
        x = keras.layers.Dense(5, name="top")(keras.layers.GlobalAveragePooling2D(name="mean")(x))
    return keras.Model(image, x, name="mine")


def saved(model: keras.Model, folder: pathlib.Path, name: str = "mine.keras") -> str:
    model.save(folder / name)
    return str(folder / name)


def base_of(path: str, size: tuple[int, int] = (32, 32), unsafe: bool = False) -> keras.Model:
    return build(BackboneSource.parse(path, unsafe=unsafe), size)


@pytest.mark.parametrize("options", [{}, {"size": None}, {"dtype": "uint8"}, {"top": True}])
def test_a_model_s_features_are_its_own(tmp_path: pathlib.Path, options: dict[str, Any]) -> None:
    model = network(**options)
    base = base_of(saved(model, tmp_path))
    features, (tap,) = build_feature_extractor(base, [Tap("")], preprocessing_of(BackboneSource(CUSTOM, "x"), base), (32, 32))
    assert (tap.layer, tap.pool, tap.shape, tap.depth) == ("two", "avg", (6,), 1.0)
    expected = keras.Model(model.inputs, model.get_layer("two").output)(PIXELS.astype(model.inputs[0].dtype))
    np.testing.assert_allclose(features(PIXELS), np.mean(expected, axis=(1, 2)), rtol=1e-5, atol=1e-6)
    assert input_size(build(BackboneSource.parse(str(tmp_path / "mine.keras")))) == (
        (224, 224) if options == {"size": None} else (32, 32)
    )


def test_a_vector_is_taken_as_it_is(tmp_path: pathlib.Path) -> None:
    base = base_of(saved(network(top=True), tmp_path))
    assert build_feature_extractor(base, [Tap("top")], "none", (32, 32))[1][0].shape == (5,)
    with pytest.raises(UserError, match=r"'top' gives no feature map \[H, W, C\] to pool: take top:none"):
        build_feature_extractor(base, [Tap("top", "avg")], "none", (32, 32))


@pytest.mark.parametrize("preprocessing", ["none", "unit", "tf", "caffe", "torch"])
def test_preprocessing_is_asked_for_where_nothing_tells(tmp_path: pathlib.Path, preprocessing: str) -> None:
    model = network(rescaled=False)
    path = saved(model, tmp_path)
    base = base_of(path)
    with pytest.raises(UserError, match=r"holds no Rescaling or Normalization layer.*say --preprocessing none"):
        preprocessing_of(BackboneSource.parse(path), base)
    assert preprocessing_of(BackboneSource.parse(path), base, preprocessing) == preprocessing
    mode = {"none": lambda x: x, "unit": lambda x: x / 255}.get(preprocessing) or (
        lambda x: keras.applications.imagenet_utils.preprocess_input(x.copy(), data_format="channels_last", mode=preprocessing)
    )
    features, _ = build_feature_extractor(base, [Tap("", "none")], preprocessing, (32, 32))
    expected = model(mode(PIXELS)).numpy()
    np.testing.assert_allclose(features(PIXELS), expected, atol=1e-4 * np.abs(expected).max())


def test_a_network_of_the_table_keeps_its_own_preprocessing() -> None:
    with pytest.raises(UserError, match="VGG16 was trained with the preprocessing caffe, not tf: leave --preprocessing out"):
        preprocessing_of(BackboneSource("VGG16", "random:0"), network(), "tf")


def test_lambda_is_refused_unless_trusted(tmp_path: pathlib.Path) -> None:
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 255)(keras.layers.Lambda(lambda t: t * 2, name="twice")(image)))
    path = saved(keras.Model(image, x), tmp_path)
    with pytest.raises(UserError, match=r"carries Python code in the Lambda layer twice, which would run.*say --unsafe"):
        base_of(path)
    assert base_of(path, unsafe=True)(PIXELS).shape == (2, 30, 30, 4)


def rewritten(path: str, **fields: str) -> str:
    """A model file whose first Lambda layer is described in other words."""
    with zipfile.ZipFile(path) as file:
        contents = {name: file.read(name) for name in file.namelist()}
    config = json.loads(contents["config.json"])
    next(layer for layer in config["config"]["layers"] if layer["class_name"] == "Lambda").update(fields)
    with zipfile.ZipFile(other := path.replace(".keras", "-other.keras"), "w") as file:
        for name, content in {**contents, "config.json": json.dumps(config)}.items():
            file.writestr(name, content)
    return other


@pytest.mark.parametrize(
    "fields",
    [
        {"module": "keras", "class_name": "layers.Lambda"},
        {"module": "keras.src.layers.core", "class_name": "lambda_layer.Lambda"},
        {"module": "", "class_name": "Other", "registered_name": "keras>Lambda"},
    ],
)
@pytest.mark.parametrize("backbone", ["", "MobileNet"])
def test_a_lambda_by_another_name_is_refused(tmp_path: pathlib.Path, fields: dict[str, str], backbone: str) -> None:
    image = keras.Input((32, 32, 3))
    path = rewritten(saved(keras.Model(image, keras.layers.Lambda(lambda t: t * 2, name="twice")(image)), tmp_path), **fields)
    with pytest.raises(UserError, match=r"carries Python code in the Lambda layer twice, which would run.*say --unsafe"):
        build(BackboneSource.parse(backbone, path) if backbone else BackboneSource.parse(path), (32, 32))


def test_what_is_no_backbone_is_refused(tmp_path: pathlib.Path) -> None:
    one, two = keras.Input((32, 32, 3)), keras.Input((32, 32, 3))
    grey, single = keras.Input((32, 32, 1)), keras.Input(batch_shape=(1, 32, 32, 3))
    cases = {
        "has 2 inputs": keras.Model([one, two], keras.layers.Add()([one, two])),
        r"takes \[32, 32, 1\]; a backbone takes RGB": keras.Model(grey, keras.layers.Conv2D(2, 3)(grey)),
        "takes batches of 1 only": keras.Model(single, keras.layers.Conv2D(2, 3)(single)),
        "takes images of 64x64 pixels: leave --image_size out": network(64),
    }
    for number, (message, model) in enumerate(cases.items()):
        with pytest.raises(UserError, match=message):
            base_of(saved(model, tmp_path, f"{number}.keras"))
    (tmp_path / "text.keras").write_text("hello")
    with pytest.raises(UserError, match=r"text.keras' is no .keras file"):
        base_of(str(tmp_path / "text.keras"))
    with pytest.raises(UserError, match="is no SavedModel"):
        base_of(str(tmp_path))
    with pytest.raises(UserError, match="there is no model"):
        BackboneSource.parse(str(tmp_path / "none.keras"))
    with pytest.raises(UserError, match="brings its own weights: leave --weights out"):
        BackboneSource.parse(str(tmp_path / "0.keras"), "random:0")


def test_identity_is_weights_and_architecture_and_no_file_name(tmp_path: pathlib.Path) -> None:
    first, again = (base_of(saved(network(), tmp_path, name)) for name in ("a.keras", "b.keras"))
    other = base_of(saved(network(activation="tanh"), tmp_path, "c.keras"))
    assert weights_digest(first) == weights_digest(again) == weights_digest(other)
    assert architecture_digest(first) == architecture_digest(again) != architecture_digest(other)


def test_freezing_a_model_leaves_its_architecture_s_digest(tmp_path: pathlib.Path) -> None:
    base = base_of(saved(network(), tmp_path))
    before = architecture_digest(base)
    base.trainable = False
    base.get_layer("one").kernel_regularizer = keras.regularizers.L2(0.1)
    assert architecture_digest(base) == before


def test_a_layer_s_name_hides_nothing_of_what_it_does() -> None:
    def named(name: str, activation: str) -> str:
        image = keras.Input((8, 8, 3))
        return architecture_digest(keras.Model(image, keras.layers.Conv2D(2, 3, activation=activation, name=name)(image)))

    assert named("relu", "relu") == named("tanh", "relu") != named("tanh", "tanh")


class TwoOutputs(tf.Module):
    """A SavedModel that Keras did not make: a map and a vector, from a variable."""

    def __init__(self, value: float = 2.0, reads: bool = False) -> None:
        super().__init__()
        self.scale, self.reads = tf.Variable(value), reads

    @tf.function(input_signature=[tf.TensorSpec((None, 32, 32, 3), tf.float32)])
    def serve(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        extra = tf.cast(tf.strings.length(tf.io.read_file("/dev/null")), tf.float32) if self.reads else 0.0
        return {"map": image * self.scale + extra, "vector": tf.reduce_mean(image, (1, 2)) * self.scale}


def test_a_saved_model_gives_its_outputs(tmp_path: pathlib.Path) -> None:
    digests = []
    for value in (2.0, 2.0, 3.0):
        path = str(tmp_path / f"{len(digests)}")
        tf.saved_model.save(module := TwoOutputs(value), path, signatures=module.serve)
        base = base_of(path)
        features, taps = build_feature_extractor(base, [Tap("map"), Tap("vector")], "none", (32, 32))
        assert [(tap.name, tap.shape) for tap in taps] == [("map:avg", (3,)), ("vector:none", (3,))]
        for found in features(PIXELS):
            np.testing.assert_allclose(found, PIXELS.mean((1, 2)) * value, rtol=1e-5)
        digests.append(weights_digest(base))
    assert digests[0] == digests[1] != digests[2]
    base.save(tmp_path / "kept.keras")
    kept = load_model(str(tmp_path / "kept.keras"))
    assert weights_digest(kept) == digests[2]
    for found, expected in zip(kept(PIXELS), base(PIXELS), strict=True):
        assert np.array_equal(found, expected)


def test_a_saved_model_that_reads_files_is_refused_unless_trusted(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "reads")
    tf.saved_model.save(module := TwoOutputs(reads=True), path, signatures=module.serve)
    with pytest.raises(UserError, match=r"may reach beyond it \(ReadFile, StringLength\): say --unsafe"):
        base_of(path)
    assert len(base_of(path, unsafe=True)(PIXELS)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["keras", "saved_model"])
def test_all_the_way(tmp_path: pathlib.Path, photos: pathlib.Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    if kind == "keras":
        path = saved(network(), tmp_path)
    else:
        path = str(tmp_path / "exported")
        network(top=True).export(path, verbose=False)
    store, run = str(tmp_path / "store"), str(tmp_path / "run")
    given = [] if kind == "keras" else ["--preprocessing", "none"]
    assert main(["extract", str(photos), "--store", store, "--backbone", path, *given]) == 0
    assert main(["verify", store]) == 0
    assert main(["train", store, "--run", run, "--epochs", "2"]) == 0
    assert main(["evaluate", run]) == 0
    assert main(["predict", run, str(photos / "test" / "fern")]) == 0
    assert capsys.readouterr().out.count(".jpg,") == 2


def test_a_store_of_other_weights_is_refused(
    tmp_path: pathlib.Path, photos: pathlib.Path, one_line: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    model = network()
    path, store = saved(model, tmp_path), str(tmp_path / "store")
    assert main(["extract", str(photos), "--store", store, "--backbone", path]) == 0
    model.get_layer("two").bias.assign_add(np.ones(6, np.float32))
    saved(model, tmp_path)
    capsys.readouterr()
    assert main(["extract", str(photos), "--store", store, "--backbone", path]) == 2
    assert "holds other features than asked for (weights_digest: " in one_line()


def test_equal_models_are_saved_as_equal_bytes(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    assert _numbered(b'[{"shared_object_id": 77}, {"shared_object_id": 5}, {"shared_object_id": 77}]') == (
        b'[{"shared_object_id": 0}, {"shared_object_id": 1}, {"shared_object_id": 0}]'
    )
    save_model(model, str(tmp_path / "one.keras"))
    monkeypatch.setattr("time.localtime", lambda *_: time.gmtime(1_000_000_000))
    save_model(model, str(tmp_path / "other.keras"))
    assert (tmp_path / "one.keras").read_bytes() == (tmp_path / "other.keras").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["one.keras", "other.keras"]
    loaded = load_model(str(tmp_path / "one.keras"))
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True))


def test_a_classifier_s_own_answers_are_warned_of(
    photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = keras.Input((32, 32, 3))
    maps = keras.layers.Conv2D(4, 3, name="maps")(image)
    vector = keras.layers.Dense(5, "softmax", name="answers")(keras.layers.GlobalAveragePooling2D()(maps))
    keras.Model(image, vector).export(str(tmp_path / "answers"), verbose=False)
    keras.Model(image, {"maps": maps, "answers": vector}).export(str(tmp_path / "both"), verbose=False)
    asked = ["extract", str(photos), "--store", str(tmp_path / "store"), "--preprocessing", "unit", "--dry_run", "--backbone"]
    warning = re.compile(r"warning: own:\w+ gives no feature map, so its output '\w+' is stored, 5 numbers: poor features")
    assert main([*asked, str(tmp_path / "answers")]) == 0
    assert warning.search("".join(capsys.readouterr()))
    assert main([*asked, str(tmp_path / "both")]) == 0
    assert "gives no feature map" not in "".join(capsys.readouterr())
