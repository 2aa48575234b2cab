"""What the server asks its identity provider, how often, and what it says while that one does not answer."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.warnings import InsecureKeyLengthWarning
from mcp.server.auth.provider import AccessToken

from support.clocks import FakeClock
from support.identity_provider import BOTH, SERVER_ID, SERVER_SECRET, IdentityProvider, Key
from triptych import settings
from triptych.core import errors
from triptych.core.secret import SecretStr
from triptych.providers import operator_urls
from triptych.server import introspection, oauth, signing_keys
from triptych.server.scopes import IssuerAway, Rejected, Resource

pytestmark = pytest.mark.anyio

RESOURCE = "https://images.example.com/mcp"


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider(algorithm="ES256") as provider:  # its keys are made quickly
        yield provider


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def opened(provider: IdentityProvider, clock: FakeClock | None = None, **changes: Any) -> oauth.OAuth:
    environ = {"TRIPTYCH_OAUTH_ISSUER": provider.issuer, **changes}
    read = settings.read(environ, remote=True)
    assert read.oauth
    resource = Resource(RESOURCE, read.oauth.issuer, read.oauth.scope_prefix)
    return oauth.OAuth(read.oauth, resource, tuple(read.setup.group_budgets_usd), clock)


def with_introspection(provider: IdentityProvider, clock: FakeClock | None = None) -> oauth.OAuth:
    return opened(
        provider,
        clock,
        TRIPTYCH_OAUTH_INTROSPECTION_URL=f"{provider.site}/introspect",
        TRIPTYCH_OAUTH_CLIENT_ID=SERVER_ID,
        TRIPTYCH_OAUTH_CLIENT_SECRET=SERVER_SECRET,
    )


def owner(access: AccessToken) -> str:
    return access.client_id


# -- where the keys are


def test_metadata_is_looked_for_where_the_standards_put_it() -> None:
    assert signing_keys.metadata_urls("https://id.example") == [
        "https://id.example/.well-known/oauth-authorization-server",
        "https://id.example/.well-known/openid-configuration",
    ]
    assert signing_keys.metadata_urls("https://id.example/realms/a/") == [
        "https://id.example/.well-known/oauth-authorization-server/realms/a",
        "https://id.example/.well-known/openid-configuration/realms/a",
        "https://id.example/realms/a/.well-known/openid-configuration",
    ]
    assert signing_keys.metadata_urls("https://id.example:8443/")[0].startswith("https://id.example:8443/.well-known/")


@pytest.mark.parametrize("path", ["", "/", "/tenant/v2.0", "/tenant/"])
@pytest.mark.parametrize("kind", [0, 1, -1])
async def test_every_place_of_the_metadata_is_found(path: str, kind: int) -> None:
    with IdentityProvider(path, "ES256") as provider:
        place = signing_keys.metadata_urls(provider.issuer)[kind]
        provider.paths = {place.removeprefix(provider.site)}
        access = await opened(provider).verify_token(provider.token(RESOURCE))
        assert access.scopes == BOTH.split()


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example"},
        {"jwks_uri": "http://keys.example/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": None},
        {"jwks_uri": ["https://keys.example"]},
    ],
    ids=str,
)
async def test_metadata_that_is_wrong_gives_no_keys(provider: IdentityProvider, metadata: dict[str, Any]) -> None:
    provider.metadata = metadata
    with pytest.raises(IssuerAway):
        await opened(provider).verify_token(provider.token(RESOURCE))
    assert not provider.asked["/keys"]


async def test_a_redirect_is_not_followed(provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = provider.answer

    def redirecting(path: str, *rest: Any) -> Any:
        if path == "/keys":
            return 302, {"Location": f"{provider.site}/others"}, {}
        return answer(path, *rest)

    monkeypatch.setattr(provider, "answer", redirecting)
    with pytest.raises(IssuerAway):
        await opened(provider).verify_token(provider.token(RESOURCE))
    assert not provider.asked["/others"]


async def test_an_answer_above_the_limit_is_not_read(
    provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator_urls, "LIMIT_BYTES", 300)
    with pytest.raises(IssuerAway):
        await opened(provider).verify_token(provider.token(RESOURCE))


async def test_the_operators_urls_go_over_https_alone() -> None:
    for url in (
        "http://id.example/keys",
        "http://127.0.0.1.evil.example/",
        "ftp://id.example",
        "https://a:b@id.example",
    ):
        with pytest.raises(errors.NotAllowed):
            await operator_urls.OperatorUrls().read_json(url)


# -- keys


@pytest.mark.parametrize("algorithm", signing_keys.ALGORITHMS)
async def test_every_asymmetric_algorithm_counts(algorithm: str) -> None:
    with IdentityProvider(algorithm=algorithm) as provider:
        assert (await opened(provider).verify_token(provider.token(RESOURCE))).scopes


async def test_a_new_key_is_read_once_and_counts(provider: IdentityProvider, clock: FakeClock) -> None:
    door = opened(provider, clock)
    first = provider.token(RESOURCE)
    await door.verify_token(first)
    assert provider.asked["/keys"] == 1
    clock.advance(signing_keys.AGAIN_S)
    provider.rotate()
    await door.verify_token(provider.token(RESOURCE))
    assert provider.asked["/keys"] == 2
    with pytest.raises(Rejected):
        await door.verify_token(first)


async def test_a_flood_of_unknown_keys_costs_one_reading_a_minute(provider: IdentityProvider, clock: FakeClock) -> None:
    door = opened(provider, clock)
    await door.verify_token(provider.token(RESOURCE))
    stranger = Key("ES256", "strangers")
    for minute in range(3):
        for n in range(20):
            with pytest.raises(Rejected):
                await door.verify_token(provider.token(RESOURCE, key=stranger, header={"kid": f"{minute}-{n}"}))
        assert provider.asked["/keys"] == 1 + minute
        clock.advance(signing_keys.AGAIN_S)


async def test_tokens_at_once_share_one_reading(provider: IdentityProvider) -> None:
    door, token = opened(provider), provider.token(RESOURCE)
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(door.verify_token, token)
    assert provider.asked["/keys"] == 1


async def test_a_withdrawn_key_ends_within_a_quarter_of_an_hour(provider: IdentityProvider, clock: FakeClock) -> None:
    door, token = opened(provider, clock), provider.token(RESOURCE)
    await door.verify_token(token)
    provider.rotate()
    clock.advance(signing_keys.FRESH_S - 1)
    await door.verify_token(token)
    clock.advance(1)
    with pytest.raises(Rejected):
        await door.verify_token(token)


async def test_known_keys_go_on_working_without_the_provider(provider: IdentityProvider, clock: FakeClock) -> None:
    door = opened(provider, clock)
    await door.verify_token(provider.token(RESOURCE))
    provider.away = True
    clock.advance(10 * signing_keys.FRESH_S)
    assert (await door.verify_token(provider.token(RESOURCE))).scopes
    provider.rotate()
    with pytest.raises(IssuerAway) as away:
        await door.verify_token(provider.token(RESOURCE))
    assert 1 <= away.value.retry_after_s <= signing_keys.AGAIN_S
    provider.away = False
    clock.advance(signing_keys.AGAIN_S)
    assert (await door.verify_token(provider.token(RESOURCE))).scopes


async def test_a_provider_that_starts_later_is_found_soon(provider: IdentityProvider, clock: FakeClock) -> None:
    door, provider.away = opened(provider, clock), True
    for _ in range(3):
        with pytest.raises(IssuerAway) as away:
            await door.verify_token(provider.token(RESOURCE))
    assert away.value.retry_after_s == signing_keys.FIRST_AGAIN_S
    assert provider.asked["/.well-known/oauth-authorization-server"] == 1
    provider.away = False
    clock.advance(signing_keys.FIRST_AGAIN_S)
    assert (await door.verify_token(provider.token(RESOURCE))).scopes


async def test_keys_that_are_none_hide_no_other(provider: IdentityProvider) -> None:
    right = provider.keys[0].public()
    provider.listed = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "key-1", "alg": "HS256"},
        {**right, "use": "enc"},
        {"kty": "RSA", "n": "!", "e": "AQAB", "kid": "key-1"},
        {"kty": ["RSA"]},
        "text",  # type: ignore[list-item]
        None,  # type: ignore[list-item]
        right,
    ]
    assert (await opened(provider).verify_token(provider.token(RESOURCE))).scopes
    provider.listed = [{**right, "use": "enc"}]
    with pytest.raises(IssuerAway):
        await opened(provider).verify_token(provider.token(RESOURCE))


async def test_a_small_key_is_not_trusted() -> None:
    with IdentityProvider() as provider:
        provider.keys[0].private = rsa.generate_private_key(65537, 1024)
        with pytest.warns(InsecureKeyLengthWarning):
            token = provider.token(RESOURCE)
        with pytest.raises(Rejected):
            await opened(provider).verify_token(token)


async def test_a_huge_token_is_refused_unread(provider: IdentityProvider) -> None:
    with pytest.raises(Rejected):
        await opened(provider).verify_token(provider.token(RESOURCE, filler="x" * oauth.TOKEN_LIMIT_CHARS))
    assert not provider.asked


# -- who it is


async def test_an_owner_is_the_hash_of_issuer_and_subject(provider: IdentityProvider) -> None:
    door = opened(provider)
    ann, again, ben = [owner(await door.verify_token(provider.token(RESOURCE, sub=sub))) for sub in ("a", "a", "b")]
    assert ann == again != ben
    assert ann == oauth.owner_of(provider.issuer, "a") != oauth.owner_of(f"{provider.issuer}/", "a")
    assert oauth.owner_of("https://a", 'b"c') != oauth.owner_of('https://a"b', "c")
    assert len(ann) == len("oauth:") + 32


@pytest.mark.parametrize(
    ("groups", "found"),
    [
        (["press", "design"], "design"),
        (["press"], "press"),
        ("press", "press"),
        ("the press", None),
        (["/design", "Design", "designs"], None),
        ([["design"]], None),
        ({"design": True}, None),
        (None, None),
    ],
)
async def test_the_first_group_of_the_setting_is_the_callers(
    provider: IdentityProvider, groups: Any, found: str | None
) -> None:
    budgets = {"TRIPTYCH_GROUP_BUDGETS_USD": "design=20, press=5"}
    access = await opened(provider, **budgets).verify_token(provider.token(RESOURCE, groups=groups))
    assert (access.claims or {})["group"] == found
    door = opened(provider, TRIPTYCH_OAUTH_GROUPS_CLAIM="https://example.com/teams", **budgets)
    access = await door.verify_token(provider.token(RESOURCE, **{"https://example.com/teams": groups}))
    assert (access.claims or {})["group"] == found


async def test_scopes_may_have_the_providers_prefix(provider: IdentityProvider) -> None:
    door = opened(provider, TRIPTYCH_OAUTH_SCOPE_PREFIX="api://triptych/")
    assert door.resource.scopes() == ["api://triptych/triptych:read", "api://triptych/triptych:spend"]
    for scope in ("api://triptych/triptych:read", "triptych:read"):
        assert (await door.verify_token(provider.token(RESOURCE, scope=scope))).scopes == ["triptych:read"]


# -- introspection


def known(provider: IdentityProvider, **changes: Any) -> dict[str, Any]:
    right = {"active": True, "iss": provider.issuer, "aud": RESOURCE, "sub": "ann", "scope": BOTH}
    right["exp"] = int(time.time()) + 600
    return {name: value for name, value in {**right, **changes}.items() if value is not None}


async def test_an_opaque_token_counts_if_the_provider_says_so(provider: IdentityProvider) -> None:
    provider.opaque["right"] = known(provider)
    door = with_introspection(provider)
    access = await door.verify_token("right")
    signed = await door.verify_token(provider.token(RESOURCE))
    assert owner(access) == owner(signed) and access.scopes == BOTH.split()
    assert provider.asked["/introspect"] == 1, "a signed token is not sent away"
    for token in ("wrong", "w.r.ong"):
        with pytest.raises(Rejected):
            await door.verify_token(token)


@pytest.mark.parametrize(
    "changes",
    [
        {"active": False},
        {"active": "true"},
        {"active": None},
        {"exp": 1},
        {"exp": "tomorrow"},
        {"exp": math.nan},
        {"nbf": 9_999_999_999},
        {"iss": "https://evil.example"},
        {"aud": "https://other.example"},
        {"aud": None},
        {"aud": [RESOURCE + "/"]},
        {"aud": {RESOURCE: 1}},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 5000},
    ],
    ids=str,
)
async def test_an_opaque_token_is_checked_like_any_other(provider: IdentityProvider, changes: dict[str, Any]) -> None:
    provider.opaque["some"] = known(provider, **changes)
    with pytest.raises(Rejected):
        await with_introspection(provider).verify_token("some")


async def test_an_answer_is_kept_for_a_moment_and_never_beyond_its_end(provider: IdentityProvider) -> None:
    clock = FakeClock()
    now_s = clock.now().timestamp()
    provider.opaque |= {"long": known(provider, exp=now_s + 600), "short": known(provider, exp=now_s + 10)}
    door = with_introspection(provider, clock)
    for token in ("long", "short"):
        await door.verify_token(token)
        await door.verify_token(token)
    assert provider.asked["/introspect"] == 2
    provider.opaque["long"] = provider.opaque["short"] = {"active": False}
    clock.advance(9)
    for token in ("long", "short"):
        await door.verify_token(token)
    clock.advance(1)
    with pytest.raises(Rejected):
        await door.verify_token("short")
    await door.verify_token("long")
    clock.advance(introspection.KEPT_S - 10)
    with pytest.raises(Rejected):
        await door.verify_token("long")


async def test_without_introspection_nobody_can_say(provider: IdentityProvider) -> None:
    provider.away = True
    with pytest.raises(IssuerAway):
        await with_introspection(provider).verify_token("some")
    provider.away = False
    read = settings.IntrospectionSettings(f"{provider.site}/introspect", SERVER_ID, SecretStr("wrong"))
    door = oauth.OAuth(settings.OAuthSettings(provider.issuer, introspection=read), Resource(RESOURCE, provider.issuer))
    with pytest.raises(IssuerAway):
        await door.verify_token("some")


# -- the settings


def test_without_an_issuer_nothing_of_it_is_imported() -> None:
    code = """
