"""Record what real clients send to Triptych over stdio, into `tests/support/conversations/`.

    python -m benchmarks.record [NAME …]

Each client of `benchmarks.client_list` does its whole work at the emulator; `work.mjs` uses every kind of request; the
Inspector makes one list per start; Claude Code checks its servers. The conformance suite speaks HTTP alone: the bodies
of its requests are kept, once each, without the openings between them. Folders, session ids and times of this machine
are replaced.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import client_list, clients
from triptych.providers import preview

ROOT = Path(__file__).parents[1]
TEE = Path(__file__).with_name("tee.py")
CONVERSATIONS = ROOT / "tests/support/conversations"
ORACLES = ROOT / ".oracles"
JUDGES = ORACLES / "judges"
INSPECTOR = JUDGES / "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"
WORK = ROOT / "tests/conformance/judges/work.mjs"
SAMPLE = Path(preview.__file__).parents[2] / "samples/cat.jpg"
SERVER = [sys.executable, "-m", "triptych"]
DRIVEN = ("claude-code", "codex", "gemini-cli", "opencode", "fastmcp", "typescript", "typescript, legacy")
LISTS = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")
SUITES = {
    "2025-11-25": ("conformance", "--requirements", "2025-11-25"),
    "2026-07-28": ("conformance", "--requirements", "2026-07-28"),
    "stable": ("conformance-stable", "--suite", "all"),
}
HTTP = """
import json, os, sys
from triptych import settings
from triptych.server import http, transports

real = http.http_app

def http_app(*given, **named):
    app = real(*given, **named)

    async def logged(scope, receive, send):
        async def heard():
            event = await receive()
            if event["type"] == "http.request" and event["body"]:
                with open(sys.argv[1], "ab") as said:
                    said.write(event["body"] + b"\\n")
            return event
        await app(scope, heard, send)

    return logged

http.http_app = http_app
transports.serve(settings.read(os.environ, remote=True), "http", "127.0.0.1", 0)
"""

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def tee(folder: Path) -> list[str]:
    """Return the command of a server whose client is recorded."""
    folder.mkdir(parents=True, exist_ok=True)
    return [sys.executable, str(TEE), str(folder), *SERVER]


def driven(name: str, folder: Path) -> None:
    """Let a client do its whole work."""
    client = next(client for client in client_list.CLIENTS if client.name == name)
    client_list.installed(client)
    clients.COMMAND, clients.LATENCY_S = tee(folder), 1.0
    outcome = clients.drive(client, "stdio")
    assert outcome.finished, outcome.trouble


def environ(home: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TEMP") if name in os.environ}
    return kept | {
        "HOME": str(home),
        "USERPROFILE": str(home),
        "CLAUDE_CONFIG_DIR": str(home),
        "TRIPTYCH_HOME": str(home / "data"),
        "TRIPTYCH_ALLOWED_DIRS": str(SAMPLE.parent),
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }


def run(home: Path, *command: str | Path) -> None:
    subprocess.run(command, env=environ(home), cwd=home, stdin=subprocess.DEVNULL, check=True, timeout=180)


def worked(client: str, era: str) -> Callable[[Path], None]:
    """Return what lets a TypeScript client make every kind of request."""

    def record(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as home:
            server = json.dumps(tee(folder))
            run(Path(home), client_list.node(), WORK, client, era, "stdio", server, str(JUDGES), str(SAMPLE))

    return record


def inspected(folder: Path) -> None:
    """Let the Inspector make each list."""
    with tempfile.TemporaryDirectory() as home:
        for method in LISTS:
            run(Path(home), client_list.node(), INSPECTOR, "--cli", *tee(folder), "--method", method)


def checked(folder: Path) -> None:
    """Let Claude Code check its servers."""
    (program,) = (ORACLES / "claude/node_modules/@anthropic-ai").glob("claude-code-*/claude")
    with tempfile.TemporaryDirectory() as home:
        run(Path(home), program, "mcp", "add", "-s", "user", "triptych", "--", *tee(folder))
        run(Path(home), program, "mcp", "list")


def conform(suite: str) -> Callable[[Path], None]:
    """Return what lets the conformance suite run over HTTP, and keeps each of its messages once."""

    def record(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        package, *told = SUITES[suite]
        program = ORACLES / package / "node_modules/@modelcontextprotocol/conformance/dist/index.js"
        with tempfile.TemporaryDirectory() as home:
            said = Path(home) / "said"
            command = [sys.executable, "-c", HTTP, str(said)]
            with subprocess.Popen(command, env=environ(Path(home)), stderr=subprocess.PIPE, text=True) as server:
                assert server.stderr
                url = server.stderr.readline().split()[-1]
                client = [client_list.node(), str(program), "server", "--url", url, "--output-dir", home]
                subprocess.run([*client, *told], check=False, timeout=180, stdout=subprocess.DEVNULL)
                server.terminate()
                server.stderr.read()
            (folder / "00.jsonl").write_text("".join(f"{line}\n" for line in once(said.read_text("utf-8"))), "utf-8")

    return record


def once(said: str) -> Iterator[str]:
    """Yield each message once, whatever its id; each id is then a new one, and of the openings the first stays."""
    seen: set[str] = set()
    for line in said.splitlines():
        message: Any = json.loads(line)
        key = json.dumps(message | {"id": 0} if isinstance(message, dict) else message)
        opening = isinstance(message, dict) and message.get("method") in ("initialize", "notifications/initialized")
        if key in seen or (opening and str(message["method"]) in seen):
            continue
        seen |= {key, str(message["method"])} if opening else {key}
        if isinstance(message, dict) and isinstance(message.get("id"), int):
            yield re.sub(r'"id":\d+', f'"id":{len(seen)}', line)
        else:
            yield line


def cleaned(text: str) -> str:
    """Replace what only this machine and this day know."""
    text = re.sub(r"/[^\"]*?/work(/photo\.jpg|/saved|(?=\"))", r"/pictures\1", text)
    text = text.replace(str(SAMPLE.parent), "/pictures")
    text = UUID.sub("00000000-0000-4000-8000-000000000000", text)
    return re.sub(r"(_unix_ms\":)\d+", r"\g<1>1700000000000", text)


RECORDINGS: dict[str, Callable[[Path], None]] = {
    **{name.replace(", ", "-"): lambda folder, name=name: driven(name, folder) for name in DRIVEN},  # type: ignore[misc]
    "typescript-work-auto": worked("modern", "auto"),
    "typescript-work-legacy": worked("modern", "legacy"),
    "typescript-work-classic": worked("classic", "legacy"),
    "inspector": inspected,
    "claude-code-check": checked,
    **{f"conformance-{suite}": conform(suite) for suite in SUITES},
}


def main() -> None:
    for name in sys.argv[1:] or RECORDINGS:
        with tempfile.TemporaryDirectory() as folder:
            RECORDINGS[name](Path(folder))
            starts = sorted(path for path in Path(folder).glob("*.jsonl") if not path.name.endswith(".answers.jsonl"))
            for number, path in enumerate(starts, 1):
                suffix = f"-{number}" if len(starts) > 1 else ""
                kept = CONVERSATIONS / f"{name}{suffix}.jsonl"
                kept.write_text(cleaned(path.read_text("utf-8")), "utf-8", newline="\n")
            print(f"{name}: {len(starts)}")


if __name__ == "__main__":
    main()
