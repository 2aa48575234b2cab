"""The claims of the store: which prediction is due, and the leases of those that a process works on.

Rules: a look and a claim take the same time with any number of predictions and any history: they read the first entries
of the indexes of `0011_cost.sql`, and counters that triggers keep. Of the owners that wait at a provider, the one that
was served least recently is next. The limits and pauses of an account hold for all processes. The methods block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import TypeVar

from triptych.core.clock import Moment
from triptych.core.models import Failure, Prediction, State
from triptych.core.states import LEASE_S, MAX_WAIT_S
from triptych.storage import rows
from triptych.storage.database import Row
from triptych.storage.summaries import Summaries

T = TypeVar("T")

SETTLE_TRIES = 6
"""How often the charge of a finished prediction is requested; `predictions.free_at` has the same number."""
TOO_FAR_S = 2 * LEASE_S
"""A lease that ends so far ahead is damaged data. Another process may have renewed one since the clock was read."""
HINT_PAUSE_S = 2.0
"""The least time between two hints for one prediction."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A prediction that this process holds until the lease expires."""

    prediction: Prediction
    lease: str


@dataclass(frozen=True, slots=True)
class Slots:
    """The right to claim `steps` of an account, at which at most `max_running` predictions run at once."""

    account: str
    provider: str
    max_running: int
    steps: int = 1


@dataclass(frozen=True, slots=True)
class AccountState:
    """The state of an account that all processes share; times are seconds of the monotonic clock.

    No submit is sent before `hold_until`, and no poll before `quiet_until`. `running` predictions are submitting or
    running. The provider's list is read at `next_sweep`; while it is read (`sweeping`), single polls are rare.
    """

    account: str
    running: int = 0
    hold_until: float = 0.0
    quiet_until: float = 0.0
    next_sweep: float = 0.0
    sweeping: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """When the next claim can succeed (monotonic; None if that is not known), and the accounts by their ids."""

    due_at: float | None
    accounts: Mapping[str, AccountState]


@dataclass(slots=True)
class _Line:
    """The predictions that wait for a step at one account: when the first of each state is free.

    `taken` are queued predictions that a process is about to submit. A damaged one is due further ahead than any is.
    """

    state: AccountState
    first_at: dict[State, float] = field(default_factory=dict)
    taken: int = 0
    damaged: bool = False

    def due_at(self, slots: Slots) -> dict[State, float]:
        """Return when the first of each state can be claimed."""
        if slots.steps < 1:
            return {}
        due = dict(self.first_at)
        if State.RUNNING in due:
            due[State.RUNNING] = max(due[State.RUNNING], self.state.quiet_until)
        if State.QUEUED in due:
            due[State.QUEUED] = max(due[State.QUEUED], self.state.hold_until)
            if self.state.running + self.taken >= slots.max_running:
                del due[State.QUEUED]
        return due


