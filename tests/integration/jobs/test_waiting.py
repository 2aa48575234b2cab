"""The end of a prediction is seen when it comes: lag in the clock's time, requests counted at the provider.

A request that takes t seconds at the provider is seen within 1.08 t + 0.6 s: every one, alone, in sets and in chains.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from support.fixtures import Emulator, FakeClock, MakeService
from support.flows import answer, drive
from support.jobs import Options, edit_chain, generate_sequence
from triptych import providers
from triptych.core import errors
from triptych.core.models import State
from triptych.core.states import poll_delay_s
from triptych.jobs.service import ImageService
from triptych.providers.client import ProviderClient
from triptych_emulators import running

pytestmark = pytest.mark.anyio

DURATIONS_S = (1.0, 1.3, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 45.0, 90.0, 120.0)
LISTING = ("atlas", "evolink", "runware")
"""The providers where one request asks for all that run."""
POLLED = (*LISTING, "wavespeed")
RESULTS = "/_results/"
LEAST_S = 0.01
"""How finely the engine waits."""


def limit_s(took_s: float) -> float:
    return 1.08 * took_s + 0.6 + LEAST_S


def most_requests(took_s: float) -> int:
    return 30 if took_s <= 20 else 60


def lasting(api: Emulator, durations_s: Sequence[float]) -> None:
    """Let the nth accepted request take the nth of these times, over and over."""
    begun = iter(range(10_000))
    api.runner._duration_s = lambda number, count: durations_s[next(begun) % len(durations_s)]


async def work(service: ImageService, clock: FakeClock, until: Callable[[], bool] | None = None) -> None:
    """Let the engine work, and time pass, until nothing is left to do: its steps, and its looks at the lists."""
    worker, looked = service.worker, [name for name, account in service.config.accounts.items() if account.usable]
    for _ in range(20_000):
        if until and until():
            return
        if await worker.step():
            continue
        looks = [name for name in looked if await worker.sweep_is_due(name)]
        for name in looks:
            await worker.sweep(name)
        if looks:
            continue
        if not service.store.plain.unfinished():
            return
        due = [at for at in (await worker.next_due(), worker.next_sweep()) if at is not None]
        clock.advance(min(max(min(due, default=math.inf) - clock.monotonic(), LEAST_S), 1.0))
    raise AssertionError("the engine never came to rest")


def lags(service: ImageService, api: Emulator, job_ids: Sequence[str]) -> list[tuple[float, float]]:
    """Return, for each prediction, how long the provider took and how long until its end was written down."""
    works = {work.id: work for work in api.jobs}
    found = []
    for job_id in job_ids:
        for prediction in service.store.plain.predictions(job_id):
            assert prediction.state is State.DONE and prediction.ticket and prediction.finished_at
            took = works[prediction.ticket]
            seen_s = prediction.finished_at.timestamp() - took.submitted_at
            found.append((took.finish_at - took.submitted_at, seen_s))
    return found


async def generated(service: ImageService, number: int) -> list[str]:
    jobs = [
        await generate_sequence(service, f"a lighthouse, take {n}", 1, Options(wait_s=0, again=True))
        for n in range(number)
    ]
    return [job.job_id for job in jobs if job.job_id]


def asked(api: Emulator) -> int:
    """Return how many requests a provider had, without those for the files of its results."""
    return sum(not seen.path.startswith(RESULTS) for seen in api.seen)


# -- alone, in chains, in sets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "took_s"),
    # The table below has every duration; through the worker one provider has them all, and the others three.
    [*(("atlas", took_s) for took_s in DURATIONS_S), *((name, took_s) for name in POLLED[1:] for took_s in (1, 8, 90))],
)
async def test_an_end_is_seen_when_it_comes(
    make_service: MakeService, clock: FakeClock, name: str, took_s: float
) -> None:
    """The first job's and a later one's, with few requests."""
    with running(name, latency_s=took_s, max_side=48, clock=clock.monotonic) as api:
        async with make_service(api) as service:
            for _ in range(2):
                before = asked(api)
                jobs = await generated(service, 1)
                await work(service, clock)
                ((_, seen_s),) = lags(service, api, jobs)
                assert took_s <= seen_s <= limit_s(took_s)
                assert (await service.job(jobs[0])).status == "done"
                assert asked(api) - before <= most_requests(took_s)


@pytest.mark.parametrize("name", POLLED)
async def test_each_step_of_a_chain_is_seen_when_it_comes(
    make_service: MakeService, clock: FakeClock, coffee: str, name: str
) -> None:
    with running(name, max_side=48, clock=clock.monotonic) as api:
        lasting(api, (3.0, 8.0, 1.3))
        async with make_service(api) as service:
            began_s = clock.monotonic()
            job = await edit_chain(service, [coffee], ["warmer", "bluer", "darker"], options=Options(wait_s=0))
            await work(service, clock)
            assert job.job_id
            found = lags(service, api, [job.job_id])
            assert [took_s for took_s, _ in found] == pytest.approx([3.0, 8.0, 1.3])
            assert all(seen_s <= limit_s(took_s) for took_s, seen_s in found)
            assert clock.monotonic() - began_s <= sum(limit_s(took_s) for took_s, _ in found)


@pytest.mark.parametrize(
    ("name", "number"), [*((name, number) for name in POLLED for number in (4, 12)), ("atlas", 24)]
)
async def test_each_of_a_set_is_seen_when_it_comes(
    make_service: MakeService, clock: FakeClock, name: str, number: int
) -> None:
    """Of two speeds, all accepted at about the same time; a list saves requests."""
    with running(name, max_side=48, clock=clock.monotonic) as api:
        lasting(api, (3.0, 20.0, 20.0, 45.0))
        async with make_service(api) as service:
            jobs = await generated(service, number)
            await work(service, clock)
            found = lags(service, api, jobs)
            assert len(found) == number
            assert all(seen_s <= limit_s(took_s) for took_s, seen_s in found), found
            singly = sum(polls(took_s) for took_s, _ in found)
            if name in LISTING:
                assert asked(api) - number < 0.75 * singly
            else:
                assert asked(api) - number <= singly + 2 * number  # the submits, and the charges


def polls(took_s: float) -> int:
    """Return how often a prediction is polled alone."""
    at_s, asked = 0.0, 0
    while at_s < took_s:
        at_s += poll_delay_s(at_s)
        asked += 1
    return asked


def test_every_duration_is_within_the_bound_and_few_polls() -> None:
    rng = random.Random(7)
    for took_s in (*DURATIONS_S, *(math.exp(rng.uniform(0.0, math.log(120))) for _ in range(2000))):
        at_s = 0.0
        while at_s < took_s:
            at_s += poll_delay_s(at_s)
        assert at_s <= 1.08 * took_s + 0.6
        assert polls(took_s) <= most_requests(took_s) - 4  # the submit, and the charge


def test_after_half_an_hour_polls_are_twenty_seconds_apart() -> None:
    assert poll_delay_s(1800.0) == poll_delay_s(900.0) == 20.0
    assert polls(1800.0) < 160


async def test_time_counts_from_the_acceptance(
    make_service: MakeService, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large image takes half a minute to send, and the provider begins after it."""
    really = ProviderClient._send_once

    async def send(self: ProviderClient, account: Any, call: Any, *rest: Any) -> Any:
        if not call.repeatable:
            clock.advance(30.0)
        return await really(self, account, call, *rest)

    monkeypatch.setattr(ProviderClient, "_send_once", send)
    with running("wavespeed", latency_s=2.0, max_side=48, clock=clock.monotonic) as api:
        async with make_service(api) as service:
            jobs = await generated(service, 1)
            await work(service, clock)
            ((took_s, seen_s),) = lags(service, api, jobs)
    assert seen_s <= limit_s(took_s)


