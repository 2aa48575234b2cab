"""Pictures as bytes: told apart, checked, cleaned, fitted to limits, made small enough to show.

Rules: every function is bytes in, bytes out, and the same bytes in give the same bytes out. Nothing is decoded before
its dimensions are checked against a cap. Whatever a decoder raises leaves here as `UnreadableImage`, saying what was
wrong and what would be right. Widths and heights are in pixels, as the picture is shown (EXIF orientation applied).

Must not know: files, URLs, handles, providers. What a provider's limits are is handed in.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageCms

from triptych.core.errors import OutOfLimits, UnreadableImage, quoted
from triptych.images import contact_sheet, metadata

MAX_PIXELS = 100_000_000
MAX_SCANS = 100
"""Of a progressive JPEG: writers make about ten. Each is a pass over all pixels, and takes a hundred bytes."""
MAX_LOOKED_THROUGH = 400_000_000
"""Pixels times scans of a JPEG that is searched for bytes of no pixel: some ten seconds of work."""
READABLE = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
}
"""What is accepted, and Pillow's word for it."""
ENCODABLE = ("image/jpeg", "image/png", "image/webp")
JPEG_QUALITIES = (92, 86, 80, 72)

ORIENTATION_TAG = 0x0112


@dataclass(frozen=True, slots=True)
class Facts:
    """What a picture is, measured by decoding it."""

    mime_type: str
    width: int
    height: int


def sniff(head: bytes) -> str | None:
    """Return the mime type that the first bytes (32 are enough) announce, or None when it is no image we know of.

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
    """Decode every pixel and return what the picture is. Raises `UnreadableImage`.

    Of an animation or a multi-page file, the first frame counts. Pillow's own guard stays in place above `max_pixels`:
    nothing beyond 178 million pixels is ever read.
    """
    mime_type, (width, height), image = _decode(data, max_pixels, near_px=1)
    if _orientation(image) >= 5:
        width, height = height, width
    return Facts(mime_type, width, height)


def open_upright(data: bytes, *, max_pixels: int = MAX_PIXELS, near_px: int | None = None) -> Image.Image:
    """Return the first frame as it is meant to be seen: upright, sRGB, mode L, RGB or RGBA, without metadata.

    `near_px`: the longest side that will be needed; a JPEG may then be decoded at a fraction of its size, which is
    several times faster. Raises `UnreadableImage`.
    """
    _, _, image = _decode(data, max_pixels, near_px)
    return _plain(image)


def clean(data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[bytes, Facts]:
    """Return a copy that is safe to send out, and its facts: upright, sRGB, no metadata of any kind.

    JPEG stays JPEG, everything else becomes PNG, keeping its alpha. Where only metadata has to go the pixels are not
    encoded again, and a file that is already clean comes back byte for byte, so that its digest is stable; otherwise,
    and where bytes that belong to no pixel hide in the compressed data, JPEG is written at quality 95, 4:4:4.

    Raises `UnreadableImage`.
    """
    mime_type, size, image = _decode(data, max_pixels, near_px=1)
    plain = image.mode in ("L", "RGB", "RGBA") and _orientation(image) == 1 and "icc_profile" not in image.info
    if plain and (out := _without_metadata(data, mime_type)):
        return out, Facts(mime_type, *size)
    if image.size != size:
        _, _, image = _decode(data, max_pixels)
    image = _plain(image)
    if mime_type == "image/jpeg":
        return _jpeg(image, 95, subsampling=0), Facts("image/jpeg", image.width, image.height)
    return encode(image, "image/png"), Facts("image/png", image.width, image.height)


def _without_metadata(data: bytes, mime_type: str) -> bytes | None:
    """Return a file with the same pixels and nothing else; None where they have to be encoded again for that."""
    if mime_type == "image/png" and (parts := metadata.png_parts(data)):
        return metadata.joined(data, parts)
    if mime_type == "image/jpeg" and (found := metadata.jpeg_parts(data)):
        return None if _hides_bytes(data, found) else metadata.joined(data, found.parts)
    return None


def _hides_bytes(data: bytes, found: metadata.Jpeg) -> bool:
    """Return whether a JPEG has bytes before the end of a run that belong to no pixel: other ones change nothing.

    A picture whose many scans would take long to look through counts as one that has.
    """
    if len(found.scans) == 1:
        return any(_ends_early(data, found, n) for n in range(len(found.scans[0])))
    if len(found.scans) * found.width * found.height > MAX_LOOKED_THROUGH:
        return True
    whole = _digest(data)
    return any(
        all(_digest(metadata.garbled(data, run, pattern)) == whole for pattern in metadata.PATTERNS)
        for (run,) in found.scans
    )


def _ends_early(data: bytes, found: metadata.Jpeg, n: int) -> bool:
    """Return whether a run of a JPEG goes on after its last unit: what is put behind it is not what is decoded next."""
    seen = set()
    for probe in metadata.PROBES:
        alone = found.alone(data, n, probe)
        if not alone:
            return False
        file, (x, y) = alone
        image = Image.open(io.BytesIO(file), formats=["JPEG"])
        del alone, file
        image.draft("L", (1, 1))  # an eighth of the size: of each block its mean brightness
        try:
            image.load()
        except OSError:
            continue
        seen.add(image.crop((x // 8, y // 8, x // 8 + 1, y // 8 + 1)).tobytes())
        if len(seen) > 1:
            return False
    return True


def _digest(data: bytes) -> bytes:
    """Return a digest of a JPEG's pixels; an empty one where garbled data stops the decoder."""
    image = Image.open(io.BytesIO(data), formats=["JPEG"])
    try:
        image.load()
    except OSError:
        return b""
    digest = hashlib.blake2b()
    for top in range(0, image.height, 256):
        digest.update(image.crop((0, top, image.width, min(top + 256, image.height))).tobytes())
    return digest.digest()


