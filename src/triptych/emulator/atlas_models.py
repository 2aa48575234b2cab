"""What Atlas Cloud sells, as data: models, fields, limits and list prices; and what it makes of a request.

Source: the provider's product and documentation pages and its official MCP server's reading of model schemas
(docs/providers/atlas.md#models). Of Seedream 5.5 only the text-to-image page could be read; the rest follows 5.0 pro's.
Where two sources disagree, a switch of the emulator chooses. Unknown fields are accepted silently.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from triptych.emulator.stage import Order
from triptych.emulator.stage.tariffs import SMALL_PX, V5_FLASH, V5_PRO, Tariff, flat

SIZES_5_LITE = (
    "2048*2048",
    "2304*1728",
    "1728*2304",
    "2848*1600",
    "1600*2848",
    "2496*1664",
    "1664*2496",
    "3136*1344",
    "3072*3072",
    "3456*2592",
    "2592*3456",
    "4096*2304",
    "2304*4096",
    "2496*3744",
    "3744*2496",
    "4704*2016",
)
MAX_TOTAL = 15
"""References and outputs of one request, together."""

MIME_TYPES: Mapping[str, str] = {"jpeg": "image/jpeg", "png": "image/png"}


class Malformed(Exception):
    """A request that the API answers with 400; the message is the API's."""


@dataclass(frozen=True)
class Offer:
    """One model id: its fields and limits. `count_field` None means exactly one image; `references` 0 means none."""

    model: str
    title: str
    tariff: Tariff
    references: int = 0
    reference_field: str = "images"
    count_field: str | None = None
    most: int = 1
    sizes: Sequence[str] = ()
    area: tuple[int, int] = (3_686_400, 16_777_216)
    default_size: str = "2048*2048"
    formats: bool = True
    default_format: str = "png"
    base64_output: bool = False
    shown: bool = True
    extra: Mapping[str, Any] | None = None

    @property
    def category(self) -> str:
        return "IMAGE-TO-IMAGE" if self.references else "TEXT-TO-IMAGE"


_MODES = {"mode": {"type": "string", "enum": ["standard", "fast"], "default": "standard"}}
_OPTIMISE = {"optimize_prompt_options": {"type": "object", "properties": _MODES, "description": "Prompt rewriting."}}
_EXPANSION = {"prompt_expansion_mode": {**_MODES["mode"], "description": "Prompt rewriting."}}
_LITE, _V45, _V4, _V47 = (flat(price) for price in ("0.032", "0.036", "0.027", "0.03"))
_V5_5 = Tariff(((SMALL_PX, "0.016"), (math.inf, "0.035")), "0.008")
_AREA_4 = (921_600, 16_777_216)

OFFERS: tuple[Offer, ...] = (
    Offer(
        "bytedance/seedream-v5.0-lite/edit-sequential",
        "Seedream v5.0 Lite Edit Sequential",
        _LITE,
        references=14,
        count_field="max_images",
        most=15,
        sizes=SIZES_5_LITE,
        extra=_OPTIMISE,
    ),
    Offer(
        "bytedance/seedream-v5.0-lite/sequential",
        "Seedream v5.0 Lite Sequential",
        _LITE,
        count_field="max_images",
        most=15,
        sizes=SIZES_5_LITE,
        extra=_OPTIMISE,
    ),
    Offer(
        "bytedance/seedream-v5.0-lite/edit",
        "Seedream v5.0 Lite Edit",
        _LITE,
        references=14,
        sizes=SIZES_5_LITE,
        extra=_OPTIMISE,
    ),
    Offer("bytedance/seedream-v5.0-lite", "Seedream v5.0 Lite", _LITE, sizes=SIZES_5_LITE),
    Offer(
        "bytedance/seedream-v4.5/edit-sequential",
        "Seedream v4.5 Edit Sequential",
        _V45,
        references=10,
        count_field="max_images",
        most=15,
        formats=False,
        base64_output=True,
    ),
    Offer(
        "bytedance/seedream-v4/edit-sequential",
        "Seedream v4 Edit Sequential",
        _V4,
        references=10,
        count_field="max_images",
        most=14,
        area=_AREA_4,
        formats=False,
        base64_output=True,
    ),
    Offer(
        "bytedance/seedream-v4.7/edit-sequential",
        "Seedream v4.7 Edit Sequential",
        _V47,
        references=10,
        count_field="num_images",
        most=14,
        formats=False,
        extra=_EXPANSION,
    ),
    Offer("bytedance/seedream-v4.7/text-to-image", "Seedream v4.7", _V47, formats=False, extra=_EXPANSION),
    Offer("bytedance/seedream-v3", "Seedream v3", flat("0.026"), area=(262_144, 4_194_304), shown=False),
    *(
        Offer(
            f"bytedance/{family}/{tail}",
            title,
            tariff,
            references=10 if tail == "edit" else 0,
            area=(921_600, 4_624_220),
            base64_output=True,
            default_format=image_format,
        )
        for family, title, tariff, image_format in (
            ("seedream-v5.5", "Seedream v5.5", _V5_5, "png"),
            ("seedream-v5.0-pro", "Seedream v5.0 Pro", V5_PRO, "jpeg"),
            ("seedream-v5.0-flash", "Seedream v5.0 Flash", V5_FLASH, "jpeg"),
        )
        for tail in ("text-to-image", "edit")
    ),
)


