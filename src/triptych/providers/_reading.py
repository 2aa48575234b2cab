"""Read a provider's responses. They may be hostile, of any shape, and hold any text.

Rules: only errors of ours are raised. Text is bounded. A field of the wrong type counts as missing. Several providers
share this file, so it knows none of them.
"""

from __future__ import annotations

import logging
import re
from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from triptych.core import errors
from triptych.core.models import Layer, Pending, Reference, ReturnedImage
from triptych.core.text import line
from triptych.providers import Flow, HttpRequest, HttpResponse, SubmitTimes, refuse

log = logging.getLogger(__name__)

MESSAGE_READ_CHARS = 2000
MAX_OUTPUTS = 128
"""The most images of a response that are read."""
MODERATION_WORDS = re.compile(r"moderat|sensitive|nsfw|content.?(policy|filter|safety)|unsafe|prohibited", re.I)
"""Words of a content filter's refusal, for responses without a code."""
NO_FUNDS_WORDS = re.compile(
    r"(insufficient|not.?enough|exhaust\w*|\blow).{0,20}(balance|credit|fund|quota)|overdue|arrear|top.?up|recharge",
    re.I,
)
"""Words of a refusal for lack of money, for responses whose status does not show it."""


def field(body: Any, *keys: str) -> Any:
    """Return the value under nested keys, or None if one is missing."""
    for key in keys:
        body = body.get(key) if isinstance(body, dict) else None
    return body


def parsed(text: Any) -> Any:
    """Return the JSON in a string; a value that is no string is returned as it is."""
    return HttpResponse(200, {}, text.encode(errors="replace")).json() if isinstance(text, str) else text


def message(body: Any) -> str:
    """Return the message of an error, from any of the usual fields; an empty string without one."""
    if isinstance(body, str):
        return body[:MESSAGE_READ_CHARS]
    for key in ("error", "msg", "message", "detail", "reason"):
        value = field(body, key)
        if isinstance(value, dict):
            value = next((value[k] for k in ("message", "msg", "type", "code") if isinstance(value.get(k), str)), None)
        if isinstance(value, str) and value.strip():
            return value[:MESSAGE_READ_CHARS]
    return ""


def header(response: HttpResponse, name: str) -> str | None:
    return next((value for key, value in response.headers.items() if key.casefold() == name), None)


def request_id(response: HttpResponse, body: Any) -> str | None:
    """Return the request id for the provider's support: from the headers, else from the body."""
    own = field(body, "request_id") or field(body, "error", "request_id")
    named = (value for key, value in response.headers.items() if key.casefold().endswith("-request-id"))
    found = header(response, "x-request-id") or next(named, "") or (own if isinstance(own, str) else "")
    return "".join(c for c in found[:1000] if c.isascii() and c.isprintable())[:100] or None


def sent_s(sent: SubmitTimes, response: HttpResponse) -> float:
    """Return when a request left, in UTC seconds: by the `Date` of the response, else by our own clock."""
    from email.utils import parsedate_to_datetime

    try:
        now = parsedate_to_datetime(header(response, "date") or "")
        return (now if now.tzinfo else now.replace(tzinfo=UTC)).timestamp() - sent.age_s
    except (ValueError, TypeError, IndexError, OverflowError):
        return sent.at.timestamp()


def effective_status(response: HttpResponse, body: Any) -> int:
    """Return the status that a response means: an error code in the body replaces a 2xx."""
    code = integer(field(body, "code"))
    return code if 200 <= response.status < 300 and code is not None and 400 <= code < 600 else response.status


def raise_for_status(response: HttpResponse, body: Any, *, only: Collection[int] = (), hint_401: str = "") -> None:
    """Raise the error that a response means (see `refuse`), or only those with a status in `only`; return for a
    success."""
    status = effective_status(response, body)
    if only and status not in only:
        return
    text = message(body) or "no reason given"
    if status == 401 and hint_401:
        text = f"{text[:150]} [{hint_401}]"
    refuse(status, text, request_id=request_id(response, body), retry_after=header(response, "retry-after"))


