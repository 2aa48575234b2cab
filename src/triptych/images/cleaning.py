"""Copies of images that are safe to send out: upright, sRGB, without metadata or hidden bytes.

Rules: the same bytes in give the same bytes out. A file that is clean already is returned byte for byte.
"""

from __future__ import annotations

import hashlib
import io

from PIL import Image

from triptych.images import metadata
from triptych.images.decoding import MAX_PIXELS, Facts, decode, normalized, orientation
from triptych.images.encoding import encode, jpeg

MAX_LOOKED_THROUGH = 400_000_000
"""The most pixels times scans of a JPEG that is searched for hidden bytes: about ten seconds of work."""


def clean(data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[bytes, Facts]:
    """Return a copy that is safe to send out, and its facts: upright, sRGB, no metadata of any kind.

    JPEG stays JPEG; every other format becomes PNG and keeps its alpha. If only metadata has to go, the pixels are not
    encoded again. A clean file is returned byte for byte, so that its digest is stable. Otherwise, and if the
    compressed data hides bytes that belong to no pixel, JPEG is written at quality 95, 4:4:4.
    Raises: `UnreadableImage`.
    """
    mime_type, size, image = decode(data, max_pixels, near_px=1)
    plain = image.mode in ("L", "RGB", "RGBA") and orientation(image) == 1 and "icc_profile" not in image.info
    if plain and (out := _without_metadata(data, mime_type)):
        return out, Facts(mime_type, *size)
    if image.size != size:
        _, _, image = decode(data, max_pixels)
    image = normalized(image)
    if mime_type == "image/jpeg":
        return jpeg(image, 95, subsampling=0), Facts("image/jpeg", image.width, image.height)
    return encode(image, "image/png"), Facts("image/png", image.width, image.height)


def _without_metadata(data: bytes, mime_type: str) -> bytes | None:
    """Return the file without its metadata; None if its pixels must be encoded again."""
    if mime_type == "image/png" and (parts := metadata.png_parts(data)):
        return metadata.join_parts(data, parts)
    if mime_type == "image/jpeg" and (found := metadata.jpeg_parts(data)):
        return None if _hides_bytes(data, found) else metadata.join_parts(data, found.parts)
    return None


def _hides_bytes(data: bytes, found: metadata.Jpeg) -> bool:
    """Return whether a JPEG has bytes that belong to no pixel: changing them changes no pixel.

    A picture with too many scans to search counts as one that has.
    """
    if len(found.scans) == 1:
        return any(_ends_early(data, found, n) for n in range(len(found.scans[0])))
    if len(found.scans) * found.width * found.height > MAX_LOOKED_THROUGH:
        return True
    whole = _digest(data)
    return any(
        all(_digest(metadata.garble(data, run, pattern)) == whole for pattern in metadata.PATTERNS)
        for (run,) in found.scans
    )


def _ends_early(data: bytes, found: metadata.Jpeg, n: int) -> bool:
    """Return whether a run of a JPEG has bytes after its last unit: a probe put behind it is then not decoded."""
    seen = set()
    for probe in metadata.PROBES:
        alone = found.run_alone(data, n, probe)
        if not alone:
            return False
        file, (x, y) = alone
        image = Image.open(io.BytesIO(file), formats=["JPEG"])
        del alone, file
        image.draft("L", (1, 1))  # an eighth of the size: the mean brightness of each block
        try:
            image.load()
        except OSError:
            continue
        seen.add(image.crop((x // 8, y // 8, x // 8 + 1, y // 8 + 1)).tobytes())
        if len(seen) > 1:
            return False
    return True


def _digest(data: bytes) -> bytes:
    """Return a digest of a JPEG's pixels; an empty one if garbled data stops the decoder."""
    image = Image.open(io.BytesIO(data), formats=["JPEG"])
    try:
        image.load()
    except OSError:
        return b""
    digest = hashlib.blake2b()
    for top in range(0, image.height, 256):
        digest.update(image.crop((0, top, image.width, min(top + 256, image.height))).tobytes())
    return digest.digest()
