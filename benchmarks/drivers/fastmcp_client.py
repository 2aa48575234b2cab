"""fastmcp's client, which has no model: whole results, as a program gets them."""

import asyncio
import json
import sys

from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from raw import Script

setup = json.loads(sys.argv[1])


async def main() -> None:
    if setup["url"]:
        client = Client(setup["url"])
    else:
        command, *args = setup["command"]
        client = Client(StdioTransport(command, args, env=setup["env"], cwd=setup["cwd"]))
    async with client:
        tools = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in await client.list_tools()]
        script = Script(setup["api"], tools)
        while call := script.next():
            try:
                result = await client.call_tool_mcp(call["tool"], call["arguments"])
                script.saw(result.model_dump(mode="json", by_alias=True, exclude_none=True))
            except Exception as error:
                script.failed(error)


asyncio.run(main())
