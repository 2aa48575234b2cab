"""Novita AI: one synchronous call per request, with inline references; the response is a list of URLs.

The facts are in docs/providers/novita.md#submit and the headings after it. References go as data URIs: the page of 4.0
demands them, others use them for 4.5. The page of 5.0 lite shows plain base64, so after a refusal over that form, which
surely was not accepted, the other form is tried once. The response has no charge: the list price of the received images
is used. The lifetime of a result is not documented; an hour is assumed.

Rules: every shape of response is tolerated; only errors of ours are raised. The API has no id to find a call by: a call
whose response was lost is reported as lost.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from triptych import catalog
from triptych.core import errors
from triptych.core.models import Done, Pending, ProviderRequest, Reference, ReturnedImage
from triptych.core.offers import Offer, Param
from triptych.providers import BaseUrl, Flow, HttpRequest, HttpResponse, Provider, ReferenceLimits, refuse
from triptych.providers import _offers as offering
from triptych.providers import _reading as read
from triptych.providers._offers import Family

RESULT_LIFETIME_S = 3600.0
TIMEOUT_S = 900.0
"""All images of a sequence come in one response, at about 20 s each."""

_NO_FUNDS = "NOT_ENOUGH_BALANCE"
_FORM_WORDS = re.compile(r"base64|data:image|data uri|invalid (image|url)|image (url|format)", re.I)


# The models (docs/providers/novita.md#models) -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _NovitaFamily(Family):
    """A family on Novita; 4.0 names its references and its count differently."""

    latency_s: float = 22.0
    params: Mapping[str, Param] = field(default_factory=lambda: {"watermark": offering.WATERMARK})
    no_params: Mapping[str, str] = field(default_factory=lambda: offering.NO_SEED)
    reference_field: str = "image"
    nested_count: bool = True


_FAMILIES: Mapping[str, _NovitaFamily] = {
    "seedream-5.0-lite": _NovitaFamily(
        "seedream-5.0-lite",
        "0.035",
        replace(offering.sized("2K", "3K", min_area=3_686_400, max_area=10_404_496), may_be_left_out=True),
        "the provider's documentation",
        params={
            "watermark": offering.WATERMARK,
            "prompt_optimization": offering.prompt_optimization("optimize_prompt_options", "mode"),
        },
    ),
    "seedream-4.5": _NovitaFamily("seedream-4.5", "0.04", offering.sized("2K", "4K", min_area=3_686_400)),
    "seedream-4.0": _NovitaFamily(
        "seedream-4.0",
        "0.03",
        offering.sized("1K", "2K", "4K", min_area=1_048_576),
        max_references=10,
        reference_field="images",
        nested_count=False,
    ),
}


def _offers() -> tuple[Offer, ...]:
    return offering.offers("novita", _FAMILIES)


# The one call --------------------------------------------------------------------------------------------------------


def submit(edit: ProviderRequest) -> Flow[Pending | Done]:
    """Return the finished images of an accepted request.

    Raises: `Outage` for any response that leaves open whether the request was accepted.
    """
    response = yield _generate(edit, uris=True)
    inline = any(not reference.url for reference in edit.references)
    if response.status == 400 and inline and _FORM_WORDS.search(_error_message(response.json())):
        second = yield _generate(edit, uris=False)
        if second.status != 400:
            response = second
    return _read_response(edit, response)


def _generate(edit: ProviderRequest, *, uris: bool) -> HttpRequest:
    path = f"/v3/{edit.offer.endpoint}"
    return HttpRequest("POST", path, json=_body(edit, uris=uris), repeatable=False, timeout_s=TIMEOUT_S)


def _body(edit: ProviderRequest, *, uris: bool) -> dict[str, Any]:
    """Return the request's fields: no model, which is in the path, and no format, which is always JPEG."""
    offer, family = edit.offer, _FAMILIES[edit.offer.family]
    body: dict[str, Any] = {"prompt": edit.prompt}
    if offer.operation.edits:
        body[family.reference_field] = [_source(reference, uris=uris) for reference in edit.references]
    # With a tier alone the model chooses the ratio.
    body["size"] = f"{edit.size[0]}x{edit.size[1]}" if edit.size else offer.sizes.default
    body["watermark"] = False
    if offer.operation.sequential:
        limit = {"max_images": edit.count}
        body["sequential_image_generation"] = "auto"
        body |= {"sequential_image_generation_options": limit} if family.nested_count else limit
    offering.set_params(body, edit)
    return body


