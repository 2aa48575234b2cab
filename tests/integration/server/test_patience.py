"""Clients that give up soon: their identical calls make one job, and are answered in time once the limit is known."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import mcp_types as types
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.shared.memory import create_client_server_memory_streams
from mcp.shared.message import SessionMessage

from support.jobs import NOW, generate_sequence
from support.servers import SAMPLES, SERVE, CannedService, Child, Connect, environ
from triptych import settings
from triptych.jobs.service import ImageService
from triptych.server.app import build
from triptych.server.patience import Patience
from triptych_emulators import Emulator, running

pytestmark = pytest.mark.anyio

KEY = "sk-never-to-be-shown"
ASKED = {"images": [str(SAMPLES / "cat.jpg")], "prompt": "four seasons", "count": 2, "wait_s": 55}
TIMED_OUT = "timed out after 5s"


# -- what is learned ---------------------------------------------------------------------------------------------------


class Seconds:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def patience(seconds: Seconds) -> Patience:
    return Patience(seconds)


def left_after(patience: Patience, seconds: Seconds, age_s: float, client: str = "c") -> None:
    """Let a client leave a call of this age without a word."""
    seconds.now += 10
    patience.client_left(client, age_s)


@pytest.mark.parametrize("reason", [TIMED_OUT, "Request timed out", "timeout", "Time-out of 5 s", "deadline exceeded"])
def test_a_time_out_reason_sets_the_limit_at_once(patience: Patience, seconds: Seconds, reason: str) -> None:
    with patience.call("c", 1) as left_s:
        assert left_s() == float("inf")
        seconds.now += 5
        patience.cancelled("c", "1", reason)
    with patience.call("c", 2) as left_s:
        seconds.now += 1.5
        assert left_s() == 2.5
    assert patience.limit_s("another") == float("inf")


@pytest.mark.parametrize("reason", [None, "", "the user pressed Escape", "runtime outlook"])
def test_another_reason_sets_none(patience: Patience, seconds: Seconds, reason: str | None) -> None:
    with patience.call("c", 1):
        seconds.now += 5
        patience.cancelled("c", 1, reason)
    assert patience.limit_s("c") == float("inf")


@pytest.mark.parametrize(
    ("ages", "limit"),
    [
        ((5.0,), None),
        ((5.0, 5.2), 4.0),
        ((5.2, 5.0), 4.0),
        ((5.0, 12.0, 5.0), None),
        ((30.0, 32.5), 29.0),
        ((30.0, 34.0), None),
        ((1.2, 1.2), 1.0),
        ((10.0, 10.0, 5.0, 5.0, 20.0, 20.0), 4.0),
    ],
)
def test_two_that_end_at_one_age_set_the_limit(
    patience: Patience, seconds: Seconds, ages: tuple[float, ...], limit: float | None
) -> None:
    for age_s in ages:
        left_after(patience, seconds, age_s)
    assert patience.limit_s("c") == (limit or float("inf"))


def test_calls_that_one_click_ends_count_once(patience: Patience, seconds: Seconds) -> None:
    seconds.now += 10
    for _ in range(3):
        patience.client_left("c", 5.0)
        seconds.now += 0.1
    assert patience.limit_s("c") == float("inf")


def test_the_oldest_client_is_forgotten(patience: Patience, seconds: Seconds) -> None:
    for n in range(300):
        for _ in range(2):
            left_after(patience, seconds, 5.0, f"c{n}")
    assert patience.limit_s("c0") == float("inf") and patience.limit_s("c299") == 4.0


@pytest.mark.parametrize("told_first", [True, False])
async def test_the_reason_may_come_before_or_after_the_end(
    patience: Patience, seconds: Seconds, told_first: bool
) -> None:
    with anyio.CancelScope() as scope, patience.call("c", 7):
        seconds.now += 5
        if told_first:
            patience.cancelled("c", 7, TIMED_OUT)
        scope.cancel()
        await anyio.sleep_forever()
    if not told_first:
        patience.cancelled("c", 7, TIMED_OUT)
    assert patience.limit_s("c") == 4.0


# -- the calls of a client that gives up after 5 s, every 7 s, second by second ---------------------------------------


class GivingUp:
    """A clock that moves when somebody waits; at the moment a client gives up it stands still until that is done."""

    def __init__(self) -> None:
        self.seconds = 10_000.0
        self.until = float("inf")
        self.given_up = anyio.Event()

    def now(self) -> datetime:
        return datetime(2026, 11, 21, 12, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    async def wait(self, event: anyio.Event, seconds: float) -> None:
        if self.seconds >= self.until:
            self.given_up.set()
            await anyio.sleep_forever()
        self.seconds += min(seconds, self.until - self.seconds)
        await anyio.lowlevel.checkpoint()


@pytest.fixture
def api() -> Iterator[Emulator]:
    with running("atlas", latency_s=3600, max_side=48, key=KEY) as emulator:
        yield emulator


@pytest.mark.parametrize("tool", ["edit_sequence", "get_status"])
async def test_four_calls_that_time_out_make_one_job(api: Emulator, tmp_path: Path, tool: str) -> None:
    clock = GivingUp()
    env = environ(tmp_path / "home", ATLASCLOUD_API_KEY=KEY, ATLASCLOUD_BASE_URL=api.base_url)
    service = ImageService(settings.read(env).setup, clock)
    job_id = (await generate_sequence(service, "a boat", options=NOW)).job_id if tool == "get_status" else ""
    before = len(service.store.plain.jobs(10))
    asked = {"job_id": job_id, "wait_s": 55} if job_id else ASKED

    async def open_service() -> ImageService:
        return service

    server = build(open_service, remote=False)
    server.patience._clock = clock.monotonic
    took: list[float | None] = []
    async with create_client_server_memory_streams() as (mine, theirs), anyio.create_task_group() as tasks:
        tasks.start_soon(server.run, *theirs, server.create_initialization_options())
        answers, out = mine

        async def say(method: str, params: dict[str, Any], id: int | None = None) -> None:
            message = {"jsonrpc": "2.0", "method": method, "params": params} | ({} if id is None else {"id": id})
            await out.send(SessionMessage(types.jsonrpc_message_adapter.validate_python(message)))

        await say("initialize", HELLO, 1)
        await answers.receive()
        await say("notifications/initialized", {})
        for n in range(4):
            begun = clock.seconds
            clock.until, clock.given_up = begun + 5, anyio.Event()
            await say("tools/call", {"name": tool, "arguments": asked}, 10 + n)
            answered = await first_of(answers, clock.given_up)
            took.append(clock.seconds - begun if answered else None)
            if not answered:
                await say("notifications/cancelled", {"requestId": 10 + n, "reason": TIMED_OUT})
                await anyio.wait_all_tasks_blocked()
            clock.seconds = begun + 7
        tasks.cancel_scope.cancel()
    assert took == [None, 4.0, 4.0, 4.0]
    assert len(service.store.plain.jobs(10)) == before + (0 if job_id else 1)
    await service.provider_client.aclose()
    service.store.plain.close()


HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


async def first_of(answers: Any, given_up: anyio.Event) -> bool:
    """Return whether an answer came before the client gave up."""
    came: list[bool] = []

    async def answered() -> None:
        await answers.receive()
        came.append(True)
        either.cancel_scope.cancel()

    async with anyio.create_task_group() as either:
        either.start_soon(answered)
        await given_up.wait()
        either.cancel_scope.cancel()
    return bool(came)


# -- real clients, over every transport --------------------------------------------------------------------------------

GIVES_UP_S = 2.0


async def submitted(api: Emulator) -> None:
    for _ in range(3000):
        if api.accepted:
            return
        await anyio.sleep(0.02)


@pytest.fixture(
    params=[
        pytest.param(f"{way}-{era}", marks=pytest.mark.slow) for way in ("stdio", "http") for era in ("auto", "legacy")
    ]
)
def connect(request: pytest.FixtureRequest, api: Emulator, tmp_path: Path) -> Connect:
    """Return a function that connects a client to a server whose jobs take an hour."""
    transport, _, era = request.param.partition("-")
    env = environ(tmp_path / "home", ATLASCLOUD_API_KEY=KEY, ATLASCLOUD_BASE_URL=api.base_url)

    @asynccontextmanager
    async def connected(**options: Any) -> AsyncIterator[Client]:
        if transport == "stdio":
            server = StdioServerParameters(command=sys.executable, args=["-m", "triptych"], env=env, cwd=tmp_path)
            async with Client(server, mode=era, **options) as client:
                yield client
            return
        child = Child("-c", SERVE, "http", env=env)
        try:
            async with Client(child.url(), mode=era, **options) as client:
                yield client
        finally:
            child.end()

    return connected


async def test_a_client_that_times_out_makes_one_job(
    connect: Connect, api: Emulator, request: pytest.FixtureRequest
) -> None:
    # The official client says why, where the protocol has a way to; elsewhere it closes the stream, and twice tells.
    says_why = "http-auto" not in request.node.name
    async with connect() as client:
        await client.call_tool("list_jobs", {})
        for _ in range(1 if says_why else 5):
            with suppress(MCPError):
                await client.call_tool("edit_sequence", ASKED, read_timeout_seconds=GIVES_UP_S)
        answered = await client.call_tool("edit_sequence", ASKED, read_timeout_seconds=45)
        job_id = answered.structured_content["job_id"]
        asked = {"job_id": job_id, "wait_s": 55}
        status = await client.call_tool("get_status", asked, read_timeout_seconds=45)
        jobs = (await client.call_tool("list_jobs", {})).structured_content["jobs"]
        await submitted(api)
    assert status.structured_content["status"] in ("queued", "running")
    assert [job["job_id"] for job in jobs] == [job_id] and len(api.accepted) == 1


@pytest.mark.slow
async def test_a_session_whose_client_only_disconnects_is_known_too(api: Emulator, tmp_path: Path) -> None:
    env = environ(tmp_path / "home", ATLASCLOUD_API_KEY=KEY, ATLASCLOUD_BASE_URL=api.base_url)
    child = Child("-c", SERVE, "http", env=env)
    headers = {"accept": "application/json, text/event-stream"}
    try:
        async with httpx2.AsyncClient(headers=headers) as http:
            url = child.url()
            hello = await http.post(url, json={"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO})
            http.headers["mcp-session-id"] = hello.headers["mcp-session-id"]
            http.headers["mcp-protocol-version"] = "2025-06-18"
            await http.post(url, json={"jsonrpc": "2.0", "method": "notifications/initialized"})
            params = {"name": "edit_sequence", "arguments": ASKED}
            for n in range(5):
                call = {"jsonrpc": "2.0", "id": 10 + n, "method": "tools/call", "params": params}
                with anyio.move_on_after(GIVES_UP_S):
                    await http.post(url, json=call, timeout=60)
            call = {"jsonrpc": "2.0", "id": 20, "method": "tools/call", "params": params}
            answer = await http.post(url, json=call, timeout=45)
            data = next(line for line in answer.text.splitlines() if line.startswith("data: {"))
            assert json.loads(data.removeprefix("data: "))["result"]["structuredContent"]["status"] in (
                "queued",
                "running",
            )
            await submitted(api)
    finally:
        child.end()
    assert len(api.accepted) == 1


@pytest.mark.parametrize("era", ["legacy"], indirect=True)
async def test_a_call_that_ends_well_teaches_nothing(client_of: Any, told: CannedService) -> None:
    async with client_of() as client:
        for _ in range(4):
            assert not (await client.call_tool("get_status", {"job_id": "job_12345678"})).is_error
    assert [caller.left_s() for caller in told.callers] == [float("inf")] * 4
