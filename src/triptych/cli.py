"""The command line: the same use-cases as the tools, for people and scripts.

Rules: results go to stdout, everything else to stderr; with `--json` stdout is exactly one JSON document. An error is a
sentence and an exit code, never a traceback. The studio is opened in this process, on the same TRIPTYCH_HOME as the
server's, so both see the same jobs; only commands that wait for a job do work on jobs. Whoever types a path may read
it: paths on the command line need not be in TRIPTYCH_ALLOWED_DIRS.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import anyio
import click

from triptych import __version__, errors
from triptych.console import EXIT_MEANINGS, Exit, exit_of_error, exit_of_status

if TYPE_CHECKING:
    from pydantic import BaseModel

    from triptych.results import JobResult
    from triptych.studio import Caller, Options, Setup, Studio

P = ParamSpec("P")
T = TypeVar("T")
Command = Callable[P, None]

PATIENCE_S = 2.0
"""Work longer than this shows its progress."""
SENT_WITHIN_S = 15.0
"""How long `--no-wait` stays for a job to get to the provider."""
CHARGE_WITHIN_S = 4.0
"""How long a finished job's charge is waited for; some providers tell it a moment later."""

_CODES = "\n".join(f"  {int(code)}  {meaning}" for code, meaning in EXIT_MEANINGS.items())
EPILOG = f"\b\nExit codes:\n{_CODES}\n\nSettings come from the environment; `triptych doctor` shows what they come to."


class Screen:
    """Where one command says things, as text or as JSON."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def show(self, result: BaseModel, text: str) -> None:
        """Write a result to stdout, as it is or in words."""
        if self.as_json:
            unsaid = {"request"} if getattr(result, "request", ...) is None else None
            text = result.model_dump_json(indent=2, exclude=unsaid)
        click.echo(text)

    def note(self, text: str) -> None:
        """Say something beside the result, to stderr."""
        click.echo(text, err=True)

    def refuse(self, error: errors.TriptychError) -> Exit:
        """Say what went wrong, and return the exit code for it."""
        if self.as_json:
            import json

            said = {"kind": error.kind, "message": error.message, "retryable": error.retryable}
            click.echo(json.dumps({"error": said}, indent=2, ensure_ascii=False))
        self.note(f"triptych: {error.message}")
        return exit_of_error(error)


def _command(work: Callable[Concatenate[Screen, P], Exit]) -> Callable[..., None]:
    """Make a click callback of a function that returns its exit code: adds `--json`, turns errors into sentences."""

    @wraps(work)
    def run(as_json: bool, *args: P.args, **given: P.kwargs) -> None:
        screen = Screen(as_json)
        try:
            code = work(screen, *args, **given)
        except errors.TriptychError as error:
            code = screen.refuse(error)
        sys.exit(int(code))

    return click.option("--json", "as_json", is_flag=True, help="Write the exact result as JSON to stdout.")(run)


class Usd(click.ParamType):
    """An amount in US dollars."""

    name = "usd"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Return the amount, or fail with what would be right."""
        try:
            amount = Decimal(str(value).removeprefix("$"))
        except InvalidOperation:
            amount = Decimal("NaN")
        if not amount.is_finite() or amount < 0:
            self.fail(f"{value!r} is not an amount in US dollars, such as 0.50", param, ctx)
        return amount


