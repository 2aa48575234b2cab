"""PostgreSQL stops under a served process: what its clients learn, and what its log says, how often."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp import Client, MCPError, StdioServerParameters

from support import postgres
from support.servers import SERVE, SMALL, Child, environ

pytestmark = pytest.mark.anyio

OPERATORS = re.compile(r"127\.0\.0\.1|localhost|guarded|postgres|psql|port|pg_hba|TRIPTYCH_|/", re.IGNORECASE)
"""What only the operator of a server may read of its database."""


@pytest.fixture(scope="module")
def database() -> Iterator[postgres.Server]:
    with postgres.own_server() as server:
        server.add_guarded()
        yield server


@asynccontextmanager
async def served(home: Path, url: str) -> AsyncIterator[tuple[str, Child]]:
    """Run a server on a database; give its address and its process, which has ended in order after the block."""
    env = environ(home, TRIPTYCH_DATABASE_URL=url, TRIPTYCH_METRICS="on")
    child = Child("-c", SERVE, "http", env=env)
    try:
        yield child.url(), child
    finally:
        assert child.end() == 0, "".join(child.said)


async def everything_said(client: Client, base: str, job_id: str) -> dict[str, str]:
    """Return what every sort of request is answered, by its name."""
    said = {}
    for tool, arguments in (
        ("list_jobs", {}),
        ("get_status", {"job_id": job_id, "wait_s": 1}),
        ("view_images", {"images": [f"{job_id}/1"]}),
        ("generate_sequence", {"prompt": "a cat", "size": SMALL}),
        ("cancel_job", {"job_id": job_id}),
    ):
        result = await client.call_tool(tool, arguments)
        assert result.is_error and isinstance(result.content[0], types.TextContent), tool
        said[tool] = result.content[0].text
    argument = types.ResourceTemplateReference(uri="triptych://jobs/{id}"), {"name": "id", "value": "j"}
    for name, asked in {
        "list_resources": lambda: client.list_resources(),
        "read_resource": lambda: client.read_resource(f"triptych://jobs/{job_id}"),
        "complete": lambda: client.complete(*argument),
        "subscribe": lambda: _subscribed(client, f"triptych://jobs/{job_id}"),
    }.items():
        with pytest.raises(MCPError) as refused:
            await asked()
        said[name] = f"{refused.value.error.message} {refused.value.error.data or ''}"
    for path in ("readyz", "metrics", "gallery/api/jobs", f"files/{job_id}/1?e=9999999999&s=x", "hooks/x"):
        answer = await anyio.to_thread.run_sync(lambda path=path: httpx2.get(f"{base}/{path}", timeout=30))
        said[path] = "" if path == "metrics" and "127.0.0.1" not in answer.text else answer.text
    return said


async def _subscribed(client: Client, uri: str) -> None:
    if client.session.protocol_version >= "2026":
        async with client.listen(resource_subscriptions=[uri]):
            return
    request = types.SubscribeRequest(params=types.SubscribeRequestParams(uri=uri))
    await client.session.send_request(request, types.EmptyResult)


def operators_part(text: str) -> str | None:
    found = OPERATORS.search(text.replace("triptych://", ""))
    return found[0] if found else None


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_only_the_log_names_a_database_that_is_away(database: postgres.Server, tmp_path: Path, era: str) -> None:
    url = database.url(database.create(empty=True), tcp=True)
    async with served(tmp_path, url) as (address, child), Client(address, mode=era) as client:
        made = await client.call_tool("generate_sequence", {"prompt": "a fox", "size": SMALL, "wait_s": 50})
        job_id = (made.structured_content or {})["job_id"]
        database.halt()
        try:
            for _ in range(3):  # longer than every loop of the server waits
                said = await everything_said(client, address.rpartition("/")[0], job_id)
                await anyio.sleep(1)
        finally:
            database.start()
        for request, text in said.items():
            assert operators_part(text) is None, (request, text)
        assert "cannot be reached or used now. Triptych asks again" in said["list_jobs"]
        assert not (await client.call_tool("list_jobs", {})).is_error
    logged = [text for text in child.said if " WARNING " in text or " ERROR " in text]
    assert len(logged) == 2, "an outage is logged at its beginning and at its end: " + "".join(logged)
    assert f"127.0.0.1:{database.port}" in logged[0] and "over after" in logged[1]


async def test_clients_do_not_learn_why_a_login_is_refused(database: postgres.Server, tmp_path: Path) -> None:
    url = database.url(database.create(empty=True), "guarded:wrong", tcp=True)
    async with served(tmp_path, url) as (address, child), Client(address) as client:
        said = {}
        for _ in range(3):
            said |= await everything_said(client, address.rpartition("/")[0], "job_12345678")
        for request, text in said.items():
            assert operators_part(text) is None, (request, text)
        assert "operator has to mend it" in said["list_jobs"] and "[unusable]" in said["list_jobs"]
    refusals = [text for text in child.said if "refused the login" in text]
    assert len(refusals) == 1 and 'pg_hba.conf for "guarded"' in refusals[0]


async def test_the_person_at_the_machine_reads_all_of_it(database: postgres.Server, tmp_path: Path) -> None:
    env = environ(tmp_path, TRIPTYCH_DATABASE_URL=database.url("postgres", "guarded:wrong", tcp=True))
    server = StdioServerParameters(command=sys.executable, args=["-m", "triptych"], env=env, cwd=tmp_path)
    async with Client(server) as client:
        refused = await client.call_tool("list_jobs", {})
    assert isinstance(refused.content[0], types.TextContent)
    assert f"127.0.0.1:{database.port} refused the login" in refused.content[0].text
