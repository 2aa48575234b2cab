"""Tone: grading through one colour table, and the measures that keep panels apart.

Rules: an RGB picture in, an RGB picture out. The tables are cached; they are pure results.

Must not know: what an operation draws, prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from PIL import Image, ImageChops, ImageFilter, ImageStat

from triptych.providers.preview import grades
from triptych.providers.preview.tokens import ImageOperation

LUT_STEPS = 17


def distance(one: Image.Image, other: Image.Image) -> float:
    """Return the mean absolute difference of two pictures, 0 to 255, both seen at 48×48."""
    small = [image.convert("RGB").resize((48, 48), Image.Resampling.BOX) for image in (one, other)]
    return sum(ImageStat.Stat(ImageChops.difference(*small)).mean) / 3


def nudged(image: Image.Image, amount: int) -> Image.Image:
    """Return the picture lighter by `amount` levels, or darker if it is a light one."""
    level = sum(ImageStat.Stat(image.resize((16, 16))).mean) / 3
    step = amount if level < 128 else -amount
    return image.point([max(0, min(255, value + step)) for value in range(256)] * 3)


def like(image: Image.Image, reference: Image.Image, strength: float = 0.65) -> Image.Image:
    """Return the picture with the reference's brightness, contrast and colour cast, part of the way."""
    ours, theirs = (ImageStat.Stat(one.convert("YCbCr").resize((96, 96))) for one in (image, reference))
    table: list[int] = []
    for band in range(3):
        gain = max(0.5, min(2.0, (theirs.stddev[band] + 4) / (ours.stddev[band] + 4)))
        for value in range(256):
            moved = (value - ours.mean[band]) * gain + theirs.mean[band]
            table.append(max(0, min(255, round(value + (moved - value) * strength))))
    return image.convert("YCbCr").point(table).convert("RGB")


def scaled_mask(mask: Image.Image, amount: float) -> Image.Image:
    return mask.point([max(0, min(255, round(value * amount))) for value in range(256)])


def flat(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", image.size, colour)


def graded(image: Image.Image, ops: Sequence[ImageOperation]) -> Image.Image:
    if not ops:
        return image
    return image.filter(grade_table(tuple((op.name, round(op.strength, 2), op.argument) for op in ops)))


@lru_cache(maxsize=64)
def grade_table(ops: tuple[tuple[str, float, str], ...]) -> ImageFilter.Color3DLUT:
    def moved(r: float, g: float, b: float) -> tuple[float, float, float]:
        for name, strength, argument in ops:
            r, g, b = grades.GRADES[name](r, g, b, strength, argument)
            r, g, b = min(1.0, max(0.0, r)), min(1.0, max(0.0, g)), min(1.0, max(0.0, b))
        return r, g, b

    return ImageFilter.Color3DLUT.generate(LUT_STEPS, moved)
