"""The table of backbones, and one of them built: name, weights and taps in, a Keras model from pixels to features out.

The model takes float32 [B, H, W, 3] pixels in 0..255 and does the backbone's own preprocessing inside, so nobody outside it
can get that wrong (rescaling everything by 1/255 is the classic mistake). It is made of Keras's own layers only: it can be
saved inside a model file that loads anywhere.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from features.errors import UserError, nearest
from features.spec import Tap

if TYPE_CHECKING:
    import keras

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB, of pixels in 0..1
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
CAFFE_MEAN = (103.939, 116.779, 123.68)  # BGR, of pixels in 0..255


@dataclass(frozen=True)
class BackboneInfo:
    """A backbone's default image size in pixels, the smallest side it takes, and its preprocessing of 0..255 pixels."""

    name: str
    size: int
    smallest: int = 32
    preprocessing: str = "none"


def _family(names: str, preprocessing: str, size: int = 224, smallest: int = 32) -> dict[str, BackboneInfo]:
    """Rows of the table: 'ResNet50 ResNet101', or with sizes of their own 'EfficientNetB0 EfficientNetB1:240'."""
    rows = [name.partition(":") for name in names.split()]
    return {name: BackboneInfo(name, int(own or size), smallest, preprocessing) for name, _, own in rows}


# Sizes, smallest sides and preprocessing as each network's own module in keras.applications has them; a test compares.
# "none": the network scales its pixels itself.
BACKBONES: dict[str, BackboneInfo] = {
    **_family("EfficientNetLite0", "lite"),
    **_family("VGG16 VGG19 ResNet50 ResNet101 ResNet152", "caffe"),
    **_family("ResNet50V2 ResNet101V2 ResNet152V2 MobileNet MobileNetV2 NASNetMobile NASNetLarge:331", "tf"),
    **_family("InceptionV3 InceptionResNetV2", "tf", size=299, smallest=75),
    **_family("Xception", "tf", size=299, smallest=71),
    **_family("DenseNet121 DenseNet169 DenseNet201", "torch"),
    **_family(
        "MobileNetV3Small MobileNetV3Large ConvNeXtTiny ConvNeXtSmall ConvNeXtBase ConvNeXtLarge ConvNeXtXLarge", "none"
    ),
    **_family("EfficientNetB0 EfficientNetB1:240 EfficientNetB2:260 EfficientNetB3:300", "none"),
    **_family("EfficientNetB4:380 EfficientNetB5:456 EfficientNetB6:528 EfficientNetB7:600", "none"),
    **_family("EfficientNetV2B0 EfficientNetV2B1:240 EfficientNetV2B2:260 EfficientNetV2B3:300", "none"),
    **_family("EfficientNetV2S:384 EfficientNetV2M:480 EfficientNetV2L:480", "none"),
}


def backbone_info(name: str) -> BackboneInfo:
    """The table's row.

    Raises:
        UserError: for a name that is not in the table, with the nearest ones.
    """
    if name not in BACKBONES:
        raise UserError(f"unknown backbone {name!r}.{nearest(name, BACKBONES)} Known: {', '.join(BACKBONES)}")
    return BACKBONES[name]


def build(name: str, weights: str, image_size: tuple[int, int]) -> keras.Model:
    """A network without its top, with its weights: preprocessed [B, H, W, 3] to its last feature map.

    Args:
        name: a name of `BACKBONES`.
        weights: `imagenet`, `random:SEED`, or the path of a `.keras`, `.weights.h5` or `.h5` file.
        image_size: (height, width) in pixels.

    Raises:
        UserError: for an unknown backbone, an image below the smallest size, or weights that do not fit.
    """
    info = backbone_info(name)
    if min(image_size) < info.smallest:
        raise UserError(
            f"{name} takes images of at least {info.smallest} pixels a side, not {image_size[0]}x{image_size[1]}; "
            f"its default is {info.size}"
        )
    return _in_fresh_thread(lambda: _base(info, weights, image_size))


def tapped(name: str, base: keras.Model, taps: Sequence[Tap]) -> tuple[keras.Model, tuple[Tap, ...]]:
    """A built network from pixels to features, and its taps with their layers named and their shapes known.

    Args:
        name: the network's name in `BACKBONES`, for its preprocessing.
        base: from `build`.
        taps: where to read it; an empty layer means the last feature map.

    Returns:
        A model from float32 [B, H, W, 3] in 0..255 to a list of float32 [B, *tap.shape], one for each tap; and the taps.

    Raises:
        UserError: for a layer that is not there (with the nearest ones) or is no feature map.
    """
    return _in_fresh_thread(lambda: _tapped(backbone_info(name), base, taps))


def resolve_weights(weights: str) -> str:
    """A weights file by its absolute path, for workers that stand elsewhere; other names as they are."""
    return os.path.abspath(weights) if os.path.isfile(weights) else weights


def weights_digest(model: keras.Model) -> str:
    """sha256 over a network's weights themselves, in its order: shape, dtype, little-endian bytes. No file, no names."""
    digest = hashlib.sha256()
    for weight in model.weights:
        value = weight.numpy()
        digest.update(f"{value.shape}{value.dtype.str}".encode() + value.tobytes())
    return digest.hexdigest()


