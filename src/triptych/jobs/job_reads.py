"""Reads a caller's job and its result from the store. The functions may block: `AsyncStore.run` runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from triptych.core import errors
from triptych.core.clock import Moment
from triptych.core.models import Job, Output, State, Status
from triptych.core.text import line
from triptych.jobs import presenters, resumption
from triptych.jobs.caller import Caller
from triptych.jobs.presenters import Link
from triptych.jobs.remaining import remaining_s
from triptych.jobs.results import JobResult, JobsResult, JobStages, SpendResult, Stage
from triptych.providers.accounts import Account
from triptych.storage.budget import GroupBudget, OwnerBudget
from triptych.storage.jobs import Store
from triptych.storage.summaries import Seen

MOST_SPEND_DAYS = 366


def job_id_in(handle: str) -> str:
    """Return the id of a job; the text may be a handle of one of its images."""
    return handle.strip().partition("/")[0]


def job_named(item: str) -> str | None:
    """Return the job's id if an item names a whole job, by id or by resource URI."""
    text = item.strip().removeprefix("triptych://jobs/")
    return text if text.startswith("job_") and "/" not in text else None


def seen_job(store: Store, job_id: str, caller: Caller) -> Seen:
    """Return the small facts of a job. Raises: as `visible_job`."""
    found = store.seen(job_id_in(job_id))
    if not found or not caller.sees(found.owner):
        raise _unknown(job_id)
    return found


def _unknown(job_id: str) -> errors.UnknownHandle:
    return errors.UnknownHandle(f"There is no job {errors.quoted(job_id, 40)}; list_jobs shows the recent ones.")


def visible_job(store: Store, job_id: str, caller: Caller) -> Job:
    """Return a job; the id may be a handle of one of its images.

    Raises: `errors.UnknownHandle`, also for another owner's job.
    """
    job = job_if_visible(store, job_id, caller)
    if not job:
        raise _unknown(job_id)
    return job


def job_if_visible(store: Store, job_id: str, caller: Caller) -> Job | None:
    """Return a job as `visible_job` does; None where that raises."""
    job = store.job(job_id_in(job_id))
    return job if job and caller.sees(job.owner) else None


def job_stages(store: Store, job_id: str, caller: Caller) -> JobStages:
    """Return how far each step of a job is. Raises: as `visible_job`."""
    job = visible_job(store, job_id, caller)
    steps = [
        Stage(prompt=line(prompt, 80), done=done, lost=lost, total=total)
        for prompt, (done, lost, total) in zip(job.request.prompts, store.stages(job.id), strict=True)
    ]
    return JobStages(steps=steps, spent=store.spent_usd(job.id))


def jobs_listed(store: Store, limit: int, status: str | None, caller: Caller) -> JobsResult:
    """Return a caller's recent jobs, newest first. Raises: `errors.OutOfLimits` for an unknown status."""
    if status is not None and status not in set(Status):
        raise errors.OutOfLimits(f"status is one of {', '.join(Status)}; it was {errors.quoted(status, 40)}.")
    found = store.jobs(limit, status, caller.owner)
    unfinished = next((job.id for job in found if not job.status.has_ended), None)
    return JobsResult(
        jobs=[presenters.job_summary(job, store.costs(job.id)) for job in found],
        next=f'get_status(job_id="{unfinished}", wait_s=50)' if unfinished else None,
    )


def job_now(
    store: Store,
    job_id: str,
    caller: Caller,
    accounts: Mapping[str, Account],
    link: Link,
    times: tuple[datetime, datetime],
    *,
    page: int = 1,
    every: bool = False,
) -> JobResult:
    """Return a caller's job as `job_result` does; `times` are now, and when this process began.

    Raises: as `visible_job` and `job_result`.
    """
    found = visible_job(store, job_id, caller)
    left_s = remaining_s(store.pace(found.id), *times)
    return job_result(store, found, accounts, link, page=page, every=every, remaining_s=left_s)


def job_result(
    store: Store,
    job: Job,
    accounts: Mapping[str, Account],
    link: Link,
    *,
    page: int,
    every: bool,
    remaining_s: int | None,
) -> JobResult:
    """Return a job with one page of its images; with `every`, all of them.

    Raises: `errors.OutOfLimits` for a page that does not exist.
    """
    faulty, lists = store.faulty(job.id), every or job.status.has_ended
    outputs = store.outputs(job.id) if lists else []
    return presenters.job_result(
        job,
        faulty,
        store.costs(job.id),
        outputs,
        store.image_by_sha256,
        page=page,
        remaining_s=remaining_s,
        made_again=store.made_again(job.id) if job.request.is_chain and faulty else None,
        page_size=None if every else _page_size(store, job, outputs, link),
        findable=any(resumption.state_after(p, accounts) is State.SUBMITTING for p in faulty),
        link=link,
    )


def _page_size(store: Store, job: Job, outputs: Sequence[Output], link: Link) -> int:
    """Return how many images a page lists. The first listing of an ended job with several pages fixes it."""
    size = job.page_size or presenters.page_size(outputs, store.image_by_sha256, link)
    if job.page_size is None and len(outputs) > size and job.status.has_ended:
        with suppress(errors.Outage):  # another program locks the database: the next listing fixes the same size
            store.fix_page_size(job.id, size)
    return size


def recent_handles(store: Store, limit: int, caller: Caller) -> list[str]:
    """Return the handles of a caller's newest stored outputs, then those of the newest uploads."""
    outputs = [output.handle for output in store.recent_outputs(limit, caller.owner)]
    return outputs + [image.handle for image in store.recent_uploads(limit, caller.owner)]


def spent(store: Store, days: int, caller: Caller, now: Moment) -> SpendResult:
    """Return the ledger of so many days, with today, and the budget.

    Raises: `errors.OutOfLimits`.
    """
    if not 1 <= days <= MOST_SPEND_DAYS:
        raise errors.OutOfLimits(f"days is 1 to {MOST_SPEND_DAYS}; it was {days}.")
    since = now.at.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days - 1)
    rows, total = store.ledger.spending(since, caller.owner)
    budgets = store.ledger.budgets(now, caller.owner, caller.group)
    return SpendResult(
        days=days,
        rows=rows,
        total=total,
        budget=budgets[0],
        owner_budget=next((one for one in budgets if isinstance(one, OwnerBudget)), None),
        group_budget=next((one for one in budgets if isinstance(one, GroupBudget)), None),
    )
