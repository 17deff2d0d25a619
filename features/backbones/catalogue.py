"""The catalogue: a name in, and out comes what is known of that network without loading anything. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.features.errors import UserError, nearest


@dataclass(frozen=True)
class BackboneInfo:
    """A network of the catalogue.

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
    BackboneInfo("EfficientNetLite1", 240, 32, "lite", 4_189_344, (8, 8, 1280)),
    BackboneInfo("EfficientNetLite2", 260, 32, "lite", 4_869_168, (9, 9, 1280)),
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


def backbone_info(name: str) -> BackboneInfo:
    """The network of a name.

    Raises:
        UserError: for a name that is not in the catalogue, with the nearest ones.
    """
    if name not in BACKBONES:
        raise UserError("unknown-name", f"unknown backbone {name!r}.{nearest(name, BACKBONES)} Known: {', '.join(BACKBONES)}")
    return BACKBONES[name]
