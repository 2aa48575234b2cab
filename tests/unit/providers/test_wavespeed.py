"""WaveSpeedAI's flows, driven by hand: what goes out, byte for byte, and what each odd answer comes to."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import flows
from support.flows import HTML, SENT, SENT_AT, answer, any_answer, any_json, drive, lost
from triptych import catalog, providers
from triptych.core import errors
from triptych.core.models import Done, Pending, ProviderRequest, Reference, ReturnedImage, Upload
from triptych.core.offers import Operation, Quote
from triptych.providers import HttpRequest, HttpResponse, SubmitTimes, wavespeed

TICKET = "0123456789abcdef0123456789abcdef"
STATUS_PATH = f"/api/v3/predictions/{TICKET}/result"
POLL_URL = f"https://api.wavespeed.ai{STATUS_PATH}"
URLS = ["https://a.example/1.png", "https://b.example/2.png"]
LITE = "bytedance/seedream-v5.0-lite"


edit = partial(flows.edit, wavespeed.PROVIDER)


def accepted(**changes: Any) -> dict[str, Any]:
    """The live answer to a submit (docs/providers/wavespeed.md#submit)."""
    data = {
        "id": TICKET,
        "model": f"{LITE}/edit-sequential",
        "input": {"prompt": "two cats", "images": ["https://host.example/0.png"], "max_images": 2, "size": "2048*2048"},
        "outputs": [],
        "urls": {"get": POLL_URL},
        "status": "created",
        "created_at": "2026-08-25T00:49:21.479Z",
    }
    return {"code": 200, "message": "success", "data": {**data, **changes}}


# The models


def test_three_families_sell_four_operations_each_and_three_sell_three() -> None:
    offers = wavespeed.PROVIDER.offers
    assert len(offers) == len({o.endpoint for o in offers}) == 21
    assert {o.endpoint: str(o.price.usd_per_image) for o in offers if o.operation is Operation.EDIT_SEQUENTIAL} == {
        "bytedance/seedream-v5.0-lite/edit-sequential": "0.035",
        "bytedance/seedream-v4.5/edit-sequential": "0.04",
        "bytedance/seedream-v4/edit-sequential": "0.027",
    }
    assert {(o.max_references, o.max_outputs) for o in offers if o.operation.sequential} == {(0, 15), (10, 15)}
    assert all(o.price.as_of == "2026-11-21" and o.price.source for o in offers)
    assert providers.load("wavespeed") is wavespeed.PROVIDER
    assert offers[0].endpoint == LITE


@pytest.mark.parametrize(
    ("family", "spec", "size"),
    [
        ("seedream-5.0-lite", "2K", (2048, 2048)),
        ("seedream-5.0-lite", "4K 16:9", (5504, 3040)),
        ("seedream-4.5", "2304x1728", (2304, 1728)),
        ("seedream-4.0", "1K", (1024, 1024)),
    ],
)
def test_a_size_is_always_pixels(family: str, spec: str, size: tuple[int, int]) -> None:
    assert catalog.resolve_size(edit(family=family).offer, spec, None) == size


# Submit


@pytest.mark.parametrize(
    ("request_", "path", "body"),
    [
        (
            edit(references=2),
            f"{LITE}/edit-sequential",
            {
                "prompt": "two cats",
                "images": ["https://host.example/0.png", "https://host.example/1.png"],
                "max_images": 2,
                "size": "2048*2048",
                "output_format": "png",
            },
        ),
        (
            edit(Operation.EDIT, format="jpeg"),
            f"{LITE}/edit",
            {
                "prompt": "two cats",
                "images": ["https://host.example/0.png"],
                "size": "2048*2048",
                "output_format": "jpeg",
            },
        ),
        (
            edit(Operation.GENERATE_SEQUENTIAL, format=None),
            f"{LITE}/sequential",
            {"prompt": "two cats", "max_images": 2, "size": "2048*2048"},
        ),
        (edit(Operation.GENERATE, size=None), LITE, {"prompt": "two cats", "output_format": "png"}),
        (
            edit(family="seedream-4.5", format="png"),
            "bytedance/seedream-v4.5/edit-sequential",
            {
                "prompt": "two cats",
                "images": ["https://host.example/0.png"],
                "max_images": 2,
                "size": "2048*2048",
            },
        ),
        (
            edit(Operation.GENERATE, "seedream-4.0"),
            "bytedance/seedream-v4",
            {"prompt": "two cats", "size": "2048*2048"},
        ),
        (
            replace(edit(Operation.EDIT, format=None), references=(Reference("0", "image/png", data=b"x"),)),
            f"{LITE}/edit",
            {"prompt": "two cats", "images": ["data:image/png;base64,eA=="], "size": "2048*2048"},
        ),
    ],
)
def test_the_path_names_the_model_whose_fields_are_sent(
    request_: ProviderRequest, path: str, body: dict[str, Any]
) -> None:
    pending, (call,) = drive(wavespeed.submit(request_), answer(body=accepted()))
    assert (call.method, call.path, call.json) == ("POST", f"/api/v3/{path}", body)
    assert not call.repeatable and call.base == "api" and call.authorize
    assert pending == Pending(TICKET, POLL_URL)


def test_a_reference_with_nothing_goes_nowhere() -> None:
    with pytest.raises(errors.UnreadableImage):
        next(wavespeed.submit(replace(edit(), references=(Reference("0", "image/png"),))))


@pytest.mark.parametrize(
    ("body", "pending"),
    [
        (accepted(urls=None), Pending(TICKET)),
        (accepted(urls={"get": "javascript:1"}), Pending(TICKET)),
        (accepted(status="completed", outputs=URLS), Pending(TICKET, POLL_URL)),
        (accepted(status="processing", code=5004, error="Sync mode timed out"), Pending(TICKET, POLL_URL)),
        (accepted()["data"], Pending(TICKET, POLL_URL)),
    ],
)
def test_an_accepted_submit_is_a_ticket_in_every_shape(body: Any, pending: Pending) -> None:
    assert drive(wavespeed.submit(edit()), answer(body=body))[0] == pending


def said_no(code: int, message: str = "no <b>luck</b>", **more: Any) -> dict[str, Any]:
    return {"code": code, "message": message, "data": None, **more}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, said_no(400), errors.Refused),
        (400, said_no(400, "Insufficient credits. Please top up."), errors.NoFunds),
        (400, said_no(400, "rejected", error_code="1200"), errors.Moderated),
        (400, said_no(400, "the prompt contains sensitive content"), errors.Moderated),
        (401, said_no(401), errors.KeyRejected),
        (402, said_no(402), errors.NoFunds),
        (403, said_no(403), errors.KeyRejected),
        (403, said_no(403, "forbidden", error_code="insufficient_credits"), errors.NoFunds),
        (404, said_no(404), errors.Refused),
        (413, said_no(413), errors.Refused),
        (429, said_no(429), errors.RateLimited),
        (429, HTML, errors.RateLimited),
        (503, said_no(503), errors.RateLimited),
        (503, HTML, errors.Outage),
        (503, {"message": "Service Unavailable"}, errors.Outage),  # a gateway's own, after its time-out
        (408, said_no(408), errors.Outage),
        (500, said_no(500), errors.Outage),
        (502, HTML, errors.Outage),
        (302, HTML, errors.Outage),
        (200, {"code": 500, "data": None}, errors.Outage),
        (200, said_no(401), errors.KeyRejected),
        (200, accepted(id=7), errors.Outage),
        (200, accepted(id=".."), errors.Outage),
        (200, [], errors.Outage),
        (200, b"", errors.Outage),
        (200, b"[" * 100_000, errors.Outage),
        (200, accepted(status="failed", code=1200), errors.Moderated),
        (200, accepted(status="failed", code=1401, error="size"), errors.Failed),
    ],
)
def test_a_submit_that_was_not_accepted_says_how_surely(status: int, body: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        drive(wavespeed.submit(edit()), answer(status, body))
    assert isinstance(caught.value, errors.TriptychError) and "<" not in caught.value.message
    if kind in (errors.Outage, errors.Failed):
        assert type(caught.value) is kind


def test_a_retry_after_is_handed_on() -> None:
    for status in (429, 503):
        with pytest.raises(errors.RateLimited) as caught:
            drive(wavespeed.submit(edit()), answer(status, said_no(status), {"Retry-After": "7"}))
        assert caught.value.retry_after_s == 7


# Poll


def said(status: str = "completed", **more: Any) -> dict[str, Any]:
    return {"code": 200, "message": "success", "data": {"id": TICKET, "status": status, **more}}


@pytest.mark.parametrize("status", ["created", "processing", "Processing", "queued", "napping"])
def test_every_status_that_is_no_end_is_still_running(status: str) -> None:
    pending, (call,) = drive(wavespeed.poll(TICKET, None), answer(body=said(status, outputs=URLS[:1])))
    assert pending == Pending(TICKET, None, done=1)
    assert (call.method, call.path, call.repeatable) == ("GET", STATUS_PATH, True)


def test_a_sync_mode_that_timed_out_is_still_running() -> None:
    told = said("processing", code=5004, error="Sync mode timed out", outputs=[])
    assert drive(wavespeed.poll(TICKET, None), answer(body=told))[0] == Pending(TICKET)


MISSING = ReturnedImage(error="the provider's answer has no URL for this image")


@pytest.mark.parametrize(
    ("outputs", "frames"),
    [
        (URLS, tuple(ReturnedImage(url=url) for url in URLS)),
        (URLS[0], (ReturnedImage(url=URLS[0]),)),
        ([{"url": URLS[0]}, {"download_url": URLS[1]}], tuple(ReturnedImage(url=url) for url in URLS)),
        ([None, URLS[0], "iVBORw0KGgo="], (MISSING, ReturnedImage(url=URLS[0]), MISSING)),
    ],
)
def test_a_finished_prediction_gives_its_frames_in_order(outputs: Any, frames: tuple[ReturnedImage, ...]) -> None:
    done, _ = drive(wavespeed.poll(TICKET, None), answer(body=said(outputs=outputs)))
    assert done == Done(frames, url_lifetime_s=24 * 3600)


@pytest.mark.parametrize(
    ("told", "kind", "words"),
    [
        (said("failed", error="flagged", code=1200), errors.Moderated, "task code 1200"),
        (said("failed", error="boom", code=1403), errors.Failed, "task code 1403: the execution failed"),
        (said("failed", error="no such URL", code=1402), errors.Failed, "an input image could not be read"),
        *((said("failed", error="x", code=code), errors.Failed, str(code)) for code in (1400, 1401, 1405, 1406, 1407)),
        *((said("failed", error="x", code=code), errors.Failed, str(code)) for code in (5000, 5003)),
        (said("failed", error="x", code="1200"), errors.Moderated, "1200"),
        (said("failed", error={"message": "boom"}), errors.Failed, "boom"),
        (said("failed", error="The content was flagged as sensitive"), errors.Moderated, "flagged"),
        (said("failed", error="nsfw", code=1403), errors.Failed, "nsfw"),
        (said("failed", error="x" * 9000, code=0), errors.Failed, "xxx"),
        (said("timeout"), errors.Failed, "timeout"),
        (said("cancelled"), errors.Failed, "cancelled"),
        (said("deleted"), errors.Failed, "deleted"),
        (said(outputs=[]), errors.Failed, "no image"),
        (said(outputs=[None], has_nsfw_contents=[True]), errors.Moderated, "no image"),
    ],
)
@pytest.mark.parametrize("status", [200, 500])
def test_a_decision_ends_the_prediction_whatever_the_http_status(
    status: int, told: Any, kind: type[Exception], words: str
) -> None:
    with pytest.raises(errors.Failed, match=words) as caught:
        drive(wavespeed.poll(TICKET, None), answer(status, told))
    assert type(caught.value) is kind and len(caught.value.message) < 600


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (502, HTML, errors.Outage),
        (500, said_no(500), errors.Outage),
        (200, {"code": 500, "data": None}, errors.Outage),
        (200, HTML, errors.Outage),
        (200, b"{", errors.Outage),
        (200, [], errors.Outage),
        (404, said_no(404), errors.Outage),
        (402, said_no(402), errors.Outage),
        (401, said_no(401), errors.KeyRejected),
        (429, HTML, errors.RateLimited),
    ],
)
def test_anything_else_while_polling_decides_nothing(status: int, body: Any, kind: type[Exception]) -> None:
    with pytest.raises(errors.TriptychError) as caught:
        drive(wavespeed.poll(TICKET, None), answer(status, body))
    assert type(caught.value) is kind


