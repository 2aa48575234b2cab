"""BytePlus ModelArk, and Volcengine Ark through its base URL: one synchronous call, streamed for several images.

The facts and their sources are in docs/providers/ark.md#models and the headings after it.
Seedream 5.5, 5.0 pro and flash are described by resellers of this API (5.5: pages of 2026-11-13). They make one image
per request, and a sequence or stream field of any value is answered with 400: none is sent.

Volcengine prefixes every model id with `doubao-`: at its base URL the offers have those ids (`offers_at`). At any other
base URL they are aliases; an answer that the plain id does not exist, which is surely not accepted, is asked once more
with the prefix.

Rules: every shape of answer is tolerated and nothing but our own errors leaves; a failed frame never loses a later one;
there is no id to find a call again by, so one that was cut off is reported as lost, and what came of it is kept.
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
from triptych.catalog import backgrounds
from triptych.core import errors
from triptych.core.models import Done, Lifecycle, Offer, Pending, ProviderRequest, ReturnedImage
from triptych.providers import (
    STREAM_END,
    BaseUrl,
    Flow,
    FrameReceived,
    HttpRequest,
    HttpResponse,
    Listing,
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
"""Fifteen images come in one answer, at 19 to 24 s each (docs/providers/README.md#time-for-an-image)."""

_SENSITIVE = "SensitiveContent"
_EXHAUSTED = ("QuotaExceeded", "SetLimitExceeded")
_UNKNOWN_MODEL = "InvalidEndpointOrModel"
_NOT_OPEN = ("ModelNotOpen", "OperationDenied.ServiceNotOpen")
_VOLCENGINE = "doubao-"
_VOLCENGINE_HOSTS = ".volces.com"
_BY_ITS_ID = "the date in the model id"


# The models (docs/providers/ark.md#models) ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Family(Family):
    """A family at its origin: an image takes about 20 s (docs/providers/README.md#time-for-an-image)."""

    priced_by: str = "the documentation and third parties; the price page was not read"
    latency_s: float = 22.0


_FAMILIES: Mapping[str, _Family] = {
    "seedream-5.0-lite": _Family(
        endpoint="seedream-5-0-260128",
        usd="0.035",
        # The larger reading of the largest area, 16,777,216, is not relied on (docs/providers/ark.md#sizes-and-limits).
        sizes=offering.sized("2K", "3K", least=3_686_400, most=10_404_496),
        formats=("png", "jpeg"),
        aliases=("seedream-5-0-lite-260128", "doubao-seedream-5-0-260128", "doubao-seedream-5-0-lite-260128"),
        lifecycle=Lifecycle(released="2026-01-28", source=_BY_ITS_ID),
    ),
    "seedream-4.5": _Family(
        endpoint="seedream-4-5-251128",
        usd="0.04",
        sizes=offering.sized("2K", "4K", least=3_686_400),
        aliases=("doubao-seedream-4-5-251128",),
        lifecycle=Lifecycle(released="2025-11-28", source=_BY_ITS_ID),
    ),
    "seedream-4.0": _Family(
        endpoint="seedream-4-0-250828",
        usd="0.03",
        sizes=offering.sized("1K", "2K", "4K", least=921_600),
        aliases=("doubao-seedream-4-0-250828",),
        lifecycle=Lifecycle(released="2025-08-28", source=_BY_ITS_ID),
    ),
    "seedream-5.5": _Family(
        endpoint="seedream-5-5-261028",
        aliases=("dola-seedream-5-5-261028", "doubao-seedream-5-5-261028"),
        priced_by="the provider's rate card as two resellers quote it (2026-11-12, 2026-11-13)",
        transparency="documented",
        lifecycle=Lifecycle(released="2026-11-12", source="resellers' pages of 2026-11-13"),
        **offering.V5_5,
    ),
    **{
        f"seedream-5.0-{name}": _Family(
            endpoint=model,
            aliases=(f"dola-{model}", f"doubao-{model}"),
            priced_by="resellers' price pages; not read at the provider",
            lifecycle=Lifecycle(released=released, source=_BY_ITS_ID),
            **said,
        )
        for name, model, said, released in (
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
    """Return the offers at a base URL: at Volcengine's they have its ids and its retirement dates."""
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
    """Return the finished images; those of a sequence are handed over one by one as they come.

    Raises: `AnswerLost` for an answer or a stream that was cut off; the frames handed over until then are there.
    """
    body = _body(edit)
    answer = yield _generate(body)
    plain = not body["model"].startswith(_VOLCENGINE)
    if plain and answer.status == 404 and _code(answer.json()).startswith(_UNKNOWN_MODEL):
        second = yield _generate({**body, "model": _VOLCENGINE + body["model"]})
        if second.status != 404:
            answer = second
    kind = (read.header(answer, "content-type") or "").casefold()
    if body.get("stream") and answer.status == 200 and kind.startswith("text/event-stream"):
        return (yield from _streamed(edit, answer))
    return _whole(edit, answer)


def _generate(body: Mapping[str, Any]) -> HttpRequest:
    streamed = "stream" in body
    return HttpRequest("POST", "/images/generations", json=body, repeatable=False, stream=streamed, timeout_s=TIMEOUT_S)


def _body(edit: ProviderRequest) -> dict[str, Any]:
    """Return the request's fields and no others; unset ones are absent, not null."""
    offer = edit.offer
    body: dict[str, Any] = {"model": offer.endpoint, "prompt": edit.prompt}
    if offer.operation.edits:
        body["image"] = [read.source(reference) for reference in edit.references]
    if edit.size:
        body["size"] = f"{edit.size[0]}x{edit.size[1]}"
    if offer.formats and (image_format := edit.format or offer.default_format):
        body["output_format"] = image_format
    if backgrounds.is_sent(offer, edit.prompt):
        body["background"] = "transparent"
    body |= {"response_format": "url", "watermark": False}
    if offer.operation.sequential:
        body["sequential_image_generation"] = "auto"
        body["sequential_image_generation_options"] = {"max_images": edit.count}
        if edit.count > 1:
            body["stream"] = True
    return body


def _streamed(edit: ProviderRequest, answer: HttpResponse) -> Flow[Pending | Done]:
    """Return what a stream brought, to its last event: a `partial_failed` one loses only its own frame."""
    outputs: dict[int, ReturnedImage] = {}
    usage = trouble = None
    while True:
        try:
            event = yield NextEvent()
        except errors.AnswerLost:
            if len(outputs) < edit.count:
                raise
            break  # every frame is accounted for
        if event.body.strip() == b"[DONE]":
            break
        if event.status == STREAM_END:
            if len(outputs) >= edit.count:
                break
            raise errors.AnswerLost("The provider's stream ended too early.", request_id=_request_id(answer, None))
        said = event.json()
        kind = read.at(said, "type")
        kind = kind if isinstance(kind, str) else ""
        if not isinstance(said, dict) or kind.endswith("partial_image"):
            continue
        index = read.integer(said.get("image_index"))
        if kind.endswith("completed"):
            usage, trouble = said.get("usage"), said.get("error")
            break
        output = _output(said)
        if index is None and said.get("error"):
            trouble = said["error"]
            break
        if index is None:
            index = len(outputs)
        if 0 <= index < read.MAX_OUTPUTS and index not in outputs:
            outputs[index] = ReturnedImage(handed_over=True) if output.data else output
            if not output.error:
                yield FrameReceived(index, output)
    missing = ReturnedImage(error="the provider's answer does not mention this image")
    places = range(max(outputs, default=-1) + 1)
    return _done(edit, answer, tuple(outputs.get(index, missing) for index in places), usage, trouble)


def _whole(edit: ProviderRequest, answer: HttpResponse) -> Done:
    """Return the images of a plain answer, or raise what it means (docs/providers/ark.md#answer)."""
    body = answer.json()
    data = read.at(body, "data")
    if not 200 <= answer.status < 300:
        _raise_refusal(answer, body)
    trouble = read.at(body, "error") or (body if _code(body) else None)
    if not isinstance(data, list) and not isinstance(trouble, dict):
        raise read.outage(answer, body)
    items = data[: read.MAX_OUTPUTS] if isinstance(data, list) else []
    return _done(edit, answer, tuple(_output(item) for item in items), read.at(body, "usage"), trouble)


def _done(
    edit: ProviderRequest, answer: HttpResponse, outputs: tuple[ReturnedImage, ...], usage: Any, trouble: Any
) -> Done:
    """Return the frames with their charge: images that came, and the references that the provider counted.

    Images that an error kept from being made are lost, one by one; that a model makes fewer than asked for is no error.
    Raises: `Moderated` or `Failed` where none came.
    """
    came = sum(1 for output in outputs if not output.error)
    why = _said(trouble) if trouble else ""
    if not came:
        why = why or next((output.error for output in outputs if output.error), "") or ""
        kind = errors.Moderated if _SENSITIVE in why or read.MODERATION_WORDS.search(why) else errors.Failed
        message = f"The provider made no image: {why}" if why else "The provider answered without any image."
        raise kind(message, request_id=_request_id(answer, why))
    lost = (ReturnedImage(error=why),) * (edit.count - len(outputs)) if why else ()
    made = read.integer(read.at(usage, "generated_images"))
    billed = made if made is not None and 0 <= made <= read.MAX_OUTPUTS else came
    counted = read.integer(read.at(usage, "input_images"))
    references = counted if counted is not None and 0 <= counted <= read.MAX_OUTPUTS else len(edit.references)
    return Done(
        outputs + lost,
        charged_usd=catalog.quote(edit.offer, billed, edit.size, references).usd,
        charge_is_estimate=True,
        url_lifetime_s=RESULT_LIFETIME_S,
        warnings=(f"The provider stopped early: {why}",) if why and not lost else (),
    )


def _output(item: Any) -> ReturnedImage:
    """Return one frame: a URL, its bytes, or why it is missing."""
    if read.is_url(url := read.at(item, "url")):
        return ReturnedImage(url=url)
    encoded = read.at(item, "b64_json")
    if isinstance(encoded, str) and encoded:
        try:
            # Some send line breaks in it, or a data URI.
            return ReturnedImage(data=b64decode("".join(encoded.rpartition(",")[2].split()), validate=True))
        except (binascii.Error, ValueError):
            return ReturnedImage(error="the provider's image data cannot be decoded")
    error = read.at(item, "error")
    return ReturnedImage(error=_said(error) if error else "the provider's answer has no URL for this image")


# Errors (docs/providers/ark.md#errors: wrapped in `error`, or bare) ---------------------------------------------------


def _error(body: Any) -> Mapping[str, Any]:
    wrapped = read.at(body, "error")
    found = wrapped if isinstance(wrapped, dict) else body
    return found if isinstance(found, dict) else {}


def _code(body: Any) -> str:
    code = _error(body).get("code")
    return code[:120] if isinstance(code, str) else ""


def _said(error: Any) -> str:
    """Return an error object's code and words as quoted data."""
    code, text = read.at(error, "code"), read.message(error)
    words = f"{code[:120]}: {text}" if isinstance(code, str) and code else text
    return errors.quoted(words or "no reason given")


def _request_id(answer: HttpResponse, body: Any) -> str | None:
    """Return the server's own id: from the header, or the end of the message."""
    text = body if isinstance(body, str) else read.message(_error(body))
    found = re.search(r"Request id: ([0-9A-Za-z_-]{8,100})", text)
    return read.request_id(answer, body) or (found[1] if found else None)


def _raise_refusal(answer: HttpResponse, body: Any) -> NoReturn:
    """Raise what an answer that is no success means: a 4xx was surely not accepted, a 5xx may have been."""
    status, code, said = answer.status, _code(body), _said(_error(body))
    request_id = _request_id(answer, body)
    if status in (408, 499) or not 400 <= status < 600:
        raise errors.Outage(f"The provider's answer is not usable (HTTP {status}: {said}).", request_id=request_id)
    if status < 500 and _SENSITIVE in code:
        raise errors.Moderated(f"The provider's content filter refused the request: {said}.", request_id=request_id)
    if status == 402 or (status == 403 and code.startswith("AccountOverdue")):
        raise errors.NoFunds(f"The provider's account is overdue: {said}.", request_id=request_id)
    if status in (403, 404) and code in _NOT_OPEN:
        message = f"The model is not activated for this account; activate it in the provider's console: {said}."
        raise errors.NotOffered(message, request_id=request_id)
    if status == 429 and code in _EXHAUSTED:
        message = f"A limit of this account is used up; raise it in the provider's console: {said}."
        raise errors.NoFunds(message, request_id=request_id)
    if status == 503 and code:
        raise errors.RateLimited(f"The provider is busy and accepted nothing: {said}.", request_id=request_id)
    text = f"{code}: {read.message(_error(body))}" if code else read.message(_error(body)) or "no reason given"
    refuse(status, text, request_id=request_id, retry_after=read.header(answer, "retry-after"))
    raise AssertionError("a status from 400 to 599 is refused")


# The account ---------------------------------------------------------------------------------------------------------


def listing() -> Flow[Listing]:
    """Return which of our models the provider lists, under all their ids; it names no prices.

    That the list exists is a third party's knowledge.
    """
    answer = yield HttpRequest("GET", "/models")
    body = answer.json()
    read.raise_for(answer, body, only=(401, 403, 429))
    data = read.at(body, "data")
    listed = {name for entry in data if isinstance(name := read.at(entry, "id"), str)} if isinstance(data, list) else ()
    known = {
        name: None
        for family in _FAMILIES.values()
        if not {family.endpoint, *family.aliases}.isdisjoint(listed)
        for name in (family.endpoint, *family.aliases)
    }
    if not 200 <= answer.status < 300 or not known:
        raise read.outage(answer, body)
    return Listing(known)


PROVIDER = Provider(
    name="ark",
    title="BytePlus ModelArk",
    key_env="ARK_API_KEY",
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
