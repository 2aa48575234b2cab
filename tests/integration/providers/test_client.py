"""Claims about the one sender: where the key goes, what is sent twice, whose URLs are read."""

from __future__ import annotations

import gzip
import socket
import socketserver
import ssl
import threading
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.clocks import until
from triptych.core import errors
from triptych.core.secret import SecretStr
from triptych.providers import (
    STREAM_END,
    BaseUrl,
    Flow,
    HttpRequest,
    HttpResponse,
    NextEvent,
    Provider,
    client,
    event_stream,
    guarded_transport,
    load,
)
from triptych.providers.accounts import Account
from triptych.providers.client import ProviderClient

KEY = "sk-a-secret-of-ours"
PUBLIC = "93.184.215.14"

PROVIDER = Provider(
    name="echo",
    title="Echo Images",
    key_env="ECHO_API_KEY",
    base_urls={"api": BaseUrl("ECHO_BASE_URL", "https://api.echo.invalid")},
    offers=(),
    submit=lambda edit: ask(),  # type: ignore[arg-type, return-value]
)
OFFLINE = Provider(name="here", title="Here", key_env=None, base_urls={}, offers=(), submit=PROVIDER.submit)


# -- a server on loopback that does as it is told


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


class Server:
    """A real HTTP server; `on` says what a path answers, `seen` what came."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.seen: list[Seen] = []
        self.on: dict[str, Callable[[Any], None]] = {}
        self.released = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:  # the other side left
                    self.close_connection = True

            def serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.seen.append(Seen(self.command, self.path, headers, body, self.client_address[1]))
                outer.on.get(self.path.partition("?")[0], says())(self)

            do_GET = do_POST = do_PUT = serve  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.handle_error = lambda *_: None  # type: ignore[method-assign]
        if tls:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._http.server_address[1]
        self.base_url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self.released.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


def says(status: int = 200, body: bytes = b"{}", **headers: str) -> Callable[[Any], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def drops(handler: BaseHTTPRequestHandler) -> None:
    """The request was read; the connection ends without an answer."""
    handler.close_connection = True


def undeclared(body: bytes) -> Callable[[Any], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    return answer


def hangs(server: Server) -> Callable[[Any], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        server.released.wait(30)
        handler.close_connection = True

    return answer


def drips(server: Server) -> Callable[[Any], None]:
    """A byte at a time, for ever: no gap is long enough for a read time-out."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not server.released.wait(0.02):
            handler.wfile.write(b".")
            handler.wfile.flush()
        handler.close_connection = True

    return answer


def in_turn(*answers: Callable[[Any], None]) -> Callable[[Any], None]:
    left = list(answers)
    return lambda handler: left.pop(0)(handler)