def fit(
    data: bytes,
    *,
    max_bytes: int | None = None,
    max_pixels: int | None = None,
    max_side: int | None = None,
    formats: Sequence[str] = ENCODABLE,
) -> tuple[bytes, Facts, tuple[str, ...]]:
    """Return the picture within the limits, its facts, and one sentence per thing that was done to it.

    `max_pixels` is width times height, `max_side` the longest side, `formats` the mime types allowed. A picture that
    fits comes back byte for byte, with no sentence. Raises `UnreadableImage`, and `OutOfLimits` when the limits leave
    nothing (no format we can write, or fewer bytes than any picture has).
    """
    facts = verify(data)
    width, height = facts.width, facts.height
    scale = min(1.0, max_side / max(width, height) if max_side else 1.0)
    if max_pixels:
        scale = min(scale, math.sqrt(max_pixels / (width * height)))
    if scale == 1.0 and facts.mime_type in formats and (max_bytes is None or len(data) <= max_bytes):
        return data, facts, ()

    image = open_upright(data)
    see_through = image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255)
    targets = _targets(facts.mime_type, formats, see_through)
    if scale < 1.0:
        image = image.resize(_scaled((width, height), scale), Image.Resampling.LANCZOS)
    best = image
    for _ in range(24):
        for mime_type in targets:
            for quality in (None,) if mime_type == "image/png" else JPEG_QUALITIES:
                out = encode(best, mime_type) if quality is None else _lossy(best, mime_type, quality)
                if max_bytes is None or len(out) <= max_bytes:
                    made = Facts(mime_type, best.width, best.height)
                    return out, made, _fit_sentences(facts, len(data), made, len(out), see_through)
        if max(best.size) <= 16:
            break
        best = image.resize(_scaled(best.size, 0.8), Image.Resampling.LANCZOS)
    raise OutOfLimits(f"No version of this image fits in {max_bytes} bytes; use a smaller or simpler image.")


def preview(data: bytes, *, max_side: int = 768, max_bytes: int = 100_000) -> bytes:
    """Return a JPEG of at most `max_side` pixels a side and `max_bytes` bytes; transparency shows as a light checker.

    Raises `UnreadableImage`.
    """
    return small_jpeg(thumbnail(data, max_side), max_bytes)


