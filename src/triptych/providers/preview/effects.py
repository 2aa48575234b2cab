"""Named operations on a decoded picture: light, weather, focus, frames and captions; grading is in `tone`.

Rules: an operation and an RGB picture in, an RGB picture out. Randomness comes from a hash of the seed, so the same
call gives the same pixels. Sizes of flakes and type are fractions of the picture, so that an effect looks the same at
any resolution.

Must not know: words, prompts, files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps, ImageStat

from triptych.images import contact_sheet
from triptych.providers.preview import grades
from triptych.providers.preview.geometry import closer, cover, crop, flip, rotate, zoom
from triptych.providers.preview.masks import SeededRandom, clouds, noise, radial, ramp
from triptych.providers.preview.media import oil, pixelate, poster, sketch, watercolour
from triptych.providers.preview.tokens import ImageOperation
from triptych.providers.preview.tone import flat, graded, scaled_mask


def apply(image: Image.Image, ops: Sequence[ImageOperation], seed: str = "") -> Image.Image:
    """Return the RGB picture after all operations, in order; an unknown operation changes nothing."""
    pending: list[ImageOperation] = []
    for op in ops:
        if op.name in grades.GRADES:
            pending.append(op)
        if op.name in EFFECTS:
            image = EFFECTS[op.name](graded(image, pending), op, seed)
            pending = []
    return graded(image, pending)


# --- light ---


def _vignette(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    light = radial(image.size, (0.5, 0.5), 0.92, 0.55)
    edge = light.point([round(max(0.0, 1 - value / 190) * 215 * min(1.2, op.strength)) for value in range(256)])
    return Image.composite(flat(image, (10, 10, 14)), image, edge)


def _glow_from(
    image: Image.Image, centre: tuple[float, float], radius: float, colour: tuple[int, int, int], amount: float
) -> Image.Image:
    """Return the picture with coloured light falling in from one side."""
    light = Image.composite(
        flat(image, colour), flat(image, (0, 0, 0)), scaled_mask(radial(image.size, centre, radius), amount)
    )
    return ImageChops.screen(image, light)


def _washed(image: Image.Image, stops: Sequence[tuple[float, tuple[int, int, int]]], amount: float) -> Image.Image:
    """Return the picture under a vertical wash of light: soft light, so that its shapes stay."""
    return Image.blend(image, ImageChops.soft_light(image, ramp(image.size, stops)), min(1.0, amount))


def _golden(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    image = _glow_from(image, (0.95, 0.12), 1.0, (255, 176, 84), 0.55 * min(1.5, op.strength))
    return _vignette(image, ImageOperation("vignette", 0.3), seed)


def _sunset(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    amount = min(1.5, op.strength)
    image = _washed(
        image, ((0, (96, 60, 150)), (0.45, (236, 110, 96)), (0.75, (255, 160, 70)), (1, (120, 50, 60))), amount
    )
    return _glow_from(image, (0.5, 0.62), 0.62, (255, 120, 50), 0.42 * amount)


def _dawn(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    amount = min(1.5, op.strength)
    image = _washed(image, ((0, (120, 140, 200)), (0.5, (240, 170, 190)), (1, (255, 210, 170))), amount)
    return _glow_from(image, (0.2, 0.55), 0.8, (255, 190, 190), 0.34 * amount)


def _dusk(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    image = _washed(image, ((0, (34, 44, 110)), (0.6, (84, 88, 146)), (1, (176, 112, 128))), min(1.0, op.strength))
    return _vignette(image, ImageOperation("vignette", 0.45), seed)


def _night(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    image = _glow_from(image, (0.82, 0.02), 0.55, (90, 120, 190), 0.4 * min(1.3, op.strength))
    return _vignette(image, ImageOperation("vignette", 0.7), seed)


def _spring(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    image = _glow_from(image, (0.08, 0.05), 0.9, (255, 214, 226), 0.4 * min(1.5, op.strength))
    return _drift(image, f"{seed}petals", 40, ((255, 196, 214), (248, 164, 192), (255, 224, 234)), 0.021, op.strength)


def _summer(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    return _glow_from(image, (0.9, 0.0), 0.8, (255, 226, 140), 0.5 * min(1.5, op.strength))


def _autumn(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    image = _vignette(_glow_from(image, (0.1, 0.1), 0.8, (255, 150, 60), 0.26), ImageOperation("vignette", 0.4), seed)
    return _drift(
        image, f"{seed}leaves", 26, ((205, 92, 28), (226, 144, 40), (160, 58, 26), (214, 170, 60)), 0.036, op.strength
    )


def _winter(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    frost = radial(image.size, (0.5, 0.5), 0.95, 0.5)
    edge = frost.point([round(max(0.0, 1 - value / 185) * 165 * min(1.3, op.strength)) for value in range(256)])
    return _snow(Image.composite(flat(image, (232, 240, 250)), image, edge), ImageOperation("snow", op.strength), seed)


def _drift(
    image: Image.Image, seed: str, count: int, colours: Sequence[tuple[int, int, int]], size: float, strength: float
) -> Image.Image:
    """Return the picture with petals or leaves in the air, the near ones large and soft."""
    rng, unit = SeededRandom(seed), max(image.size)
    for depth, (share, near, soft) in enumerate(((0.55, 0.7, 0.0008), (0.35, 1.1, 0.0018), (0.1, 2.3, 0.006))):
        layer = Image.new("RGBA", image.size, (*colours[depth % len(colours)], 0))
        draw = ImageDraw.Draw(layer)
        for _ in range(max(1, round(count * share * min(1.6, strength)))):
            x, y, turn = rng(0, image.width), rng(0, image.height), rng(0, math.tau)
            long, thin = size * near * unit * rng(0.7, 1.2), rng(0.28, 0.6)
            points = []
            for n in range(14):
                angle = n * math.tau / 14
                bulge = 1 - 0.45 * abs(math.cos(angle)) ** 3
                px, py = math.cos(angle) * long / 2, math.sin(angle) * long * thin * bulge / 2 * 1.5
                points.append(
                    (x + px * math.cos(turn) - py * math.sin(turn), y + px * math.sin(turn) + py * math.cos(turn))
                )
            draw.polygon(points, fill=(*colours[int(rng(0, len(colours)))], 225))
        layer = layer.filter(ImageFilter.GaussianBlur(max(0.5, soft * unit)))
        image = Image.composite(layer.convert("RGB"), image, layer.getchannel("A"))
    return image


# --- weather ---


def _snow(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    unit, rng = max(image.size), SeededRandom(f"{seed}snow")
    veil = Image.new("L", image.size, round(22 * min(1.5, op.strength)))
    for flakes, radius, soft, light in (
        (420, 0.0016, 0.0006, 215),
        (150, 0.0032, 0.0012, 235),
        (26, 0.009, 0.0055, 190),
    ):
        layer = Image.new("L", image.size)
        draw = ImageDraw.Draw(layer)
        for _ in range(round(flakes * min(1.8, op.strength))):
            x, y, r = rng(0, image.width), rng(0, image.height), radius * unit * rng(0.6, 1.3)
            draw.ellipse((x - r, y - r, x + r, y + r), fill=light)
        veil = ImageChops.screen(veil, layer.filter(ImageFilter.GaussianBlur(max(0.4, soft * unit))))
    return Image.composite(flat(image, (250, 252, 255)), image, veil)


def _rain(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    unit, rng = max(image.size), SeededRandom(f"{seed}rain")
    veil = Image.new("L", image.size, round(26 * min(1.5, op.strength)))
    for drops, length, light in ((520, 0.035, 74), (170, 0.07, 120)):
        layer = Image.new("L", image.size)
        draw = ImageDraw.Draw(layer)
        for _ in range(round(drops * min(1.8, op.strength))):
            x, y, reach = rng(-0.1, 1.1) * image.width, rng(-0.1, 1.0) * image.height, length * unit * rng(0.7, 1.3)
            draw.line((x, y, x - reach * 0.2, y + reach), fill=round(light * rng(0.6, 1.2)), width=max(1, unit // 900))
        veil = ImageChops.screen(veil, layer.filter(ImageFilter.GaussianBlur(max(0.3, unit / 2200))))
    return Image.composite(flat(image, (206, 218, 230)), image, veil)


def _fog(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    billows = scaled_mask(clouds(image.size, f"{seed}fog", 3), 0.6)
    rise = ramp(image.size, ((0, (120, 120, 120)), (0.45, (150, 150, 150)), (1, (215, 215, 215)))).getchannel(0)
    veil = Image.blend(billows, rise, 0.62)
    return Image.composite(flat(image, (226, 230, 233)), image, scaled_mask(veil, min(1.35, 0.95 * op.strength)))


def _sunny(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    return _glow_from(image, (0.85, 0.0), 0.8, (255, 236, 170), 0.65 * min(1.5, op.strength))


# --- focus and texture ---


def _grain(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    field = noise(image.size, f"{seed}grain", max(1.0, max(image.size) / 900))
    amount = 0.42 * min(1.6, op.strength)
    grain = field.point([max(0, min(255, round(128 + (value - 128) * amount * 1.5))) for value in range(256)])
    return ImageChops.overlay(image, Image.merge("RGB", (grain, grain, grain)))


def _vintage(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    return _vignette(_grain(image, ImageOperation("grain", 0.4), seed), ImageOperation("vignette", 0.35), seed)


def _blur(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(max(0.8, 0.009 * op.strength * max(image.size))))


def _glow(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    soft = image.filter(ImageFilter.GaussianBlur(max(0.8, 0.014 * max(image.size))))
    lit = ImageChops.screen(image, soft)
    return Image.blend(Image.blend(image, soft, 0.35), lit, 0.5 * min(1.4, op.strength))


def _sharpen(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    radius = max(1.0, max(image.size) / 700)
    image = image.filter(ImageFilter.UnsharpMask(radius * 12, round(18 * op.strength), 0))
    return image.filter(ImageFilter.UnsharpMask(radius, round(150 * op.strength), 2))


def _levels(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    """Grey world: the average moves most of the way to neutral; then the range is stretched."""
    means = ImageStat.Stat(image).mean
    grey = sum(means) / 3
    gains = [max(0.5, min(2.2, (grey + 1) / (mean + 1))) ** 0.75 for mean in means]
    table = [min(255, round(value * gain)) for gain in gains for value in range(256)]
    return ImageOps.autocontrast(image.point(table), cutoff=0.5, preserve_tone=True)


# --- takes, frames, words ---


def _variation(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    """Another take: a step closer from another side, and another light; the tone goes up and down in turn."""
    step = round(op.strength)
    rng = SeededRandom(f"variation {step}")
    image = closer(image, 1 - 0.05 - 0.035 * (step % 4), (rng(), rng()))
    tone = (0.10 + 0.035 * (step // 2)) * (1 if step % 2 else -1)
    warmth = (0.0, 0.5, -0.5, 0.25)[step % 4]
    return graded(
        image,
        (
            ImageOperation("bright" if tone > 0 else "dark", 4 * abs(tone)),
            ImageOperation("warm" if warmth >= 0 else "cool", abs(warmth)),
        ),
    )


def _frame(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    colour = {"black": (22, 22, 24), "wood": (112, 78, 48)}.get(op.argument, (252, 251, 248))
    unit = min(image.size)
    wide = max(1, round(0.05 * unit * min(1.6, op.strength)))
    inner = (max(1, image.width - 2 * wide), max(1, image.height - 2 * wide))
    framed = flat(image, colour)
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


def _caption(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
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
    image = Image.composite(flat(image, (14, 15, 18)), image, plate)
    draw = ImageDraw.Draw(image)
    for n, line in enumerate(lines):
        x = (image.width - face.getlength(line)) / 2
        draw.text((x, top + size * 0.26 + n * line_height), line, (255, 255, 255), face)
    return image


EFFECTS: dict[str, Callable[[Image.Image, ImageOperation, str], Image.Image]] = {
    "vignette": _vignette, "golden": _golden, "sunset": _sunset, "dawn": _dawn, "dusk": _dusk, "night": _night,
    "spring": _spring, "summer": _summer, "autumn": _autumn, "winter": _winter, "snow": _snow, "rain": _rain,
    "fog": _fog,
    "sunny": _sunny, "grain": _grain, "vintage": _vintage, "blur": _blur, "glow": _glow, "sharpen": _sharpen,
    "levels": _levels, "sketch": sketch, "watercolour": watercolour, "oil": oil, "poster": poster,
    "pixelate": pixelate, "crop": crop, "rotate": rotate, "flip": flip, "zoom": zoom, "variation": _variation,
    "frame": _frame, "caption": _caption, "caption_top": _caption,
}  # fmt: skip
"""Operations that need the whole picture. One that is also a grade is graded first, then gets its effect."""
