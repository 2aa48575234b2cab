"""Signing in, judged by others: the official clients' OAuth, and the official suite on the provider that we test with.

The suite's scenarios of authorization are for clients (`auth/…`) and for authorization servers; it has none for a
resource server. So the official clients, which those scenarios judge, sign in here, and the suite judges the provider
on loopback that the other tests rely on.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata

from support import ROOT
from support.identity_provider import BOTH, IdentityProvider
from support.servers import SERVE, SMALL, Child, environ

ORACLES = ROOT / ".oracles"
CLIENTS = ORACLES / "judges"
RESOURCE = "http://127.0.0.1:8765/mcp"
JUDGES = Path(__file__).parent / "judges"
SIGN_IN = JUDGES / "sign_in.mjs"


@pytest.fixture(params=["", "/realms/company"])
def provider(request: pytest.FixtureRequest) -> Iterator[IdentityProvider]:
    with IdentityProvider(request.param, "ES256") as provider:
        yield provider


@pytest.fixture
def url(provider: IdentityProvider, tmp_path: Path) -> Iterator[str]:
    server = Child("-c", SERVE, "http", env=environ(tmp_path, TRIPTYCH_OAUTH_ISSUER=provider.issuer))
    yield server.url()
    assert server.end() == 0, "".join(server.said)


def signed_in(node: str, which: str, url: str) -> dict[str, Any]:
    done = subprocess.run(
        [node, str(SIGN_IN), which, url, str(CLIENTS)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.parametrize("which", ["modern", "classic"])
@pytest.mark.parametrize("first", [None, "triptych:read"])
def test_the_typescript_clients_sign_in(
    node: str, provider: IdentityProvider, url: str, which: str, first: str | None
) -> None:
    if not (CLIENTS / "node_modules").is_dir():
        pytest.skip("the TypeScript clients are not installed; run scripts/oracles (it needs npm)")
    provider.grants = [first] if first else []
    found = signed_in(node, which, url)
    times = 2 if first else 1
    assert found["tools"] == 10 and found["status"] == "done"
    assert found["asked"] == [{"scope": BOTH, "resource": url}] * times, "a call that needs more asks once more"
    assert sorted(found["granted"].split()) == BOTH.split()


@pytest.mark.anyio
@pytest.mark.parametrize("first", [None, "triptych:read"])
async def test_the_python_client_signs_in(provider: IdentityProvider, url: str, first: str | None) -> None:
    provider.grants = [first] if first else []
    place: list[httpx2.URL] = []

    async def open_page(page: str) -> None:
        async with httpx2.AsyncClient() as browser:
            place.append(httpx2.URL((await browser.get(page)).headers["location"]))

    async def come_back() -> AuthorizationCodeResult:
        given = place[-1].params
        return AuthorizationCodeResult(code=given["code"], state=given["state"], iss=given["iss"])

    metadata = OAuthClientMetadata.model_validate(
        {"redirect_uris": ["http://127.0.0.1:9/callback"], "client_name": "judge", "token_endpoint_auth_method": "none"}
    )
    auth = OAuthClientProvider(url, metadata, Kept(), open_page, come_back)
    with anyio.fail_after(60):
        async with (
            httpx2.AsyncClient(auth=auth, timeout=60) as web,
            Client(streamable_http_client(url, http_client=web)) as client,
        ):
            assert len((await client.list_tools()).tools) == 10
            made = await client.call_tool("generate_sequence", {"prompt": "a barn", "size": SMALL})
            assert made.structured_content and made.structured_content["status"] == "done"
    assert len(place) == (2 if first else 1)


@pytest.mark.oracle
@pytest.mark.slow
def test_the_suite_finds_no_fault_in_the_provider(node: str, provider: IdentityProvider, tmp_path: Path) -> None:
    suite = ORACLES / "conformance" / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    if not suite.exists():
        pytest.skip("the conformance suite is not installed; run scripts/oracles (it needs npm)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    provider.register("judge", redirect_uris=[f"http://127.0.0.1:{port}/callback"])
    told = ("--client-id", "judge", "--resource", RESOURCE, "--port", str(port), "--output-dir", str(tmp_path))
    command = [node, str(suite), "authorization", "--url", provider.issuer, *told]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as running:
        try:
            assert running.stdout
            for line in running.stdout:
                if "/authorize?" in line:
                    visit(line.strip())
        finally:
            running.kill()
    checks = [check for path in tmp_path.glob("*/checks.json") for check in json.loads(path.read_text("utf-8"))]
    warned = [check["description"] for check in checks if check["status"] == "WARNING"]
    assert all("client_id_metadata_document" in text for text in warned), "the provider registers clients instead"
    assert len(checks) >= 2 and {check["status"] for check in checks} <= {"SUCCESS", "INFO", "WARNING"}, checks


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
def test_the_suite_finds_no_more_behind_a_sign_in(node: str, tmp_path: Path, revision: str) -> None:
    suite = ORACLES / "conformance" / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    if not suite.exists():
        pytest.skip("the conformance suite is not installed; run scripts/oracles (it needs npm)")
    expected = tmp_path / "expected.yml"
    listed = (JUDGES / "shipped.yml").read_text("utf-8").rstrip()
    # This scenario sends its requests past `fetch`, and so without the token: also the right ones get 401.
    expected.write_text(f"{listed}\n  - dns-rebinding-protection # without a token\n", "utf-8")
    with IdentityProvider(algorithm="ES256") as provider:
        server = Child("-c", SERVE, "http", env=environ(tmp_path / "home", TRIPTYCH_OAUTH_ISSUER=provider.issuer))
        try:
            url = server.url()
            bearing = {"NODE_OPTIONS": f"--import {(JUDGES / 'bearing.mjs').as_uri()}", "BEARER": provider.token(url)}
            told = ("--requirements", revision, "--expected-failures", str(expected), "-o", str(tmp_path / "out"))
            done = subprocess.run(
                [node, str(suite), "server", "--url", url, *told],
                capture_output=True,
                text=True,
                encoding="utf-8",
                timeout=180,
                check=False,
                env={**os.environ, **bearing},
            )
        finally:
            assert server.end() == 0, "".join(server.said)
    assert done.returncode == 0, done.stdout[-3000:]


def visit(page: str) -> None:
    """Open the page as a person's browser does; the suite listens for its redirect a moment later."""
    end_s = time.monotonic() + 30
    while True:
        try:
            httpx2.get(page, follow_redirects=True)
        except httpx2.ConnectError:
            assert time.monotonic() < end_s
            time.sleep(0.1)
        else:
            return


class Kept:
    """The client's storage."""

    def __init__(self) -> None:
        self.tokens: Any = None
        self.client: Any = None

    async def get_tokens(self) -> Any:
        return self.tokens

    async def set_tokens(self, tokens: Any) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> Any:
        return self.client

    async def set_client_info(self, client_info: Any) -> None:
        self.client = client_info
