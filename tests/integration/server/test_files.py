"""Files at full size over HTTP, for who holds a signed URL: what it gives, to whom, and for how long."""

from __future__ import annotations

import json
import re
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

from support.clients import sse
from support.servers import SAMPLES, SERVE, SMALL, Child, environ
from triptych.jobs import file_links
from triptych.server import auth, files
from triptych.server.auth import owner_of
from triptych_emulators import running

ANN, BEN = "anns-token-0123456789", "bens-token-0123456789"
CAT = str(SAMPLES / "cat.jpg")
PUBLIC = "https://images.example.com"
PATIENCE_S = 60
AN_HOUR_S, QUARTER_S = 3600, 900
As = Callable[..., AbstractAsyncContextManager[Client]]

pytestmark = pytest.mark.anyio


# -- signatures

NOW = datetime(2026, 11, 21, 12, 7, tzinfo=UTC)
SECRET = "11" * 32


def signed(handle: str = "job_12345678/1", owner: str | None = "ann", secret: str = SECRET) -> tuple[str, int, str]:
    url, _ = file_links.make(secret, "https://a.example/files", handle, owner, NOW)
    found = file_links.read(url.partition("?")[2].encode())
    assert found
    return url, *found


def test_a_url_lasts_an_hour_and_changes_every_quarter() -> None:
    url, until_s, signature = signed()
    assert url == f"https://a.example/files/job_12345678/1?e={until_s}&s={signature}" and len(signature) == 22
    assert datetime.fromtimestamp(until_s, UTC) == datetime(2026, 11, 21, 13, 15, tzinfo=UTC)
    for minute in range(60):
        at = NOW.replace(minute=minute)
        made, ends = file_links.make(SECRET, "https://a.example/files", "job_12345678/1", "ann", at)
        assert AN_HOUR_S < (ends - at).total_seconds() <= AN_HOUR_S + QUARTER_S
        assert (made == url) is (minute < 15)


def test_a_signature_covers_handle_owner_end_and_secret() -> None:
    _, until_s, signature = signed()
    owners = ["ben", "ann", None]
    assert file_links.signers(SECRET, "job_12345678/1", owners, until_s, signature, NOW) == ["ann"]
    assert file_links.signers(SECRET, "job_12345678/1", ["ben", None, "", "an"], until_s, signature, NOW) == []
    assert file_links.signers(SECRET, "job_12345678/2", owners, until_s, signature, NOW) == []
    assert file_links.signers(SECRET, "job_12345678/1", owners, until_s + 1, signature, NOW) == []
    assert file_links.signers("22" * 32, "job_12345678/1", owners, until_s, signature, NOW) == []
    for i in range(len(signature)):
        other = signature[:i] + ("A" if signature[i] != "A" else "B") + signature[i + 1 :]
        assert file_links.signers(SECRET, "job_12345678/1", owners, until_s, other, NOW) == []
    assert signed(owner=None)[2] != signed(owner="")[2] != signed(owner="None")[2]


def test_a_url_ends_to_the_second() -> None:
    _, until_s, signature = signed()
    for late_s, right in ((-1, ["ann"]), (0, []), (1, [])):
        now = datetime.fromtimestamp(until_s + late_s, UTC)
        assert file_links.signers(SECRET, "job_12345678/1", ["ann"], until_s, signature, now) == right


def test_every_owner_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []
    monkeypatch.setattr(file_links.hmac, "compare_digest", lambda one, other: bool(compared.append((one, other))))
    _, until_s, signature = signed()
    file_links.signers(SECRET, "job_12345678/1", ["ann", "ben", None], until_s, signature, NOW)
    assert len(compared) == 3 and {len(side) for pair in compared for side in pair} == {22}


@pytest.mark.parametrize(
    "query",
    [
        *("", "e=1795267800", "s=aaaaaaaaaaaaaaaaaaaaaa", "e=&s=", "s=aaaaaaaaaaaaaaaaaaaaaa&e=1795267800"),
        *("e=01795267800&s=aaaaaaaaaaaaaaaaaaaaaa", "e=-1&s=aaaaaaaaaaaaaaaaaaaaaa", "e=1e9&s=aaaaaaaaaaaaaaaaaaaaaa"),
        *("e=1795267800&s=aaaaaaaaaaaaaaaaaaaaa", "e=1795267800&s=aaaaaaaaaaaaaaaaaaaaaa&x=1", "e=1&e=1&s=" + "a" * 22),
        "e=1795267800&s=aaaaaaaaaaaaaaaaaaaaaa\n",
        "e=1795267800&s=aaaaaaaaaaaaaaaaaaaaa%61",
    ],
)
def test_a_query_of_another_form_is_none(query: str) -> None:
    assert file_links.read(query.encode()) is None