import sys
from triptych.server import app, http
async def never(): ...
http.http_app(app.build(never, remote=True), "http", "127.0.0.1", ["a-token-0123456789"])
found = {"triptych.server.oauth", "triptych.server.signing_keys", "triptych.server.introspection"} & set(sys.modules)
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"TRIPTYCH_OAUTH_ISSUER": "http://id.example"}, "TRIPTYCH_OAUTH_ISSUER must be an https"),
        ({"TRIPTYCH_OAUTH_ISSUER": "id.example"}, "TRIPTYCH_OAUTH_ISSUER must be an https"),
        ({"TRIPTYCH_OAUTH_ISSUER": "https://me:pw@id.example"}, "TRIPTYCH_OAUTH_ISSUER must be an https"),
        ({"TRIPTYCH_OAUTH_ISSUER": "https://id.example?x=1"}, "TRIPTYCH_OAUTH_ISSUER must be an https"),
        ({"TRIPTYCH_OAUTH_ISSUER": "https://id.example#x"}, "TRIPTYCH_OAUTH_ISSUER must be an https"),
        ({"TRIPTYCH_OAUTH_AUDIENCE": "x"}, "TRIPTYCH_OAUTH_AUDIENCE needs TRIPTYCH_OAUTH_ISSUER"),
        (
            {"TRIPTYCH_OAUTH_ISSUER": "https://a", "TRIPTYCH_OAUTH_INTROSPECTION_URL": "http://a"},
            "TRIPTYCH_OAUTH_INTROSPECTION_URL must be an https",
        ),
        (
            {"TRIPTYCH_OAUTH_ISSUER": "https://a", "TRIPTYCH_OAUTH_INTROSPECTION_URL": "https://a"},
            "needs TRIPTYCH_OAUTH_CLIENT_ID and TRIPTYCH_OAUTH_CLIENT_SECRET",
        ),
        ({"TRIPTYCH_OAUTH_ISSUER": "https://a", "TRIPTYCH_OAUTH_SCOPE_PREFIX": '"'}, "TRIPTYCH_OAUTH_SCOPE_PREFIX is"),
        ({"TRIPTYCH_GROUP_BUDGETS_USD": "design"}, "design=20,press=5"),
        ({"TRIPTYCH_GROUP_BUDGETS_USD": "design=x"}, "design=20,press=5"),
        ({"TRIPTYCH_GROUP_BUDGETS_USD": "=5"}, "design=20,press=5"),
        ({"TRIPTYCH_GROUP_BUDGETS_USD": "a=none"}, "design=20,press=5"),
        ({"TRIPTYCH_GROUP_BUDGETS_USD": "a=1,a=2"}, "each group once"),
        ({"TRIPTYCH_OWNER_BUDGET_USD": "-1"}, "TRIPTYCH_OWNER_BUDGET_USD must be"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(environ: dict[str, str], said: str) -> None:
    with pytest.raises(errors.BadRequest) as refused:
        settings.read(environ, remote=True)
    assert said in refused.value.message and "pw" not in refused.value.message


def test_budgets_are_read_for_owners_and_groups() -> None:
    environ = {"TRIPTYCH_OWNER_BUDGET_USD": "$2.50", "TRIPTYCH_GROUP_BUDGETS_USD": " /press = 5 , design=20, a=b=0.5,"}
    setup = settings.read(environ).setup
    assert setup.owner_budget_usd == Decimal("2.50")
    assert list(setup.group_budgets_usd.items()) == [("/press", 5), ("design", 20), ("a=b", Decimal("0.5"))]
    assert settings.read({}).setup.owner_budget_usd is None and settings.read({}).oauth is None
