"""Read a provider's answers as what they are: hostile, of any shape, and full of words that are not ours.

Rules: nothing here raises but our own errors; text is bounded; a field of the wrong kind is a field that is not there.
Several providers share this file, so it knows none of them.
"""

from __future__ import annotations

import logging
import re
from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from triptych.core import errors
from triptych.core.models import Pending, Reference, ReturnedImage
from triptych.providers import Flow, HttpRequest, HttpResponse, Sent, refuse

log = logging.getLogger(__name__)

MESSAGE_READ_CHARS = 2000
MAX_OUTPUTS = 32
"""So many images of an answer are read."""
MODERATION_WORDS = re.compile(r"moderat|sensitive|nsfw|content.?(policy|filter|safety)|unsafe|prohibited", re.I)
"""What a content filter's refusal says where no code tells it from any other failure."""
NO_FUNDS_WORDS = re.compile(
    r"(insufficient|not.?enough|exhaust\w*|\blow).{0,20}(balance|credit|fund|quota)|overdue|arrear|top.?up|recharge",
    re.I,
)
"""What a refusal for want of money says where its status alone does not."""


def at(body: Any, *keys: str) -> Any:
    """Return what lies under nested keys, or None where the way there is missing."""
    for key in keys:
        body = body.get(key) if isinstance(body, dict) else None
    return body


def parsed(text: Any) -> Any:
    """Return JSON that an answer carries as a string; what is no string is returned as it is."""
    return HttpResponse(200, {}, text.encode(errors="replace")).json() if isinstance(text, str) else text


def message(body: Any) -> str:
    """Return the words of an error, wherever an answer keeps them; empty where it has none."""
    if isinstance(body, str):
        return body[:MESSAGE_READ_CHARS]
    for key in ("error", "msg", "message", "detail", "reason"):
        value = at(body, key)
        if isinstance(value, dict):
            value = next((value[k] for k in ("message", "msg", "type", "code") if isinstance(value.get(k), str)), None)
        if isinstance(value, str) and value.strip():
            return value[:MESSAGE_READ_CHARS]
    return ""


def header(answer: HttpResponse, name: str) -> str | None:
    return next((value for key, value in answer.headers.items() if key.casefold() == name), None)


def request_id(answer: HttpResponse, body: Any) -> str | None:
    """Return the id a provider's support asks for: from the header, else from the body."""
    own = at(body, "request_id") or at(body, "error", "request_id")
    named = (value for key, value in answer.headers.items() if key.casefold().endswith("-request-id"))
    found = header(answer, "x-request-id") or next(named, "") or (own if isinstance(own, str) else "")
    return "".join(c for c in found if c.isascii() and c.isprintable())[:100] or None


def sent_s(sent: Sent, answer: HttpResponse) -> float:
    """Return when a request left, in UTC seconds: by the clock of the answer's `Date` if it has one, else by ours."""
    try:
        now = parsedate_to_datetime(header(answer, "date") or "")
        return (now if now.tzinfo else now.replace(tzinfo=UTC)).timestamp() - sent.age_s
    except (ValueError, TypeError, IndexError, OverflowError):
        return sent.at.timestamp()


def meant_status(answer: HttpResponse, body: Any) -> int:
    """Return the status an answer means: an error code in the body counts where HTTP says 2xx."""
    code = integer(at(body, "code"))
    return code if 200 <= answer.status < 300 and code is not None and 400 <= code < 600 else answer.status


def raise_for(answer: HttpResponse, body: Any, *, only: Collection[int] = (), hint_401: str = "") -> None:
    """Raise what an error answer means (see `refuse`), for the `only` statuses if given; return for a good answer."""
    status = meant_status(answer, body)
    if only and status not in only:
        return
    text = message(body) or "no reason given"
    if status == 401 and hint_401:
        text = f"{text[:150]} [{hint_401}]"
    refuse(status, text, request_id=request_id(answer, body), retry_after=header(answer, "retry-after"))


def raise_unaccepted(answer: HttpResponse, body: Any, code: str = "") -> None:
    """Raise what a paid request's answer says about its acceptance, `code` being the provider's own word for the error.

    Money and moderation outrank the status around them, and a busy provider that says so in its own envelope, which has
    a code, took nothing: a gateway's `{"message": "Service Unavailable"}` may come after the request was accepted.
    Returns for a good answer.
    """
    status, text = meant_status(answer, body), message(body)
    said, ids = f"{code} {text}", request_id(answer, body)
    if status in (400, 402, 403, 422, 429) and NO_FUNDS_WORDS.search(code if status == 429 else said):
        why = errors.quoted(text or code)
        raise errors.NoFunds(f"The provider's balance is too low (HTTP {status}: {why}).", request_id=ids)
    if status in (400, 403, 422, 451) and MODERATION_WORDS.search(code if status == 403 else said):
        why = errors.quoted(text or code)
        raise errors.Moderated(
            f"The provider refused the request for its content (HTTP {status}: {why}).", request_id=ids
        )
    if status == 503 and text and (code or at(body, "code") is not None):
        raise errors.RateLimited(
            f"The provider is busy and accepted nothing (HTTP 503: {errors.quoted(text)}).",
            request_id=ids,
            retry_after_s=seconds(header(answer, "retry-after")),
        )
    if status in (408, 499):
        raise outage(answer, body)
    raise_for(answer, body)


