"""Make Triptych known to an MCP host: the one entry in that host's own file, shown before it is written.

Rules: a key is never written; the entry names the variable it comes from, in the host's own syntax. Nothing is written
that was not shown and agreed to. What was there is kept beside it as a backup that is never overwritten, and a file
that cannot be edited without harm is left alone, with the lines to paste. Where files are is decided from a `Machine`
alone, so that every platform can be tested on any. Must not know the studio.
"""

from __future__ import annotations

import base64
import difflib
import json
import os
import re
import shutil
import stat
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import click
from pydantic import BaseModel

from triptych import __version__, errors, providers
from triptych.cli import splice
from triptych.cli.screen import Screen, command
from triptych.cli.words import Exit

NAME = "triptych"
LOCAL_URL = "http://127.0.0.1:8765/mcp"
TOOL_TIMEOUT_S = 90
"""Codex's limit for a call; the longest wait of a tool is 55 s."""
TOKEN = "TRIPTYCH_AUTH_TOKEN"  # noqa: S105 (the name of a variable)
CARRIED = (
    "TRIPTYCH_HOME",
    "TRIPTYCH_PROVIDER",
    "TRIPTYCH_ALLOWED_DIRS",
    "TRIPTYCH_BUDGET_USD",
    "TRIPTYCH_CONFIRM_USD",
)
"""Settings that are no secrets: where they are set they go into the entry, for most hosts hand on no environment."""
ADDRESS = {"type", "command", "args", "url", "httpUrl", "serverUrl"}
"""What an entry says of where the server is."""
BESIDE = {"env", "env_vars", "cwd", "headers", "bearer_token_env_var"}
"""What goes with one transport and means nothing for the other."""

_SECRET = re.compile(r"""(?i)((?:key|token|secret|password|authorization)\w*["']?\s*[:=]\s*["'])[^"'$]{4,}(["'])""")
_UV_CACHE = re.compile(r"(archive|environments|builds)-v\d+")

Scope = Literal["user", "project"]


@dataclass(frozen=True, slots=True)
class Machine:
    """Where this runs: `platform` as in `sys.platform`, the environment, the home and the working directory."""

    platform: str
    environ: Mapping[str, str]
    home: Path
    cwd: Path

    def set_to(self, variable: str, default: Path) -> Path:
        """Return the directory that a variable names, or the default."""
        return Path(self.environ.get(variable) or default)

    @property
    def roaming(self) -> Path:
        """Where desktop applications of this platform keep their settings."""
        if self.platform == "win32":
            return self.set_to("APPDATA", self.home / "AppData" / "Roaming")
        if self.platform == "darwin":
            return self.home / "Library" / "Application Support"
        return self.set_to("XDG_CONFIG_HOME", self.home / ".config")


@dataclass(frozen=True, slots=True)
class Host:
    """One MCP host: where its files are, and how it wants to be told."""

    name: str
    title: str
    user: Callable[[Machine], Path]
    project: tuple[str, ...] | None
    reference: str | None
    """How a value is taken from the environment, NAME standing for the variable; None: not at all."""
    url_key: str | None
    """Under which key the address of a server over HTTP stands; None: not in this file."""
    after: str
    servers: str = "mcpServers"
    typed: bool = False


def _claude_desktop(machine: Machine) -> Path:
    folder = machine.roaming / "Claude"
    if machine.platform == "win32":
        # Packaged builds read a private copy of the folder, which shadows the documented one.
        local = machine.set_to("LOCALAPPDATA", machine.home / "AppData" / "Local")
        packaged = sorted(local.glob("Packages/Claude_*/LocalCache/Roaming/Claude"))
        folder = packaged[0] if packaged else folder
    return folder / "claude_desktop_config.json"


