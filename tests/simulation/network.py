"""The network between a simulated server and the providers: every request may be lost, late, doubled or garbled.

`Line` is the transport that a server's HTTP clients are given. It hands a request to a provider's ASGI app, which runs
in the provider's own process: so a provider goes on while the server that asked is frozen or dead. What a fault says of
acceptance is true: a refusal is never drawn for a request that was accepted.
"""

from __future__ import annotations

import asyncio
import errno
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Any

import httpx2

from simulation.faults import any_exception, injected, spread
from simulation.loop import PROCESS, Process

CALLER: ContextVar[str] = ContextVar("CALLER", default="worker")
"""Which use-case a server's code works for; the worker where it works by itself."""
PAID_TIMES = 20.0
"""How many times likelier a process stops at a paid request, and while it reads a live catalogue, than elsewhere."""
AGAIN_TIMES = 6.0
"""How many times likelier the network fails a paid request that is sent again: trouble comes in bunches."""
CONNECTIONS = 100
"""As many a client opens at once."""


@dataclass(frozen=True)
class Tag:
    """Who sends a request: the use-case or the worker, with which flow, for which prediction's id."""

    caller: str = ""
    flow: str = ""
    client_id: str = ""


EXCHANGE: ContextVar[Any] = ContextVar("EXCHANGE", default=None)
"""The exchange that a provider works for."""
NOBODY = Tag()
TAG: ContextVar[Tag] = ContextVar("TAG", default=NOBODY)

BEFORE = ("names", "tls", "refused", "no connection")
"""The request surely never left."""
LOST = (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError, httpx2.ReadTimeout)


