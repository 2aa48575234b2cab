"""A contact sheet: pictures in even rows on a quiet ground, each with its label.

Rules: the sheet fits the size that models see without scaling (`WIDTH_PX` × `HEIGHT_PX`), so that text keeps its drawn
size. Pictures keep their shape and are as large as possible. Text is cut to fit its cell, in at most two lines. Any
text is accepted; characters without a glyph are left out. Equal cards give equal sheets.

Must not know: files, formats, how a picture was made. Decoding and encoding are in `processing`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from triptych.core.text import line

GROUND = (246, 245, 242)
WELL = (234, 232, 227)
INK = (32, 33, 36)
DIM = (100, 96, 90)
ALERT = (168, 44, 24)
WIDTH_PX, HEIGHT_PX = 1568, 1176
"""Hosts scale an image down to 1568 px on its long side, and some to 1.2 megapixels: 0.8 of this."""
LABEL_PX, NOTE_PX, TITLE_PX = 21, 18, 28
LABEL_LINE_PX, NOTE_LINE_PX, TITLE_LINE_PX = 27, 24, 36
NARROW_PX = 165
"""In a narrower cell a long handle does not fit at the label's size."""
MARGIN_PX, GAP_PX, ROW_GAP_PX, GROUP_GAP_PX = 28, 14, 22, 40
IDEAL_ASPECT = 1.45
UPSCALE = 1.5
STRIP_PX = 132
"""The height of the pictures of a strip."""
FONT = Path(__file__).parent / "fonts" / "Roboto-Regular.ttf"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class Card:
    """A decoded picture with three texts under it. Without a picture its place stays empty."""

    image: Image.Image | None
    label: str
    note: str = ""
    alert: str = ""


def opaque(image: Image.Image, *, checker: bool = True) -> Image.Image:
    """Return the picture without alpha, over a light checker or over white."""
    if image.mode in ("RGB", "L"):
        return image
    if image.mode not in ("RGBA", "LA"):
        return image.convert("RGB")
    image = image.convert("RGBA")
    ground = Image.new("RGB", image.size, (255, 255, 255))
    if checker and image.getchannel("A").getextrema() != (255, 255):
        tile = Image.new("RGB", (24, 24), (255, 255, 255))
        for box in ((0, 0, 12, 12), (12, 12, 24, 24)):
            tile.paste((236, 236, 238), box)
        for y in range(0, image.height, 24):
            for x in range(0, image.width, 24):
                ground.paste(tile, (x, y))
    ground.paste(image, mask=image.getchannel("A"))
    return ground


@lru_cache(maxsize=32)
def font(size_px: int) -> Font:
    """Return Roboto at this size; the font is in the package. Without FreeType, return a fixed bitmap font."""
    try:
        return ImageFont.truetype(FONT, max(6, size_px), layout_engine=ImageFont.Layout.BASIC)
    except ImportError:
        return ImageFont.load_default()


def printable(text: str) -> str:
    """Return text that every font call accepts: one line, no control characters, no lone surrogates."""
    return line(text)


def drawable(text: str) -> str:
    """Return the text without characters that the font cannot draw; it draws Latin, Greek and Cyrillic.

    Each run of words with such characters becomes one "…". A text of nothing else becomes empty.
    """
    shown = " ".join("".join(c if c == " " or _has_glyph(c) else "\0" for c in printable(text)[:400]).split(" "))
    words = ["…" if "\0" in word else word for word in shown.split()]
    kept = [word for i, word in enumerate(words) if word != "…" or i == 0 or words[i - 1] != "…"]
    return " ".join(kept) if any(c.isalnum() for c in "".join(kept)) else ""


@lru_cache(maxsize=4096)
def _has_glyph(character: str) -> bool:
    face = font(LABEL_PX)
    try:
        mask, missing = face.getmask(character), face.getmask("\U0010fffd")
    except UnicodeEncodeError:  # the bitmap font has Latin-1 only
        return False
    return mask.size != missing.size or bytes(mask) != bytes(missing)