HOSTS = {
    host.name: host
    for host in (
        Host(
            name="claude-code",
            title="Claude Code",
            user=lambda m: m.set_to("CLAUDE_CONFIG_DIR", m.home) / ".claude.json",
            project=(".mcp.json",),
            reference="${NAME:-}",
            url_key="url",
            typed=True,
            after="Start claude; `claude mcp list` shows it. In a project, Claude Code asks once whether you trust it.",
        ),
        Host(
            name="cursor",
            title="Cursor",
            user=lambda m: m.home / ".cursor" / "mcp.json",
            project=(".cursor", "mcp.json"),
            reference="${env:NAME}",
            url_key="url",
            after="Turn it on in Cursor's settings, under MCP.",
        ),
        Host(
            name="vscode",
            title="VS Code",
            user=lambda m: m.roaming / "Code" / "User" / "mcp.json",
            project=(".vscode", "mcp.json"),
            reference="${input:NAME}",
            url_key="url",
            servers="servers",
            typed=True,
            after="VS Code asks for the key at the first start and keeps it; run `MCP: List Servers` to start it.",
        ),
        Host(
            name="codex",
            title="Codex",
            user=lambda m: m.set_to("CODEX_HOME", m.home / ".codex") / "config.toml",
            project=(".codex", "config.toml"),
            reference="NAME",
            url_key="url",
            servers="mcp_servers",
            after="Start codex; `/mcp` shows it. A project's file is read once the project is trusted.",
        ),
        Host(
            name="claude-desktop",
            title="Claude Desktop",
            user=_claude_desktop,
            project=None,
            reference=None,
            url_key=None,
            after="Claude Desktop reads no environment: put your key between the quotes in the file, then restart it.",
        ),
        Host(
            name="gemini",
            title="Gemini CLI",
            user=lambda m: m.home / ".gemini" / "settings.json",
            project=(".gemini", "settings.json"),
            reference="${NAME}",
            url_key="httpUrl",
            after="Start gemini; `/mcp` shows it.",
        ),
        Host(
            name="windsurf",
            title="Windsurf",
            user=lambda m: m.home / ".codeium" / "windsurf" / "mcp_config.json",
            project=None,
            reference="${env:NAME}",
            url_key="serverUrl",
            after="Refresh the servers in Windsurf's MCP settings.",
        ),
    )
}


# -- what is written ---------------------------------------------------------------------------------------------------


def launcher(executable: str, machine: Machine, source: str | None) -> list[str]:
    """Return the command that starts this very installation, wherever the host starts it from.

    That is the `triptych` script beside the running interpreter, by its absolute path: hosts with windows have another
    PATH than a shell, and a name could be anybody's. From `uvx` there is no lasting script, so `uv tool run` is asked
    for the same thing again; `source` is where it was installed from (a URL or path), None for a package index.

    Raises: `errors.BadRequest` when the installation is temporary and uv is not to be found.
    """
    python = Path(executable)
    if any(_UV_CACHE.fullmatch(part) for part in python.parts):
        uv = machine.environ.get("UV") or shutil.which("uv", path=machine.environ.get("PATH"))
        if not uv:
            raise errors.BadRequest(
                "This is a temporary installation, and uv, which made it, is not on the PATH. Install Triptych to stay "
                "(`uv tool install`, `pipx install`, `pip install`) and run `triptych install` from there."
            )
        return [uv, "tool", "run", "--from", source or f"{NAME}=={__version__}", NAME]
    script = python.parent / (f"{NAME}.exe" if machine.platform == "win32" else NAME)
    return [str(script)] if script.is_file() else [executable, "-m", NAME]


def installed_from() -> str | None:
    """Return the URL that this installation came from (PEP 610), or None when it came from a package index."""
    try:
        told = distribution(NAME).read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    if not told:
        return None
    direct = json.loads(told)
    vcs = direct.get("vcs_info")
    return f"{vcs['vcs']}+{direct['url']}@{vcs['commit_id']}" if vcs else str(direct["url"])


