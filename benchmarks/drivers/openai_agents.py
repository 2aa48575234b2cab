"""openai-agents: an agent with OpenAI's responses as its model. An argument is the limit of a call in seconds."""

import asyncio
import json
import sys
from typing import Any

from agents import Agent, Runner, set_default_openai_client, set_tracing_disabled
from agents.mcp import MCPServerStdio, MCPServerStreamableHttp
from openai import AsyncOpenAI

setup = json.loads(sys.argv[1])


def server(**limits: Any) -> Any:
    if setup["url"]:
        return MCPServerStreamableHttp(params={"url": setup["url"]}, **limits)
    command, *args = setup["command"]
    params = {"command": command, "args": args, "env": setup["env"], "cwd": setup["cwd"]}
    return MCPServerStdio(params=params, **limits)


async def main() -> None:
    set_tracing_disabled(True)
    set_default_openai_client(AsyncOpenAI(base_url=f"{setup['api']}/openai", api_key="none"))
    limits = {"client_session_timeout_seconds": float(sys.argv[2])} if len(sys.argv) > 2 else {}
    async with server(**limits) as triptych:
        agent = Agent(name="assistant", model="scripted", mcp_servers=[triptych])
        print((await Runner.run(agent, "Begin.", max_turns=60)).final_output)


asyncio.run(main())
