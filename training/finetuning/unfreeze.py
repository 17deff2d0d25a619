"""What of a network is to be trained: layers named by the user in, a network of frozen and unfrozen layers out.

Nothing below the first unfrozen layer ever changes, so it need not be trained through: the network is cut at its boundary, the
last map that everything passes and nothing unfrozen lies below. What lies below is run by the engine, as in extraction, or
was stored; what lies above, and the head, is a Keras model from the boundary's features to probabilities.

BatchNorm runs in inference mode, always: its statistics belong to the dataset that it was trained on, and a small batch's
would spoil them (https://keras.io/guides/transfer_learning). Its scale and offset are weights like others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart.features.backbones.feature_extractor import build_feature_extractor
from headstart.features.backbones.feature_maps import above, feature_maps, frozen_boundaries, stage_ends
from headstart.features.backbones.pooling import pooled
from headstart.features.errors import UserError, nearest
from headstart.features.formatting import shortened
from headstart.features.keras_internals import every_layer
from headstart.features.spec import FeatureSpec, Tap

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Unfreezing:
    """Which layers of a base are trained: from one on, those after one, the last few with weights, or all; or none."""

    layer_from: str = ""
    layer_after: str = ""
    last: int = 0
    everything: bool = False

    def __post_init__(self) -> None:
        given = [bool(self.layer_from), bool(self.layer_after), bool(self.last), self.everything]
        if sum(given) > 1:
            raise UserError(
                "bad-flag", "give one of --unfreeze_from, --unfreeze_after, --unfreeze_last and --unfreeze_all, not several"
            )
        if self.last < 0:
            raise UserError("bad-flag", f"--unfreeze_last counts layers from 1, not {self.last}")

    def layers(self, base: keras.Model) -> list[str]:
        """The names of a base's unfrozen layers with weights, from the image to its end.

        Raises:
            UserError: for a layer that is not there (with the nearest ones), more layers than there are, or none to train.
        """
        named = [layer.name for layer in base.layers]
        weighted = [layer.name for layer in base.layers if layer.weights]
        for name in filter(None, (self.layer_from, self.layer_after)):
            if name not in named:
                raise UserError(
                    "unknown-name",
                    f"{name!r} is no layer of the backbone below the head.{nearest(name, named)} `headstart backbones NAME` "
                    f"lists them",
                )
        if not weighted and self != Unfreezing():
            raise UserError(
                "not-available",
                "the backbone has no layers of Keras's to train, as a SavedModel has none: give it as a .keras file, or "
                "fine-tune the head alone, with no --unfreeze flag",
            )
        if self.last > len(weighted):
            raise UserError(
                "bad-flag", f"--unfreeze_last {self.last}: the backbone has {len(weighted)} layers with weights below the head"
            )
        if self.layer_from:
            chosen = set(named[named.index(self.layer_from) :])
        elif self.layer_after:
            chosen = above(base, self.layer_after)
        else:
            chosen = set(weighted[len(weighted) - self.last :] if not self.everything else weighted)
        found = [name for name in weighted if name in chosen]
        if not found and self != Unfreezing():
            raise UserError(
                "unknown-name",
                f"no layer from {self.layer_from or self.layer_after!r} on has weights to train: name an earlier one",
            )
        return found


@dataclass(frozen=True)
class SplitNetwork:
    """A backbone with its head, cut for training.

    Shares the layers and weights of backbone and head.
    """

    backbone: keras.Model  # float32 pixels [B, H, W, 3] in 0..255 to the tap's features; frozen and unfrozen layers
    head: keras.Model
    tap: Tap
    boundary: Tap | None  # where the cut is; None when it is trained from the pixels on
    trained: keras.Model  # the boundary's features, float32 [B, *boundary.shape], to probabilities [B, classes]
    unfrozen: tuple[str, ...]

    @property
    def base(self) -> keras.Model:
        """The network of layers that the user knows by name, up to the tap."""
        return self.backbone.get_layer("base")

    def frozen_model(self, spec: FeatureSpec) -> keras.Model:
        """From pixels to the boundary's features; there has to be a boundary."""
        if not self.unfrozen or self.boundary is None:
            return self.backbone
        model, _ = build_feature_extractor(self.base, [self.boundary], spec.preprocessing, spec.image_size)
        self.switch_on()
        return model

    def switch_on(self) -> None:
        """Marks which layers are trained; a layer's own switch counts only where those around it are on."""
        for layer in [*every_layer(self.trained), self.head, *([self.backbone, self.base] if self.unfrozen else [])]:
            layer.trainable = True
        for layer in self.base.layers:
            layer.trainable = layer.name in self.unfrozen

    def rates(self, layer_decay: float, image_size: tuple[int, int]) -> list[float]:
        """What each of the trained weights' learning rates is multiplied by: 1 for the head and the top stage, `layer_decay`
        less for each stage further down."""
        base = self.base
        positions = {layer.name: number for number, layer in enumerate(base.layers)}
        ends = [
            positions[end.layer] for end in stage_ends(feature_maps(base, image_size), image_size) if end.layer in positions
        ]
        rate_of: dict[int, float] = {}
        for name in self.unfrozen:
            stages_above = max(0, sum(end >= positions[name] for end in ends) - 1)
            rate_of.update((id(weight), layer_decay**stages_above) for weight in base.get_layer(name).trainable_weights)
        return [rate_of.get(id(weight), 1.0) for weight in self.trained.trainable_variables]