def _in_fresh_thread(body: Callable[[], Any]) -> Any:
    """Keras numbers layers (conv2d_37) and keeps its dtype policy by thread: in a new one, names start at zero, always."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(body).result()


def _tapped(info: BackboneInfo, base: keras.Model, taps: Sequence[Tap]) -> tuple[keras.Model, tuple[Tap, ...]]:
    import keras

    taps = tuple(replace(tap, layer=tap.layer or base.output._keras_history.operation.name) for tap in taps)
    reader = keras.Model(base.inputs, [_layer_output(base, info.name, tap.layer) for tap in taps], name="base")
    pixels = keras.Input(base.inputs[0].shape[1:], name="pixels")
    maps = reader(_preprocess(pixels, info.preprocessing), training=False)
    maps = maps if isinstance(maps, list) else [maps]
    features = [_pool(feature_map, tap) for feature_map, tap in zip(maps, taps)]
    model = keras.Model(pixels, features, name="backbone")
    model.trainable = False
    return model, tuple(replace(tap, shape=tuple(feature.shape[1:])) for tap, feature in zip(taps, features))


def _layer_output(base: keras.Model, name: str, layer: str) -> Any:
    names = [candidate.name for candidate in base.layers]
    if layer not in names:
        raise UserError(f"{name} has no layer {layer!r}.{nearest(layer, names)}")
    output = base.get_layer(layer).output
    if not hasattr(output, "shape") or len(output.shape) != 4:
        raise UserError(f"{name}'s layer {layer!r} gives no feature map [H, W, C] and can't be tapped; choose another")
    return output


def _preprocess(pixels: Any, preprocessing: str) -> Any:
    """A backbone's own scaling, as `keras.applications.imagenet_utils.preprocess_input` does it."""
    import keras

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


def _pool(feature_map: Any, tap: Tap) -> Any:
    """[B, H, W, C] to what the tap keeps of it, float32."""
    import keras

    name = f"pool_{tap.pool}_{tap.layer}".replace("/", ".")
    if tap.pool == "none":
        return keras.layers.Activation("linear", name=name)(feature_map)  # [B, H, W, C]
    if tap.pool == "avg":
        return keras.layers.GlobalAveragePooling2D(name=name)(feature_map)  # [B, C]
    if tap.pool == "max":
        return keras.layers.GlobalMaxPooling2D(name=name)(feature_map)  # [B, C]
    cells = int(tap.pool.removeprefix("grid"))
    height, width = feature_map.shape[1:3]
    if cells > min(height, width):
        raise UserError(f"{tap.name}: a {cells}x{cells} grid needs a map at least that large; this one is {height}x{width}")
    return _grid(_grid(feature_map, cells, axis=1), cells, axis=2)  # [B, K, K, C]


def _grid(feature_map: Any, cells: int, axis: int) -> Any:
    """Averages one axis over cells that cover it evenly, as PyTorch's AdaptiveAvgPool2d places them."""
    import keras

    size = feature_map.shape[axis]
    bounds = [(cell * size // cells, -(-(cell + 1) * size // cells)) for cell in range(cells)]
    parts = [feature_map[:, a:b] if axis == 1 else feature_map[:, :, a:b] for a, b in bounds]
    return keras.ops.stack([keras.ops.mean(part, axis=axis) for part in parts], axis=axis)


def _base(info: BackboneInfo, weights: str, image_size: tuple[int, int]) -> keras.Model:
    import keras

    if info.name == "EfficientNetLite0":
        from features import efficientnet_lite

        base = efficientnet_lite.build(image_size)
        if weights == "imagenet":
            efficientnet_lite.load_imagenet(base)
            return base
        return _with_weights(info.name, base, weights)
    application = getattr(keras.applications, info.name)
    if weights == "imagenet":
        return _downloaded(info.name, application, image_size)
    if weights.startswith("random:"):
        keras.utils.set_random_seed(_seed(weights))
    return _with_weights(info.name, application(include_top=False, weights=None, input_shape=(*image_size, 3)), weights)


def _downloaded(name: str, application: Callable[..., keras.Model], image_size: tuple[int, int]) -> keras.Model:
    try:
        return application(include_top=False, weights="imagenet", input_shape=(*image_size, 3))
    except Exception as error:
        reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
        raise UserError(
            f"the ImageNet weights of {name} could not be downloaded ({reason}); fetch them elsewhere and pass "
            f"--weights FILE, or take EfficientNetLite0, whose weights are installed"
        ) from error


def _seed(weights: str) -> int:
    text = weights.partition(":")[2]
    if not text.isdigit() or int(text) >= 2**32:
        raise UserError(f"random weights are named random:SEED with a whole number below 2**32, not {weights!r}")
    return int(text)


def _with_weights(name: str, base: keras.Model, weights: str) -> keras.Model:
    """Fills a base from a file, or at random when its name says so."""
    if weights.startswith("random:"):
        if name == "EfficientNetLite0":
            from features import efficientnet_lite

            efficientnet_lite.randomize(base, _seed(weights))
        return base
    if not os.path.isfile(weights):
        raise UserError(f"--weights is imagenet, random:SEED or a file, and there is no file {weights!r}")
    if not weights.endswith((".keras", ".h5")):
        raise UserError(f"weights are read from .keras, .weights.h5 and .h5 files, not from {weights!r}")
    try:
        _load_file(base, weights)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"the weights in {weights!r} do not fit {name} without its top: {reason}") from error
    return base


def _load_file(base: keras.Model, path: str) -> None:
    import keras

    if not path.endswith(".keras"):
        base.load_weights(path)
        return
    values = keras.saving.load_model(path, compile=False).get_weights()
    if len(values) < len(base.weights):
        raise ValueError(f"expected at least {len(base.weights)} arrays, received {len(values)}")
    base.set_weights(values[: len(base.weights)])  # set_weights compares the shapes; a top comes last
