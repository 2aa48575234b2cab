"""The models of WaveSpeedAI, as data, with limits and list prices; and the parser of its submits.

Source: the provider's model pages and a captured call (docs/providers/wavespeed.md#models), the areas from the origin
(docs/providers/README.md#sizes). Unknown fields are accepted silently, as the two spellings of a webhook are; but not
by the models that take a ratio and a resolution, whose schema allows no other field. The pixels of their sizes are the
origin's, and where it has none they follow from the tier's area. The prices of 5.5 are the origin's, its 3k an
assumption.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from triptych_emulators.kit import InvalidRequest, JobSpec
from triptych_emulators.kit.prices import SMALL_PX, V5_PRO, PriceTiers, flat
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

MAX_REFERENCES = 10
MAX_IMAGES = 15


@dataclass(frozen=True)
class Model:
    """One model id: its fields and limits."""

    id: str
    title: str
    prices: PriceTiers
    area: tuple[int, int]
    formats: bool
    edits: bool
    sequential: bool
    tiers: Sequence[str] = ()
    """The values of `resolution`; such a model takes it and `aspect_ratio` in place of `size`."""
    more: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Further fields and their values, the default first."""
    layers: int = 0
    """The number of images that a layer job is charged for; 0 for a model without layers."""

    @property
    def default_format(self) -> str:
        return self.more["output_format"][0] if "output_format" in self.more else "jpeg"


def _models() -> dict[str, Model]:
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
    sold = [
        Model(f"bytedance/{family}{tail}", title + more, flat(usd), area, formats, edits, sequential)
        for family, title, usd, area, formats in families
        for tail, more, edits, sequential in tails
    ]
    for family, title, prices, tiers, fields in _SINGLE:
        for tail, more, edits, _ in tails[:2]:
            name = f"bytedance/{family}{tail}"
            sold.append(Model(name, title + more, prices, (0, 0), True, edits, False, tiers, fields))
        own = {"output_format": ("png",)} if family == "seedream-v5.5" else fields
        name, most = f"bytedance/{family}/layer-decomposition", 100 if family == "seedream-v5.5" else 17
        sold.append(
            Model(name, f"{title} Layers", prices, (0, 0), family != "seedream-v5.5", True, False, tiers[:3], own, most)
        )
    return {model.id: model for model in sold}


