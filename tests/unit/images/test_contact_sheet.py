"""Claims about a contact sheet as it is drawn: whole pictures, words that can be read, nothing cut by the edge."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import triptych
from triptych.images import contact_sheet, processing
from triptych.images.contact_sheet import Card

SAMPLES = Path(triptych.__file__).parent / "samples"
WORDS = "日本語 العربية 🎨 \ud800 \0 " + "endless " * 60


def plain(colour: str = "teal", size: tuple[int, int] = (300, 200)) -> Image.Image:
    return Image.new("RGB", size, colour)


def area_of(drawn: Image.Image, colour: tuple[int, int, int]) -> int:
    return sum(count for count, seen in drawn.getcolors(1 << 20) or () if seen == colour)


def margins_are_empty(drawn: Image.Image, wide: int = 12) -> bool:
    w, h = drawn.size
    edges = ((0, 0, w, wide), (0, h - wide, w, h), (0, 0, wide, h), (w - wide, 0, w, h))
    return all(
        drawn.crop(box).getcolors() == [(drawn.crop(box).width * drawn.crop(box).height, contact_sheet.GROUND)]
        for box in edges
    )


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9, 15, 24, 40])
@pytest.mark.parametrize("size", [(200, 300), (300, 300), (320, 180)])
def test_a_sheet_fits_what_a_model_is_shown(count: int, size: tuple[int, int]) -> None:
    drawn = contact_sheet.render([Card(plain(size=size), f"job_1a2b3c4d/{n}", "2048×2048") for n in range(count)])
    assert drawn.width <= contact_sheet.WIDTH_PX and drawn.height <= contact_sheet.HEIGHT_PX + 4
    assert area_of(drawn, (0, 128, 128)) > 0.45 * min(drawn.width * drawn.height, count * 400 * 300)
    assert margins_are_empty(drawn)


def test_words_are_fourteen_pixels_high_on_one_megapixel() -> None:
    shrunk = (1.15e6 / (contact_sheet.WIDTH_PX * contact_sheet.HEIGHT_PX)) ** 0.5
    assert contact_sheet.NOTE_PX * shrunk > 14 and contact_sheet.LABEL_PX * shrunk > 14


@pytest.mark.parametrize("words", [WORDS, "job_1a2b3c4d/" * 30, "", "W" * 500])
def test_any_words_stay_inside_their_cell(words: str) -> None:
    cards = [Card(plain("red", (40, 400)), words, words, words), Card(plain(), words), Card(None, words)]
    for drawn in (
        contact_sheet.render(cards, title=words),
        contact_sheet.render(cards, group=3, heads=[words] * 3),
    ):
        assert margins_are_empty(drawn)
        assert area_of(drawn, (255, 0, 0)) > 1000, "the tall picture is there"


def test_characters_missing_in_the_font_are_left_out() -> None:
    assert (
        contact_sheet.drawable("crème brûlée, Straße, Łódź, осень, φθινόπωρο – ½")
        == "crème brûlée, Straße, Łódź, осень, φθινόπωρο – ½"
    )
    assert contact_sheet.drawable("make 黄金 の light العربية warm 🎨") == "make … light … warm …"
    assert contact_sheet.drawable("黄金の光") == contact_sheet.drawable("🎨 \ud800\0") == ""
    with_words, without = (contact_sheet.render([Card(plain(), "job_1/1", note)]) for note in ("黄金の光 🎨", ""))
    assert with_words.tobytes() == without.tobytes()


def test_a_place_without_a_picture_keeps_its_words() -> None:
    drawn = contact_sheet.render([Card(plain(), "job_1/1"), Card(None, "job_1/2", "failed")])
    assert area_of(drawn, contact_sheet.WELL) > 0.3 * area_of(drawn, (0, 128, 128))
    with pytest.raises(ValueError, match="at least one picture"):
        contact_sheet.render([Card(None, "job_1/1")])


def test_a_lane_stays_on_one_row_under_its_steps() -> None:
    colours = ("red", "lime", "blue")
    cards = [Card(plain(colour), f"{lane}") for lane in range(5) for colour in colours]
    drawn = contact_sheet.render(cards, group=3, heads=("original", "1. warmer", "2. darker"))
    first_seen = []
    for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)):
        mask = Image.new("L", drawn.size)
        mask.putdata([255 if pixel == colour else 0 for pixel in drawn.get_flattened_data()])
        box = mask.getbbox()
        assert box
        first_seen.append((box[0], box[1]))
    assert len({top for _, top in first_seen}) == 1, "a lane's pictures begin at one height"
    assert [left for left, _ in first_seen] == sorted({left for left, _ in first_seen})


def test_an_alert_is_told_apart_from_a_note() -> None:
    drawn = contact_sheet.render([Card(plain(), "job_1/1", "600×400", "stands out: palette")])
    assert area_of(drawn, contact_sheet.ALERT) > 20 and area_of(drawn, contact_sheet.DIM) > 20


def test_the_same_cards_give_the_same_sheet() -> None:
    photo = processing.thumbnail((SAMPLES / "cat.jpg").read_bytes(), 300)
    cards = [Card(photo, "img_1"), Card(plain(size=(20, 20)), "img_2")]
    assert contact_sheet.render(cards).tobytes() == contact_sheet.render(cards).tobytes()
    assert area_of(contact_sheet.render(cards), (0, 128, 128)) <= (20 * contact_sheet.UPSCALE) ** 2
