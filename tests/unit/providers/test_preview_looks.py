"""A look at the offline engine: its words and colours change every panel alike, its pictures join no collage."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageChops, ImageStat

import triptych
from triptych.providers import preview

SAMPLES = Path(triptych.__file__).parent / "samples"
CAT, COFFEE, ROCKET = ((SAMPLES / f"{name}.jpg").read_bytes() for name in ("cat", "coffee", "rocket"))
SIZE = (160, 120)


def panels(images: list[bytes], prompt: str, count: int, look: tuple[int, str] = (0, "")) -> list[Image.Image]:
    made = preview.render(images, prompt, count=count, size=SIZE, look=look)
    return [Image.open(io.BytesIO(data)).convert("RGB") for data in made.images]


def difference(one: Image.Image, other: Image.Image) -> float:
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).mean) / 3


def test_the_words_of_a_look_are_no_list_of_variants() -> None:
    for panel in panels([COFFEE], "on a table", 2, (0, "black and white, grainy")):
        red, green, blue = ImageStat.Stat(panel).mean
        assert max(red, green, blue) - min(red, green, blue) < 2, "both panels are grey"


def test_the_pictures_of_a_look_lend_their_colours_to_every_panel() -> None:
    plain, lent = (panels([COFFEE, CAT, *more], "each at noon", 2, (len(more), "")) for more in ([], [ROCKET]))
    for one, other in zip(plain, lent, strict=True):
        assert 5 < difference(one, other) < 90, "other colours, the same picture"
        assert ImageStat.Stat(other).mean[0] < ImageStat.Stat(one).mean[0], "the rocket's night is darker"


def test_the_pictures_of_a_look_join_no_collage() -> None:
    (with_look,) = panels([COFFEE, CAT, ROCKET], "a collage of both", 1, (1, ""))
    (two,) = panels([COFFEE, CAT], "a collage of both", 1)
    (three,) = panels([COFFEE, CAT, ROCKET], "a collage of both", 1)
    grey = [one.convert("L").resize((16, 12)).point(lambda v: v) for one in (with_look, two, three)]
    assert difference(*(one.convert("RGB") for one in grey[:2])) < difference(
        *(one.convert("RGB") for one in (grey[0], grey[2]))
    )


def test_a_look_alone_is_edited_by_its_first_picture() -> None:
    (made,) = panels([CAT, ROCKET], "warmer", 1, (2, "film grain"))
    (plain,) = panels([CAT], "warmer", 1)
    assert difference(made, plain) < 80
