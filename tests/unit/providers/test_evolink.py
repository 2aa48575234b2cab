"""EvoLink's flows, driven by hand: what goes out, byte for byte, and what each odd answer comes to."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from decimal import Decimal
from email.utils import format_datetime
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import flows
from support.flows import HTML, SENT, SENT_AT, answer, any_answer, any_json, drive, lost
from triptych import catalog, providers
from triptych.core import errors
from triptych.core.models import Done, Layer, Pending, ProviderRequest, ReturnedImage, Upload
from triptych.core.offers import Operation
from triptych.providers import HttpRequest, HttpResponse, SubmitTimes, evolink
from triptych.providers._offers import PATH_TAILS
from triptych_emulators.evolink_tasks import CODES

TICKET = "task-unified-1757165031-seedream4d"
CLIENT_ID = "6b0ff4e4-5c6f-4f4e-9a2e-0d3c9d4d6f11"
URLS = ["https://a.example/1.png", "https://b.example/2.png"]
LITE = "doubao-seedream-5.0-lite"


edit = partial(flows.edit, evolink.PROVIDER, client_id=CLIENT_ID)


def accepted(**changes: Any) -> dict[str, Any]:
    """The documented answer to a submit (docs/providers/evolink.md#submit)."""
    told = {
        "created": 1757165031,
        "id": TICKET,
        "model": LITE,
        "object": "image.generation.task",
        "progress": 0,
        "status": "pending",
        "task_info": {"can_cancel": True, "estimated_time": 45},
        "type": "image",
        "usage": {"billing_rule": "per_call", "credits_reserved": 1.8, "user_group": "default"},
    }
    return {**told, **changes}


# The models


def test_one_model_id_serves_every_operation() -> None:
    offers = evolink.PROVIDER.offers
    assert len(offers) == len({(o.endpoint, o.operation) for o in offers}) == 18
    assert {o.endpoint for o in offers if o.operation is not Operation.LAYERS} == {
        f"doubao-seedream-{name}" for name in ("5.0-lite", "4.5", "4.0", "5.0-pro", "5.0-flash")
    }
    assert {o.endpoint for o in offers if o.operation is Operation.LAYERS} == {
        f"doubao-seedream-5.0-{name}-layerize" for name in ("pro", "flash")
    }
    singles = [o for o in offers if o.family in ("seedream-5.0-pro", "seedream-5.0-flash")]
    assert {o.operation for o in singles} == {Operation.GENERATE, Operation.EDIT, Operation.LAYERS}
    assert all(o.price.as_of == "2026-11-21" and o.price.source for o in offers)
    assert providers.load("evolink") is evolink.PROVIDER
    with pytest.raises(errors.OutOfLimits, match="but not edit-sequential of 3 images"):
        catalog.choose(offers, Operation.EDIT_SEQUENTIAL, "seedream-5.0-pro", 3)


@pytest.mark.parametrize("operation", list(PATH_TAILS))
def test_a_verbatim_endpoint_means_the_operation_asked_for(operation: Operation) -> None:
    count = 2 if operation.sequential else 1
    assert catalog.choose(evolink.PROVIDER.offers, operation, LITE, count).operation is operation


# Submit


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (
            edit(references=2),
            {
                "model": LITE,
                "prompt": "two cats",
                "n": 2,
                "size": "2048x2048",
                "image_urls": ["https://host.example/0.png", "https://host.example/1.png"],
                "model_params": {"output_format": "png"},
            },
        ),
        (
            edit(Operation.EDIT, format=None),
            {
                "model": LITE,
                "prompt": "two cats",
                "size": "2048x2048",
                "image_urls": ["https://host.example/0.png"],
            },
        ),
        (
            edit(Operation.GENERATE_SEQUENTIAL, "seedream-4.5", format="png"),
            {"model": "doubao-seedream-4.5", "prompt": "two cats", "n": 2, "size": "2048x2048"},
        ),
        (
            edit(Operation.GENERATE, "seedream-4.0", size=(1024, 1024)),
            {"model": "doubao-seedream-4.0", "prompt": "two cats", "size": "1024x1024"},
        ),
        (
            edit(Operation.GENERATE, "seedream-5.0-pro", size=None),
            {
                "model": "doubao-seedream-5.0-pro",
                "prompt": "two cats",
                "size": "auto",
                "quality": "2K",
                "output_format": "png",
            },
        ),
        (
            edit(Operation.GENERATE, params={"web_search": True, "prompt_optimization": "standard"}),
            {
                "model": LITE,
                "prompt": "two cats",
                "size": "2048x2048",
                "model_params": {"output_format": "png", "tools": [{"type": "web_search"}]},
                "prompt_priority": "standard",
            },
        ),
        (
            edit(Operation.GENERATE, params={"web_search": True}, format=None),
            {
                "model": LITE,
                "prompt": "two cats",
                "size": "2048x2048",
                "model_params": {"tools": [{"type": "web_search"}]},
            },
        ),
        (
            edit(Operation.GENERATE, "seedream-4.0", params={"prompt_optimization": "fast"}),
            {"model": "doubao-seedream-4.0", "prompt": "two cats", "size": "2048x2048", "prompt_priority": "fast"},
        ),
        (
            edit(
                Operation.EDIT,
                "seedream-5.0-flash",
                params={"background": "transparent", "watermark": True},
                format=None,
            ),
            {
                "model": "doubao-seedream-5.0-flash",
                "prompt": "two cats",
                "size": "2048x2048",
                "image_urls": ["https://host.example/0.png"],
                "output_format": "png",
                "background": "transparent",
                "watermark": True,
            },
        ),
        (
            edit(
                Operation.LAYERS,
                "seedream-5.0-pro",
                size=None,
                params={"layers": True, "prompt_optimization": "fast"},
                format=None,
            ),
            {
                "model": "doubao-seedream-5.0-pro-layerize",
                "prompt": "two cats",
                "quality": "auto",
                "image_urls": ["https://host.example/0.png"],
                "output_format": "png",
                "prompt_priority": "fast",
            },
        ),
        (
            edit(Operation.LAYERS, "seedream-5.0-flash", size=(1536, 1536), params={"layers": True}, format="jpeg"),
            {
                "model": "doubao-seedream-5.0-flash-layerize",
                "prompt": "two cats",
                "quality": "1.5K",
                "image_urls": ["https://host.example/0.png"],
                "output_format": "jpeg",
            },
        ),
    ],
)
def test_the_body_has_the_models_fields_and_our_key(request_: ProviderRequest, body: dict[str, Any]) -> None:
    pending, (call,) = drive(evolink.submit(request_), answer(body=accepted()))
    assert (call.method, call.path, call.base, call.json) == ("POST", "/v1/images/generations", "api", body)
    assert call.headers == {"Idempotency-Key": CLIENT_ID}
    assert not call.repeatable, "for how long the key is trusted is not the wire's to know"
    assert pending == Pending(TICKET)
    catalog.check_params(request_.offer, request_.request)


