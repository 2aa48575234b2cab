"""Commands that cost money: their options, the question before a costly job, and staying with a job to its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import anyio
import click

from triptych.cli.formatting import Exit, exit_of_status, job_text
from triptych.cli.output import Screen, caller_for, run
from triptych.core import errors

if TYPE_CHECKING:
    from triptych.jobs.results import JobResult
    from triptych.jobs.service import ImageService

PATIENCE_S = 2.0
"""Work longer than this shows its progress."""
SENT_WITHIN_S = 15.0
"""How long `--no-wait` stays for a job to get to the provider."""
CHARGE_WITHIN_S = 4.0
"""How long a finished job's charge is waited for; some providers tell it a moment later."""


class Usd(click.ParamType[Decimal]):
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


_PAID_OPTIONS = (
    click.option("--model", help="A model or an endpoint id; `triptych models` lists them."),
    click.option("--provider", help="A provider; the default is the first with a key, else draft."),
    click.option("--size", help='"2K", "16:9" or "2048x2048".'),
    click.option("--format", type=click.Choice(["png", "jpeg"]), help="The file format."),
    click.option("--save-to", type=click.Path(file_okay=False), help="A directory for full-size copies."),
    click.option("--max-cost-usd", type=Usd(), help="Refuse a higher quote; also confirms a costly job up to this."),
    click.option("--yes", is_flag=True, help="Confirm a job above TRIPTYCH_CONFIRM_USD."),
    click.option("--dry-run", is_flag=True, help="Show the quote and the exact request; send nothing."),
    click.option("--again", is_flag=True, help="Submit again although the same request exists (pays again)."),
    click.option("--wait/--no-wait", default=True, help="Wait until the job ends (the default), or exit early."),
)


def paid(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that all paid ones share."""
    for option in reversed(_PAID_OPTIONS):
        command = option(command)
    return command


def pay(screen: Screen, tool: str, given: dict[str, Any]) -> Exit:
    """Make a job of a tool's arguments, wait for it as asked, show it, and return its exit code."""
    from triptych.jobs.planning import Terms, read_arguments

    yes, wait = given.pop("yes"), given.pop("wait")
    request, terms = read_arguments(tool, {**given, "wait_s": 0})
    caller = caller_for((*request.images, *request.references), terms.save_to)
    if yes and terms.max_cost_usd is None:
        terms = replace(terms, max_cost_usd=Decimal("Infinity"))

    def start(agreed: Terms) -> JobResult:
        return followed(screen, lambda service: service.make(request, agreed, caller), wait=wait)

    try:
        result = start(terms)
    except errors.OverBudget as error:
        if error.confirm_usd is None:
            raise
        result = start(replace(terms, max_cost_usd=_confirmed(error, error.confirm_usd)))
    screen.show(result, job_text(result))
    return exit_of_status(result.status)


def _confirmed(error: errors.OverBudget, quoted: Decimal) -> Decimal:
    """Return the quote once the person at the terminal agrees to it.

    Raises: `errors.OverBudget` when there is nobody to ask, or the answer is no.
    """
    if not sys.stdin.isatty():
        raise errors.OverBudget(f"{error.message} Here: --yes or --max-cost-usd {errors.plain(quoted)}.")
    if not click.confirm(f"{error.question} Go on?", err=True):
        raise errors.OverBudget("Not confirmed; nothing was sent.")
    return quoted


def followed(screen: Screen, start: Callable[[ImageService], Awaitable[JobResult]], *, wait: bool) -> JobResult:
    """Start or take up a job and stay with it; Ctrl-C leaves it, and says so."""
    last: list[JobResult] = []

    async def follow(service: ImageService) -> None:
        last.append(await start(service))
        began = time.monotonic()
        with Progress(screen) as progress:
            while last[-1].job_id and last[-1].status in ("queued", "running"):
                if not wait and (last[-1].status == "running" or time.monotonic() - began > SENT_WITHIN_S):
                    break
                last.append(await service.get_status(last[-1].job_id, 0.5 if wait else 0.1))
                progress.show(last[-1])
        last.append(await whole(service, last[-1]))
        await _charged(service, last)

    try:
        run(follow, worker=True)
    except KeyboardInterrupt:
        if not last:
            raise
        job_id = last[-1].job_id
        screen.note(f"\nThe job is not finished and continues at the next start; triptych status {job_id} --wait")
    return last[-1]


async def _charged(service: ImageService, last: list[JobResult]) -> None:
    """Stay a moment longer for what a finished job was charged."""
    end = time.monotonic() + CHARGE_WITHIN_S
    while last[-1].job_id and last[-1].status == "done" and last[-1].cost.charged is None and time.monotonic() < end:
        await anyio.sleep(0.2)
        last.append(await whole(service, last[-1]))


async def whole(service: ImageService, result: JobResult) -> JobResult:
    """Return a job with all its images, in order, and the warnings that were given already."""
    if result.job_id is None:
        return result
    every = await service.job(result.job_id, every=True)
    return every.model_copy(update={"warnings": list(dict.fromkeys([*every.warnings, *result.warnings]))})


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
