"""The offline engine as a provider: previews made here, free, with no key and no network.

It follows a handful of words in a prompt and labels its frames; it is no image model, and every answer says so. Small
references stay small, so that a set is drawn in a moment.
"""

from __future__ import annotations

from decimal import Decimal

from triptych.catalog import presets
from triptych.core.errors import UnreadableImage
from triptych.core.models import Done, Offer, Operation, Pending, Price, ProviderRequest, ReturnedImage, Sizes
from triptych.providers import Flow, Provider

LABEL = "Drawn by the offline preview engine, not by Seedream."
_MIME_TYPES = {"png": "image/png", "jpeg": "image/jpeg"}


def submit(edit: ProviderRequest) -> Flow[Pending | Done]:
    """Return the finished frames at once, without a call."""
    from triptych.providers import preview

    yield from ()
    mime_type = _MIME_TYPES[edit.format or "png"]
    if edit.offer.operation.edits:
        images = [reference.data for reference in edit.references if reference.data is not None]
        if len(images) != len(edit.references):
            raise UnreadableImage("The offline engine needs the references' bytes; a URL alone is not enough.")
        made = preview.edit(
            images, edit.prompt, count=edit.count, size=edit.size, mime_type=mime_type, seed=edit.variation
        )
    else:
        made = preview.draw(
            edit.prompt, count=edit.count, size=edit.size or (1024, 1024), mime_type=mime_type, seed=edit.variation
        )
    return Done(
        outputs=tuple(ReturnedImage(data=data) for data in made.images),
        charged_usd=Decimal(0),
        warnings=(LABEL, *made.warnings),
    )


def _offer(operation: Operation) -> Offer:
    return Offer(
        provider="draft",
        family="draft",
        operation=operation,
        endpoint=f"draft/{operation}",
        price=Price(Decimal(0), "2026-11-21", "it runs on this machine"),
        sizes=Sizes(
            presets=presets.rows("1K", "2K", "3K", "4K"),
            min_area=65_536,
            max_area=16_777_216,
            default="1K",
            follows_reference=True,
        ),
        max_references=14 if operation.edits else 0,
        max_outputs=15 if operation.sequential else 1,
        formats=("png", "jpeg"),
        latency_s=0.0,
    )


PROVIDER = Provider(
    name="draft",
    title="Offline preview engine (not Seedream)",
    key_env=None,
    base_urls={},
    offers=tuple(_offer(operation) for operation in Operation),
    submit=submit,
    inline=True,
    max_running=2,
)
