"""WaveSpeedAI: submit to the model's path and poll, ticket uploads, live prices, and a history of predictions.

The facts are in docs/providers/wavespeed.md#models and the headings after it, the models in `_wavespeed_models`; areas
and reference limits are the origin's (docs/providers/README.md#sizes), because WaveSpeedAI passes requests on to it.
Rules: every shape of response is tolerated; only errors of ours are raised. A poll ends only with the provider's own
decision.

No request returns the charge of a prediction. There is no idempotency key: a lost submit is looked for in the history,
which shows requests with `include_inputs` (the official CLI 0.2.2 uses it).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote as percent_escaped

from triptych.core import errors
from triptych.core.models import Done, Pending, Prediction, ProviderRequest, Upload
from triptych.core.offers import Operation, Quote
from triptych.providers import (
    BaseUrl,
    Flow,
    HttpRequest,
    HttpResponse,
    ModelList,
    Provider,
    ReferenceLimits,
    SubmitTimes,
    _live,
)
from triptych.providers import _history as history
from triptych.providers import _offers as offering
from triptych.providers import _reading as read
from triptych.providers import _wavespeed_catalogue as catalogue
from triptych.providers import _wavespeed_models as models

_DONE = frozenset({"completed", "succeeded"})
_FAILED = frozenset({"failed", "cancelled", "canceled", "timeout", "deleted", "error"})
_RUNNING = frozenset({"created", "queued", "pending", "starting", "processing"})
_MODERATION_CODE = 1200
_CODES: Mapping[int, str] = {
    1400: "a parameter is missing",
    1401: "a parameter is invalid",
    1402: "an input image could not be read",
    1403: "the execution failed",
    5000: "an internal error",
    5003: "an internal error",
}

RESULT_LIFETIME_S = 24 * 3600.0
"""The lifetime of result URLs is only documented as "temporary"; a day is well below the history's seven."""
UPLOAD_LIFETIME_S = 6 * 24 * 3600.0
"""Uploads are kept for seven days (docs/providers/wavespeed.md#uploads); one day is the margin."""
UPLOAD_LIMIT_BYTES = 200 * 1024 * 1024
HISTORY_PAGE_ITEMS = 100
HISTORY_MARGIN = timedelta(days=1)
"""The history is read from so long before the submit until so long after now, because either clock may be wrong."""
HISTORY_KEPT_S = 6 * 24 * 3600.0
"""The history goes back seven days by the documentation; one day is the margin."""
_HOP_HEADERS = frozenset({"host", "connection", "content-length", "transfer-encoding", "te", "upgrade"})


# Submit --------------------------------------------------------------------------------------------------------------


def submit(edit: ProviderRequest) -> Flow[Pending | Done]:
    """Return the ticket of an accepted request."""
    path = edit.offer.live.path if edit.offer.live else f"/api/v3/{edit.offer.endpoint}"
    called = {"webhook": edit.callback_url} if edit.callback_url else {}
    response = yield HttpRequest("POST", path, json=_body(edit), params=called, repeatable=False, timeout_s=120.0)
    body = response.json()
    prediction = read.prediction(body)
    if read.status(prediction) in _FAILED:
        raise _failure(response, body, prediction)
    if pending := read.accepted_ticket(response, prediction):
        return pending
    read.raise_for_submit(response, body, _error_code(body))
    raise read.no_ticket(response, body)


def _body(edit: ProviderRequest) -> dict[str, Any]:
    """Return the model's own fields and no others; the model itself is in the path."""
    offer = edit.offer
    if offer.live:
        return _live.body(edit)
    body: dict[str, Any] = {"prompt": edit.prompt}
    if offer.operation is Operation.LAYERS:
        body["image"] = read.reference_uri(edit.references[0])
    elif offer.operation.edits:
        body["images"] = [read.reference_uri(reference) for reference in edit.references]
    if offer.operation.sequential:
        body["max_images"] = edit.count
    family = models.FAMILIES.get(offer.family)
    if family and family.by_ratio:
        body |= _geometry(edit)
    elif edit.size:
        body["size"] = f"{edit.size[0]}*{edit.size[1]}"
    if image_format := offering.image_format(edit):
        body["output_format"] = image_format
    offering.set_params(body, edit)
    return body


def _geometry(edit: ProviderRequest) -> dict[str, str]:
    """Return the ratio and the tier of a request. Without a size the model chooses the ratio of the default tier."""
    if not edit.size:
        return {"resolution": edit.offer.sizes.default.lower()}
    ratio, tier = offering.ratio_and_tier(edit.offer, edit.size)
    resolution = {"resolution": tier.lower()}
    return resolution if edit.offer.operation is Operation.LAYERS else {"aspect_ratio": ratio, **resolution}


def _error_code(body: Any) -> str:
    """Return the provider's own error code; an empty string without one (docs/providers/wavespeed.md#errors)."""
    code = read.field(body, "error_code")
    return "content moderation" if read.integer(code) == _MODERATION_CODE else code if isinstance(code, str) else ""


