"""The HTTP client for the providers' APIs and for every other URL; Triptych sends no other requests.

`run` drives a provider's flow against the provider's own origin, with its key. It follows no redirect and sends the key
nowhere else. `fetch` reads a URL from outside (a result, a user's link), through `guarded_transport`.

Rules: a failure says whether the request can have arrived (`NotSent`, `AnswerLost`). The key is cut out of every
response before it is returned. Only requests that cost nothing are repeated.
"""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import httpx2

from triptych import __version__
from triptych.core import errors, telemetry
from triptych.core.text import redact
from triptych.providers import (
    STREAM_END,
    Flow,
    FrameReceived,
    HttpRequest,
    HttpResponse,
    NextEvent,
    guarded_transport,
    url_safety,
)
from triptych.providers.accounts import Account
from triptych.providers.event_stream import EventStream
from triptych.providers.guarded_transport import FETCH_LIMIT_BYTES, Resolve

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]
OnFrame = Callable[[FrameReceived], Awaitable[None]]
BeforeSend = Callable[[], Awaitable[None]]
Transports = Callable[[str], httpx2.AsyncBaseTransport]

log = logging.getLogger(__name__)

ANSWER_LIMIT_BYTES = 32 * 1024 * 1024
ANSWER_PATIENCE = 4.0
"""The time limit of a submit or an upload, as a multiple of its time-out between two bytes."""
LOOK_LIMIT_S = 30.0
"""The time limit of a poll or a list, which may be repeated for free."""
DIRECT: Mapping[str, None] = {"all://localhost": None, "all://127.0.0.1": None, "all://[::1]": None}
"""Mounts of a client: requests to this machine use no proxy, because they may be plain http and carry a key."""
USER_AGENT = f"triptych/{__version__}"


