"""The MCP hosts: one row of data each (hosts.toml), and the entry for Triptych that follows from a row.

Rules: an entry has no secret, only the name of its variable, in the host's own syntax. An entry for one user has that
user's settings, because most hosts pass no environment to a server. An entry for a project has no settings of one user:
each colleague's own environment applies.
Paths follow from a `Machine` alone, so that every platform can be tested on any. Text in, text out; only `Host.path`
looks whether a file exists. Must not know the service.
"""

from __future__ import annotations

import base64
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from triptych.cli import editors
from triptych.cli.machine import (
    ALLOWED,
    DATABASE,
    NAME,
    SETTINGS,
    Machine,
    has_login,
    keys,
    settings,
    with_directories,
)
from triptych.core import errors
from triptych.providers.url_safety import LOOPBACK

LOCAL_URL = "http://127.0.0.1:8765/mcp"
TOKEN = "TRIPTYCH_AUTH_TOKEN"  # noqa: S105 (the name of a variable)
URLS = {"url", "uri", "httpUrl", "serverUrl"}
ADDRESS = {"type", "transport", "command", "cmd", "args", *URLS}
"""The keys of an entry that locate the server."""


@dataclass(frozen=True, slots=True)
class Host:
    """One MCP host: a row of hosts.toml, whose head explains the fields."""

    name: str
    title: str
    user: str | Sequence[str] | Mapping[str, str | Sequence[str]]
    after: str
    source: str
    project: str | Sequence[str] = ()
    format: editors.Format = "json"
    servers: Sequence[str] = ("mcpServers",)
    stdio: Mapping[str, Any] = field(default_factory=lambda: {"command": "<command>", "args": "<args>", "env": "<env>"})
    http: Mapping[str, Any] | bool = field(default_factory=lambda: {"url": "<url>"})
    token: Mapping[str, Any] = field(default_factory=lambda: {"headers": {"Authorization": "Bearer <token>"}})
    reference: str = ""
    inherits: bool = False
    asks: bool = False
    keys_from: str = ""
    user_only: Sequence[str] = ()
    installed: str | Sequence[str] = ()

    def path(self, machine: Machine, *, project: bool = False) -> Path:
        """Return the host's file on this machine: the first of its names that exists, else the first.

        Raises: `errors.BadRequest` if the host has no such file, or does not exist on this platform.
        """
        names = _listed(self.project) if project else self._user(machine.platform)
        if not names:
            raise errors.BadRequest(
                f"{self.title} has no file for one project; leave --project out."
                if project
                else f"{self.title} has no file on this platform that Triptych knows. docs/install.md has an entry to "
                "put in by hand."
            )
        plain = []
        for name in names:
            path = machine.cwd / name if project else machine.path(name)
            if "*" in name:
                there = sorted(Path(path.anchor).glob(str(path.parent.relative_to(path.anchor))))
                if there:
                    return there[0] / path.name
            else:
                plain.append(path)
        return next((path for path in plain if path.exists()), plain[0])

    def is_installed(self, machine: Machine) -> bool:
        """Return whether this machine seems to have the host: its file or its folder is there."""
        if not self._user(machine.platform):
            return False
        path = self.path(machine)
        folders = [machine.path(name) for name in _listed(self.installed)] or [path.parent]
        return path.exists() or any(folder.is_dir() for folder in folders)

    def _user(self, platform: str) -> Sequence[str]:
        return _listed(self.user.get(platform, ()) if isinstance(self.user, Mapping) else self.user)

    @property
    def path_of_entry(self) -> tuple[str, ...]:
        """The keys that lead to Triptych's entry."""
        return (*self.servers, NAME)

    @property
    def env_key(self) -> str:
        """The key of an entry with the variables and their values."""
        return next(key for key, value in self.stdio.items() if value == "<env>")

    @property
    def names_key(self) -> str | None:
        """The key of an entry with the names of variables, whose values the host knows; None: there is none."""
        return next((key for key, value in self.stdio.items() if value == "<env_names>"), None)

    def refer(self, variable: str) -> str:
        """Return the reference to a variable of the environment; empty if the host replaces none."""
        return self.reference.replace("NAME", _input_id(variable) if self.asks else variable)


