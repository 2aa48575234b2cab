"""Random numbers and masks: noise, clouds, soft lights and gradients, made from a seed alone.

Rules: the same seed gives the same pixels, on any machine. Centres and reaches are fractions of the picture.

Must not know: operations, prompts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

from PIL import Image, ImageOps


class SeededRandom:
    """Numbers in [0, 1) from a hash: the same seed gives the same sequence."""

    def __init__(self, seed: str) -> None:
        self._source = hashlib.shake_128(seed.encode("utf-8", "replace")).digest(16384)
        self._at = 0

    def __call__(self, low: float = 0.0, high: float = 1.0) -> float:
        self._at = (self._at + 2) % 16380
        return low + (high - low) * int.from_bytes(self._source[self._at : self._at + 2], "big") / 65536


@lru_cache(maxsize=16)
def noise_tile(seed: str, size: int = 256) -> Image.Image:
    """Return a grey tile of soft-tailed noise round 128."""
    layers = [
        Image.frombytes(
            "L", (size, size), hashlib.shake_128(f"{seed}{n}".encode("utf-8", "replace")).digest(size * size)
        )
        for n in range(3)
    ]
    return Image.blend(Image.blend(layers[0], layers[1], 0.5), layers[2], 0.34)


def noise(size: tuple[int, int], seed: str, scale: float = 1.0) -> Image.Image:
    """Return grey noise of that size; `scale` is how many pixels wide a grain is."""
    tile = noise_tile(seed)
    if scale > 1.05:
        side = round(256 * scale)
        tile = tile.resize((side, side), Image.Resampling.BICUBIC)
    field = Image.new("L", size)
    for y in range(0, size[1], tile.height):
        for x in range(0, size[0], tile.width):
            field.paste(tile, (x, y))
    return field


def clouds(size: tuple[int, int], seed: str, cells: int = 4) -> Image.Image:
    """Return smooth billows, 0 to 255, with about `cells` of them across."""
    small = (256, max(64, min(256, 256 * size[1] // max(1, size[0]))))
    field = Image.new("L", small, 128)
    for octave in range(4):
        side = cells * 2**octave
        grain = noise_tile(f"{seed}clouds{octave}", 64).crop((0, 0, min(64, side + 1), min(64, side)))
        field = Image.blend(
            field, ImageOps.autocontrast(grain.resize(small, Image.Resampling.BICUBIC)), 0.62 / (octave + 1)
        )
    return ImageOps.autocontrast(field).resize(size, Image.Resampling.BICUBIC)


def radial(size: tuple[int, int], centre: tuple[float, float], radius: float, power: float = 1.6) -> Image.Image:
    """Return a soft light, 255 at `centre` (fractions of the size) fading to 0 at `radius` (of the longer side)."""
    longest = max(size)
    side = 256
    table = [round(255 * max(0.0, 1 - value / 181) ** power) for value in range(256)]
    spot = Image.radial_gradient("L").point(table)
    reach = max(2, round(2 * radius * longest * side / 256 * 1.0))
    mask = Image.new("L", (max(1, size[0] // 4), max(1, size[1] // 4)))
    quarter = spot.resize((max(1, reach // 4), max(1, reach // 4)), Image.Resampling.BILINEAR)
    mask.paste(
        quarter,
        (round(mask.width * centre[0] - quarter.width / 2), round(mask.height * centre[1] - quarter.height / 2)),
    )
    return mask.resize(size, Image.Resampling.BICUBIC)


def ramp(size: tuple[int, int], stops: Sequence[tuple[float, tuple[int, int, int]]]) -> Image.Image:
    """Return a vertical gradient through the colour stops (height from the top, 0 to 1)."""
    strip = Image.new("RGB", (1, 256))
    for y in range(256):
        at = y / 255
        below = next((n for n, stop in enumerate(stops) if stop[0] >= at), len(stops) - 1)
        (a, one), (b, two) = stops[max(0, below - 1)], stops[below]
        part = 0.0 if b <= a else min(1.0, max(0.0, (at - a) / (b - a)))
        strip.putpixel((0, y), (mix(one[0], two[0], part), mix(one[1], two[1], part), mix(one[2], two[2], part)))
    return strip.resize(size, Image.Resampling.BICUBIC)


def mix(one: int, two: int, part: float) -> int:
    return round(one + (two - one) * part)
