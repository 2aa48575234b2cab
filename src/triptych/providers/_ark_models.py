"""The models of BytePlus ModelArk, at its base URLs and behind the endpoint ids of an account.

The facts are in docs/providers/ark.md#models and the headings after it. An endpoint id (`ep-…`) does not
show which model the account chose for it; a call may add the model's name after the id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from urllib.parse import urlsplit

from triptych import catalog
from triptych.core.offers import Lifecycle, Offer, Operation, Param
from triptych.providers import _offers as offering
from triptych.providers._offers import Family, LayersOffer

VOLCENGINE = "doubao-"
"""The beginning of every model id at Volcengine."""
_VOLCENGINE_HOSTS = ".volces.com"
_BY_ITS_ID = "the date in the model id"
_ENDPOINT = re.compile(r"(ep-[0-9A-Za-z-]{2,80})(?:[\s,:;]+(\S.*))?")


@dataclass(frozen=True, slots=True)
class _ArkFamily(Family):
    """A family at its origin: an image takes about 20 s (docs/providers/README.md#time-for-an-image)."""

    priced_by: str = "the documentation and third parties; the price page was not read"
    latency_s: float = 22.0
    no_params: Mapping[str, str] = field(default_factory=lambda: offering.NO_SEED)


_MODE = ("optimize_prompt_options", "mode")
_PARAMS: Mapping[str, Param] = {
    "watermark": offering.WATERMARK,
    "prompt_optimization": offering.prompt_optimization(*_MODE),
}
_WITH_FAST = {**_PARAMS, "prompt_optimization": offering.prompt_optimization(*_MODE, fast=True)}
_SEARCH_NOTE = "the provider may bill each search; the price was not found, and the quote is without it"


def _layers(most: int) -> LayersOffer:
    """Return layer decomposition of up to so many images, at the price of an image of the same area."""
    return LayersOffer(most, tail="", sizes=offering.TIERS_OR_AUTO, default_format="png")


FAMILIES: Mapping[str, _ArkFamily] = offering.with_auto_size(
    {
        "seedream-5.0-lite": _ArkFamily(
            endpoint="seedream-5-0-260128",
            usd="0.035",
            # 16,777,216 as the largest area is not relied on (docs/providers/ark.md#sizes-and-limits).
            sizes=offering.sized("2K", "3K", min_area=3_686_400, max_area=10_404_496),
            formats=("png", "jpeg"),
            params={**_PARAMS, "web_search": replace(offering.WEB_SEARCH, note=_SEARCH_NOTE)},
            aliases=("seedream-5-0-lite-260128", "doubao-seedream-5-0-260128", "doubao-seedream-5-0-lite-260128"),
            lifecycle=Lifecycle(released="2026-01-28", source=_BY_ITS_ID),
        ),
        "seedream-4.5": _ArkFamily(
            endpoint="seedream-4-5-251128",
            usd="0.04",
            sizes=offering.sized("2K", "4K", min_area=3_686_400),
            params=_PARAMS,
            aliases=("doubao-seedream-4-5-251128",),
            lifecycle=Lifecycle(released="2025-11-28", source=_BY_ITS_ID),
        ),
        "seedream-4.0": _ArkFamily(
            endpoint="seedream-4-0-250828",
            usd="0.03",
            sizes=offering.sized("1K", "2K", "4K", min_area=921_600),
            params=_WITH_FAST,
            aliases=("doubao-seedream-4-0-250828",),
            lifecycle=Lifecycle(released="2025-08-28", source=_BY_ITS_ID),
        ),
        "seedream-5.5": _ArkFamily(
            endpoint="seedream-5-5-261028",
            aliases=("dola-seedream-5-5-261028", "doubao-seedream-5-5-261028"),
            priced_by="the provider's rate card as two resellers quote it (2026-11-12, 2026-11-13)",
            params={**_PARAMS, "background": offering.BACKGROUND},
            layers=_layers(100),
            lifecycle=Lifecycle(released="2026-11-12", source="resellers' pages of 2026-11-13"),
            **offering.V5_5,
        ),
        **{
            f"seedream-5.0-{name}": _ArkFamily(
                endpoint=model,
                aliases=(f"dola-{model}", f"doubao-{model}"),
                priced_by="resellers' price pages; not read at the provider",
                params={**params, "background": offering.KEPT_BACKGROUND},
                layers=_layers(17),
                lifecycle=Lifecycle(released=released, source=_BY_ITS_ID),
                **facts,
            )
            for name, model, params, facts, released in (
                ("pro", "seedream-5-0-pro-260628", _WITH_FAST, offering.V5_PRO, "2026-06-28"),
                ("flash", "seedream-5-0-flash-260915", _PARAMS, offering.V5_FLASH, "2026-09-15"),
            )
        },
    }
)

_RETIRED_AT_VOLCENGINE: Mapping[str, Lifecycle] = {
    "seedream-5.0-lite": Lifecycle(
        released="2026-01-28",
        retired="2026-11-24",
        source="two third parties quote Volcengine's notice (2026-10-24); BytePlus is not known to follow",
    ),
}


def offers_at(base_urls: Mapping[str, str]) -> tuple[Offer, ...]:
    """Return the offers at a base URL. At Volcengine's they have its ids and its retirement dates."""
    offers = offering.offers("ark", FAMILIES)
    host = urlsplit(base_urls.get("api", "")).hostname or ""
    if not f".{host}".endswith(_VOLCENGINE_HOSTS):
        return offers
    return tuple(
        replace(
            offer,
            endpoint=VOLCENGINE + offer.endpoint,
            aliases=(offer.endpoint, *offer.aliases),
            lifecycle=_RETIRED_AT_VOLCENGINE.get(offer.family, offer.lifecycle),
        )
        for offer in offers
    )


def is_endpoint(name: str) -> bool:
    """Return whether this is the id of an endpoint of the account."""
    return name.startswith("ep-")


def offers_for(name: str) -> tuple[Offer, ...]:
    """Return the offers for "ep-…" or "ep-… MODEL", an endpoint of the account; none for any other name.

    Without a model they have the limits that all models share, and the dearest price.
    Raises: `errors.UnknownModel` for an unknown model.
    """
    found = _ENDPOINT.fullmatch(name)
    if not found:
        return ()
    endpoint, model = found.groups()
    if not model:
        return tuple(replace(offer, assumed=_UNNAMED.format(endpoint)) for offer in _unnamed(endpoint))
    table = offering.offers("ark", FAMILIES)
    family = catalog.choose(table, Operation.GENERATE, model).family
    assumed = f"{endpoint} is an endpoint of the account: limits and price are those of {family}, which the call names."
    return tuple(
        replace(offer, endpoint=endpoint, aliases=(name,), lifecycle=Lifecycle(), assumed=assumed)
        for offer in table
        if offer.family == family
    )


_UNNAMED = (
    "{0} does not say which model it is: the limits are those that all models here share, and the quote is the price "
    'of the dearest one. To get its own, name it too: model="{0} seedream-5.5".'
)


def _unnamed(endpoint: str) -> tuple[Offer, ...]:
    """Return the offers for an endpoint whose model is unknown."""
    families = FAMILIES.values()
    sizes = offering.sized(
        "2K",
        min_area=max(family.sizes.min_area for family in families),
        max_area=min(family.sizes.max_area for family in families),
    )
    unknown = _ArkFamily(
        endpoint=endpoint,
        usd=str(max(Decimal(usd) for family in families for usd in (family.usd, *(usd for _, usd in family.above)))),
        usd_per_reference=max((family.usd_per_reference for family in families), key=Decimal),
        priced_by="the dearest model here, because an endpoint id does not say which one it is",
        sizes=replace(sizes, may_be_left_out=True),
        max_references=min(family.max_references for family in families),
        params=_PARAMS,
        no_params={**offering.NO_SEED, **dict.fromkeys(("background", "web_search"), _NOT_ALL)},
    )
    return offering.offers("ark", {endpoint: unknown})


_NOT_ALL = "not every model has it, and this id does not say which one it is: name the model after the id"
