"""An image file's bytes in, pixels out: one decoding and one resizing for extraction, training and prediction.

The resizing is Keras's own `Resizing`, so that a saved model does to an image what extraction did to it, to the last bit.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from features.errors import DecodeError
from features.spec import FeatureSpec

if TYPE_CHECKING:
    import keras

MAX_PIXELS = 178_956_970  # Pillow's own limit for a decompression bomb: 512 MiB of RGB
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


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes a JPEG, PNG, BMP, GIF (its first frame) or WebP file.

    Grey, palette, CMYK and 16-bit files become RGB, alpha is dropped, 16 bits map to 8 over their full range (the high
    byte), and EXIF orientation is applied.

    Args:
        data: the file's bytes.
        max_pixels: a larger image is refused before decoding.

    Returns:
        uint8 [H, W, 3], 0..255, RGB, upright.

    Raises:
        DecodeError: with the reason, when the bytes are not a whole image of these formats.
    """
    if not data:
        raise DecodeError("the file is empty")
    kind = image_format(data)
    if kind is None:
        raise DecodeError(f"not a JPEG, PNG, BMP, GIF or WebP image (it begins with {data[:8]!r})")
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise DecodeError(f"{width}x{height} pixels are more than the limit of {max_pixels:,}")
            return _to_rgb(image)
    except (DecodeError, MemoryError):
        raise
    except UnidentifiedImageError as error:  # its own words hold an address in memory
        raise DecodeError(f"damaged {kind}: its header can't be read") from error
    except Exception as error:  # Pillow's decoders raise a dozen kinds for damaged files
        raise DecodeError(f"damaged {kind}: {error or type(error).__name__}") from error


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


def resizer(spec: FeatureSpec) -> Callable[[np.ndarray], np.ndarray]:
    """The same resizing for one image at a time: uint8 [any, any, 3] to float32 [H, W, 3], both 0..255."""
    import keras
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)])  # type: ignore[untyped-decorator]
    def resize(image: tf.Tensor) -> tf.Tensor:
        return keras.ops.image.resize(tf.cast(image, tf.float32), spec.image_size, **_resize_options(spec))

    concrete = resize.get_concrete_function()
    return lambda image: concrete(tf.constant(image)).numpy()


def _resize_options(spec: FeatureSpec) -> dict[str, object]:
    return {
        "interpolation": spec.interpolation,
        "antialias": spec.interpolation != "area",  # an area is an average already
        "crop_to_aspect_ratio": spec.resize_mode == "crop",
        "pad_to_aspect_ratio": spec.resize_mode == "pad",
    }
