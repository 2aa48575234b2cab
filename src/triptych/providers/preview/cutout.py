"""Finds the subject of a picture, on a plain background or by its colours, its parts, and the area behind it.

Rules: an RGB picture in, masks of its size out (255 is the subject). A plain background is one colour or an even
gradient that most of the picture's edge shows. Nothing is guessed: without a plain background `subject` returns None.

Must not know: words, files, formats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps, ImageStat

from triptych.providers.preview import effects, geometry
from triptych.providers.preview.tokens import ImageOperation

SMALL_PX = 200
"""The longest side at which connected areas are found: Pillow fills them pixel by pixel."""
NEAR, FAR = 14, 40
"""Up to `NEAR` levels a pixel has the background's colour, from `FAR` on another; between them it is in part."""
PLAIN_LEVELS = 6
"""A picture whose colours differ by less, in levels of 255 on average, shows nothing."""
VAGUE_SHARE = 0.08
"""The share of the picture that may have the background's colour in part; a photograph has more."""
EDGE_SHARE = 0.6
"""The share of the picture's edge that has to show a plain background."""


def subject(image: Image.Image) -> Image.Image | None:
    """Return the mask of the subject on a plain background; None without such a background or subject."""
    models = (_gradient(image), _flat(image))
    shares = [_edge_share(_unlike(image, model)) for model in models]
    best = max(shares)
    if best < EDGE_SHARE:
        return None
    unlike = _unlike(image, models[shares.index(best)])
    if share(unlike.point(lambda value: 255 if 32 < value < 224 else 0)) > VAGUE_SHARE:
        return None
    small = unlike.resize(_small(image.size), Image.Resampling.BOX)
    outside = _from_the_edge(small.point(lambda value: 255 if value < 128 else 0))
    # Larger by two small pixels, so that the fine edge comes from the colours.
    reach = outside.filter(ImageFilter.MaxFilter(5)).resize(image.size, Image.Resampling.BILINEAR)
    mask = ImageChops.lighter(unlike, ImageOps.invert(reach)).filter(ImageFilter.MinFilter(3))
    mask = mask.filter(ImageFilter.GaussianBlur(max(image.size) / 1600))
    return mask if 0.005 < share(mask) < 0.995 else None


def by_colour(image: Image.Image) -> Image.Image | None:
    """Return the mask of a photograph's likely subject: the middle's colours against the edge's; None if too vague.

    Each round counts the colours inside and outside, and gives each pixel the share of its colour that is inside.
    """
    size = _small(image.size)
    small = image.resize(size, Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(1.5))
    if max(ImageStat.Stat(small).stddev) < PLAIN_LEVELS:
        return None
    numbers = small.quantize(24, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).tobytes()
    middle = ImageOps.invert(Image.radial_gradient("L")).resize(size, Image.Resampling.BICUBIC)
    inside = middle.point(lambda value: max(0, min(255, (value - 70) * 3)))
    for _ in range(4):
        sums, counts = [0.0] * 256, [1e-6] * 256
        for number, value in zip(numbers, inside.tobytes(), strict=True):
            sums[number] += value
            counts[number] += 1
        mean = sum(sums) / sum(counts)
        odds = [min(255, round(sums[n] / counts[n] / (mean + 1) * 128)) for n in range(256)]
        likely = Image.frombytes("L", size, bytes(odds[number] for number in numbers))
        likely = likely.filter(ImageFilter.GaussianBlur(4))
        inside = ImageChops.add(likely, middle, 2).point(lambda value: max(0, min(255, (value - 118) * 8)))
    solid = ImageOps.invert(_from_the_edge(ImageOps.invert(inside.point(lambda value: 255 if value > 127 else 0))))
    largest = parts(solid.filter(ImageFilter.MedianFilter(9)), 1)
    if not largest:
        return None
    mask = largest[0].filter(ImageFilter.GaussianBlur(3)).point(lambda value: max(0, min(255, (value - 100) * 5)))
    mask = mask.resize(image.size, Image.Resampling.BICUBIC)
    return mask if 0.02 < share(mask) < 0.9 else None


def parts(mask: Image.Image, most: int) -> list[Image.Image]:
    """Return the connected parts of a mask, the largest first; more than `most` are in the last one together."""
    size = _small(mask.size)
    small = mask.resize(size, Image.Resampling.BOX).point(lambda value: 255 if value > 96 else 0)
    left = small.copy()
    found: list[Image.Image] = []
    while len(found) < 40 and (box := left.getbbox()):
        x = next(x for x in range(box[0], box[2]) if left.getpixel((x, box[1])))
        ImageDraw.floodfill(left, (x, box[1]), 128)
        found.append(left.point(lambda value: 255 if value == 128 else 0))
        left = left.point(lambda value: 255 if value == 255 else 0)
    found = sorted((one for one in found if share(one) > 0.002), key=share, reverse=True)
    if len(found) > most:
        rest = found[most - 1]
        for other in found[most:]:
            rest = ImageChops.lighter(rest, other)
        found = [*found[: most - 1], rest]
    grown = (one.filter(ImageFilter.MaxFilter(5)).resize(mask.size, Image.Resampling.BILINEAR) for one in found)
    return [ImageChops.multiply(mask, one) for one in grown]