@contextmanager
def _served(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(tls)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def server() -> Iterator[Server]:
    with _served() as one:
        yield one


@pytest.fixture
def elsewhere() -> Iterator[Server]:
    """Another origin: it must hear nothing."""
    with _served() as one:
        yield one
        assert one.seen == []


@pytest.fixture
def naps() -> list[float]:
    return []


@pytest.fixture
async def sender(naps: list[float]) -> AsyncIterator[ProviderClient]:
    async def nap(seconds: float) -> None:
        naps.append(seconds)

    sender = ProviderClient(sleep=nap)
    yield sender
    await sender.aclose()


@pytest.fixture
def account(server: Server) -> Account:
    return account_at(server.base_url)


def account_at(base_url: str, key: str | None = KEY) -> Account:
    return Account(PROVIDER, SecretStr(key) if key else None, {"api": base_url})


def ask(*calls: HttpRequest) -> Flow[list[HttpResponse]]:
    answers = []
    for call in calls or (HttpRequest("GET", "/"),):
        answers.append((yield call))
    return answers


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# -- the key


@pytest.mark.anyio
async def test_the_key_goes_to_the_provider_as_a_bearer_alone(
    server: Server, account: Account, sender: ProviderClient
) -> None:
    await sender.run(account, ask(HttpRequest("POST", "/v1/make", json={"prompt": "a fox"}, params={"n": 2})))
    [seen] = server.seen
    assert seen.headers.pop("authorization") == f"Bearer {KEY}"
    assert (seen.method, seen.path, seen.body) == ("POST", "/v1/make?n=2", b'{"prompt":"a fox"}')
    assert KEY not in str(seen)


@pytest.mark.anyio
async def test_a_call_that_asks_for_no_authorization_carries_no_key(
    server: Server, account: Account, sender: ProviderClient
) -> None:
    await sender.run(account, ask(HttpRequest("GET", "/public", authorize=False)))
    assert "authorization" not in server.seen[0].headers


@pytest.mark.anyio
async def test_an_echoed_key_is_cut_out_of_body_and_headers(
    server: Server, account: Account, sender: ProviderClient
) -> None:
    server.on["/"] = says(401, f'{{"message": "bad key {KEY}!"}}'.encode(), X_Trace=f"for {KEY}")
    [answer] = await sender.run(account, ask())
    assert answer.json() == {"message": "bad key [key]!"}
    assert answer.headers["x-trace"] == "for [key]"
    assert KEY not in repr(answer)


@pytest.mark.anyio
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_is_not_followed(
    server: Server, elsewhere: Server, account: Account, sender: ProviderClient, status: int
) -> None:
    server.on["/"] = says(status, Location=f"{elsewhere.base_url}/steal")
    [answer] = await sender.run(account, ask())
    assert answer.status == status
    assert len(server.seen) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("tail", ["/jobs/1", "/../../x", "//x", "/x?next=https://api.echo.invalid"])
async def test_a_whole_url_on_another_origin_is_refused(
    server: Server, elsewhere: Server, account: Account, sender: ProviderClient, tail: str
) -> None:
    def flow() -> Flow[str]:
        try:
            yield HttpRequest("GET", elsewhere.base_url + tail)
        except errors.NotAllowed:
            answer = yield HttpRequest("GET", "/jobs/1")
            return f"fell back: {answer.status}"
        return "followed"

    assert await sender.run(account, flow()) == "fell back: 200"
    assert [seen.path for seen in server.seen] == ["/jobs/1"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "path",
    [
        "https://127.0.0.1:{port}/x",
        "http://localhost:{port}/x",
        "http://user:pass@127.0.0.1:{port}/x",
        "http://127.0.0.1:{port}\\@evil.invalid/x",
        "http://127.0.0.1:{port}@evil.invalid/x",
        "http://[::1",
        "@evil.invalid/x",
        ".evil.invalid/x",
    ],
)
async def test_a_url_resembling_the_providers_origin_is_refused(
    server: Server, account: Account, sender: ProviderClient, path: str
) -> None:
    with pytest.raises(errors.NotAllowed):
        await sender.run(account, ask(HttpRequest("GET", path.format(port=server.port))))
    assert server.seen == []


@pytest.mark.anyio
async def test_a_whole_url_on_the_providers_origin_gets_the_key(
    server: Server, account: Account, sender: ProviderClient
) -> None:
    await sender.run(account, ask(HttpRequest("GET", f"{server.base_url}/jobs/1?with=https://other.invalid")))
    assert server.seen[0].path == "/jobs/1?with=https://other.invalid"
    assert server.seen[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.anyio
async def test_a_url_in_its_query_leaves_a_path_a_path(
    server: Server, account: Account, sender: ProviderClient
) -> None:
    await sender.run(account, ask(HttpRequest("GET", "/find?image=https://cdn.invalid/a.png")))
    assert server.seen[0].path == "/find?image=https://cdn.invalid/a.png"


@pytest.mark.anyio
async def test_the_path_of_a_base_url_comes_before_every_call(server: Server, sender: ProviderClient) -> None:
    await sender.run(account_at(f"{server.base_url}/api/v3"), ask(HttpRequest("GET", "/images")))
    assert server.seen[0].path == "/api/v3/images"


@pytest.mark.anyio
async def test_no_cookie_is_ever_sent_back(server: Server, account: Account, sender: ProviderClient) -> None:
    server.on["/"] = says(Set_Cookie="session=1; Path=/")
    await sender.run(account, ask(HttpRequest("GET", "/"), HttpRequest("GET", "/")))
    assert all("cookie" not in seen.headers for seen in server.seen)


@pytest.mark.anyio
async def test_calls_to_loopback_use_no_proxy(
    server: Server, elsewhere: Server, account: Account, sender: ProviderClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, elsewhere.base_url)
    [answer] = await sender.run(account, ask())
    assert answer.status == 200


@pytest.mark.anyio
async def test_an_unusable_proxy_is_named_by_its_variables(
    account: Account, sender: ProviderClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://somewhere:70")
    with pytest.raises(errors.BadRequest, match="ALL_PROXY"):
        await sender.run(account, ask())


@pytest.mark.parametrize(
    "base_url",
    [
        "http://api.echo.invalid",
        "http://192.168.1.20:8901",
        "http://0.0.0.0:8901",
        "http://localhost.evil.invalid",
        "http://127.0.0.1@evil.invalid",
        "https://user:hunter2@api.echo.invalid",
        "https://",
        "https://[::1",
        "https://host:99999",
        "ftp://127.0.0.1",
        "api.echo.invalid",
    ],
)
def test_a_base_url_unsafe_for_the_key_is_refused(base_url: str) -> None:
    with pytest.raises(errors.BadRequest, match="ECHO_BASE_URL") as refused:
        account_at(base_url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "base_url", ["https://api.echo.invalid", "http://127.0.0.1:1", "http://localhost:1/v1", "http://[::1]:1"]
)
def test_https_anywhere_and_plain_http_on_this_machine_are_fine(base_url: str) -> None:
    assert account_at(base_url).usable


@pytest.mark.parametrize("key", ["sk-two words", "sk-line\nbreak", "sk-ключ", "sk-“quoted”"])
def test_a_key_that_no_header_can_carry_is_refused_unshown(key: str) -> None:
    with pytest.raises(errors.BadRequest, match="ECHO_API_KEY") as refused:
        account_at("https://api.echo.invalid", key)
    assert "sk-" not in str(refused.value)


@pytest.mark.anyio
async def test_without_a_key_nothing_is_sent(server: Server, sender: ProviderClient) -> None:
    account = account_at(server.base_url, key=None)
    assert (account.usable, account.why_not) == (False, "set ECHO_API_KEY")
    with pytest.raises(errors.NoKey, match="ECHO_API_KEY"):
        await sender.run(account, ask())
    assert server.seen == []


# -- whether it arrived


@pytest.mark.anyio
async def test_a_refused_connection_surely_did_not_arrive(sender: ProviderClient) -> None:
    with pytest.raises(errors.NotSent, match="Echo Images could not be reached"):
        await sender.run(account_at(f"http://127.0.0.1:{closed_port()}"), ask())


@pytest.mark.anyio
async def test_a_connection_dropped_after_the_request_loses_the_answer(
    server: Server, account: Account, sender: ProviderClient
) -> None:
    server.on["/"] = drops
    with pytest.raises(errors.AnswerLost):
        await sender.run(account, ask(HttpRequest("POST", "/", json={}, repeatable=False)))
    assert len(server.seen) == 1


@pytest.mark.anyio
async def test_an_answer_that_does_not_come_in_time_is_lost(
    server: Server, account: Account, sender: ProviderClient
) -> None:
    server.on["/"] = hangs(server)
    with pytest.raises(errors.AnswerLost, match="ReadTimeout"):
        await sender.run(account, ask(HttpRequest("POST", "/", timeout_s=0.5)))
    until(lambda: len(server.seen) == 1)


@pytest.mark.anyio
async def test_an_answer_that_drips_for_ever_is_lost_too(
    server: Server, account: Account, sender: ProviderClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_PATIENCE", 0.2)
    server.on["/"] = drips(server)
    with pytest.raises(errors.AnswerLost, match="TimeoutError"):
        await sender.run(account, ask(HttpRequest("GET", "/", timeout_s=1.0)))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer", [says(200, b"x" * 2000), undeclared(b"x" * 2000), says(200, b"", Content_Length="2000")]
)
async def test_an_answer_too_large_to_read_counts_as_lost(
    server: Server,
    account: Account,
    sender: ProviderClient,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[Any], None],
) -> None:
    monkeypatch.setattr(client, "ANSWER_LIMIT_BYTES", 1000)
    server.on["/"] = answer
    with pytest.raises(errors.AnswerLost):
        await sender.run(account, ask(HttpRequest("POST", "/", repeatable=False)))
    assert len(server.seen) == 1


@pytest.mark.anyio
async def test_an_answer_cut_off_in_its_body_is_lost(server: Server, account: Account, sender: ProviderClient) -> None:
    def cut(handler: BaseHTTPRequestHandler) -> None:
        says(200, b"{", Content_Length="100")(handler)
        handler.close_connection = True

    server.on["/"] = cut
    with pytest.raises(errors.AnswerLost):
        await sender.run(account, ask())


@pytest.mark.anyio
async def test_a_request_that_cannot_be_written_down_is_not_sent(
    server: Server, account: Account, sender: ProviderClient
) -> None:
    for call in (HttpRequest("POST", "/", json={"prompt": "\ud800"}), HttpRequest("GET", "/a\nb")):
        with pytest.raises(errors.BadRequest):
            await sender.run(account, ask(call))
    assert server.seen == []


@pytest.mark.anyio
async def test_errors_are_thrown_into_the_flow_which_may_continue(
    server: Server, account: Account, sender: ProviderClient
) -> None:
    def flow() -> Flow[str]:
        try:
            yield HttpRequest("GET", "/dropped")
        except errors.AnswerLost as lost:
            yield HttpRequest("GET", "/after")
            return f"went on after {lost.kind}"
        return "nothing happened"

    server.on["/dropped"] = drops
    assert await sender.run(account, flow()) == "went on after answer_lost"


# -- again, where that costs nothing


@pytest.mark.anyio
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_a_repeatable_call_retries_after_a_passing_status(
    server: Server, account: Account, sender: ProviderClient, naps: list[float], status: int
) -> None:
    server.on["/"] = in_turn(says(status), says(status), says(200))
    [answer] = await sender.run(account, ask(), tries=3)
    assert answer.status == 200
    assert len(server.seen) == 3
    assert naps == [0.5, 1.0]


@pytest.mark.anyio
@pytest.mark.parametrize("status", [200, 201, 302, 400, 401, 402, 403, 404, 422])
async def test_any_other_status_is_the_answer_the_first_time(
    server: Server, account: Account, sender: ProviderClient, naps: list[float], status: int
) -> None:
    server.on["/"] = says(status)
    [answer] = await sender.run(account, ask(), tries=3)
    assert (answer.status, len(server.seen), naps) == (status, 1, [])


@pytest.mark.anyio
async def test_the_last_try_is_the_answer_whatever_it_is(
    server: Server, account: Account, sender: ProviderClient
) -> None:
    server.on["/"] = says(503, b"<html>busy</html>")
    [answer] = await sender.run(account, ask(), tries=3)
    assert (answer.status, answer.json(), len(server.seen)) == (503, None, 3)


@pytest.mark.anyio
async def test_a_repeatable_call_is_tried_again_after_a_lost_answer(
    server: Server, account: Account, sender: ProviderClient
) -> None:
    server.on["/"] = in_turn(drops, says(200))
    [answer] = await sender.run(account, ask(), tries=2)
    assert (answer.status, len(server.seen)) == (200, 2)


@pytest.mark.anyio
async def test_without_being_asked_to_nothing_is_tried_again(
    server: Server, account: Account, sender: ProviderClient, naps: list[float]
) -> None:
    server.on["/"] = says(500)
    await sender.run(account, ask())
    assert (len(server.seen), naps) == (1, [])


@pytest.mark.anyio
@pytest.mark.parametrize("answer", [says(500), says(429), says(503), drops])
async def test_a_call_that_is_not_repeatable_is_never_sent_twice(
    server: Server, account: Account, sender: ProviderClient, answer: Callable[[Any], None]
) -> None:
    server.on["/"] = answer
    flow = ask(HttpRequest("POST", "/", json={}, repeatable=False))
    if answer is drops:
        with pytest.raises(errors.AnswerLost):
            await sender.run(account, flow, tries=5)
    else:
        await sender.run(account, flow, tries=5)
    assert len(server.seen) == 1


# -- nothing is sent


@pytest.mark.anyio
async def test_an_offline_flow_runs_in_a_thread_without_network(
    sender: ProviderClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flow() -> Flow[str]:
        yield from ()
        return threading.current_thread().name

    monkeypatch.setattr(httpx2, "AsyncClient", None)
    assert await sender.run(Account(OFFLINE), flow()) != threading.current_thread().name
    assert Account(load("draft")).usable


def test_a_dry_run_shows_the_first_request_without_the_key(server: Server, account: Account) -> None:
    flow = ask(HttpRequest("POST", "/v1/make", json={"prompt": "a fox"}), HttpRequest("GET", "/never"))
    shown = client.first_call(account, flow)
    assert shown == {"method": "POST", "url": f"{server.base_url}/v1/make", "json": {"prompt": "a fox"}}
    assert server.seen == []
    with pytest.raises(StopIteration):
        next(flow)


# -- events, one by one


def told() -> Flow[list[str]]:
    """Read a stream to its end; return what each event said."""
    answer = yield HttpRequest("POST", "/stream", json={}, stream=True, repeatable=False)
    if answer.body:
        return [f"no stream: {answer.body.decode()}"]
    said = []
    while (event := (yield NextEvent())).status != STREAM_END:
        said.append(event.body.decode())
    return said


@pytest.mark.anyio
async def test_a_stream_is_read_event_by_event_without_the_key(
    server: Server, account: Account, sender: ProviderClient
) -> None:
    body = f"data: one\n\n: a comment\n\nevent: x\ndata: two {KEY}\n\n".encode()
    server.on["/stream"] = says(200, body, Content_Type="text/event-stream; charset=utf-8")
    assert await sender.run(account, told()) == ["one", "two [key]"]


@pytest.mark.anyio
async def test_the_key_is_cut_out_of_a_streams_headers_too(
    server: Server, account: Account, sender: ProviderClient
) -> None:
    server.on["/"] = says(200, b"", Content_Type="text/event-stream", X_Trace=f"for {KEY}")
    [answer] = await sender.run(account, ask(HttpRequest("GET", "/", stream=True)))
    assert answer.headers["x-trace"] == "for [key]"


@pytest.mark.anyio
async def test_a_plain_answer_to_a_stream_request_is_read_whole(
    server: Server, account: Account, sender: ProviderClient
) -> None:
    server.on["/stream"] = says(400, b"no such size", Content_Type="text/event-stream")
    assert await sender.run(account, told()) == ["no stream: no such size"]


@pytest.mark.anyio
async def test_a_stream_that_is_cut_off_is_a_lost_answer(
    server: Server, account: Account, sender: ProviderClient
) -> None:
    def cut(handler: BaseHTTPRequestHandler) -> None:
        says(200, b"data: one\n\n", Content_Type="text/event-stream", Content_Length="100")(handler)
        handler.close_connection = True

    server.on["/stream"] = cut
    with pytest.raises(errors.AnswerLost, match="cut off"):
        await sender.run(account, told())
    assert len(server.seen) == 1


# -- URLs that somebody else wrote


def resolving(*addresses: str, **hosts: Sequence[str]) -> Callable[[str, int], list[str]]:
    """Answer with the addresses given, or those of a host whose dots are written as underscores."""
    return lambda host, port: list(hosts.get(host.replace(".", "_"), addresses))


@pytest.fixture
async def make_wire() -> AsyncIterator[Callable[..., ProviderClient]]:
    made: list[ProviderClient] = []

    def make(*args: Any, **kwargs: Any) -> ProviderClient:
        made.append(ProviderClient(*args, **kwargs))
        return made[-1]

    yield make
    for one in made:
        await one.aclose()


@dataclass
class Recorder:
    """A transport that keeps what it was asked, and answers by host name."""

    answers: dict[str, httpx2.Response] = field(default_factory=dict)
    asked: list[httpx2.Request] = field(default_factory=list)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        return self.answers.get(request.headers["host"]) or httpx2.Response(200, content=b"a picture")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("url", "address", "target", "host", "sni"),
    [
        ("https://images.example/a?b=c#d", PUBLIC, f"https://{PUBLIC}/a?b=c#d", "images.example", "images.example"),
        ("https://images.example:8443/", PUBLIC, f"https://{PUBLIC}:8443/", "images.example:8443", "images.example"),
        (
            "https://images.example/",
            "2606:4700::6810",
            "https://[2606:4700::6810]/",
            "images.example",
            "images.example",
        ),
        (
            "https://bücher.example/ä",
            PUBLIC,
            f"https://{PUBLIC}/%C3%A4",
            "xn--bcher-kva.example",
            "xn--bcher-kva.example",
        ),
    ],
)
async def test_the_connection_goes_to_the_checked_address_under_the_name(
    make_wire: Callable[..., ProviderClient], url: str, address: str, target: str, host: str, sni: str
) -> None:
    recorder = Recorder()
    sender = make_wire(resolving(address, "8.8.8.8"), public=httpx2.MockTransport(recorder))
    assert await sender.fetch(url) == b"a picture"
    [asked] = recorder.asked
    assert str(asked.url) == target
    assert asked.headers["host"] == host
    assert asked.extensions["sni_hostname"] == sni
    assert "authorization" not in asked.headers


@pytest.mark.anyio
async def test_a_name_is_resolved_once_per_hop(
    make_wire: Callable[..., ProviderClient],
) -> None:
    resolved: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        resolved.append(host)
        return [PUBLIC] if resolved.count(host) == 1 else ["127.0.0.1"]

    moved = httpx2.Response(302, headers={"location": "https://cdn.example/b"})
    recorder = Recorder({"images.example": moved})
    sender = make_wire(rebinding, public=httpx2.MockTransport(recorder))
    await sender.fetch("https://images.example/a")
    assert resolved == ["images.example", "cdn.example"]
    assert [asked.url.host for asked in recorder.asked] == [PUBLIC, PUBLIC]
    with pytest.raises(errors.NotAllowed):
        await sender.fetch("https://images.example/a")
    assert len(recorder.asked) == 2


@pytest.mark.anyio
@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:224.0.0.1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fec0::1",
        "fd00:ec2::254",
        "ff02::1",
        "ff0e::1",
        "2001:db8::1",
        "2001::7f00:1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::e000:1",
        "64:ff9b:1::7f00:1",
        "100::1",
    ],
)
async def test_an_address_that_is_not_public_is_not_read(
    make_wire: Callable[..., ProviderClient], address: str
) -> None:
    recorder = Recorder()
    sender = make_wire(resolving(address), public=httpx2.MockTransport(recorder))
    with pytest.raises(errors.NotAllowed, match="not on the public internet"):
        await sender.fetch("https://images.example/a")
    assert recorder.asked == []