def keys(environ: Mapping[str, str]) -> list[str]:
    """Return the providers' key variables that are set; Atlas Cloud's when none is."""
    return [name for name in key_variables() if environ.get(name, "").strip()] or ["ATLASCLOUD_API_KEY"]


def key_variables() -> list[str]:
    """Return the key variables of all providers."""
    return [key for name in providers.names() if (key := providers.load(name).key_env)]


def stdio_entry(host: Host, start: Sequence[str], machine: Machine) -> dict[str, Any]:
    """Return the entry with which a host starts the server itself."""
    entry: dict[str, Any] = {"type": "stdio"} if host.typed else {}
    entry |= {"command": start[0], "args": list(start[1:])}
    names = keys(machine.environ)
    settings = {name: machine.environ[name] for name in CARRIED if machine.environ.get(name, "").strip()}
    if host.name == "claude-desktop":
        # It starts servers from the root of the file system, where nothing may be read.
        settings.setdefault("TRIPTYCH_ALLOWED_DIRS", str(machine.home / "Pictures"))
    if host.name == "codex":
        entry |= {"env_vars": names, **({"env": settings} if settings else {}), "tool_timeout_sec": TOOL_TIMEOUT_S}
    else:
        entry["env"] = {name: _reference(host, name) for name in names} | settings
    return entry


def http_entry(host: Host, url: str, machine: Machine) -> dict[str, Any]:
    """Return the entry with which a host reaches a server that already runs, its token taken from the environment.

    Raises: `errors.BadRequest` for an address that must not be written down, or a host that has no place for one.
    """
    if host.url_key is None:
        raise errors.BadRequest(
            f"{host.title} takes servers over HTTP in its settings (Connectors), not in a file; leave --transport out, "
            "and it starts Triptych itself."
        )
    there = urlsplit(url)
    local = there.hostname in ("127.0.0.1", "localhost", "::1")
    if there.scheme not in ("http", "https") or not there.hostname or there.username or there.query:
        raise errors.BadRequest(f"--url must be an address such as {LOCAL_URL}, without a key or a password in it.")
    if there.scheme == "http" and not local:
        raise errors.BadRequest("--url must begin with https:// for another machine: the token would travel in clear.")
    entry: dict[str, Any] = {"type": "http"} if host.typed else {}
    entry[host.url_key] = url
    if not local or machine.environ.get(TOKEN, "").strip():
        if host.name == "codex":
            entry["bearer_token_env_var"] = TOKEN
        else:
            entry["headers"] = {"Authorization": f"Bearer {_reference(host, TOKEN)}"}
    if host.name == "codex":
        entry["tool_timeout_sec"] = TOOL_TIMEOUT_S
    return entry


def _reference(host: Host, name: str) -> str:
    return (host.reference or "").replace("NAME", _input_id(name) if host.name == "vscode" else name)


def _input_id(name: str) -> str:
    return f"{NAME}-{name.lower().replace('_', '-')}"


