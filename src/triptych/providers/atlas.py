"""Atlas Cloud: submit and poll, uploads, live quotes, and a history in which a lost submit is found.

The facts and their sources are in docs/providers/atlas.md#models and the headings after it; the models are in
`_atlas_models`. Rules: every shape of
response is tolerated; only errors of ours are raised. A body with a prediction outranks its HTTP status. A poll ends
only with the provider's own decision.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any
from urllib.parse import quote as percent_escaped

from triptych import catalog
from triptych.core import errors
from triptych.core.models import Done, Pending, Prediction, ProviderRequest, Upload
from triptych.core.offers import Operation, Quote
from triptych.providers import BaseUrl, Flow, HttpRequest, HttpResponse, ModelList, Provider, SubmitTimes, _live
from triptych.providers import _atlas_catalogue as catalogue
from triptych.providers import _history as history
from triptych.providers import _offers as offering
from triptych.providers import _reading as read
from triptych.providers._atlas_models import FAMILIES, RETENTION

_DONE = frozenset({"completed", "succeeded", "success"})
_FAILED = frozenset({"failed", "timeout", "canceled", "cancelled", "error"})
_RUNNING = frozenset({"created", "queued", "starting", "pending", "processing"})
_MODERATION_CODE = 1039
_FIELD_WORDS = re.compile(r"missing|requir|unknown|unexpected|additional|unsupported|not (allowed|defined)|field", re.I)
_NO_MODEL = re.compile(
    r"model.{0,60}(not|n't|un).{0,12}(found|exist|known|supported|available)|(unknown|no such).model", re.I
)
_HINT_401 = "Atlas Cloud says 401 for a wrong path too: check ATLASCLOUD_BASE_URL as well as the key"
_raise_for_status = partial(read.raise_for_status, hint_401=_HINT_401)

RESULT_LIFETIME_S = 24 * 3600.0
"""The lifetime of a result of a request without `result_hours`."""
UPLOAD_LIFETIME_S = 20 * 3600.0
"""Uploads are temporary, "24 h" in one source (docs/providers/atlas.md#uploads); four hours are the margin."""
HISTORY_PAGE_ITEMS = 50
HISTORY_SWEEP_ITEMS = 50
HISTORY_KEPT_S = 24 * 3600.0
"""The time that the history keeps a request is not documented; a day is assumed."""


# Submit --------------------------------------------------------------------------------------------------------------


def submit(edit: ProviderRequest) -> Flow[Pending | Done]:
    """Return the ticket of an accepted request.

    A single edit's field is `images` in one official client and `image` in another (docs/providers/atlas.md#models). A
    refusal over that field surely was not accepted, so with one reference the other spelling is tried once.
    """
    body, headers = _body(edit), _headers(edit)
    if edit.callback_url:
        body["webhook_url"] = edit.callback_url
    response = yield _generate(body, headers)
    one = edit.offer.operation is Operation.EDIT and len(edit.references) == 1 and not edit.offer.live
    if one and _rejects_image_field(response):
        other = {("image" if key == "images" else key): value for key, value in body.items()}
        other["image"] = body["images"][0]
        second = yield _generate(other, headers)
        if second.status not in (400, 422):
            response = second
    if edit.offer.inferred_endpoint:
        _raise_for_an_inferred_id(edit.offer.endpoint, response)
    return _with_lifetime(_accepted(response), edit)


def _generate(body: Mapping[str, Any], headers: Mapping[str, str]) -> HttpRequest:
    path = "/api/v1/model/generateImage"
    return HttpRequest("POST", path, json=body, headers=headers, repeatable=False, timeout_s=120.0)


def _headers(edit: ProviderRequest) -> dict[str, str]:
    return {header: str(edit.params[name]) for name, (header, _) in RETENTION.items() if name in edit.params}


def _with_lifetime(pending: Pending, edit: ProviderRequest) -> Pending:
    """Return a ticket whose poll URL has the lifetime of the results as its fragment, which is sent to no server."""
    hours = edit.params.get("result_hours")
    return replace(pending, poll_url=f"{pending.poll_url or ''}#{hours}") if hours else pending


def _body(edit: ProviderRequest) -> dict[str, Any]:
    """Return the flat body, with the model's own fields and no others."""
    offer = edit.offer
    if offer.live:
        return {**_live.body(edit), "model": offer.endpoint}
    body: dict[str, Any] = {"model": offer.endpoint, "prompt": edit.prompt}
    if offer.operation is Operation.LAYERS:
        body["image"] = read.reference_uri(edit.references[0])
        body["size"] = offering.tier(edit)
    elif offer.operation.edits:
        body["images"] = [read.reference_uri(reference) for reference in edit.references]
    if offer.operation.sequential:
        family = FAMILIES.get(offer.family)
        body[family.count_field if family else "max_images"] = edit.count
    if edit.size and offer.operation is not Operation.LAYERS:
        body["size"] = f"{edit.size[0]}*{edit.size[1]}"
    if image_format := offering.image_format(edit):
        body["output_format"] = image_format
    offering.set_params(body, edit)
    return body


def _rejects_image_field(response: HttpResponse) -> bool:
    if response.status not in (400, 422):
        return False
    text = read.message(response.json())
    return bool(re.search(r"\bimages?\b", text, re.I) and _FIELD_WORDS.search(text))


def _raise_for_an_inferred_id(endpoint: str, response: HttpResponse) -> None:
    """Raise `NotOffered` if the provider does not know an undocumented id; else return."""
    body = response.json()
    status, text = read.effective_status(response, body), read.message(body)
    if status == 404 or (status in (400, 422) and _NO_MODEL.search(text)):
        raise errors.NotOffered(
            f"The provider does not have the model id {endpoint}, which is inferred from its other ids and not "
            f"documented (HTTP {status}: {errors.quoted(text or 'no reason given')}).",
            request_id=read.request_id(response, body),
        )


def _accepted(response: HttpResponse) -> Pending:
    """Return the ticket of a submit's response, or raise the error it means (docs/providers/atlas.md#submit)."""
    body = response.json()
    prediction = read.prediction(body)
    if prediction and read.status(prediction) in _FAILED:
        raise _failure(response, body, prediction)
    if pending := read.accepted_ticket(response, prediction):
        return pending
    if read.effective_status(response, body) != 401:
        read.raise_for_submit(response, body)
    _raise_for_status(response, body)
    raise read.no_ticket(response, body)


# Poll ----------------------------------------------------------------------------------------------------------------


def poll(ticket: str, poll_url: str | None) -> Flow[Pending | Done]:
    """Return the state of a prediction: pending, or done with its images in order.

    Raises: `Failed` or `Moderated` for the provider's decision. Any other error (`Outage`, `KeyRejected`,
    `RateLimited`) says nothing about the prediction: the caller polls again later.
    """
    url, _, hours = (poll_url or "").partition("#")
    response = yield from read.poll_response(url, _path(ticket))
    body = response.json()
    prediction = read.prediction(body)
    status = read.status(prediction)
    if status in _FAILED:
        raise _failure(response, body, prediction)
    if status in _DONE:
        lifetime_s = int(hours) * 3600.0 if re.fullmatch(r"[0-9]{1,3}", hours) else RESULT_LIFETIME_S
        return _finished(response, body, prediction, lifetime_s)
    if not status:
        if response.status in (401, 403, 429):
            _raise_for_status(response, body)
        raise read.outage(response, body)
    if status not in _RUNNING:
        read.log_odd_status("atlas", status)
    return Pending(ticket, poll_url, done=read.count(prediction.get("outputs")))


def charge(ticket: str, poll_url: str | None) -> Flow[Decimal | None]:
    """Return the charge of a finished prediction; None until it is known, often some time after the images."""
    response = yield from read.poll_response((poll_url or "").partition("#")[0], _path(ticket))
    return read.usd(read.prediction(response.json()).get("price"))


def _path(ticket: str) -> str:
    return f"/api/v1/model/prediction/{percent_escaped(ticket, safe='', errors='replace')}"


def _finished(response: HttpResponse, body: Any, prediction: Mapping[str, Any], lifetime_s: float) -> Done:
    outputs = tuple(read.image(item) for item in read.items(prediction.get("outputs") or prediction.get("output")))
    if not any(output.url for output in outputs):
        raise read.no_image(response, body, "prediction", outputs)
    described = prediction.get("layers")
    layers = described if isinstance(described, list) else []
    if layers or str(prediction.get("model")).endswith("/layer-decomposition"):
        # Names and boxes of a list of another length could be those of other images.
        outputs = read.layered(layers if len(layers) == len(outputs) else [None] * len(outputs), outputs)
    return Done(outputs, charged_usd=read.usd(prediction.get("price")), url_lifetime_s=lifetime_s)


def _failure(response: HttpResponse, body: Any, prediction: Mapping[str, Any]) -> errors.Failed:
    """Return the error for the provider's decision against a prediction."""
    text = read.message(prediction) or read.message(body) or "no reason given"
    code = read.integer(prediction.get("error_code"))
    moderated = code == _MODERATION_CODE or (code is None and read.MODERATION_WORDS.search(text) is not None)
    message = (
        f"The provider reports the prediction as {errors.quoted(read.status(prediction), 40)}: {errors.quoted(text)}."
    )
    return (errors.Moderated if moderated else errors.Failed)(message, request_id=read.request_id(response, body))


# Find a lost submit --------------------------------------------------------------------------------------------------


def find(
    edit: ProviderRequest, prediction: Prediction, sent: SubmitTimes, known: frozenset[str]
) -> Flow[Pending | None]:
    """Return the submit whose response was lost, from the account's history; None if it surely is not there.

    It must have the same model and show every field that was sent.
    Raises: `Unclear` if the history does not decide it; `Outage`, `KeyRejected` or `RateLimited` if it cannot be read.
    """
    body = _body(edit)
    hours = edit.params.get("history_hours")
    kept_s = min(HISTORY_KEPT_S, 3600.0 * hours) if hours else HISTORY_KEPT_S

    def page(number: int) -> Flow[history.ListPage]:
        params: dict[str, str | int] = {"no": number, "size": HISTORY_PAGE_ITEMS, "model": prediction.endpoint}
        response = yield HttpRequest("GET", "/api/v1/model/history", params=params)
        history_body = response.json()
        items = read.field(history_body, "data", "items")
        if not isinstance(items, list):
            _raise_for_status(response, history_body, only=(401, 403, 429))
            raise read.outage(response, history_body)
        entries = []
        for item in items:
            same = history.same_model(prediction.endpoint, read.field(item, "model"))
            same = history.same_request(body, _recorded_request(item)) if same is None else same
            ticket = read.field(item, "ID") or read.field(item, "id")
            entries.append(history.entry(ticket, read.field(item, "createdAt"), same))
        return history.ListPage(response, entries, read.integer(read.field(history_body, "data", "total")))

    found = yield from history.search(page, sent, known, page_items=HISTORY_PAGE_ITEMS, kept_s=kept_s)
    return _with_lifetime(found, edit) if found else None


def _recorded_request(item: Any) -> Mapping[str, Any] | None:
    """Return the request that a history entry recorded: JSON in a string, its fields maybe nested under `input`."""
    body = read.parsed(read.field(item, "requestBody"))
    if not isinstance(body, dict):
        return None
    nested = body.get("input")
    return {**body, **nested} if isinstance(nested, dict) else body


def finished(tickets: Sequence[str]) -> Flow[frozenset[str]]:
    """Return the predictions that the newest page of the history shows as ended: one read for many polls."""
    params: dict[str, str | int] = {"no": 1, "size": HISTORY_SWEEP_ITEMS}
    response = yield HttpRequest("GET", "/api/v1/model/history", params=params)
    body = response.json()
    items = read.field(body, "data", "items")
    if not isinstance(items, list):
        _raise_for_status(response, body, only=(401, 403, 429))
        raise read.outage(response, body)
    running = set(tickets)
    return frozenset(
        ticket
        for item in items
        if (ticket := read.field(item, "ID") or read.field(item, "id")) in running
        and read.status(item) in _DONE | _FAILED
    )


# Uploads, quotes, the account ----------------------------------------------------------------------------------------


def upload(data: bytes, mime_type: str, filename: str) -> Flow[Upload]:
    """Return the URL of an uploaded file on Atlas's storage (docs/providers/atlas.md#uploads; both response shapes)."""
    response = yield HttpRequest(
        "POST", "/api/v1/model/uploadMedia", files={"file": (filename, data, mime_type)}, timeout_s=180.0
    )
    body = response.json()
    if response.status == 413:
        raise errors.OutOfLimits(f"The provider takes no upload of {len(data) / 1e6:.1f} MB; its limit is 50 MB.")
    _raise_for_status(response, body)
    for place in (read.field(body, "data"), body):
        for key in ("download_url", "url"):
            if read.is_url(url := read.field(place, key)):
                return Upload(url, UPLOAD_LIFETIME_S)
    raise read.outage(response, body)


def quote(edit: ProviderRequest) -> Flow[Quote | None]:
    """Return the price of this whole request, or None without a usable one (docs/providers/atlas.md#prices).

    A price of layers counts only if it covers the largest number of them.
    """
    if not all(reference.url or reference.data for reference in edit.references):
        return None
    response = yield HttpRequest("POST", "/api/v1/model/calculate", json=_body(edit))
    body = response.json()
    if not 200 <= response.status < 300 or not read.is_usd(read.field(body, "data", "currency")):
        return None
    usd = read.usd(read.field(body, "data", "price"))
    if usd is None or (edit.offer.operation is Operation.LAYERS and usd < _most_usd(edit)):
        return None
    return Quote(usd, exact=True)


def _most_usd(edit: ProviderRequest) -> Decimal:
    """Return the list price of the most images that a request may return."""
    return catalog.quote(edit.offer, edit.offer.max_outputs, edit.size, len(edit.references)).usd


def listing() -> Flow[ModelList]:
    """Return Atlas's list of models with their price per image; an error envelope is an outage, not an empty list."""
    response = yield HttpRequest("GET", "/api/v1/models")
    body = response.json()
    _raise_for_status(response, body, only=(401, 403, 429))
    data = read.field(body, "data")
    if not 200 <= response.status < 300 or not isinstance(data, list) or not data:
        raise read.outage(response, body)
    shown = [entry for entry in data if read.field(entry, "display_console") is not False]
    listed = [(model, entry) for entry in shown if read.is_ticket(model := read.field(entry, "model"))]
    return ModelList({model: read.usd(read.field(entry, "price", "actual", "base_price")) for model, entry in listed})


def balance() -> Flow[Decimal | None]:
    """Return the account's balance in US dollars, or None if the response has none."""
    response = yield HttpRequest("GET", "/public/v1/balance")
    body = response.json()
    _raise_for_status(response, body)
    available = read.field(body, "available")
    return read.decimal(read.field(available, "value")) if read.is_usd(read.field(available, "currency")) else None


PROVIDER = Provider(
    name="atlas",
    title="Atlas Cloud",
    key_env="ATLASCLOUD_API_KEY",
    rank=1,
    base_urls={"api": BaseUrl("ATLASCLOUD_BASE_URL", "https://api.atlascloud.ai"), "static": catalogue.STATIC},
    offers=offering.offers("atlas", FAMILIES, offering.PATH_TAILS),
    submit=submit,
    poll=poll,
    upload=upload,
    calls_back=True,
    find=find,
    finished=finished,
    quote=quote,
    charge=charge,
    listing=listing,
    balance=balance,
    catalogue=catalogue.catalogue,
    schema=catalogue.schema,
    result_lifetime_s=RESULT_LIFETIME_S,
    max_running=8,
    deadline_s=1800.0,
)
