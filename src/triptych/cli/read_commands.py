"""`triptych status`, `jobs` and `spend`: the commands that read, and import little."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from triptych.cli import formatting
from triptych.cli.formatting import Exit, exit_of_status
from triptych.cli.job_commands import follow_job, with_all_images, with_warnings
from triptych.cli.output import Opened, Screen, command, read, run

if TYPE_CHECKING:
    from triptych.jobs.results import JobResult, JobsResult, SpendResult
    from triptych.jobs.service import ImageService


@click.command()
@click.argument("job")
@click.option("--wait/--no-wait", default=False, help="Work on the job until it ends.")
@command
def status(screen: Screen, job: str, wait: bool) -> Exit:
    """Show a job: its state, images and cost; free."""

    async def resumed(service: ImageService) -> JobResult:
        return await with_all_images(service, await service.get_status(job))

    if wait:
        result = follow_job(screen, lambda service: service.get_status(job), wait=True)
    else:
        result = read(lambda opened: _only_read(opened, job)) or run(resumed)
    screen.show(result, formatting.job_text(result))
    return exit_of_status(result.status)


def _only_read(opened: Opened, job: str) -> JobResult | None:
    """Return a job with all its images; None if `get_status` would also work on the job.

    Raises: `errors.UnknownHandle`.
    """
    from triptych.jobs.caller import Caller
    from triptych.jobs.job_reads import job_id_in, job_now, seen_job
    from triptych.jobs.presenters import as_stored
    from triptych.jobs.resumption import RESUMED

    config, store, clock = opened
    job_id, seen, now = job_id_in(job), seen_job(store, job, Caller()), clock.now()
    if config.objects or seen.status in RESUMED or store.to_save(job_id):
        return None
    page, full = (
        job_now(store, job_id, Caller(), config.accounts, as_stored, (now, now), every=every) for every in (False, True)
    )
    return with_warnings(full, page)


@click.command()
@click.option("-n", "--limit", type=click.IntRange(1, 100), default=20, show_default=True)
@click.option("--status", help="Only jobs of this status.")
@command
def jobs(screen: Screen, limit: int, status: str | None) -> Exit:
    """List recent jobs, the assistant's too, newest first."""

    def listed(opened: Opened) -> JobsResult:
        from triptych.jobs.caller import Caller
        from triptych.jobs.job_reads import jobs_listed

        return jobs_listed(opened.store, limit, status, Caller())

    result = read(listed)
    screen.show(result, formatting.jobs_text(result))
    return Exit.DONE


@click.command()
@click.option("--days", type=click.IntRange(1, 366), default=7, show_default=True, help="How far back, in UTC days.")
@command
def spend(screen: Screen, days: int) -> Exit:
    """Show what was spent by day, provider and model, and what is left of the budget."""

    def ledger(opened: Opened) -> SpendResult:
        from triptych.core.clock import moment
        from triptych.jobs.caller import Caller
        from triptych.jobs.job_reads import spent

        return spent(opened.store, days, Caller(), moment(opened.clock))

    result = read(ledger)
    screen.show(result, formatting.spend_text(result))
    return Exit.DONE
