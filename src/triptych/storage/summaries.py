"""The small, frequent reads of a running job: its status, pace and costs. Its size hardly changes their time.

The methods block.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from triptych.core.clock import Moment
from triptych.core.models import Prediction, Status
from triptych.storage import rows
from triptych.storage.budget import Budget
from triptych.storage.reads import Reads

PACE_ENDS = 25


@dataclass(frozen=True, slots=True)
class Seen:
    """The facts of a job for frequent reads, without its request, which may have megabytes."""

    status: Status
    requested: int
    save_to: str | None
    owner: str | None
    returned: int


@dataclass(frozen=True, slots=True)
class Pace:
    """The times of a job's requests, and the number that is left."""

    finished: tuple[tuple[datetime, datetime], ...]
    """When each of the newest `PACE_ENDS` that finished was submitted, and when it finished."""
    first_at: datetime | None
    """When the job's first request was submitted; None if more have finished than `finished` has."""
    running: tuple[datetime, ...]
    """When each request that runs now was submitted."""
    left: tuple[int, ...]
    """How many requests of each unfinished lane have not finished, in the order of the lanes."""


@dataclass(frozen=True, slots=True)
class Costs:
    """The predictions of a job that have the same quote and charge."""

    count: int
    quoted_usd: Decimal
    charged_usd: Decimal | None
    charge_is_estimate: bool


@dataclass(frozen=True, slots=True)
class Overview:
    """The numbers of the whole installation, for monitoring."""

    jobs: Mapping[str, int]
    """By status: those with a prediction in flight or uncertain."""
    predictions: Mapping[tuple[str, str], int]
    """By provider and state: those in flight or uncertain."""
    accounts: tuple[tuple[str, str, int, float], ...]
    """Of each account its id, its provider, how many requests run, and for how many seconds none is sent."""
    oldest_due_s: float
    """How long the oldest submitted prediction without a worker is due."""
    budget: Budget


class ListedImage(NamedTuple):
    """A stored output as `resources/list` shows it."""

    handle: str
    width: int | None
    height: int | None
    source: tuple[str, ...]


class Summaries(Reads):
    """The reads of one database, and the summaries of its jobs."""

    def recent_images(self, limit: int, owner: str | None = None) -> list[ListedImage]:
        """Return the newest stored outputs, of one owner or of all."""
        return [
            ListedImage(f"{row['job_id']}/{row['n']}", row["width"], row["height"], tuple(json.loads(row["source"])))
            for row in self._db.all("recent_images", limit=limit, owner=owner)
        ]

    def seen(self, job_id: str) -> Seen | None:
        """Return a job's status and the number of its images; None if there is no job."""
        row = self._db.one("job_seen", id=job_id)
        return rows.read(Seen, row, requested=self._fixed(job_id).requested) if row else None

    def pace(self, job_id: str) -> Pace:
        """Return the times of a job's requests, and the number that is left."""
        ends = [
            (rows.utc(row["submitted_at"]), rows.utc(row["finished_at"]))
            for row in self._db.all("newest_ends", job_id=job_id, limit=PACE_ENDS)
        ]
        left: Counter[int] = Counter()
        running = []
        for row in self._db.all("left", job_id=job_id):
            left[row["lane"]] += 1
            if row["submitted_at"] and row["state"] in ("submitting", "running"):
                running.append(rows.utc(row["submitted_at"]))
        first = self._db.one("first_submit", job_id=job_id)
        first_at = rows.utc(first["at"]) if first and first["at"] else None
        return Pace(tuple(ends), first_at if len(ends) < PACE_ENDS else None, tuple(running), tuple(left.values()))

    def costs(self, job_id: str) -> list[Costs]:
        """Return the quotes and charges of a job: predictions with the same ones together."""
        return [rows.read(Costs, row) for row in self._db.all("costs", job_id=job_id)]

    def stages(self, job_id: str) -> list[tuple[int, int, int]]:
        """Return for each step of a job how many requests are done, how many ended without an image, and their number.

        The steps that an earlier job made have none.
        """
        found = {row["step"]: row for row in self._db.all("stages", job_id=job_id)}
        steps = self._fixed(job_id).request.steps
        return [
            (row["done"], row["lost"], row["total"]) if (row := found.get(step)) else (0, 0, 0) for step in range(steps)
        ]

    def spent_usd(self, job_id: str) -> Decimal:
        """Return the charge of a job's finished requests, or their quote where the charge is not known yet."""
        return sum((Decimal(row["usd"]) * row["n"] for row in self._db.all("spent", job_id=job_id)), Decimal(0))

    def faulty(self, job_id: str) -> list[Prediction]:
        """Return those of a job's predictions that have a fault, lane by lane, step by step."""
        return [self._prediction(row) for row in self._db.all("faulty", job_id=job_id)]

    def times(self, job_id: str) -> tuple[datetime, datetime]:
        """Return when a job was made, and when a prediction of it was sent or finished last."""
        row = self._db.one("job_times", job_id=job_id)
        assert row
        return rows.utc(row["made_at"]), rows.utc(row["moved_at"])

    def overview(self, now: Moment) -> Overview:
        """Return the numbers for monitoring. Their cost grows with what is in flight, not with the history."""
        due = self._db.one("overview_due")
        due_at = due["due"] if due else None
        return Overview(
            jobs={row["status"]: row["number"] for row in self._db.all("overview_jobs")},
            predictions={
                (row["provider"], row["state"]): row["number"] for row in self._db.all("overview_predictions")
            },
            accounts=tuple(
                (row["account"], row["provider"], row["running"], max(row["hold_until"] - now.mono_s, 0.0))
                for row in self._db.all("overview_accounts")
            ),
            oldest_due_s=0.0 if due_at is None else max(now.mono_s - due_at, 0.0),
            budget=self.ledger.balance(now),
        )

    def require_current(self) -> None:
        """Read the database once.

        Raises: `errors.Outage` if it does not answer, `errors.Outdated` if it is that of a newer Triptych.
        """
        self._db.require_current()
