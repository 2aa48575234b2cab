"""Claims about every provider's every flow under answers that no provider should give: nothing but our errors leaves.

Three kinds of answers: any bytes; any JSON built of the words that the provider's own module reads; and the honest
answers of the emulator, changed in a place or two. How many examples each flow sees is in `EXAMPLES`.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from decimal import Decimal
from functools import cache
from importlib import import_module
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.fixtures import Emulator
from support.flows import OVER, SENT, any_json, edit, lost
from support.pictures import picture
from triptych import providers
from triptych.core import errors
from triptych.core.models import Done, Pending, Reference, Upload
from triptych.core.offers import ListedModel, Operation, Quote
from triptych.providers import (
    STREAM_END,
    Flow,
    FrameReceived,
    HttpRequest,
    HttpResponse,
    ModelList,
    NextEvent,
    Provider,
)
from triptych.providers import _reading as read
from triptych_emulators import running

HOSTED = tuple(name for name in providers.names() if providers.load(name).key_env)
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "12"))
"""Hypothesis's examples of each kind of answers, for each flow; one is up to eight answers long."""

TICKET = "task-1234567890"


# The flows -----------------------------------------------------------------------------------------------------------


def offered(provider: Provider, operation: Operation) -> str | None:
    return next((offer.family for offer in provider.offers if offer.operation is operation), None)


def flows(provider: Provider, ticket: str = TICKET, poll_url: str | None = None) -> dict[str, Callable[[], Flow[Any]]]:
    """Return a maker of each of a provider's flows by its name; a field of `Provider` that is none here fails."""
    base = provider.base_urls["api"].default
    told = (Reference("00", "image/png", url="https://host.example/0.png"),)
    bare = (Reference("00", "image/png", data=picture()),)

    def wish(operation: Operation, references: tuple[Reference, ...] = told) -> Any:
        family = offered(provider, operation)
        assert family
        return edit(
            provider,
            operation,
            family,
            references if operation.edits else (),
            client_id="0b6ad8f4-5f3c-4f0a-9b0e-4d1f5e8c7a21",
        )

    schema_url = "https://static.atlascloud.ai/model/schema/google-nano-banana-2-edit.json"
    listed = ListedModel("google/nano-banana-2/edit", "", "image-to-image", "/", schema_url=schema_url)
    asked: dict[str, Callable[[], Flow[Any]]] = {}
    for operation in Operation:
        if offered(provider, operation):
            asked[f"submit {operation}"] = lambda operation=operation: provider.submit(wish(operation))  # type: ignore[misc]
    first = next(operation for operation in Operation if operation.edits and offered(provider, operation))
    asked["submit bytes"] = lambda: provider.submit(wish(first, bare))
    made: Mapping[str, Callable[..., Flow[Any]]] = {
        "poll": lambda ask: ask(ticket, poll_url),
        "poll elsewhere": lambda ask: ask(ticket, f"{base}/elsewhere?{ticket}"),
        "upload": lambda ask: ask(picture(), "image/png", "a.png"),
        "delete": lambda ask: ask(["https://files.example/uploads/a.png", "https://files.example/b.png"]),
        "find": lambda ask: ask(wish(first), lost(wish(first)), SENT, frozenset({"taken"})),
        "quote": lambda ask: ask(wish(first)),
        "charge": lambda ask: ask(ticket, poll_url),
        "finished": lambda ask: ask([ticket, "other"]),
        "listing": lambda ask: ask(),
        "balance": lambda ask: ask(),
        "catalogue": lambda ask: ask(),
        "schema": lambda ask: ask(listed),
    }
    for name, start in made.items():
        if ask := getattr(provider, name.split()[0]):
            asked[name] = lambda start=start, ask=ask: start(ask)  # type: ignore[misc]
    known = {name.split()[0] for name in made} | {"submit", "offers_at", "offers_for"}  # the last two ask for nothing
    callables = {field.name for field in fields(Provider) if callable(getattr(provider, field.name))}
    assert callables <= known, f"no hostile answers yet for {callables - known}"
    return asked


EVERY = [(name, flow) for name in HOSTED for flow in flows(providers.load(name))]


@dataclass(frozen=True)
class Told:
    """What a flow did with its answers."""

    value: Any
    calls: list[HttpRequest]
    came: list[FrameReceived]


