"""What can be read without a tool: jobs, images and models, each under its `triptych://` uri.

    triptych://jobs              recent jobs, JSON
    triptych://jobs/{id}         one job, JSON, the same fields as a tool's result; in `_meta` how it was asked for
    triptych://images/{handle}   a preview (JPEG, 100 KB at most); URL, path, facts and what was made from it in `_meta`
    triptych://models            models and providers, JSON
    triptych://spend             what the last days cost, and the budget, JSON
    ui://triptych/gallery        the gallery, for hosts that show one (`gallery`)

Rules: nothing is bigger than a preview, because hosts put a blob into the conversation whole. Recent outputs are listed
as resources of their own, because hosts do not list templates. What is not there is an invalid-params error that says
how to find what is.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import mcp_types as types
from mcp.shared.exceptions import MCPError

from triptych.core import errors
from triptych.core.text import line, tree
from triptych.jobs.results import ImageResult, Result
from triptych.server import fitting, gallery

if TYPE_CHECKING:
    from triptych.jobs.service import Caller, ImageService

logger = logging.getLogger(__name__)

SCHEME = "triptych://"
RECENT = 20


async def listing(
    open_service: Callable[[], Awaitable[ImageService]], caller: Caller, *, with_gallery: bool = False
) -> types.ListResourcesResult:
    """Return the lists and the newest outputs as concrete resources; the gallery for a host that shows one."""
    with _Told("resources/list"):
        service = await open_service()
        images = [_listed(image) for image in await service.recent_images(RECENT, caller)]
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
            uri=f"{SCHEME}spend",
            name="spend",
            title="Spend",
            description="What the last 7 days cost by day, provider and model; the 24 h budget and what is left of it",
            mime_type="application/json",
        ),
    ]
    if with_gallery:
        fixed.append(gallery.listed())
    return types.ListResourcesResult(resources=[*fixed, *images])


def _listed(image: ImageResult) -> types.Resource:
    size = f"{image.width}x{image.height}" if image.width else "size not known yet"
    source = f", from {', '.join(image.source)}" if image.source else ""
    return types.Resource(
        uri=image.uri,
        name=image.handle,
        title=f"Image {image.handle}",
        description=f"{size}{source}; a preview, full size with save_images",
        mime_type="image/jpeg",
    )


def templates() -> types.ListResourceTemplatesResult:
    """Return the two templates."""
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
        ],
        ttl_ms=3_600_000,
        cache_scope="public",
    )


async def read(
    open_service: Callable[[], Awaitable[ImageService]], uri: str, caller: Caller
) -> types.ReadResourceResult:
    """Return one resource, if it is one of this caller's.

    Raises:
        MCPError: invalid params where there is no such resource, an internal error where it cannot be read now.
    """
    if uri == gallery.URI:
        return gallery.read()
    kind, _, name = uri.removeprefix(SCHEME).partition("/") if uri.startswith(SCHEME) else ("", "", "")
    # A handle contains a slash, and a strict template expansion escapes it.
    name = unquote(name)
    with _Told(uri):
        match kind, name:
            case "jobs", "":
                return _json(uri, await (await open_service()).list_jobs(caller=caller))
            case "jobs", job_id:
                service = await open_service()
                made = (await service.making(job_id, caller)).model_dump(mode="json")
                return _json(uri, await service.job(job_id, caller, every=True), {"making": made})
            case "models", "":
                return _json(uri, await (await open_service()).list_models(every=True))
            case "spend", "":
                return _json(uri, await (await open_service()).spend(caller=caller))
            case "images", handle if handle:
                service = await open_service()
                jpeg, image = await service.preview(handle, caller)
                made_from_it = await service.made_from(image.handle, caller)
                facts = image.model_dump(mode="json") | {"made_from_it": made_from_it}
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
            f"{SCHEME}images/{{handle}}, {SCHEME}models and {SCHEME}spend."
        )


def _json(uri: str, result: Result, facts: dict[str, Any] | None = None) -> types.ReadResourceResult:
    text = json.dumps(fitting.fields(result), ensure_ascii=False, separators=(",", ":"))
    return types.ReadResourceResult(
        contents=[types.TextResourceContents(uri=line(uri), mime_type="application/json", text=text, _meta=tree(facts))]
    )


class _Told:
    """Turns what goes wrong inside the block into an error of the protocol; what nobody meant is logged, not quoted."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, errors.BadRequest):
            raise MCPError(types.INVALID_PARAMS, error.message, {"uri": line(self._what, 500)}) from error
        if isinstance(error, errors.TriptychError):
            raise MCPError(types.INTERNAL_ERROR, error.message) from error
        if isinstance(error, Exception):
            logger.error("%s could not be read", errors.quoted(self._what, 120), exc_info=error)
            raise MCPError(types.INTERNAL_ERROR, "Triptych failed; the server's log (stderr) has details.") from error