def test_the_answers_poll_url_wins_where_it_is_usable() -> None:
    running = answer(body=said("processing"))
    assert [call.path for call in drive(wavespeed.poll(TICKET, POLL_URL), running)[1]] == [POLL_URL]
    elsewhere = "https://api.wavespeed.ai/elsewhere"
    gone = answer(404, said_no(404))
    for first in (gone, errors.NotAllowed("not on the provider's origin")):
        assert [call.path for call in drive(wavespeed.poll(TICKET, elsewhere), first, running)[1]] == [
            elsewhere,
            STATUS_PATH,
        ]
    with pytest.raises(errors.Outage):
        drive(wavespeed.poll(TICKET, POLL_URL), gone)
    _, calls = drive(wavespeed.poll("../a?b/\ud800", "file:///etc/passwd"), running)
    assert calls[0].path == "/api/v3/predictions/..%2Fa%3Fb%2F%3F/result"


# The history


def entry(
    ticket: str = TICKET,
    after_s: float = 1,
    asked: ProviderRequest | None = None,
    field: str = "inputs",
    **changes: Any,
) -> dict[str, Any]:
    """A history item; with `asked` it shows the request."""
    made = datetime.fromtimestamp(SENT_AT.timestamp() + after_s, UTC)
    item = {
        "id": ticket,
        "model": f"{LITE}/edit-sequential",
        "outputs": URLS,
        "status": "completed",
        "created_at": made.strftime("%Y-%m-%dT%H:%M:%S.%f") + "123Z",
        "error": "",
    }
    if asked:
        item[field] = next(wavespeed.submit(asked)).json  # type: ignore[union-attr]
    return {**item, **changes}


