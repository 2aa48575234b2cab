"""The ten tools: their texts for the assistant, and how a call becomes a use-case of the service and a result.

Rules: the table is data, and the list made of it is built once. Annotations are true. A result is a model of `results`
as structured content, the same as compact text for hosts that show only text, and links for people (`fitting`). Only
`view_images` returns pixels, and it has no output schema, because some hosts then drop everything else. A refusal is an
`isError` result under 1,000 characters that begins with `REFUSAL`, for frameworks that drop `isError`. An unexpected
exception is logged and never quoted.
"""

from __future__ import annotations

import base64
import functools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import mcp_types as types
from mcp.shared.exceptions import MCPError

from triptych.core import errors
from triptych.core.json_fields import Result
from triptych.core.text import line
from triptych.jobs.model_results import ModelsResult
from triptych.jobs.results import JobResult, JobsResult, Preview, SaveResult, UploadResult
from triptych.server import fitting, schemas

if TYPE_CHECKING:
    from triptych.jobs.service import Caller, ImageService

logger = logging.getLogger(__name__)

SAVE_WITHIN_S = 50.0
"""How long one call saves. Many hosts give up a call after 60 s; the same call goes on."""
REFUSAL_LIMIT_CHARS = 999
LEAST_READ_S = 20.0
"""The least time for reading the images of a paid call. A call with `wait_s=0` for a few photos needs no repetition."""
REFUSAL = "Error: "
"""The beginning of every refusal, and of no other text."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool: its texts, its models, its four annotations, and its use-case."""

    name: str
    title: str
    description: str
    arguments: type[schemas.Arguments]
    output: type[Result] | None
    run: Callable[[ImageService, Any, Caller], Awaitable[Result]]
    reads_only: bool = False
    destroys: bool = False
    repeats: bool = False
    """The same call again changes nothing more (`idempotentHint`)."""
    spends: bool = False
    """It may pay, send images to a provider, or give up what was paid: it needs the right to spend."""
    reaches_out: bool = True
    """It may call a provider or fetch a URL (`openWorldHint`)."""

    def listed(self) -> types.Tool:
        """Return the tool as `tools/list` shows it."""
        return types.Tool(
            name=self.name,
            title=self.title,
            description=self.description,
            input_schema=schemas.input_schema(self.arguments),
            output_schema=schemas.output_schema(self.output) if self.output else None,
            annotations=types.ToolAnnotations(
                title=self.title,
                read_only_hint=self.reads_only,
                destructive_hint=self.destroys,
                idempotent_hint=self.repeats,
                open_world_hint=self.reaches_out,
            ),
        )


async def _make(tool: str, service: ImageService, a: schemas.Paid, caller: Caller) -> Result:
    from triptych.jobs.planning import read_arguments

    caller = replace(caller, read_limit_s=max(a.wait_s, LEAST_READ_S))
    return await service.make(*read_arguments(tool, dict(a)), caller)


async def _upload_images(service: ImageService, a: schemas.UploadImages, caller: Caller) -> Result:
    return await service.upload_images(a.images, caller, a.look, a.words)


async def _get_status(service: ImageService, a: schemas.GetStatus, caller: Caller) -> Result:
    return await service.get_status(a.job_id, a.wait_s, caller, page=a.page)


async def _list_jobs(service: ImageService, a: schemas.ListJobs, caller: Caller) -> Result:
    return await service.list_jobs(a.limit, a.status, caller)


async def _cancel_job(service: ImageService, a: schemas.CancelJob, caller: Caller) -> Result:
    return await service.cancel_job(a.job_id, caller)


async def _list_models(service: ImageService, a: schemas.ListModels, caller: Caller) -> Result:
    return await service.list_models(a.query, a.operation, a.provider)


async def _view_images(service: ImageService, a: schemas.ViewImages, caller: Caller) -> Result:
    return await service.view_images(a.images, caller, detail=a.detail)


async def _save_images(service: ImageService, a: schemas.SaveImages, caller: Caller) -> Result:
    return await service.save_images(
        a.images, a.directory, a.name, caller, size=a.size, format=a.format, within_s=SAVE_WITHIN_S
    )


