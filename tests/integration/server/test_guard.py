"""Slow or many clients do not hold the server: real sockets against a real server whose limits are small."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from support.servers import SMALL, CannedService, Child, Connect, environ, job_result
from triptych.server import call_limits, limits

ANN, BEN, CLEO = (f"{name}-token-0123456789" for name in ("anns", "bens", "cleos"))
LIMIT_S = 1.5
"""Of a head and a body."""
STALLED_S = 5.0
PATIENCE_S = 120
LIMITS: dict[str, Any] = {"requests_per_owner": 3, "requests": 5, "connections": 12}
LIMITS |= {"head_s": LIMIT_S, "body_s": LIMIT_S, "stalled_s": STALLED_S, "idle_s": 1, "retry_after_s": 7}
UNHURRIED = LIMITS | {"head_s": 10, "body_s": PATIENCE_S}
"""What is counted has to stay in work until all of it is counted, on a busy machine too."""

SERVE = """
import json, os, socket, sys
from triptych import settings
from triptych.server import http, limits, transports
limits.LIMITS = limits.Limits(**json.loads(sys.argv[2]))
bind = http.bind
def narrow(host, port):
    listener = bind(host, port)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return listener
http.bind = narrow
transports.serve(settings.read(os.environ, remote=True), sys.argv[1], "127.0.0.1", 0)
"""
"""The kernel's buffer for an unread answer is small too."""


@pytest.fixture(scope="module")
def unhurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with long limits."""
    env = environ(tmp_path_factory.mktemp("unhurried"), TRIPTYCH_AUTH_TOKEN=f"{ANN} {BEN} {CLEO}")
    child = Child("-c", SERVE, "http", json.dumps(UNHURRIED), env=env)
    yield child.url()
    assert child.end() == 0


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    env = environ(tmp_path_factory.mktemp("guard"), TRIPTYCH_AUTH_TOKEN=f"{ANN} {BEN} {CLEO}")
    children = {name: Child("-c", SERVE, name, json.dumps(LIMITS), env=env) for name in ("http", "sse")}
    yield {name: child.url() for name, child in children.items()}
    for child in children.values():
        assert child.end() == 0
        assert "Traceback" not in "".join(child.said), "".join(child.said)


def message(method: str, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()


INITIALIZE = message(
    "initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo={"name": "test", "version": "1"}
)
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}


def head(url: str, method: str, body: bytes | int = b"", token: str = ANN, **headers: str) -> bytes:
    """Return a request's head; `body` or its length is what it announces."""
    length = body if isinstance(body, int) else len(body)
    lines = {
        "Host": urlsplit(url).netloc,
        "Authorization": f"Bearer {token}",
        "Accept": "application/json, text/event-stream",
        **({"Content-Type": "application/json", "Content-Length": str(length)} if method == "POST" else {}),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {urlsplit(url).path} HTTP/1.1\r\n{text}\r\n".encode()


def connected(url: str, read_bytes: int = 0) -> socket.socket:
    """Return a connection; `read_bytes` is what its end of the line takes before somebody reads."""
    made = socket.socket()
    if read_bytes:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, read_bytes)
    made.settimeout(PATIENCE_S)
    made.connect(("127.0.0.1", urlsplit(url).port))
    return made


def until_closed(client: socket.socket) -> bytes:
    """Return all that comes until the other end closes the connection, by a word or by a reset."""
    came = b""
    with suppress(ConnectionError):
        while more := client.recv(65536):
            came += more
    return came


def ask(url: str, token: str = ANN) -> httpx2.Response:
    """Make one small honest request: a modern ping's worth, answered at once."""
    body = message("tools/list", _meta=MODERN)
    headers = {
        "authorization": f"Bearer {token}",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/list",
        "content-type": "application/json",
    }
    return httpx2.post(url, content=body, headers=headers, timeout=PATIENCE_S)


