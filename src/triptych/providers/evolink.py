"""EvoLink: submit under an idempotency key, poll, many tasks in one look, a files host, and the charge with the result.

The facts are in docs/providers/evolink.md#models and the headings after it; areas are the origin's
(docs/providers/README.md#sizes), which this provider hands requests on to. One model id serves a prompt alone and a
prompt with images, one output and several, so an offer is told from its kin by its operation.

Rules: every shape of answer is tolerated and nothing but our own errors leaves; a poll ends only with the provider's
own decision. A submit carries our id as its Idempotency-Key, so that the same one may be sent again for a short while:
what was accepted the first time is then told once more, and nothing is paid twice. No documentation says so: that is
known from the provider's own MCP server alone, which sends a lost submit again once, at once, under the same key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import quote as percent_escaped

from triptych.core import errors
from triptych.core.models import Done, Pending, Prediction, ProviderRequest, Upload
from triptych.providers import BaseUrl, Flow, HttpRequest, HttpResponse, Listing, Provider, ReferenceLimits, Sent
from triptych.providers import _history as history
from triptych.providers import _offers as offering
from triptych.providers import _reading as read
from triptych.providers._offers import Family

_DONE = frozenset({"completed", "succeeded"})
_FAILED = frozenset({"failed", "cancelled", "canceled", "timeout", "expired", "error"})
_RUNNING = frozenset({"pending", "processing", "queued", "in_progress"})
_MODERATION_CODE = "content_policy_violation"
_NOT_OFFERED = frozenset({"model_unavailable", "model_not_found", "model_not_available"})
_GONE = frozenset({"retired", "removed", "offline", "disabled"})

CREDITS_PER_USD = 68
RESULT_LIFETIME_S = 24 * 3600.0
UPLOAD_LIFETIME_S = 70 * 3600.0
"""Uploads expire after 72 h (docs/providers/evolink.md#uploads); two hours are kept in hand."""
UPLOAD_LIMIT_BYTES = 100 * 1024 * 1024
BATCH_TASKS = 50
KEY_TRUSTED_S = 600.0
"""For so long after its first submit a key is trusted. How long it is kept is not documented, and the one client known
to rely on it sends again within seconds; ten minutes is the longest that is taken for "at once"."""
LIST_PAGE_ITEMS = 50
LIST_KEPT_S = 24 * 3600.0
"""How long the list of tasks goes back is not documented; a day is relied on."""


# The models (docs/providers/evolink.md#models) ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Family(Family):
    """A family as EvoLink sells it: a short prompt, and a task that takes its time."""

    max_prompt_chars: int = 2000
    latency_s: float = 15.0
    top_level_format: bool = False
    """`output_format` is a field of the request itself; 5.0 lite has it among its model parameters."""


_FAMILIES: Mapping[str, _Family] = {
    "seedream-5.0-lite": _Family(
        "doubao-seedream-5.0-lite",
        "0.032",
        offering.sized("2K", "3K", "4K", least=3_686_400),
        "the provider's documentation",
        formats=("png", "jpeg"),
    ),
    "seedream-4.5": _Family("doubao-seedream-4.5", "0.04", offering.sized("2K", "4K", least=3_686_400)),
    "seedream-4.0": _Family(
        "doubao-seedream-4.0",
        "0.03",
        offering.sized("1K", "2K", "4K", least=921_600),
        max_prompt_chars=1000,  # the provider's own page of this model
    ),
    "seedream-5.0-pro": _Family(
        "doubao-seedream-5.0-pro", priced_by=offering.FROM_THE_ORIGIN_PRO, top_level_format=True, **offering.V5_PRO
    ),
    "seedream-5.0-flash": _Family(
        "doubao-seedream-5.0-flash", priced_by=offering.FROM_THE_ORIGIN_PRO, top_level_format=True, **offering.V5_FLASH
    ),
}


# Submit --------------------------------------------------------------------------------------------------------------


def submit(edit: ProviderRequest) -> Flow[Pending | Done]:
    """Return the ticket of an accepted request; the same request under the same key gives the same ticket."""
    call = HttpRequest(
        "POST",
        "/v1/images/generations",
        json=_body(edit),
        headers={"Idempotency-Key": edit.client_id} if edit.client_id else {},
        repeatable=False,
        timeout_s=120.0,
    )
    answer = yield call
    body = answer.json()
    said = _task(body)
    if read.status(said) in _FAILED:
        raise _failure(answer, body, said)
    ticket = said.get("id")
    if read.is_ticket(ticket) and (200 <= answer.status < 300 or answer.status >= 500):
        return Pending(ticket)
    code = _error_code(body)
    if code in _NOT_OFFERED and 400 <= answer.status < 500:
        why = errors.quoted(read.message(body) or code)
        raise errors.NotOffered(
            f"The provider does not offer this model now (HTTP {answer.status}: {why}).",
            request_id=read.request_id(answer, body),
        )
    if answer.status in (409, 425):
        raise read.outage(answer, body)  # About the key: the request it was first used for may have been accepted.
    read.raise_unaccepted(answer, body, code)
    raise read.no_ticket(answer, body)


def _body(edit: ProviderRequest) -> dict[str, Any]:
    """Return the model's own fields and no others; `n` is what the task is charged for at most."""
    offer = edit.offer
    body: dict[str, Any] = {"model": offer.endpoint, "prompt": edit.prompt}
    if offer.operation.sequential:
        body["n"] = edit.count
    if edit.size:
        body["size"] = f"{edit.size[0]}x{edit.size[1]}"
    if offer.operation.edits:
        body["image_urls"] = [read.source(reference) for reference in edit.references]
    if edit.format and offer.formats:
        family = _FAMILIES.get(offer.family)
        at_the_top = family is not None and family.top_level_format
        body |= {"output_format": edit.format} if at_the_top else {"model_params": {"output_format": edit.format}}
    return body


def _error_code(body: Any) -> str:
    """Return the provider's own word for an error (docs/providers/evolink.md#errors)."""
    found = (read.at(body, "error", key) for key in ("code", "type"))
    return next((code[:100] for code in found if isinstance(code, str) and code), "")


# Find ----------------------------------------------------------------------------------------------------------------


def find(edit: ProviderRequest, prediction: Prediction, sent: Sent, known: frozenset[str]) -> Flow[Pending | None]:
    """Return None where no unknown task of the model was accepted since the submit.

    The list of tasks is the whole account's and shows no request, so it never says which task is ours.
    Raises: `Unclear` where one may be; `Outage`, `KeyRejected` or `RateLimited` when the list cannot be read.
    """

    def page(number: int) -> Flow[history.Page]:
        params: dict[str, str | int] = {"model": prediction.endpoint, "page": number, "page_size": LIST_PAGE_ITEMS}
        answer = yield HttpRequest("GET", "/v1/tasks", params=params)
        body = answer.json()
        tasks = read.at(body, "data")
        if not isinstance(tasks, list):
            read.raise_for(answer, body, only=(401, 403, 429))
            raise read.outage(answer, body)
        entries = [
            history.entry(
                read.at(task, "id"),
                read.at(task, "created_at") or read.at(task, "created"),
                history.same_model(prediction.endpoint, read.at(task, "model")),
            )
            for task in tasks
        ]
        return history.Page(answer, entries, read.integer(read.at(body, "total")))

    return (yield from history.look(page, sent, known, page_items=LIST_PAGE_ITEMS, kept_s=LIST_KEPT_S))


# Poll ----------------------------------------------------------------------------------------------------------------


def poll(ticket: str, poll_url: str | None) -> Flow[Pending | Done]:
    """Return how a task stands: still pending, or done with its frames in order and its charge.

    Raises: `Failed` or `Moderated`, the provider's decision; anything else says nothing about the task.
    """
    answer = yield HttpRequest("GET", f"/v1/tasks/{percent_escaped(ticket, safe='', errors='replace')}")
    body = answer.json()
    said = _task(body)
    status = read.status(said)
    if status in _FAILED:
        raise _failure(answer, body, said)
    if status in _DONE:
        return _finished(answer, body, said)
    if not status:
        read.raise_for(answer, body, only=(401, 403, 429))
        raise read.outage(answer, body)
    if status not in _RUNNING:
        read.log_odd_status("evolink", status)
    return Pending(ticket, poll_url)


def finished(tickets: Sequence[str]) -> Flow[frozenset[str]]:
    """Return which of these tasks have ended: one look for up to fifty."""
    ended: set[str] = set()
    for start in range(0, len(tickets), BATCH_TASKS):
        asked = list(tickets[start : start + BATCH_TASKS])
        answer = yield HttpRequest("POST", "/v1/tasks/batch", json={"task_ids": asked})
        body = answer.json()
        tasks = read.at(body, "data")
        if not isinstance(tasks, list):
            read.raise_for(answer, body, only=(401, 403, 429))
            raise read.outage(answer, body)
        for task in tasks:
            ticket = read.at(task, "id")
            if isinstance(ticket, str) and ticket in asked and read.status(task) in _DONE | _FAILED:
                ended.add(ticket)
    return frozenset(ended)


def _finished(answer: HttpResponse, body: Any, said: Mapping[str, Any]) -> Done:
    outputs = tuple(read.frame(item, "image_url", "url", "download_url") for item in _results(said))
    if not any(output.url for output in outputs):
        raise read.no_image(answer, body, "task", outputs)
    return Done(outputs, charged_usd=_charged_usd(said), url_lifetime_s=RESULT_LIFETIME_S)


def _results(said: Mapping[str, Any]) -> list[Any]:
    """Return the results, or the `result_data` that the official client reads too."""
    return read.items(said.get("results") or said.get("result_data"))


def _charged_usd(said: Mapping[str, Any]) -> Decimal | None:
    """Return what a task cost: in dollars where it says so, else in credits (68 are one dollar)."""
    usd = read.usd(read.at(said, "usage", "cost", "usd"))
    if usd is not None:
        return usd
    credits = read.usd(read.at(said, "usage", "cost", "credits")) or read.usd(read.at(said, "usage", "credits_used"))
    return None if credits is None else (credits / CREDITS_PER_USD).quantize(Decimal("0.000001"))


def _failure(answer: HttpResponse, body: Any, said: Mapping[str, Any]) -> errors.Failed:
    """Return the provider's decision against a task as an error of ours."""
    code, text = _error_code(said), read.message(said) or "no reason given"
    hint = read.at(said, "error", "suggestion")
    moderated = code == _MODERATION_CODE or (
        code in ("", "unknown_error") and read.MODERATION_WORDS.search(text) is not None
    )
    message = (
        f"The provider reports the task as {errors.quoted(read.status(said), 40)}: {errors.quoted(text)}"
        f"{f' [{errors.quoted(code, 60)}]' if code else ''}"
        f"{f'; it suggests {errors.quoted(hint, 200)}' if isinstance(hint, str) and hint else ''}."
    )
    return (errors.Moderated if moderated else errors.Failed)(message, request_id=read.request_id(answer, body))


# Uploads, models, the account ----------------------------------------------------------------------------------------


def upload(data: bytes, mime_type: str, filename: str) -> Flow[Upload]:
    """Return the URL of a file on the files host (docs/providers/evolink.md#uploads)."""
    too_large = f"The provider takes no upload of {len(data) / 1e6:.1f} MB; its limit is 100 MB."
    if len(data) > UPLOAD_LIMIT_BYTES:
        raise errors.OutOfLimits(too_large)
    files = {"file": (filename, data, mime_type)}
    answer = yield HttpRequest("POST", "/api/v1/files/upload/stream", base="files", files=files, timeout_s=180.0)
    body = answer.json()
    if answer.status == 413:
        raise errors.OutOfLimits(too_large)
    text = read.message(body)
    if answer.status == 403 and "quota" in text.casefold():
        message = f"The provider keeps no more files for this account, delete some there: {errors.quoted(text)}."
        raise errors.Refused(message, request_id=read.request_id(answer, body))
    if not 200 <= answer.status < 300:
        read.raise_for(answer, body)
    if read.at(body, "success") is False:
        code = read.integer(read.at(body, "code")) or 0
        message = f"The provider refused the upload: {errors.quoted(text)} [code {code}]."
        kind = errors.Refused if 40000 <= code < 50000 else errors.Outage
        raise kind(message, request_id=read.request_id(answer, body))
    for key in ("file_url", "download_url"):
        if read.is_url(url := read.at(body, "data", key)):
            return Upload(url, UPLOAD_LIFETIME_S)
    raise read.outage(answer, body)


def listing() -> Flow[Listing]:
    """Return the image models in the catalog now, which tells no prices; an error envelope is an outage, not "none"."""
    answer = yield HttpRequest("GET", "/v1/catalog/models", params={"capability": "image"})
    body = answer.json()
    read.raise_for(answer, body, only=(401, 403, 429))
    models = read.at(body, "models")
    if not 200 <= answer.status < 300 or not isinstance(models, list) or not models:
        raise read.outage(answer, body)
    return Listing(
        {
            name: None
            for model in models
            if read.is_ticket(name := read.at(model, "model_id")) and str(read.at(model, "lifecycle")) not in _GONE
        }
    )


def balance() -> Flow[Decimal | None]:
    """Return what is left in US dollars, of the account or of the key if that has less; None where nothing says so."""
    answer = yield HttpRequest("GET", "/v1/credits")
    body = answer.json()
    read.raise_for(answer, body)
    credits = [read.decimal(read.at(body, "data", "user", "remaining_credits"))]
    if read.at(body, "data", "token", "unlimited_credits") is False:
        credits.append(read.decimal(read.at(body, "data", "token", "remaining_credits")))
    known = [value for value in credits if value is not None]
    return (min(known) / CREDITS_PER_USD).quantize(Decimal("0.0001")) if known else None


# Reading answers -----------------------------------------------------------------------------------------------------


def _task(body: Any) -> Mapping[str, Any]:
    """Return the task in an answer, flat or under `data`; only an object with an id is one.

    An error envelope may have a `status` of its own.
    """
    for found in (body, read.at(body, "data")):
        if isinstance(found, dict) and isinstance(found.get("id"), str):
            return found
    return {}


PROVIDER = Provider(
    name="evolink",
    title="EvoLink",
    key_env="EVOLINK_API_KEY",
    base_urls={
        "api": BaseUrl("EVOLINK_BASE_URL", "https://api.evolink.ai"),
        "files": BaseUrl("EVOLINK_FILES_BASE_URL", "https://files-api.evolink.ai"),
    },
    offers=offering.offers("evolink", _FAMILIES),
    submit=submit,
    poll=poll,
    upload=upload,
    finished=finished,
    listing=listing,
    balance=balance,
    reference_limits=ReferenceLimits(max_bytes=10_000_000, max_pixels=36_000_000, max_side=6000),
    find=find,
    honours_ids_s=KEY_TRUSTED_S,
    result_lifetime_s=RESULT_LIFETIME_S,
)