def wrapped(text: str, face: Font, width_px: float, max_lines: int = 2) -> list[str]:
    """Return the text as at most `max_lines` lines of at most `width_px`; a longer text ends with "…"."""
    lines: list[str] = []
    rest = printable(text)[:400]
    while rest and len(lines) < max_lines:
        cut = _fits(rest, face, width_px)
        if cut < len(rest):
            if len(lines) == max_lines - 1:
                while cut > 1 and face.getlength(rest[:cut].rstrip() + "…") > width_px:
                    cut -= 1
                lines.append(rest[:cut].rstrip() + "…")
                break
            space = max(rest.rfind(" ", 1, cut + 1), rest.rfind("/", 1, cut + 1))
            cut = space if space > 0 else cut
        lines.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return lines


def columns_for(count: int, aspect: float) -> int:
    """Return the number of columns that makes `count` cells of this shape (width over height) a well-proportioned
    sheet."""

    def cost(columns: int) -> float:
        rows = math.ceil(count / columns)
        return abs(math.log(columns * aspect / rows / IDEAL_ASPECT)) + 0.35 * (rows * columns - count) / columns

    return min(range(1, count + 1), key=cost)


def render(
    cards: Sequence[Card],
    *,
    group: int = 1,
    heads: Sequence[str] = (),
    cell: int = 768,
    title: str = "",
    strip: Sequence[Image.Image] = (),
    strip_title: str = "",
) -> Image.Image:
    """Return the sheet, in reading order.

    `group` cards stay side by side: a pair of before and after, or the steps of a lane, with `heads` over them. `cell`
    is the widest that a picture is drawn, in pixels; many pictures are drawn smaller. The pictures of `strip` stand
    small in one row above all others. Raises: `ValueError` without a picture.
    """
    aspects = sorted(max(0.5, min(2.4, c.image.width / c.image.height)) for c in cards if c.image)
    if not aspects:
        raise ValueError("a contact sheet needs at least one picture")
    lines = wrapped(drawable(title), font(TITLE_PX), WIDTH_PX - 2 * MARGIN_PX, 1)
    strip_top = MARGIN_PX + (TITLE_LINE_PX + 8 if lines else 0)
    top = strip_top + (LABEL_LINE_PX + 4 + STRIP_PX + ROW_GAP_PX if strip else 0)
    layouts = (
        _Layout.of(cards, group, across, heads, cell, aspects[len(aspects) // 2], top)
        for across in range(1, min(-(-len(cards) // group), max(1, 12 // group)) + 1)
    )
    layout = max(layouts, key=lambda p: (p.width * p.height, -p.across))
    width = 2 * MARGIN_PX + layout.left(layout.columns - 1) + layout.width
    if lines and width < WIDTH_PX:
        lines = wrapped(drawable(title), font(TITLE_PX), width - 2 * MARGIN_PX, 1)

    sheet = Image.new("RGB", (width, top + layout.head_height + layout.total_height + MARGIN_PX), GROUND)
    draw = ImageDraw.Draw(sheet)
    for words in lines:
        draw.text((MARGIN_PX, MARGIN_PX - 6), words, INK, font(TITLE_PX))
    if strip:
        _draw_strip(sheet, draw, strip, strip_title, strip_top)
    for column in range(layout.columns):
        for n, words in enumerate(layout.heads[column % group] if heads else ()):
            draw.text((MARGIN_PX + layout.left(column), top + n * LABEL_LINE_PX - 4), words, INK, font(LABEL_PX))
    y = top + layout.head_height
    for row, words_height in enumerate(layout.words_heights):
        for column in range(layout.columns):
            i = row * layout.columns + column
            if i >= len(cards):
                break
            x = MARGIN_PX + layout.left(column)
            _place(sheet, cards[i].image, (x, y, layout.width, layout.height))
            line_y = y + layout.height + 6
            for text, px, line_px, colour in layout.words[i]:
                draw.text((x, line_y), text, colour, font(px))
                line_y += line_px
        y += layout.height + words_height + ROW_GAP_PX
    return sheet


def _draw_strip(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, strip: Sequence[Image.Image], title: str, top: int
) -> None:
    """Draw a row of small pictures under its title, from the left margin."""
    room = sheet.width - 2 * MARGIN_PX
    for words in wrapped(drawable(title), font(LABEL_PX), room, 1):
        draw.text((MARGIN_PX, top - 4), words, INK, font(LABEL_PX))
    widest = (room - (len(strip) - 1) * GAP_PX) // len(strip)
    x = MARGIN_PX
    for image in strip:
        width = max(8, min(widest, round(STRIP_PX * max(0.5, min(2.4, image.width / image.height)))))
        _place(sheet, image, (x, top + LABEL_LINE_PX + 4, width, STRIP_PX))
        x += width + GAP_PX


_Line = tuple[str, int, int, tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class _Layout:
    """The size of the cells and the wrapped text, for so many groups side by side."""

    across: int
    group: int
    width: int
    height: int
    heads: tuple[list[str], ...]
    words: tuple[list[_Line], ...]
    words_heights: tuple[int, ...]

    @classmethod
    def of(
        cls, cards: Sequence[Card], group: int, across: int, heads: Sequence[str], cell: int, aspect: float, top: int
    ) -> _Layout:
        columns = across * group
        rows = -(-len(cards) // columns)
        gaps = (columns - across) * GAP_PX + (across - 1) * (GROUP_GAP_PX if group > 1 else GAP_PX)
        width = max(96, min(cell, (WIDTH_PX - 2 * MARGIN_PX - gaps) // columns))
        # The text height depends on the cell width and the other way round; two iterations converge.
        for _ in range(2):
            layout = cls._with(cards, group, across, heads, width, round(width / aspect))
            left = HEIGHT_PX - top - MARGIN_PX - layout.head_height - (layout.total_height - rows * layout.height)
            width = max(96, min(width, round(left / rows * aspect)))
        return cls._with(cards, group, across, heads, width, round(width / aspect))

    @classmethod
    def _with(
        cls, cards: Sequence[Card], group: int, across: int, heads: Sequence[str], width: int, height: int
    ) -> _Layout:
        words = tuple(_words(card, width) for card in cards)
        columns = across * group
        return cls(
            across,
            group,
            width,
            height,
            tuple(wrapped(drawable(head), font(LABEL_PX), width) for head in heads),
            words,
            tuple(
                max(sum(line[2] for line in lines) + 6 if lines else 0 for lines in words[at : at + columns])
                for at in range(0, len(words), columns)
            ),
        )

    @property
    def columns(self) -> int:
        return self.across * self.group

    @property
    def head_height(self) -> int:
        return max(map(len, self.heads), default=0) * LABEL_LINE_PX + 4 if self.heads else 0

    @property
    def total_height(self) -> int:
        rows = len(self.words_heights)
        return rows * self.height + sum(self.words_heights) + (rows - 1) * ROW_GAP_PX

    def left(self, column: int) -> int:
        """Return the left edge of a column, from the margin."""
        group_gap = (GROUP_GAP_PX if self.group > 1 else GAP_PX) - GAP_PX
        return column * (self.width + GAP_PX) + column // self.group * group_gap


def _words(card: Card, width: int) -> list[_Line]:
    found = []
    label = (LABEL_PX, LABEL_LINE_PX) if width >= NARROW_PX else (NOTE_PX, NOTE_LINE_PX)
    for text, px, line_px, colour in (
        (card.label, *label, INK),
        (card.note, NOTE_PX, NOTE_LINE_PX, DIM),
        (card.alert, NOTE_PX, NOTE_LINE_PX, ALERT),
    ):
        found += [(line, px, line_px, colour) for line in wrapped(drawable(text), font(px), width)]
    return found


def _fits(text: str, face: Font, width_px: float) -> int:
    """Return how many leading characters fit, at least one."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if face.getlength(text[:middle]) <= width_px:
            low = middle
        else:
            high = middle - 1
    return low


def _place(sheet: Image.Image, image: Image.Image | None, box: tuple[int, int, int, int]) -> None:
    """Draw the whole picture centred in the box, with softly rounded corners; the rest of the box is a grey well."""
    x, y, width, height = box
    mask = _rounded(width, height, max(4, width // 40))
    if image is None:
        sheet.paste(WELL, (x, y), mask)
        return
    scale = min(width / image.width, height / image.height, UPSCALE)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    if width - size[0] <= 3 and height - size[1] <= 3:
        size = width, height
    well = Image.new("RGB", (width, height), WELL)
    shown = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    well.paste(shown, ((width - size[0]) // 2, (height - size[1]) // 2))
    sheet.paste(well, (x, y), mask)


@lru_cache(maxsize=8)
def _rounded(width: int, height: int, radius: int) -> Image.Image:
    mask = Image.new("L", (width * 3, height * 3), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, width * 3 - 1, height * 3 - 1), radius * 3, fill=255)
    return mask.resize((width, height), Image.Resampling.BOX)