def thumbnail(data: bytes, side_px: int) -> Image.Image:
    """Return the picture as it is meant to be seen, at most so large; transparency shows as a light checker.

    Raises `UnreadableImage`.
    """
    image = open_upright(data, near_px=side_px)
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return contact_sheet.opaque(image)


def small_jpeg(image: Image.Image, max_bytes: int) -> bytes:
    """Return a JPEG of at most `max_bytes`: lower quality first, then smaller; the smallest try if nothing fits."""
    while True:
        for quality in (88, 80, 70, 58):
            out = _jpeg(image, quality)
            if len(out) <= max_bytes:
                return out
        if max(image.size) <= 16:
            return out
        image = image.resize(_scaled(image.size, 0.8), Image.Resampling.LANCZOS)


def encode(image: Image.Image, mime_type: str) -> bytes:
    """Return the picture as a file, quickly: PNG lightly compressed, JPEG and WebP at quality 92. No metadata."""
    if mime_type != "image/png":
        return _lossy(image, mime_type, 92)
    buffer = io.BytesIO()
    _bare(image).save(buffer, "PNG", compress_level=2)
    return buffer.getvalue()


# --- reading ---


def _decode(data: bytes, max_pixels: int, near_px: int | None = None) -> tuple[str, tuple[int, int], Image.Image]:
    """Return mime type, stored size and loaded first frame; the one place where outside bytes meet a decoder.

    With `near_px` a JPEG's frame may be smaller than stored: every bit is still read, at a fraction of the memory.
    """
    mime_type = sniff(data[:32])
    if mime_type not in READABLE:
        raise UnreadableImage(f"{_what_it_is(data, mime_type)} Use a JPEG, PNG, WebP, GIF, BMP or TIFF file.")
    name = READABLE[mime_type]
    try:
        image = Image.open(io.BytesIO(data), formats=[name])
        stored = image.size
        too_many = image.width * image.height > max_pixels
        if name == "TIFF" and _tile_pixels(image) > max_pixels:
            raise Image.DecompressionBombError
        if name == "JPEG" and metadata.jpeg_scans(data) > MAX_SCANS:
            raise UnreadableImage(f"The JPEG image has more than {MAX_SCANS} scans. Save it again, as a plain JPEG.")
        if not too_many:
            if near_px is not None:
                image.draft(None, (near_px * 2, near_px * 2))
            image.load()
            if name == "PNG" and not metadata.png_has_end(data):  # the decoder does without the last 21 bytes
                raise EOFError("its end is missing")
            # Reading a TIFF turns it upright, which may change its size.
            return mime_type, stored if name == "JPEG" else image.size, image
        size = f"{image.width}×{image.height}"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        size = "of extreme dimensions"
    except UnreadableImage:
        raise
    except Exception as trouble:  # decoders raise whatever the broken bytes led them to
        raise UnreadableImage(
            f"The {name} image cannot be decoded ({quoted(str(trouble) or type(trouble).__name__, 120)}): "
            "the file is damaged or cut short. Send a complete file."
        ) from trouble
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


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # broken EXIF says nothing about the pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _plain(image: Image.Image) -> Image.Image:
    """Return the picture upright, in sRGB, as L, RGB or RGBA, with nothing attached."""
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    turn = turns.get(_orientation(image))
    profile = image.info.get("icc_profile")
    image = _eight_bit(image)
    if profile:
        image = _to_srgb(image, profile)
    if image.mode not in ("L", "RGB", "RGBA"):
        see_through = "A" in image.mode or "a" in image.mode or "transparency" in image.info
        image = image.convert("RGBA" if see_through else "L" if image.mode == "1" else "RGB")
    elif "transparency" in image.info and image.mode != "RGBA":
        image = image.convert("RGBA")
    if turn is not None:
        image = image.transpose(turn)
    return _bare(image)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return 16- and 32-bit greys as 8-bit, by value and not by clipping."""
    if not image.mode.startswith(("I", "F")):
        return image
    sixteen = image.mode.startswith("I;16")
    wide = image.convert("F")
    low, high = wide.getextrema()
    if not isinstance(low, float) or not isinstance(high, float) or not math.isfinite(high - low):
        raise UnreadableImage("The image has no finite brightness values. Save it with 8 bits per channel.")
    if sixteen:
        low, high = 0.0, 65535.0
    elif low >= 0:
        low, high = 0.0, next((top for top in (1.0, 255.0, 65535.0) if high <= top), high)
    gain = 255.0 / (high - low) if high > low else 0.0
    return wide.point(lambda value: value * gain - low * gain + 0.5).convert("L")


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    alpha = image.convert("RGBA").getchannel("A") if image.mode in ("RGBA", "LA", "PA") else None
    colours = image.convert("RGB") if image.mode in ("RGBA", "P", "PA") else image
    colours = colours.convert("L") if colours.mode == "LA" else colours
    if "transparency" in image.info and alpha is None:
        alpha = image.convert("RGBA").getchannel("A")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        made = ImageCms.profileToProfile(colours, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image  # a broken or ill-matched profile: the numbers are taken for sRGB
    if made is None:
        return image
    made = _bare(made)
    if alpha is not None:
        made.putalpha(alpha)
    return made


# --- writing ---


def _bare(image: Image.Image) -> Image.Image:
    """Return a picture whose `info` is empty: Pillow writes what it finds there into the file."""
    if not image.info and type(image) is Image.Image:
        return image
    bare = image.copy()
    bare.info = {}
    return bare


def _jpeg(image: Image.Image, quality: int, *, subsampling: int = 2) -> bytes:
    image = contact_sheet.opaque(image, checker=False)
    buffer = io.BytesIO()
    _bare(image).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return buffer.getvalue()


def _lossy(image: Image.Image, mime_type: str, quality: int) -> bytes:
    if mime_type == "image/jpeg":
        return _jpeg(image, quality, subsampling=0 if quality > 90 else 2)
    if mime_type != "image/webp":
        raise OutOfLimits(f"Images are written as PNG, JPEG or WebP, not as {quoted(mime_type, 40)}.")
    buffer = io.BytesIO()
    _bare(image).save(buffer, "WEBP", quality=quality, method=2)
    return buffer.getvalue()


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, int(size[0] * scale)), max(1, int(size[1] * scale))


def _targets(mime_type: str, formats: Sequence[str], see_through: bool) -> tuple[str, ...]:
    """Return the formats to try, best first: the picture's own, then those that lose nothing it has, then any.

    A picture with transparency becomes a JPEG only where nothing else is allowed: it is made smaller instead.
    """
    order = ("image/png", "image/webp") if see_through else ("image/jpeg", "image/png", "image/webp")
    allowed = [one for one in (mime_type, *order) if one in formats and one in ENCODABLE]
    if not allowed and "image/jpeg" in formats:
        allowed = ["image/jpeg"]
    if not allowed:
        raise OutOfLimits(f"None of these formats can be written: {', '.join(formats)}. Allow PNG, JPEG or WebP.")
    return tuple(dict.fromkeys(allowed))


def _fit_sentences(was: Facts, was_bytes: int, now: Facts, now_bytes: int, see_through: bool) -> tuple[str, ...]:
    said = []
    if (was.width, was.height) != (now.width, now.height):
        said.append(f"Scaled from {was.width}×{was.height} to {now.width}×{now.height} to fit the model's limits.")
    if was.mime_type != now.mime_type:
        lost = ", its transparency filled with white" if see_through and now.mime_type == "image/jpeg" else ""
        said.append(
            f"Converted from {was.mime_type.removeprefix('image/')} to {now.mime_type.removeprefix('image/')}{lost}."
        )
    if not said:
        said.append(f"Compressed from {was_bytes / 1e6:.1f} MB to {now_bytes / 1e6:.1f} MB to fit the model's limits.")
    return tuple(said)
