"""The icon: three panels with one mountain, as `icon.svg` and as PNG files named by their size in pixels.

It reads on light and dark grounds, so there is one for every theme. `scripts/icons` draws the PNG files from the SVG.

Hosts get one PNG as a `data:` URL. Every host that shows icons must take PNG; VS Code takes no SVG, and from a server
on stdio no `https:` URL (its `mcpIcons.ts`, read in November 2026). 64 pixels are sharp where hosts draw 16 to 32.
"""

from __future__ import annotations

import base64
import functools
from pathlib import Path

import mcp_types as types

SIZE_PX = 64


@functools.cache
def data_url() -> str:
    """Return the icon as a `data:` URL of 500 characters."""
    png = (Path(__file__).parent / f"{SIZE_PX}.png").read_bytes()
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def of_server() -> list[types.Icon]:
    """Return the value of `serverInfo.icons`."""
    return [types.Icon(src=data_url(), mime_type="image/png", sizes=[f"{SIZE_PX}x{SIZE_PX}"])]
