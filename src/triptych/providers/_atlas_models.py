"""The models of Atlas Cloud: their families, parameters and prices (docs/providers/atlas.md#models)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from triptych.catalog import presets
from triptych.core.offers import Operation, Param, Sizes
from triptych.providers import _offers as offering
from triptych.providers._offers import Family, LayersOffer

_HOURS = "Hours, from the request on, for which the provider keeps"
RETENTION: Mapping[str, tuple[str, Param]] = {
    "result_hours": (
        "X-AtlasCloud-Object-Expiration-Hours",
        Param(
            {"type": "integer", "minimum": 1, "maximum": 336, "description": f"{_HOURS} the images."},
            note="an image that is not fetched within these hours is lost, although it is paid for.",
        ),
    ),
    "history_hours": (
        "X-AtlasCloud-Request-Retention-Hours",
        Param(
            {"type": "integer", "minimum": 1, "maximum": 336, "description": f"{_HOURS} the request."},
            note="a request whose answer was lost can only be found again within these hours.",
        ),
    ),
}
"""The header and the parameter of each retention (docs/providers/atlas.md#retention)."""
_KEPT: Mapping[str, Param] = {name: param for name, (_, param) in RETENTION.items()}
_UNREAD = {
    **offering.NO_SEED,
    "background": "no page of Atlas Cloud that could be read names it, and Atlas Cloud ignores unknown fields",
}
_PRO_PROMPT = offering.prompt_optimization("prompt_optimization_mode", fast=True)
_LAYERS_NOTE = "the base and each layer are charged as an image; the quote is for the largest number of them."


def _layers(most: int, **own: Any) -> LayersOffer:
    """Return the layers of a family: at most so many images, of which `output_format` is the base's alone."""
    return LayersOffer(most, sizes=offering.TIERS_OR_AUTO, default_format="png", note=_LAYERS_NOTE, params=_KEPT, **own)


_SINGLE_TAILS = {Operation.GENERATE: "/text-to-image", Operation.EDIT: "/edit"}
_FROM_2K = offering.sized("2K", "4K", min_area=3_686_400)


@dataclass(frozen=True, slots=True)
class AtlasFamily(Family):
    """A family on Atlas; the field for the number of images was renamed once."""

    priced_by: str = "the provider's product pages"
    max_references: int = 10
    params: Mapping[str, Param] = field(default_factory=lambda: _KEPT)
    no_params: Mapping[str, str] = field(default_factory=lambda: offering.NO_SEED)
    count_field: str = "max_images"


FAMILIES: Mapping[str, AtlasFamily] = {
    "seedream-5.0-lite": AtlasFamily(
        "bytedance/seedream-v5.0-lite",
        "0.032",
        Sizes(presets=presets.rows("2K", "3K"), exact=True),
        max_references=14,
        formats=("png", "jpeg"),
        params={
            "prompt_optimization": offering.prompt_optimization("optimize_prompt_options", "mode", fast=True),
            **_KEPT,
        },
    ),
    "seedream-4.5": AtlasFamily("bytedance/seedream-v4.5", "0.036", _FROM_2K),
    "seedream-4.0": AtlasFamily(
        "bytedance/seedream-v4", "0.027", offering.sized("1K", "2K", "4K", min_area=921_600), max_outputs=14
    ),
    "seedream-4.7": AtlasFamily(
        "bytedance/seedream-v4.7",
        "0.03",
        _FROM_2K,
        max_outputs=14,
        count_field="num_images",
        params={"prompt_optimization": offering.prompt_optimization("prompt_expansion_mode", fast=True), **_KEPT},
        tails={**offering.PATH_TAILS, Operation.GENERATE: "/text-to-image"},
    ),
    "seedream-5.5": AtlasFamily(
        "bytedance/seedream-v5.5",
        priced_by="the product page for the smallest tier (2026-11-20); the rest is the origin's list price",
        tails=_SINGLE_TAILS,
        inferred=frozenset({Operation.EDIT}),
        no_params=_UNREAD,
        layers=_layers(100, inferred=True),
        **{**offering.V5_5, "usd": "0.016"},
    ),
    "seedream-5.0-pro": AtlasFamily(
        "bytedance/seedream-v5.0-pro",
        priced_by="the product page for the smallest tier; the rest is the origin's list price",
        tails=_SINGLE_TAILS,
        params={"prompt_optimization": _PRO_PROMPT, **_KEPT},
        no_params=_UNREAD,
        layers=_layers(
            17,
            usd="0.0225",
            above=((offering.AREA_BOUND, "0.045"),),
            priced_by="half of an image's price, as at the origin; one bill of $0.1575 was seven of them (2026-08-17)",
        ),
        **offering.V5_PRO,
    ),
    "seedream-5.0-flash": AtlasFamily(
        "bytedance/seedream-v5.0-flash",
        priced_by="the product page",
        tails=_SINGLE_TAILS,
        no_params=_UNREAD,
        layers=_layers(17),
        **offering.V5_FLASH,
    ),
}
