"""A base and its taps in, one model from pixels to features out.

The base is a Keras model from preprocessed images to its last map; the model takes float32 [B, H, W, 3] pixels in 0..255. It
does the backbone's own preprocessing inside, so that no caller can get that wrong (rescaling everything by 1/255 is the
classic mistake), and it is made of Keras's own layers only: it can be saved in a file that loads anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headstart.features.backbones.feature_maps import FeatureMap, last_map, maps_and_tensors, stage_ends
from headstart.features.backbones.pooling import cells, pooled
from headstart.features.backbones.source import AUTO
from headstart.features.errors import UserError, nearest
from headstart.features.keras_internals import in_fresh_thread
from headstart.features.spec import Tap

if TYPE_CHECKING:
    import keras

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB, of pixels in 0..1
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
CAFFE_MEAN = (103.939, 116.779, 123.68)  # BGR, of pixels in 0..255
AUTO_POOLS = ("avg", "grid3")


def build_feature_extractor(
    base: keras.Model, taps: Sequence[Tap], preprocessing: str, image_size: tuple[int, int]
) -> tuple[keras.Model, tuple[Tap, ...]]:
    """A base from pixels to features, and its taps with their layers named and their shapes known.

    Args:
        base: from `build.build`.
        taps: where to read it. An empty layer means the last feature map; the layer `auto`, the end of every stage, pooled
            as it says, or `avg` and `grid3` where it says nothing.
        preprocessing: what the base wants done to pixels in 0..255; one of `spec.PREPROCESSINGS`.
        image_size: (height, width) in pixels.

    Returns:
        A model from float32 [B, H, W, 3] in 0..255 to float32 [B, *tap.shape], a list of them for several taps; and the taps.

    Raises:
        UserError: for a layer that is not there (with the nearest ones) or can't be tapped, or a grid larger than its map.
    """
    return in_fresh_thread(lambda: _tapped(base, taps, preprocessing, image_size))


def _tapped(
    base: keras.Model, taps: Sequence[Tap], preprocessing: str, image_size: tuple[int, int]
) -> tuple[keras.Model, tuple[Tap, ...]]:
    import keras

    maps = maps_and_tensors(base, image_size)
    if not maps:
        raise UserError(
            "bad-model", f"{base.name} gives neither a feature map [H, W, C] nor a vector [C] that could be tapped"
        )
    chosen = _chosen(taps, [found for found, _ in maps], base.name, image_size)
    tensors = {found.layer: tensor for found, tensor in maps}
    reader = keras.Model(base.inputs, [tensors[tap.layer] for tap in chosen], name="base")
    pixels = keras.Input((*image_size, 3), name="pixels")
    images = _as(base.inputs[0].dtype, preprocess(pixels, preprocessing))
    outputs = reader(images, training=False)
    features = [pooled(output, tap) for output, tap in zip(outputs if isinstance(outputs, list) else [outputs], chosen)]
    model = keras.Model(pixels, features, name="backbone")
    model.trainable = False
    return model, tuple(replace(tap, shape=tuple(feature.shape[1:])) for tap, feature in zip(chosen, features))


def _chosen(taps: Sequence[Tap], maps: Sequence[FeatureMap], name: str, image_size: tuple[int, int]) -> list[Tap]:
    """The taps with `auto` spelled out, every layer named and its depth known."""
    known = {found.layer: found for found in maps}
    chosen = []
    for tap in taps:
        if tap.layer == AUTO and AUTO not in known:
            ends = _auto(tap.pool, stage_ends(maps, image_size))
            if not ends:
                raise UserError(
                    "bad-model",
                    f"{name} has no stages for --tap auto {tap.pool}: name a layer, as `headstart backbones` lists them",
                )
            chosen += ends
            continue
        layer = tap.layer or last_map(maps).layer
        if layer not in known:
            raise UserError("unknown-name", f"{name} has no layer {layer!r} that can be tapped.{nearest(layer, known)}")
        pool = tap.pool or ("avg" if known[layer].is_map else "none")
        if pool != "none" and not known[layer].is_map:
            raise UserError("bad-model", f"{name}'s layer {layer!r} gives no feature map [H, W, C] to pool: take {layer}:none")
        chosen.append(Tap(layer, pool, depth=known[layer].depth))
    return list(dict.fromkeys(chosen))


def _auto(pool: str, ends: Sequence[FeatureMap]) -> list[Tap]:
    pools = (pool,) if pool else AUTO_POOLS
    return [Tap(end.layer, each, depth=end.depth) for end in ends for each in pools if cells(each) <= min(end.shape[:2])]


def _as(dtype: str, pixels: Any) -> Any:
    """Pixels in the type that a base takes; resizing leaves fractions and values above 255, which integers can't hold."""
    import keras

    if "int" in dtype:
        pixels = keras.ops.clip(keras.ops.round(pixels), 0, 255)
    return keras.ops.cast(pixels, dtype)


def preprocess(pixels: Any, preprocessing: str) -> Any:
    """A backbone's own scaling of pixels in 0..255, as `keras.applications.imagenet_utils.preprocess_input` does it."""
    import keras

    if preprocessing == "unit":  # 0..1
        return keras.layers.Rescaling(1 / 255, name="preprocessing")(pixels)
    if preprocessing == "tf":  # -1..1
        return keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="preprocessing")(pixels)
    if preprocessing == "lite":  # (x - 127) / 128
        return keras.layers.Rescaling(1 / 128, offset=-127 / 128, name="preprocessing")(pixels)
    if preprocessing == "torch":  # 0..1, then each channel's mean and deviation
        scale = [1 / (255 * deviation) for deviation in IMAGENET_DEVIATION]
        offset = [-mean / deviation for mean, deviation in zip(IMAGENET_MEAN, IMAGENET_DEVIATION)]
        return keras.layers.Rescaling(scale, offset=offset, name="preprocessing")(pixels)
    if preprocessing == "caffe":  # BGR, each channel's mean taken off
        return keras.layers.Rescaling(1.0, offset=[-mean for mean in CAFFE_MEAN], name="preprocessing")(pixels[..., ::-1])
    return pixels
