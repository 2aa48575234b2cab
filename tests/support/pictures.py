"""Small pictures as bytes."""

from __future__ import annotations

import io

from PIL import Image


def picture(colour: str = "teal", size: tuple[int, int] = (40, 40), kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    # A GIF has a palette, and finding one for a large picture takes seconds.
    Image.new("P" if kind == "GIF" else "RGB", size, colour).save(out, kind)
    return out.getvalue()
