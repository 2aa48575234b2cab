"""`triptych install` and `uninstall`: Triptych's entry in the configuration file of an MCP host.

Rules: a change is written only after it was shown and confirmed, with a backup. A file that cannot be edited safely is
not changed; the lines to paste are printed. Must not know the service.
"""

from __future__ import annotations

import difflib
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from triptych.cli.formatting import Exit
from triptych.cli.host_file import difference, read, write
from triptych.cli.machine import ALLOWED, NAME, Machine, installed_from, launcher
from triptych.cli.mcp_clients import (
    LOCAL_URL,
    Host,
    deeplink,
    edited,
    hosts,
    http_entry,
    is_in,
    removed,
    snippet,
    stdio_entry,
    to_fill_in,
)
from triptych.cli.output import Screen, command
from triptych.core import errors
from triptych.core.json_fields import Result

Scope = Literal["user", "project"]
State = Literal["installed", "already", "removed", "absent", "printed", "shown", "declined"]

# -- the commands ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed(Result):
    """The result of a command; `state` is the outcome for the entry."""

    host: str
    scope: Scope
    path: str
    state: State
    entry: dict[str, Any] | None = None
    backup: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Result):
    """A host that this machine seems to have; `installed` is None if its file cannot be read."""

    host: str
    title: str
    path: str
    installed: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts(Result):
    """The hosts of this machine, and the names of the others that are known."""

    found: list[Found]
    others: list[str]


def _options(work: Callable[..., None]) -> Callable[..., None]:
    """Add the options that both commands have."""
    for option in (
        click.option("--yes", is_flag=True, help="Do not ask before writing."),
        click.option("--dry-run", is_flag=True, help="Show the change, and write nothing."),
        click.option(
            "--project", "scope", flag_value="project", help="For this project: a file in the working directory."
        ),
        click.option(
            "--user", "scope", flag_value="user", default="user", help="For you, in every project (the default)."
        ),
    ):
        work = option(work)
    return work


@click.command()
@click.argument("host", required=False)
@_options
@click.option(
    "--allow", multiple=True, metavar="DIR", help="A directory that may be read and written to besides; repeatable."
)
@click.option("--print", "show_only", is_flag=True, help="Only print what would be written, for pasting.")
@click.option("--transport", type=click.Choice(["stdio", "http"]), default="stdio", show_default=True)
@click.option("--url", help=f"Where the server is, for --transport http.  [default: {LOCAL_URL}]")
@command
def install(
    screen: Screen,
    host: str | None,
    scope: Scope,
    allow: tuple[str, ...],
    show_only: bool,
    dry_run: bool,
    yes: bool,
    transport: str,
    url: str | None,
) -> Exit:
    """Make Triptych known to an MCP host; without HOST, list the hosts of this machine.

    The change to the host's file is shown, asked for, and written with a backup. Settings of this shell (base URLs,
    proxies, budget, …) are written; keys and passwords are not: the entry takes them from the environment.
    """
    machine = Machine(sys.platform, os.environ, Path.home(), Path.cwd())
    if host is None:
        return show_hosts(screen, machine)
    there = _url(transport, url)
    asked = Asked(known(host), scope, yes=yes, dry_run=dry_run)
    return put_in(screen, asked, machine, url=there, show_only=show_only, allow=allow)


@click.command()
@click.argument("host")
@_options
@command
def uninstall(screen: Screen, host: str, scope: Scope, dry_run: bool, yes: bool) -> Exit:
    """Remove Triptych from the file of an MCP host.

    The change is shown, asked for, and written with a backup. A file that has nothing else in it is deleted.
    """
    machine = Machine(sys.platform, os.environ, Path.home(), Path.cwd())
    return take_out(screen, Asked(known(host), scope, yes=yes, dry_run=dry_run), machine)


def known(name: str) -> Host:
    """Return the host of this name.

    Raises: `errors.BadRequest` naming the hosts that it may mean.
    """
    if name in hosts():
        return hosts()[name]
    near = difflib.get_close_matches(name.lower(), hosts(), n=3)
    near = near or [host.name for host in hosts().values() if name.lower() in host.title.lower()]
    raise errors.BadRequest(
        f"No host is called {errors.quoted(name, 40)}. "
        + (f"Is it {' or '.join(near)}? " if near else "")
        + "`triptych install` lists them; docs/install.md has the entry for any other."
    )


def show_hosts(screen: Screen, machine: Machine) -> Exit:
    """Show the hosts that this machine seems to have, and which of them have Triptych."""
    found = []
    for host in hosts().values():
        if host.is_installed(machine):
            path = host.path(machine)
            try:
                has_it: bool | None = is_in(host, read(path) or "")
            except (ValueError, errors.BadRequest):
                has_it = None
            found.append(Found(host=host.name, title=host.title, path=str(path), installed=has_it))
    others = [name for name in hosts() if name not in {item.host for item in found}]
    said = {True: "✓ has Triptych", False: "not yet", None: "! cannot be read"}
    width = max((len(item.host) for item in found), default=0)
    lines = [f"  {item.host:{width}}  {said[item.installed]:{16}}  {item.path}" for item in found]
    head = "On this machine:" if found else "No MCP host that Triptych knows was found on this machine."
    last = ["", "`triptych install HOST` adds Triptych to one.", f"It also knows: {', '.join(others)}."]
    screen.show(Hosts(found=found, others=others), "\n".join([head, *lines, *last]))
    return Exit.DONE