def _in_inference(model: keras.Model) -> keras.layers.Layer:
    """A model that stays in inference mode while what is around it is trained.

    `model(x, training=False)` in a functional model does not: Keras hands the outer mode on to every layer inside.
    """
    import keras

    class InInference(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__(name="in_inference")
            self.model = model

        def call(self, inputs: Any) -> Any:
            return self.model(inputs, training=False)

    return InInference()


def split_network(
    backbone: keras.Model,
    head: keras.Model,
    tap: Tap,
    unfreezing: Unfreezing,
    image_size: tuple[int, int],
    at: str = "",
) -> SplitNetwork:
    """Sets which weights are trained, and makes the part of the network that is.

    Args:
        backbone: from `build_feature_extractor`, with one tap.
        head: from the tap's features to probabilities; all of it is trained.
        tap: the backbone's.
        unfreezing: which of its layers are.
        image_size: (height, width) in pixels.
        at: the layer to cut at, where its maps are stored; as high as can be when not given.

    Raises:
        UserError: as `Unfreezing.layers` does, and when it can't be cut there.
    """
    import keras

    base = backbone.get_layer("base")
    unfrozen = unfreezing.layers(base)
    backbone.trainable = False
    if not unfrozen:
        head.trainable = True
        return SplitNetwork(backbone, head, tap, tap, head, ())
    candidates = frozen_boundaries(base, set(unfrozen), image_size)
    if at and at not in [found.layer for found, _ in candidates]:
        raise UserError("bad-model", f"not every path of the backbone leads through {at!r}: store a tap at the end of a block")
    found = next((pair for pair in reversed(candidates) if not at or pair[0].layer == at), None)
    if found is None:
        boundary, features = None, keras.Input(backbone.inputs[0].shape[1:], name="feature")
        outputs = _in_inference(backbone)(features)
    else:
        boundary = Tap(found[0].layer, "none", found[0].shape, found[0].depth)
        features = keras.Input(boundary.shape, name="feature")
        rest = keras.Model(found[1], base.outputs[0], name="rest")
        outputs = pooled(_in_inference(rest)(features), tap)
    network = SplitNetwork(
        backbone, head, tap, boundary, keras.Model(features, head(outputs), name="network"), tuple(unfrozen)
    )
    network.switch_on()
    return network


@contextlib.contextmanager
def training_in(network: SplitNetwork, precision: str) -> Iterator[None]:
    """Lets a network compute in a mixed dtype policy while it is trained; weights and probabilities stay float32.

    Standardisation stays float32 as well, and so does the preprocessing.
    """
    last = network.head.layers[-1]
    inside = [*every_layer(network.base), *every_layer(network.head)]
    layers = [
        layer
        for layer in inside
        if layer.dtype_policy.name == "float32"
        and layer is not last
        and type(layer).__name__ not in ("Normalization", "InputLayer")
    ]
    try:
        for layer in layers if precision != "float32" else ():
            layer.dtype_policy = precision
        yield
    finally:
        for layer in layers:
            layer.dtype_policy = "float32"


def describe(network: SplitNetwork) -> list[str]:
    """What is trained, for people."""
    weights = network.trained.trainable_variables
    everything = count_weights(network.base.weights) + count_weights(network.head.weights)
    lines = [f"trainable: {count_weights(weights):,} of {everything:,} weights, {len(weights)} arrays"]
    if network.unfrozen:
        lines.append(f"unfrozen:  {len(network.unfrozen)} layers: {shortened(network.unfrozen)}")
        below = f"after {network.boundary.layer}" if network.boundary else "from the pixels on"
        lines.append(f"trained {below}; BatchNorm stays in inference mode")
    else:
        lines.append("unfrozen:  none; the backbone is frozen and the head is trained")
    return lines


def count_weights(weights: Sequence[Any]) -> int:
    """Numbers in some weights."""
    return sum(int(weight.numpy().size) for weight in weights)
