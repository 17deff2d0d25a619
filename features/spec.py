"""What a feature is: FeatureSpec in, a fingerprint out. Standard library only.

Two features may stand side by side only when their specs are equal. The spec says nothing of the dataset: labels, names,
splits and groups can change without touching it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headstart.features.augmentation import NOTHING, Augmentation
from headstart.features.errors import UserError, nearest

STORE_DTYPES = ("float16", "bfloat16", "float32")
RESIZE_MODES = ("squash", "crop", "pad")
INTERPOLATIONS = ("bilinear", "bicubic", "area")
COMPUTE_DTYPES = ("float32", "bfloat16", "int8")
DECODINGS = ("full", "scaled")
MAX_VIEWS = 128  # a view's number takes one byte of a record
PREPROCESSINGS = ("none", "unit", "tf", "caffe", "torch", "lite")
DTYPE_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}

_POOL = re.compile(r"none|avg|max|grid[1-9]\d*")


@dataclass(frozen=True)
class Tap:
    """Where the backbone is read.

    A layer, how its map is pooled ('': as suits it), the shape that results (without the batch), and how deep it lies: the
    share of the backbone's convolutions that lie at or below it, 0..1.
    """

    layer: str
    pool: str = ""
    shape: tuple[int, ...] = ()
    depth: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        if self.pool and not _POOL.fullmatch(self.pool):
            raise UserError("bad-flag", f"a tap's pooling is none, avg, max or gridK (grid3), not {self.pool!r}")

    @classmethod
    def parse(cls, text: str) -> Tap:
        """'LAYER' or 'LAYER:POOL', as the command line takes it. An empty LAYER means the last feature map."""
        layer, _, pool = text.partition(":")
        return cls(layer, pool)

    @property
    def name(self) -> str:
        """The tap's name, and its field in a record: no '/', which TFDS reads as nesting."""
        return f"{self.layer.replace('/', '.')}:{self.pool}"

    @property
    def size(self) -> int:
        """Numbers in one feature."""
        size = 1
        for extent in self.shape:
            size *= extent
        return size


