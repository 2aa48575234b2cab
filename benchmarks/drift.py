"""Does the drift note tell the frame that is off, and leave alone what is meant? False alarms and misses, counted.

Sets: each sample photograph taken 4, 6 and 9 times a little differently (frame ±4 %, exposure ±6 %, contrast ±6 %,
saturation ±10 %), and sets of the offline engine, which makes all of a set alike or each frame on purpose otherwise.
Faults: the third frame of a set is spoilt in one way. Half a minute; nothing is written.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageEnhance, ImageOps

import triptych
from triptych.images import processing, similarity
from triptych.providers import preview

SAMPLES = Path(triptych.__file__).parent / "samples"
NAMES = ("coffee", "cat", "rocket", "astronaut")
SIZE = (512, 384)
ALIKE = (
    ("golden hour light", 4),
    ("five variations, warmer", 5),
    ("eight frames, fog rolling in slowly", 8),
    ("brighter", 6),
)
OTHERWISE = (
    ("four seasonal variants: spring, summer, autumn, winter", 4),
    ("the same scene at dawn, noon, dusk and night", 4),
    ("a product shot in six colours: red, blue, green, yellow, purple, orange", 6),
    ("morning, noon, evening, night, rain, snow", 6),
    ("vintage, black and white, sepia, watercolour", 4),
    ("rotate 90, flip, crop square, blur", 4),
)
STORIES = (
    ("a lighthouse by the sea, a storyboard of six scenes from dawn to night", 6),
    ("a red fox in a forest through spring, summer, autumn, winter", 4),
    ("a city street", 5),
    ("a mountain lake, eight frames, a storm comes", 8),
    ("icons: a sun, a moon, a tree, a house, a boat", 5),
)

Pictures = list[Image.Image]


def photo(name: str) -> Image.Image:
    return ImageOps.fit(processing.thumbnail((SAMPLES / f"{name}.jpg").read_bytes(), 768), SIZE)


def takes(name: str, count: int) -> Pictures:
    chance = random.Random(f"{name} {count}")
    found = []
    for _ in range(count):
        x, y = chance.randrange(20), chance.randrange(16)
        taken = photo(name).crop((x, y, x + SIZE[0] - 20, y + SIZE[1] - 16)).resize(SIZE)
        taken = ImageEnhance.Brightness(taken).enhance(chance.uniform(0.94, 1.06))
        taken = ImageEnhance.Contrast(taken).enhance(chance.uniform(0.94, 1.06))
        found.append(ImageEnhance.Color(taken).enhance(chance.uniform(0.9, 1.1)))
    return found


def edited(name: str, prompt: str, count: int) -> Pictures:
    made = preview.render([(SAMPLES / f"{name}.jpg").read_bytes()], prompt, count=count, size=SIZE)
    return [processing.thumbnail(data, 512) for data in made.images]


def turned_colours(picture: Image.Image) -> Image.Image:
    red, green, blue = picture.split()
    return Image.merge("RGB", (blue, red, green))


FAULTS: dict[str, Callable[[Image.Image, str], Image.Image]] = {
    "half as bright": lambda picture, name: ImageEnhance.Brightness(picture).enhance(0.5),
    "a third darker": lambda picture, name: ImageEnhance.Brightness(picture).enhance(0.65),
    "contrast a third": lambda picture, name: ImageEnhance.Contrast(picture).enhance(0.35),
    "colours turned": lambda picture, name: turned_colours(picture),
    "grey": lambda picture, name: ImageOps.grayscale(picture).convert("RGB"),
    "tinted blue 30 %": lambda picture, name: Image.blend(picture, Image.new("RGB", SIZE, (40, 80, 220)), 0.3),
    "another photograph": lambda picture, name: photo(NAMES[NAMES.index(name) - 1]),
    "mirrored": lambda picture, name: ImageOps.mirror(picture),
    "zoomed 1.6": lambda picture, name: ImageOps.fit(picture.crop((96, 72, 416, 312)), SIZE),
}


def odd(pictures: Pictures) -> set[int]:
    """Return the frames that stand out, counted from 0."""
    found = similarity.deviations([similarity.measure(picture.convert("RGB").resize(SIZE)) for picture in pictures])
    return {n for n, standing in enumerate(found) if any(s.stands_out for s in standing)}


def main() -> None:
    """Print the false alarms of each kind of set, and how many of each fault were told."""
    kinds: dict[str, list[tuple[str, Pictures]]] = {
        "steady takes": [(name, takes(name, count)) for name in NAMES for count in (4, 6, 9)],
        "edited, all alike": [(name, edited(name, *asked)) for name in NAMES for asked in ALIKE],
        "edited, each otherwise": [(name, edited(name, *asked)) for name in NAMES for asked in OTHERWISE],
        "stories": [
            (
                "cat",
                [processing.thumbnail(data, 512) for data in preview.render([], asked, count=count, size=SIZE).images],
            )
            for asked, count in STORIES
        ],
    }
    print("| sets | something stands out in |\n|---|---|")
    for kind, sets in kinds.items():
        print(f"| {kind} | {sum(bool(odd(pictures)) for _, pictures in sets)} of {len(sets)} |")
    told_kinds = ("steady takes", "edited, all alike")
    print(f"\n| the third frame is | {' | '.join(f'told in {kind}' for kind in told_kinds)} | another one was told |")
    print("|---|---|---|---|")
    for fault, spoil in FAULTS.items():
        cells, wrong = [], 0
        for kind in told_kinds:
            told = 0
            for name, pictures in kinds[kind]:
                found = odd([*pictures[:2], spoil(pictures[2].resize(SIZE), name), *pictures[3:]])
                told += 2 in found
                wrong += bool(found - {2})
            cells.append(f"{told} of {len(kinds[kind])}")
        print(f"| {fault} | {' | '.join(cells)} | {wrong} |")


if __name__ == "__main__":
    main()