RATIOS = ("1:1", "1:2", "2:1", "1:3", "3:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "9:21", "21:9")
_KNOWN = {
    "1k": "1024x1024 832x1248 864x1152 896x1120 800x1424 672x1568",
    "1.5k": "1536x1536 1248x1872 1344x1792 1344x1680 1152x2048 1008x2352",
    "2k": "2048x2048 1664x2496 1776x2368 1792x2240 1584x2816 1344x3136",
}
"""The origin's sizes, in the order of `_KNOWN_RATIOS`; a landscape one is the same, turned."""
_KNOWN_RATIOS = ("1:1", "2:3", "3:4", "4:5", "9:16", "9:21")
_AREAS = {"1k": 1024 * 1024, "1.5k": 1536 * 1536, "2k": 2048 * 2048, "3k": 3840 * 2160}
_SINGLE: Sequence[tuple[str, str, PriceTiers, Sequence[str], Mapping[str, Sequence[str]]]] = (
    (
        "seedream-v5.5",
        "Seedream V5.5",
        PriceTiers(((SMALL_PX, "0.02"), (2048 * 2048 * 1.1025, "0.035"), (math.inf, "0.07")), "0.008"),
        ("1k", "1.5k", "2k", "3k"),
        {"background": ("auto", "transparent", "opaque"), "output_format": ("png", "jpeg")},
    ),
    (
        "seedream-v5.0-pro",
        "Seedream V5.0 Pro",
        V5_PRO,
        ("1k", "1.5k", "2k"),
        {"output_format": ("jpeg", "png"), "prompt_optimization_mode": ("standard", "fast")},
    ),
    (
        "seedream-v5.0-flash",
        "Seedream V5.0 Flash",
        flat("0.027"),
        ("1k", "1.5k", "2k"),
        {"output_format": ("jpeg", "png")},
    ),
)

MODELS = _models()


def parse_submit(
    model: Model, body: Any, default_count: int, follow: tuple[int, int] | None, layer_count: int = 4
) -> JobSpec:
    """Return the job of a submit's or quote's body; raise InvalidRequest.

    `follow` is the size of the first reference, which applies where no size is given. A layer job makes `layer_count`
    images, its base among them.
    """
    fields_of(body)
    if model.layers:
        return _layer_job(model, body, layer_count)
    prompt = prompt_of(body, "property 'prompt' is required")
    references = _references(model, body)
    count = body.get("max_images", default_count) if model.sequential else 1
    if not is_whole(count, 1, MAX_IMAGES):
        raise InvalidRequest(f"property 'max_images' must be an integer between 1 and {MAX_IMAGES}")
    if model.tiers:
        _check_strictly(model, body)
    if model.edits and len(references) + count > MAX_TOTAL:
        raise InvalidRequest(f"the number of input images plus max_images must not exceed {MAX_TOTAL}")
    output_format = body.get("output_format") or model.default_format
    transparent = body.get("background") == "transparent"
    if transparent and output_format == "jpeg":
        raise InvalidRequest("property 'background': transparent needs the output_format png")
    size = _tier(body, follow) if model.tiers else _size(model, body, follow)
    if model.formats and output_format not in MIME_TYPES:
        raise InvalidRequest(f"property 'output_format' must be one of: {', '.join(MIME_TYPES)}")
    return JobSpec(
        model=model.id,
        prompt=prompt,
        references=references,
        count=count,
        size=size,
        mime_type=MIME_TYPES[str(output_format)] if model.formats else "image/jpeg",
        prices=model.prices,
        transparent=transparent,
        body=body,
    )


def _layer_job(model: Model, body: Mapping[str, Any], layer_count: int) -> JobSpec:
    """Return the job that takes a picture apart. Its price is that of the most images, however many it makes."""
    _check_strictly(model, body)
    image = body.get("image")
    if not isinstance(image, str) or not image:
        raise InvalidRequest("property 'image' is required and must be a string")
    side = round(math.sqrt(_AREAS[body.get("resolution", "1k")]))
    job_usd = model.prices.each_usd((side, side)) * model.layers + model.prices.fee_usd(1)
    return JobSpec(
        model=model.id,
        prompt=str(body.get("prompt") or ""),
        references=[image],
        count=min(layer_count, model.layers),
        size=(side, side),
        mime_type=MIME_TYPES[str(body.get("output_format") or model.default_format)],
        prices=PriceTiers(((math.inf, "0"),), str(job_usd)),
        layers=True,
        body=body,
    )


def _check_strictly(model: Model, body: Mapping[str, Any]) -> None:
    """Raise InvalidRequest for a field that the schema does not have, or a value that it does not list."""
    listed = {"aspect_ratio": RATIOS, "resolution": model.tiers, **(model.more if model.formats else {})}
    reference = "image" if model.layers else "images"
    if model.layers:
        del listed["aspect_ratio"]
    for name, value in body.items():
        if name in ("prompt", "enable_sync_mode", "enable_base64_output") or (name == reference and model.edits):
            continue
        if name not in listed:
            raise InvalidRequest(f"additional property '{name}' is not allowed")
        if value not in listed[name]:
            raise InvalidRequest(f"property '{name}' must be one of: {', '.join(listed[name])}")


def _tier(body: Mapping[str, Any], follow: tuple[int, int] | None) -> tuple[int, int]:
    """Return the pixels of a ratio and a resolution; with no ratio, the one nearest to the first reference."""
    tier, ratio = body.get("resolution", "1k"), body.get("aspect_ratio")
    if ratio is None:
        wanted = math.log(follow[0] / follow[1]) if follow else 0.0
        ratio = min(RATIOS, key=lambda one: abs(math.log(int(one.split(":")[0]) / int(one.split(":")[1])) - wanted))
    wide, high = (int(side) for side in ratio.split(":"))
    portrait = f"{min(wide, high)}:{max(wide, high)}"
    if tier in _KNOWN and portrait in _KNOWN_RATIOS:
        short, _, long = _KNOWN[tier].split()[_KNOWN_RATIOS.index(portrait)].partition("x")
        return (int(long), int(short)) if wide > high else (int(short), int(long))
    unit = math.sqrt(_AREAS[tier] / (wide * high))
    return round(unit * wide / 16) * 16, round(unit * high / 16) * 16


def _references(model: Model, body: Mapping[str, Any]) -> Sequence[str]:
    if not model.edits:
        return []
    given = body.get("images")
    if not given or not is_texts(given):
        raise InvalidRequest("property 'images' is required and must be an array of strings")
    if len(given) > MAX_REFERENCES:
        raise InvalidRequest(f"property 'images' takes at most {MAX_REFERENCES} items, got {len(given)}")
    return given


def _size(model: Model, body: Mapping[str, Any], follow: tuple[int, int] | None) -> tuple[int, int]:
    size = body.get("size")
    if size in (None, ""):
        return follow or (2048, 2048)
    pixels = pixels_of(size, "*", "property 'size' must look like 2048*2048")
    check_area(pixels, model.area, "property 'size'")
    return pixels


def listing() -> list[dict[str, Any]]:
    """Return the live model list: the models, and one model of another kind, as the real list mixes them."""
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
    return [*(_entry(model, order) for order, model in enumerate(MODELS.values(), start=2)), video]


def _entry(model: Model, order: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"prompt": {"type": "string", "description": "What to make."}}
    required = [] if model.layers else ["prompt"]
    if model.layers:
        fields["image"] = {"type": "string", "description": "The image to take apart."}
        required.append("image")
    elif model.edits:
        about = "The images to edit."
        fields["images"] = {
            "type": "array", "items": {"type": "string"}, "maxItems": MAX_REFERENCES, "description": about
        }  # fmt: skip
        required.append("images")
    if model.tiers:
        if not model.layers:
            fields["aspect_ratio"] = {"type": "string", "enum": list(RATIOS)}
        fields["resolution"] = {"type": "string", "enum": list(model.tiers), "default": model.tiers[0]}
        for name, values in (model.more if model.formats else {}).items():
            fields[name] = {"type": "string", "enum": list(values), "default": values[0]}
    else:
        about = "Width*height, in pixels."
        fields["size"] = {"type": "string", "description": about, "minimum": 64, "maximum": 16384}
    if model.sequential:
        fields["max_images"] = {"type": "integer", "default": 1, "minimum": 1, "maximum": MAX_IMAGES}
    if model.formats and not model.tiers:
        fields["output_format"] = {"type": "string", "enum": list(MIME_TYPES), "default": "jpeg"}
    fields["enable_base64_output"] = {"type": "boolean", "default": False}
    fields["enable_sync_mode"] = {"type": "boolean", "default": False}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": fields,
        "required": required,
        "x-order-properties": list(fields),
    }
    if model.tiers:
        schema["additionalProperties"] = False
    return {
        "model_id": model.id,
        "name": model.id,
        "description": f"ByteDance {model.title}.",
        "type": "image-to-image" if model.edits else "text-to-image",
        "base_price": float(model.prices.from_usd * (model.layers or 1)),
        "sort_order": order,
        "formula": "price * max_images" if model.sequential else "",
        "api_schema": {
            "api_schemas": [
                {
                    "type": "model_run",
                    "method": "POST",
                    "server": "https://api.wavespeed.ai",
                    "api_path": f"/api/v3/{model.id}",
                    "request_schema": schema,
                }
            ]
        },
    }
