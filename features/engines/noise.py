"""How far features computed in another dtype lie from those in float32, and when that is too far to be rounding."""

from __future__ import annotations

import numpy as np

from headstart.features.errors import UserError

MAX_NOISE = 0.3  # of the features' root mean square: MobileNetV2, which stands bfloat16 and int8 worst, has 0.18 and 0.26


def noise_of(exact: np.ndarray, found: np.ndarray) -> float:
    """The root mean square of the difference, as a share of that of the features.

    Args:
        exact: features in float32, [n, *shape].
        found: the same in another dtype.
    """
    return float(np.sqrt(np.square(exact - found).mean() / max(float(np.square(exact).mean()), 1e-30)))


def check_noise(noise: float, compute_dtype: str, backbone: str) -> float:
    """Returns the noise, if it is small enough to be rounding.

    Args:
        noise: of `noise_of`.
        compute_dtype: whose.
        backbone: the network's name.

    Raises:
        UserError: when features are so far apart that it can't be rounding, or the network does not stand it.
    """
    if not noise <= MAX_NOISE:  # NaN is not either
        raise UserError(
            "bad-numbers",
            f"{compute_dtype} moves the features of {backbone} by {noise:.0%} of their size, expected at most "
            f"{MAX_NOISE:.0%}: extract with --compute_dtype float32",
        )
    return noise
