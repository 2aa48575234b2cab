"""Paid calls as the tools make them, and jobs run through the service to their end."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, TypedDict, cast

from support.fixtures import Finish
from triptych.jobs.caller import Caller
from triptych.jobs.planning import read_arguments
from triptych.jobs.results import JobResult
from triptych.jobs.service import ImageService


class Options(TypedDict, total=False):
    """The optional arguments of the paid tools."""

    model: str
    provider: str
    size: str
    format: str
    params: dict[str, Any]
    wait_s: float
    save_to: str
    max_cost_usd: Decimal | None
    dry_run: bool
    again: bool


NOW = Options(wait_s=0)
ANY: Options = {}


async def make(
    service: ImageService, tool: str, given: dict[str, Any], options: Options = ANY, caller: Caller | None = None
) -> JobResult:
    """Make a job of a tool's arguments."""
    return await service.make(*read_arguments(tool, {**given, **options}), caller or Caller())


async def edit_sequence(
    service: ImageService,
    images: Sequence[str],
    prompt: str,
    count: int = 1,
    options: Options = ANY,
    caller: Caller | None = None,
) -> JobResult:
    given = {"images": list(images), "prompt": prompt, "count": count}
    return await make(service, "edit_sequence", given, options, caller)


async def generate_sequence(
    service: ImageService, prompt: str, count: int = 1, options: Options = ANY, caller: Caller | None = None
) -> JobResult:
    return await make(service, "generate_sequence", {"prompt": prompt, "count": count}, options, caller)


async def edit_chain(
    service: ImageService,
    images: Sequence[str],
    steps: Sequence[str],
    references: Sequence[str] = (),
    options: Options = ANY,
    caller: Caller | None = None,
) -> JobResult:
    given = {"images": list(images), "steps": list(steps), "references": list(references)}
    return await make(service, "edit_chain", given, options, caller)


async def ended(service: ImageService, finish: Finish, job_id: str | None) -> JobResult:
    assert job_id
    await finish(service)
    return await service.job(job_id)


async def edited(service: ImageService, finish: Finish, image: str, count: int = 3, **options: Any) -> JobResult:
    """Return the job of an edited sequence, once nothing is left to do."""
    started = await edit_sequence(service, [image], "make it golden hour", count, cast(Options, {**NOW, **options}))
    return await ended(service, finish, started.job_id)