def merged(old: object, new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the new entry with everything of the user's: their environment, headers and options of the host.

    Raises: `ValueError` when what stands there is no entry at all.
    """
    if old is None:
        return dict(new)
    if not isinstance(old, dict):
        raise ValueError(f'"{NAME}" is not an entry for a server')
    gone = ADDRESS if ("command" in old) == ("command" in new) else ADDRESS | BESIDE
    entry = {key: value for key, value in old.items() if key not in gone or key in new}
    for key, value in new.items():
        before = entry.get(key)
        if key in ADDRESS or before is None:
            entry[key] = value
        elif isinstance(value, dict) and isinstance(before, dict):
            entry[key] = before | {name: item for name, item in value.items() if name not in before}
        elif isinstance(value, list) and isinstance(before, list):
            entry[key] = [*before, *(item for item in value if item not in before)]
    return entry


def edited(host: Host, text: str, entry: Mapping[str, Any]) -> str:
    """Return the text of a host's file with Triptych in it; the same text when it is there already.

    Raises: `ValueError` saying why the file cannot be edited.
    """
    path = (host.servers, NAME)
    if host.name == "codex":
        servers = tomllib.loads(text).get(host.servers, {})
        old = servers.get(NAME) if isinstance(servers, dict) else None
        meant = merged(old, entry)
        return text if meant == old else splice.put_toml(text, path, meant)
    document = splice.read_json(text)
    servers = document.get(host.servers)
    old = servers.get(NAME) if isinstance(servers, dict) else None
    meant = merged(old, entry)
    if meant != old:
        text = splice.put_json(text, path, meant)
    listed = document.get("inputs")
    known = {item.get("id") for item in listed if isinstance(item, dict)} if isinstance(listed, list) else set()
    for item in inputs(host, meant):
        if item["id"] not in known:
            text = splice.append_json(text, ("inputs",), item)
    return text


def inputs(host: Host, entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what VS Code has to ask for; other hosts have no such thing."""
    if host.name != "vscode":
        return []
    told = json.dumps(entry)
    asked = [name for name in (*key_variables(), TOKEN) if _reference(host, name) in told]
    return [
        {"type": "promptString", "id": _input_id(name), "description": f"{name} for Triptych", "password": True}
        for name in asked
    ]


def snippet(host: Host, entry: Mapping[str, Any]) -> str:
    """Return what an empty file would hold: the lines to paste."""
    return edited(host, "", entry)


def deeplink(entry: Mapping[str, Any]) -> str:
    """Return the link with which Cursor offers to add the entry."""
    config = base64.b64encode(json.dumps(entry, separators=(",", ":")).encode()).decode()
    return f"cursor://anysphere.cursor-deeplink/mcp/install?name={NAME}&config={quote(config, safe='')}"


# -- the file ----------------------------------------------------------------------------------------------------------


def read(path: Path) -> str | None:
    """Return a file's text with its line endings as they are, or None when there is none.

    Raises: `errors.BadRequest` for what cannot be read.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise errors.BadRequest(f"{path} cannot be read ({why}); nothing was written.") from error


def write(path: Path, before: str | None, after: str) -> Path | None:
    """Replace a file in one step, and return the backup of what it was; directories are made if need be.

    Raises: `errors.BadRequest` when the file is read-only, was changed since `before` was read, or cannot be written.
    """
    path = path.resolve()  # a link to the file stays a link
    try:
        if read(path) != before:
            raise errors.BadRequest(f"{path} was changed in the meantime; nothing was written. Run it again.")
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IMODE(path.stat().st_mode) if before is not None else None
        if mode is not None and not (mode & stat.S_IWUSR and os.access(path, os.W_OK)):
            raise errors.BadRequest(f"{path} is read-only; nothing was written. Make it writable and run this again.")
        kept = _backup(path) if before is not None else None
        fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode or 0o666), "wb") as file:
                file.write(after.encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
            if mode is not None:
                fresh.chmod(mode)
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise errors.BadRequest(
            f"{path} cannot be written ({error.strerror}). `--print` shows the lines to put there yourself."
        ) from error
    return kept


def _backup(path: Path) -> Path:
    """Copy a file beside itself under a name that is free, and return that."""
    number = 1
    while True:
        kept = path.with_name(f"{path.name}.before-triptych{'' if number == 1 else f'-{number}'}")
        try:
            with os.fdopen(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(path.read_bytes())
            shutil.copymode(path, kept)
        except FileExistsError:
            number += 1
        else:
            return kept


def difference(path: Path, before: str, after: str) -> str:
    """Return the lines that change, without those around them: other servers' keys are nobody's business here."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), str(path), f"{path} (with Triptych)", lineterm="", n=0
    )
    return _SECRET.sub(r"\1…\2", "\n".join(lines))


# -- the command -------------------------------------------------------------------------------------------------------