class ProviderClient:
    """The connections of one process, each provider's apart; `aclose` ends them.

    `resolve` returns the addresses of a host, `sleep` waits between tries. `public` is the transport of `fetch` without
    a proxy, `transport` returns the one of a provider's API by the provider's name. With `proxy_resolves` a proxy is
    trusted to resolve names, and to refuse addresses that are not public.
    """

    def __init__(
        self,
        resolve: Resolve | None = None,
        sleep: Sleep = anyio.sleep,
        public: httpx2.AsyncBaseTransport | None = None,
        *,
        transport: Transports | None = None,
        proxy_resolves: bool = False,
    ) -> None:
        self._resolve = resolve or url_safety.resolve
        self._sleep = sleep
        self._public = public
        self._proxy_resolves = proxy_resolves
        self._transport = transport
        self._apis: dict[str, httpx2.AsyncClient] = {}
        self._guarded: dict[tuple[str, frozenset[str]], httpx2.AsyncClient] = {}

    async def aclose(self) -> None:
        """Close the connections."""
        for client in (*self._apis.values(), *self._guarded.values()):
            await client.aclose()
        self._apis, self._guarded = {}, {}

    async def run(
        self,
        account: Account,
        flow: Flow[T],
        *,
        tries: int = 1,
        on_frame: OnFrame | None = None,
        before_send: BeforeSend | None = None,
    ) -> T:
        """Drive a provider's flow to its end and return what it returns.

        `tries` is how often a repeatable call is sent before an outage is reported. `on_frame` is called with each
        frame before the end of a stream. `before_send` is called right before the bytes of a paid call are sent; an
        error that it raises stops the call.
        Raises: what the flow raises; `errors.NoKey`; `errors.NotSent` and `errors.AnswerLost` from the network.
        """
        try:
            with telemetry.span("call", provider=account.provider.name, kind=getattr(flow, "__name__", "other")):
                return await self._drive(account, flow, tries, on_frame, before_send)
        except errors.KeyRejected as error:  # a flow does not know where its key comes from
            message = f"{error.message} In the server's environment, set {account.provider.key_env} to a valid key."
            raise errors.KeyRejected(message, request_id=error.request_id) from error

    async def _drive(
        self, account: Account, flow: Flow[T], tries: int, on_frame: OnFrame | None, before_send: BeforeSend | None
    ) -> T:
        if account.provider.offline:
            if before_send:
                await before_send()
            return await anyio.to_thread.run_sync(partial(_exhaust, flow))
        if not account.usable:
            raise errors.NoKey(
                f"{account.provider.title} needs a key: set {account.provider.key_env} in the server's environment."
            )
        stream = EventStream(account.provider.title, account.secret, ANSWER_LIMIT_BYTES)
        try:
            item = next(flow)
            while True:
                try:
                    match item:
                        case HttpRequest():
                            response = await self._send(account, item, tries, stream, before_send)
                        case NextEvent():
                            response = await stream.next_event()
                        case FrameReceived():
                            response = HttpResponse(STREAM_END, {}, b"")
                            if on_frame:
                                await on_frame(item)
                except errors.TriptychError as error:
                    item = flow.throw(error)
                else:
                    item = flow.send(response)
        except StopIteration as stop:
            value: T = stop.value
            return value
        finally:
            await stream.aclose()

    async def _send(
        self, account: Account, call: HttpRequest, tries: int, stream: EventStream, before_send: BeforeSend | None
    ) -> HttpResponse:
        url = _url(account, call)
        tries, before_send = (tries, None) if call.repeatable else (1, before_send)
        for attempt in range(1, tries + 1):
            try:
                with telemetry.span("request", provider=account.provider.name, method=call.method) as span:
                    response = await self._send_once(account, call, url, stream, before_send)
                    span.set(status=response.status)
            except errors.Outage:
                if attempt == tries:
                    raise
            else:
                if attempt == tries or response.status not in (408, 429, 500, 502, 503, 504):
                    return response
            await self._sleep(0.5 * attempt)
        raise AssertionError("at least one try")

    async def _send_once(
        self, account: Account, call: HttpRequest, url: str, stream: EventStream, before_send: BeforeSend | None
    ) -> HttpResponse:
        title = account.provider.title
        key = account.secret
        headers = dict(call.headers)
        if call.authorize and key:
            headers["Authorization"] = f"Bearer {key}"
        # As streams: bytes would reach the socket in one piece, and be copied there.
        files = {field: (name, io.BytesIO(data), kind) for field, (name, data, kind) in (call.files or {}).items()}
        if _on_origin(account, call, url):
            client = self._api_client(account.provider.name)
        else:  # an upload ticket: a URL of another host, requested without the key
            client = self._guarded_client(account.provider.name, account.loopback_origins())
        extensions: dict[str, Any] = {}
        if before_send:
            await before_send()
            extensions["trace"] = _trace_before_send(before_send)
        try:
            request = client.build_request(
                call.method,
                url_safety.parsed(url),
                params=dict(call.params) or None,
                json=call.json,
                content=call.content,
                files=files or None,
                headers=headers,
                timeout=httpx2.Timeout(call.timeout_s, connect=15.0, pool=call.timeout_s),
                extensions=extensions,
            )
        except (httpx2.InvalidURL, UnicodeError) as error:
            raise errors.BadRequest(f"The request to {title} cannot be written ({type(error).__name__}).") from error
        is_look = call.repeatable and not call.files and not call.content
        limit_s = min(ANSWER_PATIENCE * call.timeout_s, LOOK_LIMIT_S if is_look else math.inf)
        try:
            with anyio.fail_after(limit_s):
                response = await client.send(request, stream=True)
                if call.stream and stream.takes(response, limit_s):
                    return HttpResponse(response.status_code, _headers(response, key), b"")
                try:
                    body = await guarded_transport.read_body(response, ANSWER_LIMIT_BYTES)
                finally:
                    await response.aclose()
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError) as error:
            raise errors.NotSent(f"{title} could not be reached ({type(error).__name__}).") from error
        except (httpx2.HTTPError, httpx2.StreamError, TimeoutError, guarded_transport.TooLarge) as error:
            raise errors.AnswerLost(f"The answer of {title} was lost ({type(error).__name__}).") from error
        log.debug("%s %s %s: %s", account.provider.name, call.method, call.path, response.status_code)
        return HttpResponse(response.status_code, _headers(response, key), redact(key, body))

    def _api_client(self, provider: str) -> httpx2.AsyncClient:
        if provider not in self._apis:
            carried = {"transport": self._transport(provider)} if self._transport else {"mounts": DIRECT}
            self._apis[provider] = new_client(**carried)
        return self._apis[provider]

    async def fetch(
        self, url: str, *, origins: frozenset[str] = frozenset(), max_bytes: int = FETCH_LIMIT_BYTES, pool: str = ""
    ) -> bytes:
        """Return the bytes at a URL from outside. `origins` are loopback origins that may be read.

        Fetches of one `pool` share a client: a provider's name for its results, nothing for the users' own links.

        Raises: `errors.NotAllowed` for an address that is not public or a scheme that is not https, `errors.Refused`
        for a 4xx, `errors.Outage` for anything that may work later.
        """
        with telemetry.span("call", provider=pool or "link", kind="download"):
            return await guarded_transport.fetch(self._guarded_client(pool, origins), url, max_bytes)

    def _guarded_client(self, pool: str, origins: frozenset[str]) -> httpx2.AsyncClient:
        """Return the client for URLs from outside."""
        if (pool, origins) not in self._guarded:
            transport = guarded_transport.GuardedTransport(
                self._resolve, origins, self._public, proxy_resolves=self._proxy_resolves
            )
            self._guarded[pool, origins] = new_client(trust_env=False, transport=transport)
        return self._guarded[pool, origins]


