"""headstart backbones: the table of networks; or, of one of them, every layer that can be tapped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headstart.commands.runner import run_command
from headstart.features.backbones.catalogue import BACKBONES
from headstart.features.backbones.source import BackboneSource
from headstart.features.config import check_fields, flag, positional
from headstart.features.formatting import human_bytes
from headstart.features.spec import DTYPE_BYTES, STORE_DTYPES, parse_image_size


@dataclass(frozen=True)
class BackbonesConfig:
    """Lists the networks that features can be taken from or, of one of them, the layers that can be tapped."""

    backbone: str = positional("a name, a .keras file or a SavedModel's folder", default="", metavar="BACKBONE", nargs="?")
    image_size: str | int | tuple[int, int] = flag("", "pixels a side, or H,W (default: the backbone's own)", metavar="N|H,W")
    store_dtype: str = flag("float16", "the numbers' type on disk", choices=STORE_DTYPES)
    unsafe: bool = flag(False, "run Python code that a model file brings along in Lambda layers")

    def __post_init__(self) -> None:
        check_fields(self)


def list_backbones(config: BackbonesConfig) -> list[str]:
    """The table, or a network's layers, as lines.

    Raises:
        UserError: for a name that is not known, a model that can't be loaded, or an image too small.
    """
    return list(_layers(config) if config.backbone else _table())


def _table() -> Iterator[str]:
    yield f"{'backbone':<19} {'size':>4} {'smallest':>8} {'parameters':>12}  {'last map':<12} preprocessing"
    for info in BACKBONES.values():
        last = "x".join(map(str, info.feature_map))
        row = f"{info.name:<19} {info.size:>4} {info.smallest:>8} {info.parameters:>12,}  {last:<12} {info.preprocessing}"
        yield row
    yield "preprocessing: what is done to pixels in 0..255, inside the network; none where it scales them itself."
    yield "`headstart backbones NAME` lists a network's layers. Any .keras file or SavedModel can be a backbone too."


def _layers(config: BackbonesConfig) -> Iterator[str]:
    from headstart.features.backbones.build import build
    from headstart.features.backbones.custom import input_size
    from headstart.features.backbones.feature_maps import feature_maps, stage_ends

    source = BackboneSource.parse(config.backbone, "imagenet", config.unsafe)
    asked = parse_image_size(config.image_size) if config.image_size else None
    shown = source if source.is_custom else BackboneSource(source.name, "random:0")  # shapes need no download
    base = build(shown, asked)
    size = asked or input_size(base)
    maps = feature_maps(base, size)
    ends = {end.layer for end in stage_ends(maps, size)}
    number = DTYPE_BYTES[config.store_dtype]
    yield f"{config.backbone} at {size[0]}x{size[1]}; bytes an image in {config.store_dtype}; * the end of a stage: --tap auto"
    yield f"  {'layer':<34} {'map':<14} {'depth':>5} {'none':>9} {'avg':>9} {'grid3':>9}"
    for found in maps:
        channels = found.shape[-1]
        whole = channels if not found.is_map else found.shape[0] * found.shape[1] * channels
        pools = [whole, channels, 9 * channels] if found.is_map else [whole]
        sizes = [
            human_bytes(count * number) if fits else "-" for count, fits in zip(pools, (True, True, min(found.shape[:2]) >= 3))
        ]
        shape = "x".join(map(str, found.shape))
        mark = "*" if found.layer in ends else " "
        yield f"{mark} {found.layer:<34} {shape:<14} {found.depth:>5.0%} " + " ".join(f"{text:>9}" for text in sizes)


def main(argv: Sequence[str]) -> int | None:
    """The command; returns its exit status."""
    return run_command("headstart backbones", BackbonesConfig, argv, _print, _check_name, lambda config: bool(config.backbone))


def _check_name(config: BackbonesConfig) -> None:
    if config.backbone:
        BackboneSource.parse(config.backbone)


def _print(config: BackbonesConfig) -> None:
    print("\n".join(list_backbones(config)))