# -- over both transports, in both eras


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def urls(home: Path) -> Iterator[dict[str, str]]:
    """Both transports on one home, with two tokens, each logging all it can."""
    env = environ(home, TRIPTYCH_AUTH_TOKEN=f"{ANN}, {BEN}", TRIPTYCH_LOG_LEVEL="DEBUG")
    children = {transport: Child("-c", SERVE, transport, env=env) for transport in ("http", "sse")}
    yield {transport: child.url() for transport, child in children.items()}
    for child in children.values():
        assert child.end() == 0
        require_unsaid("".join(child.said))


def require_unsaid(said: str) -> None:
    """Fail when a log holds a signature, or a fault."""
    assert not re.search(r"[?&]s=[\w-]{22}", said) and not any(one in said for one in GIVEN_OUT), (
        "a signature is logged"
    )
    assert "Traceback" not in said


GIVEN_OUT: set[str] = set()
"""Every signature that a test has seen."""


def seen(url: str) -> str:
    found = file_links.read(url.partition("?")[2].encode())
    assert found, url
    GIVEN_OUT.add(found[1])
    return url


@pytest.fixture(params=[f"{transport}-{era}" for transport in ("http", "sse") for era in ("auto", "legacy")])
def connect(request: pytest.FixtureRequest, urls: dict[str, str]) -> As:
    transport, _, era = request.param.partition("-")
    return lambda token=ANN: client_of(urls[transport], transport, era, token)


@asynccontextmanager
async def client_of(url: str, transport: str = "http", era: str = "auto", token: str = ANN) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {token}"}
    if transport == "sse":
        async with Client(sse(url, headers=headers), mode=era) as client:  # type: ignore[arg-type]
            yield client
        return
    async with (
        httpx2.AsyncClient(headers=headers, timeout=PATIENCE_S) as web,
        Client(streamable_http_client(url, http_client=web), mode=era) as client,  # type: ignore[arg-type]
    ):
        yield client


async def call(client: Client, tool: str, **arguments: Any) -> types.CallToolResult:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result


async def made(client: Client) -> dict[str, Any]:
    """Return an image that was made just now; others have the same bytes."""
    return await done(client, "edit_sequence", images=[CAT], prompt="warmer")


async def done(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await call(client, tool, again=True, wait_s=50, **arguments)
    [image] = result.structured_content["images"]
    seen(image["url"])
    assert result.structured_content["status"] == "done" and isinstance(image, dict)
    return image


async def get(url: str, method: str = "GET", **headers: str) -> httpx2.Response:
    async with httpx2.AsyncClient(timeout=PATIENCE_S) as web:
        return await web.request(method, url, headers=headers)


async def test_a_results_url_gives_the_file_without_a_token(connect: As, urls: dict[str, str]) -> None:
    async with connect() as client:
        result = await call(client, "generate_sequence", prompt="two barns", count=2, size=SMALL, again=True, wait_s=50)
        images = result.structured_content["images"]
        told = result.content[0].text
    assert len({image["url"] for image in images}) == 2
    for image in images:
        url = seen(image["url"])
        assert url.startswith(tuple(str(httpx2.URL(base).join("/files/")) + image["handle"] for base in urls.values()))
        assert url in told
        ends = datetime.fromisoformat(image["url_expires_at"])
        assert AN_HOUR_S - 60 < (ends - datetime.now(UTC)).total_seconds() <= AN_HOUR_S + QUARTER_S
        answer = await get(url)
        assert (answer.status_code, answer.content) == (200, Path(image["path"]).read_bytes())


async def test_a_file_names_its_type_and_runs_nothing(connect: As) -> None:
    async with connect() as client:
        image = await made(client)
    answer, head = await get(image["url"]), await get(image["url"], "HEAD")
    suffix = Path(image["path"]).suffix
    name = image["handle"].replace("/", "-") + suffix
    left_s = int(re.fullmatch(r"private, max-age=(\d+)", answer.headers["cache-control"])[1])  # type: ignore[index]
    assert AN_HOUR_S - 60 < left_s <= AN_HOUR_S + QUARTER_S
    assert answer.headers["content-type"] == image["mime_type"]
    assert answer.headers["content-disposition"] == f'inline; filename="{name}"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert (
        "sandbox" in answer.headers["content-security-policy"]
        and "default-src 'none'" in answer.headers["content-security-policy"]
    )
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert not any(header.startswith(("access-control", "set-cookie", "server")) for header in answer.headers)
    assert (head.status_code, head.content) == (200, b"")
    for header in ("content-type", "content-length", "content-disposition", "etag", "content-security-policy"):
        assert head.headers[header] == answer.headers[header]


