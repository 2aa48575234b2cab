"""The tasks extension (`io.modelcontextprotocol/tasks`, 2026-07-28): a paid call is answered with a task at once.

A task is the job itself under the job's own id: so it survives whatever the job survives, belongs to whoever made the
job, and is there before the client hears of it. Only a client that declares the extension with the very request gets
one; the others see no difference. Dry runs, refusals and jobs that are over at once are answered as ever.
"""

from __future__ import annotations

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
"""A task is told of for so long; its job stays, and `get_status` shows it."""


class TaskParams(types.RequestParams):
    """What every request of the extension names."""

    task_id: str


def declared(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Return whether this request says that its client knows tasks."""
    capabilities = ctx.session.client_capabilities
    modern = ctx.session.protocol_version in MODERN_PROTOCOL_VERSIONS
    return modern and capabilities is not None and TASKS in (capabilities.extensions or {})


async def created(
    service: ImageService, result: types.CallToolResult, caller: Caller
) -> types.CallToolResult | dict[str, Any]:
    """Return the task of the job that a paid call made, or the call's own result where there is nothing to wait for."""
    fields = result.structured_content or {}
    if fields.get("status") not in ("queued", "running"):
        return result
    return {"resultType": "task", **await _task(service, fields["job_id"], caller)}


async def get(service: ImageService, task_id: str, caller: Caller, *, linked: bool = True) -> dict[str, Any]:
    """Return a task as it stands, with the job's result once it has one, and links in it where they are wanted.

    Raises: `MCPError` (invalid params) for a task that is not there, or is told of no more.
    """
    return await _task(service, task_id, caller, linked)


async def cancel(service: ImageService, task_id: str, caller: Caller) -> None:
    """Cancel what of the job was not submitted; what the provider has already still comes home.

    Raises: as `get`.
    """
    await _task(service, task_id, caller)
    await service.cancel_job(task_id, caller)


def required(ctx: ServerRequestContext[Any, Any], task_id: str) -> None:
    """Refuse a `tasks/` request of a client that does not declare the extension, or whose header names another task.

    The SDK compares `Mcp-Name` for the methods it knows; what routes by that header must not be told of another task.

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
        task["result"] = tools.answer(job, linked=linked).model_dump(mode="json", by_alias=True, exclude_none=True)
    return task


def _status(job: JobResult) -> str:
    """Return the task's status: a job that failed has a result that says so, as the tool's own answer would."""
    match job.status:
        case "queued" | "running":
            return "working"
        case "cancelled":
            return "cancelled"
        case _:
            return "completed"


def _iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
