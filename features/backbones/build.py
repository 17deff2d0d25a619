"""Backbones: their table, and one of them built from a name and weights, from preprocessed images to maps."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart.features.backbones.keras_file import load_model
from headstart.features.errors import UserError, nearest

if TYPE_CHECKING:
    import keras

OWN, AUTO = "own", "auto"


@dataclass(frozen=True)
class BackboneSource:
    """Where a base comes from; it travels with every work unit.

    name is one of `BACKBONES`, and weights are `imagenet`, `random:SEED`, or the path of a `.keras`, `.weights.h5` or `.h5`
    file; or name is `own`, and weights the path of the model itself, a `.keras` file or the folder of a SavedModel. unsafe
    lets such a file bring code along.
    """

    name: str
    weights: str
    unsafe: bool = False

    @classmethod
    def parse(cls, backbone: str, weights: str = "imagenet", unsafe: bool = False) -> BackboneSource:
        """What `--backbone` and `--weights` say, paths made absolute, for workers that stand elsewhere.

        Raises:
            UserError: for a backbone that is neither in the table nor a model, for weights that are not there, and for a model
                with weights beside it.
        """
        if not _is_path(backbone):
            backbone_info(backbone)
            check_weights(weights)
            return cls(backbone, os.path.abspath(weights) if os.path.isfile(weights) else weights, unsafe)
        if weights != "imagenet":
            raise UserError(f"{backbone!r} brings its own weights: leave --weights out")
        if not os.path.exists(backbone):
            raise UserError(f"there is no model {backbone!r}; --backbone is a .keras file, a SavedModel's folder or a name")
        return cls(OWN, os.path.abspath(backbone), unsafe)

    @property
    def is_own(self) -> bool:
        """Whether it is a model of the user's."""
        return self.name == OWN

    def version(self) -> tuple[tuple[str, int, int, int], ...]:
        """A weights file, or a SavedModel's folder, may change under its name: path, size, time and inode of each file."""
        inside = (os.path.join(folder, name) for folder, _, names in os.walk(self.weights) for name in names)
        found = sorted([self.weights] if os.path.isfile(self.weights) else inside)
        return tuple((path, each.st_size, each.st_mtime_ns, each.st_ino) for path in found for each in [os.stat(path)])


@dataclass(frozen=True)
class BackboneInfo:
    """A row of the table.

    Its default image size in pixels, the smallest side it takes, its preprocessing of pixels in 0..255, its number of
    parameters without the top, and its last map [H, W, C] at the default size.
    """

    name: str
    size: int
    smallest: int
    preprocessing: str
    parameters: int
    feature_map: tuple[int, int, int]


