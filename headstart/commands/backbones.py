"""headstart backbones: the table of networks; or, of one of them, every layer that can be tapped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headstart.commands.outcome import Outcome
from headstart.commands.runner import run_command
from headstart.features.backbones.catalogue import BACKBONES
from headstart.features.backbones.source import BackboneSource
from headstart.features.config import check_fields, flag, positional
from headstart.features.formatting import human_bytes
from headstart.features.spec import DTYPE_BYTES, STORE_DTYPES, parse_image_size

if TYPE_CHECKING:
    from headstart.features.backbones.feature_maps import FeatureMap


@dataclass(frozen=True)
class BackbonesConfig:
    """Lists the networks that features can be taken from or, of one of them, the layers that can be tapped."""

    backbone: str = positional("a name, a .keras file or a SavedModel's folder", default="", metavar="BACKBONE", nargs="?")
    image_size: str | int | tuple[int, int] = flag("", "pixels a side, or H,W (default: the backbone's own)", metavar="N|H,W")
    store_dtype: str = flag("float16", "the numbers' type on disk", choices=STORE_DTYPES)
    unsafe: bool = flag(False, "run Python code that a model file brings along in Lambda layers")

    def __post_init__(self) -> None:
        check_fields(self)


def _table() -> Iterator[str]:
    yield f"{'backbone':<19} {'size':>4} {'smallest':>8} {'parameters':>12}  {'last map':<12} preprocessing"
    for info in BACKBONES.values():
        last = "x".join(map(str, info.feature_map))
        row = f"{info.name:<19} {info.size:>4} {info.smallest:>8} {info.parameters:>12,}  {last:<12} {info.preprocessing}"
        yield row
    yield "preprocessing: what is done to pixels in 0..255, inside the network; none where it scales them itself."
    yield "`headstart backbones NAME` lists a network's layers. Any .keras file or SavedModel can be a backbone too."


@dataclass(frozen=True)
class Layers:
    """A network's layers that can be tapped, at an image size; ends are those where a stage ends."""

    backbone: str
    image_size: tuple[int, int]
    layers: list[FeatureMap]
    ends: list[str]


def layers_of(config: BackbonesConfig) -> Layers:
    """Looks into a network.

    Raises:
        UserError: for a name that is not known, a model that can't be loaded, or an image too small.
    """
    from headstart.features.backbones.build import build
    from headstart.features.backbones.custom import input_size
    from headstart.features.backbones.feature_maps import feature_maps, stage_ends

    source = BackboneSource.parse(config.backbone, "imagenet", config.unsafe)
    asked = parse_image_size(config.image_size) if config.image_size else None
    shown = source if source.is_custom else BackboneSource(source.name, "random:0")  # shapes need no download
    base = build(shown, asked)
    size = asked or input_size(base)
    maps = feature_maps(base, size)
    return Layers(config.backbone, size, maps, [end.layer for end in stage_ends(maps, size)])


def _layer_lines(found: Layers, store_dtype: str) -> Iterator[str]:
    number, (height, width) = DTYPE_BYTES[store_dtype], found.image_size
    yield f"{found.backbone} at {height}x{width}; bytes an image in {store_dtype}; * the end of a stage: --tap auto"
    yield f"  {'layer':<34} {'map':<14} {'depth':>5} {'none':>9} {'avg':>9} {'grid3':>9}"
    for layer in found.layers:
        channels = layer.shape[-1]
        whole = channels if not layer.is_map else layer.shape[0] * layer.shape[1] * channels
        pools = [whole, channels, 9 * channels] if layer.is_map else [whole]
        sizes = [
            human_bytes(count * number) if fits else "-" for count, fits in zip(pools, (True, True, min(layer.shape[:2]) >= 3))
        ]
        shape = "x".join(map(str, layer.shape))
        mark = "*" if layer.layer in found.ends else " "
        yield f"{mark} {layer.layer:<34} {shape:<14} {layer.depth:>5.0%} " + " ".join(f"{text:>9}" for text in sizes)


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status."""
    return run_command(
        "headstart backbones", BackbonesConfig, argv, _backbones, _check_name, lambda config: bool(config.backbone)
    )


def _check_name(config: BackbonesConfig) -> None:
    if config.backbone:
        BackboneSource.parse(config.backbone)


def _backbones(config: BackbonesConfig) -> Outcome:
    if not config.backbone:
        return Outcome("\n".join(_table()), BACKBONES.values())
    found = layers_of(config)
    return Outcome("\n".join(_layer_lines(found, config.store_dtype)), found)