@pytest.mark.anyio
@pytest.mark.parametrize("address", [PUBLIC, "2606:4700::6810", "::ffff:93.184.215.14", "64:ff9b::5db8:d70e"])
async def test_a_public_address_translated_by_nat64_is_read(
    make_wire: Callable[..., ProviderClient], address: str
) -> None:
    sender = make_wire(resolving(address), public=httpx2.MockTransport(Recorder()))
    assert await sender.fetch("https://images.example/a") == b"a picture"


@pytest.mark.anyio
@pytest.mark.parametrize("addresses", [(PUBLIC, "10.0.0.1"), ("10.0.0.1", PUBLIC), (PUBLIC, "::1"), ()])
async def test_a_host_with_any_private_address_is_not_read(
    make_wire: Callable[..., ProviderClient], addresses: tuple[str, ...]
) -> None:
    recorder = Recorder()
    sender = make_wire(resolving(*addresses), public=httpx2.MockTransport(recorder))
    with pytest.raises(errors.NotAllowed):
        await sender.fetch("https://images.example/a")
    assert recorder.asked == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0", "[::1]", "[::ffff:7f00:1]"]
)
async def test_every_spelling_of_this_machine_is_refused(elsewhere: Server, sender: ProviderClient, host: str) -> None:
    with pytest.raises(errors.NotAllowed):
        await sender.fetch(f"https://{host}:{elsewhere.port}/")


