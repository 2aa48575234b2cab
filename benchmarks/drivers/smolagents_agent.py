"""smolagents with OpenAI's chat completions as its model. Argument: code (CodeAgent) or tools (ToolCallingAgent)."""

import json
import sys
from typing import Any

from mcp import StdioServerParameters
from smolagents import CodeAgent, MCPClient, OpenAIModel, ToolCallingAgent

setup = json.loads(sys.argv[1])


def server() -> Any:
    if setup["url"]:
        return {"url": setup["url"], "transport": "streamable-http"}
    command, *args = setup["command"]
    return StdioServerParameters(command=command, args=args, env=setup["env"], cwd=setup["cwd"])


with MCPClient(server()) as tools:
    model = OpenAIModel("scripted", api_base=f"{setup['api']}/openai", api_key="none")
    kind = CodeAgent if sys.argv[2] == "code" else ToolCallingAgent
    print(kind(tools=tools, model=model, max_steps=60, verbosity_level=0).run("Begin."))
