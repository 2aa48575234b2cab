"""Reads where a lane of a stored chain began."""

from __future__ import annotations

from triptych.core import errors
from triptych.core.requests import Request, Row
from triptych.storage.jobs import Store


def beginning(store: Store, request: Request, lane: int) -> Row:
    """Return a lane as the first of its jobs had it: a retried one begins with an output of the job before."""
    row = request.row(lane)
    while row.done:
        job_id, _, n = row.images[0].partition("/")
        before = store.job(job_id)
        if not before:
            raise errors.UnknownHandle(f"{job_id} is no longer here, and has the beginning of a lane.")
        row = before.request.row((int(n) - 1) // before.request.steps)
    return row
