"""Novita AI: one synchronous call per request, references inside, a list of URLs back.

The facts are in docs/providers/novita.md#submit and the headings after it. References go as data URIs, the form its
page for 4.0 demands and others use for 4.5; the page of 5.0 lite shows plain base64, so a refusal over that form, which
is surely not accepted, is tried once with the other. The answer says nothing of money: the charge is the list price of
what came. How long a result stays is not documented; an hour is counted on.

Rules: every shape of answer is tolerated and nothing but our own errors leaves; there is no id to find a call again by,
so one whose answer was lost is reported as lost.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from triptych import catalog
from triptych.core import errors
from triptych.core.models import Done, Offer, Pending, ProviderRequest, Reference, ReturnedImage
from triptych.providers import BaseUrl, Flow, HttpRequest, HttpResponse, Provider, ReferenceLimits, refuse
from triptych.providers import _offers as offering
from triptych.providers import _reading as read
from triptych.providers._offers import Family

RESULT_LIFETIME_S = 3600.0
TIMEOUT_S = 900.0
"""All images of a sequence come in one answer, at about 20 s each."""

_NO_FUNDS = "NOT_ENOUGH_BALANCE"
_FORM_WORDS = re.compile(r"base64|data:image|data uri|invalid (image|url)|image (url|format)", re.I)


# The models (docs/providers/novita.md#models) -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Family(Family):
    """A family on Novita; 4.0 names its references and its count differently."""

    latency_s: float = 22.0
    reference_field: str = "image"
    nested_count: bool = True


_FAMILIES: Mapping[str, _Family] = {
    "seedream-5.0-lite": _Family(
        "seedream-5.0-lite",
        "0.035",
        offering.sized("2K", "3K", least=3_686_400, most=10_404_496),
        "the provider's documentation",
    ),
    "seedream-4.5": _Family("seedream-4.5", "0.04", offering.sized("2K", "4K", least=3_686_400)),
    "seedream-4.0": _Family(
        "seedream-4.0",
        "0.03",
        offering.sized("1K", "2K", "4K", least=1_048_576),
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

    Raises: `Outage` for any answer that leaves open whether it was accepted.
    """
    answer = yield _generate(edit, uris=True)
    inline = any(not reference.url for reference in edit.references)
    if answer.status == 400 and inline and _FORM_WORDS.search(_words(answer.json())):
        second = yield _generate(edit, uris=False)
        if second.status != 400:
            answer = second
    return _answered(edit, answer)


def _generate(edit: ProviderRequest, *, uris: bool) -> HttpRequest:
    path = f"/v3/{edit.offer.endpoint}"
    return HttpRequest("POST", path, json=_body(edit, uris=uris), repeatable=False, timeout_s=TIMEOUT_S)


def _body(edit: ProviderRequest, *, uris: bool) -> dict[str, Any]:
    """Return the request's fields: no model, which is in the path, and no format, which is always JPEG."""
    offer, family = edit.offer, _FAMILIES[edit.offer.family]
    body: dict[str, Any] = {"prompt": edit.prompt}
    if offer.operation.edits:
        body[family.reference_field] = [_source(reference, uris=uris) for reference in edit.references]
    if edit.size:
        body["size"] = f"{edit.size[0]}x{edit.size[1]}"
    body["watermark"] = False
    if offer.operation.sequential:
        most = {"max_images": edit.count}
        body["sequential_image_generation"] = "auto"
        body |= {"sequential_image_generation_options": most} if family.nested_count else most
    return body


def _source(reference: Reference, *, uris: bool) -> str:
    source = read.source(reference)
    return source if uris or reference.url else source.partition(",")[2]


def _answered(edit: ProviderRequest, answer: HttpResponse) -> Done:
    """Return the images of an answer, or raise what it means (docs/providers/novita.md#answer)."""
    body = answer.json()
    if not 200 <= answer.status < 300:
        _raise_refusal(answer, body)
    images = read.at(body, "images")
    if not isinstance(images, list):
        if _code(body):  # an error under 200: a decision
            raise _no_image(answer, body, _said(body))
        raise read.outage(answer, body)
    outputs = tuple(read.frame(image, "url", "image_url") for image in images[: read.MAX_OUTPUTS])
    came = sum(1 for output in outputs if output.url)
    if not came:
        why = _said(body) if _code(body) else next((output.error for output in outputs if output.error), "") or ""
        raise _no_image(answer, body, why)
    # An error beside the images kept the others from being made.
    lost = (ReturnedImage(error=_said(body)),) * (edit.count - len(outputs)) if _code(body) else ()
    charged_usd = catalog.quote(edit.offer, came, edit.size, len(edit.references)).usd
    return Done(outputs + lost, charged_usd, charge_is_estimate=True, url_lifetime_s=RESULT_LIFETIME_S)


def _no_image(answer: HttpResponse, body: Any, why: str) -> errors.Failed:
    kind = errors.Moderated if read.MODERATION_WORDS.search(why) else errors.Failed
    message = f"The provider made no image: {why}" if why else "The provider answered without any image."
    return kind(message, request_id=_trace_id(answer, body))


# Errors (docs/providers/novita.md#errors: its own with a `reason`, or the origin's under `error`) ---------------------


def _code(body: Any) -> str:
    for code in (read.at(body, "error", "code"), read.at(body, "reason")):
        if isinstance(code, str) and code:
            return code[:120]
    return ""


def _words(body: Any) -> str:
    """Return an error's message; its reason is a code, and says less."""
    for text in (read.at(body, "error", "message"), read.at(body, "message")):
        if isinstance(text, str) and text:
            return text[: read.MESSAGE_READ_CHARS]
    return read.message(body)


def _said(body: Any) -> str:
    """Return an error's code and words as quoted data."""
    code, words = _code(body), _words(body)
    return errors.quoted(f"{code}: {words}" if code and words != code else words or code or "no reason given")


def _trace_id(answer: HttpResponse, body: Any) -> str | None:
    trace = read.at(body, "metadata", "trace_id")
    return read.request_id(answer, {"request_id": trace})


def _raise_refusal(answer: HttpResponse, body: Any) -> NoReturn:
    """Raise what an answer that is no success means: a 4xx was surely not accepted, a 5xx may have been."""
    status, code, said, trace = answer.status, _code(body), _said(body), _trace_id(answer, body)
    if status in (408, 499) or not 400 <= status < 600:
        raise errors.Outage(f"The provider's answer is not usable (HTTP {status}: {said}).", request_id=trace)
    if status < 500 and "SensitiveContent" in code:
        raise errors.Moderated(f"The content filter refused the request: {said}.", request_id=trace)
    if status == 402 or (status == 403 and code == _NO_FUNDS):
        raise errors.NoFunds(f"The provider's balance is too low: {said}.", request_id=trace)
    if status == 503 and code:
        raise errors.RateLimited(f"The provider is busy and accepted nothing: {said}.", request_id=trace)
    text = f"{code}: {_words(body)}" if code else _words(body) or "no reason given"
    refuse(status, text, request_id=trace, retry_after=read.header(answer, "retry-after"))
    raise AssertionError("a status from 400 to 599 is refused")


PROVIDER = Provider(
    name="novita",
    title="Novita AI",
    key_env="NOVITA_API_KEY",
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
