"""mcp-use: its agent, which is LangChain's, with Anthropic's messages as its model."""

import asyncio
import json
import sys

from langchain_anthropic import ChatAnthropic
from mcp_use import MCPAgent, MCPClient

setup = json.loads(sys.argv[1])


async def main() -> None:
    if setup["url"]:
        server = {"url": setup["url"]}
    else:
        command, *args = setup["command"]
        server = {"command": command, "args": args, "env": setup["env"], "cwd": setup["cwd"]}
    client = MCPClient.from_dict({"mcpServers": {"triptych": server}})
    model = ChatAnthropic(model="claude-sonnet-4-5", base_url=f"{setup['api']}/anthropic", api_key="none")
    agent = MCPAgent(llm=model, client=client, max_steps=60)
    try:
        print(await agent.run("Begin."))
    finally:
        await client.close_all_sessions()


asyncio.run(main())
