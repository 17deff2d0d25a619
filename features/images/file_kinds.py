"""A file's first bytes in, what kind of file it is out. Standard library only."""

from __future__ import annotations

NAMES = "JPEG, PNG, BMP, GIF, WebP, TIFF, AVIF or HEIC image"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
BMP_HEADERS = tuple(size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124))  # sizes, as Pillow knows them
AVIF, HEIF = (b"avif", b"avis"), (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
OTHERS = (  # what people put beside photographs, by their first bytes
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"8BPS", "a Photoshop file"),
    (b"\0\0\x01\0", "a Windows icon"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"RIFF", "a sound or a film"),
    (b"\x1a\x45\xdf\xa3", "a film"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a numpy array"),
)


def image_format(data: bytes) -> str | None:
    """The format that a file's first bytes tell, whatever its name says; None when it is not an image that is read."""
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:4] in TIFF:
        return "TIFF"
    if data[4:8] == b"ftyp":
        return _of_brands(data)
    return "BMP" if data[:2] == b"BM" and data[14:18] in BMP_HEADERS else None


def _of_brands(data: bytes) -> str | None:
    """AVIF or HEIF by the brands of an ISO media file, the major one first."""
    length = int.from_bytes(data[:4], "big")
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, min(length, 256), 4))]
    if any(brand in AVIF for brand in brands):
        return "AVIF"
    return "HEIF" if any(brand in HEIF for brand in brands) else None


def not_an_image(data: bytes) -> str:
    """Why a file is not decoded, in words: what it is instead, as far as its first bytes tell."""
    if not data:
        return "the file is empty"
    return f"{_kind(data[:1024])}, not a {NAMES}"


def _kind(head: bytes) -> str:
    if found := next((name for start, name in OTHERS if head.startswith(start)), None):
        return found
    if head[4:8] == b"ftyp":
        return "a film"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in text and text.startswith(b"<"):
        return "an SVG drawing"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    return "text" if _is_text(head) else f"an unknown file (it begins with {head[:8]!r})"


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:  # a letter that is cut at the end
        text = head[: error.start].decode() if error.start > len(head) - 4 else "\0"
    return all(letter.isprintable() or letter in "\t\r\n\f" for letter in text)
