"""The tasks extension: for a client that declares it, a paid call is a task; for every other, nothing is different."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx2
import mcp_types as types
import pytest
from mcp import Client, MCPError
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim

from support.jobs import generate_sequence
from support.servers import SAMPLES, SERVE, Child, environ
from triptych import settings
from triptych.jobs.caller import Caller
from triptych.server import tasks
from triptych.server.app import build
from triptych.server.service_holder import ServiceHolder, service_opener
from triptych.server.tasks import TASKS
from triptych_emulators import Emulator, running

pytestmark = pytest.mark.anyio

ASKED = {"images": [str(SAMPLES / "cat.jpg")], "prompt": "warm; cool", "count": 2}


class Task(types.Result):
    """A task as the extension's schema has it."""

    task_id: str
    status: Literal["working", "input_required", "completed", "failed", "cancelled"]
    status_message: str
    created_at: str
    last_updated_at: str
    ttl_ms: int | None
    poll_interval_ms: int
    result: dict[str, Any] | None = None


class CreatedTask(Task):
    result_type: Literal["task"] = "task"


class TaskRequest(types.Request[dict[str, Any], str]):
    method: str
    params: dict[str, Any]


class Tasks(ClientExtension):
    """A host that knows tasks, and takes what it is handed as it is."""

    identifier = TASKS

    def claims(self) -> list[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=CreatedTask, resolve=self._never)]

    async def _never(self, created: CreatedTask, context: ClaimContext) -> types.CallToolResult:
        raise AssertionError("these tests take the task themselves")


async def started(client: Client, tool: str = "edit_sequence", **more: Any) -> CreatedTask:
    result = await client.session.call_tool(tool, ASKED | more, allow_claimed=True)
    assert isinstance(result, CreatedTask), result
    return result


async def ask(client: Client, method: str, task_id: str, model: type[Any] = Task, **more: Any) -> Any:
    return await client.session.send_request(TaskRequest(method=method, params={"taskId": task_id, **more}), model)


async def over(client: Client, job_id: str) -> dict[str, Any]:
    """Return the job's fields once it has ended."""
    while True:
        fields = (await client.call_tool("get_status", {"job_id": job_id, "wait_s": 30})).structured_content or {}
        if fields["status"] not in ("queued", "running"):
            return fields


async def refused(client: Client, method: str, task_id: str) -> tuple[int, str]:
    with pytest.raises(MCPError) as raised:
        await ask(client, method, task_id)
    return raised.value.error.code, raised.value.error.message


@pytest.fixture
def api() -> Iterator[Emulator]:
    with running("ark", latency_s=0.5, max_side=48) as emulator:
        yield emulator


@pytest.fixture
def env(api: Emulator, tmp_path: Path) -> dict[str, str]:
    return environ(tmp_path / "home", ARK_API_KEY=api.key, ARK_BASE_URL=f"{api.base_url}/api/v3")


Opened = Callable[..., Any]


@pytest.fixture
def connect(env: dict[str, str]) -> Opened:
    @asynccontextmanager
    async def connected(*extensions: ClientExtension, era: str = "auto") -> AsyncIterator[tuple[Client, ServiceHolder]]:
        holder = ServiceHolder(service_opener(settings.read(env)))
        async with (
            holder.running(),
            Client(build(holder, remote=False), mode=era, extensions=list(extensions)) as client,
        ):
            yield client, holder

    return connected


async def test_a_paid_call_becomes_a_task_with_the_calls_result(connect: Opened, api: Emulator) -> None:
    async with connect(Tasks()) as (client, _):
        created = await started(client)
        assert created.status == "working" and created.task_id.startswith("job_")
        assert created.created_at.endswith("Z") and created.poll_interval_ms > 0 and created.ttl_ms
        working = await ask(client, "tasks/get", created.task_id)
        assert (working.status, working.status_message) in (
            ("working", "queued, 0 of 2 images"),
            ("working", "running, 0 of 2 images"),
        )
        job = await over(client, created.task_id)
        ended = await ask(client, "tasks/get", created.task_id)
    assert (ended.status, ended.status_message) == ("completed", "done, 2 of 2 images")
    result = types.CallToolResult.model_validate(ended.result)
    assert result.structured_content is not None and not result.is_error
    assert result.structured_content | {"cost": job["cost"]} == job
    assert [block.type for block in result.content] == ["text", "resource_link", "resource_link"]
    assert ended.last_updated_at >= created.created_at
    assert len(api.accepted) == 1


