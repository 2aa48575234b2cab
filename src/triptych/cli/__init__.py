"""The command line: the same use-cases as the tools, for people and scripts.

Rules: results go to stdout, everything else to stderr; with `--json` stdout is exactly one JSON document. An error is a
sentence and an exit code, never a traceback. The service runs in this process, on the server's TRIPTYCH_HOME, so both
see the same jobs; only commands that wait for a job work on jobs. Paths on the command line need not be in
TRIPTYCH_ALLOWED_DIRS: a user who types a path may read it.

Other packages import `main`. A command's module is imported only when it is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, cast

import click

from triptych import __version__
from triptych.cli.formatting import EXIT_MEANINGS
from triptych.core.text import line

__all__ = ["cli", "main"]

_CODES = "\n".join(f"  {int(code)}  {meaning}" for code, meaning in EXIT_MEANINGS.items())
EPILOG = f"\b\nExit codes:\n{_CODES}\n\nSettings come from the environment; `triptych doctor` shows their effect."

COMMANDS = {
    "edit": (
        "commands",
        "Edit references into coherent images in one paid request; at most 15 images, references included.",
    ),
    "chain": ("commands", "Take each image through the steps, each on the last one's output."),
    "generate": ("commands", "Make 1-15 coherent images from words alone, in one paid request."),
    "compare": ("compare", "Run one request on several models at once; one paid request for each."),
    "status": ("read_commands", "Show a job: its state, images and cost; free."),
    "jobs": ("read_commands", "List recent jobs, the assistant's too, newest first."),
    "spend": ("read_commands", "Show what was spent by day, provider and model, and what is left of the budget."),
    "prune": ("commands", "Remove image files that are old, unused and saved elsewhere."),
    "objects": ("object_commands", "Images in an object store."),
    "revoke-urls": ("commands", "End every image URL that an HTTP server on this database has signed."),
    "cancel": ("commands", "Stop what is not submitted yet; says what is still charged."),
    "models": ("commands", "List models by provider, with prices and limits."),
    "upload": ("commands", "Take in images, and upload them to the default provider; free."),
    "look": ("look_commands", "List, show and remove looks: reference images and words under a name."),
    "view": ("commands", "Write a preview of one image, or a labelled contact sheet of several."),
    "save": ("saving", "Save images, or a job's final ones, at full size or resized; overwrites nothing."),
    "db": ("db", "Make, check and fill the PostgreSQL database of TRIPTYCH_DATABASE_URL."),
    "doctor": ("commands", "Check settings, directories, providers and the clock, and say how to mend each fault."),
    "install": ("install", "Make Triptych known to an MCP host; without HOST, list the hosts of this machine."),
    "uninstall": ("install", "Remove Triptych from the file of an MCP host."),
    "serve": ("commands", "Run the MCP server: stdio, streamable HTTP at /mcp, or SSE at /sse."),
    "worker": ("commands", "Work on the jobs that servers store, without a server (Ctrl-C ends it)."),
    "gallery": ("commands", "See and edit jobs and images in a browser (Ctrl-C ends it)."),
    "emulate": ("commands", "Run a provider's API on loopback, for tests and dry runs."),
    "demo": ("commands", "Show a whole job in a minute: emulated provider, real server, real client."),
}
"""The module and the first sentence of each command: the list of commands imports none of them."""


class _Imported(Mapping[str, click.Command]):
    """The commands by name; reading one imports its module."""

    def __getitem__(self, name: str) -> click.Command:
        module = import_module(f"triptych.cli.{COMMANDS[name][0]}")
        found: click.Command = getattr(module, name.replace("-", "_"))
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Commands(click.Group):
    """A group whose usage errors, which quote the command line, have no invisible characters."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, sentence) for name, (_, sentence) in sorted(COMMANDS.items())])

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _clean_errors():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _clean_errors():
            return super().invoke(ctx)


@contextmanager
def _clean_errors() -> Iterator[None]:
    try:
        yield
    except click.ClickException as error:
        vars(error)["message"] = line(error.message)
        raise


@click.group(
    cls=_Commands,
    commands=cast(Any, _Imported()),
    invoke_without_command=True,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, "--version", prog_name="triptych", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Make and edit sets of images that belong together.

    IMAGE is a path, an https:// URL, a data: URI or a handle (img_…, job_…/2) from an earlier command or from an
    assistant that uses Triptych as its MCP server. Without arguments and without a terminal, `triptych` is that server.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """Run the command line."""
    # Typographic characters must not break a pipe whose encoding lacks them.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        cli(prog_name="triptych")
    except ImportError as error:
        from triptych import sdk

        raise sdk.refusal(error) from error
