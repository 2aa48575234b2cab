"""Write pictures as JPEG, PNG or WebP, without metadata."""

from __future__ import annotations

import io

from PIL import Image

from triptych.core.errors import OutOfLimits, quoted
from triptych.images import contact_sheet
from triptych.images.decoding import without_info


def encode(image: Image.Image, mime_type: str) -> bytes:
    """Return the picture as a file, quickly: PNG lightly compressed, JPEG and WebP at quality 92. No metadata."""
    if mime_type != "image/png":
        return lossy(image, mime_type, 92)
    buffer = io.BytesIO()
    without_info(image).save(buffer, "PNG", compress_level=2)
    return buffer.getvalue()


def jpeg(image: Image.Image, quality: int, *, subsampling: int = 2) -> bytes:
    image = contact_sheet.opaque(image, checker=False)
    buffer = io.BytesIO()
    without_info(image).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return buffer.getvalue()


def lossy(image: Image.Image, mime_type: str, quality: int) -> bytes:
    if mime_type == "image/jpeg":
        return jpeg(image, quality, subsampling=0 if quality > 90 else 2)
    if mime_type != "image/webp":
        raise OutOfLimits(f"Images are written as PNG, JPEG or WebP, not as {quoted(mime_type, 40)}.")
    buffer = io.BytesIO()
    without_info(image).save(buffer, "WEBP", quality=quality, method=2)
    return buffer.getvalue()
