"""Named operations on a decoded picture: grading, weather, media, words drawn on it.

Rules: an `Op` and an RGB picture in, an RGB picture out, nothing kept between calls but caches of pure results. What
looks random comes from a hash of the seed, so the same call gives the same pixels. Sizes of flakes, strokes and type
are fractions of the picture, so that an effect looks the same at any resolution.

Must not know: words, prompts, files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps, ImageStat

from triptych.images import contact_sheet
from triptych.providers.preview import grades
from triptych.providers.preview.geometry import closer, cover, crop, flip, reduced, rotate, zoom
from triptych.providers.preview.masks import Dice, clouds, noise, radial, ramp
from triptych.providers.preview.wording import Op

LUT_STEPS = 17


def apply(image: Image.Image, ops: Sequence[Op], seed: str = "") -> Image.Image:
    """Return the RGB picture after all operations, in order; an operation nobody knows changes nothing."""
    pending: list[Op] = []
    for op in ops:
        if op.name in grades.GRADES:
            pending.append(op)
        if op.name in EFFECTS:
            image = EFFECTS[op.name](_graded(image, pending), op, seed)
            pending = []
    return _graded(image, pending)


def distance(one: Image.Image, other: Image.Image) -> float:
    """Return the mean absolute difference of two pictures, 0 to 255, both seen at 48×48."""
    small = [image.convert("RGB").resize((48, 48), Image.Resampling.BOX) for image in (one, other)]
    return sum(ImageStat.Stat(ImageChops.difference(*small)).mean) / 3


def nudged(image: Image.Image, amount: int) -> Image.Image:
    """Return the picture lighter by `amount` levels, or darker if it is a light one."""
    level = sum(ImageStat.Stat(image.resize((16, 16))).mean) / 3
    step = amount if level < 128 else -amount
    return image.point([max(0, min(255, value + step)) for value in range(256)] * 3)


def like(image: Image.Image, reference: Image.Image, strength: float = 0.65) -> Image.Image:
    """Return the picture with the reference's brightness, contrast and colour cast, part of the way."""
    ours, theirs = (ImageStat.Stat(one.convert("YCbCr").resize((96, 96))) for one in (image, reference))
    table: list[int] = []
    for band in range(3):
        gain = max(0.5, min(2.0, (theirs.stddev[band] + 4) / (ours.stddev[band] + 4)))
        for value in range(256):
            moved = (value - ours.mean[band]) * gain + theirs.mean[band]
            table.append(max(0, min(255, round(value + (moved - value) * strength))))
    return image.convert("YCbCr").point(table).convert("RGB")


def _scaled_mask(mask: Image.Image, amount: float) -> Image.Image:
    return mask.point([max(0, min(255, round(value * amount))) for value in range(256)])