class Line(httpx2.AsyncBaseTransport):
    """A transport of one server; `providers` are those it reaches, by host."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self._open = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        world, process = self._world, PROCESS.get()
        provider = world.provider_of(request.headers["host"])
        body = b"".join([chunk async for chunk in request.stream])  # type: ignore[union-attr]
        times = request.extensions.get("timeout", {})
        op = provider.op_of(request.method, request.url.path, body)
        tag = TAG.get()
        lot = world.lot("network", f"{process}.{provider.name}.{op}", times=self._likelier(op, tag))
        kind = _kind(lot, provider, op) if lot else ""
        if lot:
            lot.is_(kind, f"{op} at {provider.name}")
        world.tell(f"asks {provider.name} to {op} for {tag.caller} ({tag.flow} {tag.client_id[:8]})")
        if op == "upload":
            world.uploads[tag.caller] += 1
        if op == "submit" and tag.flow != "submit":
            world.wrong("looking paid", f"{tag.flow} sends {request.method} {request.url.path} to {provider.name}")
        attempt = world.attempts.begins(tag, process) if op == "submit" else None
        await self._connection(times)
        try:
            answer = await self._exchange(request, provider, op, body, times, kind, lot or random.Random(0), attempt)
        except BaseException as error:
            self._open -= 1
            if attempt and not attempt.left and isinstance(error, Exception):
                attempt.ends("not sent")
            raise
        if attempt and answer.status_code == 503 and attempt.exchange.spoiled:
            attempt.ends("refused")  # the provider's own words for "busy, and took nothing"
        if attempt and 400 <= answer.status_code < 500 and answer.status_code not in (408, 409, 425, 499):
            attempt.ends("refused")
        elif tag.flow == "find":
            world.attempts.looked(tag)
        return answer

    def _likelier(self, op: str, tag: Tag) -> float:
        """Return how many times likelier than others a request fails: one that is sent again fails most often."""
        if op != "submit":
            return 1.0
        return AGAIN_TIMES if self._world.attempts.by_id.get(tag.client_id) else 2.0

    async def _connection(self, times: Any) -> None:
        waited_s = 0.0
        while self._open >= CONNECTIONS:
            if waited_s > (times.get("pool") or 1e9):
                raise injected(httpx2.PoolTimeout("no connection is free"))
            waited_s += 1.0
            await asyncio.sleep(1.0)
        self._open += 1

    async def _exchange(
        self,
        request: httpx2.Request,
        provider: Any,
        op: str,
        body: bytes,
        times: Any,
        kind: str,
        lot: random.Random,
        attempt: Any,
    ) -> httpx2.Response:
        world, process = self._world, PROCESS.get()
        await asyncio.sleep(0.001 + 0.02 * world.jitter.random())
        _fail_before(world, provider, kind)
        if kind == "no connection":
            await asyncio.sleep(times.get("connect") or 60)
            raise injected(httpx2.ConnectTimeout("timed out"))
        if kind == "exception before":
            raise any_exception(lot)
        paid = PAID_TIMES if attempt or op == "catalogue" else 1.0
        world.seam(process, "net.connected", times=paid)
        if trace := request.extensions.get("trace"):
            # From here on it cannot be stopped: whose it was is asked before the program asks.
            ours = not attempt or world.holds(process, TAG.get().client_id)
            await trace("http11.send_request_headers.started", {"request": request})
            if not ours:
                world.wrong("sent by a process that does not hold it", f"{TAG.get().client_id} by {process}")
        else:
            world.seam(process, "net.send", times=paid)
        if attempt:
            world.attempts.leaves(attempt, TAG.get(), provider)
        if kind == "lost before":
            await asyncio.sleep(spread(lot, 0.01, 30))
            raise injected(lot.choice(LOST)("the connection broke"))
        exchange = Exchange(world, provider, request, body, kind, lot)
        if attempt:
            attempt.exchange = exchange
        exchange.start()
        world.seam(process, "net.sent", times=paid)
        if kind == "exception after":
            await asyncio.sleep(spread(lot, 0.01, 2))
            raise any_exception(lot)
        if kind == "lost after":
            await asyncio.sleep(spread(lot, 0.01, 60))
            raise injected(lot.choice(LOST)("the connection broke"))
        try:
            status, headers = await exchange.answer(times.get("read"))
        except BaseException:
            exchange.leave()
            raise
        world.seam(process, "net.answered", times=paid)
        return httpx2.Response(status, headers=headers, stream=Body(self, exchange, times.get("read")))

    def done(self) -> None:
        self._open -= 1


def _fail_before(world: Any, provider: Any, kind: str) -> None:
    if kind == "names" or (spell := world.spell("names do not resolve")):
        if kind != "names":
            spell.met(provider.name)
        raise injected(httpx2.ConnectError("[Errno -3] Temporary failure in name resolution"))
    if kind == "tls":
        raise injected(httpx2.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"))
    spell = world.spell("network down") or world.spell("provider down", provider.name)
    if kind == "refused" or (spell and spell.chance.random() < 0.9):
        if spell:
            spell.met(provider.name)
        raise injected(httpx2.ConnectError("All connection attempts failed"))


def _kind(lot: random.Random, provider: Any, op: str) -> str:
    """Draw what happens to a request; the likelier ones stand more often."""
    kinds = [*BEFORE, "exception before", "exception after", "lost before", "lost after", "lost after"]
    kinds += ["late request", "late answer", "late answer", "garbled", "garbled", "truncated", "drips", "odd type"]
    kinds += ["gateway before", "gateway after", "refused by gateway"]
    if op == "submit":
        kinds += ["exception after", "late request", "refused by gateway"]
    if op != "submit" or provider.repeatable:
        kinds.append("doubled")
    return lot.choice(kinds)


class Exchange:
    """One request at a provider, and its answer on the way back."""

    def __init__(
        self, world: Any, provider: Any, request: httpx2.Request, body: bytes, kind: str, lot: random.Random
    ) -> None:
        self._world = world
        self._provider = provider
        self._request = request
        self._body = body
        self._kind = kind
        self._lot = lot
        self._messages: list[dict[str, Any] | Exception] = []
        self._news = asyncio.Event()
        self._left = asyncio.Event()
        self._closed = asyncio.Event()
        self.whole_at_s: float | None = None
        """When the answer had come in whole, with nothing wrong on the way."""
        self.broken = bool(kind)
        self.spoiled = False
        """Whether the provider itself answered something odd."""
        self.left_at_s: float | None = None
        """When the server hung up before the answer's end, though it was well and nobody had asked it to stop."""
        self._asker = PROCESS.get()

    def start(self) -> None:
        """Hand the request over, in the provider's process."""
        context = copy_context()
        context.run(PROCESS.set, self._provider.process)
        context.run(EXCHANGE.set, self)
        self._world.loop.create_task(self._serve(self._put), context=context)
        if self._kind == "doubled":
            self._world.loop.create_task(self._serve(_nowhere, spread(self._lot, 0.001, 20)), context=context)

    async def _serve(self, send: Callable[[Any], Awaitable[None]], late_s: float = 0.0) -> None:
        kind, lot = self._kind, self._lot
        await asyncio.sleep(late_s + 0.001 + 0.02 * self._world.jitter.random())
        if kind == "late request":
            await asyncio.sleep(lot.uniform(1, 45))
        if kind in ("gateway before", "refused by gateway"):
            answer = _gateway(lot) if kind == "gateway before" else _refusal(lot)
            for message in answer:
                await send(message)
            return
        spell = self._world.spell("lists fail", self._provider.name)
        if spell and self._provider.op_of(self._request.method, self._request.url.path, self._body) == "list":
            spell.met(self._provider.name)
            for message in _gateway(spell.chance):
                await send(message)
            return
        if kind == "gateway after":
            send = _Swallow(send, lot)
        await self._provider.app(self._scope(), self._receive(), send)
        if kind == "gateway after":
            await send.end()  # type: ignore[attr-defined]

    def _scope(self) -> dict[str, Any]:
        url = self._request.url
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self._request.method,
            "headers": [(name.lower(), value) for name, value in self._request.headers.raw],
            "scheme": "https",
            "path": url.path,
            "raw_path": url.raw_path.partition(b"?")[0],
            "query_string": url.query,
            "server": (self._provider.host, 443),
            "client": ("192.0.2.1", 40000),
            "root_path": "",
            "state": {"transport": self, "closed": self._closed},
        }

    def _receive(self) -> Callable[[], Awaitable[dict[str, Any]]]:
        given = False

        async def receive() -> dict[str, Any]:
            nonlocal given
            if not given:
                given = True
                return {"type": "http.request", "body": self._body, "more_body": False}
            await self._left.wait()
            return {"type": "http.disconnect"}

        return receive

    async def _put(self, message: dict[str, Any]) -> None:
        self._messages.append(message)
        self._news.set()
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.whole_at_s = self._world.loop.now

    def close(self) -> None:
        """Break the connection: this stands in for the server's transport."""
        self.broken = True
        self._messages.append(injected(httpx2.RemoteProtocolError("peer closed connection without an answer")))
        self._news.set()
        self._closed.set()

    def leave(self) -> None:
        """Tell the provider that nobody listens any more."""
        if self.whole_at_s is None and self.left_at_s is None and self._world.serves(self._asker):
            self.left_at_s = self._world.loop.now
        self._left.set()

    async def next(self, patience_s: float | None) -> dict[str, Any]:
        while not self._messages:
            self._news.clear()
            try:
                async with asyncio.timeout(patience_s):
                    await self._news.wait()
            except TimeoutError:
                raise httpx2.ReadTimeout("timed out") from None
        message = self._messages.pop(0)
        if isinstance(message, Exception):
            raise message
        return message

    async def answer(self, patience_s: float | None) -> tuple[int, list[tuple[bytes, bytes]]]:
        lot = self._lot
        if self._kind == "late answer":
            late_s = spread(lot, 1, 45) if lot.random() < 0.8 else spread(lot, 45, 1000)
            wait_s = min(late_s, patience_s or late_s)
            await asyncio.sleep(wait_s)
            if wait_s < late_s:
                raise injected(httpx2.ReadTimeout("timed out"))
        start = await self.next(patience_s)
        await asyncio.sleep(0.001 + 0.02 * self._world.jitter.random())
        status, headers = start["status"], list(start.get("headers", []))
        if self._kind in ("garbled", "odd type"):
            headers = _odd_headers(headers, lot, body_stays=self._kind == "odd type")
        if self._kind in ("garbled", "truncated"):
            headers = [(name, value) for name, value in headers if name.lower() != b"content-length"]
        return status, headers

    async def chunks(self, patience_s: float | None) -> AsyncIterator[bytes]:
        """Yield the body as it comes, as the fault of this exchange wants it."""
        kind, lot = self._kind, self._lot
        left = lot.randrange(400) if kind == "truncated" else None
        drips = kind == "drips"
        spell = self._world.spell("lists drip", self._provider.name)
        if spell and self._provider.op_of(self._request.method, self._request.url.path, self._body) == "list":
            spell.met(self._provider.name)
            drips = True
        whole = kind == "garbled"
        kept = bytearray()
        while True:
            message = await self.next(patience_s)
            data, more = message.get("body", b""), message.get("more_body", False)
            if whole:
                kept += data
                if not more:
                    yield _garbled(bytes(kept), lot)
            elif drips:
                for i in range(len(data)):
                    await asyncio.sleep(1.0)
                    yield data[i : i + 1]
            elif left is not None and len(data) >= left:
                yield data[:left]
                raise injected(lot.choice((httpx2.ReadError, httpx2.RemoteProtocolError))("the connection broke"))
            elif data:
                left = None if left is None else left - len(data)
                yield data
            if not more:
                return


