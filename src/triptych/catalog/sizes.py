"""Resolve a size such as "2K", "16:9" or "2048x2048" to pixels that an offer takes.

Rules: pure. A size is always resolved to pixels, so that all images of a set have one shape. The result is never a size
that the offer does not take. A refusal lists the sizes that it does take.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from triptych.core.errors import OutOfLimits, quoted
from triptych.core.offers import Offer, Size, Sizes

_STEP_PX = 16
MAX_SIZES_LISTED = 20
"""A list with more exact sizes than this is shown as words and ratios."""
_WORDS: Mapping[str, float] = {"square": 1.0, "portrait": 3 / 4, "landscape": 4 / 3}


def resolve_size(offer: Offer, spec: str | None, follow: Size | None) -> Size | None:
    """Return the pixels for "2K", "16:9", "portrait 4K", "2048x2048" or None; None if the model chooses the size.

    Where the spec leaves the shape open, it follows the shape of `follow`, the first reference, or else is square.

    Raises: `OutOfLimits` with the sizes that the offer takes.
    """
    return None if _is_left_to_model(offer, spec) else _pixels(offer, spec, follow)


def _is_left_to_model(offer: Offer, spec: str | None) -> bool:
    sizes, wish = offer.sizes, (spec or "").strip().casefold()
    takes_none = sizes.exact and not sizes.presets
    if takes_none and wish not in ("", "auto"):
        raise OutOfLimits(f"{offer.family} on {offer.provider} chooses the size itself: leave size out.")
    return takes_none or (sizes.may_be_left_out and (wish == "auto" or not (wish or sizes.default)))


def _pixels(offer: Offer, spec: str | None, follow: Size | None) -> Size:
    sizes = offer.sizes
    words, pixels, ratios, shapes = _parse(offer, spec)
    if pixels:
        if not _takes(sizes, pixels):
            raise OutOfLimits(_no_size(offer, f"{pixels[0]}x{pixels[1]}", near=_nearest(sizes.all(), pixels)))
        return pixels
    if sizes.follows_reference and follow and not (words or ratios or shapes):
        return follow if _takes(sizes, follow) else _shaped(sizes, follow[0] / follow[1], follow[0] * follow[1])
    word = words[0] if words else sizes.default if sizes.default in sizes.presets else next(iter(sizes.presets), "")
    if words and word not in sizes.presets:
        raise OutOfLimits(_no_size(offer, word))
    row = sizes.presets.get(word, {})
    if ratios and not words and ratios[0] not in row:
        row = next((other for other in sizes.presets.values() if sizes.exact and ratios[0] in other), row)
    own = follow[0] / follow[1] if follow else 1.0
    if ratios:
        if ratios[0] in row:
            return row[ratios[0]]
        wide, high = (int(side) for side in ratios[0].split(":"))
        ratio = wide / high
        if sizes.exact or max(ratio, 1 / ratio) > sizes.max_aspect:
            near = _nearest(tuple(row.values()), (wide, high))
            raise OutOfLimits(_no_size(offer, ratios[0], near=near))
    elif shapes:
        turned = {"portrait": min(own, 1 / own), "landscape": max(own, 1 / own)}.get(shapes[0], 1.0)
        ratio = _WORDS[shapes[0]] if turned == 1.0 else turned
    else:
        ratio = own
    nearest = min(row.values(), key=lambda size: _apart(size, ratio), default=None)
    if nearest and (sizes.exact or _apart(nearest, ratio) < 0.02):
        return nearest
    return _shaped(sizes, ratio, math.prod(row.get("1:1", nearest or (2048, 2048))))


def sizes_text(offer: Offer, *, in_pixels: bool = False) -> list[str]:
    """Return the sizes an offer takes, one tier per line; with `in_pixels`, a short list of exact sizes in pixels."""
    sizes = offer.sizes
    if sizes.exact and not sizes.presets:
        return []
    if sizes.exact and in_pixels and len(sizes.all()) <= MAX_SIZES_LISTED:
        return [
            f"{word}: {' '.join(f'{width}x{height}' for width, height in row.values())}"
            for word, row in sizes.presets.items()
        ]
    if sizes.exact:
        ratios = dict.fromkeys(ratio for row in sizes.presets.values() for ratio in row)
        return [*sizes.presets, *([f"each as {' '.join(ratios)}"] if len(ratios) > 1 else [])]
    if sizes.min_side > 1:
        return [*sizes.presets, f"WxH, each side {sizes.min_side}–{sizes.max_side}"]
    return [*sizes.presets, f"WxH {sizes.min_area / 1e6:.1f}–{sizes.max_area / 1e6:.1f} MP"]


def _parse(offer: Offer, spec: str | None) -> tuple[list[str], Size | None, list[str], list[str]]:
    """Return the preset words, pixels, ratios and shapes in a size spec, at most one of each.

    Raises: `OutOfLimits` for an unknown part, or for two parts that contradict each other.
    """
    text = (spec or "").casefold().replace("：", ":").translate(dict.fromkeys(map(ord, "*×✕"), "x"))
    text = re.sub(r"(?<=[0-9])\s*([x:])\s*(?=[0-9])", r"\1", text)
    words: list[str] = []
    pixels: list[Size] = []
    ratios: list[str] = []
    shapes: list[str] = []
    for part in re.split(r"[\s,;]+", text.strip()):
        if re.fullmatch(r"[0-9](?:\.[0-9])?k", part):
            words.append(part.upper())
        elif match := re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", part):
            pixels.append((int(match[1]), int(match[2])))
        elif match := re.fullmatch(r"([1-9][0-9]{0,3}):([1-9][0-9]{0,3})", part):
            shared = math.gcd(int(match[1]), int(match[2]))
            plain = f"{int(match[1]) // shared}:{int(match[2]) // shared}"
            ratios.append({"7:3": "21:9", "3:7": "9:21"}.get(plain, plain))
        elif part in _WORDS:
            shapes.append(part)
        elif part not in ("", "auto"):
            raise OutOfLimits(_no_size(offer, part))
    if len(words) > 1 or len(pixels) + len(ratios) + len(shapes) > 1 or (words and pixels):
        raise OutOfLimits(f"The size {quoted(spec, 60)} names two sizes; name one, for example 2K, 16:9 or 2048x2048.")
    return words, pixels[0] if pixels else None, ratios, shapes


def _no_size(offer: Offer, what: str, near: Size | None = None) -> str:
    nearest = f"; the nearest is {near[0]}x{near[1]}" if near else ""
    shapes = "" if offer.sizes.exact else f", no side longer than {offer.sizes.max_aspect:g} times the other"
    return (
        f"{offer.family} on {offer.provider} does not take the size {quoted(what, 60)}{nearest}. "
        f"It takes {'; '.join(sizes_text(offer, in_pixels=True))}{shapes}."
    )


def _takes(sizes: Sizes, size: Size) -> bool:
    if sizes.exact:
        return size in sizes.all()
    sides = sizes.min_side <= min(size) and max(size) <= sizes.max_side
    return sides and sizes.min_area <= math.prod(size) <= sizes.max_area and max(size) <= sizes.max_aspect * min(size)


def _apart(size: Size, ratio: float) -> float:
    return abs(math.log(size[0] / size[1]) - math.log(ratio))


def _nearest(sizes: Iterable[Size], wanted: Size) -> Size | None:
    ratio, area = wanted[0] / wanted[1], math.prod(wanted)
    return min(sizes, key=lambda size: (round(_apart(size, ratio), 3), abs(math.prod(size) - area)), default=None)


def _shaped(sizes: Sizes, ratio: float, area: int) -> Size:
    """Return a size of about this shape and area within the limits, its sides multiples of 16 pixels."""
    ratio = min(max(ratio, 1 / sizes.max_aspect), sizes.max_aspect)
    area = min(max(area, sizes.min_area), sizes.max_area)
    thin = max(ratio, 1 / ratio)
    if sizes.max_side < math.sqrt(area * thin) or math.sqrt(area / thin) < sizes.min_side:
        area = min(max(area, math.ceil(sizes.min_side**2 * thin)), math.floor(sizes.max_side**2 / thin))
    width, height = (
        max(_STEP_PX, round(side / _STEP_PX) * _STEP_PX) for side in (math.sqrt(area * ratio), math.sqrt(area / ratio))
    )
    for _ in range(32):
        if _takes(sizes, (width, height)):
            return (width, height)
        # A size that is too small or too thin gets a longer short side; one that is too large gets a shorter long side.
        step = -_STEP_PX if width * height > sizes.max_area else _STEP_PX
        if (width > height) == (step < 0):
            width += step
        else:
            height += step
    return _nearest(sizes.all(), (width, height)) or (width, height)