def history(*items: Any, date: str = "") -> HttpResponse:
    body = {"code": 200, "message": "success", "data": {"page": 1, "items": list(items)}}
    return answer(200, body, {"date": date} if date else {})


EMPTY = history()


def look(
    *answers: HttpResponse,
    known: frozenset[str] = frozenset(),
    sent: SubmitTimes = SENT,
    request_: ProviderRequest | None = None,
) -> tuple[Pending | None, list[HttpRequest]]:
    wanted = request_ or edit()
    return drive(wavespeed.find(wanted, lost(wanted), sent, known), *answers)


@pytest.mark.parametrize("field", ["inputs", "input"])
def test_the_history_finds_a_lost_submit_by_its_request(field: str) -> None:
    strangers = entry("other", 0.5, edit(prompt="x"))
    found, (call, _) = look(history(strangers, entry(asked=edit(), field=field), entry("bare")), EMPTY)
    assert found == Pending(TICKET)
    assert (call.method, call.path, call.repeatable) == ("POST", "/api/v3/predictions", True)
    assert call.json == {
        "page": 1,
        "page_size": 100,
        "created_after": "2026-11-20T03:00:00Z",
        "created_before": "2026-11-22T03:00:20Z",
        "include_inputs": True,
        "model": f"{LITE}/edit-sequential",
    }


