"""`triptych install`: the right file on every platform, nothing else in it touched, nothing written unseen, no key."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import tomlkit
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from support.systems import needs_modes, needs_terminals
from triptych import __version__, providers
from triptych.__main__ import forget_unexpanded
from triptych.cli import cli, host_file, install, mcp_clients
from triptych.cli import machine as machines
from triptych.cli.editors import json_text, of, toml_text
from triptych.cli.formatting import Exit
from triptych.cli.machine import Machine
from triptych.cli.output import Screen
from triptych.core import errors
from triptych.settings import read as read_settings
from triptych.settings import variables

KEY = "sk-never-to-be-written-1234567890"
HOSTS = mcp_clients.hosts()
SEVEN = list(HOSTS)[:7]
"""Their entries have one form but for Codex's; the others stand in test_hosts.py."""
JSON_HOSTS = [name for name in SEVEN if name != "codex"]
OVER_HTTP = [name for name in SEVEN if name != "claude-desktop"]
PROJECT_HOSTS = [name for name in SEVEN if HOSTS[name].project]


def machine(home: Path, platform: str = "linux", **environ: str) -> Machine:
    return Machine(platform, environ, home, home / "project")


def put(
    host: str,
    where: Machine,
    *,
    scope: install.Scope = "user",
    url: str | None = None,
    yes: bool = True,
    allow: Sequence[str] = (),
) -> Exit:
    asked = install.Asked(HOSTS[host], scope, yes=yes)
    return install.put_in(Screen(False), asked, where, url=url, allow=allow)


def server(host: str, text: str) -> dict[str, Any]:
    entry: dict[str, Any] = of(HOSTS[host].format).get(text, HOSTS[host].path_of_entry)
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


@pytest.mark.parametrize("host", sorted(set(SEVEN) - set(PROJECT_HOSTS)))
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


@pytest.mark.parametrize("host", SEVEN)
def test_no_key_is_written_anywhere_only_where_it_comes_from(host: str, tmp_path: Path) -> None:
    every_key = dict.fromkeys(machines.key_variables(), KEY)
    put(host, machine(tmp_path, **every_key, TRIPTYCH_AUTH_TOKEN=KEY))
    [path] = [tmp_path / name for name in files(tmp_path)]
    text = path.read_text("utf-8")
    assert KEY not in text
    entry = server(host, text)
    if host == "codex":
        assert entry["env_vars"] == machines.key_variables()
    else:
        assert set(every_key) <= set(entry["env"])
        assert entry["env"]["ATLASCLOUD_API_KEY"] == REFERENCES[host]


def test_only_set_keys_are_named_or_atlas_clouds() -> None:
    assert machines.keys({}) == ["ATLASCLOUD_API_KEY"]
    assert machines.keys({"RUNWARE_API_KEY": KEY, "NOVITA_API_KEY": " "}) == ["RUNWARE_API_KEY"]
    assert set(machines.key_variables()) == {providers.load(name).key_env for name in providers.names()} - {None}


def test_an_unexpanded_reference_counts_as_no_key() -> None:
    for reference in [*REFERENCES.values(), *(host.refer("ATLASCLOUD_API_KEY") for host in HOSTS.values())]:
        assert not read_settings({"ATLASCLOUD_API_KEY": reference}).setup.accounts["atlas"].usable


def test_vs_code_asks_for_every_key_hidden(tmp_path: Path) -> None:
    put("vscode", machine(tmp_path, ARK_API_KEY=KEY, RUNWARE_API_KEY=KEY), scope="project")
    document = json.loads((tmp_path / "project/.vscode/mcp.json").read_text("utf-8"))
    asked = {f"${{input:{item['id']}}}" for item in document["inputs"]}
    assert asked == set(document["servers"]["triptych"]["env"].values())
    assert all(item["password"] is True and item["type"] == "promptString" for item in document["inputs"])


