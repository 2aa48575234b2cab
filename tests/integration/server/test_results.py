"""What a client receives of a job: nothing but counts while it runs, then its images in pages, in text as in JSON."""

from __future__ import annotations

import base64
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from mcp import Client, StdioServerParameters
from PIL import Image

from support.fixtures import Emulator, FakeClock, MakeService
from support.jobs import Options, edit_chain, edit_sequence
from support.servers import SAMPLES, SERVE, CannedService, Child, environ, image_result, job_result
from support.stored import prediction as stored_prediction
from triptych import providers, settings
from triptych.core import errors
from triptych.core.models import Failure, State
from triptych.jobs.presenters import still_charged
from triptych.jobs.results import Cost, Progress, UploadResult
from triptych.jobs.service import ImageService
from triptych.server import tools
from triptych.server.app import build
from triptych_emulators import running

pytestmark = pytest.mark.anyio

NOW = Options(wait_s=0)
CAT = str(SAMPLES / "cat.jpg")
A_DAY_S = 24 * 3600
LITERAL = re.compile(r'get_status\(job_id="(job_[0-9a-f]+)", page=([0-9]+)\)')
Over = Callable[..., AbstractAsyncContextManager[Client]]


def text_of(result: types.CallToolResult) -> str:
    assert isinstance(result.content[0], types.TextContent)
    return result.content[0].text


def links_of(result: types.CallToolResult) -> list[types.ResourceLink]:
    return [block for block in result.content if isinstance(block, types.ResourceLink)]


def shown_chars(result: types.CallToolResult) -> int:
    """Return how much of a result one host shows its model, at most: the JSON or the text, each with the links."""
    links = [link.model_dump(mode="json", by_alias=True, exclude_none=True) for link in links_of(result)]
    return max(len(json.dumps(result.structured_content)), len(text_of(result))) + len(json.dumps(links))


def handles_of(result: types.CallToolResult) -> list[str]:
    assert not result.is_error, result.content
    return [image["handle"] for image in result.structured_content["images"]]


@asynccontextmanager
async def over(service: ImageService, **options: Any) -> AsyncIterator[Client]:
    async def opened() -> ImageService:
        return service

    links = options.pop("links", None)
    async with Client(build(opened, remote=False, links=lambda: links), **options) as client:
        yield client


async def ended_chain(service: ImageService, lanes: int, steps: int, url_chars: int = 100) -> str:
    """Return a chain whose rows say that it is done: every image has a URL of its own and one file is behind them."""
    (image,) = (await service.upload_images([CAT])).images
    words = [f"step {n}" for n in range(steps)]
    job = await edit_chain(service, [image.handle] * lanes, words, options=NOW)
    assert job.job_id
    sha256 = service.store.plain.image_by_handle(image.handle).sha256  # type: ignore[union-attr]
    ends = service._clock.now().timestamp() + 3600
    rows = [
        (
            job.job_id,
            n,
            f"https://cdn.example/{n}?signature=".ljust(url_chars, "s"),
            ends,
            sha256,
            f'["{image.handle}"]',
        )
        for n in range(1, lanes * steps + 1)
    ]
    db = service.store.plain._db.connection
    db.execute("UPDATE predictions SET state = 'done', finished_at = created_at WHERE job_id = ?", (job.job_id,))
    db.executemany(
        "INSERT INTO frames (job_id, n, prediction_id, url, url_expires_at, sha256, source, created_at) SELECT ?1, ?2, "
        "id, ?3, ?4, ?5, ?6, 0 FROM predictions WHERE job_id = ?1 AND first_output = ?2",
        rows,
    )
    db.execute("UPDATE jobs SET status = 'done', returned = ? WHERE id = ?", (lanes * steps, job.job_id))
    return job.job_id


async def read_through(client: Client, job_id: str) -> list[types.CallToolResult]:
    """Return every page of a job, as its literal `next` names them."""
    pages = [await client.call_tool("get_status", {"job_id": job_id})]
    while named := LITERAL.fullmatch(pages[-1].structured_content["next"] or ""):
        arguments = {"job_id": named[1], "page": int(named[2])}
        pages.append(await client.call_tool("get_status", arguments))
    return pages


