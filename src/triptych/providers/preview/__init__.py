"""The offline engine: `render` makes edits of pictures, or scenes from words alone, on this machine.

It is no image model: it follows a few hundred words by plain image processing, for a first try without a key. `render`
and `take_apart` are its only doors, and `provider` makes a provider of it; no other module of Triptych needs the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triptych.providers.preview.engine import RenderedImages
    from triptych.providers.preview.layers import CutLayer

__all__ = ["render", "take_apart"]


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
    """Return `count` edits of the images; without images, `count` panels of a scene painted from the prompt.

    `take` is a number for another version of the same. With the `background` "transparent" the panels have no plain
    background or backdrop; "auto" keeps the transparency of the images; otherwise nothing is transparent. `look` is how
    many of the last images belong to a look, and its words: both change every panel alike.

    The result has `images` (files, in order), `warnings` (the words that were not followed) and `size` in pixels.
    `size` is exact; None keeps the size of the first image, or means 1024×1024. The same arguments give the same bytes.
    Raises: `UnreadableImage`, and `ValueError` for a count below one.
    """
    from triptych.providers.preview import engine  # Pillow is loaded for the first picture, not at start-up

    return engine.render(
        images,
        prompt,
        count=count,
        size=size,
        mime_type=mime_type,
        seed=seed,
        take=take,
        background=background,
        look=look,
    )


def take_apart(
    image: bytes, *, size: tuple[int, int] | None = None, mime_type: str = "image/png", most: int = 3
) -> tuple[tuple[CutLayer, ...], tuple[str, ...]]:
    """Return the picture's base and up to `most` transparent layers, and warnings; `size` is the base's in pixels.

    Raises: `UnreadableImage`.
    """
    from triptych.providers.preview import layers

    return layers.take_apart(image, size=size, mime_type=mime_type, most=most)
