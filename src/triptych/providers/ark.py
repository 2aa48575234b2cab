"""BytePlus ModelArk, and Volcengine Ark through its base URL: one synchronous call, streamed for several images.

The facts and their sources are in docs/providers/ark.md#models and the headings after it. Seedream 5.5, 5.0 pro and
flash are described by resellers of this API (5.5: pages of 2026-11-13). They make one image per request, and answer a
sequence or stream field of any value with 400: none is sent. They also take pictures apart: the same call with
`layer_decomposition`, one image in, a base and its layers out.

Volcengine prefixes every model id with `doubao-`: at its base URL the offers have those ids. At any other base URL they
are aliases. If the response says that the plain id does not exist, the request certainly was not accepted,
and is sent once more with the prefix.

Rules: every shape of response is tolerated; only errors of ours are raised. A failed image never loses a later one. The
API has no id to find a call by: a call that was cut off is reported as lost, and the images received are stored.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NoReturn

from triptych import catalog
from triptych.core import errors
from triptych.core.models import Done, Pending, ProviderRequest, ReturnedImage
from triptych.core.offers import Operation, Size
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
from triptych.providers import _ark_models as models
from triptych.providers import _offers as offering
from triptych.providers import _reading as read

RESULT_LIFETIME_S = 24 * 3600.0
TIMEOUT_S = 900.0
"""Fifteen images come in one response, at 19 to 24 s each (docs/providers/README.md#time-for-an-image)."""

_SENSITIVE = "SensitiveContent"
_EXHAUSTED = ("QuotaExceeded", "SetLimitExceeded")
_UNKNOWN_MODEL = "InvalidEndpointOrModel"
_NOT_OPEN = ("ModelNotOpen", "OperationDenied.ServiceNotOpen")
_AUTO_TIER = "2K"
"""The size for a request that leaves the size to the model: it chooses the ratio for a tier, and each model has this
tier. Without a size, 5.0 lite, 4.5 and 4.0 make a square."""


# The one call --------------------------------------------------------------------------------------------------------


def submit(edit: ProviderRequest) -> Flow[Pending | Done]:
    """Return the finished images; those of a sequence are handed over one by one during the stream.

    Raises: `AnswerLost` for a response or a stream that was cut off; the images handed over before are kept.
    """
    body = _body(edit)
    response = yield _generate(body)
    unprefixed = not (body["model"].startswith(models.VOLCENGINE) or models.is_endpoint(body["model"]))
    if unprefixed and response.status == 404 and _code(response.json()).startswith(_UNKNOWN_MODEL):
        second = yield _generate({**body, "model": models.VOLCENGINE + body["model"]})
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
    offer, layers = edit.offer, edit.offer.operation is Operation.LAYERS
    body: dict[str, Any] = {"model": offer.endpoint, "prompt": edit.prompt}
    if offer.operation.edits:
        images = [read.reference_uri(reference) for reference in edit.references]
        body |= {"image": images[0], "layer_decomposition": True} if layers else {"image": images}
    words = offering.tier(edit) if layers else _AUTO_TIER
    body["size"] = f"{edit.size[0]}x{edit.size[1]}" if edit.size and not layers else words
    if image_format := offering.image_format(edit):
        body["output_format"] = image_format
    body |= {"response_format": "url", "watermark": False}
    offering.set_params(body, edit)
    if edit.params.get("web_search"):
        body["tools"] = offering.WEB_SEARCH_TOOLS
    # The model behind an endpoint id may be one that refuses these fields: one image needs none of them.
    if offer.operation.sequential and not (edit.count == 1 and models.is_endpoint(offer.endpoint)):
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
        if 0 <= index < edit.offer.max_outputs and index not in outputs:
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
    outputs = tuple(_output(item) for item in items)
    sizes = [_size(item) for item, output in zip(items, outputs, strict=True) if not output.error]
    if edit.offer.operation is Operation.LAYERS:
        outputs = read.layered(items, outputs)
    return _done(edit, response, outputs, read.field(body, "usage"), error, sizes)


def _done(
    edit: ProviderRequest,
    response: HttpResponse,
    outputs: tuple[ReturnedImage, ...],
    usage: Any,
    error: Any,
    sizes: Sequence[Size | None] = (),
) -> Done:
    """Return the images with their charge: for the images received and the references that the provider counted.

    `sizes` are those that the response names.

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
        charged_usd=_charge_usd(edit, billed, sizes, references),
        charge_is_estimate=True,
        url_lifetime_s=RESULT_LIFETIME_S,
        warnings=(f"The provider stopped early: {reason}",) if reason and not lost else (),
    )


def _charge_usd(edit: ProviderRequest, images: int, sizes: Sequence[Size | None], references: int) -> Decimal:
    """Return the list price of a response. Each layer, and each image whose size the model chose, counts by its area.

    An image without a known size counts by the size of the request, or else by the dearest one.
    """
    offer = edit.offer
    if edit.size and offer.operation is not Operation.LAYERS:
        return catalog.quote(offer, images, edit.size, references).usd
    known = [*sizes, *(None for _ in range(images))][:images]
    each = sum((catalog.quote(offer, 1, size or edit.size, 0).usd for size in known), Decimal(0))
    return each + catalog.quote(offer, 0, None, references).usd


def _size(item: Any) -> Size | None:
    size = read.field(item, "size")
    found = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", size) if isinstance(size, str) else None
    return (int(found[1]), int(found[2])) if found else None


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
        for family in models.FAMILIES.values()
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
    offers=models.offers_at({}),
    offers_at=models.offers_at,
    offers_for=models.offers_for,
    submit=submit,
    listing=listing,
    inline=True,
    reference_limits=ReferenceLimits(max_bytes=10_000_000, max_pixels=36_000_000, max_body_bytes=64_000_000),
    result_lifetime_s=RESULT_LIFETIME_S,
    max_running=8,
    deadline_s=1800.0,
)
