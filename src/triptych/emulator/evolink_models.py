"""What EvoLink sells, as data: models, limits and list prices; and what it makes of a request.

Source: the official MCP servers and the documentation (docs/providers/evolink.md#models), the areas and the prices of
4.5 and 4.0 from the origin (docs/providers/README.md#sizes). One model id serves a prompt alone and a prompt with
images, one output and several. Unknown fields are accepted silently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from triptych.emulator.stage import Order
from triptych.emulator.stage.tariffs import V5_FLASH, V5_PRO, Tariff, flat

MAX_REFERENCES = 14
MAX_IMAGES = 15
MAX_TOTAL = 15
"""References and outputs of one request, together."""
CREDITS_PER_USD = 68
RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9", "9:21")
AREAS: Mapping[str, int] = {"1K": 1024**2, "1.5K": 1536**2, "2K": 2048**2, "3K": 3072**2, "4K": 4096**2}
MIME_TYPES: Mapping[str, str] = {"jpeg": "image/jpeg", "png": "image/png"}


class Malformed(Exception):
    """A request that the API answers with 400; the message is the API's."""


@dataclass(frozen=True)
class Offer:
    """One model id: its fields and limits."""

    model: str
    title: str
    tariff: Tariff
    area: tuple[int, int]
    most: int = MAX_IMAGES
    formats: bool = False
    """`output_format` is taken among the model parameters, where one request makes one image in the request itself."""
    references: int = MAX_REFERENCES
    prompt_chars: int = 2000
    lifecycle: str = "active"


OFFERS: Mapping[str, Offer] = {
    offer.model: offer
    for offer in (
        Offer("doubao-seedream-5.0-lite", "Seedream 5.0 Lite", flat("0.032"), (3_686_400, 16_777_216), formats=True),
        Offer("doubao-seedream-4.5", "Seedream 4.5", flat("0.04"), (3_686_400, 16_777_216)),
        Offer("doubao-seedream-4.0", "Seedream 4.0", flat("0.03"), (921_600, 16_777_216), prompt_chars=1000),
        Offer("doubao-seedream-5.0-pro", "Seedream 5.0 Pro", V5_PRO, (921_600, 4_624_220), 1, True, 10),
        Offer("doubao-seedream-5.0-flash", "Seedream 5.0 Flash", V5_FLASH, (921_600, 4_624_220), 1, True, 10),
    )
}


def understood(body: Any) -> Order:
    """Return what a submit's body asks for; raise Malformed."""
    if not isinstance(body, dict):
        raise Malformed("request body must be a JSON object")
    offer = OFFERS.get(str(body.get("model", "")))
    if offer is None:
        raise Malformed(f"model not found: {str(body.get('model', ''))[:100]}")
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise Malformed("prompt is required")
    if len(prompt) > offer.prompt_chars:
        raise Malformed(f"prompt must have at most {offer.prompt_chars} characters")
    references = _references(offer, body)
    count = body.get("n") or 1
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= offer.most:
        raise Malformed(f"n must be an integer between 1 and {offer.most}")
    if len(references) + count > MAX_TOTAL:
        raise Malformed(f"the number of image_urls plus n must not exceed {MAX_TOTAL}")
    params = body if offer.most == 1 else body.get("model_params")
    output_format = (params.get("output_format") if isinstance(params, dict) else None) or "jpeg"
    if offer.formats and output_format not in MIME_TYPES:
        raise Malformed(f"output_format must be one of: {', '.join(MIME_TYPES)}")
    size = _size(offer, body)
    return Order(
        model=offer.model,
        prompt=prompt,
        references=references,
        count=count,
        size=size,
        mime_type=MIME_TYPES[str(output_format)] if offer.formats else "image/jpeg",
        price_usd=offer.tariff.each_usd(size),
        fee_usd=offer.tariff.fee_usd(len(references)),
        body=body,
    )


def _references(offer: Offer, body: Mapping[str, Any]) -> Sequence[str]:
    given = body.get("image_urls") or []
    if not isinstance(given, list) or not all(isinstance(u, str) and re.match("https?://", u) for u in given):
        raise Malformed("image_urls must be an array of URLs")
    if len(given) > offer.references:
        raise Malformed(f"image_urls: at most {offer.references} items, got {len(given)}")
    return given


def _size(offer: Offer, body: Mapping[str, Any]) -> tuple[int, int]:
    """Return the pixels of a size: `auto`, a ratio with `quality`, a word, or WxH."""
    words = ("1K", "1.5K", "2K") if offer.most == 1 else ("1K", "2K", "3K", "4K")
    quality, size = str(body.get("quality") or ("1K" if offer.most == 1 else "2K")), str(body.get("size") or "auto")
    if quality not in words:
        raise Malformed(f"quality must be one of: {', '.join(words)}")
    low, high = offer.area
    if found := re.fullmatch(r"([1-9][0-9]{1,4})x([1-9][0-9]{1,4})", size):
        pixels = int(found[1]), int(found[2])
        if not low <= pixels[0] * pixels[1] <= high:
            raise Malformed(f"size: the area must be between {low} and {high} pixels")
        if max(pixels) > 16 * min(pixels):
            raise Malformed("size: the aspect ratio must be between 1/16 and 16")
        return pixels
    area = min(AREAS.get(size, AREAS[quality]), high)
    if size == "auto" or size in AREAS:
        return round(area**0.5), round(area**0.5)
    if size not in RATIOS:
        raise Malformed(f"size must be auto, WxH or one of: {', '.join(RATIOS)}")
    wide, _, tall = size.partition(":")
    side = (area / (int(wide) * int(tall))) ** 0.5
    return round(side * int(wide)), round(side * int(tall))


def catalog(updated_at: str) -> dict[str, Any]:
    """Return the live catalog: the offers, and one model of another kind."""
    shown = [
        {
            "model_id": offer.model,
            "display_name": offer.title,
            "provider": "bytedance",
            "aliases": [],
            "capabilities": ["image"],
            "protocols": ["evolink"],
            "lifecycle": offer.lifecycle,
        }
        for offer in OFFERS.values()
    ]
    video = {**shown[0], "model_id": "sora-2", "display_name": "Sora 2", "capabilities": ["video"]}
    meta = {"schema_version": "1", "catalog_version": "2026-11-21", "updated_at": updated_at, "fresh_until": updated_at}
    return {"meta": meta, "models": [*shown, video]}


def pricing() -> dict[str, Any]:
    """Return the catalog's prices, in credits and dollars per image."""
    priced = [
        {"model_id": o.model, "unit": "image", "usd": float(o.tariff.from_usd), "credits": credits(o.tariff.from_usd)}
        for o in OFFERS.values()
    ]
    return {"meta": {"schema_version": "1"}, "models": priced}


def credits(usd: Decimal) -> float:
    return float(round(usd * CREDITS_PER_USD, 4))
