"""Names of files: safe on every system, with the suffix of their type. Pure."""

from __future__ import annotations

import re

from triptych.images import folders

_SUFFIX = {mime_type: suffixes[0] for mime_type, suffixes in folders.SUFFIXES.items()}
CACHE = "cache"
"""The directory of the copies of objects, below that of the images: the same callers may read from both."""
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in "0123456789¹²³")}


def safe_name(name: str, tail: str = "") -> str:
    """Return a file name without separators, control characters, leading dots or reserved words; at most 120 bytes.

    A safe `tail` is added whole: the name before it is cut.
    """
    most = 120 - len(tail)
    clean = re.sub(r"[^\w\- .()]", "-", name).strip(" .-").encode()[:most].decode(errors="ignore").rstrip(" .-")
    return (f"image-{clean}" if clean.split(".")[0].strip().lower() in _RESERVED else clean or "image") + tail


def file_name(sha256: str, mime_type: str) -> str:
    """Return the name under which an image is uploaded to a provider, or written where many are."""
    return f"{sha256[:16]}{suffix_of(mime_type)}"


def key_of(sha256: str, mime_type: str) -> str:
    """Return the name of an image's object, below the prefix of the object store."""
    return f"images/{sha256}{suffix_of(mime_type)}"


def suffix_of(mime_type: str) -> str:
    """Return the suffix of a file of this type."""
    return _SUFFIX.get(mime_type, ".img")