def _listed(names: str | Sequence[str]) -> Sequence[str]:
    return [names] if isinstance(names, str) else names


@cache
def hosts() -> Mapping[str, Host]:
    """Return all hosts by name, in the order of the documents."""
    rows = tomllib.loads(resources.files("triptych.cli").joinpath("hosts.toml").read_text("utf-8"))
    return {name: Host(name=name, **row) for name, row in rows.items()}


# -- the entries -------------------------------------------------------------------------------------------------------


def filled(template: Any, values: Mapping[str, Any]) -> Any:
    """Return a template with its `<…>` replaced: a whole text by a value of any kind, a part by a text."""
    if isinstance(template, Mapping):
        return {key: filled(item, values) for key, item in template.items()}
    if isinstance(template, list):
        return [filled(item, values) for item in template]
    if not isinstance(template, str):
        return template
    if template.startswith("<") and template[1:-1] in values:
        return values[template[1:-1]]
    for name, value in values.items():
        template = template.replace(f"<{name}>", str(value))
    return template


def stdio_entry(
    host: Host, start: Sequence[str], machine: Machine, *, project: bool = False, allow: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the entry with which a host starts the server itself; `allow` are further directories it may use."""
    here = settings(machine)
    referred = [
        name for name in here if project or name == DATABASE or (name not in SETTINGS and has_login(here[name]))
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
    if host.asks and project:
        referred = []  # VS Code passes its environment on; an input would ask every colleague
    named = [*secrets, *referred]
    values = {
        "command": start[0],
        "args": list(start[1:]),
        "command_line": list(start),
        "env": plain,
        "env_names": named if host.names_key else [],
    }
    # A project's file is for everybody: it has no place for a value to be filled in.
    if not (host.names_key or host.inherits or (project and not host.reference)):
        values["env"] = {name: host.refer(name) for name in named} | plain
    return _without_empty(host, filled(host.stdio, values), project)


def http_entry(host: Host, url: str, machine: Machine, *, project: bool = False) -> dict[str, Any]:
    """Return the entry for a server that already runs, with its token from the environment.

    Raises: `errors.BadRequest` for an unsafe URL, or a host whose file takes none.
    """
    if isinstance(host.http, bool):
        raise errors.BadRequest(
            f"{host.title} takes servers over HTTP in its settings (Connectors), not in a file; leave --transport out, "
            "and it starts Triptych itself."
        )
    there = urlsplit(url)
    local = there.hostname in LOOPBACK
    if there.scheme not in ("http", "https") or not there.hostname or there.username or there.query:
        raise errors.BadRequest(f"--url must be an address such as {LOCAL_URL}, without a key or a password in it.")
    if there.scheme == "http" and not local:
        raise errors.BadRequest("--url must begin with https:// for another machine: the token would travel in clear.")
    has_token = not local or bool(machine.environ.get(TOKEN, "").strip())
    # The order of the row: settings such as a timeout come last.
    template = {**host.http, **(host.token if has_token else {})}
    values = {"url": url, "token": host.refer(TOKEN), "token_name": TOKEN}
    return _without_empty(host, filled(template, values), project)


def _without_empty(host: Host, entry: dict[str, Any], project: bool) -> dict[str, Any]:
    """Return an entry without empty lists of variables, and in a project without keys for one user's file."""
    optional = (host.env_key, host.names_key)
    return {
        key: value
        for key, value in entry.items()
        if not (key in optional and not value) and not (project and key in host.user_only)
    }


def to_fill_in(host: Host, entry: Mapping[str, Any]) -> list[str]:
    """Return what the user has to write into an entry, because the host replaces no names in its file."""
    names = [name for name, value in entry.get(host.env_key, {}).items() if not value]
    header = entry.get("headers", {}).get("Authorization", "")
    return [*names, *(["the token, after Bearer"] if header == "Bearer " else [])]


def _input_id(name: str) -> str:
    return f"{NAME}-{name.lower().replace('_', '-')}"


def merged(
    host: Host, old: object, new: Mapping[str, Any], machine: Machine | None = None, allow: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the new entry merged with the user's: their environment, headers and options of the host.

    The user's values stay; `allow` is added to the directories.

    Raises: `ValueError` if the old value is not an entry.
    """
    if old is None:
        return dict(new)
    if not isinstance(old, dict):
        raise ValueError(f'"{NAME}" is not an entry for a server')
    over_http = {} if isinstance(host.http, bool) else {**host.http, **host.token}
    of_one = {*host.stdio} ^ {*over_http} | {"cwd", host.env_key, host.names_key}
    same = bool(URLS & old.keys()) == bool(URLS & new.keys())
    gone = ADDRESS - new.keys() if same else ADDRESS | of_one
    entry = {key: value for key, value in old.items() if key not in gone}
    for key, value in new.items():
        before = entry.get(key)
        if key in ADDRESS or before is None:
            entry[key] = value
        elif isinstance(value, dict) and isinstance(before, dict):
            # A value that was never filled in has no use any more, once it comes from elsewhere.
            mine = {name: item for name, item in before.items() if item or name in value}
            entry[key] = mine | {name: item for name, item in value.items() if name not in mine}
        elif key == host.names_key and isinstance(before, list):
            entry[key] = [*before, *(item for item in value if item not in before)]
    if allow and machine:
        env = entry[host.env_key]
        entry[host.env_key] = {**env, ALLOWED: with_directories(str(env.get(ALLOWED, "")), allow, machine)}
    return entry


# -- the file's text ---------------------------------------------------------------------------------------------------


def edited(
    host: Host, text: str, entry: Mapping[str, Any], machine: Machine | None = None, allow: Sequence[str] = ()
) -> str:
    """Return the text of a host's file with the entry; the same text if the entry is in it already.

    Raises: `ValueError` saying why the file cannot be edited.
    """
    editor = editors.of(host.format)
    old = editor.get(text, host.path_of_entry)
    meant = merged(host, old, entry, machine, allow)
    if meant != old:
        text = editor.put(text, host.path_of_entry, meant)
    return _with_inputs(text, _inputs(host, meant)) if host.asks else text


def removed(host: Host, text: str) -> str:
    """Return the text of a host's file without the entry, and without what becomes empty by that; "" if all is empty.

    Raises: `ValueError` saying why the file cannot be edited.
    """
    editor = editors.of(host.format)
    old = editor.get(text, host.path_of_entry)
    if old is None:
        return text
    text = editor.drop(text, host.path_of_entry)
    if host.asks:
        text = _without_inputs(text, _inputs(host, old))
    return "" if text.strip() in ("", "{}") else text


def is_in(host: Host, text: str) -> bool:
    """Return whether a host's file has an entry for Triptych.

    Raises: `ValueError` if the file cannot be read.
    """
    return editors.of(host.format).get(text, host.path_of_entry) is not None


def _inputs(host: Host, entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the inputs that VS Code asks the user for."""
    text = json.dumps(entry)
    asked = {_input_id(name): name for name in (*entry.get("env", {}), TOKEN) if host.refer(name) in text}
    return [
        {"type": "promptString", "id": id, "description": f"{name} for Triptych", "password": True}
        for id, name in asked.items()
    ]


def _known(text: str) -> list[Any]:
    listed = editors.json_text.get(text, ("inputs",))
    return [item.get("id") if isinstance(item, dict) else None for item in listed] if isinstance(listed, list) else []


def _with_inputs(text: str, wanted: Sequence[Mapping[str, Any]]) -> str:
    known = _known(text)
    for item in wanted:
        if item["id"] not in known:
            text = editors.json_text.append(text, ("inputs",), item)
    return text


def _without_inputs(text: str, ours: Sequence[Mapping[str, Any]]) -> str:
    for item in ours:
        if item["id"] in (known := _known(text)):
            text = editors.json_text.drop(text, ("inputs", known.index(item["id"])))
    return text


def snippet(host: Host, entry: Mapping[str, Any]) -> str:
    """Return the text of a new file: the lines to paste."""
    return edited(host, "", entry)


def deeplink(entry: Mapping[str, Any]) -> str:
    """Return the link that adds the entry to Cursor."""
    config = base64.b64encode(json.dumps(entry, separators=(",", ":")).encode()).decode()
    return f"cursor://anysphere.cursor-deeplink/mcp/install?name={NAME}&config={quote(config, safe='')}"
