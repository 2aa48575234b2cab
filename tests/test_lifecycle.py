"""The table of states, and when a prediction is looked at again."""

from __future__ import annotations

import math
import random

import pytest

from triptych.lifecycle import MOVES, TERMINAL, job_status, learned, may_move, poll_delay_s, retry_delay_s
from triptych.model import State, Status


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


def test_the_first_poll_comes_near_the_earliest_likely_end() -> None:
    assert poll_delay_s(0, 20) == pytest.approx(8.4)


def test_polls_are_densest_around_the_expected_end_and_spread_out_long_after() -> None:
    early, around, late = poll_delay_s(9, 20), poll_delay_s(22, 20), poll_delay_s(300, 20)
    assert around < early
    assert late > 3 * around
    assert late <= 20


def test_alone_a_prediction_is_seen_sooner_than_by_a_two_second_loop_and_with_fewer_polls() -> None:
    rng = random.Random(7)
    lag_s = loop_lag_s = 0.0
    polls = loop_polls = 0
    for _ in range(2000):
        took_s = rng.lognormvariate(math.log(20), 0.5)
        at = 0.0
        while at < took_s:
            at += poll_delay_s(at, 20)
            polls += 1
        lag_s += at - took_s
        loop_polls += math.ceil(took_s / 2)
        loop_lag_s += math.ceil(took_s / 2) * 2 - took_s
    assert lag_s < loop_lag_s
    assert polls < 0.8 * loop_polls


def test_nothing_is_learned_from_four_predictions_and_the_median_and_spread_from_five() -> None:
    assert learned([10, 10, 10, 10]) is None
    assert learned([10, 10, 10, 10, 10]) == (10, 0.05)
    middle_s, spread = learned([20, 16, 20, 25, 20]) or (0, 0)
    assert middle_s == 20 and spread == pytest.approx(math.log(1.25) * math.sqrt(2 / 5))
    assert learned([10, 1000, 1, 10, 10]) == (10, 0.5)
    assert learned([0.0, 0.0, -3.0, 0.0, 0.0])


def test_a_provider_that_always_takes_as_long_is_asked_about_twice() -> None:
    polls, lag_s, _ = followed([20.0] * 100)
    assert sum(polls[50:]) <= 2.5 * 50
    assert sum(lag_s[50:]) < 0.5 * 50


@pytest.mark.parametrize("after_s", [2.0, 10.0, 40.0])
def test_a_provider_that_gets_faster_or_slower_is_noticed_within_fifteen_predictions(after_s: float) -> None:
    _, lag_s, _ = followed([20.0] * 30 + [after_s] * 40)
    assert max(lag_s[45:]) < 0.11 * max(20, after_s)


def test_what_outlasts_a_small_spread_is_polled_as_if_nothing_were_known() -> None:
    assert poll_delay_s(40, 20, 0.05) == poll_delay_s(40, 20)
    assert poll_delay_s(20, 20, 0.05) < poll_delay_s(20, 20)
    assert poll_delay_s(0, 20, 0.05) == pytest.approx(18.34, abs=0.01)


def followed(took_s: list[float]) -> tuple[list[int], list[float], list[float]]:
    """Return polls, lag and time until seen of predictions one after another, each polled by what is learned so far."""
    polls: list[int] = []
    lag_s: list[float] = []
    seen_s: list[float] = []
    for seconds in took_s:
        expected_s, spread = learned(seen_s[::-1][:21]) or (15.0, 0.5)
        at, asked = 0.0, 0
        while at < seconds:
            at += poll_delay_s(at, expected_s, spread)
            asked += 1
        polls.append(asked)
        lag_s.append(at - seconds)
        seen_s.append(at)
    return polls, lag_s, seen_s


def test_retries_back_off_up_to_half_a_minute_but_a_providers_wish_is_heard() -> None:
    assert [retry_delay_s(n) for n in (1, 2, 3, 4, 5, 6, 60)] == [1, 2, 4, 8, 16, 30, 30]
    assert retry_delay_s(1, 7.0) == 7.0
    assert retry_delay_s(1, 3600.0) == 120.0
