"""Files at full size over HTTP, when the images are in an object store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from support import object_store
from support.object_store import Bucket
from support.servers import SAMPLES, SERVE, SMALL, Child, environ

TOKEN = "anns-token-0123456789"
PATIENCE_S = 60

pytestmark = pytest.mark.anyio


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with object_store.bucket() as made:
        yield made


@pytest.fixture
def servers(bucket: Bucket, tmp_path: Path) -> Iterator[list[Child]]:
    """Two servers with homes of their own, one database and one bucket."""
    homes = [tmp_path / "one", tmp_path / "other"]
    for home in homes:
        home.mkdir()
    (homes[1] / "triptych.db").symlink_to(homes[0] / "triptych.db")
    started = []
    for home in homes:
        started.append(Child("-c", SERVE, "http", env=environ(home, TRIPTYCH_AUTH_TOKEN=TOKEN, **bucket.environ)))
        started[-1].address = started[-1].url()  # type: ignore[attr-defined]
    yield started
    for child in started:
        assert child.end() == 0
        assert "Traceback" not in "".join(child.said)


async def call(child: Any, tool: str, **arguments: Any) -> Any:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=PATIENCE_S) as web,
        Client(streamable_http_client(child.address, http_client=web)) as client,
    ):
        result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result


async def get(url: str, method: str = "GET", **headers: str) -> httpx2.Response:
    async with httpx2.AsyncClient(timeout=PATIENCE_S) as web:
        return await web.request(method, url, headers=headers)


async def test_a_file_comes_from_the_bucket_at_every_server(servers: list[Child], bucket: Bucket) -> None:
    made = await call(servers[0], "generate_sequence", prompt="a barn", size=SMALL, wait_s=50)
    [image] = made.structured_content["images"]
    assert image["path"] is None and "/files/" in image["url"]
    [whole] = [data for _, data in bucket.stored().values()]
    seen = await call(servers[1], "get_status", job_id=made.structured_content["job_id"])
    url = seen.structured_content["images"][0]["url"]
    bucket.fail("GET", "away", 3)
    answer = await get(url)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    head, answer = await get(url, "HEAD"), await get(url)
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, whole, image["mime_type"])
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(whole)))
    for asked, status, part in (
        ("bytes=0-99", 206, whole[:100]),
        ("bytes=-7", 206, whole[-7:]),
        ("bytes=0-1,5-9", 200, whole),
        (f"bytes={len(whole)}-", 416, None),
    ):
        got = await get(url, range=asked)
        assert got.status_code == status and part in (None, got.content), asked
    assert (await get(url.replace("&s=", "&s=x"))).status_code == 404
    viewed = await call(servers[1], "view_images", images=[url])
    assert viewed.content[0].type == "image"


async def test_an_upload_of_one_server_is_edited_at_the_other(servers: list[Child], bucket: Bucket) -> None:
    uploaded = await call(servers[0], "upload_images", images=[str(SAMPLES / "cat.jpg")])
    [image] = uploaded.structured_content["images"]
    edited = await call(servers[1], "edit_sequence", images=[image["handle"]], prompt="warmer", size=SMALL, wait_s=50)
    assert edited.structured_content["status"] == "done"
    assert len(bucket.stored()) == 2 and image["path"] is None
