"""Turns `job_…/failed` into a request for what failed in a job."""

from __future__ import annotations

import re

from triptych.core import errors
from triptych.core.requests import Request
from triptych.jobs.expanded import Expanded
from triptych.jobs.image_access import Caller
from triptych.storage.async_store import AsyncStore


def is_failed(item: str) -> bool:
    """Return whether an item stands for the failed lanes of a job."""
    return re.fullmatch(r"job_[0-9a-f]+/failed", item) is not None


async def failed(store: AsyncStore, item: str, request: Request, caller: Caller) -> Expanded:
    """Return the request for the lanes that failed. Raises: `errors.BadRequest`."""
    raise errors.BadRequest(f"{errors.quoted(item, 60)} cannot be repeated alone in this version.")
