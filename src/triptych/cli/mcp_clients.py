"""The MCP hosts: the configuration file of each, and the entry for Triptych in it.

Rules: an entry has no secret, only the name of its variable, in the host's own syntax. An entry for one user has that
user's settings, because most hosts pass no environment to a server. An entry for a project has no settings of one user:
each colleague's own environment applies.
Paths follow from a `Machine` alone, so that every platform can be tested on any. Pure: text in, text out. Must not know
the service.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from triptych import __version__, providers
from triptych.cli import config_edit
from triptych.core import errors

NAME = "triptych"
LOCAL_URL = "http://127.0.0.1:8765/mcp"
TOOL_TIMEOUT_S = 90
"""Codex's limit for a call; the longest wait of a tool is 55 s."""
TOKEN = "TRIPTYCH_AUTH_TOKEN"  # noqa: S105 (the name of a variable)
ALLOWED = "TRIPTYCH_ALLOWED_DIRS"
SETTINGS = (
    "TRIPTYCH_HOME",
    "TRIPTYCH_PROVIDER",
    "TRIPTYCH_MODELS",
    ALLOWED,
    "TRIPTYCH_BUDGET_USD",
    "TRIPTYCH_OWNER_BUDGET_USD",
    "TRIPTYCH_GROUP_BUDGETS_USD",
    "TRIPTYCH_CONFIRM_USD",
    "TRIPTYCH_PROXY_RESOLVES",
    "TRIPTYCH_LINKS",
    "TRIPTYCH_LOG_LEVEL",
    "TRIPTYCH_LOG_FORMAT",
)
"""The settings of a server that a host starts; `settings` adds those of the network and the providers."""
NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
DATABASE = "TRIPTYCH_DATABASE_URL"
"""It may hold a password."""
OBJECTS = "TRIPTYCH_OBJECTS_URL"
OF_OBJECTS = (OBJECTS, "AWS_ENDPOINT_URL", "AWS_REGION", "AZURE_STORAGE_ACCOUNT_NAME", "GOOGLE_SERVICE_ACCOUNT")
KEYS_OF_OBJECTS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY")
ADDRESS = {"type", "command", "args", "url", "httpUrl", "serverUrl"}
"""The keys of an entry that locate the server."""
BESIDE = {"env", "env_vars", "cwd", "required", "headers", "bearer_token_env_var"}
"""The keys that are valid for one transport only."""

_UV_CACHE = re.compile(r"(archive|environments|builds)-v\d+")


@dataclass(frozen=True, slots=True)
class Machine:
    """This machine: `platform` as in `sys.platform`, the environment, the home and the working directory."""

    platform: str
    environ: Mapping[str, str]
    home: Path
    cwd: Path

    def set_to(self, variable: str, default: Path) -> Path:
        """Return the directory that a variable names, or the default."""
        return Path(self.environ.get(variable) or default)

    @property
    def path_separator(self) -> str:
        """The separator in a list of directories, as in `PATH`."""
        return ";" if self.platform == "win32" else ":"

    @property
    def roaming(self) -> Path:
        """The directory for settings of desktop applications on this platform."""
        if self.platform == "win32":
            return self.set_to("APPDATA", self.home / "AppData" / "Roaming")
        if self.platform == "darwin":
            return self.home / "Library" / "Application Support"
        return self.set_to("XDG_CONFIG_HOME", self.home / ".config")


@dataclass(frozen=True, slots=True)
class Host:
    """One MCP host: its configuration files and their syntax."""

    name: str
    title: str
    user: Callable[[Machine], Path]
    project: tuple[str, ...] | None
    reference: str | None
    """The syntax for a variable of the environment, with NAME as its name; None: the host has none."""
    url_key: str | None
    """The key for the URL of a server over HTTP; None: not in this file."""
    after: str
    servers: str = "mcpServers"
    typed: bool = False


def _claude_desktop(machine: Machine) -> Path:
    folder = machine.roaming / "Claude"
    if machine.platform == "win32":
        # Packaged builds read a private copy of the folder instead of the documented one.
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


# -- the entries -------------------------------------------------------------------------------------------------------


def launcher(executable: str, machine: Machine, source: str | None) -> list[str]:
    """Return the command that starts this very installation, wherever the host starts it from.

    It is the `triptych` script beside the running interpreter, by its absolute path: desktop hosts have another PATH
    than a shell, and another program may have the name. An installation by `uvx` has no lasting script, so the command
    is `uv tool run` with the same `source` (a URL or path; None for a package index).

    Raises: `errors.BadRequest` if the installation is temporary and uv is not found.
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
        direct_url = distribution(NAME).read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    if not direct_url:
        return None
    direct = json.loads(direct_url)
    vcs = direct.get("vcs_info")
    return f"{vcs['vcs']}+{direct['url']}@{vcs['commit_id']}" if vcs else str(direct["url"])


def keys(environ: Mapping[str, str]) -> list[str]:
    """Return the providers' key variables that are set, Atlas Cloud's when none is; then those of an object store."""
    of_store = KEYS_OF_OBJECTS if environ.get(OBJECTS, "").strip() else ()
    given = [name for name in key_variables() if environ.get(name, "").strip()] or ["ATLASCLOUD_API_KEY"]
    return given + [name for name in of_store if environ.get(name, "").strip()]


def key_variables() -> list[str]:
    """Return the key variables of all providers."""
    return [key for name in providers.names() if (key := providers.load(name).key_env)]


def settings(machine: Machine) -> dict[str, str]:
    """Return the settings of this shell that a server needs, without keys and tokens.

    They include base URLs: without its base URL a key would go to another company's host.
    """
    bases = [base.env for name in providers.names() for base in providers.load(name).base_urls.values()]
    # Windows knows one name for both spellings.
    lower = [] if machine.platform == "win32" else [name.lower() for name in NETWORK if name.endswith("_PROXY")]
    of_store = OF_OBJECTS if machine.environ.get(OBJECTS, "").strip() else ()
    names = (*bases, *SETTINGS, DATABASE, *NETWORK, *lower, *of_store)
    return {name: machine.environ[name] for name in names if machine.environ.get(name, "").strip()}


def _has_login(value: str) -> bool:
    """Return whether a value is a URL with a user or a password in it, as a proxy's may be."""
    return bool(re.search(r"^\w[\w+.-]*://[^/?#]*@|^[^/?#@]*:[^/?#@]*@", value.strip()))


