"""The ledger: quotes are reserved when a job is written, settled when charged, released when surely not charged.

A prediction counts with its charge if that is known, else with its reservation. A budget is a cap per rolling 24 h:
over all jobs in the database, over those of one owner, or over those of one group. A prediction counts from the time
when its request was sent (before that, from when it was written), and for as long as it may still be sent.

Rules: a reservation reads the balance in its own transaction, from totals that triggers keep (table `money`; an amount
counts there rounded up to 1e-9 US dollars). Money is exact `Decimal` in US dollars.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import Any, ClassVar

from triptych.core import errors
from triptych.core.clock import Moment, boot_id
from triptych.core.errors import format_usd
from triptych.core.json_fields import Result, Usd
from triptych.storage import rows
from triptych.storage.database import Database, Row

DAY_S = 86_400
BUCKET_S = 600
"""The money of predictions that have ended is summed in buckets of this length."""


@dataclass(frozen=True, slots=True)
class Caps:
    """The caps per rolling 24 h in US dollars: of the installation, of each owner, and of groups by name.

    None is no cap, and so is a group that is not named. The person at the machine is an owner too.
    """

    total_usd: Decimal | None = None
    owner_usd: Decimal | None = None
    group_usd: Mapping[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget(Result):
    """The cap per rolling 24 h and the money counted against it, in US dollars; `cap` None is no cap."""

    whose: ClassVar[str] = "the budget"
    setting: ClassVar[str] = "TRIPTYCH_BUDGET_USD"
    cap: Usd | None
    spent: Usd
    reserved: Usd

    left: Usd | None = field(init=False)
    """The money that may still be reserved; None without a cap."""

    def __post_init__(self) -> None:
        left = None if self.cap is None else max(self.cap - self.spent - self.reserved, Decimal(0))
        object.__setattr__(self, "left", left)

    def fits(self, asked_usd: Decimal) -> bool:
        """Return whether so much more may be reserved; zero always fits."""
        return asked_usd <= 0 or self.left is None or asked_usd <= self.left

    def text(self) -> str:
        """Return cap, spent and reserved as part of a sentence."""
        cap = "no cap" if self.cap is None else f"cap ${format_usd(self.cap)}"
        spent, reserved = format_usd(self.spent), format_usd(self.reserved)
        return f"{cap} per 24 h ({self.setting}), spent ${spent}, reserved ${reserved}"

    def require(self, asked_usd: Decimal) -> None:
        """Raise `errors.OverBudget` if an amount does not fit; its message has cap, spent, reserved and quote."""
        if not self.fits(asked_usd):
            raise errors.OverBudget(
                f"The job does not fit {self.whose}: {self.text()}, quoted ${format_usd(asked_usd)}. Nothing was sent. "
                "Ask for fewer images, wait until earlier spending is 24 h old, or ask the user to raise "
                f"{self.setting}; triptych://spend lists the spending."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerBudget(Budget):
    """The budget of one owner."""

    whose: ClassVar[str] = "the budget of its owner"
    setting: ClassVar[str] = "TRIPTYCH_OWNER_BUDGET_USD"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupBudget(Budget):
    """The budget of one group."""

    whose: ClassVar[str] = "the budget of its group"
    setting: ClassVar[str] = "TRIPTYCH_GROUP_BUDGETS_USD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent(Result):
    """The cost of some predictions: `quoted` of all, `charged` of the settled, `reserved` of the others."""

    jobs: int
    predictions: int
    images: int
    quoted: Usd
    charged: Usd
    charge_is_estimate: bool
    reserved: Usd


@dataclass(frozen=True, slots=True, kw_only=True)
class SpentRow(Spent):
    day: str
    """In UTC, YYYY-MM-DD."""
    provider: str
    model: str


class Ledger:
    """The money of all predictions in one database, under `caps`."""

    def __init__(self, db: Database, caps: Caps) -> None:
        self._db = db
        self._caps = caps

    def balance(self, now: Moment) -> Budget:
        """Return the installation's budget with the money of the last 24 h.

        A prediction counts until it is older than that by both clocks: a wall clock that steps forward frees nothing.
        One that has ended counts as long as the newest that ended in the same 10 minutes.
        """
        spent, reserved = self._totals("", now)
        return Budget(cap=self._caps.total_usd, spent=spent, reserved=reserved)

    def tightest(self, now: Moment, owner: str | None, group: str | None) -> Budget:
        """Return the budget with the least left of those that a job of this owner and group counts against."""
        budgets = self.budgets(now, owner, group)
        return min(budgets, key=lambda one: math.inf if one.left is None else one.left)

    def budgets(self, now: Moment, owner: str | None, group: str | None) -> list[Budget]:
        """Return the budgets that a job of this owner and group counts against; the installation's first."""
        budgets = [self.balance(now)]
        if self._caps.owner_usd is not None:
            spent, reserved = self._totals(f"owner:{owner or ''}", now)
            budgets.append(OwnerBudget(cap=self._caps.owner_usd, spent=spent, reserved=reserved))
        if group is not None and group in self._caps.group_usd:
            spent, reserved = self._totals(f"group:{group}", now)
            budgets.append(GroupBudget(cap=self._caps.group_usd[group], spent=spent, reserved=reserved))
        return budgets

    def _totals(self, scope: str, now: Moment) -> tuple[Decimal, Decimal]:
        """Return the money charged, and the money still reserved, of the last 24 h in one scope."""
        since_s = now.at.timestamp() - DAY_S
        row = self._db.one(
            "money_totals",
            scope=scope,
            since=since_s,
            since_bucket=1 + math.floor(since_s / BUCKET_S),
            since_mono=now.mono_s - DAY_S if boot_id() else math.inf,  # infinity where boots have no id
        )
        assert row
        return dollars(row["charged_nano"]), dollars(row["reserved_nano"])

    def since(self, since_s: float, since_mono_s: float = math.inf) -> tuple[Decimal, Decimal]:
        """Return the money charged, and the money still reserved, since then (UTC seconds, monotonic seconds).

        It reads the predictions, not the totals.
        """
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


def dollars(nano: int | Decimal) -> Decimal:
    """Return an amount of 1e-9 US dollars in US dollars."""
    return Decimal(nano).scaleb(-9).normalize() + 0


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