ODD_URLS = (
    "",
    "http://",
    "http:///",
    "https://",
    "https:///etc/passwd",
    "https:images.example",
    "https://[::1",
    "https://[]/",
    "https://[::1]x/",
    "https://host:99999",
    "https://host:0/",
    "https://host:port/",
    "https://☃.example/\n",
    "https://\ud800/",
    "https://images.example/\ud800",
    "https://․/",
    "https://" + "a" * 70_000,
    "http://images.example/a",
    "ftp://images.example/a",
    "file:///etc/passwd",
    "gopher://127.0.0.1:70/",
    "data:image/png;base64,AAAA",
    "javascript:alert(1)",
    "//images.example/a",
    "https://user@images.example/a",
    "https://user:secret@images.example/a",
    "https://127.0.0.1@images.example/",
    "https://images.example\\@127.0.0.1/",
)


@pytest.mark.anyio
@pytest.mark.parametrize("url", ODD_URLS, ids=range(len(ODD_URLS)))
async def test_an_odd_url_is_refused_before_anything_is_resolved(
    make_wire: Callable[..., ProviderClient], url: str
) -> None:
    def never(host: str, port: int) -> list[str]:
        raise AssertionError(f"{host!r} was looked up")

    with pytest.raises(errors.NotAllowed) as refused:
        await make_wire(never).fetch(url)
    assert len(str(refused.value)) < 400


