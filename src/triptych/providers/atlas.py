"""Atlas Cloud: submit and poll, uploads, live quotes, and a history in which a lost submit is found again.

Facts are from wire notes A (models A.2, polling A.3, uploads A.4, the rest A.5, errors A.6). Rules: answers are hostile,
so every shape is tolerated and nothing but our own errors leaves; a body that carries a prediction outranks the HTTP
status around it; a poll ends only with the provider's own decision, whatever else comes back.
"""

from __future__ import annotations

import json
import logging
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any
from urllib.parse import quote as percent_escaped

from triptych import catalog, errors
from triptych.model import (
    Done,
    Edit,
    Hosted,
    Lifecycle,
    Offer,
    Operation,
    Output,
    Pending,
    Prediction,
    Price,
    Quote,
    Reference,
    Sizes,
)
from triptych.providers import Answer, BaseUrl, Call, Flow, Listing, Provider, refuse

log = logging.getLogger(__name__)

_DONE = frozenset({"completed", "succeeded"})
_FAILED = frozenset({"failed", "timeout", "canceled", "cancelled", "error"})
_RUNNING = frozenset({"created", "queued", "starting", "pending", "processing"})
_MODERATION_CODE = 1039
_MODERATION_WORDS = re.compile(r"moderat|sensitive|nsfw|content.?(policy|filter|safety)|unsafe|prohibited", re.I)

RESULT_LIFETIME_S = 24 * 3600.0
UPLOAD_LIFETIME_S = 20 * 3600.0
"""Uploads are temporary, "24 h" by one account (wire notes A.4); four hours are kept in hand."""
HISTORY_PAGES = 3
HISTORY_PAGE_ITEMS = 20
SKEW_S = 120.0
"""How far the provider's clock may be behind ours."""
LATEST_S = 900.0
"""How long after its submit a prediction may appear in the history and still be the one that was lost."""
MAX_OUTPUTS_READ = 32


# The models (wire notes A.2) -----------------------------------------------------------------------------------------

_TAILS = {
    Operation.GENERATE: "",
    Operation.GENERATE_SEQUENTIAL: "/sequential",
    Operation.EDIT: "/edit",
    Operation.EDIT_SEQUENTIAL: "/edit-sequential",
}
_AREA_MAX = 16_777_216
_FROM_2K = Sizes(presets=catalog.presets("2K", "4K"), min_area=3_686_400, max_area=_AREA_MAX)


@dataclass(frozen=True, slots=True)
class _Family:
    """What sets a family apart on Atlas; the field that carries the number of images was renamed once."""

    model: str
    usd: str
    sizes: Sizes
    max_references: int
    max_outputs: int
    formats: tuple[str, ...] = ()
    count_field: str = "max_images"
    lifecycle: Lifecycle = Lifecycle()


_FAMILIES: Mapping[str, _Family] = {
    "seedream-5.0-lite": _Family(
        model="bytedance/seedream-v5.0-lite",
        usd="0.032",
        sizes=Sizes(presets=catalog.presets("2K", "3K"), exact=True),
        max_references=14,
        max_outputs=15,
        formats=("png", "jpeg"),
        lifecycle=Lifecycle(
            deprecated="2026-11-24",
            source="a third party's claim about the origin (Volcengine Ark), not confirmed for resellers; wire notes 9",
        ),
    ),
    "seedream-4.5": _Family("bytedance/seedream-v4.5", "0.036", _FROM_2K, max_references=10, max_outputs=15),
    "seedream-4.0": _Family(
        model="bytedance/seedream-v4",
        usd="0.027",
        sizes=Sizes(presets=catalog.presets("1K", "2K", "4K"), min_area=921_600, max_area=_AREA_MAX),
        max_references=10,
        max_outputs=14,
    ),
    "seedream-4.7": _Family(
        "bytedance/seedream-v4.7", "0.03", _FROM_2K, max_references=10, max_outputs=14, count_field="num_images"
    ),
}


def _offers() -> tuple[Offer, ...]:
    return tuple(
        Offer(
            provider="atlas",
            family=name,
            operation=operation,
            endpoint=family.model + tail,
            price=Price(Decimal(family.usd), "2026-11-21", "wire notes A.2 (product pages)"),
            sizes=family.sizes,
            max_references=family.max_references if operation.edits else 0,
            max_outputs=family.max_outputs if operation.sequential else 1,
            formats=family.formats,
            names_count_in_prompt=operation.sequential,
            lifecycle=family.lifecycle,
        )
        for name, family in _FAMILIES.items()
        for operation, tail in _TAILS.items()
    )


