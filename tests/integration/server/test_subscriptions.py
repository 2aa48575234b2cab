"""Which subscriber hears of which change; a client that does not read delays no other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import mcp_types as types
import pytest
from mcp import MCPError
from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated

from support.servers import CannedService, Connect, job_result
from triptych.core import errors
from triptych.server import sessions
from triptych.server.app import build

pytestmark = pytest.mark.anyio

JOB = "triptych://jobs/job_12345678"
PATIENCE_S = 60


class Ear:
    """Hears an earlier era's notifications; `until` waits for as many."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._more = anyio.Event()

    async def __call__(self, message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            self.heard.append(message.params.uri)
        elif isinstance(message, types.ResourceListChangedNotification):
            self.heard.append("list_changed")
        self._more.set()
        self._more = anyio.Event()

    async def until(self, count: int) -> list[str]:
        with anyio.fail_after(PATIENCE_S):
            while len(self.heard) < count:
                await self._more.wait()
        return self.heard


async def subscribe(client: Any, uri: str) -> None:
    request = types.SubscribeRequest(params=types.SubscribeRequestParams(uri=uri))
    await client.session.send_request(request, types.EmptyResult)


@pytest.mark.parametrize("era", ["legacy"], indirect=True)
async def test_an_earlier_client_hears_its_subscriptions_and_new_images(
    client_of: Connect, told: CannedService
) -> None:
    ear = Ear()
    told.jobs["job_12345678"] = job_result(returned=0)
    async with client_of(message_handler=ear) as client:
        await subscribe(client, JOB)
        told.change("job_00000000", returned=0)
        told.change("job_12345678", returned=0)
        assert await ear.until(1) == [JOB]
        told.change("job_12345678", returned=2)
        assert await ear.until(3) == [JOB, JOB, "list_changed"]
        request = types.UnsubscribeRequest(params=types.UnsubscribeRequestParams(uri=JOB))
        await client.session.send_request(request, types.EmptyResult)
        told.change("job_12345678", returned=3)
        assert (await ear.until(4))[3:] == ["list_changed"]


@pytest.mark.parametrize("era", ["auto"], indirect=True)
async def test_a_listen_stream_carries_what_was_asked_for(client_of: Connect, told: CannedService) -> None:
    told.jobs["job_12345678"] = job_result(returned=0)
    async with client_of() as client:
        with anyio.fail_after(PATIENCE_S):
            async with client.listen(resources_list_changed=True, resource_subscriptions=[JOB]) as events:
                told.change("job_00000000", returned=0)
                told.change("job_12345678", returned=1)
                heard = [await anext(events), await anext(events)]
    assert heard == [ResourceUpdated(JOB), ResourcesListChanged()]


@asynccontextmanager
async def changes_of(told: CannedService) -> AsyncIterator[list[Any]]:
    """Yield what the sessions of a service publish to the person at the machine, while the block runs."""

    async def open_told() -> Any:
        return told

    published: list[Any] = []
    async with sessions.ClientSessions(open_told).running() as crowd:
        crowd._channels[None].bus.subscribe(published.append)
        await crowd.service()
        yield published


async def test_many_changes_at_once_are_told_as_one(told: CannedService, monkeypatch: pytest.MonkeyPatch) -> None:
    async with changes_of(told) as published:
        for n in range(100):
            told.change("job_12345678", returned=n)
        await anyio.wait_all_tasks_blocked()
    assert published == [ResourceUpdated("triptych://jobs"), ResourceUpdated(JOB), ResourcesListChanged()]


async def test_changes_of_many_jobs_are_one_read(told: CannedService) -> None:
    async with changes_of(told) as published:
        for n in range(100):
            told.change(f"job_{n:08}", returned=n)
        await anyio.wait_all_tasks_blocked()
    assert [name for name, *_ in told.asked] == ["changed"]
    assert len(published) == 102, "each job, the list of jobs, and new images"


async def test_a_change_of_an_unreadable_job_is_still_sent(told: CannedService) -> None:
    async with changes_of(told) as published:
        for listener in told.listeners:
            listener("job_00000000")
        await anyio.wait_all_tasks_blocked()
    assert ResourceUpdated("triptych://jobs/job_00000000") in published


async def test_a_change_during_an_outage_is_told_after_it(
    told: CannedService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def open_told() -> Any:
        return told

    async def away(job_ids: Any) -> Any:
        raise errors.Outage("The database does not answer.")

    monkeypatch.setattr(sessions, "READ_AGAIN_S", 0)
    caplog.set_level("DEBUG", sessions.__name__)
    published: list[Any] = []
    told.jobs["job_12345678"] = job_result()
    there, told.changed = told.changed, away  # type: ignore[method-assign]
    async with sessions.ClientSessions(open_told).running() as crowd:
        crowd._channels[None].bus.subscribe(published.append)
        await crowd.service()
        for listener in told.listeners:
            listener("job_12345678")
        with anyio.fail_after(PATIENCE_S):
            while "does not answer" not in caplog.text:
                await anyio.lowlevel.checkpoint()
        assert published == []
        told.changed = there  # type: ignore[method-assign]
        while ResourceUpdated(JOB) not in published:
            await anyio.lowlevel.checkpoint()
    assert "Traceback" not in caplog.text


async def test_subscribing_during_an_outage_says_what_is_wrong(
    client_of: Connect, told: CannedService, era: str
) -> None:
    async with client_of() as client:
        await client.list_resources()
        told.seen = _away  # type: ignore[method-assign]
        with pytest.raises(MCPError, match="The database does not answer"):
            if era == "legacy":
                await subscribe(client, JOB)
            else:
                async with client.listen(resource_subscriptions=[JOB]):
                    pass


async def _away(job_id: str) -> Any:
    raise errors.Outage("The database does not answer.")


async def test_a_change_that_nobody_asks_for_is_not_read(told: CannedService) -> None:
    async def open_told() -> Any:
        return told

    async with sessions.ClientSessions(open_told).running() as crowd:
        await crowd.service()
        told.change("job_12345678", returned=1)
        await anyio.wait_all_tasks_blocked()
    assert told.asked == []


async def test_the_service_is_watched_once_per_connection(client_of: Connect, told: CannedService) -> None:
    async with client_of() as client:
        assert told.listeners == []
        await client.list_resources()
        await client.list_resources()
        assert len(told.listeners) == 1
    assert told.listeners == []


@pytest.mark.parametrize("era", ["legacy"], indirect=True)
async def test_a_client_that_stops_reading_delays_others_briefly(
    client_of: Connect, told: CannedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "SEND_LIMIT_S", 0)

    class Stuck:
        async def send_resource_list_changed(self) -> None:
            await anyio.sleep_forever()

    crowds: list[sessions.ClientSessions] = []
    gathered = sessions.ClientSessions.running

    def remembered(crowd: sessions.ClientSessions) -> Any:
        crowds.append(crowd)
        return gathered(crowd)

    monkeypatch.setattr(sessions.ClientSessions, "running", remembered)
    ear = Ear()
    async with client_of(message_handler=ear) as client:
        crowds[0]._listeners[None, "stuck"] = sessions._Listener(Stuck(), None)  # type: ignore[arg-type]
        crowds[0]._listeners.move_to_end((None, "stuck"), last=False)
        await client.list_resources()
        monkeypatch.setattr(sessions, "SEND_LIMIT_S", 0.01)
        told.change("job_12345678", returned=1)
        assert await ear.until(1) == ["list_changed"]


async def test_only_so_many_sessions_are_remembered(told: CannedService, monkeypatch: pytest.MonkeyPatch) -> None:
    class HttpRequest:
        def __init__(self, session_id: str) -> None:
            self.session = object()
            self.request = type("Request", (), {"headers": {"mcp-session-id": session_id}, "scope": {}})

    async def open_told() -> Any:
        return told

    monkeypatch.setattr(sessions, "SESSIONS_KEPT", 2)
    crowd = sessions.ClientSessions(open_told)
    calls = [HttpRequest(name) for name in "abca"]
    kept = [crowd.register(call) for call in calls]  # type: ignore[arg-type]
    assert list(crowd._listeners) == [(None, "c"), (None, "a")] and kept[0] is not kept[3]
    crowd._wake.close()
    crowd._wake_receiver.close()


async def test_subscribing_says_so_when_triptych_cannot_start(era: str) -> None:
    from mcp import Client

    async def cannot() -> Any:
        raise errors.BadRequest("TRIPTYCH_HOME cannot be used.")

    async with Client(build(cannot, remote=False), mode=era) as client:
        with pytest.raises(MCPError, match="TRIPTYCH_HOME cannot be used"):
            if era == "legacy":
                await subscribe(client, JOB)
            else:
                async with client.listen(resource_subscriptions=[JOB]):
                    pass
