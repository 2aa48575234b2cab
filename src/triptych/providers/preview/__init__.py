"""The offline engine: `render` makes edits of pictures, or scenes from words alone, on this machine.

It is no image model: it follows a few hundred words by plain image processing, for a first try without a key. `render`
is its only door, and `provider` makes a provider of it; no other module of Triptych needs the rest of this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triptych.providers.preview.engine import RenderedImages

__all__ = ["render"]


def render(
    images: Sequence[bytes],
    prompt: str,
    *,
    count: int = 1,
    size: tuple[int, int] | None = None,
    mime_type: str = "image/png",
    seed: str = "",
) -> RenderedImages:
    """Return `count` edits of the images; without images, `count` panels of a scene painted from the prompt.

    The result has `images` (files, in order), `warnings` (the words that were not followed) and `size` in pixels.
    `size` is exact; None keeps the size of the first image, or means 1024×1024. The same arguments give the same bytes.
    Raises: `UnreadableImage`, and `ValueError` for a count below one.
    """
    from triptych.providers.preview import engine  # Pillow is loaded for the first picture, not at start-up

    return engine.render(images, prompt, count=count, size=size, mime_type=mime_type, seed=seed)