_TOOLS = (
    Tool(
        "upload_images",
        "Upload images",
        "Store images; returns handles (img_…) and URLs. Optional: every tool takes paths. look stores a style or "
        "character. Free.",
        schemas.UploadImages,
        UploadResult,
        _upload_images,
        spends=True,
        repeats=True,
    ),
    Tool(
        "edit_sequence",
        "Edit as a coherent set",
        "Edit reference images into coherent images, in order, in ONE paid request: variants, storyboards, one "
        "character throughout. To edit each image on its own, or in stages, use edit_chain. "
        'params={"layers": true} takes one image apart. '
        "Returns a job: status, images (handle, url, path), cost, next. Any handle (img_…, job_…/2) can be edited "
        "again: undo, redo, branch. Not done? get_status. The same call within an hour returns the same job.",
        schemas.EditSequence,
        JobResult,
        functools.partial(_make, "edit_sequence"),
        spends=True,
    ),
    Tool(
        "edit_chain",
        "Edit step by step",
        "Edit each image in steps; each step edits the previous step's output. Images run in parallel. Pays images × "
        "steps requests, at most 2000. Returns the same kind of job.",
        schemas.EditChain,
        JobResult,
        functools.partial(_make, "edit_chain"),
        spends=True,
    ),
    Tool(
        "generate_sequence",
        "Generate a coherent set",
        "Make 1-15 coherent images from text alone, in one paid request. From images: edit_sequence. Returns the same "
        "kind of job.",
        schemas.GenerateSequence,
        JobResult,
        functools.partial(_make, "generate_sequence"),
        spends=True,
    ),
    Tool(
        "get_status",
        "Get a job's status",
        "Status, progress, cost and next call of a job; wait_s waits for its end. Then images in pages, final ones "
        "first. Looks again for an uncertain job. Free.",
        schemas.GetStatus,
        JobResult,
        _get_status,
        reads_only=True,
        repeats=True,
    ),
    Tool(
        "list_jobs",
        "List recent jobs",
        "Newest first. Use it when a paid call returned no answer.",
        schemas.ListJobs,
        JobsResult,
        _list_jobs,
        reads_only=True,
        repeats=True,
        reaches_out=False,
    ),
    Tool(
        "cancel_job",
        "Cancel a job",
        "Stop unsubmitted requests, cancel at the provider where possible, accept an uncertain job as lost. Reports "
        "later charges.",
        schemas.CancelJob,
        JobResult,
        _cancel_job,
        spends=True,
        destroys=True,
        repeats=True,
    ),
    Tool(
        "list_models",
        "List models",
        "Models by provider: price, limits, sizes, ids, usable now or why not. Filter for params and live models.",
        schemas.ListModels,
        ModelsResult,
        _list_models,
        reads_only=True,
        repeats=True,
    ),
    Tool(
        "view_images",
        "Look at images",
        "See one image as a preview (≤ 768 px), several or a whole job (job_…) as a labelled contact sheet.",
        schemas.ViewImages,
        None,
        _view_images,
        reads_only=True,
        repeats=True,
    ),
    Tool(
        "save_images",
        "Save images",
        "Copy images into a directory, full-size or resized; never overwrites. Returns the paths.",
        schemas.SaveImages,
        SaveResult,
        _save_images,
        repeats=True,
    ),
)
TOOLS = {tool.name: tool for tool in _TOOLS}
SPENDING = frozenset(tool.name for tool in _TOOLS if tool.spends)


@functools.cache
def listing() -> types.ListToolsResult:
    """Return the result of `tools/list`: the same object every time, valid for an hour."""
    return types.ListToolsResult(
        tools=[tool.listed() for tool in _TOOLS], ttl_ms=3_600_000, cache_scope="public", next_cursor=None
    )


@functools.cache
def input_schema(name: str) -> dict[str, Any] | None:
    """Return one tool's input schema, or None for an unknown tool."""
    return next((tool.input_schema for tool in listing().tools if tool.name == name), None)


async def call(
    service: Callable[[], Awaitable[ImageService]],
    name: str,
    given: dict[str, Any],
    caller: Caller,
    *,
    linked: bool = True,
    for_operator: bool = False,
) -> types.CallToolResult:
    """Run one tool and return its result, with links if `linked`, or a refusal.

    With `for_operator` a refusal may name the hosts, users and paths of the server. The arguments are checked before
    the service is opened.

    Raises: `errors.NotAllowed`, `errors.OverBudget`: the client may mend them, by its roots and by a confirmation.
    `MCPError` (invalid params) for an unknown tool, as the specification demands.
    """
    tool = TOOLS.get(name)
    if tool is None:
        message = f"There is no tool {errors.quoted(name, 60)}. Tools: {', '.join(TOOLS)}."
        raise MCPError(types.INVALID_PARAMS, message)
    try:
        if tool.spends:
            caller.require_spend(name)
        arguments = schemas.read(tool.arguments, name, given)
        return tool_result(await tool.run(await service(), arguments, caller), linked=linked)
    except errors.NotAllowed:
        raise
    except errors.TriptychError as error:
        if isinstance(error, errors.OverBudget) and error.confirm_usd is not None:
            raise
        return refusal(error, for_operator=for_operator)
    except Exception:
        logger.exception("internal error in %s", name)
        return refusal(
            errors.TriptychError(
                f"{name} failed inside Triptych; the server's log (stderr) has details. If it was a paid call, look "
                "for its job with list_jobs before you repeat the call."
            )
        )


def refusal(error: errors.TriptychError, *, for_operator: bool = False) -> types.CallToolResult:
    """Return an error for the assistant: the message, its kind, and whether the same call may help later."""
    said = error.for_operator if for_operator else error.message
    tail = f" [{error.kind}{'; the same call may help later' if error.retryable else ''}]"
    text = REFUSAL + line(said, REFUSAL_LIMIT_CHARS - len(REFUSAL) - len(tail)) + tail
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)


def tool_result(result: Result, *, linked: bool = True) -> types.CallToolResult:
    """Return a service's result as a tool's result: fields, the same as text, and links for people if `linked`."""
    if isinstance(result, Preview):
        encoded = base64.b64encode(result.jpeg).decode("ascii")
        return types.CallToolResult(
            content=[
                types.ImageContent(data=encoded, mime_type="image/jpeg"),
                types.TextContent(text=line(result.caption)),
            ]
        )
    result = fitting.fitted(result)
    assert isinstance(result, JobResult | UploadResult | JobsResult | ModelsResult | SaveResult)
    return types.CallToolResult(
        content=[types.TextContent(text=result.text()), *(fitting.links(result) if linked else [])],
        structured_content=fitting.fields(result),
        is_error=False,
    )
