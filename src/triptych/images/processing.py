"""Image bytes: verify, clean, fit to limits, make small enough to show.

Rules: every function takes bytes and returns bytes, and equal bytes give equal bytes. Widths and heights are in pixels,
of the picture as it is shown (EXIF orientation applied). Raises `UnreadableImage` for bytes that do not decode.

Must not know: files, URLs, handles, providers. The caller hands in a provider's limits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image

from triptych.core.errors import OutOfLimits
from triptych.images import contact_sheet
from triptych.images.cleaning import clean
from triptych.images.decoding import MAX_SCANS, Facts, open_upright, sniff, verify
from triptych.images.encoding import encode, jpeg, lossy

__all__ = [
    "MAX_SCANS",
    "Facts",
    "clean",
    "encode",
    "fit",
    "open_upright",
    "preview",
    "small_jpeg",
    "sniff",
    "thumbnail",
    "verify",
]

ENCODABLE = ("image/jpeg", "image/png", "image/webp")
JPEG_QUALITIES = (92, 86, 80, 72)


def fit(
    data: bytes,
    *,
    max_bytes: int | None = None,
    max_pixels: int | None = None,
    max_side: int | None = None,
    formats: Sequence[str] = ENCODABLE,
) -> tuple[bytes, Facts, tuple[str, ...]]:
    """Return the picture within the limits, its facts, and one sentence for each change.

    `max_pixels` is width times height, `max_side` the longest side, `formats` the allowed mime types. A picture that
    fits is returned byte for byte, without a sentence.
    Raises: `UnreadableImage`; `OutOfLimits` if no version of the picture can be within the limits.
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
                out = encode(best, mime_type) if quality is None else lossy(best, mime_type, quality)
                if max_bytes is None or len(out) <= max_bytes:
                    made = Facts(mime_type, best.width, best.height)
                    return out, made, _fit_sentences(facts, len(data), made, len(out), see_through)
        if max(best.size) <= 16:
            break
        best = image.resize(_scaled(best.size, 0.8), Image.Resampling.LANCZOS)
    raise OutOfLimits(f"No version of this image fits in {max_bytes} bytes; use a smaller or simpler image.")


def preview(data: bytes, *, max_side: int = 768, max_bytes: int = 100_000) -> bytes:
    """Return a JPEG of at most `max_side` pixels a side and `max_bytes` bytes; transparency becomes a light checker.

    Raises: `UnreadableImage`.
    """
    return small_jpeg(thumbnail(data, max_side), max_bytes)


def thumbnail(data: bytes, side_px: int) -> Image.Image:
    """Return the picture upright, at most `side_px` a side; transparency becomes a light checker.

    Raises: `UnreadableImage`.
    """
    image = open_upright(data, near_px=side_px)
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return contact_sheet.opaque(image)


def small_jpeg(image: Image.Image, max_bytes: int) -> bytes:
    """Return a JPEG of at most `max_bytes`: first at lower quality, then smaller. If none fits, return the smallest."""
    while True:
        for quality in (88, 80, 70, 58):
            out = jpeg(image, quality)
            if len(out) <= max_bytes:
                return out
        if max(image.size) <= 16:
            return out
        image = image.resize(_scaled(image.size, 0.8), Image.Resampling.LANCZOS)


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, int(size[0] * scale)), max(1, int(size[1] * scale))


def _targets(mime_type: str, formats: Sequence[str], see_through: bool) -> tuple[str, ...]:
    """Return the formats to try, best first: the picture's own, then lossless ones, then any.

    A picture with transparency becomes a JPEG only if no other format is allowed: it is made smaller instead.
    """
    order = ("image/png", "image/webp") if see_through else ("image/jpeg", "image/png", "image/webp")
    allowed = [one for one in (mime_type, *order) if one in formats and one in ENCODABLE]
    if not allowed and "image/jpeg" in formats:
        allowed = ["image/jpeg"]
    if not allowed:
        raise OutOfLimits(f"None of these formats can be written: {', '.join(formats)}. Allow PNG, JPEG or WebP.")
    return tuple(dict.fromkeys(allowed))


def _fit_sentences(
    before: Facts, before_bytes: int, after: Facts, after_bytes: int, see_through: bool
) -> tuple[str, ...]:
    sentences = []
    if (before.width, before.height) != (after.width, after.height):
        sentences.append(
            f"Scaled from {before.width}×{before.height} to {after.width}×{after.height} to fit the model's limits."
        )
    if before.mime_type != after.mime_type:
        lost = ", its transparency filled with white" if see_through and after.mime_type == "image/jpeg" else ""
        old, new = (facts.mime_type.removeprefix("image/") for facts in (before, after))
        sentences.append(f"Converted from {old} to {new}{lost}.")
    if not sentences:
        sentences.append(
            f"Compressed from {before_bytes / 1e6:.1f} MB to {after_bytes / 1e6:.1f} MB to fit the model's limits."
        )
    return tuple(sentences)