def behind(image: Image.Image, mask: Image.Image) -> Image.Image:
    """Return the picture with the masked area filled from around it."""
    known = ImageOps.invert(mask.filter(ImageFilter.MaxFilter(5)).point(lambda value: 255 if value > 8 else 0))
    clear = image.copy()
    clear.putalpha(known)
    filled: Image.Image | None = None
    side = 2
    while True:
        scale = min(1.0, side / max(image.size))
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        level = clear.convert("RGBa").resize(size, Image.Resampling.BOX).convert("RGBA")
        colours = level.convert("RGB")
        if filled:
            colours = Image.composite(colours, filled.resize(size, Image.Resampling.BICUBIC), level.getchannel("A"))
        filled = colours
        if scale >= 1.0:
            return filled
        side *= 2


def followed(mask: Image.Image, ops: Sequence[ImageOperation], seed: str) -> Image.Image:
    """Return the mask after the operations on its picture that move things; captions and frames are added to it."""
    for op in ops:
        grey = mask.convert("RGB")
        if op.name.startswith("caption"):
            plate = effects.apply(Image.new("RGB", mask.size), [op], seed).convert("L")
            mask = ImageChops.lighter(mask, plate.point(lambda value: 255 if value > 4 else 0))
        elif op.name == "frame":
            mask = effects.apply(grey, [replace(op, argument="white")], seed).convert("L")
        elif op.name == "zoom" and op.argument == "out":
            inner = geometry.reduced(mask, max(1, round(max(mask.size) * 0.72)))
            mask = Image.new("L", mask.size)
            mask.paste(inner, ((mask.width - inner.width) // 2, (mask.height - inner.height) // 2))
        elif op.name in ("zoom", "variation", "rotate", "flip"):
            mask = ImageOps.autocontrast(effects.apply(grey, [op], seed).convert("L"))
    return mask


def share(mask: Image.Image) -> float:
    """Return how much of a mask is set, 0 to 1."""
    return ImageStat.Stat(mask).mean[0] / 255


def _small(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, SMALL_PX / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _rim(size: tuple[int, int]) -> list[tuple[int, int]]:
    width, height = size
    across = ((x, y) for x in range(width) for y in (0, height - 1))
    return list(chain(across, ((x, y) for y in range(height) for x in (0, width - 1))))


def _edge_share(unlike: Image.Image) -> float:
    small = unlike.resize(_small(unlike.size), Image.Resampling.BOX)
    rim = _rim(small.size)
    return sum(small.getpixel(place) < 128 for place in rim) / len(rim)  # type: ignore[operator]


def _from_the_edge(near: Image.Image) -> Image.Image:
    """Return those areas of a mask that touch the picture's edge."""
    filled = near.copy()
    for place in _rim(near.size):
        if filled.getpixel(place) == 255:
            ImageDraw.floodfill(filled, place, 128)
    return filled.point(lambda value: 255 if value == 128 else 0)


def _unlike(image: Image.Image, model: Image.Image) -> Image.Image:
    """Return how far each pixel is from the background's colour: 0 for the same, 255 from `FAR` levels on."""
    red, green, blue = ImageChops.difference(image, model).split()
    most = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    return most.point([max(0, min(255, round(255 * (value - NEAR) / (FAR - NEAR)))) for value in range(256)])


def _flat(image: Image.Image) -> Image.Image:
    """Return a picture of the edge's usual colour."""
    small = image.resize(_small(image.size), Image.Resampling.BOX)
    pixels = [small.getpixel(place) for place in _rim(small.size)]
    middle = [sorted(pixel[band] for pixel in pixels)[len(pixels) // 2] for band in range(3)]  # type: ignore[index]
    return Image.new("RGB", image.size, (middle[0], middle[1], middle[2]))


def _gradient(image: Image.Image) -> Image.Image:
    """Return an even gradient between the colours of the four corners."""
    w, h = (max(1, side // 16) for side in image.size)
    boxes = ((0, 0), (image.width - w, 0), (0, image.height - h), (image.width - w, image.height - h))
    corners = [_mean(image.crop((x, y, x + w, y + h))) for x, y in boxes]
    down = Image.linear_gradient("L").resize(image.size, Image.Resampling.BILINEAR)
    right = Image.linear_gradient("L").rotate(90).resize(image.size, Image.Resampling.BILINEAR)
    flat = [Image.new("RGB", image.size, colour) for colour in corners]
    return Image.composite(Image.composite(flat[3], flat[2], right), Image.composite(flat[1], flat[0], right), down)


def _mean(image: Image.Image) -> tuple[int, int, int]:
    red, green, blue = (round(value) for value in ImageStat.Stat(image).mean)
    return red, green, blue
