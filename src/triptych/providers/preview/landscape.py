"""Sky and land: the hour's light, stars, sun or moon, clouds, mountains, fields, sea, a skyline.

Rules: painted back to front on one picture; the same scene gives the same pixels. Lengths are fractions of the picture.

Must not know: words, and the things on the land.
"""

from __future__ import annotations

import math

from PIL import Image, ImageDraw, ImageFilter

from triptych.providers.preview import masks
from triptych.providers.preview.scene import HOURS, RGB, Scene

HORIZON = 0.62
GROUND: dict[str, RGB] = {"spring": (126, 182, 84), "summer": (92, 148, 66), "autumn": (176, 132, 62),
                           "winter": (226, 234, 242)}  # fmt: skip


class LandscapePainter:
    """Paints back to front; every method adds one layer to `image`."""

    def __init__(self, scene: Scene, size: tuple[int, int]) -> None:
        self.scene, self.size, self.light = scene, size, scene.light()
        self.w, self.h = size
        self.unit = min(size)
        self.horizon = round(self.h * HORIZON)
        self.image = masks.ramp(
            size,
            ((0, self.light.zenith), (0.38, self.light.middle), (HORIZON, self.light.horizon), (1, self.light.horizon)),
        )
        self.draw = ImageDraw.Draw(self.image)

    def rng(self, name: str) -> masks.SeededRandom:
        return masks.SeededRandom(f"{self.scene.mark}|{name}")

    def lit(self, colour: RGB, haze: float = 0.0) -> RGB:
        """Return the colour as this hour shows it, `haze` of the way into the horizon's."""
        r, g, b = (min(255.0, channel * fall) for channel, fall in zip(colour, self.light.falling, strict=True))
        far = self.light.horizon
        return masks.mix(round(r), far[0], haze), masks.mix(round(g), far[1], haze), masks.mix(round(b), far[2], haze)

    # --- air ---

    def stars(self) -> None:
        if self.light.stars <= 0.05 and "stars" not in self.scene.things:
            return
        rng, strength = self.rng("stars"), max(self.light.stars, 0.3)
        for _ in range(260):
            x, y, r = rng(0, self.w), rng(0, self.horizon * 0.9), self.unit * rng(0.0007, 0.0021)
            fade = strength * rng(0.35, 1.0) * (1 - y / self.horizon)
            sky = self.image.getpixel((int(x), int(y)))
            if isinstance(sky, tuple):
                self.draw.ellipse(
                    (x - r, y - r, x + r, y + r), fill=tuple(masks.mix(int(c), 255, fade) for c in sky[:3])
                )

    def disc_place(self) -> tuple[float, float]:
        drift = self.scene.progress - 0.35
        rising = self.scene.hour in ("dawn", "morning", "night") and self.scene.timed
        height = HOURS[self.scene.hour].height if self.scene.timed else self.light.height
        height += (0.1 if rising else -0.17) * drift * self.scene.timed
        return 0.66 - 0.28 * drift * (-1 if rising else 1), HORIZON - max(-0.01, height)

    def disc(self) -> None:
        x, y = self.disc_place()
        warm = tuple(masks.mix(a, b, 0.5) for a, b in zip(self.light.disc, self.light.horizon, strict=True))
        for reach, amount in ((0.55, 0.42), (0.2, 0.5)):
            halo = masks.radial(self.size, (x, y), reach, 1.9).point([round(value * amount) for value in range(256)])
            self.image = Image.composite(Image.new("RGB", self.size, (warm[0], warm[1], warm[2])), self.image, halo)
        self.draw = ImageDraw.Draw(self.image)
        r = self.unit * (0.036 if self.light.stars > 0.4 else 0.05)
        cx, cy = x * self.w, y * self.h
        self.draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=self.light.disc)
        if self.light.stars > 0.4:
            for dx, dy, part in ((-0.3, -0.2, 0.26), (0.25, 0.3, 0.18), (0.1, -0.45, 0.12)):
                grey = tuple(masks.mix(c, 120, 0.16) for c in self.light.disc)
                self.draw.ellipse(
                    (cx + (dx - part) * r, cy + (dy - part) * r, cx + (dx + part) * r, cy + (dy + part) * r), fill=grey
                )

    def clouds(self) -> None:
        rng = self.rng("clouds")
        veil = Image.new("L", (self.w // 2, self.h // 2))
        draw = ImageDraw.Draw(veil)
        for _ in range(9 if "cloud" in self.scene.things else 5):
            x = (rng(-0.2, 1.1) + 0.16 * self.scene.progress) * veil.width
            y, long = rng(0.06, 0.42) * veil.height, rng(0.1, 0.26) * veil.width
            for n in range(9):
                px, r = x + (n / 8 - 0.5) * long, long * rng(0.05, 0.13) * (1.15 - abs(n / 8 - 0.5) * 1.5)
                draw.ellipse((px - r * 1.5, y - r * 0.75, px + r * 1.5, y + r * 0.5), fill=150)
        veil = veil.filter(ImageFilter.GaussianBlur(self.unit / 150)).resize(self.size, Image.Resampling.BICUBIC)
        white = self.lit((255, 250, 246), 0.25)
        self.image = Image.composite(Image.new("RGB", self.size, white), self.image, veil)
        self.draw = ImageDraw.Draw(self.image)

    # --- land and sea ---

    def line(self, name: str, rough: float, steps: int = 96, pan: float = 0.0) -> list[float]:
        """Return heights round 0 along the picture's width, from a few waves of falling size."""
        rng = self.rng(name)
        waves = [(rng(0.6, 1.4) * 1.9**n, rng(0, math.tau), rough / 1.75**n) for n in range(6)]
        return [
            sum(amount * math.sin(math.tau * often * (i / steps + pan) + start) for often, start, amount in waves)
            for i in range(steps + 1)
        ]

    def ridge(self, name: str, base: float, rough: float, colour: RGB, pan: float, *, peaks: bool = False) -> None:
        heights = self.line(name, rough, pan=pan)
        if peaks:
            heights = [abs(height) * -1.7 + rough * 0.4 for height in heights]
        points = [(i * self.w / 96, (base + height) * self.h) for i, height in enumerate(heights)]
        self.draw.polygon([(0, self.h), *points, (self.w, self.h)], fill=colour)

    def ridges(self) -> None:
        tall = "mountain" in self.scene.things
        rock: RGB = (104, 116, 140) if self.scene.season != "winter" else (176, 188, 206)
        for n, (base, haze) in enumerate(((0.5, 0.62), (0.56, 0.4))):
            self.ridge(
                f"ridge{n}",
                base,
                0.11 if tall else 0.035,
                self.lit(rock, haze),
                0.03 * n * self.scene.progress,
                peaks=tall,
            )

    def ground(self) -> None:
        colour = GROUND[self.scene.season]
        for n, (base, haze, shade) in enumerate(((0.63, 0.3, 1.0), (0.71, 0.12, 0.92), (0.82, 0.0, 0.8))):
            near = tuple(round(channel * shade) for channel in colour)
            self.ridge(
                f"ground{n}",
                base,
                0.02 + 0.006 * n,
                self.lit((near[0], near[1], near[2]), haze),
                0.05 * n * self.scene.progress,
            )

    def sea(self) -> None:
        top = self.horizon
        sky = self.image.crop((0, max(0, 2 * top - self.h), self.w, top)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        sky = sky.resize((self.w, self.h - top)).filter(ImageFilter.GaussianBlur(self.unit / 60))
        water = Image.blend(sky, Image.new("RGB", sky.size, self.lit((28, 92, 132))), 0.52)
        self.image.paste(water, (0, top))
        self.draw = ImageDraw.Draw(self.image)
        rng = self.rng("waves")
        sun, _ = self.disc_place()
        light, deep = self.light.disc, self.lit((16, 62, 100))
        for _ in range(420):
            depth = rng() ** 1.6
            y = top + 2 + depth * (self.h - top)
            long = self.w * (0.008 + 0.06 * depth) * rng(0.5, 1.4)
            x = (rng() + 0.12 * self.scene.progress * (0.2 + depth)) % 1.0 * self.w
            glitter = abs(x / self.w - sun) < 0.03 + 0.11 * depth * rng()
            here = self.image.getpixel((int(min(self.w - 1, x)), int(min(self.h - 1, y))))
            if isinstance(here, tuple):
                part = 0.75 if glitter else 0.22
                fill = tuple(masks.mix(int(a), b, part) for a, b in zip(here, light if glitter else deep, strict=False))
                bend = long * 0.06
                self.draw.line(
                    (x - long / 2, y, x, y - bend, x + long / 2, y),
                    fill=fill,
                    width=max(1, round(self.unit * (0.0012 + 0.004 * depth))),
                )

    def rocks(self, x: float, wide: float) -> float:
        """Paint a headland round `x`, and return its height there (fraction of the picture, from the top)."""
        heights = self.line("rocks", 0.012, 48)
        top = HORIZON - 0.03
        points = []
        for i, height in enumerate(heights):
            at = i / 48 * 2 - 1
            points.append(((x + at * wide) * self.w, (top + height * (1 - at * at) + 0.1 * abs(at) ** 2.4) * self.h))
        foot = [
            (px, (top + 0.1 + 0.035 * math.cos((px / self.w - x) / wide * math.pi / 2)) * self.h) for px, _ in points
        ]
        self.draw.polygon([*points, *reversed(foot)], fill=self.lit((70, 74, 78), 0.05))
        self.draw.line(foot, fill=self.lit((190, 206, 214), 0.2), width=max(1, self.unit // 260), joint="curve")
        grass = [(px, py + self.h * 0.012) for px, py in points]
        self.draw.polygon([*points[8:41], *reversed(grass[8:41])], fill=self.lit(GROUND[self.scene.season], 0.1))
        return top

    def city(self) -> None:
        rng, glowing = self.rng("city"), self.light.falling[0] < 0.9
        for row, (count, haze) in enumerate(((26, 0.5), (17, 0.18))):
            for n in range(count):
                wide = self.w / count * rng(0.75, 1.15)
                x = (n + rng(-0.2, 0.2) - 0.02 * row * self.scene.progress * count) * self.w / count
                tall = self.h * rng(0.1, 0.34 if row == 0 else 0.27) * (1.25 if n % 7 == 3 else 1)
                top = self.h * (0.66 + 0.02 * row) - tall
                self.draw.rectangle((x, top, x + wide, self.h * 0.8), fill=self.lit((78, 86, 106), haze))
                step = self.unit * 0.017
                for i in range(int(wide / step) - 1):
                    for j in range(int(tall / step / 1.3)):
                        if rng() < (0.42 if glowing else 0.2) + 0.12 * self.scene.progress * glowing:
                            wx, wy = x + (i + 0.6) * step, top + (j + 0.6) * step * 1.3
                            pane = (255, 214, 130) if glowing else self.lit((196, 214, 230), haze)
                            self.draw.rectangle((wx, wy, wx + step * 0.5, wy + step * 0.7), fill=pane)
