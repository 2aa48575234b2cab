"""Several replicas on one database behind a balancer without stickiness, for clients of both protocol eras."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.server.subscriptions import ResourceUpdated

from support import postgres
from support.clocks import until
from support.replicas import Balancer, balanced, ending, replica
from support.servers import SAMPLES, SMALL
from triptych_emulators import Emulator, running

pytestmark = pytest.mark.anyio

PATIENCE_S = 60
COFFEE = str(SAMPLES / "coffee.jpg")
FOUR = [str(SAMPLES / f"{name}.jpg") for name in ("coffee", "cat", "rocket", "astronaut")]


@pytest.fixture(scope="module")
def atlas() -> Iterator[Emulator]:
    with running("atlas", latency_s=2.0, max_side=64, price="prompt") as emulator:
        yield emulator


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def urls(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, atlas: Emulator
) -> Iterator[list[str]]:
    """Two servers without a worker, and one with a worker; with PostgreSQL they are stateless by themselves."""
    home = tmp_path_factory.mktemp("shared") / "home"
    with ExitStack() as stack:
        env, options = {}, {"stateless": True}
        if request.param == "postgresql":
            env, options = {"TRIPTYCH_DATABASE_URL": stack.enter_context(postgres.database())}, {}
        children = [replica(home, atlas, env=env, worker=worker, **options) for worker in (False, False, True)]
        stack.enter_context(ending(*children))
        yield [child.url() for child in children]


@pytest.fixture
def balancer(urls: list[str]) -> Iterator[Balancer]:
    with balanced(*urls) as made:
        yield made


@pytest.fixture(params=["auto", "legacy"])
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def called(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    content = result.structured_content
    assert content is not None
    return content


def edit(prompt: str, **more: Any) -> dict[str, Any]:
    return {"images": [COFFEE], "prompt": prompt, "wait_s": 0, **more}


async def test_each_request_of_a_client_may_reach_another_replica(
    balancer: Balancer, atlas: Emulator, era: str
) -> None:
    async with Client(balancer.url, mode=era) as client:
        made = await called(client, "edit_sequence", **edit(f"warmer, {era}"))
        done = await called(client, "get_status", job_id=made["job_id"], wait_s=50)
        assert (done["status"], done["returned"]) == ("done", 1)
        again = await called(client, "edit_sequence", **edit(f"warmer, {era}"))
        assert again["job_id"] == made["job_id"]
        shown = await client.call_tool("view_images", {"images": [made["job_id"]]})
        assert shown.content[0].type == "image"
    assert set(balancer.taken) == {0, 1, 2}


async def test_a_file_url_is_valid_at_every_replica(balancer: Balancer, urls: list[str], era: str) -> None:
    async with Client(urls[0], mode=era) as client:
        made = await called(client, "generate_sequence", prompt="a lamp", provider="draft", size=SMALL, wait_s=50)
    path = made["images"][0]["url"].split("/files/")[1]
    for url in urls:
        site = url.removesuffix("/mcp")
        assert httpx2.get(f"{site}/files/{path}").status_code == 200
        assert httpx2.get(f"{site}/files/{path[:-1]}").status_code == 404


async def test_a_listener_hears_of_another_replicas_job_within_a_second(urls: list[str], atlas: Emulator) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with Client(urls[0], mode="auto") as a, Client(urls[1], mode="auto") as b:
            made = await called(a, "edit_sequence", **edit("heard"))
            uri = f"triptych://jobs/{made['job_id']}"
            async with b.listen(resource_subscriptions=[uri]) as events:
                status, lags = "", []
                while status != "done":
                    assert await anext(events) == ResourceUpdated(uri)
                    status = (await called(b, "get_status", job_id=made["job_id"]))["status"]
                await called(a, "cancel_job", job_id=made["job_id"])
                began = time.monotonic()
                await anext(events)
                lags.append(time.monotonic() - began)
    assert max(lags) < 1.5  # within a second, and the machine may be busy


async def test_a_job_is_cancelled_at_another_replica(urls: list[str], atlas: Emulator, era: str) -> None:
    before = len(atlas.accepted)
    async with Client(urls[0], mode=era) as a, Client(urls[1], mode=era) as b:
        steps = {"images": [COFFEE], "steps": ["one", f"two {era}", "three"], "wait_s": 0}
        made = await called(a, "edit_chain", **steps)
        await called(b, "cancel_job", job_id=made["job_id"])
        ended = await called(a, "get_status", job_id=made["job_id"], wait_s=50)
    assert ended["status"] in ("cancelled", "partial")
    assert len(atlas.accepted) - before <= 1


async def test_a_job_is_cancelled_elsewhere_while_its_request_is_sent(urls: list[str], atlas: Emulator) -> None:
    before = len(atlas.accepted)
    atlas.fault("submit", "hang", accepted=True, seconds=2.0)
    async with Client(urls[0], mode="auto") as a, Client(urls[1], mode="auto") as b:
        made = await called(a, "edit_chain", images=[COFFEE], steps=["sent", "never sent"], wait_s=0)
        await anyio.to_thread.run_sync(until, lambda: len(atlas.accepted) > before)
        await called(b, "cancel_job", job_id=made["job_id"])
        ended = await called(a, "get_status", job_id=made["job_id"], wait_s=50)
    assert (ended["status"], ended["returned"]) == ("partial", 1), "what was paid is stored, and no more is sent"
    assert len(atlas.accepted) == before + 1


async def test_progress_reaches_a_client_without_a_session(balancer: Balancer, era: str) -> None:
    heard: list[str] = []

    async def report(_done: float, _total: float | None, message: str | None) -> None:
        heard.append(message or "")

    async with Client(balancer.url, mode=era) as client:
        arguments = edit(f"progress, {era}", wait_s=50)
        result = await client.call_tool("edit_sequence", arguments, progress_callback=report)
    assert not result.is_error
    assert any("running" in message for message in heard)


async def test_an_early_client_without_a_session_cannot_be_asked(balancer: Balancer, atlas: Emulator) -> None:
    async def answer(*_: Any) -> Any:
        raise AssertionError("nobody may be asked")

    before = len(atlas.accepted)
    async with Client(balancer.url, mode="legacy", elicitation_callback=answer) as client:
        costly = {"images": FOUR, "steps": [f"step {n}" for n in range(10)], "wait_s": 0}
        refused = await client.call_tool("edit_chain", costly)
        assert refused.is_error
        assert "repeat the call with max_cost_usd=" in refused.content[0].text
    assert len(atlas.accepted) == before


async def test_an_early_client_learns_that_it_gets_no_changes(balancer: Balancer) -> None:
    import mcp_types as types

    async with Client(balancer.url, mode="legacy") as client:
        resources = client.server_capabilities.resources
        assert resources is not None and not resources.subscribe and not resources.list_changed
        request = types.SubscribeRequest(params=types.SubscribeRequestParams(uri="triptych://jobs"))
        with pytest.raises(MCPError, match="keeps no sessions"):
            await client.session.send_request(request, types.EmptyResult)
    for method in ("GET", "DELETE", "HEAD"):
        assert httpx2.request(method, balancer.url, headers={"accept": "text/event-stream"}).status_code == 405


def test_sse_cannot_be_stateless(tmp_path: Path) -> None:
    child = replica(tmp_path, transport="sse", stateless=True)
    with pytest.raises(AssertionError, match="SSE keeps each client's session in one process"):
        child.url()
    assert child.end() == 2
