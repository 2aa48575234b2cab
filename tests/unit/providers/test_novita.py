"""Novita's flow, driven by hand: what goes out, byte for byte, and what each odd answer comes to."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import flows
from support.flows import HTML, answer, any_json, drive
from triptych import catalog, providers
from triptych.core import errors
from triptych.core.models import Done, ProviderRequest, Reference, ReturnedImage
from triptych.core.offers import Operation
from triptych.providers import HttpResponse, novita
from triptych.providers import _reading as read
from triptych.providers._offers import PATH_TAILS

URLS = ["https://s3.example/1.jpeg?X-Amz-Expires=3600", "https://s3.example/2.jpeg"]
SENSITIVE = "OutputImageSensitiveContentDetected"


REFERENCE = Reference("00", "image/PNG", data=b"x")
HOSTED = Reference("01", "image/jpeg", url=URLS[0])


def edit(
    operation: Operation = Operation.EDIT_SEQUENTIAL, family: str = "seedream-5.0-lite", **changes: Any
) -> ProviderRequest:
    references = (REFERENCE, HOSTED) if operation.edits else ()
    return flows.edit(novita.PROVIDER, operation, family, **{"references": references, **changes})


def finished(body: Any, status: int = 200) -> Done:
    done, _ = drive(novita.submit(edit()), answer(status, body))
    assert isinstance(done, Done)
    return done


# The models


def test_three_families_sell_four_operations_each() -> None:
    offers = novita.PROVIDER.offers
    assert {(o.endpoint, str(o.price.usd_per_image)) for o in offers} == {
        ("seedream-5.0-lite", "0.035"),
        ("seedream-4.5", "0.04"),
        ("seedream-4.0", "0.03"),
    }
    assert len({(o.endpoint, o.operation) for o in offers}) == len(offers) == 12
    assert {o.max_references for o in offers if o.family == "seedream-4.0"} == {0, 10}
    assert all(not o.formats for o in offers)
    assert providers.load("novita") is novita.PROVIDER


@pytest.mark.parametrize("offer", novita.PROVIDER.offers, ids=lambda o: f"{o.endpoint}-{o.operation}")
def test_every_size_on_offer_is_within_the_offers_own_limits(offer: Any) -> None:
    words = list(offer.sizes.presets)
    for spec in [None, "16:9", "21:9", "portrait", *words, *(f"{word} 9:16" for word in words)]:
        width, height = catalog.resolve_size(offer, spec, (4000, 3000))
        assert offer.sizes.min_area <= width * height <= offer.sizes.max_area


@pytest.mark.parametrize("operation", list(PATH_TAILS))
def test_a_path_names_the_offer_for_every_operation(operation: Operation) -> None:
    offer = catalog.choose(novita.PROVIDER.offers, operation, "seedream-4.0", 2 if operation.sequential else 1)
    assert (offer.endpoint, offer.operation) == ("seedream-4.0", operation)


# What goes out (docs/providers/novita.md#submit)

PLAIN = {"prompt": "two cats", "size": "2048x2048", "watermark": False}
SOURCES = ["data:image/png;base64,eA==", URLS[0]]
NESTED = {"sequential_image_generation": "auto", "sequential_image_generation_options": {"max_images": 2}}
FLAT = {"sequential_image_generation": "auto", "max_images": 2}


@pytest.mark.parametrize(
    ("request_", "path", "body"),
    [
        (edit(), "/v3/seedream-5.0-lite", {**PLAIN, "image": SOURCES, **NESTED}),
        (edit(Operation.EDIT), "/v3/seedream-5.0-lite", {**PLAIN, "image": SOURCES}),
        (edit(Operation.GENERATE_SEQUENTIAL), "/v3/seedream-5.0-lite", {**PLAIN, **NESTED}),
        (edit(Operation.GENERATE, format="png"), "/v3/seedream-5.0-lite", PLAIN),
        (edit(family="seedream-4.5"), "/v3/seedream-4.5", {**PLAIN, "image": SOURCES, **NESTED}),
        (edit(family="seedream-4.0"), "/v3/seedream-4.0", {**PLAIN, "images": SOURCES, **FLAT}),
        (edit(Operation.EDIT, "seedream-4.0"), "/v3/seedream-4.0", {**PLAIN, "images": SOURCES}),
        (edit(Operation.GENERATE_SEQUENTIAL, "seedream-4.0"), "/v3/seedream-4.0", {**PLAIN, **FLAT}),
        (edit(Operation.GENERATE, "seedream-4.0"), "/v3/seedream-4.0", PLAIN),
        (
            edit(Operation.GENERATE, params={"prompt_optimization": "standard"}),
            "/v3/seedream-5.0-lite",
            {**PLAIN, "optimize_prompt_options": {"mode": "standard"}},
        ),
        (
            edit(Operation.GENERATE, "seedream-4.0", params={"watermark": True}),
            "/v3/seedream-4.0",
            {**PLAIN, "watermark": True},
        ),
        (edit(Operation.GENERATE, size=None), "/v3/seedream-5.0-lite", {**PLAIN, "size": "2K"}),
    ],
)
def test_the_body_has_the_fields_of_its_version(request_: ProviderRequest, path: str, body: dict[str, Any]) -> None:
    _, (call,) = drive(novita.submit(request_), answer(body={"images": URLS}))
    assert (call.method, call.path, call.base, call.json) == ("POST", path, "api", body)
    assert not call.repeatable and call.authorize and call.timeout_s >= 600


@pytest.mark.parametrize(
    ("family", "params", "why"),
    [
        *((f"seedream-{name}", {"seed": 1}, "it would do nothing") for name in ("5.0-lite", "4.5", "4.0")),
        ("seedream-5.0-lite", {"prompt_optimization": "fast"}, "must be standard"),
        ("seedream-4.5", {"prompt_optimization": "standard"}, "no parameter"),
        ("seedream-5.0-lite", {"web_search": True}, "no parameter"),
        ("seedream-5.0-lite", {"background": "transparent"}, "no parameter"),
    ],
)
def test_a_parameter_that_the_model_has_not_is_refused(family: str, params: dict[str, Any], why: str) -> None:
    asked = edit(Operation.EDIT, family, params=params)
    with pytest.raises(errors.OutOfLimits, match=why):
        catalog.check_params(asked.offer, asked.request)


def test_only_5_0_lite_leaves_its_size_to_the_model() -> None:
    left = {o.family for o in novita.PROVIDER.offers if catalog.resolve_size(o, "auto", None) is None}
    assert left == {"seedream-5.0-lite"}


def test_a_reference_with_nothing_goes_nowhere() -> None:
    with pytest.raises(errors.UnreadableImage):
        next(novita.submit(edit(references=(Reference("0", "image/png"),))))


def refused(message: str, status: int = 400, reason: str = "INVALID_REQUEST_BODY") -> HttpResponse:
    return answer(status, {"code": status, "reason": reason, "message": message, "metadata": {"trace_id": "t-1"}})


@pytest.mark.parametrize("words", ["invalid base64", "must be data:image/…", "image format is wrong", "invalid image"])
def test_a_refused_reference_form_is_tried_in_the_other_form(words: str) -> None:
    done, calls = drive(novita.submit(edit()), refused(words), answer(body={"images": URLS}))
    assert [call.json["image"] for call in calls] == [SOURCES, ["eA==", URLS[0]]]
    assert {**calls[0].json, "image": 0} == {**calls[1].json, "image": 0}
    assert isinstance(done, Done)


def test_the_first_of_two_refusals_is_reported() -> None:
    with pytest.raises(errors.Refused, match="invalid base64"):
        drive(novita.submit(edit()), refused("invalid base64"), refused("neither"))


@pytest.mark.parametrize(
    ("request_", "first", "kind"),
    [
        (edit(), refused("prompt is required"), errors.Refused),
        (edit(references=(HOSTED,)), refused("invalid image"), errors.Refused),
        (edit(Operation.GENERATE), refused("invalid image"), errors.Refused),
        (edit(), refused("invalid base64", 500, "TASK_FAILED"), errors.Outage),
    ],
)
def test_nothing_else_is_ever_sent_again(request_: ProviderRequest, first: HttpResponse, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        drive(novita.submit(request_), first)


# What comes back


def test_an_answer_gives_ordered_frames_at_list_price() -> None:
    done = finished({"images": URLS})
    frames = (ReturnedImage(url=URLS[0]), ReturnedImage(url=URLS[1]))
    assert done == Done(frames, Decimal("0.070"), charge_is_estimate=True, url_lifetime_s=3600)


@pytest.mark.parametrize(
    ("image", "output"),
    [
        ({"image_url": URLS[1], "image_type": "jpeg"}, ReturnedImage(url=URLS[1])),
        ({"url": URLS[1]}, ReturnedImage(url=URLS[1])),
        (None, ReturnedImage(error="the provider's answer has no URL for this image")),
        (7, ReturnedImage(error="the provider's answer has no URL for this image")),
        ("javascript:1", ReturnedImage(error="the provider's answer has no URL for this image")),
        ({"error": {"code": SENSITIVE, "message": "no <luck>"}}, ReturnedImage(error='"no ‹luck›"')),
    ],
)
def test_every_image_entry_is_a_frame_or_a_reason(image: Any, output: ReturnedImage) -> None:
    done = finished({"images": [URLS[0], image]})
    assert done.outputs == (ReturnedImage(url=URLS[0]), output)
    assert done.charged_usd == Decimal("0.035") * sum(1 for one in done.outputs if one.url)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"images": []}, errors.Failed),
        ({"images": [None]}, errors.Failed),
        ({"images": [], "error": {"code": SENSITIVE, "message": "no"}}, errors.Moderated),
        ({"error": {"code": SENSITIVE, "message": "no"}}, errors.Moderated),
        ({"code": 500, "reason": "TASK_FAILED", "message": "no"}, errors.Failed),
        ({"task_id": "0d5"}, errors.Outage),
        ({}, errors.Outage),
        ({"code": 500, "data": None}, errors.Outage),
        ([], errors.Outage),
        (b"", errors.Outage),
        (HTML, errors.Outage),
        (b"[" * 100_000, errors.Outage),
    ],
)
def test_a_success_without_an_image_is_a_decision(body: Any, kind: Any) -> None:
    with pytest.raises(errors.TriptychError) as caught:
        finished(body)
    assert type(caught.value) is kind and "<" not in caught.value.message


@pytest.mark.parametrize("upstream", [False, True])
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "INVALID_REQUEST_BODY", errors.Refused),
        (400, "InputTextSensitiveContentDetected", errors.Moderated),
        (400, SENSITIVE, errors.Moderated),
        (401, "FAILED_TO_AUTH", errors.KeyRejected),
        (402, "WHATEVER", errors.NoFunds),
        (403, "INVALID_API_KEY", errors.KeyRejected),
        (403, "NOT_ENOUGH_BALANCE", errors.NoFunds),
        (403, "ACCESS_DENY", errors.KeyRejected),
        (404, "PATH_NOT_FOUND", errors.NotOffered),
        (404, "MODEL_NOT_FOUND", errors.NotOffered),
        (429, "RATE_LIMIT_EXCEEDED", errors.RateLimited),
        (429, "TOKEN_LIMIT_EXCEEDED", errors.RateLimited),
        (500, "TASK_FAILED", errors.Outage),
        (503, "SERVICE_NOT_AVAILABLE", errors.RateLimited),
        (504, "TASK_FAILED", errors.Outage),
        (408, "TIMEOUT", errors.Outage),
    ],
)
def test_both_shapes_of_an_error_mean_the_same(status: int, code: str, kind: type[Exception], upstream: bool) -> None:
    own = {"code": status, "reason": code, "message": "not <this> time", "metadata": {"trace_id": "t-1"}}
    with pytest.raises(errors.TriptychError) as caught:
        finished({"error": {"code": code, "message": "not <this> time"}} if upstream else own, status)
    assert type(caught.value) is kind
    assert "not ‹this› time" in caught.value.message
    assert caught.value.request_id == (None if upstream else "t-1")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.Refused),
        (401, errors.KeyRejected),
        (403, errors.KeyRejected),
        (404, errors.NotOffered),
        (413, errors.Refused),
        (429, errors.RateLimited),
        (502, errors.Outage),
        (503, errors.Outage),
        (302, errors.Outage),
    ],
)
def test_an_error_in_no_shape_goes_by_its_status(status: int, kind: type[Exception]) -> None:
    with pytest.raises(errors.TriptychError) as caught:
        drive(novita.submit(edit(Operation.GENERATE)), answer(status, HTML))
    assert type(caught.value) is kind


def test_a_wish_to_wait_is_handed_on() -> None:
    with pytest.raises(errors.RateLimited) as caught:
        drive(novita.submit(edit()), answer(429, {"reason": "RATE_LIMIT_EXCEEDED"}, {"Retry-After": "7"}))
    assert caught.value.retry_after_s == 7


# Whatever comes

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
_WORDS = st.sampled_from([*URLS, SENSITIVE, "invalid base64", "NOT_ENOUGH_BALANCE"])
_KEYS = st.sampled_from(
    ["images", "error", "code", "message", "reason", "metadata", "trace_id", "url", "image_url", "task_id"]
)
_JSON = any_json(_SCALARS | _WORDS, _KEYS)
_ENTRY = st.dictionaries(_KEYS, _JSON, max_size=6)
_STATUSES = st.sampled_from([200, 201, 302, 400, 401, 403, 404, 429, 500, 503])


@given(first=_STATUSES, second=_STATUSES, body=_JSON | _ENTRY, raw=st.binary())
def test_no_answer_raises_anything_but_our_errors(first: int, second: int, body: Any, raw: bytes) -> None:
    for content in (body, raw):
        flow = novita.submit(edit())
        next(flow)
        try:
            flow.send(answer(first, content))
            with contextlib.suppress(StopIteration):
                flow.send(answer(second, content))
        except errors.TriptychError as error:
            assert len(error.message) < 1000
        except StopIteration as stop:
            assert isinstance(stop.value, Done) and len(stop.value.outputs) <= read.MAX_OUTPUTS
