"""Runware's Seedream models and their parameters, as data (docs/providers/runware.md#models).

Sizes, and the prices of all models but 5.0 lite, are the origin's (docs/providers/README.md#sizes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from triptych.catalog import presets
from triptych.core.offers import Param, Sizes
from triptych.providers import _offers as offering
from triptych.providers._offers import Family

FORMATS = {"png": "PNG", "jpeg": "JPG", "webp": "WEBP"}
AUTO_RESOLUTION = "2K"
"""Sent for a size that is left to the model, which chooses the shape (docs/providers/runware.md#sizes-and-limits)."""
LEAST_TTL_S = 600
"""Runware takes 60 s. A set may take minutes, and its images are fetched when all are there."""
MOST_TTL_S = 31_536_000
INFERRED = "its name at Runware is inferred, not documented: check the result."

_BACKGROUND = {"background": replace(offering.BACKGROUND, path=("settings", "background"), note=INFERRED)}
_DELIVERY: Mapping[str, Param] = {
    "quality": Param(
        {
            "type": "integer",
            "minimum": 20,
            "maximum": 99,
            "description": "The compression of a JPEG or WebP; Runware's default is 95.",
        },
        ("outputQuality",),
    ),
    "safety": Param(
        {
            "type": "object",
            "properties": {
                "checkContent": {"type": "boolean"},
                "mode": {"type": "string", "enum": ["fast", "full"]},
            },
            "additionalProperties": False,
            "minProperties": 1,
            "description": "Runware's own check of the images; a flagged image gives a warning.",
        },
        ("safety",),
        note="Runware may charge for its check of the images; the charge counts it, the quote does not.",
    ),
    "ttl_s": Param(
        {
            "type": "integer",
            "minimum": LEAST_TTL_S,
            "maximum": MOST_TTL_S,
            "description": "The seconds for which Runware keeps the results; a day without it.",
        },
        ("ttl",),
    ),
    "upload_endpoint": Param(
        {
            "type": "string",
            "format": "uri",
            "pattern": r"^https://[^\s/?#@\\]+([/?#]\S*)?$",
            "maxLength": 2000,
            "description": "A URL to which Runware also sends each image, by HTTP PUT.",
        },
        ("uploadEndpoint",),
        note="Runware also sends every image to that URL.",
    ),
}
"""The parameters of every imageInference task (docs/providers/runware.md#options-of-every-task)."""
_VARIATIONS = "the images are independent variations of one prompt, not one coherent set."
_NO_PARAMS: Mapping[str, str] = {
    **offering.NO_SEED,
    "layers": "Runware does not document how it returns layers; use another provider",
    "negative_prompt": "Seedream has none: name in the prompt what to leave out",
    "watermark": "Runware documents no setting for it",
    "web_search": "Runware documents no setting for it",
}


def _params(*, fast: bool = False, more: Mapping[str, Param] | None = None, sets: bool = True) -> Mapping[str, Param]:
    """Return a family's parameters; without `sets` the family makes variations in any case."""
    schema: dict[str, Any] = {"type": "boolean", "description": "Independent variations instead of a coherent set."}
    schema |= {} if sets else {"enum": [True]}
    return {
        **(more or {}),
        "prompt_optimization": replace(
            offering.prompt_optimization("settings", "optimizePromptMode", fast=fast), note=INFERRED
        ),
        **_DELIVERY,
        "variations": Param(schema, note=_VARIATIONS if sets else ""),
    }


@dataclass(frozen=True, slots=True)
class RunwareFamily(Family):
    """A family on Runware, which has all formats for every model."""

    formats: tuple[str, ...] = tuple(FORMATS)
    max_prompt_chars: int = 2000
    max_references_and_outputs: int = 15
    no_params: Mapping[str, str] = field(default_factory=lambda: _NO_PARAMS)


def _independent(
    endpoint: str, priced_by: str, origin: Mapping[str, Any], params: Mapping[str, Param]
) -> RunwareFamily:
    """Return a family that makes one image per prompt; several images are independent."""
    own = {
        "sizes": replace(offering.single_sizes(), may_be_left_out=True),
        "formats": tuple(FORMATS),
        "independent": True,
        "max_references_and_outputs": 25,
    }
    return RunwareFamily(endpoint, priced_by=priced_by, params=params, **{**origin, **own})


FAMILIES: Mapping[str, RunwareFamily] = {
    "seedream-5.0-lite": RunwareFamily(
        "bytedance:seedream@5.0-lite",
        "0.035",
        Sizes(presets=presets.rows("2K", "3K"), exact=True),
        "the provider's documentation",
        params=_params(),
    ),
    "seedream-4.5": RunwareFamily(
        "bytedance:seedream@4.5",
        "0.04",
        replace(offering.sized("2K", "4K", min_area=3_686_400), may_be_left_out=True),
        params=_params(),
    ),
    "seedream-4.0": RunwareFamily(
        "bytedance:5@0",
        "0.03",
        offering.sized("1K", "2K", "4K", min_area=921_600),
        params=_params(fast=True),
    ),
    "seedream-5.5": _independent(
        "bytedance:seedream@5.5",
        offering.FROM_THE_ORIGIN_5_5,
        offering.V5_5,
        _params(more=_BACKGROUND, sets=False),
    ),
    "seedream-5.0-pro": _independent(
        "bytedance:seedream@5.0-pro",
        offering.FROM_THE_ORIGIN_PRO,
        offering.V5_PRO,
        _params(fast=True, sets=False),
    ),
    "seedream-5.0-flash": _independent(
        "bytedance:seedream@5.0-flash",
        offering.FROM_THE_ORIGIN_PRO,
        offering.V5_FLASH,
        _params(sets=False),
    ),
}
