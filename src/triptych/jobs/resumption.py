"""Resumes predictions that ended without their images, when a call asks for their job. This never pays.

These functions block: they run in the store's thread.
"""

from __future__ import annotations

from collections.abc import Mapping

from triptych.core.clock import Moment
from triptych.core.models import Prediction, State, Status
from triptych.providers.accounts import Account
from triptych.storage.jobs import Store

LOOK_AGAIN_FOR_S = 600.0
"""A prediction that missed its deadline is polled this long once more."""
ATTEMPTS_BEFORE_ONE_LOOK = 4
"""An uncertain submit gets one more search, not all of its attempts again."""

RESUMED = frozenset({Status.PARTIAL, Status.FAILED, Status.UNCERTAIN})
"""A call for a job of such a status resumes it."""


def resume(store: Store, job_id: str, accounts: Mapping[str, Account], now: Moment) -> None:
    """Return a job's predictions to the worker if their images may still be available."""
    for prediction in store.faulty(job_id):
        state = state_after(prediction, accounts)
        if state:
            attempts = ATTEMPTS_BEFORE_ONE_LOOK if state is State.SUBMITTING else 0
            until_s = now.mono_s + LOOK_AGAIN_FOR_S
            store.revive(prediction.id, state, now=now, deadline_at=until_s, attempts=attempts)


def state_after(prediction: Prediction, accounts: Mapping[str, Account]) -> State | None:
    """Return the state from which an ended prediction goes on; None if it cannot."""
    account = accounts.get(prediction.provider)  # None for a provider that only a newer Triptych knows
    kind = prediction.fault.kind if prediction.fault else ""
    if prediction.state is State.FAILED and kind == "deadline" and prediction.ticket:
        return State.RUNNING
    if prediction.state is State.FAILED and kind == "fetch_failed":
        return State.FETCHING
    # Its failure stays `uncertain`, so that it is searched for and never sent again.
    if prediction.state is State.UNCERTAIN and account and account.provider.find:
        return State.SUBMITTING
    return None
