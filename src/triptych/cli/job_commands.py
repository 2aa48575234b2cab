"""Paid commands: their options, the confirmation of a costly job, and following a job to its end."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import click

from triptych.cli.formatting import Exit, exit_of_status, job_text
from triptych.cli.output import Screen, caller_for, is_file, run
from triptych.cli.progress import Progress
from triptych.core import errors

if TYPE_CHECKING:
    from triptych.jobs.results import JobResult
    from triptych.jobs.service import ImageService

SENT_WITHIN_S = 15.0
"""The longest time that `--no-wait` waits until the job is submitted."""
CHARGE_WITHIN_S = 4.0
"""The longest wait for a finished job's charge; some providers report it a moment later."""


class Usd(click.ParamType[Decimal]):
    """An amount in US dollars."""

    name = "usd"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Return the amount, or fail with an example of a right value."""
        try:
            amount = Decimal(str(value).removeprefix("$"))
        except InvalidOperation:
            amount = Decimal("NaN")
        if not amount.is_finite() or amount < 0:
            self.fail(f"{value!r} is not an amount in US dollars, such as 0.50", param, ctx)
        return amount


class Param(click.ParamType[tuple[str, Any]]):
    """A parameter of a model as NAME=VALUE; the value is JSON, or else a text."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """Return the name and the value, or fail with an example of a right one."""
        name, equals, text = str(value).partition("=")
        if not (name and equals):
            self.fail(f"{value!r} is not NAME=VALUE, such as seed=7", param, ctx)
        try:
            return name, json.loads(text)
        except (ValueError, RecursionError):
            return name, text


_PAID_OPTIONS = (
    click.option("--model", help="A model or an endpoint id; `triptych models` lists them."),
    click.option("--provider", help="A provider; the default is the first with a key, else draft."),
    click.option("--size", help='"2K", "16:9" or "2048x2048".'),
    click.option("--format", type=click.Choice(["png", "jpeg", "webp"]), help="The file format."),
    click.option("--param", "params", type=Param(), multiple=True, help="A parameter of the model, such as seed=7."),
    click.option("--save-to", type=click.Path(file_okay=False), help="A directory for full-size copies."),
    click.option("--max-cost-usd", type=Usd(), help="Refuse a higher quote; also confirms a costly job up to this."),
    click.option("--yes", is_flag=True, help="Confirm a job above TRIPTYCH_CONFIRM_USD."),
    click.option("--dry-run", is_flag=True, help="Show the quote and the exact request; send nothing."),
    click.option("--again", is_flag=True, help="Submit again although the same request exists (pays again)."),
    click.option("--wait/--no-wait", default=True, help="Wait until the job ends (the default), or exit early."),
)


def paid_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that all paid commands share."""
    for option in reversed(_PAID_OPTIONS):
        command = option(command)
    return command


def run_paid(screen: Screen, tool: str, given: dict[str, Any]) -> Exit:
    """Make a job of a tool's arguments, wait for it if requested, show it, and return its exit code."""
    from triptych.jobs.planning import Terms, read_arguments

    yes, wait = given.pop("yes"), given.pop("wait")
    given["params"] = dict(given["params"])
    request, terms = read_arguments(tool, {**given, "wait_s": 0})
    files = [text for text in request.texts if is_file(text)]  # which parameters are images depends on the model
    caller = caller_for((*request.images, *request.references, *files), terms.save_to)
    if yes and terms.max_cost_usd is None:
        terms = replace(terms, max_cost_usd=Decimal("Infinity"))

    def start(agreed: Terms) -> JobResult:
        return follow_job(screen, lambda service: service.make(request, agreed, caller), wait=wait)

    try:
        result = start(terms)
    except errors.OverBudget as error:
        if error.confirm_usd is None:
            raise
        result = start(replace(terms, max_cost_usd=confirmed(error, error.confirm_usd)))
    screen.show(result, job_text(result))
    return exit_of_status(result.status)


def confirmed(error: errors.OverBudget, quoted: Decimal) -> Decimal:
    """Return the quote if the person at the terminal agrees to it.

    Raises: `errors.OverBudget` without a terminal, or for a no.
    """
    if not sys.stdin.isatty():
        raise errors.OverBudget(f"{error.message} Here: --yes or --max-cost-usd {errors.format_usd(quoted)}.")
    if not click.confirm(f"{error.question} Go on?", err=True):
        raise errors.OverBudget("Not confirmed; nothing was sent.")
    return quoted


def follow_job(screen: Screen, start: Callable[[ImageService], Awaitable[JobResult]], *, wait: bool) -> JobResult:
    """Start or resume a job and follow it to its end; Ctrl-C leaves it running, with a note."""
    results: list[JobResult] = []

    async def follow(service: ImageService) -> None:
        results.append(await start(service))
        began = time.monotonic()
        progress = Progress(screen)
        while (job_id := results[-1].job_id) and results[-1].status in ("queued", "running"):
            if not wait and (results[-1].status == "running" or time.monotonic() - began > SENT_WITHIN_S):
                break
            results.append(await service.get_status(job_id, 0.5 if wait else 0.1))
            if progress.is_due():
                progress.show(results[-1], await service.stages(job_id))
        await _wait_for_charge(service, results[-1])
        results.append(await with_all_images(service, results[-1]))

    try:
        run(follow, worker=True)
    except KeyboardInterrupt:
        if not results:
            raise
        job_id = results[-1].job_id
        screen.note(f"\nThe job is not finished and continues at the next start; triptych status {job_id} --wait")
    return results[-1]


async def _wait_for_charge(service: ImageService, result: JobResult) -> None:
    """Wait a moment longer for the charge of a finished job."""
    import anyio

    end = time.monotonic() + CHARGE_WITHIN_S
    while result.job_id and result.status == "done" and result.cost.charged is None and time.monotonic() < end:
        await anyio.sleep(0.2)
        result = await service.job(result.job_id)


async def with_all_images(service: ImageService, result: JobResult) -> JobResult:
    """Return a job with all its images, in order, and the warnings of `result`."""
    if result.job_id is None:
        return result
    return with_warnings(await service.job(result.job_id, every=True), result)


def with_warnings(full: JobResult, result: JobResult) -> JobResult:
    """Return a job with its warnings and those of `result`."""
    return replace(full, warnings=list(dict.fromkeys([*full.warnings, *result.warnings])))
