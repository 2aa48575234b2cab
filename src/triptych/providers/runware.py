"""Runware: arrays of tasks, all POSTed to one address, each with an id from the client.

The facts are in docs/providers/runware.md#submit and the headings after it; sizes, and the prices of all models but 5.0
lite, are the origin's (docs/providers/README.md#sizes). The id is the ticket from the start: a submit whose response
was lost is polled. If it is sent again under the same id, `conflictTaskUUID` shows that the first one arrived.

No document says whether the images of a sequence come at once or one by one, or how their end is marked. So the number
of requested images travels in the poll URL, which Runware does not use, with the lifetime of the results. With fewer
images, and none processing, the response counts as the end only after it has stayed the same for `QUIET_S`. The model
search is not used as a listing: it may be incomplete, and has no prices. The models are in `_runware_models`.

Rules: every shape of response is tolerated; only errors of ours are raised. Items outrank their HTTP status. A poll
ends only with the provider's own decision about this task.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import uuid4

from triptych.core import errors
from triptych.core.models import Done, Pending, Prediction, ProviderRequest, ReturnedImage, Upload
from triptych.providers import BaseUrl, Flow, HttpRequest, HttpResponse, Provider, ReferenceLimits, SubmitTimes, refuse
from triptych.providers import _offers as offering
from triptych.providers import _reading as read
from triptych.providers._runware_models import AUTO_RESOLUTION, FAMILIES, FORMATS

TTL_S = 24 * 3600
"""The requested lifetime of result files, if the request has no `ttl_s`."""
UPLOAD_LIFETIME_S = 14 * 24 * 3600.0
"""Older uploads stay for 30 days after their last use (docs/providers/runware.md#uploads); half of it is relied on."""
QUIET_S = 60.0
"""A sequence with missing images counts as complete after so long without a new image."""
ID_TRUSTED_S = 600.0
"""The time after its first submit for which an id is relied on. It is not documented; Runware's own client repeats a
submit under the same id for a minute or two."""
TASKS_KEPT_S = TTL_S
"""The time that past tasks are listed is not documented; the requested lifetime of their files is assumed."""

_CONFLICT = "conflictTaskUUID"
_SAFETY = re.compile(r"contentPolicy|sensitive|unsafe|nsfw|(prompt|image)Blocked|moderat|invalidProviderContent", re.I)
_FAILURE = re.compile(r"^provider|^inferenceError$|^processingFailed$|^taskFailed$", re.I)
_NOT_FOUND = re.compile(r"NotFound$|Expired$|^taskCancelled$")
_STATUS_OF_CODE: Sequence[tuple[re.Pattern[str], int]] = (
    (re.compile(r"credit|quota|balance|fund|paymentRequired", re.I), 402),
    (re.compile(r"rateLimit|noAvailableServer|model(Unavailable|NotReady)", re.I), 429),
    (re.compile(r"apiKey|unauthori|forbidden|permission|auth(enti|Fail)|credential|^token|suspended$", re.I), 401),
    (re.compile(r"^(invalid|unknown)Model$|^model(Disabled|NotFound)$"), 404),
    (re.compile(r"timeout|serverError|unavailable$|^(standard|unknown|undefined|default)Error$", re.I), 500),
)
"""The HTTP status that an error code means, whatever the actual status. The official client has the same groups."""


# Submit --------------------------------------------------------------------------------------------------------------


def submit(edit: ProviderRequest) -> Flow[Pending | Done]:
    """Return the ticket, which is the edit's own id; or the images, from a server that responds when they are done."""
    called = {"webhookURL": edit.callback_url} if edit.callback_url else {}
    response = yield _post([{**_task(edit), **called}], repeatable=False, timeout_s=120.0)
    body = response.json()
    items, task_errors = _entries_of(body, edit.client_id)
    pending = Pending(edit.client_id, _poll_url(edit))
    if items:
        state = _task_state(response, items, task_errors, edit.client_id, pending.poll_url)
        incomplete = isinstance(state, Done) and state.settle_s is not None
        return pending if incomplete else state
    if any(_code(error) == _CONFLICT for error in task_errors):
        return pending
    _raise_for_status(response, body, task_errors)
    raise read.outage(response, body)


def _task(edit: ProviderRequest) -> dict[str, Any]:
    """Return the task, with the model's own fields and no others (docs/providers/runware.md#submit).

    Independent images are several results of one prompt; a set is one result, and its prompt has the number of images.
    """
    offer = edit.offer
    independent = edit.count > 1 and (offer.independent or edit.params.get("variations") is True)
    task: dict[str, Any] = {
        "taskType": "imageInference",
        "taskUUID": edit.client_id,
        "model": offer.endpoint,
        "positivePrompt": edit.request.with_look(edit.request.prompts[0]) if independent else edit.prompt,
    }
    if edit.size:
        task["width"], task["height"] = edit.size
    elif offer.sizes.may_be_left_out:
        task["resolution"] = AUTO_RESOLUTION
    if offer.operation.edits:
        task["inputs"] = {"referenceImages": [read.reference_uri(reference) for reference in edit.references]}
    if independent:
        task["numberResults"] = edit.count
    elif offer.operation.sequential and not offer.independent:
        task["settings"] = {"maxSequentialImages": edit.count}
    task |= {"deliveryMethod": "async", "outputType": "URL", "includeCost": True, "ttl": TTL_S}
    offering.set_params(task, edit)
    if (image_format := edit.format or offer.default_format) in FORMATS:
        task["outputFormat"] = FORMATS[image_format]
    return task


def _post(tasks: Sequence[Mapping[str, Any]], *, repeatable: bool = True, timeout_s: float = 60.0) -> HttpRequest:
    return HttpRequest("POST", "", json=list(tasks), repeatable=repeatable, timeout_s=timeout_s)


# Poll and find -------------------------------------------------------------------------------------------------------


def _poll_url(edit: ProviderRequest) -> str:
    """Return what a poll needs to know: the number of requested images, and the lifetime if it is not `TTL_S`."""
    lifetime = f"&ttl={int(edit.params['ttl_s'])}" if "ttl_s" in edit.params else ""
    return f"asked={edit.count}{lifetime}"


def _requested_count(poll_url: str | None) -> int:
    """Return the number of requested images from the poll URL; without one, a number above any request."""
    found = re.match(r"asked=(\d{1,3})\b", poll_url or "")
    return int(found[1]) if found else read.MAX_OUTPUTS


def _lifetime_s(poll_url: str | None) -> float:
    found = re.search(r"&ttl=(\d{1,9})\b", poll_url or "")
    return float(found[1] if found else TTL_S)


def poll(ticket: str, poll_url: str | None) -> Flow[Pending | Done]:
    """Return the state of a task: pending, or done with its images in order.

    Raises: `Failed` or `Moderated` for the provider's decision. Any other error says nothing about the task.
    """
    response = yield _post([{"taskType": "getResponse", "taskUUID": ticket}])
    body = response.json()
    items, task_errors = _entries_of(body, ticket)
    if items or any(_decides(error) for error in task_errors):
        return _task_state(response, items, task_errors, ticket, poll_url)
    if _is_unknown(body, task_errors):
        past = yield from _past_task(ticket)
        if past:
            return _task_state(response, *past, ticket, poll_url)
        raise errors.Outage("The provider does not know the task (yet).", request_id=read.request_id(response, body))
    _raise_for_status(response, body, task_errors)
    raise read.outage(response, body)


def find(
    edit: ProviderRequest, prediction: Prediction, sent: SubmitTimes, known: frozenset[str]
) -> Flow[Pending | None]:
    """Return the task if Runware knows its id, now or among past tasks; None if it does not.

    Raises: `Unclear` if it may have forgotten the id; `Outage`, `KeyRejected` or `RateLimited` if it cannot be asked.
    """
    response = yield _post([{"taskType": "getResponse", "taskUUID": edit.client_id}])
    body = response.json()
    items, task_errors = _entries_of(body, edit.client_id)
    pending = Pending(edit.client_id, _poll_url(edit))
    if items or any(_decides(error) for error in task_errors):
        return pending
    if _is_unknown(body, task_errors):
        if (yield from _past_task(edit.client_id)):
            return pending
        if sent.oldest_s > TASKS_KEPT_S:
            raise errors.Unclear("The provider does not know the task, but it may have forgotten it.")
        return None
    _raise_for_status(response, body, task_errors)
    raise read.outage(response, body)


def _past_task(ticket: str) -> Flow[tuple[list[dict[str, Any]], list[dict[str, Any]]] | None]:
    """Return a past task's items and errors, or None if unknown (docs/providers/runware.md#finding-a-lost-submit).

    Raises: the error that any other response means.
    """
    response = yield _post([{"taskType": "getTaskDetails", "taskUUID": ticket}])
    body = response.json()
    found, task_errors = _entries_of(body, ticket)
    recorded = read.parsed(next((item["response"] for item in found if item.get("response")), None))
    if isinstance(recorded, list) or (isinstance(recorded, dict) and not {"data", "errors"} & set(recorded)):
        recorded = {"data": recorded if isinstance(recorded, list) else [recorded]}
    items, past_errors = _entries_of(recorded, ticket)
    if items or past_errors:
        return items, [{**error, "status": "error"} for error in past_errors]
    if found or _is_unknown(body, task_errors):
        return None
    _raise_for_status(response, body, task_errors)
    raise read.outage(response, body)


def finished(tickets: Sequence[str]) -> Flow[frozenset[str]]:
    """Return the tasks that have ended: one request for all of them."""
    response = yield _post([{"taskType": "getResponse", "taskUUID": ticket} for ticket in tickets])
    body = response.json()
    if not isinstance(read.field(body, "data"), list):
        _raise_for_status(response, body, _errors(body))
        raise read.outage(response, body)
    ended = set()
    for ticket in tickets:
        items, task_errors = _entries_of(body, ticket, named=True)
        if (items or any(map(_decides, task_errors))) and not any(_output(item) is None for item in items):
            ended.add(ticket)
    return frozenset(ended)


# Reading answers (docs/providers/runware.md#poll, docs/providers/runware.md#errors) -----------------------------------


def _task_state(
    response: HttpResponse,
    items: Sequence[Mapping[str, Any]],
    task_errors: Sequence[Any],
    ticket: str,
    poll_url: str | None,
) -> Pending | Done:
    """Return the state of a task from its items and errors; with fewer images than requested, more may come.

    Raises: `Moderated` or `Failed` for a task that ended without an image.
    """
    places = [read.integer(item.get("resultIndex")) for item in items]
    if None not in places:
        items = [item for _, item in sorted(zip(places, items, strict=True), key=lambda pair: pair[0] or 0)]
    read_items = [_output(item) for item in items]
    outputs = [output for output in read_items if output]
    outputs += [ReturnedImage(error=_error_text(error)) for error in task_errors if _decides(error)]
    image_count = sum(1 for output in outputs if not output.error)
    if None in read_items or not outputs:
        return Pending(ticket, poll_url, done=image_count)
    more_may_come = len(outputs) < _requested_count(poll_url)
    if not image_count and not (more_may_come and all(item.get("imageUUID") for item in (*items, *task_errors))):
        reason = next((output.error for output in outputs if output.error), None)
        filtered = any(_SAFETY.search(_code(error)) for error in (*task_errors, *(item.get("error") for item in items)))
        kind = errors.Moderated if filtered or read.MODERATION_WORDS.search(reason or "") else errors.Failed
        raise kind(f"The provider made no image: {reason}.", request_id=ticket)
    costs = [read.usd(item.get("cost")) for item in items if _is_image(item)]
    known = [cost for cost in costs if cost is not None]
    charged = sum(known, Decimal(0)) if len(known) == len(costs) else None
    return Done(
        tuple(outputs),
        charged_usd=charged,
        url_lifetime_s=_lifetime_s(poll_url),
        warnings=_flagged(items),
        settle_s=QUIET_S if more_may_come else None,
    )


def _flagged(items: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the warning for images whose content the check of `safety` flags."""
    places = [str(n) for n, item in enumerate(items, 1) if item.get("NSFWContent") is True]
    return (f"Runware flags the content of image {', '.join(places)} (NSFWContent).",) if places else ()


def _output(item: Mapping[str, Any]) -> ReturnedImage | None:
    """Return one image, or the reason it is missing; None while it is being made."""
    status = item.get("status")
    if status == "error" or isinstance(item.get("error"), dict):
        return ReturnedImage(error=_error_text(item.get("error")))
    if _is_image(item):
        return ReturnedImage(url=item["imageURL"])
    if status == "success" or item.get("imageURL"):
        return ReturnedImage(error="the provider's answer has no URL for this image")
    if isinstance(status, str) and status != "processing":
        read.log_odd_status("runware", status[:80])
    return None


def _is_image(item: Mapping[str, Any]) -> bool:
    return item.get("status") != "error" and read.is_url(item.get("imageURL"))


def _entries_of(body: Any, ticket: str, *, named: bool = False) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a response's items and errors about a task; with `named`, only those that name it."""
    data = read.field(body, "data")
    items = _objects(data) if isinstance(data, list) else []
    ids = (ticket.casefold(), *(() if named else ("",)))
    matching = [
        [entry for entry in entries if str(entry.get("taskUUID") or "").casefold() in ids][: read.MAX_OUTPUTS]
        for entries in (items, _errors(body))
    ]
    return matching[0], matching[1]


def _errors(body: Any) -> list[dict[str, Any]]:
    return _objects(read.field(body, "errors") or read.field(body, "error"))


def _objects(value: Any) -> list[dict[str, Any]]:
    entries = value if isinstance(value, list) else [value]
    return [entry for entry in entries[: 100 * read.MAX_OUTPUTS] if isinstance(entry, dict)]


def _code(error: Any) -> str:
    code = read.field(error, "code")
    return code[:100] if isinstance(code, str) else ""


def _error_text(error: Any) -> str:
    text = f"{_code(error)}: {read.message(error)}".strip(": ")
    return errors.quoted(text or "no reason given")


def _decides(error: Mapping[str, Any]) -> bool:
    """Return whether an error is the provider's decision about a task, not a failure of the poll."""
    if error.get("status") == "error" or error.get("taskType") == "imageInference":
        return True
    return bool(_SAFETY.search(_code(error)) or _FAILURE.search(_code(error)))


def _is_unknown(body: Any, task_errors: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a response says that there is no such task: by a code, or by an empty list."""
    if task_errors:
        return any(_NOT_FOUND.search(_code(error)) for error in task_errors)
    return bool(read.field(body, "data") == [])


def _raise_for_status(response: HttpResponse, body: Any, task_errors: Sequence[Mapping[str, Any]]) -> None:
    """Raise the error that the first entry means, by its code, else by the HTTP status; return for a success."""
    if not task_errors:
        read.raise_for_status(response, body)
        return
    code, support_id = _code(task_errors[0]), read.request_id(response, body)
    if _SAFETY.search(code):
        raise errors.Moderated(
            f"The provider refused the request for its content: {_error_text(task_errors[0])}.", request_id=support_id
        )
    status = next((status for pattern, status in _STATUS_OF_CODE if code and pattern.search(code)), None)
    if status is None:
        status = 429 if response.status == 503 else response.status if response.status >= 400 else 400
    refuse(
        500 if status in (408, 499) else status,
        _error_text(task_errors[0]),
        request_id=support_id,
        retry_after=read.header(response, "retry-after"),
    )


# Uploads and the account ---------------------------------------------------------------------------------------------


def upload(data: bytes, mime_type: str, filename: str) -> Flow[Upload]:
    """Return the URL of a file in media storage, or its id, which works too (docs/providers/runware.md#uploads)."""
    media = f"data:{mime_type};base64,{b64encode(data).decode()}"
    task = {"taskType": "mediaStorage", "taskUUID": str(uuid4()), "operation": "upload", "media": media}
    response = yield _post([task], timeout_s=180.0)
    body = response.json()
    if response.status == 413:
        raise errors.OutOfLimits(f"The provider takes no upload of {len(data) / 1e6:.1f} MB.")
    items, task_errors = _entries_of(body, task["taskUUID"])
    for name in ("mediaURL", "imageURL", "mediaUUID", "imageUUID"):
        for item in items:
            if read.is_url(item.get(name)) or (name.endswith("UUID") and read.is_ticket(item.get(name))):
                return Upload(item[name], UPLOAD_LIFETIME_S)
    _raise_for_status(response, body, task_errors)
    raise read.outage(response, body)


def balance() -> Flow[Decimal | None]:
    """Return the account's balance in US dollars, or None if the response has none; its shape is not documented."""
    task = {"taskType": "accountManagement", "taskUUID": str(uuid4()), "operation": "getDetails"}
    response = yield _post([task])
    body = response.json()
    items, task_errors = _entries_of(body, task["taskUUID"])
    reported = next((item["balance"] for item in items if item.get("balance") is not None), None)
    if reported is None:
        _raise_for_status(response, body, task_errors)
        return None
    if not isinstance(reported, dict):
        return read.decimal(reported)
    if str(reported.get("currency") or "usd").casefold() not in ("usd", "$"):
        return None
    amounts = (read.decimal(reported.get(name)) for name in ("amount", "available", "balance", "value", "total"))
    return next((amount for amount in amounts if amount is not None), None)


PROVIDER = Provider(
    name="runware",
    title="Runware",
    key_env="RUNWARE_API_KEY",
    rank=5,
    base_urls={"api": BaseUrl("RUNWARE_BASE_URL", "https://api.runware.ai/v1")},
    offers=offering.offers("runware", FAMILIES),
    submit=submit,
    poll=poll,
    upload=upload,
    calls_back=True,
    find=find,
    finished=finished,
    balance=balance,
    reference_limits=ReferenceLimits(max_bytes=10_000_000, max_pixels=36_000_000),
    honours_ids_s=ID_TRUSTED_S,
    result_lifetime_s=float(TTL_S),
)
