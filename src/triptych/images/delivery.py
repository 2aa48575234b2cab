"""Pictures made for use: cut or padded to a size, in sRGB, in a format, without metadata.

Rules: pure; the same bytes and the same delivery give the same bytes. Resampling is Lanczos on sRGB values, as browsers
do it, with premultiplied alpha: hidden colours of transparent pixels leave no fringe. No profile is written: a picture
without one is sRGB. Widths and heights are in pixels.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageColor

from triptych.core.errors import OutOfLimits, quoted
from triptych.images import decoding
from triptych.images.cleaning import clean

Colour = tuple[int, int, int]

MOST_SIZES = 8
LEAST_SIDE = 16
MOST_SIDE = 8192
MOST_PIXELS = 40_000_000
"""The most pixels of one delivered picture: 160 MB while it is made."""
QUALITY = 90
"""Of JPEG, with colour at full resolution, and of WebP. Coloured text loses 10 dB with colour at half resolution."""
LOSSLESS_COLOURS = 4096
"""A WebP with at most so many colours is lossless: a graphic is then sharper, and mostly smaller."""
WHITE: Colour = (255, 255, 255)
FORMATS = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}

_PART = re.compile(
    r"(?:(?P<mode>cover|contain)\s+)?(?P<width>\d{1,6})\s*(?:px)?(?:\s*[x×*]\s*(?P<height>\d{1,6})\s*(?:px)?)?"
    r"(?:\s+(?P<colour>\S.*))?",
    re.IGNORECASE,
)
_RIGHT = (
    'Examples: "1080x1080" (fills it, cuts the rest off), "contain 1080x1080 white" (the whole picture, in a border), '
    '"1600" (the longest side); several are separated by commas.'
)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One size to deliver.

    "cover" scales and cuts from the centre to exactly `width` × `height`. "contain" scales the whole picture into them
    and pads it. "longest" makes the longest side at most `width`, and never enlarges. `colour` replaces transparency,
    also that of a padding; None keeps it where the format can.
    """

    mode: Literal["cover", "contain", "longest"]
    width: int
    height: int
    colour: Colour | None = None

    @property
    def label(self) -> str:
        """The size as file names have it."""
        return str(self.width) if self.mode == "longest" else f"{self.width}x{self.height}"

    @property
    def long_label(self) -> str:
        """The whole delivery as file names have it."""
        words = [self.label] + ([self.mode] if self.mode != "longest" else [])
        return "-".join(words + (["{:02x}{:02x}{:02x}".format(*self.colour)] if self.colour else []))


