"""Takes a picture apart into its base and its objects, as transparent layers with names and boxes.

Rules: the base with every layer on it at its box looks like the picture. An object is named by its colour and its
place, because this engine does not know what it shows. The same picture gives the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageChops, ImageFilter, ImageStat

from triptych.images import contact_sheet, processing
from triptych.providers.preview import cutout, geometry
from triptych.providers.preview.vocabulary import COLOURS

WORKING_SIDE_PX = 1600
"""The longest side at which objects are found and hidden: a larger picture takes seconds."""
Box = tuple[int, int, int, int]
_GREYS = {"black": (20, 20, 20), "grey": (128, 128, 128), "white": (245, 245, 245)}


@dataclass(frozen=True, slots=True)
class CutLayer:
    """One layer as a file; `box` is left, top, right and bottom in pixels of the base, None for the base itself."""

    data: bytes
    name: str = ""
    description: str = ""
    box: Box | None = None


def take_apart(
    data: bytes, *, size: tuple[int, int] | None = None, mime_type: str = "image/png", most: int = 3
) -> tuple[tuple[CutLayer, ...], tuple[str, ...]]:
    """Return the base and up to `most` layers, from the back to the front, and warnings.

    `mime_type` is the base's; a layer is a PNG. Raises: `UnreadableImage`.
    """
    image = contact_sheet.opaque(processing.open_upright(data), checker=False).convert("RGB")
    image = geometry.cover(image, size) if size else image
    small = geometry.reduced(image, WORKING_SIDE_PX)
    mask = cutout.subject(small)
    # Each part includes its edge, which the base has too, so that a layer leaves no seam.
    found = cutout.parts(mask.filter(ImageFilter.MaxFilter(5)), most) if mask else []
    warnings: tuple[str, ...] = ()
    if mask is None and (mask := cutout.by_colour(small)):
        found = [mask]
        warnings = ("The background is not plain: the offline engine guesses the subject by its colours.",)
    if mask is None or not found:
        return (CutLayer(processing.encode(image, mime_type)),), ("The offline engine found nothing to take apart.",)
    taken = found[0]
    for part in found[1:]:
        taken = ImageChops.lighter(taken, part)
    filled = cutout.behind(small, taken).resize(image.size, Image.Resampling.BICUBIC)
    below = taken.filter(ImageFilter.MaxFilter(5)).point(lambda value: 255 if value > 8 else 0)
    base = Image.composite(filled, image, below.resize(image.size, Image.Resampling.BILINEAR))
    layers = [_layer(image, part.resize(image.size, Image.Resampling.BILINEAR)) for part in found]
    return (CutLayer(processing.encode(base, mime_type)), *(layer for layer in layers if layer)), warnings


def _layer(image: Image.Image, mask: Image.Image) -> CutLayer | None:
    box = mask.point(lambda value: 255 if value > 3 else 0).getbbox()
    if not box:
        return None
    cut, alpha = image.crop(box), mask.crop(box)
    colour = _colour_name(cut, alpha)
    place = _place(box, image.size)
    cut.putalpha(alpha)
    where = f"{'in' if place == 'middle' else 'at'} the {place}"
    described = f"The {colour} part {where}, {cut.width}×{cut.height} px, found by its colour."
    return CutLayer(processing.encode(cut, "image/png"), f"{colour} {place}", described, box)


def _colour_name(image: Image.Image, mask: Image.Image) -> str:
    """Return the nearest colour word for the middle colour under a mask."""
    mean = ImageStat.Stat(image, mask.point(lambda value: 255 if value > 127 else 0)).median
    known = {**COLOURS, **_GREYS}
    return min(known, key=lambda name: sum((a - b) ** 2 for a, b in zip(known[name], mean, strict=True)))


def _place(box: Box, size: tuple[int, int]) -> str:
    x, y = (box[0] + box[2]) / 2 / size[0], (box[1] + box[3]) / 2 / size[1]
    down = "upper" if y < 0.38 else "lower" if y > 0.62 else ""
    across = "left" if x < 0.38 else "right" if x > 0.62 else ""
    return " ".join(word for word in (down, across) if word) or "middle"
