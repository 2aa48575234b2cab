"""Which directories a server over stdio opens, for a client that declares no roots."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from tests.conftest import SAMPLES

from support.systems import child_environment

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def started_in(directory: Path, home: Path, mode: Any = "auto", **environ: str) -> AsyncIterator[Client]:
    env = child_environment(TRIPTYCH_HOME=str(home / ".data")) | environ
    command = StdioServerParameters(command=sys.executable, args=["-m", "triptych"], env=env, cwd=str(directory))
    async with Client(stdio_client(command), mode=mode) as client:
        yield client


async def taken(client: Client, item: Path | str) -> str:
    """Return "yes" where an image is taken in, or the refusal."""
    result = await client.call_tool("upload_images", {"images": [str(item)]})
    return str(result.content[0].text) if result.is_error else "yes"  # type: ignore[union-attr]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name in ("project", "project/.hidden", "elsewhere"):
        (tmp_path / name).mkdir()
        shutil.copy(SAMPLES / "coffee.jpg", tmp_path / name / "photo.jpg")
    return tmp_path


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_working_directory_is_open_without_roots(mode: str, pictures: Path) -> None:
    project = pictures / "project"
    async with started_in(project, pictures, mode) as client:
        assert await taken(client, "photo.jpg") == await taken(client, project / "photo.jpg") == "yes"
        saved = await client.call_tool("save_images", {"images": ["photo.jpg"], "directory": "out", "name": "cup"})
        assert not saved.is_error and [path.name for path in (project / "out").iterdir()] == ["cup.jpg"]
        refused = await taken(client, pictures / "elsewhere" / "photo.jpg")
        hidden = await taken(client, ".hidden/photo.jpg")
    for said in (refused, hidden):
        assert "TRIPTYCH_ALLOWED_DIRS" in said and "triptych install HOST --allow DIR" in said
    assert str(project) in refused


async def test_an_allowed_directory_is_open_beside_it(pictures: Path) -> None:
    elsewhere = pictures / "elsewhere"
    async with started_in(pictures / "project", pictures, TRIPTYCH_ALLOWED_DIRS=str(elsewhere)) as client:
        assert await taken(client, elsewhere / "photo.jpg") == await taken(client, "photo.jpg") == "yes"


async def test_started_in_the_root_only_allowed_directories_are_open(pictures: Path) -> None:
    root, project = Path(pictures.anchor), pictures / "project"
    async with started_in(root, pictures) as client:
        assert "outside the allowed directories (none;" in await taken(client, project / "photo.jpg")
    async with started_in(root, pictures, TRIPTYCH_ALLOWED_DIRS=str(project)) as client:
        assert await taken(client, project / "photo.jpg") == "yes"


async def test_started_at_home_all_but_the_hidden_is_open(pictures: Path) -> None:
    async with started_in(pictures, pictures, HOME=str(pictures)) as client:
        assert await taken(client, "~/project/photo.jpg" if os.name != "nt" else "project/photo.jpg") == "yes"
        assert "is hidden" in await taken(client, pictures / "project" / ".hidden" / "photo.jpg")
