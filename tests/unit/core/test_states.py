"""The table of states, and when a prediction is looked at again."""

from __future__ import annotations

import pytest

from triptych.core.models import State, Status
from triptych.core.states import MOVES, TERMINAL, job_status, may_move, retry_delay_s


def test_every_state_has_a_row_in_the_table() -> None:
    assert set(MOVES) == set(State)


@pytest.mark.parametrize("state", [State.RUNNING, State.FETCHING, State.DONE, State.UNCERTAIN])
def test_what_may_have_been_paid_is_never_queued_again(state: State) -> None:
    assert not may_move(state, State.QUEUED)


def test_only_surely_unaccepted_submits_go_back_to_the_queue() -> None:
    assert [state for state in State if may_move(state, State.QUEUED) and state is not State.QUEUED] == [
        State.WAITING,
        State.SUBMITTING,
    ]


def test_a_done_prediction_stays_done() -> None:
    assert MOVES[State.DONE] == frozenset()


def test_every_state_that_is_not_terminal_leads_to_done() -> None:
    for start in set(State) - TERMINAL:
        reached, grown = {start}, True
        while grown:
            more = {new for old in reached for new in MOVES[old]} - reached
            reached, grown = reached | more, bool(more)
        assert State.DONE in reached, start


@pytest.mark.parametrize(
    ("states", "home", "lost", "status"),
    [
        ([State.QUEUED], 0, 0, Status.QUEUED),
        ([State.QUEUED, State.WAITING], 0, 0, Status.QUEUED),
        ([State.SUBMITTING], 0, 0, Status.RUNNING),
        ([State.DONE, State.QUEUED], 1, 0, Status.RUNNING),
        ([State.DONE], 4, 0, Status.DONE),
        ([State.DONE], 3, 0, Status.DONE),
        ([State.DONE], 3, 1, Status.PARTIAL),
        ([State.DONE, State.FAILED], 1, 0, Status.PARTIAL),
        ([State.FAILED], 2, 0, Status.PARTIAL),
        ([State.FAILED], 0, 0, Status.FAILED),
        ([State.FAILED, State.CANCELLED], 0, 0, Status.FAILED),
        ([State.CANCELLED], 0, 0, Status.CANCELLED),
        ([State.DONE, State.CANCELLED], 1, 0, Status.PARTIAL),
        ([State.DONE, State.UNCERTAIN], 1, 0, Status.UNCERTAIN),
    ],
)
def test_a_jobs_status_follows_from_its_predictions(states: list[State], home: int, lost: int, status: Status) -> None:
    assert job_status(states, home, lost) is status


def test_retries_back_off_to_30_s_or_as_asked() -> None:
    assert [retry_delay_s(n) for n in (1, 2, 3, 4, 5, 6, 60)] == [1, 2, 4, 8, 16, 30, 30]
    assert retry_delay_s(1, 7.0) == 7.0
    assert retry_delay_s(1, 3600.0) == 120.0