def test_of_several_matches_the_first_free_one_wins() -> None:
    items = [entry(t, s, edit()) for t, s in (("late", 90), ("next", 2), ("early", -20), ("taken", 1))]
    assert look(history(*items), EMPTY, known=frozenset({"taken"}))[0] == Pending("next")
    assert look(history(entry("early", -20, edit()), entry("earlier", -25, edit())), EMPTY)[0] == Pending("early")


def test_what_shows_nothing_but_its_time_is_never_taken() -> None:
    for items in ([entry("alone", 1)], [entry("one", 1), entry("two", 2)], [entry("empty", 1, inputs={})]):
        with pytest.raises(errors.Unclear):
            look(history(*items), EMPTY)
    assert look(history(entry("alone", 1)), EMPTY, known=frozenset({"alone"}))[0] is None
    assert look(history(entry("long ago", -4000)))[0] is None


@pytest.mark.parametrize(
    "item",
    [
        entry(asked=edit(prompt="two dogs")),
        entry(asked=edit(references=2)),
        entry(asked=edit(count=3)),
        entry(asked=edit(size=(2304, 1728))),
        entry(asked=edit(format="jpeg")),
        entry(model="bytedance/seedream-v4.5/edit-sequential"),
    ],
)
def test_any_difference_is_another_request(item: Any) -> None:
    assert look(history(item), EMPTY)[0] is None


