"""The models of Atlas Cloud, as data: fields, limits and list prices; and the parser of its submits.

Source: the provider's product and documentation pages and its official MCP server's reading of model schemas
(docs/providers/atlas.md#models). Of Seedream 5.5 only the text-to-image page could be read; the rest follows 5.0 pro's.
The official ComfyUI nodes have the fields of 4.7 and of layer decomposition (docs/providers/atlas.md#layers).
Where two sources disagree, a switch of the emulator chooses. Unknown fields are accepted silently.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from triptych_emulators.kit import InvalidRequest, JobSpec
from triptych_emulators.kit.prices import SMALL_PX, V5_FLASH, V5_PRO, PriceTiers, flat
from triptych_emulators.kit.validation import (
    MAX_TOTAL,
    MIME_TYPES,
    check_area,
    fields_of,
    is_texts,
    is_whole,
    pixels_of,
    prompt_of,
)

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


@dataclass(frozen=True)
class Model:
    """One model id: its fields and limits. `count_field` None means exactly one image; `references` 0 means none."""

    id: str
    title: str
    prices: PriceTiers
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
    layers: int = 0
    """The most images that a layer job returns; 0 for a model without layers."""

    @property
    def category(self) -> str:
        return "IMAGE-TO-IMAGE" if self.references else "TEXT-TO-IMAGE"


_MODES = {"mode": {"type": "string", "enum": ["standard", "fast"], "default": "standard"}}
_OPTIMISE = {"optimize_prompt_options": {"type": "object", "properties": _MODES, "description": "Prompt rewriting."}}
_EXPANSION = {"prompt_expansion_mode": {**_MODES["mode"], "description": "Prompt rewriting."}}
_PRO_OPTIMISE = {"prompt_optimization_mode": {**_MODES["mode"], "description": "Prompt rewriting."}}
LAYER_TIERS: Mapping[str, int] = {"auto": 2048, "1K": 1024, "1.5K": 1536, "2K": 2048}
"""The side of the square of each size of a layer job; `auto` follows the input, and is as dear as 2K."""
_LITE, _V45, _V4, _V47 = (flat(price) for price in ("0.032", "0.036", "0.027", "0.03"))
_V5_5 = PriceTiers(((SMALL_PX, "0.016"), (math.inf, "0.035")), "0.008")
_AREA_4 = (921_600, 16_777_216)

MODELS: tuple[Model, ...] = (
    Model(
        "bytedance/seedream-v5.0-lite/edit-sequential",
        "Seedream v5.0 Lite Edit Sequential",
        _LITE,
        references=14,
        count_field="max_images",
        most=15,
        sizes=SIZES_5_LITE,
        extra=_OPTIMISE,
    ),
    Model(
        "bytedance/seedream-v5.0-lite/sequential",
        "Seedream v5.0 Lite Sequential",
        _LITE,
        count_field="max_images",
        most=15,
        sizes=SIZES_5_LITE,
        extra=_OPTIMISE,
    ),
    Model(
        "bytedance/seedream-v5.0-lite/edit",
        "Seedream v5.0 Lite Edit",
        _LITE,
        references=14,
        sizes=SIZES_5_LITE,
        extra=_OPTIMISE,
    ),
    Model("bytedance/seedream-v5.0-lite", "Seedream v5.0 Lite", _LITE, sizes=SIZES_5_LITE, extra=_OPTIMISE),
    Model(
        "bytedance/seedream-v4.5/edit-sequential",
        "Seedream v4.5 Edit Sequential",
        _V45,
        references=10,
        count_field="max_images",
        most=15,
        formats=False,
        base64_output=True,
    ),
    Model(
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
    Model(
        "bytedance/seedream-v4.7/edit-sequential",
        "Seedream v4.7 Edit Sequential",
        _V47,
        references=10,
        count_field="num_images",
        most=14,
        formats=False,
        extra=_EXPANSION,
    ),
    Model("bytedance/seedream-v4.7/text-to-image", "Seedream v4.7", _V47, formats=False, extra=_EXPANSION),
    Model("bytedance/seedream-v3", "Seedream v3", flat("0.026"), area=(262_144, 4_194_304), shown=False),
    *(
        Model(
            f"bytedance/{family}/{tail}",
            title,
            prices,
            references=10 if tail == "edit" else 0,
            area=(921_600, 4_624_220),
            base64_output=True,
            default_format=image_format,
            extra=_PRO_OPTIMISE if family == "seedream-v5.0-pro" else None,
        )
        for family, title, prices, image_format in (
            ("seedream-v5.5", "Seedream v5.5", _V5_5, "png"),
            ("seedream-v5.0-pro", "Seedream v5.0 Pro", V5_PRO, "jpeg"),
            ("seedream-v5.0-flash", "Seedream v5.0 Flash", V5_FLASH, "jpeg"),
        )
        for tail in ("text-to-image", "edit")
    ),
    *(
        Model(
            f"bytedance/{family}/layer-decomposition",
            f"{title} Layer Decomposition",
            prices,
            references=1,
            reference_field="image",
            default_size="auto",
            default_format="jpeg",
            base64_output=True,
            layers=most,
        )
        for family, title, prices, most in (
            ("seedream-v5.5", "Seedream v5.5", _V5_5, 100),
            ("seedream-v5.0-pro", "Seedream v5.0 Pro", PriceTiers(((SMALL_PX, "0.0225"), (math.inf, "0.045"))), 17),
            ("seedream-v5.0-flash", "Seedream v5.0 Flash", V5_FLASH, 17),
        )
    ),
)


def models(edit_field: str) -> dict[str, Model]:
    """Return the models by id, with this name for the disputed reference field of v5.0-lite/edit."""
    sold = {model.id: model for model in MODELS}
    if edit_field == "image":
        edit = sold["bytedance/seedream-v5.0-lite/edit"]
        sold[edit.id] = replace(edit, reference_field="image", references=1)
    return sold


def parse_submit(body: Any, sold: Mapping[str, Model], layer_count: int = 4) -> JobSpec:
    """Return the job of a submit or calculate body, flat or nested under `input`; raise InvalidRequest.

    A layer job makes `layer_count` images, its base among them.
    """
    nested = fields_of(body).get("input")
    fields = {**body, **nested} if isinstance(nested, dict) else body
    model = sold.get(str(fields.get("model", "")))
    if model is None:
        raise InvalidRequest(f"model not found: {str(fields.get('model', ''))[:100]}")
    prompt = str(fields.get("prompt") or "") if model.layers else prompt_of(fields)
    references = _references(fields, model)
    count = min(layer_count, model.layers) if model.layers else _count(fields, model)
    _check_modes(fields, model)
    if model.references and model.count_field and len(references) + count > MAX_TOTAL:
        raise InvalidRequest(f"the number of input images plus {model.count_field} must not exceed {MAX_TOTAL}")
    output_format = fields.get("output_format") or (model.default_format if model.formats else "jpeg")
    size = _size(fields, model)
    if model.formats and output_format not in MIME_TYPES:
        raise InvalidRequest(f"output_format must be one of: {', '.join(MIME_TYPES)}")
    return JobSpec(
        model=model.id,
        prompt=prompt,
        references=references,
        count=count,
        size=size,
        mime_type=MIME_TYPES.get(str(output_format), "image/jpeg"),
        prices=model.prices,
        layers=model.layers > 0,
        body=body,
    )


def _references(fields: Mapping[str, Any], model: Model) -> list[str]:
    if not model.references:
        return []
    given = fields.get(model.reference_field)
    if model.reference_field == "image":
        if not isinstance(given, str) or not given:
            raise InvalidRequest("image is required and must be a string")
        return [given]
    if not given or not is_texts(given):
        raise InvalidRequest("images is required and must be an array of strings")
    if len(given) > model.references:
        raise InvalidRequest(f"images: at most {model.references} items, got {len(given)}")
    return given


def _count(fields: Mapping[str, Any], model: Model) -> int:
    if model.count_field is None:
        return 1
    count = fields.get(model.count_field, 1)
    if not is_whole(count, 1, model.most):
        raise InvalidRequest(f"{model.count_field} must be an integer between 1 and {model.most}")
    return count


def _check_modes(fields: Mapping[str, Any], model: Model) -> None:
    """Raise InvalidRequest for a mode of prompt rewriting that the schema does not list."""
    for name, described in (model.extra or {}).items():
        mode = fields.get(name, {} if described["type"] == "object" else "standard")
        if described["type"] == "object":
            mode = fields_of(mode).get("mode", "standard")
        if mode not in _MODES["mode"]["enum"]:
            raise InvalidRequest(f"{name} must be one of: {', '.join(_MODES['mode']['enum'])}")


def _size(fields: Mapping[str, Any], model: Model) -> tuple[int, int]:
    size = fields.get("size") or model.default_size
    if model.layers:
        if size not in LAYER_TIERS:
            raise InvalidRequest(f"size must be one of: {', '.join(LAYER_TIERS)}")
        return (LAYER_TIERS[size], LAYER_TIERS[size])
    if model.sizes and size not in model.sizes:
        raise InvalidRequest(f"size must be one of: {', '.join(model.sizes)}")
    pixels = pixels_of(size, "*", "size must look like 2048*2048")
    if not model.sizes:
        check_area(pixels, model.area)
    return pixels


def entry(model: Model, base_url: str) -> dict[str, Any]:
    """Return a model's entry in the public list."""
    side = {"base_price": str(model.prices.from_usd), "unit": "image"}
    return {
        "uuid": str(uuid.UUID(hashlib.md5(model.id.encode(), usedforsecurity=False).hexdigest())),
        "model": model.id,
        "type": "Image",
        "displayName": model.title,
        "profile": f"ByteDance {model.title}.",
        "readme": "",
        "schema": f"{base_url}/_schemas/{model.id}.json",
        "tags": ["HOT"] if model.sizes else [],
        "categories": [model.category],
        "organization": "BYTEDANCE",
        "familyName": "seedream",
        "price": {"discount": "100", "actual": side, "origin": side},
        "avgLatency": 30,
        "display_console": model.shown,
    }


