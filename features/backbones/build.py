"""A backbone's source in, and out comes the network, with its weights: from preprocessed images to maps."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headstart.features.backbones import custom, efficientnet_lite
from headstart.features.backbones.catalogue import BackboneInfo, backbone_info
from headstart.features.backbones.keras_file import load_model
from headstart.features.backbones.source import AUTO, BackboneSource, check_preprocessing, check_weights, random_seed
from headstart.features.errors import UserError
from headstart.features.keras_internals import in_fresh_thread

if TYPE_CHECKING:
    import keras

EFFICIENTNETS = tuple(f"EfficientNetB{number}" for number in range(8))
EFFICIENTNET_DEVIATION = (0.229, 0.224, 0.225)  # RGB


def build(source: BackboneSource, image_size: tuple[int, int] | None = None) -> keras.Model:
    """A network without its top, with its weights: preprocessed [B, H, W, 3] to its last feature map.

    Args:
        source: which one, and where its weights are.
        image_size: (height, width) in pixels; None for the network's own.

    Raises:
        UserError: for an unknown backbone, an image below the smallest size, weights that do not fit, or a custom model
            that does not take such images.
    """
    if source.is_custom:
        return in_fresh_thread(lambda: custom.load(source.path, image_size, source.unsafe))
    info = backbone_info(source.name)
    size = image_size or (info.size, info.size)
    if min(size) < info.smallest:
        raise UserError(
            "image-size",
            f"{info.name} takes images of at least {info.smallest} pixels a side, not {size[0]}x{size[1]}; "
            f"its default is {info.size}",
        )
    return in_fresh_thread(lambda: _base(info, source, size))


def preprocessing_of(source: BackboneSource, base: keras.Model, asked: str = AUTO) -> str:
    """What a base wants done to pixels in 0..255.

    Args:
        source: where the base comes from.
        base: from `build`.
        asked: one of `spec.PREPROCESSINGS`, or `auto`: the catalogue's, or `none` where a custom model scales its pixels.

    Raises:
        UserError: for another than the catalogue's, and for `auto` where a custom model does not scale its pixels.
    """
    check_preprocessing(source, asked)
    if not source.is_custom:
        return backbone_info(source.name).preprocessing
    if asked == AUTO and not custom.scales_its_pixels(base):
        raise UserError(
            "bad-model",
            f"{source.weights!r} holds no Rescaling or Normalization layer, so nobody can tell what it wants of its pixels: "
            f"say --preprocessing none (0..255 as they are), unit (0..1), tf (-1..1), caffe (BGR minus mean) or torch (mean "
            f"and deviation)",
        )
    return "none" if asked == AUTO else asked


def weights_digest(model: keras.Model) -> str:
    """sha256 over a network's weights themselves, in its order: shape, dtype, little-endian bytes. No file, no names."""
    digest = hashlib.sha256()
    values = [weight.numpy() for weight in model.weights]
    for layer in model.layers:  # a SavedModel's values are its own and not Keras's
        values += getattr(layer, "captured_values", list)()
    for value in values:
        digest.update(f"{value.shape}{value.dtype.str}".encode() + value.tobytes())
    return digest.hexdigest()


def _base(info: BackboneInfo, source: BackboneSource, image_size: tuple[int, int]) -> keras.Model:
    import keras

    weights = source.weights
    if info.name in efficientnet_lite.VARIANTS:
        base = efficientnet_lite.build(info.name, image_size)
        if weights == "imagenet":
            efficientnet_lite.load_imagenet(info.name, base)
            return base
        return _with_weights(base, source)
    application = getattr(keras.applications, info.name)
    if weights == "imagenet":
        return _downloaded(info.name, application, image_size)
    if weights.startswith("random:"):
        keras.utils.set_random_seed(random_seed(weights))
    base = application(include_top=False, weights=None, input_shape=(*image_size, 3))
    return _with_weights(_rescaled_twice(base) if info.name in EFFICIENTNETS else base, source)


def _rescaled_twice(base: keras.Model) -> keras.Model:
    """EfficientNet's graph as its ImageNet weights want it: each channel is divided by the root of its deviation once more.

    Keras builds that step for `weights="imagenet"` only; a file of the same weights would load into a graph without it.

    Source: https://github.com/tensorflow/tensorflow/issues/49930
    """
    import keras

    def call(layer: keras.Layer, *inputs: Any, **options: Any) -> Any:
        outputs = layer(*inputs, **options)
        if type(layer).__name__ != "Normalization":
            return outputs
        return keras.layers.Rescaling([1.0 / math.sqrt(deviation) for deviation in EFFICIENTNET_DEVIATION])(outputs)

    return keras.models.clone_model(base, call_function=call)


def _downloaded(name: str, application: Callable[..., keras.Model], image_size: tuple[int, int]) -> keras.Model:
    try:
        return application(include_top=False, weights="imagenet", input_shape=(*image_size, 3))
    except Exception as error:
        reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
        raise UserError(
            "download-failed",
            f"the ImageNet weights of {name} could not be downloaded ({reason}); fetch them elsewhere and pass "
            f"--weights FILE, or take EfficientNetLite0, whose weights are installed",
        ) from error


def _with_weights(base: keras.Model, source: BackboneSource) -> keras.Model:
    """Fills a base from a file, or at random when its name says so."""
    name, weights = source.name, source.weights
    if weights.startswith("random:"):
        if name in efficientnet_lite.VARIANTS:
            efficientnet_lite.randomize(base, random_seed(weights))
        return base
    check_weights(weights)
    try:
        _load_file(base, source.path, source.unsafe)
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError("bad-model", f"the weights in {weights!r} do not fit {name} without its top: {reason}") from error
    return base


def _load_file(base: keras.Model, path: str, unsafe: bool) -> None:
    if not path.endswith(".keras"):
        base.load_weights(path)
        return
    values = load_model(path, unsafe).get_weights()
    if len(values) < len(base.weights):
        raise ValueError(f"expected at least {len(base.weights)} arrays, received {len(values)}")
    base.set_weights(values[: len(base.weights)])  # set_weights compares the shapes; a top comes last
