"""A SavedModel as a layer: what it is asked, what it must not do, and what a `.keras` file keeps of it."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from headstart.features.backbones.backbone import resolve_backbone
from headstart.features.backbones.build import build, weights_digest
from headstart.features.backbones.custom import architecture_digest, input_size
from headstart.features.backbones.feature_extractor import build_feature_extractor
from headstart.features.backbones.feature_maps import feature_maps
from headstart.features.backbones.keras_file import load_model
from headstart.features.backbones.saved_model import SavedModelLayer, _refused_in_file
from headstart.features.backbones.saved_model_operations import NETWORK, SAVER
from headstart.features.backbones.source import BackboneSource
from headstart.features.errors import UserError
from headstart.features.spec import Tap

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
pytestmark = pytest.mark.filterwarnings("ignore:Skipping nested container")


class Scaled(tf.Module):
    """A module with one variable, and a function of an image and that variable."""

    def __init__(self, function: Callable[[Any, Any], Any], shape: Any = (None, 32, 32, 3), dtype: Any = tf.float32) -> None:
        super().__init__()
        self.scale = tf.Variable(2.0)
        signature = [tf.TensorSpec(shape, dtype, name="image")]
        self.serve = tf.function(lambda image: function(image, self.scale), input_signature=signature)


def saved(module: Scaled, path: pathlib.Path) -> str:
    tf.saved_model.save(module, str(path), signatures=module.serve)
    return str(path)


def base_of(path: str, size: tuple[int, int] = (32, 32), unsafe: bool = False) -> keras.Model:
    return build(BackboneSource.parse(path, unsafe=unsafe), size)


def two_maps(image: Any, scale: Any) -> Any:
    return {"fine": image * scale, "coarse": tf.nn.avg_pool2d(image * scale, 4, 4, "SAME")}


def mean(image: Any, scale: Any) -> Any:
    return {"mean": tf.reduce_mean(tf.cast(image, tf.float32), (1, 2)) * scale}


def rectified(image: Any, scale: Any) -> Any:
    return {"map": tf.nn.relu(image * scale)}


def squashed(image: Any, scale: Any) -> Any:
    return {"map": tf.nn.tanh(image * scale)}


def reading(image: Any, scale: Any) -> Any:
    return {"map": image * scale + tf.cast(tf.strings.length(tf.io.read_file("/dev/null")), tf.float32)}


def calling_python(image: Any, scale: Any) -> Any:
    return {"map": tf.ensure_shape(tf.py_function(lambda x: x, [image], tf.float32), image.shape) * scale}


def test_two_maps_are_two_taps(tmp_path: pathlib.Path) -> None:
    base = base_of(saved(Scaled(two_maps), tmp_path / "model"))
    assert {found.layer: found.shape for found in feature_maps(base, (32, 32))} == {"coarse": (8, 8, 3), "fine": (32, 32, 3)}
    _, taps = build_feature_extractor(base, [Tap("auto", "avg")], "none", (32, 32))
    assert [tap.layer for tap in taps] == ["fine", "coarse"]
    model, _ = build_feature_extractor(base, [Tap("coarse", "none"), Tap("fine", "avg")], "none", (32, 32))
    coarse, fine = model(PIXELS)
    expected = 2 * PIXELS.reshape(2, 8, 4, 8, 4, 3).mean((2, 4))
    np.testing.assert_allclose(coarse, expected, rtol=1e-5)
    np.testing.assert_allclose(fine, expected.mean((1, 2)), rtol=1e-5)


def test_a_vector_has_no_stages(tmp_path: pathlib.Path) -> None:
    base = base_of(saved(Scaled(mean), tmp_path / "model"))
    assert [(tap.name, tap.shape) for tap in build_feature_extractor(base, [Tap("")], "none", (32, 32))[1]] == [
        ("mean:none", (3,))
    ]
    with pytest.raises(UserError, match="has no stages for --tap auto"):
        build_feature_extractor(base, [Tap("auto")], "none", (32, 32))


@pytest.mark.parametrize("size", [(32, 32), (40, 20)])
def test_images_of_any_size(tmp_path: pathlib.Path, size: tuple[int, int]) -> None:
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(4, 3, strides=2, padding="same")(keras.layers.Rescaling(1 / 255)(image)))
    path, pixels = str(tmp_path / "model"), np.random.default_rng(0).uniform(0, 255, (2, *size, 3)).astype(np.float32)
    model.export(path, verbose=False)
    base = base_of(path, size)
    features, (tap,) = build_feature_extractor(base, [Tap("", "none")], "none", size)
    assert tap.shape == (size[0] // 2, size[1] // 2, 4) and input_size(build(BackboneSource.parse(path))) == (224, 224)
    np.testing.assert_allclose(features(pixels), model(pixels), atol=1e-5)
    base.save(tmp_path / "kept.keras")
    kept = load_model(str(tmp_path / "kept.keras"))
    again, (same,) = build_feature_extractor(kept, [Tap("", "none")], "none", size)
    assert same == tap and np.array_equal(again(pixels), features(pixels))
    assert weights_digest(kept) == weights_digest(base) and architecture_digest(kept) == architecture_digest(base)


def test_what_is_no_backbone_is_refused(tmp_path: pathlib.Path) -> None:
    for number, (shape, message) in enumerate(
        {
            (1, 32, 32, 3): "takes batches of 1 only: save it with a free batch axis",
            (None, 32, 32, 1): r"takes \[32, 32, 1\]; a backbone takes RGB images",
            (None, 64, 64, 3): "takes images of 64x64 pixels",
            (None, 10): r"takes \(None, 10\); a backbone takes RGB images",
            None: "takes <unknown>; a backbone takes RGB images",
        }.items()
    ):
        path = saved(Scaled(rectified, shape), tmp_path / str(number))
        with pytest.raises(UserError, match=message):
            base_of(path)
    (tmp_path / "0" / "saved_model.pb").write_bytes(b"\xff\xff")
    with pytest.raises(UserError, match="can't be loaded"):
        base_of(str(tmp_path / "0"))


def test_what_it_does_is_part_of_its_identity(tmp_path: pathlib.Path) -> None:
    first, again, other = (
        base_of(saved(Scaled(function), tmp_path / str(number)))
        for number, function in enumerate((rectified, rectified, squashed))
    )
    assert weights_digest(first) == weights_digest(again) == weights_digest(other)
    assert architecture_digest(first) == architecture_digest(again) != architecture_digest(other)


@pytest.mark.parametrize(("function", "operation"), [(reading, "ReadFile, StringLength"), (calling_python, "EagerPyFunc")])
def test_what_reaches_beyond_itself_is_refused(
    tmp_path: pathlib.Path, function: Callable[[Any, Any], Any], operation: str
) -> None:
    path = saved(Scaled(function), tmp_path / "model")
    with pytest.raises(UserError, match=rf"may reach beyond it \({operation}\): say --unsafe"):
        base_of(path)
    base_of(path, unsafe=True).save(tmp_path / "kept.keras")
    with pytest.raises(UserError, match=rf"may reach beyond it \({operation}\): say --unsafe"):
        load_model(str(tmp_path / "kept.keras"))
    with pytest.raises(ValueError, match="may reach beyond it"):
        keras.saving.load_model(tmp_path / "kept.keras")
    np.testing.assert_allclose(load_model(str(tmp_path / "kept.keras"), unsafe=True)(PIXELS), 2 * PIXELS)


def test_nothing_is_run_before_it_is_judged(tmp_path: pathlib.Path) -> None:
    trace = tmp_path / "trace"

    class Table(tf.saved_model.experimental.TrackableResource):
        """Writes a file when it is loaded."""

        def _create_resource(self) -> Any:
            return tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64, shared_name="table")

        def _initialize(self) -> None:
            tf.io.write_file(str(trace), "written")

    module = Scaled(rectified)
    module.table = Table()
    assert module.table.resource_handle is not None
    path = saved(module, tmp_path / "model")
    trace.unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"may reach beyond it \(WriteFile\)"):
        base_of(path)
    assert not trace.exists()
    base_of(path, unsafe=True)
    assert trace.exists()


def with_operations(path: str, operations: list[str], function: str = "") -> None:
    """Adds nodes to a SavedModel's graph; or to a function of it, where its name has such a part."""
    file = pathlib.Path(path) / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    graph = model.meta_graphs[0].graph_def
    nodes = (
        next(each.node_def for each in graph.library.function if function in each.signature.name) if function else graph.node
    )
    for number, operation in enumerate(operations):
        nodes.add(name=f"added_{number}", op=operation)
    file.write_bytes(model.SerializeToString())


