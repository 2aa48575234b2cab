"""Every host that `triptych install` knows: its row, its file on each platform, and what is in the file afterwards."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from support.systems import needs_links, needs_modes
from triptych.cli import cli, host_file, install, machine, mcp_clients
from triptych.cli.editors import json_text, of
from triptych.cli.formatting import Exit
from triptych.cli.machine import Machine
from triptych.cli.mcp_clients import Host
from triptych.cli.output import Screen
from triptych.core import errors

HOSTS = mcp_clients.hosts()
KEY = "sk-never-to-be-written-1234567890"
SECRETS = {
    **dict.fromkeys(machine.key_variables(), KEY),
    "TRIPTYCH_AUTH_TOKEN": KEY,
    "TRIPTYCH_DATABASE_URL": f"postgresql://me:{KEY}@db/triptych",
    "HTTPS_PROXY": f"http://me:{KEY}@proxy:3128",
}
REMOTE = "https://images.example.org/mcp"
SCOPES: tuple[install.Scope, ...] = ("user", "project")
every_host = pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)


def on(home: Path, platform: str = "linux", **environ: str) -> Machine:
    return Machine(platform, environ, home, home / "project")


def platforms(host: Host) -> list[str]:
    return [name for name in ("linux", "darwin", "win32") if host._user(name)]


def home_of(host: Host, home: Path, **environ: str) -> Machine:
    return on(home, platforms(host)[0], **environ)


def put(host: Host, where: Machine, scope: install.Scope = "user", url: str | None = None) -> Path:
    asked = install.Asked(host, scope, yes=True)
    assert install.put_in(Screen(False), asked, where, url=url) == Exit.DONE
    return host.path(where, project=scope == "project")


def take(host: Host, where: Machine) -> None:
    assert install.take_out(Screen(False), install.Asked(host, "user", yes=True), where) == Exit.DONE


def entry_in(host: Host, path: Path) -> dict[str, Any]:
    entry: dict[str, Any] = of(host.format).get(path.read_text("utf-8"), host.path_of_entry)
    return entry


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in texts(item)]
    return [text for item in value for text in texts(item)] if isinstance(value, list) else [str(value)]


# -- the rows


@every_host
def test_each_row_is_whole_and_says_its_source(host: Host) -> None:
    assert host.title and host.source and host.after.endswith(".") and host.format in ("json", "toml", "yaml")
    placed = texts(dict(host.stdio))
    assert "<env>" in placed and {"<command>", "<args>"} <= {*placed} | (
        {"<command>", "<args>"} if "<command_line>" in placed else set()
    )
    assert host.http is False or texts(dict(host.http)).count("<url>") == 1  # type: ignore[arg-type]
    assert any("<token" in text for text in texts(dict(host.token)))
    assert not host.reference or "NAME" in host.reference
    assert not (host.reference and (host.inherits or host.names_key)) or host.name == "codex"
    assert platforms(host)


def test_at_least_twenty_hosts_are_known_by_their_names() -> None:
    assert len(HOSTS) >= 35
    assert len({host.title for host in HOSTS.values()}) == len(HOSTS)


def test_hosts_that_share_a_file_are_known() -> None:
    shared: dict[str, list[str]] = {}
    for name, host in HOSTS.items():
        for file in mcp_clients._listed(host.project):
            shared.setdefault(file, []).append(name)
    assert {file: names for file, names in shared.items() if len(names) > 1} == {
        ".mcp.json": ["claude-code", "codebuddy", "copilot-cli"],
        ".vscode/mcp.json": ["vscode", "vscode-insiders"],
    }


# -- where


VARIABLES = {
    "CLAUDE_CONFIG_DIR": "claude-code",
    "CODEX_HOME": "codex",
    "CLINE_DIR": "cline-cli",
    "COPILOT_HOME": "copilot-cli",
    "GROK_HOME": "grok-build",
    "KIMI_CODE_HOME": "kimi-code",
    "PI_CODING_AGENT_DIR": "pi",
    "QWEN_CONFIG_DIR": "qwen",
}


@pytest.mark.parametrize(("variable", "host"), VARIABLES.items())
def test_a_host_whose_folder_was_moved_is_followed(variable: str, host: str, tmp_path: Path) -> None:
    moved = on(tmp_path, **{variable: str(tmp_path / "moved")})
    assert HOSTS[host].path(moved).is_relative_to(tmp_path / "moved")


@pytest.mark.parametrize("name", ["crush", "goose", "kilo", "opencode", "zed", "vscode", "cline"])
def test_the_configuration_folder_of_the_desktop_is_followed(name: str, tmp_path: Path) -> None:
    moved = on(tmp_path, XDG_CONFIG_HOME=str(tmp_path / "xdg"))
    assert HOSTS[name].path(moved).is_relative_to(tmp_path / "xdg")


def test_zed_from_a_flatpak_has_its_own_folder(tmp_path: Path) -> None:
    inside = on(tmp_path, FLATPAK_XDG_CONFIG_HOME="/app/config", XDG_CONFIG_HOME="/xdg")
    assert HOSTS["zed"].path(inside).as_posix() == "/app/config/zed/settings.json"


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_every_file_lies_in_the_users_own_folders(platform: str, tmp_path: Path) -> None:
    for host in HOSTS.values():
        if platform in platforms(host):
            assert host.path(on(tmp_path, platform)).is_relative_to(tmp_path), host.name
        else:
            with pytest.raises(errors.BadRequest, match="on this platform"):
                host.path(on(tmp_path, platform))


@pytest.mark.parametrize("name", [name for name, host in HOSTS.items() if not isinstance(host.user, str)])
def test_of_several_names_the_one_that_exists_counts(name: str, tmp_path: Path) -> None:
    host = HOSTS[name]
    names = [file for file in host._user("linux") if "*" not in file]
    where = home_of(host, tmp_path)
    for file in reversed(names):
        where.path(file).parent.mkdir(parents=True, exist_ok=True)
        where.path(file).write_text("", "utf-8")
        assert host.path(where) == where.path(file)


@every_host
def test_a_host_is_found_by_its_file_or_its_folder(host: Host, tmp_path: Path) -> None:
    where = home_of(host, tmp_path)
    assert not host.is_installed(where)
    folders = mcp_clients._listed(host.installed)
    folder = where.path(folders[0]) if folders else host.path(where).parent
    assert folder != tmp_path, "the home directory is everybody's"
    folder.mkdir(parents=True)
    assert host.is_installed(where)


# -- what is in the file


@every_host
def test_in_an_empty_home_it_comes_and_goes_without_a_trace(host: Host, tmp_path: Path) -> None:
    for platform in platforms(host):
        where = on(tmp_path / platform, platform, ATLASCLOUD_API_KEY=KEY)
        path = put(host, where)
        first = path.read_bytes()
        assert entry_in(host, path)
        put(host, where)
        assert path.read_bytes() == first
        take(host, where)
        assert [file.name for file in where.home.rglob("*") if file.is_file()] == [f"{path.name}.before-triptych"]
        take(host, where)


def others(host: Host) -> str:
    if host.format == "toml":
        return f'# mine\nmodel = "x" # yes\n\n[{host.servers[0]}.files] # other\ncommand = "npx"\nargs = [\n  "a",\n]\n'
    if host.format == "yaml":
        return (
            f"# mine\nGOOSE_MODEL: x # yes\n{host.servers[0]}:\n  files: # other\n    cmd: npx\n    args:\n    - a\n"
            "# the end\nlast: 'it''s'\n"
        )
    inner = '{\n    "files": {"command": "npx", "args": ["a"]}, // other\n  }'
    return f'{{\n  // mine\n  "model": "x", /* yes */\n  {json.dumps(host.servers[0])}: {inner},\n}}\n'


@every_host
def test_beside_others_and_comments_it_comes_and_goes(host: Host, tmp_path: Path) -> None:
    where = home_of(host, tmp_path)
    path = host.path(where)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = others(host)
    path.write_text(before, "utf-8")
    put(host, where)
    after = path.read_text("utf-8")
    kept = iter(after.splitlines())
    assert all(line in kept for line in before.splitlines()), "a line was changed or moved"
    assert of(host.format).get(after, (*host.servers, "files")) == of(host.format).get(before, (*host.servers, "files"))
    put(host, where)
    assert path.read_text("utf-8") == after
    take(host, where)
    assert path.read_text("utf-8") == before


@every_host
def test_no_secret_is_written_in_any_hosts_file(host: Host, tmp_path: Path) -> None:
    for scope in SCOPES if host.project else ("user",):
        for url in (None, REMOTE) if host.http else (None,):
            where = home_of(host, tmp_path / f"{scope}{url is None}", **SECRETS)
            path = put(host, where, scope, url)
            text = path.read_text("utf-8")
            assert KEY not in text
            named = "TRIPTYCH_AUTH_TOKEN" if url else "ATLASCLOUD_API_KEY"
            reference = host.refer(named) if not url else None
            if host.asks:
                assert reference is None or reference in text
            elif url is None and host.inherits:
                assert named not in text
            elif url is None and scope == "project" and not (host.reference or host.names_key):
                assert host.env_key not in entry_in(host, path)
            elif host.reference or host.names_key:
                assert named in text


@every_host
def test_what_has_to_be_filled_in_is_said(host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = home_of(host, tmp_path, NOVITA_API_KEY=KEY)
    put(host, where)
    must = not (host.reference or host.names_key or host.inherits)
    assert ("To be filled in there: NOVITA_API_KEY." in capsys.readouterr().out) is must
    if host.http:
        put(host, where, url=REMOTE)
        must = not host.reference and "<token>" in " ".join(texts(dict(host.token)))
        assert ("To be filled in there: the token, after Bearer." in capsys.readouterr().out) is must


def test_a_key_in_a_file_of_its_own_replaces_the_empty_value(tmp_path: Path) -> None:
    path = put(HOSTS["lmstudio"], on(tmp_path))
    assert entry_in(HOSTS["lmstudio"], path)["env"] == {"ATLASCLOUD_API_KEY": ""}
    put(HOSTS["lmstudio"], on(tmp_path, ATLASCLOUD_API_KEY=KEY, ATLASCLOUD_API_KEY_FILE="/home/me/key"))
    assert entry_in(HOSTS["lmstudio"], path)["env"] == {"ATLASCLOUD_API_KEY_FILE": "/home/me/key"}


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (f'"ATLASCLOUD_API_KEY": "{KEY}",', '"ATLASCLOUD_API_KEY": "…",'),
        (f"      ATLASCLOUD_API_KEY: {KEY}", "      ATLASCLOUD_API_KEY: …"),
        (f"api_key = '{KEY}'", "api_key = '…'"),
        (f'"Authorization": "Bearer {KEY}"', '"Authorization": "…"'),
        *[(line, line) for line in ('"A_KEY": "{env:A_KEY}"', '"A_KEY": "${A_KEY:-}"', '"Authorization": "Bearer "')],
        *[
            (line, line)
            for line in ('env_keys: ["A_KEY"]', 'bearer_token_env_var = "TRIPTYCH_AUTH_TOKEN"', '"K_KEY": ""')
        ],
    ],
)
def test_the_shown_change_hides_values_and_shows_names(line: str, shown: str) -> None:
    assert host_file.difference(Path("x"), "", line).splitlines()[-1] == f"+{shown}"


@needs_modes
@pytest.mark.parametrize(("scope", "mode"), [("user", 0o600), ("project", 0o644)])
def test_a_new_file_of_one_user_is_for_that_user_alone(scope: install.Scope, mode: int, tmp_path: Path) -> None:
    path = put(HOSTS["warp"], on(tmp_path), scope)
    assert path.stat().st_mode & mode == path.stat().st_mode & 0o777


@every_host
def test_settings_hold_and_projects_have_nothing_of_one_user(host: Host, tmp_path: Path) -> None:
    where = home_of(host, tmp_path, TRIPTYCH_BUDGET_USD="2.5", TRIPTYCH_HOME=str(tmp_path / "data"))
    entry = entry_in(host, put(host, where))
    assert entry[host.env_key]["TRIPTYCH_BUDGET_USD"] == "2.5"
    if host.project:
        path = put(host, where, "project")
        text = path.read_text("utf-8")
        assert "2.5" not in text and str(tmp_path) not in text and sys.prefix not in text
        command = entry_in(host, path).get("command", entry_in(host, path).get("cmd"))
        assert command in ("triptych", ["triptych"])


@pytest.mark.parametrize("name", [name for name, host in HOSTS.items() if host.http])
def test_each_host_changes_its_transport_and_back(name: str, tmp_path: Path) -> None:
    host = HOSTS[name]
    where = home_of(host, tmp_path, TRIPTYCH_BUDGET_USD="2.5")
    path = put(host, where)
    first = entry_in(host, path)
    put(host, where, url=REMOTE)
    over_http = entry_in(host, path)
    assert REMOTE in over_http.values() and host.env_key not in over_http
    assert not {"command", "cmd", "args"} & over_http.keys()
    put(host, where)
    assert entry_in(host, path) == first


@every_host
def test_what_the_user_set_in_the_entry_stays(host: Host, tmp_path: Path) -> None:
    where = home_of(host, tmp_path)
    path = put(host, where)
    mine = entry_in(host, path) | {"mine": True, host.env_key: {"TRIPTYCH_BUDGET_USD": "1"}}
    path.write_text(of(host.format).put(path.read_text("utf-8"), host.path_of_entry, mine), "utf-8")
    put(host, home_of(host, tmp_path, TRIPTYCH_BUDGET_USD="9", TRIPTYCH_MODELS="x"))
    entry = entry_in(host, path)
    assert entry["mine"] is True
    assert entry[host.env_key].items() >= {"TRIPTYCH_BUDGET_USD": "1", "TRIPTYCH_MODELS": "x"}.items()


@every_host
def test_a_broken_file_is_left_alone_and_the_reason_is_said(host: Host, tmp_path: Path) -> None:
    where = home_of(host, tmp_path)
    path = host.path(where)
    path.parent.mkdir(parents=True, exist_ok=True)
    for text in ("{ [", f'"{host.servers[0]}" : 1, ]', "\tx: {"):
        path.write_text(text, "utf-8")
        with pytest.raises(errors.BadRequest, match="cannot be edited") as refused:
            put(host, where)
        assert f"triptych install {host.name} --user --print" in refused.value.message
        with pytest.raises(errors.BadRequest, match="Remove the entry"):
            take(host, where)
        assert path.read_text("utf-8") == text and len(list(path.parent.iterdir())) == 1


def test_vs_code_forgets_the_inputs_that_were_ours(tmp_path: Path) -> None:
    where = on(tmp_path, ARK_API_KEY=KEY)
    path = HOSTS["vscode"].path(where)
    path.parent.mkdir(parents=True)
    before = '{\n  "inputs": [\n    {"id": "mine", "type": "promptString"}\n  ],\n  "servers": {}\n}\n'
    path.write_text(before, "utf-8")
    put(HOSTS["vscode"], where)
    assert "triptych-ark-api-key" in path.read_text("utf-8")
    take(HOSTS["vscode"], where)
    assert json_text.read(path.read_text("utf-8")) == {"inputs": [{"id": "mine", "type": "promptString"}]}


@needs_links
@pytest.mark.parametrize("name", ["warp", "goose", "grok-build"])
def test_a_link_leads_to_a_file_afterwards_too(name: str, tmp_path: Path) -> None:
    host, where, real = HOSTS[name], on(tmp_path), tmp_path / "dotfiles"
    path = host.path(where)
    path.parent.mkdir(parents=True)
    path.symlink_to(real)
    put(host, where)
    take(host, where)
    assert path.is_symlink() and of(host.format).get(real.read_text("utf-8"), host.path_of_entry) is None
    put(host, where)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("extensions: {developer: {enabled: true}}\n", "beside it"),
        ("extensions: &all\n  a: 1\n", "beside it"),
        ("extensions:\n  - a\n", "not keys"),
        ("extensions:\n\ta: 1\n", "line 2"),
        ("- a\nb\n", "line 2"),
        ("a: 1\n---\nb: 1\n", "line 2"),
        ("extensions:\n  a: 1\nextensions:\n  b: 1\n", "twice"),
        ("extensions:\n  triptych: 1\n  triptych: 2\n", "twice"),
        ("extensions:\n  triptych:\n    cmd: |\n      a\n", "several lines"),
    ],
)
def test_a_yaml_file_in_another_form_is_refused(text: str, says: str, tmp_path: Path) -> None:
    path = HOSTS["goose"].path(on(tmp_path))
    path.parent.mkdir(parents=True)
    path.write_text(text, "utf-8")
    with pytest.raises(errors.BadRequest, match=says):
        put(HOSTS["goose"], on(tmp_path))
    assert path.read_text("utf-8") == text


# -- on the command line


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for variable in (*VARIABLES, "XDG_CONFIG_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*args: str) -> Any:
    return CliRunner().invoke(cli, args)


def test_without_a_host_those_of_the_machine_are_listed(at_home: Path) -> None:
    assert "No MCP host that Triptych knows" in run("install").stdout
    (at_home / ".cursor").mkdir()
    (at_home / ".warp").mkdir()
    (at_home / ".warp" / ".mcp.json").write_text("{", "utf-8")
    assert run("install", "codex", "--yes").exit_code == 0
    lines = run("install").stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [["cursor", "not"], ["codex", "✓"], ["warp", "!"]]
    told = json.loads(run("install", "--json").stdout)
    assert [(item["host"], item["installed"]) for item in told["found"]] == [
        ("cursor", False),
        ("codex", True),
        ("warp", None),
    ]
    assert len(told["others"]) == len(HOSTS) - 3


def test_uninstall_shows_asks_removes_and_keeps_a_backup(at_home: Path) -> None:
    assert "not installed in Zed" in run("uninstall", "zed").stdout
    path = at_home / ".config/zed/settings.json"
    path.parent.mkdir(parents=True)
    path.write_text('{\n  "theme": "One"\n}\n', "utf-8")
    run("install", "zed", "--yes")
    refused = run("uninstall", "zed")
    assert refused.exit_code == Exit.BAD_REQUEST and "add --yes" in refused.stderr
    done = run("uninstall", "zed", "--yes", "--json")
    assert json.loads(done.stdout)["state"] == "removed" and '-    "triptych": {' in done.stderr
    assert path.read_text("utf-8") == '{\n  "theme": "One"\n}\n'
    assert "triptych" in path.with_name("settings.json.before-triptych-2").read_text("utf-8")


def test_a_dry_run_shows_the_change_and_writes_nothing(at_home: Path) -> None:
    for args in (("install", "zed"), ("uninstall", "zed")):
        shown = run(*args, "--dry-run")
        assert shown.exit_code == 0 and "triptych" in shown.stderr + shown.stdout
        if args[0] == "install":
            assert "Nothing was written" in shown.stdout and not list(at_home.rglob("*.json"))
            run("install", "zed", "--yes")
    assert "triptych" in (at_home / ".config/zed/settings.json").read_text("utf-8")


@pytest.mark.parametrize(
    ("given", "meant"), [("claude", "claude-code"), ("roo-code", "roo"), ("VSCode", "vscode"), ("Factory", "droid")]
)
def test_an_unknown_host_is_answered_with_a_known_one(given: str, meant: str, at_home: Path) -> None:
    refused = run("install", given)
    assert refused.exit_code == Exit.BAD_REQUEST and meant in refused.stderr
