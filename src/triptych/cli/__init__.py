"""The command line: the same use-cases as the tools, for people and scripts.

Rules: results go to stdout, everything else to stderr; with `--json` stdout is exactly one JSON document. An error is a
sentence and an exit code, never a traceback. The service runs in this process, on the server's TRIPTYCH_HOME, so both
see the same jobs; only commands that wait for a job work on jobs. Paths on the command line need not be in
TRIPTYCH_ALLOWED_DIRS: a user who types a path may read it.

Other packages import `main`. A command's module is imported only when it is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from triptych import __version__
from triptych.cli import commands
from triptych.cli.formatting import EXIT_MEANINGS
from triptych.core.text import line

__all__ = ["cli", "main"]

_CODES = "\n".join(f"  {int(code)}  {meaning}" for code, meaning in EXIT_MEANINGS.items())
EPILOG = f"\b\nExit codes:\n{_CODES}\n\nSettings come from the environment; `triptych doctor` shows their effect."


class _Commands(click.Group):
    """A group whose usage errors, which quote the command line, have no invisible characters."""

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
    cls=_Commands, invoke_without_command=True, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]}
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


for _command in commands.ALL:
    cli.add_command(_command)
