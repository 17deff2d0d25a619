"""Two pictures in, how well one of them fits into the other as a part of it out: what a crop leaves."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from headstart.training.auditing.space import Floats

SIDES = (18, 20, 22, 24, 26, 28, 30)  # of 32: crops of 56% of each side, or more


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """The correlation of the smaller picture with the place in the larger one that it is most alike, -1..1.

    Args:
        one, other: uint8 [32, 32], grey; either may be a part of the other, in the same proportions.

    Source: template matching by normalised cross-correlation, Lewis, "Fast Normalized Cross-Correlation",
    http://scribblethink.org/Work/nvisionInterface/nip.html
    """
    return max(_within(one, other), _within(other, one))


def _within(part: np.ndarray, whole: np.ndarray) -> float:
    picture, best, wide = Image.fromarray(part), -1.0, whole.astype(np.float32)
    for side in SIDES:
        wanted = _unit(np.asarray(picture.resize((side, side), Image.Resampling.BOX), np.float32).reshape(1, -1))
        places = sliding_window_view(wide, (side, side)).reshape(-1, side * side)
        best = max(best, float((_unit(places) @ wanted[0]).max()))
    return best


def _unit(rows: Floats) -> Floats:
    """Rows without their mean, of length 1; 0 where nothing is to be seen."""
    rows = rows - rows.mean(1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-3)
