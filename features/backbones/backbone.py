"""Where a backbone comes from in, and out comes the backbone as one value: its network, digests, size, preprocessing and taps.

Whoever plans resolves it once and hands it on. A worker in another process resolves it again, from its source and the spec.
Where the network was used on this machine before, what is known of it was kept, and it is built only for who asks for it.
"""

from __future__ import annotations

import functools
import io
import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from headstart.features import files
from headstart.features.backbones.build import build, preprocessing_of, weights_digest
from headstart.features.backbones.custom import architecture_digest, input_size
from headstart.features.backbones.feature_extractor import build_feature_extractor
from headstart.features.backbones.kept import FACTS, Kept, kept_of
from headstart.features.backbones.source import AUTO, BackboneSource, check_preprocessing
from headstart.features.errors import UserError
from headstart.features.runtime import load_tensorflow
from headstart.features.spec import FeatureSpec, Tap

if TYPE_CHECKING:
    import keras

LOADING = threading.RLock()  # one model a process, however many threads ask for it


@dataclass(frozen=True)
class Backbone:
    """A network and all that is known of it.

    name is what a spec calls it. weights_digest and architecture are sha256 over the base's weights and over what it computes.
    image_size is (height, width) in pixels; the taps have their layers named and their shapes known.
    """

    source: BackboneSource
    name: str
    weights_digest: str
    architecture: str
    image_size: tuple[int, int]
    preprocessing: str
    taps: tuple[Tap, ...]

    @property
    def base(self) -> keras.Model:
        """The network from preprocessed images to its last feature map, built when it is first asked for.

        Raises:
            UserError: when the network or the weights here are no longer those that are known.
        """
        return self._networks[0]

    @property
    def extractor(self) -> keras.Model:
        """The network from float32 [B, H, W, 3] pixels in 0..255 to float32 [B, *tap.shape], for several taps a list."""
        return self._networks[1]

    @functools.cached_property
    def _networks(self) -> tuple[keras.Model, keras.Model]:
        """Both at once: tapping freezes layers of the base, which its file says, whoever asks for which of them first."""
        with LOADING:
            base = _shared_base(self.source, self.image_size)
            _check_same(base, self.name, self.source, self.architecture, self.weights_digest)
            return base.model, build_feature_extractor(base.model, self.taps, self.preprocessing, self.image_size)[0]

    @property
    def kept(self) -> Kept | None:
        """What is kept of it on this machine."""
        return kept_of(self.source, self.image_size, self.preprocessing, self.taps)


def resolve_backbone(
    source: BackboneSource,
    image_size: tuple[int, int] | None = None,
    preprocessing: str = AUTO,
    taps: Sequence[Tap] = (Tap(""),),
) -> Backbone:
    """Finds out what was left open of a backbone, by building it if nobody has yet.

    Args:
        source: where its network and weights come from.
        image_size: (height, width) in pixels; None for the network's own.
        preprocessing: one of `spec.PREPROCESSINGS`, or `auto`.
        taps: where to read it, as `build_feature_extractor` takes them.

    Raises:
        UserError: as `build`, `preprocessing_of` and `build_feature_extractor` do.
    """
    check_preprocessing(source, preprocessing)  # before anything is downloaded
    kept = kept_of(source, image_size, preprocessing, taps)
    if known := _known(source, kept):
        return known
    base = _shared_base(source, image_size)
    settled = preprocessing_of(source, base.model, preprocessing)
    _, found = build_feature_extractor(base.model, taps, settled, base.image_size)
    name = f"{source.name}:{base.model.name}" if source.is_custom else source.name
    backbone = Backbone(source, name, base.weights_digest, base.architecture, base.image_size, settled, found)
    for each in filter(None, (kept, backbone.kept)):  # as it was asked for, and as a spec will name it
        each.keep(FACTS, io.BytesIO(_facts(backbone)))
    return backbone


def resolve_for_spec(spec: FeatureSpec, source: BackboneSource) -> Backbone:
    """The backbone that a spec describes.

    Raises:
        UserError: when the network or the weights here are not those of the spec.
    """
    known = _known(source, kept_of(source, spec.image_size, spec.preprocessing, spec.taps))
    base = known or _shared_base(source, spec.image_size)
    _check_same(base, spec.backbone, source, spec.architecture, spec.weights_digest)
    digests = base.weights_digest, base.architecture
    return Backbone(source, spec.backbone, *digests, base.image_size, spec.preprocessing, spec.taps)


def _check_same(base: Backbone | _Base, name: str, source: BackboneSource, architecture: str, weights_digest: str) -> None:
    """Raises UserError when the network or the weights here are not those that are named."""
    if architecture not in ("", base.architecture):
        raise UserError(
            "other-features",
            f"{name} has the architecture {base.architecture[:12]} here, the features were asked for with "
            f"{architecture[:12]}: give every worker the same model and the same version of Keras",
        )
    if base.weights_digest != weights_digest:
        raise UserError(
            "other-features",
            f"the weights {source.weights!r} of {name} have digest {base.weights_digest[:12]}, the features were "
            f"asked for with {weights_digest[:12]}: give every worker the same weights",
        )


def _facts(backbone: Backbone) -> bytes:
    return files.json_bytes({name: value for name, value in asdict(backbone).items() if name != "source"})


def _known(source: BackboneSource, kept: Kept | None) -> Backbone | None:
    """The backbone by its facts, where they are kept."""
    path = kept.find(FACTS) if kept else None
    if not path:
        return None
    facts: dict[str, Any] = json.loads(files.read_bytes(path))
    taps = tuple(Tap(**tap) for tap in facts.pop("taps"))
    return Backbone(source, image_size=tuple(facts.pop("image_size")), taps=taps, **facts)


@dataclass(frozen=True)
class _Base:
    """A base with its digests, what it was built from (a source, and the version of its files), and the size asked for."""

    built_from: tuple[BackboneSource, object]
    asked_size: tuple[int, int] | None
    image_size: tuple[int, int]
    model: keras.Model
    weights_digest: str
    architecture: str


_built: _Base | None = None  # the last one, for the next in this process who asks for the same


def _shared_base(source: BackboneSource, image_size: tuple[int, int] | None) -> _Base:
    global _built
    with LOADING:
        wanted = source, source.version()
        if _built is None or _built.built_from != wanted or image_size not in (_built.asked_size, _built.image_size):
            load_tensorflow()
            model = build(source, image_size)
            size = image_size or input_size(model)
            _built = _Base(wanted, image_size, size, model, weights_digest(model), architecture_digest(model))
        return _built