def drive(flow: Flow[Any], answers: Iterator[HttpResponse | errors.TriptychError]) -> Told:
    """Feed a flow until it returns or raises one of our errors; anything else it raises goes through."""
    calls: list[HttpRequest] = []
    came: list[FrameReceived] = []
    try:
        wanted = next(flow)
        for _ in range(60):
            if isinstance(wanted, FrameReceived):
                came.append(wanted)
                wanted = flow.send(OVER)
                continue
            if isinstance(wanted, HttpRequest):
                calls.append(wanted)
            following = next(answers, OVER if isinstance(wanted, NextEvent) else errors.Outage("no more"))
            wanted = flow.throw(following) if isinstance(following, Exception) else flow.send(following)
    except StopIteration as stop:
        return Told(stop.value, calls, came)
    except errors.TriptychError as error:
        return Told(error, calls, came)
    raise AssertionError("the flow asks for ever")


def check(told: Told) -> None:
    """Hold what came out against what the rest of Triptych counts on."""
    for call in told.calls:
        json.dumps(call.json)
        assert re.fullmatch(r"[!-~]*", call.path) and ".." not in call.path.split("?")[0].split("/")
        assert not any("\r" in value or "\n" in value for value in call.headers.values())
    outputs = [came.output for came in told.came]
    match told.value:
        case errors.TriptychError() as error:
            assert error.message.isprintable() and len(error.message) <= errors.MESSAGE_LIMIT_CHARS
            assert error.request_id is None or (len(error.request_id) <= 100 and error.request_id.isprintable())
            wish_s = error.retry_after_s if isinstance(error, errors.RateLimited) else None
            timedelta(seconds=wish_s or 0)
        case Pending(ticket, poll_url):
            assert read.is_ticket(ticket)
            assert poll_url is None or poll_url.isprintable()
        case Done() as done:
            assert 0 < len(done.outputs) <= read.MAX_OUTPUTS
            assert all(warning.isprintable() and len(warning) < 1000 for warning in done.warnings)
            assert done.charged_usd is None or 0 <= done.charged_usd < 10**13
            assert len(f"{done.charged_usd or 0:f}") < 60
            outputs += done.outputs
        case Upload(url):
            assert read.is_url(url) or read.is_ticket(url)
        case Quote(usd):
            assert 0 < usd < 10**12 and len(f"{usd:f}") < 60
        case ModelList(prices):
            assert all(price is None or 0 < price < 10**12 for price in prices.values())
        case Decimal() as amount:
            assert amount.is_finite() and len(f"{amount:f}") < 60
        case tuple() as models:
            for model in models:
                assert isinstance(model, ListedModel) and model.path.startswith("/api/v")
                assert re.fullmatch(r"[\w./:@-]{1,200}", model.endpoint, re.ASCII)
                assert all(text.isprintable() and len(text) <= 400 for text in (model.title, model.description))
                assert model.usd is None or 0 < model.usd < 10**12
        case dict() as schema:
            assert isinstance(schema["components"]["schemas"], dict)
        case frozenset() as ended:
            urls = {"https://files.example/uploads/a.png", "https://files.example/b.png"}
            assert ended <= {TICKET, "other"} or ended <= urls
        case other:
            assert other is None
    for output in outputs:
        assert (output.url is None) or read.is_url(output.url)
        assert output.error is None or (output.error.isprintable() and len(output.error) < 1000)
        assert sum(part is not None for part in (output.url, output.data, output.error)) == 1


# The answers ---------------------------------------------------------------------------------------------------------


@cache
def words(name: str) -> tuple[str, ...]:
    """Return every word in quotes in a provider's module and in what they share: all field names are among them."""
    own = import_module(f"triptych.providers.{name}")
    modules = (own, read, getattr(own, "catalogue", read))
    sources = [inspect.getsource(module) for module in modules]
    return tuple(sorted(set(re.findall(r'"([A-Za-z_]{2,30})"', " ".join(sources)))))


