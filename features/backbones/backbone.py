"""Where a backbone comes from in, and out comes the backbone as one value: its network, digests, size, preprocessing and taps.

Whoever plans resolves it once and hands it on. A worker in another process resolves it again, from its source and the spec.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headstart.features.backbones.build import build, preprocessing_of, weights_digest
from headstart.features.backbones.custom import architecture_digest, input_size
from headstart.features.backbones.feature_extractor import build_feature_extractor
from headstart.features.backbones.source import AUTO, BackboneSource, check_preprocessing
from headstart.features.errors import UserError
from headstart.features.spec import FeatureSpec, Tap

if TYPE_CHECKING:
    import keras

LOADING = threading.RLock()  # one model a process, however many threads ask for it


@dataclass(frozen=True)
class Backbone:
    """A network and all that is known of it.

    base goes from preprocessed images to its last feature map; extractor from float32 [B, H, W, 3] pixels in 0..255 to
    float32 [B, *tap.shape], a list of them for several taps. weights_digest and architecture are sha256 over the base's
    weights and over what it computes. image_size is (height, width) in pixels; the taps have their layers named and their
    shapes known.
    """

    source: BackboneSource
    base: keras.Model
    extractor: keras.Model
    weights_digest: str
    architecture: str
    image_size: tuple[int, int]
    preprocessing: str
    taps: tuple[Tap, ...]

    @property
    def name(self) -> str:
        """The name that a spec gives it."""
        return f"{self.source.name}:{self.base.name}" if self.source.is_custom else self.source.name


def resolve_backbone(
    source: BackboneSource,
    image_size: tuple[int, int] | None = None,
    preprocessing: str = AUTO,
    taps: Sequence[Tap] = (Tap(""),),
) -> Backbone:
    """Builds a backbone, and finds out what was left open.

    Args:
        source: where its network and weights come from.
        image_size: (height, width) in pixels; None for the network's own.
        preprocessing: one of `spec.PREPROCESSINGS`, or `auto`.
        taps: where to read it, as `build_feature_extractor` takes them.

    Raises:
        UserError: as `build`, `preprocessing_of` and `build_feature_extractor` do.
    """
    check_preprocessing(source, preprocessing)  # before anything is downloaded
    base = _shared_base(source, image_size)
    return _tapped(source, base, preprocessing_of(source, base.model, preprocessing), taps)


def resolve_for_spec(spec: FeatureSpec, source: BackboneSource) -> Backbone:
    """Builds the backbone that a spec describes.

    Raises:
        UserError: when the network or the weights here are not those of the spec.
    """
    base = _shared_base(source, spec.image_size)
    if spec.architecture not in ("", base.architecture):
        raise UserError(
            "other-features",
            f"{spec.backbone} has the architecture {base.architecture[:12]} here, the features were asked for with "
            f"{spec.architecture[:12]}: give every worker the same model and the same version of Keras",
        )
    if base.weights_digest != spec.weights_digest:
        raise UserError(
            "other-features",
            f"the weights {source.weights!r} of {spec.backbone} have digest {base.weights_digest[:12]}, the features were "
            f"asked for with {spec.weights_digest[:12]}: give every worker the same weights",
        )
    return _tapped(source, base, spec.preprocessing, spec.taps)


def _tapped(source: BackboneSource, base: _Base, preprocessing: str, taps: Sequence[Tap]) -> Backbone:
    extractor, found = build_feature_extractor(base.model, taps, preprocessing, base.image_size)
    digests = base.weights_digest, base.architecture
    return Backbone(source, base.model, extractor, *digests, base.image_size, preprocessing, found)


@dataclass(frozen=True)
class _Base:
    """A base with its digests, what it was built from (a source, and the version of its files), and the size asked for."""

    built_from: tuple[BackboneSource, object]
    asked_size: tuple[int, int] | None
    image_size: tuple[int, int]
    model: keras.Model
    weights_digest: str
    architecture: str


_kept: _Base | None = None  # the last one, for the next in this process who asks for the same


def _shared_base(source: BackboneSource, image_size: tuple[int, int] | None) -> _Base:
    global _kept
    with LOADING:
        wanted = source, source.version()
        if _kept is None or _kept.built_from != wanted or image_size not in (_kept.asked_size, _kept.image_size):
            model = build(source, image_size)
            size = image_size or input_size(model)
            _kept = _Base(wanted, image_size, size, model, weights_digest(model), architecture_digest(model))
        return _kept
