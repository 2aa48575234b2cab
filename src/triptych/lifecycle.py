"""The states a prediction goes through, and when to look at it again.

Everything that decides a move is in the `MOVES` table; the store refuses a move that is not in it. Pure: no clock is
read and nothing is sent from here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from triptych.model import State, Status

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

MOST_WAIT_S = 1800.0
"""No prediction waits longer for its next step: a due time further ahead is a damaged one, and is due now."""

USUAL_SPREAD = 0.5
"""How much durations differ, as σ of their logarithms, where nothing is known of them; never taken as more."""

_LEAST_SPREAD = 0.05
"""Durations are never taken as more alike: a provider that gets faster has to be noticed."""


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


def learned(durations_s: Sequence[float]) -> tuple[float, float] | None:
    """Return the median of the last durations, the newest first, and their spread, σ of their logarithms.

    None where fewer than five are known. The newest counts for itself: what its first poll found at its end may have
    ended long before. Then the spread grows from one prediction to the next until first polls come early enough.
    """
    if len(durations_s) < 5:
        return None
    middle_s = max(median(durations_s), _SHORTEST_S)
    off = [math.log(max(seconds, _SHORTEST_S) / middle_s) for seconds in durations_s]
    spread = max(math.sqrt(sum(one * one for one in off) / len(off)), abs(off[0]))
    return middle_s, min(max(spread, _LEAST_SPREAD), USUAL_SPREAD)


def poll_delay_s(elapsed_s: float, expected_s: float, spread: float = USUAL_SPREAD) -> float:
    """Return how long to wait before the next poll of a prediction that has run for `elapsed_s`.

    Durations are taken as log-normal with median `expected_s` and σ = `spread`. For a given number of polls, the mean
    time between "finished" and "seen" is least when the interval is proportional to 1/√hazard: so the first poll comes
    near the earliest likely end, polls are densest around the expected end, and they spread out after it. What
    outlasts a small spread is polled as if the usual one held.
    """
    first = expected_s * math.pow(0.42, spread / USUAL_SPREAD)
    if elapsed_s < first:
        return max(first - elapsed_s, 0.2)
    delay = min(_interval_s(elapsed_s, expected_s, spread), _interval_s(elapsed_s, expected_s, USUAL_SPREAD))
    # Far beyond the expected end the model says little: the wait grows with what has already been waited.
    late = max(0.0, elapsed_s - 4 * expected_s)
    return min(max(delay + late / 10, _SHORTEST_S), _LONGEST_S)


def _interval_s(elapsed_s: float, expected_s: float, spread: float) -> float:
    z = math.log(elapsed_s / expected_s) / spread
    density = math.exp(-z * z / 2) / (elapsed_s * spread * math.sqrt(2 * math.pi))
    survival = max(0.5 * math.erfc(z / math.sqrt(2)), 1e-9)
    return 0.106 * math.sqrt(expected_s * survival / density) if density else math.inf


def retry_delay_s(attempts: int, wish_s: float | None = None) -> float:
    """Return the wait before try number `attempts` + 1: 1, 2, 4 … 30 s, or the provider's own wish up to 120 s."""
    if wish_s is not None:
        return min(max(wish_s, 0.5), 120.0)
    return float(min(2 ** min(max(attempts - 1, 0), 5), 30))


_SHORTEST_S = 0.3
_LONGEST_S = 20.0