@pytest.mark.parametrize(
    ("family", "operation", "params", "why"),
    [
        *(
            (f"seedream-{name}", Operation.EDIT, {"seed": 7}, "it would do nothing")
            for name in ("5.0-lite", "4.5", "4.0")
        ),
        ("seedream-5.0-pro", Operation.LAYERS, {"seed": 7}, "it would do nothing"),
        ("seedream-5.0-flash", Operation.EDIT, {"prompt_optimization": "fast"}, "must be standard"),
        ("seedream-5.0-lite", Operation.EDIT, {"watermark": True}, "no parameter"),
        ("seedream-4.5", Operation.EDIT, {"web_search": True}, "no parameter"),
        ("seedream-5.0-pro", Operation.GENERATE, {"background": "transparent"}, "exactly one image to edit"),
        ("seedream-5.0-flash", Operation.LAYERS, {"prompt_optimization": "fast"}, "must be standard"),
    ],
)
def test_a_parameter_that_the_model_has_not_is_refused(
    family: str, operation: Operation, params: dict[str, Any], why: str
) -> None:
    asked = edit(operation, family, params=params)
    with pytest.raises(errors.OutOfLimits, match=why):
        catalog.check_params(asked.offer, asked.request)


def test_a_web_search_is_in_the_quote_at_its_dearest() -> None:
    offer = edit(Operation.GENERATE).offer
    assert catalog.quote(offer, 1, None, 0, {"web_search": True}).usd == Decimal("0.0389")
    assert catalog.quote(offer, 1, None, 0, {"web_search": False}).usd == Decimal("0.032")


