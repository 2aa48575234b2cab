"""A contact sheet: pictures laid out in even rows on a quiet ground, each with its label.

Rules: pictures keep their shape and are never blown up; words are cut to fit their cell, in at most two lines; any text
may come in, what the font cannot draw becomes a box and never an error. The same cards give the same sheet.

Must not know: files, formats, how a picture was made. Decoding and encoding are `imaging`'s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

GROUND = (246, 245, 242)
WELL = (234, 232, 227)
INK = (32, 33, 36)
DIM = (128, 124, 117)
SHEET_WIDTH_PX = 2200
IDEAL_ASPECT = 1.45
UPSCALE = 1.5

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class Card:
    """A decoded picture with the words under it."""

    image: Image.Image
    label: str
    note: str = ""


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
    """Return the font that ships with Pillow, at this size (a fixed bitmap font where FreeType is missing)."""
    return ImageFont.load_default(size=max(6, size_px))


def printable(text: str) -> str:
    """Return text that any font call survives: one line, no control characters, no lone surrogates."""
    sound = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join("".join(c if c.isprintable() else " " for c in sound).split())


def wrapped(text: str, face: Font, width_px: float, max_lines: int = 2) -> list[str]:
    """Return the text as at most `max_lines` lines no wider than `width_px`, the last one ellipsised if need be."""
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
            space = rest.rfind(" ", 1, cut + 1)
            cut = space if space > 0 else cut
        lines.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return lines


def columns_for(count: int, aspect: float) -> int:
    """Return how many columns make `count` cells of this shape (width over height) a well-proportioned sheet."""

    def cost(columns: int) -> float:
        rows = math.ceil(count / columns)
        return abs(math.log(columns * aspect / rows / IDEAL_ASPECT)) + 0.35 * (rows * columns - count) / columns

    return min(range(1, count + 1), key=cost)


def lay_out(
    cards: Sequence[Card],
    *,
    columns: int | None = None,
    cell: int = 384,
    title: str = "",
    row_labels: Sequence[str] = (),
) -> Image.Image:
    """Return the sheet; `cell` is the widest a picture is drawn, in pixels, less when there are many columns."""
    aspects = sorted(max(0.6, min(1.8, card.image.width / card.image.height)) for card in cards)
    aspect = aspects[len(aspects) // 2]
    columns = max(1, min(columns or columns_for(len(cards), aspect / 1.12), len(cards)))
    rows = math.ceil(len(cards) / columns)

    gap = max(12, cell // 14)
    margin = gap * 3 // 2
    cell = max(96, min(cell, (SHEET_WIDTH_PX - 2 * margin + gap) // columns - gap))
    height = round(cell / aspect)
    label_px, note_px = max(15, cell // 20), max(13, cell // 25)
    label_face, note_face = font(label_px), font(note_px)
    labels = [wrapped(card.label, label_face, cell) for card in cards]
    notes = [wrapped(card.note, note_face, cell) for card in cards]

    label_line, note_line = round(label_px * 1.3), round(note_px * 1.35)
    row_heads = [bool(row < len(row_labels) and printable(row_labels[row])) for row in range(rows)]
    word_heights = [
        max(
            (round(label_px * 0.6) if labels[i] or notes[i] else 0)
            + len(labels[i]) * label_line
            + len(notes[i]) * note_line
            for i in range(row * columns, min(len(cards), (row + 1) * columns))
        )
        for row in range(rows)
    ]
    width = 2 * margin + columns * cell + (columns - 1) * gap
    title_px = max(20, min(round(cell / 11), width // 24))
    title_lines = wrapped(title, font(title_px), width - 2 * margin)
    top = margin + (len(title_lines) * round(title_px * 1.25) + title_px // 2 if title_lines else 0)
    total = top + sum(height + words for words in word_heights) + gap * (rows - 1) + margin
    total += sum(row_heads) * round(label_px * 1.9)

    sheet = Image.new("RGB", (width, total), GROUND)
    draw = ImageDraw.Draw(sheet)
    for n, line in enumerate(title_lines):
        draw.text((margin, margin + n * round(title_px * 1.25) - title_px // 6), line, INK, font(title_px))
    y = top
    for row in range(rows):
        if row_heads[row]:
            head = wrapped(row_labels[row], label_face, width - 2 * margin, 1)
            draw.text((margin, y), head[0], DIM, label_face)
            y += round(label_px * 1.9)
        for column in range(columns):
            i = row * columns + column
            if i == len(cards):
                break
            x = margin + column * (cell + gap)
            _place(sheet, cards[i].image, (x, y, cell, height))
            line_y = y + height + round(label_px * 0.5)
            for line in labels[i]:
                draw.text((x + 1, line_y), line, INK, label_face)
                line_y += label_line
            for line in notes[i]:
                draw.text((x + 1, line_y), line, DIM, note_face)
                line_y += note_line
        y += height + word_heights[row] + gap
    return sheet


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


def _place(sheet: Image.Image, image: Image.Image, box: tuple[int, int, int, int]) -> None:
    """Draw the picture inside the box, whole, centred, with softly rounded corners; what it leaves free is a well."""
    x, y, width, height = box
    scale = min(width / image.width, height / image.height, UPSCALE)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    if width - size[0] <= 3 and height - size[1] <= 3:
        size = width, height
    well = Image.new("RGB", (width, height), WELL)
    shown = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    well.paste(shown, ((width - size[0]) // 2, (height - size[1]) // 2))
    sheet.paste(well, (x, y), _rounded(width, height, max(4, width // 40)))


@lru_cache(maxsize=8)
def _rounded(width: int, height: int, radius: int) -> Image.Image:
    mask = Image.new("L", (width * 3, height * 3), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, width * 3 - 1, height * 3 - 1), radius * 3, fill=255)
    return mask.resize((width, height), Image.Resampling.BOX)
