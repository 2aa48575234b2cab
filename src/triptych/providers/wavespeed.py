"""WaveSpeedAI: submit to the model's path and poll, ticket uploads, live prices, and a history of predictions.

The facts are in docs/providers/wavespeed.md#models and the headings after it; areas and reference limits are the
origin's (docs/providers/README.md#sizes), which this provider hands requests on to. Rules: every shape of answer is
tolerated and nothing but our own errors leaves; a poll ends only with the provider's own decision.

Nothing tells the charge of a prediction. There is no idempotency key: a lost submit is looked for
in the history, which shows requests where it is asked to (`include_inputs`; the official CLI 0.2.2 does so).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote as percent_escaped

from triptych.catalog import backgrounds, presets
from triptych.core import errors
from triptych.core.models import Done, Offer, Pending, Prediction, ProviderRequest, Quote, Size, Sizes, Upload
from triptych.providers import BaseUrl, Flow, HttpRequest, HttpResponse, Listing, Provider, ReferenceLimits, Sent
from triptych.providers import _history as history
from triptych.providers import _offers as offering
from triptych.providers import _reading as read
from triptych.providers._offers import Family

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
"""How long result URLs live is not stated, "temporary" is; a day is on the safe side of the history's seven."""
UPLOAD_LIFETIME_S = 6 * 24 * 3600.0
"""Uploads are kept for seven days (docs/providers/wavespeed.md#uploads); one is kept in hand."""
UPLOAD_LIMIT_BYTES = 200 * 1024 * 1024
HISTORY_PAGE_ITEMS = 100
HISTORY_MARGIN = timedelta(days=1)
"""The history is asked for from so long before the submit until so long after now, whichever clock is wrong."""
HISTORY_KEPT_S = 6 * 24 * 3600.0
"""The history goes back seven days by the documentation; one is kept in hand."""
_HOP_HEADERS = frozenset({"host", "connection", "content-length", "transfer-encoding", "te", "upgrade"})


# The models (docs/providers/wavespeed.md#models) ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Family(Family):
    """A family as WaveSpeedAI's model pages show it."""

    priced_by: str = "the provider's model pages"
    max_references: int = 10
    by_ratio: bool = False
    """The request carries `aspect_ratio` and `resolution` in place of `size`."""


