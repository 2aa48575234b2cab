"""What a client receives when it saves: all files of a few, a short summary of many."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from mcp import Client

from support.fixtures import MakeService
from support.pictures import picture
from triptych.jobs.results import Saved, SaveResult
from triptych.jobs.service import ImageService
from triptych.server import fitting, schemas, tools
from triptych.server.app import build

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def over(service: ImageService) -> AsyncIterator[Client]:
    async def opened() -> ImageService:
        return service

    async with Client(build(opened, remote=False)) as client:
        yield client


def photos(folder: Path, count: int) -> list[str]:
    folder.mkdir()
    for n in range(count):
        (folder / f"product-{n:03}.png").write_bytes(picture(f"#{n:03}0f0", (24, 20)))
    return [str(path) for path in sorted(folder.iterdir())]


async def test_a_few_files_are_all_listed(make_service: MakeService, tmp_path: Path) -> None:
    async with make_service(TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service, over(service) as client:
        given = {"images": photos(tmp_path / "in", 6), "directory": str(tmp_path / "out"), "size": "16x16, 20"}
        result = await client.call_tool("save_images", given)
    fields = result.structured_content
    assert fields["count"] == len(fields["saved"]) == 12
    text = result.content[0].text  # type: ignore[union-attr]
    assert all(one["path"] in text for one in fields["saved"])
    assert {"more", "next", "archive", "manifests"}.isdisjoint(fields)


async def test_two_sizes_of_two_hundred_images_stay_short(make_service: MakeService, tmp_path: Path) -> None:
    async with make_service(TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service, over(service) as client:
        given = {"images": photos(tmp_path / "in", 200), "directory": str(tmp_path / "out"), "size": "16x16, 18"}
        result = await client.call_tool("save_images", {**given, "format": "webp"})
    fields, text = result.structured_content, result.content[0].text  # type: ignore[union-attr]
    assert len(list((tmp_path / "out").iterdir())) == fields["count"] == 400
    assert len(json.dumps(fields)) < 2000 and len(text) < 2000
    assert [Path(one["path"]).name for one in fields["saved"]] == [
        "product-000-16x16.webp",
        "product-000-18.webp",
        "product-001-16x16.webp",
    ]
    more = f"and 397 more files in {tmp_path / 'out'}, product-001-18.webp to product-199-18.webp"
    assert fields["more"] == more and more in text


async def test_a_save_says_its_sizes_mistake_as_a_refusal(make_service: MakeService, tmp_path: Path) -> None:
    async with make_service(TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service, over(service) as client:
        given = {"images": photos(tmp_path / "in", 1), "directory": str(tmp_path), "size": "16:9"}
        result = await client.call_tool("save_images", given)
    assert result.is_error
    assert '"16:9" in size is not a size. Examples: "1080x1080"' in result.content[0].text  # type: ignore[union-attr]


@pytest.mark.parametrize("count", [1, 3, 4, 41, 8000])
def test_any_number_of_files_is_fitted(count: int) -> None:
    saved = [Saved(handle=f"img_{n:08}", path=f"/{'d' * 3000}/{n}.png") for n in range(count)]
    warnings = [f"{n}: {'w' * 400}" for n in range(20)]
    fitted = fitting.fitted(SaveResult(saved=saved, count=count, directory="/d", warnings=warnings))
    assert isinstance(fitted, SaveResult)
    assert (fitted.count, len(fitted.saved)) == (count, min(count, 3))
    assert bool(fitted.more) is (count > 3)
    assert len(fitted.warnings) < 6 and "more warnings" in fitted.warnings[0]


def test_a_call_stops_before_hosts_give_it_up() -> None:
    assert tools.SAVE_WITHIN_S < schemas.WAIT_LIMIT_S
