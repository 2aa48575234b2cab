"""The work behind `preview.render`: edits of pictures, and scenes painted from words.

Rules: pure: the same images, words, count, size and seed give the same bytes. Every panel of a call differs visibly
from every other. `warnings` list the words that this engine does not follow.

`plan` reads the words (with `tokens`, `variants`, `vocabulary`), `effects` edits pictures (with `tone`, `grades`,
`media`, `geometry`, `masks`), `scene` and `scene_painter` (with `landscape`) paint where there is no picture.
`cutout` finds subjects, and `layers` takes pictures apart.
Must not know: files, jobs, providers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from triptych.images import contact_sheet, processing
from triptych.providers.preview import cutout, effects, geometry, masks, scene, scene_painter, tone
from triptych.providers.preview.plan import EditPlan, parse_prompt
from triptych.providers.preview.tokens import ImageOperation
from triptych.providers.preview.vocabulary import SEASONS

WORKING_SIDE_PX = 1600
VISIBLE = 4.0
"""How far apart, in levels of 255 on average, two panels of one call are at least (see `tone.distance`)."""
NUDGE_LEVELS = 7
SHAPES = ("rotate", "flip", "crop")


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
    take: int | None = None,
    background: str | None = None,
    look: tuple[int, str] = (0, ""),
) -> RenderedImages:
    """Return `count` edits of the images, or without images `count` panels of a painted scene.

    `look` is how many of the last images are a look's, and its words: both change every panel alike.
    Raises: `UnreadableImage`, and `ValueError` for a count below one.
    """
    if count < 1:
        raise ValueError("a preview needs a count of at least one")
    number = "" if take is None else str(take)
    if images:
        return _edit(images, prompt, count, size, mime_type, seed, number, background, look)
    return _draw(prompt, count, size or (1024, 1024), mime_type, f"{seed}{number}", background)


def _edit(
    images: Sequence[bytes],
    prompt: str,
    count: int,
    size: tuple[int, int] | None,
    mime_type: str,
    seed: str,
    take: str,
    background: str | None,
    look: tuple[int, str],
) -> RenderedImages:
    """Return `count` edits of the first image; the others lend it their colours, or join it in a collage.

    The images of a look only lend their colours, to every panel. With as many images as panels and "each" in the
    prompt, panel n is made from image n. `size` in pixels is exact; None keeps the size of the first image, turned and
    cropped by the prompt.
    """
    intent = _with_words(parse_prompt(prompt, count), look[1])
    upright = [processing.open_upright(data) for data in images[:14]]
    opened = [contact_sheet.opaque(image, checker=False).convert("RGB") for image in upright]
    alphas = [_alpha(image) if background in ("transparent", "auto") else None for image in upright]
    full = opened[0].size
    names = {op.name for ops in intent.panels for op in ops}
    own = opened[: len(opened) - look[0]] or opened[:1]
    lent = opened[len(own) :]
    each = intent.each and len(own) == count and count > 1
    if each:
        bases = own
    elif len(own) > 1 and names & {"collage", "blend"}:
        bases, alphas = [_joined([_reduced(one, size) for one in own], "blend" in names)], [None]
        full = bases[0].size
    else:
        bases, alphas, lent = [own[0]], alphas[:1], opened[1:]
    for reference in lent:
        bases = [tone.like(_reduced(base, size), reference, 0.65 / len(lent) ** 0.5) for base in bases]
    final = size or _turned(full, intent.panels[0])
    mark = seed or hashlib.sha256(prompt.encode("utf-8", "replace")).hexdigest()
    panels: list[Image.Image] = []
    cuts: list[Image.Image | None] = []
    for n, ops in enumerate(intent.panels[:count]):
        alpha = alphas[n % len(alphas)]
        base = _shaped(_reduced(bases[n % len(bases)], size), ops, final, mark, take)
        cut = _shaped(_reduced(alpha, size), ops, final, mark, take).convert("L") if alpha else None
        if background == "transparent":
            cut = cut or cutout.subject(base)
        rest = [op for op in ops if op.name not in SHAPES]
        panels.append(effects.apply(_lit(base, take), rest, mark + take))
        cuts.append(cut and cutout.followed(cut, rest, mark + take))
    return _finished(panels, cuts, final, mime_type, _warnings(intent) + _uncut(cuts, background))


def _draw(
    prompt: str, count: int, size: tuple[int, int], mime_type: str, seed: str, background: str | None
) -> RenderedImages:
    """Return `count` panels of a scene painted from the words: one place and palette, at later and later times."""
    intent = parse_prompt(prompt, count, known=scene.NOUNS)
    working = _working_size(size)
    mark = f"{prompt}|{seed}"
    panels: list[Image.Image] = []
    cuts: list[Image.Image | None] = []
    for n, (ops, text) in enumerate(zip(intent.panels, intent.texts, strict=True)):
        progress = 0.35 + 0.2 * (n // intent.listed) if intent.listed else n / (count - 1) if count > 1 else 0.35
        described = scene.Scene.of(text, ops, mark, min(1.0, progress))
        painted, cut = scene_painter.paint_cut(described, working)
        painted_already = {*scene.PAINTED, "variation", "crop", *(("tint",) if described.is_abstract else ())}
        rest = [
            replace(op, strength=op.strength * (0.6 if op.name in (*SEASONS, "snow") else 1.0))
            for op in ops
            if op.name not in painted_already
        ]
        panels.append(geometry.cover(effects.apply(painted, rest, mark), working))
        followed = cutout.followed(cut, rest, mark) if background == "transparent" else None
        cuts.append(followed and geometry.cover(followed, working))
    return _finished(panels, cuts, size, mime_type, _warnings(intent) + _uncut(cuts, background))


def _with_words(intent: EditPlan, words: str) -> EditPlan:
    """Return a plan with the operations of a look's words in every panel."""
    if not words:
        return intent
    read = parse_prompt(words, 1)
    shared = [op for op in read.panels[0] if op.name not in ("variation", *SHAPES)]
    panels = tuple((*ops, *(op for op in shared if op not in ops)) for ops in intent.panels)
    return replace(intent, panels=panels, not_understood=(*intent.not_understood, *read.not_understood))