def offers(edit_field: str) -> dict[str, Offer]:
    """Return the offers by model id, with the disputed reference field of v5.0-lite/edit as asked."""
    sold = {offer.model: offer for offer in OFFERS}
    if edit_field == "image":
        edit = sold["bytedance/seedream-v5.0-lite/edit"]
        sold[edit.model] = replace(edit, reference_field="image", references=1)
    return sold


def understood(body: Any, sold: Mapping[str, Offer]) -> Order:
    """Return what a submit or calculate body asks for, flat or nested under `input`; raise Malformed."""
    if not isinstance(body, dict):
        raise Malformed("request body must be a JSON object")
    nested = body.get("input")
    fields = {**body, **nested} if isinstance(nested, dict) else body
    offer = sold.get(str(fields.get("model", "")))
    if offer is None:
        raise Malformed(f"model not found: {str(fields.get('model', ''))[:100]}")
    prompt = fields.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise Malformed("prompt is required")
    references = _references(fields, offer)
    count = _count(fields, offer)
    if offer.references and offer.count_field and len(references) + count > MAX_TOTAL:
        raise Malformed(f"the number of input images plus {offer.count_field} must not exceed {MAX_TOTAL}")
    output_format = fields.get("output_format") or (offer.default_format if offer.formats else "jpeg")
    size = _size(fields, offer)
    if offer.formats and output_format not in MIME_TYPES:
        raise Malformed(f"output_format must be one of: {', '.join(MIME_TYPES)}")
    return Order(
        model=offer.model,
        prompt=prompt,
        references=references,
        count=count,
        size=size,
        mime_type=MIME_TYPES.get(str(output_format), "image/jpeg"),
        price_usd=offer.tariff.each_usd(size),
        fee_usd=offer.tariff.fee_usd(len(references)),
        body=body,
    )


def _references(fields: Mapping[str, Any], offer: Offer) -> list[str]:
    if not offer.references:
        return []
    given = fields.get(offer.reference_field)
    if offer.reference_field == "image":
        if not isinstance(given, str) or not given:
            raise Malformed("image is required and must be a string")
        return [given]
    if not isinstance(given, list) or not given or not all(isinstance(item, str) and item for item in given):
        raise Malformed("images is required and must be an array of strings")
    if len(given) > offer.references:
        raise Malformed(f"images: at most {offer.references} items, got {len(given)}")
    return given


def _count(fields: Mapping[str, Any], offer: Offer) -> int:
    if offer.count_field is None:
        return 1
    count = fields.get(offer.count_field, 1)
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= offer.most:
        raise Malformed(f"{offer.count_field} must be an integer between 1 and {offer.most}")
    return count


