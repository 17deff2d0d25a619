"""Points in, the nearest others of each out, block by block."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from headstart.features.progress import Progress
from headstart.training.auditing.space import Floats, Ints

NEIGHBOURS = 50
ROWS = 2048  # that are compared with all others at once


class Neighbours(NamedTuple):
    """Of each of N points the K nearest others, the nearest first."""

    distances: Floats  # float32 [N, K]
    others: Ints  # [N, K]

    def ratios(self) -> Floats:
        """Each distance over the one at which neighbours of either point usually are, the smaller of the two, [N, K].

        Usual is the mean distance of the farther half of a point's neighbours.
        """
        usual = self.distances[:, self.distances.shape[1] // 2 :].mean(1)  # [N]
        return self.distances / np.maximum(np.minimum(usual[:, None], usual[self.others]), 1e-12)


def nearest(points: Floats, count: int = NEIGHBOURS) -> Neighbours:
    """The nearest other points of each, exactly, by Euclid's distance.

    N^2 K operations and N x count numbers: of 100,000 images with 256 coordinates a few minutes on two cores.

    Args:
        points: float32 [N, K], N at least 2.
        count: how many; a quarter of N at most, so that they are near.
    """
    from sklearn.neighbors import NearestNeighbors

    count = max(1, min(count, len(points) // 4))
    index, progress = NearestNeighbors(n_neighbors=count + 1, algorithm="brute").fit(points), Progress("compare", len(points))
    distances, others = np.empty((len(points), count), np.float32), np.empty((len(points), count), np.int64)
    for start in range(0, len(points), ROWS):
        far, found = index.kneighbors(points[start : start + ROWS])
        own = found == np.arange(start, start + len(found))[:, None]
        own[~own.any(1), -1] = True  # more copies than neighbours asked for: the point itself is not among them
        distances[start : start + len(found)] = far[~own].reshape(len(found), count)
        others[start : start + len(found)] = found[~own].reshape(len(found), count)
        progress.update(start + len(found))
    progress.close()
    return Neighbours(distances, others)
