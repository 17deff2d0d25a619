"""What a network can be tapped at: its feature maps, how deep each lies, and the ends of its stages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from headstart.features.keras_internals import inputs_of, maker_of

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class FeatureMap:
    """What one layer gives: [H, W, C] or, above the last map, [C]; and where in the network that is.

    depth is the share of the network's convolutions that lie at or below it, 0..1. A bottleneck is a layer that every path
    from the image to the last map leads through: the end of a block, and not a branch inside it.
    """

    layer: str
    kind: str
    shape: tuple[int, ...]
    depth: float
    bottleneck: bool

    @property
    def is_map(self) -> bool:
        """Whether it still knows where things are."""
        return len(self.shape) == 3


def feature_maps(base: keras.Model, image_size: tuple[int, int]) -> list[FeatureMap]:
    """Everything of a base that can be tapped, from its image to its end, with shapes at an image size."""
    return [found for found, _ in maps_and_tensors(base, image_size)]


def stage_ends(maps: Sequence[FeatureMap], image_size: tuple[int, int]) -> list[FeatureMap]:
    """The end of every stage: the last map before the size halves, and the last of all.

    A stage's end is its last bottleneck, or the pooling that halves it, as VGG's blocks end. Where a stage has no bottleneck
    (NASNet's cells reach over each other), it is the last among its widest maps. Padding is no end, and neither is what
    comes before the first convolution.

    Args:
        maps: from `feature_maps`.
        image_size: (height, width) in pixels.
    """
    maps = [found for found in maps if found.is_map and found.depth > 0 and found.kind not in ("ZeroPadding2D", "Cropping2D")]
    if not maps:
        return []
    last = last_map(maps)
    stages: dict[int, list[FeatureMap]] = {}
    for found in maps:
        if min(found.shape[:2]) >= min(last.shape[:2]):  # a squeezed 1x1 map inside a block is no stage
            stages.setdefault(_halvings(found, image_size), []).append(found)
    ends = [_end(stages[halvings]) for halvings in sorted(stages)]
    pools = [_first_pooling(stages[halvings]) for halvings in sorted(stages)[1:]]
    ends = [pool or end for end, pool in zip(ends, [*pools, None])]
    return list(dict.fromkeys([*ends, last]))


def last_map(maps: Sequence[FeatureMap]) -> FeatureMap:
    """The last map that every path leads through; where paths part at once, the deepest and smallest; else a vector."""
    spatial = [found for found in maps if found.is_map]
    trunk = [found for found in spatial if found.bottleneck and found.depth > 0]
    if trunk or not spatial:
        return (trunk or list(maps))[-1]
    return max(reversed(spatial), key=lambda found: (found.depth, -found.shape[0] * found.shape[1]))


def _halvings(found: FeatureMap, image_size: tuple[int, int]) -> int:
    return round(math.log2(min(image_size) / min(found.shape[:2])))


def _end(stage: Sequence[FeatureMap]) -> FeatureMap:
    bottlenecks = [found for found in stage if found.bottleneck]
    if bottlenecks:
        return bottlenecks[-1]
    widest = max(found.shape[2] for found in stage)
    return [found for found in stage if found.shape[2] == widest][-1]


def _first_pooling(stage: Sequence[FeatureMap]) -> FeatureMap | None:
    first = next((found for found in stage if found.bottleneck), None)
    return first if first and first.kind in ("MaxPooling2D", "AveragePooling2D") else None


def maps_and_tensors(base: keras.Model, image_size: tuple[int, int]) -> list[tuple[FeatureMap, Any]]:
    """The same, each with its symbolic tensor."""
    steps = _steps(base)
    ends = [_name(tensor) for tensor in base.outputs]
    below: dict[str, set[str]] = {}  # step -> the convolutions at or below it
    paths: dict[str, int] = {}  # step -> how many ways lead to it
    for step in steps:
        below[step.name] = _convolutions(step.operation).union(*(below[source] for source in step.sources))
        paths[step.name] = sum(paths[source] for source in step.sources) if step.sources else 1
    onward = {name: ends.count(name) for name in paths}  # step -> how many ways lead from it to an end
    for step in reversed(steps):
        for source in step.sources:
            onward[source] += onward[step.name]
    every_path = sum(paths[end] for end in ends)
    convolutions = len(set[str]().union(*(below[end] for end in ends)))
    shapes = _shapes(base, steps, image_size)
    return [
        (
            FeatureMap(
                step.name,
                type(step.operation).__name__,
                tuple(map(int, shapes[step.name])),
                round(len(below[step.name]) / convolutions, 4) if convolutions else 1.0,
                paths[step.name] * onward[step.name] == every_path,
            ),
            step.tensor,
        )
        for step in steps
        if step.sources and len(shapes[step.name]) in (1, 3) and None not in shapes[step.name]
        if type(step.operation).__name__ != "SavedModelLayer"  # each of its outputs has a layer of its own
    ]


def above(base: keras.Model, layer: str) -> set[str]:
    """The layers that a layer's map goes into, directly or not."""
    reached = {layer}
    for step in _steps(base):
        if any(source in reached for source in step.sources):
            reached.add(step.name)
    return {_layer_of(name) for name in reached - {layer}}


def frozen_boundaries(base: keras.Model, unfrozen: set[str], image_size: tuple[int, int]) -> list[tuple[FeatureMap, Any]]:
    """The maps, with their tensors, that every path leads through and nothing unfrozen lies below, from the image up.

    Args:
        base: whose layers they are.
        unfrozen: names of layers.
        image_size: (height, width) in pixels.
    """
    moved: set[str] = set()
    for step in _steps(base):
        if step.operation.name in unfrozen or any(source in moved for source in step.sources):
            moved.add(step.name)
    return [pair for pair in maps_and_tensors(base, image_size) if pair[0].bottleneck and pair[0].layer not in moved]


def _layer_of(name: str) -> str:
    return name.partition("#")[0].partition("@")[0]


class _Step(NamedTuple):
    """One use of one operation in a network."""

    name: str
    operation: Any
    tensor: Any
    sources: list[str]


def _steps(base: keras.Model) -> list[_Step]:
    """What happens between a network's input and its outputs, in topological order."""
    found: dict[str, _Step] = {}
    waiting = list(reversed(base.outputs))
    while waiting:
        tensor = waiting[-1]
        made = maker_of(tensor)
        sources = inputs_of(made)
        if missing := [source for source in sources if _name(source) not in found]:
            waiting.extend(reversed(missing))
            continue
        waiting.pop()
        found.setdefault(_name(tensor), _Step(_name(tensor), made.operation, tensor, [_name(source) for source in sources]))
    return list(found.values())


def _name(tensor: Any) -> str:
    """A layer's name; with the number of its use and of its output where that is not the first."""
    operation, use, output = maker_of(tensor)
    return operation.name + (f"#{use}" if use else "") + (f"@{output}" if output else "")


def _convolutions(operation: Any) -> set[str]:
    """The convolutions that an operation is or, when it is a network itself, holds."""
    inner = getattr(operation, "layers", None)
    if inner is not None:
        return {f"{operation.name}/{name}" for layer in inner for name in _convolutions(layer)}
    return {operation.name} if "Conv" in type(operation).__name__ else set()


def _shapes(base: keras.Model, steps: Sequence[_Step], image_size: tuple[int, int]) -> dict[str, tuple[Any, ...]]:
    """What each step gives for an image of that size, without the batch."""
    import keras

    tensors = [step.tensor for step in steps]
    if None in base.inputs[0].shape[1:]:
        every = keras.Model(base.inputs, tensors)(keras.Input((*image_size, 3), dtype=base.inputs[0].dtype))
        tensors = every if isinstance(every, list) else [every]
    return {step.name: tuple(tensor.shape[1:]) for step, tensor in zip(steps, tensors)}
