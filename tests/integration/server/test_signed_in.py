"""Who signed in: their files by signed URL, and what they and their groups may spend."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from integration.server.test_oauth import PUBLIC, RESOURCE, bearing, call, modern, post, result_of
from support.identity_provider import IdentityProvider
from support.servers import SERVE, SMALL, Child, environ
from triptych.jobs import file_links
from triptych.server.oauth import owner_of
from triptych_emulators import Emulator, running

# -- files by signed URL


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider(algorithm="ES256") as provider:
        yield provider


@pytest.fixture(scope="module")
def urls(provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    env = environ(
        tmp_path_factory.mktemp("signed in"),
        TRIPTYCH_OAUTH_ISSUER=provider.issuer,
        TRIPTYCH_PUBLIC_URL=PUBLIC,
        TRIPTYCH_LOG_LEVEL="DEBUG",
    )
    child = Child("-c", SERVE, "http", env=env)
    yield {"http": child.url()}
    assert child.end() == 0
    assert "Traceback" not in "".join(child.said)


@pytest.fixture(scope="module")
def made(urls: dict[str, str], provider: IdentityProvider) -> dict[str, Any]:
    """An image of Ann's, who signed in."""
    token = provider.token(RESOURCE)
    job = call(urls["http"], token, "generate_sequence", prompt="a barn of Ann's", size=SMALL)["structuredContent"]
    image: dict[str, Any] = job["images"][0]
    return image


def file_at(urls: dict[str, str], url: str, **headers: str) -> httpx2.Response:
    parts = httpx2.URL(url)
    return httpx2.get(httpx2.URL(urls["http"]).join(parts.raw_path.decode()), headers=headers)


def test_a_signed_url_of_who_signed_in_opens_one_file(urls: dict[str, str], made: dict[str, Any]) -> None:
    assert made["url"].startswith(f"{PUBLIC}/files/{made['handle']}?e=")
    answer = file_at(urls, made["url"])
    assert (answer.status_code, answer.headers["content-type"][:6]) == (200, "image/")


def test_an_altered_or_moved_url_opens_nothing(
    urls: dict[str, str], made: dict[str, Any], provider: IdentityProvider
) -> None:
    url = made["url"]
    bens = call(urls["http"], provider.token(RESOURCE, sub="ben"), "generate_sequence", prompt="Ben's", size=SMALL)
    other = bens["structuredContent"]["images"][0]
    signature = url.rpartition("s=")[2]
    until = int(url.rpartition("e=")[2].partition("&")[0])
    others = ["B" if char == "A" else "A" for char in signature]
    changed = [signature[:n] + other + signature[n + 1 :] for n, other in enumerate(others)]
    wrong = [url.replace(signature, one) for one in changed]
    wrong += [url.replace(f"e={until}", f"e={until + 900}"), url.replace(f"e={until}", f"e={until - 900}")]
    wrong += [url.replace(made["handle"], other["handle"]), url.replace(signature, other["url"].rpartition("s=")[2])]
    wrong += [url.replace(made["handle"], f"{made['handle']}0"), url.replace(signature, signature[:22]), f"{url}A"]
    wrong += [url.partition("?")[0], f"{url}&s={signature}", url.replace("&s=", "&S=")]
    answers = {(answer.status_code, answer.text) for answer in (file_at(urls, one) for one in wrong)}
    assert len(answers) == 1 and next(iter(answers))[0] == 404


def test_a_token_alone_opens_no_file(urls: dict[str, str], made: dict[str, Any], provider: IdentityProvider) -> None:
    token = {"authorization": f"Bearer {provider.token(RESOURCE)}"}
    assert file_at(urls, made["url"].partition("?")[0], **token).status_code == 404


SECRET, HANDLE = "11" * 32, "job_12345678/1"
NOW = datetime(2026, 11, 21, 12, 7, tzinfo=UTC)
ANN = owner_of("https://id.example", "ann")


def signed(owner: str = ANN) -> tuple[str, int, str]:
    url, _ = file_links.make(SECRET, "https://a.example/files", HANDLE, owner, NOW)
    found = file_links.read(url.partition("?")[2].encode())
    assert found
    return url, *found


def test_who_signed_in_is_hidden_in_the_signature() -> None:
    url, until_s, signature = signed()
    assert (url, until_s, signature) == signed(), "the same for caches"
    assert ANN.removeprefix("oauth:") not in url and len(signature) == 43
    owners = ["ben", None, file_links.SIGNED_IN]
    assert file_links.signers(SECRET, HANDLE, owners, until_s, signature, NOW) == [ANN]
    assert file_links.signers(SECRET, HANDLE, owners[:2], until_s, signature, NOW) == [], "no sign-in, no such owner"
    assert file_links.signers(SECRET, "job_12345678/2", owners, until_s, signature, NOW) == []
    assert file_links.signers(SECRET, HANDLE, owners, until_s + 1, signature, NOW) == []
    assert file_links.signers("22" * 32, HANDLE, owners, until_s, signature, NOW) == []
    assert file_links.signers(SECRET, HANDLE, owners, until_s, signature, datetime.fromtimestamp(until_s, UTC)) == []
    assert signed(owner_of("https://id.example", "ben"))[2] != signature


def test_every_changed_character_breaks_a_signature() -> None:
    _, until_s, signature = signed()
    for n, was in enumerate(signature):
        for char in "ABCDQgw_-":
            other = signature[:n] + char + signature[n + 1 :]
            found = file_links.signers(SECRET, HANDLE, [file_links.SIGNED_IN], until_s, other, NOW)
            assert found == ([ANN] if char == was else [])


