"""The work behind `preview.render`: edits of pictures, and scenes painted from words.

Rules: pure: the same images, words, count, size and seed give the same bytes. Every panel of a call differs visibly
from every other. `warnings` list the words that this engine does not follow.

`plan` reads the words (with `tokens`, `variants`, `vocabulary`), `effects` edits pictures (with `tone`, `grades`,
`media`, `geometry`, `masks`), `scene` and `scene_painter` (with `landscape`) paint where there is no picture.
Must not know: files, jobs, providers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from triptych.images import contact_sheet, processing
from triptych.providers.preview import effects, geometry, scene, scene_painter, tone
from triptych.providers.preview.plan import EditPlan, parse_prompt
from triptych.providers.preview.tokens import ImageOperation
from triptych.providers.preview.vocabulary import SEASONS

WORKING_SIDE_PX = 1600
VISIBLE = 4.0
"""How far apart, in levels of 255 on average, two panels of one call are at least (see `tone.distance`)."""
NUDGE_LEVELS = 7


@dataclass(frozen=True, slots=True)
class RenderedImages:
    """The panels, as files, in order; their common size in pixels; the words that the engine did not follow."""

    images: tuple[bytes, ...]
    warnings: tuple[str, ...]
    size: tuple[int, int]


def render(
    images: Sequence[bytes],
    prompt: str,
    *,
    count: int = 1,
    size: tuple[int, int] | None = None,
    mime_type: str = "image/png",
    seed: str = "",
) -> RenderedImages:
    """Return `count` edits of the images, or without images `count` panels of a painted scene.

    Raises: `UnreadableImage`, and `ValueError` for a count below one.
    """
    if count < 1:
        raise ValueError("a preview needs a count of at least one")
    if images:
        return _edit(images, prompt, count, size, mime_type, seed)
    return _draw(prompt, count, size or (1024, 1024), mime_type, seed)


def _edit(
    images: Sequence[bytes], prompt: str, count: int, size: tuple[int, int] | None, mime_type: str, seed: str
) -> RenderedImages:
    """Return `count` edits of the first image; the others lend it their colours, or join it in a collage.

    With as many images as panels and "each" in the prompt, panel n is made from image n. `size` in pixels is exact;
    None keeps the size of the first image, turned and cropped by the prompt.
    """
    intent = parse_prompt(prompt, count)
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
            bases[0] = tone.like(bases[0], reference, 0.65 / (len(opened) - 1) ** 0.5)
    final = size or _turned(full, intent.panels[0])
    mark = seed or hashlib.sha256(prompt.encode("utf-8", "replace")).hexdigest()
    panels = [_edited(_reduced(bases[n % len(bases)], size), intent.panels[n], final, mark) for n in range(count)]
    return _finished(panels, final, mime_type, _warnings(intent))


def _draw(prompt: str, count: int, size: tuple[int, int], mime_type: str, seed: str) -> RenderedImages:
    """Return `count` panels of a scene painted from the words: one place and palette, at later and later times."""
    intent = parse_prompt(prompt, count, known=scene.NOUNS)
    working = _working_size(size)
    mark = f"{prompt}|{seed}"
    panels = []
    for n, (ops, text) in enumerate(zip(intent.panels, intent.texts, strict=True)):
        progress = 0.35 + 0.2 * (n // intent.listed) if intent.listed else n / (count - 1) if count > 1 else 0.35
        described = scene.Scene.of(text, ops, mark, min(1.0, progress))
        painted = scene_painter.paint(described, working)
        painted_already = {*scene.PAINTED, "variation", "crop", *(("tint",) if described.is_abstract else ())}
        rest = [
            replace(op, strength=op.strength * (0.6 if op.name in (*SEASONS, "snow") else 1.0))
            for op in ops
            if op.name not in painted_already
        ]
        panels.append(geometry.cover(effects.apply(painted, rest, mark), working))
    return _finished(panels, size, mime_type, _warnings(intent))


def _edited(base: Image.Image, ops: Sequence[ImageOperation], final: tuple[int, int], seed: str) -> Image.Image:
    """Return one panel at working size: geometry first, then the shape that is wanted, then everything else."""
    shapes = [op for op in ops if op.name in ("rotate", "flip", "crop")]
    rest = [op for op in ops if op.name not in ("rotate", "flip", "crop")]
    turned = effects.apply(base, shapes, seed)
    return effects.apply(geometry.cover(turned, _working_size(final)), rest, seed)


def _finished(
    panels: Sequence[Image.Image], size: tuple[int, int], mime_type: str, warnings: tuple[str, ...]
) -> RenderedImages:
    """Return the panels as files of that size, each moved in tone until it is unlike all before it."""
    distinct: list[Image.Image] = []
    for panel in panels:
        moved, tries = panel, 0
        while tries < 32 and any(tone.distance(moved, other) < VISIBLE for other in distinct):
            tries += 1
            moved = tone.nudged(panel, NUDGE_LEVELS * tries)
        distinct.append(moved)
    scaled = (one if one.size == size else one.resize(size, Image.Resampling.BICUBIC) for one in distinct)
    return RenderedImages(tuple(processing.encode(one, mime_type) for one in scaled), warnings, size)


def _warnings(intent: EditPlan) -> tuple[str, ...]:
    if not intent.not_understood:
        return intent.warnings
    listed = ", ".join(f'"{phrase.replace(chr(34), chr(39))}"' for phrase in intent.not_understood)
    return (*intent.warnings, f"Not understood by the preview engine: {listed}")


def _working_size(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, WORKING_SIDE_PX / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _reduced(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    """Return the picture, no larger than the working size; `_edited` enlarges a smaller one."""
    reduced = _working_size(image.size)
    return image if reduced == image.size else image.resize(reduced, Image.Resampling.LANCZOS)


def _turned(size: tuple[int, int], ops: Sequence[ImageOperation]) -> tuple[int, int]:
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
