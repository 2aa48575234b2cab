"""The offline engine as a provider: previews made on this machine, free, without a key and without the network.

It is no image model, and the warnings of every result say so. Small references stay small, so that a set is quick.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from triptych.catalog import presets
from triptych.core.errors import UnreadableImage
from triptych.core.models import Done, Layer, Pending, ProviderRequest, ReturnedImage
from triptych.core.offers import Offer, Operation, Param, Price, Sizes
from triptych.providers import Flow, Provider
from triptych.providers._offers import BACKGROUND, PATH_TAILS

LABEL = "Drawn by the offline preview engine, not by Seedream."
_MIME_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
_LAYERS = 3
"""The most layers of a picture, besides its base."""
_PARAMS = {
    "background": replace(BACKGROUND, path=()),
    "seed": Param(
        {
            "type": "integer",
            "minimum": 0,
            "maximum": 2**32 - 1,
            "description": "A number for another version; the same number gives the same bytes.",
        }
    ),
}
_NO_MODEL = "the offline engine is no image model"
_NO_PARAMS = dict.fromkeys(("negative_prompt", "prompt_optimization", "web_search", "watermark", "quality"), _NO_MODEL)


def submit(edit: ProviderRequest) -> Flow[Pending | Done]:
    """Return the finished frames at once, without a call."""
    from triptych.providers import preview

    yield from ()
    images = [reference.data for reference in edit.references if reference.data is not None]
    if len(images) != len(edit.references):
        raise UnreadableImage("The offline engine needs the references' bytes; a URL alone is not enough.")
    mime_type = _MIME_TYPES[edit.format or "png"]
    if edit.offer.operation is Operation.LAYERS:
        return _layers(images[0], edit, mime_type)
    look = edit.request.look
    rendered = preview.render(
        images,
        edit.prompt.replace(f" Keep this look: {look.words}", "") if look else edit.prompt,
        count=edit.count,
        size=edit.size,
        mime_type=mime_type,
        seed=edit.variation,
        take=edit.params.get("seed"),
        background=edit.params.get("background"),
        look=(len(look.images), look.words) if look else (0, ""),
    )
    return Done(
        outputs=tuple(ReturnedImage(data=data) for data in rendered.images),
        charged_usd=Decimal(0),
        warnings=(LABEL, *rendered.warnings),
    )


def _layers(image: bytes, edit: ProviderRequest, mime_type: str) -> Done:
    """Return the base of a picture and its layers, from the back to the front."""
    from triptych.providers import preview

    cut, warnings = preview.take_apart(image, size=edit.size, mime_type=mime_type, most=_LAYERS)
    outputs = tuple(
        ReturnedImage(data=layer.data, layer=Layer(z_index, layer.name, layer.description, layer.box))
        for z_index, layer in enumerate(cut)
    )
    return Done(outputs, charged_usd=Decimal(0), warnings=(LABEL, *warnings))


def _offer(operation: Operation) -> Offer:
    layers = operation is Operation.LAYERS
    schema = {"type": "boolean", "description": "Take the picture apart: its base, and transparent layers over it."}
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
        max_references=1 if layers else 14 if operation.edits else 0,
        max_outputs=1 + _LAYERS if layers else 15 if operation.sequential else 1,
        formats=tuple(_MIME_TYPES),
        latency_s=0.0,
        params={"layers": Param(schema)} if layers else _PARAMS,
        no_params=_NO_PARAMS,
    )


PROVIDER = Provider(
    name="draft",
    title="Offline preview engine (not Seedream)",
    key_env=None,
    base_urls={},
    offers=tuple(_offer(operation) for operation in (*PATH_TAILS, Operation.LAYERS)),
    submit=submit,
    inline=True,
    max_running=2,
)
