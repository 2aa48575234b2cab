"""The ledger: quotes reserved when a job is written, settled when charged, released when surely not charged.

A prediction weighs its charge where that is known, else what is reserved for it. The budget is a cap per rolling 24 h
over everything that shares the database. A prediction counts from when its request left (until then from when it was
written), and for as long as it may still be sent.

Rules: whoever reserves asks for the balance in the same transaction. Money is exact `Decimal` of US dollars.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from triptych.core import errors
from triptych.core.clock import Moment, boot_id
from triptych.core.errors import format_usd
from triptych.storage import rows
from triptych.storage.sqlite import Database

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Balance:
    """What the last 24 h weigh against the cap; `cap_usd` None is no cap."""

    cap_usd: Decimal | None
    spent_usd: Decimal
    reserved_usd: Decimal

    @property
    def left_usd(self) -> Decimal | None:
        """What may still be reserved; None without a cap."""
        if self.cap_usd is None:
            return None
        return max(self.cap_usd - self.spent_usd - self.reserved_usd, Decimal(0))

    def fits(self, asked_usd: Decimal) -> bool:
        """Return whether so much more may be reserved; nothing always fits."""
        return asked_usd <= 0 or self.left_usd is None or asked_usd <= self.left_usd

    def text(self) -> str:
        """Return cap, spent and reserved as part of a sentence."""
        cap = "no cap" if self.cap_usd is None else f"cap ${format_usd(self.cap_usd)}"
        return (
            f"{cap} per 24 h (TRIPTYCH_BUDGET_USD), spent ${format_usd(self.spent_usd)}, "
            f"reserved ${format_usd(self.reserved_usd)}"
        )

    def require(self, asked_usd: Decimal) -> None:
        """Refuse what does not fit.

        Raises: `errors.OverBudget` naming cap, spent, reserved and asked.
        """
        if not self.fits(asked_usd):
            raise errors.OverBudget(
                f"This job's quote of ${format_usd(asked_usd)} does not fit the budget: {self.text()}, "
                f"asked ${format_usd(asked_usd)}. Nothing was sent. Ask for fewer images, wait until what was spent is "
                "24 h old, or have the user raise TRIPTYCH_BUDGET_USD; triptych://spend shows where it went."
            )


@dataclass(frozen=True, slots=True)
class Spending:
    """One prediction as the ledger sees it; `images` are those that are home."""

    at: datetime
    job_id: str
    provider: str
    model: str
    images: int
    quoted_usd: Decimal
    charged_usd: Decimal | None
    reserved_usd: Decimal
    """What is still held back for it; 0 once it is charged or surely will not be."""
    charge_is_estimate: bool


class Ledger:
    """The money of all predictions in one database, under `cap_usd` per 24 h."""

    def __init__(self, db: Database, cap_usd: Decimal | None) -> None:
        self._db = db
        self._cap_usd = cap_usd

    def balance(self, now: Moment) -> Balance:
        """Return what the 24 h until now weigh against the cap.

        A prediction counts as long as either clock says that it is younger: a wall clock that steps forward frees
        nothing.
        """
        since_mono_s = now.mono_s - DAY_S if boot_id() else math.inf  # unless nobody can tell this boot from another
        return Balance(self._cap_usd, *self.since(now.at.timestamp() - DAY_S, since_mono_s))

    def since(self, since_s: float, since_mono_s: float = math.inf) -> tuple[Decimal, Decimal]:
        """Return what was charged, and what is still reserved, since then (UTC seconds, monotonic seconds)."""
        charged = reserved = Decimal(0)
        for row in self._db.all("money_since", since=since_s, since_mono=since_mono_s):
            if row["charged_usd"] is not None:
                charged += Decimal(row["charged_usd"])
            else:
                reserved += Decimal(row["reserved_usd"])
        return charged, reserved

    def spending(self, since: datetime, owner: str | None = None) -> list[Spending]:
        """Return every prediction since then, or every one of an owner's, the newest first."""
        return [
            Spending(
                at=rows.utc(row["at"]),
                job_id=row["job_id"],
                provider=row["provider"],
                model=row["model"],
                images=row["images"],
                quoted_usd=Decimal(row["quoted_usd"]),
                charged_usd=None if row["charged_usd"] is None else Decimal(row["charged_usd"]),
                reserved_usd=Decimal(row["reserved_usd"]) if row["charged_usd"] is None else Decimal(0),
                charge_is_estimate=bool(row["charge_is_estimate"]),
            )
            for row in self._db.all("spending", since=since.timestamp(), owner=owner)
        ]