@pytest.mark.usefixtures("ordinary_start")
async def test_no_log_holds_a_signature_even_where_messages_are_logged(tmp_path: Path) -> None:
    env = environ(tmp_path, TRIPTYCH_AUTH_TOKEN=ANN, TRIPTYCH_LOG_LEVEL="DEBUG")
    child = Child("-c", SERVE, "sse", env=env)
    async with client_of(child.url(), "sse") as client:
        image = await made(client)
        await call(client, "view_images", images=[image["url"]])
    assert (await get(image["url"])).status_code == 200
    assert (await get(image["url"].replace("?e=", "?e=1"))).status_code == 404
    assert child.end() == 0
    said = "".join(child.said)
    assert f"/files/{image['handle']}?…" in said, "the SDK logs whole messages over SSE"
    require_unsaid(said)


async def test_parts_of_a_file_can_be_asked_for(connect: As) -> None:
    async with connect() as client:
        image = await made(client)
    whole = Path(image["path"]).read_bytes()
    for asked, status, part in (
        ("bytes=0-99", 206, whole[:100]),
        ("bytes=100-", 206, whole[100:]),
        ("bytes=-7", 206, whole[-7:]),
        ("bytes=0-1,5-9", 200, whole),
        ("bytes=" + ",".join(f"{n}-" for n in range(500)), 200, whole),
        ("nonsense", 200, whole),
    ):
        answer = await get(image["url"], range=asked)
        assert (answer.status_code, answer.content) == (status, part), asked
    assert (await get(image["url"], range=f"bytes={len(whole)}-")).status_code == 416


async def test_every_way_to_see_an_image_names_its_url(connect: As) -> None:
    async with connect() as client:
        image = await made(client)
        job_id = image["handle"].partition("/")[0]
        status = await call(client, "get_status", job_id=job_id)
        [job] = (await client.read_resource(f"triptych://jobs/{job_id}")).contents
        [preview] = (await client.read_resource(f"triptych://images/{image['handle']}")).contents
        uploaded = (await call(client, "upload_images", images=[CAT])).structured_content["images"][0]
        [again] = (await client.read_resource(f"triptych://images/{uploaded['handle']}")).contents
    found = [
        status.structured_content["images"][0]["url"],
        json.loads(job.text)["images"][0]["url"],  # type: ignore[union-attr]
        preview.meta["url"],  # type: ignore[index]
    ]
    for url in found:
        assert (await get(seen(url))).content == Path(image["path"]).read_bytes()
    for url in (uploaded["url"], again.meta["url"]):  # type: ignore[index]
        assert (await get(seen(url))).content == Path(uploaded["path"]).read_bytes()


async def test_a_url_of_ours_can_be_the_next_edits_image(connect: As) -> None:
    async with connect() as client, connect(BEN) as ben:
        image = await done(client, "generate_sequence", prompt="a lighthouse", size=SMALL)
        edited = await call(client, "edit_sequence", images=[image["url"]], prompt="warmer", wait_s=50)
        assert edited.structured_content["images"][0]["source"] == [image["handle"]]
        refused = await ben.call_tool("edit_sequence", {"images": [image["url"]], "prompt": "warmer"})
        nonsense = await client.call_tool("view_images", {"images": [image["url"].partition("/job_")[0] + "///[?e=1"]})
        assert nonsense.is_error and "no image" in nonsense.content[0].text  # type: ignore[union-attr]
        assert refused.is_error and "no image" in refused.content[0].text  # type: ignore[union-attr]


def secret_of(home: Path) -> str:
    with closing(sqlite3.connect(home / "triptych.db")) as connection:
        return str(connection.execute("SELECT secret FROM file_secret").fetchone()[0])


def forged(home: Path, url: str, handle: str, owner: str | None, until_s: int, secret: str | None = None) -> str:
    """Return a URL that somebody who knows the secret might have signed."""
    files_url = url.partition("/files/")[0] + "/files"
    return f"{files_url}/{handle}?e={until_s}&s={file_links._sign(secret or secret_of(home), handle, owner, until_s)}"


