"""The offline engine: an instruction and pictures in, edited pictures out; or a scene painted from words alone.

Rules: pure: the same images, words, count, size and seed give the same bytes. Every panel of a call differs visibly
from every other. What the words asked for and this engine cannot do is said in `warnings`, never passed over.

`phrases` reads the words, `pixels` does the operations, `scenery` paints where there is no picture to start from.
Must not know: files, jobs, providers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from triptych.images import contact_sheet, processing
from triptych.providers.preview import geometry, painting, pixels, scenery
from triptych.providers.preview.phrases import Plan, plan
from triptych.providers.preview.vocabulary import SEASONS
from triptych.providers.preview.wording import Op

__all__ = ["Op", "Plan", "Retouched", "draw", "edit", "plan"]

WORKING_SIDE_PX = 1600
VISIBLE = 4.0
"""How far apart, in levels of 255 on average, two panels of one call are at least (see `pixels.distance`)."""
NUDGE_LEVELS = 7


@dataclass(frozen=True, slots=True)
class Retouched:
    """The panels, as files, in order; their common size in pixels; what the engine did not do, in words."""

    images: tuple[bytes, ...]
    warnings: tuple[str, ...]
    size: tuple[int, int]


def edit(
    images: Sequence[bytes],
    prompt: str,
    *,
    count: int = 1,
    size: tuple[int, int] | None = None,
    mime_type: str = "image/png",
    seed: str = "",
) -> Retouched:
    """Return `count` edits of the first image, the others lending it their colours (or joining it in a collage).

    With as many images as panels and "each" in the prompt, panel n is made from image n. `size` in pixels is met
    exactly; None keeps the first image's own, turned and cropped as the prompt says. Raises `UnreadableImage`, and
    `ValueError` without images or with a count below one.
    """
    if not images or count < 1:
        raise ValueError("an edit needs at least one image and a count of at least one")
    intent = plan(prompt, count)
    opened = [contact_sheet.opaque(processing.open_upright(data), checker=False).convert("RGB") for data in images[:14]]
    full = opened[0].size
    names = {op.name for ops in intent.panels for op in ops}
    each = intent.each and len(opened) == count and count > 1
    if each:
        bases = opened
    elif len(opened) > 1 and names & {"collage", "blend"}:
        bases = [_joined([_reduced(one, size) for one in opened], "blend" in names)]
        full = bases[0].size
    else:
        bases = [_reduced(opened[0], size)]
        for reference in opened[1:]:
            bases[0] = pixels.like(bases[0], reference, 0.65 / (len(opened) - 1) ** 0.5)
    final = size or _turned(full, intent.panels[0])
    mark = seed or hashlib.sha256(prompt.encode("utf-8", "replace")).hexdigest()
    panels = [_edited(_reduced(bases[n % len(bases)], size), intent.panels[n], final, mark) for n in range(count)]
    return _finished(panels, final, mime_type, _warnings(intent))


def draw(
    prompt: str,
    *,
    count: int = 1,
    size: tuple[int, int] = (1024, 1024),
    mime_type: str = "image/png",
    seed: str = "",
) -> Retouched:
    """Return `count` panels of one scene painted from the words: the same place and palette, time going on.

    `size` in pixels is met exactly. Raises `ValueError` for a count below one.
    """
    if count < 1:
        raise ValueError("a drawing needs a count of at least one")
    intent = plan(prompt, count, known=scenery.NOUNS)
    working = _working_size(size)
    mark = f"{prompt}|{seed}"
    panels = []
    for n, (ops, text) in enumerate(zip(intent.panels, intent.texts, strict=True)):
        progress = 0.35 + 0.2 * (n // intent.listed) if intent.listed else n / (count - 1) if count > 1 else 0.35
        scene = scenery.Scene.of(text, ops, mark, min(1.0, progress))
        painted = painting.paint(scene, working)
        painted_already = {*scenery.PAINTED, "variation", "crop", *(("tint",) if scene.is_abstract else ())}
        rest = [
            replace(op, strength=op.strength * (0.6 if op.name in (*SEASONS, "snow") else 1.0))
            for op in ops
            if op.name not in painted_already
        ]
        panels.append(geometry.cover(pixels.apply(painted, rest, mark), working))
    return _finished(panels, size, mime_type, _warnings(intent))


def _edited(base: Image.Image, ops: Sequence[Op], final: tuple[int, int], seed: str) -> Image.Image:
    """Return one panel at working size: geometry first, then the shape that is wanted, then everything else."""
    shapes = [op for op in ops if op.name in ("rotate", "flip", "crop")]
    rest = [op for op in ops if op.name not in ("rotate", "flip", "crop")]
    turned = pixels.apply(base, shapes, seed)
    return pixels.apply(geometry.cover(turned, _working_size(final)), rest, seed)


def _finished(
    panels: Sequence[Image.Image], size: tuple[int, int], mime_type: str, warnings: tuple[str, ...]
) -> Retouched:
    """Return the panels as files of that size, each moved in tone until it is unlike all before it."""
    distinct: list[Image.Image] = []
    for panel in panels:
        moved, tries = panel, 0
        while tries < 32 and any(pixels.distance(moved, other) < VISIBLE for other in distinct):
            tries += 1
            moved = pixels.nudged(panel, NUDGE_LEVELS * tries)
        distinct.append(moved)
    scaled = (one if one.size == size else one.resize(size, Image.Resampling.BICUBIC) for one in distinct)
    return Retouched(tuple(processing.encode(one, mime_type) for one in scaled), warnings, size)


def _warnings(intent: Plan) -> tuple[str, ...]:
    if not intent.not_understood:
        return intent.warnings
    listed = ", ".join(f'"{phrase.replace(chr(34), chr(39))}"' for phrase in intent.not_understood)
    return (*intent.warnings, f"Not understood by the preview engine: {listed}")


def _working_size(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, WORKING_SIDE_PX / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _reduced(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    """Return the picture no larger than what is worked at; one that is to grow, grows in `_edited`."""
    reduced = _working_size(image.size)
    return image if reduced == image.size else image.resize(reduced, Image.Resampling.LANCZOS)


def _turned(size: tuple[int, int], ops: Sequence[Op]) -> tuple[int, int]:
    for op in ops:
        if op.name == "rotate" and op.argument in ("90", "270"):
            size = size[1], size[0]
        elif op.name == "crop":
            wide, high = (int(part) for part in op.argument.split(":"))
            left, top, right, bottom = geometry.crop_box(size, wide / high)
            size = right - left, bottom - top
    return size


def _joined(images: Sequence[Image.Image], blended: bool) -> Image.Image:
    """Return the pictures as one: laid over each other, or side by side in rows with a thin gap."""
    if blended:
        whole = images[0]
        for n, other in enumerate(images[1:], 2):
            whole = Image.blend(whole, geometry.cover(other, whole.size), 1 / n)
        return whole
    columns = len(images) if len(images) <= 3 else contact_sheet.columns_for(len(images), 1.2)
    rows = -(-len(images) // columns)
    cell_height = max(16, 900 // rows)
    aspect = sorted(image.width / image.height for image in images)[len(images) // 2]
    cell = max(16, round(cell_height * max(0.6, min(1.7, aspect)))), cell_height
    gap = max(2, cell_height // 60)
    whole = Image.new("RGB", (columns * (cell[0] + gap) - gap, rows * (cell[1] + gap) - gap), (250, 249, 246))
    for n, image in enumerate(images):
        row, column = divmod(n, columns)
        missing = columns * rows - len(images) if row == rows - 1 else 0
        left = column * (cell[0] + gap) + missing * (cell[0] + gap) // 2
        whole.paste(geometry.cover(image, cell), (left, row * (cell[1] + gap)))
    return whole
