"""The same work over memory, stdio, streamable HTTP and SSE, in both protocol eras, on the real offline service."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import anyio
import jsonschema
import mcp_types as types
import pytest
from mcp import Client, MCPError

from support.servers import SAMPLES, SMALL, Connect

pytestmark = pytest.mark.anyio

CAT = str(SAMPLES / "cat.jpg")
PATIENCE_S = 60


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool that must succeed, hold its answer against the schema in the list, and return its fields."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    schema = next(t for t in (await client.list_tools()).tools if t.name == tool).output_schema
    jsonschema.validate(result.structured_content, schema, jsonschema.Draft202012Validator)
    fields: dict[str, Any] = result.structured_content
    return fields


async def test_the_declared_capabilities_are_those_served(connect: Connect) -> None:
    async with connect() as client:
        listed = await client.list_tools()
        capabilities, instructions = client.server_capabilities, client.instructions
    assert [tool.name for tool in listed.tools][1:4] == ["edit_sequence", "edit_chain", "generate_sequence"]
    assert instructions and "list_jobs" in instructions
    assert capabilities.resources and capabilities.resources.subscribe and capabilities.resources.list_changed
    assert capabilities.tools and not capabilities.tools.list_changed
    assert capabilities.prompts and not capabilities.prompts.list_changed and capabilities.completions is not None


async def test_every_tool_does_its_part_of_the_work(connect: Connect, tmp_path: Path) -> None:
    async with connect() as client:
        uploaded = await call(client, "upload_images", images=[CAT])
        cat = uploaded["images"][0]["handle"]

        quote = await call(client, "edit_sequence", images=[cat], prompt="warm; cool", count=2, dry_run=True)
        assert quote["status"] == "dry_run" and quote["job_id"] is None and quote["request"]

        job = await call(client, "edit_sequence", images=[cat], prompt="warm; cool", count=2, again=True)
        assert (job["status"], job["requested"], job["returned"]) == ("done", 2, 2)
        first, second = (image["handle"] for image in job["images"])

        chain = await call(client, "edit_chain", images=[first, second], steps=["sepia", "vignette"], again=True)
        assert chain["status"] == "done" and chain["returned"] == 4

        made = await call(client, "generate_sequence", prompt="a lighthouse", count=2, size=SMALL, again=True)
        assert made["status"] == "done"

        again = await call(client, "get_status", job_id=job["job_id"])
        assert [image["handle"] for image in again["images"]] == [first, second]
        assert (await call(client, "list_jobs", limit=1))["jobs"][0]["job_id"] == made["job_id"]
        assert (await call(client, "cancel_job", job_id=job["job_id"]))["status"] == "done"
        models = await call(client, "list_models", provider="draft")
        assert {"edit-sequential", "generate-sequential"} <= set(models["models"][0]["endpoints"])

        seen = await client.call_tool("view_images", {"images": [cat, first]})
        assert isinstance(seen.content[0], types.ImageContent) and seen.structured_content is None
        assert base64.b64decode(seen.content[0].data).startswith(b"\xff\xd8")


async def test_a_refusal_is_text_wherever_it_is_read(connect: Connect) -> None:
    async with connect() as client:
        outside = await client.call_tool("upload_images", {"images": ["/etc/hostname"]})
        unknown = await client.call_tool("get_status", {"job_id": "job_00000000"})
    for result, words in ((outside, "TRIPTYCH_ALLOWED_DIRS"), (unknown, "list_jobs")):
        assert result.is_error and result.structured_content is None
        assert isinstance(result.content[0], types.TextContent) and words in result.content[0].text


async def test_images_are_saved_only_where_the_caller_may_write(connect: Connect) -> None:
    async with connect() as client:
        cat = (await call(client, "upload_images", images=[CAT]))["images"][0]["handle"]
        refused = await client.call_tool("save_images", {"images": [cat], "directory": "/triptych-outside"})
    assert refused.is_error and isinstance(refused.content[0], types.TextContent)
    assert "[not_allowed]" in refused.content[0].text


async def test_progress_flows_while_a_call_waits(connect: Connect) -> None:
    heard: list[tuple[float, float | None]] = []

    async def hear(done: float, total: float | None, message: str | None) -> None:
        heard.append((done, total))

    words = {"images": [CAT], "prompt": "warm; cool; night", "count": 3, "again": True}
    async with connect() as client:
        await client.call_tool("edit_sequence", words, progress_callback=hear)
    assert heard[-1] == (3, 3) and [done for done, _ in heard] == sorted(done for done, _ in heard)


async def test_resources_show_jobs_images_and_models(connect: Connect) -> None:
    async with connect() as client:
        job = await call(client, "edit_sequence", images=[CAT], prompt="night", again=True)
        handle = job["images"][0]["handle"]
        listed = {resource.uri: resource for resource in (await client.list_resources()).resources}
        assert listed[f"triptych://images/{handle}"].mime_type == "image/jpeg"

        image = (await client.read_resource(f"triptych://images/{handle}")).contents[0]
        assert isinstance(image, types.BlobResourceContents) and len(base64.b64decode(image.blob)) <= 100_000
        assert image.meta and image.meta["url"] == job["images"][0]["url"] and image.meta["width"]

        for uri, key in (("jobs", "jobs"), (f"jobs/{job['job_id']}", "images"), ("models", "models")):
            content = (await client.read_resource(f"triptych://{uri}")).contents[0]
            assert isinstance(content, types.TextResourceContents) and json.loads(content.text)[key]
        with pytest.raises(MCPError, match="no image"):
            await client.read_resource("triptych://images/img_00000000")


async def test_a_subscriber_hears_of_job_changes_and_new_images(connect: Connect) -> None:
    heard: set[str] = set()
    all_heard = anyio.Event()

    def hear(what: str) -> None:
        heard.add(what)
        if {"triptych://jobs", "list_changed"} <= heard:
            all_heard.set()

    async def message(message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            hear(message.params.uri)
        elif isinstance(message, types.ResourceListChangedNotification):
            hear("list_changed")

    async def work(client: Client) -> None:
        await call(client, "edit_sequence", images=[CAT], prompt="sepia", again=True)

    with anyio.fail_after(PATIENCE_S):
        async with connect(message_handler=message) as client:
            if client.protocol_version == "2026-07-28":
                watching = client.listen(resources_list_changed=True, resource_subscriptions=["triptych://jobs"])
                async with watching as events, anyio.create_task_group() as tasks:
                    tasks.start_soon(work, client)
                    async for event in events:
                        hear(getattr(event, "uri", "list_changed"))
                        if all_heard.is_set():
                            break
            else:
                # Sent as they are: the SDK's own methods warn that this era is on its way out.
                jobs = "triptych://jobs"
                subscribe = types.SubscribeRequest(params=types.SubscribeRequestParams(uri=jobs))
                unsubscribe = types.UnsubscribeRequest(params=types.UnsubscribeRequestParams(uri=jobs))
                await client.session.send_request(subscribe, types.EmptyResult)
                await work(client)
                await all_heard.wait()
                await client.session.send_request(unsubscribe, types.EmptyResult)


async def test_a_job_goes_on_when_its_client_leaves(connect: Connect) -> None:
    job: Any = None
    try:
        async with connect() as client:
            chain = {"images": [CAT], "steps": ["warm", "sepia", "vignette"], "wait_s": 0, "again": True}
            job = await call(client, "edit_chain", **chain)
    except* anyio.BrokenResourceError:
        pass  # leaving in the middle of a stream can break the client's own reader; the claim is about the job
    assert job["status"] in ("queued", "running")
    async with connect() as client:
        with anyio.fail_after(PATIENCE_S):
            while job["status"] in ("queued", "running"):
                job = await call(client, "get_status", job_id=job["job_id"], wait_s=20)
    assert job["status"] == "done" and job["returned"] == 3
