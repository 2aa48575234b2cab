"""How a server is reached, what keeps others out, and how it starts and ends."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from PIL import Image
from starlette.responses import PlainTextResponse

from support.clients import sse
from support.servers import SERVE, CannedService, Child, environ
from support.systems import needs_signals
from triptych.core import errors
from triptych.server import auth, http, service_holder, sites
from triptych.server.app import build
from triptych.server.auth import owner_of
from triptych.server.http import BODY_LIMIT_BYTES, http_app, is_loopback, own_names
from triptych.server.service_holder import ServiceHolder

TOKEN, OTHER = "a-long-random-text", "another-long-random-text"
INTERNALS = ("Traceback", "site-packages", "triptych/", '.py"', "sqlite", "TRIPTYCH_HOME", TOKEN, OTHER)
"""What no answer to a stranger or to nonsense may hold."""
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
HEADERS = {"accept": "application/json, text/event-stream", "host": "127.0.0.1:8765"}


def say(*messages: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(message).encode() + b"\n" for message in messages)


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}


def stdio(home: Path, *messages: dict[str, Any], cwd: Path, python: tuple[str, ...] = (), **env: str) -> Any:
    """Run a stdio server for these messages, then close its stdin."""
    return subprocess.run(
        [sys.executable, *python, "-m", "triptych"],
        input=say(*messages),
        env=environ(home, **env),
        capture_output=True,
        timeout=60,
        cwd=cwd,
        check=False,
    )


# -- stdio -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("ordinary_start")
def test_a_stdio_server_ends_with_0_when_stdin_closes(tmp_path: Path) -> None:
    ended = stdio(tmp_path / "home", INITIALIZE, cwd=tmp_path)
    assert ended.returncode == 0 and ended.stderr == b""
    assert [json.loads(line)["id"] for line in ended.stdout.splitlines()] == [1]


@pytest.mark.usefixtures("ordinary_start")
def test_an_unused_stdio_server_ends_with_0(tmp_path: Path) -> None:
    assert stdio(tmp_path / "home", cwd=tmp_path).returncode == 0


def imported_by(home: Path, **env: str) -> set[str]:
    ended = stdio(home, INITIALIZE, cwd=home.parent, python=("-X", "importtime"), **env)
    return {line.rpartition("|")[2].strip() for line in ended.stderr.decode().splitlines()}


def test_a_start_without_a_thin_one_imports_only_what_initialize_needs(tmp_path: Path) -> None:
    imported = imported_by(tmp_path / "home", TRIPTYCH_METRICS="off")  # a setting that a thin start does not judge
    ours = {name for name in imported if name.split(".")[0] == "triptych"}
    server = ("app", "call_limits", "icons", "patience", "service_holder", "sessions", "taking_over", "tasks")
    assert {name for name in ours if not name.startswith("triptych.thin")} <= {
        "triptych",
        "triptych.core",
        "triptych.core.systems",
        "triptych.server",
        *(f"triptych.server.{name}" for name in server),
        "triptych.server.transports",
        "triptych.server.worker_process",
    }
    assert not imported & {"PIL", "sqlite3", "platformdirs", "jsonschema"}


@needs_signals
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.usefixtures("ordinary_start")
def test_a_signal_ends_a_stdio_server_in_order(tmp_path: Path, number: int) -> None:
    child = Child("-m", "triptych", env=environ(tmp_path / "home"))
    assert child.process.stdin and child.process.stdout
    child.process.stdin.write(say(INITIALIZE, {"jsonrpc": "2.0", "method": "notifications/initialized"}))
    child.process.stdin.write(say(call("list_jobs")))
    child.process.stdin.flush()
    assert [json.loads(child.process.stdout.readline())["id"] for _ in range(2)] == [1, 2]
    child.process.send_signal(number)
    assert child.process.wait(timeout=60) == 0
    child.end()
    assert "Traceback" not in "".join(child.said)


@pytest.mark.skipif(sys.platform != "win32", reason="only Windows has Ctrl-Break")
def test_control_break_ends_a_stdio_server_in_order(tmp_path: Path) -> None:
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    command = [sys.executable, "-m", "triptych"]
    env = environ(tmp_path / "home")
    with subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, creationflags=flags
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(say(INITIALIZE, {"jsonrpc": "2.0", "method": "notifications/initialized"}))
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == 1
        process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))
        assert process.wait(timeout=60) == 0
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("TRIPTYCH_BUDGET_USD", "plenty", "TRIPTYCH_BUDGET_USD"),
        ("TRIPTYCH_PROVIDER", "nobody", "TRIPTYCH_PROVIDER"),
        ("TRIPTYCH_HOME", os.devnull, "TRIPTYCH_HOME"),
    ],
)
def test_every_call_names_a_wrong_setting_and_the_server_stays(
    tmp_path: Path, variable: str, value: str, said: str
) -> None:
    child = Child("-m", "triptych", env=environ(tmp_path / "home", **{variable: value}))
    assert child.process.stdin and child.process.stdout
    opened = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    answers = []
    for messages in ([INITIALIZE], [opened, call("list_jobs")], [call("list_models")]):
        child.process.stdin.write(say(*messages))
        child.process.stdin.flush()
        answers.append(json.loads(child.process.stdout.readline())["result"])
    assert answers[0]["serverInfo"]["name"] == "triptych"
    for answer in answers[1:]:
        assert answer["isError"] and said in answer["content"][0]["text"]
    assert child.end() == 0 and said in "".join(child.said)


# -- what keeps others out ---------------------------------------------------------------------------------------------


def test_a_bind_that_others_can_reach_needs_a_token() -> None:
    serve = SERVE.replace("127.0.0.1", "0.0.0.0")
    ended = subprocess.run(
        [sys.executable, "-c", serve, "http"], env=environ(Path()), capture_output=True, timeout=60, check=False
    )
    assert ended.returncode == 2 and b"TRIPTYCH_AUTH_TOKEN" in ended.stderr and b"Traceback" not in ended.stderr


@pytest.mark.usefixtures("ordinary_start")
def test_a_port_that_is_taken_is_said_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        serve = SERVE.replace(", 0)", f", {taken.getsockname()[1]})")
        ended = subprocess.run(
            [sys.executable, "-c", serve, "http"], env=environ(tmp_path), capture_output=True, timeout=60, check=False
        )
    assert ended.returncode == 2 and b"cannot be listened on" in ended.stderr and b"Traceback" not in ended.stderr
    assert b"Use --port" in ended.stderr and b"Errno" not in ended.stderr


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Both HTTP transports with a token, the first one open to other machines."""
    env = environ(
        tmp_path_factory.mktemp("guarded"), TRIPTYCH_AUTH_TOKEN=f"{OTHER},{TOKEN}", TRIPTYCH_LOG_LEVEL="DEBUG"
    )
    wide = Child("-c", SERVE.replace("127.0.0.1", "0.0.0.0"), "http", env=env)
    sse = Child("-c", SERVE, "sse", env=env)
    yield {"http": wide.url().replace("0.0.0.0", "127.0.0.1"), "sse": sse.url()}
    assert (wide.end(), sse.end()) == (0, 0)
    said = "".join([*wide.said, *sse.said])
    assert "is listening on" in said and TOKEN not in said and OTHER not in said and "Traceback" not in said


