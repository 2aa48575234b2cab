"""The tasks extension (`io.modelcontextprotocol/tasks`, 2026-07-28): a paid call returns a task at once.

A task is the job itself, under the job's id: it exists as long as the job, has the same owner, and is stored before the
client learns its id. Only a client that declares the extension in the same request gets one; nothing changes for other
clients. Dry runs, refusals and jobs that have already ended return their usual result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

if TYPE_CHECKING:
    from triptych.jobs.results import JobResult
    from triptych.jobs.service import Caller, ImageService

TASKS = "io.modelcontextprotocol/tasks"
PAID = ("edit_sequence", "edit_chain", "generate_sequence")
POLL_EVERY_MS = 2_000
LIFETIME = timedelta(days=7)
"""The age up to which a task is reported; its job stays, and `get_status` shows it."""


class TaskParams(types.RequestParams):
    """The parameters of every request of the extension."""

    task_id: str


def declared(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Return whether this request declares the extension."""
    capabilities = ctx.session.client_capabilities
    modern = ctx.session.protocol_version in MODERN_PROTOCOL_VERSIONS
    return modern and capabilities is not None and TASKS in (capabilities.extensions or {})


async def created(
    service: Callable[[], Awaitable[ImageService]], result: types.CallToolResult, caller: Caller
) -> types.CallToolResult | dict[str, Any]:
    """Return the task of the job that a paid call made.

    Return the call's own result if the job has ended, or cannot be read now.
    """
    from triptych.core.errors import Outage

    fields = result.structured_content or {}
    if fields.get("status") not in ("queued", "running"):
        return result
    try:
        return {"resultType": "task", **await _task(await service(), fields["job_id"], caller)}
    except Outage:  # the job is stored, and its id must reach the client
        return result


async def get(service: ImageService, task_id: str, caller: Caller, *, linked: bool = True) -> dict[str, Any]:
    """Return a task's state, with the job's result once it has ended; `linked` adds links to it.

    Raises: `MCPError` (invalid params) for a missing or too old task.
    """
    return await _task(service, task_id, caller, linked)


async def cancel(service: ImageService, task_id: str, caller: Caller) -> None:
    """Cancel the unsubmitted part of the job; images of submitted requests are still stored.

    Raises: the errors of `get`; `MCPError` (invalid request) for a caller without the right to spend.
    """
    from triptych.core.errors import NoScope

    try:
        caller.require_spend("tasks/cancel")
    except NoScope as error:
        raise MCPError(types.INVALID_REQUEST, error.message) from error
    await _task(service, task_id, caller)
    await service.cancel_job(task_id, caller)


def required(ctx: ServerRequestContext[Any, Any], task_id: str) -> None:
    """Refuse a `tasks/` request of a client that does not declare the extension, or whose header names another task.

    The SDK checks `Mcp-Name` only for its own methods; a proxy that routes by this header must see the right task.

    Raises: `MCPError`: missing capability, header mismatch, or, before 2026-07-28, no such method.
    """
    if ctx.session.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        raise MCPError(types.METHOD_NOT_FOUND, "Method not found")
    if not declared(ctx):
        raise MCPError(
            types.MISSING_REQUIRED_CLIENT_CAPABILITY,
            f"Declare the extension {TASKS} with the request, or ask get_status.",
            {"requiredCapabilities": {"extensions": {TASKS: {}}}},
        )
    named = getattr(ctx.request, "headers", {}).get(MCP_NAME_HEADER)
    if named is not None and decode_header_value(named) != task_id:
        raise MCPError(types.HEADER_MISMATCH, "The header Mcp-Name and the parameter taskId name different tasks.")


async def _task(service: ImageService, task_id: str, caller: Caller, linked: bool = True) -> dict[str, Any]:
    from triptych.core import errors
    from triptych.server import tools

    try:
        job = await service.job(task_id, caller)
    except errors.UnknownHandle as error:
        raise MCPError(types.INVALID_PARAMS, f"There is no task {errors.quoted(task_id, 40)}.") from error
    made, moved, now = await service.times(task_id, caller)
    if now - made > LIFETIME:
        raise MCPError(
            types.INVALID_PARAMS,
            f'The task {task_id} is more than {LIFETIME.days} days old; get_status(job_id="{task_id}") shows its job.',
        )
    task = {
        "taskId": task_id,
        "status": _status(job),
        "statusMessage": f"{job.status}, {job.returned} of {job.requested} images",
        "createdAt": _iso(made),
        "lastUpdatedAt": _iso(moved),
        "ttlMs": int(LIFETIME.total_seconds() * 1000),
        "pollIntervalMs": POLL_EVERY_MS,
    }
    if task["status"] == "completed":
        task["result"] = tools.tool_result(job, linked=linked).model_dump(mode="json", by_alias=True, exclude_none=True)
    return task


def _status(job: JobResult) -> str:
    """Return the task's status. A failed job counts as completed: its result says that it failed."""
    match job.status:
        case "queued" | "running":
            return "working"
        case "cancelled":
            return "cancelled"
        case _:
            return "completed"


def _iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
