"""Memory of an extraction, whatever its photos are: one budget a process for what is decoded at one time."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.conftest import small_backbone_flags
from tests.peak import STATUS

MEASURED = """
import sys
from headstart.cli import main
from tests.peak import peak_mb
status = main(sys.argv[1:])
print(peak_mb())
sys.exit(status)
"""
WIDTH, HEIGHT = 6000, 4000


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="the peak is read as Linux tells it")
def test_photos_of_24_megapixels_take_no_more_than_their_share(tmp_path: pathlib.Path) -> None:
    """32 views and 8 streams at once would be 2.3 GB of pixels alone."""
    coarse = np.random.default_rng(0).integers(0, 256, (HEIGHT // 40, WIDTH // 40, 3), np.uint8)
    photo = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    for number in range(12):
        path = tmp_path / "photos" / "train" / f"class{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo.save(path, quality=80 + number)
    argv = ["extract", str(tmp_path / "photos"), "--store", str(tmp_path / "store"), *small_backbone_flags()]
    argv += ["--streams", "8", "--views", "32"]
    done = subprocess.run([sys.executable, "-c", MEASURED, *argv], capture_output=True, text=True)
    assert done.returncode == 0 and "12 of 12 images stored" in done.stderr, done.stderr
    assert float(done.stdout) < 1536
