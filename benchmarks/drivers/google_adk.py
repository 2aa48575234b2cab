"""google-adk: an agent with Gemini as its model. An argument is the limit of a call in seconds."""

import asyncio
import json
import sys
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.models import Gemini
from google.adk.runners import InMemoryRunner
from google.adk.tools.mcp_tool import McpToolset, StdioConnectionParams, StreamableHTTPConnectionParams
from google.genai.types import Content, Part
from mcp import StdioServerParameters

setup = json.loads(sys.argv[1])


def connection(**limits: Any) -> Any:
    if setup["url"]:
        return StreamableHTTPConnectionParams(url=setup["url"], **limits)
    command, *args = setup["command"]
    server = StdioServerParameters(command=command, args=args, env=setup["env"], cwd=setup["cwd"])
    return StdioConnectionParams(server_params=server, **limits)


async def main() -> None:
    limits = {"timeout": float(sys.argv[2])} if len(sys.argv) > 2 else {}
    toolset = McpToolset(connection_params=connection(**limits))
    options = {"api_key": "none", "http_options": {"base_url": f"{setup['api']}/gemini"}}
    model = Gemini(model="gemini-3-pro", client_kwargs=options)
    runner = InMemoryRunner(LlmAgent(name="assistant", model=model, tools=[toolset]), app_name="clients")
    session = await runner.session_service.create_session(app_name="clients", user_id="user")
    begin = Content(role="user", parts=[Part(text="Begin.")])
    async for event in runner.run_async(user_id="user", session_id=session.id, new_message=begin):
        if event.error_message:
            print(f"Error: {event.error_code}: {event.error_message}")
    await toolset.close()


asyncio.run(main())
