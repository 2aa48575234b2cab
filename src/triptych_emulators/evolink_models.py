"""The models of EvoLink, as data, with limits and list prices; and the parser of its submits.

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

from triptych_emulators.kit import InvalidRequest, JobSpec
from triptych_emulators.kit.prices import V5_FLASH, V5_PRO, PriceTiers, flat
from triptych_emulators.kit.validation import MAX_TOTAL, MIME_TYPES, check_area, fields_of, is_whole, prompt_of

MAX_REFERENCES = 14
MAX_IMAGES = 15
CREDITS_PER_USD = 68
RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9", "9:21")
AREAS: Mapping[str, int] = {"1K": 1024**2, "1.5K": 1536**2, "2K": 2048**2, "3K": 3072**2, "4K": 4096**2}


@dataclass(frozen=True)
class Model:
    """One model id: its fields and limits."""

    id: str
    title: str
    prices: PriceTiers
    area: tuple[int, int]
    most: int = MAX_IMAGES
    formats: bool = False
    """`output_format` is taken among the model parameters, where one request makes one image in the request itself."""
    references: int = MAX_REFERENCES
    prompt_chars: int = 2000
    lifecycle: str = "active"
    fast: bool = False
    keeps_alpha: bool = False
    """Whether it takes `background` and `watermark`; `background: transparent` keeps the alpha of its one PNG."""
    layers: int = 0
    """The most images of a layer decomposition, the base included; 0: the id makes images."""


def _single(name: str, prices: PriceTiers, *, layers: bool = False, fast: bool = False) -> Model:
    title = f"Seedream 5.0 {name.title()}{' Layerize' if layers else ''}"
    return Model(
        f"doubao-seedream-5.0-{name}{'-layerize' if layers else ''}", title, prices, (921_600, 4_624_220), 1, True,
        1 if layers else 10, fast=fast, keeps_alpha=not layers, layers=17 if layers else 0,
    )  # fmt: skip


MODELS: Mapping[str, Model] = {
    model.id: model
    for model in (
        Model("doubao-seedream-5.0-lite", "Seedream 5.0 Lite", flat("0.032"), (3_686_400, 16_777_216), formats=True),
        Model("doubao-seedream-4.5", "Seedream 4.5", flat("0.04"), (3_686_400, 16_777_216)),
        Model("doubao-seedream-4.0", "Seedream 4.0", flat("0.03"), (921_600, 16_777_216), prompt_chars=1000, fast=True),
        _single("pro", V5_PRO, fast=True),
        _single("flash", V5_FLASH),
        _single("pro", V5_PRO, layers=True, fast=True),
        _single("flash", V5_FLASH, layers=True),
    )
}


def parse_submit(body: Any, layers_made: int = 4) -> JobSpec:
    """Return the job of a submit's body; raise InvalidRequest. A layer decomposition gives `layers_made` images."""
    fields_of(body)
    model = MODELS.get(str(body.get("model", "")))
    if model is None:
        raise InvalidRequest(f"model not found: {str(body.get('model', ''))[:100]}")
    prompt = str(body.get("prompt") or "") if model.layers else prompt_of(body)
    if len(prompt) > model.prompt_chars:
        raise InvalidRequest(f"prompt must have at most {model.prompt_chars} characters")
    references = _references(model, body)
    count = body.get("n") or 1
    if not is_whole(count, 1, model.most):
        raise InvalidRequest(f"n must be an integer between 1 and {model.most}")
    if len(references) + count > MAX_TOTAL:
        raise InvalidRequest(f"the number of image_urls plus n must not exceed {MAX_TOTAL}")
    if model.layers and (len(references) != 1 or "size" in body or "n" in body or "background" in body):
        raise InvalidRequest("layerize takes exactly one of image_urls, quality, and no size, n or background")
    if body.get("prompt_priority", "standard") not in ("standard", *(["fast"] if model.fast else [])):
        raise InvalidRequest("prompt_priority is not supported by this model")
    params = body if model.most == 1 else body.get("model_params")
    output_format = (params.get("output_format") if isinstance(params, dict) else None) or "jpeg"
    if model.formats and output_format not in MIME_TYPES:
        raise InvalidRequest(f"output_format must be one of: {', '.join(MIME_TYPES)}")
    transparent = model.keeps_alpha and _keeps_alpha(body, references)
    mime_type = MIME_TYPES[str(output_format)] if model.formats else "image/jpeg"
    return JobSpec(
        model=model.id,
        prompt=prompt,
        references=references,
        count=min(layers_made, model.layers) if model.layers else count,
        size=_size(model, body),
        mime_type="image/png" if transparent else mime_type,
        prices=model.prices,
        transparent=transparent,
        layers=bool(model.layers),
        body=body,
    )


