"""The estimate of the time that a job still takes, on simulated runs whose end is known."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from triptych.jobs.remaining import remaining_s
from triptych.jobs.results import time_left
from triptych.storage.summaries import PACE_ENDS, Pace

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
LONG_AGO = NOON - timedelta(days=1)
Took = Callable[[float], float]
"""How long a request takes that is sent at so many seconds."""


@dataclass(frozen=True)
class Sent:
    lane: int
    at_s: float
    end_s: float


@dataclass(frozen=True)
class Run:
    """A whole job: its requests, and how many steps each lane has."""

    requests: Sequence[Sent]
    lanes: Sequence[int]

    @property
    def end_s(self) -> float:
        return max(one.end_s for one in self.requests)

    def pace(self, now_s: float) -> Pace:
        """Return what the store knows at a time."""
        ended = sorted((one for one in self.requests if one.end_s <= now_s), key=lambda one: one.end_s)
        newest = tuple((at(one.at_s), at(one.end_s)) for one in ended[-PACE_ENDS:])
        running = tuple(at(one.at_s) for one in self.requests if one.at_s <= now_s < one.end_s)
        left = list(self.lanes)
        for one in ended:
            left[one.lane] -= 1
        first = at(min(one.at_s for one in self.requests)) if len(ended) < PACE_ENDS else None
        return Pace(newest, first, running, tuple(n for n in left if n))

    def estimate_s(self, now_s: float) -> int | None:
        return remaining_s(self.pace(now_s), at(now_s), LONG_AGO)

    def at_share(self, share: float) -> float:
        """Return when this share of the requests has ended."""
        ends = sorted(one.end_s for one in self.requests)
        return ends[round(share * len(ends)) - 1] + 0.01


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def simulated(lanes: Sequence[int], at_once: int, took: Took, held: tuple[float, float] = (0, 0)) -> Run:
    """Return a job that a worker did: the first lane that may go on, as soon as a place is free; none while held."""
    free = [0.0] * at_once
    ready, left, requests = [0.0] * len(lanes), list(lanes), []
    while any(left):
        now_s = heapq.heappop(free)
        waiting = [lane for lane, steps in enumerate(left) if steps]
        lane = min(waiting, key=lambda lane: (max(ready[lane], now_s), lane))
        begin_s = max(ready[lane], now_s)
        if held[0] <= begin_s < held[1]:
            begin_s = held[1]
        end_s = begin_s + took(begin_s)
        requests.append(Sent(lane, begin_s, end_s))
        left[lane] -= 1
        ready[lane] = end_s
        heapq.heappush(free, end_s)
    return Run(requests, lanes)


def uneven(seed: int, spread: float) -> Took:
    """Return durations around 20 s; nine of ten are within a factor of `1 + 2 * spread`."""
    drawn = random.Random(seed)
    return lambda _: 20 * drawn.lognormvariate(0, spread)


SHAPES = {
    "100 images": ([1] * 100, 8),
    "20 images": ([1] * 20, 8),
    "200 images of 10 steps": ([10] * 200, 8),
    "9 lanes, 8 at once": ([10] * 9, 8),
    "10 lanes of 3": ([3] * 10, 4),
    "one lane of 10": ([10], 8),
    "lanes of a retry": ([1] * 30 + [5] * 4, 8),
    "a model with one at a time": ([1] * 30, 1),
}


def ratios_of(run: Run) -> list[float]:
    """Return each estimate as a multiple of the time that the job really took from there."""
    found = []
    for share in (0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
        now_s = run.at_share(share)
        if (estimate_s := run.estimate_s(now_s)) is not None:
            found.append(estimate_s / (run.end_s - now_s))
    return found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_from_a_fifth_on_the_estimate_is_within_twice(shape: str, seed: int | None) -> None:
    run = simulated(*SHAPES[shape], uneven(seed, 0.25) if seed else lambda _: 20.0)
    ratios = ratios_of(run)
    assert ratios and all(0.5 <= ratio <= 2 for ratio in ratios), ratios


def test_uneven_requests_seldom_mislead_it() -> None:
    ratios = [
        ratio
        for shape in SHAPES
        for seed in range(20)
        for ratio in ratios_of(simulated(*SHAPES[shape], uneven(seed, 0.4)))
    ]
    assert sum(0.5 <= ratio <= 2 for ratio in ratios) / len(ratios) > 0.97


def test_there_is_no_estimate_before_three_have_ended() -> None:
    run = simulated([1] * 100, 2, lambda _: 20.0)
    assert [run.estimate_s(at_s) for at_s in (0, 19, 21)] == [None, None, None]
    assert run.estimate_s(41) is not None


def test_nothing_left_has_no_estimate() -> None:
    run = simulated([1] * 10, 2, lambda _: 20.0)
    assert run.estimate_s(run.end_s + 1) is None


def test_a_provider_that_slows_down_is_followed() -> None:
    run = simulated([1] * 200, 8, lambda at_s: 20.0 if at_s < 200 else 60.0)
    now_s = next(one.end_s for one in run.requests if one.at_s > 300)
    estimate_s = run.estimate_s(now_s + 0.01)
    assert estimate_s is not None and 0.5 <= estimate_s / (run.end_s - now_s) <= 2


def test_a_stall_makes_the_estimate_grow() -> None:
    run = simulated([1] * 100, 8, lambda at_s: 20.0 if at_s < 100 else 10_000.0)
    told = [run.estimate_s(at_s) or 0 for at_s in range(125, 1000, 25)]
    assert all(later > earlier for earlier, later in itertools.pairwise(told)), told
    assert told[-1] > 10 * told[0]


def test_a_hold_without_a_running_request_makes_it_grow() -> None:
    run = simulated([1] * 100, 8, lambda _: 20.0, held=(100, 700))
    told = [run.estimate_s(at_s) or 0 for at_s in range(145, 690, 30)]
    assert all(later > earlier for earlier, later in itertools.pairwise(told)), told


def test_after_a_hold_the_estimate_comes_back() -> None:
    run = simulated([1] * 100, 8, lambda _: 20.0, held=(100, 200))
    now_s = 281.0
    estimate_s = run.estimate_s(now_s)
    assert estimate_s is not None and 0.5 <= estimate_s / (run.end_s - now_s) <= 2


def test_the_time_without_a_process_does_not_count() -> None:
    run = simulated([1] * 100, 8, lambda _: 20.0)
    before = run.estimate_s(100.5)
    pace = run.pace(100.5)
    monday = at(50_000)
    assert before is not None
    again = remaining_s(pace, monday + timedelta(seconds=1), began=monday)
    assert again is not None and 0.5 <= again / before <= 2


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "about 5 s left"),
        (44, "about 40 s left"),
        (100, "about 2 min left"),
        (5000, "about 83 min left"),
        (9000, "about 2.5 h left"),
    ],
)
def test_the_time_left_in_words(seconds: int, words: str) -> None:
    assert time_left(seconds) == words


def test_the_estimate_grows_while_the_last_requests_hang() -> None:
    """Their answers were lost: they are looked for, for minutes."""
    ended = [Sent(lane, lane // 4, lane // 4 + 1.0) for lane in range(28)]
    run = Run([*ended, Sent(28, 0, 400), Sent(29, 0, 400)], [1] * 30)
    early, later = run.estimate_s(30), run.estimate_s(120)
    assert early and later and early >= 15 and later >= 60