@dataclass(frozen=True)
class FeatureSpec:
    """Everything that decides a feature's value, given an image's bytes.

    backbone is a name of `catalogue.BACKBONES`, or own:NAME for a custom model. architecture is a sha256 over what it
    computes, its weights aside ('' where nobody has looked). image_size is (height, width) in pixels. weights_digest is a
    sha256 over the weights themselves, not over their file. preprocessing is the backbone's own scaling of 0..255 pixels.
    decode says whether large JPEGs are decoded at a fraction of their size (scaled); intensity, what becomes of grey images of
    more than 8 bits, as `parse_intensity` reads it. compute_dtype is what the backbone multiplies in, whichever engine runs
    it; quantized is a sha256 over the file of the network in int8 ('' in other dtypes). views is how many views of each
    training image there are: the first is plain, the others are augmented.
    """

    backbone: str
    weights_digest: str
    image_size: tuple[int, int]
    taps: tuple[Tap, ...]
    preprocessing: str
    resize_mode: str = "squash"
    interpolation: str = "bilinear"
    compute_dtype: str = "float32"
    store_dtype: str = "float16"
    architecture: str = ""
    decode: str = "full"
    views: int = 1
    augmentation: Augmentation = NOTHING
    intensity: str = "full"
    quantized: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", tuple(self.image_size))
        object.__setattr__(self, "taps", tuple(self.taps))
        _one_of("preprocessing", self.preprocessing, PREPROCESSINGS)
        _one_of("resize_mode", self.resize_mode, RESIZE_MODES)
        _one_of("interpolation", self.interpolation, INTERPOLATIONS)
        _one_of("decode", self.decode, DECODINGS)
        parse_intensity(self.intensity)
        _one_of("compute_dtype", self.compute_dtype, COMPUTE_DTYPES)
        _one_of("store_dtype", self.store_dtype, STORE_DTYPES)
        if not 1 <= self.views <= MAX_VIEWS:
            raise UserError("bad-flag", f"--views lies from 1 to {MAX_VIEWS}, not at {self.views}")
        if self.views > 1 and self.augmentation.policy == "none":
            raise UserError(
                "bad-flag", f"--views {self.views} needs an --augment that makes them differ: light, standard or strong"
            )
        if self.views == 1:  # nothing is augmented
            object.__setattr__(self, "augmentation", NOTHING)
        names = [tap.name for tap in self.taps]
        if not names or len(set(names)) < len(names):
            raise UserError("bad-flag", f"expected one or more different taps, received {names}; name each tap once")

    @property
    def fingerprint(self) -> str:
        """sha256 over the spec's canonical JSON: equal if and only if the specs are."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def bytes_per_example(self) -> int:
        """Bytes of all taps of one image as stored, without the record's own few."""
        return sum(tap.size for tap in self.taps) * DTYPE_BYTES[self.store_dtype]

    def views_of(self, split: str) -> int:
        """How many views of each image of a split there are: what is measured on is never augmented."""
        return self.views if split == "train" else 1

    @property
    def model_dtype(self) -> str:
        """What a model saved with these features computes in: int8 is the store's alone."""
        return "float32" if self.compute_dtype == "int8" else self.compute_dtype

    @property
    def plain(self) -> FeatureSpec:
        """The same without views."""
        return dataclasses.replace(self, views=1)

    def check_same(self, asked: FeatureSpec, store: str) -> None:
        """Raises UserError when a store, whose spec this is, was asked for another one (with both values)."""
        if asked != self:
            raise UserError(
                "other-features",
                f"{store!r} holds other features than asked for ({'; '.join(self.differences(asked))}): "
                f"extract into another --store, or ask for what it holds",
            )

    @property
    def words(self) -> str:
        """The spec in a line, as far as people tell features by it."""
        (height, width), taps = self.image_size, (f"{tap.name} {'x'.join(map(str, tap.shape))}" for tap in self.taps)
        return f"{self.backbone} at {height}x{width}: {', '.join(taps)} ({self.store_dtype})"

    def to_json(self) -> dict[str, Any]:
        """The spec as plain JSON values."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        if not self.quantized:  # there was no such field once, and fingerprints stay
            del values["quantized"]
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> FeatureSpec:
        """The inverse of to_json."""
        taps = tuple(Tap(**tap) for tap in values["taps"])
        return cls(**{**values, "taps": taps, "augmentation": Augmentation(**values.get("augmentation", {}))})

    def differences(self, other: FeatureSpec) -> list[str]:
        """One 'field: mine is not theirs' for each field that differs, both values named."""
        mine, theirs = self.to_json(), other.to_json()
        mine["taps"], theirs["taps"] = (", ".join(f"{tap.name} {tap.shape}" for tap in s.taps) for s in (self, other))
        names = [name for name in {**mine, **theirs} if mine.get(name, "") != theirs.get(name, "")]
        return [f"{name}: {mine.get(name, '')} is not {theirs.get(name, '')}" for name in names]


def find_tap(taps: Sequence[Tap], name: str, holder: str) -> Tap:
    """One of several taps by its name.

    Args:
        taps: to choose from.
        name: as it is stored, or LAYER:POOL as `headstart extract --tap` takes it, or a layer alone: its average where that
            is stored, else what is stored of it.
        holder: what holds them, for messages.

    Raises:
        UserError: when there is no such tap, or a layer alone may mean several.
    """
    names = {tap.name: tap for tap in taps}
    if name in names:
        return names[name]
    asked = Tap.parse(name)
    found = [tap for tap in taps if tap.layer == asked.layer and asked.pool in ("", tap.pool)]
    found = [tap for tap in found if tap.pool == "avg"] or found
    if len(found) > 1:
        several = ", ".join(tap.name for tap in found)
        raise UserError("unknown-name", f"{holder!r} holds several taps of {name!r}, name one: {several}")
    if not found:
        raise UserError(
            "unknown-name", f"{holder!r} holds no tap {name!r}.{nearest(name, names)} It holds: {', '.join(names)}"
        )
    return found[0]


def parse_image_size(size: str | int | tuple[int, int]) -> tuple[int, int]:
    """'N' or 'H,W', or the numbers themselves, to (height, width) in pixels."""
    text = ",".join(map(str, size)) if isinstance(size, tuple) else str(size)
    if not re.fullmatch(r"[1-9]\d*([,x][1-9]\d*)?", text):
        raise UserError("bad-flag", f"--image_size is N or H,W in pixels, not {text!r}")
    sides = [int(side) for side in re.split("[,x]", text)]
    return sides[0], sides[-1]


def parse_intensity(text: str) -> tuple[str, float, float]:
    """How grey images of more than 8 bits become 0..255: (kind, the value that becomes 0, the one that becomes 255).

    `full` takes the range of their type, 0..65535; `auto` each image's own least and largest value; `window:LO,HI` these.

    Raises:
        UserError: for anything else.
    """
    if text in ("full", "auto"):
        return text, 0.0, 65535.0
    kind, _, values = text.partition(":")
    try:
        low, high = (float(value) for value in values.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if kind != "window" or not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(
            "bad-flag", f"--intensity is full, auto or window:LO,HI with LO below HI, such as window:0,4095, not {text!r}"
        )
    return kind, low, high


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError("bad-flag", f"{name} is one of {', '.join(allowed)}, not {value!r}")
