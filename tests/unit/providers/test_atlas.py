"""Atlas Cloud's flows, driven by hand: what goes out, byte for byte, and what each odd answer comes to."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import flows
from support.flows import HTML, SENT, SENT_AT, answer, any_answer, any_json, drive, lost
from triptych import providers
from triptych.core import errors
from triptych.core.models import Done, Pending, ProviderRequest, Reference, ReturnedImage, Upload
from triptych.core.offers import Operation, Quote
from triptych.providers import HttpRequest, HttpResponse, SubmitTimes, atlas

TICKET = "0123456789abcdef0123456789abcdef"
STATUS_PATH = f"/api/v1/model/prediction/{TICKET}"
POLL_URL = f"https://api.atlascloud.ai{STATUS_PATH}"


edit = partial(flows.edit, atlas.PROVIDER)


def accepted(**changes: Any) -> dict[str, Any]:
    """The live answer to a submit (docs/providers/atlas.md#submit)."""
    data = {
        "id": TICKET,
        "model": "bytedance/seedream-v5.0-lite/edit-sequential",
        "outputs": None,
        "urls": {"get": POLL_URL},
        "has_nsfw_contents": None,
        "status": "processing",
        "created_at": "0001-01-01T00:00:00Z",
        "error": "",
        "executionTime": 0,
        "timings": {"inference": 0},
    }
    return {"code": 200, "message": "", "data": {**data, **changes}}


# The models


def test_four_families_sell_four_operations_each_and_three_sell_three() -> None:
    offers = atlas.PROVIDER.offers
    assert len(offers) == len({o.endpoint for o in offers}) == 25
    assert {o.endpoint for o in offers if o.inferred_endpoint} == {
        "bytedance/seedream-v5.5/edit",
        "bytedance/seedream-v5.5/layer-decomposition",
    }
    assert {o.endpoint: str(o.price.usd_per_image) for o in offers if o.operation is Operation.EDIT_SEQUENTIAL} == {
        "bytedance/seedream-v5.0-lite/edit-sequential": "0.032",
        "bytedance/seedream-v4.5/edit-sequential": "0.036",
        "bytedance/seedream-v4/edit-sequential": "0.027",
        "bytedance/seedream-v4.7/edit-sequential": "0.03",
    }
    assert providers.load("atlas") is atlas.PROVIDER
    assert offers[0].endpoint == "bytedance/seedream-v5.0-lite"


def test_the_exact_sizes_are_the_sixteen_of_the_schema() -> None:
    sizes = edit().offer.sizes
    assert sizes.exact and len(sizes.all()) == 16
    assert {(2048, 2048), (3136, 1344), (3072, 3072), (4704, 2016), (2496, 3744)} <= set(sizes.all())


# Submit: what goes out


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (
            edit(references=2),
            {
                "model": "bytedance/seedream-v5.0-lite/edit-sequential",
                "prompt": "two cats",
                "images": ["https://host.example/0.png", "https://host.example/1.png"],
                "max_images": 2,
                "size": "2048*2048",
                "output_format": "png",
            },
        ),
        (
            edit(Operation.EDIT),
            {
                "model": "bytedance/seedream-v5.0-lite/edit",
                "prompt": "two cats",
                "images": ["https://host.example/0.png"],
                "size": "2048*2048",
                "output_format": "png",
            },
        ),
        (
            edit(Operation.GENERATE_SEQUENTIAL, format=None),
            {
                "model": "bytedance/seedream-v5.0-lite/sequential",
                "prompt": "two cats",
                "max_images": 2,
                "size": "2048*2048",
            },
        ),
        (
            edit(Operation.GENERATE, size=None),
            {"model": "bytedance/seedream-v5.0-lite", "prompt": "two cats", "output_format": "png"},
        ),
        (
            edit(family="seedream-4.7"),
            {
                "model": "bytedance/seedream-v4.7/edit-sequential",
                "prompt": "two cats",
                "images": ["https://host.example/0.png"],
                "num_images": 2,
                "size": "2048*2048",
            },
        ),
        (
            edit(family="seedream-4.0", format="png"),
            {
                "model": "bytedance/seedream-v4/edit-sequential",
                "prompt": "two cats",
                "images": ["https://host.example/0.png"],
                "max_images": 2,
                "size": "2048*2048",
            },
        ),
        (
            edit(Operation.EDIT, "seedream-4.5", references=0),
            {"model": "bytedance/seedream-v4.5/edit", "prompt": "two cats", "images": [], "size": "2048*2048"},
        ),
    ],
)
def test_the_body_is_flat_with_the_models_fields_only(request_: ProviderRequest, body: dict[str, Any]) -> None:
    pending, (call,) = drive(atlas.submit(request_), answer(body=accepted()))
    assert (call.method, call.path, call.json) == ("POST", "/api/v1/model/generateImage", body)
    assert not call.repeatable
    assert pending == Pending(TICKET, POLL_URL)


