"""An image file's bytes in, pixels out: one decoding for extraction, training and prediction.

`resizing_layer` is what a saved model does next; `resize.resize` does the same to one image at a time, faster.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from headstart.features.errors import DecodeError
from headstart.features.images import jpeg
from headstart.features.images.file_kinds import image_format, not_an_image
from headstart.features.spec import FeatureSpec, parse_intensity

if TYPE_CHECKING:
    import keras

MAX_PIXELS = 178_956_970  # Pillow's own limit for a decompression bomb: 512 MiB of RGB
PILLOW_BYTES = 11  # a pixel, at most: as the file has it and as RGB, 4 each, and as numpy's
DEEP_BYTES = 40  # the same of grey images of more than 8 bits, which are scaled in float64
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # a TIFF's tag, and the value that Pillow heeds up to 8 bits only
MARGIN = 2  # times the network's size, that a JPEG decoded at a fraction keeps at least
PLUGINS = {  # the module and class that read a format; `Image.open` would ask a limit of the whole process
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "WEBP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "HEIF": ("pillow_heif.as_plugin", "HeifImageFile"),
}
MISSING = {
    "AVIF": "AVIF is read with Pillow 11.3 or later: pip install -U pillow",
    "HEIF": "HEIC is read with an extra: pip install 'headstart[heic]'",
}


def decode_image(
    data: bytes,
    max_pixels: int = MAX_PIXELS,
    least: tuple[int, int] | None = None,
    intensity: str = "full",
    scratch: jpeg.Scratch | None = None,
) -> np.ndarray:
    """Decodes a JPEG, PNG, BMP, GIF, WebP, TIFF, AVIF or HEIC file: its first frame or page.

    Grey, palette, CMYK and 16-bit files become RGB, alpha is dropped, and EXIF orientation is applied.

    Args:
        data: the file's bytes.
        max_pixels: a larger image is refused before decoding.
        least: when given, a JPEG comes out at 1/2, 1/4 or 1/8 of its size where that is at least this (height, width):
            libjpeg leaves high frequencies out of its inverse DCT, which is faster.
        intensity: what becomes of grey images of more than 8 bits, as `spec.parse_intensity` reads it.
        scratch: when given, a JPEG's pixels may lie in it, and hold until the thread decodes the next image.

    Returns:
        uint8 [H, W, 3], 0..255, RGB, upright; perhaps a turned view of an array that lies as the file does.

    Raises:
        DecodeError: with the reason, when the bytes are not a whole image of these formats.
    """
    kind = image_format(data)
    if kind is None:
        raise DecodeError(not_an_image(data))
    if kind == "JPEG" and (pixels := _directly(data, max_pixels, least, scratch)) is not None:
        return pixels
    try:
        with _opened(data, kind) as image:
            _check_size(*image.size, max_pixels)
            _make_room(image)
            if least and kind == "JPEG":
                image.draft(None, (max(least), max(least)))  # whichever way the image is turned
            return _to_rgb(image, intensity)
    except (DecodeError, MemoryError):
        raise
    except (UnidentifiedImageError, SyntaxError) as error:  # their own words hold an address in memory, or speak of syntax
        raise DecodeError(f"damaged {kind}: its header can't be read") from error
    except Exception as error:  # Pillow's decoders raise a dozen kinds for damaged files
        raise DecodeError(f"damaged {kind}: {error or type(error).__name__}") from error


def decoder(spec: FeatureSpec, max_pixels: int, scratch: jpeg.Scratch | None = None) -> Callable[[bytes], np.ndarray]:
    """`decode_image` as a spec wants it."""
    least = least_size(spec)
    return functools.partial(decode_image, max_pixels=max_pixels, least=least, intensity=spec.intensity, scratch=scratch)


def is_readable_now(reason: str) -> bool:
    """Whether an image that could not be decoded for this reason can be by now: what it lacked is installed."""
    return any(reason == _missing(kind) and _reader(kind) for kind in PLUGINS)


def _missing(kind: str) -> str:
    """Why an image of a format is not decoded where nothing reads it."""
    return MISSING.get(kind, f"this Pillow reads no {kind}")


def _reader(kind: str) -> Callable[[io.BytesIO, str], Image.Image] | None:
    """What reads a format's files; None where it is not installed."""
    module, name = PLUGINS[kind]
    try:
        found: Callable[[io.BytesIO, str], Image.Image] = getattr(importlib.import_module(module), name)
    except ImportError:
        return None
    return found