def test_without_an_id_of_ours_a_submit_has_no_key() -> None:
    call = next(evolink.submit(edit(client_id="")))
    assert isinstance(call, HttpRequest) and not call.repeatable and not call.headers


@pytest.mark.parametrize("body", [accepted(status="processing"), {"data": accepted()}, {"id": TICKET}])
def test_an_accepted_submit_is_a_ticket_in_every_shape(body: Any) -> None:
    replayed = answer(200, body, {"idempotency-replayed": "true"})
    assert drive(evolink.submit(edit()), replayed)[0] == Pending(TICKET)


def said_no(code: str, message: str = "no <b>luck</b>", **more: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "type": code, **more}}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, said_no("invalid_parameters"), errors.Refused),
        (400, said_no("content_policy_violation"), errors.Moderated),
        (403, said_no("content_policy_violation"), errors.Moderated),
        (401, said_no("invalid_api_key"), errors.KeyRejected),
        (402, said_no("insufficient_quota", action_url="https://x"), errors.NoFunds),
        (402, said_no("insufficient_user_quota"), errors.NoFunds),
        (402, said_no("token_daily_quota_exceeded"), errors.NoFunds),
        (403, said_no("insufficient_user_quota"), errors.NoFunds),
        (403, said_no("access_denied"), errors.KeyRejected),
        (403, said_no("model_unavailable"), errors.NotOffered),
        (404, said_no("model_not_found"), errors.NotOffered),
        (413, said_no("too_large"), errors.Refused),
        (429, said_no("rate_limit_exceeded"), errors.RateLimited),
        (429, said_no("insufficient_quota"), errors.NoFunds),
        (429, HTML, errors.RateLimited),
        (503, said_no("service_unavailable"), errors.RateLimited),
        (503, HTML, errors.Outage),
        (503, {"message": "Service Unavailable"}, errors.Outage),  # a gateway's own, after its time-out
        (409, said_no("idempotency_conflict"), errors.Outage),
        (408, said_no("timeout"), errors.Outage),
        (500, said_no("internal_error"), errors.Outage),
        (502, said_no("upstream_error"), errors.Outage),
        (502, {"status": "error", "message": "upstream"}, errors.Outage),
        (302, HTML, errors.Outage),
        (200, accepted(id=7), errors.Outage),
        (200, accepted(id=".."), errors.Outage),
        (200, [], errors.Outage),
        (200, b"", errors.Outage),
        (200, b"[" * 100_000, errors.Outage),
        (200, accepted(status="failed", error={"code": "content_policy_violation"}), errors.Moderated),
        (200, accepted(status="failed", error={"code": "upstream_error"}), errors.Failed),
    ],
)
def test_a_submit_that_was_not_accepted_says_how_surely(status: int, body: Any, kind: type[Exception]) -> None:
    with pytest.raises(errors.TriptychError) as caught:
        drive(evolink.submit(edit()), answer(status, body))
    assert type(caught.value) is kind
    assert "<" not in caught.value.message