def seconds(value: Any) -> float | None:
    """Return a Retry-After that is a plain number of seconds."""
    return float(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,6}", value) else None


def frame(item: Any, *names: str) -> ReturnedImage:
    """Return one image of an answer: a URL, an object that carries one under these names, or why there is none."""
    urls = [at(item, name) for name in names or ("url", "download_url")] if isinstance(item, dict) else [item]
    for url in urls:
        if is_url(url):
            return ReturnedImage(url=url)
    said = message(item) if isinstance(item, dict) else ""
    return ReturnedImage(error=errors.quoted(said) if said else "the provider's answer has no URL for this image")


def items(value: Any) -> list[Any]:
    """Return what an answer lists, as many as are read, or what it has in place of a list of one."""
    return (value if isinstance(value, list) else [value] if value else [])[:MAX_OUTPUTS]


def count(value: Any) -> int:
    return len(items(value)) if isinstance(value, list) else 0


def source(reference: Reference) -> str:
    """Return a reference as most providers take it: its URL, or its bytes as a data URI.

    Raises: `errors.UnreadableImage` for one that has neither.
    """
    if reference.url:
        return reference.url
    if reference.data is None:
        raise errors.UnreadableImage("A reference has neither a URL nor its bytes.")
    return f"data:{reference.mime_type.lower()};base64,{b64encode(reference.data).decode()}"


def outage(answer: HttpResponse, body: Any) -> errors.Outage:
    """Return an answer that cannot be used as an error of ours."""
    text = message(body)
    why = f": {errors.quoted(text)}" if text else "" if body is not None else ", not JSON"
    return errors.Outage(
        f"The provider's answer is not usable (HTTP {answer.status}{why}).",
        request_id=request_id(answer, body),
        retry_after_s=seconds(header(answer, "retry-after")),
    )


def no_ticket(answer: HttpResponse, body: Any) -> errors.Outage:
    """Return a good answer to a submit that names no prediction as an error of ours."""
    return errors.Outage(
        "The provider answered without a usable id; the request may have been accepted.",
        request_id=request_id(answer, body),
    )


def no_image(answer: HttpResponse, body: Any, kind: str, outputs: Sequence[ReturnedImage]) -> errors.Failed:
    """Return an end without any image as an error of ours, with the reason of the first frame that gives one."""
    why = next((f": {output.error}" for output in outputs if output.error), ".")
    error = errors.Moderated if MODERATION_WORDS.search(why) else errors.Failed
    return error(
        f"The provider reports the {kind} as completed, with no image{why}", request_id=request_id(answer, body)
    )


def is_ticket(value: Any) -> TypeGuard[str]:
    """Return whether this can be a prediction's id: printable, bounded, and no way up a path once it is escaped."""
    return isinstance(value, str) and len(value) <= 200 and value.isprintable() and value.strip(" .") != ""


def is_url(value: Any) -> TypeGuard[str]:
    """Return whether this is a whole http(s) URL that parses, without quotes and angle brackets, which no URL has.

    Whether it may be read is the reader's business.
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
    # Written out, 1e-5000000 has five million digits.
    return number if abs(number) > Decimal("1e-12") else Decimal(0)


def usd(value: Any) -> Decimal | None:
    """Return a price; nothing and zero both mean that it is not known (yet)."""
    number = decimal(value)
    return number if number is not None and number > 0 else None


def in_dollars(currency: Any) -> bool:
    """Return whether a price is in US dollars; one without a currency is."""
    return currency is None or (isinstance(currency, str) and currency.casefold() in ("", "usd", "$"))


# Predictions: an id and a status, and a URL to ask at ---------------------------------------------------------------


def prediction(body: Any) -> Mapping[str, Any]:
    """Return the prediction in an answer, under `data` or flat; empty where there is none.

    Flat, only an object with an id is one: an error envelope may have a `status` of its own.
    """
    data = at(body, "data")
    if isinstance(data, dict):
        return data
    return body if isinstance(body, dict) and data is None and isinstance(body.get("id"), str) else {}


def status(said: Any) -> str:
    """Return how a prediction stands, in the provider's own word; empty where it does not say."""
    word = at(said, "status")
    return word.strip().casefold()[:80] if isinstance(word, str) else ""


@lru_cache(maxsize=256)
def log_odd_status(provider: str, word: str) -> None:
    """Log an unknown status, once each; it counts as still running."""
    log.warning("%s: the unknown status %s counts as still running", provider, errors.quoted(word, 40))


def accepted(answer: HttpResponse, said: Mapping[str, Any]) -> Pending | None:
    """Return the ticket of a submit's answer, with the URL to ask at; a 5xx that carries one was accepted too."""
    ticket, url = said.get("id"), at(said, "urls", "get")
    if not is_ticket(ticket) or not (200 <= answer.status < 300 or answer.status >= 500):
        return None
    return Pending(ticket, url if is_url(url) else None)


def asked(url: str | None, path: str) -> Flow[HttpResponse]:
    """Return the answer about a prediction: from the URL it came with if that is allowed and works, else the usual."""
    if is_url(url):
        try:
            answer = yield HttpRequest("GET", url)
        except errors.NotAllowed:
            pass  # It is not on the provider's own origin, so nothing was sent there.
        else:
            if answer.status not in (400, 401, 403, 404, 405) or url.endswith(path):
                return answer
    return (yield HttpRequest("GET", path))
