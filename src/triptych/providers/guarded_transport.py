"""Requests to URLs from outside: a result, a redirect, a user's link, an upload ticket.

`GuardedTransport` is a transport for an httpx client. Each request through it, and so each redirect, goes to https on a
public address only. The host is resolved once and every address is checked. The connection goes to a checked address;
the Host header and TLS still name the host. A proxy from the environment gets the checked address, not the name. The
only exception are loopback origins given to the transport: those of a provider whose base URL is on this machine.

`fetch` reads one URL through such a client, with limits on its size, its time and its redirects.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

import anyio
import anyio.to_thread
import httpx2

from triptych.core import errors
from triptych.providers import url_safety

Resolve = Callable[[str, int], "list[str]"]

FETCH_LIMIT_BYTES = 64 * 1024 * 1024
FETCH_TIMEOUT_S = 120.0
MAX_REDIRECTS = 5
UNUSABLE_PROXY = (
    "The proxy that the environment names cannot be used; set HTTPS_PROXY to an http:// URL, or unset it and ALL_PROXY."
)


def connections(proxy: str | None, verify: ssl.SSLContext | bool = True) -> httpx2.AsyncHTTPTransport:
    """Return a transport that makes connections, through a proxy if one is given, each for one request.

    A kept connection could serve another host at the same address, without a check of that host's certificate.

    Raises: `errors.BadRequest` for a proxy that cannot be used.
    """
    limits = httpx2.Limits(max_keepalive_connections=0)
    try:
        return httpx2.AsyncHTTPTransport(verify=verify, proxy=proxy, limits=limits, trust_env=False)
    except (ImportError, ValueError) as error:
        raise errors.BadRequest(UNUSABLE_PROXY) from error


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Sends a request to a public address over https, or to one of `origins` on this machine; all else is refused.

    `resolve` returns a host's addresses. `public` carries the requests that need no proxy. With `proxy_resolves` a
    proxy gets the name, and is trusted to refuse addresses that are not public.

    Raises: `errors.NotAllowed` for a URL or an address that may not be read, `errors.NotSent` for a host that cannot be
    resolved, `errors.BadRequest` for a proxy that cannot be used, and what the connection raises.
    """

    def __init__(
        self,
        resolve: Resolve,
        origins: frozenset[str] = frozenset(),
        public: httpx2.AsyncBaseTransport | None = None,
        *,
        proxy_resolves: bool = False,
    ) -> None:
        self._resolve = resolve
        self._origins = origins
        self._proxy_resolves = proxy_resolves
        self._transports: dict[str | None, httpx2.AsyncBaseTransport] = {None: public} if public else {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        if not url.userinfo and url_safety.origin(str(url)) in self._origins:
            return await self._transport(None).handle_async_request(request)
        host, port = url.raw_host.decode("ascii"), 443 if url.port is None else url.port
        if url.scheme != "https" or not host or url.userinfo or not 0 < port < 65536:
            raise errors.NotAllowed(
                f"Only https:// URLs without credentials are read; this is {errors.quoted(str(url), 100)}."
            )
        proxy = await anyio.to_thread.run_sync(url_safety.proxy_for, host, port, abandon_on_cancel=True)
        if proxy and self._proxy_resolves and url_safety.is_name(host):
            return await self._transport(proxy).handle_async_request(request)
        address = await self._public_address(host, port, has_proxy=bool(proxy))
        pinned = httpx2.Request(
            request.method,
            url.copy_with(host=address),
            headers=request.headers,  # the Host header in it names the host
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": host},
        )
        return await self._transport(proxy).handle_async_request(pinned)

    async def _public_address(self, host: str, port: int, *, has_proxy: bool) -> str:
        """Return one of a host's addresses, all of which are public."""
        try:
            found = await anyio.to_thread.run_sync(self._resolve, host, port, abandon_on_cancel=True)
        except (OSError, UnicodeError) as error:
            hint = " If only your proxy can, set TRIPTYCH_PROXY_RESOLVES=1 in the server's environment."
            raise errors.NotSent(
                f"The host {errors.quoted(host, 80)} cannot be resolved.{hint if has_proxy else ''}"
            ) from error
        if not found or not all(url_safety.is_public(address) for address in found):
            raise errors.NotAllowed(
                f"The host {errors.quoted(host, 80)} is not on the public internet; only public addresses are read. "
                "Pass a local file by its path instead."
            )
        return found[0]

    def _transport(self, proxy: str | None) -> httpx2.AsyncBaseTransport:
        if proxy not in self._transports:
            self._transports[proxy] = connections(proxy)
        return self._transports[proxy]

    async def aclose(self) -> None:
        for transport in self._transports.values():
            await transport.aclose()


async def fetch(client: httpx2.AsyncClient, url: str, max_bytes: int) -> bytes:
    """Return the bytes at a URL, through a client that has a `GuardedTransport` and does not follow redirects.

    Raises: `errors.NotAllowed` for a URL or an address that may not be read, `errors.Refused` for a 4xx or too many
    bytes, `errors.Outage` for anything that may work later.
    """
    with anyio.move_on_after(FETCH_TIMEOUT_S):
        request = client.build_request("GET", url_safety.parsed(url), timeout=httpx2.Timeout(30.0, connect=10.0))
        for _ in range(MAX_REDIRECTS + 1):
            found = await _fetch_once(client, request, max_bytes)
            if isinstance(found, bytes):
                return found
            request = found
        raise errors.Refused(f"The URL redirects more than {MAX_REDIRECTS} times.")
    raise errors.Outage(f"Reading the URL took longer than {FETCH_TIMEOUT_S:.0f} s.")


async def _fetch_once(client: httpx2.AsyncClient, request: httpx2.Request, max_bytes: int) -> bytes | httpx2.Request:
    """Return the bytes, or the request that a redirect asks for; the redirect's own body is not read."""
    try:
        response = await client.send(request, stream=True)
        try:
            if response.next_request:
                return response.next_request
            if 400 <= response.status_code < 500 and response.status_code not in (408, 429):
                raise errors.Refused(f"The URL answered HTTP {response.status_code}.")
            if response.status_code != 200:
                raise errors.Outage(f"The URL answered HTTP {response.status_code}.")
            return await read_body(response, max_bytes)
        finally:
            await response.aclose()
    except TooLarge as error:
        raise errors.Refused(f"The file at the URL is larger than {max_bytes / 1e6:.0f} MB.") from error
    except httpx2.ProxyError as error:
        raise errors.Outage(
            "The proxy refused to connect to the URL's address. If it takes only names, set "
            "TRIPTYCH_PROXY_RESOLVES=1 in the server's environment."
        ) from error
    except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, UnicodeError) as error:
        raise errors.Outage(f"The URL could not be read ({type(error).__name__}).") from error


class TooLarge(Exception):
    """A body is larger than its limit."""


async def read_body(response: httpx2.Response, limit_bytes: int) -> bytes:
    """Return a body, unpacked. Raises: `TooLarge` as soon as it is larger than its limit."""
    declared = response.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit_bytes:
        raise TooLarge
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > limit_bytes:
            raise TooLarge
    return bytes(body)