# Submit --------------------------------------------------------------------------------------------------------------


def submit(edit: Edit) -> Flow[Pending | Done]:
    """Return the ticket of an accepted request.

    A single edit's field is `images` by one official client and `image` by another (wire notes A.2). A refusal over
    that field is surely not accepted, so with one reference the other spelling is tried once.
    """
    body = _body(edit)
    answer = yield _generate(body)
    if edit.offer.operation is Operation.EDIT and len(edit.references) == 1 and _about_the_image_field(answer):
        other = {("image" if key == "images" else key): value for key, value in body.items()}
        other["image"] = body["images"][0]
        second = yield _generate(other)
        if second.status not in (400, 422):
            answer = second
    return _accepted(answer)


def _generate(body: Mapping[str, Any]) -> Call:
    return Call("POST", "/api/v1/model/generateImage", json=body, repeatable=False, timeout_s=120.0)


def _body(edit: Edit) -> dict[str, Any]:
    """Return the flat body, with the model's own fields and no others."""
    offer = edit.offer
    body: dict[str, Any] = {"model": offer.endpoint, "prompt": edit.prompt}
    if offer.operation.edits:
        body["images"] = [_source(reference) for reference in edit.references]
    if offer.operation.sequential:
        family = _FAMILIES.get(offer.family)
        body[family.count_field if family else "max_images"] = edit.count
    if edit.size:
        body["size"] = f"{edit.size[0]}*{edit.size[1]}"
    if edit.format and offer.formats:
        body["output_format"] = edit.format
    return body


def _source(reference: Reference) -> str:
    if reference.url:
        return reference.url
    if reference.data is None:
        raise errors.UnreadableImage("A reference has neither a URL nor its bytes.")
    return f"data:{reference.mime_type};base64,{b64encode(reference.data).decode()}"


def _about_the_image_field(answer: Answer) -> bool:
    if answer.status not in (400, 422):
        return False
    text = _message(answer.json()).casefold()
    return re.search(r"\bimages?\b", text) is not None and re.search(
        r"missing|requir|unknown|unexpected|additional|unsupported|not (allowed|supported|defined)|field|propert", text
    ) is not None


def _accepted(answer: Answer) -> Pending:
    """Return the ticket of a submit's answer, or raise what it means (wire notes A.2, A.3, A.6)."""
    body = answer.json()
    said = _prediction(body)
    ticket = said.get("id")
    if said and _status(said) in _FAILED:
        raise _failure(answer, body, said)
    ok = 200 <= answer.status < 300
    if isinstance(ticket, str) and _is_ticket(ticket) and (ok or answer.status >= 500):
        urls = said.get("urls")
        url = urls.get("get") if isinstance(urls, dict) else None
        return Pending(ticket, url if isinstance(url, str) and _is_url(url) else None)
    if answer.status == 503 and isinstance(body, dict) and _message(body):
        message = f"The provider is busy and took nothing (HTTP 503: {errors.quoted(_message(body))})."
        raise errors.RateLimited(message, request_id=_request_id(answer, body))
    if answer.status in (408, 499):
        raise _outage(answer, body)
    _refuse(answer, body)
    raise errors.Outage(
        "The provider answered without a usable id; the request may have been accepted.",
        request_id=_request_id(answer, body),
    )


# Poll ----------------------------------------------------------------------------------------------------------------


def poll(ticket: str, poll_url: str | None) -> Flow[Pending | Done]:
    """Return how a prediction stands: still pending, or done with its frames in order.

    Raises: `Failed` or `Moderated`, the provider's decision; anything else (`Outage`, `KeyRejected`, `RateLimited`)
    says nothing about the prediction, and the caller asks again later.
    """
    answer = yield from _asked(ticket, poll_url)
    body = answer.json()
    said = _prediction(body)
    status = _status(said)
    if status in _FAILED:
        raise _failure(answer, body, said)
    if status in _DONE:
        return _finished(answer, body, said)
    if not status:
        if answer.status in (401, 403, 429):
            _refuse(answer, body)
        raise _outage(answer, body)
    if status not in _RUNNING:
        _log_odd_status(status)
    outputs = said.get("outputs")
    return Pending(ticket, poll_url, done=min(len(outputs), MAX_OUTPUTS_READ) if isinstance(outputs, list) else 0)


