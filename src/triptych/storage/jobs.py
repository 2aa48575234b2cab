"""The store: methods over the named SQL in `queries.sql`, in SQLite's WAL mode.

Rules: every method that writes is one transaction, and it is on the disk when the method returns (`synchronous=FULL`,
so that a paid request is known even after a power cut). Only leases and the times of polls do not wait for the disk. A
prediction moves only along `states.MOVES`, and only for the holder of its lease. Several processes share one database.

The methods block, one at a time over one connection, so the event loop calls them through `AsyncStore`. This file must
not know providers, networks or files other than its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from triptych.core import errors
from triptych.core.clock import Moment
from triptych.core.errors import format_usd
from triptych.core.models import Failure, Job, Output, Prediction, Route, State
from triptych.core.offers import Operation
from triptych.core.states import TERMINAL, job_status, may_move
from triptych.storage import rows
from triptych.storage.claims import Claim, Claims
from triptych.storage.database import Row

_OPEN_TO_AN_ANSWER = frozenset({State.SUBMITTING, State.UNCERTAIN, State.QUEUED, State.CANCELLED})
"""A late response to a request that was sent is written in these states: it is more certain than they are."""
_CANCELLED = Failure("cancelled", "Cancelled before it was submitted.", False)


class Store(Claims):
    """One connection to the database at `path`, which is created if it is missing.

    `caps` are for the spending and reservations of 24 hours; None is no cap.
    """

    def add_job(self, job: Job, predictions: Sequence[Prediction], *, now: Moment, attach: bool) -> Job | None:
        """Write a job and reserve its quote, in one transaction.

        Returns None. With `attach`, an existing job of the same request (`same_request`) is returned instead, and
        nothing is written.
        Raises: `errors.OverBudget` if the quote does not fit the budget; `errors.Outdated`.
        """
        with self._db.transaction():
            self._db.require_current()
            if job.request.retry_of:
                self._lock_job(job.request.retry_of)
            self._db.lock("books")  # of two that ask for the same, or for the last money, one comes first
            if self._is_added(job):
                return None
            if attach and (found := self.same_request(job.fingerprint, job.owner, job.request)):
                return found
            budget = self.ledger.tightest(now, job.owner, job.budget_group)
            budget.require(sum((p.quoted_usd for p in predictions), Decimal(0)))
            written = rows.columns(job)
            del written["may_be_charged"]  # it follows from the predictions
            self._db.run("add_job", **written)
            names = self._db.parameters("add_prediction")
            same = {"created_at": now.at.timestamp(), "owner": job.owner or "", "budget_group": job.budget_group}
            self._db.run_each("add_prediction", [{**rows.columns(one, names), **same} for one in predictions])
            if job.save_to and job.request.is_chain:  # its manifest is written when it has ended
                self._save_also(job.id, job.save_to)
            self._db.notify(job.id)
            if job.request.retry_of:  # no step of the lanes that are made again is sent, even if an image comes late
                self._db.run("ask_cancel", id=job.request.retry_of)
        return None

    def _is_added(self, job: Job) -> bool:
        """Return whether a job is stored already: the answer to an earlier commit was lost.

        Raises: `errors.Outage` if another job has its id.
        """
        row = self._db.one("job_added", id=job.id)
        if row and (row["fingerprint"], row["owner"], row["created_at"]) != (
            job.fingerprint,
            job.owner,
            job.created_at.timestamp(),
        ):
            raise errors.Outage(f"Another job has the id {job.id} already. Nothing was sent; ask again.")
        return row is not None

    def warn(self, job_id: str, warnings: Iterable[str]) -> None:
        """Add warnings to a job; a warning that it has already is not repeated."""
        with self._db.transaction():
            self._lock_job(job_id)
            self._warn(job_id, warnings)

    def _lock_job(self, job_id: str) -> None:
        """Begin a transaction that writes a job's status or warnings.

        The order of locks is: the job's row, "books" or "tickets:…", predictions, the account, money.
        """
        self._db.one("lock_job", id=job_id)

    def _warn(self, job_id: str, warnings: Iterable[str]) -> None:
        row = self._db.one("job_status", id=job_id)
        assert row
        known = json.loads(row["warnings"])
        merged = list(dict.fromkeys([*known, *warnings]))
        if merged != known:
            self._db.run("warn_job", job_id=job_id, warnings=json.dumps(merged))

    def move(
        self,
        /,
        claim: Claim,
        state: State,
        *,
        now: Moment,
        due_at: float,
        outputs: Sequence[Output] = (),
        keep_lease: bool = False,
        release_money: bool = False,
        found: bool = False,
        **changes: Any,
    ) -> Claim | None:
        """Write a prediction's next state and everything that depends on it, in one transaction.

        `changes` are fields of `Prediction`. `outputs` are added. The predictions after it in a chain are queued (on
        done) or cancelled (on failure), and the job's status is updated. A submit is cancelled instead if its job is to
        be cancelled.

        Returns the claim with the new state. Returns None, with nothing written, if another process has the lease. The
        response to a paid request is written even then (its ticket, or its outputs), unless another response is stored.
        A ticket that was `found` in the provider's list is not written if another prediction has it.
        """
        prediction = claim.prediction
        polled = prediction.state is state is State.RUNNING
        with self._db.without_fsync() if polled else nullcontext(), self._db.transaction():
            if not polled or outputs:
                self._lock_job(prediction.job_id)
            if found:
                self._db.lock(f"tickets:{prediction.provider}")  # two predictions never take the same one
            row = self._db.one("lease_of", id=prediction.id)
            assert row
            ours = row["lease"] == claim.lease
            old = State(row["state"])
            answered = changes.get("ticket") is not None or state is State.FETCHING
            late_answer = answered and old in _OPEN_TO_AN_ANSWER and row["ticket"] is None
            if not ours and not late_answer:
                return None
            if found and self._has_ticket(prediction.provider, changes.get("ticket")):
                return None
            noted = rows.value(Failure, row["fault"])
            if state is State.QUEUED and old is State.SUBMITTING and noted != prediction.fault:
                return None  # another process has stored meanwhile that the request was sent
            if not may_move(old, state):
                raise AssertionError(f"no move from {old} to {state}")
            if old is State.QUEUED and state is State.SUBMITTING and self._cancel_requested(prediction.job_id):
                state, keep_lease, release_money = State.CANCELLED, False, True
                changes = {"fault": _CANCELLED, "finished_at": now.at}
            if old in (State.UNCERTAIN, State.CANCELLED):
                self._db.lock("books")  # the predictions after it may reserve their money again
            moved = replace(prediction, state=state, due_at=due_at, **changes)
            self._write(
                moved, row["reserved_usd"], row, lease=claim.lease if keep_lease else None, release=release_money
            )
            self._add_outputs(outputs, now.at)
            if old in (State.UNCERTAIN, State.CANCELLED):
                self._let_dependents_wait(moved.id, now)
            if old != state:
                self._update_dependents(moved, now)
            if old != state or outputs:
                self._refresh(moved.job_id)
        return Claim(moved, claim.lease)

    def add_outputs(self, outputs: Sequence[Output], *, now: datetime) -> None:
        """Write outputs that arrived before their prediction's end."""
        with self._db.transaction():
            self._lock_job(outputs[0].job_id)
            self._add_outputs(outputs, now)
            self._refresh(outputs[0].job_id)

    def _add_outputs(self, outputs: Sequence[Output], now: datetime) -> None:
        for output in outputs:
            self._db.run("add_frame", **rows.columns(output), now=now.timestamp())

    def reroute(self, claim: Claim, route: Route, warning: str, *, now: Moment) -> bool:
        """Move a refused prediction to another provider, with all unsent predictions of its job.

        So a chain stays with one model. Returns False, with nothing written, if the lease was lost or the higher price
        does not fit the budget.
        """
        with self._db.transaction():
            self._lock_job(claim.prediction.job_id)
            self._db.lock("books")
            self._db.all("lock_predictions", job_id=claim.prediction.job_id)
            held = self._db.one("lease_of", id=claim.prediction.id)
            job = self._db.one("job", id=claim.prediction.job_id)
            assert held and job
            moving = [
                row
                for row in self._db.all("predictions", job_id=claim.prediction.job_id)
                if row["id"] == claim.prediction.id
                or (row["state"] in (State.WAITING, State.QUEUED) and row["lease_until"] <= now.mono_s)
            ]
            usd = {row["id"]: route.usd(row["lane"], is_first=row["after_id"] is None) for row in moving}
            more = sum((usd[row["id"]] - Decimal(row["reserved_usd"]) for row in moving), Decimal(0))
            budget = self.ledger.tightest(now, job["owner"], job["budget_group"])
            if held["lease"] != claim.lease or not budget.fits(more):
                return False
            left = tuple(r for r in self._job(job).routes if r.provider != route.provider)
            self._db.run(
                "reroute_job",
                id=claim.prediction.job_id,
                provider=route.provider,
                model=route.family,
                endpoint=route.endpoint,
                routes=rows.column(left),
                warnings=json.dumps([*json.loads(job["warnings"]), warning]),
            )
            for row in moving:
                from_words = route.words and not Operation(row["operation"]).edits
                endpoint, operation = route.words if route.words and from_words else (route.endpoint, route.operation)
                self._db.run(
                    "reroute_prediction",
                    id=row["id"],
                    provider=route.provider,
                    endpoint=endpoint,
                    operation=operation,
                    size=rows.column(route.sizes[row["lane"]]),
                    quoted_usd=str(usd[row["id"]]),
                    state=State.QUEUED if row["id"] == claim.prediction.id else row["state"],
                )
            self._refresh(claim.prediction.job_id)
        return True

    def _write(
        self, moved: Prediction, reserved: str, row: Row | None, *, lease: str | None, release: bool = False
    ) -> None:
        self._db.run(
            "move",
            **rows.columns(moved, self._db.parameters("move")),
            reserved_usd="0" if release else reserved,
            lease=lease,
            lease_until=row["lease_until"] if lease and row else 0,
        )

    def _update_dependents(self, moved: Prediction, now: Moment) -> None:
        """Queue the predictions that wait for this one's image, or cancel them if there will be no image."""
        if moved.state is State.DONE:
            first = self._db.one("frame", job_id=moved.job_id, n=moved.first_output)
            if first and first["sha256"]:
                self._db.run("unblock", id=moved.id)
                return
        elif moved.state not in (State.FAILED, State.CANCELLED, State.UNCERTAIN):
            return
        for row in self._db.all("followers", id=moved.id):
            follower = self._db.one("prediction", id=row["id"])
            assert follower
            if follower["state"] != State.WAITING:
                continue
            fault = Failure("input_missing", f"Not sent: its input, step {moved.step + 1}, made no image.", False)
            cancelled = replace(self._prediction(follower), state=State.CANCELLED, fault=fault, finished_at=now.at)
            self._write(cancelled, "0", None, lease=None, release=True)
            self._update_dependents(cancelled, now)

    def _refresh(self, job_id: str) -> None:
        """Write a job's status, and at its end the number of its images.

        The row of a job may have megabytes, and SQLite writes a row as a whole: so nothing else is written in between.
        """
        row = self._db.one("job_status", id=job_id)
        assert row
        states = [State(r["state"]) for r in self._db.all("states", job_id=job_id)]
        returned, lost = row["returned"], 0
        if all(state in TERMINAL for state in states):
            home = self._db.one("home", job_id=job_id)
            assert home
            returned, lost, stored = home["n"], home["lost"], home["n"]
        else:
            stored = int(self._db.one("has_home", job_id=job_id) is not None)
        status = job_status(states, stored, lost)
        if (status, returned) != (row["status"], row["returned"]):
            now, mono = self._clock.now().timestamp(), self._clock.monotonic()
            self._db.notify(job_id)
            self._db.run("refresh_job", job_id=job_id, status=status, returned=returned, now=now, mono=mono)
            self._db.run("save_again", job_id=job_id, status=status)  # its manifest is written with its new end

    def output_stored(self, output: Output, sha256: str) -> None:
        """Store that an output's image is stored."""
        with self._db.transaction():
            self._lock_job(output.job_id)
            self._db.notify(output.job_id)
            self._db.run("frame_home", job_id=output.job_id, n=output.n, sha256=sha256)
            self._refresh(output.job_id)

    def output_failed(self, output: Output, error: str) -> None:
        """Store why an output could not be downloaded."""
        self._db.run("frame_failed", job_id=output.job_id, n=output.n, error=error)

    def output_saved(self, output: Output, saved_path: str) -> None:
        """Store the path of an output's copy."""
        self._db.run("frame_saved", job_id=output.job_id, n=output.n, saved_path=saved_path)

    def fix_page_size(self, job_id: str, page_size: int) -> None:
        """Store how many images a page of a job's result lists; a stored number stays."""
        self._db.run("fix_page_size", id=job_id, page_size=page_size)

    def save_also(self, job_id: str, directory: str) -> None:
        """Store one more directory into which a job's images are copied once it has ended."""
        with self._db.transaction():
            self._lock_job(job_id)
            self._save_also(job_id, directory)

    def _save_also(self, job_id: str, directory: str) -> None:
        self._db.run("save_also", job_id=job_id, directory=directory)

    def saved_also(self, job_id: str, directory: str, saved: int) -> None:
        """Store that so many of a job's images were copied into a directory."""
        with self._db.transaction():
            self._lock_job(job_id)
            self._db.run("saved_also", job_id=job_id, directory=directory, saved=saved)

    def revive(self, prediction_id: str, state: State, *, now: Moment, deadline_at: float, attempts: int = 0) -> None:
        """Resume a prediction that ended without its images: a missed deadline, a failed download, an uncertain submit.

        Predictions that were cancelled because this one made no image wait again, if they fit the budget.
        """
        with self._db.transaction():
            row = self._db.one("prediction", id=prediction_id)
            assert row
            self._lock_job(row["job_id"])
            self._db.lock("books")
            self._db.one("lease_of", id=prediction_id)
            row = self._db.one("prediction", id=prediction_id)
            assert row
            old = self._prediction(row)
            if old.state is state or not may_move(old.state, state):
                return  # another process has resumed it meanwhile
            # The failure of a lost response stays: it proves that the request was sent.
            fault = old.fault if state is State.SUBMITTING else None
            self._write(
                replace(old, state=state, due_at=0.0, fault=fault, attempts=attempts, deadline_at=deadline_at),
                row["reserved_usd"],
                None,
                lease=None,
            )
            self._let_dependents_wait(prediction_id, now)
            self._refresh(old.job_id)

    def _let_dependents_wait(self, prediction_id: str, now: Moment) -> None:
        done = self._db.one("prediction", id=prediction_id)
        if done and self._cancel_requested(done["job_id"]):
            return
        for row in self._db.all("followers", id=prediction_id):
            found = self._db.one("prediction", id=row["id"])
            assert found
            follower = self._prediction(found)
            if follower.state is State.CANCELLED and follower.fault and follower.fault.kind == "input_missing":
                balance = self.ledger.tightest(now, found["owner"], found["budget_group"])
                if not balance.fits(follower.quoted_usd):
                    budget = f"{balance.text()}, quoted ${format_usd(follower.quoted_usd)}"
                    self._warn(follower.job_id, [f"Step {follower.step + 1} is not resumed: {budget}."])
                    return
                waiting = replace(follower, state=State.WAITING, fault=None, finished_at=None, due_at=0.0)
                self._write(waiting, str(follower.quoted_usd), None, lease=None)
                self._let_dependents_wait(follower.id, now)

    def cancel(self, job_id: str, now: Moment) -> None:
        """Cancel the predictions of a job that are not submitted, and accept an uncertain submit as lost.

        Predictions at the provider go on: they will be charged, so their images are downloaded.
        """
        with self._db.transaction():
            self._lock_job(job_id)
            self._db.all("lock_predictions", job_id=job_id)
            self._db.notify(job_id)
            self._db.run("ask_cancel", id=job_id)
            for row in self._db.all("predictions", job_id=job_id):
                leased = row["lease_until"] > now.mono_s
                if row["state"] not in (State.WAITING, State.QUEUED, State.UNCERTAIN) or (
                    leased and row["state"] != State.WAITING
                ):
                    continue
                fault = _CANCELLED
                if row["state"] == State.UNCERTAIN:
                    fault = Failure("cancelled", "Accepted as lost: the provider may still charge it.", False)
                cancelled = replace(self._prediction(row), state=State.CANCELLED, fault=fault, finished_at=now.at)
                self._write(cancelled, row["reserved_usd"], None, lease=None, release=row["state"] != State.UNCERTAIN)
            self._refresh(job_id)

    def _cancel_requested(self, job_id: str) -> bool:
        row = self._db.one("job_status", id=job_id)
        return bool(row and row["cancel_requested"])

    def poll_now(self, provider: str, tickets: Sequence[str]) -> None:
        """Make running predictions due at once."""
        self._db.run("poll_now", provider=provider, tickets=tickets)
