"""The confirmation before a costly job, asked of the user by the client's protocol era.

Rules: a user who can be asked is asked, whatever the arguments are. Nothing is reserved, stored or sent before the yes.
A yes is valid only for the price that was shown: a higher quote is asked about again, or refused. Anything but a yes
ends the call, and the refusal names no amount to repeat it with. A host without a user answers no by itself; there the
setting TRIPTYCH_CONFIRM_USD is the way to allow costly jobs.
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
"""Below the 300 s after which some hosts give up a call."""
KEY = "pay"

Run = Callable[[Decimal | None], Awaitable[types.CallToolResult]]
"""Runs the call with the cost that the user agreed to, None without a confirmation."""


async def confirmed(
    ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams, run: Run
) -> types.CallToolResult | types.InputRequiredResult:
    """Run a call. If it needs a confirmation, ask for it and run the call again with the agreed cost.

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
            return tools.refusal(errors.OverBudget(f"Not confirmed: {response}. {error}"))
        agreed_usd = error.confirm_usd
    try:
        return await run(agreed_usd)
    except errors.OverBudget as error:
        return tools.refusal(errors.OverBudget(f"The quote has grown since the user was asked. {error}"))


async def _ask(
    ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams, error: errors.OverBudget
) -> str | types.InputRequiredResult:
    """Return the user's answer, or the request that asks the client to repeat the call with the answer."""
    request = _question(error)
    if ctx.session.protocol_version in MODERN_PROTOCOL_VERSIONS:
        response = (params.input_responses or {}).get(KEY)
        if isinstance(response, types.ElicitResult) and params.request_state == error.question:
            return _verdict(response)
        return types.InputRequiredResult(input_requests={KEY: request}, request_state=error.question)
    return await _elicit(ctx, request)


def can_ask(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Return whether the client declares forms and can be reached for a question.

    Early clients declared forms as `elicitation: {}`.
    """
    capabilities = ctx.session.client_capabilities
    declared = capabilities.elicitation if capabilities else None
    if declared is None or (declared.form is None and declared.url is not None):
        return False
    return ctx.session.protocol_version in MODERN_PROTOCOL_VERSIONS or ctx.session.can_send_request


def _question(error: errors.OverBudget) -> types.ElicitRequest:
    schema = {
        "type": "object",
        "properties": {KEY: {"type": "boolean", "title": "Pay for it", "description": "Yes makes the job and pays."}},
        "required": [KEY],
    }
    return types.ElicitRequest(
        params=types.ElicitRequestFormParams(message=f"{error.question} Go on?", requested_schema=schema)
    )


async def _elicit(ctx: ServerRequestContext[Any, Any], request: types.ElicitRequest) -> str:
    """Ask a client of an earlier era, on the stream of its own call, for at most `ASK_LIMIT_S`."""
    try:
        response = await ctx.session.send_request(
            request, types.ElicitResult, ASK_LIMIT_S, ServerMessageMetadata(related_request_id=ctx.request_id)
        )
    except (MCPError, ValueError) as error:
        logger.warning("the client declares elicitation and did not answer: %s", error)
        return f"no usable answer came within {ASK_LIMIT_S} s"
    return _verdict(response)


def _verdict(response: types.ElicitResult) -> str:
    """Return "yes" for a yes, else a clause that says what the client answered."""
    if response.action == "accept":
        return "yes" if (response.content or {}).get(KEY) is True else "the answer was no"
    return f"the client answered {response.action}"