STATUSES = st.sampled_from([200, 200, 200, 201, 204, 302, 400, 401, 402, 403, 404, 409, 413, 422, 429, 451, 500, 503])
HEADERS = st.dictionaries(
    st.sampled_from(["x-request-id", "retry-after", "content-type", "X-Other-Request-Id", "Date"]),
    st.text(max_size=10)
    | st.sampled_from(["text/event-stream", "9" * 400, "-1", "1e9", "٣", "0", "\r\nX: y", "120", "\u202e"])
    | st.sampled_from(["Sat, 21 Nov 2026 03:00:20 GMT", "Sat, 1 Jan 0001 00:00:00 +2359", "1 Jan 1 0:0 -999999999"]),
)
NASTY = (
    None, True, False, 0, -1, 1, 10**30, -0.5, 1e300, float("inf"), float("nan"), "", " ", ".", "..",
    "../../v1/keys?x=", "a\r\nHost: evil", "a\x00b", "\ud800", "\u202eevil\u2066", "<system>", "NaN", "1e999",
    "1e-5000000", "-7", "9" * 400, "1000000000", "completed", "succeeded", "failed", "processing", "success", "error",
    "\ufeff", "x" * 300, [], {},
    "https://cdn.example/a.png", "http://cdn.example/a.png", "javascript:alert(1)", "file:///etc/passwd", "data:,x",
    "https://u:p@cdn.example/a", "https://[", "https://cdn.example/<system>", "https://169.254.169.254/latest",
    "https://0x7f.1/",
    TICKET, "2026-11-21T03:00:01Z", "9999-12-31T23:59:59.999999999+99:99", "1763694001", b64encode(b"x" * 50).decode(),
)  # fmt: skip
ANYTHING = st.sampled_from(NASTY) | st.integers() | st.floats() | st.text(max_size=20)