def test_a_reference_without_a_url_goes_as_a_data_uri() -> None:
    inline = (
        edit(references=0, **{}) if False else replace(edit(), references=(Reference("0", "image/png", data=b"x"),))
    )
    _, (call,) = drive(atlas.submit(inline), answer(body=accepted()))
    assert call.json["images"] == ["data:image/png;base64,eA=="]
    with pytest.raises(errors.UnreadableImage):
        next(atlas.submit(replace(edit(), references=(Reference("0", "image/png"),))))


# Submit: what comes back


@pytest.mark.parametrize(
    ("body", "pending"),
    [
        ({"id": "pred_abc123", "status": "processing", "model": "m"}, Pending("pred_abc123")),
        (accepted(urls=None), Pending(TICKET)),
        (accepted(urls={"get": ["x"]}), Pending(TICKET)),
        (accepted(urls={"get": "http://["}), Pending(TICKET)),
        (accepted(urls={"get": "javascript:1"}), Pending(TICKET)),
        (accepted(status="completed", outputs=["https://cdn.example/1.png"]), Pending(TICKET, POLL_URL)),
        (accepted(status="sleeping"), Pending(TICKET, POLL_URL)),
    ],
)
def test_an_accepted_submit_is_a_ticket_in_every_shape(body: Any, pending: Pending) -> None:
    assert drive(atlas.submit(edit()), answer(body=body))[0] == pending


def test_a_ticket_counts_even_within_a_500() -> None:
    assert drive(atlas.submit(edit()), answer(500, accepted()))[0] == Pending(TICKET, POLL_URL)


ENVELOPE = {"code": 0, "msg": "no <b>luck</b>", "request_id": "req-1", "data": None}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, ENVELOPE, errors.Refused),
        (400, {"error": {"type": "x", "code": "y", "message": "no luck", "param": None}}, errors.Refused),
        (401, ENVELOPE, errors.KeyRejected),
        (402, ENVELOPE, errors.NoFunds),
        (403, ENVELOPE, errors.KeyRejected),
        (404, ENVELOPE, errors.NotOffered),
        (413, ENVELOPE, errors.Refused),
        (429, ENVELOPE, errors.RateLimited),
        (429, HTML, errors.RateLimited),
        (451, ENVELOPE, errors.Refused),
        (503, ENVELOPE, errors.RateLimited),
        (503, HTML, errors.Outage),
        (503, {"message": "Service Unavailable"}, errors.Outage),  # a gateway's own, after its time-out
        (408, ENVELOPE, errors.Outage),
        (500, ENVELOPE, errors.Outage),
        (502, HTML, errors.Outage),
        (504, ENVELOPE, errors.Outage),
        (302, HTML, errors.Outage),
        (500, {"code": 500, "message": "Generation failed: x", "data": {"status": "failed"}}, errors.Failed),
        (200, {"code": 500, "data": None}, errors.Outage),
        (200, {"code": 402, "msg": "balance", "data": None}, errors.NoFunds),
        (200, {"code": "429", "msg": "slow", "data": None}, errors.RateLimited),
        (200, {"code": 200, "data": {"status": "processing"}}, errors.Outage),
        (200, accepted(id=7), errors.Outage),
        (200, accepted(id=".."), errors.Outage),
        (200, accepted(id="a\nb"), errors.Outage),
        (200, accepted(id="x" * 500), errors.Outage),
        (200, [], errors.Outage),
        (200, b"", errors.Outage),
        (200, b"[" * 100_000, errors.Outage),
        (200, {"code": 200, "data": {"id": TICKET, "status": "failed", "error_code": 1039}}, errors.Moderated),
    ],
)
def test_a_submit_that_was_not_accepted_says_how_surely(status: int, body: Any, kind: type[Exception]) -> None:
    with pytest.raises(errors.TriptychError) as caught:
        drive(atlas.submit(edit()), answer(status, body))
    assert type(caught.value) is kind
    assert "<" not in caught.value.message