@pytest.mark.parametrize(
    ("headers", "more", "request_id"),
    [
        ({"X-Request-ID": "h"}, {"request_id": "b"}, "h"),
        ({"x-oneapi-request-id": "o"}, {"request_id": "b"}, "o"),
        ({}, {"request_id": "b"}, "b"),
    ],
)
def test_the_request_id_and_a_retry_after_are_handed_on(
    headers: dict[str, str], more: dict[str, str], request_id: str
) -> None:
    with pytest.raises(errors.RateLimited) as caught:
        drive(evolink.submit(edit()), answer(429, said_no("slow", **more), {**headers, "retry-after": "7"}))
    assert (caught.value.request_id, caught.value.retry_after_s) == (request_id, 7)


# Find


def task(ticket: str = "other", after_s: float = 1, **changes: Any) -> dict[str, Any]:
    """A task as the list shows it."""
    made = int(SENT_AT.timestamp() + after_s)
    listed = {"id": ticket, "model": LITE, "type": "image", "status": "processing", "progress": 40}
    return {**listed, "created_at": made, **changes}


def tasks(*items: Any, total: int | None = None) -> HttpResponse:
    return answer(body={"data": list(items), "total": len(items) if total is None else total, "page": 1})


def look(*answers: HttpResponse, known: frozenset[str] = frozenset(), sent: SubmitTimes = SENT) -> list[HttpRequest]:
    found, calls = drive(evolink.find(edit(), lost(edit()), sent, known), *answers)
    assert found is None, "the list shows no request, so it never says which task is ours"
    return calls


def test_a_list_without_unknown_tasks_proves_none_was_accepted() -> None:
    others = [task("another's"), task("else", model="doubao-seedream-4.5"), task("old", -4000)]
    (call,) = look(tasks(*others), known=frozenset({"another's"}))
    assert (call.method, call.path, call.repeatable) == ("GET", "/v1/tasks", True)
    assert call.params == {"model": LITE, "page": 1, "page_size": 50}
    assert len(look(tasks(total=0))) == 1


@pytest.mark.parametrize(
    "item",
    [
        task(),
        task(created_at="2026-11-21T03:00:01Z"),
        task(created_at=None, created=int(SENT_AT.timestamp())),
        task(created_at=None),
        task(id=None),
        task(model=None),
        "odd",
    ],
)
def test_an_unknown_task_of_that_time_is_not_taken(item: Any) -> None:
    with pytest.raises(errors.Unclear):
        look(tasks(item))


@pytest.mark.parametrize("after_s", [0.0, 5000.0])
def test_a_task_made_before_a_sleep_may_be_ours(after_s: float) -> None:
    """The clock that counts the age rests while the machine sleeps."""
    told = tasks(task(after_s=after_s))
    date = format_datetime(SENT_AT + timedelta(seconds=10_000), usegmt=True)
    with pytest.raises(errors.Unclear):
        look(answer(200, told.json(), {"date": date}), sent=SubmitTimes(SENT_AT, 20.0, slept_s=9980.0))


