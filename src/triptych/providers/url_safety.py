"""Checks of URLs and addresses: which may be read, which may get a key, which proxy is used.

Pure, except `resolve` and `proxy_for`. URLs are parsed by httpx2, which also sends the requests, so that the check and
the request use the same host. The first URL imports httpx2: a command that only reads the database has none.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from triptych.core import errors

if TYPE_CHECKING:
    import httpx2

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_SITE = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[^\s/?#@:%\\\[\]]+)(?::([1-9][0-9]{0,4}))?", re.IGNORECASE | re.ASCII)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"\[[0-9a-f:.]+\]|{_LABEL}(?:\.{_LABEL})*")
_OWN_PORT = {"https": "443", "http": "80"}
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")


@lru_cache(maxsize=256)
def parsed(url: str) -> httpx2.URL:
    """Return a parsed URL.

    Raises: `errors.NotAllowed` for a text that is not a URL.
    """
    import httpx2

    try:
        return httpx2.URL(url)
    except (httpx2.InvalidURL, UnicodeError) as error:
        raise errors.NotAllowed(f"This is not a URL: {errors.quoted(url, 100)}.") from error


def may_carry_key(url: str) -> bool:
    """Return whether a base URL may be sent a key: https, or plain http to this machine; no credentials in it."""
    import httpx2

    try:
        httpx_url = httpx2.URL(url)
    except (httpx2.InvalidURL, UnicodeError):
        return False
    safe = httpx_url.scheme == "https" or (httpx_url.scheme == "http" and httpx_url.host in LOOPBACK)
    return safe and bool(httpx_url.host) and not httpx_url.userinfo and 0 < (httpx_url.port or 443) < 65536


@lru_cache(maxsize=256)
def origin(url: str) -> str:
    """Return scheme, host and port, the port spelled out.

    Raises: `errors.NotAllowed` for a text that is not a URL.
    """
    httpx_url = parsed(url)
    port = httpx_url.port or {"https": 443, "http": 80}.get(httpx_url.scheme, 0)
    return f"{httpx_url.scheme}://{httpx_url.host}:{port}"


@lru_cache(maxsize=256)
def site(url: str) -> str | None:
    """Return scheme, host and port as a browser's `Origin` header spells them; None for anything else, and for a path.

    Scheme and host are in lower case, a name is in its ASCII form, an IPv6 address in its shortest one, and the port is
    left out where it is the scheme's own. `https://Example.com:443` and `https://example.com` are the same site.
    """
    found = _SITE.fullmatch(url)
    if not found or int(found[3] or 1) > 65535:
        return None
    import httpx2

    scheme, host, port = found[1].lower(), found[2].lower(), found[3]
    try:
        if host.startswith("["):
            host = f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
        else:
            host = httpx2.URL(f"https://{host}").raw_host.decode("ascii")
            if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", host.rpartition(".")[2]):
                host = str(ipaddress.IPv4Address(host))
    except (ValueError, UnicodeError, httpx2.InvalidURL):
        return None
    if not _HOST.fullmatch(host):
        return None
    return f"{scheme}://{host}" if port in (None, _OWN_PORT[scheme]) else f"{scheme}://{host}:{port}"


def is_public(address: str) -> bool:
    """Return whether an IP address is on the public internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        # For an address that stands for an IPv4 address, that one is checked.
        inner = ip.ipv4_mapped or ip.sixtofour or (ipaddress.IPv4Address(ip.packed[12:]) if ip in _NAT64 else None)
        if inner is None:
            return ip in _GLOBAL_UNICAST and ip.is_global
        ip = inner
    return ip.is_global and not ip.is_multicast


def resolve(host: str, port: int) -> list[str]:
    """Return a host's addresses. Raises: `OSError` when it has none."""
    import socket

    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_name(host: str) -> bool:
    """Return whether a host can only be a name in the DNS: not an address in any notation, not this machine."""
    labels = host.casefold().rstrip(".").split(".")
    number = re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1])
    return len(labels) > 1 and labels[-1] != "localhost" and not number and ":" not in host


def proxy_for(host: str, port: int) -> str | None:
    """Return the URL of the environment's or system's proxy for https to a host; None without one."""
    from urllib.request import getproxies, proxy_bypass

    named = getproxies()
    url = named.get("https") or named.get("all")
    if not url or proxy_bypass(f"{host}:{port}"):
        return None
    return url if "://" in url else f"http://{url}"
