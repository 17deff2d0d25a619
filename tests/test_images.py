"""Every kind of image file to upright RGB, every damage to a DecodeError."""

from __future__ import annotations

import functools
import io
import struct
import subprocess
import sys
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from headstart.features.errors import DecodeError
from headstart.features.images.decode import decode_image, decoding_bytes, deep_peak
from headstart.features.images.file_kinds import image_format

BMP = b"BM" + bytes(12) + b"\x28\0\0\0"
LOSSLESS = ("PNG", "BMP", "GIF", "WEBP", "TIFF")
READ = ("JPEG", *LOSSLESS, *(["AVIF"] if features.check("avif") else []))
TURN_BACK = {  # EXIF orientation -> what a camera did to the upright picture before it stored it
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture(height: int = 20, width: int = 30, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Smooth colours, all corners different."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x + y) * 120 // (height + width) + seed]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8)).convert(mode)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, bits: int, colour: int, rows: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data


@pytest.mark.parametrize("kind", READ)
def test_each_format_becomes_rgb(kind: str) -> None:
    image = picture()
    data = encoded(image.quantize(256) if kind == "GIF" else image, kind, **({"lossless": True} if kind == "WEBP" else {}))
    found = decode_image(data)
    expected = image.quantize(256).convert("RGB") if kind == "GIF" else image
    assert image_format(data) == kind
    assert found.dtype == np.uint8 and found.shape == (20, 30, 3)
    assert np.abs(found.astype(int) - np.asarray(expected).astype(int)).max() <= (20 if kind in ("JPEG", "AVIF") else 0)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("1", "PNG"), ("L", "PNG"), ("L", "JPEG"), ("L", "BMP"), ("L", "GIF"), ("LA", "PNG"), ("RGBA", "PNG"), ("RGBA", "WEBP")],
)
def test_grey_and_alpha_become_rgb(mode: str, kind: str) -> None:
    image = picture(mode=mode)
    expected = np.asarray(Image.open(io.BytesIO(encoded(image, kind))).convert("RGB"))
    assert np.array_equal(decode_image(encoded(image, kind)), expected)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_dropped_not_blended(mode: str) -> None:
    image = picture(mode=mode)
    colours = np.asarray(image.convert("RGB"))
    image.putalpha(0)
    assert np.array_equal(decode_image(encoded(image, "PNG")), colours)


def test_a_palette_with_transparency_keeps_its_colours() -> None:
    image = Image.new("P", (4, 2))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2, 0, 2, 2, 1, 0])
    expected = np.eye(3, dtype=np.uint8)[[[0, 1, 2, 0], [2, 2, 1, 0]]] * 255
    for transparency in (1, bytes([0, 128, 255])):
        assert np.array_equal(decode_image(encoded(image, "PNG", transparency=transparency)), expected)
    assert np.array_equal(decode_image(encoded(image, "GIF", transparency=1)), expected)


def test_a_cmyk_jpeg_is_not_a_negative() -> None:
    image = picture()
    found = decode_image(encoded(image.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(found.astype(int) - np.asarray(image).astype(int)).mean() < 5


def test_16_bit_grey_keeps_its_full_range() -> None:
    values = np.array([[0, 255, 256, 32767, 32768, 65279, 65535]], np.uint16)
    for data in (encoded(Image.fromarray(values), "PNG"), png(7, 1, 16, 0, b"\0" + values.astype(">u2").tobytes())):
        found = decode_image(data)
        assert found.dtype == np.uint8 and found.shape == (1, 7, 3)
        assert np.array_equal(found, np.repeat((values >> 8)[..., None], 3, axis=-1))


def test_16_bit_colour_keeps_its_full_range() -> None:
    values = np.array([[[0, 32768, 65535], [65535, 256, 255]]], np.uint16)  # [1, 2, 3]
    found = decode_image(png(2, 1, 16, 2, b"\0" + values.astype(">u2").tobytes()))
    assert np.abs(found.astype(int) - (values >> 8).astype(int)).max() <= 1


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "green", "blue")]
    for kind in ("GIF", "WEBP"):
        data = encoded(
            frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
        )
        assert np.array_equal(decode_image(data), np.asarray(frames[0]))


