"""add-mcp, which installs servers into hosts too, is the judge of our files and entries where both know a host."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import ROOT
from triptych.cli import mcp_clients
from triptych.cli.editors import json_text
from triptych.cli.machine import Machine
from triptych.cli.mcp_clients import Host

pytestmark = pytest.mark.oracle

LIBRARY = ROOT / ".oracles" / "add-mcp" / "node_modules" / "add-mcp" / "dist" / "lib.js"
SCRIPT = Path(__file__).parent / "judges" / "add_mcp.mjs"
OURS = {"gemini-cli": "gemini", "github-copilot-cli": "copilot-cli", "kilo-code": "kilo", "kiro-cli": "kiro"}
"""The hosts that have another name here."""
PLATFORMS = ("linux", "darwin", "win32")
LOCAL, REMOTE = mcp_clients.LOCAL_URL, "https://images.example.org/mcp"

OTHER_FILES = {
    ("zed", "darwin"): "Zed reads ~/.config/zed on macOS (its crates/paths/src/paths.rs)",
}
"""Where we mean another file, with the reason."""

STDIO = {
    "claude-code": {"type": "its documents have it; without it stdio is meant"},
    "vscode": {"type": "its documents have it; without it stdio is meant"},
    "codex": {
        "env_vars": "keys are named, not written",
        "required": "Codex asks its model before the tools are listed",
        "tool_timeout_sec": "the longest wait of a tool is 55 s, and 60 s is the default",
    },
    "goose": {"description": "a text for its list", "env_keys": "keys are named, not written"},
}
"""What differs in an entry that starts the server: the host, the key, the reason."""

HTTP = {
    "codex": {"type": "its documents have none", "tool_timeout_sec": "as above"},
    "gemini": {"url": "httpUrl was tried with 0.61.0", "httpUrl": "as beside", "type": "httpUrl needs none"},
    "goose": {"description": "a text for its list"},
}
"""What differs in an entry for a running server on this machine."""

TOKEN = {
    "codex": {"http_headers": "the variable is named", "bearer_token_env_var": "as beside"},
    "goose": {"env_keys": "Goose replaces names that stand here"},
    "kimi-code": {"headers": "the variable is named", "bearerTokenEnvVar": "as beside"},
    "pi": {"headers": "the variable is named", "bearerTokenEnv": "as beside", "auth": "as beside"},
}
"""What differs besides when a token is needed."""


@pytest.fixture(scope="module")
def judge() -> Path:
    if not LIBRARY.is_file() or not shutil.which("node"):
        pytest.skip("add-mcp is not installed; run scripts/oracles (it needs npm)")
    return LIBRARY


def judged(judge: Path, platform: str, home: Path, wanted: list[dict[str, Any]]) -> dict[str, Any]:
    (home / "project").mkdir(parents=True, exist_ok=True)
    command = ["node", str(SCRIPT), judge.as_uri(), platform, str(home / "project")]
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "APPDATA": str(home / "AppData" / "Roaming")}
    done = subprocess.run(
        command, input=json.dumps(wanted), env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def known(judge: Path, tmp_path: Path) -> dict[str, Host]:
    names = judged(judge, "linux", tmp_path / "names", [])["agents"]
    return {name: mcp_clients.hosts()[OURS.get(name, name)] for name in names}


def servers(host: Host, text: str) -> Mapping[str, Any]:
    read = {"json": json_text.read, "toml": tomllib.loads, "yaml": yaml.safe_load}[host.format]
    found: Mapping[str, Any] = read(text)
    for key in host.servers:
        found = found[key]
    return found


def differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> set[str]:
    """Return the keys with another value; we leave out an empty map."""
    return {key for key in ours.keys() | theirs.keys() if (ours.get(key) or {}) != (theirs.get(key) or {})}


def test_we_know_each_host_that_the_judge_knows(judge: Path, tmp_path: Path) -> None:
    assert len(known(judge, tmp_path)) == 22


@pytest.mark.parametrize("platform", PLATFORMS)
def test_each_file_lies_where_the_judge_writes_it(platform: str, judge: Path, tmp_path: Path) -> None:
    hosts = known(judge, tmp_path)
    where = Machine(platform, {}, tmp_path, tmp_path / "project")
    wanted = [
        {"agent": name, "local": local, "config": {"command": "x", "args": []}}
        for name, host in hosts.items()
        for local in ([False, True] if host.project else [False])
    ]
    for told in judged(judge, platform, tmp_path, wanted)["written"]:
        host = hosts[told["agent"]]
        same = told["path"] == str(host.path(where, project=told["local"]))
        assert same is (told["local"] or (host.name, platform) not in OTHER_FILES), told


@pytest.mark.parametrize("kind", ["stdio", "local", "remote"])
@pytest.mark.parametrize("project", [False, True])
def test_each_entry_is_the_judges_but_for_what_is_meant(kind: str, project: bool, judge: Path, tmp_path: Path) -> None:
    hosts = {name: host for name, host in known(judge, tmp_path).items() if host.project or not project}
    where = Machine("linux", {"TRIPTYCH_BUDGET_USD": "2.5"}, tmp_path, tmp_path / "project")
    wanted, ours = [], {}
    for name, host in hosts.items():
        if kind == "stdio":
            entry = mcp_clients.stdio_entry(host, ["/opt/triptych", "--one"], where, project=project)
            config = {"command": "/opt/triptych", "args": ["--one"], "env": entry.get(host.env_key, {})}
        elif host.http:
            url = LOCAL if kind == "local" else REMOTE
            entry = mcp_clients.http_entry(host, url, where, project=project)
            config = {"type": "http", "url": url} | ({"headers": entry["headers"]} if "headers" in entry else {})
            if kind == "remote" and "headers" not in entry:
                config |= {"bearerTokenEnv": mcp_clients.TOKEN} if name == "fx" else {"headers": {"Authorization": "x"}}
        else:
            continue
        ours[name] = mcp_clients.edited(host, "", entry)
        wanted.append({"agent": name, "local": project, "config": config})
    for told in judged(judge, "linux", tmp_path, wanted)["written"]:
        host = hosts[told["agent"]]
        meant = STDIO.get(host.name, {}) if kind == "stdio" else HTTP.get(host.name, {})
        meant = meant | (TOKEN.get(host.name, {}) if kind == "remote" else {})
        mine, theirs = servers(host, ours[told["agent"]]), servers(host, told["text"])
        assert mine.keys() == theirs.keys() == {"triptych"}
        found = differing(mine["triptych"], theirs["triptych"])
        assert found == meant.keys(), (host.name, mine, theirs)
