"""JPEGs straight from libjpeg-turbo: the pixels that Pillow gives, upright, and what is left to Pillow."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from headstart.features.images import jpeg
from headstart.features.images.decode import decode_image
from headstart.features.images.resize import resize


def encoded(size: tuple[int, int], seed: int = 0, mode: str = "RGB", turned: int = 0, **options: object) -> bytes:
    """A JPEG of (width, height): blocks of colour with soft edges."""
    blocks = np.random.default_rng(seed).integers(0, 256, (size[1] // 4 + 1, size[0] // 4 + 1, 3), dtype=np.uint8)
    exif, file = Image.Exif(), io.BytesIO()
    if turned:
        exif[jpeg.ORIENTATION] = turned
    Image.fromarray(blocks).resize(size).convert(mode).save(file, "JPEG", exif=exif if turned else b"", **options)
    return file.getvalue()


def by_pillow(data: bytes, draft: tuple[int, int] | None = None) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        if draft:
            image.draft(None, draft)
        return np.asarray(ImageOps.exif_transpose(image.convert("RGB")))


def decoded(data: bytes, least: tuple[int, int] | None = None) -> np.ndarray | None:
    size = jpeg.header(data)
    assert size is not None
    return jpeg.decode(data, size, least)


@settings(deadline=None, max_examples=60)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    mode=st.sampled_from(["RGB", "L"]),
    turned=st.integers(0, 9),
    progressive=st.booleans(),
    subsampling=st.sampled_from([0, 1, 2]),
    quality=st.integers(1, 100),
)
def test_pixels_are_those_of_pillow(
    size: tuple[int, int], mode: str, turned: int, progressive: bool, subsampling: int, quality: int
) -> None:
    options = {"subsampling": subsampling} if mode == "RGB" else {}
    data = encoded(size, mode=mode, turned=turned, progressive=progressive, quality=quality, **options)
    assert np.array_equal(decoded(data), by_pillow(data))


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize(("least", "scale"), [((10, 10), 8), ((20, 10), 4), ((40, 51), 2), ((40, 52), 1)])
def test_scaled_pixels_are_those_of_pillow(turned: int, least: tuple[int, int], scale: int) -> None:
    width, height = (80, 101) if turned >= 5 else (101, 80)  # upright: 80 high, 101 wide
    data = encoded((width, height), turned=turned)
    found = decoded(data, least)
    assert np.array_equal(found, by_pillow(data, (width // scale, height // scale)))


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("mode", ["squash", "crop", "pad"])
def test_a_turned_view_is_resized_like_its_copy(turned: int, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headstart.features.images.resize.STRIP_BYTES", 2_000)
    view = jpeg.upright(np.asarray(by_pillow(encoded((67, 45)))), turned)
    small, copied = (resize(image, (16, 12), mode, "bilinear") for image in (view, np.ascontiguousarray(view)))
    assert small.shape == (16, 12, 3)
    np.testing.assert_allclose(small, copied, atol=1e-3)


def test_damage_and_cmyk_are_left_to_pillow() -> None:
    data = encoded((64, 64))
    assert decoded(data[: len(data) // 2]) is None
    assert jpeg.header(data[:20]) is None
    file = io.BytesIO()
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(file, "JPEG")
    assert jpeg.header(file.getvalue()) is None
    assert decode_image(file.getvalue()).shape == (8, 8, 3)


def test_orientation_is_found_behind_other_segments() -> None:
    data = encoded((16, 8), turned=6, comment=b"x" * 60_000, icc_profile=b"y" * 100_000)
    assert jpeg.orientation(data) == 6
    assert jpeg.orientation(encoded((16, 8))) == 1


@pytest.mark.parametrize("fill", [1, 2, 7])
def test_orientation_is_found_behind_fill_bytes(fill: int) -> None:
    plain = encoded((16, 8), turned=6, progressive=True)
    at = plain.index(bytes((0xFF, jpeg.APP1)))
    data = plain[:at] + b"\xff" * fill + plain[at:]
    assert np.array_equal(decoded(data), by_pillow(data)) and jpeg.orientation(data) == 6
    assert jpeg.working_bytes(data, (8, 16)) == jpeg.working_bytes(plain, (8, 16))


def test_a_progressive_file_s_coefficients_count() -> None:
    plain, progressive = (encoded((400, 300), progressive=kind) for kind in (False, True))
    size = (300, 400)
    assert jpeg.working_bytes(plain, size) == 3 * 400 * 300
    assert jpeg.working_bytes(progressive, size) == 9 * 400 * 300
    assert jpeg.working_bytes(plain, size, (100, 100)) == 3 * 200 * 150


def test_scratch_holds_one_image_after_the_other() -> None:
    scratch, large, small = jpeg.Scratch(), encoded((64, 48), seed=1), encoded((20, 30), seed=2)
    for data in (small, large, small):
        size = jpeg.header(data)
        assert size is not None
        found = jpeg.decode(data, size, scratch=scratch)
        assert found is not None and np.shares_memory(found, scratch.memory)
        assert np.array_equal(found, by_pillow(data))
    assert scratch.room(jpeg.SCRATCH_BYTES + 1) is None
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(len(scratch.memory)))
    thread.start()
    thread.join()
    assert seen == [0]  # each thread has its own