def shape(answer: httpx2.Response) -> tuple[int, bytes, dict[str, str]]:
    return answer.status_code, answer.content, {k: v for k, v in answer.headers.items() if k != "date"}


async def test_every_wrong_url_gets_the_same_answer(connect: As, home: Path) -> None:
    async with connect() as client, connect(BEN) as other:
        image, theirs = await made(client), await made(other)
    url, handle, ann = image["url"], image["handle"], owner_of(ANN)
    path, _, query = url.partition("?")
    until_s, signature = file_links.read(query.encode()) or (0, "")
    base = path.removesuffix(handle)
    now_s = int(time.time())
    right = forged(home, url, handle, ann, until_s)
    assert right == url
    wrong = [
        path,
        f"{path}?e={until_s}",
        f"{path}?e={until_s}&s={signature[:-2]}{'AA' if signature[-2:] != 'AA' else 'QQ'}",
        f"{path}?e={until_s + 1}&s={signature}",
        f"{path}?e={until_s + 86400 * 365}&s={signature}",
        f"{path}?e={until_s}&s={signature}&s={signature}",
        f"{path}/?{query}",
        f"{base}{theirs['handle']}?{query}",
        f"{base}{handle.partition('/')[0]}?{query}",
        f"{base}?{query}",
        f"{base}%2e%2e/triptych.db?{query}",
        forged(home, url, handle, ann, now_s - 1),
        forged(home, url, handle, ann, until_s, "00" * 32),
        forged(home, url, handle, owner_of(BEN), until_s),
        forged(home, url, handle, owner_of("a-token-that-nobody-has"), until_s),
        forged(home, url, handle, None, until_s),
        forged(home, url, "job_00000000/1", ann, until_s),
        forged(home, url, "img_00000000", ann, until_s),
        forged(home, url, handle.partition("/")[0], ann, until_s),
        forged(home, url, "%2e%2e/triptych.db", ann, until_s),
        forged(home, url, theirs["handle"], ann, until_s),
    ]
    answers = [shape(await get(one)) for one in wrong]
    assert [one for one, answer in zip(wrong, answers, strict=True) if answer != answers[0]] == []
    status, said, headers = answers[0]
    assert status == 404 and b"no file at this address" in said
    assert headers["cache-control"] == "no-store" and "etag" not in headers
    assert handle.encode() not in said and b"triptych.db" not in said
    bare = [await get(one, "HEAD") for one in wrong]
    assert {(answer.status_code, answer.content) for answer in bare} == {(404, b"")}
    assert (await get(url)).status_code == 200


async def test_a_token_opens_no_file_and_no_list(connect: As, urls: dict[str, str]) -> None:
    async with connect() as client:
        image = await made(client)
    bearing = {"authorization": f"Bearer {ANN}"}
    path = image["url"].partition("?")[0]
    assert (await get(path, **bearing)).status_code == 404
    assert (await get(path.partition("/files")[0] + "/files/", **bearing)).status_code == 404
    assert (await get(path.partition("/files")[0] + "/files", **bearing)).status_code == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"):
        answer = await get(image["url"], method)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_a_file_is_asked_for_without_a_body(connect: As) -> None:
    async with connect() as client:
        image = await made(client)
    assert (await get(image["url"], **{"content-length": "0"})).status_code == 200
    async with httpx2.AsyncClient(timeout=PATIENCE_S) as web:
        assert (await web.request("GET", image["url"], content=b"x")).status_code == 400


async def test_host_and_origin_are_checked_for_files_too(connect: As) -> None:
    async with connect() as client:
        image = await made(client)
    assert (await get(image["url"], host="evil.example")).status_code == 421
    assert (await get(image["url"], origin="https://evil.example")).status_code == 403
    assert (await get(image["url"], host="localhost:1")).status_code == 200


