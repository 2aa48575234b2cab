"""The commands, one function each: read the options, call the service, show the result, return an exit code."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from triptych.cli import formatting
from triptych.cli.formatting import Exit
from triptych.cli.job_commands import paid_options, run_paid
from triptych.cli.output import Screen, caller_for, command, read_config, resolved, run
from triptych.core import errors
from triptych.core.json_fields import Result

if TYPE_CHECKING:
    from triptych.jobs.results import UploadResult
    from triptych.jobs.service import ImageService


@dataclass(frozen=True, slots=True, kw_only=True)
class _Viewed(Result):
    path: str
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Revoked(Result):
    home: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Faults(Result):
    faults: list[dict[str, str]]


class Days(click.ParamType[timedelta]):
    """A number of days."""

    name = "days"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the time, or fail with an example of a right value."""
        text = str(value).removesuffix("d")
        if not (text.isdecimal() and 1 <= int(text) <= 36_500):
            self.fail(f"{value!r} is not a number of days; give at least 1d, for example 30d", param, ctx)
        return timedelta(days=int(text))


@click.command()
@click.argument("images", metavar="IMAGE…", nargs=-1, required=True)
@click.option("-p", "--prompt", required=True, help="What should change; for several images, how they differ.")
@click.option("-n", "--count", type=click.IntRange(1, 14), default=1, show_default=True, help="Number of images, 1-14.")
@paid_options
@command
def edit(screen: Screen, images: tuple[str, ...], prompt: str, count: int, **given: Any) -> Exit:
    """Edit references into coherent images in one paid request; at most 15 images, references included."""
    return run_paid(screen, "edit_sequence", {**given, "images": images, "prompt": prompt, "count": count})


@click.command()
@click.argument("images", metavar="IMAGE…", nargs=-1, required=True)
@click.option("-s", "--step", "steps", multiple=True, help="An instruction; repeat it, in order.")
@click.option("-r", "--reference", "references", multiple=True, help="For every request: IMAGE, look:NAME, original.")
@paid_options
@command
def chain(
    screen: Screen, images: tuple[str, ...], steps: tuple[str, ...], references: tuple[str, ...], **given: Any
) -> Exit:
    """Take each image through the steps, each on the last one's output."""
    return run_paid(screen, "edit_chain", {**given, "images": images, "steps": steps, "references": references})


@click.command()
@click.option("-p", "--prompt", required=True, help="What to show; for several images, how they differ.")
@click.option("-n", "--count", type=click.IntRange(1, 15), default=1, show_default=True, help="Number of images, 1-15.")
@paid_options
@command
def generate(screen: Screen, prompt: str, count: int, **given: Any) -> Exit:
    """Make 1-15 coherent images from words alone, in one paid request."""
    return run_paid(screen, "generate_sequence", {**given, "prompt": prompt, "count": count})


@click.command()
@click.option("--older-than", type=Days(), default="30d", show_default=True, help="Days since the last use, from 1d.")
@click.option("--unsaved", is_flag=True, help="Also outputs that have no saved copy.")
@click.option("--yes", is_flag=True, help="Remove them; otherwise only list them.")
@command
def prune(screen: Screen, older_than: timedelta, unsaved: bool, yes: bool) -> Exit:
    """Remove image files that are old, unused and saved elsewhere."""
    from triptych.core.clock import SystemClock
    from triptych.images.objects import Objects
    from triptych.jobs.pruning import Pruner

    config = read_config()
    home, stored = config.home, Objects(config.objects, SystemClock()) if config.objects else None
    with closing(config.open_database()) as database:
        pruner = Pruner(database, home, stored, older_than=older_than, unsaved=unsaved, now=datetime.now(UTC))
        result = pruner.prune() if yes else pruner.look()
    screen.show(result, formatting.prune_text(result))
    return Exit.DONE


@click.command("revoke-urls")
@command
def revoke_urls(screen: Screen) -> Exit:
    """End every image URL that an HTTP server on this database has signed."""
    from triptych.storage.jobs import Store

    config = read_config()
    home = config.home
    with closing(Store(config.open_database(), home / "images")) as store:
        store.renew_file_secret()
    message = "Every image URL signed here is now invalid; new results have new URLs."
    screen.show(_Revoked(home=str(home)), message)
    return Exit.DONE