def _trace_before_send(before_send: BeforeSend) -> Callable[[str, Mapping[str, Any]], Awaitable[None]]:
    """Return a trace function that calls `before_send` once connected, before the request is written."""

    async def trace(event: str, info: Mapping[str, Any]) -> None:
        if event.endswith(".send_request_headers.started"):
            await before_send()

    return trace


def first_call(account: Account, flow: Flow[Any]) -> dict[str, Any]:
    """Return a flow's first request as plain data, for a dry run; nothing is sent."""
    if account.provider.offline:
        flow.close()
        return {"method": "LOCAL", "url": None, "json": None}
    call = next(flow)
    assert isinstance(call, HttpRequest)
    flow.close()
    return {"method": call.method, "url": _url(account, call), "json": call.json}


def _exhaust(flow: Flow[T]) -> T:
    try:
        next(flow)
    except StopIteration as stop:
        value: T = stop.value
        return value
    raise AssertionError("an offline provider sends nothing")


def _url(account: Account, call: HttpRequest) -> str:
    base = account.base_urls.get(call.base) or account.provider.base_urls[call.base].default
    if not call.path or call.path.startswith("/"):
        return base.rstrip("/") + call.path
    if call.authorize and not _on_origin(account, call, call.path):
        raise errors.NotAllowed(f"{account.provider.title} returned a URL on another host; the key is not sent there.")
    return call.path


def _on_origin(account: Account, call: HttpRequest, url: str) -> bool:
    base = account.base_urls.get(call.base) or account.provider.base_urls[call.base].default
    return url_safety.origin(url) == url_safety.origin(base) and not url_safety.parsed(url).userinfo


def new_client(**options: Any) -> httpx2.AsyncClient:
    """Return a client that follows no redirect and remembers no cookie.

    Raises: `errors.BadRequest` for a proxy that cannot be used.
    """
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
    try:
        return httpx2.AsyncClient(
            headers={"User-Agent": USER_AGENT}, cookies=no_cookies, follow_redirects=False, **options
        )
    except (ImportError, ValueError) as error:
        raise errors.BadRequest(guarded_transport.UNUSABLE_PROXY) from error


def _headers(response: httpx2.Response, key: str) -> dict[str, str]:
    return {name.lower(): redact(key, value) for name, value in response.headers.items()}
