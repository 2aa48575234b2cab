"""The default pictures of the emulated APIs: a tint, a caption and, where there are inputs, the inputs themselves.

Rules: the same call gives the same bytes. Another prompt, another seed or another number in the set gives visibly
another picture. Pass a `painter` to `running` or `serve` for finer ones.
"""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image

STRENGTH = 0.4
"""The share of the tint in a picture that has inputs."""
GOLDEN_RATIO = 0.618
"""The step round the colour wheel from one picture of a set to the next: neighbours are far apart, and none repeats."""


class Painter(Protocol):
    """Returns `count` pictures as files of exactly this size in pixels; `images` are the inputs, and may be none."""

    def __call__(
        self, images: Sequence[bytes], prompt: str, *, count: int, size: tuple[int, int], mime_type: str, seed: str
    ) -> Sequence[bytes]: ...


def paint(
    images: Sequence[bytes], prompt: str, *, count: int, size: tuple[int, int], mime_type: str, seed: str
) -> Sequence[bytes]:
    """Return the inputs, or a gradient without any, in another tint for each picture, with the prompt as a caption."""
    from triptych.images import processing

    start = int.from_bytes(hashlib.sha256(f"{prompt}|{seed}".encode("utf-8", "replace")).digest()[:2], "big") / 65536
    base = _inputs(images, size) if images else None
    pictures = []
    for number in range(count):
        hue = start + number * GOLDEN_RATIO
        picture = _tinted(base, hue) if base else _gradient(size, hue)
        _caption(picture, prompt if count == 1 else f"{number + 1} of {count}: {prompt}")
        pictures.append(processing.encode(picture, mime_type))
    return pictures


def _inputs(images: Sequence[bytes], size: tuple[int, int]) -> Image.Image:
    """Return the first input at this size, with the others as small squares along its upper edge."""
    from PIL import ImageOps

    from triptych.images import contact_sheet, processing

    opened = [contact_sheet.opaque(processing.open_upright(data), checker=False).convert("RGB") for data in images]
    base = ImageOps.fit(opened[0], size)
    side = max(1, min(size) // 4)
    for place, other in enumerate(opened[1:]):
        base.paste(ImageOps.fit(other, (side, side)), (size[0] - (place + 1) * side, 0))
    return base


def _colour(hue: float, value: float = 0.9) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, 0.75, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _tinted(base: Image.Image, hue: float) -> Image.Image:
    from PIL import Image

    return Image.blend(base, Image.new("RGB", base.size, _colour(hue)), STRENGTH)


def _gradient(size: tuple[int, int], hue: float) -> Image.Image:
    from PIL import Image, ImageOps

    shade = Image.linear_gradient("L").resize(size)
    return ImageOps.colorize(shade, _colour(hue), _colour(hue + 0.15, 0.35))


def _caption(picture: Image.Image, text: str) -> None:
    """Write a text on a dark band along the lower edge, in at most three lines; a tiny picture gets none."""
    from PIL import ImageDraw

    from triptych.images import contact_sheet

    width, height = picture.size
    if min(width, height) < 64:
        return
    text_px = max(9, round(min(width, height) * 0.05))
    face = contact_sheet.font(text_px)
    lines = contact_sheet.wrapped(contact_sheet.printable(text), face, width * 0.94, 3)
    if not lines:
        return
    line_height = round(text_px * 1.3)
    top = height - line_height * len(lines) - line_height // 2
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, top, width, height), fill=(20, 20, 24))
    for number, line in enumerate(lines):
        draw.text((width * 0.03, top + line_height // 4 + number * line_height), line, (255, 255, 255), face)
