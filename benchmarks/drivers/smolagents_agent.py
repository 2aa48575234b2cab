"""smolagents: an agent that calls tools, with OpenAI's chat completions as its model."""

import json
import sys
from typing import Any

from mcp import StdioServerParameters
from smolagents import MCPClient, OpenAIModel, ToolCallingAgent

setup = json.loads(sys.argv[1])


def server() -> Any:
    if setup["url"]:
        return {"url": setup["url"], "transport": "streamable-http"}
    command, *args = setup["command"]
    return StdioServerParameters(command=command, args=args, env=setup["env"], cwd=setup["cwd"])


structured = {"structured_output": True} if "structured" in sys.argv[2:] else {}
with MCPClient(server(), **structured) as tools:
    model = OpenAIModel("scripted", api_base=f"{setup['api']}/openai", api_key="none")
    agent = ToolCallingAgent(tools=tools, model=model, max_steps=60, verbosity_level=0)
    print(agent.run("Begin."))