def test_a_list_that_may_be_incomplete_proves_nothing() -> None:
    with pytest.raises(errors.Unclear):
        look(*[tasks(task(f"noise-{n}", 9 - n, model="x"), total=999) for n in range(3)])
    with pytest.raises(errors.Unclear):
        look(tasks(), sent=SubmitTimes(SENT_AT, 3 * 86400.0))


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (502, HTML, errors.Outage),
        (200, {"data": None}, errors.Outage),
        (401, said_no("invalid_api_key"), errors.KeyRejected),
        (429, said_no("rate_limit_exceeded"), errors.RateLimited),
    ],
)
def test_a_list_that_cannot_be_read_is_not_a_no(status: int, body: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        look(answer(status, body))
    assert type(caught.value) is kind


# Poll


def said(status: str = "completed", **more: Any) -> dict[str, Any]:
    return {"id": TICKET, "model": LITE, "object": "image.generation.task", "status": status, "progress": 50, **more}


@pytest.mark.parametrize("status", ["pending", "processing", "Processing", "queued", "napping"])
def test_every_status_that_is_no_end_is_still_running(status: str) -> None:
    pending, (call,) = drive(evolink.poll(TICKET, None), answer(body=said(status)))
    assert pending == Pending(TICKET)
    assert (call.method, call.path, call.repeatable) == ("GET", f"/v1/tasks/{TICKET}", True)


MISSING = ReturnedImage(error="the provider's answer has no URL for this image")


@pytest.mark.parametrize(
    ("more", "frames"),
    [
        ({"results": URLS}, tuple(ReturnedImage(url=url) for url in URLS)),
        ({"results": URLS[0]}, (ReturnedImage(url=URLS[0]),)),
        ({"results": [URLS[0], None]}, (ReturnedImage(url=URLS[0]), MISSING)),
        ({"result_data": [{"image_url": URLS[0]}, {"url": URLS[1]}]}, tuple(ReturnedImage(url=url) for url in URLS)),
        ({"results": [], "result_data": [{"image_url": URLS[0]}]}, (ReturnedImage(url=URLS[0]),)),
    ],
)
def test_a_finished_task_gives_its_frames_in_order(more: Any, frames: tuple[ReturnedImage, ...]) -> None:
    done, _ = drive(evolink.poll(TICKET, None), answer(body=said(**more)))
    assert done == Done(frames, url_lifetime_s=24 * 3600)


BOX = {"absolute": [0, 43, 832, 1248], "normalized": [0, 34, 1000, 1000]}
BASE = {"url": URLS[0], "z_index": 0}
FIGURE = {"url": URLS[1], "z_index": 1, "name": "figure", "description": "a person", "bounding_box": BOX}
LAYERS = (
    ReturnedImage(url=URLS[0], layer=Layer(0)),
    ReturnedImage(url=URLS[1], layer=Layer(1, "figure", "a person", (0, 43, 832, 1248))),
)


@pytest.mark.parametrize(
    ("told", "frames"),
    [
        ({"results": URLS, "result_data": [BASE, FIGURE]}, LAYERS),
        ({"results": [BASE, FIGURE]}, LAYERS),
        ({"result_data": [BASE, FIGURE]}, LAYERS),
        ({"results": [FIGURE, BASE]}, LAYERS),
        ({"results": [BASE, FIGURE], "result_data": {"note": "odd"}}, LAYERS),
        ({"results": URLS}, (ReturnedImage(url=URLS[0]), ReturnedImage(url=URLS[1]))),
        (
            {"results": URLS, "model": "doubao-seedream-5.0-pro-layerize"},
            (ReturnedImage(url=URLS[0], layer=Layer(0)), ReturnedImage(url=URLS[1], layer=Layer(1))),
        ),
    ],
)
def test_layers_are_read_wherever_they_are_named(told: Any, frames: tuple[ReturnedImage, ...]) -> None:
    done, _ = drive(evolink.poll(TICKET, None), answer(body=said(**told)))
    assert isinstance(done, Done) and done.outputs == frames


@pytest.mark.parametrize(
    ("usage", "charged"),
    [
        ({"credits_used": 2.2, "cost": {"credits": 2.2, "usd": 0.032, "cny": 0.2}}, "0.032"),
        ({"credits_used": 2.2, "cost": {"usd": "0.032"}}, "0.032"),
        ({"cost": {"credits": 6.8}}, "0.1"),
        ({"credits_used": 2.2}, "0.032353"),
        ({"credits_used": 0, "cost": {"usd": 0}}, None),
        ({"credits_reserved": 2.2}, None),
        ({"cost": {"usd": "inf"}}, None),
        ("odd", None),
        (None, None),
    ],
)
def test_the_charge_is_the_dollar_cost_or_the_credits(usage: Any, charged: str | None) -> None:
    done, _ = drive(evolink.poll(TICKET, None), answer(body=said(results=URLS, usage=usage)))
    assert isinstance(done, Done)
    assert done.charged_usd == (None if charged is None else Decimal(charged))


@pytest.mark.parametrize(
    ("told", "kind", "words"),
    [
        *(
            (
                said("failed", error={"code": code, "message": text, "type": "task_error"}),
                errors.Moderated if code == "content_policy_violation" else errors.Failed,
                code,
            )
            for code, text in CODES.items()
        ),
        (
            said("failed", error={"code": "x", "message": "m", "suggestion": "try <i>this</i>"}),
            errors.Failed,
            "‹i›this",
        ),
        (said("failed", error={"message": "flagged as sensitive"}), errors.Moderated, "sensitive"),
        (said("failed", error="boom"), errors.Failed, "boom"),
        (said("failed"), errors.Failed, "no reason given"),
        (said("failed", error={"code": "x" * 999, "message": "m" * 9999}), errors.Failed, "mmm"),
        (said("cancelled"), errors.Failed, "cancelled"),
        (said(results=[]), errors.Failed, "no image"),
        (said(), errors.Failed, "no image"),
        (said(results=[{"error": "content policy"}]), errors.Moderated, "no image"),
    ],
)
@pytest.mark.parametrize("status", [200, 500])
def test_a_decision_ends_the_task_whatever_the_http_status(
    status: int, told: Any, kind: type[Exception], words: str
) -> None:
    with pytest.raises(errors.Failed, match=words) as caught:
        drive(evolink.poll(TICKET, None), answer(status, told))
    assert type(caught.value) is kind and len(caught.value.message) < 700


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (502, HTML, errors.Outage),
        (502, {"status": "error", "message": "upstream"}, errors.Outage),
        (500, said_no("internal_error"), errors.Outage),
        (200, {"code": 500, "data": None}, errors.Outage),
        (200, HTML, errors.Outage),
        (200, b"{", errors.Outage),
        (200, [], errors.Outage),
        (404, said_no("resource_not_found"), errors.Outage),
        (402, said_no("insufficient_quota"), errors.Outage),
        (401, said_no("invalid_api_key"), errors.KeyRejected),
        (429, HTML, errors.RateLimited),
    ],
)
def test_anything_else_while_polling_decides_nothing(status: int, body: Any, kind: type[Exception]) -> None:
    with pytest.raises(errors.TriptychError) as caught:
        drive(evolink.poll(TICKET, None), answer(status, body))
    assert type(caught.value) is kind