# Poll ----------------------------------------------------------------------------------------------------------------


def poll(ticket: str, poll_url: str | None) -> Flow[Pending | Done]:
    """Return the state of a prediction: pending, or done with its images in order.

    Raises: `Failed` or `Moderated` for the provider's decision. Any other error says nothing about the prediction.
    """
    response = yield from read.poll_response(poll_url, _path(ticket))
    body = response.json()
    prediction = read.prediction(body)
    status = read.status(prediction)
    if status in _FAILED:
        raise _failure(response, body, prediction)
    if status in _DONE:
        return _finished(response, body, prediction)
    if not status:
        read.raise_for_status(response, body, only=(401, 403, 429))
        raise read.outage(response, body)
    if status not in _RUNNING:
        read.log_odd_status("wavespeed", status)
    return Pending(ticket, poll_url, done=read.count(prediction.get("outputs")))


def _path(ticket: str) -> str:
    return f"/api/v3/predictions/{percent_escaped(ticket, safe='', errors='replace')}/result"


def _finished(response: HttpResponse, body: Any, prediction: Mapping[str, Any]) -> Done:
    outputs = tuple(read.image(item) for item in read.items(prediction.get("outputs")))
    if not any(output.url for output in outputs):
        flags = prediction.get("has_nsfw_contents")
        flagged = isinstance(flags, list) and True in flags
        message = "The provider reports the prediction as completed, with no image."
        kind = errors.Moderated if flagged else errors.Failed
        raise kind(message, request_id=read.request_id(response, body))
    if str(prediction.get("model")).endswith("/layer-decomposition"):
        outputs = read.layered([None] * len(outputs), outputs)
    return Done(outputs, url_lifetime_s=RESULT_LIFETIME_S)


def _failure(response: HttpResponse, body: Any, prediction: Mapping[str, Any]) -> errors.Failed:
    """Return the error for the provider's decision against a prediction."""
    code = read.integer(prediction.get("code"))
    known = f" [task code {code}{': ' + _CODES[code] if code in _CODES else ''}]" if code else ""
    text = read.message(prediction) or "no reason given"
    moderated = code == _MODERATION_CODE or (not code and read.MODERATION_WORDS.search(text) is not None)
    status = errors.quoted(read.status(prediction), 40)
    message = f"The provider reports the prediction as {status}: {errors.quoted(text)}{known}."
    return (errors.Moderated if moderated else errors.Failed)(message, request_id=read.request_id(response, body))


# The history ---------------------------------------------------------------------------------------------------------


def find(
    edit: ProviderRequest, prediction: Prediction, sent: SubmitTimes, known: frozenset[str]
) -> Flow[Pending | None]:
    """Return the submit whose response was lost, from the account's history; None if it surely is not there.

    It must have the same model and show every field that was sent. The history covers the whole account, so an entry
    without a request identifies nothing.
    Raises: `Unclear` if the history does not decide it; `Outage`, `KeyRejected` or `RateLimited` if it cannot be read.
    """
    body = _body(edit)
    filters = {
        "page_size": HISTORY_PAGE_ITEMS,
        "created_after": _iso(sent.at - HISTORY_MARGIN),
        "created_before": _iso(sent.at + timedelta(seconds=sent.oldest_s) + HISTORY_MARGIN),
        "include_inputs": True,
        "model": prediction.endpoint,
    }

    def page(number: int) -> Flow[history.ListPage]:
        response = yield HttpRequest("POST", "/api/v3/predictions", json={"page": number, **filters})
        listed = response.json()
        items = read.field(listed, "data", "items")
        if not isinstance(items, list):
            read.raise_for_status(response, listed, only=(401, 403, 429))
            raise read.outage(response, listed)
        if abs(read.sent_s(sent, response) - sent.at.timestamp()) > HISTORY_MARGIN.total_seconds() / 2:
            raise errors.Unclear("The provider's clock and this machine's are hours apart.")
        entries = []
        for item in items:
            same = history.same_model(prediction.endpoint, read.field(item, "model"))
            shown = read.field(item, "inputs") or read.field(item, "input")
            same = history.same_request(body, shown) if same is None else same
            entries.append(history.entry(read.field(item, "id"), read.field(item, "created_at"), same))
        return history.ListPage(response, entries)

    return (yield from history.search(page, sent, known, page_items=HISTORY_PAGE_ITEMS, kept_s=HISTORY_KEPT_S))


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


# Uploads (docs/providers/wavespeed.md#uploads) ------------------------------------------------------------------------