@given(st.text(max_size=40), st.sampled_from(["https://", "https://images.example/", "https://[", "http://127.0.0.1:"]))
def test_whatever_a_url_is_only_our_own_errors_come_out(text: str, head: str) -> None:
    async def fetch() -> None:
        sender = ProviderClient(resolving(PUBLIC), public=httpx2.MockTransport(Recorder()))
        try:
            await sender.fetch(head + text, origins=frozenset({"http://127.0.0.1:1"}))
        except errors.TriptychError:
            pass
        finally:
            await sender.aclose()

    anyio.run(fetch)


@pytest.mark.anyio
async def test_a_host_that_cannot_be_resolved_was_not_asked(make_wire: Callable[..., ProviderClient]) -> None:
    def nowhere(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "no such host")

    with pytest.raises(errors.NotSent, match=r"nowhere\.example"):
        await make_wire(nowhere).fetch("https://nowhere.example/a")


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["a..example", "a" * 64 + ".example"])
async def test_a_name_that_no_resolver_takes_was_not_asked(sender: ProviderClient, host: str) -> None:
    with pytest.raises(errors.NotSent):
        await sender.fetch(f"https://{host}/a")


@pytest.mark.anyio
async def test_an_allowed_loopback_origin_is_read_in_one_spelling(
    server: Server, elsewhere: Server, sender: ProviderClient, account: Account
) -> None:
    origins = account.loopback_origins()
    server.on["/out.png"] = says(200, b"a picture")
    assert await sender.fetch(f"{server.base_url}/out.png?sig=1", origins=origins) == b"a picture"
    for other in (
        f"{elsewhere.base_url}/out.png",
        f"http://localhost:{server.port}/out.png",
        f"https://127.0.0.1:{server.port}/out.png",
        f"http://me@127.0.0.1:{server.port}/out.png",
        f"http://127.0.0.2:{server.port}/out.png",
    ):
        with pytest.raises(errors.NotAllowed):
            await sender.fetch(other, origins=origins)
    with pytest.raises(errors.NotAllowed):
        await sender.fetch(f"{server.base_url}/out.png")
    assert len(server.seen) == 1


def test_only_a_base_url_on_this_machine_opens_an_origin() -> None:
    assert account_at("https://api.echo.invalid").loopback_origins() == frozenset()
    assert account_at("http://[::1]:81/v1").loopback_origins() == {"http://::1:81"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "location",
    [
        "{elsewhere}/secret",
        "https://intranet.example/secret",
        "https://169.254.169.254/latest/meta-data",
        "//intranet.example/secret",
        "http://images.example/",
        "file:///etc/passwd",
        "https://user:secret@images.example/",
    ],
)
async def test_a_redirect_is_checked_like_the_url_itself(
    server: Server, elsewhere: Server, make_wire: Callable[..., ProviderClient], location: str
) -> None:
    sender = make_wire(resolving("10.0.0.1", images_example=[PUBLIC]))
    server.on["/a"] = says(302, Location=location.format(elsewhere=elsewhere.base_url))
    with pytest.raises(errors.NotAllowed):
        await sender.fetch(f"{server.base_url}/a", origins=frozenset({server.base_url}))
    assert [seen.path for seen in server.seen] == ["/a"]