@pytest.mark.parametrize(
    "item",
    [
        entry(asked=edit(), after_s=-4000),
        entry(asked=edit(), after_s=4000),
        entry(asked=edit(), id=["x"]),
        entry(asked=edit(), created_at="yesterday"),
        entry(asked=edit(), created_at="9999-99-99"),
        entry(created_at=None),
        entry(inputs={"prompt": "two cats"}),
        entry(asked=edit(references=(Reference("00", "image/png", url="https://copy.example/0.png"),))),
        "odd",
    ],
)
def test_a_possible_match_never_proves_that_nothing_was_accepted(item: Any) -> None:
    with pytest.raises(errors.Unclear):
        look(history(item), EMPTY)


def test_the_providers_own_clock_says_when_the_submit_left() -> None:
    # This machine's clock is an hour behind the provider's, whose answer came 20 s after the submit left.
    an_hour_on = [entry("next", 3601, edit()), entry("older", 1, edit())]
    ours = history(*an_hour_on, date="Sat, 21 Nov 2026 04:00:20 GMT")
    assert look(ours)[0] == Pending("next")
    for date in ("", "Sat, 99 Nov 2026 04:00:20 GMT", "\u202e"):
        assert look(history(*an_hour_on, date=date), EMPTY)[0] == Pending("older")
    with pytest.raises(errors.Unclear):  # the list was not asked for that day
        look(history(date="Sat, 28 Nov 2026 03:00:20 GMT"))


def test_a_list_is_read_for_three_pages_at_most() -> None:
    full = [history(*(entry(f"noise-{p}-{n}", 5 - p, edit(prompt="x")) for n in range(100))) for p in range(3)]
    found, calls = look(full[0], full[1], history(entry(asked=edit())))
    assert found == Pending(TICKET)
    assert [call.json["page"] for call in calls] == [1, 2, 3]
    with pytest.raises(errors.Unclear):  # it may stand on the fourth
        look(*full)
    old = [entry(f"old-{n}", -600 - n, edit(prompt="x")) for n in range(100)]
    assert len(look(history(*old))[1]) == 1
    with pytest.raises(errors.Unclear):  # not the newest first: what comes is not known
        look(*[history(*[{**one, "id": f"{one['id']}-{p}"} for one in reversed(old)]) for p in range(3)])


def test_a_list_that_moves_while_it_is_read_proves_nothing() -> None:
    twice = entry("noise", 5, edit(prompt="x"))
    with pytest.raises(errors.Unclear):
        look(history(twice), history(twice), EMPTY)


