"""What WaveSpeedAI sells, as data: models, limits and list prices; and what it makes of a request.

Source: the provider's model pages and a captured call (wire notes 2.2, 2.6), the areas from the origin (wire notes
1.4). Unknown fields are accepted silently, as the two spellings of a webhook are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from triptych.emulator.stage import Order

MAX_REFERENCES = 10
MAX_IMAGES = 15
MAX_TOTAL = 15
"""References and outputs of one request, together."""

MIME_TYPES: Mapping[str, str] = {"jpeg": "image/jpeg", "png": "image/png"}


class Malformed(Exception):
    """A request that the API answers with 400; the message is the API's."""


@dataclass(frozen=True)
class Offer:
    """One model id: its fields and limits."""

    model: str
    title: str
    price_usd: Decimal
    area: tuple[int, int]
    formats: bool
    edits: bool
    sequential: bool


def _offers() -> dict[str, Offer]:
    families = (
        ("seedream-v5.0-lite", "Seedream V5.0 Lite", "0.035", (3_686_400, 16_777_216), True),
        ("seedream-v4.5", "Seedream V4.5", "0.04", (3_686_400, 16_777_216), False),
        ("seedream-v4", "Seedream V4", "0.027", (921_600, 16_777_216), False),
    )
    tails = (
        ("", "", False, False),
        ("/edit", " Edit", True, False),
        ("/sequential", " Sequential", False, True),
        ("/edit-sequential", " Edit Sequential", True, True),
    )
    made = [
        Offer(f"bytedance/{family}{tail}", title + more, Decimal(usd), area, formats, edits, sequential)
        for family, title, usd, area, formats in families
        for tail, more, edits, sequential in tails
    ]
    return {offer.model: offer for offer in made}


OFFERS = _offers()


def understood(offer: Offer, body: Any, default_count: int, follow: tuple[int, int] | None) -> Order:
    """Return what a submit's or quote's body asks for; raise Malformed.

    `follow` is the size of the first reference, which counts where no size is given.
    """
    if not isinstance(body, dict):
        raise Malformed("request body must be a JSON object")
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise Malformed("property 'prompt' is required")
    references = _references(offer, body)
    count = body.get("max_images", default_count) if offer.sequential else 1
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_IMAGES:
        raise Malformed(f"property 'max_images' must be an integer between 1 and {MAX_IMAGES}")
    if offer.edits and len(references) + count > MAX_TOTAL:
        raise Malformed(f"the number of input images plus max_images must not exceed {MAX_TOTAL}")
    output_format = body.get("output_format") or "jpeg"
    if offer.formats and output_format not in MIME_TYPES:
        raise Malformed(f"property 'output_format' must be one of: {', '.join(MIME_TYPES)}")
    return Order(
        model=offer.model,
        prompt=prompt,
        references=references,
        count=count,
        size=_size(offer, body, follow),
        mime_type=MIME_TYPES[str(output_format)] if offer.formats else "image/jpeg",
        price_usd=offer.price_usd,
        body=body,
    )


def _references(offer: Offer, body: Mapping[str, Any]) -> Sequence[str]:
    if not offer.edits:
        return []
    given = body.get("images")
    if not isinstance(given, list) or not given or not all(isinstance(item, str) and item for item in given):
        raise Malformed("property 'images' is required and must be an array of strings")
    if len(given) > MAX_REFERENCES:
        raise Malformed(f"property 'images' takes at most {MAX_REFERENCES} items, got {len(given)}")
    return given


def _size(offer: Offer, body: Mapping[str, Any], follow: tuple[int, int] | None) -> tuple[int, int]:
    size = body.get("size")
    if size in (None, ""):
        return follow or (2048, 2048)
    width, _, height = str(size).partition("*")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise Malformed("property 'size' must look like 2048*2048")
    pixels = int(width), int(height)
    low, high = offer.area
    if not low <= pixels[0] * pixels[1] <= high:
        raise Malformed(f"property 'size': the area must be between {low} and {high} pixels")
    if max(pixels) > 16 * min(pixels):
        raise Malformed("property 'size': the aspect ratio must be between 1/16 and 16")
    return pixels


def listing() -> list[dict[str, Any]]:
    """Return the live model list: the offers, and one model of another kind, as the real list mixes them."""
    video = {
        "model_id": "wavespeed-ai/wan-2.2/i2v-480p",
        "name": "wavespeed-ai/wan-2.2/i2v-480p",
        "description": "A video model.",
        "type": "image-to-video",
        "base_price": 0.15,
        "sort_order": 1,
        "formula": "",
        "api_schema": {"api_schemas": []},
    }
    return [*(_entry(offer, order) for order, offer in enumerate(OFFERS.values(), start=2)), video]


def _entry(offer: Offer, order: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"prompt": {"type": "string", "description": "What to make."}}
    required = ["prompt"]
    if offer.edits:
        about = "The images to edit."
        fields["images"] = {
            "type": "array", "items": {"type": "string"}, "maxItems": MAX_REFERENCES, "description": about
        }  # fmt: skip
        required.append("images")
    fields["size"] = {"type": "string", "description": "Width*height, in pixels.", "minimum": 64, "maximum": 16384}
    if offer.sequential:
        fields["max_images"] = {"type": "integer", "default": 1, "minimum": 1, "maximum": MAX_IMAGES}
    if offer.formats:
        fields["output_format"] = {"type": "string", "enum": list(MIME_TYPES), "default": "jpeg"}
    fields["enable_base64_output"] = {"type": "boolean", "default": False}
    fields["enable_sync_mode"] = {"type": "boolean", "default": False}
    schema = {"type": "object", "properties": fields, "required": required, "x-order-properties": list(fields)}
    return {
        "model_id": offer.model,
        "name": offer.model,
        "description": f"ByteDance {offer.title}.",
        "type": "image-to-image" if offer.edits else "text-to-image",
        "base_price": float(offer.price_usd),
        "sort_order": order,
        "formula": "price * max_images" if offer.sequential else "",
        "api_schema": {
            "api_schemas": [
                {
                    "type": "model_run",
                    "method": "POST",
                    "server": "https://api.wavespeed.ai",
                    "api_path": f"/api/v3/{offer.model}",
                    "request_schema": schema,
                }
            ]
        },
    }