# -- waiting -----------------------------------------------------------------------------------------------------------


async def test_get_status_waits_for_the_end_not_an_image(make_service: MakeService, atlas: Emulator) -> None:
    heard: list[tuple[float, str | None]] = []

    async def hear(done: float, total: float | None, message: str | None) -> None:
        heard.append((done, message))

    async with make_service(atlas) as service:
        job = await edit_chain(service, [CAT], ["warm", "cool", "dark"], options=NOW)
        async with over(service) as client:
            asked = {"job_id": job.job_id, "wait_s": 55}
            result = await client.call_tool("get_status", asked, progress_callback=hear)
    assert (result.structured_content["status"], result.structured_content["returned"]) == ("done", 3)
    assert [int(done) for done, _ in heard][-1] == 3
    assert {f"{job.job_id} running, {n} of 3 images" for n in (0, 1, 2)} <= {said for _, said in heard}


async def test_a_paid_call_waits_for_the_end_too(make_service: MakeService, atlas: Emulator) -> None:
    async with make_service(atlas) as service, over(service) as client:
        asked = {"images": [CAT], "steps": ["warm", "cool"], "wait_s": 55}
        result = await client.call_tool("edit_chain", asked)
    assert (result.structured_content["status"], result.structured_content["returned"]) == ("done", 2)


async def test_the_last_downloads_are_waited_for(make_service: MakeService, atlas: Emulator) -> None:
    async with make_service(atlas) as service:
        job = await edit_sequence(service, [CAT], "warm; cool; dark; bright", 4, NOW)
        atlas.fault("result", "503", times=5)
        async with over(service) as client:
            result = await client.call_tool("get_status", {"job_id": job.job_id, "wait_s": 55})
    assert (result.structured_content["status"], result.structured_content["returned"]) == ("done", 4)


async def test_a_wait_ends_when_its_time_is_over(make_service: MakeService, atlas: Emulator, clock: FakeClock) -> None:
    async with make_service(atlas) as service:
        job = await edit_chain(service, [CAT], ["warm"] * 10, options=NOW)
        async with over(service) as client:
            begun = clock.monotonic()
            result = await client.call_tool("get_status", {"job_id": job.job_id, "wait_s": 30})
    assert result.structured_content["status"] == "running" and clock.monotonic() - begun < 45


# -- while a job runs --------------------------------------------------------------------------------------------------


async def test_a_running_job_counts_its_images_and_lists_none(make_service: MakeService, atlas: Emulator) -> None:
    async with make_service(atlas) as service:
        job = await edit_chain(service, [CAT], ["warm"] * 10, options=NOW)
        async with over(service) as client:
            result = await client.call_tool("get_status", {"job_id": job.job_id, "wait_s": 45})
            content = (await client.read_resource(f"triptych://jobs/{job.job_id}")).contents[0]
    fields = result.structured_content
    assert fields["status"] == "running" and fields["images"] == [] and links_of(result) == []
    assert fields["returned"] == fields["progress"]["done"] > 0
    assert fields["next"] == f'get_status(job_id="{job.job_id}", wait_s=50)'
    assert len(json.dumps(fields)) < 600 and len(text_of(result)) < 600
    assert isinstance(content, types.TextResourceContents)
    assert len(json.loads(content.text)["images"]) == fields["returned"]


@pytest.mark.parametrize("endpoint", ["", "provider/" + "a-long-endpoint-of-a-live-model-" * 2])
@pytest.mark.parametrize("warnings", [[], ["Atlas Cloud refused before accepting (rate_limited); sent elsewhere."]])
@pytest.mark.parametrize("error", [None, Failure("rate_limited", "busy " * 80, True, "request_" + "0" * 36)])
async def test_a_coming_charge_is_said_whatever_else_there_is(
    endpoint: str, warnings: list[str], error: Failure | None
) -> None:
    at_provider = [replace(stored_prediction(usd="0.0305"), state=State.RUNNING)] * 487
    for provider in map(providers.load, providers.names()):
        if provider.offline:  # it charges nothing
            continue
        offer = max(provider.offers, key=lambda one: len(one.family) + len(one.endpoint))
        result = job_result(
            status="running",
            provider=provider.name,
            model=offer.family,
            endpoint=endpoint or offer.endpoint,
            progress=Progress(done=1313, total=7305, remaining_s=86_400),
            requested=7305,
            returned=1313,
            cost=Cost(quoted=Decimal("228.2813"), charged=Decimal("14.123456"), charge_is_estimate=True),
            error=error,
            warnings=[*warnings, *still_charged(at_provider, provider.title)],
            next='get_status(job_id="job_12345678", wait_s=50)',
        )
        shown = tools.tool_result(result)
        assert len(json.dumps(shown.structured_content)) <= 600 and len(text_of(shown)) <= 600
        assert "About $14.8535 will be charged: 487 requests" in text_of(shown)


