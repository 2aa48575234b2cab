"""Bytes that belong to no pixel, planted in every place where an image file has room for them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageFilter, ImageStat, PngImagePlugin

from triptych import settings
from triptych.images import cleaning, metadata, processing

SECRET = b"PRIVATE-0123456789-PRIVATE"
COFFEE = (Path(settings.__file__).parent / "samples" / "coffee.jpg").read_bytes()


def photo(width: int = 200, height: int = 136) -> Image.Image:
    """A picture with detail everywhere, its sides no multiples of 16."""
    image = Image.open(io.BytesIO(COFFEE)).convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    return image.filter(ImageFilter.DETAIL)


def jpeg(image: Image.Image | None = None, **options: object) -> bytes:
    out = io.BytesIO()
    (image or photo()).save(out, "JPEG", **{"quality": 88, **options})
    return out.getvalue()


def png(image: Image.Image | None = None, **options: object) -> bytes:
    out = io.BytesIO()
    (image or photo()).save(out, "PNG", **options)
    return out.getvalue()


def pixels(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def same(one: bytes, other: bytes) -> bool:
    return pixels(one).tobytes() == pixels(other).tobytes()


def close(one: bytes, other: bytes) -> bool:
    """Whether two pictures differ by no more than a fresh encoding at quality 95 does."""
    difference = ImageChops.difference(pixels(one).convert("RGB"), pixels(other).convert("RGB"))
    return max(ImageStat.Stat(difference).mean) < 3


# JPEG ----------------------------------------------------------------------------------------------------------------


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2) + body


def markers(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of every segment up to the first scan's header."""
    at = 2
    while True:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        yield data[at + 1], at, end
        if data[at + 1] == 0xDA:
            return
        at = end


def before(data: bytes, marker: int, planted: bytes) -> bytes:
    at = next(start for found, start, _ in markers(data) if found == marker)
    return data[:at] + planted + data[at:]


def within(data: bytes, marker: int, change: Callable[[bytes], bytes]) -> bytes:
    """Change the body of the first segment of a kind."""
    start, end = next((start, end) for found, start, end in markers(data) if found == marker)
    return data[:start] + segment(marker, change(data[start + 4 : end])) + data[end:]


def table(length: int) -> bytes:
    return (SECRET * 10)[:length]


def spare_huffman(identifier: int) -> bytes:
    return bytes((identifier, *[0] * 7, len(SECRET), *[0] * 8)) + SECRET


CUT: dict[str, Callable[[bytes], bytes]] = {
    "a comment": lambda d: before(d, 0xDB, segment(0xFE, SECRET)),
    "an application segment": lambda d: before(d, 0xDB, segment(0xE5, SECRET)),
    "a JFIF thumbnail": lambda d: within(d, 0xE0, lambda b: b[:-2] + bytes((3, 3)) + (SECRET * 2)[:27]),
    "a longer JFIF": lambda d: within(d, 0xE0, lambda b: b + SECRET),
    "a second JFIF": lambda d: before(d, 0xDB, segment(0xE0, b"JFIF\0" + SECRET[:9])),
    "an EXIF thumbnail": lambda d: before(d, 0xDB, segment(0xE1, b"Exif\0\0" + SECRET)),
    "number of lines": lambda d: before(d, 0xDA, segment(0xDC, b"\0\1" + SECRET)),
    "a spare quantization table": lambda d: before(d, 0xDA, segment(0xDB, b"\3" + table(64))),
    "a spare quantization table among others": lambda d: within(d, 0xDB, lambda b: b + b"\3" + table(64)),
    "a spare Huffman table": lambda d: before(d, 0xDA, segment(0xC4, spare_huffman(0x13))),
    "a spare Huffman table among others": lambda d: within(d, 0xC4, lambda b: b + spare_huffman(0x13)),
    "after its end": lambda d: d + SECRET,
    "a second picture after its end": lambda d: d + jpeg(comment=SECRET),
}
"""What is cut away: not one pixel changes."""

WRITTEN_ANEW: dict[str, Callable[[bytes], bytes]] = {
    "between two segments": lambda d: before(d, 0xDB, SECRET),
    "a quantization table that is replaced": lambda d: before(d, 0xDB, segment(0xDB, b"\0" + table(64))),
    "between the last block and the end": lambda d: d[:-2] + SECRET + d[-2:],
    "restart intervals after the last block": lambda d: d[:-2] + b"\xff\xd0" + SECRET + d[-2:],
}
"""What shows only when the picture is decoded, or might: the pixels are encoded again, at quality 95."""