def stdio_entry(
    host: Host, start: Sequence[str], machine: Machine, *, project: bool = False, allow: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the entry with which a host starts the server itself; `allow` are further directories it may use."""
    entry: dict[str, Any] = {"type": "stdio"} if host.typed else {}
    entry |= {"command": start[0], "args": list(start[1:])}
    here = settings(machine)
    referred = [
        name for name in here if project or name == DATABASE or (name not in SETTINGS and _has_login(here[name]))
    ]
    plain = {name: value for name, value in here.items() if name not in referred}
    if allow:
        plain[ALLOWED] = with_directories(plain.get(ALLOWED, ""), allow, machine)
    if host.name == "claude-desktop":
        # It starts servers in the root directory, where nothing may be read.
        plain.setdefault(ALLOWED, str(machine.home / "Pictures"))
    # A secret that this shell reads from a file: the host's server reads the same file.
    in_file = [] if project else [n for n in (*keys(machine.environ), *referred) if machine.environ.get(f"{n}_FILE")]
    plain |= {f"{name}_FILE": machine.environ[f"{name}_FILE"] for name in in_file}
    secrets = [name for name in keys(machine.environ) if name not in in_file]
    referred = [name for name in referred if name not in in_file]
    if host.name == "codex":
        entry["env_vars"] = [*secrets, *referred]
        entry |= {"env": plain} if plain else {}
        # Without `required` Codex calls its model before a starting server has listed its tools.
        return entry | {"tool_timeout_sec": TOOL_TIMEOUT_S, "required": True}
    if host.name == "vscode" and project:
        referred = []  # VS Code passes its environment on; an input would ask every colleague
    entry["env"] = {name: _reference(host, name) for name in (*secrets, *referred)} | plain
    return entry


def with_directories(listed: str, more: Sequence[str], machine: Machine) -> str:
    """Return a list of directories, as `PATH` is written on that platform, with more at its end."""
    known = [item for item in listed.split(machine.path_separator) if item.strip()]
    return machine.path_separator.join(dict.fromkeys([*known, *more]))


def http_entry(host: Host, url: str, machine: Machine) -> dict[str, Any]:
    """Return the entry for a server that already runs, with its token from the environment.

    Raises: `errors.BadRequest` for an unsafe URL, or a host whose file takes none.
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


def merged(
    old: object, new: Mapping[str, Any], machine: Machine | None = None, allow: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the new entry merged with the user's: their environment, headers and options of the host.

    The user's values stay; `allow` is added to the directories.

    Raises: `ValueError` if the old value is not an entry.
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
    if allow and machine:
        entry["env"] = {**entry["env"], ALLOWED: with_directories(str(entry["env"].get(ALLOWED, "")), allow, machine)}
    return entry


def edited(
    host: Host, text: str, entry: Mapping[str, Any], machine: Machine | None = None, allow: Sequence[str] = ()
) -> str:
    """Return the text of a host's file with the entry; the same text if the entry is in it already.

    Raises: `ValueError` saying why the file cannot be edited.
    """
    path = (host.servers, NAME)
    if host.name == "codex":
        servers = tomllib.loads(text).get(host.servers, {})
        old = servers.get(NAME) if isinstance(servers, dict) else None
        meant = merged(old, entry, machine, allow)
        return text if meant == old else config_edit.put_toml(text, path, meant)
    document = config_edit.read_json(text)
    servers = document.get(host.servers)
    old = servers.get(NAME) if isinstance(servers, dict) else None
    meant = merged(old, entry, machine, allow)
    if meant != old:
        text = config_edit.put_json(text, path, meant)
    listed = document.get("inputs")
    known = {item.get("id") for item in listed if isinstance(item, dict)} if isinstance(listed, list) else set()
    for item in inputs(host, meant):
        if item["id"] not in known:
            text = config_edit.append_json(text, ("inputs",), item)
    return text


def inputs(host: Host, entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the inputs that VS Code asks the user for; none for other hosts."""
    if host.name != "vscode":
        return []
    text = json.dumps(entry)
    asked = {_input_id(name): name for name in (*entry.get("env", {}), TOKEN) if _reference(host, name) in text}
    return [
        {"type": "promptString", "id": id, "description": f"{name} for Triptych", "password": True}
        for id, name in asked.items()
    ]


def snippet(host: Host, entry: Mapping[str, Any]) -> str:
    """Return the text of a new file: the lines to paste."""
    return edited(host, "", entry)


def deeplink(entry: Mapping[str, Any]) -> str:
    """Return the link that adds the entry to Cursor."""
    config = base64.b64encode(json.dumps(entry, separators=(",", ":")).encode()).decode()
    return f"cursor://anysphere.cursor-deeplink/mcp/install?name={NAME}&config={quote(config, safe='')}"