def test_a_refusal_quotes_request_id_and_message_as_data() -> None:
    with pytest.raises(errors.Refused, match='HTTP 404: "no ‹b›luck') as caught:
        drive(atlas.submit(edit()), answer(404, ENVELOPE))
    assert caught.value.request_id == "req-1"
    with pytest.raises(errors.Refused) as caught:
        drive(atlas.submit(edit()), answer(404, ENVELOPE, {"X-Request-ID": "from-the-header"}))
    assert caught.value.request_id == "from-the-header"


def test_a_401_blames_the_path_or_the_key() -> None:
    with pytest.raises(errors.KeyRejected, match="wrong path too: check ATLASCLOUD_BASE_URL"):
        drive(atlas.submit(edit()), answer(401, {**ENVELOPE, "msg": "unauthorized " * 100}))


def test_a_retry_after_is_handed_on() -> None:
    with pytest.raises(errors.RateLimited) as caught:
        drive(atlas.submit(edit()), answer(429, ENVELOPE, {"Retry-After": "7"}))
    assert caught.value.retry_after_s == 7


# The single edit's field


@pytest.mark.parametrize("text", ["missing required field: image", "image is required", "unknown field images"])
def test_a_refused_image_field_is_tried_in_another_spelling(text: str) -> None:
    refused = answer(400, {"code": 400, "msg": text})
    pending, calls = drive(atlas.submit(edit(Operation.EDIT)), refused, answer(body=accepted()))
    assert pending == Pending(TICKET, POLL_URL)
    assert calls[0].json["images"] == ["https://host.example/0.png"] and "image" not in calls[0].json
    assert calls[1].json["image"] == "https://host.example/0.png" and "images" not in calls[1].json


def test_the_first_of_two_refusals_is_reported() -> None:
    first, second = answer(422, {"msg": "field images is unknown"}), answer(400, {"msg": "neither"})
    with pytest.raises(errors.Refused, match="field images is unknown"):
        drive(atlas.submit(edit(Operation.EDIT)), first, second)


@pytest.mark.parametrize(
    ("request_", "status", "text"),
    [
        (edit(Operation.EDIT, references=2), 400, "image is required"),
        (edit(), 400, "image is required"),
        (edit(Operation.EDIT), 400, "prompt is required"),
        (edit(Operation.EDIT), 404, "image is required"),
    ],
)
def test_no_other_refusal_is_ever_sent_again(request_: ProviderRequest, status: int, text: str) -> None:
    with pytest.raises(errors.Refused):
        drive(atlas.submit(request_), answer(status, {"msg": text}))


def test_an_outage_is_never_sent_again() -> None:
    with pytest.raises(errors.Outage):
        drive(atlas.submit(edit(Operation.EDIT)), answer(500, {"msg": "image is required"}))


# Poll


def said(status: str = "completed", **more: Any) -> dict[str, Any]:
    return {"code": 200, "data": {"id": TICKET, "status": status, **more}}


URLS = ["https://a.example/1.png", "https://b.example/2.png"]


@pytest.mark.parametrize("status", ["created", "queued", "starting", "pending", "processing", "Processing", "napping"])
def test_every_status_that_is_no_end_is_still_running(status: str) -> None:
    pending, (call,) = drive(atlas.poll(TICKET, None), answer(body=said(status, outputs=URLS[:1])))
    assert pending == Pending(TICKET, None, done=1)
    assert (call.method, call.path, call.repeatable) == ("GET", STATUS_PATH, True)


