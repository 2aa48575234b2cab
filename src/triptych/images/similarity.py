"""How much each image of a set differs from the others: in palette, brightness and structure.

    palette      distance of the colours (OKLab a and b), whatever their place: 2-Wasserstein, × 100; 2 can be seen.
    brightness   distance of the lights and darks (OKLab L), whatever their place: 2-Wasserstein, × 100; 100 is black
                 against white. It includes contrast as well as exposure.
    structure    1 − correlation of lightness, place by place: 0 the same arrangement, 1 nothing in common.

An image's deviation is the median of its distances to the other images. An image stands out if its deviation is visible
and over `OUTLIER_RATIO` times the largest deviation among the others, measured without it. In a set that is meant to
differ (seasons, scenes of a story) all images differ evenly, so none stands out. In a set of near copies a small
difference is enough.

Rules: pure. Decoded pictures in, numbers out; equal pictures give equal numbers. Must not know: whether a difference is
wanted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from PIL import Image

SIDE_PX = 32
"""The side at which pictures are measured: layout and light remain, grain does not."""
MIN_IMAGES = 4
"""In a smaller set no image can stand out: of three, one is always the furthest."""
OUTLIER_RATIO = 2.5
MEASURES = ("palette", "brightness", "structure")
LOOK_MEASURES = MEASURES[:2]
"""A look is not an arrangement: its structure is not compared."""
VISIBLE_FROM = {"palette": 5.0, "brightness": 12.0, "structure": 0.5}
"""A smaller deviation never counts, however even the other images are."""


@dataclass(frozen=True, slots=True)
class ImageStats:
    """The measured values of a picture: lightness and the two colour axes, sorted; lightness by place, normalised."""

    light: tuple[float, ...]
    red: tuple[float, ...]
    yellow: tuple[float, ...]
    places: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Deviation:
    """One image's deviation by one measure; `low` and `high` are the range of the others, measured without it."""

    measure: str
    value: float
    low: float
    high: float

    @property
    def stands_out(self) -> bool:
        return self.value > max(VISIBLE_FROM[self.measure], OUTLIER_RATIO * self.high)


def measure(image: Image.Image) -> ImageStats:
    """Return the values to compare; the picture has no alpha and any size."""
    small = image.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX, reducing_gap=3.0)
    data = small.tobytes()
    light, red, yellow = zip(*(_oklab(*data[i : i + 3]) for i in range(0, len(data), 3)), strict=True)
    mean = sum(light) / len(light)
    norm = math.sqrt(sum((value - mean) ** 2 for value in light))
    places = tuple((value - mean) / norm if norm > 1e-3 else 0.0 for value in light)
    return ImageStats(tuple(sorted(light)), tuple(sorted(red)), tuple(sorted(yellow)), places)


def deviations(stats: Sequence[ImageStats]) -> list[tuple[Deviation, ...]]:
    """Return the deviations of each image, one for each of `MEASURES`; an empty list for fewer than `MIN_IMAGES`."""
    count = len(stats)
    if count < MIN_IMAGES:
        return []
    by_measure = [[[distances(a, b)[m] for b in stats] for a in stats] for m in range(len(MEASURES))]
    found = []
    for k in range(count):
        row = []
        for name, table in zip(MEASURES, by_measure, strict=True):
            others = [i for i in range(count) if i != k]
            rest = [median(table[i][j] for j in others if j != i) for i in others]
            value = median(table[k][j] for j in others)
            row.append(Deviation(name, value, min(rest), max(rest)))
        found.append(tuple(row))
    return found


def from_look(stats: Sequence[ImageStats], look: Sequence[ImageStats]) -> list[tuple[Deviation, ...]]:
    """Return the distance of each image from the nearest picture of a look, one for each of `LOOK_MEASURES`.

    `low` and `high` are the range of the other images' distances from the look; for one image they are its own value.
    """
    visible = [VISIBLE_FROM[measure] for measure in LOOK_MEASURES]
    nearest = [
        min(
            (distances(one, picture)[: len(visible)] for picture in look),
            key=lambda found: sum(value / limit for value, limit in zip(found, visible, strict=True)),
        )
        for one in stats
    ]
    found = []
    for i, own in enumerate(nearest):
        rest = [values for j, values in enumerate(nearest) if j != i] or [own]
        found.append(
            tuple(
                Deviation(measure, own[m], min(v[m] for v in rest), max(v[m] for v in rest))
                for m, measure in enumerate(LOOK_MEASURES)
            )
        )
    return found


def distances(a: ImageStats, b: ImageStats) -> tuple[float, float, float]:
    """Return the distances of two pictures, in the order of `MEASURES`."""
    structure = 1 - sum(x * y for x, y in zip(a.places, b.places, strict=True))
    if not any(a.places) and not any(b.places):
        structure = 0.0  # two even surfaces
    return (
        100 * math.hypot(_wasserstein(a.red, b.red), _wasserstein(a.yellow, b.yellow)),
        100 * _wasserstein(a.light, b.light),
        structure,
    )


def _wasserstein(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the 2-Wasserstein distance of two sorted samples of the same size."""
    return math.dist(a, b) / math.sqrt(len(a))


_LINEAR = [c / 12.92 if (c := level / 255) <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for level in range(256)]


def _oklab(red: int, green: int, blue: int) -> tuple[float, float, float]:
    """Return a pixel of sRGB in OKLab (Björn Ottosson, 2020: bottosson.github.io/posts/oklab)."""
    r, g, b = _LINEAR[red], _LINEAR[green], _LINEAR[blue]
    long = math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b)
    medium = math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b)
    short = math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )
