"""The official Atlas Cloud client against the emulator: an emulator that repeats our own belief proves nothing.

npm atlascloud-mcp is itself an MCP server: it is started over stdio and its tools are called. Its files stay as they
were installed; `oracle/atlas_on_loopback.mjs` points its three base URLs at the emulator while they are loaded.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support import ROOT
from support.clients import CallTool, drive_node_mcp, only
from support.systems import child_environment
from triptych_emulators import Emulator, running

CLIENT = ROOT / ".oracles/atlas/node_modules/atlascloud-mcp/dist/index.js"
LOADER = Path(__file__).parent / "oracle/atlas_on_loopback.mjs"
SAMPLE = ROOT / "src/triptych/samples/cat.jpg"
EDIT_SEQUENCE = "bytedance/seedream-v5.0-lite/edit-sequential"

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(
        shutil.which("node") is None or not CLIENT.exists(),
        reason="needs Node and the official client: run ./scripts/oracles",
    ),
]


def drive(api: Emulator, body: Callable[[CallTool], Coroutine[Any, Any, None]]) -> None:
    """Run `body` with a function that calls a tool of the official client and returns its text."""
    env = child_environment(ATLASCLOUD_API_KEY=api.key, TRIPTYCH_ATLAS_BASE_URL=api.base_url)
    drive_node_mcp(CLIENT, LOADER, env, body)


def test_the_official_client_uploads_submits_polls_and_finds_its_job() -> None:
    with running("atlas", max_side=64) as api:

        async def body(call: CallTool) -> None:
            listed = await call("atlas_list_models", type="Image", query="seedream")
            assert EDIT_SEQUENCE in listed and "seedream-v3" not in listed
            info = await call("atlas_get_model_info", model=EDIT_SEQUENCE)
            assert "$0.032/image" in info and "4704*2016" in info and "max_images" in info

            uploaded = await call("atlas_upload_media", file_path=str(SAMPLE))
            url = only(r"\*\*URL\*\*: (\S+)", uploaded)
            assert "**Detected type**: image" in uploaded and "cat.jpg" in uploaded
            assert httpx2.get(url).content == SAMPLE.read_bytes()

            params = {"prompt": "3 seasons", "images": [url], "max_images": 3, "size": "2048*2048"}
            started = await call("atlas_generate_image", model=EDIT_SEQUENCE, params=params)
            work_id = only(r"Prediction ID\*\*: `([^`]+)`", started)
            assert api.accepted == [work_id]

            done = await call("atlas_get_prediction", prediction_id=work_id)
            outputs = re.findall(r"\d\. \[image\] (\S+)", done)
            assert "**Status**: completed" in done and len(outputs) == 3
            assert all(httpx2.get(output).content[:4] == b"\x89PNG" for output in outputs)
            assert "**Cost**: $0.096" in await call("atlas_get_prediction", prediction_id=work_id)

            found = await call("atlas_list_predictions", model=EDIT_SEQUENCE, status="completed", limit=5)
            assert work_id in found and outputs[0] in found and "Showing 1 of 1 tasks" in found
            assert "**Available**: $125.40" in await call("atlas_get_balance")
            dates = {"start_date": "2026-01-01", "end_date": "2026-01-02", "group_by": ["model"]}
            assert "2026-01-01" in await call("atlas_get_model_usage", **dates)
            assert "2026-01-01" in await call("atlas_get_model_costs", **dates)

        drive(api, body)

        submit = api.seen_at("POST", "/api/v1/model/generateImage")[0]
        assert set(submit.json) == {"model", "prompt", "images", "max_images", "size"}
        assert submit.headers["authorization"] == "Bearer test-key"
        assert submit.headers["content-type"] == submit.headers["accept"] == "application/json"
        upload = api.seen_at("POST", "/api/v1/model/uploadMedia")[0]
        assert upload.headers["content-type"].startswith("multipart/form-data; boundary=")
        assert b'name="file"; filename="cat.jpg"\r\nContent-Type: image/jpeg' in upload.body
        history = api.seen_at("GET", "/api/v1/model/history")[0]
        assert history.query == {"no": "1", "size": "5", "model": EDIT_SEQUENCE, "status": "completed"}
        assert "authorization" not in api.seen_at("GET", "/api/v1/models")[0].headers
        assert api.seen_at("GET", "/public/v1/model-costs")[0].query["group_by[]"] == "model"
        assert {seen.status for seen in api.seen} == {200}


def test_the_official_client_reads_the_failures_as_they_are_meant() -> None:
    with running("atlas", max_side=64, edit_field="image") as api:

        async def body(call: CallTool) -> None:
            async def outcome(fault: str) -> str:
                params = {"prompt": f"one kite [[emulate: {fault}]]"}
                started = await call("atlas_generate_image", model="bytedance/seedream-v5.0-lite", params=params)
                work_id = only(r"Prediction ID\*\*: `([^`]+)`", started)
                return await call("atlas_get_prediction", prediction_id=work_id)

            assert "[1039] The request was rejected" in await outcome("moderated")
            assert "**Status**: failed" in await outcome("failed-500")
            assert "**Status**: timeout" in await outcome("timeout-status")
            assert "**Status**: canceled" in await outcome("canceled")
            assert "still in progress" in await outcome("pending-after-processing")
            assert "upstream model returned an error" in await outcome("error-object")
            for shape in ("outputs-string", "outputs-objects", "output-old-spelling"):
                assert "[image] http" in await outcome(shape)
            assert "returned no output" in await outcome("empty-outputs")
            # One poll each: the whole body under HTTP 500 is a decision, and the client does not ask again.
            assert len([seen for seen in api.seen if "/prediction/" in seen.path]) == 10

            api.fault("submit", "402")
            assert "Insufficient balance" in await call(
                "atlas_generate_image", model="bytedance/seedream-v5.0-lite", params={"prompt": "a kite"}
            )
            assert "No prediction found" in await call("atlas_get_prediction", prediction_id="0" * 32)
            told = await call(
                "atlas_generate_image",
                model="bytedance/seedream-v5.0-lite/edit",
                params={"prompt": "a kite", "images": ["https://example.org/cat.png"]},
            )
            assert "Missing required parameter `image`" in told and "Unknown parameter `images`" in told

        drive(api, body)


def test_the_official_client_edits_with_5_5() -> None:
    with running("atlas", max_side=64) as api:

        async def body(call: CallTool) -> None:
            info = await call("atlas_get_model_info", model="bytedance/seedream-v5.5/edit")
            assert "$0.016/image" in info and "images" in info and "max_images" not in info
            uploaded = await call("atlas_upload_media", file_path=str(SAMPLE))
            url = only(r"\*\*URL\*\*: (\S+)", uploaded)
            params = {"prompt": "redder", "images": [url], "size": "1536*1536", "output_format": "png"}
            started = await call("atlas_generate_image", model="bytedance/seedream-v5.5/edit", params=params)
            done = await call("atlas_get_prediction", prediction_id=only(r"Prediction ID\*\*: `([^`]+)`", started))
            assert "**Status**: completed" in done

        drive(api, body)
        assert api.charged_usd == Decimal("0.024")


def test_the_official_client_takes_a_picture_apart() -> None:
    with running("atlas", max_side=32) as api:

        async def body(call: CallTool) -> None:
            model = "bytedance/seedream-v5.0-pro/layer-decomposition"
            info = await call("atlas_get_model_info", model=model)
            assert "auto" in info and "1.5K" in info and "`image`" in info
            uploaded = await call("atlas_upload_media", file_path=str(SAMPLE))
            url = only(r"\*\*URL\*\*: (\S+)", uploaded)
            started = await call("atlas_generate_image", model=model, params={"image": url, "size": "1K"})
            done = await call("atlas_get_prediction", prediction_id=only(r"Prediction ID\*\*: `([^`]+)`", started))
            assert len(re.findall(r"\d\. \[image\] (\S+)", done)) == 4

        drive(api, body)
        assert api.charged_usd == Decimal("0.09")