def _url(transport: str, url: str | None) -> str | None:
    if transport == "http":
        return url or LOCAL_URL
    if url:
        raise errors.BadRequest("--url goes with --transport http.")
    return None


@dataclass(frozen=True, slots=True)
class Asked:
    """A host and one of its files, and how to change it."""

    host: Host
    scope: Scope
    yes: bool = False
    dry_run: bool = False

    @property
    def project(self) -> bool:
        """Whether it is the file of a project."""
        return self.scope == "project"

    def change(self, screen: Screen, path: Path, before: str | None, after: str) -> tuple[State | None, Path | None]:
        """Show, confirm and write a change; return the state if it was not written, and the backup."""
        screen.note(difference(path, before or "", after))
        if self.dry_run:
            return "shown", None
        if not self.yes and not _agreed(path):
            return "declined", None
        return None, write(path, before, after, private=not self.project)

    def result(
        self, path: Path, state: State, entry: dict[str, Any] | None = None, kept: Path | None = None
    ) -> Installed:
        """Return the result of the command."""
        backup = str(kept) if kept else None
        return Installed(host=self.host.name, scope=self.scope, path=str(path), state=state, entry=entry, backup=backup)


def put_in(
    screen: Screen,
    asked: Asked,
    machine: Machine,
    *,
    url: str | None,
    show_only: bool = False,
    allow: Sequence[str] = (),
) -> Exit:
    """Show, confirm and write one host's entry; `url` is that of a running server, None if the host starts its own.

    Raises: `errors.BadRequest` if nothing was written; its message has the remedy.
    """
    host, project = asked.host, asked.project
    path = host.path(machine, project=project)
    allow = _directories(allow, machine, project=project, url=url)
    if url is None:
        # A project's file is for colleagues too: it has the name, not a path on this machine.
        start = [NAME] if project else launcher(sys.executable, machine, installed_from())
        entry = stdio_entry(host, start, machine, project=project, allow=allow)
    else:
        entry = http_entry(host, url, machine, project=project)
    to_do = _still_to_do(host, entry, machine, project=project)
    if show_only:
        screen.note(f"For {path}:")
        screen.show(asked.result(path, "printed", entry), snippet(host, entry).rstrip("\n"))
        for line in to_do:
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
            f"`triptych install {host.name} --{asked.scope} --print` shows the lines to put there yourself."
        ) from error
    if after == before:
        line = f"✓ Triptych is already installed in {host.title}: {path}"
        screen.show(asked.result(path, "already", entry), line)
        return Exit.DONE
    not_written, kept = asked.change(screen, path, before, after)
    if not_written:
        screen.show(asked.result(path, not_written, entry), "Nothing was written.")
        return Exit.CANCELLED if not_written == "declined" else Exit.DONE
    lines = [f"✓ Triptych is installed in {host.title}: {path}", *([f"  backup: {kept}"] if kept else [])]
    lines += [f"  {line}" for line in (host.after, *to_do)]
    screen.show(asked.result(path, "installed", entry, kept), "\n".join(lines))
    return Exit.DONE


def take_out(screen: Screen, asked: Asked, machine: Machine) -> Exit:
    """Show, confirm and write one host's file without the entry.

    Raises: `errors.BadRequest` if nothing was written; its message has the remedy.
    """
    host = asked.host
    path = host.path(machine, project=asked.project)
    before = read(path)
    try:
        after = removed(host, before or "")
    except ValueError as error:
        raise errors.BadRequest(
            f"{path} cannot be edited ({errors.quoted(error, 160)}); it was left as it is. "
            f'Remove the entry "{NAME}" under {".".join(host.servers)} yourself.'
        ) from error
    if before is None or after == before:
        screen.show(asked.result(path, "absent"), f"Triptych is not installed in {host.title}: {path}")
        return Exit.DONE
    if not after and path.is_symlink():
        after = "{}\n" if host.format == "json" else "\n"  # a link must lead somewhere
    not_written, kept = asked.change(screen, path, before, after)
    if not_written:
        screen.show(asked.result(path, not_written), "Nothing was written.")
        return Exit.CANCELLED if not_written == "declined" else Exit.DONE
    lines = f"✓ Triptych is removed from {host.title}: {path}\n  backup: {kept}"
    screen.show(asked.result(path, "removed", None, kept), lines)
    return Exit.DONE


def _directories(given: Sequence[str], machine: Machine, *, project: bool, url: str | None) -> list[str]:
    """Return the directories of --allow, in full.

    Raises: `errors.BadRequest` for a path that is not a directory, or an entry that takes none.
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


def _still_to_do(host: Host, entry: Mapping[str, Any], machine: Machine, *, project: bool) -> list[str]:
    """Return the tasks left to the user: values to fill in, and installations for colleagues."""
    empty = to_fill_in(host, entry)
    lines = [f"To be filled in there: {', '.join(empty)}."] if empty else []
    starts = bool({"command", "cmd"} & entry.keys())
    if starts and empty and not project:
        lines.append(
            f"Or write the value into a file of its own, set {empty[0]}_FILE to its path in this shell, and run this "
            "again: the entry then names that file."
        )
    if project and starts and not (host.reference or host.names_key or host.inherits):
        lines.append(
            f"No key is in this file, because {host.title} replaces no names in it. It works where the "
            "host passes on an environment with the key; elsewhere, install it for each user, without --project."
        )
    if project and starts:
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
            f"There is no terminal to ask in, so {path} was left as it is: add --yes to write it, or --dry-run to see "
            "the change."
        )
    return click.confirm(f"Write this to {path}?", err=True)
