"""`triptych compare`: one request on several models or providers at once, with prices, times and files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import anyio
import click

from triptych.cli import formatting
from triptych.cli.formatting import Exit, exit_of_status
from triptych.cli.job_commands import CHARGE_WITHIN_S, Param, Usd, confirmed, with_all_images
from triptych.cli.output import Screen, caller_for, command, is_file, read_config, run
from triptych.core import errors
from triptych.core.errors import format_usd
from triptych.core.json_fields import AS_TEXT, Result
from triptych.jobs.results import JobResult

if TYPE_CHECKING:
    from triptych.core.requests import Request
    from triptych.jobs.planning import Terms
    from triptych.jobs.service import Caller, ImageService

POLL_EVERY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared(Result):
    """One model or provider of a comparison: its job, or why it has none, and the seconds that it took."""

    model: str
    provider: str | None
    quoted: Decimal = field(metadata=AS_TEXT)
    job: JobResult | None = None
    took_s: int | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(Result):
    """The result of the command."""

    quoted: Decimal = field(metadata=AS_TEXT)
    compared: list[Compared]


def names(context: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Return the different names between commas."""
    return tuple(dict.fromkeys(name.strip() for name in (value or "").split(",") if name.strip()))


@click.command()
@click.argument("prompt")
@click.option("-i", "--image", "images", multiple=True, help="An image to edit; repeatable. Without one: from words.")
@click.option("--models", required=True, callback=names, help="The models, separated by commas.")
@click.option("--providers", callback=names, help="Providers, separated by commas: every model on each of them.")
@click.option("-n", "--count", type=click.IntRange(1, 15), default=1, show_default=True, help="Number of images each.")
@click.option("--size", help='"2K", "16:9" or "2048x2048".')
@click.option("--format", type=click.Choice(["png", "jpeg", "webp"]), help="The file format.")
@click.option("--param", "params", type=Param(), multiple=True, help="A parameter of the models, such as seed=7.")
@click.option("--save-to", type=click.Path(file_okay=False), help="A directory for full-size copies.")
@click.option("--max-cost-usd", type=Usd(), help="Refuse a higher quote of all together; also confirms up to this.")
@click.option("--yes", is_flag=True, help="Confirm a comparison above TRIPTYCH_CONFIRM_USD.")
@click.option("--dry-run", is_flag=True, help="Show the quotes; send nothing.")
@command
def compare(
    screen: Screen,
    prompt: str,
    models: tuple[str, ...],
    providers: tuple[str, ...],
    max_cost_usd: Decimal | None,
    yes: bool,
    dry_run: bool,
    save_to: str | None,
    **given: Any,
) -> Exit:
    """Run one request on several models at once; one paid request for each."""
    from triptych.jobs.planning import Terms, read_arguments

    pairs = [(model, provider) for model in models for provider in (providers or (None,))]
    if len(pairs) < 2:
        raise errors.BadRequest("A comparison needs two models, or two providers: --models seedream-4.5,seedream-4.0.")
    tool = "edit_sequence" if given["images"] else "generate_sequence"
    if not given["images"]:
        del given["images"]
    given["params"] = dict(given["params"])
    requests = [read_arguments(tool, {**given, "prompt": prompt, "model": m, "provider": p})[0] for m, p in pairs]
    files = [text for text in requests[0].texts if is_file(text)]
    caller = caller_for((*requests[0].images, *files), save_to)

    made: list[str] = []

    def start(cap_usd: Decimal | None) -> Comparison:
        terms = Terms(wait_s=0, save_to=save_to, max_cost_usd=cap_usd, dry_run=dry_run)
        try:
            return run(lambda service: _compared(service, requests, terms, caller, made), worker=True)
        except KeyboardInterrupt:
            listed = ", ".join(f"triptych status {job_id} --wait" for job_id in made)
            screen.note("\nNothing was sent." if not made else f"\nNot finished; the jobs go on with: {listed}")
            raise

    try:
        result = start(Decimal("Infinity") if yes and max_cost_usd is None else max_cost_usd)
    except errors.OverBudget as error:
        if error.confirm_usd is None:
            raise
        result = start(confirmed(error, error.confirm_usd))
    screen.show(result, _text(result))
    return _exit(result)


async def _compared(
    service: ImageService, requests: Sequence[Request], terms: Terms, caller: Caller, made: list[str]
) -> Comparison:
    """Quote every request, check the sum, make the jobs, and follow them to their end; `made` gets their ids."""
    quotes = [await service.make(request, replace(terms, dry_run=True), caller) for request in requests]
    quoted_usd = sum((quote.cost.quoted for quote in quotes), Decimal(0))
    if not terms.dry_run:
        await _check(service, quoted_usd, terms.max_cost_usd, len(requests))
    compared = []
    for request, quote in zip(requests, quotes, strict=True):
        row = Compared(model=quote.model, provider=quote.provider, quoted=quote.cost.quoted)
        if not terms.dry_run:
            try:
                job = await service.make(request, replace(terms, max_cost_usd=quote.cost.quoted), caller)
                row = replace(row, job=job)
                made.append(str(job.job_id))
            except errors.TriptychError as error:  # the others are made, and paid for
                row = replace(row, refused=error.message)
        compared.append(row)
    return Comparison(quoted=quoted_usd, compared=await _followed(service, compared))