def test_a_list_that_is_too_short_proves_nothing() -> None:
    with pytest.raises(errors.Unclear):
        look(EMPTY, sent=SubmitTimes(SENT_AT, 7 * 24 * 3600.0))


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (502, HTML, errors.Outage),
        (200, {"code": 500, "data": None}, errors.Outage),
        (404, said_no(404), errors.Outage),
        (401, said_no(401), errors.KeyRejected),
        (429, said_no(429), errors.RateLimited),
    ],
)
def test_a_history_that_cannot_be_read_is_not_a_no(status: int, body: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        look(answer(status, body))
    assert type(caught.value) is kind


# Uploads, prices, the account

TICKET_TOLD = {
    "code": 200,
    "message": "success",
    "data": {
        "download_url": URLS[0],
        "upload": {
            "method": "PUT",
            "url": "https://store.example/put?sig=1",
            "headers": {"Content-Type": "image/png", "x-amz-acl": "private"},
        },
    },
}
FORM_TOLD = {"code": 200, "data": {"type": "image", "download_url": URLS[1], "filename": "a.png", "size": 3}}


def ticket_told(**upload: Any) -> dict[str, Any]:
    data: Any = TICKET_TOLD["data"]
    return {"code": 200, "data": {**data, "upload": {**data["upload"], **upload}}}


def test_an_upload_puts_with_the_tickets_headers_and_no_key() -> None:
    hosted, (asked, put) = drive(wavespeed.upload(b"png", "image/png", "a.png"), answer(body=TICKET_TOLD), answer())
    assert hosted == Upload(URLS[0], 6 * 24 * 3600)
    assert (asked.method, asked.path) == ("POST", "/api/v3/media/uploads")
    assert asked.json == {"filename": "a.png", "size": 3, "content_type": "image/png"}
    assert (put.method, put.path, put.content) == ("PUT", "https://store.example/put?sig=1", b"png")
    assert put.headers == {"Content-Type": "image/png", "x-amz-acl": "private"} and not put.authorize


@pytest.mark.parametrize(
    "first",
    [
        answer(404, said_no(404)),
        answer(500, said_no(500)),
        answer(200, HTML),
        answer(body=ticket_told(method="POST")),
        answer(body=ticket_told(url="file:///etc/passwd")),
        answer(body=ticket_told(headers=["x"])),
        answer(body={"code": 200, "data": {**ticket_told()["data"], "download_url": None}}),
    ],
)
def test_without_a_usable_ticket_the_form_is_sent(first: HttpResponse) -> None:
    hosted, calls = drive(wavespeed.upload(b"png", "image/png", "a.png"), first, answer(body=FORM_TOLD))
    assert hosted.url == URLS[1]
    assert (calls[1].method, calls[1].path) == ("POST", "/api/v3/media/upload/binary")
    assert calls[1].files == {"file": ("a.png", b"png", "image/png")}


@pytest.mark.parametrize("second", [answer(403, b"<Error/>"), errors.NotAllowed("private"), errors.NotSent("dead")])
def test_a_failed_put_falls_back_to_the_form(second: Any) -> None:
    flow = wavespeed.upload(b"png", "image/png", "a.png")
    hosted, calls = drive(flow, answer(body=TICKET_TOLD), second, answer(body=FORM_TOLD))
    assert hosted.url == URLS[1] and len(calls) == 3


def test_headers_that_would_break_the_request_are_left_out() -> None:
    odd = {"Host": "x", "Content-Length": "9", "a b": "c", "X-Ok": "fine", "X-Cr": "a\r\nb", "X-No": 7, "": "x"}
    _, (_, put) = drive(
        wavespeed.upload(b"png", "image/png", "a.png"), answer(body=ticket_told(headers=odd)), answer(204)
    )
    assert put.headers == {"X-Ok": "fine"}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (413, HTML, errors.OutOfLimits),
        (401, said_no(401), errors.KeyRejected),
        (429, said_no(429), errors.RateLimited),
    ],
)
def test_an_upload_that_is_refused_says_why_at_once(status: int, body: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        drive(wavespeed.upload(b"png", "image/png", "a.png"), answer(status, body))


@pytest.mark.parametrize("body", [HTML, {"code": 200, "data": {"download_url": "file:///etc/passwd"}}])
def test_an_upload_without_a_url_is_an_outage(body: Any) -> None:
    with pytest.raises(errors.Outage):
        drive(wavespeed.upload(b"png", "image/png", "a.png"), answer(404), answer(body=body))


@pytest.mark.parametrize(
    ("told", "usd"),
    [
        ({"price": 0.07, "discounted_price": 0.063, "discount_rate": 10, "currency": "USD"}, "0.063"),
        ({"price": "0.07", "currency": "usd"}, "0.07"),
        ({"price": 0.07, "discounted_price": 0}, "0.07"),
        ({"price": 0.07, "currency": "CNY"}, None),
        ({"price": "cheap"}, None),
        (None, None),
    ],
)
def test_a_quote_is_the_discounted_price_of_the_whole_request(told: Any, usd: str | None) -> None:
    quoted, (call,) = drive(wavespeed.quote(edit()), answer(body={"code": 200, "data": told}))
    assert quoted == (Quote(Decimal(usd), exact=True) if usd else None)
    assert (call.method, call.path, call.repeatable) == ("POST", "/api/v3/model/price", True)
    assert call.json["model_id"] == f"{LITE}/edit-sequential"
    assert call.json["inputs"] == next(wavespeed.submit(edit())).json  # type: ignore[union-attr]


def test_a_quote_that_cannot_be_had_is_none() -> None:
    assert drive(wavespeed.quote(edit()), answer(404, said_no(404)))[0] is None
    assert drive(wavespeed.quote(replace(edit(), references=(Reference("0", "image/png"),))))[0] is None


def test_the_listing_has_live_prices() -> None:
    entries = [{"model_id": "a/b", "base_price": 0.03}, {"model_id": "a/free"}, {"model_id": ["odd"]}, "odd"]
    listing, (call,) = drive(wavespeed.listing(), answer(body={"code": 200, "data": entries}))
    assert (call.method, call.path) == ("GET", "/api/v3/models")
    assert listing.prices_usd == {"a/b": Decimal("0.03"), "a/free": None}


@pytest.mark.parametrize("body", [said_no(500), {"code": 200, "data": []}, HTML])
def test_an_error_envelope_is_never_an_empty_listing(body: Any) -> None:
    with pytest.raises(errors.Outage):
        drive(wavespeed.listing(), answer(body=body))


def test_the_balance_is_in_dollars() -> None:
    balance, (call,) = drive(wavespeed.balance(), answer(body={"code": 200, "data": {"balance": 125.4}}))
    assert (balance, call.path) == (Decimal("125.4"), "/api/v3/balance")
    assert drive(wavespeed.balance(), answer(body={"code": 200, "data": None}))[0] is None


# Hostile answers

_WORDS = """code data id status outputs urls get error message error_code upload method url headers download_url price
currency items model created_at input images discounted_price balance model_id base_price has_nsfw_contents"""
_KEYS = st.sampled_from(_WORDS.split()) | st.text(max_size=5)
_ODD = ["failed", "completed", "processing", TICKET, URLS[0], "http://[", "\ud800", "1e999", "PUT", 1e300]
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(_ODD)
_JSON = any_json(_LEAVES, _KEYS)
_ANSWERS = any_answer(_JSON)


@given(_ANSWERS, st.none() | _ANSWERS)
def test_nothing_but_our_own_errors_leaves_a_flow(hostile: HttpResponse, after: HttpResponse | None) -> None:
    single = edit(Operation.EDIT)
    for flow in (
        wavespeed.submit(edit()),
        wavespeed.poll(TICKET, None),
        wavespeed.poll(TICKET, "https://api.wavespeed.ai/elsewhere"),
        wavespeed.upload(b"", "image/png", "a.png"),
        wavespeed.find(single, lost(single), SENT, frozenset()),
        wavespeed.quote(edit()),
        wavespeed.listing(),
        wavespeed.balance(),
    ):
        with contextlib.suppress(StopIteration, errors.TriptychError):
            next(flow)
            flow.send(hostile)
            for _ in range(5):
                flow.send(after or hostile)