def _scans(data: bytes) -> list[int]:
    """Return where every scan's data ends."""
    found = metadata.jpeg_parts(data)
    assert found
    return [scan[-1][1] for scan in found.scans]


@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
@pytest.mark.parametrize("place", CUT)
def test_what_no_decoder_reads_is_cut_and_no_pixel_changes(place: str, progressive: bool) -> None:
    plain = jpeg(progressive=progressive)
    planted = CUT[place](plain)
    out, facts = processing.clean(planted)
    assert SECRET[:9] in planted and SECRET[:9] not in out and SECRET[3:12] not in out
    assert same(out, plain) and (facts.width, facts.height) == (200, 136)
    assert processing.clean(out)[0] == out


@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
@pytest.mark.parametrize("place", WRITTEN_ANEW)
def test_what_might_hide_bytes_is_written_anew(place: str, progressive: bool) -> None:
    plain = jpeg(progressive=progressive)
    planted = WRITTEN_ANEW[place](plain)
    out, _ = processing.clean(planted)
    assert SECRET in planted and SECRET not in out and SECRET[3:12] not in out
    assert close(out, plain)
    assert processing.clean(out)[0] == out


def test_bytes_in_any_scan_of_a_progressive_picture_are_found() -> None:
    plain = jpeg(progressive=True)
    ends = _scans(plain)
    assert len(ends) >= 6
    for end in ends:
        planted = plain[:end] + SECRET + plain[end:]
        assert same(planted, plain), "a decoder passes over them"
        out, _ = processing.clean(planted)
        assert SECRET not in out and close(out, plain), end


