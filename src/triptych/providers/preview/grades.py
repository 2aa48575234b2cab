"""Grading: named functions of one colour, without its picture.

Rules: red, green and blue from 0 to 1 in, and out (the caller clips); `strength` 1 is the plain word, 0 would change
nothing. Fast enough to be tabulated 5,000 times.

Must not know: pictures, tables, words.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

from triptych.providers.preview.vocabulary import COLOURS

RGB = tuple[float, float, float]
Grade = Callable[[float, float, float, float, str], RGB]


def luma(r: float, g: float, b: float) -> float:
    return 0.299 * r + 0.587 * g + 0.114 * b


def mixed(one: RGB, two: RGB, part: float) -> RGB:
    return one[0] + (two[0] - one[0]) * part, one[1] + (two[1] - one[1]) * part, one[2] + (two[2] - one[2]) * part


def saturated(r: float, g: float, b: float, gain: float) -> RGB:
    """Return the colour with its distance from grey times `gain`."""
    y = luma(r, g, b)
    return y + (r - y) * gain, y + (g - y) * gain, y + (b - y) * gain


def curved(value: float, amount: float) -> float:
    """Return the value on an S-curve through the middle; a negative amount flattens."""
    if amount < 0:
        return value + (0.5 - value) * min(0.8, -amount * 0.55)
    value = min(1.0, max(0.0, value))
    bent = value * value * (3 - 2 * value)
    return value + (bent - value) * amount


def brightened(value: float, amount: float) -> float:
    """Return the value lifted (or lowered) most in the middle, black and white left almost alone."""
    value = min(1.0, max(0.0, value))
    return float(value ** (2.0 ** (-amount * 1.15))) * (1 + amount * 0.04) + max(0.0, amount) * 0.015


def _three(change: Callable[[float, float], float], r: float, g: float, b: float, amount: float) -> RGB:
    return change(r, amount), change(g, amount), change(b, amount)


def _warm(r: float, g: float, b: float, s: float, _: str) -> RGB:
    return r * (1 + 0.13 * s) + 0.015 * s, g * (1 + 0.025 * s), b * (1 - 0.24 * s)


def _cool(r: float, g: float, b: float, s: float, _: str) -> RGB:
    return r * (1 - 0.2 * s), g * (1 - 0.015 * s), b * (1 + 0.13 * s) + 0.03 * s


def _bright(r: float, g: float, b: float, s: float, _: str) -> RGB:
    return _three(brightened, r, g, b, 0.62 * s)


def _dark(r: float, g: float, b: float, s: float, _: str) -> RGB:
    return _three(brightened, r, g, b, -0.68 * s)


def _contrast(r: float, g: float, b: float, s: float, _: str) -> RGB:
    return saturated(*_three(curved, r, g, b, 0.95 * s), 1 + 0.06 * s)


def _flat(r: float, g: float, b: float, s: float, _: str) -> RGB:
    return _three(curved, r, g, b, -0.75 * s)


def _vivid(r: float, g: float, b: float, s: float, _: str) -> RGB:
    return saturated(r, g, b, 1 + 0.65 * s)


def _muted(r: float, g: float, b: float, s: float, _: str) -> RGB:
    r, g, b = saturated(r, g, b, max(0.1, 1 - 0.58 * s))
    return 0.03 * s + r * (1 - 0.03 * s), 0.03 * s + g * (1 - 0.03 * s), 0.03 * s + b * (1 - 0.03 * s)


def _mono(r: float, g: float, b: float, s: float, _: str) -> RGB:
    y = curved(0.36 * r + 0.5 * g + 0.14 * b, 0.4)
    return y, y, y


def _sepia(r: float, g: float, b: float, s: float, _: str) -> RGB:
    y = curved(luma(r, g, b), 0.2) ** 0.95
    return mixed((r, g, b), (0.07 + y * 1.0, 0.035 + y * 0.86, 0.01 + y * 0.66), min(1.0, 0.95 * s))


def _vintage(r: float, g: float, b: float, s: float, _: str) -> RGB:
    r, g, b = saturated(r, g, b, 0.72)
    return 0.1 + r * 0.88, 0.07 + g * 0.83, 0.11 + b * 0.62


def _teal_orange(r: float, g: float, b: float, s: float, _: str) -> RGB:
    y = luma(r, g, b)
    shade, light = 1 - y, y
    r, g, b = _three(curved, r, g, b, 0.5)
    return (
        r + (0.13 * light - 0.13 * shade) * s,
        g + (0.02 * light + 0.03 * shade) * s,
        b + (0.12 * shade - 0.15 * light) * s,
    )


def _invert(r: float, g: float, b: float, s: float, _: str) -> RGB:
    return 1 - r, 1 - g, 1 - b


def _tint(r: float, g: float, b: float, s: float, name: str) -> RGB:
    red, green, blue = (channel / 255 for channel in COLOURS.get(name, (128, 128, 128)))
    y = luma(r, g, b)
    if y < 0.5:
        toned = red * y * 2, green * y * 2, blue * y * 2
    else:
        part = (y - 0.5) * 2
        toned = red + (1 - red) * part, green + (1 - green) * part, blue + (1 - blue) * part
    return mixed((r, g, b), toned, min(1.0, 0.68 * s))


def _foliage(colour: RGB, hue_to: float, gain: float, part: float) -> RGB:
    """Move greens towards another hue (0 to 1); every other colour stays."""
    r, g, b = (min(1.0, max(0.0, channel)) for channel in colour)
    hue, light, sat = colorsys.rgb_to_hls(r, g, b)
    near = max(0.0, 1 - abs(hue - 0.29) / 0.17) * part
    return colorsys.hls_to_rgb(hue + (hue_to - hue) * near, light, min(1.0, sat * (1 + (gain - 1) * near)))


def _spring(r: float, g: float, b: float, s: float, _: str) -> RGB:
    r, g, b = _foliage((r, g, b), 0.26, 1.25, 0.8)
    r, g, b = _three(brightened, *saturated(r, g, b, 1.12), 0.4 * s)
    y = luma(r, g, b)
    return r + 0.02 * s * y, g + (0.06 - 0.035 * y) * s, b + 0.05 * y * s


def _summer(r: float, g: float, b: float, s: float, _: str) -> RGB:
    r, g, b = _three(brightened, r, g, b, 0.12 * s)
    r, g, b = saturated(*_three(curved, r, g, b, 0.6 * s), 1 + 0.3 * s)
    return r * (1 + 0.07 * s), g * (1 + 0.035 * s), b * (1 - 0.07 * s)


def _autumn(r: float, g: float, b: float, s: float, _: str) -> RGB:
    r, g, b = _foliage((r, g, b), 0.085, 1.3, 1.0)
    r, g, b = _three(curved, r, g, b, 0.35 * s)
    y = luma(r, g, b)
    r, g, b = mixed((r, g, b), (y * 1.22 + 0.04, y * 0.84 + 0.01, y * 0.42), 0.36 * s)
    return r * (1 + 0.03 * s), g * (1 - 0.05 * s), b * (1 - 0.16 * s)


def _winter(r: float, g: float, b: float, s: float, _: str) -> RGB:
    r, g, b = saturated(r, g, b, max(0.1, 1 - 0.62 * s))
    r, g, b = _three(brightened, r, g, b, 0.34 * s)
    return r * (1 - 0.1 * s) + 0.02 * s, g * (1 - 0.02 * s) + 0.035 * s, b * (1 + 0.05 * s) + 0.075 * s


def _dawn(r: float, g: float, b: float, s: float, _: str) -> RGB:
    r, g, b = _three(curved, *saturated(r, g, b, 0.82), -0.28 * s)
    return r * (1 + 0.05 * s) + 0.02 * s, g * (1 - 0.03 * s), b * (1 + 0.03 * s) + 0.02 * s


def _morning(r: float, g: float, b: float, s: float, _: str) -> RGB:
    r, g, b = _three(brightened, r, g, b, 0.36 * s)
    return r * (1 + 0.06 * s), g * (1 + 0.03 * s), b * (1 - 0.07 * s)


def _noon(r: float, g: float, b: float, s: float, _: str) -> RGB:
    r, g, b = _three(curved, *_three(brightened, r, g, b, 0.34 * s), 0.5 * s)
    return saturated(r, g, b, 1 + 0.16 * s)


def _golden(r: float, g: float, b: float, s: float, _: str) -> RGB:
    y = luma(r, g, b)
    r, g, b = mixed((r, g, b), (y * 1.2 + 0.06, y * 0.94 + 0.015, y * 0.52), 0.32 * s)
    return saturated(r * (1 + 0.08 * s), g, b * (1 - 0.16 * s), 1 + 0.12 * s)


def _sunset(r: float, g: float, b: float, s: float, _: str) -> RGB:
    r, g, b = _three(brightened, r, g, b, -0.2 * s)
    return r * (1 + 0.08 * s), g * (1 - 0.07 * s), b * (1 - 0.06 * s) + 0.04 * s


def _dusk(r: float, g: float, b: float, s: float, _: str) -> RGB:
    y = luma(r, g, b)
    r, g, b = mixed((r, g, b), (y * 0.62, y * 0.66, y * 1.0 + 0.05), 0.5 * s)
    return _three(brightened, r, g, b, -0.45 * s)


def _night(r: float, g: float, b: float, s: float, _: str) -> RGB:
    """Day for night: everything dark and blue, but what was brightest still burns, and warm."""
    y = luma(r, g, b)
    low = min(1.0, max(0.0, y)) ** 1.55
    blue = low * 0.4 + 0.012, low * 0.52 + 0.025, low * 0.84 + 0.075
    kept = saturated(r, g, b, 0.85)
    burning = max(0.0, (max(r, g) - 0.86) / 0.14) ** 1.6 * (1.0 if r >= b else 0.25)
    dark = mixed(blue, (kept[0] * 0.32, kept[1] * 0.34, kept[2] * 0.5), 0.36)
    return mixed((r, g, b), mixed(dark, (r, g * 0.93, b * 0.78), min(0.8, burning)), min(1.0, s))


def _rain(r: float, g: float, b: float, s: float, _: str) -> RGB:
    r, g, b = _three(brightened, *saturated(r, g, b, max(0.2, 1 - 0.45 * s)), -0.36 * s)
    return r * (1 - 0.09 * s), g, b * (1 + 0.06 * s) + 0.02 * s


def _snow(r: float, g: float, b: float, s: float, _: str) -> RGB:
    return _cool(*saturated(r, g, b, max(0.3, 1 - 0.25 * s)), 0.35 * s, "")


def _fog(r: float, g: float, b: float, s: float, _: str) -> RGB:
    return saturated(*_three(curved, r, g, b, -0.3 * s), max(0.3, 1 - 0.35 * s))


def _sunny(r: float, g: float, b: float, s: float, _: str) -> RGB:
    return _warm(*_three(brightened, r, g, b, 0.25 * s), 0.5 * s, "")


def _wash(r: float, g: float, b: float, s: float, _: str) -> RGB:
    """Thin paint: lighter, shadows never black."""
    r, g, b = saturated(*_three(brightened, r, g, b, 0.95), 1.3)
    return 0.1 + r * 0.9, 0.1 + g * 0.9, 0.11 + b * 0.89


GRADES: dict[str, Grade] = {
    "warm": _warm, "cool": _cool, "bright": _bright, "dark": _dark, "contrast": _contrast, "flat": _flat,
    "vivid": _vivid, "muted": _muted, "mono": _mono, "sepia": _sepia, "vintage": _vintage, "teal_orange": _teal_orange,
    "invert": _invert, "tint": _tint, "spring": _spring, "summer": _summer, "autumn": _autumn, "winter": _winter,
    "dawn": _dawn, "morning": _morning, "noon": _noon, "golden": _golden, "sunset": _sunset, "dusk": _dusk,
    "night": _night, "rain": _rain, "snow": _snow, "fog": _fog, "sunny": _sunny, "wash": _wash,
}  # fmt: skip