@pytest.mark.parametrize(
    ("more", "outputs"),
    [
        ({"outputs": URLS}, tuple(ReturnedImage(url=url) for url in URLS)),
        ({"outputs": URLS[0]}, (ReturnedImage(url=URLS[0]),)),
        ({"output": URLS[0], "outputs": None}, (ReturnedImage(url=URLS[0]),)),
        ({"output": URLS}, tuple(ReturnedImage(url=url) for url in URLS)),
        ({"outputs": [{"url": URLS[0]}, {"download_url": URLS[1]}]}, tuple(ReturnedImage(url=url) for url in URLS)),
        (
            {"outputs": [URLS[0], {"error": {"code": "Sensitive", "message": "no"}}, None, "ftp://x/y"]},
            (
                ReturnedImage(url=URLS[0]),
                ReturnedImage(error='"no"'),
                ReturnedImage(error="the provider's answer has no URL for this image"),
                ReturnedImage(error="the provider's answer has no URL for this image"),
            ),
        ),
    ],
)
@pytest.mark.parametrize("status", ["completed", "succeeded"])
def test_a_finished_prediction_gives_its_frames_in_order(
    status: str, more: Any, outputs: tuple[ReturnedImage, ...]
) -> None:
    done, _ = drive(atlas.poll(TICKET, None), answer(body=said(status, **more)))
    assert isinstance(done, Done)
    assert done.outputs == outputs
    assert done.url_lifetime_s == 24 * 3600


@pytest.mark.parametrize(
    ("price", "charged"),
    [
        ("0.064", "0.064"),
        (0.064, "0.064"),
        (0, None),
        ("", None),
        (None, None),
        (-1, None),
        (True, None),
        ("inf", None),
    ],
)
def test_the_price_is_the_charge_once_it_is_there(price: Any, charged: str | None) -> None:
    body = answer(body=said(outputs=URLS, price=price))
    done, _ = drive(atlas.poll(TICKET, None), body)
    assert isinstance(done, Done)
    assert done.charged_usd == (None if charged is None else Decimal(charged))
    assert drive(atlas.charge(TICKET, None), body)[0] == done.charged_usd


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, said("failed", error="boom"), errors.Failed),
        (200, said("failed", error={"message": "boom"}), errors.Failed),
        (200, said("timeout"), errors.Failed),
        (200, said("canceled"), errors.Failed),
        (200, said("cancelled"), errors.Failed),
        (200, said("failed", error="x", error_code=1039), errors.Moderated),
        (200, said("failed", error="The content was flagged as sensitive"), errors.Moderated),
        (200, said("failed", error="NSFW", error_code=7), errors.Failed),
        (500, {"code": 500, "message": "Generation failed: boom", "data": {"status": "failed"}}, errors.Failed),
        (500, {"id": TICKET, "status": "failed", "error": "boom"}, errors.Failed),
        (200, said(outputs=[]), errors.Failed),
        (200, said(outputs=None), errors.Failed),
        (200, said(outputs=[None, {"error": "content policy"}]), errors.Failed),
    ],
)
def test_a_decision_ends_the_prediction_whatever_the_http_status(status: int, body: Any, kind: type[Exception]) -> None:
    with pytest.raises(errors.Failed) as caught:
        drive(atlas.poll(TICKET, None), answer(status, body))
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (502, HTML, errors.Outage),
        (502, {"status": "error", "message": "upstream"}, errors.Outage),
        (500, {"code": 500, "msg": "oops", "data": None}, errors.Outage),
        (200, {"code": 500, "data": None}, errors.Outage),
        (200, said(status="")["data"], errors.Outage),
        (200, HTML, errors.Outage),
        (200, b"{", errors.Outage),
        (200, [], errors.Outage),
        (200, 3, errors.Outage),
        (400, ENVELOPE, errors.Outage),
        (402, ENVELOPE, errors.Outage),
        (404, ENVELOPE, errors.Outage),
        (401, ENVELOPE, errors.KeyRejected),
        (403, HTML, errors.KeyRejected),
        (429, HTML, errors.RateLimited),
    ],
)
def test_anything_else_while_polling_decides_nothing(status: int, body: Any, kind: type[Exception]) -> None:
    with pytest.raises(errors.TriptychError) as caught:
        drive(atlas.poll(TICKET, None), answer(status, body))
    assert type(caught.value) is kind


