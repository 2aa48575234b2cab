"""Make Triptych known to an MCP host: the one entry in that host's own file, shown before it is written.

Rules: nothing is written that was not shown and agreed to. What was there is kept beside it as a backup that is never
overwritten, and a file that cannot be edited without harm is left alone, with the lines to paste. Must not know the
service.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import click
from pydantic import BaseModel

from triptych.cli.formatting import Exit
from triptych.cli.mcp_clients import (
    ALLOWED,
    HOSTS,
    LOCAL_URL,
    NAME,
    Host,
    Machine,
    deeplink,
    edited,
    http_entry,
    installed_from,
    launcher,
    snippet,
    stdio_entry,
)
from triptych.cli.output import Screen, command
from triptych.core import errors

Scope = Literal["user", "project"]
State = Literal["installed", "already", "printed", "declined"]

_SECRET = re.compile(r"""(?i)((?:key|token|secret|password|authorization)\w*["']?\s*[:=]\s*["'])[^"'$]{4,}(["'])""")
_LOGIN = re.compile(r"""(://)[^/\s"'@]+@""")


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
    return _LOGIN.sub(r"\1…@", _SECRET.sub(r"\1…\2", "\n".join(lines)))


# -- the command -------------------------------------------------------------------------------------------------------


class Installed(BaseModel):
    """What came of it; `state` is installed, already, printed or declined."""

    host: str
    scope: Scope
    path: str
    state: State
    entry: dict[str, Any]
    backup: str | None = None


@click.command()
@click.argument("host", type=click.Choice(list(HOSTS)))
@click.option("--user", "scope", flag_value="user", default="user", help="For you, in every project (the default).")
@click.option("--project", "scope", flag_value="project", help="For this project: a file in the working directory.")
@click.option(
    "--allow", multiple=True, metavar="DIR", help="A directory that may be read and written to besides; repeatable."
)
@click.option("--print", "show_only", is_flag=True, help="Only print what would be written, for pasting.")
@click.option("--yes", is_flag=True, help="Do not ask before writing.")
@click.option("--transport", type=click.Choice(["stdio", "http"]), default="stdio", show_default=True)
@click.option("--url", help=f"Where the server is, for --transport http.  [default: {LOCAL_URL}]")
@command
def install(
    screen: Screen,
    host: str,
    scope: Scope,
    allow: tuple[str, ...],
    show_only: bool,
    yes: bool,
    transport: str,
    url: str | None,
) -> Exit:
    """Make Triptych known to an MCP host.

    The change to the host's file is shown, asked for, and written with a backup. Settings of this shell (base URLs,
    proxies, budget, …) are written; keys and passwords are not: the entry takes them from the environment.
    """
    machine = Machine(sys.platform, os.environ, Path.home(), Path.cwd())
    there = _url(transport, url)
    return put_in(screen, HOSTS[host], scope, machine, url=there, show_only=show_only, yes=yes, allow=allow)


def _url(transport: str, url: str | None) -> str | None:
    if transport == "http":
        return url or LOCAL_URL
    if url:
        raise errors.BadRequest("--url goes with --transport http.")
    return None


def put_in(
    screen: Screen,
    host: Host,
    scope: Scope,
    machine: Machine,
    *,
    url: str | None,
    show_only: bool,
    yes: bool,
    allow: Sequence[str] = (),
) -> Exit:
    """Show, ask and write one host's entry; `url` is a running server's address, None lets the host start its own.

    Raises: `errors.BadRequest` with what mends it; nothing was written then.
    """
    if scope == "project" and host.project is None:
        raise errors.BadRequest(f"{host.title} has no file for one project; leave --project out.")
    path = machine.cwd.joinpath(*host.project) if scope == "project" and host.project else host.user(machine)
    project = scope == "project"
    allow = _directories(allow, machine, project=project, url=url)
    if url is None:
        # A project's file is for colleagues too: the name, not where it lies on this machine.
        start = [NAME] if project else launcher(sys.executable, machine, installed_from())
        entry = stdio_entry(host, start, machine, project=project, allow=allow)
    else:
        entry = http_entry(host, url, machine)
    after_it = [host.after, *_still_to_do(entry, machine, project=project)]

    def end(state: State, lines: str, kept: Path | None = None) -> None:
        result = Installed(
            host=host.name, scope=scope, path=str(path), state=state, entry=entry, backup=str(kept) if kept else None
        )
        screen.show(result, lines)

    if show_only:
        screen.note(f"For {path}:")
        end("printed", snippet(host, entry).rstrip("\n"))
        for line in after_it[1:]:
            screen.note(line)
        if host.name == "cursor":
            screen.note(f"Or open this link:\n{deeplink(entry)}")
        return Exit.DONE
    before = read(path)
    try:
        after = edited(host, before or "", entry, machine, allow)
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
    lines = [f"✓ Triptych is installed in {host.title}: {path}", *([f"  backup: {kept}"] if kept else [])]
    end("installed", "\n".join([*lines, *(f"  {line}" for line in after_it)]), kept)
    return Exit.DONE


def _directories(given: Sequence[str], machine: Machine, *, project: bool, url: str | None) -> list[str]:
    """Return the directories of --allow, in full.

    Raises: `errors.BadRequest` for what is no directory, or where the entry is not the place for it.
    """
    if given and project:
        raise errors.BadRequest(
            "--allow names directories of this machine, and a project's file is for everybody: leave --project out, "
            f"or set {ALLOWED} in your environment."
        )
    if given and url:
        raise errors.BadRequest(f"--allow goes with --transport stdio; over HTTP, set {ALLOWED} where the server runs.")
    found = [(machine.cwd / Path(item).expanduser()).resolve() for item in given]
    for directory in found:
        if not directory.is_dir():
            raise errors.BadRequest(f"{directory} is not a directory; make it, or name another with --allow.")
        if machine.path_separator in str(directory):
            raise errors.BadRequest(
                f"{directory} has {machine.path_separator!r} in its name, which separates directories; rename it."
            )
    return [str(directory) for directory in found]


def _still_to_do(entry: Mapping[str, Any], machine: Machine, *, project: bool) -> list[str]:
    """Return what the person has to do besides: values to fill in, and what colleagues need."""
    empty = [name for name, value in entry.get("env", {}).items() if not value]
    lines = [f"To be filled in there: {', '.join(empty)}."] if empty else []
    if project and "command" in entry:
        lines.append(
            f"Colleagues need `{NAME}` on their PATH (`uv tool install`, `pipx install`); their own key and "
            "settings count."
        )
        if not shutil.which(NAME, path=machine.environ.get("PATH", "")):
            lines.append(
                f"`{NAME}` is not on your PATH yet: `uv tool update-shell` or `pipx ensurepath` adds ~/.local/bin."
            )
    return lines


def _agreed(path: Path) -> bool:
    if not sys.stdin.isatty():
        raise errors.BadRequest(
            f"There is no terminal to ask in, so {path} was left as it is: add --yes to write it, or --print to see it."
        )
    return click.confirm(f"Write this to {path}?", err=True)
