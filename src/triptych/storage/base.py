"""The base of the store: a database as a whole, with its connection, its counters and its money.

The methods block; each runs one statement or two.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from uuid import uuid4

from triptych.core.clock import Clock, Moment, SystemClock
from triptych.core.models import Failure
from triptych.storage import rows
from triptych.storage.budget import Budget, Caps, Ledger, dollars
from triptych.storage.database import Database, open_database
from triptych.storage.looks import Looks

RESTARTED = Failure("restarted", "The machine restarted before the provider's answer was stored.", True)
"""Of a request in progress at the restart: its age depends on a wall clock that may have been set meanwhile."""


class StoreBase:
    """One database, with the ledger and the looks over it; a path stands for the SQLite file there.

    Raises: `errors.Unusable` when the file cannot be used, `errors.Outage` while another program locks it.
    """

    def __init__(self, database: Database | Path, caps: Caps | None = None, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._db = open_database(database, None) if isinstance(database, Path) else database
        self._process = uuid4().hex
        self._forget_earlier_boots()
        self.ledger = Ledger(self._db, caps or Caps())
        self.looks = Looks(self._db)

    def _forget_earlier_boots(self) -> None:
        """After a restart of the machine, make everything due: stored monotonic times are invalid."""
        boot, row = self._db.boot(), self._db.one("boot")
        if row and row["id"] == boot:
            return  # without a lock: the database can be opened while another program holds it
        with self._db.transaction():
            row = self._db.one("boot")
            if row and row["id"] != boot:
                now, mono = self._clock.now().timestamp(), self._clock.monotonic()
                self._db.run("forget_monotonic", now=now, mono=mono, fault=rows.column(RESTARTED))
                self._db.run("forget_changes")
                self._db.run("forget_monotonic_accounts")
                self._db.run("forget_monotonic_money", now=now, mono=mono)
                self._db.run("set_boot", id=boot)

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def outdated(self) -> bool:
        """Return whether a newer Triptych has changed the database so that this one must not work on it."""
        return self._db.outdated()

    def require_current(self) -> None:
        """Raise `errors.Outdated` if a newer Triptych has changed the database."""
        self._db.require_current()

    def check(self) -> None:
        """Check every page of the database. Raises: `errors.Unusable` if one is damaged."""
        self._db.check()

    def changes_since(self, mono_s: float) -> dict[str, float]:
        """Return the jobs that other processes have changed since a monotonic time, with the time of the change."""
        found = self._db.all("changes_since", since=mono_s, process=self._process)
        return {row["job_id"]: row["mono"] for row in found}

    def differences(self) -> list[str]:
        """Return where the totals and counters differ from the predictions, which it reads all."""
        money = [
            f"money of {row['scope'] or 'all jobs'}, bucket {row['bucket']}: charged "
            f"${dollars(row['charged_nano'])} and reserved ${dollars(row['reserved_nano'])} too much"
            for row in self._db.all("money_differences")
        ]
        counters = {"account": self._db.all("account_differences"), "queue": self._db.all("queue_differences")}
        return money + [
            f"{what} {row['name']}: {abs(row['more'])} {row['counted']} too {'many' if row['more'] > 0 else 'few'}"
            for what, found in counters.items()
            for row in found
        ]

    def recount(self) -> None:
        """Set the totals and counters to those of the predictions."""
        with self._db.transaction():
            self._db.lock("books")
            self._db.run("lock_counts")
            for name in ("clear_money", "count_money", "count_accounts", "clear_queues", "count_queues"):
                self._db.run(name)

    def balance(self, now: Moment) -> Budget:
        """Return the installation's budget with the money of the last 24 hours."""
        return self.ledger.balance(now)

    def tightest_budget(self, now: Moment, owner: str | None, group: str | None = None) -> Budget:
        """Return the budget with the least left of those that a job of this owner and group counts against."""
        return self.ledger.tightest(now, owner, group)

    def money_since(self, since_s: float) -> tuple[Decimal, Decimal]:
        """Return the money charged, and the money still reserved, since then (UTC seconds)."""
        return self.ledger.since(since_s)
