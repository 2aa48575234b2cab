"""The list price of one request. Pure; prices a provider quotes live are `jobs.pricing`'s."""

from __future__ import annotations

import math

from triptych.core.offers import Offer, Quote, Size


def quote(offer: Offer, count: int, size: Size | None, references: int) -> Quote:
    """Return the list price of one request in US dollars: `count` images of a size in pixels, plus the references.

    Without a size the dearest tier counts.
    """
    price = offer.price
    area = math.prod(size) if size else math.inf
    each = [price.usd_per_image, *(usd for bound, usd in price.above if area > bound)][-1]
    charged = max(0, references - price.free_references)
    return Quote(usd=each * count + price.usd_per_reference * charged, exact=False)
