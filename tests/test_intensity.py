"""16-bit images that use a few bits only are told of before the work starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.pipelines.intensity import dark_warning


def write(folder: Path, peaks: list[int], dtype: type = np.uint16, suffix: str = "png") -> list[str]:
    paths = []
    for number, peak in enumerate(peaks):
        paths.append(str(folder / f"{number}.{suffix}"))
        Image.fromarray(np.linspace(0, peak, 64).astype(dtype).reshape(8, 8)).save(paths[-1])
    return paths


@pytest.mark.parametrize(("peaks", "bits"), [([4095], 12), ([900, 1023], 10), ([4000, 3000], 12)])
def test_a_sensor_of_few_bits_is_told(tmp_path: Path, peaks: list[int], bits: int) -> None:
    told = dark_warning(write(tmp_path, peaks), 10_000)
    assert told.startswith("warning: ") and f"window:0,{2**bits - 1}" in told and f"{max(peaks):,} of 65,535" in told


def test_nothing_is_said_of_bright_images_of_8_bits_or_of_none(tmp_path: Path) -> None:
    assert dark_warning(write(tmp_path, [4095, 60_000]), 10_000) == ""
    assert dark_warning(write(tmp_path, [3], np.uint8), 10_000) == ""
    assert dark_warning(write(tmp_path, [3], np.uint8, "jpg"), 10_000) == ""
    assert dark_warning([str(tmp_path / "missing.png")], 10_000) == ""
    assert dark_warning([], 10_000) == ""