def test_a_strange_ticket_is_escaped() -> None:
    _, (call,) = drive(evolink.poll("../a?b/\ud800", "file:///etc/passwd"), answer(body=said("processing")))
    assert call.path == "/v1/tasks/..%2Fa%3Fb%2F%3F"


def test_one_list_call_covers_fifty_tasks() -> None:
    tickets = [f"task-{n}" for n in range(60)]
    first = {"data": [{"id": "task-1", "status": "completed"}, {"id": "task-2", "status": "pending"}, "odd", {}]}
    second = {"data": [{"id": "task-59", "status": "failed"}, {"id": "foreign", "status": "failed"}, {"id": ["x"]}]}
    ended, calls = drive(evolink.finished(tickets), answer(body=first), answer(body=second))
    assert ended == {"task-1", "task-59"}
    assert [(call.method, call.path) for call in calls] == [("POST", "/v1/tasks/batch")] * 2
    assert [call.json for call in calls] == [{"task_ids": tickets[:50]}, {"task_ids": tickets[50:]}]


@pytest.mark.parametrize(("status", "kind"), [(502, errors.Outage), (404, errors.Outage), (429, errors.RateLimited)])
def test_a_look_that_fails_is_not_a_no(status: int, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        drive(evolink.finished([TICKET]), answer(status, said_no("x")))


# Uploads, models, the account

STORED = {"success": True, "code": 200, "msg": "success", "data": {"file_id": "f", "file_url": URLS[0]}}


def test_an_upload_is_one_file_on_the_files_host() -> None:
    hosted, (call,) = drive(evolink.upload(b"png", "image/png", "a.png"), answer(body=STORED))
    assert hosted == Upload(URLS[0], 70 * 3600)
    assert (call.method, call.path, call.base) == ("POST", "/api/v1/files/upload/stream", "files")
    assert call.files == {"file": ("a.png", b"png", "image/png")} and call.authorize
    only_download = {"success": True, "data": {"download_url": URLS[1]}}
    assert drive(evolink.upload(b"png", "image/png", "a.png"), answer(body=only_download))[0].url == URLS[1]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (413, HTML, errors.OutOfLimits),
        (401, {"success": False, "code": 40002, "msg": "no"}, errors.KeyRejected),
        (403, {"success": False, "code": 40003, "msg": "file quota used up"}, errors.NoRoom),
        (200, {"success": False, "code": 40003, "msg": "Quota exceeded"}, errors.NoRoom),
        (500, {"success": False, "code": 50001, "msg": "quota service down"}, errors.Outage),
        (400, {"success": False, "code": 40001, "msg": "type"}, errors.Refused),
        (200, {"success": False, "code": 40001, "msg": "type"}, errors.Refused),
        (200, {"success": False, "code": 50001, "msg": "storage"}, errors.Outage),
        (200, {"success": False}, errors.Outage),
        (429, HTML, errors.RateLimited),
        (502, HTML, errors.Outage),
        (200, {"success": True, "data": {"file_url": "file:///etc/passwd"}}, errors.Outage),
        (200, b"", errors.Outage),
    ],
)
def test_an_upload_that_did_not_work_says_why(status: int, body: Any, kind: type[Exception]) -> None:
    with pytest.raises(errors.TriptychError) as caught:
        drive(evolink.upload(b"png", "image/png", "a.png"), answer(status, body))
    assert type(caught.value) is kind