@click.command()
@click.argument("job")
@command
def cancel(screen: Screen, job: str) -> Exit:
    """Stop what is not submitted yet; says what is still charged."""
    result = run(lambda service: service.cancel_job(job))
    screen.show(result, formatting.job_text(result))
    return Exit.RUNNING if result.status == "running" else Exit.DONE


@click.command()
@click.argument("query", default="")
@click.option("--operation", help="generate, generate-sequential, edit or edit-sequential.")
@click.option("--provider")
@command
def models(screen: Screen, query: str, operation: str | None, provider: str | None) -> Exit:
    """List models by provider, with prices and limits."""
    result = run(lambda service: service.list_models(query, operation, provider, every=True))
    screen.show(result, formatting.models_text(result))
    return Exit.DONE


@click.command()
@click.argument("images", metavar="IMAGE…", nargs=-1, required=True)
@click.option("--look", metavar="NAME", help="Store them as the next version of look:NAME, for edit and chain.")
@click.option("--words", help="The words of the look, for every prompt.")
@command
def upload(screen: Screen, images: tuple[str, ...], look: str | None, words: str | None) -> Exit:
    """Take in images, and upload them to the default provider; free."""

    async def uploaded(service: ImageService) -> tuple[UploadResult, bool]:
        result = await service.upload_images(images, caller_for(images), look, words)
        account = service.config.accounts[result.provider]
        return result, account.usable and account.provider.upload is not None and not account.provider.inline

    result, has_uploads = run(uploaded)
    screen.show(result, formatting.upload_text(result))
    is_missing = has_uploads and any((image.url or "file:").startswith("file:") for image in result.images)
    return Exit.PARTIAL if is_missing else Exit.DONE


@click.command()
@click.argument("images", metavar="IMAGE…", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(dir_okay=False), default="sheet.jpg", show_default=True)
@command
def view(screen: Screen, images: tuple[str, ...], output: str) -> Exit:
    """Write a preview of one image, or a labelled contact sheet of several."""
    preview = run(lambda service: service.view_images(images, caller_for(images), detail=True))
    path = resolved(output)
    try:
        path.write_bytes(preview.jpeg)
    except OSError as error:
        raise errors.NotAllowed(f"{path} cannot be written ({error.strerror}).") from error
    screen.show(_Viewed(path=str(path), caption=preview.caption), f"{preview.caption}\n{path}")
    return Exit.DONE


@click.command()
@click.option("--offline", is_flag=True, help="Do not contact the providers.")
@click.option("--check-updates", is_flag=True, help="Ask the package index (pypi.org) for a newer version.")
@command
def doctor(screen: Screen, **chosen: bool) -> Exit:
    """Check settings, directories, providers and the clock, and say how to mend each fault."""
    import anyio

    from triptych.cli.doctor import run_checks

    report = anyio.run(lambda: run_checks(os.environ, **chosen))
    screen.show(report, report.text())
    return Exit.DONE if report.ok else Exit.FAILED


@click.command()
@click.option("--transport", type=click.Choice(["stdio", "http", "sse"]), default="stdio", show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True)
@click.option("--worker/--no-worker", "with_worker", default=True, help="Work on jobs too, or leave that to others.")
@click.option(
    "--stateless/--sessions",
    default=None,
    help="Over HTTP, clients before 2026-07-28 get no session, for balancers. Default: with TRIPTYCH_DATABASE_URL.",
)
def serve(transport: Any, host: str, port: int, with_worker: bool, stateless: bool | None) -> None:
    """Run the MCP server: stdio, streamable HTTP at /mcp, or SSE at /sse."""
    from triptych.server import transports
    from triptych.settings import read as read_settings

    try:
        if transport == "stdio":
            transports.serve(lambda: read_settings(os.environ), worker=with_worker)
        else:
            settings = read_settings(os.environ, remote=True)
            transports.serve(settings, transport, host, port, worker=with_worker, stateless=stateless)
    except errors.TriptychError as error:
        sys.exit(int(Screen(False).refuse(error)))