def _flat(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", image.size, colour)


# --- grading: any function of a colour, through one table ---


def _graded(image: Image.Image, ops: Sequence[Op]) -> Image.Image:
    if not ops:
        return image
    return image.filter(_table(tuple((op.name, round(op.strength, 2), op.argument) for op in ops)))


@lru_cache(maxsize=64)
def _table(ops: tuple[tuple[str, float, str], ...]) -> ImageFilter.Color3DLUT:
    def moved(r: float, g: float, b: float) -> tuple[float, float, float]:
        for name, strength, argument in ops:
            r, g, b = grades.GRADES[name](r, g, b, strength, argument)
            r, g, b = min(1.0, max(0.0, r)), min(1.0, max(0.0, g)), min(1.0, max(0.0, b))
        return r, g, b

    return ImageFilter.Color3DLUT.generate(LUT_STEPS, moved)


# --- light ---


def _vignette(image: Image.Image, op: Op, seed: str) -> Image.Image:
    light = radial(image.size, (0.5, 0.5), 0.92, 0.55)
    edge = light.point([round(max(0.0, 1 - value / 190) * 215 * min(1.2, op.strength)) for value in range(256)])
    return Image.composite(_flat(image, (10, 10, 14)), image, edge)


def _glow_from(
    image: Image.Image, centre: tuple[float, float], radius: float, colour: tuple[int, int, int], amount: float
) -> Image.Image:
    """Return the picture with coloured light falling in from one side."""
    light = Image.composite(
        _flat(image, colour), _flat(image, (0, 0, 0)), _scaled_mask(radial(image.size, centre, radius), amount)
    )
    return ImageChops.screen(image, light)


def _washed(image: Image.Image, stops: Sequence[tuple[float, tuple[int, int, int]]], amount: float) -> Image.Image:
    """Return the picture under a vertical wash of light: soft light, so that its shapes stay."""
    return Image.blend(image, ImageChops.soft_light(image, ramp(image.size, stops)), min(1.0, amount))


def _golden(image: Image.Image, op: Op, seed: str) -> Image.Image:
    image = _glow_from(image, (0.95, 0.12), 1.0, (255, 176, 84), 0.55 * min(1.5, op.strength))
    return _vignette(image, Op("vignette", 0.3), seed)


def _sunset(image: Image.Image, op: Op, seed: str) -> Image.Image:
    amount = min(1.5, op.strength)
    image = _washed(
        image, ((0, (96, 60, 150)), (0.45, (236, 110, 96)), (0.75, (255, 160, 70)), (1, (120, 50, 60))), amount
    )
    return _glow_from(image, (0.5, 0.62), 0.62, (255, 120, 50), 0.42 * amount)


def _dawn(image: Image.Image, op: Op, seed: str) -> Image.Image:
    amount = min(1.5, op.strength)
    image = _washed(image, ((0, (120, 140, 200)), (0.5, (240, 170, 190)), (1, (255, 210, 170))), amount)
    return _glow_from(image, (0.2, 0.55), 0.8, (255, 190, 190), 0.34 * amount)


def _dusk(image: Image.Image, op: Op, seed: str) -> Image.Image:
    image = _washed(image, ((0, (34, 44, 110)), (0.6, (84, 88, 146)), (1, (176, 112, 128))), min(1.0, op.strength))
    return _vignette(image, Op("vignette", 0.45), seed)


def _night(image: Image.Image, op: Op, seed: str) -> Image.Image:
    image = _glow_from(image, (0.82, 0.02), 0.55, (90, 120, 190), 0.4 * min(1.3, op.strength))
    return _vignette(image, Op("vignette", 0.7), seed)


def _spring(image: Image.Image, op: Op, seed: str) -> Image.Image:
    image = _glow_from(image, (0.08, 0.05), 0.9, (255, 214, 226), 0.4 * min(1.5, op.strength))
    return _drift(image, f"{seed}petals", 40, ((255, 196, 214), (248, 164, 192), (255, 224, 234)), 0.021, op.strength)


def _summer(image: Image.Image, op: Op, seed: str) -> Image.Image:
    return _glow_from(image, (0.9, 0.0), 0.8, (255, 226, 140), 0.5 * min(1.5, op.strength))


def _autumn(image: Image.Image, op: Op, seed: str) -> Image.Image:
    image = _vignette(_glow_from(image, (0.1, 0.1), 0.8, (255, 150, 60), 0.26), Op("vignette", 0.4), seed)
    return _drift(
        image, f"{seed}leaves", 26, ((205, 92, 28), (226, 144, 40), (160, 58, 26), (214, 170, 60)), 0.036, op.strength
    )


def _winter(image: Image.Image, op: Op, seed: str) -> Image.Image:
    frost = radial(image.size, (0.5, 0.5), 0.95, 0.5)
    edge = frost.point([round(max(0.0, 1 - value / 185) * 165 * min(1.3, op.strength)) for value in range(256)])
    return _snow(Image.composite(_flat(image, (232, 240, 250)), image, edge), Op("snow", op.strength), seed)


def _drift(
    image: Image.Image, seed: str, count: int, colours: Sequence[tuple[int, int, int]], size: float, strength: float
) -> Image.Image:
    """Return the picture with petals or leaves in the air, the near ones large and soft."""
    dice, unit = Dice(seed), max(image.size)
    for depth, (share, near, soft) in enumerate(((0.55, 0.7, 0.0008), (0.35, 1.1, 0.0018), (0.1, 2.3, 0.006))):
        layer = Image.new("RGBA", image.size, (*colours[depth % len(colours)], 0))
        draw = ImageDraw.Draw(layer)
        for _ in range(max(1, round(count * share * min(1.6, strength)))):
            x, y, turn = dice(0, image.width), dice(0, image.height), dice(0, math.tau)
            long, thin = size * near * unit * dice(0.7, 1.2), dice(0.28, 0.6)
            points = []
            for n in range(14):
                angle = n * math.tau / 14
                bulge = 1 - 0.45 * abs(math.cos(angle)) ** 3
                px, py = math.cos(angle) * long / 2, math.sin(angle) * long * thin * bulge / 2 * 1.5
                points.append(
                    (x + px * math.cos(turn) - py * math.sin(turn), y + px * math.sin(turn) + py * math.cos(turn))
                )
            draw.polygon(points, fill=(*colours[int(dice(0, len(colours)))], 225))
        layer = layer.filter(ImageFilter.GaussianBlur(max(0.5, soft * unit)))
        image = Image.composite(layer.convert("RGB"), image, layer.getchannel("A"))
    return image


# --- weather ---


def _snow(image: Image.Image, op: Op, seed: str) -> Image.Image:
    unit, dice = max(image.size), Dice(f"{seed}snow")
    veil = Image.new("L", image.size, round(22 * min(1.5, op.strength)))
    for flakes, radius, soft, light in (
        (420, 0.0016, 0.0006, 215),
        (150, 0.0032, 0.0012, 235),
        (26, 0.009, 0.0055, 190),
    ):
        layer = Image.new("L", image.size)
        draw = ImageDraw.Draw(layer)
        for _ in range(round(flakes * min(1.8, op.strength))):
            x, y, r = dice(0, image.width), dice(0, image.height), radius * unit * dice(0.6, 1.3)
            draw.ellipse((x - r, y - r, x + r, y + r), fill=light)
        veil = ImageChops.screen(veil, layer.filter(ImageFilter.GaussianBlur(max(0.4, soft * unit))))
    return Image.composite(_flat(image, (250, 252, 255)), image, veil)


def _rain(image: Image.Image, op: Op, seed: str) -> Image.Image:
    unit, dice = max(image.size), Dice(f"{seed}rain")
    veil = Image.new("L", image.size, round(26 * min(1.5, op.strength)))
    for drops, length, light in ((520, 0.035, 74), (170, 0.07, 120)):
        layer = Image.new("L", image.size)
        draw = ImageDraw.Draw(layer)
        for _ in range(round(drops * min(1.8, op.strength))):
            x, y, reach = dice(-0.1, 1.1) * image.width, dice(-0.1, 1.0) * image.height, length * unit * dice(0.7, 1.3)
            draw.line((x, y, x - reach * 0.2, y + reach), fill=round(light * dice(0.6, 1.2)), width=max(1, unit // 900))
        veil = ImageChops.screen(veil, layer.filter(ImageFilter.GaussianBlur(max(0.3, unit / 2200))))
    return Image.composite(_flat(image, (206, 218, 230)), image, veil)


def _fog(image: Image.Image, op: Op, seed: str) -> Image.Image:
    billows = _scaled_mask(clouds(image.size, f"{seed}fog", 3), 0.6)
    rise = ramp(image.size, ((0, (120, 120, 120)), (0.45, (150, 150, 150)), (1, (215, 215, 215)))).getchannel(0)
    veil = Image.blend(billows, rise, 0.62)
    return Image.composite(_flat(image, (226, 230, 233)), image, _scaled_mask(veil, min(1.35, 0.95 * op.strength)))


def _sunny(image: Image.Image, op: Op, seed: str) -> Image.Image:
    return _glow_from(image, (0.85, 0.0), 0.8, (255, 236, 170), 0.65 * min(1.5, op.strength))


# --- focus and texture ---


def _grain(image: Image.Image, op: Op, seed: str) -> Image.Image:
    field = noise(image.size, f"{seed}grain", max(1.0, max(image.size) / 900))
    amount = 0.42 * min(1.6, op.strength)
    grain = field.point([max(0, min(255, round(128 + (value - 128) * amount * 1.5))) for value in range(256)])
    return ImageChops.overlay(image, Image.merge("RGB", (grain, grain, grain)))


def _vintage(image: Image.Image, op: Op, seed: str) -> Image.Image:
    return _vignette(_grain(image, Op("grain", 0.4), seed), Op("vignette", 0.35), seed)


def _blur(image: Image.Image, op: Op, seed: str) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(max(0.8, 0.009 * op.strength * max(image.size))))


def _glow(image: Image.Image, op: Op, seed: str) -> Image.Image:
    soft = image.filter(ImageFilter.GaussianBlur(max(0.8, 0.014 * max(image.size))))
    lit = ImageChops.screen(image, soft)
    return Image.blend(Image.blend(image, soft, 0.35), lit, 0.5 * min(1.4, op.strength))


def _sharpen(image: Image.Image, op: Op, seed: str) -> Image.Image:
    radius = max(1.0, max(image.size) / 700)
    image = image.filter(ImageFilter.UnsharpMask(radius * 12, round(18 * op.strength), 0))
    return image.filter(ImageFilter.UnsharpMask(radius, round(150 * op.strength), 2))


def _levels(image: Image.Image, op: Op, seed: str) -> Image.Image:
    """Grey world: the average moves most of the way to neutral; then the range is stretched."""
    means = ImageStat.Stat(image).mean
    grey = sum(means) / 3
    gains = [max(0.5, min(2.2, (grey + 1) / (mean + 1))) ** 0.75 for mean in means]
    table = [min(255, round(value * gain)) for gain in gains for value in range(256)]
    return ImageOps.autocontrast(image.point(table), cutoff=0.5, preserve_tone=True)


# --- media ---


def _sketch(image: Image.Image, op: Op, seed: str) -> Image.Image:
    unit = max(image.size)
    grey = ImageOps.autocontrast(image.convert("L"), cutoff=1)
    grey = grey.filter(ImageFilter.GaussianBlur(unit / 900))
    lines = Image.new("L", image.size, 255)
    for reach, gain in ((0.0035, 5.2), (0.014, 2.0)):
        around = grey.filter(ImageFilter.GaussianBlur(max(0.7, reach * unit)))
        dark = ImageChops.subtract(around, grey)
        stroke = dark.point([255 - min(235, round(max(0, value - 3) * gain)) for value in range(256)])
        lines = ImageChops.multiply(lines, stroke)
    hatch = noise((max(1, image.width // 7), image.height), f"{seed}hatch", max(1.0, unit / 1300)).resize(image.size)
    hatch = hatch.rotate(-38, Image.Resampling.BILINEAR, fillcolor=128, expand=False).resize(image.size)
    shade = grey.point([round(min(255, 182 + value * 0.5)) for value in range(256)])
    texture = ImageChops.multiply(
        shade, hatch.point([min(255, round(214 + (value - 128) * 1.0)) for value in range(256)])
    )
    toned = Image.composite(
        Image.new("L", image.size, 255), texture, grey.point([min(255, round(value * 1.25)) for value in range(256)])
    )
    return ImageOps.colorize(ImageChops.multiply(lines, toned), (38, 38, 44), (250, 248, 243))


def _watercolour(image: Image.Image, op: Op, seed: str) -> Image.Image:
    small = reduced(image, 560)
    flat = small.filter(ImageFilter.MedianFilter(5)).filter(ImageFilter.MedianFilter(5))
    edges = flat.convert("L").filter(ImageFilter.GaussianBlur(1)).filter(ImageFilter.FIND_EDGES)
    edges = ImageOps.expand(ImageOps.crop(edges, 2), 2, 0) if min(edges.size) > 8 else edges
    wash = flat.filter(_table((("wash", 1.0, ""),))).resize(image.size, Image.Resampling.BICUBIC)
    rim = edges.resize(image.size, Image.Resampling.BICUBIC).point([255 - min(120, value * 2) for value in range(256)])
    bleed = clouds(image.size, f"{seed}bleed", 7).point([round(205 + value * 0.2) for value in range(256)])
    grit = noise(image.size, f"{seed}paper", max(1.3, max(image.size) / 800))
    paper = grit.point([min(255, round(246 + (value - 128) * 0.16)) for value in range(256)])
    for mask in (rim, bleed, paper):
        wash = ImageChops.multiply(wash, Image.merge("RGB", (mask, mask, mask)))
    inset = max(1, round(0.035 * min(image.size)))
    sheet_edge = Image.new("L", image.size)
    sheet_edge.paste(255, (inset, inset, max(inset + 1, image.width - inset), max(inset + 1, image.height - inset)))
    soft = sheet_edge.filter(ImageFilter.GaussianBlur(inset * 0.8))
    ragged = ImageChops.add(soft, clouds(image.size, f"{seed}edge", 12), 2)
    margin = ragged.point([max(0, min(255, (118 - value) * 14)) for value in range(256)])
    return Image.composite(_flat(image, (250, 248, 242)), wash, margin)


def _oil(image: Image.Image, op: Op, seed: str) -> Image.Image:
    small = reduced(image, 560)
    flat = small.filter(ImageFilter.ModeFilter(7)).filter(ImageFilter.MedianFilter(3))
    flat = flat.filter(_table((("vivid", 0.7, ""), ("contrast", 0.4, "")))).resize(image.size, Image.Resampling.BICUBIC)
    relief = (
        flat.convert("L").filter(ImageFilter.GaussianBlur(max(0.6, max(image.size) / 1400))).filter(ImageFilter.EMBOSS)
    )
    strokes = noise((max(1, image.width // 10), image.height), f"{seed}brush", max(1.0, max(image.size) / 500))
    strokes = strokes.resize(image.size, Image.Resampling.BICUBIC).point(
        [round(128 + (value - 128) * 0.55) for value in range(256)]
    )
    relief = Image.blend(relief, strokes, 0.45)
    return ImageChops.overlay(flat, Image.merge("RGB", (relief, relief, relief)))


def _poster(image: Image.Image, op: Op, seed: str) -> Image.Image:
    small = reduced(image, 720)
    flat = ImageOps.autocontrast(small.filter(ImageFilter.MedianFilter(5)), cutoff=1, preserve_tone=True)
    flat = flat.filter(_table((("vivid", 1.4, ""),)))
    levels = [round(round(value / 255 * 4) * 255 / 4) for value in range(256)]
    flat = flat.resize(image.size, Image.Resampling.BICUBIC).point(levels * 3)
    return flat.filter(ImageFilter.ModeFilter(3)) if max(image.size) <= 700 else flat


def _pixelate(image: Image.Image, op: Op, seed: str) -> Image.Image:
    across = max(8, round(64 / max(0.4, op.strength)))
    return reduced(image, across).resize(image.size, Image.Resampling.NEAREST)


# --- takes, frames, words ---


def _variation(image: Image.Image, op: Op, seed: str) -> Image.Image:
    """Another take: a step closer from another side, and another light; the tone goes up and down in turn."""
    step = round(op.strength)
    dice = Dice(f"variation {step}")
    image = closer(image, 1 - 0.05 - 0.035 * (step % 4), (dice(), dice()))
    tone = (0.10 + 0.035 * (step // 2)) * (1 if step % 2 else -1)
    warmth = (0.0, 0.5, -0.5, 0.25)[step % 4]
    return _graded(
        image, (Op("bright" if tone > 0 else "dark", 4 * abs(tone)), Op("warm" if warmth >= 0 else "cool", abs(warmth)))
    )


def _frame(image: Image.Image, op: Op, seed: str) -> Image.Image:
    colour = {"black": (22, 22, 24), "wood": (112, 78, 48)}.get(op.argument, (252, 251, 248))
    unit = min(image.size)
    wide = max(1, round(0.05 * unit * min(1.6, op.strength)))
    inner = (max(1, image.width - 2 * wide), max(1, image.height - 2 * wide))
    framed = _flat(image, colour)
    framed.paste(cover(image, inner), (wide, wide))
    if op.argument == "wood" and unit > 60:
        draw = ImageDraw.Draw(framed)
        draw.rectangle((0, 0, image.width - 1, image.height - 1), outline=(150, 110, 70), width=max(1, wide // 5))
        draw.rectangle(
            (wide - wide // 6, wide - wide // 6, image.width - wide, image.height - wide),
            outline=(70, 46, 28),
            width=max(1, wide // 6),
        )
    return framed


def _caption(image: Image.Image, op: Op, seed: str) -> Image.Image:
    """Words on a dark, rounded plate near the lower (or upper) edge, as large as a line of them can be."""
    text = contact_sheet.printable(op.argument)[:160]
    if not text or min(image.size) < 24:
        return image
    size = max(9, round(min(image.width * 0.07, image.height * 0.085)))
    while size > 9 and contact_sheet.font(size).getlength(text) > image.width * 0.84:
        size -= 1
    face = contact_sheet.font(size)
    lines = contact_sheet.wrapped(text, face, image.width * 0.86, 3)
    line_height = round(size * 1.28)
    wide = max(face.getlength(line) for line in lines) + size * 1.5
    high = line_height * len(lines) + size * 0.75
    left = (image.width - wide) / 2
    top = image.height * 0.06 if op.name == "caption_top" else image.height * 0.94 - high
    plate = Image.new("L", image.size)
    ImageDraw.Draw(plate).rounded_rectangle((left, top, left + wide, top + high), size * 0.55, fill=176)
    image = Image.composite(_flat(image, (14, 15, 18)), image, plate)
    draw = ImageDraw.Draw(image)
    for n, line in enumerate(lines):
        x = (image.width - face.getlength(line)) / 2
        draw.text((x, top + size * 0.26 + n * line_height), line, (255, 255, 255), face)
    return image


EFFECTS: dict[str, Callable[[Image.Image, Op, str], Image.Image]] = {
    "vignette": _vignette, "golden": _golden, "sunset": _sunset, "dawn": _dawn, "dusk": _dusk, "night": _night,
    "spring": _spring, "summer": _summer, "autumn": _autumn, "winter": _winter, "snow": _snow, "rain": _rain,
    "fog": _fog,
    "sunny": _sunny, "grain": _grain, "vintage": _vintage, "blur": _blur, "glow": _glow, "sharpen": _sharpen,
    "levels": _levels, "sketch": _sketch, "watercolour": _watercolour, "oil": _oil, "poster": _poster,
    "pixelate": _pixelate, "crop": crop, "rotate": rotate, "flip": flip, "zoom": zoom, "variation": _variation,
    "frame": _frame, "caption": _caption, "caption_top": _caption,
}  # fmt: skip
"""Operations that need the whole picture. One that is also a grade is graded first, then gets its effect."""