class Body(httpx2.AsyncByteStream):
    """The body of an answer, read from its exchange."""

    def __init__(self, line: Line, exchange: Exchange, patience_s: float | None) -> None:
        self._line: Line | None = line
        self._exchange = exchange
        self._patience_s = patience_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._exchange.chunks(self._patience_s):
            yield chunk

    async def aclose(self) -> None:
        if self._line:
            self._line.done()
            self._line = None
        self._exchange.leave()


class _Swallow:
    """Takes an answer and gives a gateway's error instead."""

    def __init__(self, send: Callable[[Any], Awaitable[None]], lot: random.Random) -> None:
        self._send, self._lot = send, lot

    async def __call__(self, message: Any) -> None:
        pass

    async def end(self) -> None:
        for message in _gateway(self._lot):
            await self._send(message)


async def _nowhere(message: Any) -> None:
    pass


def _answer(status: int, kind: bytes, body: bytes, *more: tuple[bytes, bytes]) -> list[dict[str, Any]]:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *more]
    start = {"type": "http.response.start", "status": status, "headers": headers}
    return [start, {"type": "http.response.body", "body": body}]


def _gateway(lot: random.Random) -> list[dict[str, Any]]:
    """Return what a broken gateway says: nothing of whether the request went through."""
    status = lot.choice((500, 502, 503, 504, 520, 522, 408, 499))
    page = b"<html><body><h1>Bad Gateway</h1></body></html>"
    return _answer(status, b"text/html", lot.choice((page, b"", b"{}", b'{"error": "upstream"}', b"null")))


