"""Media: the picture as a drawing, a painting, a poster or a mosaic.

Rules: an RGB picture in, an RGB picture of the same size out; the same seed gives the same pixels. Strokes and grains
are fractions of the picture.

Must not know: grading, prompts.
"""

from __future__ import annotations

from PIL import Image, ImageChops, ImageFilter, ImageOps

from triptych.providers.preview.geometry import reduced
from triptych.providers.preview.masks import clouds, noise
from triptych.providers.preview.tokens import ImageOperation
from triptych.providers.preview.tone import flat, grade_table


def sketch(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
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


def watercolour(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    small = reduced(image, 560)
    even = small.filter(ImageFilter.MedianFilter(5)).filter(ImageFilter.MedianFilter(5))
    edges = even.convert("L").filter(ImageFilter.GaussianBlur(1)).filter(ImageFilter.FIND_EDGES)
    edges = ImageOps.expand(ImageOps.crop(edges, 2), 2, 0) if min(edges.size) > 8 else edges
    wash = even.filter(grade_table((("wash", 1.0, ""),))).resize(image.size, Image.Resampling.BICUBIC)
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
    return Image.composite(flat(image, (250, 248, 242)), wash, margin)


def oil(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    small = reduced(image, 560)
    even = small.filter(ImageFilter.ModeFilter(7)).filter(ImageFilter.MedianFilter(3))
    even = even.filter(grade_table((("vivid", 0.7, ""), ("contrast", 0.4, "")))).resize(
        image.size, Image.Resampling.BICUBIC
    )
    relief = (
        even.convert("L").filter(ImageFilter.GaussianBlur(max(0.6, max(image.size) / 1400))).filter(ImageFilter.EMBOSS)
    )
    strokes = noise((max(1, image.width // 10), image.height), f"{seed}brush", max(1.0, max(image.size) / 500))
    strokes = strokes.resize(image.size, Image.Resampling.BICUBIC).point(
        [round(128 + (value - 128) * 0.55) for value in range(256)]
    )
    relief = Image.blend(relief, strokes, 0.45)
    return ImageChops.overlay(even, Image.merge("RGB", (relief, relief, relief)))


def poster(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    small = reduced(image, 720)
    even = ImageOps.autocontrast(small.filter(ImageFilter.MedianFilter(5)), cutoff=1, preserve_tone=True)
    even = even.filter(grade_table((("vivid", 1.4, ""),)))
    levels = [round(round(value / 255 * 4) * 255 / 4) for value in range(256)]
    even = even.resize(image.size, Image.Resampling.BICUBIC).point(levels * 3)
    return even.filter(ImageFilter.ModeFilter(3)) if max(image.size) <= 700 else even


def pixelate(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    across = max(8, round(64 / max(0.4, op.strength)))
    return reduced(image, across).resize(image.size, Image.Resampling.NEAREST)