def raise_for_submit(response: HttpResponse, body: Any, code: str = "") -> None:
    """Raise the error that the response to a paid submit means; `code` is the provider's own error code.

    Money and moderation outrank the HTTP status. A 503 counts as "not accepted" only with the provider's own code: a
    gateway's `{"message": "Service Unavailable"}` may come after the request was accepted. Returns for a success.
    """
    status, text = effective_status(response, body), message(body)
    words, ids = f"{code} {text}", request_id(response, body)
    if status in (400, 402, 403, 422, 429) and NO_FUNDS_WORDS.search(code if status == 429 else words):
        reason = errors.quoted(text or code)
        raise errors.NoFunds(f"The provider's balance is too low (HTTP {status}: {reason}).", request_id=ids)
    if status in (400, 403, 422, 451) and MODERATION_WORDS.search(code if status == 403 else words):
        reason = errors.quoted(text or code)
        raise errors.Moderated(
            f"The provider refused the request for its content (HTTP {status}: {reason}).", request_id=ids
        )
    if status == 503 and text and (code or field(body, "code") is not None):
        raise errors.RateLimited(
            f"The provider is busy and accepted nothing (HTTP 503: {errors.quoted(text)}).",
            request_id=ids,
            retry_after_s=seconds(header(response, "retry-after")),
        )
    if status in (408, 499):
        raise outage(response, body)
    raise_for_status(response, body)


def seconds(value: Any) -> float | None:
    """Return the seconds of a Retry-After header; None if it is no plain number."""
    return float(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,6}", value) else None


def image(item: Any, *names: str) -> ReturnedImage:
    """Return one image of a response: a URL, an object with a URL under one of these names, or the reason it is
    missing."""
    urls = [field(item, name) for name in names or ("url", "download_url")] if isinstance(item, dict) else [item]
    for url in urls:
        if is_url(url):
            return ReturnedImage(url=url)
    reason = message(item) if isinstance(item, dict) else ""
    return ReturnedImage(error=errors.quoted(reason) if reason else "the provider's answer has no URL for this image")


LAYER_NAME_CHARS = 120
LAYER_DESCRIPTION_CHARS = 300


def layer(item: Any, place: int) -> Layer:
    """Return a layer by its `z_index`, `name`, `description` and `bounding_box.absolute` in a response.

    Its place in the response is its z_index if it has no usable one. A box counts only as left, top, right and bottom
    in pixels. Name and description are bounded, on one line.
    """
    z_index, box = integer(field(item, "z_index")), field(item, "bounding_box", "absolute")
    sides = [side for side in map(integer, box) if side is not None] if isinstance(box, list) else []
    usable = len(sides) == 4 == len(box) and 0 <= sides[0] < sides[2] <= 100_000 and 0 <= sides[1] < sides[3] <= 100_000
    name, description = (
        line(text, limit) if isinstance(text := field(item, key), str) else ""
        for key, limit in (("name", LAYER_NAME_CHARS), ("description", LAYER_DESCRIPTION_CHARS))
    )
    return Layer(
        z_index=z_index if z_index is not None and 0 <= z_index < MAX_OUTPUTS else place,
        name=name,
        description=description,
        box=(sides[0], sides[1], sides[2], sides[3]) if usable else None,
    )


def layered(items: Sequence[Any], outputs: Sequence[ReturnedImage]) -> tuple[ReturnedImage, ...]:
    """Return images with the layers that their items describe, sorted by z_index: the base first."""
    named = [replace(output, layer=layer(item, i)) for i, (item, output) in enumerate(zip(items, outputs, strict=True))]
    return tuple(sorted(named, key=lambda output: output.layer.z_index if output.layer else 0))


def items(value: Any) -> list[Any]:
    """Return the items of a list, at most `MAX_OUTPUTS`; a single value counts as a list of one."""
    return (value if isinstance(value, list) else [value] if value else [])[:MAX_OUTPUTS]


def count(value: Any) -> int:
    return len(items(value)) if isinstance(value, list) else 0


def reference_uri(reference: Reference) -> str:
    """Return a reference in the usual form: its URL, or its bytes as a data URI.

    Raises: `errors.UnreadableImage` for one without either.
    """
    if reference.url:
        return reference.url
    if reference.data is None:
        raise errors.UnreadableImage("A reference has neither a URL nor its bytes.")
    return f"data:{reference.mime_type.lower()};base64,{b64encode(reference.data).decode()}"