@pytest.mark.parametrize("status", ["queued", "running"])
async def test_warnings_and_errors_keep_a_running_job_short(status: str) -> None:
    error = Failure(kind="outage", message="no answer " * 80, retryable=True, request_id="r" * 40)
    said = [f"warning {n} {'x' * 90}" for n in range(40)] + ["This call costs nothing."]
    result = tools.tool_result(job_result(status=status, error=error, warnings=said, next="get_status(…)"))
    assert len(json.dumps(result.structured_content)) < 600 and len(text_of(result)) < 600
    warnings = result.structured_content["warnings"]
    assert warnings[0] == "40 more warnings; triptych://jobs/job_12345678 lists all."
    assert warnings[-1] == "This call costs nothing."
    assert result.structured_content["error"]["message"].startswith("no answer")


# -- pages -------------------------------------------------------------------------------------------------------------


async def test_the_resource_of_2000_images_lists_the_first_final_ones(make_service: MakeService) -> None:
    async with make_service() as service:
        job_id = await ended_chain(service, 200, 10)
        async with over(service) as client:
            content = (await client.read_resource(f"triptych://jobs/{job_id}")).contents[0]
    assert isinstance(content, types.TextResourceContents)
    fields = json.loads(content.text)
    assert [one["handle"] for one in fields["images"]] == [f"{job_id}/{10 * n}" for n in range(1, 201)]
    assert fields["returned"] == 2000 and len(content.text) < 110_000
    assert "200 of 2,000 images are listed here" in fields["warnings"][-1]


async def test_page_84_of_2000_images_is_there(make_service: MakeService) -> None:
    async with make_service() as service:
        job_id = await ended_chain(service, 2000, 1)
        async with over(service) as client:
            page = await client.call_tool("get_status", {"job_id": job_id, "page": 84})
    assert page.structured_content["page"]["number"] == 84 and handles_of(page)


async def test_pages_of_2000_images_are_short(make_service: MakeService) -> None:
    async with make_service() as service:
        job_id = await ended_chain(service, 200, 10)
        async with over(service) as client:
            first = await client.call_tool("get_status", {"job_id": job_id})
            of = first.structured_content["page"]["of"]
            last = await client.call_tool("get_status", {"job_id": job_id, "page": of})
    assert handles_of(first)[:3] == [f"{job_id}/10", f"{job_id}/20", f"{job_id}/30"], "final images first"
    assert last.structured_content["page"] == {"number": of, "of": of}
    assert last.structured_content["next"] == f'view_images(images=["{job_id}"])'
    for page in (first, last):
        assert shown_chars(page) <= 9_000 and len(handles_of(page)) <= 24


async def test_a_chain_of_400_images_is_read_to_its_end(make_service: MakeService) -> None:
    async with make_service() as service:
        job_id = await ended_chain(service, 40, 10)
        async with over(service) as client:
            pages = await read_through(client, job_id)
    handles = [handle for page in pages for handle in handles_of(page)]
    assert handles[:40] == [f"{job_id}/{10 * lane}" for lane in range(1, 41)], "final images first"
    assert len(handles) == 400 and set(handles) == {f"{job_id}/{n}" for n in range(1, 401)}
    assert max(shown_chars(page) for page in pages) <= 9_000
    assert max(len(handles_of(page)) for page in pages) <= 24
    assert [page.structured_content["page"] for page in pages] == [
        {"number": n, "of": len(pages)} for n in range(1, len(pages) + 1)
    ]
    assert pages[-1].structured_content["next"] == f'view_images(images=["{job_id}"])'


@pytest.mark.parametrize("url_chars", [90, 300, 1500, 20_000])
async def test_a_page_is_short_however_long_its_urls_are(make_service: MakeService, url_chars: int) -> None:
    async with make_service() as service:
        job_id = await ended_chain(service, 40, 1, url_chars)
        async with over(service) as client:
            pages = await read_through(client, job_id)
    sizes = [len(handles_of(page)) for page in pages]
    assert sum(sizes) == 40 and sizes[0] >= {90: 10, 300: 7, 1500: 2, 20_000: 1}[url_chars]
    assert max(shown_chars(page) for page in pages) <= max(9_000, 2 * url_chars + 2_000)


async def test_a_page_keeps_its_images_when_their_urls_change(make_service: MakeService, clock: FakeClock) -> None:
    async with make_service() as service:
        job_id = await ended_chain(service, 40, 1, url_chars=300)
        async with over(service) as client:
            before = [handles_of(page) for page in await read_through(client, job_id)]
            clock.advance(7 * 86400)
            assert [handles_of(page) for page in await read_through(client, job_id)] == before
            for url in (None, "https://cdn.example/short", "https://cdn.example/" + "long" * 200):
                service.store.plain._db.connection.execute("UPDATE frames SET url = ?", (url,))
                assert [handles_of(page) for page in await read_through(client, job_id)] == before
    assert len(before) > 3


async def test_a_missing_page_is_refused_with_the_last_number(make_service: MakeService) -> None:
    async with make_service() as service:
        job_id = await ended_chain(service, 40, 1)
        async with over(service) as client:
            past = await client.call_tool("get_status", {"job_id": job_id, "page": 5})
            none = await client.call_tool("get_status", {"job_id": job_id, "page": 0})
            last = await client.call_tool("get_status", {"job_id": job_id, "page": 4})
    assert past.is_error and f'4 pages of images; page was 5. get_status(job_id="{job_id}", page=4)' in text_of(past)
    assert none.is_error and "`page`" in text_of(none) and "at least 1" in text_of(none)
    assert handles_of(last)[-1] == f"{job_id}/40"


async def test_a_job_of_one_page_names_none(make_service: MakeService) -> None:
    async with make_service() as service:
        job_id = await ended_chain(service, 3, 2)
        async with over(service) as client:
            result = await client.call_tool("get_status", {"job_id": job_id})
    assert handles_of(result) == [f"{job_id}/{n}" for n in (2, 4, 6, 1, 3, 5)]
    assert "page" not in result.structured_content
    assert result.structured_content["next"] == f'view_images(images=["{job_id}"])'


async def test_reading_a_page_takes_nothing_up_again(
    make_service: MakeService, atlas: Emulator, clock: FakeClock
) -> None:
    async with make_service(atlas) as service:
        atlas.fault("poll", "503", times=None)
        job = await edit_sequence(service, [CAT], "warm", 1, NOW)
        async with over(service) as client:
            await client.call_tool("get_status", {"job_id": job.job_id, "wait_s": 55, "page": 1})
            clock.advance(A_DAY_S)
            failed = await client.call_tool("get_status", {"job_id": job.job_id, "wait_s": 55, "page": 1})
            again = await client.call_tool("get_status", {"job_id": job.job_id, "page": 1})
            looked = await client.call_tool("get_status", {"job_id": job.job_id})
    assert failed.structured_content["error"]["kind"] == "deadline"
    assert again.structured_content["status"] == "failed" and looked.structured_content["status"] == "running"


async def test_an_unstored_image_is_listed_and_counted(make_service: MakeService) -> None:
    async with make_service() as service:
        job_id = await ended_chain(service, 4, 1)
        service.store.plain._db.connection.execute("UPDATE frames SET sha256 = NULL WHERE n = 2")
        service.store.plain._db.connection.execute("UPDATE jobs SET returned = 3, status = 'partial'")
        async with over(service) as client:
            result = await client.call_tool("get_status", {"job_id": job_id, "page": 1})
    fields = result.structured_content
    assert len(fields["images"]) == fields["returned"] == 4 and fields["progress"]["done"] == 3
    assert "4 of 4 images" in text_of(result)


