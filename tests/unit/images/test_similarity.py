"""Claims about how far a frame is from its set: what is told, what is not, and that the numbers mean what they say."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance, ImageOps

import triptych
from triptych.images import processing, similarity
from triptych.providers import preview

SAMPLES = Path(triptych.__file__).parent / "samples"
NAMES = ("coffee", "cat", "rocket", "astronaut")


def photo(name: str) -> Image.Image:
    return ImageOps.fit(processing.thumbnail((SAMPLES / f"{name}.jpg").read_bytes(), 400), (320, 240))


def takes(name: str, count: int) -> list[Image.Image]:
    """Return a set as a steady model makes it: the same scene, framed and exposed a little differently each time."""
    chance = random.Random(name)
    found = []
    for _ in range(count):
        x, y = chance.randrange(12), chance.randrange(12)
        framed = photo(name).crop((x, y, x + 308, y + 228)).resize((320, 240))
        found.append(ImageEnhance.Brightness(framed).enhance(chance.uniform(0.94, 1.06)))
    return found


def odd(pictures: list[Image.Image]) -> dict[int, set[str]]:
    """Return what stands out: the frame's number and by which measures."""
    found = similarity.deviations([similarity.measure(picture) for picture in pictures])
    told = {n: {s.measure for s in standing if s.stands_out} for n, standing in enumerate(found, 1)}
    return {n: measures for n, measures in told.items() if measures}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [4, 6, 9])
def test_a_steady_set_has_nothing_that_stands_out(name: str, count: int) -> None:
    assert odd(takes(name, count)) == {}


@pytest.mark.parametrize("name", NAMES)
def test_an_odd_frame_stands_out_by_the_right_measure(name: str) -> None:
    other = photo(NAMES[NAMES.index(name) - 1])
    red, green, blue = (channel for channel in takes(name, 4)[2].split())
    for spoilt, measure in (
        (ImageEnhance.Brightness(takes(name, 4)[2]).enhance(0.5), "brightness"),
        (Image.merge("RGB", (blue, red, green)), "palette"),
        (other, "structure"),
    ):
        pictures = takes(name, 6)
        pictures[2] = spoilt
        assert list(odd(pictures)) == [3] and measure in odd(pictures)[3]


@pytest.mark.parametrize("name", ["coffee", "cat", "astronaut"])
def test_seasons_are_meant_and_nothing_of_them_stands_out(name: str) -> None:
    made = preview.render(
        [(SAMPLES / f"{name}.jpg").read_bytes()],
        "Four seasonal variants of this photo: spring, summer, autumn, winter",
        count=4,
        size=(320, 240),
    )
    assert odd([processing.thumbnail(data, 320) for data in made.images]) == {}


def test_of_three_none_can_stand_out() -> None:
    assert similarity.deviations([similarity.measure(photo(name)) for name in NAMES[:3]]) == []


def test_equal_pictures_measure_zero_in_every_unit() -> None:
    black, white, grey = (similarity.measure(Image.new("RGB", (64, 48), (v, v, v))) for v in (0, 255, 99))
    assert similarity.distances(black, black) == (0, 0, 0)
    palette, brightness, structure = similarity.distances(black, white)
    assert (round(palette, 2), round(brightness, 1), structure) == (0.0, 100.0, 0.0)
    assert 40 < similarity.distances(black, grey)[1] < 60, (
        "OKLab lightness is even to the eye, not in the numbers of sRGB"
    )
    # bottosson.github.io/posts/oklab gives red as L 0.628, a 0.225, b 0.126.
    red = similarity.measure(Image.new("RGB", (64, 48), (255, 0, 0)))
    assert (round(red.light[0], 3), round(red.red[0], 3), round(red.yellow[0], 3)) == (0.628, 0.225, 0.126)
    assert similarity.distances(grey, red)[0] == pytest.approx(100 * (0.2249**2 + 0.1258**2) ** 0.5, abs=0.1)


def test_size_and_mirroring_touch_only_what_they_should() -> None:
    cat = similarity.measure(photo("cat"))
    large = similarity.distances(cat, similarity.measure(photo("cat").resize((1600, 1200))))
    assert large[0] < 1 and large[1] < 1 and large[2] < 0.01
    palette, brightness, structure = similarity.distances(cat, similarity.measure(ImageOps.mirror(photo("cat"))))
    assert palette < 0.5 and brightness < 0.5 and structure > 0.3
