"""The official WaveSpeedAI client against the emulator: an emulator that repeats our own belief proves nothing.

PyPI wavespeed runs in an environment of its own as a child process; `oracle/wavespeed_steps.py` calls it.
"""

from __future__ import annotations

import json
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support import ROOT
from support.systems import child_environment, python_of
from triptych_emulators import Emulator, running

VENV = ROOT / ".oracles/wavespeed-venv"
PYTHON = python_of(VENV)
STEPS = Path(__file__).parent / "oracle/wavespeed_steps.py"
SAMPLE = ROOT / "src/triptych/samples/cat.jpg"
LITE = "bytedance/seedream-v5.0-lite"
EDIT_SEQUENCE = f"{LITE}/edit-sequential"

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(not PYTHON.exists(), reason="needs the official client: run ./scripts/oracles"),
]


def client_does(api: Emulator, *steps: tuple[str, dict[str, Any]], key: str = "") -> list[dict[str, Any]]:
    """Return what the official client answers to each step: `answer`, or `error` and its `kind`."""
    given = {"key": key or api.key, "base_url": api.base_url, "steps": steps}
    done = subprocess.run(
        [PYTHON, "-I", STEPS],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=child_environment(),
    )
    told = json.loads(done.stdout)
    assert told["version"] == "2.0.5"
    answers: list[dict[str, Any]] = told["answers"]
    return answers


def runs(prompt: str, model: str = LITE, **options: Any) -> tuple[str, dict[str, Any]]:
    return "run", {"model": model, "input": {"prompt": prompt}, **options}


def test_the_official_client_uploads_runs_to_completion_and_asks_again() -> None:
    with running("wavespeed", max_side=64, latency_s=0.1) as api:
        (uploaded,) = client_does(api, ("upload", {"file": str(SAMPLE)}))
        url = uploaded["answer"]
        assert httpx2.get(url).content == SAMPLE.read_bytes()
        body = {"prompt": "two images", "images": [url], "max_images": 2, "size": "2048*2048"}
        (ran,) = client_does(api, ("run", {"model": EDIT_SEQUENCE, "input": body}))
        outputs = ran["answer"]["outputs"]
        assert len(outputs) == 2 and all(httpx2.get(output).content[:2] == b"\xff\xd8" for output in outputs)
        (work_id,) = api.accepted
        (again,) = client_does(api, ("get_result", {"request_id": work_id}))
        assert again["answer"]["data"]["outputs"] == outputs

        (ticket,) = api.seen_at("POST", "/api/v3/media/uploads")
        assert ticket.json == {"filename": "cat.jpg", "size": SAMPLE.stat().st_size, "content_type": "image/jpeg"}
        (put,) = [seen for seen in api.seen if seen.method == "PUT"]
        assert put.headers["content-type"] == "image/jpeg" and "authorization" not in put.headers
        assert put.body == SAMPLE.read_bytes()
        (submit,) = api.seen_at("POST", f"/api/v3/{EDIT_SEQUENCE}")
        assert submit.json == body
        assert submit.headers["authorization"] == "Bearer test-key"
        assert (submit.headers["x-client-name"], submit.headers["x-client-version"]) == ("wavespeed-python", "2.0.5")
        polls = api.seen_at("GET", f"/api/v3/predictions/{work_id}/result")
        assert len(polls) >= 3 and {seen.status for seen in api.seen} == {200}


def test_the_official_client_reads_every_end_as_it_is_meant() -> None:
    with running("wavespeed", max_side=64) as api:
        ends = {
            "moderated": "Prediction failed",
            "failed-200": "upstream returned an error",
            "code-1402": "failed to access media",
            "cancelled": "Prediction cancelled",
            "timeout-status": "Prediction timeout",
            "deleted": "Prediction deleted",
        }
        answers = client_does(api, *(runs(f"a kite [[emulate: {name}]]") for name in ends))
        for said, answer in zip(ends.values(), answers, strict=True):
            assert said in answer["error"], answer
        assert [answer["kind"] for answer in answers] == ["_TaskFailedError"] * 3 + ["RuntimeError"] * 3
        for odd in ("unknown-status", "bare", "poll/html-502", "poll/500 times=2", "poll/429"):
            (answer,) = client_does(api, runs(f"a kite [[emulate: {odd}]]"))
            assert len(answer["answer"]["outputs"]) == 1, (odd, answer)