# -- money


@pytest.fixture(scope="module")
def atlas() -> Iterator[Emulator]:
    with running("atlas", max_side=48) as api:
        yield api


@pytest.fixture
def budgets(provider: IdentityProvider, atlas: Emulator, tmp_path: Path) -> Iterator[str]:
    """A server with a budget for everyone, for each and for the group design, over images that cost $0.028."""
    env = environ(
        tmp_path,
        ATLASCLOUD_API_KEY=atlas.key or "",
        ATLASCLOUD_BASE_URL=atlas.base_url,
        TRIPTYCH_MODELS="builtin",
        TRIPTYCH_OAUTH_ISSUER=provider.issuer,
        TRIPTYCH_OAUTH_AUDIENCE=RESOURCE,
        TRIPTYCH_BUDGET_USD="1",
        TRIPTYCH_OWNER_BUDGET_USD="0.2",
        TRIPTYCH_GROUP_BUDGETS_USD="press=0.01,design=0.3",
    )
    child = Child("-c", SERVE, "http", env=env)
    yield child.url()
    assert child.end() == 0


def asked(url: str, token: str, count: int) -> str:
    """Return what is said to a paid call: its status, or the refusal."""
    said = call(url, token, "generate_sequence", prompt="a barn", count=count, again=True, wait_s=20)
    return str(said["content"][0]["text"] if said.get("isError") else said["structuredContent"]["status"])


def spend(url: str, token: str) -> dict[str, Any]:
    contents = result_of(post(url, token, "resources/read", uri="triptych://spend"))["contents"]
    found: dict[str, Any] = httpx2.Response(200, text=contents[0]["text"]).json()
    return found


def counted(budget: dict[str, float]) -> float:
    return budget["spent"] + budget["reserved"]


def test_each_owner_and_each_group_has_a_budget(provider: IdentityProvider, budgets: str) -> None:
    ann, ben = (provider.token(RESOURCE, sub=name, groups=["staff", "design"]) for name in ("ann", "ben"))
    eve = provider.token(RESOURCE, sub="eve", groups=["press"])
    dan = provider.token(RESOURCE, sub="dan")
    assert asked(budgets, ann, 4) == "done"
    over = asked(budgets, ann, 4)
    assert "does not fit the budget of its owner: cap $0.2 per 24 h (TRIPTYCH_OWNER_BUDGET_USD)" in over
    assert asked(budgets, ben, 4) == "done"
    grouped = asked(budgets, ben, 3)
    assert "does not fit the budget of its group: cap $0.3 per 24 h (TRIPTYCH_GROUP_BUDGETS_USD)" in grouped
    assert "TRIPTYCH_GROUP_BUDGETS_USD" in asked(budgets, eve, 1)
    assert asked(budgets, dan, 4) == "done", "who is in no such group has only the other two"
    anns, dans = spend(budgets, ann), spend(budgets, dan)
    (own, group, all_) = (counted(anns[name]) for name in ("owner_budget", "group_budget", "budget"))
    assert (anns["owner_budget"]["cap"], anns["group_budget"]["cap"], anns["budget"]["cap"]) == (0.2, 0.3, 1)
    assert own > 0.1 and (group, all_) == (pytest.approx(2 * own), pytest.approx(3 * own))
    assert counted(dans["owner_budget"]) == own and not dans.get("group_budget")


def test_the_same_request_of_another_person_is_another_job(provider: IdentityProvider, budgets: str) -> None:
    body, headers = modern("tools/call", name="generate_sequence", arguments={"prompt": "one barn", "wait_s": 20})
    ids = []
    for name in ("ann", "ann", "ben"):
        sent = {**bearing(provider.token(RESOURCE, sub=name)), **headers}
        ids.append(result_of(httpx2.post(budgets, json=body, headers=sent, timeout=60))["structuredContent"]["job_id"])
    assert ids[0] == ids[1] != ids[2]


# -- without a provider, and without a way to it


def test_a_server_whose_provider_is_away_says_so(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        issuer = f"http://127.0.0.1:{unused.getsockname()[1]}"
        token = "a-static-token-0123456789"
        env = environ(tmp_path, TRIPTYCH_OAUTH_ISSUER=issuer, TRIPTYCH_AUTH_TOKEN=token)
        with IdentityProvider(algorithm="ES256") as another:
            child = Child("-c", SERVE, "http", env=env)
            url = child.url()
            away = post(url, another.token(url))
            assert (away.status_code, away.headers["retry-after"]) == (503, "5")
            assert "The identity provider does not answer" in away.text
            assert post(url, token).status_code == 200
            assert child.end() == 0
            assert "the keys of the identity provider" in "".join(child.said)


@pytest.mark.parametrize(
    ("host", "public", "starts"),
    [
        ("0.0.0.0", None, False),
        ("127.0.0.1", "http://images.example.com", False),
        ("127.0.0.1", "http://127.0.0.1:8765", True),
        ("0.0.0.0", "https://images.example.com", True),
    ],
)
def test_tokens_need_an_https_address_to_be_issued_for(
    tmp_path: Path, host: str, public: str | None, starts: bool
) -> None:
    env = environ(tmp_path, TRIPTYCH_OAUTH_ISSUER="https://id.example.com")
    env |= {"TRIPTYCH_PUBLIC_URL": public} if public else {}
    child = Child("-c", SERVE.replace("127.0.0.1", host), "http", env=env)
    if starts:
        child.url()
        assert child.end() == 0
        return
    with pytest.raises(AssertionError, match="TRIPTYCH_PUBLIC_URL must be the https"):
        child.url()
    assert child.end() == 2
