"""The official EvoLink client against the emulator: an emulator that repeats our own belief proves nothing.

npm @evolinkai/evolink-media is itself an MCP server: it is started over stdio and its tools are called. Its files stay
as they were installed; `oracle/evolink_on_loopback.mjs` sends what it fetches to the emulator.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support import ROOT
from support.clients import CallTool, drive_node_mcp, only
from support.systems import child_environment
from triptych_emulators import Emulator, running

CLIENT = ROOT / ".oracles/evolink/node_modules/@evolinkai/evolink-media/dist/evolink-media/src/index.js"
LOADER = Path(__file__).parent / "oracle/evolink_on_loopback.mjs"
SAMPLE = ROOT / "src/triptych/samples/cat.jpg"
SUBMIT = "/v1/images/generations"
MODEL = "doubao-seedream-4.5"

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(
        shutil.which("node") is None or not CLIENT.exists(),
        reason="needs Node and the official client: run ./scripts/oracles",
    ),
]


def drive(api: Emulator, body: Callable[[CallTool], Coroutine[Any, Any, None]], key: str = "") -> None:
    """Run `body` with a function that calls a tool of the official client and returns its text."""
    env = child_environment(EVOLINK_API_KEY=key or api.key, TRIPTYCH_EVOLINK_BASE_URL=api.base_url)
    drive_node_mcp(CLIENT, LOADER, env, body)


def test_the_official_client_uploads_submits_and_polls_to_the_end() -> None:
    with running("evolink", max_side=64, latency_s=0.3) as api:

        async def body(call: CallTool) -> None:
            told = await call("upload_file", file_path=str(SAMPLE))
            url = only(r"File URL: (\S+)", told)
            assert "Type: image/jpeg" in told and "File Name: cat.jpg" in told
            assert httpx2.get(url).content == SAMPLE.read_bytes()

            started = await call("generate_image", model=MODEL, prompt="two images", n=2, size="1:1", image_urls=[url])
            task_id = only(r"Task ID: (\S+)", started)
            assert api.accepted == [task_id]
            assert "Estimated time: ~45s" in started and "Estimated cost: 5.44 credits (per_call)" in started

            assert "Status: processing" in await call("check_task", task_id=task_id)
            api.finish_all()
            done = await call("check_task", task_id=task_id)
            outputs = re.findall(r"\[\d\] (\S+)", done)
            assert "Status: completed" in done and "Progress: 100%" in done and len(outputs) == 2
            assert all(httpx2.get(output).content[:2] == b"\xff\xd8" for output in outputs)

            listed = await call("list_files")
            assert "1/100 files used, 99 remaining [default]" in listed and "cat.jpg" in listed
            file_id = only(r"\[(file_\w+)\]", listed)
            assert "deleted successfully" in await call("delete_file", file_id=file_id)

        drive(api, body)

        (submit,) = api.seen_at("POST", SUBMIT)
        url = submit.json["image_urls"][0]
        assert submit.json == {"prompt": "two images", "model": MODEL, "size": "1:1", "n": 2, "image_urls": [url]}
        assert submit.headers["authorization"] == "Bearer test-key"
        assert "idempotency-key" not in submit.headers
        (upload,) = api.seen_at("POST", "/api/v1/files/upload/stream")
        assert b'name="file"; filename="cat.jpg"\r\nContent-Type: image/jpeg' in upload.body
        assert {seen.status for seen in api.seen} == {200}


def test_the_official_client_reads_the_failures_as_they_are_meant() -> None:
    with running("evolink", max_side=64) as api:

        async def body(call: CallTool) -> None:
            async def outcome(fault: str) -> str:
                started = await call("generate_image", model=MODEL, prompt=f"one kite [[emulate: {fault}]]")
                return await call("check_task", task_id=only(r"Task ID: (\S+)", started))

            told = await outcome("moderated")
            assert "Error code: content_policy_violation" in told and "Retryable: No" in told
            for code in ("image_processing_error", "generation_timeout", "unknown_error"):
                assert f"Error code: {code}" in await outcome(code)
            assert "Unknown error occurred" in await outcome("no-reason")
            assert "Status: cancelled" in await outcome("cancelled")
            assert "Image: http" in await outcome("result-data")

            for name, said in (
                ("401", "[401] Invalid or expired API key"),
                ("402", "[402] Insufficient account balance"),
                ("moderated-at-once", "[400] The prompt was rejected"),
                ("404", "[404]"),
            ):
                api.fault("submit", name)
                assert said in await call("generate_image", model=MODEL, prompt="a kite")
            api.fault("upload", "not-kept")
            assert "File API error (50001): storage failed" in await call("upload_file", file_path=str(SAMPLE))
            assert "task not found" in await call("check_task", task_id="task-unified-0")

        drive(api, body)


def test_the_official_client_sends_a_submit_once_more_after_429() -> None:
    with running("evolink", max_side=64) as api:

        async def body(call: CallTool) -> None:
            api.fault("submit", "429")
            assert "task submitted" in await call("generate_image", model=MODEL, prompt="a kite")

        drive(api, body)
        assert [seen.status for seen in api.seen_at("POST", SUBMIT)] == [429, 200]
        assert len(api.accepted) == 1