def answered(url: str, token: str = ANN) -> float:
    """Return after how many seconds the server has room for an honest request again."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE_S:
        if ask(url, token).status_code == 200:
            return time.monotonic() - began
        time.sleep(0.02)
    raise AssertionError("the server never had room again")


# -- slowness ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"", b"POST /mcp HT", b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n"])
def test_a_connection_on_which_no_request_comes_is_cut(urls: dict[str, str], said: bytes) -> None:
    with closing(connected(urls["http"])) as client:
        began = time.monotonic()
        client.sendall(said)
        assert until_closed(client) == b""
        assert LIMIT_S * 0.8 <= time.monotonic() - began < PATIENCE_S / 2


def test_a_head_that_is_too_long_is_refused(urls: dict[str, str]) -> None:
    with closing(connected(urls["http"])) as client:
        client.sendall(b"GET /mcp HTTP/1.1\r\nX-Long: " + b"a" * 40_000)
        assert until_closed(client).startswith(b"HTTP/1.1 400 ")


def drip(client: socket.socket) -> float:
    """Send a byte every now and then until the other end has closed; return how long that took."""
    began = time.monotonic()
    client.settimeout(LIMIT_S / 8)
    while time.monotonic() - began < PATIENCE_S:
        try:
            client.sendall(b"a")
            if not client.recv(65536):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - began


def test_a_dripping_head_is_cut(urls: dict[str, str]) -> None:
    with closing(connected(urls["http"])) as client:
        client.sendall(b"POST /mcp HTTP/1.1\r\nX-Long: ")
        assert LIMIT_S * 0.8 <= drip(client) < PATIENCE_S / 2


@pytest.mark.parametrize(("transport", "path"), [("http", "/mcp"), ("sse", "/messages/")])
def test_a_body_that_drips_is_answered_408_and_cut(urls: dict[str, str], transport: str, path: str) -> None:
    url = str(httpx2.URL(urls[transport]).join(path))
    with closing(connected(url)) as client:
        client.sendall(head(url, "POST", 1000) + b'{"jsonrpc"')
        began = time.monotonic()
        answer = until_closed(client)
        assert LIMIT_S * 0.8 <= time.monotonic() - began < PATIENCE_S / 2
    assert answer.startswith(b"HTTP/1.1 408 ") and f"did not come within {LIMIT_S:g} s".encode() in answer
    assert b"Traceback" not in answer


@pytest.mark.parametrize(("token", "status"), [("nobodys-token-0123456789", b"401"), (ANN, b"413")])
def test_a_refused_bodys_rest_is_not_awaited(urls: dict[str, str], token: str, status: bytes) -> None:
    with closing(connected(urls["http"])) as client:
        client.sendall(head(urls["http"], "POST", 1 << 40, token) + b"{")
        assert client.recv(65536).split()[1] == status
        assert drip(client) < PATIENCE_S / 2


def test_a_connection_is_not_kept_for_long_after_its_answer(urls: dict[str, str]) -> None:
    with closing(connected(urls["http"])) as client:
        client.sendall(head(urls["http"], "GET", token="nobody"))
        began = time.monotonic()
        assert until_closed(client).startswith(b"HTTP/1.1 401 ")
        assert 0.8 <= time.monotonic() - began < PATIENCE_S / 2


def stalled_modern(url: str) -> socket.socket:
    """An answer in one piece that is not read."""
    body = message("tools/list", _meta=MODERN)
    client = connected(url, 2048)
    client.sendall(head(url, "POST", body, MCP_Protocol_Version="2026-07-28", Mcp_Method="tools/list") + body)
    return client


def stalled_legacy(url: str) -> socket.socket:
    """An answer as an event stream that is not read."""
    headers = {"authorization": f"Bearer {ANN}", "accept": "application/json, text/event-stream"}
    begun = httpx2.post(url, content=INITIALIZE, headers={**headers, "content-type": "application/json"})
    body = message("tools/list")
    client = connected(url, 2048)
    client.sendall(head(url, "POST", body, Mcp_Session_Id=begun.headers["mcp-session-id"]) + body)
    return client


@pytest.mark.slow
def test_an_answer_that_is_not_read_is_taken_back(urls: dict[str, str]) -> None:
    with closing(stalled_modern(urls["http"])) as client:
        time.sleep(STALLED_S * 1.5)
        assert b'"save_images"' not in until_closed(client)


@pytest.mark.slow
def test_clients_that_do_not_read_a_stream_lose_their_place(urls: dict[str, str]) -> None:
    url = urls["http"]
    answered(url)
    with ExitStack() as stack:
        clients = [stack.enter_context(closing(stalled_legacy(url))) for _ in range(LIMITS["requests_per_owner"])]
        refused = ask(url)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
        assert answered(url) < PATIENCE_S / 2
        time.sleep(STALLED_S / 2)
        for client in clients:
            assert b'"save_images"' not in until_closed(client)


def test_a_client_that_does_not_read_sse_holds_nothing(urls: dict[str, str]) -> None:
    url = urls["sse"]
    with closing(connected(url, 2048)) as client:
        client.sendall(head(url, "GET"))
        came = b""
        while b"session_id=" not in came or not came.endswith(b"\r\n\r\n"):
            came += client.recv(4096)
        messages = str(httpx2.URL(url).join("/messages/")) + "?" + came.split(b"?")[1].split()[0].decode()
        headers = {"authorization": f"Bearer {ANN}"}
        for body in (INITIALIZE, message("notifications/initialized"), *[message("tools/list")] * 3):
            sent = json.loads(body)
            if sent["method"].startswith("notifications"):
                del sent["id"]
            assert httpx2.post(messages, json=sent, headers=headers, timeout=PATIENCE_S).status_code == 202
        began = time.monotonic()
        while httpx2.post(messages, json=json.loads(message("ping")), headers=headers).status_code != 404:
            assert time.monotonic() - began < PATIENCE_S / 2
            time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.anyio
async def test_who_reads_is_cut_by_none_of_these_limits(urls: dict[str, str]) -> None:
    headers = {"Authorization": f"Bearer {BEN}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=PATIENCE_S) as web,
        Client(streamable_http_client(urls["http"], http_client=web)) as client,
        client.listen(resource_subscriptions=["triptych://jobs"]) as events,
    ):
        await anyio.sleep(STALLED_S * 1.2)
        made = await client.call_tool("generate_sequence", {"prompt": "a barn", "size": SMALL, "again": True})
        assert not made.is_error
        with anyio.fail_after(PATIENCE_S):
            assert getattr(await anext(events), "uri", "") == "triptych://jobs"


# -- number ------------------------------------------------------------------------------------------------------------


def waiting(url: str, token: str) -> socket.socket:
    """Return a connection whose request is in work until its body's time is over."""
    client = connected(url)
    client.sendall(head(url, "POST", 10, token) + b"{")
    return client


