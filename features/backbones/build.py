"""A backbone's source in, and out comes the network, with its weights: from preprocessed images to maps."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headstart.features.backbones.catalogue import BackboneInfo, backbone_info
from headstart.features.backbones.keras_file import load_model
from headstart.features.backbones.source import AUTO, BackboneSource, check_preprocessing, check_weights, random_seed
from headstart.features.errors import UserError
from headstart.features.keras_internals import in_fresh_thread

if TYPE_CHECKING:
    import keras

EFFICIENTNETS = tuple(f"EfficientNetB{number}" for number in range(8))
EFFICIENTNET_DEVIATION = (0.229, 0.224, 0.225)  # RGB


def build(origin: BackboneSource, image_size: tuple[int, int]) -> keras.Model:
    """A network without its top, with its weights: preprocessed [B, H, W, 3] to its last feature map.

    Args:
        origin: which one, and where its weights are.
        image_size: (height, width) in pixels.

    Raises:
        UserError: for an unknown backbone, an image below the smallest size, weights that do not fit, or a model of the user's
            that does not take such images.
    """
    if origin.is_own:
        from headstart.features.backbones import custom as own_base

        return in_fresh_thread(lambda: own_base.load(origin.weights, image_size, origin.unsafe))
    info = backbone_info(origin.name)
    if min(image_size) < info.smallest:
        raise UserError(
            f"{info.name} takes images of at least {info.smallest} pixels a side, not {image_size[0]}x{image_size[1]}; "
            f"its default is {info.size}"
        )
    return in_fresh_thread(lambda: _base(info, origin, image_size))


def default_size(origin: BackboneSource) -> tuple[int, int]:
    """(height, width) in pixels of the images that a network takes where nobody says."""
    if not origin.is_own:
        return backbone_info(origin.name).size, backbone_info(origin.name).size
    from headstart.features.backbones import custom as own_base

    return in_fresh_thread(lambda: own_base.own_size(own_base.load(origin.weights, None, origin.unsafe)))


def preprocessing_of(origin: BackboneSource, base: keras.Model, asked: str = AUTO) -> str:
    """What a base wants done to pixels in 0..255.

    Args:
        origin: where the base comes from.
        base: from `build`.
        asked: one of `spec.PREPROCESSINGS`, or `auto`: the table's, or `none` for a model that scales its pixels itself.

    Raises:
        UserError: when another is asked for than the table's, and when a model of the user's tells nothing.
    """
    check_preprocessing(origin, asked)
    if not origin.is_own:
        return backbone_info(origin.name).preprocessing
    from headstart.features.backbones.custom import scales_its_pixels

    if asked == AUTO and not scales_its_pixels(base):
        raise UserError(
            f"{origin.weights!r} holds no Rescaling or Normalization layer, so nobody can tell what it wants of its pixels: "
            f"say --preprocessing tf (-1..1), caffe (BGR minus mean), torch (mean and deviation) or none (0..255 as they are)"
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


def _base(info: BackboneInfo, origin: BackboneSource, image_size: tuple[int, int]) -> keras.Model:
    import keras

    weights = origin.weights
    if info.name == "EfficientNetLite0":
        from headstart.features.backbones import efficientnet_lite

        base = efficientnet_lite.build(image_size)
        if weights == "imagenet":
            efficientnet_lite.load_imagenet(base)
            return base
        return _with_weights(base, origin)
    application = getattr(keras.applications, info.name)
    if weights == "imagenet":
        return _downloaded(info.name, application, image_size)
    if weights.startswith("random:"):
        keras.utils.set_random_seed(random_seed(weights))
    base = application(include_top=False, weights=None, input_shape=(*image_size, 3))
    return _with_weights(_rescaled_twice(base) if info.name in EFFICIENTNETS else base, origin)


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
            f"the ImageNet weights of {name} could not be downloaded ({reason}); fetch them elsewhere and pass "
            f"--weights FILE, or take EfficientNetLite0, whose weights are installed"
        ) from error


def _with_weights(base: keras.Model, origin: BackboneSource) -> keras.Model:
    """Fills a base from a file, or at random when its name says so."""
    name, weights = origin.name, origin.weights
    if weights.startswith("random:"):
        if name == "EfficientNetLite0":
            from headstart.features.backbones import efficientnet_lite

            efficientnet_lite.randomize(base, random_seed(weights))
        return base
    check_weights(weights)
    try:
        _load_file(base, weights, origin.unsafe)
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"the weights in {weights!r} do not fit {name} without its top: {reason}") from error
    return base


def _load_file(base: keras.Model, path: str, unsafe: bool) -> None:
    if not path.endswith(".keras"):
        base.load_weights(path)
        return
    values = load_model(path, unsafe).get_weights()
    if len(values) < len(base.weights):
        raise ValueError(f"expected at least {len(base.weights)} arrays, received {len(values)}")
    base.set_weights(values[: len(base.weights)])  # set_weights compares the shapes; a top comes last
