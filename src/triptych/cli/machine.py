"""The parts of an MCP host's entry that come from this machine: command, settings of the shell, names of keys.

Rules: keys and passwords are named, never read into an entry. Everything follows from a `Machine`, so that every
platform can be tested on any.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from triptych import __version__, providers
from triptych.core import errors

NAME = "triptych"
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

_FOLDER = re.compile(r"\{(\w+)(?:\|((?:[^{}]|\{\w+\})*))?\}")
_UV_CACHE = re.compile(r"(archive|environments|builds)-v\d+")


@dataclass(frozen=True, slots=True)
class Machine:
    """This machine: `platform` as in `sys.platform`, the environment, the home and the working directory."""

    platform: str
    environ: Mapping[str, str]
    home: Path
    cwd: Path

    @property
    def path_separator(self) -> str:
        """The separator in a list of directories, as in `PATH`."""
        return ";" if self.platform == "win32" else ":"

    def path(self, template: str) -> Path:
        """Return the path of a template, as the head of hosts.toml describes it."""
        if found := _FOLDER.match(template):
            return self._folder(found[1], found[2]) / template[found.end() :].lstrip("/")
        return self.home / template[1:].lstrip("/") if template.startswith("~") else Path(template)

    def _folder(self, name: str, default: str | None) -> Path:
        if name == "config":
            default = "~/Library/Application Support" if self.platform == "darwin" else "{xdg}"
            default = "{APPDATA|~/AppData/Roaming}" if self.platform == "win32" else default
            return self.path(default)
        if name == "xdg":
            name, default = "XDG_CONFIG_HOME", "~/.config"
        elif name == "local":
            name, default = "LOCALAPPDATA", "~/AppData/Local"
        return Path(self.environ.get(name) or self.path(default or "~"))


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


def has_login(value: str) -> bool:
    """Return whether a value is a URL with a user or a password in it, as a proxy's may be."""
    return bool(re.search(r"^\w[\w+.-]*://[^/?#]*@|^[^/?#@]*:[^/?#@]*@", value.strip()))


def with_directories(listed: str, more: Sequence[str], machine: Machine) -> str:
    """Return a list of directories, as `PATH` is written on that platform, with more at its end."""
    known = [item for item in listed.split(machine.path_separator) if item.strip()]
    return machine.path_separator.join(dict.fromkeys([*known, *more]))
