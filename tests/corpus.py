"""Image files as the world has them: every format and mode, cut, flipped, misnamed, hostile. Made by code, from a seed."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

SUFFIX = {"JPEG": "jpg", "PNG": "png", "BMP": "bmp", "GIF": "gif", "WEBP": "webp", "TIFF": "tif", "AVIF": "avif"}
KINDS = [kind for kind in SUFFIX if kind != "AVIF" or features.check("avif")]
ODD_NAMES = (
    "new\nline",
    "quo\"te'",
    "emoji \U0001f431",
    "tab\there",
    "comma,semi;colon",
    "-flag",
    " space ",
    "ä" * 100,
    "x" * 250,
)


def picture(height: int = 37, width: int = 53, seed: int = 0) -> Image.Image:
    """Soft blocks of colour, so that every format has something to compress."""
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 4 + 2, width // 4 + 2, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """An image as a file of a format."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: bytes) -> bytes:
    """A PNG by hand: what its header says need not be true."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    packed = zlib.compress(rows, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def text_chunk(size: int) -> bytes:
    """A compressed text of many zeros, as a chunk."""
    content = b"Comment\0\0" + zlib.compress(bytes(size), 9)
    return struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))


def whole_files() -> Iterator[tuple[str, bytes]]:
    """(name, content) of files that are what they say."""
    image = picture()
    for kind in KINDS:
        for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "I", "I;16", "F"):
            for name, options in (("", {}), ("-progressive", {"progressive": True}), ("-lossless", {"lossless": True})):
                if (name == "-progressive" and kind != "JPEG") or (name == "-lossless" and kind != "WEBP"):
                    continue
                try:
                    grey = image.convert("L")
                    made = Image.new("LAB", image.size, (100, 20, 30)) if mode == "LAB" else image
                    made = (grey if mode in ("I", "I;16", "F") else made).convert(mode)
                    yield f"{kind}-{mode.replace(';', '_')}{name}.{SUFFIX[kind]}", encoded(made, kind, **options)
                except (OSError, ValueError, KeyError):  # a mode that the format does not have
                    continue
    yield from _variants(image)
    yield from _rotations(image)


def _variants(image: Image.Image) -> Iterator[tuple[str, bytes]]:
    for subsampling in (0, 1, 2):
        for quality in (1, 50, 100):
            yield f"jpeg-{subsampling}-{quality}.jpg", encoded(image, "JPEG", subsampling=subsampling, quality=quality)
    yield "jpeg-restarts.jpg", encoded(image, "JPEG", restart_marker_blocks=2)
    yield "jpeg-icc-comment.jpg", encoded(image, "JPEG", icc_profile=b"icc" * 30_000, comment=b"c" * 60_000)
    yield "jpeg-trailing.jpg", encoded(image, "JPEG") + b"trailing" * 100
    for compression in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        yield f"tiff-{compression}.tif", encoded(image, "TIFF", compression=compression)
    yield "tiff-pages.tif", encoded(image, "TIFF", save_all=True, append_images=[picture(9, 8, 1)])
    for kind in ("GIF", "WEBP", "PNG"):
        yield f"animated.{SUFFIX[kind]}", encoded(image, kind, save_all=True, append_images=[picture(seed=1), picture(seed=2)])
    deep = (np.arange(37 * 53, dtype=np.uint16).reshape(37, 53) * 33) % 65_535
    yield "deep.png", encoded(Image.fromarray(deep), "PNG")
    for colour, channels in ((0, 1), (2, 3), (4, 2), (6, 4)):
        rows = b"".join(b"\0" + bytes(range(200))[: 8 * channels * 2] for _ in range(8))
        yield f"png-16-bit-{colour}.png", png(8, 8, 16, colour, rows)
    for depth in (1, 2, 4):
        yield f"png-grey-{depth}.png", png(8, 8, depth, 0, (b"\0" + b"\x5a" * depth) * 8)
    transparent = image.convert("P")
    yield "palette-transparent.png", encoded(transparent, "PNG", transparency=0)
    yield "palette-transparent.gif", encoded(transparent, "GIF", transparency=0)
    for kind in KINDS:
        yield f"one-pixel.{SUFFIX[kind]}", encoded(picture(1, 1), kind)
    for kind in ("PNG", "BMP", "TIFF"):
        yield f"wide.{SUFFIX[kind]}", encoded(picture(2, 65_500), kind)
    yield "wide.jpg", encoded(picture(2, 65_500), "JPEG")
    yield "tall.png", encoded(picture(65_500, 2), "PNG")


def _rotations(image: Image.Image) -> Iterator[tuple[str, bytes]]:
    for turned in range(0, 10):
        exif = Image.Exif()
        exif[0x0112] = turned
        for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
            yield f"turned-{turned}.{SUFFIX[kind]}", encoded(image, kind, exif=exif)
    yield "broken-exif.jpg", encoded(image, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 40)


def damaged_files(seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """(name, content) of files cut at many places, with bits flipped, under another name, empty, or none at all."""
    generator = np.random.default_rng(seed)
    for kind in KINDS:
        content = encoded(picture(), kind)
        for cut in sorted({1, 2, 3, 4, 8, 12, 16, 24, 30, 64, len(content) // 3, len(content) // 2, len(content) - 1}):
            yield f"cut-{cut}.{SUFFIX[kind]}", content[:cut]
        for number in range(8):
            flipped = bytearray(content)
            for at in generator.integers(2, len(content), 1 + number):
                flipped[at] ^= 1 << int(generator.integers(8))
            yield f"flipped-{number}.{SUFFIX[kind]}", bytes(flipped)
        yield f"misnamed-{kind}.{'png' if kind == 'JPEG' else 'jpg'}", content
    others = (
        b"",
        b"\0",
        bytes(1000),
        b"hello, world\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7\n",
        b"PK\3\4",
    )
    for number, content in enumerate((*others, b"RIFF\xff\xff\xff\xffWEBP", b"\0\0\0\x18ftypmp42", generator.bytes(5000))):
        yield f"other-{number}.jpg", content


def hostile_files() -> Iterator[tuple[str, bytes]]:
    """(name, content) of small files that claim, or unpack to, very much."""
    gif, bmp = bytearray(encoded(picture(), "GIF")), bytearray(encoded(picture(), "BMP"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    bmp[18:26] = struct.pack("<ii", 2**30, 2**30)
    webp = bytearray(encoded(picture(), "WEBP", lossless=True))
    webp[21:25] = struct.pack("<I", (16_383) | (16_383 << 14))
    jpeg = bytearray(encoded(picture(), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65_500, 65_500)
    tiff = encoded(picture(), "TIFF").replace(
        struct.pack("<HHIHH", 256, 4, 1, 53, 0), struct.pack("<HHII", 256, 4, 1, 2**31 - 1)
    )
    yield "bomb.gif", bytes(gif)
    yield "bomb.bmp", bytes(bmp)
    yield "bomb.webp", bytes(webp)
    yield "bomb.jpg", bytes(jpeg)
    yield "bomb.tif", tiff
    yield "bomb.png", png(2**31 - 1, 2**31 - 1, 8, 2, b"\0" * 100)
    yield "bomb-of-zeros.png", png(20_000, 20_000, 8, 0, bytes(20_001 * 2_000))
    yield "bomb-of-text.png", png(8, 8, 8, 0, bytes(72), text_chunk(200 << 20))


def files() -> list[tuple[str, bytes]]:
    """All of them."""
    return [*whole_files(), *damaged_files(), *hostile_files()]


def write(root: Path) -> dict[str, int]:
    """Writes the corpus as a labelled folder: (what there is) to how many; two classes, and what is no regular file."""
    for number, (name, content) in enumerate(files()):
        folder = root / ("one", "two")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:03}-{name}").write_bytes(content)
    good = encoded(picture(), "PNG")
    for name in ODD_NAMES:
        (root / "one" / f"{name}.png").write_bytes(good)
    Path(os.fsdecode(os.fsencode(root / "one") + b"/not-utf8-\xff\xfe.png")).write_bytes(good)
    (root / "two" / "folder.jpg").mkdir()
    (root / "two" / "folder.jpg" / "inside.png").write_bytes(good)
    os.mkfifo(root / "two" / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(root / "two" / "socket.jpg"))
    os.symlink("nowhere.jpg", root / "two" / "broken.jpg")
    os.symlink("loop.jpg", root / "two" / "loop.jpg")
    os.symlink("..", root / "two" / "parent")
    return {"files": len(files()) + len(ODD_NAMES) + 2, "special": 4}
