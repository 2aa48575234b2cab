"""Does the drift note tell the frame that is off, and leave alone what is meant? And what is "original" good for?

Three parts: false alarms and misses of the note about a set, the same of the distance from a look, and the drift of a
chain over ten steps with and without "original" among its references (`anchors`).

Sets: each sample photograph taken 4, 6 and 9 times a little differently (frame ±4 %, exposure ±6 %, contrast ±6 %,
saturation ±10 %), and sets of the offline engine, which makes all of a set alike or each frame on purpose otherwise.
Faults: the third frame of a set is spoilt in one way. About two minutes; nothing is written.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image, ImageChops, ImageEnhance, ImageFilter, ImageOps, ImageStat

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


LOOK_WORDS = ("sepia", "teal and orange", "black and white", "golden hour light", "night")
LOOK_FAULTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "half as bright": lambda picture: ImageEnhance.Brightness(picture).enhance(0.5),
    "half brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.5),
    "colours turned": turned_colours,
    "tinted blue 30 %": lambda picture: Image.blend(picture, Image.new("RGB", SIZE, (40, 80, 220)), 0.3),
    "tinted green 30 %": lambda picture: Image.blend(picture, Image.new("RGB", SIZE, (60, 200, 60)), 0.3),
    "not in the look": lambda picture: photo("cat"),
}


def odd(pictures: Pictures) -> set[int]:
    """Return the frames that stand out, counted from 0."""
    found = similarity.deviations([similarity.measure(picture.convert("RGB").resize(SIZE)) for picture in pictures])
    return {n for n, standing in enumerate(found) if any(s.stands_out for s in standing)}


def far_from_look(pictures: Pictures, look: Pictures) -> tuple[int, set[int]]:
    """Return the picture that is furthest from a look, and those that are called far from it."""
    measured = [[similarity.measure(picture.convert("RGB")) for picture in some] for some in (pictures, look)]
    found = similarity.from_look(*measured)
    sums = [sum(one.value / similarity.VISIBLE_FROM[one.measure] for one in measures) for measures in found]
    return sums.index(max(sums)), {n for n, measures in enumerate(found) if any(one.stands_out for one in measures)}


def with_look(words: str, count: int, at: int) -> tuple[Pictures, Pictures]:
    """Return takes of different photographs in one look, and two pictures of that look."""
    made = [edited(name, words, 1)[0] for name in NAMES]
    look = [made[(at + n) % len(made)] for n in range(2)]
    chance = random.Random(f"{words} {count} {at}")
    pictures = []
    for n in range(count):
        name = NAMES[(at + n) % len(NAMES)]
        x, y = chance.randrange(40), chance.randrange(30)
        taken = made[NAMES.index(name)].resize(SIZE).crop((x, y, x + SIZE[0] - 40, y + SIZE[1] - 30)).resize(SIZE)
        pictures.append(ImageEnhance.Brightness(taken).enhance(chance.uniform(0.9, 1.1)))
    return pictures, look


def judge_looks() -> None:
    """Print how often the spoilt picture of a set is the one that is furthest from the look of the set."""
    sets = [with_look(words, count, at) for words in LOOK_WORDS for count in (4, 8) for at in range(len(NAMES))]
    alarms = sum(bool(far_from_look(*one)[1]) for one in sets)
    print(f"\nSets in one look: {len(sets)}; called far without a fault: {alarms}")
    print("\n| the third picture is | the furthest from the look | called far | another one called far |")
    print("|---|---|---|---|")
    for fault, spoil in LOOK_FAULTS.items():
        furthest = called = wrong = 0
        for pictures, look in sets:
            spoilt = [*pictures[:2], spoil(pictures[2]), *pictures[3:]]
            first, far = far_from_look(spoilt, look)
            furthest += first == 2
            called += 2 in far
            wrong += bool(far - {2})
        print(f"| {fault} | {furthest} of {len(sets)} | {called} | {wrong} |")


STEPS = 10
OFFLINE_EDIT = "a little warmer"
DRIFT_MEASURES = (("colour drift", ".1f"), ("sharpness left", ".0%"), ("first edit left", ".0%"))
SHOWN_STEPS = (1, 2, 5, 10)
DOT_PX = 44
UNTOUCHED = (20, 90, SIZE[0] - 20, 300)
"""Between the rows of dots."""


def degraded(picture: Image.Image) -> Image.Image:
    """Return the picture after the loss that each step of the synthetic chain adds: blur, a cast, a JPEG."""
    red, green, blue = picture.filter(ImageFilter.GaussianBlur(0.5)).split()
    cast = Image.merge("RGB", (red.point(lambda v: v + 2), green, blue.point(lambda v: v - 2)))
    file = io.BytesIO()
    cast.save(file, "JPEG", quality=80)
    return Image.open(file).convert("RGB")


def dotted(picture: Image.Image, steps: Iterable[int]) -> Image.Image:
    """Return the picture with the edit of each of these steps: a dot in its own place."""
    shown = picture.copy()
    for step in steps:
        shown.paste((230, 30, 200), _place_of(step))
    return shown


def _place_of(step: int) -> tuple[int, int, int, int]:
    x, y = 20 + (step % 5) * 100, 20 + step // 5 * 300
    return (x, y, x + DOT_PX, y + DOT_PX)


def blending(share: float) -> Callable[[Image.Image, Image.Image], Image.Image]:
    """Return a stand-in for a model: of the original it takes this share of every pixel, else the step before."""
    return lambda before, original: Image.blend(before, original, share)


def offline(before: Image.Image, *others: Image.Image) -> Image.Image:
    """Return what the offline engine makes of the step before, with colours of the others."""
    files = []
    for picture in (before, *others):
        file = io.BytesIO()
        picture.save(file, "PNG")
        files.append(file.getvalue())
    return processing.thumbnail(preview.render(files, OFFLINE_EDIT, size=SIZE).images[0], max(SIZE)).convert("RGB")


def chain(name: str, made: Callable[[Image.Image, Image.Image], Image.Image]) -> list[tuple[float, float, float]]:
    """Return colour drift, sharpness left and the rest of the first edit, after each step of one photograph's chain."""
    original = photo(name).convert("RGB")
    picture, found = original, []
    for step in range(STEPS):
        before = made(picture, original) if step else picture
        picture = degraded(dotted(before, [step]))
        ideal = dotted(original, range(step + 1))
        untouched = [similarity.measure(one.crop(UNTOUCHED)) for one in (original, picture)]
        palette, brightness, _ = similarity.distances(*untouched)
        first = _place_of(0)
        full = _difference(ideal.crop(first), original.crop(first))
        rest = _difference(picture.crop(first), original.crop(first)) / full
        found.append((palette + brightness, _edges(picture) / _edges(ideal), rest))
    return found


