"""Shape and place: cropped, turned, flipped, closer or further away.

Rules: a picture in, a picture out; colours are never changed. Boxes are left, top, right, bottom in pixels.

Must not know: prompts, grading.
"""

from __future__ import annotations

import math

from PIL import Image, ImageFilter, ImageOps

from triptych.providers.preview.tokens import ImageOperation


def cover(image: Image.Image, size: tuple[int, int], centre: tuple[float, float] = (0.5, 0.5)) -> Image.Image:
    """Return the picture at exactly this size, cropped to its shape."""
    if image.size == size:
        return image
    return ImageOps.fit(image, size, Image.Resampling.LANCZOS, centering=centre)


def reduced(image: Image.Image, longest: int) -> Image.Image:
    """Return the picture with no side above `longest` pixels."""
    scale = min(1.0, longest / max(image.size))
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.BOX)


def crop(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    """Cut to the ratio in the argument."""
    wide, high = (int(part) for part in op.argument.split(":"))
    return image.crop(crop_box(image.size, wide / high))


def crop_box(size: tuple[int, int], aspect: float) -> tuple[int, int, int, int]:
    """Return the largest centred box of that shape, at least a pixel each way."""
    width = max(1, min(size[0], round(size[1] * aspect)))
    height = max(1, min(size[1], round(size[0] / aspect)))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return left, top, left + width, top + height


def rotate(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    """Clockwise. A quarter turn swaps the sides; another angle keeps them and is enlarged until no corner is empty."""
    degrees = int(op.argument) % 360
    quarter = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}
    if degrees in quarter:
        return image.transpose(quarter[degrees])
    angle = math.radians(degrees)
    sine, cosine = abs(math.sin(angle)), abs(math.cos(angle))
    width, height = image.size
    scale = max((width * cosine + height * sine) / width, (width * sine + height * cosine) / height)
    grown = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BICUBIC)
    turned = grown.rotate(-degrees, Image.Resampling.BICUBIC)
    left, top = (grown.width - width) // 2, (grown.height - height) // 2
    return turned.crop((left, top, left + width, top + height))


def flip(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    """Mirror, or turn top to bottom."""
    return ImageOps.flip(image) if op.argument == "y" else ImageOps.mirror(image)


def zoom(image: Image.Image, op: ImageOperation, seed: str) -> Image.Image:
    """Come closer, or step back and let a blur fill the edges."""
    if op.argument == "out":
        back = image.filter(ImageFilter.GaussianBlur(max(1.0, max(image.size) / 40)))
        inner = reduced(image, max(1, round(max(image.size) * 0.72)))
        back.paste(inner, ((image.width - inner.width) // 2, (image.height - inner.height) // 2))
        return back
    return closer(image, max(0.3, 1 - 0.34 * op.strength), (0.5, 0.5))


def closer(image: Image.Image, share: float, centre: tuple[float, float]) -> Image.Image:
    """Return the part of the picture that is `share` of each side, at the picture's own size."""
    width, height = image.width * share, image.height * share
    left, top = (image.width - width) * centre[0], (image.height - height) * centre[1]
    return image.resize(image.size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