@pytest.mark.anyio
async def test_a_public_host_cannot_redirect_to_a_private_one(make_wire: Callable[..., ProviderClient]) -> None:
    recorder = Recorder({"images.example": httpx2.Response(301, headers={"location": "https://intranet.example/"})})
    sender = make_wire(resolving(PUBLIC, intranet_example=["192.168.0.1"]), public=httpx2.MockTransport(recorder))
    with pytest.raises(errors.NotAllowed, match=r"intranet\.example"):
        await sender.fetch("https://images.example/a")
    assert len(recorder.asked) == 1


@pytest.mark.anyio
async def test_relative_redirects_stay_on_the_host_and_loops_end(server: Server, sender: ProviderClient) -> None:
    origins = frozenset({server.base_url})
    server.on |= {"/a": says(302, Location="b"), "/b": says(200, b"found"), "/loop": says(302, Location="/loop")}
    assert await sender.fetch(f"{server.base_url}/a", origins=origins) == b"found"
    with pytest.raises(errors.Refused, match="redirects more than 5 times"):
        await sender.fetch(f"{server.base_url}/loop", origins=origins)
    assert len(server.seen) == 2 + 6


@pytest.mark.anyio
@pytest.mark.parametrize("location", ["https://[::1", "https://host:port/", "https://\x80\xff/"])
async def test_a_redirect_to_no_url_is_our_own_error(server: Server, sender: ProviderClient, location: str) -> None:
    server.on["/a"] = says(302, Location=location)
    with pytest.raises(errors.TriptychError):
        await sender.fetch(f"{server.base_url}/a", origins=frozenset({server.base_url}))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer",
    [
        says(200, b"x" * 2000),
        undeclared(b"x" * 2000),
        says(200, gzip.compress(b"x" * 2000), Content_Encoding="gzip"),
    ],
    ids=["declared", "undeclared", "packed"],
)
async def test_more_than_the_cap_is_not_read(
    server: Server, sender: ProviderClient, answer: Callable[[Any], None]
) -> None:
    server.on["/a"] = answer
    with pytest.raises(errors.Refused, match="larger"):
        await sender.fetch(f"{server.base_url}/a", origins=frozenset({server.base_url}), max_bytes=1999)
    assert len(await sender.fetch(f"{server.base_url}/a", origins=frozenset({server.base_url}), max_bytes=2000)) == 2000


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, errors.Refused),
        (403, errors.Refused),
        (404, errors.Refused),
        (408, errors.Outage),
        (429, errors.Outage),
        (500, errors.Outage),
        (204, errors.Outage),
        (304, errors.Outage),
    ],
)
async def test_a_status_says_whether_it_may_work_later(
    server: Server, sender: ProviderClient, status: int, error: type[errors.TriptychError]
) -> None:
    server.on["/a"] = says(status, b"")
    with pytest.raises(error, match=str(status)) as raised:
        await sender.fetch(f"{server.base_url}/a", origins=frozenset({server.base_url}))
    assert raised.value.retryable is (error is errors.Outage)


@pytest.mark.anyio
async def test_a_body_cut_short_is_an_outage(server: Server, sender: ProviderClient) -> None:
    def cut(handler: BaseHTTPRequestHandler) -> None:
        says(200, b"half", Content_Length="8")(handler)
        handler.close_connection = True

    server.on["/a"] = cut
    with pytest.raises(errors.Outage):
        await sender.fetch(f"{server.base_url}/a", origins=frozenset({server.base_url}))


@pytest.mark.anyio
@pytest.mark.parametrize("answer", [hangs, drips])
async def test_reading_a_url_ends_in_bounded_time(
    server: Server,
    sender: ProviderClient,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[Server], Callable[[Any], None]],
) -> None:
    monkeypatch.setattr(guarded_transport, "FETCH_TIMEOUT_S", 0.2)
    server.on["/a"] = answer(server)
    with pytest.raises(errors.Outage, match="took longer"):
        await sender.fetch(f"{server.base_url}/a", origins=frozenset({server.base_url}))


@pytest.mark.anyio
async def test_no_connection_serves_two_fetches(server: Server, sender: ProviderClient) -> None:
    for _ in range(2):
        await sender.fetch(f"{server.base_url}/a", origins=frozenset({server.base_url}))
    assert len({seen.connection for seen in server.seen}) == 2


# -- upload tickets: a URL elsewhere, without the key


@pytest.mark.anyio
async def test_a_keyless_call_may_go_to_a_public_host(
    server: Server, account: Account, make_wire: Callable[..., ProviderClient]
) -> None:
    recorder = Recorder()
    sender = make_wire(resolving(PUBLIC), public=httpx2.MockTransport(recorder))
    ticket = HttpRequest("PUT", "https://bucket.example/put?sig=1", content=b"a picture", authorize=False)
    [answer] = await sender.run(account, ask(ticket))
    [asked] = recorder.asked
    assert (answer.status, asked.method, asked.content) == (200, "PUT", b"a picture")
    assert (str(asked.url), asked.headers["host"]) == (f"https://{PUBLIC}/put?sig=1", "bucket.example")
    assert KEY not in str(asked.headers.raw)
    assert server.seen == []


@pytest.mark.anyio
@pytest.mark.parametrize("url", ["https://bucket.example/put", "http://bucket.example/put", "{elsewhere}/put"])
async def test_but_to_no_private_one(
    elsewhere: Server, account: Account, make_wire: Callable[..., ProviderClient], url: str
) -> None:
    sender = make_wire(resolving("10.0.0.1"))
    with pytest.raises(errors.NotAllowed):
        await sender.run(account, ask(HttpRequest("PUT", url.format(elsewhere=elsewhere.base_url), authorize=False)))


