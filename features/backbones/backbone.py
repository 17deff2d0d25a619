"""Where a backbone comes from in, and out comes the backbone as one value: its network, digests, size, preprocessing and taps.

Whoever plans resolves it once and hands it on. A worker in another process resolves it again, from its source and the spec.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headstart.features.backbones.build import build, default_size, preprocessing_of, weights_digest
from headstart.features.backbones.custom import architecture_digest
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
    size = image_size or default_size(source)
    base, weights, architecture = _shared_base(source, size)
    wanted = preprocessing_of(source, base, preprocessing)
    extractor, found = build_feature_extractor(base, taps, wanted, size)
    return Backbone(source, base, extractor, weights, architecture, size, wanted, found)


def resolve_for_spec(spec: FeatureSpec, source: BackboneSource) -> Backbone:
    """Builds the backbone that a spec describes.

    Raises:
        UserError: when the network or the weights here are not those of the spec.
    """
    base, weights, architecture = _shared_base(source, spec.image_size)
    if spec.architecture not in ("", architecture):
        raise UserError(
            "other-features",
            f"{spec.backbone} has the architecture {architecture[:12]} here, the features were asked for with "
            f"{spec.architecture[:12]}: give every worker the same model and the same version of Keras",
        )
    if weights != spec.weights_digest:
        raise UserError(
            "other-features",
            f"the weights {source.weights!r} of {spec.backbone} have digest {weights[:12]}, the features were asked for with "
            f"{spec.weights_digest[:12]}: give every worker the same weights",
        )
    extractor, taps = build_feature_extractor(base, spec.taps, spec.preprocessing, spec.image_size)
    return Backbone(source, base, extractor, weights, architecture, spec.image_size, spec.preprocessing, taps)


def _shared_base(source: BackboneSource, image_size: tuple[int, int]) -> tuple[keras.Model, str, str]:
    """A base with its weights' and its architecture's digest, kept for the next one in this process who asks for the same."""
    with LOADING:
        return _base(source, image_size, source.version())


@functools.lru_cache(maxsize=1)
def _base(source: BackboneSource, image_size: tuple[int, int], _: object) -> tuple[keras.Model, str, str]:
    base = build(source, image_size)
    return base, weights_digest(base), architecture_digest(base)