def test_a_failure_quotes_the_provider_in_bounds() -> None:
    with pytest.raises(errors.Failed) as caught:
        drive(atlas.poll(TICKET, None), answer(body=said("failed", error="<i>\n" + "x" * 9000)))
    assert "‹i›" in caught.value.message and len(caught.value.message) < 500


def test_the_poll_url_of_the_answer_wins() -> None:
    url = "https://api.atlascloud.ai/api/v1/model/result/" + TICKET
    pending, calls = drive(atlas.poll(TICKET, url), answer(body=said("processing")))
    assert [call.path for call in calls] == [url]
    assert pending == Pending(TICKET, url)


def test_a_poll_url_off_the_origin_is_not_used() -> None:
    refused = errors.NotAllowed("not on the provider's origin")
    _, calls = drive(atlas.poll(TICKET, "https://evil.example/x"), refused, answer(body=said("processing")))
    assert [call.path for call in calls] == ["https://evil.example/x", STATUS_PATH]


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_dead_poll_url_falls_back_to_the_path(status: int) -> None:
    url = "https://api.atlascloud.ai/api/v1/model/result/" + TICKET
    done, calls = drive(atlas.poll(TICKET, url), answer(status, ENVELOPE), answer(body=said(outputs=URLS)))
    assert isinstance(done, Done)
    assert [call.path for call in calls] == [url, STATUS_PATH]


def test_a_poll_url_equal_to_the_path_is_asked_once() -> None:
    with pytest.raises(errors.Outage):
        drive(atlas.poll(TICKET, POLL_URL), answer(404, ENVELOPE))


def test_strange_poll_urls_are_unused_and_strange_tickets_escaped() -> None:
    _, calls = drive(atlas.poll("../a?b/\ud800", "file:///etc/passwd"), answer(body=said("processing")))
    assert calls[0].path == "/api/v1/model/prediction/..%2Fa%3Fb%2F%3F"


# Find


def entry(
    request_: ProviderRequest, ticket: str = TICKET, after_s: float = 1, nested: bool = False, **changes: Any
) -> Any:
    body = {**next(atlas.submit(request_)).json, **changes}
    if nested:
        body = {"model": body.pop("model"), "input": body}
    at = SENT_AT.timestamp() + after_s
    return {"ID": ticket, "createdAt": at, "model": request_.offer.endpoint, "requestBody": json.dumps(body)}


def history(*items: Any, total: int | None = None) -> HttpResponse:
    data = {"items": list(items), "pageNo": 1, "pageSize": 20, "total": len(items) if total is None else total}
    return answer(body={"code": 200, "data": data})


def look(
    request_: ProviderRequest, *answers: HttpResponse, known: frozenset[str] = frozenset()
) -> tuple[Pending | None, list[HttpRequest]]:
    return drive(atlas.find(request_, lost(request_), SENT, known), *answers)


def test_a_lost_submit_is_found_in_the_history() -> None:
    found, (call,) = look(edit(), history({}, 3, entry(edit())))
    assert found == Pending(TICKET)
    assert (call.method, call.path) == ("GET", "/api/v1/model/history")
    assert call.params == {"no": 1, "size": 50, "model": "bytedance/seedream-v5.0-lite/edit-sequential"}


@pytest.mark.parametrize(
    "item",
    [
        entry(edit(), nested=True),
        entry(edit(), max_images="2", size="2048x2048"),
        entry(edit(), more="fields"),
        {**entry(edit()), "requestBody": json.loads(entry(edit())["requestBody"])},
        entry(edit(), after_s=-100),
    ],
)
def test_the_same_request_is_known_in_other_spellings(item: Any) -> None:
    assert look(edit(), history(item))[0] == Pending(TICKET)


@pytest.mark.parametrize(
    "item",
    [
        entry(edit(), prompt="two dogs"),
        entry(edit(), images=["https://host.example/0.png", "https://host.example/9.png"]),
        entry(edit(), max_images=3),
        entry(edit(), size="2304*1728"),
        {**entry(edit()), "model": "bytedance/seedream-v4.5/edit-sequential"},
    ],
)
def test_any_difference_is_another_request(item: Any) -> None:
    assert look(edit(), history(item))[0] is None