def test_requests_are_counted_for_each_token_and_for_all(unhurried: str) -> None:
    url = unhurried
    answered(url)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(closing(waiting(url, ANN)))
        assert ask(url, BEN).status_code == 200
        too_many = ask(url, ANN)
        assert (too_many.status_code, too_many.headers["retry-after"]) == (429, "7")
        assert too_many.text == "Triptych: You have 3 requests in work, the most at once; let one of them end first.\n"
        for _ in range(2):
            stack.enter_context(closing(waiting(url, BEN)))
        full = ask(url, CLEO)
        assert (full.status_code, full.headers["retry-after"]) == (503, "7")
        assert full.text.startswith("Triptych: The server has all the requests in work")
        assert ask(url, "nobodys-token-0123456789").status_code == 401
    assert answered(url, CLEO) < PATIENCE_S / 2
    assert answered(url, ANN) < PATIENCE_S / 2


def test_idle_connections_make_room_for_others(unhurried: str) -> None:
    url = unhurried
    answered(url)
    with ExitStack() as stack:
        for _ in range(LIMITS["connections"]):
            stack.enter_context(closing(connected(url)))
        assert ask(url, BEN).status_code == 503
        assert answered(url, BEN) < PATIENCE_S / 2


@pytest.mark.anyio
async def test_calls_that_outlive_their_requests_are_counted_too(
    client_of: Connect, told: CannedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_limits, "CALLS_PER_OWNER", 2)
    begun, go_on = [anyio.Event(), anyio.Event()], anyio.Event()

    async def take_long(caller: Any) -> Any:
        next(event for event in begun if not event.is_set()).set()
        await go_on.wait()
        return job_result()

    told.act = take_long
    async with client_of(remote=True) as client:
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                for event in begun:
                    tasks.start_soon(client.call_tool, "get_status", {"job_id": "job_12345678"})
                    await event.wait()
                with pytest.raises(MCPError, match="2 calls running"):
                    await client.call_tool("list_models", {})
                with pytest.raises(MCPError, match="2 calls running"):
                    await client.read_resource("triptych://models")
                go_on.set()
        told.act = None
        assert len((await client.list_tools()).tools) == 10
        await client.read_resource("triptych://jobs")


@pytest.mark.anyio
async def test_a_message_to_a_closed_session_is_no_server_error() -> None:
    async def closed(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b"Accepted"})
        raise anyio.ClosedResourceError

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    await limits.CallsInProgress(closed, limits.LIMITS)(
        {"type": "http", "path": "/messages/", "headers": []}, receive, send
    )
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
