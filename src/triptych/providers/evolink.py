"""EvoLink: submit under an idempotency key, poll, many tasks in one read, a files host, and the charge with the result.

The facts are in docs/providers/evolink.md#submit and the headings after it. One model id serves a prompt alone and a
prompt with images, one output and several, so only the operation tells its offers apart.

Rules: every shape of response is tolerated; only errors of ours are raised. A poll ends only with the provider's own
decision. A submit carries our id as its Idempotency-Key, so the same submit may be sent again for a short time: an
accepted one is returned again and not paid twice. No document says so; the only evidence is the provider's own MCP
server, which repeats a lost submit once, at once, under the same key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import quote as percent_escaped
from urllib.parse import unquote as percent_decoded
from urllib.parse import urlsplit

from triptych.core import errors
from triptych.core.models import Done, Pending, Prediction, ProviderRequest, Upload
from triptych.core.offers import Operation
from triptych.providers import (
    BaseUrl,
    Flow,
    HttpRequest,
    HttpResponse,
    ModelList,
    Provider,
    ReferenceLimits,
    SubmitTimes,
)
from triptych.providers import _evolink_models as models
from triptych.providers import _history as history
from triptych.providers import _offers as offering
from triptych.providers import _reading as read

_DONE = frozenset({"completed", "succeeded"})
_FAILED = frozenset({"failed", "cancelled", "canceled", "timeout", "expired", "error"})
_RUNNING = frozenset({"pending", "processing", "queued", "in_progress"})
_MODERATION_CODE = "content_policy_violation"
_NOT_OFFERED = frozenset({"model_unavailable", "model_not_found", "model_not_available"})
_GONE = frozenset({"retired", "removed", "offline", "disabled"})

CREDITS_PER_USD = 68
RESULT_LIFETIME_S = 24 * 3600.0
UPLOAD_LIFETIME_S = 70 * 3600.0
"""Uploads expire after 72 h (docs/providers/evolink.md#uploads); two hours are the margin."""
UPLOAD_LIMIT_BYTES = 100 * 1024 * 1024
FILE_PAGE_ITEMS, FILE_PAGES = 100, 100
"""The files of a page of the list, and the most pages: the documentation names accounts with 2,000 files."""
BATCH_TASKS = 50
KEY_TRUSTED_S = 600.0
"""The time after its first submit for which a key is relied on. It is not documented. The one client known to rely on
it repeats a submit within seconds; ten minutes is the longest time that still counts as "at once"."""
LIST_PAGE_ITEMS = 50
LIST_KEPT_S = 24 * 3600.0
"""The reach of the list of tasks is not documented; a day is assumed."""


# Submit --------------------------------------------------------------------------------------------------------------


def submit(edit: ProviderRequest) -> Flow[Pending | Done]:
    """Return the ticket of an accepted request; the same request under the same key gives the same ticket."""
    called = {"callback_url": edit.callback_url} if edit.callback_url else {}
    request = HttpRequest(
        "POST",
        "/v1/images/generations",
        json={**_body(edit), **called},
        headers={"Idempotency-Key": edit.client_id} if edit.client_id else {},
        repeatable=False,
        timeout_s=120.0,
    )
    response = yield request
    body = response.json()
    task = _task(body)
    if read.status(task) in _FAILED:
        raise _failure(response, body, task)
    ticket = task.get("id")
    if read.is_ticket(ticket) and (200 <= response.status < 300 or response.status >= 500):
        return Pending(ticket)
    code = _error_code(body)
    if code in _NOT_OFFERED and 400 <= response.status < 500:
        why = errors.quoted(read.message(body) or code)
        raise errors.NotOffered(
            f"The provider does not offer this model now (HTTP {response.status}: {why}).",
            request_id=read.request_id(response, body),
        )
    if response.status in (409, 425):
        raise read.outage(response, body)  # An error about the key: the first request with it may have been accepted.
    read.raise_for_submit(response, body, code)
    raise read.no_ticket(response, body)


def _body(edit: ProviderRequest) -> dict[str, Any]:
    """Return the model's own fields and no others; `n` is the largest number of images that is charged."""
    offer = edit.offer
    body: dict[str, Any] = {"model": offer.endpoint, "prompt": edit.prompt}
    if offer.operation.sequential:
        body["n"] = edit.count
    if offer.operation is Operation.LAYERS:
        body["quality"] = offering.tier(edit)
    else:
        body |= (
            {"size": f"{edit.size[0]}x{edit.size[1]}"} if edit.size else {"size": "auto", "quality": models.AUTO_TIER}
        )
    if offer.operation.edits:
        body["image_urls"] = [read.reference_uri(reference) for reference in edit.references]
    if image_format := offering.image_format(edit):
        family = models.FAMILIES.get(offer.family)
        at_the_top = family is not None and family.top_level_format
        body |= {"output_format": image_format} if at_the_top else {"model_params": {"output_format": image_format}}
    offering.set_params(body, edit)
    if edit.params.get("web_search"):
        body.setdefault("model_params", {})["tools"] = offering.WEB_SEARCH_TOOLS
    return body


def _error_code(body: Any) -> str:
    """Return the provider's own error code (docs/providers/evolink.md#errors)."""
    found = (read.field(body, "error", key) for key in ("code", "type"))
    return next((code[:100] for code in found if isinstance(code, str) and code), "")


# Find ----------------------------------------------------------------------------------------------------------------


def find(
    edit: ProviderRequest, prediction: Prediction, sent: SubmitTimes, known: frozenset[str]
) -> Flow[Pending | None]:
    """Return None if no unknown task of the model was accepted since the submit.

    The list of tasks covers the whole account and shows no requests, so it never identifies our task.
    Raises: `Unclear` if a task may be ours; `Outage`, `KeyRejected` or `RateLimited` if the list cannot be read.
    """

    def page(number: int) -> Flow[history.ListPage]:
        params: dict[str, str | int] = {"model": prediction.endpoint, "page": number, "page_size": LIST_PAGE_ITEMS}
        response = yield HttpRequest("GET", "/v1/tasks", params=params)
        body = response.json()
        tasks = read.field(body, "data")
        if not isinstance(tasks, list):
            read.raise_for_status(response, body, only=(401, 403, 429))
            raise read.outage(response, body)
        entries = [
            history.entry(
                read.field(task, "id"),
                read.field(task, "created_at") or read.field(task, "created"),
                history.same_model(prediction.endpoint, read.field(task, "model")),
            )
            for task in tasks
        ]
        return history.ListPage(response, entries, read.integer(read.field(body, "total")))

    return (yield from history.search(page, sent, known, page_items=LIST_PAGE_ITEMS, kept_s=LIST_KEPT_S))


# Poll ----------------------------------------------------------------------------------------------------------------


def poll(ticket: str, poll_url: str | None) -> Flow[Pending | Done]:
    """Return the state of a task: pending, or done with its images in order and its charge.

    Raises: `Failed` or `Moderated` for the provider's decision. Any other error says nothing about the task.
    """
    response = yield HttpRequest("GET", f"/v1/tasks/{percent_escaped(ticket, safe='', errors='replace')}")
    body = response.json()
    task = _task(body)
    status = read.status(task)
    if status in _FAILED:
        raise _failure(response, body, task)
    if status in _DONE:
        return _finished(response, body, task)
    if not status:
        read.raise_for_status(response, body, only=(401, 403, 429))
        raise read.outage(response, body)
    if status not in _RUNNING:
        read.log_odd_status("evolink", status)
    return Pending(ticket, poll_url)


def finished(tickets: Sequence[str]) -> Flow[frozenset[str]]:
    """Return the tasks that have ended: one request for up to fifty."""
    ended: set[str] = set()
    for start in range(0, len(tickets), BATCH_TASKS):
        batch = list(tickets[start : start + BATCH_TASKS])
        response = yield HttpRequest("POST", "/v1/tasks/batch", json={"task_ids": batch})
        body = response.json()
        tasks = read.field(body, "data")
        if not isinstance(tasks, list):
            read.raise_for_status(response, body, only=(401, 403, 429))
            raise read.outage(response, body)
        for task in tasks:
            ticket = read.field(task, "id")
            if isinstance(ticket, str) and ticket in batch and read.status(task) in _DONE | _FAILED:
                ended.add(ticket)
    return frozenset(ended)


def _finished(response: HttpResponse, body: Any, task: Mapping[str, Any]) -> Done:
    items = _results(task)
    outputs = tuple(read.image(item, "image_url", "url", "download_url") for item in items)
    if str(task.get("model")).endswith(models.LAYERIZE) or any(map(_is_layer, items)):
        outputs = read.layered(items, outputs)
    if not any(output.url for output in outputs):
        raise read.no_image(response, body, "task", outputs)
    return Done(outputs, charged_usd=_charged_usd(task), url_lifetime_s=RESULT_LIFETIME_S)


def _results(task: Mapping[str, Any]) -> list[Any]:
    """Return `results`, or `result_data` if only that has images or describes layers.

    It is not documented which of the two describes layers (docs/providers/evolink.md#layers).
    """
    results, data = read.items(task.get("results")), read.items(task.get("result_data"))
    return data if data and (not results or (any(map(_is_layer, data)) and len(data) >= len(results))) else results


def _is_layer(item: Any) -> bool:
    return read.integer(read.field(item, "z_index")) is not None


def _charged_usd(task: Mapping[str, Any]) -> Decimal | None:
    """Return the cost of a task: in dollars if given, else from credits (68 are one dollar)."""
    usd = read.usd(read.field(task, "usage", "cost", "usd"))
    if usd is not None:
        return usd
    credits = read.usd(read.field(task, "usage", "cost", "credits")) or read.usd(
        read.field(task, "usage", "credits_used")
    )
    return None if credits is None else (credits / CREDITS_PER_USD).quantize(Decimal("0.000001"))


def _failure(response: HttpResponse, body: Any, task: Mapping[str, Any]) -> errors.Failed:
    """Return the error for the provider's decision against a task."""
    code, text = _error_code(task), read.message(task) or "no reason given"
    hint = read.field(task, "error", "suggestion")
    moderated = code == _MODERATION_CODE or (
        code in ("", "unknown_error") and read.MODERATION_WORDS.search(text) is not None
    )
    message = (
        f"The provider reports the task as {errors.quoted(read.status(task), 40)}: {errors.quoted(text)}"
        f"{f' [{errors.quoted(code, 60)}]' if code else ''}"
        f"{f'; it suggests {errors.quoted(hint, 200)}' if isinstance(hint, str) and hint else ''}."
    )
    return (errors.Moderated if moderated else errors.Failed)(message, request_id=read.request_id(response, body))


# Uploads, models, the account ----------------------------------------------------------------------------------------


def upload(data: bytes, mime_type: str, filename: str) -> Flow[Upload]:
    """Return the URL of a file on the files host (docs/providers/evolink.md#uploads)."""
    too_large = f"The provider takes no upload of {len(data) / 1e6:.1f} MB; its limit is 100 MB."
    if len(data) > UPLOAD_LIMIT_BYTES:
        raise errors.OutOfLimits(too_large)
    files = {"file": (filename, data, mime_type)}
    response = yield HttpRequest("POST", "/api/v1/files/upload/stream", base="files", files=files, timeout_s=180.0)
    body = response.json()
    if response.status == 413:
        raise errors.OutOfLimits(too_large)
    text = read.message(body)
    if response.status < 500 and read.field(body, "success") is not True and "quota" in text.casefold():
        message = (
            f"The provider keeps no more files for this account ({errors.quoted(text)}). Triptych deletes its own "
            "unused uploads there; delete other files yourself, or wait: each expires after 72 hours."
        )
        raise errors.NoRoom(message, request_id=read.request_id(response, body))
    if not 200 <= response.status < 300:
        read.raise_for_status(response, body)
    if read.field(body, "success") is False:
        code = read.integer(read.field(body, "code")) or 0
        message = f"The provider refused the upload: {errors.quoted(text)} [code {code}]."
        kind = errors.Refused if 40000 <= code < 50000 else errors.Outage
        raise kind(message, request_id=read.request_id(response, body))
    for key in ("file_url", "download_url"):
        if read.is_url(url := read.field(body, "data", key)):
            return Upload(url, UPLOAD_LIFETIME_S)
    raise read.outage(response, body)


def delete(urls: Sequence[str]) -> Flow[frozenset[str]]:
    """Delete uploads by their URLs; return those that are gone or may be (docs/providers/evolink.md#uploads).

    The list of files has the id that a deletion needs. A file is ours if its entry has our URL, or no
    URL but the unique name at our URL's end. If several entries match, none is deleted.
    """
    named: dict[str, set[str]] = {url: set() for url in urls}
    seen = 0
    for number in range(1, FILE_PAGES + 1):
        page: dict[str, str | int] = {"page": number, "pageSize": FILE_PAGE_ITEMS}
        response = yield HttpRequest("GET", "/api/v1/files/list", base="files", params=page)
        body = response.json()
        files, total = read.field(body, "data", "files"), read.integer(read.field(body, "data", "total"))
        if not isinstance(files, list):
            read.raise_for_status(response, body, only=(401, 403, 429))
            raise read.outage(response, body)
        for file in files:
            if read.is_ticket(file_id := read.field(file, "file_id")):
                for url in urls:
                    if _is_file(file, url):
                        named[url].add(file_id)
        seen += len(files)
        if not files or (total is not None and seen >= total):
            break
    else:
        raise errors.Unclear("The provider's list of files is too long to be read.")
    gone = {url for url, ids in named.items() if not ids}
    for url, ids in named.items():
        if len(ids) != 1:
            continue
        path = f"/api/v1/files/{percent_escaped(next(iter(ids)), safe='', errors='replace')}"
        gone.add(url)  # without an answer the file may be deleted all the same
        try:
            response = yield HttpRequest("DELETE", path, base="files")
        except errors.Outage:
            break
        if 400 <= response.status < 500 and response.status != 404:
            gone.remove(url)
    return frozenset(gone)


def _is_file(file: Any, url: str) -> bool:
    """Return whether an entry of the list is the file at a URL."""
    if read.is_url(listed := read.field(file, "file_url")):
        return bool(listed == url)
    name = percent_decoded(urlsplit(url).path).rpartition("/")[2]
    return bool(name and name == read.field(file, "file_name"))


def listing() -> Flow[ModelList]:
    """Return the image models in the catalog, without prices; an error envelope is an outage, not an empty list."""
    response = yield HttpRequest("GET", "/v1/catalog/models", params={"capability": "image"})
    body = response.json()
    read.raise_for_status(response, body, only=(401, 403, 429))
    listed = read.field(body, "models")
    if not 200 <= response.status < 300 or not isinstance(listed, list) or not listed:
        raise read.outage(response, body)
    return ModelList(
        {
            name: None
            for model in listed
            if read.is_ticket(name := read.field(model, "model_id"))
            and str(read.field(model, "lifecycle")) not in _GONE
        }
    )


def balance() -> Flow[Decimal | None]:
    """Return the balance in US dollars, of the account or of the key if that has less; None without one."""
    response = yield HttpRequest("GET", "/v1/credits")
    body = response.json()
    read.raise_for_status(response, body)
    credits = [read.decimal(read.field(body, "data", "user", "remaining_credits"))]
    if read.field(body, "data", "token", "unlimited_credits") is False:
        credits.append(read.decimal(read.field(body, "data", "token", "remaining_credits")))
    known = [value for value in credits if value is not None]
    return (min(known) / CREDITS_PER_USD).quantize(Decimal("0.0001")) if known else None


# Reading answers -----------------------------------------------------------------------------------------------------


def _task(body: Any) -> Mapping[str, Any]:
    """Return the task in a response, flat or under `data`; only an object with an id counts.

    An error envelope may have a `status` of its own.
    """
    for found in (body, read.field(body, "data")):
        if isinstance(found, dict) and isinstance(found.get("id"), str):
            return found
    return {}


PROVIDER = Provider(
    name="evolink",
    title="EvoLink",
    key_env="EVOLINK_API_KEY",
    rank=4,
    base_urls={
        "api": BaseUrl("EVOLINK_BASE_URL", "https://api.evolink.ai"),
        "files": BaseUrl("EVOLINK_FILES_BASE_URL", "https://files-api.evolink.ai"),
    },
    offers=offering.offers("evolink", models.FAMILIES),
    submit=submit,
    poll=poll,
    upload=upload,
    calls_back=True,
    delete=delete,
    finished=finished,
    listing=listing,
    balance=balance,
    reference_limits=ReferenceLimits(max_bytes=10_000_000, max_pixels=36_000_000, max_side=6000),
    find=find,
    honours_ids_s=KEY_TRUSTED_S,
    result_lifetime_s=RESULT_LIFETIME_S,
)
