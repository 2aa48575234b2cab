"""The offline engine as a provider: previews made on this machine, free, without a key and without the network.

It is no image model, and the warnings of every result say so. Small references stay small, so that a set is quick.
"""

from __future__ import annotations

from decimal import Decimal

from triptych.catalog import presets
from triptych.core.errors import UnreadableImage
from triptych.core.models import Done, Pending, ProviderRequest, ReturnedImage
from triptych.core.offers import Offer, Operation, Price, Sizes
from triptych.providers import Flow, Provider
from triptych.providers._offers import PATH_TAILS

LABEL = "Drawn by the offline preview engine, not by Seedream."
_MIME_TYPES = {"png": "image/png", "jpeg": "image/jpeg"}


def submit(edit: ProviderRequest) -> Flow[Pending | Done]:
    """Return the finished frames at once, without a call."""
    from triptych.providers import preview

    yield from ()
    images = [reference.data for reference in edit.references if reference.data is not None]
    if len(images) != len(edit.references):
        raise UnreadableImage("The offline engine needs the references' bytes; a URL alone is not enough.")
    rendered = preview.render(
        images,
        edit.prompt,
        count=edit.count,
        size=edit.size,
        mime_type=_MIME_TYPES[edit.format or "png"],
        seed=edit.variation,
    )
    return Done(
        outputs=tuple(ReturnedImage(data=data) for data in rendered.images),
        charged_usd=Decimal(0),
        warnings=(LABEL, *rendered.warnings),
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
    offers=tuple(_offer(operation) for operation in PATH_TAILS),
    submit=submit,
    inline=True,
    max_running=2,
)
