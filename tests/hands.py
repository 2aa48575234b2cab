"""The hands of the tests: flows driven without a wire, jobs run through a service, official clients run as children.

Plain functions only, each the same for every provider; what has to be taken down again is a fixture in a `conftest.py`.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import anyio
from hypothesis import strategies as st
from mcp import ClientSession, StdioServerParameters, stdio_client
from PIL import Image

from triptych.core import errors
from triptych.core.clock import Moment
from triptych.core.models import Edit, Operation, Prediction, Reference, State
from triptych.jobs.results import JobResult
from triptych.jobs.service import ImageService, Options
from triptych.providers import STREAM_END, Flow, FrameReceived, HttpRequest, HttpResponse, NextEvent, Provider, Sent

T = TypeVar("T")

HTML = b"<html><body>502 Bad Gateway</body></html>"
OVER = HttpResponse(STREAM_END, {}, b"")
SENT_AT = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
SENT = Sent(SENT_AT, 20.0)
NOW = Options(wait_s=0)
AUTH = {"Authorization": "Bearer test-key"}


def when(time: datetime) -> Moment:
    """Return a moment whose clocks agree."""
    return Moment(time, time.timestamp())


# Flows ---------------------------------------------------------------------------------------------------------------


def answer(status: int = 200, body: Any = None, headers: Mapping[str, str] | None = None) -> HttpResponse:
    return HttpResponse(status, headers or {}, body if isinstance(body, bytes) else json.dumps(body).encode())


def drive(flow: Flow[T], *answers: HttpResponse | errors.TriptychError) -> tuple[T, list[HttpRequest]]:
    """Return what a flow without streams returns, and the calls it made; it has to want exactly these answers."""
    value, calls, _ = _driven(flow, answers, streams=False)
    return value, calls


def drive_stream(
    flow: Flow[T], *answers: HttpResponse | errors.TriptychError
) -> tuple[T, list[HttpRequest], list[FrameReceived]]:
    """Return what a flow returns, the calls it made and the frames it handed over; it has to want all the answers."""
    return _driven(flow, answers, streams=True)


def _driven(
    flow: Flow[T], answers: Sequence[HttpResponse | errors.TriptychError], *, streams: bool
) -> tuple[T, list[HttpRequest], list[FrameReceived]]:
    calls: list[HttpRequest] = []
    came: list[FrameReceived] = []
    waiting = list(answers)
    try:
        wanted = next(flow)
        while True:
            assert streams or (isinstance(wanted, HttpRequest) and not wanted.stream)
            if isinstance(wanted, FrameReceived):
                came.append(wanted)
                wanted = flow.send(OVER)
                continue
            if isinstance(wanted, HttpRequest):
                calls.append(wanted)
            else:
                assert wanted == NextEvent() and calls[-1].stream
            assert waiting, f"one answer too few for {wanted}"
            following = waiting.pop(0)
            wanted = flow.throw(following) if isinstance(following, Exception) else flow.send(following)
    except StopIteration as stop:
        assert not waiting, "an answer was not wanted"
        value: T = stop.value
        return value, calls, came


def edit(
    provider: Provider,
    operation: Operation = Operation.EDIT_SEQUENTIAL,
    family: str = "seedream-5.0-lite",
    references: int | tuple[Reference, ...] = 1,
    **changes: Any,
) -> Edit:
    """Return a request for one of the provider's offers; a number of references stands for that many URLs."""
    offer = next(o for o in provider.offers if (o.family, o.operation) == (family, operation))
    if isinstance(references, int):
        urls = [f"https://host.example/{n}.png" for n in range(references if operation.edits else 0)]
        references = tuple(Reference("00", "image/png", url=url) for url in urls)
    plain = Edit(
        offer=offer,
        prompt="two cats",
        count=2 if operation.sequential else 1,
        size=(2048, 2048),
        format="png" if offer.formats else None,
        references=references,
    )
    return replace(plain, **changes)


