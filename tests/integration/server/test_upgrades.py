"""Two versions of Triptych side by side on one database, as while replicas are upgraded one after another."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from support import postgres
from support.clocks import until
from support.replicas import ending, replica
from support.servers import SAMPLES
from triptych_emulators import running

pytestmark = pytest.mark.anyio

COFFEE = str(SAMPLES / "coffee.jpg")
NEWER = 99
NEWER_PROGRAM = f"""
from triptych.storage import migrations
from triptych.storage.migrations import postgres
migrations.newest = postgres.newest = lambda: {NEWER}
"""
"""A program that knows version 99."""


@dataclass
class Shared:
    """A database that replicas share; `upgrade` does what a newer program's migration does to its version."""

    home: Path
    env: dict[str, str]
    upgrade: Callable[[bool], None]


@contextmanager
def shared(kind: str, home: Path) -> Iterator[Shared]:
    if kind == "sqlite":

        def upgrade(compatible: bool) -> None:
            with closing(sqlite3.connect(home / "triptych.db")) as database:
                database.execute(f"PRAGMA user_version = {NEWER}")
                if not compatible:
                    database.execute(f"PRAGMA application_id = {NEWER}")

        yield Shared(home, {}, upgrade)
        return
    with postgres.database(empty=True) as url:
        name = url.partition("/t")[2].partition("?")[0]

        def upgrade_server(compatible: bool) -> None:
            minimum = "minimum" if compatible else str(NEWER)
            postgres.server().execute(f"UPDATE triptych_version SET version = {NEWER}, minimum = {minimum}", f"t{name}")

        yield Shared(home, {"TRIPTYCH_DATABASE_URL": url}, upgrade_server)


async def edit(client: Client, prompt: str) -> Any:
    return await client.call_tool("edit_sequence", {"images": [COFFEE], "prompt": prompt, "wait_s": 0})


async def ended(client: Client, job_id: str) -> Any:
    result = await client.call_tool("get_status", {"job_id": job_id, "wait_s": 50})
    assert result.structured_content is not None, result.content
    return result.structured_content["status"]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("compatible", [True, False])
async def test_a_version_and_the_next_work_side_by_side(tmp_path: Path, kind: str, compatible: bool) -> None:
    with shared(kind, tmp_path / "home") as base, running("atlas", latency_s=1.0, max_side=64, price="prompt") as atlas:
        old = replica(base.home, atlas, env=base.env, stateless=True)
        with ending(old):
            async with Client(old.url(), mode="auto") as client:
                first = await edit(client, "sent by the older program")
                await anyio.to_thread.run_sync(until, lambda: bool(atlas.accepted))
                await anyio.to_thread.run_sync(base.upgrade, compatible)
                new = replica(base.home, atlas, env=base.env, stateless=True, before=NEWER_PROGRAM)
                with ending(new):
                    async with Client(new.url(), mode="auto") as newer:
                        assert await ended(newer, first.structured_content["job_id"]) == "done"
                        second = await edit(newer, "stored by the newer program")
                        assert await ended(newer, second.structured_content["job_id"]) == "done"
                        third = await edit(client, "stored by the older program")
                        if compatible:
                            assert await ended(newer, third.structured_content["job_id"]) == "done"
                        else:
                            assert third.is_error
                            assert "A newer Triptych has changed" in third.content[0].text
                        shown = await ended(client, first.structured_content["job_id"])
                        assert shown == "done", "the older program still shows jobs"
        assert len(atlas.accepted) == (3 if compatible else 2)