@pytest.mark.parametrize(
    "item",
    [
        entry(edit(), images=["https://host.example/9.png"]),
        entry(edit(), images=None),
        entry(edit(), after_s=-200),
        entry(edit(), after_s=3600),
        {**entry(edit()), "requestBody": "{"},
        {**entry(edit()), "requestBody": None},
        {**entry(edit()), "ID": ["x"]},
        {**entry(edit()), "createdAt": "yesterday"},
        3,
    ],
)
def test_a_possible_match_never_proves_that_nothing_was_accepted(item: Any) -> None:
    with pytest.raises(errors.Unclear):
        look(edit(), history(item))


def test_the_single_edits_second_spelling_is_the_same_request() -> None:
    single = edit(Operation.EDIT)
    assert look(single, history(entry(single, images=None, image="https://host.example/0.png")))[0] == Pending(TICKET)


def test_a_ticket_that_another_prediction_has_is_passed_over() -> None:
    items = (entry(edit(), "taken", 1), entry(edit(), "free", 9))
    assert look(edit(), history(*items), known=frozenset({"taken"}))[0] == Pending("free")


def test_of_several_the_first_after_the_submit_wins() -> None:
    items = (entry(edit(), "late", 300), entry(edit(), "next", 2), entry(edit(), "early", -60))
    assert look(edit(), history(*items))[0] == Pending("next")
    assert look(edit(), history(*items[2:], entry(edit(), "earlier", -90)))[0] == Pending("early")


def test_a_list_is_read_for_three_pages_at_most() -> None:
    noise = [history(entry(edit(), f"noise-{n}", 5 - n, prompt="other"), total=999) for n in range(3)]
    found, calls = look(edit(), noise[0], history(entry(edit()), total=999), noise[2])
    assert found == Pending(TICKET)
    assert [call.params["no"] for call in calls] == [1, 2, 3]
    assert look(edit(), history(entry(edit(), "old", -500, prompt="other"), total=99))[0] is None
    assert look(edit(), history())[0] is None
    with pytest.raises(errors.Unclear):  # it may stand on the fourth
        look(edit(), *noise)


def test_a_list_that_moves_while_it_is_read_proves_nothing() -> None:
    shorter = [history(entry(edit(), f"noise-{n}", 5, prompt="other"), total=60 - n) for n in range(2)]
    with pytest.raises(errors.Unclear):
        look(edit(), *shorter)


def test_a_list_that_may_be_too_short_proves_nothing() -> None:
    days = SubmitTimes(SENT_AT, 2 * 24 * 3600.0)
    with pytest.raises(errors.Unclear):
        drive(atlas.find(edit(), lost(edit()), days, frozenset()), history())


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (502, HTML, errors.Outage),
        (200, {"code": 500, "data": None}, errors.Outage),
        (404, ENVELOPE, errors.Outage),
        (401, ENVELOPE, errors.KeyRejected),
        (429, ENVELOPE, errors.RateLimited),
    ],
)
def test_a_history_that_cannot_be_read_is_not_a_no(status: int, body: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        look(edit(), answer(status, body))


# Uploads, quotes, the account


@pytest.mark.parametrize(
    "body",
    [
        {"code": 200, "data": {"type": "image", "download_url": URLS[0], "filename": "a.png", "size": 1}},
        {"code": 200, "data": {"url": URLS[0]}},
        {"url": URLS[0]},
        {"data": None, "download_url": URLS[0]},
    ],
)
def test_an_upload_gives_a_url_for_under_a_day(body: Any) -> None:
    hosted, (call,) = drive(atlas.upload(b"png", "image/png", "a.png"), answer(body=body))
    assert hosted == Upload(URLS[0], 20 * 3600)
    assert (call.method, call.path) == ("POST", "/api/v1/model/uploadMedia")
    assert call.files == {"file": ("a.png", b"png", "image/png")}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (413, HTML, errors.OutOfLimits),
        (401, ENVELOPE, errors.KeyRejected),
        (200, {"code": 401, "msg": "no"}, errors.KeyRejected),
        (502, HTML, errors.Outage),
        (200, {"code": 200, "data": {"download_url": "file:///etc/passwd"}}, errors.Outage),
    ],
)
def test_an_upload_that_did_not_work_says_why(status: int, body: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        drive(atlas.upload(b"png", "image/png", "a.png"), answer(status, body))


def test_a_quote_is_the_price_of_the_whole_request() -> None:
    said_ = {"code": 200, "data": {"price": "0.0576", "origin_price": 0.064, "discount": 0.9, "currency": "USD"}}
    quoted, (call,) = drive(atlas.quote(edit()), answer(body=said_))
    assert quoted == Quote(Decimal("0.0576"), exact=True)
    assert (call.method, call.path, call.repeatable) == ("POST", "/api/v1/model/calculate", True)
    assert call.json == next(atlas.submit(edit())).json


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, ENVELOPE),
        (200, HTML),
        (200, {"code": 500, "data": None}),
        (200, {"data": {"price": 0}}),
        (200, {"data": {"price": "cheap"}}),
        (200, {"data": {"price": 1, "currency": "cny"}}),
        (200, {"data": {"price": {}}}),
    ],
)
def test_a_quote_that_cannot_be_used_is_none(status: int, body: Any) -> None:
    assert drive(atlas.quote(edit()), answer(status, body))[0] is None