@pytest.mark.parametrize("options", [{"restart_marker_rows": 1}, {"restart_marker_blocks": 3}], ids=str)
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_bytes_before_any_restart_marker_are_found(options: dict[str, int], subsampling: int) -> None:
    plain = jpeg(subsampling=subsampling, **options)
    assert processing.clean(plain)[0] == plain, "restart markers by themselves are nothing odd"
    places = [at for at in range(len(plain)) if plain[at] == 0xFF and 0xD0 <= plain[at + 1] <= 0xD7]
    assert len(places) > 5
    for at in (places[0], places[len(places) // 2], places[-1]):
        planted = plain[:at] + SECRET + plain[at:]
        assert same(planted, plain)
        out, _ = processing.clean(planted)
        assert SECRET not in out and close(out, plain)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("quality", [40, 75, 95, 100])
def test_an_honest_picture_is_never_written_anew(mode: str, subsampling: int, progressive: bool, quality: int) -> None:
    grey, white = Image.new(mode, (120, 90), 128 if mode == "L" else (128,) * 3), Image.new(mode, (33, 17), "white")
    for optimize in (False, True):
        options = {"quality": quality, "subsampling": subsampling, "progressive": progressive, "optimize": optimize}
        for image in (photo().convert(mode), photo(61, 47).convert(mode)):
            data = jpeg(image, **options)
            assert processing.clean(data)[0] is data
        for flat in (grey, white):  # may be: nothing can be told of data that says nothing
            out, _ = processing.clean(jpeg(flat, **options))
            assert close(out, jpeg(flat, **options)) and processing.clean(out)[0] == out


def test_a_picture_that_is_slow_to_check_is_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(data: bytes) -> bytes:
        raise AssertionError("it is not looked through")

    plain = jpeg(progressive=True)
    monkeypatch.setattr(cleaning, "MAX_LOOKED_THROUGH", 200 * 136 * 5)
    monkeypatch.setattr(cleaning, "_digest", never)
    out, _ = processing.clean(plain)
    assert metadata.jpeg_scans(plain) > 5 and metadata.jpeg_scans(out) == 1
    assert close(out, plain)


# PNG -----------------------------------------------------------------------------------------------------------------


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    at, found = 8, []
    while at < len(data):
        length = int.from_bytes(data[at : at + 4])
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def assembled(found: list[tuple[bytes, bytes]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, body) for name, body in found)


def early(data: bytes, *planted: tuple[bytes, bytes]) -> bytes:
    found = chunks(data)
    return assembled([found[0], *planted, *found[1:]])


def stream(data: bytes) -> bytes:
    return b"".join(body for name, body in chunks(data) if name == b"IDAT")


def with_stream(data: bytes, *bodies: bytes) -> bytes:
    rest = [one for one in chunks(data) if one[0] != b"IDAT"]
    return assembled([*rest[:-1], *((b"IDAT", body) for body in bodies), rest[-1]])


HIDDEN: dict[str, Callable[[bytes], bytes]] = {
    "text": lambda d: early(d, (b"tEXt", b"Comment\0" + SECRET)),
    "a chunk of its own": lambda d: early(d, (b"prVt", SECRET)),
    "a gamma that is longer": lambda d: early(d, (b"gAMA", struct.pack(">I", 45455) + SECRET)),
    "a rendering intent that is longer": lambda d: early(d, (b"sRGB", b"\0" + SECRET)),
    "a resolution that is longer": lambda d: early(d, (b"pHYs", b"\0\0\1\0\0\0\1\0\1" + SECRET)),
    "chromaticities that are longer": lambda d: early(d, (b"cHRM", bytes(32) + SECRET)),
    "a background that is longer": lambda d: early(d, (b"bKGD", bytes(6) + SECRET)),
    "significant bits that are longer": lambda d: early(d, (b"sBIT", b"\x08\x08\x08" + SECRET)),
    "a palette that is not needed": lambda d: early(d, (b"PLTE", (SECRET * 3)[:78])),
    "a second gamma": lambda d: early(d, (b"gAMA", bytes(4)), (b"gAMA", SECRET[:4]), (b"tEXt", SECRET)),
    "the last chunk": lambda d: assembled([*chunks(d)[:-1], (b"IEND", SECRET)]),
    "after the end": lambda d: d + SECRET,
    "a picture after the end": lambda d: d + png() + SECRET,
    "after the stream": lambda d: with_stream(d, stream(d) + SECRET),
    "a data chunk after the stream": lambda d: with_stream(d, stream(d), SECRET),
    "rows after the last": lambda d: with_stream(d, zlib.compress(zlib.decompress(stream(d)) + SECRET, 0)),
    "data chunks that are apart": lambda d: assembled(
        [*chunks(d)[:-1], (b"tEXt", b"a\0b"), (b"IDAT", SECRET), chunks(d)[-1]]
    ),
}


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("place", HIDDEN)
def test_bytes_of_no_pixel_of_a_png_are_gone(place: str, mode: str) -> None:
    plain = png(photo().convert(mode))
    planted = HIDDEN[place](plain)
    out, facts = processing.clean(planted)
    assert SECRET in planted or place == "a second gamma"
    assert SECRET not in out and SECRET not in zlib.decompress(stream(out))
    assert same(out, plain) and (facts.width, facts.height) == (200, 136)
    assert processing.clean(out)[0] == out


@pytest.mark.parametrize("options", [{}, {"compress_level": 1}, {"optimize": True}, {"dpi": (72, 72)}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_an_honest_png_comes_back_byte_for_byte(mode: str, options: dict[str, object]) -> None:
    data = png(photo().convert(mode), **options)
    assert processing.clean(data)[0] is data


def test_the_words_of_a_png_go_and_its_colours_stay() -> None:
    words = PngImagePlugin.PngInfo()
    words.add_text("Author", SECRET.decode())
    words.add(b"gAMA", struct.pack(">I", 45455))
    out, _ = processing.clean(png(pnginfo=words))
    assert b"gAMA" in out and SECRET not in out


# Others --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "BMP", "TIFF"])
def test_other_formats_are_written_anew_with_their_pixels_alone(kind: str) -> None:
    buffer = io.BytesIO()
    options = {"lossless": True, "exif": b"Exif\0\0" + SECRET} if kind == "WEBP" else {}
    photo().save(buffer, kind, **options)
    data = buffer.getvalue()
    planted = [data + SECRET]
    if kind == "WEBP":
        more = data + b"prVt" + len(SECRET).to_bytes(4, "little") + SECRET
        planted.append(more[:4] + (len(more) - 8).to_bytes(4, "little") + more[8:])
    for one in planted:
        out, facts = processing.clean(one)
        assert SECRET in one and SECRET not in out and facts.mime_type == "image/png"
        assert pixels(out).convert("RGB").tobytes() == pixels(data).convert("RGB").tobytes()
