"""Resources to read without a tool: jobs, images and models, each under its `triptych://` URI.

    triptych://jobs              recent jobs, JSON
    triptych://jobs/{id}         one job, JSON with the fields of a tool's result; its request is in `_meta`
    triptych://images/{handle}   a preview (JPEG, at most 100 KB); URL, path, facts, prompt, derived images in `_meta`
    triptych://models            models and providers, JSON
    triptych://looks             the caller's looks, JSON
    triptych://looks/{name}      all versions of a look, JSON
    triptych://spend             the cost of the last days, and the budget, JSON
    ui://triptych/gallery        the gallery, for hosts that show one (`gallery`)
    skill://NAME/SKILL.md        a skill, listed for hosts that declare the skills extension (`skills`)

Rules: no resource is bigger than a preview, because hosts put blobs into the conversation whole. Recent outputs are
listed one by one, because hosts do not list templates. A missing resource is an invalid-params error that says how to
find existing ones.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import mcp_types as types
from mcp.shared.exceptions import MCPError

from triptych.core import errors
from triptych.core.text import line, tree
from triptych.jobs.results import JobResult, Result
from triptych.server import fitting, gallery, skills
from triptych.thin import images
from triptych.thin.images import RECENT

if TYPE_CHECKING:
    from triptych.jobs.service import Caller, ImageService
    from triptych.storage.summaries import ListedImage

logger = logging.getLogger(__name__)

SCHEME = "triptych://"
MOST_LISTED = 200
"""A job's resource lists at most so many images: about 90 KB."""


async def listing(
    open_service: Callable[[], Awaitable[ImageService]],
    caller: Caller,
    *,
    with_gallery: bool = False,
    more: Sequence[types.Resource] = (),
) -> types.ListResourcesResult:
    """Return the fixed resources, `more`, and the newest outputs; with `with_gallery`, the gallery too."""
    with _protocol_errors("resources/list"):
        service = await open_service()
        recent = [listed(image) for image in await service.recent_images(RECENT, caller)]
    fixed = [
        types.Resource(
            uri=f"{SCHEME}jobs",
            name="jobs",
            title="Recent jobs",
            description="Recent jobs, newest first: status, images, cost",
            mime_type="application/json",
        ),
        types.Resource(
            uri=f"{SCHEME}models",
            name="models",
            title="Models",
            description="Models by provider: price, limits, usable now or why not; balances where known",
            mime_type="application/json",
        ),
        types.Resource(
            uri=f"{SCHEME}looks",
            name="looks",
            title="Looks",
            description="Your looks: name, version, words, images; look:NAME brings one into an edit",
            mime_type="application/json",
        ),
        types.Resource(
            uri=f"{SCHEME}spend",
            name="spend",
            title="Spend",
            description="What the last 7 days cost by day, provider and model; the 24 h budget and what is left of it",
            mime_type="application/json",
        ),
    ]
    if with_gallery:
        fixed.append(gallery.listed())
    return types.ListResourcesResult(resources=[*fixed, *more, *recent])


def listed(image: ListedImage) -> types.Resource:
    return types.Resource.model_validate(images.fields(*image), by_name=False)


def templates() -> types.ListResourceTemplatesResult:
    """Return the templates of jobs, images and looks."""
    return types.ListResourceTemplatesResult(
        resource_templates=[
            types.ResourceTemplate(
                uri_template=f"{SCHEME}jobs/{{id}}",
                name="job",
                title="Job",
                description="One job: status, progress, images, cost",
                mime_type="application/json",
            ),
            types.ResourceTemplate(
                uri_template=f"{SCHEME}images/{{handle}}",
                name="image",
                title="Image",
                description="A preview of an uploaded or produced image; URL, path and facts in _meta",
                mime_type="image/jpeg",
            ),
            types.ResourceTemplate(
                uri_template=f"{SCHEME}looks/{{name}}",
                name="look",
                title="Look",
                description="All versions of a look: words, images",
                mime_type="application/json",
            ),
        ],
        ttl_ms=3_600_000,
        cache_scope="public",
    )