async def test_a_task_survives_its_server(connect: Opened, api: Emulator) -> None:
    async with connect(Tasks()) as (client, _):
        created = await started(client)
    async with connect(Tasks()) as (client, _):
        assert (await ask(client, "tasks/get", created.task_id)).status in ("working", "completed")
        await over(client, created.task_id)
        assert (await ask(client, "tasks/get", created.task_id)).status == "completed"
    assert len(api.accepted) == 1


async def test_a_cancelled_task_stops_what_was_not_submitted(connect: Opened, api: Emulator) -> None:
    api.fault("submit", "429")
    async with connect(Tasks()) as (client, _):
        created = await started(client)
        answered = await ask(client, "tasks/cancel", created.task_id, types.EmptyResult)
        assert isinstance(answered, types.EmptyResult)
        await over(client, created.task_id)
        ended = await ask(client, "tasks/get", created.task_id)
    assert (ended.status, ended.result) == ("cancelled", None)
    assert not api.accepted


async def test_answers_to_a_task_without_questions_change_nothing(connect: Opened) -> None:
    async with connect(Tasks()) as (client, _):
        task_id = (await started(client)).task_id
        await ask(client, "tasks/update", task_id, types.EmptyResult, inputResponses={"x": {"action": "accept"}})
        assert (await ask(client, "tasks/get", task_id)).status in ("working", "completed")


async def test_calls_without_a_wait_are_answered_directly(connect: Opened, api: Emulator) -> None:
    async with connect(Tasks()) as (client, _):
        quote = await client.call_tool("edit_sequence", {**ASKED, "dry_run": True})
        wrong = await client.call_tool("edit_sequence", {**ASKED, "count": 99})
        dear = await client.call_tool("edit_sequence", {**ASKED, "max_cost_usd": 0.001})
        listed = await client.call_tool("list_jobs", {})
    assert quote.structured_content["status"] == "dry_run"
    assert wrong.is_error and dear.is_error and listed.structured_content["jobs"] == []
    assert not api.accepted


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_a_client_that_declares_nothing_sees_no_difference(connect: Opened, era: str) -> None:
    async with connect(era=era) as (client, _):
        result = await client.call_tool("edit_sequence", {**ASKED, "wait_s": 30})
        job = result.structured_content
        assert job["status"] in ("done", "running")
        code, message = await refused(client, "tasks/get", job["job_id"])
    if era == "auto":
        assert code == types.MISSING_REQUIRED_CLIENT_CAPABILITY and TASKS in message
    else:
        assert code == types.METHOD_NOT_FOUND


async def test_every_method_refuses_an_unknown_task(connect: Opened) -> None:
    async with connect(Tasks()) as (client, _):
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            assert await refused(client, method, "job_00000000") == (
                types.INVALID_PARAMS,
                'There is no task "job_00000000".',
            )


async def test_a_task_belongs_to_its_jobs_owner_for_a_week(connect: Opened) -> None:
    async with connect() as (_, holder):
        service = await holder()
        ann, ben = Caller(owner="ann"), Caller(owner="ben")
        job = await generate_sequence(service, "a lighthouse", 1, caller=ann)
        assert (await tasks.get(service, job.job_id, ann))["taskId"] == job.job_id
        for task_id in (job.job_id, "job_00000000"):
            with pytest.raises(MCPError, match=f'There is no task "{task_id}"'):
                await tasks.get(service, task_id, ben)
        service.store.plain._db.connection.execute("UPDATE jobs SET created_at = created_at - 8 * 86400")
        with pytest.raises(MCPError, match=r"more than 7 days old; get_status\(job_id="):
            await tasks.get(service, job.job_id, ann)


@pytest.mark.slow
async def test_tasks_work_over_http(env: dict[str, str]) -> None:
    child = Child("-c", SERVE, "http", env={**env, "TRIPTYCH_ALLOWED_DIRS": str(SAMPLES)})
    try:
        async with Client(child.url(), extensions=[Tasks()]) as client:
            assert TASKS in (client.server_capabilities.extensions or {})
            created = await started(client)
            await over(client, created.task_id)
            assert (await ask(client, "tasks/get", created.task_id)).status == "completed"
    finally:
        child.end()


@pytest.mark.parametrize(("named", "answered"), [("job_11111111", -32020), ("job_00000000", -32602), (None, -32602)])
async def test_a_header_that_names_another_task_is_refused(http_url: str, named: str | None, answered: int) -> None:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}},
    }
    asked = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tasks/get",
        "params": {"taskId": "job_00000000", "_meta": meta},
    }
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tasks/get",
        **({"mcp-name": named} if named else {}),
    }
    async with httpx2.AsyncClient() as client:
        response = await client.post(http_url, json=asked, headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (400, answered)