class Claims(Summaries):
    """The reads of one database, and the claims on its predictions."""

    def look(self, *, now: Moment, slots: Sequence[Slots], held: Sequence[str] = ()) -> Look:
        """Return when the next claim can succeed, and the state of the accounts. Only the first look takes a lock."""
        lines = self._lines(now.mono_s, slots, held)
        if len(lines) < len(slots):
            with self._db.transaction():
                self._add_accounts(slots)
            lines = self._lines(now.mono_s, slots, held)
        due: list[float] = []
        for one in slots:
            line = lines[one.account]
            due += [0.0] if line.damaged else line.due_at(one).values()
        return Look(min(due, default=None), {account: line.state for account, line in lines.items()})

    def claim(
        self, *, now: Moment, lease: str, slots: Sequence[Slots], most: int = 1, held: Sequence[str] = ()
    ) -> list[Claim]:
        """Claim the most urgent due predictions; what was sent comes before queued ones.

        A queued prediction is skipped while its account holds or runs `max_running` predictions. The ids in `held` are
        skipped: this process works on them, even if their leases have expired. Each lease begins with `lease`.

        Raises: `errors.Outdated` after a newer Triptych has changed the database; `move` still works then.
        """
        slots = sorted(slots, key=lambda one: one.account)  # two processes lock the accounts in the same order
        with self._db.without_fsync(), self._db.transaction():
            self._db.require_current()
            # `now` may be older than the wait for this transaction, and a lease of another process newer than `now`.
            now_s = max(now.mono_s, self._clock.monotonic())
            lines = self._lines(now_s, slots, held)
            if len(lines) < len(slots) or any(line.damaged for line in lines.values()):
                self._mend(now_s, slots, held)
                lines = self._lines(now_s, slots, held)
            picked = self._sent(now_s, slots, lines, most, held)
            taken = [row for one in slots for row in self._take(one, picked.get(one.account, []), lease, now_s)]
            left = most - len(taken)
            free = {one.account: min(one.steps - len(picked.get(one.account, [])), left) for one in slots}
            waiting = [self._queued(one, lines[one.account], free[one.account], now_s, held) for one in slots]
            chosen = _in_turn(waiting)[:left]
            for one in slots:
                ids = [row["id"] for row in chosen if row["provider"] == one.provider]
                taken += self._take(one, ids, lease, now_s)
            for row in chosen:
                self._db.run("serve", provider=row["provider"], owner=row["owner"])
        return [Claim(self._prediction(row), row["lease"]) for row in taken]

    def _lines(self, now_s: float, slots: Sequence[Slots], held: Sequence[str]) -> dict[str, _Line]:
        lines: dict[str, _Line] = {}
        too_far_s = now_s + MAX_WAIT_S
        accounts = [one.account for one in slots]
        for row in self._db.all("look", accounts=accounts, held=held, now=now_s, too_far=now_s + TOO_FAR_S):
            line = lines.get(row["account"])
            if line is None:
                line = lines[row["account"]] = _Line(_account(row, too_far_s), damaged=bool(row["damaged"]))
            line.taken += row["taken"]
            if row["first_at"] is not None:
                line.first_at[State(row["state"])] = row["first_at"]
                line.damaged |= row["last_at"] > too_far_s
        return lines

    def _mend(self, now_s: float, slots: Sequence[Slots], held: Sequence[str]) -> None:
        """Add the accounts that have no row, and make due what is due or leased further ahead than anything is."""
        self._add_accounts(slots)
        providers = [one.provider for one in slots]
        self._db.run("mend_due", providers=providers, too_far=now_s + MAX_WAIT_S)
        self._db.run("mend_leases", too_far=now_s + TOO_FAR_S, held=held)

    def _add_accounts(self, slots: Sequence[Slots]) -> None:
        for one in sorted(slots, key=lambda one: one.account):
            if self._db.run("add_account", account=one.account, provider=one.provider).rowcount == 1:
                self._db.run("adopt", account=one.account, provider=one.provider)

    def _sent(
        self, now_s: float, slots: Sequence[Slots], lines: Mapping[str, _Line], most: int, held: Sequence[str]
    ) -> dict[str, list[str]]:
        """Return the ids of due predictions that were sent, by account: the most urgent ones of all accounts."""
        found = []
        for one in slots:
            due: list[Row] = []
            for state, at in lines[one.account].due_at(one).items():
                if state is not State.QUEUED and at <= now_s:
                    values = {"provider": one.provider, "state": state, "now": now_s, "held": held}
                    due += self._db.all("due", **values, most=min(one.steps, most))
            due.sort(key=lambda row: row["free_at"])
            found += [(row["free_at"], one.account, row["id"]) for row in due[: one.steps]]
        picked: dict[str, list[str]] = {}
        for _, account, found_id in sorted(found)[:most]:
            picked.setdefault(account, []).append(found_id)
        return picked

    def _queued(self, one: Slots, line: _Line, free: int, now_s: float, held: Sequence[str]) -> Sequence[Row]:
        """Return the queued predictions that an account may submit now: of each owner in turn."""
        at = line.due_at(one).get(State.QUEUED)
        if at is None or at > now_s or free < 1:
            return []
        row = self._db.one("lock_account", account=one.account)
        taken = self._db.one("taken", account=one.account, now=now_s)
        assert row and taken
        free = min(free, one.max_running - row["running"] - taken["n"])
        if free < 1 or now_s < row["hold_until"] <= now_s + MAX_WAIT_S:
            return []
        values = {"provider": one.provider, "now": now_s, "held": held, "most": free}
        firsts = self._db.all("turns", **values)
        if len(firsts) >= free:
            return firsts
        return _in_turn([self._db.all("queued", owner=row["owner"], **values) for row in firsts])[:free]

    def _take(self, one: Slots, ids: Sequence[str], lease: str, now_s: float) -> list[Row]:
        if not ids:
            return []
        until = now_s + LEASE_S
        taken = self._db.all("take", ids=ids, account=one.account, lease=f"{lease}-", until=until, now=now_s)
        return sorted(taken, key=lambda row: ids.index(row["id"]))

    # -- accounts

    def hold_account(self, account: str, until_s: float, *, quiet: bool = False) -> None:
        """Submit nothing for an account until then; with `quiet` also poll nothing. A longer pause stays."""
        now_s = self._clock.monotonic()
        with self._db.without_fsync():
            self._db.run("hold_account", account=account, until=until_s, too_far=now_s + MAX_WAIT_S)
            if quiet:
                self._db.run("quiet_account", account=account, until=until_s, too_far=now_s + MAX_WAIT_S)

    def schedule_sweep(self, account: str, *, seen: float, at_s: float, sweeping: bool) -> bool:
        """Set when an account's list is read next; return False if another process has set it since it was `seen`."""
        too_far_s = self._clock.monotonic() + MAX_WAIT_S
        with self._db.without_fsync():
            values = {"account": account, "seen": seen, "at": at_s, "sweeping": int(sweeping), "too_far": too_far_s}
            return self._db.run("schedule_sweep", **values).rowcount == 1

    # -- leases

    def _note_change(self, job_id: str) -> None:
        """Store that this process changes a job now, for `changes_since` in other processes."""
        self._db.run("note_change", job_id=job_id, mono=self._clock.monotonic(), process=self._process)

    def hint(self, prediction_id: str, key: str, now: Moment) -> bool:
        """Make a running prediction due now; return whether it was not due before.

        `key` is its `client_id`. One prediction is hinted at once in `HINT_PAUSE_S`. A wrong id takes no lock.
        """
        values = {"id": prediction_id, "now": now.mono_s, "pause_s": HINT_PAUSE_S}
        if not self._db.one("hintable", **values, key=key):
            return False
        with self._db.without_fsync():
            return self._db.run("hint", **values).rowcount == 1

    def heartbeat(self, leases: Sequence[str], until_s: float) -> None:
        """Extend leases."""
        if leases:
            with self._db.without_fsync():
                self._db.run("heartbeat", leases=leases, until=until_s)

    def renew(self, claim: Claim, now_s: float) -> bool:
        """Renew the lease of a prediction that is about to be sent; return False if it is lost."""
        with self._db.without_fsync():
            done = self._db.run("renew", id=claim.prediction.id, lease=claim.lease, until=now_s + LEASE_S)
        return done.rowcount == 1

    def put_back(self, claim: Claim, due_at: float) -> None:
        """Release a claim. The state stays as the last move wrote it."""
        self._db.run("put_back", id=claim.prediction.id, lease=claim.lease, due_at=due_at)

    def note_loss(self, prediction_id: str, fault: Failure) -> None:
        """Store that the response to a submit was lost, under any lease; an existing failure stays."""
        self._db.run("note_loss", id=prediction_id, fault=rows.column(fault))


def _account(row: Row, too_far_s: float) -> AccountState:
    """Return a row of `accounts`; a time too far ahead is damaged data, and over."""
    hold, quiet, sweep = (0.0 if row[n] > too_far_s else row[n] for n in ("hold_until", "quiet_until", "next_sweep"))
    return AccountState(row["account"], row["running"], hold, quiet, sweep, bool(row["sweeping"]))


def _in_turn(lists: Iterable[Sequence[T]]) -> list[T]:
    """Return the first of each list, then the second of each, and so on."""
    return [one for one in chain.from_iterable(zip_longest(*lists)) if one is not None]