def test_every_operation_that_is_not_known_is_refused(tmp_path: pathlib.Path) -> None:
    path, known = saved(Scaled(rectified), tmp_path / "model"), NETWORK | SAVER
    every = [name for name in dir(tf.raw_ops) if name[0].isupper()]
    assert len(every) > 1000 and known <= set(every)
    with_operations(path, every)
    assert _refused_in_file(path) == set(every) - known
    assert {
        *("DatasetToTFRecord", "ExperimentalDatasetToTFRecord", "InitializeTableFromTextFileV2", "ExperimentalCSVDataset"),
        *("SqlDataset", "LMDBDataset", "MatchingFilesDataset", "LoadAndRemapMatrix", "DistributedSave", "ReadFile"),
        *("SnapshotDatasetReader", "DebugNumericSummaryV2", "WriteFile", "PyFunc", "EagerPyFunc", "PrintV2", "Send", "Recv"),
    } & set(every) <= _refused_in_file(path)


def test_what_only_a_saver_may_do_is_refused_in_the_serving_function(tmp_path: pathlib.Path) -> None:
    def saving(image: Any, scale: Any) -> Any:
        with tf.control_dependencies(
            [tf.raw_ops.SaveV2(prefix="x", tensor_names=["a"], shape_and_slices=[""], tensors=[scale])]
        ):
            return {"map": image * scale}

    with pytest.raises(UserError, match=r"beyond it \(SaveV2\): say --unsafe"):
        base_of(saved(Scaled(saving), tmp_path / "model"))