PATHS = {
    "http": ("/mcp", "/mcp/", "/", "/sse"),
    "sse": ("/sse", "/messages/", "/messages/?session_id=0", "/else"),
}
METHODS = ("GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "HEAD", "TRACE")
NO_TOKENS = [
    *((), ("",), ("Bearer",), ("Bearer wrong",), (TOKEN,), (f"Basic {TOKEN}",), (f"Digest {TOKEN}",)),
    *((f"Bearer {TOKEN}x",), (f"Bearer {TOKEN[:-1]}",), (f"Bearer {TOKEN.upper()}",), (f"BearerX {TOKEN}",)),
    *((f"Bearer {TOKEN},{OTHER}",), (f"Bearer {OTHER} {TOKEN}",), (f"Bearer={TOKEN}",), ("Bearer ümlaut",)),
    *((f"Bearer {owner_of(TOKEN)}",), (f"Bearer {TOKEN}", f"Bearer {TOKEN}"), ("Bearer wrong", f"Bearer {TOKEN}")),
]
"""Values of the Authorization headers of one request."""


def in_memory(transport: Any, *tokens: str) -> httpx2.AsyncClient:
    """Return a client of the app that `transport` serves, without a socket: for grids of requests that are refused."""

    async def open_told() -> Any:
        return CannedService()

    app = http_app(build(open_told, remote=True), transport, "127.0.0.1", tokens)
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1:8765")


async def refused_without_a_token(client: httpx2.AsyncClient, method: str, url: Any, given: tuple[str, ...]) -> None:
    answer = await client.request(method, url, headers=[(b"authorization", value.encode()) for value in given])
    wrong = ', error="invalid_token"' if any(value.lower().startswith("bearer ") for value in given) else ""
    assert answer.status_code == 401 and answer.headers["www-authenticate"] == f'Bearer realm="triptych"{wrong}'
    assert not any(word in answer.text for word in INTERNALS)


@pytest.mark.anyio
@pytest.mark.parametrize("transport", PATHS)
@pytest.mark.parametrize("given", NO_TOKENS)
async def test_no_route_answers_without_one_of_the_tokens(transport: str, given: tuple[str, ...]) -> None:
    async with in_memory(transport, OTHER, TOKEN) as client:
        for path in PATHS[transport]:
            for method in METHODS:
                await refused_without_a_token(client, method, path, given)


@pytest.mark.anyio
@pytest.mark.parametrize("transport", PATHS)
async def test_a_real_server_answers_nothing_without_a_token(guarded: dict[str, str], transport: str) -> None:
    async with httpx2.AsyncClient() as client:
        for given in NO_TOKENS:
            await refused_without_a_token(client, "POST", guarded[transport], given)
        for path in PATHS[transport]:
            for method in METHODS:
                url = httpx2.URL(guarded[transport]).join(path)
                await refused_without_a_token(client, method, url, ("Bearer wrong",))


async def refused_with_a_token_elsewhere(client: httpx2.AsyncClient, url: httpx2.URL, name: str) -> None:
    for value in (TOKEN, f"Bearer {TOKEN}"):
        asked = await client.post(url.copy_merge_params({name: value}), json=INITIALIZE, headers=HEADERS)
        cookie = await client.post(url, json=INITIALIZE, headers={**HEADERS, "cookie": f"{name}={value}"})
        proxied = await client.post(url, json=INITIALIZE, headers={**HEADERS, "proxy-authorization": value})
        assert [a.status_code for a in (asked, cookie, proxied)] == [401, 401, 401]


@pytest.mark.anyio
@pytest.mark.parametrize("transport", PATHS)
@pytest.mark.parametrize("name", ["token", "access_token", "authorization", "Authorization", "bearer"])
async def test_a_token_counts_in_the_authorization_header_alone(
    guarded: dict[str, str], transport: str, name: str
) -> None:
    async with in_memory(transport, OTHER, TOKEN) as client:
        for path in PATHS[transport]:
            await refused_with_a_token_elsewhere(client, httpx2.URL("http://127.0.0.1:8765").join(path), name)
    async with httpx2.AsyncClient() as client:
        await refused_with_a_token_elsewhere(client, httpx2.URL(guarded[transport]), name)


@pytest.mark.anyio
@pytest.mark.parametrize("given", [TOKEN, OTHER, "a-token-nobody-knows", "x", ""])
async def test_every_token_is_compared_in_the_same_time(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(auth.hmac, "compare_digest", compare)
    users: list[str] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        users.append(scope["user"].username)

    async def send(message: Any) -> None:
        pass

    door = auth.RequireToken(inner, [OTHER, TOKEN, "a-third-long-random-text"])
    await door({"type": "http", "headers": [(b"authorization", f"Bearer {given}".encode())]}, None, send)  # type: ignore[arg-type]
    assert users == ([owner_of(given)] if given in (TOKEN, OTHER) else [])
    assert len(compared) == 3 and {len(side) for pair in compared for side in pair} == {32}
    assert owner_of(TOKEN) != owner_of(OTHER) and TOKEN not in repr(vars(door))


@pytest.mark.anyio
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
async def test_the_token_opens_every_transport(guarded: dict[str, str], scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {TOKEN}"}
    async with (
        httpx2.AsyncClient(headers=headers) as http,
        Client(streamable_http_client(guarded["http"], http_client=http)) as client,
    ):
        assert len((await client.list_tools()).tools) == 10
    async with Client(sse(guarded["sse"], headers=headers)) as client:
        assert len((await client.list_tools()).tools) == 10


async def statuses(http: httpx2.AsyncClient, sse: httpx2.AsyncClient, headers: dict[str, str]) -> list[int]:
    """Return how each way in answers a request with these headers."""
    sent = {**HEADERS, **headers}
    async with http, sse:
        posted = await http.post("/mcp", json=INITIALIZE, headers=sent)
        opened = await sse.get("/sse", headers=sent)
        message = await sse.post("/messages/", json=INITIALIZE, headers=sent)
    return [posted.status_code, opened.status_code, message.status_code]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        *(
            ("host", host, 421)
            for host in (
                *("evil.example", "evil.example:8765", "127.0.0.1.evil.example:8765", "localhost.evil.example", ""),
                *("0.0.0.0:8765", "[::]:8765", "127.0.0.2:8765", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]:8765"),
                *("localhost@evil.example", "evil.example#localhost", "http://localhost"),
                *("127.0.0.1:evil.com", "localhost:evil.com:80", "localhost:80@evil.com", "localhost:", "localhost:0"),
                *(
                    "localhost:65536",
                    "localhost:080",
                    "localhost:8 0",
                    "localhost.",
                    "[::1]:x",
                    "[::1",
                    "::1",
                    "[::1]80",
                ),
            )
        ),
        *(
            ("origin", origin, 403)
            for origin in (
                *("http://evil.example", "https://evil.example", "null", "http://localhost.evil.example", "file://"),
                *("http://127.0.0.1.evil.example", "http://evil.example:8765", "http://[::]", "ws://localhost"),
                *("chrome-extension://localhost", "localhost", "http://[::ffff:7f00:1]", "//localhost", "http://"),
                *(
                    "http://localhost:1.evil.com",
                    "http://localhost:80@evil.com",
                    "http://localhost:1/",
                    "",
                    "http://[::1",
                ),
                *(
                    "http://localhost:99999",
                    "http://localhost.",
                    "HTTP://localhost",
                    "http://localhost http://evil.com",
                ),
            )
        ),
    ],
)
async def test_no_page_on_another_site_reaches_a_local_server(header: str, value: str, status: int) -> None:
    assert await statuses(in_memory("http"), in_memory("sse"), {header: value}) == [status] * 3


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("header", "value", "status"), [("host", "evil.example", 421), ("origin", "https://evil.example", 403)]
)
async def test_a_real_local_server_refuses_pages_of_other_sites(
    http_url: str, sse_url: str, header: str, value: str, status: int
) -> None:
    http, sse = (httpx2.AsyncClient(base_url=httpx2.URL(url).join("/")) for url in (http_url, sse_url))
    assert await statuses(http, sse, {header: value}) == [status] * 3


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "127.0.0.1", "[::1]:8765", "[::1]"])
@pytest.mark.parametrize("origin", [None, "http://localhost:3000", "https://[::1]", "http://127.0.0.1:1"])
async def test_a_local_server_answers_to_its_three_names(http_url: str, host: str, origin: str | None) -> None:
    """Its pages may be on any port; a browser's preflight is refused all the same, so only what they send counts."""
    headers = {**HEADERS, "host": host, "origin": origin or f"http://{host}"}
    async with httpx2.AsyncClient() as client:
        answer = await client.post(http_url, json=INITIALIZE, headers=headers)
        asked = await client.options(http_url, headers={**headers, "access-control-request-method": "POST"})
    assert answer.status_code == 200 and asked.status_code == 405
    assert not any(name.startswith("access-control") for a in (answer, asked) for name in a.headers)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("transport", "path", "methods", "status"),
    [
        ("http", "/mcp", ("PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW"), 405),
        ("http", "/mcp", ("GET", "DELETE"), 400),
        *(("http", path, METHODS, 404) for path in ("/", "/mcp/x", "/sse", "/messages/", "/MCP", "//mcp")),
        *(("http", path, METHODS, 404) for path in ("/../triptych.db", "/%2e%2e/triptych.db", "/docs", "/.env")),
        ("sse", "/sse", ("POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW"), 405),
        ("sse", "/messages/", ("GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW"), 405),
        ("sse", "/messages/", ("POST",), 400),
        *(("sse", path, METHODS, 404) for path in ("/", "/mcp", "/sse/", "/messages", "/sse/x", "/docs")),
    ],
)
async def test_unknown_methods_and_paths_are_refused_without_internals(
    guarded: dict[str, str], transport: str, path: str, methods: tuple[str, ...], status: int
) -> None:
    url = httpx2.URL(guarded[transport]).join("/").copy_with(raw_path=path.encode())
    async with httpx2.AsyncClient(headers={**HEADERS, "authorization": f"Bearer {TOKEN}"}) as client:
        for method in methods:
            answer = await client.request(method, url, **({"json": {}} if method == "POST" else {}))
            assert answer.status_code == status, method
            assert not any(word in answer.text for word in INTERNALS) and "location" not in answer.headers


