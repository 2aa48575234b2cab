"""Decode image files from outside: recognise, check, load, and turn upright into sRGB.

Rules: the dimensions are checked against a cap before any pixel is decoded. Every error of a decoder is raised as
`UnreadableImage`, which says what is wrong and how to mend it. Must not know files, URLs or handles.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

from PIL import Image, ImageCms

from triptych.core.errors import UnreadableImage, quoted
from triptych.images import metadata

MAX_PIXELS = 100_000_000
MAX_SCANS = 100
"""The most scans of a progressive JPEG that is read. Writers make about ten; each is a pass over all pixels and needs
only a hundred bytes."""
READABLE = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
}
"""The mime types that are accepted, with Pillow's name of each format."""
ORIENTATION_TAG = 0x0112


@dataclass(frozen=True, slots=True)
class Facts:
    """Mime type and size in pixels of a decoded picture."""

    mime_type: str
    width: int
    height: int


def sniff(head: bytes) -> str | None:
    """Return the mime type that the first bytes (32 are enough) announce, or None for no known image.

    HEIC and AVIF are recognised so that a refusal can name them; they are not decoded.
    """
    for magic, mime_type in (
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"BM", "image/bmp"),
        (b"II*\x00", "image/tiff"),
        (b"MM\x00*", "image/tiff"),
    ):
        if head.startswith(magic):
            return mime_type
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand in (b"avif", b"avis"):
            return "image/avif"
        if brand in (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"):
            return "image/heic"
    return None


def verify(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Facts:
    """Decode every pixel; return mime type and size.

    Of an animation or a multi-page file the first frame counts. Pillow's own guard stays active above `max_pixels`:
    nothing beyond 178 million pixels is ever read.
    Raises: `UnreadableImage`.
    """
    mime_type, (width, height), image = decode(data, max_pixels, near_px=1)
    if orientation(image) >= 5:
        width, height = height, width
    return Facts(mime_type, width, height)


def open_upright(data: bytes, *, max_pixels: int = MAX_PIXELS, near_px: int | None = None) -> Image.Image:
    """Return the first frame as people see it: upright, sRGB, mode L, RGB or RGBA, without metadata.

    `near_px` is the longest side that the caller needs. A JPEG may then be decoded at a fraction of its size, which is
    several times faster.
    Raises: `UnreadableImage`.
    """
    _, _, image = decode(data, max_pixels, near_px)
    return normalized(image)


def decode(data: bytes, max_pixels: int, near_px: int | None = None) -> tuple[str, tuple[int, int], Image.Image]:
    """Return mime type, stored size and loaded first frame. Only here do bytes from outside reach a decoder.

    With `near_px` the frame of a JPEG may be smaller than stored: every bit is still read, with a fraction of the
    memory.
    Raises: `UnreadableImage`.
    """
    mime_type = sniff(data[:32])
    if mime_type not in READABLE:
        raise UnreadableImage(f"{_what_it_is(data, mime_type)} Use a JPEG, PNG, WebP, GIF, BMP or TIFF file.")
    name = READABLE[mime_type]
    try:
        image = Image.open(io.BytesIO(data), formats=[name])
        stored_size = image.size
        too_many = image.width * image.height > max_pixels
        if name == "TIFF" and _tile_pixels(image) > max_pixels:
            raise Image.DecompressionBombError
        if name == "JPEG" and metadata.jpeg_scans(data) > MAX_SCANS:
            raise UnreadableImage(f"The JPEG image has more than {MAX_SCANS} scans. Save it again, as a plain JPEG.")
        if not too_many:
            if near_px is not None:
                image.draft(None, (near_px * 2, near_px * 2))
            image.load()
            if name == "PNG" and not metadata.png_has_end(data):  # the decoder ignores a missing end
                raise EOFError("its end is missing")
            # Pillow turns a TIFF upright as it reads it, which may change its size.
            return mime_type, stored_size if name == "JPEG" else image.size, image
        size = f"{image.width}×{image.height}"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        size = "of extreme dimensions"
    except UnreadableImage:
        raise
    except Exception as error:  # decoders raise errors of any type for broken bytes
        raise UnreadableImage(
            f"The {name} image cannot be decoded ({quoted(str(error) or type(error).__name__, 120)}): "
            "the file is damaged or cut short. Send a complete file."
        ) from error
    raise UnreadableImage(
        f"The {name} image is {size}; at most {max_pixels / 1e6:g} million pixels are read. Send a smaller version."
    )


def _tile_pixels(image: Image.Image) -> int:
    """Return the pixels of one tile of a TIFF, which may be larger than the picture; 0 without tiles."""
    tags = getattr(image, "tag_v2", {})
    return int(tags.get(322, 0)) * int(tags.get(323, 0))


def _what_it_is(data: bytes, mime_type: str | None) -> str:
    if not data:
        return "The file is empty."
    if mime_type:
        return f"{mime_type.removeprefix('image/').upper()} images are not supported; convert it first."
    start = data[:256].lstrip().lower()
    if start.startswith((b"<svg", b"<?xml")):
        return "This is SVG or XML, not a bitmap image."
    if start.startswith((b"<!doctype", b"<html", b"<head")):
        return "This is a web page, not an image; the address of the image itself is needed."
    if start.startswith(b"%pdf"):
        return "This is a PDF, not an image."
    return "This is not an image."


def orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # broken EXIF does not make the pixels unreadable
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def normalized(image: Image.Image) -> Image.Image:
    """Return the picture upright, in sRGB, as L, RGB or RGBA, without metadata."""
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    transpose = turns.get(orientation(image))
    profile = image.info.get("icc_profile")
    image = _eight_bit(image)
    if profile:
        image = _to_srgb(image, profile)
    if image.mode not in ("L", "RGB", "RGBA"):
        see_through = "A" in image.mode or "a" in image.mode or "transparency" in image.info
        image = image.convert("RGBA" if see_through else "L" if image.mode == "1" else "RGB")
    elif "transparency" in image.info and image.mode != "RGBA":
        image = image.convert("RGBA")
    if transpose is not None:
        image = image.transpose(transpose)
    return without_info(image)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return 16- and 32-bit greys as 8-bit, scaled by value, not clipped."""
    if not image.mode.startswith(("I", "F")):
        return image
    sixteen = image.mode.startswith("I;16")
    floats = image.convert("F")
    low, high = floats.getextrema()
    if not isinstance(low, float) or not isinstance(high, float) or not math.isfinite(high - low):
        raise UnreadableImage("The image has no finite brightness values. Save it with 8 bits per channel.")
    if sixteen:
        low, high = 0.0, 65535.0
    elif low >= 0:
        low, high = 0.0, next((top for top in (1.0, 255.0, 65535.0) if high <= top), high)
    gain = 255.0 / (high - low) if high > low else 0.0
    return floats.point(lambda value: value * gain - low * gain + 0.5).convert("L")


def is_plain(image: Image.Image) -> bool:
    """Return whether `normalized` changes no pixel of a picture."""
    plain = image.mode in ("L", "RGB", "RGBA") and "icc_profile" not in image.info
    return plain and orientation(image) == 1 and "transparency" not in image.info


def has_broken_profile(image: Image.Image) -> bool:
    """Return whether a picture has a colour profile that cannot be used: its values then count as sRGB."""
    profile = image.info.get("icc_profile")
    if not profile:
        return False
    mode = {"RGBA": "RGB", "P": "RGB", "PA": "RGB", "LA": "L"}.get(image.mode, image.mode)
    mode = "L" if mode.startswith(("I", "F")) else mode
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return True
    return False


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    alpha = image.convert("RGBA").getchannel("A") if image.mode in ("RGBA", "LA", "PA") else None
    pixels = image.convert("RGB") if image.mode in ("RGBA", "P", "PA") else image
    pixels = pixels.convert("L") if pixels.mode == "LA" else pixels
    if "transparency" in image.info and alpha is None:
        alpha = image.convert("RGBA").getchannel("A")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(pixels, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image  # a broken profile, or one for other channels: the values count as sRGB
    if converted is None:
        return image
    converted = without_info(converted)
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def without_info(image: Image.Image) -> Image.Image:
    """Return a picture whose `info` is empty. Pillow would write the contents of `info` into the file."""
    if not image.info and type(image) is Image.Image:
        return image
    bare = image.copy()
    bare.info = {}
    return bare