def test_an_operation_in_a_function_that_is_not_known_is_refused(tmp_path: pathlib.Path) -> None:
    path = saved(Scaled(rectified), tmp_path / "model")
    with_operations(path, ["SomethingNew"], "signature_wrapper")
    with pytest.raises(UserError, match=r"beyond it \(SomethingNew\): say --unsafe"):
        base_of(path)


def attention() -> keras.Model:
    image = keras.Input((32, 32, 3))
    x = keras.layers.Reshape((16, 16))(keras.layers.Conv2D(16, 8, 8)(keras.layers.Rescaling(1 / 255)(image)))
    x = keras.layers.LayerNormalization()(x + keras.layers.MultiHeadAttention(2, 8)(x, x))
    return keras.Model(image, keras.layers.GlobalAveragePooling1D()(keras.layers.Dense(16, activation="gelu")(x)))


def preprocessing() -> keras.Model:
    image = keras.Input((32, 32, 3), dtype="uint8")
    x = keras.layers.RandomFlip()(keras.layers.Resizing(24, 24)(keras.ops.cast(image, "float32")))
    x = keras.layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 5.0, 6.0])(keras.layers.RandomRotation(0.1)(x))
    return keras.Model(image, keras.layers.SeparableConv2D(4, 3)(x))


def mobile() -> keras.Model:
    image = keras.Input((32, 32, 3))
    x = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 3, 2)(image)))
    y = keras.layers.Activation("hard_silu")(keras.layers.DepthwiseConv2D(3, padding="same")(x))
    y = y * keras.layers.Dense(8, activation="sigmoid")(keras.layers.GlobalAveragePooling2D(keepdims=True)(y))
    return keras.Model(image, keras.layers.MaxPooling2D()(keras.layers.Activation("swish")(x + y)))


@pytest.mark.slow
@pytest.mark.parametrize("network", [attention, preprocessing, mobile])
def test_networks_are_accepted(tmp_path: pathlib.Path, network: Callable[[], keras.Model]) -> None:
    (model := network()).export(path := str(tmp_path / "model"), verbose=False)
    expected = np.asarray(model(PIXELS))
    found = np.asarray(base_of(path)(PIXELS)).reshape(expected.shape)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_a_loaded_file_leaves_no_folder_behind(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base_of(saved(Scaled(mean), tmp_path / "model")).save(tmp_path / "first.keras")
    (scratch := tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    first = load_model(str(tmp_path / "first.keras"))
    assert not list(scratch.iterdir())  # while it lives: whatever kills the process, nothing is left
    first.save(tmp_path / "second.keras")
    second = load_model(str(tmp_path / "second.keras"))
    assert np.array_equal(first(PIXELS), second(PIXELS)) and weights_digest(first) == weights_digest(second)


def test_a_model_saved_again_under_its_name_is_loaded_again(tmp_path: pathlib.Path) -> None:
    module, path = Scaled(mean), str(tmp_path / "model")
    digests = []
    for value in (2.0, 3.0):
        module.scale.assign(value)
        saved(module, tmp_path / "model")
        digests.append(resolve_backbone(BackboneSource.parse(path), (32, 32), "none").weights_digest)
    assert digests[0] != digests[1]


def test_a_file_can_t_name_a_folder_to_open(tmp_path: pathlib.Path) -> None:
    path = saved(Scaled(reading), tmp_path / "model")
    layer = SavedModelLayer.from_config({**SavedModelLayer(path, unsafe=True).get_config(), "path": path, "unsafe": True})
    assert not hasattr(layer, "_function")
