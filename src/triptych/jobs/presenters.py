"""Turns stored values into the results of tools. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from triptych.core import errors
from triptych.core.models import Failure, Image, Job, Layer, Output, Prediction, State, Status
from triptych.core.text import counted, line
from triptych.jobs.results import (
    Cost,
    ImageResult,
    JobResult,
    JobSummary,
    LayerResult,
    Page,
    Progress,
    UploadResult,
)
from triptych.storage.summaries import Costs

if TYPE_CHECKING:
    from triptych.jobs.look_results import LookResult

MOST_IMAGES = 24
"""A page lists at most so many images; the job's resource lists all."""
PAGE_CHARS = 9_000
"""The limit of a page as JSON with links, and as text. Hosts cut longer results."""
JOB_CHARS = 560
"""The share of a page for everything except the images."""
IMAGE_CHARS = 350
"""The share of one image, in the JSON and its link, without its URL, path and sources."""
LEAST_URL_CHARS = 100
LEAST_PATH_CHARS = 100
"""Shorter ones count as so long: the page still fits after its URLs or paths change."""

FREE_LOOKS = frozenset({"deadline", "fetch_failed"})
"""Kinds of failures whose images `get_status` may still fetch, unpaid."""

ImageOf = Callable[[str], Image | None]

Link = Callable[[Image, str, str | None, datetime | None], tuple[str | None, datetime | None]]
"""Returns the URL of a stored image and its expiry, from its handle, the provider's URL and that URL's expiry."""


def as_stored(_: Image, __: str, url: str | None, expires_at: datetime | None) -> tuple[str | None, datetime | None]:
    """Return the provider's URL, even if it has expired: a `Link`."""
    return url, expires_at


def ago(age: timedelta) -> str:
    """Return an age as "3 h ago"."""
    seconds = max(int(age.total_seconds()), 0)
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds // unit} {name} ago"
    return f"{seconds} s ago"


def made_before(age: timedelta) -> str:
    """Return the warning of a call that gets the earlier job of the same request."""
    return (
        f"The same request was made {ago(age)}: this is its job, and this call pays nothing. again=true pays for "
        "another variation."
    )


def upload_result(
    images: list[ImageResult], provider: str, look: LookResult | None, warnings: list[str]
) -> UploadResult:
    """Return uploaded images as the result of `upload_images`; `look` is the one that they were stored in."""
    named = ["img_…", f"look:{look.name}"] if look else [one.handle for one in images[:14]]
    handles = ", ".join(f'"{one}"' for one in named)
    return UploadResult(
        images=images,
        provider=provider,
        look=look.label() if look else None,
        warnings=warnings,
        next=f'edit_sequence(images=[{handles}], prompt="…", count=4)',
    )


def took_s(job: Job, predictions: Sequence[Prediction]) -> float | None:
    """Return the seconds from the call of a job to its last end; None while it runs."""
    last = max((p.finished_at for p in predictions if p.finished_at), default=None)
    return round((last - job.created_at).total_seconds(), 1) if last and job.status.has_ended else None


def image_of_output(output: Output, image: Image | None, link: Link = as_stored) -> ImageResult:
    """Return an output with its URLs and path; the path of a pruned output is that of its saved copy."""
    path = image.path if image and not image.pruned_at else None
    if image and image.pruned_at and output.saved_path:
        path = Path(output.saved_path)
    url, expires_at = output.url, output.url_expires_at
    if image and not image.pruned_at:
        url, expires_at = link(image, output.handle, url, expires_at)
    return ImageResult(
        handle=output.handle,
        url=url or (path.as_uri() if path else None),
        url_expires_at=expires_at,
        path=str(path) if path else None,
        uri=f"triptych://images/{output.handle}",
        mime_type=image.mime_type if image else None,
        width=image.width if image else None,
        height=image.height if image else None,
        source=list(output.source),
        layer=LayerResult(**asdict(output.layer)) if output.layer else None,
    )


