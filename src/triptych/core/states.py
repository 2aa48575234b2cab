"""The states a prediction goes through, and when to look at it again.

Everything that decides a move is in the `MOVES` table; the store refuses a move that is not in it. Pure: no clock is
read and nothing is sent from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from triptych.core.models import State, Status

MOVES: Mapping[State, frozenset[State]] = {
    # Its input is another prediction's output.
    State.WAITING: frozenset({State.QUEUED, State.CANCELLED, State.FAILED}),
    # Nothing paid for has been sent, or it surely was not accepted. An answer that comes all the same is taken up.
    State.QUEUED: frozenset({State.SUBMITTING, State.RUNNING, State.FETCHING, State.CANCELLED, State.FAILED}),
    # Written before the request leaves: it may have been paid now. Back to queued only when surely not accepted.
    State.SUBMITTING: frozenset({State.RUNNING, State.FETCHING, State.QUEUED, State.FAILED, State.UNCERTAIN}),
    State.RUNNING: frozenset({State.FETCHING, State.FAILED, State.CANCELLED}),
    State.FETCHING: frozenset({State.DONE, State.FAILED}),
    State.DONE: frozenset(),
    # A ticket outlives the deadline, and a URL outlives a fetch that failed: asking again takes them up again.
    State.FAILED: frozenset({State.RUNNING, State.FETCHING}),
    # What was cancelled for want of its input waits again when that is taken up again; what was accepted as lost is
    # taken up when its answer comes after all.
    State.CANCELLED: frozenset({State.WAITING, State.RUNNING, State.FETCHING}),
    # Looked for once more, found again after all, or accepted as lost.
    State.UNCERTAIN: frozenset({State.SUBMITTING, State.RUNNING, State.FETCHING, State.FAILED, State.CANCELLED}),
}

TERMINAL = frozenset({State.DONE, State.FAILED, State.CANCELLED, State.UNCERTAIN})
"""Nothing happens here without being asked for."""

LEASE_S = 12.0
"""How long a claim holds without a heartbeat: a dead process's work is taken over within 15 seconds."""

HEARTBEAT_S = 4.0

MAX_WAIT_S = 1800.0
"""No prediction waits longer for its next step: a due time further ahead is a damaged one, and is due now."""

FIRST_POLL_S = 0.4
POLL_SHARE = 0.06
"""How much later than its end a prediction may be seen, for each second that it took."""
MAX_POLL_S = 20.0


def may_move(old: State, new: State) -> bool:
    """Return whether a prediction may go from `old` to `new`; staying is always allowed."""
    return old == new or new in MOVES[old]


def job_status(states: Iterable[State], home: int, lost: int = 0) -> Status:
    """Return a job's status from its predictions' states, how many of its images are home, and how many are lost.

    A lost image is one that the provider said it could not make. A model that makes fewer than it was asked for has
    lost none: the job is `done`, and the shortfall is a warning.
    """
    seen = list(states)
    if all(state in TERMINAL for state in seen):
        if State.UNCERTAIN in seen:
            return Status.UNCERTAIN
        if all(state is State.DONE for state in seen):
            return Status.PARTIAL if lost else Status.DONE
        if home:
            return Status.PARTIAL
        return Status.FAILED if State.FAILED in seen else Status.CANCELLED
    untouched = {State.WAITING, State.QUEUED}
    return Status.QUEUED if home == 0 and all(state in untouched for state in seen) else Status.RUNNING


def poll_delay_s(elapsed_s: float) -> float:
    """Return how long to wait before the next poll of a prediction that has run for `elapsed_s`.

    So an end is seen at most 0.4 s and 6 % of the prediction's own time late, whatever that time is. A prediction of
    20 s takes 24 polls, one of 120 s takes 51.
    """
    return min(FIRST_POLL_S + POLL_SHARE * elapsed_s, MAX_POLL_S)


def retry_delay_s(attempts: int, wish_s: float | None = None) -> float:
    """Return the wait before try number `attempts` + 1: 1, 2, 4 … 30 s, or the provider's own wish up to 120 s."""
    if wish_s is not None:
        return min(max(wish_s, 0.5), 120.0)
    return float(min(2 ** min(max(attempts - 1, 0), 5), 30))