async def read(
    open_service: Callable[[], Awaitable[ImageService]], uri: str, caller: Caller
) -> types.ReadResourceResult:
    """Return one resource of this caller.

    Raises: `MCPError`: invalid params for a missing resource, an internal error if it cannot be read now.
    """
    if uri == gallery.URI or uri.startswith(skills.SCHEME):
        return gallery.read() if uri == gallery.URI else skills.read(uri)
    kind, _, name = uri.removeprefix(SCHEME).partition("/") if uri.startswith(SCHEME) else ("", "", "")
    # A handle contains a slash, which a strict template expansion escapes.
    name = unquote(name)
    with _protocol_errors(uri):
        match kind, name:
            case "jobs", "":
                return _json(uri, await (await open_service()).list_jobs(caller=caller))
            case "jobs", job_id:
                service = await open_service()
                making = await service.making(job_id, caller)
                job = _first_images(await service.job(job_id, caller, every=True), len(making.prompts))
                return _json(uri, job, {"making": making.model_dump(mode="json")})
            case "models", "":
                return _json(uri, await (await open_service()).list_models(every=True))
            case "looks" | "spend", _ if kind == "looks" or not name:
                return _json(uri, await _looks_or_spend(await open_service(), kind, name, caller))
            case "images", handle if handle:
                service = await open_service()
                jpeg, image = await service.preview(handle, caller)
                facts = image.model_dump(mode="json") | await service.image_facts(image.handle, caller)
                return types.ReadResourceResult(
                    contents=[
                        types.BlobResourceContents(
                            uri=line(uri),
                            mime_type="image/jpeg",
                            blob=base64.b64encode(jpeg).decode("ascii"),
                            _meta=tree(facts),
                        )
                    ]
                )
        raise errors.BadRequest(
            f"There is no resource {errors.quoted(uri, 120)}. There are {SCHEME}jobs, {SCHEME}jobs/{{id}}, "
            f"{SCHEME}images/{{handle}}, {SCHEME}looks, {SCHEME}models and {SCHEME}spend."
        )


async def _looks_or_spend(service: ImageService, kind: str, name: str, caller: Caller) -> Result:
    if kind == "spend":
        return await service.spend(caller=caller)
    return await (service.looks.versions(name, caller) if name else service.looks.listed(caller))


def _first_images(job: JobResult, steps: int) -> JobResult:
    """Return a job with at most `MOST_LISTED` images, final ones first if some are left out."""
    if len(job.images) <= MOST_LISTED:
        return job
    images = sorted(job.images, key=lambda image: int(image.handle.rpartition("/")[2]) % steps != 0)[:MOST_LISTED]
    note = (
        f"{MOST_LISTED} of {len(job.images):,} images are listed here, final ones first; "
        f'get_status(job_id="{job.job_id}", page=2) and on list all.'
    )
    return job.model_copy(update={"images": images, "warnings": [*job.warnings, note]})


def _json(uri: str, result: Result, facts: dict[str, Any] | None = None) -> types.ReadResourceResult:
    text = json.dumps(fitting.fields(result), ensure_ascii=False, separators=(",", ":"))
    return types.ReadResourceResult(
        contents=[types.TextResourceContents(uri=line(uri), mime_type="application/json", text=text, _meta=tree(facts))]
    )


@contextmanager
def _protocol_errors(uri: str) -> Iterator[None]:
    """Raise each error inside the block as an error of the protocol; an unexpected one is logged, not quoted."""
    try:
        yield
    except errors.BadRequest as error:
        raise MCPError(types.INVALID_PARAMS, error.message, {"uri": line(uri, 500)}) from error
    except errors.TriptychError as error:
        raise MCPError(types.INTERNAL_ERROR, error.message) from error
    except Exception as error:
        logger.error("%s could not be read", errors.quoted(uri, 120), exc_info=error)
        raise MCPError(types.INTERNAL_ERROR, "Triptych failed; the server's log (stderr) has details.") from error