def test_the_official_client_sends_a_submit_once_whatever_comes_back() -> None:
    with running("wavespeed", max_side=64) as api:
        for status in (401, 403, 404, 413, 429, 500, 503):
            (answer,) = client_does(api, runs(f"a kite [[emulate: submit/{status} times=9]]"))
            assert f"HTTP {status}" in answer["error"] and answer["kind"] == "_SubmissionError"
        (answer,) = client_does(api, runs("a kite [[emulate: lost-answer]]"))
        assert "did not return a response" in answer["error"]
        (answer,) = client_does(api, runs("a kite"), key="wrong")
        assert "HTTP 401" in answer["error"]
        assert len(api.seen_at("POST", f"/api/v3/{LITE}")) == 9
        assert len(api.accepted) == 1


def test_a_sync_wait_that_times_out_names_the_poll_url() -> None:
    with running("wavespeed", max_side=64, latency_s=0.1) as api:
        done, late, failed = client_does(
            api,
            runs("a kite", enable_sync_mode=True),
            ("run_no_throw", runs("x [[emulate: sync-timeout]]", enable_sync_mode=True)[1]),
            runs("x [[emulate: moderated]]", enable_sync_mode=True),
        )
        assert len(done["answer"]["outputs"]) == 1
        assert (late["answer"]["status"], late["answer"]["task_id"]) == ("processing", api.accepted[1])
        assert "Sync mode timed out" in late["answer"]["error"]
        assert "Prediction failed" in failed["error"]
        assert api.seen_at("POST", f"/api/v3/{LITE}")[0].json == {"prompt": "a kite", "enable_sync_mode": True}


def test_a_refused_upload_is_an_error_of_the_client() -> None:
    with running("wavespeed", max_side=64) as api:
        for op, name, said in (
            ("upload", "401", "Failed to create upload: HTTP 401"),
            ("upload", "odd-ticket", "invalid upload instruction"),
            ("put", "403", "Failed to upload file: HTTP 403"),
        ):
            api.fault(op, name)
            (answer,) = client_does(api, ("upload", {"file": str(SAMPLE)}))
            assert said in answer["error"]


def test_the_official_client_edits_with_seedream_5_5() -> None:
    with running("wavespeed", max_side=64) as api:
        body = {"prompt": "a cup", "aspect_ratio": "16:9", "resolution": "1k", "background": "transparent"}
        (made,) = client_does(api, ("run", {"model": "bytedance/seedream-v5.5", "input": body}))
        (url,) = made["answer"]["outputs"]
        assert httpx2.get(url).content[:4] == b"\x89PNG"
        edit = {"prompt": "redder", "images": [url], "resolution": "2k"}
        edited, sized = client_does(
            api,
            ("run", {"model": "bytedance/seedream-v5.5/edit", "input": edit}),
            ("run", {"model": "bytedance/seedream-v5.5/edit", "input": {**edit, "size": "2048*2048"}}),
        )
        assert len(edited["answer"]["outputs"]) == 1
        assert "HTTP 400" in sized["error"] and "'size' is not allowed" in sized["error"]
        assert api.charged_usd == Decimal("0.063")


def test_the_official_client_takes_a_picture_apart() -> None:
    with running("wavespeed", max_side=32) as api:
        (made,) = client_does(api, ("run", {"model": "bytedance/seedream-v5.5", "input": {"prompt": "a cup"}}))
        model = "bytedance/seedream-v5.0-pro/layer-decomposition"
        body = {"image": made["answer"]["outputs"][0], "resolution": "1k", "output_format": "png"}
        before = api.charged_usd
        apart, several = client_does(
            api,
            ("run", {"model": model, "input": body}),
            ("run", {"model": model, "input": {**body, "images": [body["image"]]}}),
        )
        assert len(apart["answer"]["outputs"]) == 4 and "HTTP 400" in several["error"]
        assert api.charged_usd - before == Decimal("0.765")
