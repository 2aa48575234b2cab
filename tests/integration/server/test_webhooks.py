"""`/webhooks`: open to everyone, tells nothing; calls that are late, doubled, missing or forged do no harm."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from starlette.responses import PlainTextResponse

from support.clocks import until
from support.replicas import ending, replica
from support.servers import SAMPLES
from triptych.server import webhooks
from triptych_emulators import Emulator, running

pytestmark = pytest.mark.anyio

TOKEN = "a-long-random-text"
COFFEE = str(SAMPLES / "coffee.jpg")
CALL = "/webhooks/atlas/job_00000000-0-0.00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def atlas() -> Iterator[Emulator]:
    with running("atlas", latency_s=0.6, max_side=64, price="prompt") as emulator:
        yield emulator


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, atlas: Emulator) -> Iterator[str]:
    """A server at its public URL, with a token; the emulator calls it over loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {"TRIPTYCH_AUTH_TOKEN": TOKEN, "TRIPTYCH_PUBLIC_URL": f"http://127.0.0.1:{port}"}
    child = replica(tmp_path_factory.mktemp("called") / "home", atlas, env=env, port=port)
    with ending(child):
        child.url()
        yield f"http://127.0.0.1:{port}"


async def edited(site: str, prompt: str) -> dict[str, Any]:
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60) as http,
        Client(streamable(f"{site}/mcp", http), mode="auto") as client,
    ):
        result = await client.call_tool("edit_sequence", {"images": [COFFEE], "prompt": prompt, "wait_s": 50})
        assert result.structured_content is not None, result.content
        return result.structured_content


def streamable(url: str, http: httpx2.AsyncClient) -> Any:
    from mcp.client.streamable_http import streamable_http_client

    return streamable_http_client(url, http_client=http)


@pytest.mark.parametrize("fault", [None, "late", "twice", "never", "early", "forged"])
async def test_a_job_ends_however_its_provider_calls_back(site: str, atlas: Emulator, fault: str | None) -> None:
    before, calls = len(atlas.accepted), len(atlas.callbacks.made)
    if fault:
        atlas.fault("callback", fault, **({"seconds": 1.0} if fault == "late" else {}))
    job = await edited(site, f"called {fault}")
    assert (job["status"], job["returned"]) == ("done", 1)
    assert len(atlas.accepted) == before + 1
    expected = {"twice": 2, "forged": 2, "never": 0}.get(fault or "", 1)
    await anyio.to_thread.run_sync(until, lambda: len(atlas.callbacks.made) == calls + expected)
    made = atlas.callbacks.made[calls:]
    assert all(url.startswith(f"{site}/webhooks/atlas/job_") and status == 202 for url, status in made)


def test_a_call_needs_no_token_and_tells_nothing(site: str) -> None:
    answers = [
        httpx2.post(f"{site}{path}", content=body, headers=headers)
        for path in (CALL, "/webhooks/atlas/x", "/webhooks/nobody/1.2", "/webhooks/a%2fb", "/webhooks/")
        for body in (b"", b'{"id": 1}', b"\xff" * 1000)
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"webhook-signature": "v3,00"})
    ]
    assert {(answer.status_code, answer.content) for answer in answers} == {(202, b"")}


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_only_post_calls(site: str, method: str) -> None:
    answer = httpx2.request(method, f"{site}{CALL}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_other_routes_still_need_the_token(site: str) -> None:
    assert [httpx2.post(f"{site}{path}").status_code for path in ("/mcp", "/webhooks", "/files/x")] == [401, 401, 405]


def test_a_call_for_another_host_is_refused(site: str) -> None:
    assert httpx2.post(f"{site}{CALL}", headers={"Host": "attacker.example"}).status_code == 421


def test_a_body_that_is_too_large_is_not_read_on(site: str) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(64):
            yield b"x" * 65_536

    try:
        status = httpx2.post(f"{site}{CALL}", content=endless()).status_code
    except httpx2.HTTPError:
        status = 413  # the connection was closed while the body was sent
    assert status == 413


# -- a flood


class Told:
    """A service that notes its hints."""

    def __init__(self) -> None:
        self.hints: list[tuple[str, str]] = []

    async def hint(self, calls: list[tuple[str, str]]) -> None:
        self.hints += calls


async def test_a_flood_keeps_few_hints_and_a_genuine_one_once() -> None:
    told = Told()

    async def open_service() -> Any:
        return told

    hints = webhooks.Hints(open_service)
    app = webhooks.Webhooks(PlainTextResponse("other"), hints)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://here") as client:
        for n in range(2 * webhooks.WAITING):
            path = f"/webhooks/atlas/job_{n % 8:08x}-0-0.00000000-0000-4000-8000-{n:012x}"
            assert (await client.post(path)).status_code == 202
        assert (await client.get("/mcp")).text == "other"
    assert len(hints._waiting) == webhooks.WAITING
    async with hints.running():
        await anyio.to_thread.run_sync(until, lambda: bool(told.hints))
    assert told.hints[0] == ("job_00000000-0-0", "00000000-0000-4000-8000-000000000000")