VOLCENGINE = "https://ark.cn-beijing.volces.com/api/v3"
SET = {
    "ARK_BASE_URL": VOLCENGINE,
    "EVOLINK_FILES_BASE_URL": "https://files.example.org",
    "HTTPS_PROXY": "http://proxy.example.org:3128",
    "NO_PROXY": "localhost,.example.org",
    "SSL_CERT_FILE": "/etc/ssl/company.pem",
    "TRIPTYCH_BUDGET_USD": "2",
    "TRIPTYCH_CONFIRM_USD": "0.5",
    "TRIPTYCH_HOME": "/data/triptych",
    "TRIPTYCH_LOG_LEVEL": "DEBUG",
    "TRIPTYCH_PROVIDER": "ark",
    "TRIPTYCH_PROXY_RESOLVES": "1",
}


def env_of(host: str, where: Machine, *, scope: install.Scope = "user") -> dict[str, str]:
    path = HOSTS[host].path(where, project=scope == "project")
    env: dict[str, str] = server(host, path.read_text("utf-8")).get(HOSTS[host].env_key, {})
    return env


@pytest.mark.parametrize("host", SEVEN)
@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_settings_of_the_shell_hold_in_every_host(host: str, platform: str, tmp_path: Path) -> None:
    here = machine(tmp_path, platform, ARK_API_KEY=KEY, **SET)
    put(host, here)
    assert env_of(host, here).items() >= SET.items()
    assert KEY not in HOSTS[host].path(here).read_text("utf-8")


def test_every_setting_that_is_read_is_carried(tmp_path: Path) -> None:
    asked = variables()
    of_http_alone = {name for name in asked if name.startswith(("TRIPTYCH_OAUTH_", "TRIPTYCH_METRICS"))}
    of_http_alone |= {"TRIPTYCH_AUTH_TOKEN", "TRIPTYCH_PUBLIC_URL", "TRIPTYCH_WEBHOOKS"}
    every = machine(tmp_path, **dict.fromkeys(asked, "x"))
    assert set(machines.settings(every)) == asked - set(machines.key_variables()) - of_http_alone


def test_a_volcengine_key_goes_where_its_shell_sends_it(tmp_path: Path) -> None:
    for host in JSON_HOSTS:
        here = machine(tmp_path, ARK_API_KEY=KEY, ARK_BASE_URL=VOLCENGINE)
        put(host, here)
        written = {**env_of(host, here), "ARK_API_KEY": KEY}
        account = read_settings(written).setup.accounts["ark"]
        assert account.usable and account.base_urls["api"] == VOLCENGINE


@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_a_proxy_is_written_in_both_spellings_but_on_windows(platform: str, tmp_path: Path) -> None:
    names = [name + "_PROXY" for name in ("HTTP", "HTTPS", "ALL", "NO")]
    both = dict.fromkeys([*names, *map(str.lower, names)], "http://proxy:1")
    here = machine(tmp_path, platform, **both)
    put("cursor", here)
    assert {name for name in env_of("cursor", here) if name.upper() in names} == set(
        names if platform == "win32" else both
    )


PROXY_REFERENCES = {
    "claude-code": "${HTTPS_PROXY:-}",
    "cursor": "${env:HTTPS_PROXY}",
    "vscode": "${input:triptych-https-proxy}",
    "gemini": "${HTTPS_PROXY}",
    "windsurf": "${env:HTTPS_PROXY}",
    "claude-desktop": "",
}


