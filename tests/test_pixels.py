"""Images for fine-tuning: read once where memory allows, the same ones each time, and never changed by who got them."""

from __future__ import annotations

import pathlib
import shutil

import numpy as np
import pytest

from headstart.features.engines.stream import ImageToRead
from headstart.features.errors import UserError
from headstart.features.files import sha256_file
from headstart.features.spec import FeatureSpec, Tap
from headstart.training.finetuning import pixels as module
from headstart.training.finetuning.pixels import Pixels

SPEC = FeatureSpec("VGG16", "0" * 64, (24, 40), (Tap("x"),), "none")


@pytest.fixture
def folder(photos: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """Photographs that a test may remove."""
    return pathlib.Path(shutil.copytree(photos / "test", tmp_path / "test"))


def pixels_of(folder: pathlib.Path) -> Pixels:
    files = [ImageToRead(str(path), sha256_file(str(path))) for path in sorted(folder.rglob("*.*"))]
    return Pixels(files, SPEC, 10**7)


def everything(pixels: Pixels) -> np.ndarray:
    return np.stack([pixels[row] for row in range(len(pixels.files))])


def test_what_is_kept_is_what_was_read(folder: pathlib.Path) -> None:
    expected, kept = everything(pixels_of(folder)), pixels_of(folder)
    kept.keep()
    first = everything(kept)
    shutil.rmtree(folder)
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(everything(kept), expected)


def test_who_gets_an_image_may_change_it(folder: pathlib.Path) -> None:
    pixels = pixels_of(folder)
    pixels.keep()
    expected = everything(pixels)
    for row in range(len(expected)):
        pixels[row][:] = -1
    np.testing.assert_array_equal(everything(pixels), expected)


def test_they_are_read_each_time_where_nobody_asks_or_memory_is_short(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "fits_in_memory", lambda size: size < 4 * 24 * 40 * 3 * 12)
    not_asked, too_many = pixels_of(folder), pixels_of(folder)
    too_many.keep()
    np.testing.assert_array_equal(everything(not_asked), everything(too_many))
    (folder / "fern" / "00.jpg").unlink()
    for pixels in (not_asked, too_many):
        with pytest.raises(UserError, match=r"00\.jpg.*can't be any more"):
            everything(pixels)