class Installed(BaseModel):
    """What came of it; `state` is installed, already, printed or declined."""

    host: str
    scope: Scope
    path: str
    state: Literal["installed", "already", "printed", "declined"]
    entry: dict[str, Any]
    backup: str | None = None


@click.command()
@click.argument("host", type=click.Choice(list(HOSTS)))
@click.option("--user", "scope", flag_value="user", default="user", help="For you, in every project (the default).")
@click.option("--project", "scope", flag_value="project", help="For this project: a file in the working directory.")
@click.option("--print", "show_only", is_flag=True, help="Only print what would be written, for pasting.")
@click.option("--yes", is_flag=True, help="Do not ask before writing.")
@click.option("--transport", type=click.Choice(["stdio", "http"]), default="stdio", show_default=True)
@click.option("--url", help=f"Where the server is, for --transport http.  [default: {LOCAL_URL}]")
@command
def install(
    screen: Screen, host: str, scope: Scope, show_only: bool, yes: bool, transport: str, url: str | None
) -> Exit:
    """Make Triptych known to an MCP host.

    The change to the host's file is shown, asked for, and written with a backup. Keys are not written: the entry takes
    them from the environment.
    """
    machine = Machine(sys.platform, os.environ, Path.home(), Path.cwd())
    return put_in(screen, HOSTS[host], scope, machine, url=_url(transport, url), show_only=show_only, yes=yes)


def _url(transport: str, url: str | None) -> str | None:
    if transport == "http":
        return url or LOCAL_URL
    if url:
        raise errors.BadRequest("--url goes with --transport http.")
    return None


def put_in(
    screen: Screen, host: Host, scope: Scope, machine: Machine, *, url: str | None, show_only: bool, yes: bool
) -> Exit:
    """Show, ask and write one host's entry; `url` is a running server's address, None lets the host start its own.

    Raises: `errors.BadRequest` with what mends it; nothing was written then.
    """
    if scope == "project" and host.project is None:
        raise errors.BadRequest(f"{host.title} has no file for one project; leave --project out.")
    path = machine.cwd.joinpath(*host.project) if scope == "project" and host.project else host.user(machine)
    if url is None:
        entry = stdio_entry(host, launcher(sys.executable, machine, installed_from()), machine)
    else:
        entry = http_entry(host, url, machine)

    def end(state: Literal["installed", "already", "printed", "declined"], said: str, kept: Path | None = None) -> None:
        result = Installed(
            host=host.name, scope=scope, path=str(path), state=state, entry=entry, backup=str(kept) if kept else None
        )
        screen.show(result, said)

    if show_only:
        screen.note(f"For {path}:")
        end("printed", snippet(host, entry).rstrip("\n"))
        if host.name == "cursor":
            screen.note(f"Or open this link:\n{deeplink(entry)}")
        return Exit.DONE
    before = read(path)
    try:
        after = edited(host, before or "", entry)
    except ValueError as error:
        raise errors.BadRequest(
            f"{path} cannot be edited ({errors.quoted(error, 160)}); it was left as it is. "
            f"`triptych install {host.name} --{scope} --print` shows the lines to put there yourself."
        ) from error
    if after == before:
        end("already", f"✓ Triptych is already installed in {host.title}: {path}")
        return Exit.DONE
    screen.note(difference(path, before or "", after))
    if not yes and not _agreed(path):
        end("declined", "Nothing was written.")
        return Exit.CANCELLED
    kept = write(path, before, after)
    said = [f"✓ Triptych is installed in {host.title}: {path}", *([f"  backup: {kept}"] if kept else [])]
    end("installed", "\n".join([*said, f"  {host.after}"]), kept)
    return Exit.DONE


def _agreed(path: Path) -> bool:
    if not sys.stdin.isatty():
        raise errors.BadRequest(
            f"There is no terminal to ask in, so {path} was left as it is: add --yes to write it, or --print to see it."
        )
    return click.confirm(f"Write this to {path}?", err=True)