async def test_a_former_holder_of_an_image_gets_no_file(urls: dict[str, str], home: Path) -> None:
    async with client_of(urls["http"]) as client:
        uploaded = (await call(client, "upload_images", images=[str(SAMPLES / "rocket.jpg")])).structured_content
    url = seen(uploaded["images"][0]["url"])
    assert (await get(url)).status_code == 200
    with closing(sqlite3.connect(home / "triptych.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM holders WHERE owner = ?", (owner_of(ANN),))
    assert (await get(url)).status_code == 404


async def test_a_file_that_was_removed_is_not_there(urls: dict[str, str], home: Path) -> None:
    async with client_of(urls["http"]) as client:
        image = await made(client)
        never = await get(image["url"].replace("?e=", "?e=9"))
        kept = Path(image["path"]).read_bytes()
        Path(image["path"]).unlink()
        try:
            assert shape(await get(image["url"])) == shape(never)
            with closing(sqlite3.connect(home / "triptych.db", isolation_level=None)) as connection:
                connection.execute(
                    "UPDATE images SET pruned_at = 1795000000 WHERE file = ?", (Path(image["path"]).name,)
                )
            assert shape(await get(image["url"])) == shape(never)
            status = await call(client, "get_status", job_id=image["handle"].partition("/")[0])
            assert status.structured_content["images"][0]["url"] is None, "there is no file, so there is no URL"
        finally:
            Path(image["path"]).write_bytes(kept)
            with closing(sqlite3.connect(home / "triptych.db", isolation_level=None)) as connection:
                connection.execute("UPDATE images SET pruned_at = NULL")


async def test_a_removed_token_ends_its_urls(urls: dict[str, str], home: Path) -> None:
    async with client_of(urls["http"]) as client:
        image = await made(client)
    without_ann = Child("-c", SERVE, "http", env=environ(home, TRIPTYCH_AUTH_TOKEN=BEN))
    try:
        there = image["url"].replace(urls["http"].removesuffix("/mcp"), without_ann.url().removesuffix("/mcp"))
        assert there != image["url"]
        assert ((await get(image["url"])).status_code, (await get(there)).status_code) == (200, 404)
    finally:
        assert without_ann.end() == 0


async def test_revoked_urls_end_at_once_and_new_ones_work(urls: dict[str, str], home: Path) -> None:
    async with client_of(urls["http"]) as client:
        image = await made(client)
        command = [sys.executable, "-m", "triptych", "revoke-urls"]
        revoked = await anyio.run_process(command, env=environ(home), check=False)
        assert revoked.returncode == 0 and b"now invalid" in revoked.stdout
        assert (await get(image["url"])).status_code == 404
        status = await call(client, "get_status", job_id=image["handle"].partition("/")[0])
        anew = seen(status.structured_content["images"][0]["url"])
    assert anew != image["url"] and (await get(anew)).status_code == 200


# -- where the URLs lead


@pytest.mark.usefixtures("ordinary_start")
async def test_urls_are_below_the_public_url(tmp_path: Path) -> None:
    env = environ(tmp_path, TRIPTYCH_AUTH_TOKEN=ANN, TRIPTYCH_PUBLIC_URL=PUBLIC)
    child = Child("-c", SERVE.replace("127.0.0.1", "0.0.0.0"), "http", env=env)
    try:
        inside = child.url().replace("0.0.0.0", "127.0.0.1")
        async with client_of(inside) as client:
            image = await made(client)
        assert image["url"].startswith(f"{PUBLIC}/files/{image['handle']}?e=")
        through_proxy = image["url"].replace(PUBLIC, inside.removesuffix("/mcp"))
        answer = await get(through_proxy, host="images.example.com")
        assert answer.content == Path(image["path"]).read_bytes()
        assert (await get(through_proxy, host="images.example.com:8443")).status_code == 421
    finally:
        assert child.end() == 0


async def test_an_open_bind_without_a_public_url_promises_no_url(tmp_path: Path) -> None:
    child = Child("-c", SERVE.replace("127.0.0.1", "0.0.0.0"), "http", env=environ(tmp_path, TRIPTYCH_AUTH_TOKEN=ANN))
    try:
        async with client_of(child.url().replace("0.0.0.0", "127.0.0.1")) as client:
            result = await call(client, "edit_sequence", images=[CAT], prompt="warmer", wait_s=50)
        assert result.structured_content["images"][0]["url"].startswith("file:")
    finally:
        assert child.end() == 0


async def test_a_local_server_without_a_token_signs_urls_too(http_url: str) -> None:
    async with Client(http_url) as client:
        image = await made(client)
    assert (await get(image["url"])).content == Path(image["path"]).read_bytes()
    assert (await get(image["url"].replace("s=", "s=A")[:-1])).status_code == 404


async def test_over_stdio_a_url_is_what_it_was(tmp_path: Path) -> None:
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "triptych"], env=environ(tmp_path, TRIPTYCH_PUBLIC_URL=PUBLIC)
    )
    async with Client(command) as client:
        result = await call(client, "edit_sequence", images=[CAT], prompt="warmer", wait_s=50)
    [image] = result.structured_content["images"]
    assert image["url"] == Path(image["path"]).as_uri() and image["url_expires_at"] is None


