"""`triptych install`: the right file on every platform, nothing else in it touched, nothing written unseen, no key."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from triptych import __version__, errors, providers
from triptych.cli import cli, hosts, install, splice
from triptych.cli.hosts import HOSTS, Machine
from triptych.cli.screen import Screen
from triptych.cli.words import Exit

KEY = "sk-never-to-be-written-1234567890"
JSON_HOSTS = [name for name in HOSTS if name != "codex"]
OVER_HTTP = [name for name in HOSTS if name != "claude-desktop"]
PROJECT_HOSTS = [name for name, host in HOSTS.items() if host.project]


def machine(home: Path, platform: str = "linux", **environ: str) -> Machine:
    return Machine(platform, environ, home, home / "project")


def put(host: str, where: Machine, *, scope: install.Scope = "user", url: str | None = None, yes: bool = True) -> Exit:
    return install.put_in(Screen(False), HOSTS[host], scope, where, url=url, show_only=False, yes=yes)


def server(host: str, text: str) -> dict[str, Any]:
    document = tomllib.loads(text) if host == "codex" else splice.read_json(text)
    entry: dict[str, Any] = document[HOSTS[host].servers]["triptych"]
    return entry


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# -- where


@pytest.mark.parametrize(
    ("host", "platform", "environ", "expected"),
    [
        ("claude-code", "linux", {}, ".claude.json"),
        ("claude-code", "darwin", {"CLAUDE_CONFIG_DIR": "HOME/other"}, "other/.claude.json"),
        ("cursor", "win32", {}, ".cursor/mcp.json"),
        ("vscode", "linux", {}, ".config/Code/User/mcp.json"),
        ("vscode", "linux", {"XDG_CONFIG_HOME": "HOME/xdg"}, "xdg/Code/User/mcp.json"),
        ("vscode", "darwin", {}, "Library/Application Support/Code/User/mcp.json"),
        ("vscode", "win32", {"APPDATA": "HOME/Roaming"}, "Roaming/Code/User/mcp.json"),
        ("codex", "linux", {}, ".codex/config.toml"),
        ("codex", "win32", {"CODEX_HOME": "HOME/codex"}, "codex/config.toml"),
        ("claude-desktop", "darwin", {}, "Library/Application Support/Claude/claude_desktop_config.json"),
        ("claude-desktop", "win32", {}, "AppData/Roaming/Claude/claude_desktop_config.json"),
        ("claude-desktop", "linux", {}, ".config/Claude/claude_desktop_config.json"),
        ("gemini", "win32", {}, ".gemini/settings.json"),
        ("windsurf", "darwin", {}, ".codeium/windsurf/mcp_config.json"),
    ],
)
def test_every_host_finds_it_where_it_looks_on_every_platform(
    host: str, platform: str, environ: dict[str, str], expected: str, tmp_path: Path
) -> None:
    told = {name: value.replace("HOME", str(tmp_path)) for name, value in environ.items()}
    assert put(host, machine(tmp_path, platform, **told)) == Exit.DONE
    assert files(tmp_path) == [expected]
    assert server(host, (tmp_path / expected).read_text("utf-8"))["command"]


def test_a_packaged_claude_desktop_on_windows_reads_its_private_copy(tmp_path: Path) -> None:
    private = tmp_path / "AppData/Local/Packages/Claude_pzs8sxrjxfjjc/LocalCache/Roaming/Claude"
    private.mkdir(parents=True)
    put("claude-desktop", machine(tmp_path, "win32"))
    assert [path.name for path in private.iterdir()] == ["claude_desktop_config.json"]
    assert not (tmp_path / "AppData/Roaming").exists()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("claude-code", ".mcp.json"),
        ("cursor", ".cursor/mcp.json"),
        ("vscode", ".vscode/mcp.json"),
        ("codex", ".codex/config.toml"),
        ("gemini", ".gemini/settings.json"),
    ],
)
def test_for_a_project_it_goes_into_the_project(host: str, expected: str, tmp_path: Path) -> None:
    put(host, machine(tmp_path), scope="project")
    assert files(tmp_path) == [f"project/{expected}"]


@pytest.mark.parametrize("host", sorted(set(HOSTS) - set(PROJECT_HOSTS)))
def test_a_host_without_project_files_says_so(host: str, tmp_path: Path) -> None:
    with pytest.raises(errors.BadRequest, match="leave --project out"):
        put(host, machine(tmp_path), scope="project")


# -- what


REFERENCES = {
    "claude-code": "${ATLASCLOUD_API_KEY:-}",
    "cursor": "${env:ATLASCLOUD_API_KEY}",
    "vscode": "${input:triptych-atlascloud-api-key}",
    "gemini": "${ATLASCLOUD_API_KEY}",
    "windsurf": "${env:ATLASCLOUD_API_KEY}",
    "claude-desktop": "",
}


@pytest.mark.parametrize("host", HOSTS)
def test_no_key_is_written_anywhere_only_where_it_comes_from(host: str, tmp_path: Path) -> None:
    every_key = dict.fromkeys(hosts.key_variables(), KEY)
    put(host, machine(tmp_path, **every_key, TRIPTYCH_AUTH_TOKEN=KEY))
    [path] = [tmp_path / name for name in files(tmp_path)]
    text = path.read_text("utf-8")
    assert KEY not in text
    entry = server(host, text)
    if host == "codex":
        assert entry["env_vars"] == hosts.key_variables()
    else:
        assert set(every_key) <= set(entry["env"])
        assert entry["env"]["ATLASCLOUD_API_KEY"] == REFERENCES[host]


def test_only_keys_that_are_set_are_named_and_atlas_clouds_when_none_is() -> None:
    assert hosts.keys({}) == ["ATLASCLOUD_API_KEY"]
    assert hosts.keys({"RUNWARE_API_KEY": KEY, "NOVITA_API_KEY": " "}) == ["RUNWARE_API_KEY"]
    assert set(hosts.key_variables()) == {providers.load(name).key_env for name in providers.names()} - {None}


def test_a_reference_that_a_host_leaves_as_it_is_counts_as_no_key() -> None:
    from triptych import config

    for reference in REFERENCES.values():
        assert not config.read({"ATLASCLOUD_API_KEY": reference}).setup.accounts["atlas"].usable


def test_vs_code_asks_for_every_key_that_it_refers_to_and_hides_it(tmp_path: Path) -> None:
    put("vscode", machine(tmp_path, ARK_API_KEY=KEY, RUNWARE_API_KEY=KEY), scope="project")
    document = json.loads((tmp_path / "project/.vscode/mcp.json").read_text("utf-8"))
    asked = {f"${{input:{item['id']}}}" for item in document["inputs"]}
    assert asked == set(document["servers"]["triptych"]["env"].values())
    assert all(item["password"] is True and item["type"] == "promptString" for item in document["inputs"])


def test_the_budget_of_the_shell_holds_in_hosts_that_hand_on_no_environment(tmp_path: Path) -> None:
    for host in HOSTS:
        put(host, machine(tmp_path, TRIPTYCH_BUDGET_USD="2", TRIPTYCH_LOG_LEVEL="DEBUG"))
        [path] = [HOSTS[host].user(machine(tmp_path))]
        env = server(host, path.read_text("utf-8"))["env"]
        assert env["TRIPTYCH_BUDGET_USD"] == "2"
        assert "TRIPTYCH_LOG_LEVEL" not in env


@pytest.mark.parametrize("host", OVER_HTTP)
def test_a_server_over_http_is_reached_with_a_token_from_the_environment(host: str, tmp_path: Path) -> None:
    put(host, machine(tmp_path), url="https://images.example.org/mcp")
    text = HOSTS[host].user(machine(tmp_path)).read_text("utf-8")
    entry = server(host, text)
    assert entry[HOSTS[host].url_key or ""] == "https://images.example.org/mcp"
    assert "command" not in entry and "env" not in entry
    if host == "codex":
        assert entry["bearer_token_env_var"] == "TRIPTYCH_AUTH_TOKEN"
    elif host == "vscode":
        assert entry["headers"] == {"Authorization": "Bearer ${input:triptych-triptych-auth-token}"}
        assert [item["id"] for item in json.loads(text)["inputs"]] == ["triptych-triptych-auth-token"]
    else:
        assert re.fullmatch(r"Bearer \$\{(env:)?TRIPTYCH_AUTH_TOKEN(:-)?\}", entry["headers"]["Authorization"])


@pytest.mark.parametrize("host", OVER_HTTP)
def test_on_loopback_a_token_is_only_sent_when_there_is_one(host: str, tmp_path: Path) -> None:
    put(host, machine(tmp_path), url=hosts.LOCAL_URL)
    assert "TOKEN" not in HOSTS[host].user(machine(tmp_path)).read_text("utf-8").upper()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://images.example.org/mcp", "https://"),
        ("https://me:secret@images.example.org/mcp", "without a key or a password"),
        ("https://images.example.org/mcp?key=secret", "without a key or a password"),
        ("images.example.org", "must be an address"),
    ],
)
def test_an_address_that_would_give_something_away_is_refused(url: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(errors.BadRequest, match=why):
        put("cursor", machine(tmp_path), url=url)
    assert files(tmp_path) == []


def test_claude_desktop_is_told_where_http_servers_go(tmp_path: Path) -> None:
    with pytest.raises(errors.BadRequest, match="Connectors"):
        put("claude-desktop", machine(tmp_path), url=hosts.LOCAL_URL)


# -- which command


def test_the_command_is_the_script_beside_the_interpreter_by_its_absolute_path(tmp_path: Path) -> None:
    for platform, name in (("linux", "triptych"), ("win32", "triptych.exe")):
        (tmp_path / name).touch()
        assert hosts.launcher(str(tmp_path / "python"), machine(tmp_path, platform), None) == [str(tmp_path / name)]


def test_without_a_script_the_interpreter_starts_the_module(tmp_path: Path) -> None:
    python = str(tmp_path / "python")
    assert hosts.launcher(python, machine(tmp_path), None) == [python, "-m", "triptych"]


@pytest.mark.parametrize(
    ("source", "wanted"),
    [(None, f"triptych=={__version__}"), ("file:///src/triptych", "file:///src/triptych")],
)
def test_from_uvx_the_same_thing_is_asked_for_again(source: str | None, wanted: str, tmp_path: Path) -> None:
    python = str(tmp_path / "cache/uv/archive-v0/abc/bin/python")
    there = machine(tmp_path, UV="/usr/bin/uv")
    assert hosts.launcher(python, there, source) == ["/usr/bin/uv", "tool", "run", "--from", wanted, "triptych"]
    with pytest.raises(errors.BadRequest, match="temporary installation"):
        hosts.launcher(python, machine(tmp_path, PATH=""), source)


def test_this_installation_knows_where_it_came_from() -> None:
    source = hosts.installed_from()
    assert source is not None and urlsplit(source).scheme == "file"
    assert (Path(urlsplit(source).path) / "pyproject.toml").exists()


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["claude-code", "codex"])
async def test_the_command_that_is_written_starts_the_server(host: str, tmp_path: Path) -> None:
    put(host, machine(tmp_path))
    entry = server(host, HOSTS[host].user(machine(tmp_path)).read_text("utf-8"))
    env = {"PATH": os.environ["PATH"], "TRIPTYCH_HOME": str(tmp_path / "data")} | entry.get("env", {})
    command = StdioServerParameters(command=entry["command"], args=entry["args"], env=env, cwd=str(tmp_path))
    async with Client(stdio_client(command), mode="legacy") as client:
        assert client.server_info is not None and client.server_info.version == __version__


# -- beside what was there


OTHERS: dict[str, str] = {
    "two spaces": '{\n  "mcpServers": {\n    "files": {"command": "npx", "args": ["-y", "files"]}\n  }\n}\n',
    "tabs and CRLF": '{\r\n\t"mcpServers": {\r\n\t\t"files": { "command": "npx" }\r\n\t},\r\n\t"theme":"dark"\r\n}\r\n',
    "one line": '{"theme":"dark","mcpServers":{"files":{"command":"npx"}}}',
    "no servers": '{\n    "theme": "dark",\n    "list": [1, 2,\n 3]\n}',
    "nothing in it": "{}",
    "empty": "",
    "comments": '// mine\n{ /* the\n servers */\n  "mcpServers": {\n    "a": {"command": "npx"}, // "}"\n  },\n}\n',
    "byte order mark": '\ufeff{\n  "mcpServers": {}\n}\n',
}


@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS.keys())
@pytest.mark.parametrize("host", ["cursor", "gemini"])
def test_everything_else_in_the_file_stays_byte_for_byte(host: str, text: str, tmp_path: Path) -> None:
    path = HOSTS[host].user(machine(tmp_path))
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode())
    put(host, machine(tmp_path))
    after = path.read_bytes().decode()
    kept = iter(after)
    assert all(character in kept for character in text), "something was taken out or moved"
    before = splice.read_json(text)
    document = splice.read_json(after)
    del document["mcpServers"]["triptych"]
    assert document == {"mcpServers": {}} | before
    if "\r\n" in text:
        assert "\n" not in after.replace("\r\n", "")
    assert put(host, machine(tmp_path)) == Exit.DONE
    assert path.read_bytes().decode() == after


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.text(max_size=4), JSON, max_size=4),
    st.dictionaries(st.text(max_size=4), JSON, max_size=3),
    st.sampled_from([None, 1, 4, "\t"]),
    st.booleans(),
)
def test_whatever_stands_in_a_file_it_is_there_afterwards(
    other: dict[str, Any], servers: dict[str, Any], indent: int | str | None, ascii_only: bool
) -> None:
    text = json.dumps(other | {"mcpServers": servers}, indent=indent, ensure_ascii=ascii_only)
    added = splice.put_json(text, ("mcpServers", "triptych"), {"command": "x"})
    assert json.loads(added) == other | {"mcpServers": servers | {"triptych": {"command": "x"}}}
    listed = splice.append_json(splice.append_json(text, ("a list",), 1), ("a list",), {"b": 2})
    assert json.loads(listed) == other | {"mcpServers": servers, "a list": [1, {"b": 2}]}


TOML = """# my settings