def _keeps_alpha(body: Mapping[str, Any], references: Sequence[str]) -> bool:
    wanted = body.get("background", "opaque")
    if wanted not in ("opaque", "transparent") or not isinstance(body.get("watermark", False), bool):
        raise InvalidRequest("background must be opaque or transparent, watermark a boolean")
    if wanted == "transparent" and (len(references) != 1 or body.get("output_format") == "jpeg"):
        raise InvalidRequest("background transparent requires exactly 1 input image and output_format png")
    return bool(wanted == "transparent")


def _references(model: Model, body: Mapping[str, Any]) -> Sequence[str]:
    given = body.get("image_urls") or []
    if not isinstance(given, list) or not all(isinstance(u, str) and re.match("https?://", u) for u in given):
        raise InvalidRequest("image_urls must be an array of URLs")
    if len(given) > model.references:
        raise InvalidRequest(f"image_urls: at most {model.references} items, got {len(given)}")
    return given


def _size(model: Model, body: Mapping[str, Any]) -> tuple[int, int]:
    """Return the pixels of a size: `auto`, a ratio with `quality`, a word, or WxH."""
    if model.layers:
        tier = str(body.get("quality") or "auto")
        if tier not in ("auto", "1K", "1.5K", "2K"):
            raise InvalidRequest("quality must be one of: auto, 1K, 1.5K, 2K")
        side = round(AREAS["2K" if tier == "auto" else tier] ** 0.5)  # `auto` follows the input; here it is the largest
        return side, side
    words = ("1K", "1.5K", "2K") if model.most == 1 else ("1K", "2K", "3K", "4K")
    quality, size = str(body.get("quality") or ("1K" if model.most == 1 else "2K")), str(body.get("size") or "auto")
    if quality not in words:
        raise InvalidRequest(f"quality must be one of: {', '.join(words)}")
    if found := re.fullmatch(r"([1-9][0-9]{1,4})x([1-9][0-9]{1,4})", size):
        pixels = int(found[1]), int(found[2])
        check_area(pixels, model.area)
        return pixels
    area = min(AREAS.get(size, AREAS[quality]), model.area[1])
    if size == "auto" or size in AREAS:
        return round(area**0.5), round(area**0.5)
    if size not in RATIOS:
        raise InvalidRequest(f"size must be auto, WxH or one of: {', '.join(RATIOS)}")
    wide, _, tall = size.partition(":")
    side = (area / (int(wide) * int(tall))) ** 0.5
    return round(side * int(wide)), round(side * int(tall))


def catalog(updated_at: str) -> dict[str, Any]:
    """Return the live catalog: the models, and one model of another kind."""
    shown = [
        {
            "model_id": model.id,
            "display_name": model.title,
            "provider": "bytedance",
            "aliases": [],
            "capabilities": ["image"],
            "protocols": ["evolink"],
            "lifecycle": model.lifecycle,
        }
        for model in MODELS.values()
    ]
    video = {**shown[0], "model_id": "sora-2", "display_name": "Sora 2", "capabilities": ["video"]}
    meta = {"schema_version": "1", "catalog_version": "2026-11-21", "updated_at": updated_at, "fresh_until": updated_at}
    return {"meta": meta, "models": [*shown, video]}


def pricing() -> dict[str, Any]:
    """Return the catalog's prices, in credits and dollars per image."""
    priced = [
        {"model_id": m.id, "unit": "image", "usd": float(m.prices.from_usd), "credits": credits(m.prices.from_usd)}
        for m in MODELS.values()
    ]
    return {"meta": {"schema_version": "1"}, "models": priced}


def credits(usd: Decimal) -> float:
    return float(round(usd * CREDITS_PER_USD, 4))
