"""Turns `job_…/failed` into a request for the lanes of a chain that failed, and only for the steps that they lack.

Rules: reads the store, sends nothing. An uncertain request is never made again: it may have been
accepted and paid.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from dataclasses import replace

from triptych.core import errors
from triptych.core.models import Job, Prediction, State
from triptych.core.requests import Request, Row
from triptych.core.text import first_ones
from triptych.images.files import ELSEWHERE, is_here
from triptych.jobs import tables
from triptych.jobs.caller import Caller
from triptych.jobs.expanded import Expanded
from triptych.jobs.job_reads import visible_job
from triptych.jobs.lanes import beginning
from triptych.jobs.presenters import FREE_LOOKS
from triptych.storage.async_store import AsyncStore
from triptych.storage.jobs import Store

_LOST = frozenset({State.FAILED, State.CANCELLED})


def is_failed(item: str) -> bool:
    """Return whether an item stands for the failed lanes of a job."""
    return re.fullmatch(r"job_[0-9a-zA-Z]+/failed", item.strip()) is not None


async def failed(store: AsyncStore, item: str, request: Request, caller: Caller) -> Expanded:
    """Return the request for the lanes of a job that failed or were cancelled; each goes on after its last stored step.

    Arguments of the call (`request`) replace those of the job. With steps in the call, the lanes begin again at their
    first image. The model is that of the stored steps; without stored steps, it is chosen as for a new job.
    Raises: `errors.BadRequest` if the job still runs, is uncertain, has no such lane, or lacks an image for it;
    `errors.UnknownHandle`.
    """
    return await store.run(_failed, item.strip().removesuffix("/failed"), request, caller)


def _failed(store: Store, job_id: str, request: Request, caller: Caller) -> Expanded:
    job = visible_job(store, job_id, caller)
    predictions = store.predictions(job.id)
    lost = _lost_lanes(job, predictions)
    again = bool(request.prompts)
    stored = {(one.lane, one.step) for one in predictions if one.state is State.DONE}
    if again:
        rows = [beginning(store, job.request, lane) for lane in lost]
        _require_columns(job, rows, request.prompts)
    else:
        rows = [_continuation(job, lane, stored) for lane in lost]
    _require_images(store, rows)
    old, is_plain = job.request, all(len(row.images) == 1 and row == Row(row.images) for row in rows)
    made = replace(
        old,
        prompts=request.prompts or old.prompts,
        images=tuple(row.images[0] for row in rows) if is_plain else (),
        rows=None if is_plain else tuple(rows),
        references=request.references or old.references,
        look=request.look or (None if request.references else old.look),
        model=request.model or (old.model if request.provider or job.live_offer or not stored else job.model),
        provider=request.provider or old.provider,
        size=request.size or old.size,
        format=request.format or old.format,
        params=request.params or old.params,
        retry_of=job.id,
    )
    sources = tuple(job.sources[lane] if job.sources else "" for lane in lost)
    warnings = _warnings(job, lost, [] if again else rows, predictions)
    return Expanded(made, sources, warnings, save_to=job.save_to)


def _lost_lanes(job: Job, predictions: Sequence[Prediction]) -> list[int]:
    """Return the lanes with a request that failed or was cancelled.

    Raises: `errors.BadRequest` if there are none, or they may not be made again now.
    """
    if not job.request.is_chain:
        raise errors.BadRequest(
            f"{job.id}/failed stands for the failed lanes of an edit_chain; {job.id} is of {job.request.tool}: repeat "
            "that call."
        )
    if not job.status.has_ended:
        raise errors.BadRequest(
            f'{job.id} still runs: get_status(job_id="{job.id}", wait_s=50) waits for it. Nothing was sent.'
        )
    if any(one.state is State.UNCERTAIN for one in predictions):
        raise errors.BadRequest(
            f'{job.id} has an uncertain request, which may have been accepted: get_status(job_id="{job.id}") looks for '
            f'it again; cancel_job(job_id="{job.id}") accepts it as lost, then {job.id}/failed makes it again. Nothing '
            "was sent."
        )
    lost = sorted({one.lane for one in predictions if one.state in _LOST})
    if not lost:
        raise errors.BadRequest(f"No lane of {job.id} failed: there is nothing to make again.")
    return lost


def _continuation(job: Job, lane: int, stored: Set[tuple[int, int]]) -> Row:
    """Return a lane from its last stored output on; from its own start if it has none. `stored` are lanes and steps."""
    row, steps = job.request.row(lane), job.request.steps
    done = row.done
    while (lane, done) in stored:
        done += 1
    if done == row.done:
        return row
    first = f"{job.id}/{lane * steps + row.done + 1}"
    original = row.original or (row.images[0] if row.images else first)
    return Row((f"{job.id}/{lane * steps + done}",), row.values, done, original)


def _require_columns(job: Job, rows: Sequence[Row], steps: Sequence[str]) -> None:
    """Raise `errors.BadRequest` for a `{column}` in new steps that a row of the job's table lacks."""
    if not any(row.values for row in rows):
        return
    for column in tables.columns_in(steps):
        if any(not row.values.get(column, "").strip() for row in rows):
            there = ", ".join(f"{{{name}}}" for name in list(rows[0].values)[:8])
            raise errors.BadRequest(
                f"A step has {{{column}}}, which not every failed row of {job.id} has; there are {there or 'none'}. "
                "Nothing was sent."
            )


def _require_images(store: Store, rows: Sequence[Row]) -> None:
    """Raise `errors.UnknownHandle` if the file of an image is gone."""
    gone = []
    for handle in dict.fromkeys(handle for row in rows for handle in row.handles):
        image = store.image_by_handle(handle)
        if not image or image.pruned_at or not is_here(image):
            gone.append(handle)
    if gone:
        raise errors.UnknownHandle(
            f"The files of {first_ones(gone, 6)} are not here, and the failed lanes go on from them. Give the steps "
            f"too: the lanes then begin again at their first images, which must be here. {ELSEWHERE}. Nothing was sent."
        )


def _warnings(job: Job, lost: Sequence[int], rows: Sequence[Row], predictions: Sequence[Prediction]) -> tuple[str, ...]:
    late = sum(1 for one in rows if one.done > 0)
    lanes = f"{len(lost)} of the {job.request.lanes} lanes" if job.request.lanes > 1 else "The lane"
    verbs = ("was", "is") if len(lost) == 1 else ("were", "are")
    sentence = f"{lanes} of {job.id} failed or {verbs[0]} cancelled, and {verbs[1]} made again"
    sentence += f"; {late} from the last stored step on." if late else "."
    fetchable = sum(1 for one in predictions if one.fault and one.fault.kind in FREE_LOOKS)
    if not fetchable:
        return (sentence,)
    free = (
        f'{fetchable} of its requests may still have images at the provider: get_status(job_id="{job.id}") looks, free.'
    )
    return (sentence, free)