[mcp_servers.files] # files
command = "npx"
args = [
  "-y",
  "files",
]

[tui]
theme = 'dark'   # like the night
"""


def test_codex_keeps_its_comments_and_order(tmp_path: Path) -> None:
    path = HOSTS["codex"].user(machine(tmp_path))
    path.parent.mkdir()
    path.write_text(TOML, "utf-8")
    put("codex", machine(tmp_path))
    after = path.read_text("utf-8")
    assert after.startswith(TOML)
    assert set(tomllib.loads(after)["mcp_servers"]) == {"files", "triptych"}
    put("codex", machine(tmp_path))
    assert path.read_text("utf-8") == after


def test_codexs_own_entry_is_changed_line_by_line(tmp_path: Path) -> None:
    mine = (
        '[mcp_servers.triptych] # mine\ncommand = "/gone/triptych"\n# longer\ntool_timeout_sec = 240\nargs = ["x"]\n'
        'env_vars = ["RUNWARE_API_KEY"]\nenabled = true\n\n'
    )
    path = HOSTS["codex"].user(machine(tmp_path))
    path.parent.mkdir()
    path.write_text(mine + TOML, "utf-8")
    put("codex", machine(tmp_path, ARK_API_KEY=KEY))
    after = path.read_text("utf-8")
    assert after.endswith(TOML) and "# mine" in after and "# longer" in after
    entry = server("codex", after)
    assert entry["command"] != "/gone/triptych" and entry["args"] == []
    assert (entry["tool_timeout_sec"], entry["enabled"]) == (240, True)
    assert entry["env_vars"] == ["RUNWARE_API_KEY", "ARK_API_KEY"]
    put("codex", machine(tmp_path, ARK_API_KEY=KEY), url=hosts.LOCAL_URL)
    over_http = server("codex", path.read_text("utf-8"))
    assert over_http == {"url": hosts.LOCAL_URL, "tool_timeout_sec": 240, "enabled": True}


@pytest.mark.parametrize("host", JSON_HOSTS)
def test_what_the_user_put_into_our_entry_stays(host: str, tmp_path: Path) -> None:
    path = HOSTS[host].user(machine(tmp_path))
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = {"command": "/gone", "env": {"TRIPTYCH_BUDGET_USD": "5", "ATLASCLOUD_API_KEY": KEY}, "timeout": 60000}
    path.write_text(json.dumps({HOSTS[host].servers: {"triptych": mine}}), "utf-8")
    put(host, machine(tmp_path, TRIPTYCH_BUDGET_USD="9", RUNWARE_API_KEY="x"))
    entry = server(host, path.read_text("utf-8"))
    assert entry["command"] != "/gone" and entry["timeout"] == 60000
    assert entry["env"].items() >= mine["env"].items()  # type: ignore[attr-defined]
    assert "RUNWARE_API_KEY" in entry["env"]


def test_changing_the_transport_leaves_nothing_of_the_other_behind(tmp_path: Path) -> None:
    here = machine(tmp_path)
    for host in OVER_HTTP:
        path = HOSTS[host].user(here)
        put(host, here)
        first = server(host, path.read_text("utf-8"))
        put(host, here, url=hosts.LOCAL_URL)
        assert not {"command", "args", "env", "env_vars"} & set(server(host, path.read_text("utf-8")))
        put(host, here)
        assert server(host, path.read_text("utf-8")) == first


# -- how it is written


def test_a_backup_is_kept_and_never_overwritten(tmp_path: Path) -> None:
    path = HOSTS["cursor"].user(machine(tmp_path))
    path.parent.mkdir()
    path.write_text("{}", "utf-8")
    for port in (1, 2, 3):
        put("cursor", machine(tmp_path), url=f"http://127.0.0.1:{port}/mcp")
    kept = [path.with_name(f"mcp.json.before-triptych{suffix}") for suffix in ("", "-2", "-3")]
    assert files(path.parent) == sorted(item.name for item in (path, *kept))
    assert kept[0].read_text("utf-8") == "{}"
    assert ":1/mcp" in kept[1].read_text("utf-8") and ":2/mcp" in kept[2].read_text("utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="modes and links are POSIX's")
def test_the_files_mode_stays_and_a_link_stays_a_link(tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.json"
    real.write_text("{}", "utf-8")
    real.chmod(0o600)
    path = HOSTS["cursor"].user(machine(tmp_path))
    path.parent.mkdir()
    path.symlink_to(real)
    put("cursor", machine(tmp_path))
    assert path.is_symlink() and "triptych" in real.read_text("utf-8")
    assert {item.stat().st_mode & 0o777 for item in tmp_path.glob("dotfiles.json*")} == {0o600}


def test_a_read_only_file_is_respected(tmp_path: Path) -> None:
    path = HOSTS["cursor"].user(machine(tmp_path))
    path.parent.mkdir()
    path.write_text("{}", "utf-8")
    path.chmod(0o444)
    with pytest.raises(errors.BadRequest, match="read-only"):
        put("cursor", machine(tmp_path))
    assert path.read_text("utf-8") == "{}" and files(path.parent) == ["mcp.json"]


def test_a_file_in_the_place_of_a_directory_is_said(tmp_path: Path) -> None:
    (tmp_path / ".cursor").write_text("", "utf-8")
    with pytest.raises(errors.BadRequest, match=r"cannot be (read|written)"):
        put("cursor", machine(tmp_path))


def test_a_file_that_changed_while_one_was_asked_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_text('{"new": 1}', "utf-8")
    with pytest.raises(errors.BadRequest, match="changed in the meantime"):
        install.write(path, "{}", '{"mcpServers": {}}')
    assert path.read_text("utf-8") == '{"new": 1}'


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("cursor", '{"mcpServers": {'),
        ("cursor", "[1, 2]"),
        ("cursor", '{"mcpServers": []}'),
        ("cursor", '{"mcpServers": {"triptych": "yes"}}'),
        ("vscode", '{"inputs": {}}'),
        ("codex", "model = "),
        ("codex", "mcp_servers = { files = { command = 'npx' } }"),
        ("codex", "[mcp_servers]\ntriptych = { command = 'old' }"),
        ("codex", "[mcp_servers.triptych]\ncommand = 'old'\nargs = [\n  'x',\n]\n"),
    ],
)
def test_a_file_that_cannot_be_edited_is_left_alone_and_it_says_what_to_do(
    host: str, text: str, tmp_path: Path
) -> None:
    path = HOSTS[host].user(machine(tmp_path))
    path.parent.mkdir(parents=True)
    path.write_text(text, "utf-8")
    with pytest.raises(errors.BadRequest, match=f"triptych install {host} --user --print") as refused:
        put(host, machine(tmp_path))
    assert str(path) in refused.value.message
    assert path.read_text("utf-8") == text and files(path.parent) == [path.name]


def test_what_is_not_utf_8_is_left_alone(tmp_path: Path) -> None:
    path = HOSTS["cursor"].user(machine(tmp_path))
    path.parent.mkdir()
    path.write_bytes(b'{"name": "\xff"}')
    with pytest.raises(errors.BadRequest, match="not UTF-8"):
        put("cursor", machine(tmp_path))


# -- asking, on the command line


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("ATLASCLOUD_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*args: str, answer: str | None = None) -> Any:
    return CliRunner().invoke(cli, ["install", *args], input=answer)


def test_without_a_terminal_nothing_is_written_unless_yes_is_said(at_home: Path) -> None:
    refused = run("cursor")
    assert refused.exit_code == Exit.BAD_REQUEST
    assert "add --yes" in refused.stderr and files(at_home) == []
    assert run("cursor", "--yes").exit_code == 0
    assert files(at_home) == [".cursor/mcp.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal is POSIX's")
@pytest.mark.parametrize(("answer", "code", "written"), [("y\n", 0, True), ("n\n", 8, False)])
def test_at_a_terminal_the_change_is_shown_and_asked_for(answer: str, code: int, written: bool, tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer.encode())
        done = subprocess.run(
            [sys.executable, "-m", "triptych", "install", "claude-code", "--project"],
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=tmp_path,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == code, done.stderr
    assert '+      "command": "' in done.stderr and "Write this to" in done.stderr
    assert (tmp_path / ".mcp.json").exists() is written
    assert ("Nothing was written" in done.stdout) is not written


def test_print_only_prints_and_what_it_prints_is_what_would_be_written(at_home: Path) -> None:
    for host in HOSTS:
        printed = run(host, "--print")
        assert printed.exit_code == 0 and files(at_home) == []
        run(host, "--yes")
        [path] = [at_home / name for name in files(at_home)]
        assert printed.stdout == path.read_text("utf-8")
        path.unlink()


def test_a_second_time_it_is_already_installed(at_home: Path) -> None:
    assert "✓ Triptych is installed in Gemini CLI" in run("gemini", "--yes").stdout
    again = run("gemini")
    assert again.exit_code == 0 and "already installed" in again.stdout
    assert files(at_home) == [".gemini/settings.json"]


def test_json_is_one_document_and_the_difference_is_not_in_it(at_home: Path) -> None:
    result = run("cursor", "--project", "--yes", "--json")
    told = json.loads(result.stdout)
    assert (told["state"], told["scope"], told["backup"]) == ("installed", "project", None)
    assert Path(told["path"]) == at_home / ".cursor" / "mcp.json"
    assert "+++" in result.stderr


def test_the_difference_shows_nobody_elses_keys(at_home: Path) -> None:
    path = at_home / ".cursor" / "mcp.json"
    path.parent.mkdir()
    path.write_text(
        f'{{"mcpServers": {{\n"a": {{"env": {{"A_TOKEN": "{KEY}"}}}},\n"b": {{"env": {{"B_KEY": "{KEY}"}}}}}}}}',
        "utf-8",
    )
    shown = run("cursor", "--yes")
    assert KEY not in shown.output + shown.stderr
    assert '"B_KEY": "…"' in shown.stderr and "A_TOKEN" not in shown.stderr
    assert path.read_text("utf-8").count(KEY) == 2


def test_url_goes_with_http_alone(at_home: Path) -> None:
    assert "--url goes with --transport http" in run("cursor", "--url", hosts.LOCAL_URL).stderr
    assert run("cursor", "--transport", "http", "--yes").exit_code == 0
    assert server("cursor", (at_home / ".cursor/mcp.json").read_text("utf-8")) == {"url": hosts.LOCAL_URL}


def test_cursors_link_says_what_would_be_written(at_home: Path) -> None:
    [link] = re.findall(r"cursor://\S+", run("cursor", "--print").stderr)
    run("cursor", "--yes")
    assert decoded(link) == ("triptych", server("cursor", (at_home / ".cursor/mcp.json").read_text("utf-8")))


def decoded(link: str) -> tuple[str, Mapping[str, Any]]:
    there = urlsplit(link)
    assert (there.scheme, there.netloc, there.path) == ("cursor", "anysphere.cursor-deeplink", "/mcp/install")
    query = parse_qs(there.query, strict_parsing=True)
    return query["name"][0], json.loads(base64.b64decode(query["config"][0], validate=True))
