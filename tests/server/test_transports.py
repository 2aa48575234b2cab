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
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

from server_stage import SERVE, Child, ToldStudio, environ
from triptych import errors
from triptych.server import transports
from triptych.server.build import build
from triptych.server.transports import BODY_LIMIT_BYTES, Resident, http_app, is_loopback, security_settings

TOKEN = "a-long-random-text"
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


def test_a_stdio_server_ends_with_0_when_stdin_closes_and_says_nothing_but_protocol(tmp_path: Path) -> None:
    ended = stdio(tmp_path / "home", INITIALIZE, cwd=tmp_path)
    assert ended.returncode == 0 and ended.stderr == b""
    assert [json.loads(line)["id"] for line in ended.stdout.splitlines()] == [1]


def test_a_stdio_server_that_is_never_spoken_to_ends_with_0(tmp_path: Path) -> None:
    assert stdio(tmp_path / "home", cwd=tmp_path).returncode == 0


def test_a_start_imports_nothing_that_initialize_does_not_need(tmp_path: Path) -> None:
    ended = stdio(tmp_path / "home", INITIALIZE, cwd=tmp_path, python=("-X", "importtime"))
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.decode().splitlines()}
    ours = {name for name in imported if name.split(".")[0] == "triptych"}
    assert ours <= {
        "triptych",
        "triptych.server",
        *(f"triptych.server.{n}" for n in ("audience", "build", "transports")),
    }
    assert not imported & {"PIL", "sqlite3", "platformdirs", "jsonschema"}