@pytest.mark.parametrize("orientation", sorted(TURN_BACK))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_every_exif_orientation_comes_out_upright(kind: str, orientation: int) -> None:
    image, turn = picture(32, 48), TURN_BACK[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    found = decode_image(encoded(image if turn is None else image.transpose(turn), kind, exif=exif, **options))
    assert found.shape == (32, 48, 3)
    assert np.abs(found.astype(int) - np.asarray(image).astype(int)).max() <= (3 if kind == "JPEG" else 0)


def test_16_bit_grey_with_an_orientation_comes_out_upright() -> None:
    values = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(values)))
    assert np.array_equal(decode_image(encoded(turned, "PNG", exif=exif))[..., 0], values >> 8)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_broken_exif_block_does_not_make_the_pixels_worse() -> None:
    image = picture()
    good = decode_image(encoded(image, "JPEG"))
    for exif in (b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"):
        assert np.array_equal(decode_image(encoded(image, "JPEG", exif=exif)), good)


def test_one_pixel() -> None:
    assert decode_image(encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")).tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello, world", "text, not a JPEG, PNG, BMP, GIF, WebP, TIFF, AVIF or HEIC image"),
        (b"\1\2\3\4\5\6\7\x08\t", "an unknown file .it begins with b'.*'., not a JPEG"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing, not a JPEG"),
        (b"<!DOCTYPE html><html>", "a web page, not a JPEG"),
        (b"%PDF-1.7", "a PDF document, not a JPEG"),
        (b"\0\0\0\x18ftypmp42" + bytes(12), "a film, not a JPEG"),
        ("Größe: ä".encode()[:-1], "text, not a JPEG"),  # a letter that is cut
        (b"II*\0" + bytes(100), "damaged TIFF"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1" + bytes(8), "damaged AVIF|AVIF is read with Pillow"),
        (b"\xff\xd8\xff" + bytes(50), "damaged JPEG"),
        (b"\x89PNG\r\n\x1a\n", "damaged PNG"),
        (BMP, "damaged BMP"),
        (b"BMW and other makes, a list", "text, not a JPEG"),
        (b"BM" + bytes(12) + b"\x29\0\0\0", "an unknown file"),
        (b"GIF89a", "damaged GIF"),
        (b"RIFF\0\0\0\0WEBP", "damaged WEBP"),
    ],
)
def test_what_is_no_image_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode_image(data)


def test_a_reason_is_the_same_each_time() -> None:
    reasons = []
    for _ in range(2):
        with pytest.raises(DecodeError) as caught:
            decode_image(b"\x89PNG\r\n\x1a\n" + bytes(20))
        reasons.append(str(caught.value))
    assert reasons[0] == reasons[1] and " at 0x" not in reasons[0]


@pytest.mark.parametrize("kind", READ)
def test_a_truncated_image_is_refused(kind: str) -> None:
    data = encoded(picture(64, 64).effect_spread(20), kind)
    with pytest.raises(DecodeError, match=f"damaged {kind}"):
        decode_image(data[: len(data) // 2])


def test_too_many_pixels_are_refused_before_any_is_decoded() -> None:
    with pytest.raises(DecodeError, match=r"60000x60000 pixels are more than the limit of 178,956,970"):
        decode_image(png(60_000, 60_000, 8, 2))
    with pytest.raises(DecodeError, match=r"30x20 pixels are more than the limit of 599"):
        decode_image(encoded(picture(), "PNG"), max_pixels=599)
    assert decode_image(encoded(picture(), "PNG"), max_pixels=600).shape == (20, 30, 3)


@functools.cache
def whole_files() -> tuple[bytes, ...]:
    exif = Image.Exif()
    exif[0x0112] = 6
    grey16 = Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000)
    palette = picture(12, 9).quantize(16)
    return (
        *(encoded(picture(12, 9), kind) for kind in READ),
        encoded(picture(12, 9), "JPEG", exif=exif, progressive=True),
        encoded(picture(12, 9, "CMYK"), "JPEG"),
        encoded(picture(12, 9, "RGBA"), "WEBP"),
        encoded(picture(12, 9), "GIF", save_all=True, append_images=[picture(12, 9, seed=9)]),
        encoded(palette, "PNG", transparency=3),
        encoded(grey16, "PNG", exif=exif),
    )


def assert_decodes_or_refuses(data: bytes) -> None:
    try:
        found = decode_image(data, max_pixels=100_000)
    except DecodeError as error:
        assert str(error)
    else:
        assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3 and found.size > 0


@settings(deadline=None, max_examples=200)
@given(st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\x20\0\0\0WEBPVP8 ", BMP]), st.binary())
def test_arbitrary_bytes_raise_nothing_but_decode_errors(head: bytes, tail: bytes) -> None:
    assert_decodes_or_refuses(head + tail)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@settings(deadline=None, max_examples=400)
@given(st.data())
def test_a_damaged_image_raises_nothing_but_decode_errors(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(range(len(whole_files()))).map(whole_files().__getitem__)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    start = data.draw(st.integers(0, len(content)))
    removed = data.draw(st.sampled_from([0, 0, 1, 7, 10_000]))
    assert_decodes_or_refuses(bytes(content[:start] + content[start + removed :]))


@pytest.mark.parametrize(
    ("size", "least", "expected"),
    [
        ((400, 300), (100, 100), (200, 150)),
        ((400, 300), (50, 50), (100, 75)),
        ((400, 300), (150, 150), (200, 150)),
        ((400, 300), (151, 10), (200, 150)),
        ((400, 300), (10, 151), (400, 300)),
        ((401, 301), (10, 30), (51, 38)),
        ((90, 90), (100, 100), (90, 90)),
    ],
)
def test_a_large_jpeg_is_decoded_at_a_fraction_never_below_what_is_needed(
    size: tuple[int, int], least: tuple[int, int], expected: tuple[int, int]
) -> None:
    image = picture(*size)
    found = decode_image(encoded(image, "JPEG", quality=95), least=least)
    assert found.shape[:2] == expected
    shrunk = np.asarray(image.resize(expected[::-1], Image.Resampling.BOX)).astype(int)
    assert np.abs(found.astype(int) - shrunk).mean() < 3


def test_a_turned_jpeg_is_decoded_at_a_fraction_too() -> None:
    image, exif = picture(400, 300), Image.Exif()
    exif[0x0112] = 6
    found = decode_image(encoded(image.transpose(TURN_BACK[6]), "JPEG", exif=exif, quality=95), least=(100, 50))
    assert found.shape == (100, 75, 3)
    assert np.abs(found.astype(int) - np.asarray(image.resize((75, 100), Image.Resampling.BOX)).astype(int)).mean() < 3


def test_only_jpegs_are_decoded_at_a_fraction() -> None:
    for kind in LOSSLESS:
        assert decode_image(encoded(picture(80, 60), kind), least=(10, 10)).shape[:2] == (80, 60)


def deep(low: int, high: int) -> bytes:
    """A grey PNG of 16 bits, its values spread from low to high."""
    return encoded(Image.fromarray(np.linspace(low, high, 64).astype(np.uint16).reshape(8, 8)), "PNG")


@pytest.mark.parametrize(
    ("intensity", "ends"), [("full", (0, 15)), ("auto", (0, 255)), ("window:0,4095", (6, 255)), ("window:1000,2000", (0, 255))]
)
def test_intensity_of_deep_images(intensity: str, ends: tuple[int, int]) -> None:
    found = decode_image(deep(100, 4095), intensity=intensity)
    assert (found.min(), found.max()) == ends
    plain = encoded(picture(), "PNG")
    assert np.array_equal(decode_image(plain, intensity=intensity), decode_image(plain))  # 8 bits are as they are


def test_floating_point_pixels_need_to_be_told_their_range() -> None:
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    values[0, 1] = np.nan
    data = encoded(Image.fromarray(values), "TIFF")
    with pytest.raises(DecodeError, match="say --intensity auto or window:LO,HI"):
        decode_image(data)
    assert decode_image(data, intensity="window:0,1")[-1, -1].tolist() == [255, 255, 255]
    assert decode_image(data, intensity="auto").max() == 255


def test_an_image_of_one_value_is_black_under_auto() -> None:
    assert decode_image(deep(7, 7), intensity="auto").max() == 0


def test_the_largest_value_of_deep_images() -> None:
    assert deep_peak(deep(0, 4095)) == 4095
    assert deep_peak(deep(0, 4095), max_pixels=63) is None
    assert [deep_peak(data) for data in (encoded(picture(), "PNG"), encoded(picture(), "JPEG"), b"", b"text")] == [None] * 4


def test_a_tiff_s_first_page_in_any_compression_and_turn() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = picture()
    for compression in ("raw", "tiff_lzw", "tiff_deflate", "packbits"):
        data = encoded(image, "TIFF", compression=compression, save_all=True, append_images=[picture(4, 4)])
        assert np.array_equal(decode_image(data), np.asarray(image))
    turned = encoded(image.transpose(TURN_BACK[6]), "TIFF", exif=exif)
    assert np.array_equal(decode_image(turned), np.asarray(image))


def test_heic_is_read_by_an_extra_and_missed_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra headstart[heic] is not installed")
    file = io.BytesIO()
    pillow_heif.from_pillow(picture()).save(file, quality=95)
    found = decode_image(file.getvalue())
    assert np.abs(found.astype(int) - np.asarray(picture()).astype(int)).mean() < 8
    monkeypatch.setitem(sys.modules, "pillow_heif.as_plugin", None)
    with pytest.raises(DecodeError, match=r"pip install 'headstart\[heic\]'"):
        decode_image(file.getvalue())


def test_a_process_that_decodes_keeps_its_own_limits() -> None:
    code = """
import io, warnings
import numpy
from PIL import Image
Image.MAX_IMAGE_PIXELS = 10
before = list(warnings.filters)
from headstart.features.images.decode import decode_image
file = io.BytesIO()
Image.new("RGB", (20, 20)).save(file, "PNG")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(decode_image(file.getvalue()).shape, len(caught))
print(Image.MAX_IMAGE_PIXELS, warnings.filters == before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split("\n")[:2] == ["(20, 20, 3) 0", "10 True"], done.stderr


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_a_host_s_low_limit_changes_no_pixel(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(20, 40), kind, exif=exif)
    expected = decode_image(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert expected.shape == (40, 20, 3) and np.array_equal(decode_image(data), expected)


def white_is_zero(data: bytes) -> bytes:
    """A little-endian TIFF with its photometric interpretation set to 0."""
    at = data.index(struct.pack("<HHI", 262, 3, 1)) + 8
    return data[:at] + struct.pack("<H", 0) + data[at + 2 :]


@pytest.mark.parametrize("intensity", ["full", "auto", "window:0,65535"])
def test_a_deep_tiff_whose_white_is_zero_is_no_negative(intensity: str) -> None:
    values = np.linspace(0, 65_535, 64).astype(np.uint16).reshape(8, 8)
    plain, turned = (encoded(Image.fromarray(grey), "TIFF") for grey in (values, 65_535 - values))
    assert np.array_equal(decode_image(white_is_zero(turned), intensity=intensity), decode_image(plain, intensity=intensity))


def test_infinite_values_are_black_and_white_under_auto() -> None:
    values = np.array([[-np.inf, 1, 2, 3, np.inf, np.nan]], np.float32)
    found = decode_image(encoded(Image.fromarray(values), "TIFF"), intensity="auto")
    assert found[0, :, 0].tolist() == [0, 0, 128, 255, 255, 0]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_room_is_kept_for_what_deep_images_take(dtype: type) -> None:
    data = encoded(Image.fromarray(np.arange(90_000).astype(dtype).reshape(300, 300)), "TIFF")
    decode_image(data, intensity="auto")  # what is loaded once is not counted
    tracemalloc.start()
    decode_image(data, intensity="auto")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 90_000 * 3 < peak < decoding_bytes(data)