# -- TLS, with a certificate of our own


class Detour(httpx2.AsyncBaseTransport):
    """Stands for the internet: whatever address is asked, the connection goes to one port on loopback."""

    def __init__(self, port: int, trust: ssl.SSLContext) -> None:
        self._port = port
        self._inner = httpx2.AsyncHTTPTransport(verify=trust, limits=httpx2.Limits(max_keepalive_connections=0))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.url = request.url.copy_with(host="127.0.0.1", port=self._port)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def certificate(directory: Path, name: str) -> Path:
    """Write a certificate for a host, signed by itself, with its key; return where."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / f"{name}.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@contextmanager
def site(directory: Path, name: str, shown: list[str | None]) -> Iterator[tuple[int, ssl.SSLContext]]:
    """Serve a site over TLS under a certificate of its own; yield its port, and what trusts it."""
    pem = certificate(directory, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.sni_callback = lambda sock, name, ctx: shown.append(name)
    with _served(context) as server:
        server.on["/a"] = says(200, b"ok")
        yield server.port, ssl.create_default_context(cafile=str(pem))


@pytest.mark.anyio
async def test_a_pinned_address_needs_the_hosts_own_certificate(
    make_wire: Callable[..., ProviderClient], tmp_path: Path
) -> None:
    shown: list[str | None] = []
    with site(tmp_path, "images.example", shown) as (port, trust):
        sender = make_wire(resolving(PUBLIC), public=Detour(port, trust))
        assert await sender.fetch("https://images.example/a") == b"ok"
        with pytest.raises(errors.Outage):
            await sender.fetch("https://impostor.example/a")
    assert shown == ["images.example", "impostor.example"]


# -- through a proxy


class Proxy:
    """A real CONNECT proxy: wherever it is asked to go, it goes to one port on loopback, and writes down who asked."""

    def __init__(self, port: int, answer: bytes = b"200 Connection established") -> None:
        self.asked: list[str] = []
        self.heads: list[str] = []
        self._to, self._answer = port, answer
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += self.request.recv(4096)
                outer.heads.append(head.decode())
                outer.asked.append(" ".join(head.decode().split()[:2]))
                self.request.sendall(b"HTTP/1.1 " + outer._answer + b"\r\n\r\n")
                if not outer._answer.startswith(b"200"):
                    return
                with socket.create_connection(("127.0.0.1", outer._to)) as onward:
                    back = threading.Thread(target=outer._pump, args=(onward, self.request))
                    back.start()
                    outer._pump(self.request, onward)
                    back.join()

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @staticmethod
    def _pump(out: socket.socket, into: socket.socket) -> None:
        with suppress(OSError):
            while data := out.recv(65536):
                into.sendall(data)
        with suppress(OSError):
            into.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def proxied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Proxy]]:
    """Return a function that sets HTTPS_PROXY to a proxy in front of https://images.example; `shown` are its names."""
    made: list[Proxy] = []
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with site(tmp_path, "images.example", []) as (port, trust):

        def make(variable: str = "HTTPS_PROXY", user: str = "", **options: Any) -> Proxy:
            made.append(Proxy(port, **options))
            monkeypatch.setattr(guarded_transport, "connections", partial(connections, verify=trust))
            monkeypatch.setenv(variable, made[-1].url.replace("http://", f"http://{user}"))
            return made[-1]

        connections = guarded_transport.connections
        yield make
        for one in made:
            one.close()


@pytest.mark.anyio
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
async def test_a_proxy_connects_to_the_checked_address(
    make_wire: Callable[..., ProviderClient], proxied: Callable[..., Proxy], variable: str
) -> None:
    proxy = proxied(variable, user="me:hunter2@")
    sender = make_wire(resolving(PUBLIC))
    assert await sender.fetch("https://images.example/a") == b"ok"
    assert proxy.asked == [f"CONNECT {PUBLIC}:443"]
    assert "Proxy-Authorization: Basic" in proxy.heads[0] and "images.example" not in proxy.heads[0]
    with pytest.raises(errors.Outage):
        await sender.fetch("https://impostor.example/a")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "url", ["https://images.example/a", "https://127.1/a", "https://0x7f000001/", "https://[::1]/"]
)
@pytest.mark.parametrize("proxy_resolves", [False, True])
async def test_a_proxy_does_not_reach_private_addresses(
    make_wire: Callable[..., ProviderClient], proxied: Callable[..., Proxy], url: str, proxy_resolves: bool
) -> None:
    if proxy_resolves and "example" in url:
        return  # then the proxy decides; the next test
    proxy = proxied()
    with pytest.raises(errors.NotAllowed, match="not on the public internet"):
        await make_wire(resolving("127.0.0.1"), proxy_resolves=proxy_resolves).fetch(url)
    assert proxy.asked == []


@pytest.mark.anyio
async def test_a_proxy_resolves_names_only_when_the_user_says_so(
    make_wire: Callable[..., ProviderClient], proxied: Callable[..., Proxy]
) -> None:
    def nowhere(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "no such host")

    proxy = proxied()
    with pytest.raises(errors.NotSent, match="TRIPTYCH_PROXY_RESOLVES=1"):
        await make_wire(nowhere).fetch("https://images.example/a")
    assert proxy.asked == []
    assert await make_wire(nowhere, proxy_resolves=True).fetch("https://images.example/a") == b"ok"
    assert proxy.asked == ["CONNECT images.example:443"]


@pytest.mark.anyio
async def test_without_a_proxy_the_setting_changes_nothing(make_wire: Callable[..., ProviderClient]) -> None:
    sender = make_wire(resolving("10.0.0.1"), public=httpx2.MockTransport(Recorder()), proxy_resolves=True)
    with pytest.raises(errors.NotAllowed):
        await sender.fetch("https://images.example/a")