# -- after a provider's URL


@pytest.mark.parametrize("transport", ["http", "sse"])
async def test_the_providers_url_is_named_until_it_ends(tmp_path: Path, transport: str) -> None:
    with running("atlas", latency_s=0.0, max_side=48, key="a-key") as api:
        env = environ(
            tmp_path, ATLASCLOUD_API_KEY="a-key", ATLASCLOUD_BASE_URL=api.base_url, TRIPTYCH_AUTH_TOKEN=f"{ANN} {BEN}"
        )
        child = Child("-c", SERVE, transport, env=env)
        try:
            url = child.url()
            async with client_of(url, transport) as client:
                asked = {"images": [CAT], "prompt": "warmer", "wait_s": 50}
                result = await call(client, "edit_sequence", **asked)
                while result.structured_content["status"] in ("queued", "running"):
                    result = await call(client, "get_status", job_id=result.structured_content["job_id"], wait_s=50)
                [image] = result.structured_content["images"]
                assert image["url"].startswith(api.base_url)
                assert datetime.fromisoformat(image["url_expires_at"]) > datetime.now(UTC)
                for seconds_left, ours in ((3600, False), (60, True), (-3600, True)):
                    ends(tmp_path, time.time() + seconds_left)
                    status = await call(client, "get_status", job_id=result.structured_content["job_id"])
                    [image] = status.structured_content["images"]
                    assert image["url"].startswith(api.base_url) is not ours
                [job] = (await client.read_resource(f"triptych://jobs/{result.structured_content['job_id']}")).contents
                assert json.loads(job.text)["images"][0]["url"] == image["url"]  # type: ignore[union-attr]
            assert datetime.fromisoformat(image["url_expires_at"]) > datetime.now(UTC)
            answer = await get(image["url"])
            assert answer.content == Path(image["path"]).read_bytes()
            with Image.open(image["path"]) as picture:
                assert answer.headers["content-type"] == Image.MIME[str(picture.format)]
            async with client_of(url, transport, token=BEN) as ben:
                refused = await ben.call_tool("get_status", {"job_id": result.structured_content["job_id"]})
                assert refused.is_error
        finally:
            assert child.end() == 0


def ends(home: Path, at_s: float) -> None:
    """Let every output's URL at the provider end then."""
    with closing(sqlite3.connect(home / "triptych.db", isolation_level=None, timeout=30)) as connection:
        assert connection.execute("UPDATE frames SET url_expires_at = ?", (at_s,)).rowcount == 1


# -- the door


async def test_a_request_for_a_file_counts_as_its_signers() -> None:
    went_in: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        went_in.append(scope)

    found = files_found()

    class ImageService:
        class image_access:  # noqa: N801
            @staticmethod
            async def signed_file(*given: Any) -> Any:
                return found

    async def open_service() -> Any:
        return ImageService

    door = files.Signed(auth.RequireToken(inner, [ANN]), open_service, [owner_of(ANN)])
    scope = {"type": "http", "method": "GET", "path": "/files/job_12345678/1", "headers": []}
    await door({**scope, "query_string": b"e=1795267800&s=aaaaaaaaaaaaaaaaaaaaaa"}, None, None)  # type: ignore[arg-type]
    assert [scope["user"].username for scope in went_in] == [owner_of(ANN)]


def files_found() -> Any:
    from triptych.core.models import Image as Stored
    from triptych.jobs.image_access import SignedFile

    stored = Stored("0" * 64, "img_00000000", "image/png", 1, 1, 1, Path("a.png"))
    return SignedFile("job_12345678/1", stored, owner_of(ANN), 60, None)


async def test_a_server_without_its_database_answers_retry_later() -> None:
    from triptych.core import errors

    async def open_service() -> Any:
        raise errors.Outage("the database /home/ann/triptych.db is locked")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/files/job_12345678/1", "headers": []}
    query = b"e=1795267800&s=aaaaaaaaaaaaaaaaaaaaaa"
    await files.Signed(None, open_service, [None])({**scope, "query_string": query}, None, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 503 and b"try again soon" in sent[1]["body"] and b"triptych.db" not in sent[1]["body"]
    assert (b"retry-after", b"5") in sent[0]["headers"]