# -- text --------------------------------------------------------------------------------------------------------------


async def test_text_lists_handle_url_and_path_like_the_json(make_service: MakeService) -> None:
    async with make_service() as service:
        job_id = await ended_chain(service, 10, 3)
        async with over(service) as client:
            pages = await read_through(client, job_id)
            uploaded = await client.call_tool("upload_images", {"images": [CAT, str(SAMPLES / "coffee.jpg")]})
    for result in (*pages, uploaded):
        lines = [line for line in text_of(result).splitlines() if line.startswith(("job_", "img_"))]
        images = result.structured_content["images"]
        for line, image in zip(lines[-len(images) :], images, strict=True):
            assert line.split()[0] == image["handle"]
            assert f" {image['url']}" in line and line.endswith(f" {image['path']}")
    assert f"page 1 of {len(pages)}: {len(handles_of(pages[0]))} of 30 images" in text_of(pages[0])


# -- links -------------------------------------------------------------------------------------------------------------

LINKED = [
    image_result("job_12345678/1", url="https://cdn.example/1.png", mime_type="image/png"),
    image_result("job_12345678/2", url="http://127.0.0.1:8901/2.png"),
    image_result("job_12345678/3", url="http://cdn.example/3.png"),
    image_result("job_12345678/4", url="file:///home/4.png", path="/home/4.png"),
    image_result("job_12345678/5"),
]


def named(name: str) -> types.Implementation:
    return types.Implementation(name=name, version="1")


async def linked(told: CannedService, links: bool | None = None, mode: str = "auto", **options: Any) -> list[str]:
    async def opened() -> Any:
        return told

    server = build(opened, remote=False, links=lambda: links)
    async with Client(server, mode=mode, **options) as client:
        result = await client.call_tool("get_status", {"job_id": "job_12345678"})
    return [link.uri for link in links_of(result)]


async def test_an_image_on_the_web_has_one_link(told: CannedService) -> None:
    told.answer = job_result(images=LINKED)
    assert await linked(told) == ["https://cdn.example/1.png", "http://127.0.0.1:8901/2.png"]
    link = links_of(tools.tool_result(told.answer))[0]
    assert (link.name, link.mime_type) == ("job_12345678/1", "image/png")
    assert link.annotations and link.annotations.audience == ["user"] and link.annotations.priority == 0.8


@pytest.mark.parametrize("status", ["queued", "running"])
async def test_a_job_that_runs_has_no_links(told: CannedService, status: str) -> None:
    told.answer = job_result(images=LINKED, status=status)
    assert await linked(told) == []


async def test_an_upload_has_no_links() -> None:
    assert links_of(tools.tool_result(UploadResult(images=LINKED, provider="atlas"))) == []


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize(
    ("client", "links", "count"),
    [
        ("claude-code", None, 0),
        ("codex-mcp-client", None, 0),
        ("cursor-vscode", None, 2),
        ("claude-ai", None, 2),
        ("claude-code", True, 2),
        ("cursor-vscode", False, 0),
    ],
)
async def test_links_follow_the_client_or_the_setting(
    told: CannedService, client: str, links: bool | None, count: int, mode: str
) -> None:
    told.answer = job_result(images=LINKED)
    assert len(await linked(told, links, mode, client_info=named(client))) == count


def test_the_setting_of_links_is_on_off_or_nothing() -> None:
    read = [settings.read({"TRIPTYCH_LINKS": said}).links for said in ("", "on", " OFF ")]
    assert read == [None, True, False]
    with pytest.raises(errors.BadRequest, match='TRIPTYCH_LINKS must be on or off; it is "maybe"'):
        settings.read({"TRIPTYCH_LINKS": "maybe"})


# -- pictures ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def noise(tmp_path: Path) -> list[str]:
    """Twelve pictures that no encoder makes small."""
    paths = [tmp_path / f"noise-{n}.png" for n in range(12)]
    for path in paths:
        Image.frombytes("RGB", (1200, 900), os.urandom(1200 * 900 * 3)).save(path, compress_level=0)
    return [str(path) for path in paths]