def image_of_upload(image: Image, hosted: tuple[str, datetime] | None = None, *, link: Link = as_stored) -> ImageResult:
    """Return an uploaded image; `hosted` is its URL at a provider and when that expires."""
    url, expires_at = link(image, image.handle, *(hosted or (None, None)))
    return ImageResult(
        handle=image.handle,
        url=url or (image.path.as_uri() if image.path else None),
        url_expires_at=expires_at,
        path=str(image.path) if image.path else None,
        uri=f"triptych://images/{image.handle}",
        mime_type=image.mime_type,
        width=image.width,
        height=image.height,
    )


def cost_of(job: Job, costs: Sequence[Costs]) -> Cost:
    """Return a job's quote, and its charge once it is final."""
    quoted = sum((one.quoted_usd * one.count for one in costs), Decimal(0))
    if job.may_be_charged:
        return Cost(quoted=quoted)
    charged = sum((one.charged_usd * one.count for one in costs if one.charged_usd is not None), Decimal(0))
    return Cost(quoted=quoted, charged=charged, charge_is_estimate=any(one.charge_is_estimate for one in costs))


def job_result(
    job: Job,
    faulty: Sequence[Prediction],
    costs: Sequence[Costs],
    outputs: Sequence[Output],
    image_of: ImageOf,
    *,
    remaining_s: int | None = None,
    page: int = 1,
    page_size: int | None = None,
    findable: bool = True,
    made_again: str | None = None,
    link: Link = as_stored,
) -> JobResult:
    """Return the result of a job: without images while it runs, then with one page of them, final images first.

    `faulty` are its predictions with a fault. Without `page_size`: all images so far, in order. `findable`: an
    uncertain request may still be found in the provider's list. `made_again` is the id of the job that makes its failed
    lanes again.

    Raises: `errors.OutOfLimits` if an ended job has no such page.
    """
    warnings = list(job.warnings)
    returned = [output for output in outputs if output.url or output.sha256]
    ended = job.status.has_ended
    shown, pages = returned, 1
    if page_size and not ended:
        shown = []
    elif page_size:
        returned.sort(key=lambda output: (output.n % job.request.steps != 0, output.n))
        pages = max(-(-len(returned) // page_size), 1)
        if not 1 <= page <= pages:
            raise errors.OutOfLimits(
                f"{job.id} has {counted(pages, 'page')} of images; page was {page}. "
                f'get_status(job_id="{job.id}", page={pages}) is the last.'
            )
        shown = returned[(page - 1) * page_size : page * page_size]
    fault = _fault(faulty)
    requested = max(job.request.requested, job.returned)  # a layer job returns more images than it requests
    images = {output.n: image_of(output.sha256) if output.sha256 else None for output in shown}
    if pruned := [image.pruned_at for image in images.values() if image and image.pruned_at]:
        warnings.append(f"{len(pruned)} of these images were pruned on {max(pruned):%Y-%m-%d}: their files are gone.")
    at_home = [f for f in shown if f.sha256 and not ((i := images[f.n]) and i.pruned_at)]
    return JobResult(
        job_id=job.id,
        status=job.status.value,
        provider=job.provider,
        model=job.model,
        endpoint=job.endpoint,
        progress=Progress(done=job.returned, total=requested, remaining_s=remaining_s),
        requested=requested,
        returned=len(returned) if ended else job.returned,
        page=Page(number=page, of=pages) if pages > 1 else None,
        images=[image_of_output(output, images[output.n], link) for output in shown],
        cost=cost_of(job, costs),
        error=fault,
        warnings=warnings,
        next=_retry(job, faulty, made_again)
        or _next(job, fault, at_home, findable, page + 1 if page < pages else None),
    )


def _json_chars(layer: Layer) -> int:
    from pydantic_core import to_json

    return len(to_json(layer))


def page_size(outputs: Sequence[Output], image_of: ImageOf, link: Link = as_stored) -> int:
    """Return how many images of a job fit on a page, by the longest URL, path and sources among them."""
    stored = next((image for output in outputs if output.sha256 and (image := image_of(output.sha256))), None)
    path = stored.path if stored else None
    path_chars = len(json.dumps(str(path))) if path else 0
    urls = [len(output.url or "") for output in outputs] + ([len(path.as_uri())] if path else [])
    urls += [len(link(stored, stored.handle, None, None)[0] or "")] if stored else []
    layer_chars = max((_json_chars(output.layer) for output in outputs if output.layer), default=0)
    source_chars = max((sum(len(handle) + 4 for handle in output.source) for output in outputs), default=0)
    # The URL is in the JSON and in the link.
    url_chars = 2 * max([LEAST_URL_CHARS, *urls])
    image_chars = IMAGE_CHARS + max(path_chars, LEAST_PATH_CHARS) + url_chars + source_chars + layer_chars
    return min(max((PAGE_CHARS - JOB_CHARS) // image_chars, 1), MOST_IMAGES)


def job_summary(job: Job, costs: Sequence[Costs]) -> JobSummary:
    """Return the summary of a job."""
    return JobSummary(
        job_id=job.id,
        status=job.status.value,
        tool=job.request.tool,
        prompt=line(job.request.prompt, 80),
        provider=job.provider,
        model=job.model,
        requested=job.request.requested,
        returned=job.returned,
        created_at=job.created_at,
        cost=cost_of(job, costs),
    )


def still_charged(predictions: Sequence[Prediction], provider: str) -> list[str]:
    """Return a warning about the requests of a cancelled job that are at the provider already, if there are some."""
    there = [p for p in predictions if p.state in (State.SUBMITTING, State.RUNNING, State.FETCHING)]
    if not there:
        return []
    cost_usd = sum((p.quoted_usd for p in there), Decimal(0))
    return [
        f"About ${errors.format_usd(cost_usd)} will be charged: {counted(len(there), 'request')} at {provider} cannot "
        "be cancelled; their images come."
    ]


def _fault(faulty: Sequence[Prediction]) -> Failure | None:
    """Return the failure that explains the job: of an uncertain submit first, then a final one, then a retried one."""
    ranks = {State.UNCERTAIN: 0, State.FAILED: 1, State.CANCELLED: 3}
    first = min(faulty, key=lambda p: ranks.get(p.state, 2), default=None)
    return first.fault if first else None


def _retry(job: Job, faulty: Sequence[Prediction], made_again: str | None) -> str | None:
    """Return the call that makes the failed lanes of an ended chain again, or the one that shows the job which does.

    None while `get_status` may still help.
    """
    faults = [one.fault.kind for one in faulty if one.state is State.FAILED and one.fault]
    may_retry = faults and not FREE_LOOKS.intersection(faults)
    if job.request.is_chain and job.status in (Status.PARTIAL, Status.FAILED) and may_retry:
        return f'get_status(job_id="{made_again}")' if made_again else f'edit_chain(images=["{job.id}/failed"])'
    return None


def _next(
    job: Job, fault: Failure | None, at_home: Sequence[Output], findable: bool, next_page: int | None
) -> str | None:
    job_id = job.id
    rest = f'get_status(job_id="{job_id}", page={next_page})' if next_page else None
    match job.status:
        case Status.QUEUED | Status.RUNNING:
            return f'get_status(job_id="{job_id}", wait_s=50)'
        case Status.UNCERTAIN:
            look = f'get_status(job_id="{job_id}", wait_s=30) looks again' if findable else "no history to search"
            return (f"{rest} lists more images; " if rest else "") + (
                f"{look}; "
                f'cancel_job(job_id="{job_id}") accepts it as lost; '
                f"the same {job.request.tool} call with again=true pays for a new one"
            )
        case _ if rest:
            return rest
        case Status.PARTIAL | Status.FAILED if fault and fault.kind in FREE_LOOKS:
            return f'get_status(job_id="{job_id}", wait_s=50)'
        case Status.DONE | Status.PARTIAL if at_home:
            return f'view_images(images=["{job_id}"])'
        case _:
            return None
