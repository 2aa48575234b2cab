"""Clients of other authors: the MCP Inspector and both TypeScript clients, over every transport."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import ROOT
from support.servers import SAMPLES, SERVE, Child, environ
from triptych.server.prompts import PROMPTS
from triptych.server.skills import skills
from triptych.server.tools import TOOLS

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

CLIENTS = ROOT / ".oracles" / "judges"
INSPECTOR = CLIENTS / "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"
WORK = Path(__file__).parent / "judges" / "work.mjs"
STDIO = (sys.executable, "-m", "triptych")


@pytest.fixture(scope="module")
def clients(node: str) -> str:
    """The Node that runs the clients, once they are installed."""
    if not (CLIENTS / "node_modules").is_dir():
        pytest.skip("the TypeScript clients are not installed; run scripts/oracles (it needs npm)")
    return node


@pytest.fixture(scope="module", params=["stdio", "http", "sse"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """A transport, and where the server is on it: a command or a URL."""
    if request.param == "stdio":
        yield "stdio", list(STDIO)
        return
    server = Child("-c", SERVE, request.param, env=environ(tmp_path_factory.mktemp(request.param)))
    try:
        yield request.param, [server.url()]
    finally:
        assert server.end() == 0, "".join(server.said)


def run(*command: str, env: dict[str, str]) -> tuple[Any, str]:
    """Return the JSON on stdout, and what was said on stderr."""
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120, check=False, env=env)
    assert done.returncode == 0, done.stderr[-2000:] or done.stdout[-2000:]
    return json.loads(done.stdout), done.stderr


def inspect(node: str, home: Path, *arguments: str) -> tuple[Any, str]:
    return run(node, str(INSPECTOR), "--cli", *arguments, env=environ(home, HOME=str(home)))


def test_the_inspector_warns_only_of_null_in_results(
    clients: str, tmp_path: Path, served: tuple[str, list[str]]
) -> None:
    listed, said = inspect(clients, tmp_path, *served[1], "--method", "tools/list", "--strict")
    assert [tool["name"] for tool in listed["tools"]] == list(TOOLS)
    paths = re.findall(r"^ +Path: (.+)$", said, re.MULTILINE)
    issues = re.findall(r"^ +Issue: (.+)$", said, re.MULTILINE)
    assert f"0 errors, {len(issues)} warnings" in said and len(paths) == len(issues)
    assert all(path.startswith("outputSchema.") for path in paths), "what a model fills in is portable"
    assert all(re.match(r'`type` is an array \(\["\w+","null"\]\)', issue) for issue in issues)


def links(served: tuple[str, list[str]]) -> set[str]:
    """Return the kinds of blocks after the text: over HTTP an image has a URL, over stdio only its file."""
    return set() if served[0] == "stdio" else {"resource_link"}


def test_the_inspector_calls_a_tool(clients: str, tmp_path: Path, served: tuple[str, list[str]]) -> None:
    call = ("--method", "tools/call", "--tool-name", "generate_sequence", "--tool-arg")
    result, _ = inspect(clients, tmp_path, *served[1], *call, "prompt=a boat at sunset", "count=2", "again=true")
    assert result["structuredContent"]["status"] == "done"
    assert {block["type"] for block in result["content"][1:]} == links(served), "files of this machine get no links"


@pytest.mark.parametrize(("client", "era"), [("modern", "auto"), ("modern", "legacy"), ("classic", "legacy")])
def test_a_typescript_client_does_a_hosts_work(
    clients: str, tmp_path: Path, served: tuple[str, list[str]], client: str, era: str
) -> None:
    transport, where = served
    there = json.dumps(where) if transport == "stdio" else where[0]
    image = str(SAMPLES / "cat.jpg")
    seen, _ = run(clients, str(WORK), client, era, transport, there, str(CLIENTS), image, env=environ(tmp_path))

    if client == "modern":
        assert seen["version"] == ("2026-07-28" if era == "auto" else "2025-11-25")
    assert seen["server"]["name"] == "triptych" and seen["tools"] == list(TOOLS)

    job = seen["edited"]["structuredContent"]
    assert (job["status"], job["returned"], job["images"][0]["source"]) == ("done", 2, [seen["handle"]])
    assert {block["type"] for block in seen["edited"]["content"][1:]} == links(served)
    assert seen["progress"][0] == [0, 2], "the client may lose the last report, which comes just before the answer"
    assert seen["status"]["structuredContent"]["images"] == job["images"]
    assert seen["updated"] == ["triptych://jobs"]

    assert seen["refused"]["isError"] and "img_00000000" in seen["refused"]["content"][0]["text"]
    assert seen["unknown"]["code"] == seen["missing"]["code"] == -32602
    assert "edit_sequence" in seen["unknown"]["message"]

    assert {"triptych://jobs", "triptych://models", *(i["uri"] for i in job["images"])} <= set(seen["resources"])
    assert seen["templates"] == ["triptych://jobs/{id}", "triptych://images/{handle}", "triptych://looks/{name}"]
    assert json.loads(seen["job"]["contents"][0]["text"])["job_id"] == job["job_id"]
    preview = seen["preview"]["contents"][0]
    assert preview["mimeType"] == "image/jpeg" and preview["_meta"]["handle"] == job["images"][0]["handle"]

    assert seen["prompts"] == list(PROMPTS)
    assert seen["skills"] == (dict.fromkeys(skills(), True) if (client, era) == ("modern", "auto") else {})
    assert seen["handle"] in seen["prompt"]["messages"][0]["content"]["text"]
    assert {image["handle"] for image in job["images"]} <= set(seen["completed"]["completion"]["values"])
