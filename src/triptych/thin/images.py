"""An image as `resources/list` shows it. The real server and the thin start use the same function."""

from __future__ import annotations

import json

from triptych.thin.messages import Unknown, is_plain

TYPE_CHECKING = False  # importing `typing` costs a start
if TYPE_CHECKING:
    from collections.abc import Sequence


RECENT = 20
"""How many are listed."""


def fields(handle: str, width: int | None, height: int | None, source: Sequence[str]) -> dict[str, str]:
    """Return the fields of an image's resource, in the order in which the SDK sends them."""
    size = f"{width}x{height}" if width else "size not known yet"
    origin = f", from {', '.join(source)}" if source else ""
    return {
        "description": f"{size}{origin}; a preview, full size with save_images",
        "mimeType": "image/jpeg",
        "name": handle,
        "title": f"Image {handle}",
        "uri": f"triptych://images/{handle}",
    }


def as_json(handle: str, width: int | None, height: int | None, source: Sequence[str]) -> str:
    """Return an image's resource as JSON. Raises: `Unknown` for a text that JSON may write in several ways."""
    found = fields(handle, width, height, source)
    if not all(is_plain(text) for text in found.values()):
        raise Unknown
    return json.dumps(found, separators=(",", ":"))