def outage(response: HttpResponse, body: Any) -> errors.Outage:
    """Return the error for an unusable response."""
    text = message(body)
    reason = f": {errors.quoted(text)}" if text else "" if body is not None else ", not JSON"
    return errors.Outage(
        f"The provider's answer is not usable (HTTP {response.status}{reason}).",
        request_id=request_id(response, body),
        retry_after_s=seconds(header(response, "retry-after")),
    )


def no_ticket(response: HttpResponse, body: Any) -> errors.Outage:
    """Return the error for a success of a submit that names no prediction."""
    return errors.Outage(
        "The provider answered without a usable id; the request may have been accepted.",
        request_id=request_id(response, body),
    )


def no_image(response: HttpResponse, body: Any, kind: str, outputs: Sequence[ReturnedImage]) -> errors.Failed:
    """Return the error for a prediction that ended without an image, with the first reason given."""
    reason = next((f": {output.error}" for output in outputs if output.error), ".")
    error = errors.Moderated if MODERATION_WORDS.search(reason) else errors.Failed
    return error(
        f"The provider reports the {kind} as completed, with no image{reason}", request_id=request_id(response, body)
    )


def is_ticket(value: Any) -> TypeGuard[str]:
    """Return whether this can be a prediction's id: printable, bounded, and harmless in a path once it is escaped."""
    return isinstance(value, str) and len(value) <= 200 and value.isprintable() and value.strip(" .") != ""


def is_url(value: Any) -> TypeGuard[str]:
    """Return whether this is a whole http(s) URL that parses, without quotes and angle brackets.

    It does not check whether the URL may be read.
    """
    if not isinstance(value, str) or not re.fullmatch(r"https?://[!#-;=?-\[\]_a-z{|}~]{1,8000}", value):
        return False
    try:
        parts = urlsplit(value)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def integer(value: Any) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def decimal(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)) > 40:
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    if not number.is_finite() or abs(number) >= 10**12:
        return None
    # 1e-5000000 has five million digits when it is written out.
    return number if abs(number) > Decimal("1e-12") else Decimal(0)


def usd(value: Any) -> Decimal | None:
    """Return a price; None for zero, which providers send while the price is unknown."""
    number = decimal(value)
    return number if number is not None and number > 0 else None


def is_usd(currency: Any) -> bool:
    """Return whether a price is in US dollars; a price without a currency counts as one."""
    return currency is None or (isinstance(currency, str) and currency.casefold() in ("", "usd", "$"))


# Predictions: an id and a status, and a URL to ask at ---------------------------------------------------------------


def prediction(body: Any) -> Mapping[str, Any]:
    """Return the prediction in a response, under `data` or flat; empty without one.

    A flat object counts only with an id: an error envelope may have a `status` of its own.
    """
    data = field(body, "data")
    if isinstance(data, dict):
        return data
    return body if isinstance(body, dict) and data is None and isinstance(body.get("id"), str) else {}


def status(prediction: Any) -> str:
    """Return the status of a prediction in the provider's own word; an empty string without one."""
    word = field(prediction, "status")
    return word.strip().casefold()[:80] if isinstance(word, str) else ""


@lru_cache(maxsize=256)
def log_odd_status(provider: str, word: str) -> None:
    """Log each unknown status once; it counts as still running."""
    log.warning("%s: the unknown status %s counts as still running", provider, errors.quoted(word, 40))


def accepted_ticket(response: HttpResponse, prediction: Mapping[str, Any]) -> Pending | None:
    """Return the ticket of a submit's response, with the URL to poll. A 5xx with a ticket was accepted too."""
    ticket, url = prediction.get("id"), field(prediction, "urls", "get")
    if not is_ticket(ticket) or not (200 <= response.status < 300 or response.status >= 500):
        return None
    return Pending(ticket, url if is_url(url) else None)


def poll_response(url: str | None, path: str) -> Flow[HttpResponse]:
    """Return the response to a poll: from the prediction's own URL if it is allowed and works, else from `path`."""
    if is_url(url):
        try:
            response = yield HttpRequest("GET", url)
        except errors.NotAllowed:
            pass  # The URL is not on the provider's own origin, so nothing was sent there.
        else:
            if response.status not in (400, 401, 403, 404, 405) or url.endswith(path):
                return response
    return (yield HttpRequest("GET", path))
