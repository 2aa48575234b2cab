"""Asks the user before a costly job, where the client can ask, in the form of its protocol version.

Rules: if the client can ask, it asks, whatever the arguments are. Before the yes nothing is reserved or written, and no
image is uploaded. A yes is valid only for the price shown: a higher quote is asked about again, or refused. Any other
answer ends the call with a refusal that names no amount to repeat the call with. A host without a person answers no by
itself; it needs a higher TRIPTYCH_CONFIRM_USD.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from triptych.core import errors
from triptych.server import tools

logger = logging.getLogger(__name__)

ASK_LIMIT_S = 240
"""Below the 300 s after which some hosts abandon a call."""
KEY = "pay"

Run = Callable[[Decimal | None], Awaitable[types.CallToolResult]]
"""Runs the call with the cost that the user agreed to, None without a confirmation."""


async def confirmed(
    ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams, run: Run
) -> types.CallToolResult | types.InputRequiredResult:
    """Run a call; if it needs a confirmation, ask for one and run it with the cost that the user agreed to.

    Raises: the errors of `tools.call`.
    """
    try:
        return await run(None)
    except errors.OverBudget as error:
        if not can_ask(ctx):
            return tools.refusal(error)
        response = await _ask(ctx, params, error)
        if isinstance(response, types.InputRequiredResult):
            return response
        if response != "yes":
            return tools.refusal(errors.OverBudget(f"Not confirmed: the user must confirm, and {response}. {error}"))
        agreed_usd = error.confirm_usd
    try:
        return await run(agreed_usd)
    except errors.OverBudget as error:
        return tools.refusal(errors.OverBudget(f"The quote has risen since the user confirmed it. {error}"))


async def _ask(
    ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams, error: errors.OverBudget
) -> str | types.InputRequiredResult:
    """Return the user's answer, or the request for it; the client then repeats the call with the answer."""
    request = _question(error)
    if ctx.session.protocol_version in MODERN_PROTOCOL_VERSIONS:
        response = (params.input_responses or {}).get(KEY)
        if isinstance(response, types.ElicitResult) and params.request_state == error.question:
            return _verdict(response)
        return types.InputRequiredResult(input_requests={KEY: request}, request_state=error.question)
    return await _elicit(ctx, request)


def can_ask(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Return whether the client declares forms and the session can send it a request.

    Early clients declare forms as `elicitation: {}`.
    """
    capabilities = ctx.session.client_capabilities
    declared = capabilities.elicitation if capabilities else None
    if declared is None or (declared.form is None and declared.url is not None):
        return False
    return ctx.session.protocol_version in MODERN_PROTOCOL_VERSIONS or ctx.session.can_send_request


def _question(error: errors.OverBudget) -> types.ElicitRequest:
    schema = {
        "type": "object",
        "properties": {KEY: {"type": "boolean", "title": "Pay for it", "description": "Yes submits the job and pays."}},
        "required": [KEY],
    }
    return types.ElicitRequest(
        params=types.ElicitRequestFormParams(message=f"{error.question} Go on?", requested_schema=schema)
    )


async def _elicit(ctx: ServerRequestContext[Any, Any], request: types.ElicitRequest) -> str:
    """Ask a client of an earlier protocol version, on the stream of its call; give up after `ASK_LIMIT_S`."""
    try:
        response = await ctx.session.send_request(
            request, types.ElicitResult, ASK_LIMIT_S, ServerMessageMetadata(related_request_id=ctx.request_id)
        )
    except (MCPError, ValueError) as error:
        logger.warning("the client declares elicitation and did not answer: %s", error)
        return f"the client gave no valid answer within {ASK_LIMIT_S} s"
    return _verdict(response)


def _verdict(response: types.ElicitResult) -> str:
    """Return "yes" for a yes, else the client's answer as the rest of a sentence."""
    if response.action == "accept":
        return "yes" if (response.content or {}).get(KEY) is True else "the answer was no"
    return f"the client answered {response.action}"