def _opened(data: bytes, kind: str) -> Image.Image:
    """An image whose header is read, by the format's own reader."""
    if (reader := _reader(kind)) is None:
        raise DecodeError(_missing(kind))
    return reader(io.BytesIO(data), "")


def _make_room(image: Image.Image) -> None:
    """Gives a TIFF its pixels' memory, which `load` would ask the process's limit for."""
    if image.format == "TIFF":
        image.im = Image.new(image.mode, getattr(image, "_tile_size", image.size), None).im


def _is_deep(image: Image.Image) -> bool:
    """Whether an image is grey and has more than 8 bits: integers of 16 or 32, or floating point."""
    return image.mode.startswith("I") or image.mode == "F"


def _deep_values(image: Image.Image) -> np.ndarray:
    """[H, W] as the file has them, upright; a larger one is brighter."""
    image.load()
    negative = image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO
    with contextlib.suppress(Exception):  # a broken EXIF block does not make the pixels worse
        image = ImageOps.exif_transpose(image)
    values = np.asarray(image)
    return 65_535 - values if negative else values


def _directly(data: bytes, max_pixels: int, least: tuple[int, int] | None, scratch: jpeg.Scratch | None) -> np.ndarray | None:
    """A JPEG without Pillow, which gives the same pixels; None where it has to look."""
    size = jpeg.header(data)
    if size is None:
        return None
    _check_size(size[1], size[0], max_pixels)
    return jpeg.decode(data, size, least, scratch)


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
        with _opened(data, image_format(data) or "") as image:
            return image.width * image.height * (DEEP_BYTES if _is_deep(image) else PILLOW_BYTES)
    except Exception:  # decode_image says what is wrong with it
        return 0


def header_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) in pixels as the file stores them, by its header alone; None when that can't be read."""
    if (size := jpeg.header(data)) is not None:
        return size
    try:
        with _opened(data, image_format(data) or "") as image:
            return image.height, image.width
    except Exception:  # decode_image says what is wrong with it
        return None


def deep_peak(data: bytes, max_pixels: int = MAX_PIXELS) -> int | None:
    """The largest value of a grey image of 16 bits, 0..65535; None for any other image, and for none."""
    try:
        with _opened(data, image_format(data) or "") as image:
            if not image.mode.startswith("I") or image.width * image.height > max_pixels:
                return None
            _make_room(image)
            return int(_deep_values(image).max())
    except Exception:  # decode_image says what is wrong with it
        return None


def _to_rgb(image: Image.Image, intensity: str) -> np.ndarray:
    if _is_deep(image):
        return np.repeat(_to_8_bits(_deep_values(image), intensity)[..., None], 3, axis=-1)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    rgb = image.convert("RGB")
    with contextlib.suppress(Exception):  # a broken EXIF block does not make the pixels worse
        rgb = ImageOps.exif_transpose(rgb)
    return np.asarray(rgb)


def _to_8_bits(grey: np.ndarray, intensity: str) -> np.ndarray:
    """[H, W] of any range to uint8."""
    kind, low, high = parse_intensity(intensity)
    if kind == "full":
        if grey.dtype.kind == "f":
            raise DecodeError("floating-point pixels have no range of their own: say --intensity auto or window:LO,HI")
        return (grey.clip(0, 65_535).astype(np.uint16) >> 8).astype(np.uint8)  # the high byte
    values = grey.astype(np.float64)
    if kind == "auto":
        finite = values[np.isfinite(values)]
        low, high = float(finite.min(initial=np.inf)), float(finite.max(initial=-np.inf))
    if not low < high:
        return np.zeros(grey.shape, np.uint8)
    values = np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low)
    values -= low
    values *= 255 / (high - low)
    return (values.clip(0, 255, out=values) + 0.5).astype(np.uint8)


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
