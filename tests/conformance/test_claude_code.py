"""Claude Code itself finds and starts Triptych: by its own command, by `triptych install`
and as a plugin. It needs no login for that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support import ROOT
from triptych.server.skills import skills

PROGRAM = next(
    (
        path
        for path in (ROOT / ".oracles/claude/node_modules/@anthropic-ai").glob("claude-code-*/claude*")
        if path.is_file()
    ),
    None,
)

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="needs Claude Code: run ./scripts/oracles --all"),
]

Claude = Callable[..., str]


def environ(home: Path) -> dict[str, str]:
    """An environment in which Claude Code and Triptych are new, and `triptych` is on the PATH."""
    scripts = str(Path(sys.executable).parent)
    kept = {name: os.environ[name] for name in ("SYSTEMROOT", "TEMP", "APPDATA") if name in os.environ}
    return kept | {
        "PATH": os.pathsep.join([scripts, os.environ["PATH"]]),
        "HOME": str(home),
        "USERPROFILE": str(home),
        "CLAUDE_CONFIG_DIR": str(home),
        "TRIPTYCH_HOME": str(home / "data"),
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "project").mkdir()
    return tmp_path / "home"


@pytest.fixture
def claude(home: Path) -> Claude:
    def run(*args: str) -> str:
        return finished([str(PROGRAM), *args], home)

    return run


def finished(command: list[str], home: Path) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=home.parent / "project",
        env=environ(home),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install(home: Path, *args: str) -> None:
    finished([sys.executable, "-m", "triptych", "install", "claude-code", "--yes", *args], home)


def test_added_by_its_own_command_it_is_connected(claude: Claude) -> None:
    page = (ROOT / "docs" / "install.md").read_text("utf-8")
    assert "`claude mcp add -s user triptych -- triptych`" in page
    claude("mcp", "add", "-s", "user", "triptych", "--", "triptych")
    assert "triptych: triptych  - ✔ Connected" in claude("mcp", "list")


def test_installed_for_the_user_it_connects_and_keeps_other_entries(claude: Claude, home: Path) -> None:
    claude("mcp", "add", "-s", "user", "other", "--", "no-such-program")
    install(home)
    listed = claude("mcp", "list")
    assert "triptych  - ✔ Connected" in listed and "other: no-such-program" in listed
    assert "Scope: User config" in claude("mcp", "get", "triptych")


def test_installed_for_a_project_it_connects_once_that_is_trusted(claude: Claude, home: Path) -> None:
    install(home, "--project")
    assert "Pending approval" in claude("mcp", "list")
    (home / "settings.json").write_text(json.dumps({"enableAllProjectMcpServers": True}), "utf-8")
    assert "triptych  - ✔ Connected" in claude("mcp", "list")
    assert "ATLASCLOUD_API_KEY=${ATLASCLOUD_API_KEY}" in claude("mcp", "get", "triptych")


def test_as_a_plugin_of_its_marketplace_it_connects(claude: Claude) -> None:
    for path in (ROOT, ROOT / "plugin"):
        assert "Validation passed" in claude("plugin", "validate", "--strict", str(path))
    claude("plugin", "marketplace", "add", str(ROOT))
    claude("plugin", "install", "triptych@triptych")
    assert "plugin:triptych:triptych: triptych  - ✔ Connected" in claude("mcp", "list")
    assert f"Skills ({len(skills())})  {', '.join(skills())}\n" in claude("plugin", "details", "triptych@triptych")
