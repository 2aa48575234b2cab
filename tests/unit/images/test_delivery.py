"""Pictures made for use: sizes as text, and pictures cut, padded, flattened and encoded."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageCms, ImageDraw

from support.pictures import picture
from triptych.core.errors import OutOfLimits, UnreadableImage
from triptych.images import delivery
from triptych.images.delivery import Delivery, Notes, Rendered

SIDES = st.integers(1, 90)
TARGETS = st.integers(16, 90)
MODES = st.sampled_from(["cover", "contain"])


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def one(data: bytes, size: str | None, mime_type: str | None = None) -> Rendered:
    (made,) = delivery.render(data, delivery.parse(size) or (None,), mime_type)
    return made


def pixels(made: Rendered, mode: str = "RGBA") -> Image.Image:
    return Image.open(io.BytesIO(made.data)).convert(mode)


def at(made: Rendered, x: int, y: int, mode: str = "RGBA") -> Any:
    return pixels(made, mode).getpixel((x, y))


# -- sizes as text


@pytest.mark.parametrize(
    ("size", "deliveries"),
    [
        (None, ()),
        ("1080x1080", (Delivery("cover", 1080, 1080),)),
        ("Cover 1080 × 600", (Delivery("cover", 1080, 600),)),
        ("1600", (Delivery("longest", 1600, 1600),)),
        ("1600px black", (Delivery("longest", 1600, 1600, (0, 0, 0)),)),
        ("contain 800x600 #fea", (Delivery("contain", 800, 600, (255, 238, 170)),)),
        ("contain 800x600 Dark Green", (Delivery("contain", 800, 600, (0, 100, 0)),)),
        ("contain 800x600 transparent", (Delivery("contain", 800, 600),)),
        ("64x32, 64x32 ,32", (Delivery("cover", 64, 32), Delivery("longest", 32, 32))),
    ],
)
def test_a_size_is_read(size: str | None, deliveries: tuple[Delivery, ...]) -> None:
    assert delivery.parse(size) == deliveries


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ("", "empty part"),
        ("1080x1080,", "empty part"),
        ("2K", '"2K" in size is not a size. Examples:'),
        ("16:9", '"16:9" in size is not a size'),
        ("1080x1080, 12y9", '"12y9"'),
        ("stretch 10x10", '"stretch 10x10"'),
        ("contain 800", 'write both: "contain 800x800"'),
        ("8x800", "16 to 8192"),
        ("0", "16 to 8192"),
        ("9000", "16 to 8192"),
        ("8000x8000", "64 million pixels; at most 40 million"),
        ("800x800 whyte", '"whyte" in size'),
        ("800x800 #12345", "is not a colour"),
        ("800x800 rgb(1 2 3)", "is not a colour"),
        (",".join(["100"] * 9), "9 sizes; at most 8"),
        ("9" * 5000, "is not a size"),
    ],
)
def test_a_wrong_size_is_refused_with_what_is_right(size: str, words: str) -> None:
    with pytest.raises(OutOfLimits) as refused:
        delivery.parse(size)
    assert words in refused.value.message
    assert len(refused.value.message) < 400


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(size: str) -> None:
    try:
        deliveries = delivery.parse(size)
    except OutOfLimits:
        return
    assert deliveries
    assert len(set(delivery.labels(deliveries))) == len(deliveries)


def test_labels_are_short_and_different() -> None:
    deliveries = delivery.parse("64x64, 1600, contain 64x64 white, contain 64x64 black, 32x32 red")
    assert delivery.labels(deliveries) == [
        "64x64-cover",
        "1600",
        "64x64-contain-ffffff",
        "64x64-contain-000000",
        "32x32",
    ]


# -- geometry


@settings(max_examples=60, deadline=None)
@given(st.tuples(SIDES, SIDES), st.tuples(TARGETS, TARGETS), MODES, st.sampled_from(["RGB", "RGBA", "L"]))
def test_both_sides_are_exact(size: tuple[int, int], target: tuple[int, int], mode: str, pixel: str) -> None:
    made = one(file_of(Image.new(pixel, size)), f"{mode} {target[0]}x{target[1]}")
    assert made.size == pixels(made).size == target


@settings(max_examples=60, deadline=None)
@given(st.tuples(SIDES, SIDES), TARGETS)
def test_the_longest_side_is_exact_and_never_enlarged(size: tuple[int, int], side: int) -> None:
    made = one(file_of(Image.new("RGB", size)), str(side))
    assert max(made.size) == min(side, max(size))
    assert made.notes.enlarged == 1.0


@settings(max_examples=60, deadline=None)
@given(st.tuples(SIDES, SIDES), st.tuples(TARGETS, TARGETS))
def test_contain_keeps_the_ratio_within_a_pixel(size: tuple[int, int], target: tuple[int, int]) -> None:
    made = one(file_of(Image.new("RGB", size, "red")), f"contain {target[0]}x{target[1]}")
    left, top, right, bottom = pixels(made).getchannel("A").getbbox() or (0, 0, 0, 0)
    scale = min(target[0] / size[0], target[1] / size[1])
    assert abs(right - left - size[0] * scale) < 1 or right - left == 1
    assert abs(bottom - top - size[1] * scale) < 1 or bottom - top == 1
    assert abs(left - (target[0] - right)) <= 1
    assert abs(top - (target[1] - bottom)) <= 1


@settings(max_examples=40, deadline=None)
@given(st.tuples(SIDES, SIDES), st.tuples(TARGETS, TARGETS), MODES, st.booleans())
def test_a_second_delivery_changes_nothing(
    size: tuple[int, int], target: tuple[int, int], mode: str, see_through: bool
) -> None:
    gradient = Image.radial_gradient("L").resize(size)
    source = Image.merge("RGBA", (gradient, gradient, gradient, gradient)) if see_through else gradient.convert("RGB")
    asked = f"{mode} {target[0]}x{target[1]}"
    first = one(file_of(source), asked)
    assert one(file_of(source), asked) == first
    assert ImageChops.difference(pixels(one(first.data, asked)), pixels(first)).getbbox() is None


def test_cover_cuts_from_the_centre() -> None:
    stripes = Image.new("RGB", (300, 100), "white")
    stripes.paste("red", (100, 0, 200, 100))
    made = one(file_of(stripes), "100x100")
    assert pixels(made, "RGB").getcolors() == [(10_000, (255, 0, 0))]
    tall = one(file_of(stripes.rotate(90, expand=True)), "50x50")
    assert at(tall, 1, 1)[:3] == at(tall, 48, 48)[:3] == (255, 0, 0)


def test_enlarging_is_noted() -> None:
    data = picture(size=(100, 50))
    assert one(data, "140x70").notes.enlarged == pytest.approx(1.4)
    assert one(data, "contain 300x300").notes.enlarged == pytest.approx(3)
    assert one(data, "50x50").notes.enlarged == 1.0


# -- sharpness, alpha and colours


def zone_plate(side: int) -> Image.Image:
    rows = [
        bytes(
            int(127.5 + 127.5 * math.cos(((x - side / 2) ** 2 + (y - side / 2) ** 2) * math.pi / (2 * side)))
            for x in range(side)
        )
        for y in range(side)
    ]
    return Image.frombytes("L", (side, side), b"".join(rows))


def test_a_reduction_is_sharp_and_has_no_false_rings() -> None:
    """Of the four filters Lanczos keeps the most of what fits, and the least of what does not."""
    plate = zone_plate(640)
    made = pixels(one(file_of(plate), "160x160"), "L")

    def contrast(image: Image.Image, box: tuple[int, int, int, int]) -> float:
        lowest, highest = image.crop(box).getextrema()
        assert isinstance(lowest, int) and isinstance(highest, int)
        return float(highest - lowest)

    fine, too_fine = (100, 76, 108, 84), (138, 76, 146, 84)
    box = plate.resize((160, 160), Image.Resampling.BOX)
    bicubic = plate.resize((160, 160), Image.Resampling.BICUBIC)
    assert contrast(made, fine) > contrast(bicubic, fine)
    assert contrast(made, too_fine) < contrast(box, too_fine) / 4


@pytest.mark.parametrize(("size", "overshoot"), [("40x40", 12), ("contain 50x50", 12), ("37", 12), ("300x300", 24)])
def test_hidden_colours_leave_no_fringe(size: str, overshoot: int) -> None:
    drawn = Image.new("RGBA", (200, 200), (0, 0, 0, 0))  # black, where nothing is seen
    ImageDraw.Draw(drawn).ellipse((20, 20, 180, 180), fill=(255, 120, 40, 255))
    made = pixels(one(file_of(drawn), size))
    seen: list[Any] = [colour for _, colour in made.getcolors(1 << 16) or []]
    assert len(seen) > 8
    for *colour, alpha in seen:  # as much of a difference as shows
        for got, drawn_value in zip(colour, (255, 120, 40), strict=True):
            assert -3 <= (got - drawn_value) * alpha / 255 <= overshoot  # which makes edges sharp


SEE_THROUGH = file_of(Image.new("RGBA", (40, 40), (255, 0, 0, 0)))


@pytest.mark.parametrize(
    ("size", "kind", "corner", "on_white"),
    [
        ("20x20", "png", (0, 0, 0, 0), False),
        ("20x20", "webp", (0, 0, 0, 0), False),
        ("20x20", "jpeg", (255, 255, 255, 255), True),
        ("20x20 #336699", "jpeg", (51, 102, 153, 255), False),
        ("20x20 #336699", "png", (51, 102, 153, 255), False),
        ("100 #336699", "webp", (51, 102, 153, 255), False),
        ("contain 40x20", "png", (0, 0, 0, 0), False),
        ("contain 40x20", "jpeg", (255, 255, 255, 255), True),
        ("contain 40x20 #336699", "jpeg", (51, 102, 153, 255), False),
    ],
)
def test_transparency_is_kept_or_gets_the_colour(size: str, kind: str, corner: Any, on_white: bool) -> None:
    made = one(SEE_THROUGH, size, delivery.FORMATS[kind])
    assert made.mime_type == delivery.FORMATS[kind]
    got = at(made, 1, 1)
    assert got[3] == corner[3]
    if corner[3]:
        assert all(abs(a - b) <= 3 for a, b in zip(got, corner, strict=True))
    assert made.notes == Notes(on_white=on_white)


def test_an_opaque_picture_gets_a_transparent_border() -> None:
    made = one(picture("red", (40, 40)), "contain 80x40")
    assert at(made, 0, 0)[3] == 0 and at(made, 40, 20) == (255, 0, 0, 255)


def test_a_half_seen_colour_is_mixed_with_the_ground() -> None:
    drawn = file_of(Image.new("RGBA", (40, 40), (255, 0, 0, 128)))
    assert at(one(drawn, "20x20 blue"), 5, 5)[:3] == (128, 0, 127)


@pytest.mark.parametrize(
    ("source", "colour"),
    [
        (Image.new("L", (40, 40), 100), (100, 100, 100, 255)),
        (Image.new("1", (40, 40), 1), (255, 255, 255, 255)),
        (Image.new("LA", (40, 40), (100, 255)), (100, 100, 100, 255)),
        (Image.new("I;16", (40, 40), 0x8080), (128, 128, 128, 255)),
        (Image.new("RGB", (40, 40), "red").quantize(4), (255, 0, 0, 255)),
    ],
    ids=["grey", "bits", "grey with alpha", "16 bits", "palette"],
)
def test_any_kind_of_pixel_is_delivered(source: Image.Image, colour: Any) -> None:
    for size in ("20x20", "contain 20x20"):
        assert at(one(file_of(source), size), 10, 10) == colour


def test_cmyk_becomes_rgb() -> None:
    data = file_of(Image.new("CMYK", (40, 40), (0, 255, 255, 0)), "JPEG")
    made = one(data, "20x20", "image/png")
    assert Image.open(io.BytesIO(made.data)).mode == "RGB"
    assert at(made, 10, 10)[0] > 200 and at(made, 10, 10)[1] < 60


def test_an_embedded_profile_is_applied_and_not_written() -> None:
    lab_like = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    made = one(file_of(Image.new("RGB", (40, 40), "red"), icc_profile=lab_like), "20x20")
    assert at(made, 5, 5)[:3] == (255, 0, 0) and not made.notes.broken_profile
    assert "icc_profile" not in Image.open(io.BytesIO(made.data)).info


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_a_broken_profile_is_ignored_and_noted(mode: str) -> None:
    data = file_of(Image.new("RGB", (40, 40), "red").convert(mode), icc_profile=b"broken")
    made = one(data, "20x20")
    assert made.notes.broken_profile
    assert made.size == (20, 20)


def test_a_photo_is_turned_upright_before_it_is_cut() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "secret"
    lying = Image.new("RGB", (100, 50), "blue")
    lying.paste("red", (0, 0, 50, 50))
    made = one(file_of(lying, exif=exif), "contain 50x100")
    assert at(made, 25, 10)[:3] == (255, 0, 0) and at(made, 25, 90)[:3] == (0, 0, 255)
    assert b"secret" not in made.data


# -- files


def noise(size: tuple[int, int] = (120, 80)) -> Image.Image:
    return Image.effect_noise(size, 80).convert("RGB")


def test_pixels_that_stay_are_not_encoded_again() -> None:
    for kind, mime_type in (("JPEG", "image/jpeg"), ("PNG", "image/png")):
        data = file_of(noise(), kind)
        for size in ("120x80", "400", None):
            assert one(data, size, mime_type).data == data


def test_metadata_goes_even_if_the_pixels_stay() -> None:
    exif = Image.Exif()
    exif[0x010E] = "secret words"
    data = file_of(noise(), "JPEG", exif=exif)
    assert b"secret words" in data
    assert b"secret words" not in one(data, "120x80").data


def test_a_jpeg_keeps_coloured_text_sharp() -> None:
    made = one(file_of(noise()), "100x60", "image/jpeg")
    opened: Any = Image.open(io.BytesIO(made.data))
    assert {layer[1:3] for layer in opened.layer} == {(1, 1)}  # colour at full resolution


def test_a_graphic_as_webp_is_lossless_and_a_photo_is_not() -> None:
    flat = Image.new("RGB", (64, 64), "#b5483a")
    assert b"VP8L" in one(file_of(flat), "32x32", "image/webp").data[:40]
    photo = Image.merge("RGB", [Image.effect_noise((200, 200), 80) for _ in range(3)])
    assert b"VP8L" not in one(file_of(photo), "180x180", "image/webp").data[:40]


def test_several_sizes_are_made_in_order_with_one_format() -> None:
    made = list(delivery.render(picture(size=(64, 64), kind="GIF"), delivery.parse("16x16, 32x16, 20")))
    assert [(one.size, one.mime_type) for one in made] == [
        ((16, 16), "image/png"),
        ((32, 16), "image/png"),
        ((20, 20), "image/png"),
    ]


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(UnreadableImage):
        one(b"not a picture", "20x20")
