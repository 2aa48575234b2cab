"""BytePlus ModelArk, and Volcengine Ark through its base URL: one synchronous call, streamed for several images.

The facts and their sources are in docs/providers/ark.md#models and the headings after it. Seedream 5.5, 5.0 pro and
flash are described by resellers of this API (5.5: pages of 2026-11-13). They make one image per request, and answer a
sequence or stream field of any value with 400: none is sent.

Volcengine prefixes every model id with `doubao-`: at its base URL the offers have those ids (`offers_at`). At any other
base URL they are aliases. If the response says that the plain id does not exist, the request surely was not accepted,
and is sent once more with the prefix.

Rules: every shape of response is tolerated; only errors of ours are raised. A failed image never loses a later one. The
API has no id to find a call by: a call that was cut off is reported as lost, and the images received are stored.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn
from urllib.parse import urlsplit

from triptych import catalog
from triptych.core import errors
from triptych.core.models import Done, Pending, ProviderRequest, ReturnedImage
from triptych.core.offers import Lifecycle, Offer
from triptych.providers import (
    STREAM_END,
    BaseUrl,
    Flow,
    FrameReceived,
    HttpRequest,
    HttpResponse,
    ModelList,
    NextEvent,
    Provider,
    ReferenceLimits,
    refuse,
)
from triptych.providers import _offers as offering
from triptych.providers import _reading as read
from triptych.providers._offers import Family

RESULT_LIFETIME_S = 24 * 3600.0
TIMEOUT_S = 900.0
"""Fifteen images come in one response, at 19 to 24 s each (docs/providers/README.md#time-for-an-image)."""

_SENSITIVE = "SensitiveContent"
_EXHAUSTED = ("QuotaExceeded", "SetLimitExceeded")
_UNKNOWN_MODEL = "InvalidEndpointOrModel"
_NOT_OPEN = ("ModelNotOpen", "OperationDenied.ServiceNotOpen")
_VOLCENGINE = "doubao-"
_VOLCENGINE_HOSTS = ".volces.com"
_BY_ITS_ID = "the date in the model id"


# The models (docs/providers/ark.md#models) ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _ArkFamily(Family):
    """A family at its origin: an image takes about 20 s (docs/providers/README.md#time-for-an-image)."""

    priced_by: str = "the documentation and third parties; the price page was not read"
    latency_s: float = 22.0


_FAMILIES: Mapping[str, _ArkFamily] = {
    "seedream-5.0-lite": _ArkFamily(
        endpoint="seedream-5-0-260128",
        usd="0.035",
        # The larger reading of the largest area, 16,777,216, is not relied on (docs/providers/ark.md#sizes-and-limits).
        sizes=offering.sized("2K", "3K", min_area=3_686_400, max_area=10_404_496),
        formats=("png", "jpeg"),
        aliases=("seedream-5-0-lite-260128", "doubao-seedream-5-0-260128", "doubao-seedream-5-0-lite-260128"),
        lifecycle=Lifecycle(released="2026-01-28", source=_BY_ITS_ID),
    ),
    "seedream-4.5": _ArkFamily(
        endpoint="seedream-4-5-251128",
        usd="0.04",
        sizes=offering.sized("2K", "4K", min_area=3_686_400),
        aliases=("doubao-seedream-4-5-251128",),
        lifecycle=Lifecycle(released="2025-11-28", source=_BY_ITS_ID),
    ),
    "seedream-4.0": _ArkFamily(
        endpoint="seedream-4-0-250828",
        usd="0.03",
        sizes=offering.sized("1K", "2K", "4K", min_area=921_600),
        aliases=("doubao-seedream-4-0-250828",),
        lifecycle=Lifecycle(released="2025-08-28", source=_BY_ITS_ID),
    ),
    "seedream-5.5": _ArkFamily(
        endpoint="seedream-5-5-261028",
        aliases=("dola-seedream-5-5-261028", "doubao-seedream-5-5-261028"),
        priced_by="the provider's rate card as two resellers quote it (2026-11-12, 2026-11-13)",
        params={"background": offering.BACKGROUND},
        lifecycle=Lifecycle(released="2026-11-12", source="resellers' pages of 2026-11-13"),
        **offering.V5_5,
    ),
    **{
        f"seedream-5.0-{name}": _ArkFamily(
            endpoint=model,
            aliases=(f"dola-{model}", f"doubao-{model}"),
            priced_by="resellers' price pages; not read at the provider",
            lifecycle=Lifecycle(released=released, source=_BY_ITS_ID),
            **facts,
        )
        for name, model, facts, released in (
            ("pro", "seedream-5-0-pro-260628", offering.V5_PRO, "2026-06-28"),
            ("flash", "seedream-5-0-flash-260915", offering.V5_FLASH, "2026-09-15"),
        )
    },
}

_RETIRED_AT_VOLCENGINE: Mapping[str, Lifecycle] = {
    "seedream-5.0-lite": Lifecycle(
        released="2026-01-28",
        retired="2026-11-24",
        source="two third parties quote Volcengine's notice (2026-10-24); BytePlus is not known to follow",
    ),
}


def offers_at(base_urls: Mapping[str, str]) -> tuple[Offer, ...]:
    """Return the offers at a base URL. At Volcengine's they have its ids and its retirement dates."""
    offers = offering.offers("ark", _FAMILIES)
    host = urlsplit(base_urls.get("api", "")).hostname or ""
    if not f".{host}".endswith(_VOLCENGINE_HOSTS):
        return offers
    return tuple(
        replace(
            offer,
            endpoint=_VOLCENGINE + offer.endpoint,
            aliases=(offer.endpoint, *offer.aliases),
            lifecycle=_RETIRED_AT_VOLCENGINE.get(offer.family, offer.lifecycle),
        )
        for offer in offers
    )


# The one call --------------------------------------------------------------------------------------------------------


def submit(edit: ProviderRequest) -> Flow[Pending | Done]:
    """Return the finished images; those of a sequence are handed over one by one during the stream.

    Raises: `AnswerLost` for a response or a stream that was cut off; the images handed over before are kept.
    """
    body = _body(edit)
    response = yield _generate(body)
    unprefixed = not body["model"].startswith(_VOLCENGINE)
    if unprefixed and response.status == 404 and _code(response.json()).startswith(_UNKNOWN_MODEL):
        second = yield _generate({**body, "model": _VOLCENGINE + body["model"]})
        if second.status != 404:
            response = second
    kind = (read.header(response, "content-type") or "").casefold()
    if body.get("stream") and response.status == 200 and kind.startswith("text/event-stream"):
        return (yield from _streamed_response(edit, response))
    return _complete_response(edit, response)


def _generate(body: Mapping[str, Any]) -> HttpRequest:
    streamed = "stream" in body
    return HttpRequest("POST", "/images/generations", json=body, repeatable=False, stream=streamed, timeout_s=TIMEOUT_S)


def _body(edit: ProviderRequest) -> dict[str, Any]:
    """Return the request's fields and no others; unset ones are absent, not null."""
    offer = edit.offer
    body: dict[str, Any] = {"model": offer.endpoint, "prompt": edit.prompt}
    if offer.operation.edits:
        body["image"] = [read.reference_uri(reference) for reference in edit.references]
    if edit.size:
        body["size"] = f"{edit.size[0]}x{edit.size[1]}"
    if offer.formats and (image_format := edit.format or offer.default_format):
        body["output_format"] = image_format
    body |= {"response_format": "url", "watermark": False}
    offering.set_params(body, edit)
    if offer.operation.sequential:
        body["sequential_image_generation"] = "auto"
        body["sequential_image_generation_options"] = {"max_images": edit.count}
        if edit.count > 1:
            body["stream"] = True
    return body


def _streamed_response(edit: ProviderRequest, response: HttpResponse) -> Flow[Pending | Done]:
    """Return the images of a stream, read to its last event. A `partial_failed` event loses only its own image."""
    outputs: dict[int, ReturnedImage] = {}
    usage = error = None
    while True:
        try:
            event = yield NextEvent()
        except errors.AnswerLost:
            if len(outputs) < edit.count:
                raise
            break  # all images are known
        if event.body.strip() == b"[DONE]":
            break
        if event.status == STREAM_END:
            if len(outputs) >= edit.count:
                break
            raise errors.AnswerLost("The provider's stream ended too early.", request_id=_request_id(response, None))
        item = event.json()
        kind = read.field(item, "type")
        kind = kind if isinstance(kind, str) else ""
        if not isinstance(item, dict) or kind.endswith("partial_image"):
            continue
        index = read.integer(item.get("image_index"))
        if kind.endswith("completed"):
            usage, error = item.get("usage"), item.get("error")
            break
        output = _output(item)
        if index is None and item.get("error"):
            error = item["error"]
            break
        if index is None:
            index = len(outputs)
        if 0 <= index < read.MAX_OUTPUTS and index not in outputs:
            outputs[index] = ReturnedImage(handed_over=True) if output.data else output
            if not output.error:
                yield FrameReceived(index, output)
    missing = ReturnedImage(error="the provider's answer does not mention this image")
    places = range(max(outputs, default=-1) + 1)
    return _done(edit, response, tuple(outputs.get(index, missing) for index in places), usage, error)


def _complete_response(edit: ProviderRequest, response: HttpResponse) -> Done:
    """Return the images of a plain response, or raise the error it means (docs/providers/ark.md#answer)."""
    body = response.json()
    data = read.field(body, "data")
    if not 200 <= response.status < 300:
        _raise_refusal(response, body)
    error = read.field(body, "error") or (body if _code(body) else None)
    if not isinstance(data, list) and not isinstance(error, dict):
        raise read.outage(response, body)
    items = data[: read.MAX_OUTPUTS] if isinstance(data, list) else []
    return _done(edit, response, tuple(_output(item) for item in items), read.field(body, "usage"), error)


def _done(
    edit: ProviderRequest, response: HttpResponse, outputs: tuple[ReturnedImage, ...], usage: Any, error: Any
) -> Done:
    """Return the images with their charge: for the images received and the references that the provider counted.

    With an error, each missing image counts as lost. Without one, a model that makes fewer images than requested is
    done.
    Raises: `Moderated` or `Failed` without any image.
    """
    image_count = sum(1 for output in outputs if not output.error)
    reason = _error_text(error) if error else ""
    if not image_count:
        reason = reason or next((output.error for output in outputs if output.error), "") or ""
        kind = errors.Moderated if _SENSITIVE in reason or read.MODERATION_WORDS.search(reason) else errors.Failed
        message = f"The provider made no image: {reason}" if reason else "The provider answered without any image."
        raise kind(message, request_id=_request_id(response, reason))
    lost = (ReturnedImage(error=reason),) * (edit.count - len(outputs)) if reason else ()
    made = read.integer(read.field(usage, "generated_images"))
    billed = made if made is not None and 0 <= made <= read.MAX_OUTPUTS else image_count
    counted = read.integer(read.field(usage, "input_images"))
    references = counted if counted is not None and 0 <= counted <= read.MAX_OUTPUTS else len(edit.references)
    return Done(
        outputs + lost,
        charged_usd=catalog.quote(edit.offer, billed, edit.size, references).usd,
        charge_is_estimate=True,
        url_lifetime_s=RESULT_LIFETIME_S,
        warnings=(f"The provider stopped early: {reason}",) if reason and not lost else (),
    )


def _output(item: Any) -> ReturnedImage:
    """Return one image: a URL, its bytes, or the reason it is missing."""
    if read.is_url(url := read.field(item, "url")):
        return ReturnedImage(url=url)
    encoded = read.field(item, "b64_json")
    if isinstance(encoded, str) and encoded:
        try:
            # Some servers send line breaks in it, or a data URI.
            return ReturnedImage(data=b64decode("".join(encoded.rpartition(",")[2].split()), validate=True))
        except (binascii.Error, ValueError):
            return ReturnedImage(error="the provider's image data cannot be decoded")
    error = read.field(item, "error")
    return ReturnedImage(error=_error_text(error) if error else "the provider's answer has no URL for this image")


# Errors (docs/providers/ark.md#errors: wrapped in `error`, or bare) ---------------------------------------------------


def _error(body: Any) -> Mapping[str, Any]:
    wrapped = read.field(body, "error")
    found = wrapped if isinstance(wrapped, dict) else body
    return found if isinstance(found, dict) else {}


def _code(body: Any) -> str:
    code = _error(body).get("code")
    return code[:120] if isinstance(code, str) else ""


def _error_text(error: Any) -> str:
    """Return an error object's code and message as quoted data."""
    code, text = read.field(error, "code"), read.message(error)
    words = f"{code[:120]}: {text}" if isinstance(code, str) and code else text
    return errors.quoted(words or "no reason given")


def _request_id(response: HttpResponse, body: Any) -> str | None:
    """Return the server's own id: from the headers, or from the end of the message."""
    text = body if isinstance(body, str) else read.message(_error(body))
    found = re.search(r"Request id: ([0-9A-Za-z_-]{8,100})", text)
    return read.request_id(response, body) or (found[1] if found else None)


def _raise_refusal(response: HttpResponse, body: Any) -> NoReturn:
    """Raise the error that a refusal means: a 4xx surely was not accepted, a 5xx may have been."""
    status, code, detail = response.status, _code(body), _error_text(_error(body))
    request_id = _request_id(response, body)
    if status in (408, 499) or not 400 <= status < 600:
        raise errors.Outage(f"The provider's answer is not usable (HTTP {status}: {detail}).", request_id=request_id)
    if status < 500 and _SENSITIVE in code:
        raise errors.Moderated(f"The provider's content filter refused the request: {detail}.", request_id=request_id)
    if status == 402 or (status == 403 and code.startswith("AccountOverdue")):
        raise errors.NoFunds(f"The provider's account is overdue: {detail}.", request_id=request_id)
    if status in (403, 404) and code in _NOT_OPEN:
        message = f"The model is not activated for this account; activate it in the provider's console: {detail}."
        raise errors.NotOffered(message, request_id=request_id)
    if status == 429 and code in _EXHAUSTED:
        message = f"A limit of this account is used up; raise it in the provider's console: {detail}."
        raise errors.NoFunds(message, request_id=request_id)
    if status == 503 and code:
        raise errors.RateLimited(f"The provider is busy and accepted nothing: {detail}.", request_id=request_id)
    text = f"{code}: {read.message(_error(body))}" if code else read.message(_error(body)) or "no reason given"
    refuse(status, text, request_id=request_id, retry_after=read.header(response, "retry-after"))
    raise AssertionError("a status from 400 to 599 is refused")


# The account ---------------------------------------------------------------------------------------------------------


def listing() -> Flow[ModelList]:
    """Return the models of ours that the provider lists, under all their ids; the list has no prices.

    A third party is the only source for this list.
    """
    response = yield HttpRequest("GET", "/models")
    body = response.json()
    read.raise_for_status(response, body, only=(401, 403, 429))
    data = read.field(body, "data")
    listed = (
        {name for entry in data if isinstance(name := read.field(entry, "id"), str)} if isinstance(data, list) else ()
    )
    known = {
        name: None
        for family in _FAMILIES.values()
        if not {family.endpoint, *family.aliases}.isdisjoint(listed)
        for name in (family.endpoint, *family.aliases)
    }
    if not 200 <= response.status < 300 or not known:
        raise read.outage(response, body)
    return ModelList(known)


PROVIDER = Provider(
    name="ark",
    title="BytePlus ModelArk",
    key_env="ARK_API_KEY",
    rank=3,
    base_urls={"api": BaseUrl("ARK_BASE_URL", "https://ark.ap-southeast.bytepluses.com/api/v3")},
    offers=offers_at({}),
    offers_at=offers_at,
    submit=submit,
    listing=listing,
    inline=True,
    reference_limits=ReferenceLimits(max_bytes=10_000_000, max_pixels=36_000_000, max_body_bytes=64_000_000),
    result_lifetime_s=RESULT_LIFETIME_S,
    max_running=8,
    deadline_s=1800.0,
)
