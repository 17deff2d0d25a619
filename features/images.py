"""An image file's bytes in, pixels out: one decoding for extraction, training and prediction.

`resizing_layer` is what a saved model does next; `resize.resize` does the same to one image at a time, faster.
"""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from features import jpeg
from features.errors import DecodeError
from features.spec import FeatureSpec

if TYPE_CHECKING:
    import keras

MAX_PIXELS = 178_956_970  # Pillow's own limit for a decompression bomb: 512 MiB of RGB
PILLOW_BYTES = 11  # a pixel, at most: as the file has it and as RGB, 4 each, and as numpy's
MARGIN = 2  # times the network's size, that a JPEG decoded at a fraction keeps at least
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")

Image.MAX_IMAGE_PIXELS = None  # decode_image compares with its own limit, before any pixel is decoded


def image_format(data: bytes) -> str | None:
    """The format that a file's first bytes tell, whatever its name says; None when it is not an image we read."""
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return "BMP" if data[:2] == b"BM" else None


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS, least: tuple[int, int] | None = None) -> np.ndarray:
    """Decodes a JPEG, PNG, BMP, GIF (its first frame) or WebP file.

    Grey, palette, CMYK and 16-bit files become RGB, alpha is dropped, 16 bits map to 8 over their full range (the high
    byte), and EXIF orientation is applied.

    Args:
        data: the file's bytes.
        max_pixels: a larger image is refused before decoding.
        least: when given, a JPEG comes out at 1/2, 1/4 or 1/8 of its size where that is at least this (height, width):
            libjpeg leaves high frequencies out of its inverse DCT, which is faster.

    Returns:
        uint8 [H, W, 3], 0..255, RGB, upright; perhaps a turned view of an array that lies as the file does.

    Raises:
        DecodeError: with the reason, when the bytes are not a whole image of these formats.
    """
    if not data:
        raise DecodeError("the file is empty")
    kind = image_format(data)
    if kind is None:
        raise DecodeError(f"not a JPEG, PNG, BMP, GIF or WebP image (it begins with {data[:8]!r})")
    if kind == "JPEG" and (pixels := _directly(data, max_pixels, least)) is not None:
        return pixels
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            _check_size(*image.size, max_pixels)
            if least and kind == "JPEG":
                image.draft(None, (max(least), max(least)))  # whichever way the image is turned
            return _to_rgb(image)
    except (DecodeError, MemoryError):
        raise
    except UnidentifiedImageError as error:  # its own words hold an address in memory
        raise DecodeError(f"damaged {kind}: its header can't be read") from error
    except Exception as error:  # Pillow's decoders raise a dozen kinds for damaged files
        raise DecodeError(f"damaged {kind}: {error or type(error).__name__}") from error


def _directly(data: bytes, max_pixels: int, least: tuple[int, int] | None) -> np.ndarray | None:
    """A JPEG without Pillow, which gives the same pixels; None where it has to look."""
    size = jpeg.header(data)
    if size is None:
        return None
    _check_size(size[1], size[0], max_pixels)
    return jpeg.decode(data, size, least)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise DecodeError(f"{width}x{height} pixels are more than the limit of {max_pixels:,}")


def least_size(spec: FeatureSpec) -> tuple[int, int] | None:
    """What `decode_image` takes as `least` for images of the spec: room for the resizing that follows."""
    return (MARGIN * spec.image_size[0], MARGIN * spec.image_size[1]) if spec.decode == "scaled" else None


def decoding_bytes(data: bytes, least: tuple[int, int] | None = None) -> int:
    """Bytes that decoding an image and resizing it hold at most, by its header; 0 when that can't be read."""
    if (size := jpeg.header(data)) is not None:
        return jpeg.working_bytes(data, size, least)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return image.width * image.height * PILLOW_BYTES
    except Exception:  # decode_image says what is wrong with it
        return 0


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16-bit grey
        image.load()
        with contextlib.suppress(Exception):
            image = ImageOps.exif_transpose(image)
        grey = (np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8)  # [H, W]
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    rgb = image.convert("RGB")
    with contextlib.suppress(Exception):  # a broken EXIF block does not make the pixels worse
        rgb = ImageOps.exif_transpose(rgb)
    return np.asarray(rgb)


def resizing_layer(spec: FeatureSpec) -> keras.layers.Layer:
    """The spec's resizing as a layer from [B, any, any, 3] to [B, H, W, 3]; float32 in and out, antialiased."""
    import keras

    return keras.layers.Resizing(*spec.image_size, name="resizing", dtype="float32", **_resize_options(spec))


def _resize_options(spec: FeatureSpec) -> dict[str, object]:
    return {
        "interpolation": spec.interpolation,
        "antialias": spec.interpolation != "area",  # an area is an average already
        "crop_to_aspect_ratio": spec.resize_mode == "crop",
        "pad_to_aspect_ratio": spec.resize_mode == "pad",
    }