def test_a_quote_before_the_uploads_sends_nothing() -> None:
    assert drive(atlas.quote(replace(edit(), references=(Reference("0", "image/png"),))))[0] is None


def test_the_listing_has_live_prices_and_no_hidden_models() -> None:
    entries = [
        {"model": "a/b", "type": "Image", "price": {"actual": {"base_price": "0.03", "unit": "image"}}},
        {"model": "a/hidden", "display_console": False},
        {"model": "a/free", "price": None},
        {"model": ["odd"]},
        "odd",
    ]
    listing, (call,) = drive(atlas.listing(), answer(body={"code": "200", "data": entries}))
    assert call.path == "/api/v1/models"
    assert listing.prices_usd == {"a/b": Decimal("0.03"), "a/free": None}


@pytest.mark.parametrize("body", [{"code": 500, "msg": "x", "data": None}, {"code": 200, "data": []}, HTML])
def test_an_error_envelope_is_never_an_empty_listing(body: Any) -> None:
    with pytest.raises(errors.Outage):
        drive(atlas.listing(), answer(body=body))


def test_the_balance_is_in_dollars() -> None:
    balance, (call,) = drive(atlas.balance(), answer(body={"available": {"value": "125.50", "currency": "usd"}}))
    assert (balance, call.path) == (Decimal("125.50"), "/public/v1/balance")
    assert drive(atlas.balance(), answer(body={"available": {"value": "9", "currency": "cny"}}))[0] is None
    with pytest.raises(errors.KeyRejected):
        drive(atlas.balance(), answer(401, {"error": {"type": "auth", "message": "no"}, "request_id": "r"}))


# Hostile answers

_WORDS = """code data id ID status outputs output urls get error message msg url download_url price currency items total
model createdAt requestBody input images error_code available value actual base_price request_id"""
_KEYS = st.sampled_from(_WORDS.split()) | st.text(max_size=5)
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["failed", "completed", "processing", TICKET, URLS[0], "http://[", "\ud800", "1e999", "NaN", 1e300]
    )
)
_JSON = any_json(_LEAVES, _KEYS)
_ANSWERS = any_answer(_JSON)


@given(_ANSWERS)
def test_nothing_but_our_own_errors_leaves_a_flow(hostile: HttpResponse) -> None:
    single = edit(Operation.EDIT)
    for flow in (
        atlas.submit(edit()),
        atlas.submit(single),
        atlas.poll(TICKET, None),
        atlas.poll(TICKET, "https://api.atlascloud.ai/elsewhere"),
        atlas.charge(TICKET, None),
        atlas.upload(b"", "image/png", "a.png"),
        atlas.find(single, lost(single), SENT, frozenset()),
        atlas.quote(edit()),
        atlas.listing(),
        atlas.balance(),
    ):
        with contextlib.suppress(StopIteration, errors.TriptychError):
            next(flow)
            for _ in range(5):
                flow.send(hostile)
