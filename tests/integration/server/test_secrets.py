"""Claims about keys and tokens: whatever happens, they are in no log line, answer, error, database or file.

Real server processes at the lowest log level, one in front of the emulators and one in front of a provider that repeats
the key it was sent in everything it says.
"""

from __future__ import annotations

import base64
import json
import logging
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from support.flows import edit
from support.pictures import picture
from support.systems import child_environment
from triptych import logs, providers
from triptych.core import errors
from triptych.providers.client import ProviderClient
from triptych.settings import read as read_settings
from triptych_emulators import running

HOSTED = [providers.load(name) for name in providers.names() if providers.load(name).key_env]
KEYS = {provider.name: f"sk-{provider.name}-PLANTED/7f3a+9c=" for provider in HOSTED}
TOKEN = "token-PLANTED-55d1e0a7"
SECRETS = (*KEYS.values(), TOKEN)


def spellings(secret: str) -> set[bytes]:
    """A secret as it is, and as JSON, URLs and headers spell it."""
    forms = {secret, secret.replace("/", r"\/"), quote(secret, safe=""), quote(secret), repr(secret)[1:-1]}
    return {form.encode() for form in forms} | {base64.b64encode(secret.encode()).rstrip(b"=")[:-2]}


def leaks(data: bytes) -> list[bytes]:
    return [form for secret in SECRETS for form in spellings(secret) if form in data]


