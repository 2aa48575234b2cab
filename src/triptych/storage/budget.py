"""The ledger: quotes are reserved when a job is written, settled when charged, released when surely not charged.

A prediction counts with its charge if that is known, else with its reservation. The budget is a cap per rolling 24 h
over all jobs in the database. A prediction counts from the time when its request was sent (before that, from when it
was written), and for as long as it may still be sent.

Rules: a reservation reads the balance in its own transaction. Money is exact `Decimal` in US dollars.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

from pydantic import BaseModel, computed_field

from triptych.core import errors
from triptych.core.clock import Moment, boot_id
from triptych.core.errors import format_usd
from triptych.core.json_fields import Usd
from triptych.storage import rows
from triptych.storage.database import Database, Row

DAY_S = 86_400


class Budget(BaseModel, frozen=True, extra="forbid"):
    """The cap per rolling 24 h and the money counted against it, in US dollars; `cap` None is no cap."""

    cap: Usd | None
    spent: Usd
    reserved: Usd

    @computed_field  # type: ignore[prop-decorator]
    @property
    def left(self) -> Usd | None:
        """The money that may still be reserved; None without a cap."""
        return None if self.cap is None else max(self.cap - self.spent - self.reserved, Decimal(0))

    def fits(self, asked_usd: Decimal) -> bool:
        """Return whether so much more may be reserved; zero always fits."""
        return asked_usd <= 0 or self.left is None or asked_usd <= self.left

    def text(self) -> str:
        """Return cap, spent and reserved as part of a sentence."""
        cap = "no cap" if self.cap is None else f"cap ${format_usd(self.cap)}"
        spent, reserved = format_usd(self.spent), format_usd(self.reserved)
        return f"{cap} per 24 h (TRIPTYCH_BUDGET_USD), spent ${spent}, reserved ${reserved}"

    def require(self, asked_usd: Decimal) -> None:
        """Raise `errors.OverBudget` if an amount does not fit; its message has cap, spent, reserved and quote."""
        if not self.fits(asked_usd):
            raise errors.OverBudget(
                f"The job does not fit the budget: {self.text()}, quoted ${format_usd(asked_usd)}. Nothing was sent. "
                "Ask for fewer images, wait until earlier spending is 24 h old, or ask the user to raise "
                "TRIPTYCH_BUDGET_USD; triptych://spend lists the spending."
            )


class Spent(BaseModel, frozen=True, extra="forbid"):
    """The cost of some predictions: `quoted` of all, `charged` of the settled, `reserved` of the others."""

    jobs: int
    predictions: int
    images: int
    quoted: Usd
    charged: Usd
    charge_is_estimate: bool
    reserved: Usd


class SpentRow(Spent, frozen=True):
    day: str
    """In UTC, YYYY-MM-DD."""
    provider: str
    model: str


class Ledger:
    """The money of all predictions in one database, under `cap_usd` per 24 h."""

    def __init__(self, db: Database, cap_usd: Decimal | None) -> None:
        self._db = db
        self._cap_usd = cap_usd

    def balance(self, now: Moment) -> Budget:
        """Return the budget with the money of the last 24 h.

        A prediction counts until it is older than that by both clocks: a wall clock that steps forward frees nothing.
        """
        since_mono_s = now.mono_s - DAY_S if boot_id() else math.inf  # infinity where boots have no id
        spent, reserved = self.since(now.at.timestamp() - DAY_S, since_mono_s)
        return Budget(cap=self._cap_usd, spent=spent, reserved=reserved)

    def since(self, since_s: float, since_mono_s: float = math.inf) -> tuple[Decimal, Decimal]:
        """Return the money charged, and the money still reserved, since then (UTC seconds, monotonic seconds)."""
        charged = reserved = Decimal(0)
        for row in self._db.all("money_since", since=since_s, since_mono=since_mono_s):
            if row["charged_usd"] is not None:
                charged += Decimal(row["charged_usd"])
            else:
                reserved += Decimal(row["reserved_usd"])
        return charged, reserved

    def spending(self, since: datetime, owner: str | None = None) -> tuple[list[SpentRow], Spent]:
        """Return the spending since then by UTC day, provider and model, the newest day first, and the total.

        With an owner, only that of its jobs.
        """

        def place(row: Row) -> tuple[str, str, str]:
            return f"{rows.utc(row['at']):%Y-%m-%d}", row["provider"], row["model"]

        found = sorted(self._db.all("spending", since=since.timestamp(), owner=owner), key=place)
        days = [
            SpentRow(day=day, provider=provider, model=model, **_sums(list(some)))
            for (day, provider, model), some in groupby(found, key=place)
        ]
        return sorted(days, key=lambda row: row.day, reverse=True), Spent(**_sums(found))


def _sums(some: Sequence[Row]) -> dict[str, Any]:
    settled = [row for row in some if row["charged_usd"] is not None]
    open_ = [row for row in some if row["charged_usd"] is None]
    return {
        "jobs": len({row["job_id"] for row in some}),
        "predictions": len(some),
        "images": sum(row["images"] for row in some),
        "quoted": sum((Decimal(row["quoted_usd"]) for row in some), Decimal(0)),
        "charged": sum((Decimal(row["charged_usd"]) for row in settled), Decimal(0)),
        "charge_is_estimate": any(row["charge_is_estimate"] for row in some),
        "reserved": sum((Decimal(row["reserved_usd"]) for row in open_), Decimal(0)),
    }
