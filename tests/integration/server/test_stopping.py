"""Processes that are told to stop, or are killed: calls get answers, no work is lost, and nothing is paid twice."""

from __future__ import annotations

import itertools
import signal
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client, MCPError

from support.clocks import until
from support.replicas import Balancer, balanced, ending, replica, worker
from support.servers import SAMPLES, Child
from support.systems import needs_signals
from triptych_emulators import Emulator, running

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

FOUR = [str(SAMPLES / f"{name}.jpg") for name in ("coffee", "cat", "rocket", "astronaut")]
STOPS_WITHIN_S = 20
"""Ten seconds, doubled for a busy machine."""


async def called(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


def told_to_stop(child: Child) -> float:
    """Send SIGTERM; return how long the process took to end."""
    began = time.monotonic()
    assert child.end() == 0, "".join(child.said)
    return time.monotonic() - began


def submitted_without_a_failure(home: Path) -> int:
    query = "SELECT COUNT(*) FROM predictions WHERE state = 'submitting' AND fault IS NULL"
    with closing(sqlite3.connect(home / "triptych.db")) as database:
        return int(database.execute(query).fetchone()[0])


async def all_done(url: str, job_ids: list[str], atlas: Emulator, requests: int) -> None:
    """Every job ends with its images, and each request was paid once."""
    async with Client(url, mode="auto") as client:
        for job_id in job_ids:
            with anyio.fail_after(120):
                # An uncertain request is looked for again by each call; the provider's list may be late.
                unsettled = ("running", "uncertain")
                while (  # noqa: ASYNC110
                    job := await called(client, "get_status", job_id=job_id, wait_s=50)
                )["status"] in unsettled:
                    await anyio.sleep(0.5)
            assert job["status"] == "done", job
    assert len(atlas.accepted) == requests


@needs_signals
@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_waiting_calls_get_their_answer_when_the_server_stops(tmp_path: Path, era: str) -> None:
    with running("atlas", latency_s=600.0, max_side=64) as atlas:
        child = replica(tmp_path / "home", atlas)
        with ending(child):
            answers: list[dict[str, Any]] = []
            async with Client(child.url(), mode=era) as client, anyio.create_task_group() as tasks:
                await client.list_tools()  # else the client reads it after the first answer

                async def wait() -> None:
                    call = {"images": FOUR[:1], "prompt": "warmer", "wait_s": 50}
                    answers.append(await called(client, "edit_sequence", **call))

                for _ in range(3):
                    tasks.start_soon(wait)
                await anyio.to_thread.run_sync(until, lambda: bool(atlas.accepted))
                await anyio.sleep(0.5)
                took_s = await anyio.to_thread.run_sync(told_to_stop, child)
    assert [(one["status"], "get_status" in one["next"]) for one in answers] == [("running", True)] * 3
    assert took_s < STOPS_WITHIN_S


@needs_signals
async def test_a_listen_stream_ends_in_order_when_the_server_stops(tmp_path: Path) -> None:
    child = replica(tmp_path / "home")
    with ending(child):
        async with (
            Client(child.url(), mode="auto") as client,
            client.listen(resource_subscriptions=["triptych://jobs"]) as events,
        ):
            child.process.send_signal(signal.SIGTERM)
            with anyio.fail_after(STOPS_WITHIN_S):
                assert [event async for event in events] == []


@needs_signals
async def test_a_stopping_worker_stores_the_end_of_a_paid_request(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running("atlas", latency_s=0.0, max_side=64, price="prompt") as atlas:
        server = replica(home, atlas, worker=False)
        alone = worker(home, atlas)
        with ending(server, alone):
            alone.url()
            atlas.fault("submit", "hang", accepted=True, seconds=3.0)
            async with Client(server.url(), mode="auto") as client:
                made = await called(client, "edit_sequence", images=FOUR[:1], prompt="warmer", wait_s=0)
                other = await called(client, "edit_sequence", images=FOUR[1:2], prompt="colder", wait_s=0)
                await anyio.to_thread.run_sync(until, lambda: bool(atlas.accepted))
                took_s = await anyio.to_thread.run_sync(told_to_stop, alone)
                assert took_s < STOPS_WITHIN_S
                assert submitted_without_a_failure(home) == 0, "its connection broke off, and that is stored"
                with ending(worker(home, atlas)):
                    for job in (made, other):
                        done = await called(client, "get_status", job_id=job["job_id"], wait_s=50)
                        assert done["status"] == "done"
        assert len(atlas.accepted) == 2


async def called_until_answered(balancer: Balancer, era: str, arguments: dict[str, Any]) -> str:
    """Make a call, and the same call again while it fails, as clients do; return its job."""
    with anyio.fail_after(120):
        while True:
            try:
                async with Client(balancer.url, mode=era) as client:
                    return str((await called(client, "edit_sequence", **arguments))["job_id"])
            except* (MCPError, httpx2.HTTPError):
                await anyio.sleep(0.2)


@pytest.mark.parametrize("politely", [True, False])
async def test_replicas_that_stop_under_load_lose_nothing(tmp_path: Path, politely: bool) -> None:
    """Three replicas behind a balancer; each in turn is replaced while jobs run and calls arrive."""
    home = tmp_path / "home"
    if politely and sys.platform == "win32":
        pytest.skip("Windows has no SIGTERM to another process")
    with running("atlas", latency_s=1.0, max_side=64, price="prompt") as atlas:
        children = [replica(home, atlas, stateless=True) for _ in range(3)]
        with ending(*children), balanced(*(child.url() for child in children)) as balancer:
            numbers, job_ids = itertools.count(), []
            end = anyio.current_time() + 14

            async def calls(era: str) -> None:
                while anyio.current_time() < end:
                    arguments = {"images": FOUR[:1], "prompt": f"number {next(numbers)}", "wait_s": 1}
                    job_ids.append(await called_until_answered(balancer, era, arguments))

            async def replace() -> None:
                for place in (0, 1, 2):
                    await anyio.sleep(2)
                    if politely:
                        await anyio.to_thread.run_sync(children[place].end)
                    else:
                        children[place].process.kill()
                    fresh = replica(home, atlas, stateless=True)
                    url = await anyio.to_thread.run_sync(fresh.url)
                    children.append(fresh)
                    balancer.ports[place] = int(url.split(":")[2].split("/")[0])

            async with anyio.create_task_group() as tasks:
                for era in 3 * ("auto", "legacy"):
                    tasks.start_soon(calls, era)
                tasks.start_soon(replace)
            try:
                assert len(job_ids) == len(set(job_ids)) == next(numbers)
                await all_done(balancer.url, job_ids, atlas, len(job_ids))
            finally:
                for child in children[3:]:
                    child.end()
