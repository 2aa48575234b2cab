"""llama-index-tools-mcp: a function agent with OpenAI's chat completions as its model."""

import asyncio
import json
import sys

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.openai import OpenAI
from llama_index.tools.mcp import BasicMCPClient, McpToolSpec

setup = json.loads(sys.argv[1])


async def main() -> None:
    if setup["url"]:
        client = BasicMCPClient(setup["url"])
    else:
        command, *args = setup["command"]
        client = BasicMCPClient(command, args=args, env=setup["env"])
    tools = await McpToolSpec(client=client).to_tool_list_async()
    # The name only has to be one that the library knows.
    llm = OpenAI(model="gpt-4o", api_base=f"{setup['api']}/openai", api_key="none", max_retries=0)
    agent = FunctionAgent(tools=tools, llm=llm, streaming=False, timeout=None)
    print(await agent.run("Begin.", max_iterations=60))


asyncio.run(main())
