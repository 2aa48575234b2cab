"""`triptych status`, `jobs` and `spend`: the commands that read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from triptych.cli import formatting
from triptych.cli.formatting import Exit, exit_of_status
from triptych.cli.output import Screen, command, run

if TYPE_CHECKING:
    from triptych.jobs.results import JobResult, SpendResult
    from triptych.jobs.service import ImageService


@click.command()
@click.argument("job")
@click.option("--wait/--no-wait", default=False, help="Work on the job until it ends.")
@command
def status(screen: Screen, job: str, wait: bool) -> Exit:
    """Show a job: its state, images and cost; free."""
    from triptych.cli.job_commands import follow_job, with_all_images

    if wait:
        result = follow_job(screen, lambda service: service.get_status(job), wait=True)
    else:

        async def read(service: ImageService) -> JobResult:
            return await with_all_images(service, await service.get_status(job))

        result = run(read)
    screen.show(result, formatting.job_text(result))
    return exit_of_status(result.status)


@click.command()
@click.option("-n", "--limit", type=click.IntRange(1, 100), default=20, show_default=True)
@click.option("--status", help="Only jobs of this status.")
@command
def jobs(screen: Screen, limit: int, status: str | None) -> Exit:
    """List recent jobs, the assistant's too, newest first."""
    result = run(lambda service: service.list_jobs(limit, status))
    screen.show(result, formatting.jobs_text(result))
    return Exit.DONE


@click.command()
@click.option("--days", type=click.IntRange(1, 366), default=7, show_default=True, help="How far back, in UTC days.")
@command
def spend(screen: Screen, days: int) -> Exit:
    """Show what was spent by day, provider and model, and what is left of the budget."""

    async def read(service: ImageService) -> SpendResult:
        return await service.spend(days)

    result = run(read)
    screen.show(result, formatting.spend_text(result))
    return Exit.DONE
