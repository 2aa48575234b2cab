"""A scene → a picture: the land, and on it the few things that can be drawn.

Rules: never blank; the same scene and size give the same pixels. What moves, moves with the scene's progress. Lengths
are fractions of the picture's shorter side.

Must not know: files, words. `effects` edits the picture afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from triptych.providers.preview import masks
from triptych.providers.preview.landscape import LandscapePainter
from triptych.providers.preview.scene import RGB, Scene
from triptych.providers.preview.vocabulary import COLOURS

PAINT_SIDE_PX = 1600
_LEAVES: dict[str, tuple[RGB, RGB]] = {
    "spring": ((150, 200, 100), (244, 184, 204)),
    "summer": ((58, 120, 62), (84, 148, 70)),
    "autumn": ((212, 110, 40), (188, 62, 36)),
    "winter": ((120, 140, 150), (214, 226, 236)),
}


def paint(scene: Scene, size: tuple[int, int]) -> Image.Image:
    """Return the painted RGB picture at exactly this size."""
    return paint_cut(scene, size)[0]


def paint_cut(scene: Scene, size: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    """Return the picture, and the mask of what is painted on its backdrop (see `ScenePainter.backdrop`)."""
    scale = PAINT_SIDE_PX / max(size)
    large = (max(8, round(size[0] * scale)), max(8, round(size[1] * scale)))
    painter = ScenePainter(scene, large)
    picture = painter.abstract() if scene.is_abstract else painter.landscape()
    red, green, blue = ImageChops.difference(picture, painter.backdrop).split()
    unlike = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    mask = unlike.point([max(0, min(255, (value - 7) * 16)) for value in range(256)]).filter(
        ImageFilter.MedianFilter(3)
    )
    return picture.resize(size, Image.Resampling.LANCZOS), mask.resize(size, Image.Resampling.BOX)


class ScenePainter(LandscapePainter):
    """Paints the things, each on its own layer.

    `backdrop` is the picture before its subject: the sky and the land before things, the sky alone before a landscape.
    """

    backdrop: Image.Image

    def landscape(self) -> Image.Image:
        things = self.scene.things
        self.stars()
        self.disc()
        self.clouds()
        self.backdrop = self.image.copy()
        sea = bool(things & {"sea", "boat", "lighthouse"})
        if things & {"mountain"} or not things & {"sea", "city", "boat", "lighthouse", "cup"}:
            self.ridges()
        if "city" in things:
            self.city()
        self.sea() if sea else self.ground()
        order: tuple[tuple[str, Callable[[], None]], ...] = (
            ("lighthouse", self.lighthouse), ("tree", self.trees), ("house", self.house), ("rocket", self.rocket),
            ("boat", self.boat), ("flower", self.flowers), ("cat", self.cat), ("cup", self.cup),
            ("balloon", self.balloon), ("bird", self.birds),
        )  # fmt: skip
        drawn = [thing for thing, _ in order if thing in things]
        if drawn:
            self.backdrop = self.image.copy()
        for thing, layer in order:
            if thing in things or (not drawn and thing == "tree" and not sea and "city" not in things):
                layer()
        if sea and "boat" not in things and not drawn:
            self.birds()
        return self.image

    def shape(self, points: Sequence[tuple[float, float]], fill: RGB) -> None:
        self.draw.polygon([(x, y) for x, y in points], fill=fill)

    def glow(self, x: float, y: float, reach: float, colour: RGB = (255, 220, 140)) -> None:
        mask = masks.radial(self.size, (x / self.w, y / self.h), reach, 2.0)
        lit = Image.composite(Image.new("RGB", self.size, colour), Image.new("RGB", self.size), mask)
        self.image, self.backdrop = ImageChops.screen(self.image, lit), ImageChops.screen(self.backdrop, lit)
        self.draw = ImageDraw.Draw(self.image)

    def lighthouse(self) -> None:
        top = self.rocks(0.24, 0.2)
        u, x = self.unit, 0.24 * self.w
        base, head = (top + 0.012) * self.h, (top + 0.012) * self.h - u * 0.36
        dark = self.light.falling[0] < 0.95
        lamp = (x, head - u * 0.018)
        if dark:
            beam = Image.new("L", self.size)
            turn = (0.05, -0.12, 0.16, -0.03, 0.1)[round(self.scene.progress * 4)]
            for side in (-1, 1):
                end_y = lamp[1] - side * turn * self.w * 0.8
                ImageDraw.Draw(beam).polygon(
                    [lamp, (lamp[0] + side * self.w, end_y - u * 0.12), (lamp[0] + side * self.w, end_y + u * 0.12)],
                    fill=92,
                )
            beam = ImageChops.multiply(beam, masks.radial(self.size, (lamp[0] / self.w, lamp[1] / self.h), 0.95, 0.8))
            self.image = Image.composite(
                Image.new("RGB", self.size, (255, 240, 190)), self.image, beam.filter(ImageFilter.GaussianBlur(u / 130))
            )
            self.draw = ImageDraw.Draw(self.image)
        red = self.scene.colour("lighthouse", (196, 62, 52))
        for n in range(5):
            y0, y1 = base + (head - base) * n / 5, base + (head - base) * (n + 1) / 5
            w0, w1 = u * (0.047 - 0.018 * n / 5), u * (0.047 - 0.018 * (n + 1) / 5)
            self.shape(
                [(x - w0, y0), (x + w0, y0), (x + w1, y1), (x - w1, y1)],
                self.lit((244, 240, 232) if n % 2 == 0 else red),
            )
            shade = self.lit(
                (206, 202, 198) if n % 2 == 0 else (round(red[0] * 0.78), round(red[1] * 0.78), round(red[2] * 0.78))
            )
            self.shape([(x - w0, y0), (x - w0 * 0.35, y0), (x - w1 * 0.35, y1), (x - w1, y1)], shade)
        self.draw.rectangle(
            (x - u * 0.04, head - u * 0.006, x + u * 0.04, head + u * 0.004), fill=self.lit((52, 54, 60))
        )
        self.draw.rectangle(
            (x - u * 0.021, head - u * 0.04, x + u * 0.021, head - u * 0.006),
            fill=(255, 236, 170) if dark else self.lit((210, 226, 234)),
        )
        self.shape(
            [(x - u * 0.031, head - u * 0.04), (x + u * 0.031, head - u * 0.04), (x, head - u * 0.08)], self.lit(red)
        )
        if dark:
            self.glow(*lamp, 0.12)

    def house(self) -> None:
        u, x, base = self.unit, self.w * 0.4, self.h * 0.75
        wall, roof = self.scene.colour("house", (236, 226, 206)), (150, 72, 56)
        glowing = self.light.falling[0] < 0.9
        self.draw.rectangle((x - u * 0.13, base - u * 0.15, x + u * 0.13, base), fill=self.lit(wall))
        self.draw.rectangle(
            (x + u * 0.05, base - u * 0.27, x + u * 0.085, base - u * 0.15), fill=self.lit((120, 84, 74))
        )
        top = (244, 248, 252) if self.scene.season == "winter" else roof
        self.shape(
            [(x - u * 0.165, base - u * 0.145), (x + u * 0.165, base - u * 0.145), (x, base - u * 0.28)], self.lit(top)
        )
        pane: RGB = (255, 214, 122) if glowing else self.lit((150, 186, 206))
        for at in (-0.085, 0.045):
            self.draw.rectangle((x + u * at, base - u * 0.11, x + u * (at + 0.045), base - u * 0.06), fill=pane)
        self.draw.rectangle((x - u * 0.022, base - u * 0.085, x + u * 0.022, base), fill=self.lit((110, 70, 50)))
        if glowing:
            self.glow(x, base - u * 0.08, 0.13)

    def trees(self) -> None:
        rng, u = self.rng("trees"), self.unit
        one, two = _LEAVES[self.scene.season]
        many = 16 if "tree" in self.scene.things else 7
        for n in range(many):
            depth = n / many
            x, y = (rng() - 0.04 * depth * self.scene.progress) * self.w, self.h * (0.665 + 0.24 * depth)
            tall, haze = u * (0.1 + 0.15 * depth) * rng(0.8, 1.25), 0.3 * (1 - depth)
            self.draw.rectangle(
                (x - tall * 0.035, y - tall * 0.3, x + tall * 0.035, y), fill=self.lit((92, 68, 50), haze)
            )
            if rng() < (0.75 if self.scene.season == "winter" else 0.4):
                for level in range(3):
                    low, wide = y - tall * (0.16 + 0.24 * level), tall * (0.27 - 0.06 * level)
                    green = (52, 96, 72) if self.scene.season != "winter" else (96, 124, 126)
                    self.shape([(x - wide, low), (x + wide, low), (x, low - tall * 0.42)], self.lit(green, haze))
                    if self.scene.season == "winter":
                        self.shape(
                            [
                                (x - wide * 0.5, low - tall * 0.2),
                                (x + wide * 0.5, low - tall * 0.2),
                                (x, low - tall * 0.42),
                            ],
                            self.lit((240, 246, 250), haze),
                        )
            else:
                for _ in range(9):
                    px, py, r = x + tall * rng(-0.22, 0.22), y - tall * rng(0.4, 0.85), tall * rng(0.12, 0.22)
                    self.draw.ellipse(
                        (px - r, py - r, px + r, py + r), fill=self.lit(one if rng() < 0.6 else two, haze)
                    )

    def boat(self) -> None:
        u = self.unit
        x, y = self.w * (0.42 + 0.36 * self.scene.progress), self.h * (0.76 + 0.015 * math.sin(self.scene.progress * 9))
        self.shape([(x - u * 0.1, y), (x + u * 0.11, y), (x + u * 0.075, y + u * 0.04), (x - u * 0.075, y + u * 0.04)],
                   self.lit(self.scene.colour("boat", (150, 62, 48))))  # fmt: skip
        self.draw.line((x, y, x, y - u * 0.22), fill=self.lit((80, 60, 48)), width=max(1, round(u * 0.006)))
        self.shape(
            [(x + u * 0.006, y - u * 0.21), (x + u * 0.006, y - u * 0.015), (x + u * 0.095, y - u * 0.015)],
            self.lit((250, 246, 236)),
        )
        self.shape(
            [(x - u * 0.006, y - u * 0.19), (x - u * 0.006, y - u * 0.015), (x - u * 0.07, y - u * 0.015)],
            self.lit((228, 222, 212)),
        )

    def flowers(self) -> None:
        rng, u = self.rng("flowers"), self.unit
        palette = (self.scene.colour("flower", (226, 74, 92)), (250, 206, 84), (240, 150, 190), (248, 244, 240))
        for n in range(70):
            depth = n / 70
            x, y, r = (
                (rng() + 0.03 * self.scene.progress * depth) * self.w,
                self.h * (0.74 + 0.24 * depth),
                u * (0.006 + 0.02 * depth),
            )
            self.draw.line((x, y, x, y + r * 4), fill=self.lit((62, 116, 60)), width=max(1, round(r * 0.3)))
            petal = self.lit(palette[int(rng(0, 1.999) if self.scene.colours and rng() < 0.7 else rng(0, 4))])
            for k in range(5):
                px, py = x + math.cos(k * math.tau / 5) * r * 0.8, y + math.sin(k * math.tau / 5) * r * 0.8
                self.draw.ellipse((px - r * 0.6, py - r * 0.6, px + r * 0.6, py + r * 0.6), fill=petal)
            self.draw.ellipse((x - r * 0.4, y - r * 0.4, x + r * 0.4, y + r * 0.4), fill=self.lit((252, 214, 110)))

    def cat(self) -> None:
        u, x, base = self.unit, self.w * (0.58 - 0.2 * self.scene.progress), self.h * 0.9
        fur = self.lit(self.scene.colour("cat", (66, 58, 60)))
        sway = 0.04 * math.sin(self.scene.progress * 7)
        tail = [(x + u * (0.09 + 0.09 * t), base - u * (0.02 + (0.2 + sway) * t**1.6)) for t in (0, 0.25, 0.5, 0.75, 1)]
        self.draw.line(tail, fill=fur, width=max(2, round(u * 0.026)), joint="curve")
        self.draw.ellipse((x - u * 0.1, base - u * 0.2, x + u * 0.12, base), fill=fur)
        self.shape([(x - u * 0.07, base - u * 0.27), (x + u * 0.05, base - u * 0.27), (x + u * 0.11, base - u * 0.09),
                    (x - u * 0.095, base - u * 0.09)], fur)  # fmt: skip
        self.draw.ellipse((x - u * 0.085, base - u * 0.35, x + u * 0.075, base - u * 0.21), fill=fur)
        for at in (-0.08, 0.005):
            self.shape(
                [
                    (x + u * at, base - u * 0.3),
                    (x + u * (at + 0.055), base - u * 0.325),
                    (x + u * (at + 0.018), base - u * 0.4),
                ],
                fur,
            )
        for at in (-0.05, 0.012):
            self.draw.ellipse(
                (x + u * at, base - u * 0.3, x + u * (at + 0.022), base - u * 0.272), fill=(236, 214, 120)
            )

    def cup(self) -> None:
        u, x, y = self.unit, self.w * 0.5, self.h * 0.8
        self.draw.rectangle((0, self.h * 0.74, self.w, self.h), fill=self.lit((142, 98, 66)))
        self.draw.ellipse((x - u * 0.3, y + u * 0.06, x + u * 0.3, y + u * 0.16), fill=self.lit((214, 208, 198)))
        body = self.lit(self.scene.colour("cup", (244, 240, 232)))
        self.draw.arc(
            (x + u * 0.12, y - u * 0.16, x + u * 0.27, y + u * 0.03),
            -110,
            120,
            fill=body,
            width=max(2, round(u * 0.026)),
        )
        self.shape(
            [
                (x - u * 0.18, y - u * 0.2),
                (x + u * 0.18, y - u * 0.2),
                (x + u * 0.12, y + u * 0.11),
                (x - u * 0.12, y + u * 0.11),
            ],
            body,
        )
        self.draw.ellipse((x - u * 0.18, y - u * 0.24, x + u * 0.18, y - u * 0.16), fill=body)
        self.draw.ellipse((x - u * 0.165, y - u * 0.23, x + u * 0.165, y - u * 0.17), fill=self.lit((92, 56, 36)))
        steam = Image.new("L", self.size)
        for n in range(3):
            path = [
                (
                    x + u * (0.07 * (n - 1) + 0.025 * math.sin(t * 0.9 + n + self.scene.progress * 6)),
                    y - u * (0.24 + 0.03 * t),
                )
                for t in range(9)
            ]
            ImageDraw.Draw(steam).line(path, fill=150, width=max(2, round(u * 0.018)), joint="curve")
        self.image = Image.composite(
            Image.new("RGB", self.size, (255, 255, 255)), self.image, steam.filter(ImageFilter.GaussianBlur(u / 70))
        )
        self.draw = ImageDraw.Draw(self.image)

    def balloon(self) -> None:
        u, colour = self.unit, self.scene.colour("balloon", (222, 84, 66))
        for n, (at, high, big) in enumerate(((0.3, 0.3, 0.13), (0.62, 0.2, 0.08), (0.82, 0.4, 0.055))):
            x, y, r = self.w * (at + 0.05 * self.scene.progress), self.h * (high - 0.14 * self.scene.progress), u * big
            for k, stripe in enumerate((1.0, 0.66, 0.3)):
                fill = colour if (k + n) % 2 == 0 else (250, 214, 120)
                self.draw.ellipse((x - r * stripe, y - r, x + r * stripe, y + r * 1.12), fill=self.lit(fill, 0.12 * n))
            for side in (-1, 1):
                self.draw.line(
                    (x + side * r * 0.35, y + r, x + side * r * 0.16, y + r * 1.5),
                    fill=self.lit((90, 70, 60)),
                    width=max(1, round(r * 0.03)),
                )
            self.draw.rectangle((x - r * 0.18, y + r * 1.48, x + r * 0.18, y + r * 1.75), fill=self.lit((128, 88, 58)))

    def rocket(self) -> None:
        u, x = self.unit, self.w * 0.5
        base = self.h * (0.84 - 0.5 * self.scene.progress)
        self.glow(x, base + u * 0.06, 0.16, (255, 170, 80))
        self.shape([(x - u * 0.026, base), (x + u * 0.026, base), (x, base + u * 0.17)], (255, 206, 110))
        for side in (-1, 1):
            self.shape(
                [
                    (x + side * u * 0.03, base - u * 0.1),
                    (x + side * u * 0.075, base + u * 0.02),
                    (x + side * u * 0.03, base),
                ],
                self.lit((186, 60, 54)),
            )
        self.draw.rectangle(
            (x - u * 0.036, base - u * 0.26, x + u * 0.036, base),
            fill=self.lit(self.scene.colour("rocket", (238, 238, 236))),
        )
        self.draw.ellipse(
            (x - u * 0.036, base - u * 0.36, x + u * 0.036, base - u * 0.18), fill=self.lit((186, 60, 54))
        )
        self.draw.rectangle(
            (x - u * 0.036, base - u * 0.26, x + u * 0.036, base - u * 0.12), fill=self.lit((238, 238, 236))
        )
        self.draw.ellipse(
            (x - u * 0.018, base - u * 0.22, x + u * 0.018, base - u * 0.184), fill=self.lit((70, 120, 170))
        )

    def birds(self) -> None:
        rng, u = self.rng("birds"), self.unit
        for n in range(8):
            x = ((rng(0.05, 0.75) + 0.25 * self.scene.progress) % 1.0) * self.w
            y, r = rng(0.1, 0.42) * self.h, u * rng(0.012, 0.026)
            lift = r * (0.5 + 0.5 * math.sin(n + self.scene.progress * 8))
            wings = (x - r, y - lift, x - r * 0.4, y - lift * 0.9, x, y, x + r * 0.4, y - lift * 0.9, x + r, y - lift)
            self.draw.line(wings,
                           fill=self.lit((50, 54, 66), 0.1), width=max(1, round(r * 0.16)), joint="curve")  # fmt: skip

    def abstract(self) -> Image.Image:
        """Return overlapping soft shapes in three related colours instead of a place."""
        rng = self.rng("abstract")
        named = [COLOURS[word] for word in self.scene.mark.lower().replace(",", " ").split() if word in COLOURS]
        stock = tuple(COLOURS[name] for name in ("coral", "teal", "amber", "indigo", "mint", "rose"))
        start = int(rng(0, len(stock)))
        palette = [*named, *(stock[(start + n) % len(stock)] for n in range(4))][:4]
        pale = tuple(masks.mix(channel, 250, 0.86) for channel in palette[0])
        image = Image.new("RGB", self.size, (pale[0], pale[1], pale[2]))
        self.backdrop = image
        turn = self.scene.progress * 1.5
        for n in range(9):
            mask = Image.new("L", self.size)
            angle, reach = rng(0, math.tau) + turn * (1 if n % 2 else -1), rng(0.05, 0.42)
            x, y = self.w / 2 + math.cos(angle) * reach * self.w, self.h / 2 + math.sin(angle) * reach * self.h
            r, sides = self.unit * rng(0.08, 0.27), (0, 0, 3, 4)[int(rng(0, 4))]
            draw = ImageDraw.Draw(mask)
            if sides:
                points = [
                    (x + r * math.cos(angle + k * math.tau / sides), y + r * math.sin(angle + k * math.tau / sides))
                    for k in range(sides)
                ]
                draw.polygon(points, fill=215)
            else:
                draw.ellipse((x - r, y - r, x + r, y + r), fill=215)
            image = Image.composite(Image.new("RGB", self.size, palette[n % len(palette)]), image, mask)
        return image
