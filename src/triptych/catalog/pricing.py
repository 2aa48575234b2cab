"""The list price of one request. Pure; prices a provider quotes live are `jobs.pricing`'s."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from triptych.core.offers import Offer, Operation, Quote, Size
from triptych.core.requests import Request

UNKNOWN_AREA_PX = 4_194_304
"""The pixels that are assumed where a price counts megapixels and the model chooses the size."""


def most_images(offer: Offer, request: Request) -> int:
    """Return the most images that one request can be charged for: layers are not counted in advance."""
    return offer.max_outputs if offer.operation is Operation.LAYERS else request.count


def quote(
    offer: Offer, count: int, size: Size | None, references: int, params: Mapping[str, Any] | None = None
) -> Quote:
    """Return the list price of one request in US dollars: `count` images of a size in pixels, references, parameters.

    Without a size the dearest tier counts. Independent images pay for their references each.
    """
    price = offer.price
    area = math.prod(size) if size else math.inf
    each = [price.usd_per_image, *(usd for bound, usd in price.above if area > bound)][-1]
    each += price.usd_per_megapixel * (math.prod(size) if size else UNKNOWN_AREA_PX) / 1_000_000
    each += sum((offer.params[name].usd_per_image for name, value in (params or {}).items() if value), Decimal(0))
    charged = max(0, references - price.free_references) * (count if offer.independent else 1)
    return Quote(usd=price.usd_per_request + each * count + price.usd_per_reference * charged, exact=False)