def _source(reference: Reference, *, uris: bool) -> str:
    source = read.reference_uri(reference)
    return source if uris or reference.url else source.partition(",")[2]


def _read_response(edit: ProviderRequest, response: HttpResponse) -> Done:
    """Return the images of a response, or raise the error it means (docs/providers/novita.md#answer)."""
    body = response.json()
    if not 200 <= response.status < 300:
        _raise_refusal(response, body)
    images = read.field(body, "images")
    if not isinstance(images, list):
        if _code(body):  # an error with status 200 is a decision
            raise _no_image(response, body, _error_text(body))
        raise read.outage(response, body)
    outputs = tuple(read.image(image, "url", "image_url") for image in images[: read.MAX_OUTPUTS])
    image_count = sum(1 for output in outputs if output.url)
    if not image_count:
        reason = (
            _error_text(body) if _code(body) else next((output.error for output in outputs if output.error), "") or ""
        )
        raise _no_image(response, body, reason)
    # With an error beside the images, the missing images count as lost.
    lost = (ReturnedImage(error=_error_text(body)),) * (edit.count - len(outputs)) if _code(body) else ()
    charged_usd = catalog.quote(edit.offer, image_count, edit.size, len(edit.references)).usd
    return Done(outputs + lost, charged_usd, charge_is_estimate=True, url_lifetime_s=RESULT_LIFETIME_S)


def _no_image(response: HttpResponse, body: Any, reason: str) -> errors.Failed:
    kind = errors.Moderated if read.MODERATION_WORDS.search(reason) else errors.Failed
    message = f"The provider made no image: {reason}" if reason else "The provider answered without any image."
    return kind(message, request_id=_trace_id(response, body))


# Errors (docs/providers/novita.md#errors: its own with a `reason`, or the origin's under `error`) ---------------------


def _code(body: Any) -> str:
    for code in (read.field(body, "error", "code"), read.field(body, "reason")):
        if isinstance(code, str) and code:
            return code[:120]
    return ""


def _error_message(body: Any) -> str:
    """Return an error's message; its reason is only a code."""
    for text in (read.field(body, "error", "message"), read.field(body, "message")):
        if isinstance(text, str) and text:
            return text[: read.MESSAGE_READ_CHARS]
    return read.message(body)


def _error_text(body: Any) -> str:
    """Return an error's code and message as quoted data."""
    code, words = _code(body), _error_message(body)
    return errors.quoted(f"{code}: {words}" if code and words != code else words or code or "no reason given")


def _trace_id(response: HttpResponse, body: Any) -> str | None:
    trace = read.field(body, "metadata", "trace_id")
    return read.request_id(response, {"request_id": trace})


def _raise_refusal(response: HttpResponse, body: Any) -> NoReturn:
    """Raise the error that a refusal means: a 4xx surely was not accepted, a 5xx may have been."""
    status, code, detail, trace = response.status, _code(body), _error_text(body), _trace_id(response, body)
    if status in (408, 499) or not 400 <= status < 600:
        raise errors.Outage(f"The provider's answer is not usable (HTTP {status}: {detail}).", request_id=trace)
    if status < 500 and "SensitiveContent" in code:
        raise errors.Moderated(f"The content filter refused the request: {detail}.", request_id=trace)
    if status == 402 or (status == 403 and code == _NO_FUNDS):
        raise errors.NoFunds(f"The provider's balance is too low: {detail}.", request_id=trace)
    if status == 503 and code:
        raise errors.RateLimited(f"The provider is busy and accepted nothing: {detail}.", request_id=trace)
    text = f"{code}: {_error_message(body)}" if code else _error_message(body) or "no reason given"
    refuse(status, text, request_id=trace, retry_after=read.header(response, "retry-after"))
    raise AssertionError("a status from 400 to 599 is refused")


PROVIDER = Provider(
    name="novita",
    title="Novita AI",
    key_env="NOVITA_API_KEY",
    rank=6,
    base_urls={"api": BaseUrl("NOVITA_BASE_URL", "https://api.novita.ai")},
    offers=_offers(),
    submit=submit,
    inline=True,
    reference_limits=ReferenceLimits(
        max_bytes=10_000_000, max_pixels=36_000_000, formats=("image/jpeg", "image/png"), max_body_bytes=64_000_000
    ),
    result_lifetime_s=RESULT_LIFETIME_S,
    max_running=4,
    deadline_s=1800.0,
)