@click.command()
@click.option("--health-port", type=click.IntRange(0, 65535), help="Serve /healthz, /readyz and /metrics here.")
@click.option("--health-host", default="127.0.0.1", show_default=True)
def worker(health_port: int | None, health_host: str) -> None:
    """Work on the jobs that servers store, without a server (Ctrl-C ends it)."""
    import anyio

    from triptych.server import worker_process
    from triptych.settings import read as read_settings

    probes_at = None if health_port is None else (health_host, health_port)
    try:
        anyio.run(worker_process.work, read_settings(os.environ, remote=True), worker_process.announce, probes_at)
    except errors.TriptychError as error:
        sys.exit(int(Screen(False).refuse(error)))


@click.command()
@click.argument("job", default="")
@click.option("--open/--no-open", "opens", default=True, help="Open a browser; otherwise only show the address.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="By default a free one.")
def gallery(job: str, opens: bool, port: int) -> None:
    """See and edit jobs and images in a browser (Ctrl-C ends it)."""
    import secrets
    import threading
    import webbrowser
    from dataclasses import replace
    from urllib.parse import urlencode

    from triptych.server import transports
    from triptych.server.gallery import ROUTE
    from triptych.settings import read as read_settings

    screen = Screen(False)
    token = secrets.token_urlsafe(32)

    def ready(url: str) -> None:
        # No browser sends a URL's fragment anywhere.
        page = f"{url.removesuffix('/mcp')}{ROUTE}#{urlencode({'token': token} | ({'show': job} if job else {}))}"
        screen.note(f"The gallery is at {page}")
        if opens:
            threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()

    try:
        # Only the token in the page's URL is valid, on this machine.
        settings = replace(read_settings(os.environ), auth_tokens=(), public_url=None)
        transports.serve(settings, "http", "127.0.0.1", port, ready, own_token=token)
    except errors.TriptychError as error:
        sys.exit(int(screen.refuse(error)))


@click.command()
@click.argument("name")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8901, show_default=True, help="0 takes a free one.")
@click.option("--latency", type=click.FloatRange(0), help="Seconds per image request; realistic by default.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--list-faults", is_flag=True, help="List the faults that can be switched on, and exit.")
@command
def emulate(
    screen: Screen, name: str, host: str, port: int, latency: float | None, seed: int, list_faults: bool
) -> Exit:
    """Run a provider's API on loopback, for tests and dry runs."""
    import triptych_emulators
    from triptych.cli.demo import preview_pictures
    from triptych.providers import load

    _require_emulated(name)
    if list_faults:
        rows = [(f.op, f.name, f.about) for f in triptych_emulators.faults(name)]
        listed = _Faults(faults=[{"op": op, "name": fault, "about": about} for op, fault, about in rows])
        screen.show(listed, formatting.table(("request", "fault", "what happens"), rows))
        return Exit.DONE
    provider = load(name)

    def ready(base_url: str) -> None:
        bases = " ".join(f"{base.env}={base_url}" for base in provider.base_urls.values() if not base.optional)
        screen.note(f"{provider.title}, emulated, at {base_url} (Ctrl-C ends it). Any key will do:")
        screen.note(f"  export {bases} {provider.key_env}=any-key")

    try:
        triptych_emulators.serve(
            name, host, port, latency_s=latency, seed=seed, on_ready=ready, painter=preview_pictures
        )
    except OSError as error:
        raise errors.BadRequest(f"{host}:{port} cannot be listened on ({error.strerror}).") from error
    return Exit.DONE


def _require_emulated(name: str) -> None:
    import triptych_emulators

    if name not in triptych_emulators.names():
        raise errors.UnknownModel(f"There is no emulated {name!r}; there are: {', '.join(triptych_emulators.names())}.")


@click.command()
@click.option("--out", type=click.Path(file_okay=False), default="demo-output", show_default=True)
@click.option("--provider", default="atlas", show_default=True, help="The provider to emulate.")
@command
def demo(screen: Screen, out: str, provider: str) -> Exit:
    """Show a whole job in a minute: emulated provider, real server, real client."""
    import anyio

    from triptych.cli.demo import show

    _require_emulated(provider)
    say = screen.note if screen.as_json else screen.say
    report = anyio.run(lambda: show(resolved(out), provider, say, live=sys.stdout.isatty() and not screen.as_json))
    if screen.as_json:
        screen.show(report, "")
    return Exit.DONE if report.ok else Exit.FAILED