def _refusal(lot: random.Random) -> list[dict[str, Any]]:
    """Return a refusal from before the provider: the request surely was not accepted."""
    status = lot.choice((429, 429, 429, 403, 404, 401, 413))
    more = [(b"retry-after", lot.choice((b"1", b"7", b"86400", b"soon", b"-3")))] if lot.random() < 0.5 else []
    return _answer(status, b"application/json", b'{"message": "not now"}', *more)


def _odd_headers(
    headers: list[tuple[bytes, bytes]], lot: random.Random, *, body_stays: bool
) -> list[tuple[bytes, bytes]]:
    charset = lot.choice((b"hex", b"utf-7", b"undefined", b"base64", b"utf-16", b"rot13", b"latin-1", b"\xff", b"idna"))
    known = dict(headers).get(b"content-type", b"application/json").partition(b";")[0]
    kind = known if body_stays else lot.choice((known, b"text/html", b"text/event-stream", b"application/json", b""))
    made = [(name, value) for name, value in headers if name.lower() != b"content-type"]
    made.append((b"content-type", kind + b"; charset=" + charset))
    if not body_stays and lot.random() < 0.2:
        made.append((b"content-encoding", lot.choice((b"gzip", b"br", b"deflate", b"zstd"))))
    return made


def _garbled(body: bytes, lot: random.Random) -> bytes:
    how = lot.randrange(7)
    if how == 0:
        return b""
    if how == 1:
        most = 24 if b"\x00" in body else len(body)  # of a picture: without its last bytes it may still be whole
        return body[: lot.randrange(min(most, len(body)) + 1)]
    if how == 2:
        return bytes(lot.randrange(256) for _ in range(lot.randrange(1, 200)))
    if how == 3 and body:
        spoiled = bytearray(body)
        for _ in range(lot.randrange(1, 8)):
            spoiled[lot.randrange(len(spoiled))] = lot.randrange(256)
        return body[:1] + b"\x00" + bytes(spoiled)  # never a fine answer that says something else
    if how == 4:
        return b"[" * 3000
    if how == 5:
        return lot.choice((b"null", b"[]", b"{}", b'"ok"', b"0", b'{"data": null}', b'{"code": 200}'))
    return b"data: " + body[:100] + b"\n\n"


def resolve(world: Any, host: str) -> list[str]:
    """Stand in for the DNS, called in a server's worker thread."""
    process: Process | None = PROCESS.get()
    if spell := world.spell("names do not resolve"):
        spell.met(host)
        raise injected(OSError(errno.EAGAIN, "Temporary failure in name resolution"))
    if not world.knows(host):  # a garbled answer named it
        raise OSError(errno.ENOENT, "Name or service not known")
    if lot := world.lot("network", f"{process}.resolve"):
        lot.is_("resolve", host)
        raise injected(lot.choice((OSError(-3, "Temporary failure"), UnicodeError("idna"), ssl.SSLError(1, "odd"))))
    return ["93.184.216.34"]