def charge(ticket: str, poll_url: str | None) -> Flow[Decimal | None]:
    """Return the charge of a finished prediction, which often arrives after its images; None while it is not there."""
    answer = yield from _asked(ticket, poll_url)
    return _usd(_prediction(answer.json()).get("price"))


def _asked(ticket: str, poll_url: str | None) -> Flow[Answer]:
    """Return the answer about a prediction: from the URL it came with if that is allowed and works, else the usual."""
    if poll_url and _is_url(poll_url):
        try:
            answer = yield Call("GET", poll_url)
        except errors.NotAllowed:
            pass
        else:
            if answer.status not in (400, 401, 403, 404, 405):
                return answer
    escaped = percent_escaped(ticket, safe="", errors="replace")
    if not escaped.strip("."):
        escaped = escaped.replace(".", "%2E")
    return (yield Call("GET", f"/api/v1/model/prediction/{escaped}"))


def _finished(answer: Answer, body: Any, said: Mapping[str, Any]) -> Done:
    raw = said.get("outputs") or said.get("output")
    items = raw if isinstance(raw, list) else [raw] if raw else []
    outputs = tuple(_output(item) for item in items[:MAX_OUTPUTS_READ])
    if not any(output.url for output in outputs):
        why = next((f": {output.error}" for output in outputs if output.error), ".")
        kind = errors.Moderated if _MODERATION_WORDS.search(why) else errors.Failed
        raise kind(
            f"The provider calls the prediction completed, but gave no image{why}", request_id=_request_id(answer, body)
        )
    return Done(outputs, charged_usd=_usd(said.get("price")), url_lifetime_s=RESULT_LIFETIME_S)


def _output(item: Any) -> Output:
    """Return one frame: a URL, an object that carries one, or why there is none."""
    url = item
    if isinstance(item, dict):
        url = next((item[key] for key in ("url", "download_url") if item.get(key)), None)
        if url is None and _message(item):
            return Output(error=errors.quoted(_message(item)))
    if isinstance(url, str) and _is_url(url):
        return Output(url=url)
    return Output(error="the provider gave no URL for this image")


def _failure(answer: Answer, body: Any, said: Mapping[str, Any]) -> errors.Failed:
    """Return the provider's decision against a prediction as an error of ours."""
    text = _message(said) or _message(body) or "no reason given"
    code = _int(said.get("error_code"))
    message = f"The provider reports the prediction as {errors.quoted(_status(said), 40)}: {errors.quoted(text)}."
    moderated = code == _MODERATION_CODE or (code is None and _MODERATION_WORDS.search(text) is not None)
    request_id = _request_id(answer, body)
    return (errors.Moderated if moderated else errors.Failed)(message, request_id=request_id)


@lru_cache(maxsize=64)
def _log_odd_status(status: str) -> None:
    """Log an unknown status, once each; it counts as still running (wire notes A.3)."""
    log.warning("atlas: the unknown status %s counts as still running", errors.quoted(status, 40))


# Find a lost submit --------------------------------------------------------------------------------------------------


def find(edit: Edit, prediction: Prediction, submitted_at: datetime, known: frozenset[str]) -> Flow[Pending | None]:
    """Return the submit whose answer was lost, looked up in the account's history, or None where it is not there.

    It has to carry the same model and every field that was sent, and lie between 120 s before and 15 min after the
    submit; of several the first one after the submit wins. Limit: two identical requests whose answers were both lost
    are told apart by time alone.

    Raises: `Outage`, `KeyRejected` or `RateLimited` when the history cannot be read: that is no "not there".
    """
    wanted = _comparable(_body(edit))
    sent_s = submitted_at.timestamp()
    found: list[tuple[float, str]] = []
    for page in range(1, HISTORY_PAGES + 1):
        answer = yield Call(
            "GET",
            "/api/v1/model/history",
            params={"no": page, "size": HISTORY_PAGE_ITEMS, "model": prediction.endpoint},
        )
        body = answer.json()
        data = body.get("data") if isinstance(body, dict) else None
        items = data.get("items") if isinstance(data, dict) else None
        if not isinstance(data, dict) or not isinstance(items, list):
            _refuse(answer, body, only=(401, 403, 429))
            raise _outage(answer, body)
        rows = [item for item in items if isinstance(item, dict)]
        for item in rows:
            ticket, at_s = item.get("ID") or item.get("id"), _seconds(item.get("createdAt"))
            if not isinstance(ticket, str) or not _is_ticket(ticket) or ticket in known or at_s is None:
                continue
            same = item.get("model") == prediction.endpoint and wanted == _comparable(_sent(item), of=wanted)
            if same and -SKEW_S <= at_s - sent_s <= LATEST_S:
                found.append((at_s, ticket))
        times_s = [at_s for item in rows if (at_s := _seconds(item.get("createdAt"))) is not None]
        total = _int(data.get("total"))
        past = total is not None and page * HISTORY_PAGE_ITEMS >= total
        if not rows or past or any(at_s < sent_s - SKEW_S for at_s in times_s):
            break
    if not found:
        return None
    after = [entry for entry in found if entry[0] >= sent_s - 5]
    return Pending((min(after) if after else max(found))[1])