_RATIOS = ("1:1", "1:2", "2:1", "1:3", "3:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "9:21", "21:9")
_TIERS_PX = {"1K": 1024**2, "1.5K": 1536**2, "2K": 2048**2, "3K": 3840 * 2160}


def _by_ratio(*words: str) -> Sizes:
    """Return the sizes of these tiers, one for each ratio, and no others.

    The pixels are the origin's where it has the ratio; else they are inferred from the tier's area, and 3K's (about
    8 MP) from its only published size, 3840x2160.
    """
    return Sizes(presets={word: {ratio: _pixels(word, ratio) for ratio in _RATIOS} for word in words}, exact=True)


def _pixels(word: str, ratio: str) -> Size:
    if found := presets.SINGLE.get(word, {}).get(ratio):
        return found
    wide, high = (int(side) for side in ratio.split(":"))
    width, height = (
        round(math.sqrt(_TIERS_PX[word] * one / other) / 16) * 16 for one, other in ((wide, high), (high, wide))
    )
    return width, height


_FAMILIES: Mapping[str, _Family] = {
    "seedream-5.0-lite": _Family(
        "bytedance/seedream-v5.0-lite",
        "0.035",
        offering.sized("2K", "3K", "4K", least=3_686_400),
        "the provider's documentation",
        formats=("png", "jpeg"),
    ),
    "seedream-4.5": _Family("bytedance/seedream-v4.5", "0.04", offering.sized("2K", "4K", least=3_686_400)),
    "seedream-4.0": _Family("bytedance/seedream-v4", "0.027", offering.sized("1K", "2K", "4K", least=921_600)),
    "seedream-5.5": _Family(
        "bytedance/seedream-v5.5",
        by_ratio=True,
        transparency="documented",
        priced_by="the origin's list price; 3K is assumed at twice 2K. The provider's price call counts",
        **{
            **offering.V5_5,
            "sizes": _by_ratio("1K", "1.5K", "2K", "3K"),
            "above": ((offering.AREA_BOUND, "0.035"), (4_624_220, "0.07")),
        },
    ),
    "seedream-5.0-pro": _Family(
        "bytedance/seedream-v5.0-pro",
        by_ratio=True,
        priced_by="a layer job's price for 17 images; references as at the origin",
        **{**offering.V5_PRO, "sizes": _by_ratio("1K", "1.5K", "2K")},
    ),
    "seedream-5.0-flash": _Family(
        "bytedance/seedream-v5.0-flash",
        by_ratio=True,
        priced_by="a layer job's price for 17 images",
        **{**offering.V5_FLASH, "sizes": _by_ratio("1K", "1.5K", "2K"), "usd": "0.027"},
    ),
}


# Submit --------------------------------------------------------------------------------------------------------------


def submit(edit: ProviderRequest) -> Flow[Pending | Done]:
    """Return the ticket of an accepted request."""
    call = HttpRequest("POST", f"/api/v3/{edit.offer.endpoint}", json=_body(edit), repeatable=False, timeout_s=120.0)
    answer = yield call
    body = answer.json()
    said = read.prediction(body)
    if read.status(said) in _FAILED:
        raise _failure(answer, body, said)
    if pending := read.accepted(answer, said):
        return pending
    read.raise_unaccepted(answer, body, _error_code(body))
    raise read.no_ticket(answer, body)


def _body(edit: ProviderRequest) -> dict[str, Any]:
    """Return the model's own fields and no others; the model itself is in the path."""
    offer = edit.offer
    body: dict[str, Any] = {"prompt": edit.prompt}
    if offer.operation.edits:
        body["images"] = [read.source(reference) for reference in edit.references]
    if offer.operation.sequential:
        body["max_images"] = edit.count
    family = _FAMILIES.get(offer.family)
    if edit.size and family and family.by_ratio:
        body["aspect_ratio"], body["resolution"] = _tier(offer, edit.size)
    elif edit.size:
        body["size"] = f"{edit.size[0]}*{edit.size[1]}"
    if offer.formats and (image_format := edit.format or offer.default_format):
        body["output_format"] = image_format
    if backgrounds.is_sent(offer, edit.prompt):
        body["background"] = "transparent"
    return body


def _tier(offer: Offer, size: Size) -> tuple[str, str]:
    """Return a size as a ratio and a tier in lower case.

    Raises: `errors.OutOfLimits` for a size that is none of the offer's.
    """
    for word, row in offer.sizes.presets.items():
        for ratio, pixels in row.items():
            if pixels == size:
                return ratio, word.lower()
    raise errors.OutOfLimits(f"{offer.endpoint} takes no {size[0]}x{size[1]}; list_models shows its sizes.")


def _error_code(body: Any) -> str:
    """Return the provider's own word or number for an error, if it gives one (docs/providers/wavespeed.md#errors)."""
    code = read.at(body, "error_code")
    return "content moderation" if read.integer(code) == _MODERATION_CODE else code if isinstance(code, str) else ""


# Poll ----------------------------------------------------------------------------------------------------------------


def poll(ticket: str, poll_url: str | None) -> Flow[Pending | Done]:
    """Return how a prediction stands: still pending, or done with its frames in order.

    Raises: `Failed` or `Moderated`, the provider's decision; anything else says nothing about the prediction.
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
        read.raise_for(answer, body, only=(401, 403, 429))
        raise read.outage(answer, body)
    if status not in _RUNNING:
        read.log_odd_status("wavespeed", status)
    return Pending(ticket, poll_url, done=read.count(said.get("outputs")))


def _path(ticket: str) -> str:
    return f"/api/v3/predictions/{percent_escaped(ticket, safe='', errors='replace')}/result"


def _finished(answer: HttpResponse, body: Any, said: Mapping[str, Any]) -> Done:
    outputs = tuple(read.frame(item) for item in read.items(said.get("outputs")))
    if not any(output.url for output in outputs):
        flags = said.get("has_nsfw_contents")
        flagged = isinstance(flags, list) and True in flags
        message = "The provider reports the prediction as completed, with no image."
        kind = errors.Moderated if flagged else errors.Failed
        raise kind(message, request_id=read.request_id(answer, body))
    return Done(outputs, url_lifetime_s=RESULT_LIFETIME_S)


def _failure(answer: HttpResponse, body: Any, said: Mapping[str, Any]) -> errors.Failed:
    """Return the provider's decision against a prediction as an error of ours."""
    code = read.integer(said.get("code"))
    known = f" [task code {code}{': ' + _CODES[code] if code in _CODES else ''}]" if code else ""
    text = read.message(said) or "no reason given"
    moderated = code == _MODERATION_CODE or (not code and read.MODERATION_WORDS.search(text) is not None)
    message = (
        f"The provider reports the prediction as {errors.quoted(read.status(said), 40)}: {errors.quoted(text)}{known}."
    )
    return (errors.Moderated if moderated else errors.Failed)(message, request_id=read.request_id(answer, body))


# The history ---------------------------------------------------------------------------------------------------------


def find(edit: ProviderRequest, prediction: Prediction, sent: Sent, known: frozenset[str]) -> Flow[Pending | None]:
    """Return the submit whose answer was lost, looked up in the account's history; None where it is surely not there.

    It has to be of the same model and show every field that was sent. The history is the whole account's, so what shows
    no request is nobody's in particular.
    Raises: `Unclear` where the history does not tell; `Outage`, `KeyRejected` or `RateLimited` when it cannot be read.
    """
    body = _body(edit)
    asked = {
        "page_size": HISTORY_PAGE_ITEMS,
        "created_after": _iso(sent.at - HISTORY_MARGIN),
        "created_before": _iso(sent.at + timedelta(seconds=sent.oldest_s) + HISTORY_MARGIN),
        "include_inputs": True,
        "model": prediction.endpoint,
    }

    def page(number: int) -> Flow[history.Page]:
        answer = yield HttpRequest("POST", "/api/v3/predictions", json={"page": number, **asked})
        told = answer.json()
        items = read.at(told, "data", "items")
        if not isinstance(items, list):
            read.raise_for(answer, told, only=(401, 403, 429))
            raise read.outage(answer, told)
        if abs(read.sent_s(sent, answer) - sent.at.timestamp()) > HISTORY_MARGIN.total_seconds() / 2:
            raise errors.Unclear("The provider's clock and this machine's are hours apart.")
        entries = []
        for item in items:
            same = history.same_model(prediction.endpoint, read.at(item, "model"))
            shown = read.at(item, "inputs") or read.at(item, "input")
            same = history.same_request(body, shown) if same is None else same
            entries.append(history.entry(read.at(item, "id"), read.at(item, "created_at"), same))
        return history.Page(answer, entries)

    return (yield from history.look(page, sent, known, page_items=HISTORY_PAGE_ITEMS, kept_s=HISTORY_KEPT_S))


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


# Uploads (docs/providers/wavespeed.md#uploads) ------------------------------------------------------------------------


def upload(data: bytes, mime_type: str, filename: str) -> Flow[Upload]:
    """Return the URL of an uploaded file: by ticket and PUT, or by the older form where that does not work."""
    if len(data) > UPLOAD_LIMIT_BYTES:
        raise _too_large(data)
    asked = {"filename": filename, "size": len(data), "content_type": mime_type}
    answer = yield HttpRequest("POST", "/api/v3/media/uploads", json=asked)
    body = answer.json()
    if answer.status == 413:
        raise _too_large(data)
    read.raise_for(answer, body, only=(401, 402, 403, 429))
    if ticket := _ticket(read.at(body, "data")):
        url, headers, download_url = ticket
        try:
            put = yield HttpRequest("PUT", url, content=data, headers=headers, authorize=False, timeout_s=180.0)
        except (errors.NotAllowed, errors.Outage):
            pass  # The ticket's host cannot be reached from here; the provider's own can.
        else:
            if 200 <= put.status < 300:
                return Upload(download_url, UPLOAD_LIFETIME_S)
    files = {"file": (filename, data, mime_type)}
    answer = yield HttpRequest("POST", "/api/v3/media/upload/binary", files=files, timeout_s=180.0)
    body = answer.json()
    if answer.status == 413:
        raise _too_large(data)
    read.raise_for(answer, body)
    if read.is_url(url := read.at(body, "data", "download_url")):
        return Upload(url, UPLOAD_LIFETIME_S)
    raise read.outage(answer, body)


def _ticket(told: Any) -> tuple[str, dict[str, str], str] | None:
    """Return where to PUT, with exactly which headers, and the file's URL then; None for anything else than a PUT."""
    method, url = read.at(told, "upload", "method"), read.at(told, "upload", "url")
    given = read.at(told, "upload", "headers") or {}
    download_url = read.at(told, "download_url")
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
    """Return what WaveSpeedAI says this whole request will cost, or None where it gives no usable price."""
    if not all(reference.url or reference.data for reference in edit.references):
        return None
    asked = {"model_id": edit.offer.endpoint, "inputs": _body(edit)}
    answer = yield HttpRequest("POST", "/api/v3/model/price", json=asked)
    told = read.at(answer.json(), "data")
    if not 200 <= answer.status < 300 or not read.in_dollars(read.at(told, "currency")):
        return None
    usd = read.usd(read.at(told, "discounted_price")) or read.usd(read.at(told, "price"))
    return None if usd is None else Quote(usd, exact=True)


def listing() -> Flow[Listing]:
    """Return the models listed now, with their base price; an error envelope is an outage, not "none"."""
    answer = yield HttpRequest("GET", "/api/v3/models")
    body = answer.json()
    read.raise_for(answer, body, only=(401, 403, 429))
    data = read.at(body, "data")
    if not 200 <= answer.status < 300 or not isinstance(data, list) or not data:
        raise read.outage(answer, body)
    named = [(model, entry) for entry in data if read.is_ticket(model := read.at(entry, "model_id"))]
    return Listing({model: read.usd(read.at(entry, "base_price")) for model, entry in named})


def balance() -> Flow[Decimal | None]:
    """Return the account's balance in US dollars, or None where the answer has none."""
    answer = yield HttpRequest("GET", "/api/v3/balance")
    body = answer.json()
    read.raise_for(answer, body)
    return read.decimal(read.at(body, "data", "balance"))


PROVIDER = Provider(
    name="wavespeed",
    title="WaveSpeedAI",
    key_env="WAVESPEED_API_KEY",
    base_urls={"api": BaseUrl("WAVESPEED_BASE_URL", "https://api.wavespeed.ai")},
    offers=offering.offers("wavespeed", _FAMILIES, offering.PATH_TAILS),
    submit=submit,
    poll=poll,
    upload=upload,
    find=find,
    quote=quote,
    listing=listing,
    balance=balance,
    reference_limits=ReferenceLimits(max_bytes=10_000_000, max_pixels=36_000_000),
    result_lifetime_s=RESULT_LIFETIME_S,
)