class Parrot:
    """A provider that puts the key it was sent into everything: words, ids, headers, redirects and URLs, in turn."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str | None]] = []
        self.turns: Counter[str] = Counter()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                said = self.headers.get("Authorization")
                outer.seen.append((self.path, said))
                turn = outer.turns[f"{self.path} {said}"]
                outer.turns[f"{self.path} {said}"] += 1
                outer.answer(self, (said or "").removeprefix("Bearer "), turn)

            do_GET = do_POST = do_PUT = serve  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})

    @contextmanager
    def speaking(self) -> Iterator[Parrot]:
        self._thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._thread.join()
            self._http.server_close()

    def answer(self, handler: BaseHTTPRequestHandler, key: str, turn: int) -> None:
        url = f"{self.base_url}/out.png?key={quote(key, safe='')}"
        words = {"message": f"your key is {key}", "code": key, "request_id": key, "type": key}
        made = {"id": key, "status": "completed", "outputs": [url], "urls": {"get": f"{self.base_url}/poll?key={key}"}}
        bodies: Sequence[tuple[int, Any]] = (
            (200, {**made, "data": {**made, "error": key}, "images": [url], "results": [url], "model": key}),
            (401, {"error": words, **words, "errors": [words]}),
            (500, {"error": words, **words, "errors": [words]}),
            (302, {}),
            (200, {"code": 400, "msg": key, "error": words, "data": None, "errors": [words]}),
            (503, f"<html>{key}</html>"),
            (
                200,
                {"id": "t", "status": "failed", "error": words, "data": {"id": "t", "status": "failed", "error": key}},
            ),
            (200, {"id": key, "data": [{"url": url, "imageURL": url, "taskUUID": key, "status": key, "error": words}]}),
        )
        status, told = bodies[turn % len(bodies)]
        body = (
            told.encode()
            if isinstance(told, str)
            else json.dumps(told).replace("/", r"\/" if turn % 2 else "/").encode()
        )
        if handler.path.startswith("/out.png"):
            status, body = 200, picture()
        handler.send_response(status)
        handler.send_header("Location", f"{self.base_url}/elsewhere?key={key}")
        handler.send_header("X-Request-ID", key)
        handler.send_header("Set-Cookie", f"key={key}")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


async def rounds(urls: dict[str, str], home: Path, coffee: str) -> tuple[list[str], bytes]:
    """Return all that a server process answers and all that it writes to stderr, every provider tried in every way."""
    environ = child_environment(
        TRIPTYCH_HOME=str(home),
        TRIPTYCH_ALLOWED_DIRS=str(Path(coffee).parent),
        TRIPTYCH_AUTH_TOKEN=TOKEN,
        TRIPTYCH_LOG_LEVEL="DEBUG",
        TRIPTYCH_BUDGET_USD="none",
        **{provider.key_env or "": KEYS[provider.name] for provider in HOSTED},
        **{base.env: urls[provider.name] for provider in HOSTED for base in provider.base_urls.values()},
    )
    command = StdioServerParameters(command=sys.executable, args=["-m", "triptych"], env=environ)
    told: list[str] = []
    with (home.parent / f"{home.name}.stderr").open("w+") as stderr:
        async with Client(stdio_client(command, errlog=stderr)) as client:

            async def call(tool: str, **given: Any) -> Any:
                result = await client.call_tool(tool, given)
                told.append(result.model_dump_json())
                return result.structured_content or {}

            jobs = []
            for provider in HOSTED:
                await call("list_models", provider=provider.name)
                for prompt in ("a fox", "a fox [[emulate: 401]]", "a fox [[emulate: html-502]]"):
                    jobs.append(
                        await call("edit_sequence", images=[coffee], prompt=prompt, provider=provider.name, wait_s=0)
                    )
                await call("generate_sequence", prompt="a fox", provider=provider.name, wait_s=0, dry_run=True)
            await call("upload_images", images=[coffee])
            async with anyio.create_task_group() as tasks:
                for i, job_id in enumerate(job.get("job_id") for job in jobs):
                    if job_id:
                        tasks.start_soon(settled, call, job_id, 2 if i % 3 else LOOKS)
            await call("list_jobs")
            told += [str(await client.read_resource(uri)) for uri in ("triptych://jobs", "triptych://models")]
    return told, (home.parent / f"{home.name}.stderr").read_bytes()


LOOKS = 12
"""Each of a second at most, all jobs at once: the first poll of a job comes after its usual time."""


async def settled(call: Callable[..., Awaitable[Any]], job_id: str, looks: int) -> None:
    """Look at a job until it has ended, or so many times."""
    for _ in range(looks):
        if (await call("get_status", job_id=job_id, wait_s=1)).get("status") not in ("queued", "running"):
            return


def check(told: list[str], stderr: bytes, home: Path) -> None:
    assert leaks("\n".join(told).encode()) == []
    assert leaks(stderr) == [] and b"DEBUG" in stderr
    written = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert any(path.name == "triptych.db" for path in written)
    assert {path: found for path, data in written.items() if (found := leaks(data) + leaks(str(path).encode()))} == {}


@pytest.mark.slow
@pytest.mark.anyio
async def test_no_server_output_holds_a_key_or_token(tmp_path: Path, coffee: str) -> None:
    with ExitStack() as stack:
        emulators = [stack.enter_context(running(p.name, key=KEYS[p.name], max_side=32)) for p in HOSTED]
        told, stderr = await rounds({api.name: api.base_url for api in emulators}, tmp_path / "home", coffee)
        assert all(api.accepted for api in emulators), "each of them was paid"
        for api in emulators:
            fetched = [seen for seen in api.seen if seen.path.startswith("/_results/")]
            assert fetched and not any({"authorization", "cookie"} & set(seen.headers) for seen in fetched)
    assert sum('"status":"done"' in text for text in told) >= len(HOSTED)
    check(told, stderr, tmp_path / "home")


@pytest.mark.slow
@pytest.mark.anyio
async def test_no_output_holds_a_key_that_the_provider_repeats(tmp_path: Path, coffee: str) -> None:
    with Parrot().speaking() as parrot:
        told, stderr = await rounds(dict.fromkeys(KEYS, parrot.base_url), tmp_path / "home", coffee)
        assert {said for _, said in parrot.seen if said} == {f"Bearer {key}" for key in KEYS.values()}
        fetched = [said for path, said in parrot.seen if path.startswith("/out.png")]
        assert fetched and not any(fetched), "a result is fetched without the key"
        assert not any(path.startswith("/elsewhere") for path, _ in parrot.seen), "no redirect is followed with it"
    assert any("[key]" in text for text in told), "the key was repeated, and cut out"
    check(told, stderr, tmp_path / "home")


@pytest.mark.anyio
async def test_no_exception_and_no_repr_has_a_key_in_it(tmp_path: Path) -> None:
    sender = ProviderClient()
    with Parrot().speaking() as parrot:
        environ = {p.key_env or "": KEYS[p.name] for p in HOSTED} | {"TRIPTYCH_AUTH_TOKEN": TOKEN}
        environ |= {base.env: parrot.base_url for p in HOSTED for base in p.base_urls.values()}
        settings = read_settings({**environ, "TRIPTYCH_HOME": str(tmp_path)})
        said = [repr(settings), str(settings), repr(sender)]
        for provider in HOSTED:
            account = settings.setup.accounts[provider.name]
            said.append(f"{account!r} {vars(type(account))}")
            for _ in range(8):
                try:
                    said.append(repr(await sender.run(account, provider.submit(edit(provider)))))
                except errors.TriptychError as error:
                    said.append("".join(traceback.format_exception(error)) + repr(error) + repr(vars(error)))
        await sender.aclose()
    assert len(said) > 6 * 8
    assert leaks("\n".join(said).encode()) == []


def test_every_provider_key_is_cut_from_log_lines(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    environ = {provider.key_env or "": KEYS[provider.name] for provider in HOSTED}
    environ |= {"TRIPTYCH_AUTH_TOKEN": TOKEN, "HTTPS_PROXY": "http://me:proxy-PLANTED-1@proxy.example:3128"}
    try:
        logs.configure("DEBUG", environ=environ)
        for name in ("triptych.providers.client", "mcp", "httpx2", "httpcore2.http11", "uvicorn"):
            for secret in (*SECRETS, "proxy-PLANTED-1"):
                logging.getLogger(name).warning("%s or %s", secret, quote(secret, safe=""))
                try:
                    raise ValueError(f"it was {secret}")
                except ValueError:
                    logging.getLogger(name).exception("broke")
    finally:
        root.handlers = before
        root.setLevel(level)
    said = capsys.readouterr().err
    assert said.count("[key]") > 5 * 8 and "ValueError: it was [key]" in said
    assert "PLANTED" not in said
