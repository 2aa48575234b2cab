"""Claims about the offline engine: words become operations, operations become pixels that look as the words say."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageStat

import triptych
from triptych.core.errors import UnreadableImage
from triptych.providers import preview
from triptych.providers.preview import engine, scene_painter
from triptych.providers.preview.plan import parse_prompt

SAMPLES = Path(triptych.__file__).parent / "samples"
CAT, COFFEE, ROCKET = ((SAMPLES / f"{name}.jpg").read_bytes() for name in ("cat", "coffee", "rocket"))
VISIBLE = 2.5
WORDS = (
    *("warm", "night", "not", "1)", "2)", "panel 1:", "and", ",", ";", ":", ".", "one", "first", "second", "then"),
    *(
        "spring",
        "winter",
        "from",
        "to",
        "very",
        "slightly",
        "less",
        "keep",
        '"x"',
        "crop",
        "16:9",
        "0:0",
        "rotate",
        "90",
    ),
    *("left", "red", "square", "zoom in", "four seasons", "each", "without", "add", "dragon", "5%", "version 2 -", "→"),
)
LOOKS = (
    *("golden hour", "dawn", "sunset", "dusk", "night", "sepia", "vintage", "vignette", "fog", "rain"),
    *("snow", "film grain", "blue tint", "teal and orange", "invert", "posterise", "pencil sketch", "watercolour"),
    *("oil painting", "pixelate", "white border", "soft focus", "zoom in", "zoom out", "sunny", "morning", "noon"),
)
SEASONS = "Four seasonal variants: spring, summer, autumn, winter"


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


TINY = png(Image.radial_gradient("L").resize((40, 30)).convert("RGB"))


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def edited(prompt: str, data: bytes = CAT, **options: object) -> Image.Image:
    return opened(preview.render([data], prompt, **options).images[0])  # type: ignore[arg-type]


def mean(image: Image.Image) -> list[float]:
    return ImageStat.Stat(image).mean


def brightness(image: Image.Image) -> float:
    return ImageStat.Stat(image.convert("L")).mean[0]


def spread(image: Image.Image) -> float:
    return ImageStat.Stat(image.convert("L")).stddev[0]


def saturation(image: Image.Image) -> float:
    return ImageStat.Stat(image.convert("HSV")).mean[1]


def apart(one: Image.Image, other: Image.Image) -> float:
    return sum(mean(ImageChops.difference(one, other))) / 3


def names(prompt: str, count: int = 1) -> list[list[str]]:
    return [[op.name for op in ops] for ops in parse_prompt(prompt, count).panels]


# --- words → operations ---


@pytest.mark.parametrize(
    ("prompt", "count", "expected"),
    [
        (SEASONS, 4, [["spring"], ["summer"], ["autumn"], ["winter"]]),
        ("four seasons", 4, [["spring"], ["summer"], ["autumn"], ["winter"]]),
        ("the cup in spring, summer, fall and winter", 4, [["spring"], ["summer"], ["autumn"], ["winter"]]),
        ("panel 1: warm and grainy, panel 2: night. Keep the composition", 2, [["warm", "grain"], ["night"]]),
        ("1) golden hour 2) black and white 3) pencil sketch", 3, [["golden"], ["mono"], ["sketch"]]),
        ("first at dawn, second at noon and third at night", 3, [["dawn"], ["noon"], ["night"]]),
        ("one at dawn, one at noon, one at night", 3, [["dawn"], ["noon"], ["night"]]),
        ("make it warm, in summer, winter and spring", 3, [["summer", "warm"], ["winter", "warm"], ["spring", "warm"]]),
        ("from dawn to night", 4, [["dawn"], ["noon"], ["sunset"], ["night"]]),
        ("black and white, sepia and watercolour", 3, [["mono"], ["sepia"], ["watercolour"]]),
        ("a storyboard: sunrise. noon. night", 3, [["dawn"], ["noon"], ["night"]]),
        ("warm, sharper and brighter", 1, [["warm", "sharpen", "bright"]]),
        ("less contrast, not sepia, no rain or fog", 1, [["flat"]]),
        ("don't make it darker but vivid", 1, [["vivid"]]),
        ("without rain and snow, at night", 1, [["night"]]),
        ("keep the warm tones but make it night", 1, [["night"]]),
        ("black and white", 1, [["mono"]]),
        ("teal and orange", 1, [["teal_orange"]]),
        ("crop to 16:9 and rotate 90 degrees left, flip vertically", 1, [["crop", "rotate", "flip"]]),
    ],
)
def test_the_prompt_becomes_these_operations(prompt: str, count: int, expected: list[list[str]]) -> None:
    assert names(prompt, count) == expected


def test_modifiers_scale_the_strength_before_and_after_the_word() -> None:
    def strength(prompt: str) -> float:
        return parse_prompt(prompt, 1).panels[0][0].strength

    assert strength("slightly warm") < strength("warm") < strength("very warm")
    assert strength("brighten slightly") < strength("brighten") < strength("brighten a lot")
    assert names("contrast down") == [["flat"]] and names("less warm") == [["cool"]]


def test_a_quoted_caption_is_kept_as_written() -> None:
    (op,) = parse_prompt('add the caption "Opening soon: not Night!"', 1).panels[0]
    assert (op.name, op.argument) == ("caption", "Opening soon: not Night!")
    assert names("put the title “Hello” at the top") == [["caption_top"]]


@pytest.mark.parametrize(
    ("prompt", "lost"),
    [
        ("make it warmer and add a dragon", ("add a dragon",)),
        ("replace the background with a beach at sunset", ("replace the background with a beach",)),
        ("make the photo brighter, same composition, consistent images", ()),
        ("keep the cup on the table, winter", ()),
        ("without changing the spoon, night", ()),
        ("zorp the frobnitz", ("zorp the frobnitz",)),
        (SEASONS, ()),
    ],
)
def test_unknown_phrases_are_reported_without_stop_words(prompt: str, lost: tuple[str, ...]) -> None:
    assert parse_prompt(prompt, 2).not_understood == lost


def test_a_list_of_another_length_is_fitted_with_a_warning() -> None:
    short = parse_prompt("spring, summer", 4)
    assert [[op.name for op in ops] for ops in short.panels] == [
        ["spring"],
        ["summer"],
        ["variation", "spring"],
        ["variation", "summer"],
    ]
    assert "2 variants for 4 panels" in short.warnings[0]
    assert "4 variants for 2 panels" in parse_prompt(SEASONS, 2).warnings[0]


@settings(max_examples=150)
@given(
    st.one_of(
        st.text(max_size=120),
        st.lists(
            st.sampled_from(WORDS),
            max_size=24,
        ).map(" ".join),
    ),
    st.integers(1, 15),
)
def test_any_text_gives_every_panel_its_own_plan(prompt: str, count: int) -> None:
    plan = parse_prompt(prompt, count)
    assert len(plan.panels) == len(plan.texts) == count
    assert len(set(plan.panels)) == count or plan.listed
    assert all(0 < op.strength <= 15 for ops in plan.panels for op in ops)
    assert plan == parse_prompt(prompt, count)


# --- operations → pixels ---


def test_warm_and_cool_move_red_against_blue() -> None:
    red, _, blue = mean(opened(CAT))
    warm, cool = mean(edited("make it warmer")), mean(edited("make it cooler"))
    assert warm[0] - warm[2] > red - blue + 15 and cool[0] - cool[2] < red - blue - 15


def test_black_and_white_has_no_saturation_at_all() -> None:
    assert saturation(edited("black and white")) == 0


def test_tone_words_do_what_they_say() -> None:
    plain = opened(CAT)
    assert brightness(edited("brighter")) > brightness(plain) + 10 > brightness(edited("darker")) + 25
    assert spread(edited("more contrast")) > spread(plain) + 3 > spread(edited("less contrast")) + 6
    assert saturation(edited("vivid")) > saturation(plain) + 15 > saturation(edited("muted")) + 30
    assert brightness(edited("night")) < brightness(plain) * 0.55


def test_a_slight_edit_changes_less_than_a_strong_one() -> None:
    plain = opened(CAT)
    assert apart(edited("slightly warm"), plain) < apart(edited("warm"), plain) < apart(edited("very warm"), plain)


def test_the_seasons_look_like_seasons_and_unlike_each_other() -> None:
    panels = [opened(data) for data in preview.render([COFFEE], SEASONS, count=4).images]
    spring, summer, autumn, winter = panels
    assert min(apart(a, b) for a, b in itertools.combinations(panels, 2)) > 8
    assert saturation(summer) > saturation(winter) + 40
    assert mean(winter)[2] > mean(winter)[0] - 15 and mean(autumn)[0] > mean(autumn)[2] + 50
    assert brightness(spring) > brightness(autumn)


def test_grey_world_takes_a_colour_cast_off() -> None:
    cast = png(
        Image.merge(
            "RGB",
            [
                band.point(lambda v, g=gain: min(255, int(v * g)))
                for band, gain in zip(opened(CAT).split(), (1, 0.9, 0.5), strict=True)
            ],
        )
    )
    before, after = mean(opened(cast)), mean(edited("fix the white balance", cast))
    assert min(after) / max(after) > min(before) / max(before) + 0.2


def test_blur_and_sharpen_move_the_edges_apart() -> None:
    def detail(image: Image.Image) -> float:
        return apart(image, image.resize((225, 150)).resize(image.size))

    assert detail(edited("blur")) < detail(opened(CAT)) < detail(edited("sharpen"))


@pytest.mark.parametrize("prompt", ["flip horizontally", "flip vertically", "upside down", "invert"])
def test_doing_it_twice_undoes_it(prompt: str) -> None:
    once = preview.render([CAT], prompt).images[0]
    assert apart(opened(once), opened(CAT)) > 10
    assert apart(edited(prompt, once), opened(CAT)) < 1.5


def test_turning_left_moves_the_top_to_the_left() -> None:
    image = Image.new("RGB", (60, 40), "white")
    image.paste((255, 0, 0), (0, 0, 60, 10))
    turned = edited("rotate 90 degrees left", png(image))
    assert turned.size == (40, 60) and turned.getpixel((3, 30)) == (255, 0, 0)
    assert edited("rotate 15 degrees", png(image)).size == (60, 40)


def test_crops_have_the_shape_that_was_asked_for() -> None:
    assert edited("crop to 16:9").size == (451, 254)
    assert edited("square").size == (300, 300)


@pytest.mark.parametrize(("where", "rows"), [("", (200, 300)), (" at the top", (0, 100))])
def test_a_caption_changes_pixels_only_where_it_stands(where: str, rows: tuple[int, int]) -> None:
    changed = ImageChops.difference(edited(f'add the caption "Opening soon"{where}'), opened(CAT)).getbbox()
    assert changed is not None
    assert rows[0] <= changed[1] < changed[3] <= rows[1] and 60 < changed[0] < changed[2] < 391


@pytest.mark.parametrize("prompt", LOOKS)
def test_every_word_visibly_changes_the_picture(prompt: str) -> None:
    result = preview.render([CAT], prompt, mime_type="image/jpeg")
    assert apart(opened(result.images[0]), opened(CAT)) > VISIBLE and result.warnings == ()


@pytest.mark.parametrize("prompt", ["", "make it warmer", "black and white", "pencil sketch", "add a dragon"])
@pytest.mark.parametrize(
    "data", [CAT, png(Image.new("RGB", (64, 48), "black")), png(Image.new("RGB", (64, 48), "white"))]
)
def test_fifteen_panels_of_any_picture_differ_visibly(prompt: str, data: bytes) -> None:
    images = [opened(one).resize((64, 48)) for one in preview.render([data], prompt, count=15, size=(120, 90)).images]
    assert min(apart(a, b) for a, b in itertools.combinations(images, 2)) > VISIBLE


def test_an_unknown_prompt_changes_the_picture_with_a_warning() -> None:
    result = preview.render([CAT], "add a dragon")
    assert apart(opened(result.images[0]), opened(CAT)) > VISIBLE
    assert result.warnings == ('Not understood by the preview engine: "add a dragon"',)


@pytest.mark.parametrize("size", [(512, 512), (640, 360), (333, 777)])
@pytest.mark.parametrize("mime_type", ["image/png", "image/jpeg"])
def test_the_size_and_the_format_are_met_exactly(size: tuple[int, int], mime_type: str) -> None:
    result = preview.render([CAT], "winter", size=size, mime_type=mime_type)
    image = Image.open(io.BytesIO(result.images[0]))
    assert image.size == result.size == size and Image.MIME[image.format or ""] == mime_type


def test_a_large_panel_is_exact_too() -> None:
    result = preview.render([CAT], "golden hour", size=(2560, 1440), mime_type="image/jpeg")
    assert opened(result.images[0]).size == (2560, 1440)


def test_a_second_image_lends_its_colours() -> None:
    plain, styled = opened(CAT), opened(preview.render([CAT, ROCKET], "in the style of image 2, warm").images[0])
    assert brightness(styled) < brightness(plain) - 15 and styled.size == plain.size


def test_pictures_are_joined_side_by_side_when_asked() -> None:
    result = preview.render([CAT, COFFEE], "side by side")
    assert result.size[0] > result.size[1] * 2


def test_each_of_several_images_becomes_its_own_panel() -> None:
    first, second = (
        opened(data)
        for data in preview.render([CAT, COFFEE], "make each of them warmer", count=2, size=(300, 200)).images
    )
    assert apart(second, opened(COFFEE).resize((300, 200))) < apart(second, first)


def test_the_same_call_gives_the_same_bytes() -> None:
    for prompt in ("winter with film grain", "rain", "watercolour", ""):
        assert preview.render([TINY], prompt, count=2) == preview.render([TINY], prompt, count=2)
    assert preview.render([], "a boat", size=(96, 64)) == preview.render([], "a boat", size=(96, 64))


def test_a_seed_changes_what_chance_decides() -> None:
    assert preview.render([CAT], "snow", seed="a") != preview.render([CAT], "snow", seed="b")
    assert preview.render([], "mountains", size=(96, 64), seed="a") != preview.render(
        [], "mountains", size=(96, 64), seed="b"
    )


def test_broken_bytes_and_empty_calls_are_refused() -> None:
    with pytest.raises(UnreadableImage):
        preview.render([b"no image"], "warm")
    with pytest.raises(ValueError, match="at least one"):
        preview.render([CAT], "warm", count=0)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=60), st.integers(1, 3), st.sampled_from([(1, 1), (7, 90), (64, 48)]))
def test_any_text_edits_any_small_picture(prompt: str, count: int, size: tuple[int, int]) -> None:
    data = png(Image.new("RGB", size, (90, 120, 60)))
    assert all(opened(one).size for one in preview.render([data], prompt, count=count).images)


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (30, 3)])
def test_every_operation_takes_the_tiniest_pictures(size: tuple[int, int]) -> None:
    everything = (
        "golden dawn sunset dusk night spring summer autumn winter snow rain fog sunny grain vintage blur glow sharpen "
        "vignette white balance, sketch, watercolour, oil painting, poster, pixelate, rotate 30 degrees, flip, "
        'zoom out, border, write "Hi"'
    )
    result = preview.render([png(Image.new("RGB", size, "teal"))], everything)
    assert result.size == size


# --- painted from words ---


@pytest.mark.parametrize(
    "prompt",
    [
        *("a lighthouse by the sea at sunset", "abstract logo", "a dragon", "", "cat, house, city, flowers, rocket"),
        *(
            "a boat and a balloon with birds at night",
            "a cup of coffee, clouds",
            "moon, stars, trees in winter",
            "the sun",
        ),
    ],
)
def test_a_drawing_is_never_blank_and_its_panels_differ(prompt: str) -> None:
    images = [opened(data) for data in preview.render([], prompt, count=4, size=(240, 160)).images]
    assert all(max(ImageStat.Stat(image).stddev) > 12 for image in images)
    assert min(apart(a, b) for a, b in itertools.combinations(images, 2)) > VISIBLE


def test_a_drawing_in_full_detail_shows_the_same_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(prompt: str) -> Image.Image:
        return opened(preview.render([], prompt, size=(240, 160)).images[0])

    prompts = ("cat, house, city, flowers, rocket", "abstract logo")
    coarse = [drawn(prompt) for prompt in prompts]
    monkeypatch.setattr(scene_painter, "PAINT_SIDE_PX", engine.WORKING_SIDE_PX)
    fine = [drawn(prompt) for prompt in prompts]
    assert max(map(apart, fine, coarse)) < 2 * VISIBLE and fine != coarse


def test_hour_and_colours_of_a_drawing_follow_the_words() -> None:
    def drawn(prompt: str) -> Image.Image:
        return opened(preview.render([], prompt, size=(240, 160)).images[0])

    assert brightness(drawn("mountains at night")) < brightness(drawn("mountains at noon")) * 0.6
    assert mean(drawn("a hill at sunset"))[0] > mean(drawn("a hill at noon"))[0] - 20
    assert saturation(drawn("a forest, black and white")) == 0


def test_a_drawing_names_what_it_cannot_draw() -> None:
    assert preview.render([], "a boat and a dragon", size=(96, 64)).warnings == (
        'Not understood by the preview engine: "dragon"',
    )
    assert preview.render([], "a red boat on the sea at dawn", size=(96, 64)).warnings == ()
