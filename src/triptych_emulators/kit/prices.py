"""Prices of an emulated API: an output by its area in pixels, and the references of a request.

Source: resellers' price pages of Seedream 5.5 (2026-11-13) and of 5.0 pro (2026-09-30). They are stated apart from the
catalog of `triptych`, so that a test sees a slip there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

SMALL_PX = 1536 * 1536 * 1.1025
"""The largest area at the lower price."""


@dataclass(frozen=True)
class PriceTiers:
    """`tiers` are the largest area in pixels and the price in US dollars, the smallest first."""

    tiers: Sequence[tuple[float, str]]
    reference_usd: str = "0"
    free_references: int = 0

    @property
    def from_usd(self) -> Decimal:
        """The price of the smallest tier, which model lists show."""
        return Decimal(self.tiers[0][1])

    def each_usd(self, size: tuple[int, int]) -> Decimal:
        """Return the price of one output of this size."""
        return Decimal(next(usd for area, usd in self.tiers if size[0] * size[1] <= area))

    def fee_usd(self, references: int) -> Decimal:
        """Return the price of the references of one request."""
        return Decimal(self.reference_usd) * max(0, references - self.free_references)


def flat(usd: str) -> PriceTiers:
    """Return one price for every output, with free references."""
    return PriceTiers(((math.inf, usd),))


V5_5 = PriceTiers(((SMALL_PX, "0.02"), (math.inf, "0.035")), "0.008")
V5_PRO = PriceTiers(((SMALL_PX, "0.045"), (math.inf, "0.09")), "0.003", 1)
V5_FLASH = flat("0.018")
