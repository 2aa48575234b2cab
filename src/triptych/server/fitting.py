"""Cut results to the length that hosts show to their models.

One host cuts text at about 12,000 characters, and each later message of a conversation pays for the whole result. So a
running job has at most `RUNNING_CHARS`, every other result `presenters.PAGE_CHARS`: both as JSON with links, and as
text with links. `presenters` splits images into pages before. This module cuts the other long parts: warnings, a job's
error, the request of a dry run, and long lists of uploads.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import PurePath
from typing import Any, TypeVar
from urllib.parse import urlsplit

import mcp_types as types

from triptych.core.json_fields import Result
from triptych.core.models import Failure
from triptych.core.text import counted, line, tree
from triptych.jobs.presenters import MOST_IMAGES, PAGE_CHARS
from triptych.jobs.results import ImageResult, JobResult, SaveResult, UploadResult
from triptych.providers.url_safety import LOOPBACK

RUNNING_CHARS = 600
UNFINISHED = ("queued", "running")
LEAST_MESSAGE_CHARS = 120
WARNINGS_CHARS = 1_500
"""The most characters of an upload's warnings."""

SAVED_CHARS = 4_000
MOST_SAVED = 40
"""The most characters, and files, of a save that are all listed; of more, the result has the first ones."""
FIRST_SAVED = 3

ResultT = TypeVar("ResultT", JobResult, UploadResult, SaveResult)


def fields(result: Result) -> dict[str, Any]:
    """Return a result's structured content, without an empty `request` or `page`."""
    content: dict[str, Any] = tree(result.as_json())
    return {name: value for name, value in content.items() if value is not None or name not in ("request", "page")}


def links(result: Result) -> list[types.ResourceLink]:
    """Return a link for people to each image of an ended job that has a web URL; a `file:` URL gets none.

    Some frameworks pass every link to their model's API, which can read neither files nor URLs of another machine.
    """
    images = result.images if isinstance(result, JobResult) and result.status not in UNFINISHED else []
    return [_link(image, line(image.url)) for image in images if image.url and _on_the_web(line(image.url))]


def _on_the_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)


def _link(image: ImageResult, url: str) -> types.ResourceLink:
    return types.ResourceLink(
        uri=url,
        name=image.handle,
        mime_type=image.mime_type,
        annotations=types.Annotations(audience=["user"], priority=0.8),
    )


def fitted(result: Result) -> Result:
    """Return the result, cut to the limits of hosts."""
    if isinstance(result, UploadResult):
        return _fitted_upload(result)
    if isinstance(result, SaveResult):
        return _fitted_save(result)
    if not isinstance(result, JobResult):
        return result
    limit = RUNNING_CHARS if result.status in UNFINISHED else PAGE_CHARS
    if result.request is not None:
        result = _fitted_request(result, limit)
    if _chars(result) <= limit:
        return result
    error, last = result.error, result.warnings[-1:]
    reserved = min(len(json.dumps(asdict(error))), limit // 4) if error else 0
    bare, where = replace(result, error=None), f"triptych://jobs/{result.job_id} lists all"
    result = _fitted_warnings(bare, limit - reserved, where)
    if error and result.warnings[-1:] != last:  # what this call did, such as a charge to come, before an old error
        result = _fitted_warnings(bare, limit, where)
    return _with_error(result, error, limit) if error else result


def _chars(result: JobResult | UploadResult | SaveResult) -> int:
    """Return the length of the longer of the two forms, JSON and text, each with its links."""
    linked = [block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in links(result)]
    return max(len(json.dumps(fields(result))), len(result.text())) + (len(json.dumps(linked)) if linked else 0)


def _fitted_upload(result: UploadResult) -> UploadResult:
    """Return an upload with the first images that fit, and the handles of the others."""
    bare = replace(result, images=[], warnings=[])
    content = replace(bare, warnings=result.warnings)
    warnings = _fitted_warnings(
        content, _chars(bare) + WARNINGS_CHARS, "the same call for these images has them"
    ).warnings

    def first(kept: int) -> UploadResult:
        rest = [image.handle for image in result.images[kept:]]
        return replace(result, images=result.images[:kept], more=rest, warnings=warnings)

    return _longest(range(min(len(result.images), MOST_IMAGES), 0, -1), first, PAGE_CHARS)


def _fitted_save(result: SaveResult) -> SaveResult:
    """Return a save with all its files if they are few, else with the first ones and a sentence about the others."""
    listed = replace(result, warnings=[])
    if len(result.saved) > FIRST_SAVED and (len(result.saved) > MOST_SAVED or _chars(listed) > SAVED_CHARS):
        rest = result.saved[FIRST_SAVED:]
        first, last = (PurePath(one.path).name for one in (rest[0], rest[-1]))
        more = f"and {len(rest)} more files in {result.archive or result.directory}, {first} to {last}"
        listed = replace(listed, saved=result.saved[:FIRST_SAVED], more=more)
    whole = replace(listed, warnings=result.warnings)
    return _fitted_warnings(whole, _chars(listed) + WARNINGS_CHARS, "a save of fewer images lists all")


def _fitted_request(result: JobResult, limit: int) -> JobResult:
    """Return a dry run with the beginnings of the long texts in its request."""

    def with_texts(most_chars: int) -> JobResult:
        return replace(result, request=_cut(result.request, most_chars))

    return _longest((100_000, 4_000, 2_000, 1_000, 500, 250, 120), with_texts, limit - RUNNING_CHARS)


def _cut(value: Any, most_chars: int) -> Any:
    match value:
        case str() if len(value) > most_chars:
            return f"{value[:most_chars]}… ({len(value):,} characters)"
        case dict():
            return {name: _cut(item, most_chars) for name, item in value.items()}
        case list() | tuple():
            return [_cut(item, most_chars) for item in value]
        case _:
            return value


def _with_error(result: JobResult, error: Failure, limit: int) -> JobResult:
    """Return a result with as much of its error as fits, or without it if not even its beginning fits."""

    def cut(most_chars: int) -> JobResult:
        if not most_chars:
            return result
        request_id = error.request_id if most_chars >= LEAST_MESSAGE_CHARS else None
        short = replace(error, message=line(error.message, most_chars), request_id=request_id)
        return replace(result, error=short)

    whole = max(len(error.message), 600)
    return _longest((whole, 600, 400, 240, LEAST_MESSAGE_CHARS, LEAST_MESSAGE_CHARS // 2, 0), cut, limit)


def _fitted_warnings(result: ResultT, limit: int, where: str) -> ResultT:
    """Return a result with as many warnings as fit, the latest first: they are about this call."""
    count: int = len(result.warnings)
    alone, none = -1, -2

    def with_last(kept: int) -> ResultT:
        if kept < 0:
            return replace(result, warnings=result.warnings[-1:] if kept == alone else [])
        left_out = [f"{counted(count - kept, 'more warning')}; {where}."] if kept < count else []
        return replace(result, warnings=left_out + result.warnings[count - kept :])

    return _longest([*range(count, 0, -1), alone, 0, none], with_last, limit)


def _longest(choices: Sequence[int], make: Callable[[int], ResultT], limit: int) -> ResultT:
    """Return the result of the first choice that fits, else of the last. Each choice makes a shorter result."""
    found = bisect_left(choices, True, key=lambda choice: _chars(make(choice)) <= limit)
    return make(choices[min(found, len(choices) - 1)])
