"""The common parts of all commands: output, exit codes, and the service that they call."""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from triptych.cli.formatting import Exit, as_commands, exit_of_error
from triptych.core import errors
from triptych.core.json_fields import Result
from triptych.core.text import block, tree

if TYPE_CHECKING:
    from triptych.core.clock import Clock
    from triptych.jobs.config import ServiceConfig
    from triptych.jobs.service import Caller, ImageService
    from triptych.storage.jobs import Store

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Screen:
    """The output of one command, as text or as JSON, without invisible characters."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def show(self, result: Result, text: str) -> None:
        """Write a result to stdout, as JSON or as this text."""
        if self.as_json:
            fields = result.as_json()
            self._json({name: value for name, value in fields.items() if value is not None or name != "request"})
        else:
            self.say(text)

    def say(self, text: str) -> None:
        """Write lines to stdout."""
        click.echo(block(text))

    def note(self, text: str) -> None:
        """Write a note beside the result, to stderr."""
        click.echo(block(text), err=True)

    def _json(self, fields: Mapping[str, Any]) -> None:
        # A pipe on Windows often has a small encoding, which would lose letters: JSON can escape them.
        is_utf8 = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") in ("utf8", "utf_8")
        click.echo(json.dumps(tree(dict(fields)), indent=2, ensure_ascii=not is_utf8))

    def refuse(self, error: errors.TriptychError) -> Exit:
        """Write an error, and return its exit code."""
        if self.as_json:
            self._json({"error": {"kind": error.kind, "message": error.for_operator, "retryable": error.retryable}})
        self.note(f"triptych: {as_commands(error.for_operator)}")
        return exit_of_error(error)


def command(work: Callable[..., Exit]) -> Callable[..., None]:
    """Make a click callback of a function that returns its exit code; add `--json`, turn errors into sentences."""

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
            from triptych import sdk

            if isinstance(error, ImportError) and (said := sdk.mismatch()):
                sys.exit(int(screen.refuse(errors.BadRequest(said))))
            description = f"{type(error).__name__}: {str(error)[:300]}"
            code = screen.refuse(
                errors.TriptychError(
                    f"Triptych failed ({description}). TRIPTYCH_LOG_LEVEL=DEBUG shows details; please report it."
                )
            )
        sys.exit(int(code))

    return click.option("--json", "as_json", is_flag=True, help="Write the exact result as JSON to stdout.")(run_it)


def read_config() -> ServiceConfig:
    """Return the configuration from the environment, and send log lines to stderr.

    Raises: `errors.BadRequest` naming the variable that is wrong.
    """
    from triptych import logs, settings

    logs.configure(settings.log_level(os.environ), settings.log_format(os.environ))
    return settings.read(os.environ).setup


class Opened(NamedTuple):
    """The configuration, its store and the clock of its database."""

    config: ServiceConfig
    store: Store
    clock: Clock


def read(work: Callable[[Opened], T]) -> T:
    """Return what `work` reads of the store, without the service: no event loop, no HTTP client, no worker."""
    with _no_collection():
        from triptych.core.clock import SystemClock
        from triptych.storage.jobs import Store

        config = read_config()
        database = config.open_database()
        clock = database.clock(SystemClock())
        with closing(Store(database, config.home / "images", config.caps, clock)) as store:
            if config.objects:  # a wrong setting is an error in every command
                from triptych.images.objects import Objects

                Objects(config.objects, clock)
            return work(Opened(config, store, clock))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Collect no garbage: the modules that the block imports are permanent."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def run(work: Callable[[ImageService], Awaitable[T]], *, worker: bool = False) -> T:
    """Run `work` with the service, and with the worker if `worker` is set; return its result."""
    import anyio

    from triptych.jobs.service import open_service

    setup = read_config()

    async def in_service() -> T:
        # A command that only reads must not start a waiting job and leave it.
        async with open_service(setup, work=worker) as service:
            return await work(service)

    return anyio.run(in_service)


def caller_for(items: Sequence[str], *directories: str | None) -> Caller:
    """Return a caller that may read the named files, folders and patterns, and write to the named directories."""
    from triptych.images import folders
    from triptych.jobs.caller import Caller

    paths = [item for item in items if item.startswith("file://") or not _is_no_path(item)]
    roots = [
        resolved(str(folder)) if (folder := folders.folder_of(item)) else resolved(item.removeprefix("file://")).parent
        for item in paths
    ]
    return Caller(roots=tuple(dict.fromkeys([*roots, *(resolved(d) for d in directories if d)])))


def is_file(text: str) -> bool:
    """Return whether a text names a file, by its path or its `file://` URL."""
    try:
        return Path(text.removeprefix("file://")).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):  # too long, an unknown user, NUL
        return False


def _is_no_path(item: str) -> bool:
    item = item.strip()
    if item.startswith(("img_", "job_")):
        return not any(sign in item for sign in "*?[")
    return item.lower().startswith(("look:", "triptych:", "http://", "https://", "data:"))


def resolved(path: str) -> Path:
    """Return the resolved path of a command-line argument.

    Raises: `errors.UnreadableImage` if it is no path.
    """
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise errors.UnreadableImage(f"{errors.quoted(path, 160)} is not a path.") from error