def _shaped(
    base: Image.Image, ops: Sequence[ImageOperation], final: tuple[int, int], seed: str, take: str
) -> Image.Image:
    """Return one panel's picture at working size: geometry first, then the wanted shape, then the take's detail."""
    turned = effects.apply(base, [op for op in ops if op.name in SHAPES], seed)
    covered = geometry.cover(turned, _working_size(final))
    if not take:
        return covered
    chance = masks.SeededRandom(f"take {take}")
    return geometry.closer(covered, chance(0.88, 0.96), (chance(), chance()))


def _lit(image: Image.Image, take: str) -> Image.Image:
    """Return the picture in the light of a take: a little lighter or darker, warmer or cooler."""
    if not take:
        return image
    chance = masks.SeededRandom(f"light {take}")
    tones = ("bright" if chance() < 0.5 else "dark", "warm" if chance() < 0.5 else "cool")
    return tone.graded(image, [ImageOperation(name, chance(0.15, 0.45)) for name in tones])


def _alpha(image: Image.Image) -> Image.Image | None:
    """Return the alpha of a picture with transparent places, as a grey RGB picture."""
    if image.mode != "RGBA" or image.getchannel("A").getextrema() == (255, 255):
        return None
    return image.getchannel("A").convert("RGB")


def _finished(
    panels: Sequence[Image.Image],
    cuts: Sequence[Image.Image | None],
    size: tuple[int, int],
    mime_type: str,
    warnings: tuple[str, ...],
) -> RenderedImages:
    """Return the panels as files of that size, each moved in tone until it is unlike all before it, and cut out."""
    distinct: list[Image.Image] = []
    for panel in panels:
        moved, tries = panel, 0
        while tries < 32 and any(tone.distance(moved, other) < VISIBLE for other in distinct):
            tries += 1
            moved = tone.nudged(panel, NUDGE_LEVELS * tries)
        distinct.append(moved)
    files = []
    for panel, cut in zip(distinct, cuts, strict=True):
        one = panel if panel.size == size else panel.resize(size, Image.Resampling.BICUBIC)
        if cut:
            one.putalpha(cut if cut.size == size else cut.resize(size, Image.Resampling.BICUBIC))
        files.append(processing.encode(one, mime_type))
    return RenderedImages(tuple(files), warnings, size)


def _uncut(cuts: Sequence[Image.Image | None], background: str | None) -> tuple[str, ...]:
    if background != "transparent" or None not in cuts:
        return ()
    return ("No transparent background: the offline engine removes a plain background only, and found none here.",)


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