def _difference(one: Image.Image, other: Image.Image) -> float:
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).mean)


def _edges(picture: Image.Image) -> float:
    grey = picture.convert("L").crop(UNTOUCHED)
    return ImageStat.Stat(ImageChops.difference(grey, grey.filter(ImageFilter.GaussianBlur(2)))).mean[0]


def anchors() -> None:
    """Print drift, sharpness and edits over ten steps, with and without the original among the inputs."""
    models = {
        "without": blending(0),
        "10 % of each pixel": blending(0.1),
        "25 %": blending(0.25),
        "50 %": blending(0.5),
        "the offline engine, without": lambda before, original: offline(before),
        "the offline engine, with": offline,
    }
    shown = [f"after {step}" for step in SHOWN_STEPS]
    print(f"| taken from the original | measure | {' | '.join(shown)} |\n|---|---|{'---|' * len(shown)}")
    for model, made in models.items():
        chains = [chain(name, made) for name in NAMES]
        for n, (measure, form) in enumerate(DRIFT_MEASURES):
            means = [sum(one[step - 1][n] for one in chains) / len(chains) for step in SHOWN_STEPS]
            print(f"| {model} | {measure} | {' | '.join(f'{mean:{form}}' for mean in means)} |")


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
    anchors()
    judge_looks()
    print("\n| sets | something stands out in |\n|---|---|")
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
