"""What every command stands on: where it says things, how it ends, and the service it works in."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import click

from triptych.cli.formatting import Exit, exit_of_error
from triptych.core import errors
from triptych.core.text import block, tree

if TYPE_CHECKING:
    from pydantic import BaseModel

    from triptych.jobs.service import Caller, ImageService, ServiceConfig

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Screen:
    """Where one command says things, as text or as JSON; nothing unseen gets out (`text`)."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def show(self, result: BaseModel, text: str) -> None:
        """Write a result to stdout, as it is or in words."""
        if self.as_json:
            unsaid = {"request"} if getattr(result, "request", ...) is None else None
            self._json(result.model_dump(mode="json", exclude=unsaid))
        else:
            self.say(text)

    def say(self, text: str) -> None:
        """Write lines to stdout."""
        click.echo(block(text))

    def note(self, text: str) -> None:
        """Say something beside the result, to stderr."""
        click.echo(block(text), err=True)

    def _json(self, fields: Mapping[str, Any]) -> None:
        click.echo(json.dumps(tree(dict(fields)), indent=2, ensure_ascii=False))

    def refuse(self, error: errors.TriptychError) -> Exit:
        """Say what went wrong, and return the exit code for it."""
        if self.as_json:
            self._json({"error": {"kind": error.kind, "message": error.message, "retryable": error.retryable}})
        self.note(f"triptych: {error.message}")
        return exit_of_error(error)


def command(work: Callable[..., Exit]) -> Callable[..., None]:
    """Make a click callback of a function that returns its exit code: adds `--json`, turns errors into sentences."""

    @wraps(work)
    def run_it(as_json: bool, **given: object) -> None:
        screen = Screen(as_json)
        try:
            code = work(screen, **given)
        except errors.TriptychError as error:
            code = screen.refuse(error)
        except (click.ClickException, click.Abort):
            raise
        except Exception as error:
            logger.debug("a command failed", exc_info=error)
            named = f"{type(error).__name__}: {str(error)[:300]}"
            code = screen.refuse(
                errors.TriptychError(
                    f"Triptych failed ({named}). TRIPTYCH_LOG_LEVEL=DEBUG shows details; please report it."
                )
            )
        sys.exit(int(code))

    return click.option("--json", "as_json", is_flag=True, help="Write the exact result as JSON to stdout.")(run_it)


def setup_of_environment() -> ServiceConfig:
    """Return what the environment says, and send log lines to stderr.

    Raises: `errors.BadRequest` naming the variable that cannot be right.
    """
    from triptych import settings

    settings.configure_logging(settings.log_level(os.environ))
    return settings.read(os.environ).setup


def run(work: Callable[[ImageService], Awaitable[T]], *, worker: bool = False) -> T:
    """Return what `work` returns when given the service, with the worker running if it is asked for."""
    from triptych.jobs.service import open_service

    setup = setup_of_environment()

    async def in_service() -> T:
        # What only looks around must not set a waiting job going and leave it.
        async with open_service(setup, work=worker) as service:
            return await work(service)

    return anyio.run(in_service)


def caller_for(items: Sequence[str], *directories: str | None) -> Caller:
    """Return a caller that may read the files named, and write to the directories named."""
    from triptych.jobs.service import Caller

    named = [item for item in items if item.startswith("file://") or not _is_no_path(item)]
    roots = [resolved(item.removeprefix("file://")).parent for item in named]
    return Caller(roots=tuple(dict.fromkeys([*roots, *(resolved(d) for d in directories if d)])))


def _is_no_path(item: str) -> bool:
    return item.strip().startswith(("img_", "job_", "triptych:", "http://", "https://", "data:"))


def resolved(path: str) -> Path:
    """Return where a path on the command line leads, links and all.

    Raises: `errors.UnreadableImage` for what is no path.
    """
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise errors.UnreadableImage(f"{errors.quoted(path, 160)} is not a path.") from error