# As each network's own module in keras.applications has them; a test compares. "none": the network scales its pixels itself.
_ROWS = (
    BackboneInfo("EfficientNetLite0", 224, 32, "lite", 3_413_024, (7, 7, 1280)),
    BackboneInfo("VGG16", 224, 32, "caffe", 14_714_688, (7, 7, 512)),
    BackboneInfo("VGG19", 224, 32, "caffe", 20_024_384, (7, 7, 512)),
    BackboneInfo("ResNet50", 224, 32, "caffe", 23_587_712, (7, 7, 2048)),
    BackboneInfo("ResNet101", 224, 32, "caffe", 42_658_176, (7, 7, 2048)),
    BackboneInfo("ResNet152", 224, 32, "caffe", 58_370_944, (7, 7, 2048)),
    BackboneInfo("ResNet50V2", 224, 32, "tf", 23_564_800, (7, 7, 2048)),
    BackboneInfo("ResNet101V2", 224, 32, "tf", 42_626_560, (7, 7, 2048)),
    BackboneInfo("ResNet152V2", 224, 32, "tf", 58_331_648, (7, 7, 2048)),
    BackboneInfo("MobileNet", 224, 32, "tf", 3_228_864, (7, 7, 1024)),
    BackboneInfo("MobileNetV2", 224, 32, "tf", 2_257_984, (7, 7, 1280)),
    BackboneInfo("NASNetMobile", 224, 32, "tf", 4_269_716, (7, 7, 1056)),
    BackboneInfo("NASNetLarge", 331, 32, "tf", 84_916_818, (11, 11, 4032)),
    BackboneInfo("InceptionV3", 299, 75, "tf", 21_802_784, (8, 8, 2048)),
    BackboneInfo("InceptionResNetV2", 299, 75, "tf", 54_336_736, (8, 8, 1536)),
    BackboneInfo("Xception", 299, 71, "tf", 20_861_480, (10, 10, 2048)),
    BackboneInfo("DenseNet121", 224, 32, "torch", 7_037_504, (7, 7, 1024)),
    BackboneInfo("DenseNet169", 224, 32, "torch", 12_642_880, (7, 7, 1664)),
    BackboneInfo("DenseNet201", 224, 32, "torch", 18_321_984, (7, 7, 1920)),
    BackboneInfo("MobileNetV3Small", 224, 32, "none", 939_120, (7, 7, 576)),
    BackboneInfo("MobileNetV3Large", 224, 32, "none", 2_996_352, (7, 7, 960)),
    BackboneInfo("ConvNeXtTiny", 224, 32, "none", 27_820_128, (7, 7, 768)),
    BackboneInfo("ConvNeXtSmall", 224, 32, "none", 49_454_688, (7, 7, 768)),
    BackboneInfo("ConvNeXtBase", 224, 32, "none", 87_566_464, (7, 7, 1024)),
    BackboneInfo("ConvNeXtLarge", 224, 32, "none", 196_230_336, (7, 7, 1536)),
    BackboneInfo("ConvNeXtXLarge", 224, 32, "none", 348_147_968, (7, 7, 2048)),
    BackboneInfo("EfficientNetB0", 224, 32, "none", 4_049_571, (7, 7, 1280)),
    BackboneInfo("EfficientNetB1", 240, 32, "none", 6_575_239, (8, 8, 1280)),
    BackboneInfo("EfficientNetB2", 260, 32, "none", 7_768_569, (9, 9, 1408)),
    BackboneInfo("EfficientNetB3", 300, 32, "none", 10_783_535, (10, 10, 1536)),
    BackboneInfo("EfficientNetB4", 380, 32, "none", 17_673_823, (12, 12, 1792)),
    BackboneInfo("EfficientNetB5", 456, 32, "none", 28_513_527, (15, 15, 2048)),
    BackboneInfo("EfficientNetB6", 528, 32, "none", 40_960_143, (17, 17, 2304)),
    BackboneInfo("EfficientNetB7", 600, 32, "none", 64_097_687, (19, 19, 2560)),
    BackboneInfo("EfficientNetV2B0", 224, 32, "none", 5_919_312, (7, 7, 1280)),
    BackboneInfo("EfficientNetV2B1", 240, 32, "none", 6_931_124, (8, 8, 1280)),
    BackboneInfo("EfficientNetV2B2", 260, 32, "none", 8_769_374, (9, 9, 1408)),
    BackboneInfo("EfficientNetV2B3", 300, 32, "none", 12_930_622, (10, 10, 1536)),
    BackboneInfo("EfficientNetV2S", 384, 32, "none", 20_331_360, (12, 12, 1280)),
    BackboneInfo("EfficientNetV2M", 480, 32, "none", 53_150_388, (15, 15, 1280)),
    BackboneInfo("EfficientNetV2L", 480, 32, "none", 117_746_848, (15, 15, 1280)),
)
BACKBONES: dict[str, BackboneInfo] = {info.name: info for info in _ROWS}
EFFICIENTNETS = tuple(f"EfficientNetB{number}" for number in range(8))
EFFICIENTNET_DEVIATION = (0.229, 0.224, 0.225)  # RGB


def backbone_info(name: str) -> BackboneInfo:
    """The table's row.

    Raises:
        UserError: for a name that is not in the table, with the nearest ones.
    """
    if name not in BACKBONES:
        raise UserError(f"unknown backbone {name!r}.{nearest(name, BACKBONES)} Known: {', '.join(BACKBONES)}")
    return BACKBONES[name]


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


def check_preprocessing(origin: BackboneSource, asked: str) -> None:
    """Raises UserError when another preprocessing is asked for than a network of the table was trained with."""
    if origin.is_own:
        return
    own = backbone_info(origin.name).preprocessing
    if asked not in (AUTO, own):
        raise UserError(f"{origin.name} was trained with the preprocessing {own}, not {asked}: leave --preprocessing out")


def check_weights(weights: str) -> None:
    """Raises UserError for weights that are neither imagenet, random:SEED nor a file of a kind that is read."""
    if weights == "imagenet":
        return
    if weights.startswith("random:"):
        _seed(weights)
        return
    if not os.path.isfile(weights):
        raise UserError(f"--weights is imagenet, random:SEED or a file, and there is no file {weights!r}")
    if not weights.endswith((".keras", ".h5")):
        raise UserError(f"weights are read from .keras, .weights.h5 and .h5 files, not from {weights!r}")


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


def in_fresh_thread(body: Callable[[], Any]) -> Any:
    """Keras numbers layers (conv2d_37) and keeps its dtype policy by thread: in a new one, names start at zero, always."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(body).result()


def _is_path(backbone: str) -> bool:
    return backbone not in BACKBONES and (
        backbone.endswith((".keras", ".h5")) or os.sep in backbone or os.path.isdir(backbone) or os.path.isfile(backbone)
    )


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
        keras.utils.set_random_seed(_seed(weights))
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


def _seed(weights: str) -> int:
    text = weights.partition(":")[2]
    if not text.isdigit() or int(text) >= 2**32:
        raise UserError(f"random weights are named random:SEED with a whole number below 2**32, not {weights!r}")
    return int(text)


def _with_weights(base: keras.Model, origin: BackboneSource) -> keras.Model:
    """Fills a base from a file, or at random when its name says so."""
    name, weights = origin.name, origin.weights
    if weights.startswith("random:"):
        if name == "EfficientNetLite0":
            from headstart.features.backbones import efficientnet_lite

            efficientnet_lite.randomize(base, _seed(weights))
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