async def _check(service: ImageService, quoted_usd: Decimal, cap_usd: Decimal | None, count: int) -> None:
    """Raise `errors.OverBudget` if the sum is above the cap or the budget, or needs a confirmation."""
    asked = format_usd(quoted_usd)
    spend = await service.spend(1)
    if cap_usd is not None and quoted_usd > cap_usd:
        raise errors.OverBudget(
            f"The quotes of all {count} together are ${asked}, above the cap of ${format_usd(cap_usd)} "
            f"(--max-cost-usd). Nothing was sent."
        )
    for budget in filter(None, (spend.budget, spend.owner_budget)):
        if budget.left is not None and quoted_usd > budget.left:
            raise errors.OverBudget(
                f"The quotes of all {count} together are ${asked}; ${format_usd(budget.left)} of the budget "
                f"({budget.setting}) is left. Nothing was sent."
            )
    confirm_usd = read_config().confirm_usd
    if cap_usd is None and quoted_usd > confirm_usd:
        raise errors.OverBudget(
            f"The quotes of all {count} together, ${asked}, need a confirmation, as they are above "
            f"${format_usd(confirm_usd)} (TRIPTYCH_CONFIRM_USD). Nothing was sent.",
            confirm_usd=quoted_usd,
            question=f"This will cost ${asked}: {count} requests.",
        )


async def _followed(service: ImageService, compared: list[Compared]) -> list[Compared]:
    """Return the rows with their jobs ended, and a moment later, as some charges come after the images."""
    charges_until: float | None = None
    ids = [row.job.job_id for row in compared if row.job and row.job.job_id]
    while True:
        jobs = [await service.get_status(job_id) for job_id in ids]
        if not any(job.status in ("queued", "running") for job in jobs):
            charges_until = charges_until or time.monotonic() + CHARGE_WITHIN_S
            if time.monotonic() > charges_until or not any(map(_lacks_charge, jobs)):
                return [await _ended(service, row) for row in compared]
        await anyio.sleep(POLL_EVERY_S)


async def _ended(service: ImageService, row: Compared) -> Compared:
    """Return a row with all images of its ended job, and the seconds that it took."""
    if row.job is None or row.job.job_id is None:
        return row
    made, moved, _ = await service.times(row.job.job_id)
    job = await with_all_images(service, await service.get_status(row.job.job_id))
    took_s = round((moved - made).total_seconds())
    return replace(row, job=job, provider=job.provider, took_s=took_s)


def _lacks_charge(job: JobResult) -> bool:
    return job.status == "done" and job.cost.charged is None


def _text(result: Comparison) -> str:
    rows, files = [], []
    for row in result.compared:
        job = row.job
        cost = f"${format_usd(row.quoted)} quoted"
        if job and job.cost.charged is not None:
            cost = f"{'~' if job.cost.charge_is_estimate else ''}${format_usd(job.cost.charged)}"
        state = job.status if job else "refused" if row.refused else "quoted"
        took = "–" if row.took_s is None else f"{row.took_s} s"
        rows.append((row.model, row.provider or "", state, str(job.returned if job else 0), cost, took, _name(job)))
        error = row.refused or (job.error.message if job and job.error else "")
        files += formatting.wrapped(f"{row.model}: {error}", "  ") if error else []
        files += [f"  {image.handle}  {image.path}" for image in (job.images if job else []) if image.path]
    lines = formatting.table(("model", "provider", "status", "images", "cost", "time", "job"), rows).split("\n")
    lines.append(f"All together: ${format_usd(result.quoted)} quoted.")
    made = [_name(row.job) for row in result.compared if row.job and row.job.images]
    side_by_side = [f"  side by side: triptych view {' '.join(made)}"] if len(made) > 1 else []
    return "\n".join([*lines, *files, *side_by_side])


def _name(job: JobResult | None) -> str:
    return (job and job.job_id) or ""


def _exit(result: Comparison) -> Exit:
    """Return the exit code: of the worst job, or partial if only some have images."""
    codes = {exit_of_status(row.job.status) if row.job else Exit.DONE for row in result.compared if not row.refused}
    if any(row.refused for row in result.compared):
        codes.add(Exit.TOO_COSTLY if not codes else Exit.FAILED)
    if Exit.UNCERTAIN in codes:
        return Exit.UNCERTAIN
    return next(iter(codes)) if len(codes) == 1 else Exit.PARTIAL
