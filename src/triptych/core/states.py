"""The states of a prediction, the moves between them, and the waits between steps.

Rules: `MOVES` holds every allowed move; the store refuses all others. Pure: reads no clock and sends nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from triptych.core.models import State, Status

MOVES: Mapping[State, frozenset[State]] = {
    # Its input is the output of another prediction.
    State.WAITING: frozenset({State.QUEUED, State.CANCELLED, State.FAILED}),
    # No paid request was sent, or the provider surely did not accept it. A late answer can still move it on.
    State.QUEUED: frozenset({State.SUBMITTING, State.RUNNING, State.FETCHING, State.CANCELLED, State.FAILED}),
    # Stored before the request leaves: from here on it may be paid. Back to queued only if surely not accepted.
    State.SUBMITTING: frozenset({State.RUNNING, State.FETCHING, State.QUEUED, State.FAILED, State.UNCERTAIN}),
    State.RUNNING: frozenset({State.FETCHING, State.FAILED, State.CANCELLED}),
    State.FETCHING: frozenset({State.DONE, State.FAILED}),
    State.DONE: frozenset(),
    # The ticket is still valid after the deadline, and the URL after a failed download: get_status tries again.
    State.FAILED: frozenset({State.RUNNING, State.FETCHING}),
    # A prediction cancelled because its input failed waits again when the input is resumed. One that the user gave up
    # as lost moves on when its answer arrives after all.
    State.CANCELLED: frozenset({State.WAITING, State.RUNNING, State.FETCHING}),
    # Looked for again, found after all, or given up as lost by the user.
    State.UNCERTAIN: frozenset({State.SUBMITTING, State.RUNNING, State.FETCHING, State.FAILED, State.CANCELLED}),
}

TERMINAL = frozenset({State.DONE, State.FAILED, State.CANCELLED, State.UNCERTAIN})
"""The worker moves no prediction out of these states."""

LEASE_S = 12.0
"""A claim without a heartbeat ends after this time. Another process takes over a dead process's work within 15 s."""

HEARTBEAT_S = 4.0

MAX_WAIT_S = 1800.0
"""The longest wait for a prediction's next step. A due time further ahead is damaged data and counts as due now."""

FIRST_POLL_S = 0.4
POLL_SHARE = 0.06
"""How much later than its end a prediction may be seen, as a share of its own duration."""
MAX_POLL_S = 20.0


def may_move(old: State, new: State) -> bool:
    """Return whether a prediction may go from `old` to `new`. Staying in a state is always allowed."""
    return old == new or new in MOVES[old]


def job_status(states: Iterable[State], stored: int, lost: int = 0) -> Status:
    """Return a job's status from its predictions' states, the number of stored images, and the number of lost images.

    A lost image is one that the provider reported as failed. A model that makes fewer images than requested has lost
    none: the job is `done`, and a warning names the shortfall.
    """
    found = list(states)
    if all(state in TERMINAL for state in found):
        if State.UNCERTAIN in found:
            return Status.UNCERTAIN
        if all(state is State.DONE for state in found):
            return Status.PARTIAL if lost else Status.DONE
        if stored:
            return Status.PARTIAL
        return Status.FAILED if State.FAILED in found else Status.CANCELLED
    untouched = {State.WAITING, State.QUEUED}
    return Status.QUEUED if stored == 0 and all(state in untouched for state in found) else Status.RUNNING


def poll_delay_s(elapsed_s: float) -> float:
    """Return the wait before the next poll of a prediction that has run for `elapsed_s`.

    The end is seen at most 0.4 s and 6 % of the prediction's duration late. A prediction of 20 s takes 24 polls, one of
    120 s takes 51.
    """
    return min(FIRST_POLL_S + POLL_SHARE * elapsed_s, MAX_POLL_S)


def retry_delay_s(attempts: int, wish_s: float | None = None) -> float:
    """Return the wait before try number `attempts` + 1: 1, 2, 4 … 30 s, or the provider's `wish_s` up to 120 s."""
    if wish_s is not None:
        return min(max(wish_s, 0.5), 120.0)
    return float(min(2 ** min(max(attempts - 1, 0), 5), 30))