def upload(data: bytes, mime_type: str, filename: str) -> Flow[Upload]:
    """Return the URL of an uploaded file: by ticket and PUT, or by the older form if that fails."""
    if len(data) > UPLOAD_LIMIT_BYTES:
        raise _too_large(data)
    request_body = {"filename": filename, "size": len(data), "content_type": mime_type}
    response = yield HttpRequest("POST", "/api/v3/media/uploads", json=request_body)
    body = response.json()
    if response.status == 413:
        raise _too_large(data)
    read.raise_for_status(response, body, only=(401, 402, 403, 429))
    if ticket := _ticket(read.field(body, "data")):
        url, headers, download_url = ticket
        try:
            put = yield HttpRequest("PUT", url, content=data, headers=headers, authorize=False, timeout_s=180.0)
        except (errors.NotAllowed, errors.Outage):
            pass  # The ticket's host cannot be reached from here; the provider's own can.
        else:
            if 200 <= put.status < 300:
                return Upload(download_url, UPLOAD_LIFETIME_S)
    files = {"file": (filename, data, mime_type)}
    response = yield HttpRequest("POST", "/api/v3/media/upload/binary", files=files, timeout_s=180.0)
    body = response.json()
    if response.status == 413:
        raise _too_large(data)
    read.raise_for_status(response, body)
    if read.is_url(url := read.field(body, "data", "download_url")):
        return Upload(url, UPLOAD_LIFETIME_S)
    raise read.outage(response, body)


def _ticket(data: Any) -> tuple[str, dict[str, str], str] | None:
    """Return the URL to PUT to, the exact headers, and the file's URL; None for any other kind of ticket."""
    method, url = read.field(data, "upload", "method"), read.field(data, "upload", "url")
    given = read.field(data, "upload", "headers") or {}
    download_url = read.field(data, "download_url")
    if not (isinstance(method, str) and method.upper() == "PUT" and read.is_url(url) and read.is_url(download_url)):
        return None
    if not isinstance(given, dict) or len(given) > 40:
        return None
    headers = {
        name: value
        for name, value in given.items()
        if isinstance(value, str)
        and re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", name)
        and re.fullmatch(r"[!-~](?:[ -~]{0,3998}[!-~])?", value)
        and name.casefold() not in _HOP_HEADERS
    }
    return url, headers, download_url


def _too_large(data: bytes) -> errors.OutOfLimits:
    return errors.OutOfLimits(f"The provider takes no upload of {len(data) / 1e6:.1f} MB; its limit is 200 MB.")


# Prices, models, the account (docs/providers/wavespeed.md#prices) -----------------------------------------------------


def quote(edit: ProviderRequest) -> Flow[Quote | None]:
    """Return WaveSpeedAI's price of this whole request, or None without a usable one."""
    if not all(reference.url or reference.data for reference in edit.references):
        return None
    request_body = {"model_id": edit.offer.endpoint, "inputs": _body(edit)}
    response = yield HttpRequest("POST", "/api/v3/model/price", json=request_body)
    price = read.field(response.json(), "data")
    if not 200 <= response.status < 300 or not read.is_usd(read.field(price, "currency")):
        return None
    usd = read.usd(read.field(price, "discounted_price")) or read.usd(read.field(price, "price"))
    return None if usd is None else Quote(usd, exact=True)


def listing() -> Flow[ModelList]:
    """Return the listed models with their base price; an error envelope is an outage, not an empty list.

    The base price of a layer job is that of its most images, so each image costs its share.
    """
    response = yield HttpRequest("GET", "/api/v3/models")
    body = response.json()
    read.raise_for_status(response, body, only=(401, 403, 429))
    data = read.field(body, "data")
    if not 200 <= response.status < 300 or not isinstance(data, list) or not data:
        raise read.outage(response, body)
    named = [(model, entry) for entry in data if read.is_ticket(model := read.field(entry, "model_id"))]
    most = {offer.endpoint: offer.max_outputs for offer in PROVIDER.offers if offer.operation is Operation.LAYERS}
    prices = {model: read.usd(read.field(entry, "base_price")) for model, entry in named}
    return ModelList({model: usd and errors.six_decimals(usd / most.get(model, 1)) for model, usd in prices.items()})


def balance() -> Flow[Decimal | None]:
    """Return the account's balance in US dollars, or None if the response has none."""
    response = yield HttpRequest("GET", "/api/v3/balance")
    body = response.json()
    read.raise_for_status(response, body)
    return read.decimal(read.field(body, "data", "balance"))


PROVIDER = Provider(
    name="wavespeed",
    title="WaveSpeedAI",
    key_env="WAVESPEED_API_KEY",
    rank=2,
    base_urls={"api": BaseUrl("WAVESPEED_BASE_URL", "https://api.wavespeed.ai")},
    offers=models.offers(),
    submit=submit,
    poll=poll,
    upload=upload,
    calls_back=True,
    find=find,
    quote=quote,
    listing=listing,
    balance=balance,
    catalogue=catalogue.catalogue,
    reference_limits=ReferenceLimits(max_bytes=10_000_000, max_pixels=36_000_000),
    result_lifetime_s=RESULT_LIFETIME_S,
)