def listing(sold: Mapping[str, Model], base_url: str) -> list[dict[str, Any]]:
    """Return the public list: the models, and one model of another type, as the real list mixes them."""
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
    return [*(entry(model, base_url) for model in sold.values()), text]


def schema(model: Model) -> dict[str, Any]:
    """Return a model's OpenAPI document, with its input under `components.schemas.Input`."""
    fields: dict[str, Any] = {
        "model": {"type": "string", "enum": [model.id], "default": model.id, "description": "Model name."},
        "prompt": {"type": "string", "description": "What to make, with the number of images wanted."},
    }
    required = ["model"] if model.layers else ["model", "prompt"]
    picture = {"type": "string", "x-accept": "image/*", "x-max-size-mb": 10}
    if model.reference_field == "image" and model.references:
        fields["image"] = {**picture, "description": "The image to edit: URL or base64."}
        required.append("image")
    elif model.references:
        fields["images"] = {
            "type": "array",
            "items": picture,
            "minItems": 1,
            "maxItems": model.references,
            "description": f"1 to {model.references} reference images: URL or base64.",
        }
        required.append("images")
    fields["size"] = {"type": "string", "default": model.default_size, "description": "Width*height, in pixels."}
    if model.sizes or model.layers:
        fields["size"]["enum"] = list(model.sizes or LAYER_TIERS)
    if model.count_field:
        about = f"How many images at most; with the references at most {MAX_TOTAL}."
        fields[model.count_field] = {
            "type": "integer",
            "default": 1,
            "minimum": 1,
            "maximum": model.most,
            "description": about,
        }
    if model.formats:
        fields["output_format"] = {"type": "string", "enum": list(MIME_TYPES), "default": model.default_format}
    if model.base64_output:
        fields["enable_base64_output"] = {"type": "boolean", "default": False}
    fields.update(model.extra or {})
    described = {"type": "object", "properties": fields, "required": required, "x-order-properties": list(fields)}
    return {
        "openapi": "3.0.0",
        "info": {"title": model.id, "version": "1.0.0"},
        "servers": [{"url": "https://api.atlascloud.ai"}],
        "paths": {"/api/v1/model/generateImage": {"post": {"summary": model.title}}},
        "components": {"schemas": {"Input": described, "Output": {"type": "object", "properties": {}}}},
    }
