"""Runware: arrays of tasks, all POSTed to one address, each under an id that its client made.

The facts are in docs/providers/runware.md#submit and the headings after it; sizes, and the prices of all but 5.0 lite,
are the origin's (docs/providers/README.md#sizes). The id is the ticket from the start: a submit whose answer was lost
is simply asked for, and sent again under the same id it is `conflictTaskUUID`, which says that the first one arrived.

References are stored with `mediaStorage`: `imageUpload` is deprecated and shrinks to 2048 px, and fourteen pictures
inline would travel again with every step of a chain and every second try.

A sequence may come at once or image by image, with or without a word about the others: nothing documented says which.
So what a poll hands on as its poll URL, which Runware does not need, is how many images were asked for; with fewer, and
none said to be processing, an answer is the end only once it has stayed the same for a while. The model search is no
listing: nobody says that it has every model, nor what they cost.

Rules: every shape of answer is tolerated and nothing but our own errors leaves; items outrank the HTTP status around
them; a poll ends only with the provider's own decision about this task.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import uuid4

from triptych.catalog import backgrounds, presets
from triptych.core import errors
from triptych.core.models import Done, Pending, Prediction, ProviderRequest, ReturnedImage, Sizes, Upload
from triptych.providers import BaseUrl, Flow, HttpRequest, HttpResponse, Provider, ReferenceLimits, Sent, refuse
from triptych.providers import _offers as offering
from triptych.providers import _reading as read
from triptych.providers._offers import Family

TTL_S = 24 * 3600
"""How long result files are asked to be kept."""
UPLOAD_LIFETIME_S = 14 * 24 * 3600.0
"""Older uploads stay for 30 days after their last use (docs/providers/runware.md#uploads); half of it is relied on."""
QUIET_S = 60.0
"""So long without a further image, and a sequence that says nothing of the missing ones counts as complete."""
ID_TRUSTED_S = 600.0
"""For so long after its first submit an id is trusted to be known. How long Runware remembers one is not documented;
its own client sends a submit again under the same id for a minute or two."""
TASKS_KEPT_S = TTL_S
"""How long past tasks are told of is not documented; as long as their files are asked to be kept is relied on."""

_CONFLICT = "conflictTaskUUID"
_SAFETY = re.compile(r"contentPolicy|sensitive|unsafe|nsfw|(prompt|image)Blocked|moderat|invalidProviderContent", re.I)
_FAILURE = re.compile(r"^provider|^inferenceError$|^processingFailed$|^taskFailed$", re.I)
_NOT_FOUND = re.compile(r"NotFound$|Expired$|^taskCancelled$")
_MEANT: Sequence[tuple[re.Pattern[str], int]] = (
    (re.compile(r"credit|quota|balance|fund|paymentRequired", re.I), 402),
    (re.compile(r"rateLimit|noAvailableServer|model(Unavailable|NotReady)", re.I), 429),
    (re.compile(r"apiKey|unauthori|forbidden|permission|auth(enti|Fail)|credential|^token|suspended$", re.I), 401),
    (re.compile(r"^(invalid|unknown)Model$|^model(Disabled|NotFound)$"), 404),
    (re.compile(r"timeout|serverError|unavailable$|^(standard|unknown|undefined|default)Error$", re.I), 500),
)
"""What a code means as an HTTP status, whatever the status around it; the official client groups them so."""


# The models (docs/providers/runware.md#models) ------------------------------------------------------------------------

_FORMATS = {"png": "PNG", "jpeg": "JPG"}


@dataclass(frozen=True, slots=True)
class _Family(Family):
    """A family on Runware, which sends either format of every model."""

    formats: tuple[str, ...] = tuple(_FORMATS)
    max_prompt_chars: int = 2000


_FAMILIES: Mapping[str, _Family] = {
    "seedream-5.0-lite": _Family(
        "bytedance:seedream@5.0-lite",
        "0.035",
        Sizes(presets=presets.rows("2K", "3K"), exact=True),
        "the provider's documentation",
    ),
    "seedream-4.5": _Family("bytedance:seedream@4.5", "0.04", offering.sized("2K", "4K", least=3_686_400)),
    "seedream-4.0": _Family("bytedance:5@0", "0.03", offering.sized("1K", "2K", "4K", least=921_600)),
    "seedream-5.5": _Family(
        "bytedance:seedream@5.5",
        priced_by=offering.FROM_THE_ORIGIN_5_5,
        transparency="inferred",
        **offering.V5_5,
    ),
    "seedream-5.0-pro": _Family(
        "bytedance:seedream@5.0-pro", priced_by=offering.FROM_THE_ORIGIN_PRO, **offering.V5_PRO
    ),
    "seedream-5.0-flash": _Family(
        "bytedance:seedream@5.0-flash", priced_by=offering.FROM_THE_ORIGIN_PRO, **offering.V5_FLASH
    ),
}


# Submit --------------------------------------------------------------------------------------------------------------


def submit(edit: ProviderRequest) -> Flow[Pending | Done]:
    """Return the ticket, which is the id that the edit came with; or the images, from a server that did not wait."""
    answer = yield _post([_task(edit)], repeatable=False, timeout_s=120.0)
    body = answer.json()
    items, said = _about(body, edit.client_id)
    if items:
        return _begun(_standing(answer, items, said, edit.client_id, edit.count), edit)
    if any(_code(error) == _CONFLICT for error in said):
        return Pending(edit.client_id, f"asked={edit.count}")
    _raise_for(answer, body, said)
    raise read.outage(answer, body)


def _begun(standing: Pending | Done, edit: ProviderRequest) -> Pending | Done:
    """Return how a task stands at its submit; one whose images may not all be there is polled."""
    unsettled = isinstance(standing, Done) and standing.settle_s is not None
    return Pending(edit.client_id, f"asked={edit.count}") if unsettled else standing


def _task(edit: ProviderRequest) -> dict[str, Any]:
    """Return the task, with the model's own fields and no others (docs/providers/runware.md#submit)."""
    offer = edit.offer
    task: dict[str, Any] = {
        "taskType": "imageInference",
        "taskUUID": edit.client_id,
        "model": offer.endpoint,
        "positivePrompt": edit.prompt,
    }
    if edit.size:
        task["width"], task["height"] = edit.size
    if offer.operation.edits:
        task["inputs"] = {"referenceImages": [read.source(reference) for reference in edit.references]}
    if offer.operation.sequential:
        task["settings"] = {"maxSequentialImages": edit.count}
    task |= {"deliveryMethod": "async", "outputType": "URL", "includeCost": True, "ttl": TTL_S}
    if backgrounds.is_sent(offer, edit.prompt):
        task["settings"] = {"background": "transparent"}
    if (image_format := edit.format or offer.default_format) in _FORMATS:
        task["outputFormat"] = _FORMATS[image_format]
    return task


def _post(tasks: Sequence[Mapping[str, Any]], *, repeatable: bool = True, timeout_s: float = 60.0) -> HttpRequest:
    return HttpRequest("POST", "", json=list(tasks), repeatable=repeatable, timeout_s=timeout_s)


# Poll and find -------------------------------------------------------------------------------------------------------


def _asked(poll_url: str | None) -> int:
    """Return how many images were asked for, as the poll URL carries it; more than any request where it does not."""
    found = re.match(r"asked=(\d{1,3})\b", poll_url or "")
    return int(found[1]) if found else read.MAX_OUTPUTS


def poll(ticket: str, poll_url: str | None) -> Flow[Pending | Done]:
    """Return how a task stands: still pending, or done with its images in order.

    Raises: `Failed` or `Moderated`, the provider's decision; anything else (`Outage`, `KeyRejected`, `RateLimited`)
    says nothing about the task, and the caller asks again later.
    """
    answer = yield _post([{"taskType": "getResponse", "taskUUID": ticket}])
    body = answer.json()
    items, said = _about(body, ticket)
    if items or any(_decides(error) for error in said):
        return _standing(answer, items, said, ticket, _asked(poll_url))
    if _is_unknown(body, said):
        past = yield from _past(ticket)
        if past:
            return _standing(answer, *past, ticket, _asked(poll_url))
        raise errors.Outage("The provider does not know the task (yet).", request_id=read.request_id(answer, body))
    _raise_for(answer, body, said)
    raise read.outage(answer, body)


def find(edit: ProviderRequest, prediction: Prediction, sent: Sent, known: frozenset[str]) -> Flow[Pending | None]:
    """Return the task if Runware knows its id, now or among past tasks; None if it does not.

    Raises: `Unclear` where it may have forgotten it; `Outage`, `KeyRejected` or `RateLimited` when it cannot be asked.
    """
    answer = yield _post([{"taskType": "getResponse", "taskUUID": edit.client_id}])
    body = answer.json()
    items, said = _about(body, edit.client_id)
    pending = Pending(edit.client_id, f"asked={edit.count}")
    if items or any(_decides(error) for error in said):
        return pending
    if _is_unknown(body, said):
        if (yield from _past(edit.client_id)):
            return pending
        if sent.oldest_s > TASKS_KEPT_S:
            raise errors.Unclear("The provider does not know the task, but it may have forgotten it.")
        return None
    _raise_for(answer, body, said)
    raise read.outage(answer, body)


def _past(ticket: str) -> Flow[tuple[list[dict[str, Any]], list[dict[str, Any]]] | None]:
    """Return a past task's items and errors, or None if unknown (docs/providers/runware.md#finding-a-lost-submit).

    Raises: what an answer means that says neither.
    """
    answer = yield _post([{"taskType": "getTaskDetails", "taskUUID": ticket}])
    body = answer.json()
    found, said = _about(body, ticket)
    response = read.parsed(next((item["response"] for item in found if item.get("response")), None))
    if isinstance(response, list) or (isinstance(response, dict) and not {"data", "errors"} & set(response)):
        response = {"data": response if isinstance(response, list) else [response]}
    items, past_errors = _about(response, ticket)
    if items or past_errors:
        return items, [{**error, "status": "error"} for error in past_errors]
    if found or _is_unknown(body, said):
        return None
    _raise_for(answer, body, said)
    raise read.outage(answer, body)


def finished(tickets: Sequence[str]) -> Flow[frozenset[str]]:
    """Return which of these tasks are at their end: one request asks for all of them."""
    answer = yield _post([{"taskType": "getResponse", "taskUUID": ticket} for ticket in tickets])
    body = answer.json()
    if not isinstance(read.at(body, "data"), list):
        _raise_for(answer, body, _errors(body))
        raise read.outage(answer, body)
    ended = set()
    for ticket in tickets:
        items, said = _about(body, ticket, named=True)
        if (items or any(map(_decides, said))) and not any(_output(item) is None for item in items):
            ended.add(ticket)
    return frozenset(ended)


# Reading answers (docs/providers/runware.md#poll, docs/providers/runware.md#errors) -----------------------------------


def _standing(
    answer: HttpResponse, items: Sequence[Mapping[str, Any]], said: Sequence[Any], ticket: str, asked: int
) -> Pending | Done:
    """Return what a task's items and errors come to; with fewer than `asked`, more may come.

    Raises: `Moderated` or `Failed` where it is at its end and no image came.
    """
    places = [read.integer(item.get("resultIndex")) for item in items]
    if None not in places:
        items = [item for _, item in sorted(zip(places, items, strict=True), key=lambda pair: pair[0] or 0)]
    read_items = [_output(item) for item in items]
    outputs = [output for output in read_items if output]
    outputs += [ReturnedImage(error=_words(error)) for error in said if _decides(error)]
    came = sum(1 for output in outputs if not output.error)
    if None in read_items or not outputs:
        return Pending(ticket, f"asked={asked}", done=came)
    more_may_come = len(outputs) < asked
    if not came and not (more_may_come and all(item.get("imageUUID") for item in (*items, *said))):
        why = next((output.error for output in outputs if output.error), None)
        filtered = any(_SAFETY.search(_code(error)) for error in (*said, *(item.get("error") for item in items)))
        kind = errors.Moderated if filtered or read.MODERATION_WORDS.search(why or "") else errors.Failed
        raise kind(f"The provider made no image: {why}.", request_id=ticket)
    costs = [read.usd(item.get("cost")) for item in items if _is_image(item)]
    known = [cost for cost in costs if cost is not None]
    charged = sum(known, Decimal(0)) if len(known) == len(costs) else None
    return Done(
        tuple(outputs),
        charged_usd=charged,
        url_lifetime_s=float(TTL_S),
        settle_s=QUIET_S if more_may_come else None,
    )


def _output(item: Mapping[str, Any]) -> ReturnedImage | None:
    """Return one image, or why it is missing; None while it is being made."""
    status = item.get("status")
    if status == "error" or isinstance(item.get("error"), dict):
        return ReturnedImage(error=_words(item.get("error")))
    if _is_image(item):
        return ReturnedImage(url=item["imageURL"])
    if status == "success" or item.get("imageURL"):
        return ReturnedImage(error="the provider's answer has no URL for this image")
    if isinstance(status, str) and status != "processing":
        read.log_odd_status("runware", status[:80])
    return None


def _is_image(item: Mapping[str, Any]) -> bool:
    return item.get("status") != "error" and read.is_url(item.get("imageURL"))


def _about(body: Any, ticket: str, *, named: bool = False) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return an answer's items and errors that are about a task; with `named` not those that name none."""
    data = read.at(body, "data")
    items = (
        [item for item in data[: 100 * read.MAX_OUTPUTS] if isinstance(item, dict)] if isinstance(data, list) else []
    )
    mine = (ticket.casefold(), *(() if named else ("",)))
    about = [
        [entry for entry in entries if str(entry.get("taskUUID") or "").casefold() in mine][: read.MAX_OUTPUTS]
        for entries in (items, _errors(body))
    ]
    return about[0], about[1]


def _errors(body: Any) -> list[dict[str, Any]]:
    found = read.at(body, "errors") or read.at(body, "error")
    entries = found if isinstance(found, list) else [found]
    return [entry for entry in entries[: 100 * read.MAX_OUTPUTS] if isinstance(entry, dict)]


def _code(error: Any) -> str:
    code = read.at(error, "code")
    return code[:100] if isinstance(code, str) else ""


def _words(error: Any) -> str:
    text = f"{_code(error)}: {read.message(error)}".strip(": ")
    return errors.quoted(text or "no reason given")


def _decides(error: Mapping[str, Any]) -> bool:
    """Return whether an error is the provider's decision about a task, and not trouble with asking for it."""
    if error.get("status") == "error" or error.get("taskType") == "imageInference":
        return True
    return bool(_SAFETY.search(_code(error)) or _FAILURE.search(_code(error)))


def _is_unknown(body: Any, said: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether an answer says that there is no such task: by a code, or by an empty list."""
    if said:
        return any(_NOT_FOUND.search(_code(error)) for error in said)
    return bool(read.at(body, "data") == [])


def _raise_for(answer: HttpResponse, body: Any, said: Sequence[Mapping[str, Any]]) -> None:
    """Raise what the first error means, by its code and then by the HTTP status; return for a good answer."""
    if not said:
        read.raise_for(answer, body)
        return
    code, ids = _code(said[0]), read.request_id(answer, body)
    if _SAFETY.search(code):
        raise errors.Moderated(f"The provider refused the request for its content: {_words(said[0])}.", request_id=ids)
    status = next((status for pattern, status in _MEANT if code and pattern.search(code)), None)
    if status is None:
        status = 429 if answer.status == 503 else answer.status if answer.status >= 400 else 400
    refuse(
        500 if status in (408, 499) else status,
        _words(said[0]),
        request_id=ids,
        retry_after=read.header(answer, "retry-after"),
    )


# Uploads and the account ---------------------------------------------------------------------------------------------


def upload(data: bytes, mime_type: str, filename: str) -> Flow[Upload]:
    """Return the URL of a file in media storage, or its id, which serves too (docs/providers/runware.md#uploads)."""
    media = f"data:{mime_type};base64,{b64encode(data).decode()}"
    task = {"taskType": "mediaStorage", "taskUUID": str(uuid4()), "operation": "upload", "media": media}
    answer = yield _post([task], timeout_s=180.0)
    body = answer.json()
    if answer.status == 413:
        raise errors.OutOfLimits(f"The provider takes no upload of {len(data) / 1e6:.1f} MB.")
    items, said = _about(body, task["taskUUID"])
    for name in ("mediaURL", "imageURL", "mediaUUID", "imageUUID"):
        for item in items:
            if read.is_url(item.get(name)) or (name.endswith("UUID") and read.is_ticket(item.get(name))):
                return Upload(item[name], UPLOAD_LIFETIME_S)
    _raise_for(answer, body, said)
    raise read.outage(answer, body)


def balance() -> Flow[Decimal | None]:
    """Return the account's balance in US dollars, or None where the answer has none; its shape is not documented."""
    task = {"taskType": "accountManagement", "taskUUID": str(uuid4()), "operation": "getDetails"}
    answer = yield _post([task])
    body = answer.json()
    items, said = _about(body, task["taskUUID"])
    held = next((item["balance"] for item in items if item.get("balance") is not None), None)
    if held is None:
        _raise_for(answer, body, said)
        return None
    if not isinstance(held, dict):
        return read.decimal(held)
    if str(held.get("currency") or "usd").casefold() not in ("usd", "$"):
        return None
    amounts = (read.decimal(held.get(name)) for name in ("amount", "available", "balance", "value", "total"))
    return next((amount for amount in amounts if amount is not None), None)


PROVIDER = Provider(
    name="runware",
    title="Runware",
    key_env="RUNWARE_API_KEY",
    base_urls={"api": BaseUrl("RUNWARE_BASE_URL", "https://api.runware.ai/v1")},
    offers=offering.offers("runware", _FAMILIES),
    submit=submit,
    poll=poll,
    upload=upload,
    find=find,
    finished=finished,
    balance=balance,
    reference_limits=ReferenceLimits(max_bytes=10_000_000, max_pixels=36_000_000),
    honours_ids_s=ID_TRUSTED_S,
    result_lifetime_s=float(TTL_S),
)
