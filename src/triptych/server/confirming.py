"""The question before a costly job: asked of the user where the client can ask, in the way of its protocol era.

Rules: nothing is reserved, written or sent before the yes, and a yes is good for the very question it answered: a quote
that has grown meanwhile is asked about again, or refused. Whatever is not a yes comes back as the refusal that also
clients without elicitation get, for a host without a person at it says no by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from triptych import errors
from triptych.server import tools

logger = logging.getLogger(__name__)

ASK_LIMIT_S = 240
"""Below the 300 s at which some hosts give a call up."""
KEY = "pay"

Run = Callable[[dict[str, Any]], Awaitable[types.CallToolResult]]


async def confirmed(
    ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams, run: Run
) -> types.CallToolResult | types.InputRequiredResult:
    """Run a call; where it wants a confirmation, ask for one and run it with the cost that was agreed to as its cap.

    Raises: as `tools.call` does.
    """
    given = params.arguments or {}
    try:
        return await run(given)
    except errors.OverBudget as error:
        answer = await _answer(ctx, params, error) if _can_ask(ctx) else None
        if isinstance(answer, types.InputRequiredResult):
            return answer
        if answer != "yes":
            why = f"Not confirmed: the user was to be asked, and {answer}. " if answer else ""
            return tools.refusal(errors.OverBudget(why + error.message))
        agreed = {**given, "max_cost_usd": str(error.confirm_usd)}
    return await run(agreed)


async def _answer(
    ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams, error: errors.OverBudget
) -> str | types.InputRequiredResult | None:
    """Return the user's answer, or what brings it with the same call made anew, or None where there is no way."""
    request = _question(error)
    if ctx.session.protocol_version in MODERN_PROTOCOL_VERSIONS:
        answer = (params.input_responses or {}).get(KEY)
        if isinstance(answer, types.ElicitResult) and params.request_state == error.question:
            return _said(answer)
        return types.InputRequiredResult(input_requests={KEY: request}, request_state=error.question)
    return await _asked(ctx, request) if ctx.session.can_send_request else None


def _can_ask(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether the client declares forms; `elicitation: {}` is how clients did before there was anything else."""
    capabilities = ctx.session.client_capabilities
    declared = capabilities.elicitation if capabilities else None
    return declared is not None and (declared.form is not None or declared.url is None)


def _question(error: errors.OverBudget) -> types.ElicitRequest:
    schema = {
        "type": "object",
        "properties": {KEY: {"type": "boolean", "title": "Pay for it", "description": "Yes makes the job and pays."}},
        "required": [KEY],
    }
    return types.ElicitRequest(
        params=types.ElicitRequestFormParams(message=f"{error.question} Go on?", requested_schema=schema)
    )


async def _asked(ctx: ServerRequestContext[Any, Any], request: types.ElicitRequest) -> str:
    """Ask a client of an earlier era, on the stream of its own call; a silent one is waited for only so long."""
    try:
        answer = await ctx.session.send_request(
            request, types.ElicitResult, ASK_LIMIT_S, ServerMessageMetadata(related_request_id=ctx.request_id)
        )
    except (MCPError, ValueError) as error:
        logger.warning("the client declares elicitation and did not answer: %s", error)
        return f"no usable answer came within {ASK_LIMIT_S} s"
    return _said(answer)


def _said(answer: types.ElicitResult) -> str:
    """Return "yes" for that alone, else what the client answered as the rest of a sentence."""
    if answer.action == "accept":
        return "yes" if (answer.content or {}).get(KEY) is True else "the answer was no"
    return f"the client answered {answer.action}"
