"""Image files without their metadata, pixel for pixel: what is left out is left out, and nothing is encoded again.

Rules: pure, and only what is known to be picture is kept. A file whose parts do not add up gives None, for then its
pixels have to be written anew. Must not know how to decode: the caller has decoded the file before, and knows that the
pixels need no turning and no other colours.
"""

from __future__ import annotations

import re

PNG_PICTURE_CHUNKS = frozenset(
    (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"sRGB", b"gAMA", b"cHRM", b"pHYs", b"sBIT", b"bKGD")
)
"""Chunks that carry pixels or how to show them; any other may carry words about the person who took the picture."""
PNG_SPECIAL_CHUNKS = frozenset((b"tRNS", b"acTL"))
"""Transparency outside the pixels, animation: such a picture is made plain by writing it anew."""

_AFTER_A_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def jpeg_parts(data: bytes) -> list[memoryview] | None:
    """Return the parts of a JPEG but for EXIF, profiles, comments, thumbnails and whatever follows its end."""
    view, at = memoryview(data), 2
    parts = [view[:2]]
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] >= 0xC0:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        end = at + 2 + length
        if length < 2 or 0xD0 <= marker <= 0xD9:
            return None
        jfif = marker == 0xE0 and data[at + 4 : at + 9] == b"JFIF\0" and length == 16
        adobe = marker == 0xEE and data[at + 4 : at + 9] == b"Adobe" and length == 14
        if marker == 0xDA:
            scan = _AFTER_A_SCAN.search(data, end)
            if not scan:
                return None
            end = scan.start()
        if jfif or adobe or not (marker == 0xFE or 0xE0 <= marker <= 0xEF):
            parts.append(view[at:end])
        at = end
        if data[at : at + 2] == b"\xff\xd9":
            return [*parts, view[at : at + 2]]
    return None


def jpeg_scans(data: bytes) -> int:
    """Return in how many scans a JPEG's pixels come, or more than that for one whose parts do not add up."""
    parts = jpeg_parts(data)
    return sum(part[1] == 0xDA for part in parts) if parts else data.count(b"\xff\xda")


def png_parts(data: bytes) -> list[memoryview] | None:
    """Return the parts of a PNG of at most 8 bits a channel but for words, times and whatever follows its end."""
    view, at = memoryview(data), 8
    parts = [view[:8]]
    while at + 12 <= len(data) and data[24] <= 8:
        name, end = data[at + 4 : at + 8], at + 12 + int.from_bytes(data[at : at + 4])
        if name in PNG_SPECIAL_CHUNKS or end > len(data):
            return None
        if name in PNG_PICTURE_CHUNKS:
            parts.append(view[at:end])
        at = end
        if name == b"IEND":
            return parts
    return None


def joined(data: bytes, parts: list[memoryview]) -> bytes:
    """Return the parts as a file: `data` itself where nothing was left out."""
    return data if sum(len(part) for part in parts) == len(data) else b"".join(parts)
