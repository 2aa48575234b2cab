"""pydantic-ai: an agent with OpenAI's chat completions as its model."""

import asyncio
import json
import sys

from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset, StdioTransport
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

setup = json.loads(sys.argv[1])


async def main() -> None:
    if setup["url"]:
        toolset = MCPToolset(setup["url"])
    else:
        command, *args = setup["command"]
        toolset = MCPToolset(StdioTransport(command, args, env=setup["env"], cwd=setup["cwd"]))
    provider = OpenAIProvider(base_url=f"{setup['api']}/openai", api_key="none")
    agent = Agent(OpenAIChatModel("scripted", provider=provider), toolsets=[toolset])
    async with agent:
        print((await agent.run("Begin.")).output)


asyncio.run(main())