@pytest.mark.parametrize("host", SEVEN)
@pytest.mark.parametrize("proxy", [f"http://me:{KEY}@proxy:3128", f"me:{KEY}@proxy:3128", f"socks5h://{KEY}@proxy"])
def test_a_proxys_password_is_referred_to_like_a_key(
    host: str, proxy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = machine(tmp_path, HTTPS_PROXY=proxy)
    put(host, here)
    text = HOSTS[host].path(here).read_text("utf-8")
    shown = capsys.readouterr()
    assert KEY not in text + shown.out + shown.err
    if host == "codex":
        assert "HTTPS_PROXY" in server(host, text)["env_vars"]
    else:
        assert env_of(host, here)["HTTPS_PROXY"] == PROXY_REFERENCES[host]
    if host == "vscode":
        ids = [item["id"] for item in json.loads(text)["inputs"] if item["password"]]
        assert ids == ["triptych-atlascloud-api-key", "triptych-https-proxy"]
    if host == "claude-desktop":
        assert "To be filled in there: ATLASCLOUD_API_KEY, HTTPS_PROXY." in shown.out


@pytest.mark.parametrize("host", SEVEN)
@pytest.mark.parametrize("url", [f"postgresql://me:{KEY}@db/triptych", f"postgresql://db/triptych?password={KEY}"])
def test_a_databases_password_is_referred_to_like_a_key(host: str, url: str, tmp_path: Path) -> None:
    here = machine(tmp_path, TRIPTYCH_DATABASE_URL=url)
    put(host, here)
    text = HOSTS[host].path(here).read_text("utf-8")
    assert KEY not in text and "TRIPTYCH_DATABASE_URL" in text


@pytest.mark.parametrize("host", SEVEN)
def test_a_secret_from_a_file_stays_in_its_file(host: str, tmp_path: Path) -> None:
    files = {"ATLASCLOUD_API_KEY_FILE": "/run/secrets/key", "TRIPTYCH_DATABASE_URL_FILE": "/run/secrets/url"}
    read = {"ATLASCLOUD_API_KEY": KEY, "TRIPTYCH_DATABASE_URL": f"postgresql://me:{KEY}@db/triptych"}
    here = machine(tmp_path, **files, **read)  # as the command line has it once the files are read
    put(host, here)
    assert KEY not in HOSTS[host].path(here).read_text("utf-8")
    env = env_of(host, here)
    assert env.items() >= files.items() and not read.keys() & env.keys()


@pytest.mark.parametrize("host", SEVEN)
def test_an_object_store_is_carried_with_its_keys_by_name(host: str, tmp_path: Path) -> None:
    aws = {"AWS_ENDPOINT_URL": "https://minio.example.com", "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": KEY}
    put(host, machine(tmp_path / "without", **aws))
    assert "AWS_" not in HOSTS[host].path(machine(tmp_path / "without")).read_text("utf-8")
    here = machine(tmp_path, TRIPTYCH_OBJECTS_URL="s3://bucket/prefix", **aws)
    put(host, here)
    text = HOSTS[host].path(here).read_text("utf-8")
    for word in ("s3://bucket/prefix", "https://minio.example.com", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert word in text
    assert KEY not in text


def test_what_a_host_does_not_expand_counts_as_not_set() -> None:
    environ = {"HTTPS_PROXY": "${env:HTTPS_PROXY}", "TRIPTYCH_BUDGET_USD": "${TRIPTYCH_BUDGET_USD}", "PATH": "/bin"}
    environ["NO_PROXY"] = "{env:NO_PROXY}"
    forget_unexpanded(environ)
    assert environ == {"PATH": "/bin"}


def test_codex_waits_for_the_server_before_its_first_question(tmp_path: Path) -> None:
    put("codex", machine(tmp_path))
    text = HOSTS["codex"].path(machine(tmp_path)).read_text("utf-8")
    assert server("codex", text)["required"] is True and "required = true" in text


# -- for a project


@pytest.mark.parametrize("host", PROJECT_HOSTS)
def test_a_projects_file_holds_nothing_of_one_user(host: str, tmp_path: Path) -> None:
    here = machine(tmp_path, ARK_API_KEY=KEY, TRIPTYCH_ALLOWED_DIRS=str(tmp_path), **SET)
    put(host, here, scope="project")
    text = HOSTS[host].path(here, project=True).read_text("utf-8")
    entry = server(host, text)
    assert (entry["command"], entry["args"]) == ("triptych", [])
    assert str(tmp_path) not in text and sys.prefix not in text
    assert not [value for value in SET.values() if f'"{value}"' in text]
    if host == "codex":
        assert {"ARK_API_KEY", *SET} <= set(entry["env_vars"]) and "env" not in entry
    elif host == "vscode":  # hands on its own environment
        assert set(entry["env"]) == {"ARK_API_KEY"}
    else:
        assert entry["env"]["ARK_BASE_URL"] == REFERENCES[host].replace("ATLASCLOUD_API_KEY", "ARK_BASE_URL")
        assert set(SET) <= set(entry["env"])


def test_after_a_projects_file_it_says_what_colleagues_need(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put("cursor", machine(tmp_path), scope="project")
    said = capsys.readouterr().out
    assert "Colleagues need `triptych` on their PATH" in said and "uv tool install" in said
    assert "`triptych` is not on your PATH yet" in said
    name = "triptych.exe" if sys.platform == "win32" else "triptych"
    (tmp_path / name).touch(0o755)
    put("gemini", machine(tmp_path, PATH=str(tmp_path)), scope="project")
    assert "not on your PATH" not in capsys.readouterr().out


# -- directories


@pytest.mark.parametrize("host", SEVEN)
@pytest.mark.parametrize(("platform", "between"), [("linux", ":"), ("win32", ";")])
def test_allowed_directories_are_written_in_full(host: str, platform: str, between: str, tmp_path: Path) -> None:
    here = machine(tmp_path, platform)
    wanted = [tmp_path / "project" / "shots", tmp_path / "art"]
    for directory in wanted:
        directory.mkdir(parents=True)
    put(host, here, allow=["shots", str(wanted[1])])
    assert env_of(host, here)["TRIPTYCH_ALLOWED_DIRS"] == between.join(map(str, wanted))


@pytest.mark.parametrize("host", ["cursor", "codex", "claude-desktop"])
def test_allowing_more_keeps_what_was_allowed(host: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        put(host, machine(tmp_path, TRIPTYCH_BUDGET_USD=name), allow=[str(tmp_path / name)])
    env = env_of(host, machine(tmp_path))
    assert env["TRIPTYCH_ALLOWED_DIRS"] == f"{tmp_path / 'a'}:{tmp_path / 'b'}"
    assert env["TRIPTYCH_BUDGET_USD"] == "a"


def test_allowing_adds_to_the_shells_own_directories(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    here = machine(tmp_path, TRIPTYCH_ALLOWED_DIRS="/mine")
    put("cursor", here, allow=[str(tmp_path / "a")])
    assert env_of("cursor", here)["TRIPTYCH_ALLOWED_DIRS"] == f"/mine:{tmp_path / 'a'}"


@pytest.mark.parametrize(
    ("given", "more", "says"),
    [
        ("gone", {}, "is not a directory; make it"),
        (".", {"scope": "project"}, "TRIPTYCH_ALLOWED_DIRS in your environment"),
        (".", {"url": mcp_clients.LOCAL_URL}, "where the server runs"),
    ],
)
def test_a_directory_that_cannot_be_allowed_writes_nothing(
    given: str, more: dict[str, Any], says: str, tmp_path: Path
) -> None:
    (tmp_path / "project").mkdir()
    with pytest.raises(errors.BadRequest, match=says):
        put("cursor", machine(tmp_path), allow=[given], **more)
    assert files(tmp_path) == []


def test_a_directory_with_the_separator_in_its_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a;b").mkdir()
    with pytest.raises(errors.BadRequest, match="separates directories"):
        put("cursor", machine(tmp_path, "win32"), allow=[str(tmp_path / "a;b")])


@pytest.mark.parametrize("host", OVER_HTTP)
def test_an_http_server_is_reached_with_the_environments_token(host: str, tmp_path: Path) -> None:
    put(host, machine(tmp_path), url="https://images.example.org/mcp")
    text = HOSTS[host].path(machine(tmp_path)).read_text("utf-8")
    entry = server(host, text)
    assert "https://images.example.org/mcp" in entry.values()
    assert "command" not in entry and "env" not in entry
    if host == "codex":
        assert entry["bearer_token_env_var"] == "TRIPTYCH_AUTH_TOKEN"
    elif host == "vscode":
        assert entry["headers"] == {"Authorization": "Bearer ${input:triptych-triptych-auth-token}"}
        assert [item["id"] for item in json.loads(text)["inputs"]] == ["triptych-triptych-auth-token"]
    else:
        assert re.fullmatch(r"Bearer \$\{(env:)?TRIPTYCH_AUTH_TOKEN(:-)?\}", entry["headers"]["Authorization"])


@pytest.mark.parametrize("host", OVER_HTTP)
def test_on_loopback_only_a_set_token_is_sent(host: str, tmp_path: Path) -> None:
    put(host, machine(tmp_path), url=mcp_clients.LOCAL_URL)
    assert "TOKEN" not in HOSTS[host].path(machine(tmp_path)).read_text("utf-8").upper()


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
        put("claude-desktop", machine(tmp_path), url=mcp_clients.LOCAL_URL)


# -- which command


def test_the_command_is_the_script_beside_the_interpreter(tmp_path: Path) -> None:
    for platform, name in (("linux", "triptych"), ("win32", "triptych.exe")):
        (tmp_path / name).touch()
        assert machines.launcher(str(tmp_path / "python"), machine(tmp_path, platform), None) == [str(tmp_path / name)]


def test_without_a_script_the_interpreter_starts_the_module(tmp_path: Path) -> None:
    python = str(tmp_path / "python")
    assert machines.launcher(python, machine(tmp_path), None) == [python, "-m", "triptych"]


@pytest.mark.parametrize(
    ("source", "wanted"),
    [(None, f"triptych=={__version__}"), ("file:///src/triptych", "file:///src/triptych")],
)
def test_from_uvx_the_same_thing_is_asked_for_again(source: str | None, wanted: str, tmp_path: Path) -> None:
    python = str(tmp_path / "cache/uv/archive-v0/abc/bin/python")
    there = machine(tmp_path, UV="/usr/bin/uv")
    assert machines.launcher(python, there, source) == ["/usr/bin/uv", "tool", "run", "--from", wanted, "triptych"]
    with pytest.raises(errors.BadRequest, match="temporary installation"):
        machines.launcher(python, machine(tmp_path, PATH=""), source)


def test_this_installation_knows_where_it_came_from() -> None:
    source = machines.installed_from()
    assert source is not None and urlsplit(source).scheme == "file"
    assert (Path(urlsplit(source).path) / "pyproject.toml").exists()


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["claude-code", "codex"])
@pytest.mark.usefixtures("ordinary_start")
async def test_the_command_that_is_written_starts_the_server(host: str, tmp_path: Path) -> None:
    put(host, machine(tmp_path))
    entry = server(host, HOSTS[host].path(machine(tmp_path)).read_text("utf-8"))
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
    path = HOSTS[host].path(machine(tmp_path))
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode())
    put(host, machine(tmp_path))
    after = path.read_bytes().decode()
    kept = iter(after)
    assert all(character in kept for character in text), "something was taken out or moved"
    before = json_text.read(text)
    document = json_text.read(after)
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


@settings(max_examples=40)
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
    added = json_text.put(text, ("mcpServers", "triptych"), {"command": "x"})
    assert json.loads(added) == other | {"mcpServers": servers | {"triptych": {"command": "x"}}}
    listed = json_text.append(json_text.append(text, ("a list",), 1), ("a list",), {"b": 2})
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
    path = HOSTS["codex"].path(machine(tmp_path))
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
    path = HOSTS["codex"].path(machine(tmp_path))
    path.parent.mkdir()
    path.write_text(mine + TOML, "utf-8")
    put("codex", machine(tmp_path, ARK_API_KEY=KEY))
    after = path.read_text("utf-8")
    assert after.endswith(TOML) and "# mine" in after and "# longer" in after
    entry = server("codex", after)
    assert entry["command"] != "/gone/triptych" and entry["args"] == []
    assert (entry["tool_timeout_sec"], entry["enabled"]) == (240, True)
    assert entry["env_vars"] == ["RUNWARE_API_KEY", "ARK_API_KEY"]
    put("codex", machine(tmp_path, ARK_API_KEY=KEY), url=mcp_clients.LOCAL_URL)
    over_http = server("codex", path.read_text("utf-8"))
    assert over_http == {"url": mcp_clients.LOCAL_URL, "tool_timeout_sec": 240, "enabled": True}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("mcp_servers = { files = { command = 'npx' } } # all\n", ["files = { command = 'npx' }", "# all"]),
        ("[mcp_servers]\ntriptych = { command = 'old' } # mine\n", ["[mcp_servers]\ntriptych = { command", "# mine"]),
        ("[mcp_servers.triptych]\nargs = [\n  'x', # one\n]\n", ["[mcp_servers.triptych]\nargs = []\n"]),
        ("[mcp_servers.triptych]\nenv_vars = [\n  'MINE', # why\n]\n", ["env_vars = [\n  'MINE', # why\n"]),
        (
            "[mcp_servers.triptych]\ncommand = 'x'\n[mcp_servers.triptych.env]\nA = '1' # a\n\n# b\n[b]\nc = 1\n",
            ["[mcp_servers.triptych.env]\nA = '1' # a\n", "\n# b\n[b]\nc = 1\n"],
        ),
        ("mcp_servers.triptych.command = 'old'\n[b]\n", ["mcp_servers.triptych.command = ", "\n[b]\n"]),
        ("['mcp_servers' . 'triptych']\n\turl='http://old' # c\n", ["['mcp_servers' . 'triptych']\n"]),
        ("[a] # a\r\nb = 1\r\n", ["[a] # a\r\nb = 1\r\n", "\r\n[mcp_servers.triptych]\r\n"]),
        ("[mcp_servers.triptych]\r\nrequired = false # r\r\n", ["required = false # r\r\n", "\r\nargs = []\r\n"]),
        ("a = 1", ["a = 1\n[mcp_servers.triptych]\n"]),
    ],
)
def test_codexs_file_may_be_written_in_any_way(text: str, kept: list[str], tmp_path: Path) -> None:
    path = HOSTS["codex"].path(machine(tmp_path))
    path.parent.mkdir()
    path.write_bytes(text.encode())
    put("codex", machine(tmp_path, ARK_API_KEY=KEY))
    after = path.read_bytes().decode()
    assert all(part in after for part in kept)
    assert after.count("\r\n") in (0, after.count("\n"))
    entry = server("codex", after)
    assert Path(entry["command"]).is_absolute() and entry["args"] == [] and "ARK_API_KEY" in entry["env_vars"]
    rest, before = tomllib.loads(after), tomllib.loads(text)
    for document in (rest, before):
        document.setdefault("mcp_servers", {}).pop("triptych", None)
    assert rest == before
    put("codex", machine(tmp_path, ARK_API_KEY=KEY))
    assert path.read_bytes().decode() == after


VALUE = st.recursive(
    st.integers(-9, 9) | st.booleans() | st.text(max_size=8),
    lambda value: st.lists(value, max_size=3) | st.dictionaries(st.text(max_size=4), value, min_size=1, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150)
@given(
    before=st.dictionaries(st.text(max_size=4), VALUE, max_size=3),
    old=st.none() | st.dictionaries(st.sampled_from("abcd"), VALUE, max_size=4),
    new=st.dictionaries(st.sampled_from("abcd"), VALUE, min_size=1, max_size=4),
    is_inline=st.booleans(),
)
def test_every_toml_keeps_the_rest_and_gets_the_table(
    before: dict[str, Any], old: dict[str, Any] | None, new: dict[str, Any], is_inline: bool
) -> None:
    before.pop("s", None)
    whole = before | ({"s": {"x": {"y": 1}} | ({"t": old} if old is not None else {})})
    document = tomlkit.document()
    for key, value in whole.items():
        document[key] = tomlkit.inline_table() if key == "s" and is_inline else value
        if key == "s" and is_inline:
            document[key].update(value)
    text = tomlkit.dumps(document)
    if tomllib.loads(text) != whole:
        return
    edited = toml_text.put(text, ("s", "t"), new)
    assert tomllib.loads(edited) == before | {"s": {"x": {"y": 1}, "t": new}}
    assert tomllib.loads(toml_text.drop(edited, ("s", "t"))) == before | {"s": {"x": {"y": 1}}}


@pytest.mark.parametrize("host", JSON_HOSTS)
def test_what_the_user_put_into_our_entry_stays(host: str, tmp_path: Path) -> None:
    path = HOSTS[host].path(machine(tmp_path))
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = {"command": "/gone", "env": {"TRIPTYCH_BUDGET_USD": "5", "ATLASCLOUD_API_KEY": KEY}, "timeout": 60000}
    path.write_text(json.dumps({HOSTS[host].servers[0]: {"triptych": mine}}), "utf-8")
    put(host, machine(tmp_path, TRIPTYCH_BUDGET_USD="9", RUNWARE_API_KEY="x"))
    entry = server(host, path.read_text("utf-8"))
    assert entry["command"] != "/gone" and entry["timeout"] == 60000
    assert entry["env"].items() >= mine["env"].items()  # type: ignore[attr-defined]
    assert "RUNWARE_API_KEY" in entry["env"]


def test_changing_the_transport_leaves_nothing_of_the_other_behind(tmp_path: Path) -> None:
    here = machine(tmp_path)
    for host in OVER_HTTP:
        path = HOSTS[host].path(here)
        put(host, here)
        first = server(host, path.read_text("utf-8"))
        put(host, here, url=mcp_clients.LOCAL_URL)
        assert not {"command", "args", "env", "env_vars"} & set(server(host, path.read_text("utf-8")))
        put(host, here)
        assert server(host, path.read_text("utf-8")) == first


# -- how it is written


def test_a_backup_is_kept_and_never_overwritten(tmp_path: Path) -> None:
    path = HOSTS["cursor"].path(machine(tmp_path))
    path.parent.mkdir()
    path.write_text("{}", "utf-8")
    for port in (1, 2, 3):
        put("cursor", machine(tmp_path), url=f"http://127.0.0.1:{port}/mcp")
    kept = [path.with_name(f"mcp.json.before-triptych{suffix}") for suffix in ("", "-2", "-3")]
    assert files(path.parent) == sorted(item.name for item in (path, *kept))
    assert kept[0].read_text("utf-8") == "{}"
    assert ":1/mcp" in kept[1].read_text("utf-8") and ":2/mcp" in kept[2].read_text("utf-8")


@needs_modes
def test_the_files_mode_stays_and_a_link_stays_a_link(tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.json"
    real.write_text("{}", "utf-8")
    real.chmod(0o600)
    path = HOSTS["cursor"].path(machine(tmp_path))
    path.parent.mkdir()
    path.symlink_to(real)
    put("cursor", machine(tmp_path))
    assert path.is_symlink() and "triptych" in real.read_text("utf-8")
    assert {item.stat().st_mode & 0o777 for item in tmp_path.glob("dotfiles.json*")} == {0o600}


def test_a_read_only_file_is_respected(tmp_path: Path) -> None:
    path = HOSTS["cursor"].path(machine(tmp_path))
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


def test_a_file_changed_during_the_question_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_text('{"new": 1}', "utf-8")
    with pytest.raises(errors.BadRequest, match="changed in the meantime"):
        host_file.write(path, "{}", '{"mcpServers": {}}')
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
        ("codex", "mcp_servers = 'none'"),
        ("codex", "[[mcp_servers]]\ncommand = 'npx'"),
        ("codex", "[mcp_servers]\ntriptych = 'yes'"),
    ],
)
def test_a_file_that_cannot_be_edited_is_left_alone(host: str, text: str, tmp_path: Path) -> None:
    path = HOSTS[host].path(machine(tmp_path))
    path.parent.mkdir(parents=True)
    path.write_text(text, "utf-8")
    with pytest.raises(errors.BadRequest, match=f"triptych install {host} --user --print") as refused:
        put(host, machine(tmp_path))
    assert str(path) in refused.value.message
    assert path.read_text("utf-8") == text and files(path.parent) == [path.name]


def test_what_is_not_utf_8_is_left_alone(tmp_path: Path) -> None:
    path = HOSTS["cursor"].path(machine(tmp_path))
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


@pytest.mark.usefixtures("at_home")
def test_the_shown_change_hides_no_truth_value() -> None:
    assert '"password": true\n' in run("vscode", "--dry-run").stderr


def test_without_a_terminal_nothing_is_written_unless_yes_is_said(at_home: Path) -> None:
    refused = run("cursor")
    assert refused.exit_code == Exit.BAD_REQUEST
    assert "add --yes" in refused.stderr and files(at_home) == []
    assert run("cursor", "--yes").exit_code == 0
    assert files(at_home) == [".cursor/mcp.json"]


@needs_terminals
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


def test_print_shows_exactly_what_would_be_written(at_home: Path) -> None:
    for host in SEVEN:
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


def test_json_is_one_document_without_the_difference(at_home: Path) -> None:
    result = run("cursor", "--project", "--yes", "--json")
    told = json.loads(result.stdout)
    assert (told["state"], told["scope"], told["backup"]) == ("installed", "project", None)
    assert Path(told["path"]) == at_home / ".cursor" / "mcp.json"
    assert "+++" in result.stderr


def test_allow_is_an_option_that_repeats(at_home: Path) -> None:
    (at_home / "a").mkdir()
    assert run("claude-code", "--yes", "--allow", "a", "--allow", str(at_home)).exit_code == 0
    env = server("claude-code", (at_home / ".claude.json").read_text("utf-8"))["env"]
    assert env["TRIPTYCH_ALLOWED_DIRS"] == os.pathsep.join([str(at_home / "a"), str(at_home)])


def test_the_difference_shows_no_login_of_a_url(at_home: Path) -> None:
    path = at_home / ".codex" / "config.toml"
    path.parent.mkdir()
    entry = f'[mcp_servers.triptych]\ncommand = "x"\nenv = {{ HTTPS_PROXY = "http://me:{KEY}@proxy:1" }}\n'
    path.write_text(entry, "utf-8")
    shown = run("codex", "--yes", "--allow", str(at_home))
    assert KEY not in shown.output + shown.stderr and "http://…@proxy:1" in shown.stderr
    assert KEY in path.read_text("utf-8")


def test_the_difference_shows_no_other_keys(at_home: Path) -> None:
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
    assert "--url goes with --transport http" in run("cursor", "--url", mcp_clients.LOCAL_URL).stderr
    assert run("cursor", "--transport", "http", "--yes").exit_code == 0
    assert server("cursor", (at_home / ".cursor/mcp.json").read_text("utf-8")) == {"url": mcp_clients.LOCAL_URL}


def test_cursors_link_says_what_would_be_written(at_home: Path) -> None:
    [link] = re.findall(r"cursor://\S+", run("cursor", "--print").stderr)
    run("cursor", "--yes")
    assert decoded(link) == ("triptych", server("cursor", (at_home / ".cursor/mcp.json").read_text("utf-8")))


def decoded(link: str) -> tuple[str, Mapping[str, Any]]:
    there = urlsplit(link)
    assert (there.scheme, there.netloc, there.path) == ("cursor", "anysphere.cursor-deeplink", "/mcp/install")
    query = parse_qs(there.query, strict_parsing=True)
    return query["name"][0], json.loads(base64.b64decode(query["config"][0], validate=True))
