"""The only sender: everything that leaves this machine leaves here.

Two doors. `run` drives a provider's flow against the provider's own origin, with its key; it follows no redirect and
sends the key nowhere else. `fetch` reads a URL that somebody else wrote (a result, a user's link): only https, only
public addresses, checked after resolution and again at every redirect, pinned to the address that was checked, with
caps on size and time. The one exception is a provider whose base URL is on loopback: URLs of that same origin are read.

Rules: a failure says whether the request can have arrived (`NotSent`, `AnswerLost`); a key is cut out of every answer
before anybody reads it; nothing is retried here but what costs nothing to repeat.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import httpx2
from pydantic import SecretStr

from triptych import __version__, errors
from triptych.providers import Answer, Call, Flow, Provider

T = TypeVar("T")
Resolve = Callable[[str, int], "list[str]"]

log = logging.getLogger(__name__)

ANSWER_LIMIT_BYTES = 32 * 1024 * 1024
FETCH_LIMIT_BYTES = 64 * 1024 * 1024
FETCH_TIMEOUT_S = 120.0
MAX_REDIRECTS = 5
USER_AGENT = f"triptych/{__version__}"

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Account:
    """A provider as this user has it: its key, and where it lives.

    Raises: `errors.BadRequest` for a base URL that would carry the key over plain http beyond this machine.
    """

    provider: Provider
    key: SecretStr | None = None
    base_urls: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, url in self.base_urls.items():
            parts = urlsplit(url)
            if parts.scheme == "https" and parts.hostname:
                continue
            if not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
                env = self.provider.base_urls[name].env
                raise errors.BadRequest(
                    f"{env} must be an https:// URL (http:// only for 127.0.0.1, localhost or [::1]); it is "
                    f"{errors.quoted(url, 80)}."
                )

    @property
    def usable(self) -> bool:
        return self.provider.offline or bool(self.key and self.key.get_secret_value())

    @property
    def why_not(self) -> str | None:
        return None if self.usable else f"set {self.provider.key_env}"

    def loopback_origins(self) -> frozenset[str]:
        """Return the origins on this machine whose result URLs may be read."""
        return frozenset(_origin(url) for url in self.base_urls.values() if urlsplit(url).hostname in _LOOPBACK)


class Wire:
    """The connections of one process; `aclose` ends them. `resolve` turns a host into addresses."""

    def __init__(self, resolve: Resolve | None = None) -> None:
        self._resolve = resolve or _resolve
        self._api: httpx2.AsyncClient | None = None
        self._open: httpx2.AsyncClient | None = None

    async def aclose(self) -> None:
        """Close the connections."""
        for client in (self._api, self._open):
            if client:
                await client.aclose()
        self._api = self._open = None

    async def run(self, account: Account, flow: Flow[T], *, tries: int = 1) -> T:
        """Drive a provider's flow to its end and return what it returns.

        `tries` is how often a repeatable call is sent before an outage is reported.
        Raises: what the flow raises; `errors.NoKey`; `errors.NotSent` and `errors.AnswerLost` from the network.
        """
        if account.provider.offline:
            return await anyio.to_thread.run_sync(partial(_exhaust, flow))
        if not account.usable:
            raise errors.NoKey(
                f"{account.provider.title} needs a key: set {account.provider.key_env} in the server's environment."
            )
        try:
            call = next(flow)
            while True:
                try:
                    answer = await self._send(account, call, tries if call.repeatable else 1)
                except errors.TriptychError as error:
                    call = flow.throw(error)
                else:
                    call = flow.send(answer)
        except StopIteration as stop:
            value: T = stop.value
            return value

    async def _send(self, account: Account, call: Call, tries: int) -> Answer:
        url = _url(account, call)
        for attempt in range(1, tries + 1):
            try:
                answer = await self._send_once(account, call, url)
            except errors.Outage:
                if attempt == tries:
                    raise
            else:
                if attempt == tries or answer.status not in (408, 429, 500, 502, 503, 504):
                    return answer
            await anyio.sleep(0.5 * attempt)
        raise AssertionError("at least one try")

    async def _send_once(self, account: Account, call: Call, url: str) -> Answer:
        if self._api is None:
            self._api = httpx2.AsyncClient(headers={"User-Agent": USER_AGENT}, follow_redirects=False)
        headers = dict(call.headers)
        key = account.key.get_secret_value() if account.key else ""
        if call.authorize and key:
            headers["Authorization"] = f"Bearer {key}"
        files = {name: (file[0], file[1], file[2]) for name, file in call.files.items()} if call.files else None
        timeout = httpx2.Timeout(call.timeout_s, connect=15.0, pool=call.timeout_s)
        try:
            async with self._api.stream(
                call.method,
                url,
                params=dict(call.params) or None,
                json=call.json,
                content=call.content,
                files=files,
                headers=headers,
                timeout=timeout,
            ) as response:
                body = await _read(response, ANSWER_LIMIT_BYTES)
                answer = Answer(
                    response.status_code, {k.lower(): v for k, v in response.headers.items()}, _without(key, body)
                )
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError) as error:
            raise errors.NotSent(f"{account.provider.title} could not be reached ({type(error).__name__}).") from error
        except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL) as error:
            raise errors.AnswerLost(
                f"The answer of {account.provider.title} was lost ({type(error).__name__})."
            ) from error
        log.debug("%s %s %s: %s", account.provider.name, call.method, call.path, answer.status)
        return answer

    async def fetch(
        self, url: str, *, origins: frozenset[str] = frozenset(), max_bytes: int = FETCH_LIMIT_BYTES
    ) -> bytes:
        """Return what lies at a URL that somebody else wrote. `origins` are loopback origins that may be read.

        Raises: `errors.NotAllowed` for an address that is not public or a scheme that is not https, `errors.Refused`
        for a 4xx, `errors.Outage` for anything that may work later.
        """
        with anyio.move_on_after(FETCH_TIMEOUT_S):
            for _ in range(MAX_REDIRECTS + 1):
                found = await self._fetch_once(url, origins, max_bytes)
                if isinstance(found, bytes):
                    return found
                url = found
            raise errors.Refused(f"The URL redirects more than {MAX_REDIRECTS} times.")
        raise errors.Outage(f"Reading the URL took longer than {FETCH_TIMEOUT_S:.0f} s.")

    async def _fetch_once(self, url: str, origins: frozenset[str], max_bytes: int) -> bytes | str:
        """Return the bytes, or the URL that the answer redirects to."""
        if self._open is None:
            # A proxy would resolve the name itself, so the checked address could not be pinned.
            self._open = httpx2.AsyncClient(headers={"User-Agent": USER_AGENT}, follow_redirects=False, trust_env=False)
        target, headers, extensions = await self._pinned(url, origins)
        try:
            async with self._open.stream(
                "GET", target, headers=headers, extensions=extensions, timeout=httpx2.Timeout(30.0, connect=10.0)
            ) as response:
                if response.is_redirect and "location" in response.headers:
                    return str(httpx2.URL(url).join(response.headers["location"]))
                if 400 <= response.status_code < 500 and response.status_code not in (408, 429):
                    raise errors.Refused(f"The URL answered HTTP {response.status_code}.")
                if response.status_code != 200:
                    raise errors.Outage(f"The URL answered HTTP {response.status_code}.")
                return await _read(response, max_bytes)
        except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL) as error:
            raise errors.Outage(f"The URL could not be read ({type(error).__name__}).") from error

    async def _pinned(self, url: str, origins: frozenset[str]) -> tuple[str, dict[str, str], dict[str, Any]]:
        """Return the URL with its host replaced by a checked address, and what keeps Host and TLS truthful."""
        parts = _split(url)
        if _origin(url) in origins:
            return url, {}, {}
        if parts.scheme != "https" or not parts.hostname or parts.username or parts.password:
            raise errors.NotAllowed(
                f"Only https:// URLs without credentials are read; this is {errors.quoted(url, 100)}."
            )
        host, port = parts.hostname, parts.port or 443
        try:
            addresses = await anyio.to_thread.run_sync(self._resolve, host, port)
        except (OSError, UnicodeError) as error:
            raise errors.NotSent(f"The host {errors.quoted(host, 80)} cannot be resolved.") from error
        if not addresses or not all(_public(address) for address in addresses):
            raise errors.NotAllowed(
                f"The host {errors.quoted(host, 80)} is not on the public internet; only public addresses are read. "
                "Pass a local file by its path instead."
            )
        address = addresses[0]
        netloc = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        host_header = host if port == 443 else f"{host}:{port}"
        return parts._replace(netloc=netloc).geturl(), {"Host": host_header}, {"sni_hostname": host}


def first_call(account: Account, flow: Flow[Any]) -> dict[str, Any]:
    """Return a flow's first request as plain data, and send nothing: what a dry run shows.

    Bytes are described, not shown.
    """
    if account.provider.offline:
        flow.close()
        return {"method": "LOCAL", "url": None, "json": None}
    call = next(flow)
    flow.close()
    return {"method": call.method, "url": _url(account, call), "json": call.json}


def _exhaust(flow: Flow[T]) -> T:
    try:
        next(flow)
    except StopIteration as stop:
        value: T = stop.value
        return value
    raise AssertionError("an offline provider sends nothing")


def _url(account: Account, call: Call) -> str:
    base = account.base_urls.get(call.base) or account.provider.base_urls[call.base].default
    if "://" not in call.path:
        return base.rstrip("/") + call.path
    if _origin(call.path) != _origin(base):
        raise errors.NotAllowed(
            f"{account.provider.title} named a URL on another host; it is not followed with the key."
        )
    return call.path


def _split(url: str) -> Any:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise errors.NotAllowed(f"This is not a URL: {errors.quoted(url, 100)}.") from error
    return parts


def _origin(url: str) -> str:
    parts = _split(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def _public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if embedded is not None:
            return embedded.is_global and not embedded.is_multicast
        if ip in ipaddress.ip_network("64:ff9b::/96"):
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF).is_global
    return ip.is_global and not ip.is_multicast


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _without(key: str, body: bytes) -> bytes:
    return body.replace(key.encode(), b"[key]") if len(key) >= 8 else body


async def _read(response: httpx2.Response, limit_bytes: int) -> bytes:
    declared = response.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit_bytes:
        raise errors.Refused(f"The answer is larger than {limit_bytes // 1_048_576} MiB.")
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > limit_bytes:
            raise errors.Refused(f"The answer is larger than {limit_bytes // 1_048_576} MiB.")
    return bytes(body)