@dataclass(frozen=True, slots=True)
class Notes:
    """Facts about a delivered picture that the person may want to know."""

    enlarged: float = 1.0
    """By how much it was scaled up; 1 if it was not."""
    on_white: bool = False
    """Its transparency or padding became white, because the format has none."""
    broken_profile: bool = False
    """Its colour profile could not be used; its values count as sRGB."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """One delivered picture as a file."""

    data: bytes
    mime_type: str
    size: tuple[int, int]
    notes: Notes


# -- reading a size


def parse(size: str | None) -> tuple[Delivery, ...]:
    """Return the deliveries of a text such as "1080x1080, contain 800x800 white, 1600"; none for None.

    Raises: `OutOfLimits`, which quotes the part that is wrong and shows what is right.
    """
    if size is None:
        return ()
    parts = [part.strip() for part in size.split(",")]
    if len(parts) > MOST_SIZES:
        raise OutOfLimits(f"size has {len(parts)} sizes; at most {MOST_SIZES} are made in one call.")
    return tuple(dict.fromkeys(_delivery(part) for part in parts))


def _delivery(part: str) -> Delivery:
    found = _PART.fullmatch(part)
    if not found:
        what = f"{quoted(part, 60)} in size is not a size." if part else "size has an empty part."
        raise OutOfLimits(f"{what} {_RIGHT}")
    mode, width, height = (found["mode"] or "").lower(), int(found["width"]), int(found["height"] or 0)
    if found["height"] is None and mode:
        raise OutOfLimits(f'{quoted(part, 60)} in size has one side; write both: "{mode} {width}x{width}".')
    for side in (width, height) if found["height"] is not None else (width,):
        if not LEAST_SIDE <= side <= MOST_SIDE:
            raise OutOfLimits(f"{quoted(part, 60)} in size: a side is {LEAST_SIDE} to {MOST_SIDE} pixels.")
    if width * height > MOST_PIXELS:
        has, limit = (f"{pixels / 1e6:.0f} million" for pixels in (width * height, MOST_PIXELS))
        raise OutOfLimits(f"{quoted(part, 60)} in size has {has} pixels; at most {limit} are made.")
    colour = _colour(found["colour"], part)
    if found["height"] is None:
        return Delivery("longest", width, width, colour)
    return Delivery("contain" if mode == "contain" else "cover", width, height, colour)


def _colour(text: str | None, part: str) -> Colour | None:
    if text is None or text.lower() == "transparent":
        return None
    value = text.strip().lower().replace(" ", "")
    if value in ImageColor.colormap or re.fullmatch("#([0-9a-f]{3}|[0-9a-f]{6})", value):
        red, green, blue = ImageColor.getrgb(value)[:3]
        return (red, green, blue)
    raise OutOfLimits(
        f"{quoted(text, 40)} in size ({quoted(part, 60)}) is not a colour; use a name such as white, or #ffeeaa."
    )


def labels(deliveries: Sequence[Delivery]) -> list[str]:
    """Return a different label for each delivery, as short as possible."""
    short = [one.label for one in deliveries]
    return [one.long_label if short.count(one.label) > 1 else one.label for one in deliveries]


# -- rendering


def render(data: bytes, deliveries: Sequence[Delivery | None], mime_type: str | None = None) -> Iterator[Rendered]:
    """Yield a picture in each delivery, in order; None is its own size. It is decoded once.

    Without `mime_type` it keeps its format, or becomes PNG if that format is not written. A JPEG or PNG whose pixels
    need no change is not encoded again.
    Raises: `UnreadableImage`.
    """
    stored_type, _, image = decoding.decode(data, decoding.MAX_PIXELS)
    broken = decoding.has_broken_profile(image)
    plain = decoding.is_plain(image)
    upright = decoding.normalized(image)
    del image
    mime_type = mime_type or (stored_type if stored_type in FORMATS.values() else "image/png")
    for delivery in deliveries:
        made, enlarged, on_white = _made(upright, delivery, has_alpha=mime_type != "image/jpeg")
        notes = Notes(enlarged, on_white, broken)
        if made is upright and plain and mime_type == stored_type and mime_type != "image/webp":
            yield Rendered(clean(data)[0], mime_type, made.size, notes)
        else:
            yield Rendered(_encoded(made, mime_type), mime_type, made.size, notes)


def _made(image: Image.Image, delivery: Delivery | None, *, has_alpha: bool) -> tuple[Image.Image, float, bool]:
    """Return the picture in a delivery, how much it was enlarged, and whether something became white unasked."""
    colour = delivery.colour if delivery else None
    see_through = _is_see_through(image)
    if see_through and (colour or not has_alpha):
        image = _on(image, colour or WHITE, image.size)
    on_white = see_through and not has_alpha and colour is None
    if delivery is None:
        return image, 1.0, on_white
    box, inner = _placed(image.size, delivery)
    enlarged = max(inner[0] / (box[2] - box[0]), inner[1] / (box[3] - box[1]), 1.0)
    if (box, inner) != ((0, 0, *image.size), image.size):
        image = image.resize(inner, Image.Resampling.LANCZOS, box)
    outer = (delivery.width, delivery.height)
    if delivery.mode != "contain" or inner == outer:
        return image, enlarged, on_white
    if colour is None and has_alpha:
        return _on(image, None, outer), enlarged, False
    return _on(image, colour or WHITE, outer), enlarged, on_white or colour is None


def _placed(size: tuple[int, int], delivery: Delivery) -> tuple[tuple[float, float, float, float], tuple[int, int]]:
    """Return the part of a picture that is used, and the size that it is scaled to."""
    (width, height), (w, h) = size, (delivery.width, delivery.height)
    whole = (0.0, 0.0, float(width), float(height))
    if delivery.mode == "longest":
        longest = max(size)
        if longest <= w:
            return whole, size
        return whole, (max(1, round(width * w / longest)), max(1, round(height * w / longest)))
    if delivery.mode == "contain":
        by_width = w * height <= h * width
        if by_width:
            return whole, (w, min(h, max(1, round(height * w / width))))
        return whole, (min(w, max(1, round(width * h / height))), h)
    if w * height >= h * width:  # the whole width is used
        used = width * h / w
        top = (height - used) / 2
        return (0.0, top, float(width), top + used), (w, h)
    used = height * w / h
    left = (width - used) / 2
    return (left, 0.0, left + used, float(height)), (w, h)


def _on(image: Image.Image, colour: Colour | None, size: tuple[int, int]) -> Image.Image:
    """Return a picture in the middle of a ground of this colour; None is transparent."""
    place = ((size[0] - image.width) // 2, (size[1] - image.height) // 2)
    if colour is None:
        ground = Image.new("RGBA", size, (0, 0, 0, 0))
        ground.paste(image.convert("RGBA"), place)
        return ground
    ground = Image.new("RGB", size, colour)
    ground.paste(image.convert("RGB"), place, image.getchannel("A") if image.mode == "RGBA" else None)
    return ground


def _is_see_through(image: Image.Image) -> bool:
    return image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255)


def _encoded(image: Image.Image, mime_type: str) -> bytes:
    image, buffer = decoding.without_info(image), io.BytesIO()
    if mime_type == "image/jpeg":
        flat = image if image.mode == "L" else image.convert("RGB")
        flat.save(buffer, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    elif mime_type == "image/webp":
        colours = image if image.mode == "RGBA" else image.convert("RGB")
        lossless = colours.getcolors(LOSSLESS_COLOURS) is not None
        colours.save(buffer, "WEBP", quality=QUALITY, method=2 if lossless else 4, lossless=lossless)
    else:
        image.save(buffer, "PNG", compress_level=2)
    return buffer.getvalue()