OURS = "https://files.example/uploads/abc-1.png"
OTHER = "https://files.example/uploads/abc-2.png"


def file(name: str, file_id: str, **more: Any) -> dict[str, Any]:
    return {"file_id": file_id, "file_name": name, "file_size": 3, "upload_time": "2026-11-21T00:00:00Z", **more}


def files(*items: Any, total: int | None = None) -> HttpResponse:
    return answer(
        body={"success": True, "data": {"files": list(items), "total": len(items) if total is None else total}}
    )


DELETED = answer(body={"success": True, "code": 200, "msg": "success", "data": None})


def test_only_the_files_at_our_urls_are_deleted() -> None:
    listed = files(
        file("abc-1.png", "file_1"),
        file("foreign.png", "file_9"),
        file("abc-2.png", "file_8", file_url="https://files.example/elsewhere/abc-2.png"),
        "odd",
        {"file_id": ["x"]},
    )
    gone, calls = drive(evolink.delete([OURS, OTHER]), listed, DELETED)
    assert [(call.method, call.path, call.base) for call in calls] == [
        ("GET", "/api/v1/files/list", "files"),
        ("DELETE", "/api/v1/files/file_1", "files"),
    ]
    assert calls[0].params == {"page": 1, "pageSize": 100} and all(call.authorize for call in calls)
    assert gone == {OURS, OTHER}, "a URL that the list does not show is gone"


def test_a_name_that_two_files_have_is_left_alone() -> None:
    gone, calls = drive(evolink.delete([OURS]), files(file("abc-1.png", "file_1"), file("abc-1.png", "file_2")))
    assert (gone, len(calls)) == (frozenset(), 1)


def test_the_whole_list_of_files_is_read() -> None:
    first = files(*[file(f"x-{n}.png", f"file_x{n}") for n in range(3)], total=4)
    gone, calls = drive(evolink.delete([OURS]), first, files(file("abc-1.png", "file_1"), total=4), DELETED)
    assert gone == {OURS} and [call.params.get("page") for call in calls] == [1, 2, None]


