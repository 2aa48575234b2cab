"""The models of EvoLink: its ids, parameters, prices and layer decompositions.

The facts are in docs/providers/evolink.md#models and the headings after it; areas are the origin's
(docs/providers/README.md#sizes), because EvoLink passes requests on to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from triptych.core.offers import Param
from triptych.providers import _offers as offering
from triptych.providers._offers import Family, LayersOffer


@dataclass(frozen=True, slots=True)
class _EvoLinkFamily(Family):
    """A family at EvoLink: a shorter prompt and a longer latency."""

    max_prompt_chars: int = 2000
    latency_s: float = 15.0
    no_params: Mapping[str, str] = field(default_factory=lambda: offering.NO_SEED)
    top_level_format: bool = False
    """`output_format` is a field of the request itself; for 5.0 lite it is among the model parameters."""


AUTO_TIER = "2K"
"""The quality for a request that leaves the ratio to the model; each model has this one."""
LAYERIZE = "-layerize"
"""The end of the ids for layer decomposition."""
_PARAMS: Mapping[str, Param] = {"prompt_optimization": offering.prompt_optimization("prompt_priority")}
_WITH_FAST = {"prompt_optimization": offering.prompt_optimization("prompt_priority", fast=True)}
_SEARCH = replace(
    offering.WEB_SEARCH,
    usd_per_image=Decimal("0.0069"),
    note="the provider bills $0.0006 to $0.0069 for a search; the quote has the larger amount for each image",
)


def _layers(params: Mapping[str, Param]) -> LayersOffer:
    return LayersOffer(17, tail=LAYERIZE, sizes=offering.TIERS_OR_AUTO, default_format="png", params=params)


FAMILIES: Mapping[str, _EvoLinkFamily] = offering.with_auto_size(
    {
        "seedream-5.0-lite": _EvoLinkFamily(
            "doubao-seedream-5.0-lite",
            "0.032",
            offering.sized("2K", "3K", "4K", min_area=3_686_400),
            "the provider's documentation",
            formats=("png", "jpeg"),
            params={**_PARAMS, "web_search": _SEARCH},
        ),
        "seedream-4.5": _EvoLinkFamily(
            "doubao-seedream-4.5", "0.04", offering.sized("2K", "4K", min_area=3_686_400), params=_PARAMS
        ),
        "seedream-4.0": _EvoLinkFamily(
            "doubao-seedream-4.0",
            "0.03",
            offering.sized("1K", "2K", "4K", min_area=921_600),
            max_prompt_chars=1000,  # the provider's own page of this model
            params=_WITH_FAST,
        ),
        **{
            f"seedream-5.0-{name}": _EvoLinkFamily(
                f"doubao-seedream-5.0-{name}",
                priced_by=offering.FROM_THE_ORIGIN_PRO,
                top_level_format=True,
                params={**params, "watermark": offering.WATERMARK, "background": offering.KEPT_BACKGROUND},
                layers=_layers(params),
                **facts,
            )
            for name, params, facts in (("pro", _WITH_FAST, offering.V5_PRO), ("flash", _PARAMS, offering.V5_FLASH))
        },
    }
)