def _sent(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request a history entry recorded: JSON in a string, its fields maybe nested under `input`."""
    raw = item.get("requestBody")
    body = Answer(200, {}, raw.encode(errors="replace")).json() if isinstance(raw, str) else raw
    if not isinstance(body, dict):
        return {}
    nested = body.get("input")
    return {**body, **nested} if isinstance(nested, dict) else body


def _comparable(body: Mapping[str, Any], of: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the fields that tell requests apart, spelled one way; with `of`, only the fields in it."""
    fields = {key: value for key, value in body.items() if key not in ("model", "image")}
    if "image" in body and "images" not in fields:
        fields["images"] = body["image"] if isinstance(body["image"], list) else [body["image"]]
    plain = {
        key: value if isinstance(value, list) else str(value).replace("x", "*") if key == "size" else str(value)
        for key, value in fields.items()
    }
    return {key: value for key, value in plain.items() if of is None or key in of}


# Uploads, quotes, the account ----------------------------------------------------------------------------------------


def upload(data: bytes, mime_type: str, filename: str) -> Flow[Hosted]:
    """Return the URL of an uploaded file on Atlas's storage (wire notes A.4; both answer shapes)."""
    answer = yield Call(
        "POST", "/api/v1/model/uploadMedia", files={"file": (filename, data, mime_type)}, timeout_s=180.0
    )
    body = answer.json()
    if answer.status == 413:
        raise errors.OutOfLimits(f"The provider takes no upload of {len(data) / 1e6:.1f} MB; its limit is 50 MB.")
    if 200 <= answer.status < 300 and isinstance(body, dict):
        for place in (body.get("data"), body):
            for key in ("download_url", "url"):
                url = place.get(key) if isinstance(place, dict) else None
                if isinstance(url, str) and _is_url(url):
                    return Hosted(url, UPLOAD_LIFETIME_S)
    _refuse(answer, body)
    raise _outage(answer, body)


def quote(edit: Edit) -> Flow[Quote | None]:
    """Return what Atlas says this whole request will cost, or None where it gives no usable price (wire notes A.5)."""
    if not all(reference.url or reference.data for reference in edit.references):
        return None
    answer = yield Call("POST", "/api/v1/model/calculate", json=_body(edit))
    body = answer.json()
    data = body.get("data") if isinstance(body, dict) else None
    if not 200 <= answer.status < 300 or not isinstance(data, dict):
        return None
    if str(data.get("currency") or "usd").casefold() not in ("usd", "$"):
        return None
    usd = _usd(data.get("price"))
    return None if usd is None else Quote(usd, exact=True)


def listing() -> Flow[Listing]:
    """Return the models Atlas lists now, with their price per image; an error envelope is an outage, not "none"."""
    answer = yield Call("GET", "/api/v1/models")
    body = answer.json()
    data = body.get("data") if isinstance(body, dict) else None
    if not 200 <= answer.status < 300 or not isinstance(data, list) or not data:
        _refuse(answer, body, only=(401, 403, 429))
        raise _outage(answer, body)
    prices: dict[str, Decimal | None] = {}
    for entry in data:
        if not isinstance(entry, dict) or entry.get("display_console") is False:
            continue
        price = entry.get("price")
        actual = price.get("actual") if isinstance(price, dict) else None
        if isinstance(entry.get("model"), str):
            prices[entry["model"][:200]] = _usd(actual.get("base_price")) if isinstance(actual, dict) else None
    return Listing(prices)


def balance() -> Flow[Decimal | None]:
    """Return the account's balance in US dollars, or None where the answer has none."""
    answer = yield Call("GET", "/public/v1/balance")
    body = answer.json()
    _refuse(answer, body)
    available = body.get("available") if isinstance(body, dict) else None
    if not isinstance(available, dict) or str(available.get("currency") or "usd").casefold() != "usd":
        return None
    return _decimal(available.get("value"))


# Reading answers -----------------------------------------------------------------------------------------------------


def _prediction(body: Any) -> Mapping[str, Any]:
    """Return the prediction in an answer, under `data` or flat; empty where there is none.

    Flat, only an object with an id is one: an error envelope may have a `status` of its own.
    """
    data = body.get("data") if isinstance(body, dict) else None
    if isinstance(data, dict):
        return data
    return body if isinstance(body, dict) and data is None and isinstance(body.get("id"), str) else {}


def _status(said: Mapping[str, Any]) -> str:
    status = said.get("status")
    return status.strip().casefold()[:80] if isinstance(status, str) else ""


def _message(body: Any) -> str:
    """Return the words of an error, wherever an answer keeps them; empty where it has none."""
    if isinstance(body, str):
        return body[:2000]
    for key in ("error", "msg", "message", "detail", "reason") if isinstance(body, dict) else ():
        value = body[key] if key in body else None
        if isinstance(value, dict):
            value = next((value[k] for k in ("message", "msg", "type", "code") if isinstance(value.get(k), str)), None)
        if isinstance(value, str) and value.strip():
            return value[:2000]
    return ""


def _request_id(answer: Answer, body: Any) -> str | None:
    header = next((value for key, value in answer.headers.items() if key.casefold() == "x-request-id"), None)
    own = body.get("request_id") if isinstance(body, dict) else None
    found = header or (own if isinstance(own, str) else "")
    return "".join(c for c in found if c.isascii() and c.isprintable())[:100] or None


def _refuse(answer: Answer, body: Any, only: tuple[int, ...] = ()) -> None:
    """Raise what an error answer means; a code in the body counts where HTTP says 200 (wire notes A.3, A.6)."""
    code = _int(body.get("code")) if isinstance(body, dict) else None
    status = code if 200 <= answer.status < 300 and code is not None and 400 <= code < 600 else answer.status
    if only and status not in only:
        return
    text = _message(body) or "no reason given"
    if status == 401:
        text = f"{text[:150]} [Atlas Cloud says 401 for a wrong path too: check ATLASCLOUD_BASE_URL as well as the key]"
    headers = {key.casefold(): value for key, value in answer.headers.items()}
    refuse(status, text, request_id=_request_id(answer, body), retry_after=headers.get("retry-after"))


def _outage(answer: Answer, body: Any) -> errors.Outage:
    text = _message(body)
    said = f"HTTP {answer.status}" + (f": {errors.quoted(text)}" if text else "" if body else ", not JSON")
    return errors.Outage(f"The provider gave no usable answer ({said}).", request_id=_request_id(answer, body))


def _is_ticket(text: str) -> bool:
    return re.fullmatch(r"[!-~]{1,200}", text) is not None and text.strip(".") != ""


def _is_url(text: str) -> bool:
    return re.fullmatch(r"https?://[!-~]{1,8000}", text) is not None


def _int(value: Any) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _decimal(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)) > 40:
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number) < 10**9 else None


def _usd(value: Any) -> Decimal | None:
    """Return a price; nothing and zero both mean that it is not known (yet)."""
    number = _decimal(value)
    return number if number is not None and number > 0 else None


def _seconds(value: Any) -> float | None:
    number = _decimal(value)
    return None if number is None else float(number)


PROVIDER = Provider(
    name="atlas",
    title="Atlas Cloud",
    key_env="ATLASCLOUD_API_KEY",
    base_urls={"api": BaseUrl("ATLASCLOUD_BASE_URL", "https://api.atlascloud.ai")},
    offers=_offers(),
    submit=submit,
    poll=poll,
    upload=upload,
    find=find,
    quote=quote,
    charge=charge,
    listing=listing,
    balance=balance,
    result_lifetime_s=RESULT_LIFETIME_S,
    max_running=8,
    deadline_s=1800.0,
)