def lost(request: Edit) -> Prediction:
    """Return the prediction of a request that went out at `SENT_AT` and was never answered."""
    return Prediction(
        id="pre_1", job_id="job_1", lane=0, step=0, after=None, first_output=1, state=State.SUBMITTING,
        provider=request.offer.provider, endpoint=request.offer.endpoint, operation=request.offer.operation,
        prompt=request.prompt, count=request.count, size=request.size, format=request.format, inputs=(),
        client_id=request.client_id, quoted_usd=Decimal(0), quote_exact=False, charged_usd=None, ticket=None,
        poll_url=None, submitted_at=SENT_AT, deadline_at=None, finished_at=None, due_at=0.0, attempts=1, fault=None,
        variation="",
    )  # fmt: skip


def any_json(leaves: st.SearchStrategy[Any], keys: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Return a strategy for JSON of these leaves and keys, nested as it likes."""
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5), max_leaves=12
    )


def any_answer(bodies: st.SearchStrategy[Any]) -> st.SearchStrategy[HttpResponse]:
    """Return a strategy for answers of every status and header that means something, with such a body or with bytes."""
    return st.builds(
        HttpResponse,
        st.sampled_from([200, 201, 204, 302, 400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 451, 500, 502, 503]),
        st.dictionaries(st.sampled_from(["X-Request-ID", "retry-after"]), st.text(max_size=10)),
        st.binary(max_size=40) | bodies.map(lambda body: json.dumps(body).encode()),
    )


# Jobs ----------------------------------------------------------------------------------------------------------------

Finish = Callable[[ImageService], Coroutine[Any, Any, None]]


async def ended(service: ImageService, finish: Finish, job_id: str | None) -> JobResult:
    assert job_id
    await finish(service)
    return service.job(job_id)


async def edited(service: ImageService, finish: Finish, image: str, count: int = 3, **options: Any) -> JobResult:
    """Return the job of an edited sequence, once nothing is left to do."""
    started = await service.edit_sequence([image], "make it golden hour", count, replace(NOW, **options))
    return await ended(service, finish, started.job_id)


# Emulators and the official clients ----------------------------------------------------------------------------------


class HandClock:
    """Seconds that move only when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def until(holds: Callable[[], bool], limit_s: float = 60.0) -> None:
    """Wait for what another thread or process does, however slow the machine is."""
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.005)


def picture(colour: str = "teal", size: tuple[int, int] = (40, 40), kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, kind)
    return out.getvalue()


def bare_environ(**more: str) -> dict[str, str]:
    """Return the environment of a child process: what every program needs, and no key of this machine."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ} | more


def lines_through(command: Sequence[str | Path], lines: Sequence[Any]) -> list[Any]:
    """Return the JSON lines that a child process makes of these; it has to end well."""
    told = "\n".join(json.dumps(line) for line in lines)
    done = subprocess.run(command, input=told, text=True, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


CallTool = Callable[..., Coroutine[Any, Any, str]]


def drive_node_mcp(
    client: Path, loader: Path, env: Mapping[str, str], body: Callable[[CallTool], Coroutine[Any, Any, None]]
) -> None:
    """Run `body` with a function that calls a tool of an MCP server under Node and returns its text."""
    server = StdioServerParameters(command="node", args=["--import", loader.as_uri(), str(client)], env=dict(env))

    async def session(quiet: Any) -> None:
        async with AsyncExitStack() as stack:
            streams = await stack.enter_async_context(stdio_client(server, errlog=quiet))
            session = await stack.enter_async_context(ClientSession(*streams))
            await session.initialize()

            async def call(tool: str, **arguments: Any) -> str:
                result = await session.call_tool(tool, arguments)
                return "\n".join(getattr(block, "text", "") for block in result.content)

            await body(call)

    with Path(os.devnull).open("w") as quiet:
        anyio.run(session, quiet)


def only(pattern: str, text: str) -> str:
    """Return the group of a pattern that has to be in a text."""
    found = re.search(pattern, text)
    assert found, text
    return found[1]
