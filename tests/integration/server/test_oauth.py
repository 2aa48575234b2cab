"""A server that takes the access tokens of an identity provider: who is let in, as whom, and what is said to others."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any, cast

import httpx2
import mcp_types as types
import pytest
from cryptography.hazmat.primitives import serialization
from mcp import Client, MCPError

from support.clients import sse
from support.identity_provider import BOTH, IdentityProvider, Key, handmade
from support.servers import SAMPLES, SERVE, SMALL, Child, environ
from triptych.jobs.caller import Caller
from triptych.server import tasks, tools

PUBLIC = "https://images.example.com"
RESOURCE = f"{PUBLIC}/mcp"
METADATA = f"{PUBLIC}/.well-known/oauth-protected-resource/mcp"
STATIC = "a-static-token-0123456789"
ACCEPT = {"accept": "application/json, text/event-stream"}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider("/realms/company") as provider:
        yield provider


@pytest.fixture(scope="module")
def urls(provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    env = environ(
        tmp_path_factory.mktemp("oauth"),
        TRIPTYCH_OAUTH_ISSUER=provider.issuer,
        TRIPTYCH_OAUTH_AUDIENCE=RESOURCE,
        TRIPTYCH_PUBLIC_URL=PUBLIC,
        TRIPTYCH_AUTH_TOKEN=STATIC,
        TRIPTYCH_LOG_LEVEL="DEBUG",
    )
    children = {transport: Child("-c", SERVE, transport, env=env) for transport in ("http", "sse")}
    yield {transport: child.url() for transport, child in children.items()}
    for child in children.values():
        assert child.end() == 0
        said = "".join(child.said)
        assert "Traceback" not in said and "eyJ" not in said, "a token or an accident in the log"


def bearing(token: str) -> dict[str, str]:
    return {**ACCEPT, "authorization": f"Bearer {token}"}


def modern(method: str, **params: Any) -> tuple[dict[str, Any], dict[str, str]]:
    name = params.get("name") or params.get("uri")
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": method, **({"mcp-name": name} if name else {})}
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": {**params, "_meta": META}}, headers


def post(url: str, token: str, method: str = "tools/list", **params: Any) -> httpx2.Response:
    body, headers = modern(method, **params)
    return httpx2.post(url, json=body, headers={**bearing(token), **headers}, timeout=60)


def call(url: str, token: str, tool: str, **arguments: Any) -> dict[str, Any]:
    answer = post(url, token, "tools/call", name=tool, arguments=arguments)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = result_of(answer)
    return found


def result_of(answer: httpx2.Response) -> Any:
    text = answer.text
    if "event-stream" in answer.headers["content-type"]:
        text = next(line[5:] for line in text.splitlines() if line.startswith("data:") and '"result"' in line)
    return json.loads(text)["result"]


# -- tokens that count


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aud": ["https://other.example", RESOURCE]},
        {"scope": None, "scp": BOTH},
        {"scope": None, "scp": BOTH.split()},
        {"scope": None, "roles": BOTH.split()},
        {"scope": f"openid profile {BOTH}"},
        {"lives_s": -30},
        {"begins_s": 30},
        {"iat": None},
        {"jti": 7},
        {"header": {"typ": "JWT"}},
        {"header": {"typ": None}},
        {"header": {"kid": None}},
    ],
    ids=str,
)
def test_a_right_token_lets_its_bearer_in(
    urls: dict[str, str], provider: IdentityProvider, changes: dict[str, Any]
) -> None:
    token = provider.token(changes.pop("aud", RESOURCE), **changes)
    assert post(urls["http"], token).status_code == 200


def test_static_tokens_count_beside_it_with_all_rights(urls: dict[str, str]) -> None:
    made = call(urls["http"], STATIC, "generate_sequence", prompt="a static barn", size=SMALL)
    assert made["structuredContent"]["status"] == "done"
    assert post(urls["http"], STATIC[:-1]).status_code == 401


# -- tokens that do not


def wrong_tokens(provider: IdentityProvider) -> dict[str, str]:
    """Return tokens, none of which counts."""
    now = int(time.time())
    right = provider.token(RESOURCE)
    head, body, signature = right.split(".")
    pem = (
        provider.keys[0]
        .private.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    stranger = Key("RS256", provider.keys[0].kid)
    claims = {"iss": provider.issuer, "aud": RESOURCE, "sub": "ann", "scope": BOTH, "exp": now + 600}
    kid = provider.keys[0].kid

    def signed_with_secret(secret: bytes) -> str:
        unsigned = handmade({"alg": "HS256", "kid": kid}, claims).rstrip(".")
        return f"{unsigned}.{handmade('', '', hmac.digest(secret, unsigned.encode(), hashlib.sha256))[2:]}"

    def named(key_id: Any, **header: Any) -> str:
        return provider.token(RESOURCE, key=stranger, header={"kid": key_id, **header})

    return {
        "expired": provider.token(RESOURCE, lives_s=-120),
        "not yet": provider.token(RESOURCE, begins_s=120),
        "made in the future": provider.token(RESOURCE, iat=now + 600, exp=now + 1200),
        "without an end": provider.token(RESOURCE, exp=None),
        "end is a word": provider.token(RESOURCE, exp="tomorrow"),
        "another audience": provider.token("https://other.example/mcp"),
        "a longer audience": provider.token(f"{RESOURCE}/"),
        "without an audience": provider.token(None),
        "another issuer": provider.token(RESOURCE, iss="https://evil.example"),
        "a longer issuer": provider.token(RESOURCE, iss=f"{provider.issuer}/"),
        "without an issuer": provider.token(RESOURCE, iss=None),
        "without a subject": provider.token(RESOURCE, sub=None),
        "an empty subject": provider.token(RESOURCE, sub=""),
        "a subject that is a number": provider.token(RESOURCE, sub=7),
        "signed none": handmade({"alg": "none", "kid": kid}, claims),
        "signed None with a signature": handmade({"alg": "None", "kid": kid}, claims, b"x" * 256),
        "unsigned": f"{head}.{body}.",
        "another key with the same id": named(kid),
        "HS256 with the public key": signed_with_secret(pem),
        "HS256 with nothing": signed_with_secret(b""),
        "another algorithm of the key": provider.token(RESOURCE, algorithm="PS256"),
        "an algorithm that is a list": handmade({"alg": ["RS256"], "kid": kid}, claims, b"x" * 256),
        "a key id that is a path": named("../../../../dev/null"),
        "a key id that is a URL": named("http://127.0.0.1:1/keys"),
        "a key id with SQL": named("' OR '1'='1"),
        "a long key id": named("k" * 5000),
        "a key id that is a number": handmade({"alg": "RS256", "kid": 7}, claims, b"x" * 256),
        "its own key in the header": named(kid, jwk=stranger.public()),
        "an address of its key": named("strangers", jku=f"{provider.site}/strangers", x5u=f"{provider.site}/strangers"),
        "a critical extension": provider.token(RESOURCE, header={"crit": ["exp"], "exp": now + 600}),
        "a changed body": f"{head}.{body[:-4]}AAAA.{signature}",
        "a body that is a list": handmade({"alg": "RS256", "kid": kid}, "[]", b"x" * 256),
        "nested deeply": handmade("[" * 4000, "{}"),
        "a huge one": provider.token(RESOURCE, filler="x" * 20_000),
        "four parts": f"{right}.x",
        "encrypted": f"{head}.{body}.{signature}.x.y",
        "opaque": "an-opaque-token-of-some-kind",
        "dots": "..",
        "not ASCII": "é" * 20,
    }


def test_no_wrong_token_lets_anybody_in(urls: dict[str, str], provider: IdentityProvider) -> None:
    for name, token in wrong_tokens(provider).items():
        body, headers = modern("tools/list")
        sent: list[Any] = [*{**ACCEPT, **headers}.items(), ("authorization", f"Bearer {token}".encode())]
        answer = httpx2.post(urls["http"], json=body, headers=sent)
        if name == "a huge one":  # above the limit of a head
            assert answer.status_code in (400, 401, 431)
            continue
        assert answer.status_code == 401, name
        challenge = answer.headers["www-authenticate"]
        assert f'resource_metadata="{METADATA}"' in challenge and f'scope="{BOTH}"' in challenge, name
        assert 'error="invalid_token"' in challenge, name
    assert not provider.asked["/strangers"] and not provider.asked["/dev/null"]


def test_a_401_says_why_a_genuine_token_is_refused(urls: dict[str, str], provider: IdentityProvider) -> None:
    for changes, reason in (
        ({"lives_s": -120}, "The token has expired."),
        ({"aud": "https://other.example"}, "The token is for another audience."),
    ):
        answer = post(urls["http"], provider.token(**{"audience": RESOURCE, **changes}))
        assert f'error_description="{reason}"' in answer.headers["www-authenticate"]


def test_two_authorization_headers_let_nobody_in(urls: dict[str, str], provider: IdentityProvider) -> None:
    token = provider.token(RESOURCE)
    for values in ((token, token), (token, "x"), ("x", token), (STATIC, token), (token, STATIC)):
        headers = [*ACCEPT.items(), *(("authorization", f"Bearer {value}") for value in values)]
        assert httpx2.post(urls["http"], json=modern("tools/list")[0], headers=headers).status_code == 401


def test_no_token_in_a_query_or_a_cookie_counts(urls: dict[str, str], provider: IdentityProvider) -> None:
    token = provider.token(RESOURCE)
    body = modern("tools/list")[0]
    for url, headers in (
        (f"{urls['http']}?access_token={token}", ACCEPT),
        (urls["http"], {**ACCEPT, "cookie": f"access_token={token}"}),
        (urls["http"], {**ACCEPT, "authorization": f"Basic {token}"}),
        (urls["http"], {**ACCEPT, "authorization": f"DPoP {token}"}),
    ):
        assert httpx2.post(url, json=body, headers=headers).status_code == 401


ROUTES = [
    *(("http", method, "/mcp") for method in ("POST", "GET", "DELETE")),
    *(("http", method, path) for method, path in (("POST", "/mcp/"), ("GET", "/"), ("POST", "/unknown"))),
    *(("sse", method, path) for method, path in (("GET", "/sse"), ("POST", "/messages/?session_id=" + "0" * 32))),
]


WRONG = ["without", "expired", "another audience", "signed none", "another key with the same id"]


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize(("transport", "method", "path"), ROUTES)
def test_no_route_is_open_to_a_wrong_token(
    urls: dict[str, str], provider: IdentityProvider, transport: str, method: str, path: str, kind: str
) -> None:
    token = None if kind == "without" else wrong_tokens(provider)[kind]
    headers = {**ACCEPT, **({"authorization": f"Bearer {token}"} if token else {})}
    answer = httpx2.request(method, httpx2.URL(urls[transport]).join(path), headers=headers)
    assert answer.status_code == 401
    assert f"/.well-known/oauth-protected-resource/{'mcp' if transport == 'http' else 'sse'}" in str(answer.headers)


# -- the metadata


@pytest.mark.parametrize("transport", ["http", "sse"])
def test_the_metadata_leads_to_the_issuer(urls: dict[str, str], provider: IdentityProvider, transport: str) -> None:
    path = "mcp" if transport == "http" else "sse"
    for suffix in ("", f"/{path}"):
        url = httpx2.URL(urls[transport]).join(f"/.well-known/oauth-protected-resource{suffix}")
        for headers in ({}, {"origin": "https://claude.example"}, bearing("wrong"), {"host": "images.example.com"}):
            answer = httpx2.get(url, headers=headers)
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")
            assert answer.json() == {
                "resource": f"{PUBLIC}/{path}",
                "authorization_servers": [provider.issuer],
                "scopes_supported": BOTH.split(),
                "bearer_methods_supported": ["header"],
                "resource_name": "Triptych",
            }
        head = httpx2.head(url)
        assert (head.status_code, head.content) == (200, b"")
        asked = httpx2.options(url, headers={"origin": "https://claude.example"})
        assert (asked.status_code, asked.headers["access-control-allow-headers"]) == (204, "*")
        assert httpx2.post(url).status_code == 405
        assert httpx2.get(url, headers={"host": "evil.example"}).status_code == 421


@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/oauth-protected-resource/",
        "/.well-known/oauth-protected-resource/other",
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/mcp/.well-known/oauth-protected-resource",
        "/register",
        "/authorize",
        "/token",
    ],
)
def test_the_server_is_no_authorization_server(urls: dict[str, str], path: str) -> None:
    answer = httpx2.get(httpx2.URL(urls["http"]).join(path))
    assert answer.status_code == 404 and "location" not in answer.headers


# -- scopes


def test_a_token_without_our_scopes_reads_nothing(urls: dict[str, str], provider: IdentityProvider) -> None:
    for scope in ("openid", "triptych:spend", "triptych:reader", "TRIPTYCH:READ", None):
        answer = post(urls["http"], provider.token(RESOURCE, scope=scope))
        challenge = answer.headers["www-authenticate"]
        assert answer.status_code == 403
        assert 'error="insufficient_scope"' in challenge and f'scope="{BOTH}"' in challenge and METADATA in challenge


PAYING = {
    "upload_images": {"images": [str(SAMPLES / "cat.jpg")]},
    "edit_sequence": {"images": [str(SAMPLES / "cat.jpg")], "prompt": "warmer"},
    "edit_chain": {"images": [str(SAMPLES / "cat.jpg")], "steps": ["warmer"]},
    "generate_sequence": {"prompt": "a barn", "dry_run": True},
    "cancel_job": {"job_id": "job_12345678"},
}
FREE = {
    "get_status": {"job_id": "job_12345678"},
    "list_jobs": {},
    "list_models": {},
    "view_images": {"images": [str(SAMPLES / "cat.jpg")]},
    "save_images": {"images": ["img_00000000"], "directory": str(SAMPLES)},
}


@pytest.mark.parametrize("tool", PAYING)
def test_who_may_only_read_is_asked_for_more(urls: dict[str, str], provider: IdentityProvider, tool: str) -> None:
    reader = provider.token(RESOURCE, scope="triptych:read")
    for body, headers in (
        modern("tools/call", name=tool, arguments=PAYING[tool]),
        ({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": PAYING[tool]}}, {}),
    ):
        answer = httpx2.post(urls["http"], json=body, headers={**bearing(reader), **headers})
        challenge = answer.headers["www-authenticate"]
        assert answer.status_code == 403
        assert 'error="insufficient_scope"' in challenge and f'scope="{BOTH}"' in challenge and METADATA in challenge
        said = answer.json()
        assert said["id"] == 7 and "lacks the scope triptych:spend" in said["error"]["message"]
        assert "Nothing was sent" in said["error"]["message"]


@pytest.mark.parametrize("tool", FREE)
def test_who_may_only_read_reads(urls: dict[str, str], provider: IdentityProvider, tool: str) -> None:
    reader = provider.token(RESOURCE, scope="triptych:read")
    answer = post(urls["http"], reader, "tools/call", name=tool, arguments=FREE[tool])
    assert answer.status_code == 200 and "scope" not in answer.text


def test_every_tool_is_either_paying_or_free() -> None:
    assert set(PAYING) == tools.SPENDING
    assert set(PAYING) | set(FREE) == set(tools.TOOLS)


# -- the transport where an answer cannot carry a status, and what else may pay


@pytest.mark.anyio
@pytest.mark.parametrize("tool", PAYING)
async def test_over_sse_the_tool_itself_refuses(urls: dict[str, str], provider: IdentityProvider, tool: str) -> None:
    headers = {"Authorization": f"Bearer {provider.token(RESOURCE, scope='triptych:read')}"}
    async with Client(sse(urls["sse"], headers=headers)) as client:
        result = await client.call_tool(tool, PAYING[tool])
        said = result.content[0]
        assert result.is_error and isinstance(said, types.TextContent)
        assert "lacks the scope triptych:spend. Nothing was sent." in said.text and said.text.endswith("[no_scope]")


@pytest.mark.anyio
async def test_a_reader_cancels_no_task_either() -> None:
    with pytest.raises(MCPError, match="triptych:spend"):
        await tasks.cancel(cast("Any", None), "job_12345678", Caller(may_spend=False))


def test_a_body_that_hides_its_tool_is_stopped_all_the_same(urls: dict[str, str], provider: IdentityProvider) -> None:
    reader = {**bearing(provider.token(RESOURCE, scope="triptych:read")), "content-type": "application/json"}
    asking = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"%s","arguments":{"prompt":"a barn"}}}'
    for body, status in (
        (asking % "generate\\u005fsequence", 403),
        (f"[{asking % 'generate_sequence'}]", 403),
        ("[" * 100_000, 400),
        (" " * 4_194_305, 413),
        ("", 400),
    ):
        answer = httpx2.post(urls["http"], content=body, headers=reader)
        assert answer.status_code == status, body[:80]
    twice = (asking % "list_jobs").replace('"name":"list_jobs"', '"name":"list_jobs","name":"generate_sequence"')
    assert httpx2.post(urls["http"], content=twice, headers=reader).status_code == 403
