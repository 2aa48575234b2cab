"""The name that clients use: which Host and Origin are answered, who is let in, and what is said about it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.responses import PlainTextResponse

from support.servers import SERVE, Child, environ
from triptych import settings
from triptych.core import errors
from triptych.providers.url_safety import site
from triptych.server import sites
from triptych.server.http import own_names

TOKEN = "a-long-random-text"
PUBLIC = "https://images.example.com"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
HEADERS = {"accept": "application/json, text/event-stream", "authorization": f"Bearer {TOKEN}"}


# -- the setting


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("https://images.example.com", PUBLIC),
        ("https://images.example.com/", PUBLIC),
        (" HTTPS://Images.Example.COM:443\n", PUBLIC),
        ("https://images.example.com:80", f"{PUBLIC}:80"),
        ("http://images.example.com:80", "http://images.example.com"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("http://localhost:8765", "http://localhost:8765"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://XN--BCHER-KVA.example", "https://xn--bcher-kva.example"),
        ("https://[2001:DB8:0:0::7]:8443", "https://[2001:db8::7]:8443"),
        ("https://my_machine", "https://my_machine"),
        ("", None),
        ("  ", None),
    ],
)
def test_a_public_url_is_read_as_a_browser_spells_it(value: str, read: str | None) -> None:
    assert settings.read({"TRIPTYCH_PUBLIC_URL": value}, remote=True).public_url == read


@pytest.mark.parametrize(
    "value",
    [
        *(
            "images.example.com",
            "images.example.com:443",
            "//images.example.com",
            "https:/images.example.com",
            "https://",
        ),
        *(
            "https://images.example.com/mcp",
            "https://images.example.com//",
            "https://images.example.com/?",
            "https://a#b",
        ),
        *(
            "https://me@images.example.com",
            "https://me:secret@images.example.com",
            "ftp://images.example.com",
            "httpſ://a",
        ),
        *(
            "https://images.example.com:",
            "https://images.example.com:0",
            "https://a:65536",
            "https://a:080",
            "https://a:x",
        ),
        *(
            "https://images.example.com.",
            "https://.example.com",
            "https://a..b",
            "https://-a.example",
            "https://*.example",
        ),
        *("https://a b.example", "https://a,b", "https://a\\b", "https://a%2eb", "https://a\x00b", "https://①.example"),
        *("https://0x7f.1", "https://127.1", "https://1.2.3.4.5", "https://[::1", "https://[::g]", "https://::1"),
        *("http://0.0.0.0:8765", "https://[::]", "${TRIPTYCH_PUBLIC_URL}", f"https://{'a' * 64}.example"),
    ],
)
def test_a_mistyped_public_url_is_refused_with_an_example(value: str) -> None:
    with pytest.raises(errors.BadRequest, match=r"TRIPTYCH_PUBLIC_URL.*https://images\.example\.com") as refused:
        settings.read({"TRIPTYCH_PUBLIC_URL": value}, remote=True)
    assert "Leave out any path" in refused.value.message


def started(tmp_path: Path, host: str = "127.0.0.1", **env: str) -> Any:
    serve = SERVE.replace("127.0.0.1", host)
    return subprocess.run(
        [sys.executable, "-c", serve, "http"],
        env=environ(tmp_path, **env),
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_a_public_url_that_others_reach_needs_a_token(tmp_path: Path) -> None:
    ended = started(tmp_path, TRIPTYCH_PUBLIC_URL=PUBLIC)
    assert ended.returncode == 2 and b"Traceback" not in ended.stderr
    assert (
        b"TRIPTYCH_PUBLIC_URL is https://images.example.com" in ended.stderr and b"TRIPTYCH_AUTH_TOKEN" in ended.stderr
    )


# -- Host and Origin


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("public", "host", "origin", "status"),
    [
        (PUBLIC, "images.example.com", None, 200),
        (PUBLIC, "Images.EXAMPLE.com:443", None, 200),
        (PUBLIC, "images.example.com", "https://images.example.com", 200),
        (PUBLIC, "images.example.com", "https://images.example.com:443", 200),
        (PUBLIC, "127.0.0.1:8765", "https://images.example.com", 200),
        (PUBLIC, "localhost", "http://localhost:3000", 200),
        ("http://images.example.com:8080", "images.example.com:8080", "http://images.example.com:8080", 200),
        ("https://[2001:db8::7]:8443", "[2001:DB8:0::7]:8443", "https://[2001:db8::7]:8443", 200),
        ("https://xn--bcher-kva.example", "xn--bcher-kva.example", "https://xn--bcher-kva.example", 200),
        *(
            (PUBLIC, host, None, 421)
            for host in (
                *("images.example.com:80", "images.example.com:8443", "images.example.com:", "images.example.com:0443"),
                *("evil-images.example.com", "images.example.com.evil.com", "example.com", "a.images.example.com"),
                *("images.example.com.", "images.example.com/", "me@images.example.com", "images.example.com:443/x"),
                *("https://images.example.com", "images.example.com, evil.com", "images.example.com evil.com", ""),
            )
        ),
        *(
            (PUBLIC, "images.example.com", origin, 403)
            for origin in (
                *("http://images.example.com", "https://images.example.com:8443", "https://images.example.com/"),
                *("https://images.example.com.evil.com", "https://evil-images.example.com", "https://example.com"),
                *("https://me@images.example.com", "null", "", "HTTPS://images.example.com", "images.example.com"),
            )
        ),
        ("http://images.example.com:8080", "images.example.com", None, 421),
        ("https://xn--bcher-kva.example", "bücher.example", None, 421),
        (None, "images.example.com", None, 421),
    ],
)
async def test_the_public_site_is_matched_exactly(
    public: str | None, host: str, origin: str | None, status: int
) -> None:
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("in")(scope, receive, send)

    answers: list[int] = []

    async def send(message: Any) -> None:
        answers.extend([message["status"]] if "status" in message else [])

    headers = [(b"host", host.encode())] + ([(b"origin", origin.encode())] if origin is not None else [])
    await sites.OwnNames(inner, own_names("127.0.0.1"), public)({"type": "http", "headers": headers}, None, send)  # type: ignore[arg-type]
    assert answers == [status]


def test_two_sites_are_equal_only_in_every_part() -> None:
    assert site("https://a.example") != site("http://a.example") != site("http://a.example:443")
    assert site("HTTPS://A.example:443") == site("https://a.example") == "https://a.example"


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Child]]:
    """Both transports as they stand behind a proxy that sends the public Host."""
    env = environ(tmp_path_factory.mktemp("public"), TRIPTYCH_AUTH_TOKEN=TOKEN, TRIPTYCH_PUBLIC_URL=f"{PUBLIC}/")
    children = {transport: Child("-c", SERVE, transport, env=env) for transport in ("http", "sse")}
    yield children
    assert [child.end() for child in children.values()] == [0, 0]


@pytest.fixture(scope="module")
def urls(behind: dict[str, Child]) -> dict[str, str]:
    return {transport: child.url() for transport, child in behind.items()}


@pytest.mark.parametrize("transport", ["http", "sse"])
def test_a_server_names_its_address_and_its_public_url(
    behind: dict[str, Child], urls: dict[str, str], transport: str
) -> None:
    said = "".join(behind[transport].said)
    path = {"http": "mcp", "sse": "sse"}[transport]
    assert f"Clients reach it at {PUBLIC}/{path}\n" in said and f"is listening on {urls[transport]}\n" in said


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("images.example.com", 200),
        ("IMAGES.example.com:443", 200),
        ("127.0.0.1:1", 200),
        ("images.example.com:80", 421),
    ],
)
def test_a_server_answers_to_its_public_name(urls: dict[str, str], host: str, status: int) -> None:
    headers = {**HEADERS, "host": host}
    assert httpx2.post(urls["http"], json=INITIALIZE, headers=headers).status_code == status
    with httpx2.stream("GET", urls["sse"], headers=headers) as stream:
        assert stream.status_code == status


def test_only_a_page_of_the_public_site_may_ask(urls: dict[str, str]) -> None:
    for origin, status in ((PUBLIC, 200), ("http://images.example.com", 403), ("https://example.com", 403)):
        headers = {**HEADERS, "host": "images.example.com", "origin": origin}
        assert httpx2.post(urls["http"], json=INITIALIZE, headers=headers).status_code == status


# -- where clients look for OAuth

WELL_KNOWN = ("oauth-protected-resource", "oauth-authorization-server", "openid-configuration", "anything")
LOOKED_AT = [
    *(f"/.well-known/{name}{end}" for name in WELL_KNOWN for end in ("", "/mcp", "/sse")),
    *(f"/{transport}/.well-known/{name}" for name in WELL_KNOWN for transport in ("mcp", "sse")),
    *(f"{start}/{name}" for name in ("register", "authorize", "token", "revoke") for start in ("", "/mcp", "/sse")),
    *("/register/mcp", "/token/", "/.well-known/", "/.well-known", "/authorize?response_type=code&client_id=x"),
]


@pytest.mark.parametrize("path", LOOKED_AT)
@pytest.mark.parametrize("transport", ["http", "sse"])
def test_no_oauth_is_answered_404_and_asks_for_no_token(urls: dict[str, str], transport: str, path: str) -> None:
    url = httpx2.URL(urls[transport]).join(path)
    for authorization in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Bearer {TOKEN}"}):
        for method in ("GET", "POST", "OPTIONS", "HEAD"):
            answer = httpx2.request(method, url, headers=authorization)
            assert (answer.status_code, "www-authenticate" in answer.headers) == (404, False), method


@pytest.mark.parametrize(
    "path", ["/", "/mcp/x", "/registered", "/tokens", "/.well-knownx", "/x/.well-known/y", "/files"]
)
def test_every_other_path_still_asks_for_a_token(urls: dict[str, str], path: str) -> None:
    for url in urls.values():
        assert httpx2.get(httpx2.URL(url).join(path)).status_code == 401


def test_the_host_is_checked_before_a_look_for_oauth(urls: dict[str, str]) -> None:
    url = httpx2.URL(urls["http"]).join("/.well-known/oauth-protected-resource")
    assert httpx2.get(url, headers={"host": "evil.example"}).status_code == 421


@pytest.mark.parametrize(
    ("authorization", "challenge"),
    [
        (None, 'Bearer realm="triptych"'),
        ("", 'Bearer realm="triptych"'),
        ("Bearer", 'Bearer realm="triptych"'),
        ("Basic dXNlcjpwYXNz", 'Bearer realm="triptych"'),
        ("Bearer wrong", 'Bearer realm="triptych", error="invalid_token"'),
        ("bearer  wrong", 'Bearer realm="triptych", error="invalid_token"'),
    ],
)
def test_a_401_names_an_error_only_for_a_sent_token(
    urls: dict[str, str], authorization: str | None, challenge: str
) -> None:
    for url in urls.values():
        answer = httpx2.get(url, headers={"authorization": authorization} if authorization is not None else {})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, challenge)
