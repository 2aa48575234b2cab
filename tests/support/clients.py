"""Official clients, run as child processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from mcp import ClientSession, StdioServerParameters, stdio_client
from mcp.client.sse import sse_client

AUTH = {"Authorization": "Bearer test-key"}


def lines_through(command: Sequence[str | Path], lines: Sequence[Any]) -> list[Any]:
    """Return the JSON lines that a child process makes of these; it has to end well."""
    told = "\n".join(json.dumps(line) for line in lines)
    done = subprocess.run(command, input=told, text=True, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


CallTool = Callable[..., Coroutine[Any, Any, str]]


def drive_node_mcp(
    client: Path, loader: Path, env: Mapping[str, str], body: Callable[[CallTool], Coroutine[Any, Any, None]]
) -> None:
    """Run `body` with a function that calls a tool of an MCP server under Node and returns its text."""
    server = StdioServerParameters(command="node", args=["--import", loader.as_uri(), str(client)], env=dict(env))

    async def session(quiet: Any) -> None:
        async with AsyncExitStack() as stack:
            streams = await stack.enter_async_context(stdio_client(server, errlog=quiet))
            session = await stack.enter_async_context(ClientSession(*streams))
            await session.initialize()

            async def call(tool: str, **arguments: Any) -> str:
                result = await session.call_tool(tool, arguments)
                return "\n".join(getattr(block, "text", "") for block in result.content)

            await body(call)

    with Path(os.devnull).open("w") as quiet:
        anyio.run(session, quiet)


def only(pattern: str, text: str) -> str:
    """Return the group of a pattern that has to be in a text."""
    found = re.search(pattern, text)
    assert found, text
    return found[1]


@asynccontextmanager
async def sse(url: str, **options: Any) -> AsyncIterator[Any]:
    """The SDK's client for SSE. It fails (in 2.3.0) if a message arrives while it is closed, which means nothing."""
    is_closing = False
    try:
        async with sse_client(url, **options) as streams:
            yield streams
            is_closing = True
    except* anyio.BrokenResourceError:
        if not is_closing:
            raise