@pytest.mark.anyio
@pytest.mark.parametrize("era", [None, "2026-07-28", "nonsense"])
@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"null", b"1", b"\xff\xfe", b"[" * 200_000, b'{"a":' * 100_000, b'"\\ud800"'),
        b'[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]',
        b'{"jsonrpc":"2.0","id":1,"method":"no/such"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":' + b"9" * 100_000 + b"}}",
    ],
    ids=lambda body: repr(body[:24]),
)
async def test_a_nonsense_body_is_refused_without_internals(
    guarded: dict[str, str], body: bytes, era: str | None
) -> None:
    headers = {**HEADERS, "authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    async with httpx2.AsyncClient(headers=headers | ({"mcp-protocol-version": era} if era else {})) as client:
        answer = await client.post(guarded["http"], content=body)
        as_text = await client.post(guarded["http"], content=body, headers={"content-type": "text/plain"})
    assert answer.status_code == 400 and as_text.status_code in (400, 415)
    for text in (answer.text, as_text.text):
        assert len(text) < 3000 and not any(word in text for word in INTERNALS)


def test_a_bind_answers_to_the_names_of_its_address() -> None:
    assert {"192.0.2.7", "localhost"} <= set(own_names("192.0.2.7"))
    assert "[2001:db8::7]" in own_names("2001:db8::7")
    for everywhere in ("0.0.0.0", "::", ""):
        assert socket.gethostname() in own_names(everywhere)
        assert not {"*", "", "0.0.0.0", "[::]"} & set(own_names(everywhere))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"host", b"LOCALHOST:8765")], 200),
        ([(b"host", b"192.0.2.7"), (b"origin", b"https://192.0.2.7:443")], 200),
        ([(b"host", b"[2001:DB8::7]:1")], 200),
        ([], 421),
        ([(b"host", b"localhost"), (b"host", b"localhost")], 421),
        ([(b"host", b"localhost"), (b"host", b"evil.com")], 421),
        ([(b"host", b" localhost")], 421),
        ([(b"host", b"localhost\n")], 421),
        ([(b"host", b"user@localhost")], 421),
        ([(b"host", "localhost:８０".encode())], 421),
        ([(b"host", b"localhost"), (b"origin", b"http://localhost"), (b"origin", b"http://evil.com")], 403),
        ([(b"host", b"localhost"), (b"origin", b"http://localhost\t")], 403),
    ],
)
async def test_a_host_and_an_origin_are_matched_exactly(headers: list[tuple[bytes, bytes]], status: int) -> None:
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("in")(scope, receive, send)

    answers: list[int] = []

    async def send(message: Any) -> None:
        answers.extend([message["status"]] if "status" in message else [])

    door = sites.OwnNames(inner, [*own_names("192.0.2.7"), *own_names("2001:db8::7")])
    await door({"type": "http", "headers": headers}, None, send)  # type: ignore[arg-type]
    assert answers == [status]


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *((name, True) for name in ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost")),
        *((name, False) for name in ("0.0.0.0", "::", "", "192.168.1.5", "localhost.evil.example")),
    ],
)
def test_only_what_surely_is_loopback_is_taken_for_it(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


# -- bodies ------------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_an_image_beyond_the_sdks_limit_can_be_uploaded(http_url: str, sse_url: str) -> None:
    noise = io.BytesIO()
    Image.frombytes("RGB", (1400, 1200), os.urandom(1400 * 1200 * 3)).save(noise, "PNG")
    pixels = "data:image/png;base64," + base64.b64encode(noise.getvalue()).decode()
    assert len(pixels) > 6_000_000
    for server in (http_url, sse(sse_url)):
        async with Client(server) as client:
            result = await client.call_tool("upload_images", {"images": [pixels]})
        assert not result.is_error and (result.structured_content or {})["images"][0]["width"] == 1400


@pytest.mark.anyio
@pytest.mark.parametrize(("transport", "path"), [("http", "/mcp"), ("sse", "/messages/")])
async def test_a_body_above_64_mib_is_refused_unread(told: CannedService, transport: Any, path: str) -> None:
    async def open_told() -> Any:
        return told

    app = http_app(build(open_told, remote=True), transport, "127.0.0.1", ())
    web = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1")
    async with app.router.lifespan_context(app), web as client:
        answer = await client.post(path, content=b"{}", headers={"content-length": str(BODY_LIMIT_BYTES + 1)})
    assert answer.status_code == 413


@pytest.mark.anyio
@pytest.mark.parametrize(("transport", "path"), [("http", "/mcp"), ("sse", "/messages/")])
async def test_a_body_without_length_is_refused_at_the_limit(
    told: CannedService, transport: Any, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def open_told() -> Any:
        return told

    async def without_end() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b" " * 400
        raise AssertionError("it was read on")

    monkeypatch.setattr(http, "BODY_LIMIT_BYTES", 1000)
    app = http_app(build(open_told, remote=True), transport, "127.0.0.1", ())
    web = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1")
    async with app.router.lifespan_context(app), web as client:
        answer = await client.post(path, content=without_end())
    assert answer.status_code == 413


# - the one service ----------------------------------------------------------------------------------------------------


class Opening:
    """Opens given services, and says what happened."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.opened = 0
        self.closed = 0
        self.first = anyio.Event()
        self.broken = anyio.Event()
        self.ended = anyio.Event()

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Any]:
        if self.failures:
            raise self.failures.pop(0)
        self.opened += 1
        self.first.set()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._break)
                yield CannedService()
                tasks.cancel_scope.cancel()
        finally:
            self.closed += 1
            self.ended.set()

    async def _break(self) -> None:
        await self.broken.wait()
        self.broken = anyio.Event()
        raise RuntimeError("the disk is gone")


@pytest.mark.anyio
async def test_the_service_opens_and_closes_once() -> None:
    opening = Opening()
    async with ServiceHolder(opening).running() as holder:
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(holder)
        assert await holder() is await holder()
    assert (opening.opened, opening.closed) == (1, 1)


@pytest.mark.anyio
async def test_an_unused_service_opens_soon_for_unfinished_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_holder, "FIRST_LOOK_S", 0)
    opening = Opening()
    with anyio.fail_after(60):
        async with ServiceHolder(opening).running():
            await opening.first.wait()
    assert (opening.opened, opening.closed) == (1, 1)


@pytest.mark.anyio
async def test_a_server_that_ends_at_once_opens_no_service() -> None:
    opening = Opening()
    async with ServiceHolder(opening).running():
        pass
    assert opening.opened == 0


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (errors.BadRequest("TRIPTYCH_HOME cannot be used."), "TRIPTYCH_HOME cannot be used."),
        (PermissionError(13, "Permission denied", "/home/x"), "Set TRIPTYCH_HOME"),
        (RuntimeError("sk-secret"), "log"),
    ],
)
async def test_a_service_that_fails_to_open_is_tried_again(failure: Exception, said: str) -> None:
    opening = Opening(failure)
    async with ServiceHolder(opening).running() as holder:
        with pytest.raises(errors.TriptychError) as refused:
            await holder()
        assert said in refused.value.for_operator
        assert "sk-secret" not in refused.value.for_operator + refused.value.message
        await holder()
    assert (opening.opened, opening.closed) == (1, 1)


@pytest.mark.anyio
async def test_a_broken_service_is_opened_anew_by_the_next_call() -> None:
    opening = Opening()
    async with ServiceHolder(opening).running() as holder:
        first = await holder()
        opening.broken.set()
        await opening.ended.wait()
        await anyio.wait_all_tasks_blocked()
        assert await holder() is not first
    assert (opening.opened, opening.closed) == (2, 2)


@pytest.mark.anyio
async def test_a_call_cancelled_during_opening_leaves_the_service() -> None:
    gate = anyio.Event()
    entered = anyio.Event()

    @asynccontextmanager
    async def slow() -> AsyncIterator[Any]:
        entered.set()
        await gate.wait()
        yield CannedService()

    async with ServiceHolder(slow).running() as holder:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(holder)
            await entered.wait()
            tasks.cancel_scope.cancel()
        gate.set()
        assert await holder()