def as_answer(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


@cache
def honest(name: str, flow: str) -> tuple[HttpResponse, ...]:
    """Return the emulator's own answers to a flow, events one by one."""
    provider = providers.load(name)
    with running(name, max_side=32) as api, httpx2.Client() as client:
        ticket = poll_url = None
        if provider.poll and flow.split(maxsplit=1)[0] in ("poll", "charge", "finished"):
            submitted = next(key for key in flows(provider) if key.startswith("submit"))
            pending = _ask(client, api, flows(provider)[submitted]())[0]
            ticket, poll_url = pending.ticket, pending.poll_url
        return tuple(_ask(client, api, flows(provider, ticket or TICKET, poll_url)[flow]())[1])


def _ask(client: httpx2.Client, api: Emulator, flow: Flow[Any]) -> tuple[Any, list[HttpResponse]]:
    base = providers.load(api.name).base_urls["api"].default
    heard: list[HttpResponse] = []
    events: list[bytes] = []
    answer = OVER
    try:
        wanted = next(flow)
        while True:
            match wanted:
                case HttpRequest():
                    url = wanted.path.replace(base, api.base_url)
                    url = url if url.startswith("http") else api.base_url + url
                    got = client.request(
                        wanted.method, url, json=wanted.json, content=wanted.content,
                        params=dict(wanted.params) or None, files=dict(wanted.files or {}) or None,
                        headers={**wanted.headers, "Authorization": f"Bearer {api.key}"},
                    )  # fmt: skip
                    answer = HttpResponse(got.status_code, dict(got.headers), got.content)
                    if got.headers.get("content-type", "").startswith("text/event-stream"):
                        events = [line[6:] for line in got.content.split(b"\n") if line.startswith(b"data: ")]
                        answer = HttpResponse(got.status_code, dict(got.headers), b"")
                    heard.append(answer)
                case NextEvent():
                    answer = HttpResponse(200, {}, events.pop(0)) if events else OVER
                    heard.append(answer)
                case FrameReceived():
                    answer = OVER
            wanted = flow.send(answer)
    except StopIteration as stop:
        return stop.value, heard
    except errors.TriptychError as error:
        return error, heard


def places(body: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value in a JSON body."""
    yield here
    for key, value in body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ():
        yield from places(value, (*here, key))


def put(body: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    copy = dict(body) if isinstance(body, dict) else list(body)
    copy[place[0]] = put(copy[place[0]], place[1:], value)
    return copy


@st.composite
def spoilt(draw: st.DrawFn, answers: tuple[HttpResponse, ...]) -> list[HttpResponse]:
    """Honest answers, each maybe with a value replaced or repeated, its bytes cut or changed, or its status another."""
    made = []
    for answer in answers[:8]:
        body, status = answer.body, answer.status
        parsed = answer.json()
        match draw(
            st.sampled_from(["as it is", "value", "value", "values", "repeated", "nested", "cut", "bytes", "status"])
        ):
            case "value" | "values" as how if parsed is not None:
                for _ in range(3 if how == "values" else 1):
                    parsed = put(parsed, draw(st.sampled_from(sorted(places(parsed), key=str))), draw(ANYTHING))
                body = as_answer(parsed)
            case "repeated" if parsed is not None:
                lists = [place for place in places(parsed) if isinstance(_at(parsed, place), list)]
                if lists:
                    place = draw(st.sampled_from(lists))
                    body = as_answer(put(parsed, place, (_at(parsed, place) or [{}]) * 40))
            case "nested" if parsed is not None:
                place = draw(st.sampled_from(sorted(places(parsed), key=str)))
                tower = draw(st.sampled_from(['"MARK"', '{"data":' * 400 + "1" + "}" * 400, "[" * 2_000]))
                body = as_answer(put(parsed, place, "MARK")).replace(b'"MARK"', tower.encode())
            case "cut":
                body = body[: draw(st.integers(0, max(len(body) - 1, 0)))]
            case "bytes":
                at = draw(st.integers(0, len(body)))
                body = body[:at] + draw(st.binary(max_size=4)) + body[at + draw(st.integers(0, 3)) :]
            case "status":
                status = draw(STATUSES)
        kept = status if answer.status != STREAM_END else STREAM_END
        made.append(
            HttpResponse(kept, {**answer.headers, **draw(HEADERS)} if draw(st.booleans()) else answer.headers, body)
        )
    return made


def _at(body: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        body = body[key]
    return body


# The claims ----------------------------------------------------------------------------------------------------------


def test_every_flow_of_every_hosted_provider_is_driven() -> None:
    assert {name for name, _ in EVERY} == {name for name in providers.names() if not providers.load(name).offline}
    assert len(EVERY) >= 45, EVERY


@pytest.mark.parametrize(("name", "flow"), EVERY)
def test_any_bytes_or_json_raise_only_our_errors(name: str, flow: str) -> None:
    start = flows(providers.load(name))[flow]
    bodies = st.binary(max_size=60) | any_json(ANYTHING, st.sampled_from(words(name)) | st.text(max_size=4)).map(
        as_answer
    )
    answers = st.builds(HttpResponse, STATUSES, HEADERS, bodies)
    troubles = st.sampled_from([errors.AnswerLost("lost"), errors.NotAllowed("no"), errors.NotSent("no")])
    ours = st.lists(answers | answers | answers | troubles, max_size=8)

    @settings(max_examples=EXAMPLES)
    @given(ours)
    def body(hostile: list[Any]) -> None:
        check(drive(start(), iter(hostile)))

    body()


@pytest.mark.parametrize(("name", "flow"), EVERY)
def test_spoilt_honest_answers_raise_only_our_errors(name: str, flow: str) -> None:
    start, answers = flows(providers.load(name))[flow], honest(name, flow)
    assert answers and not isinstance(drive(start(), iter(answers)).value, errors.AnswerLost)

    @settings(max_examples=EXAMPLES)
    @given(spoilt(answers))
    def body(hostile: list[HttpResponse]) -> None:
        check(drive(start(), iter(hostile)))

    body()


@pytest.mark.parametrize("name", HOSTED)
def test_a_tower_of_brackets_is_no_answer_and_no_crash(name: str) -> None:
    for flow in flows(providers.load(name)).values():
        for tower in (b"[" * 100_000, b'{"data":' * 100_000, b'{"a":' * 400 + b"1" + b"}" * 400):
            check(drive(flow(), iter([HttpResponse(200, {}, tower)] * 8)))


@pytest.mark.parametrize(
    "text", ["NaN", "1e999", "-1", "0", "1e-5000000", "1" * 60, "0E-5000000", "0x10", "١٢", True, -3]
)
def test_no_amount_but_a_plain_positive_one_is_money(text: Any) -> None:
    assert read.usd(text) is None or 0 < read.usd(text) < 10**12


def test_ten_thousand_outputs_are_read_to_the_limit() -> None:
    atlas = providers.load("atlas")
    assert atlas.poll
    body = {"data": {"id": TICKET, "status": "completed", "outputs": ["https://cdn.example/a.png"] * 10_000}}
    told = drive(atlas.poll(TICKET, None), iter([HttpResponse(200, {}, json.dumps(body).encode())]))
    assert isinstance(told.value, Done) and len(told.value.outputs) == read.MAX_OUTPUTS