def _size(fields: Mapping[str, Any], offer: Offer) -> tuple[int, int]:
    size = fields.get("size") or offer.default_size
    if offer.sizes and size not in offer.sizes:
        raise Malformed(f"size must be one of: {', '.join(offer.sizes)}")
    width, _, height = str(size).partition("*")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise Malformed("size must look like 2048*2048")
    pixels = int(width), int(height)
    if not offer.sizes:
        low, high = offer.area
        if not low <= pixels[0] * pixels[1] <= high:
            raise Malformed(f"size: the area must be between {low} and {high} pixels")
        if max(pixels) > 16 * min(pixels):
            raise Malformed("size: the aspect ratio must be between 1/16 and 16")
    return pixels


def entry(offer: Offer, base_url: str) -> dict[str, Any]:
    """Return a model's entry in the public list."""
    side = {"base_price": str(offer.tariff.from_usd), "unit": "image"}
    return {
        "uuid": str(uuid.UUID(hashlib.md5(offer.model.encode(), usedforsecurity=False).hexdigest())),
        "model": offer.model,
        "type": "Image",
        "displayName": offer.title,
        "profile": f"ByteDance {offer.title}.",
        "readme": "",
        "schema": f"{base_url}/_schemas/{offer.model}.json",
        "tags": ["HOT"] if offer.sizes else [],
        "categories": [offer.category],
        "organization": "BYTEDANCE",
        "familyName": "seedream",
        "price": {"discount": "100", "actual": side, "origin": side},
        "avgLatency": 30,
        "display_console": offer.shown,
    }


def listing(sold: Mapping[str, Offer], base_url: str) -> list[dict[str, Any]]:
    """Return the public list: the offers, and one model of another type, as the real list mixes them."""
    text = {
        "uuid": str(uuid.UUID(int=1)),
        "model": "deepseek-ai/deepseek-v3.2",
        "type": "Text",
        "displayName": "DeepSeek V3.2",
        "profile": "A language model.",
        "readme": "",
        "tags": [],
        "categories": ["LLM"],
        "organization": "DEEPSEEK",
        "familyName": "deepseek",
        "price": {"discount": "100", "actual": {"input_price": "0.26", "output_price": "0.38"}},
        "display_console": True,
    }
    return [*(entry(offer, base_url) for offer in sold.values()), text]


def schema(offer: Offer) -> dict[str, Any]:
    """Return a model's OpenAPI document, with its input under `components.schemas.Input`."""
    fields: dict[str, Any] = {
        "model": {"type": "string", "enum": [offer.model], "default": offer.model, "description": "Model name."},
        "prompt": {"type": "string", "description": "What to make, with the number of images wanted."},
    }
    required = ["model", "prompt"]
    picture = {"type": "string", "x-accept": "image/*", "x-max-size-mb": 10}
    if offer.reference_field == "image" and offer.references:
        fields["image"] = {**picture, "description": "The image to edit: URL or base64."}
        required.append("image")
    elif offer.references:
        fields["images"] = {
            "type": "array",
            "items": picture,
            "minItems": 1,
            "maxItems": offer.references,
            "description": f"1 to {offer.references} reference images: URL or base64.",
        }
        required.append("images")
    fields["size"] = {"type": "string", "default": offer.default_size, "description": "Width*height, in pixels."}
    if offer.sizes:
        fields["size"]["enum"] = list(offer.sizes)
    if offer.count_field:
        about = f"How many images at most; with the references at most {MAX_TOTAL}."
        fields[offer.count_field] = {
            "type": "integer",
            "default": 1,
            "minimum": 1,
            "maximum": offer.most,
            "description": about,
        }
    if offer.formats:
        fields["output_format"] = {"type": "string", "enum": list(MIME_TYPES), "default": offer.default_format}
    if offer.base64_output:
        fields["enable_base64_output"] = {"type": "boolean", "default": False}
    fields.update(offer.extra or {})
    described = {"type": "object", "properties": fields, "required": required, "x-order-properties": list(fields)}
    return {
        "openapi": "3.0.0",
        "info": {"title": offer.model, "version": "1.0.0"},
        "servers": [{"url": "https://api.atlascloud.ai"}],
        "paths": {"/api/v1/model/generateImage": {"post": {"summary": offer.title}}},
        "components": {"schemas": {"Input": described, "Output": {"type": "object", "properties": {}}}},
    }