async def test_one_left_of_a_set_is_seen_when_it_comes(make_service: MakeService, clock: FakeClock) -> None:
    """Its polls were rare while the list was looked at; they are not any more."""
    with running("atlas", max_side=48, clock=clock.monotonic) as api:
        lasting(api, (2.0, 2.0, 14.0))
        async with make_service(api) as service:
            jobs = await generated(service, 3)
            await work(service, clock)
            assert all(seen_s <= limit_s(took_s) for took_s, seen_s in lags(service, api, jobs))


async def test_a_list_that_fails_delays_nothing(make_service: MakeService, clock: FakeClock) -> None:
    with running("evolink", max_side=48, clock=clock.monotonic) as api:
        lasting(api, (1.0, 3.0, 13.0))
        api.fault("batch", "code-500-null", times=None)
        async with make_service(api) as service:
            jobs = await generated(service, 4)
            await work(service, clock)
            assert all(seen_s <= limit_s(took_s) for took_s, seen_s in lags(service, api, jobs))
    assert len(api.seen_at("POST", "/v1/tasks/batch")) == 1


async def test_a_list_that_misses_an_end_is_left_alone(
    make_service: MakeService, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poll finds the first end late; the others are polled as if there were no list."""
    really = ProviderClient.run

    async def run(self: ProviderClient, account: Any, flow: Any, **options: Any) -> Any:
        got = await really(self, account, flow, **options)
        return frozenset() if flow.__name__ == "finished" else got

    monkeypatch.setattr(ProviderClient, "run", run)
    with running("evolink", max_side=48, clock=clock.monotonic) as api:
        lasting(api, (8.0, 45.0, 45.0, 45.0))
        async with make_service(api) as service:
            jobs = await generated(service, 4)
            await work(service, clock)
            found = lags(service, api, jobs)
    assert all(seen_s <= limit_s(took_s) for took_s, seen_s in found if took_s > 8)
    assert all(seen_s <= took_s + 20 for took_s, seen_s in found)


# -- what a provider wishes --------------------------------------------------------------------------------------------


async def test_a_retry_after_holds_for_all_polls(
    make_service: MakeService, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By those of other predictions and the looks at the list as well."""
    sent_s: list[tuple[float, int]] = []
    really = ProviderClient._send_once

    async def send(self: ProviderClient, account: Any, call: Any, *rest: Any) -> Any:
        got = await really(self, account, call, *rest)
        sent_s.append((clock.monotonic(), got.status))
        return got

    monkeypatch.setattr(ProviderClient, "_send_once", send)
    with running("atlas", latency_s=30.0, max_side=48, clock=clock.monotonic) as api:
        async with make_service(api) as service:
            jobs = await generated(service, 4)
            await work(service, clock, until=lambda: len(api.accepted) == 4)
            api.fault("poll", "429", retry_after=7)
            await work(service, clock)
            assert all([(await service.job(job)).status == "done" for job in jobs])
    pauses = [after - at for (at, status), (after, _) in pairwise(sent_s) if status == 429]
    assert len(pauses) == 1 and pauses[0] >= 7.0


@pytest.mark.parametrize("name", POLLED)
@pytest.mark.parametrize("status", [429, 503])
def test_a_wish_is_read_whatever_it_comes_with(name: str, status: int) -> None:
    provider = providers.load(name)
    assert provider.poll
    said = answer(status, {"error": {"message": "slow down"}}, {"retry-after": "7"})
    with pytest.raises((errors.RateLimited, errors.Outage)) as caught:
        drive(provider.poll("t1", None), said)
    assert caught.value.retry_after_s == 7.0
