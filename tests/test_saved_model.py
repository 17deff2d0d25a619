"""A SavedModel as a layer: what it is asked, what it must not do, and what a `.keras` file keeps of it."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from features.backbone import Origin, build, default_size, weights_digest
from features.errors import UserError
from features.feature_maps import feature_maps
from features.model_file import load_model
from features.own_base import architecture_digest
from features.saved_model import SavedModelLayer
from features.spec import Tap
from features.taps import tapped

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
    return build(Origin.parse(path, unsafe=unsafe), size)


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
    _, taps = tapped(base, [Tap("auto", "avg")], "none", (32, 32))
    assert [tap.layer for tap in taps] == ["fine", "coarse"]
    model, _ = tapped(base, [Tap("coarse", "none"), Tap("fine", "avg")], "none", (32, 32))
    coarse, fine = model(PIXELS)
    expected = 2 * PIXELS.reshape(2, 8, 4, 8, 4, 3).mean((2, 4))
    np.testing.assert_allclose(coarse, expected, rtol=1e-5)
    np.testing.assert_allclose(fine, expected.mean((1, 2)), rtol=1e-5)


def test_a_vector_has_no_stages(tmp_path: pathlib.Path) -> None:
    base = base_of(saved(Scaled(mean), tmp_path / "model"))
    assert [(tap.name, tap.shape) for tap in tapped(base, [Tap("")], "none", (32, 32))[1]] == [("mean:none", (3,))]
    with pytest.raises(UserError, match="has no stages for --tap auto"):
        tapped(base, [Tap("auto")], "none", (32, 32))


@pytest.mark.parametrize("size", [(32, 32), (40, 20)])
def test_images_of_any_size(tmp_path: pathlib.Path, size: tuple[int, int]) -> None:
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(4, 3, strides=2, padding="same")(keras.layers.Rescaling(1 / 255)(image)))
    path, pixels = str(tmp_path / "model"), np.random.default_rng(0).uniform(0, 255, (2, *size, 3)).astype(np.float32)
    model.export(path, verbose=False)
    base = base_of(path, size)
    features, (tap,) = tapped(base, [Tap("", "none")], "none", size)
    assert tap.shape == (size[0] // 2, size[1] // 2, 4) and default_size(Origin.parse(path)) == (224, 224)
    np.testing.assert_allclose(features(pixels), model(pixels), atol=1e-5)
    base.save(tmp_path / "kept.keras")
    kept = load_model(str(tmp_path / "kept.keras"))
    again, (same,) = tapped(kept, [Tap("", "none")], "none", size)
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


@pytest.mark.parametrize(("function", "operation"), [(reading, "ReadFile"), (calling_python, "EagerPyFunc")])
def test_what_reaches_beyond_itself_is_refused(
    tmp_path: pathlib.Path, function: Callable[[Any, Any], Any], operation: str
) -> None:
    path = saved(Scaled(function), tmp_path / "model")
    with pytest.raises(UserError, match=rf"reaches beyond itself \({operation}\): say --unsafe"):
        base_of(path)
    base_of(path, unsafe=True).save(tmp_path / "kept.keras")
    with pytest.raises(UserError, match=rf"reaches beyond itself \({operation}\): say --unsafe"):
        load_model(str(tmp_path / "kept.keras"))
    with pytest.raises(ValueError, match="reaches beyond itself"):
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
    with pytest.raises(UserError, match=r"reaches beyond itself \(WriteFile\)"):
        base_of(path)
    assert not trace.exists()
    base_of(path, unsafe=True)
    assert trace.exists()


def test_a_file_can_t_name_a_folder_to_open(tmp_path: pathlib.Path) -> None:
    path = saved(Scaled(reading), tmp_path / "model")
    layer = SavedModelLayer.from_config({**SavedModelLayer(path, unsafe=True).get_config(), "path": path, "unsafe": True})
    assert not hasattr(layer, "_function")
