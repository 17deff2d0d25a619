"""Linear probes as points of a plot: probes in, their places by depth and accuracy out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headstart.training.plots.accuracy_by_depth import DepthPoint

if TYPE_CHECKING:
    from headstart.training.probing.probe import TapProbe


def depth_points(stores: Sequence[str], probes: Sequence[TapProbe]) -> list[DepthPoint]:
    """Each probe's place in the plot; a series is a pooling and, of several stores, the shortest name that is one store's."""
    backbones = Counter(name for name, _ in {(found.backbone, found.store) for found in probes})
    folders = Counter(map(_folder_name, stores))
    points = []
    for found in sorted(probes, key=lambda found: (stores.index(found.store), found.depth)):
        layer, _, pool = found.tap.rpartition(":")
        folder = _folder_name(found.store)
        name = found.backbone if backbones[found.backbone] == 1 else folder if folders[folder] == 1 else found.store
        series = f"{name} {pool}" if len(stores) > 1 else pool
        points.append(DepthPoint(series, layer, found.depth, found.accuracy, found.low, found.high))
    return points


def _folder_name(path: str) -> str:
    return os.path.basename(os.path.normpath(path))