@pytest.mark.skipif(sys.platform == "win32", reason="signals are not Windows's way to end a process")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_stdio_server_in_good_order_though_stdin_stays_open(tmp_path: Path, number: int) -> None:
    child = Child("-m", "triptych", env=environ(tmp_path / "home"))
    assert child.process.stdin and child.process.stdout
    child.process.stdin.write(say(INITIALIZE, {"jsonrpc": "2.0", "method": "notifications/initialized"}))
    child.process.stdin.write(say(call("list_jobs")))
    child.process.stdin.flush()
    assert [json.loads(child.process.stdout.readline())["id"] for _ in range(2)] == [1, 2]
    child.process.send_signal(number)
    assert child.process.wait(timeout=30) == 0
    child.end()
    assert "Traceback" not in "".join(child.said)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("TRIPTYCH_BUDGET_USD", "plenty", "TRIPTYCH_BUDGET_USD"),
        ("TRIPTYCH_PROVIDER", "nobody", "TRIPTYCH_PROVIDER"),
        ("TRIPTYCH_HOME", os.devnull, "TRIPTYCH_HOME"),
    ],
)
def test_a_setting_that_cannot_be_right_is_what_every_call_answers_and_the_server_stays_up(
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


def test_a_port_that_is_taken_is_said_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        serve = SERVE.replace(", 0)", f", {taken.getsockname()[1]})")
        ended = subprocess.run(
            [sys.executable, "-c", serve, "http"], env=environ(tmp_path), capture_output=True, timeout=60, check=False
        )
    assert ended.returncode == 2 and b"cannot be listened on" in ended.stderr and b"Traceback" not in ended.stderr


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Both HTTP transports with a token, the first one open to other machines."""
    env = environ(tmp_path_factory.mktemp("guarded"), TRIPTYCH_AUTH_TOKEN=TOKEN)
    wide = Child("-c", SERVE.replace("127.0.0.1", "0.0.0.0"), "http", env=env)
    sse = Child("-c", SERVE, "sse", env=env)
    yield {"http": wide.url().replace("0.0.0.0", "127.0.0.1"), "sse": sse.url()}
    assert (wide.end(), sse.end()) == (0, 0)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("transport", "path"), [("http", "/mcp"), ("http", "/"), ("sse", "/sse"), ("sse", "/messages/"), ("sse", "/else")]
)
@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer ümlaut"]
)
async def test_no_route_answers_without_the_token(
    guarded: dict[str, str], transport: str, path: str, authorization: str | None
) -> None:
    url = httpx2.URL(guarded[transport]).join(path)
    headers = [] if authorization is None else [(b"authorization", authorization.encode())]
    async with httpx2.AsyncClient() as client:
        for method in ("GET", "POST", "DELETE"):
            answer = await client.request(method, url, headers=headers)
            assert answer.status_code == 401 and answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.anyio
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
async def test_the_token_opens_every_transport(guarded: dict[str, str], scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {TOKEN}"}
    async with (
        httpx2.AsyncClient(headers=headers) as http,
        Client(streamable_http_client(guarded["http"], http_client=http)) as client,
    ):
        assert len((await client.list_tools()).tools) == 10
    async with Client(sse_client(guarded["sse"], headers=headers)) as client:
        assert len((await client.list_tools()).tools) == 10


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("host", "evil.example", 421),
        ("host", "evil.example:8765", 421),
        ("host", "127.0.0.1.evil.example:8765", 421),
        ("origin", "http://evil.example", 403),
        ("origin", "null", 403),
    ],
)
async def test_a_page_on_another_site_cannot_talk_to_a_local_server(
    http_url: str, sse_url: str, header: str, value: str, status: int
) -> None:
    async with httpx2.AsyncClient() as client:
        posted = await client.post(http_url, json=INITIALIZE, headers={**HEADERS, header: value})
        opened = await client.get(sse_url, headers={**HEADERS, header: value})
        message = await client.post(
            httpx2.URL(sse_url).join("/messages/"), json=INITIALIZE, headers={**HEADERS, header: value}
        )
    assert (posted.status_code, opened.status_code, message.status_code) == (status, status, status)


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "127.0.0.1", "[::1]:8765", "[::1]"])
async def test_a_local_server_answers_to_its_three_names_with_and_without_a_port(http_url: str, host: str) -> None:
    async with httpx2.AsyncClient() as client:
        answer = await client.post(
            http_url, json=INITIALIZE, headers={**HEADERS, "host": host, "origin": f"http://{host}"}
        )
    assert answer.status_code == 200


def test_a_bind_to_one_address_answers_to_it_and_a_bind_to_all_to_the_machines_own() -> None:
    one = security_settings("192.0.2.7")
    assert {"192.0.2.7", "192.0.2.7:*", "localhost:*"} <= set(one.allowed_hosts)
    assert {"https://192.0.2.7", "http://192.0.2.7:*"} <= set(one.allowed_origins)
    assert "[2001:db8::7]:*" in security_settings("2001:db8::7").allowed_hosts
    for everywhere in ("0.0.0.0", "::", ""):
        settings = security_settings(everywhere)
        assert socket.gethostname() in settings.allowed_hosts and settings.enable_dns_rebinding_protection
        assert not any(host in ("*", "", ":*") for host in settings.allowed_hosts)


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
async def test_an_image_larger_than_the_sdks_own_limit_can_be_uploaded_as_base64(http_url: str, sse_url: str) -> None:
    noise = io.BytesIO()
    Image.frombytes("RGB", (1400, 1200), os.urandom(1400 * 1200 * 3)).save(noise, "PNG")
    pixels = "data:image/png;base64," + base64.b64encode(noise.getvalue()).decode()
    assert len(pixels) > 6_000_000
    for server in (http_url, sse_client(sse_url)):
        async with Client(server) as client:
            result = await client.call_tool("upload_images", {"images": [pixels]})
        assert not result.is_error and (result.structured_content or {})["images"][0]["width"] == 1400


@pytest.mark.anyio
@pytest.mark.parametrize(("transport", "path"), [("http", "/mcp"), ("sse", "/messages/")])
async def test_a_body_above_64_mib_is_refused_before_it_is_read(told: ToldStudio, transport: Any, path: str) -> None:
    async def open_told() -> Any:
        return told

    app = http_app(build(open_told, remote=True), transport, "127.0.0.1", ())
    web = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1")
    async with app.router.lifespan_context(app), web as client:
        answer = await client.post(path, content=b"{}", headers={"content-length": str(BODY_LIMIT_BYTES + 1)})
    assert answer.status_code == 413


# -- the one studio ----------------------------------------------------------------------------------------------------


class Opening:
    """Opens told studios, and says what happened."""

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
                yield ToldStudio()
                tasks.cancel_scope.cancel()
        finally:
            self.closed += 1
            self.ended.set()

    async def _break(self) -> None:
        await self.broken.wait()
        self.broken = anyio.Event()
        raise RuntimeError("the disk is gone")


@pytest.mark.anyio
async def test_the_studio_opens_once_for_all_who_need_it_and_closes_in_good_order() -> None:
    opening = Opening()
    async with Resident(opening).staying() as resident:
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(resident)
        assert await resident() is await resident()
    assert (opening.opened, opening.closed) == (1, 1)


@pytest.mark.anyio
async def test_a_studio_nobody_asks_for_opens_soon_to_take_up_unfinished_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "FIRST_LOOK_S", 0)
    opening = Opening()
    with anyio.fail_after(10):
        async with Resident(opening).staying():
            await opening.first.wait()
    assert (opening.opened, opening.closed) == (1, 1)


@pytest.mark.anyio
async def test_a_server_that_ends_at_once_never_opens_a_studio() -> None:
    opening = Opening()
    async with Resident(opening).staying():
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
async def test_a_studio_that_does_not_open_says_why_and_is_tried_again(failure: Exception, said: str) -> None:
    opening = Opening(failure)
    async with Resident(opening).staying() as resident:
        with pytest.raises(errors.TriptychError, match=said) as refused:
            await resident()
        assert "sk-secret" not in str(refused.value)
        await resident()
    assert (opening.opened, opening.closed) == (1, 1)


@pytest.mark.anyio
async def test_a_studio_that_breaks_is_opened_anew_by_the_next_call() -> None:
    opening = Opening()
    async with Resident(opening).staying() as resident:
        first = await resident()
        opening.broken.set()
        await opening.ended.wait()
        await anyio.wait_all_tasks_blocked()
        assert await resident() is not first
    assert (opening.opened, opening.closed) == (2, 2)


@pytest.mark.anyio
async def test_a_call_that_is_cancelled_while_the_studio_opens_leaves_it_to_the_next() -> None:
    gate = anyio.Event()
    entered = anyio.Event()

    @asynccontextmanager
    async def slow() -> AsyncIterator[Any]:
        entered.set()
        await gate.wait()
        yield ToldStudio()

    async with Resident(slow).staying() as resident:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(resident)
            await entered.wait()
            tasks.cancel_scope.cancel()
        gate.set()
        assert await resident()
