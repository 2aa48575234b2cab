"""Claims about pictures as bytes: what is let in, what is taken off, what fits."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageCms, ImageDraw, ImageFile, ImageStat, PngImagePlugin

import triptych
from triptych.core.errors import OutOfLimits, UnreadableImage
from triptych.images import processing

SAMPLES = Path(triptych.__file__).parent / "samples"
COFFEE = (SAMPLES / "coffee.jpg").read_bytes()
CAT = (SAMPLES / "cat.jpg").read_bytes()


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def halves(size: tuple[int, int] = (60, 40)) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", size, (220, 30, 30))
    ImageDraw.Draw(image).rectangle((size[0] // 2, 0, *size), fill=(30, 30, 220))
    return image


def noisy(size: tuple[int, int]) -> Image.Image:
    tile = Image.effect_noise((400, 300), 90)
    return Image.merge("RGB", (tile, tile.rotate(180), tile.transpose(Image.Transpose.FLIP_LEFT_RIGHT))).resize(size)


def png_claiming(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_accepted_format_is_told_by_its_bytes_and_measured(kind: str) -> None:
    data = saved(halves(), kind)
    assert processing.sniff(data[:32]) == f"image/{kind.lower()}"
    assert processing.verify(data) == processing.Facts(f"image/{kind.lower()}", 60, 40)


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"<svg/>", b"<!doctype html><p>", b"%PDF-1.7", b"RIFF\0\0\0\0WAVE", b"\0" * 99]
)
def test_a_file_that_is_no_image_is_refused(data: bytes) -> None:
    assert processing.sniff(data) is None
    with pytest.raises(UnreadableImage, match="JPEG, PNG, WebP"):
        processing.verify(data)


@pytest.mark.parametrize(("brand", "name"), [(b"avif", "AVIF"), (b"heic", "HEIC")])
def test_heic_and_avif_are_refused_by_name(brand: bytes, name: str) -> None:
    with pytest.raises(UnreadableImage, match=f"{name} images are not supported"):
        processing.verify(b"\0\0\0\x20ftyp" + brand + b"\0" * 40)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_a_file_cut_short_is_refused(kind: str) -> None:
    data = saved(noisy((200, 150)), kind)
    with pytest.raises(UnreadableImage, match="damaged or cut short"):
        processing.verify(data[: len(data) * 2 // 3])


def test_a_bomb_is_refused_by_its_dimensions_undecoded() -> None:
    with pytest.raises(UnreadableImage, match="million pixels"):
        processing.verify(png_claiming(60_000, 60_000))
    with pytest.raises(UnreadableImage, match="million pixels"):
        processing.verify(png_claiming(12_000, 9_000))
    with pytest.raises(UnreadableImage, match=r"600×400; at most 0\.1 million"):
        processing.verify(COFFEE, max_pixels=100_000)


def gif_claiming(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + saved(halves(), "GIF")[10:]


def webp_claiming(width: int, height: int) -> bytes:
    return b"RIFF\x1e\0\0\0WEBPVP8L\x11\0\0\0\x2f" + struct.pack("<I", width - 1 | height - 1 << 14) + b"\0" * 13


def bmp_claiming(width: int, height: int) -> bytes:
    data = saved(halves(), "BMP")
    return data[:18] + struct.pack("<ii", width, height) + data[26:]


def jpeg_claiming(width: int, height: int) -> bytes:
    data = saved(halves(), "JPEG")
    frame = data.index(b"\xff\xc0")
    return data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]


def tiff(width: int, height: int, tile: int = 0) -> bytes:
    """A picture in one packed strip, or in one packed tile, of as many black pixels as that has."""
    packed = zlib.compress(bytes(3 * tile * tile if tile else 64))
    tags = {256: width, 257: height, 258: 8, 259: 8, 262: 2, 277: 3, 284: 1}
    tags |= {322: tile, 323: tile, 324: 0, 325: len(packed)} if tile else {273: 0, 278: height, 279: len(packed)}
    body = 8 + 2 + 12 * len(tags) + 4
    tags |= {324 if tile else 273: body}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0" + packed


CLAIMING = (png_claiming, jpeg_claiming, webp_claiming, gif_claiming, bmp_claiming, tiff)


@pytest.mark.parametrize("claiming", CLAIMING)
def test_a_picture_claiming_too_many_pixels_is_refused_undecoded(
    claiming: Callable[[int, int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    with pytest.raises(UnreadableImage, match="million pixels"):
        processing.clean(claiming(16_000, 12_000))


def test_a_tile_larger_than_its_picture_counts_by_itself() -> None:
    data = tiff(10, 10, tile=256)
    assert processing.verify(data) == processing.Facts("image/tiff", 10, 10)
    with pytest.raises(UnreadableImage, match="extreme dimensions"):
        processing.verify(data, max_pixels=60_000)


def test_a_photo_with_endless_scans_is_refused_undecoded() -> None:
    data = saved(noisy((301, 203)), "JPEG", progressive=True)
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    table = data.index(b"\xff\xc4", second)
    scans = data.count(b"\xff\xda")
    assert processing.verify(data[:table] + data[second:table] * (processing.MAX_SCANS - scans) + data[table:])
    with pytest.raises(UnreadableImage, match="scans"):
        processing.verify(data[:table] + data[second:table] * processing.MAX_SCANS + data[table:])


def test_scans_in_a_film_behind_the_photo_do_not_count() -> None:
    assert processing.verify(saved(halves(), "JPEG") + b"\xff\xda" * 1000)


def secretive(kind: str) -> bytes:
    """A picture with private words wherever its kind has room for them."""
    exif = Image.Exif()
    exif[0x010E] = "private"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.0)})
    match kind:
        case "JPEG":
            iptc = b"\xff\xed" + struct.pack(">H", 30) + b"Photoshop 3.0\0private place"
            data = saved(halves(), kind, exif=exif, comment=b"private", xmp=b"<x:xmpmeta>private</x:xmpmeta>")
            return data[:2] + iptc + data[2:]
        case "PNG":
            words = PngImagePlugin.PngInfo()
            words.add_text("Author", "private")
            words.add_itxt("XML:com.adobe.xmp", "private", zip=False)
            return saved(halves(), kind, pnginfo=words, exif=exif)
        case "WEBP":
            return saved(halves(), kind, exif=exif, xmp=b"<x:xmpmeta>private</x:xmpmeta>")
        case "GIF":
            return saved(halves(), kind, comment=b"private")
        case _:
            return saved(halves(), kind, exif=exif, tiffinfo={315: "private", 700: b"private"})


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_private_words_of_any_kind_do_not_leave(kind: str) -> None:
    data = secretive(kind)
    assert b"private" in data
    out, _ = processing.clean(data)
    assert b"private" not in out and not opened(out).getexif()
    assert set(opened(out).info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "gamma", "dpi"}


def test_of_an_animation_the_first_frame_counts() -> None:
    data = saved(halves(), "GIF", save_all=True, append_images=[Image.new("RGB", (60, 40), "green")])
    image = opened(processing.clean(data)[0])
    assert image.getpixel((5, 5))[0] > 180  # type: ignore[index]


def test_orientation_six_is_applied_and_counts_in_the_facts() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(halves(), "JPEG", exif=exif, quality=95)
    assert processing.verify(data) == processing.Facts("image/jpeg", 40, 60)
    out, facts = processing.clean(data)
    image = opened(out)
    assert image.size == (40, 60) == (facts.width, facts.height)
    assert image.getpixel((20, 10))[0] > 180, "what was left is now on top"  # type: ignore[index]
    assert image.getpixel((20, 50))[2] > 180  # type: ignore[index]


def test_where_a_photo_was_taken_does_not_leave() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.0)})
    exif[0x010F] = "SecretCamera"
    data = saved(halves(), "JPEG", exif=exif, comment=b"private words", xmp=b"<x:xmpmeta>private</x:xmpmeta>")
    assert b"SecretCamera" in data and b"private" in data
    out, _ = processing.clean(data)
    assert b"SecretCamera" not in out and b"private" not in out and b"Exif" not in out
    assert not opened(out).getexif()


@pytest.mark.parametrize("progressive", [False, True])
def test_an_upright_photo_loses_its_metadata_and_not_one_pixel(progressive: bool) -> None:
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    photo = noisy((301, 203))
    data = saved(photo, "JPEG", exif=exif, comment=b"private words", quality=85, progressive=progressive)
    out, facts = processing.clean(data + b"a second picture")
    assert out == saved(photo, "JPEG", quality=85, progressive=progressive)
    assert facts == processing.Facts("image/jpeg", 301, 203)


def test_words_between_a_photos_scans_are_removed() -> None:
    data = saved(noisy((301, 203)), "JPEG", progressive=True)
    second_scan = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    table = data.rindex(b"\xff\xc4", 0, second_scan)
    out, _ = processing.clean(data[:table] + b"\xff\xfe\x00\x09private" + data[table:])
    assert out == data


def test_a_png_with_words_keeps_its_packed_pixels() -> None:
    words = PngImagePlugin.PngInfo()
    words.add_text("Author", "somebody private")
    photo = noisy((120, 90))
    assert processing.clean(saved(photo, "PNG", pnginfo=words))[0] == saved(photo, "PNG")


def test_a_photo_with_a_colour_profile_is_converted() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind in ("JPEG", "PNG"):
        out, _ = processing.clean(saved(halves(), kind, icc_profile=profile))
        assert profile[:64] not in out and "icc_profile" not in opened(out).info


def test_words_in_a_png_do_not_leave() -> None:
    words = PngImagePlugin.PngInfo()
    words.add_text("Author", "somebody private")
    words.add_itxt("Comment", "private too")
    out, _ = processing.clean(saved(halves(), "PNG", pnginfo=words))
    assert b"private" not in out and b"tEXt" not in out
    assert processing.clean(out)[0] == out


def test_bytes_hidden_after_the_end_do_not_leave() -> None:
    for data in (saved(halves(), "JPEG"), saved(halves(), "PNG")):
        out, _ = processing.clean(data + b"hidden film")
        assert b"hidden" not in out


def test_a_clean_file_comes_back_byte_for_byte() -> None:
    assert processing.clean(COFFEE)[0] is COFFEE
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        once, facts = processing.clean(saved(halves(), kind))
        assert processing.clean(once) == (once, facts)
        assert facts.mime_type == ("image/jpeg" if kind == "JPEG" else "image/png")


@pytest.mark.parametrize(
    ("image", "kind", "mode"),
    [
        (halves().convert("CMYK"), "JPEG", "RGB"),
        (halves().convert("CMYK"), "TIFF", "RGB"),
        (halves().convert("L"), "JPEG", "L"),
        (halves().convert("1"), "PNG", "L"),
        (halves().convert("LA"), "PNG", "RGBA"),
        (halves().convert("RGBA").quantize(), "PNG", "RGBA"),
        (halves().convert("P"), "GIF", "RGB"),
        (halves().convert("L").convert("I").point(lambda v: v * 257).convert("I;16"), "PNG", "L"),
        (halves().convert("F"), "TIFF", "L"),
    ],
)
def test_unusual_pixels_come_out_plain_and_look_the_same(image: Image.Image, kind: str, mode: str) -> None:
    out = opened(processing.clean(saved(image, kind))[0])
    assert out.mode in (mode, "RGB") and out.size == image.size
    before, after = (ImageStat.Stat(one.convert("L")).mean[0] for one in (halves(), out))
    assert abs(before - after) < 12


def test_a_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    grey = Image.new("I;16", (10, 10), 32768)
    assert abs(opened(processing.clean(saved(grey, "PNG"))[0]).getpixel((1, 1)) - 128) <= 1  # type: ignore[operator]


def test_alpha_is_kept_for_png_and_webp() -> None:
    image = halves().convert("RGBA")
    image.putalpha(90)
    for kind in ("PNG", "WEBP"):
        out = opened(processing.clean(saved(image, kind, lossless=True))[0])
        assert out.mode == "RGBA" and out.getpixel((5, 5))[3] == 90  # type: ignore[index]


def test_a_picture_that_fits_is_not_touched() -> None:
    assert processing.fit(COFFEE, max_side=600, max_pixels=240_000, max_bytes=len(COFFEE)) == (
        COFFEE,
        processing.Facts("image/jpeg", 600, 400),
        (),
    )


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_a_picture_without_its_last_bytes_is_refused(format: str) -> None:
    data = saved(noisy((64, 64)), format)
    for cut in range(1, 40):
        with pytest.raises(UnreadableImage, match="cut short"):
            processing.verify(data[:-cut])


def test_fitting_meets_every_limit_and_says_what_it_did() -> None:
    data = saved(noisy((1200, 800)), "PNG")
    out, facts, said = processing.fit(
        data, max_side=1000, max_pixels=500_000, max_bytes=120_000, formats=("image/jpeg",)
    )
    image = opened(out)
    assert len(out) <= 120_000 and image.format == "JPEG" and facts.mime_type == "image/jpeg"
    assert image.size == (facts.width, facts.height) and max(image.size) <= 1000
    assert image.width * image.height <= 500_000 and abs(image.width / image.height - 1.5) < 0.01
    assert "1200×800" in said[0] and "png to jpeg" in said[1]


def test_limits_that_nothing_meets_are_refused() -> None:
    with pytest.raises(OutOfLimits, match="can be written"):
        processing.fit(saved(halves(), "BMP"), formats=("image/avif",))
    with pytest.raises(OutOfLimits, match="bytes"):
        processing.fit(COFFEE, max_bytes=100)


def test_the_preview_of_a_noisy_twelve_megapixel_photo_is_small() -> None:
    data = processing.preview(saved(noisy((4000, 3000)), "JPEG", quality=80))
    assert len(data) <= 100_000 and max(opened(data).size) <= 768 and opened(data).format == "JPEG"


def test_transparency_previews_as_a_light_checker() -> None:
    image = opened(processing.preview(saved(Image.new("RGBA", (64, 64), (255, 0, 0, 0)), "PNG")))
    assert ImageStat.Stat(image.convert("L")).mean[0] > 230