@pytest.mark.parametrize(
    ("answered", "gone"),
    [
        (answer(404, {"success": False, "msg": "not found"}), {OURS, OTHER}),
        (answer(403, {"success": False, "msg": "no"}), {OTHER}),
        (answer(502, HTML), {OURS, OTHER}),
    ],
)
def test_a_file_counts_as_gone_unless_its_deletion_was_refused(answered: HttpResponse, gone: set[str]) -> None:
    listed = files(file("abc-1.png", "file_1"), file("abc-2.png", "file_2"))
    assert drive(evolink.delete([OURS, OTHER]), listed, answered, DELETED)[0] == gone


def test_a_deletion_without_an_answer_ends_the_others() -> None:
    listed = files(file("abc-1.png", "file_1"), file("abc-2.png", "file_2"))
    assert drive(evolink.delete([OURS, OTHER]), listed, errors.AnswerLost("cut off"))[0] == {OURS}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [(200, {"data": None}, errors.Outage), (502, HTML, errors.Outage), (401, {"msg": "no"}, errors.KeyRejected)],
)
def test_a_list_of_files_that_cannot_be_read_deletes_nothing(status: int, body: Any, kind: type[Exception]) -> None:
    with pytest.raises(errors.TriptychError) as caught:
        drive(evolink.delete([OURS]), answer(status, body))
    assert type(caught.value) is kind


def test_the_listing_is_the_image_models_of_the_catalog() -> None:
    models = [
        {"model_id": LITE, "lifecycle": "active"},
        {"model_id": "doubao-seedream-3.0", "lifecycle": "retired"},
        {"model_id": ["x"]},
        "odd",
    ]
    listing, (call,) = drive(evolink.listing(), answer(body={"meta": {}, "models": models}))
    assert (call.path, call.params) == ("/v1/catalog/models", {"capability": "image"})
    assert listing.prices_usd == {LITE: None}


@pytest.mark.parametrize("body", [said_no("internal_error"), {"models": []}, HTML])
def test_an_error_envelope_is_never_an_empty_listing(body: Any) -> None:
    with pytest.raises(errors.Outage):
        drive(evolink.listing(), answer(body=body))


@pytest.mark.parametrize(
    ("data", "usd"),
    [
        ({"user": {"remaining_credits": 680}, "token": {"unlimited_credits": True, "remaining_credits": 1}}, "10"),
        ({"user": {"remaining_credits": 680}, "token": {"unlimited_credits": False, "remaining_credits": 68}}, "1"),
        ({"user": {"remaining_credits": 1095.3996}}, "16.1088"),
        ({"user": {}}, None),
        (None, None),
    ],
)
def test_the_balance_is_credits_in_dollars(data: Any, usd: str | None) -> None:
    balance, (call,) = drive(evolink.balance(), answer(body={"success": True, "data": data}))
    assert (balance, call.path) == (None if usd is None else Decimal(usd), "/v1/credits")


# Hostile answers

_WORDS = """code data id status results result_data image_url url error message type suggestion success msg file_url
download_url usage cost usd credits credits_used user token remaining_credits unlimited_credits models model_id
lifecycle request_id"""
_KEYS = st.sampled_from(_WORDS.split()) | st.text(max_size=5)
_ODD = ["failed", "completed", "processing", TICKET, URLS[0], "http://[", "\ud800", "1e999", "NaN", 1e300, 1e11]
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(_ODD)
_JSON = any_json(_LEAVES, _KEYS)
_ANSWERS = any_answer(_JSON)


@given(_ANSWERS)
def test_nothing_but_our_own_errors_leaves_a_flow(hostile: HttpResponse) -> None:
    for flow in (
        evolink.submit(edit()),
        evolink.poll(TICKET, None),
        evolink.find(edit(), lost(edit()), SENT, frozenset()),
        evolink.upload(b"", "image/png", "a.png"),
        evolink.delete([OURS, OTHER]),
        evolink.finished([TICKET]),
        evolink.listing(),
        evolink.balance(),
    ):
        with contextlib.suppress(StopIteration, errors.TriptychError):
            next(flow)
            for _ in range(5):
                flow.send(hostile)