@click.group(invoke_without_command=True, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
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
    # Marks and typographic characters must not break a pipe whose encoding cannot say them.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    cli(prog_name="triptych")


# -- the studio, from here -----------------------------------------------------------------------------------------


def _setup() -> Setup:
    from triptych import config

    config.configure_logging(config.log_level(os.environ))
    return config.read(os.environ).setup


@asynccontextmanager
async def _at_rest(setup: Setup) -> AsyncIterator[Studio]:
    """Open the studio without its engine: what only looks around must not set a waiting job going and leave it."""
    from triptych.clock import SystemClock
    from triptych.studio import Studio

    studio = Studio(setup, SystemClock())
    try:
        yield studio
    finally:
        await studio.wire.aclose()
        studio.store.close()


def _run(work: Callable[[Studio], Awaitable[T]], *, engine: bool = False) -> T:
    """Return what `work` returns when given the studio, with the engine running if it is asked for."""
    from triptych.studio import open_studio

    setup = _setup()

    async def in_studio() -> T | errors.TriptychError:
        async with open_studio(setup) if engine else _at_rest(setup) as studio:
            try:
                return await work(studio)
            except errors.TriptychError as error:  # returned, because the studio's task group would wrap it
                return error

    done = anyio.run(in_studio)
    if isinstance(done, errors.TriptychError):
        raise done
    return done


def _caller(items: Sequence[str], *directories: str | None) -> Caller:
    """Return a caller that may read the files named, and write to the directories named."""
    from triptych.studio import Caller

    named = [item for item in items if item.startswith("file://") or not _is_no_path(item)]
    roots = [_resolved(item.removeprefix("file://")).parent for item in named]
    return Caller(roots=tuple(dict.fromkeys([*roots, *(_resolved(d) for d in directories if d)])))


def _is_no_path(item: str) -> bool:
    return item.strip().startswith(("img_", "job_", "triptych:", "http://", "https://", "data:"))


def _resolved(path: str) -> Path:
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise errors.UnreadableImage(f"{errors.quoted(path, 160)} is not a path.") from error


# -- paying, and waiting ---------------------------------------------------------------------------------------------

_PAID_OPTIONS = (
    click.option("--model", help="A model or an endpoint id; `triptych models` lists them."),
    click.option("--provider", help="A provider; the default is the first with a key, else draft."),
    click.option("--size", help='"2K", "16:9" or "2048x2048".'),
    click.option("--format", type=click.Choice(["png", "jpeg"]), help="The file format asked for."),
    click.option("--save-to", type=click.Path(file_okay=False), help="A directory for full-size copies."),
    click.option("--max-cost-usd", type=Usd(), help="Refuse above this; also the confirmation of a costly job."),
    click.option("--yes", is_flag=True, help="Do not ask before a job above TRIPTYCH_CONFIRM_USD."),
    click.option("--dry-run", is_flag=True, help="Show the quote and the exact request; send nothing."),
    click.option("--again", is_flag=True, help="A new variation, though the same is in flight or uncertain."),
    click.option("--wait/--no-wait", default=True, help="Wait to the end (the default), or leave when it is sent."),
)


def _paid(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_PAID_OPTIONS):
        command = option(command)
    return command


def _pay(
    screen: Screen,
    call: Callable[[Studio, Options, Caller], Awaitable[JobResult]],
    images: Sequence[str],
    given: dict[str, Any],
) -> Exit:
    """Make a job, wait for it as asked, show it, and return its exit code."""
    from triptych.console import job_text
    from triptych.studio import Options

    yes, wait = given.pop("yes"), given.pop("wait")
    options = Options(wait_s=0, **given)
    caller = _caller(images, options.save_to)
    if yes and options.max_cost_usd is None:
        options = replace(options, max_cost_usd=Decimal("Infinity"))

    def start(chosen: Options) -> JobResult:
        return _followed(screen, lambda studio: call(studio, chosen, caller), wait=wait)

    try:
        result = start(options)
    except errors.OverBudget:
        if options.max_cost_usd is not None:
            raise
        result = start(
            replace(options, max_cost_usd=_confirmed(lambda s: call(s, replace(options, dry_run=True), caller)))
        )
    screen.show(result, job_text(result))
    return exit_of_status(result.status)


def _confirmed(quote: Callable[[Studio], Awaitable[JobResult]]) -> Decimal:
    """Return the quote that the person at the terminal agrees to.

    Raises: `errors.OverBudget` when there is nobody to ask, or the answer is no.
    """
    quoted = _run(quote).cost.quoted.normalize()
    above = f"above ${_setup().confirm_usd:f} (TRIPTYCH_CONFIRM_USD)"
    if not sys.stdin.isatty():
        raise errors.OverBudget(
            f"The quote of ${quoted:f} is {above} or over the budget (TRIPTYCH_BUDGET_USD); nothing was sent. "
            f"Confirm with --yes or --max-cost-usd {quoted:f}."
        )
    if not click.confirm(f"This will cost ${quoted:f}, {above}. Go on?", err=True):
        raise errors.OverBudget("Not confirmed; nothing was sent.")
    return quoted


def _followed(screen: Screen, start: Callable[[Studio], Awaitable[JobResult]], *, wait: bool) -> JobResult:
    """Start or take up a job and stay with it; Ctrl-C leaves it, and says so."""
    last: list[JobResult] = []

    async def follow(studio: Studio) -> None:
        last.append(await start(studio))
        began = time.monotonic()
        with Progress(screen) as progress:
            while last[-1].job_id and last[-1].status in ("queued", "running"):
                if not wait and (last[-1].status == "running" or time.monotonic() - began > SENT_WITHIN_S):
                    return
                last.append(await studio.get_status(last[-1].job_id, 0.5))
                progress.show(last[-1])
        await _charged(studio, last)

    try:
        _run(follow, engine=True)
    except KeyboardInterrupt:
        if not last:
            raise
        job_id = last[-1].job_id
        screen.note(f"\nLeft running: the job goes on at the next start; triptych status {job_id} --wait")
    return last[-1]


async def _charged(studio: Studio, last: list[JobResult]) -> None:
    """Stay a moment longer for what a finished job was charged."""
    end = time.monotonic() + CHARGE_WITHIN_S
    while last[-1].job_id and last[-1].status == "done" and last[-1].cost.charged is None and time.monotonic() < end:
        await anyio.sleep(0.2)
        last.append(studio.job(last[-1].job_id).model_copy(update={"warnings": last[-1].warnings}))


class Progress:
    """A bar on a terminal's stderr, or a line per change where it is none; silent for the first two seconds."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._began = time.monotonic()
        self._told = ""
        self._bar: Any = None
        self._open = ExitStack()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def show(self, result: JobResult) -> None:
        """Show how far the job is."""
        if time.monotonic() - self._began < PATIENCE_S:
            return
        if not sys.stderr.isatty():
            line = f"{result.job_id} {result.status}, {result.returned} of {result.requested} images"
            if line != self._told:
                self._screen.note(line)
            self._told = line
            return
        if self._bar is None:
            bar: Any = click.progressbar(
                length=result.requested,
                label=result.job_id,
                file=sys.stderr,
                show_eta=False,
                show_percent=False,
                show_pos=True,
                item_show_func=lambda item: item,
            )
            self._bar = self._open.enter_context(bar)
        self._bar.current_item = f"{result.status}, {time.monotonic() - self._began:.0f} s"
        self._bar.update(result.returned - self._bar.pos)
        self._bar.render_progress()


# -- the commands ----------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("images", metavar="IMAGE…", nargs=-1, required=True)
@click.option("-p", "--prompt", required=True, help="What should change; for several images, how they differ.")
@click.option("-n", "--count", type=click.IntRange(1, 15), default=1, show_default=True, help="Images wanted, 1-15.")
@_paid
@_command
def edit(screen: Screen, images: tuple[str, ...], prompt: str, count: int, **given: Any) -> Exit:
    """Edit 1-14 references into 1-15 coherent images, in one paid request."""
    return _pay(screen, lambda s, o, c: s.edit_sequence(images, prompt, count, o, c), images, given)


@cli.command()
@click.argument("images", metavar="IMAGE…", nargs=-1, required=True)
@click.option("-s", "--step", "steps", multiple=True, required=True, help="An instruction; repeat it, in order.")
@click.option("-r", "--reference", "references", multiple=True, help="An image for every request; repeatable.")
@_paid
@_command
def chain(
    screen: Screen, images: tuple[str, ...], steps: tuple[str, ...], references: tuple[str, ...], **given: Any
) -> Exit:
    """Take each image through the steps, each on the last one's output."""
    return _pay(screen, lambda s, o, c: s.edit_chain(images, steps, references, o, c), (*images, *references), given)


@cli.command()
@click.option("-p", "--prompt", required=True, help="What to show; for several images, how they differ.")
@click.option("-n", "--count", type=click.IntRange(1, 15), default=1, show_default=True, help="Images wanted, 1-15.")
@_paid
@_command
def generate(screen: Screen, prompt: str, count: int, **given: Any) -> Exit:
    """Make 1-15 coherent images from words alone, in one paid request."""
    return _pay(screen, lambda s, o, c: s.generate_sequence(prompt, count, o, c), (), given)


@cli.command()
@click.argument("job")
@click.option("--wait/--no-wait", default=False, help="Stay, and work on the job, to its end.")
@_command
def status(screen: Screen, job: str, wait: bool) -> Exit:
    """Show a job: its state, images and cost; free."""
    from triptych.console import job_text

    if wait:
        result = _followed(screen, lambda studio: studio.get_status(job), wait=True)
    else:
        result = _run(lambda studio: studio.get_status(job))
    screen.show(result, job_text(result))
    return exit_of_status(result.status)


@cli.command()
@click.option("-n", "--limit", type=click.IntRange(1, 100), default=20, show_default=True)
@click.option("--status", help="Only jobs of this status.")
@_command
def jobs(screen: Screen, limit: int, status: str | None) -> Exit:
    """List recent jobs, the assistant's too, newest first."""
    from triptych.console import jobs_text

    result = _run(lambda studio: studio.list_jobs(limit, status))
    screen.show(result, jobs_text(result))
    return Exit.DONE


@cli.command()
@click.argument("job")
@_command
def cancel(screen: Screen, job: str) -> Exit:
    """Stop what is not submitted yet; says what is still charged."""
    from triptych.console import job_text

    result = _run(lambda studio: studio.cancel_job(job))
    screen.show(result, job_text(result))
    return Exit.RUNNING if result.status == "running" else Exit.DONE


@cli.command()
@click.argument("query", default="")
@click.option("--operation", help="generate, generate-sequential, edit or edit-sequential.")
@click.option("--provider")
@_command
def models(screen: Screen, query: str, operation: str | None, provider: str | None) -> Exit:
    """List models by provider, with prices and limits."""
    from triptych.console import models_text

    result = _run(lambda studio: studio.list_models(query, operation, provider))
    screen.show(result, models_text(result))
    return Exit.DONE


@cli.command()
@click.argument("images", metavar="IMAGE…", nargs=-1, required=True)
@_command
def upload(screen: Screen, images: tuple[str, ...]) -> Exit:
    """Take in images, and upload them to the default provider; free."""
    from triptych.console import upload_text

    result = _run(lambda studio: studio.upload_images(images, _caller(images)))
    screen.show(result, upload_text(result))
    return Exit.PARTIAL if result.warnings else Exit.DONE


@cli.command()
@click.argument("images", metavar="IMAGE…", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(dir_okay=False), default="sheet.jpg", show_default=True)
@_command
def view(screen: Screen, images: tuple[str, ...], output: str) -> Exit:
    """Write a preview of one image, or a labelled contact sheet of several."""
    from pydantic import BaseModel

    class Viewed(BaseModel):
        path: str
        caption: str

    preview = _run(lambda studio: studio.view_images(images, _caller(images)))
    path = _resolved(output)
    try:
        path.write_bytes(preview.jpeg)
    except OSError as error:
        raise errors.NotAllowed(f"{path} cannot be written ({error.strerror}).") from error
    screen.show(Viewed(path=str(path), caption=preview.caption), f"{preview.caption}\n{path}")
    return Exit.DONE


@cli.command()
@click.argument("images", metavar="IMAGE…", nargs=-1, required=True)
@click.option("-d", "--directory", required=True, type=click.Path(file_okay=False), help="Where to; made if need be.")
@click.option("--name", help="The file name, numbered if there are several; else the handles.")
@_command
def save(screen: Screen, images: tuple[str, ...], directory: str, name: str | None) -> Exit:
    """Copy images at full size into a directory; overwrites nothing."""
    from triptych.console import save_text

    caller = _caller(images, directory)
    result = _run(lambda studio: studio.save_images(images, directory, name, caller))
    screen.show(result, save_text(result))
    return Exit.DONE


@cli.command()
@click.option("--offline", is_flag=True, help="Do not ask whether the providers can be reached.")
@_command
def doctor(screen: Screen, offline: bool) -> Exit:
    """Look for what stands in the way, and say what mends it."""
    from triptych.doctor import examine

    report = anyio.run(lambda: examine(os.environ, offline=offline))
    screen.show(report, report.text())
    return Exit.DONE if report.ok else Exit.FAILED


@cli.command()
@click.option("--transport", type=click.Choice(["stdio", "http", "sse"]), default="stdio", show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True)
def serve(transport: Any, host: str, port: int) -> None:
    """Run the MCP server: stdio, streamable HTTP at /mcp, or SSE at /sse."""
    from triptych import config
    from triptych.server import transports

    try:
        if transport == "stdio":
            transports.serve(lambda: config.read(os.environ))
        else:
            transports.serve(config.read(os.environ, remote=True), transport, host, port)
    except errors.TriptychError as error:
        sys.exit(int(Screen(False).refuse(error)))


@cli.command()
@click.argument("name")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8901, show_default=True, help="0 takes a free one.")
@click.option("--latency", type=click.FloatRange(0), help="Seconds each image request takes; realistic by default.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--list-faults", is_flag=True, help="Show everything that can be made to go wrong, and leave.")
@_command
def emulate(
    screen: Screen, name: str, host: str, port: int, latency: float | None, seed: int, list_faults: bool
) -> Exit:
    """Run a provider's API on loopback, for tests and dry runs."""
    from triptych import console, emulator
    from triptych.providers import load

    if name not in emulator.names():
        raise errors.UnknownModel(f"There is no emulated {name!r}; there are: {', '.join(emulator.names())}.")
    if list_faults:
        from pydantic import BaseModel

        class Faults(BaseModel):
            faults: list[dict[str, Any]]

        rows = [(f.op, f.name, f.about) for f in emulator.faults(name)]
        listed = Faults(faults=[{"op": op, "name": fault, "about": about} for op, fault, about in rows])
        screen.show(listed, console.table(("request", "fault", "what happens"), rows))
        return Exit.DONE
    provider = load(name)

    def ready(base_url: str) -> None:
        base = next(iter(provider.base_urls.values())).env
        screen.note(f"{provider.title}, emulated, at {base_url} (Ctrl-C ends it). Any key will do:")
        screen.note(f"  export {base}={base_url} {provider.key_env}=any-key")

    try:
        emulator.serve(name, host, port, latency_s=latency, seed=seed, on_ready=ready)
    except OSError as error:
        raise errors.BadRequest(f"{host}:{port} cannot be listened on ({error.strerror}).") from error
    return Exit.DONE


@cli.command()
@click.option("--out", type=click.Path(file_okay=False), default="demo-output", show_default=True)
@click.option("--provider", type=click.Choice(["atlas"]), default="atlas", show_default=True)
@_command
def demo(screen: Screen, out: str, provider: str) -> Exit:
    """Show all of it in a minute: emulated provider, real server, real client."""
    from triptych.demo import show

    report = anyio.run(lambda: show(_resolved(out), provider, screen.note if screen.as_json else click.echo))
    if screen.as_json:
        screen.show(report, "")
    return Exit.DONE if report.ok else Exit.FAILED
