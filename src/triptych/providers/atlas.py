"""Atlas Cloud: submit and poll, uploads, live quotes, and a history in which a lost submit is found again.

The facts and their sources are in docs/providers/atlas.md#models and the headings after it. Rules: every shape of
answer is tolerated and nothing but our own errors leaves; a body that carries a prediction outranks the HTTP status
around it; a poll ends only with the provider's own decision, whatever else comes back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any
from urllib.parse import quote as percent_escaped

from triptych.catalog import presets
from triptych.core import errors
from triptych.core.models import (
    Done,
    Edit,
    Operation,
    Pending,
    Prediction,
    Quote,
    Sizes,
    Upload,
)
from triptych.providers import BaseUrl, Flow, HttpRequest, HttpResponse, ModelList, Provider, Sent
from triptych.providers import _history as history
from triptych.providers import _offers as offering
from triptych.providers import _reading as read
from triptych.providers._offers import Family

_DONE = frozenset({"completed", "succeeded", "success"})
_FAILED = frozenset({"failed", "timeout", "canceled", "cancelled", "error"})
_RUNNING = frozenset({"created", "queued", "starting", "pending", "processing"})
_MODERATION_CODE = 1039
_FIELD_WORDS = re.compile(r"missing|requir|unknown|unexpected|additional|unsupported|not (allowed|defined)|field", re.I)
_NO_MODEL = re.compile(
    r"model.{0,60}(not|n't|un).{0,12}(found|exist|known|supported|available)|(unknown|no such).model", re.I
)
_HINT_401 = "Atlas Cloud says 401 for a wrong path too: check ATLASCLOUD_BASE_URL as well as the key"
_raise_for = partial(read.raise_for, hint_401=_HINT_401)

RESULT_LIFETIME_S = 24 * 3600.0
UPLOAD_LIFETIME_S = 20 * 3600.0
"""Uploads are temporary, "24 h" by one account (docs/providers/atlas.md#uploads); four hours are kept in hand."""
HISTORY_PAGE_ITEMS = 50
HISTORY_SWEEP_ITEMS = 50
HISTORY_KEPT_S = 24 * 3600.0
"""How long the history keeps a request is not documented; a day is relied on."""


# The models (docs/providers/atlas.md#models) --------------------------------------------------------------------------

_SINGLE_TAILS = {Operation.GENERATE: "/text-to-image", Operation.EDIT: "/edit"}
_FROM_2K = offering.sized("2K", "4K", least=3_686_400)


@dataclass(frozen=True, slots=True)
class _AtlasFamily(Family):
    """A family on Atlas; the field that carries the number of images was renamed once."""

    priced_by: str = "the provider's product pages"
    max_references: int = 10
    count_field: str = "max_images"


_FAMILIES: Mapping[str, _AtlasFamily] = {
    "seedream-5.0-lite": _AtlasFamily(
        "bytedance/seedream-v5.0-lite",
        "0.032",
        Sizes(presets=presets.rows("2K", "3K"), exact=True),
        max_references=14,
        formats=("png", "jpeg"),
    ),
    "seedream-4.5": _AtlasFamily("bytedance/seedream-v4.5", "0.036", _FROM_2K),
    "seedream-4.0": _AtlasFamily(
        "bytedance/seedream-v4", "0.027", offering.sized("1K", "2K", "4K", least=921_600), max_outputs=14
    ),
    "seedream-4.7": _AtlasFamily(
        "bytedance/seedream-v4.7",
        "0.03",
        _FROM_2K,
        max_outputs=14,
        count_field="num_images",
        tails={**offering.PATH_TAILS, Operation.GENERATE: "/text-to-image"},
    ),
    "seedream-5.5": _AtlasFamily(
        "bytedance/seedream-v5.5",
        priced_by="the product page for the smallest tier (2026-11-20); the rest is the origin's list price",
        tails=_SINGLE_TAILS,
        inferred=frozenset({Operation.EDIT}),
        **{**offering.V5_5, "usd": "0.016"},
    ),
    "seedream-5.0-pro": _AtlasFamily(
        "bytedance/seedream-v5.0-pro",
        priced_by="the product page for the smallest tier; the rest is the origin's list price",
        tails=_SINGLE_TAILS,
        **offering.V5_PRO,
    ),
    "seedream-5.0-flash": _AtlasFamily(
        "bytedance/seedream-v5.0-flash",
        priced_by="the product page",
        tails=_SINGLE_TAILS,
        inferred=frozenset({Operation.EDIT}),
        **offering.V5_FLASH,
    ),
}


# Submit --------------------------------------------------------------------------------------------------------------


def submit(edit: Edit) -> Flow[Pending | Done]:
    """Return the ticket of an accepted request.

    A single edit's field is `images` by one official client and `image` by another (docs/providers/atlas.md#models).
    A refusal over that field is surely not accepted, so with one reference the other spelling is tried once.
    """
    body = _body(edit)
    answer = yield _generate(body)
    if edit.offer.operation is Operation.EDIT and len(edit.references) == 1 and _about_the_image_field(answer):
        other = {("image" if key == "images" else key): value for key, value in body.items()}
        other["image"] = body["images"][0]
        second = yield _generate(other)
        if second.status not in (400, 422):
            answer = second
    if edit.offer.inferred_endpoint:
        _raise_for_an_inferred_id(edit.offer.endpoint, answer)
    return _accepted(answer)


def _generate(body: Mapping[str, Any]) -> HttpRequest:
    return HttpRequest("POST", "/api/v1/model/generateImage", json=body, repeatable=False, timeout_s=120.0)


def _body(edit: Edit) -> dict[str, Any]:
    """Return the flat body, with the model's own fields and no others."""
    offer = edit.offer
    body: dict[str, Any] = {"model": offer.endpoint, "prompt": edit.prompt}
    if offer.operation.edits:
        body["images"] = [read.source(reference) for reference in edit.references]
    if offer.operation.sequential:
        family = _FAMILIES.get(offer.family)
        body[family.count_field if family else "max_images"] = edit.count
    if edit.size:
        body["size"] = f"{edit.size[0]}*{edit.size[1]}"
    if offer.formats and (image_format := edit.format or offer.default_format):
        body["output_format"] = image_format
    return body


def _about_the_image_field(answer: HttpResponse) -> bool:
    if answer.status not in (400, 422):
        return False
    text = read.message(answer.json())
    return bool(re.search(r"\bimages?\b", text, re.I) and _FIELD_WORDS.search(text))


def _raise_for_an_inferred_id(endpoint: str, answer: HttpResponse) -> None:
    """Raise `NotOffered` where the provider does not know an id that no document names; else return."""
    body = answer.json()
    status, text = read.meant_status(answer, body), read.message(body)
    if status == 404 or (status in (400, 422) and _NO_MODEL.search(text)):
        raise errors.NotOffered(
            f"The provider does not have the model id {endpoint}, which is inferred from its other ids and not "
            f"documented (HTTP {status}: {errors.quoted(text or 'no reason given')}).",
            request_id=read.request_id(answer, body),
        )


def _accepted(answer: HttpResponse) -> Pending:
    """Return the ticket of a submit's answer, or raise what it means (docs/providers/atlas.md#submit)."""
    body = answer.json()
    said = read.prediction(body)
    if said and read.status(said) in _FAILED:
        raise _failure(answer, body, said)
    if pending := read.accepted(answer, said):
        return pending
    if read.meant_status(answer, body) != 401:
        read.raise_unaccepted(answer, body)
    _raise_for(answer, body)
    raise read.no_ticket(answer, body)


# Poll ----------------------------------------------------------------------------------------------------------------


def poll(ticket: str, poll_url: str | None) -> Flow[Pending | Done]:
    """Return how a prediction stands: still pending, or done with its frames in order.

    Raises: `Failed` or `Moderated`, the provider's decision; anything else (`Outage`, `KeyRejected`, `RateLimited`)
    says nothing about the prediction, and the caller asks again later.
    """
    answer = yield from read.asked(poll_url, _path(ticket))
    body = answer.json()
    said = read.prediction(body)
    status = read.status(said)
    if status in _FAILED:
        raise _failure(answer, body, said)
    if status in _DONE:
        return _finished(answer, body, said)
    if not status:
        if answer.status in (401, 403, 429):
            _raise_for(answer, body)
        raise read.outage(answer, body)
    if status not in _RUNNING:
        read.log_odd_status("atlas", status)
    return Pending(ticket, poll_url, done=read.count(said.get("outputs")))


def charge(ticket: str, poll_url: str | None) -> Flow[Decimal | None]:
    """Return the charge of a finished prediction, which often arrives after its images; None while it is not there."""
    answer = yield from read.asked(poll_url, _path(ticket))
    return read.usd(read.prediction(answer.json()).get("price"))


def _path(ticket: str) -> str:
    return f"/api/v1/model/prediction/{percent_escaped(ticket, safe='', errors='replace')}"


def _finished(answer: HttpResponse, body: Any, said: Mapping[str, Any]) -> Done:
    outputs = tuple(read.frame(item) for item in read.items(said.get("outputs") or said.get("output")))
    if not any(output.url for output in outputs):
        raise read.no_image(answer, body, "prediction", outputs)
    return Done(outputs, charged_usd=read.usd(said.get("price")), url_lifetime_s=RESULT_LIFETIME_S)


def _failure(answer: HttpResponse, body: Any, said: Mapping[str, Any]) -> errors.Failed:
    """Return the provider's decision against a prediction as an error of ours."""
    text = read.message(said) or read.message(body) or "no reason given"
    code = read.integer(said.get("error_code"))
    moderated = code == _MODERATION_CODE or (code is None and read.MODERATION_WORDS.search(text) is not None)
    message = f"The provider reports the prediction as {errors.quoted(read.status(said), 40)}: {errors.quoted(text)}."
    return (errors.Moderated if moderated else errors.Failed)(message, request_id=read.request_id(answer, body))


# Find a lost submit --------------------------------------------------------------------------------------------------


def find(edit: Edit, prediction: Prediction, sent: Sent, known: frozenset[str]) -> Flow[Pending | None]:
    """Return the submit whose answer was lost, looked up in the account's history; None where it is surely not there.

    It has to be of the same model and show every field that was sent.
    Raises: `Unclear` where the history does not tell; `Outage`, `KeyRejected` or `RateLimited` when it cannot be read.
    """
    body = _body(edit)

    def page(number: int) -> Flow[history.ListPage]:
        params: dict[str, str | int] = {"no": number, "size": HISTORY_PAGE_ITEMS, "model": prediction.endpoint}
        answer = yield HttpRequest("GET", "/api/v1/model/history", params=params)
        told = answer.json()
        items = read.at(told, "data", "items")
        if not isinstance(items, list):
            _raise_for(answer, told, only=(401, 403, 429))
            raise read.outage(answer, told)
        entries = []
        for item in items:
            same = history.same_model(prediction.endpoint, read.at(item, "model"))
            same = history.same_request(body, _asked(item)) if same is None else same
            ticket = read.at(item, "ID") or read.at(item, "id")
            entries.append(history.entry(ticket, read.at(item, "createdAt"), same))
        return history.ListPage(answer, entries, read.integer(read.at(told, "data", "total")))

    return (yield from history.search(page, sent, known, page_items=HISTORY_PAGE_ITEMS, kept_s=HISTORY_KEPT_S))


def _asked(item: Any) -> Mapping[str, Any] | None:
    """Return the request a history entry recorded: JSON in a string, its fields maybe nested under `input`."""
    body = read.parsed(read.at(item, "requestBody"))
    if not isinstance(body, dict):
        return None
    nested = body.get("input")
    return {**body, **nested} if isinstance(nested, dict) else body


def finished(tickets: Sequence[str]) -> Flow[frozenset[str]]:
    """Return which of these predictions the newest page of the history shows as ended: one look for many polls."""
    params: dict[str, str | int] = {"no": 1, "size": HISTORY_SWEEP_ITEMS}
    answer = yield HttpRequest("GET", "/api/v1/model/history", params=params)
    body = answer.json()
    items = read.at(body, "data", "items")
    if not isinstance(items, list):
        _raise_for(answer, body, only=(401, 403, 429))
        raise read.outage(answer, body)
    running = set(tickets)
    return frozenset(
        ticket
        for item in items
        if (ticket := read.at(item, "ID") or read.at(item, "id")) in running and read.status(item) in _DONE | _FAILED
    )


# Uploads, quotes, the account ----------------------------------------------------------------------------------------


def upload(data: bytes, mime_type: str, filename: str) -> Flow[Upload]:
    """Return the URL of an uploaded file on Atlas's storage (docs/providers/atlas.md#uploads; both answer shapes)."""
    answer = yield HttpRequest(
        "POST", "/api/v1/model/uploadMedia", files={"file": (filename, data, mime_type)}, timeout_s=180.0
    )
    body = answer.json()
    if answer.status == 413:
        raise errors.OutOfLimits(f"The provider takes no upload of {len(data) / 1e6:.1f} MB; its limit is 50 MB.")
    _raise_for(answer, body)
    for place in (read.at(body, "data"), body):
        for key in ("download_url", "url"):
            if read.is_url(url := read.at(place, key)):
                return Upload(url, UPLOAD_LIFETIME_S)
    raise read.outage(answer, body)


def quote(edit: Edit) -> Flow[Quote | None]:
    """Return what this whole request will cost, or None without a usable price (docs/providers/atlas.md#prices)."""
    if not all(reference.url or reference.data for reference in edit.references):
        return None
    answer = yield HttpRequest("POST", "/api/v1/model/calculate", json=_body(edit))
    body = answer.json()
    if not 200 <= answer.status < 300 or not read.in_dollars(read.at(body, "data", "currency")):
        return None
    usd = read.usd(read.at(body, "data", "price"))
    return None if usd is None else Quote(usd, exact=True)


def listing() -> Flow[ModelList]:
    """Return the models Atlas lists now, with their price per image; an error envelope is an outage, not "none"."""
    answer = yield HttpRequest("GET", "/api/v1/models")
    body = answer.json()
    _raise_for(answer, body, only=(401, 403, 429))
    data = read.at(body, "data")
    if not 200 <= answer.status < 300 or not isinstance(data, list) or not data:
        raise read.outage(answer, body)
    shown = [entry for entry in data if read.at(entry, "display_console") is not False]
    named = [(model, entry) for entry in shown if read.is_ticket(model := read.at(entry, "model"))]
    return ModelList({model: read.usd(read.at(entry, "price", "actual", "base_price")) for model, entry in named})


def balance() -> Flow[Decimal | None]:
    """Return the account's balance in US dollars, or None where the answer has none."""
    answer = yield HttpRequest("GET", "/public/v1/balance")
    body = answer.json()
    _raise_for(answer, body)
    available = read.at(body, "available")
    return read.decimal(read.at(available, "value")) if read.in_dollars(read.at(available, "currency")) else None


PROVIDER = Provider(
    name="atlas",
    title="Atlas Cloud",
    key_env="ATLASCLOUD_API_KEY",
    base_urls={"api": BaseUrl("ATLASCLOUD_BASE_URL", "https://api.atlascloud.ai")},
    offers=offering.offers("atlas", _FAMILIES, offering.PATH_TAILS),
    submit=submit,
    poll=poll,
    upload=upload,
    find=find,
    finished=finished,
    quote=quote,
    charge=charge,
    listing=listing,
    balance=balance,
    result_lifetime_s=RESULT_LIFETIME_S,
    max_running=8,
    deadline_s=1800.0,
)
