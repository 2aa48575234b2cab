"""Jobs, run through the service to their end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from triptych.jobs.results import JobResult
from triptych.jobs.service import ImageService, Options

NOW = Options(wait_s=0)
Finish = Callable[[ImageService], Coroutine[Any, Any, None]]


async def ended(service: ImageService, finish: Finish, job_id: str | None) -> JobResult:
    assert job_id
    await finish(service)
    return service.job(job_id)


async def edited(service: ImageService, finish: Finish, image: str, count: int = 3, **options: Any) -> JobResult:
    """Return the job of an edited sequence, once nothing is left to do."""
    started = await service.edit_sequence([image], "make it golden hour", count, replace(NOW, **options))
    return await ended(service, finish, started.job_id)
