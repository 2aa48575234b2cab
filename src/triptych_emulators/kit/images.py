"""Image files of an emulated API: results, uploads, and the inputs of a request.

Rules: inputs are read from this origin, from data URIs and from base64, never from the network. The memory is bounded:
the oldest files go first.
"""

from __future__ import annotations

import base64
import binascii
import io
import threading
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

MAX_BYTES = 256 * 1024 * 1024
"""Of the result files and of the uploads, each."""

EXTENSIONS: Mapping[str, str] = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}

LOOPBACK_HOSTS = {"127.0.0.1", "localhost", "::1"}


class UnreachableImage(Exception):
    """An input that the provider could not fetch or decode; the message is the provider's."""


class FileStore:
    """Files by name; the oldest go when there are too many bytes."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._files: dict[str, tuple[bytes, str]] = {}
        self._bytes = 0
        self._max_bytes = max_bytes
        self._lock = threading.Lock()

    def put(self, name: str, data: bytes, mime_type: str) -> None:
        with self._lock:
            self._files[name] = (data, mime_type)
            self._bytes += len(data)
            while self._bytes > self._max_bytes and len(self._files) > 1:
                oldest = next(iter(self._files))
                self._bytes -= len(self._files.pop(oldest)[0])

    def drop(self, name: str) -> None:
        """Remove a file."""
        with self._lock:
            self._bytes -= len(self._files.pop(name, (b"",))[0])

    def get(self, name: str) -> tuple[bytes, str] | None:
        """Return the bytes and the media type of a file, or None."""
        with self._lock:
            return self._files.get(name)


class ImageFiles:
    """The results and the uploads of one emulated API, and the way to any image that a request refers to."""

    def __init__(self) -> None:
        self.results = FileStore()
        self.uploads = FileStore()

    def read(self, reference: str) -> bytes:
        """Return the bytes of an input image; raise UnreachableImage in the provider's words."""
        from triptych.images import processing

        data = self.bytes_of(reference)
        try:
            processing.verify(data)
        except Exception as error:
            raise UnreachableImage(f"invalid image: cannot decode {_short(reference)}") from error
        return data

    def size_of(self, reference: str) -> tuple[int, int] | None:
        """Return width and height of an input image; None for one that cannot be read."""
        from triptych.images import processing

        try:
            found = processing.verify(self.read(reference))
        except UnreachableImage:
            return None
        return found.width, found.height

    def bytes_of(self, reference: str) -> bytes:
        """Return the bytes behind a URL of this origin, a data URI or base64, decoded or not as an image."""
        parts = urlsplit(reference)
        if parts.scheme in ("http", "https"):
            store, _, name = unquote(parts.path).removeprefix("/").partition("/")
            if (parts.hostname or "") in LOOPBACK_HOSTS and store in ("_uploads", "_results"):
                found = (self.uploads if store == "_uploads" else self.results).get(name)
                if found is not None:
                    return found[0]
            raise UnreachableImage(f"failed to download image: {_short(reference)}: unreachable or not found")
        text = reference.partition(",")[2] if parts.scheme == "data" else reference
        try:
            return base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise UnreachableImage("invalid image: neither a URL nor base64") from error


def cut_out(data: bytes, mime_type: str = "image/png") -> bytes:
    """Return the middle of a picture with a soft edge on a transparent background, as a PNG or WebP."""
    from PIL import Image, ImageDraw, ImageFilter

    image = Image.open(io.BytesIO(data)).convert("RGBA")
    width, height = image.size
    alpha = Image.new("L", image.size, 0)
    ImageDraw.Draw(alpha).ellipse((width // 8, height // 8, width - width // 8, height - height // 8), fill=255)
    image.putalpha(alpha.filter(ImageFilter.GaussianBlur(min(width, height) / 60)))
    out = io.BytesIO()
    if mime_type == "image/webp":
        image.save(out, "WEBP", quality=90)
    else:
        image.save(out, "PNG", compress_level=2)
    return out.getvalue()


def _short(reference: str) -> str:
    return reference if len(reference) <= 120 else reference[:119] + "…"