@pytest.mark.anyio
async def test_a_refusing_proxy_is_distinguished_from_a_refusing_host(
    make_wire: Callable[..., ProviderClient], proxied: Callable[..., Proxy]
) -> None:
    proxied(answer=b"403 Names only")
    with pytest.raises(errors.Outage, match="proxy refused"):
        await make_wire(resolving(PUBLIC)).fetch("https://images.example/a")


@pytest.mark.anyio
@pytest.mark.parametrize("spared", ["images.example", ".example", "*", "other.example, images.example:443"])
async def test_a_host_in_no_proxy_is_asked_directly(
    make_wire: Callable[..., ProviderClient],
    proxied: Callable[..., Proxy],
    monkeypatch: pytest.MonkeyPatch,
    spared: str,
) -> None:
    proxy, recorder = proxied(), Recorder()
    monkeypatch.setenv("NO_PROXY", spared)
    sender = make_wire(resolving(PUBLIC), public=httpx2.MockTransport(recorder))
    assert await sender.fetch("https://images.example/a") == b"a picture"
    assert [str(asked.url) for asked in recorder.asked] == [f"https://{PUBLIC}/a"]
    assert proxy.asked == []


@pytest.mark.anyio
async def test_a_loopback_result_goes_to_no_proxy(
    server: Server,
    sender: ProviderClient,
    account: Account,
    proxied: Callable[..., Proxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = proxied()
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    assert await sender.fetch(f"{server.base_url}/a", origins=account.loopback_origins()) == b"{}"
    assert proxy.asked == []


@pytest.mark.anyio
async def test_an_upload_ticket_goes_through_the_proxy_too(
    account: Account, make_wire: Callable[..., ProviderClient], proxied: Callable[..., Proxy]
) -> None:
    proxy = proxied()
    ticket = HttpRequest("PUT", "https://images.example/a", content=b"a picture", authorize=False)
    [answer] = await make_wire(resolving(PUBLIC)).run(account, ask(ticket))
    assert (answer.status, proxy.asked) == (200, [f"CONNECT {PUBLIC}:443"])
    assert KEY not in str(proxy.heads)


@pytest.mark.anyio
async def test_an_unusable_download_proxy_is_named_by_its_variables(
    make_wire: Callable[..., ProviderClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "gopher://somewhere:70")
    with pytest.raises(errors.BadRequest, match="HTTPS_PROXY"):
        await make_wire(resolving(PUBLIC)).fetch("https://images.example/a")


# -- a hostile server


@pytest.mark.anyio
@pytest.mark.parametrize("packed", ["gzip", "deflate", "gzip, gzip"])
async def test_a_bomb_in_an_answer_is_unpacked_to_the_cap(
    server: Server, account: Account, sender: ProviderClient, packed: str
) -> None:
    bomb = zlib.compress(bytes(300_000_000), 1) if packed == "deflate" else gzip.compress(bytes(300_000_000), 1)
    body = gzip.compress(bomb) if packed == "gzip, gzip" else bomb
    server.on |= dict.fromkeys(("/", "/a"), says(200, body, Content_Encoding=packed))
    tracemalloc.start()
    try:
        with pytest.raises(errors.AnswerLost, match="TooLarge"):
            await sender.run(account, ask())
        with pytest.raises(errors.Refused, match="larger"):
            await sender.fetch(f"{server.base_url}/a", origins=frozenset({server.base_url}))
        assert tracemalloc.get_traced_memory()[1] < 2.5 * client.FETCH_LIMIT_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.anyio
async def test_a_stream_that_never_ends_is_a_lost_answer(
    server: Server, account: Account, sender: ProviderClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        with suppress(OSError):
            while not server.released.is_set():
                handler.wfile.write(b"data: " + b"x" * 990 + b"\n\n")
        handler.close_connection = True

    monkeypatch.setattr(client, "ANSWER_LIMIT_BYTES", 100_000)
    monkeypatch.setattr(event_stream, "STREAM_LIMIT_CHARS", 5_000_000)
    server.on["/stream"] = endless
    with pytest.raises(errors.AnswerLost, match="does not end"):
        await sender.run(account, told())


@pytest.mark.anyio
async def test_a_stream_of_nothing_but_comments_ends_with_its_time(
    server: Server, account: Account, sender: ProviderClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def comments(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        with suppress(OSError):
            while not server.released.wait(0.01):
                handler.wfile.write(b": still here\n\n")
        handler.close_connection = True

    monkeypatch.setattr(client, "ANSWER_PATIENCE", 0.003)
    server.on["/stream"] = comments
    with pytest.raises(errors.AnswerLost, match="TimeoutError"):
        await sender.run(account, told())


@pytest.mark.anyio
@pytest.mark.parametrize("echo", ["sk-a/secret+of=ours", r"sk-a\/secret+of=ours", "sk-a%2Fsecret%2Bof%3Dours"])
async def test_a_key_is_cut_out_in_every_spelling(server: Server, sender: ProviderClient, echo: str) -> None:
    server.on["/"] = says(401, f'{{"message": "bad key {echo}!"}}'.encode())
    [answer] = await sender.run(account_at(server.base_url, "sk-a/secret+of=ours"), ask())
    assert answer.json() == {"message": "bad key [key]!"}


@pytest.mark.anyio
async def test_a_poll_that_drips_is_given_up_as_a_whole(
    server: Server, account: Account, sender: ProviderClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes in time, the answer never does; a submit has the longer limit."""
    monkeypatch.setattr(client, "LOOK_LIMIT_S", 0.3)
    server.on["/"] = drips(server)
    with pytest.raises(errors.AnswerLost, match="TimeoutError"):
        await sender.run(account, ask(HttpRequest("GET", "/", timeout_s=60)))