@pytest.mark.parametrize("count", [1, 12])
async def test_view_images_is_small_unless_detail_is_asked_for(
    make_service: MakeService, noise: list[str], tmp_path: Path, count: int
) -> None:
    chars = {}
    async with make_service(TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service, over(service) as client:
        for detail in (False, True):
            result = await client.call_tool("view_images", {"images": noise[:count], "detail": detail})
            chars[detail] = sum(len(block.data) for block in result.content if isinstance(block, types.ImageContent))
            assert base64.b64decode(result.content[0].data).startswith(b"\xff\xd8")
    assert 60_000 < chars[False] < 200_000 < chars[True] < 540_000


# -- what else is long -------------------------------------------------------------------------------------------------


async def test_an_upload_of_200_pictures_names_every_handle(make_service: MakeService, tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.png" for n in range(200)]
    for n, path in enumerate(paths):
        Image.new("RGB", (8, 8), (n, 0, 0)).save(path)
    async with make_service(TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service, over(service) as client:
        result = await client.call_tool("upload_images", {"images": [str(path) for path in paths]})
        handles = handles_of(result) + result.structured_content["more"]
        seen = await client.call_tool("view_images", {"images": handles[-1:]})
    assert len(set(handles)) == 200 and 1 <= len(handles_of(result)) <= 24 and not seen.is_error
    assert shown_chars(result) <= 9_000 and all(handle in text_of(result) for handle in handles)
    assert f"and {200 - len(handles_of(result))} more: " in text_of(result)


async def test_an_upload_with_many_warnings_stays_short() -> None:
    images = [image_result(f"img_{n:08x}", url=f"https://cdn.example/{n}.png", path=f"/a/{n}.png") for n in range(200)]
    warnings = [f"img_{n:08x} is stored, not yet at Atlas Cloud: {'no ' * 60}" for n in range(200)]
    result = tools.tool_result(UploadResult(images=images, provider="atlas", warnings=warnings))
    fields = result.structured_content
    assert shown_chars(result) <= 9_000
    assert [image["handle"] for image in fields["images"]] + fields["more"] == [image.handle for image in images]
    assert fields["warnings"][0].endswith("more warnings; the same call for these images has them.")


async def test_a_dry_run_of_a_long_prompt_stays_short(make_service: MakeService, atlas: Emulator) -> None:
    prompt = "a fox in a forest, " * 180
    async with make_service(atlas) as service, over(service) as client:
        asked = {"images": [CAT] * 14, "prompt": prompt, "dry_run": True}
        result = await client.call_tool("edit_sequence", asked)
    assert not result.is_error, result.content
    assert shown_chars(result) <= 9_000 and result.structured_content["request"]["json"]["prompt"].startswith("a fox")


async def test_a_thousand_warnings_leave_room_for_the_images() -> None:
    images = [image_result(f"job_12345678/{n}", url=f"https://cdn.example/{n}.png") for n in range(1, 11)]
    error = Failure(kind="failed", message="no " * 290, retryable=False)
    warnings = [f"job_12345678/{n} is missing: {'gone ' * 30}" for n in range(1000)]
    result = tools.tool_result(job_result(images=images, status="partial", error=error, warnings=warnings))
    assert shown_chars(result) <= 9_000 and len(handles_of(result)) == 10
    assert result.structured_content["error"]["message"] == error.message.strip()
    assert len(result.structured_content["warnings"]) > 5


# -- refusals ----------------------------------------------------------------------------------------------------------

WRONG: list[tuple[str, dict[str, Any]]] = [
    ("upload_images", {}),
    ("upload_images", {"images": ["/etc/hostname"]}),
    ("edit_sequence", {"images": ["img_00000000"], "prompt": "warm"}),
    ("edit_sequence", {"images": [CAT], "prompt": "warm", "count": 99}),
    ("edit_sequence", {"images": [CAT], "prompt": "warm", "provider": "atlas"}),
    ("edit_sequence", {"images": [CAT], "prompt": "warm", "provider": "nobody"}),
    ("edit_chain", {"images": [CAT]}),
    ("edit_chain", {"images": ["https://127.0.0.1/a.png"], "steps": ["warm"]}),
    ("generate_sequence", {"prompt": "a fox", "size": "enormous"}),
    ("generate_sequence", {"prompt": "a fox", "colour": "red"}),
    ("get_status", {"job_id": "job_00000000"}),
    ("get_status", {"job_id": "job_00000000", "page": "two"}),
    ("list_jobs", {"limit": 1000}),
    ("cancel_job", {"job_id": "job_00000000"}),
    ("list_models", {"operation": "inpaint"}),
    ("view_images", {"images": ["img_00000000"]}),
    ("save_images", {"images": [CAT], "directory": "/triptych-outside"}),
]


async def test_every_refusal_of_every_tool_begins_with_error(make_service: MakeService) -> None:
    assert {tool for tool, _ in WRONG} == set(tools.TOOLS)
    async with make_service() as service, over(service) as client:
        for tool, arguments in WRONG:
            result = await client.call_tool(tool, arguments)
            assert result.is_error, (tool, arguments)
            assert text_of(result).startswith("Error: ") and len(text_of(result)) < 1000


async def test_no_answer_that_is_no_refusal_begins_with_error(make_service: MakeService) -> None:
    async with make_service() as service, over(service) as client:
        for tool, arguments in (("list_jobs", {}), ("list_models", {}), ("upload_images", {"images": [CAT]})):
            assert not text_of(await client.call_tool(tool, arguments)).startswith("Error")


# -- over stdio and HTTP -----------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[dict[str, str], Over]]:
    """Return the environment of one home on the emulator, and what connects a client over stdio or HTTP to it."""
    with running("atlas", latency_s=0.3, max_side=48, url_chars=300) as api:
        env = environ(tmp_path / "home", ATLASCLOUD_API_KEY=api.key, ATLASCLOUD_BASE_URL=api.base_url)

        @asynccontextmanager
        async def connected(transport: str, **options: Any) -> AsyncIterator[Client]:
            if transport == "stdio":
                server = StdioServerParameters(
                    command=sys.executable, args=["-m", "triptych"], env=env | options.pop("env", {}), cwd=tmp_path
                )
                async with Client(server, **options) as client:
                    yield client
                return
            child = Child("-c", SERVE, "http", env=env | options.pop("env", {}))
            try:
                async with Client(child.url(), **options) as client:
                    yield client
            finally:
                child.end()

        yield env, connected


@pytest.mark.slow
async def test_pages_are_the_same_over_stdio_and_http(served: tuple[dict[str, str], Over]) -> None:
    _, connected = served
    async with connected("stdio") as client:
        asked = {"images": [CAT] * 4, "steps": ["warm", "cool", "dark"], "wait_s": 0}
        job = (await client.call_tool("edit_chain", asked)).structured_content
        with anyio.fail_after(120):
            while job["status"] in ("queued", "running") or job["cost"]["charged"] is None:
                job = (await client.call_tool("get_status", {"job_id": job["job_id"], "wait_s": 55})).structured_content
                assert job["images"] or job["status"] in ("queued", "running")
        local = await read_through(client, job["job_id"])
    async with connected("http") as client:
        remote = await read_through(client, job["job_id"])
    assert len(local) == 2 and [page.content for page in local] == [page.content for page in remote]
    assert [page.structured_content for page in local] == [page.structured_content for page in remote]
    assert all(len(links_of(page)) == len(handles_of(page)) for page in local)


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_the_setting_of_links_reaches_a_served_client(
    served: tuple[dict[str, str], Over], transport: str
) -> None:
    _, connected = served
    asked = {"images": [CAT], "prompt": "warm", "wait_s": 55}
    async with connected(transport, env={"TRIPTYCH_LINKS": "on"}, client_info=named("claude-code")) as client:
        assert len(links_of(await client.call_tool("edit_sequence", asked))) == 1
    async with connected(transport, env={"TRIPTYCH_LINKS": "off"}) as client:
        assert links_of(await client.call_tool("edit_sequence", asked)) == []


@pytest.mark.slow
async def test_a_wrong_setting_of_links_is_refused_by_the_call(served: tuple[dict[str, str], Over]) -> None:
    _, connected = served
    async with connected("stdio", env={"TRIPTYCH_LINKS": "maybe"}) as client:
        result = await client.call_tool("list_jobs", {})
    assert result.is_error and "TRIPTYCH_LINKS must be on or off" in text_of(result)
