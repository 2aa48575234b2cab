"""Looks as a client sees them: the tool, the resources, the completion; and from the command line."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from click.testing import CliRunner
from mcp import Client
from mcp.shared.exceptions import MCPError

from support.fixtures import MakeService
from triptych.cli import cli
from triptych.cli.formatting import Exit
from triptych.jobs.service import ImageService
from triptych.server.app import build

pytestmark = pytest.mark.anyio

WORDS = "soft morning light,\nwarm film grain"


@asynccontextmanager
async def connected(make_service: MakeService) -> AsyncIterator[Client]:
    async with make_service() as service:

        async def opened() -> ImageService:
            return service

        async with Client(build(opened, remote=False)) as client:
            yield client


async def read(client: Client, uri: str) -> Any:
    content = (await client.read_resource(uri)).contents[0]
    assert isinstance(content, types.TextResourceContents)
    return json.loads(content.text)


async def test_a_client_stores_uses_and_reads_a_look(make_service: MakeService, coffee: str, samples: Path) -> None:
    async with connected(make_service) as client:
        given = {"images": [coffee], "look": "coffee", "words": WORDS}
        stored = (await client.call_tool("upload_images", given)).structured_content
        assert stored and stored["look"] == "look:coffee version 1: 1 image, 35 characters of words"
        cat = str(samples / "cat.jpg")
        result = await client.call_tool("edit_sequence", {"images": [cat, "look:coffee"], "prompt": "by a window"})
        assert not result.is_error and (job := result.structured_content)
        assert job["status"] == "done" and job["images"][0]["source"][-1] == stored["images"][0]["handle"]
        (look,) = (await read(client, "triptych://looks"))["looks"]
        assert look | {"created_at": ""} == {
            "name": "coffee", "version": 1, "words": "soft morning light, warm film grain",
            "images": [stored["images"][0]["handle"]], "created_at": "",
        }  # fmt: skip
        await client.call_tool("upload_images", {"images": [coffee, cat], "look": "Coffee"})
        assert [one["version"] for one in (await read(client, "triptych://looks/coffee"))["looks"]] == [1, 2]
        assert [one["version"] for one in (await read(client, "triptych://looks"))["looks"]] == [2]
        with pytest.raises(MCPError, match="There is no look:tea; there are: look:coffee"):
            await client.read_resource("triptych://looks/tea")


async def test_a_job_tells_its_look_and_original_for_the_gallery(make_service: MakeService, coffee: str) -> None:
    async with connected(make_service) as client:
        look = {"images": [coffee], "look": "coffee", "words": "soft"}
        stored = (await client.call_tool("upload_images", look)).structured_content
        given = {"images": [coffee], "steps": ["warmer", "a cup!"], "references": ["original", "look:coffee"]}
        job = (await client.call_tool("edit_chain", given)).structured_content
        assert stored and job
        made = ((await client.read_resource(f"triptych://jobs/{job['job_id']}")).contents[0].meta or {})["making"]
        handle = stored["images"][0]["handle"]
        assert (made["prompts"], made["references"], made["lanes"]) == (given["steps"], ["original"], [[handle]])
        assert made["look"] == {"name": "coffee", "version": 1, "words": "soft", "images": [handle]}
        assert made["sent"] == ["warmer. Keep this look: soft", "a cup! Keep this look: soft"]
        plain = (await client.call_tool("edit_sequence", {"images": [coffee], "prompt": "warmer"})).structured_content
        assert plain
        made = ((await client.read_resource(f"triptych://jobs/{plain['job_id']}")).contents[0].meta or {})["making"]
        assert not {"references", "look", "sent"} & set(made)


async def test_words_without_a_look_are_refused(make_service: MakeService, coffee: str) -> None:
    async with connected(make_service) as client:
        refused = await client.call_tool("upload_images", {"images": [coffee], "words": WORDS})
    assert refused.is_error and 'add look="NAME"' in str(refused.content)


async def test_the_names_of_looks_are_completed(make_service: MakeService, coffee: str) -> None:
    async with connected(make_service) as client:
        for name in ("coffee", "film-warm", "warm"):
            await client.call_tool("upload_images", {"images": [coffee], "look": name})
        found = await client.complete(
            types.ResourceTemplateReference(uri="triptych://looks/{name}"), {"name": "name", "value": "warm"}
        )
    assert found.completion.values == ["warm", "film-warm"]


# -- the command line --------------------------------------------------------------------------------------------------


def run(*args: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, list(args))
    return result.exit_code, result.output


def test_the_command_line_stores_lists_shows_and_removes_looks(coffee: str, samples: Path) -> None:
    assert "No looks yet. `triptych upload" in run("look", "list")[1]
    code, text = run("upload", coffee, "--look", "coffee", "--words", "soft light " * 12)
    assert code == Exit.DONE and "look:coffee version 1: 1 image, 131 characters of words" in text
    code, text = run("upload", coffee, str(samples / "cat.jpg"), "--look", "coffee")
    assert code == Exit.DONE and "words" in text, "a version without words says so"
    shown = json.loads(run("look", "show", "coffee", "--json")[1])["looks"]
    assert [(one["version"], len(one["images"]), len(one["words"])) for one in shown] == [(1, 1, 131), (2, 2, 0)]
    code, text = run("look", "list")
    assert code == Exit.DONE and text.startswith("look:coffee version 2  ") and "img_" in text
    assert max(map(len, run("look", "show", "look:COFFEE")[1].splitlines())) <= 100
    code, text = run("edit", str(samples / "cat.jpg"), "look:coffee", "-p", "by a window")
    assert code == Exit.DONE, text
    assert run("look", "remove", "coffee") == (0, "Removed look:coffee; the jobs made with it stay as they are.\n")
    assert json.loads(run("look", "list", "--json")[1]) == {"looks": []}
    code, text = run("look", "show", "coffee")
    assert code == Exit.BAD_REQUEST and "look:coffee was removed" in text
