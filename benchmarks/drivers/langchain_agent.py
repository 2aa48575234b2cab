"""langchain-mcp-adapters: LangChain's agent with Anthropic's messages as its model."""

import asyncio
import json
import sys

from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_mcp_adapters.client import MultiServerMCPClient

setup = json.loads(sys.argv[1])


async def main() -> None:
    if setup["url"]:
        connection = {"transport": "streamable_http", "url": setup["url"]}
    else:
        command, *args = setup["command"]
        connection = {"transport": "stdio", "command": command, "args": args, "env": setup["env"], "cwd": setup["cwd"]}
    tools = await MultiServerMCPClient({"triptych": connection}).get_tools()
    model = ChatAnthropic(model="claude-sonnet-4-5", base_url=f"{setup['api']}/anthropic", api_key="none")
    agent = create_agent(model, tools)
    begin = {"messages": [{"role": "user", "content": "Begin."}]}
    answer = await agent.ainvoke(begin, {"recursion_limit": 200})
    print(answer["messages"][-1].content)


asyncio.run(main())
