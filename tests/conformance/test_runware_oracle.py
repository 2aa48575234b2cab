"""The official Runware client against the emulator: an emulator that repeats our own belief proves nothing.

PyPI runware-sdk runs unmodified in an environment of its own (it shares its package name with an older client), driven
line by line through `oracle/runware_calls.py`.
"""

from __future__ import annotations

import json
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from support import ROOT
from support.systems import child_environment, python_of
from triptych_emulators import Emulator, running

PYTHON = python_of(ROOT / ".oracles/runware-venv")
DRIVER = Path(__file__).parent / "oracle/runware_calls.py"
SAMPLE = ROOT / "src/triptych/samples/cat.jpg"
LITE = "bytedance:seedream@5.0-lite"

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(
        not list(PYTHON.parents[1].glob("installed-runware-sdk-*")),
        reason="needs the official client runware-sdk: run ./scripts/oracles",
    ),
]

Do = Callable[..., dict[str, Any]]


@contextmanager
def client(api: Emulator) -> Iterator[Do]:
    """Yield a function that calls a method of the official client and returns its answer or its error."""
    command = [str(PYTHON), str(DRIVER), api.base_url, api.key]
    pipe, env = subprocess.PIPE, child_environment()
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=env) as process:
        assert process.stdin and process.stdout and process.stderr

        def do(method: str, **params: Any) -> dict[str, Any]:
            assert process.stdin and process.stdout and process.stderr
            process.stdin.write(json.dumps({"do": method, "params": params}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            assert line, process.stderr.read()
            told: dict[str, Any] = json.loads(line)
            return told

        yield do
        process.stdin.close()
        assert process.wait(60) == 0, process.stderr.read()


def inference(prompt: str = "three seasons", count: int = 3, **more: Any) -> dict[str, Any]:
    settings = {"maxSequentialImages": count}
    plain = {"taskType": "imageInference", "model": LITE, "positivePrompt": prompt, "width": 2048, "height": 2048}
    return {**plain, "settings": settings, "includeCost": True, **more}


def test_the_official_client_uploads_submits_polls_and_recovers_its_task() -> None:
    with running("runware", max_side=64) as api, client(api) as do:
        data_uri = "data:image/jpeg;base64," + b64encode(SAMPLE.read_bytes()).decode()
        (stored,) = do("media_storage", operation="upload", media=data_uri)["items"]
        (uploaded,) = do("image_upload", image=data_uri)["items"]
        assert httpx2.get(stored["mediaURL"]).content == SAMPLE.read_bytes()

        references = [stored["mediaURL"], stored["mediaUUID"], uploaded["imageUUID"]]
        items = do("run", **inference(inputs={"referenceImages": references}))["items"]
        assert len(items) == 3 and {item["taskUUID"] for item in items} == set(api.accepted)
        assert all(httpx2.get(item["imageURL"]).content[:2] == b"\xff\xd8" for item in items)
        assert [item["cost"] for item in items] == [0.035] * 3

        (details,) = do("get_task_details", taskUUID=api.accepted[0])["items"]
        assert [one["imageURL"] for one in details["response"]["data"]] == [one["imageURL"] for one in items]
        found = do("get_response", taskUUID=api.accepted[0])["items"]
        assert [one["imageUUID"] for one in found] == [one["imageUUID"] for one in items]
        assert do("model_search", search="seedream")["items"][0]["totalResults"] == 6
        (account,) = do("account_management", operation="getDetails")["items"]
        assert account["balance"]["amount"] == 125.395

        at_once = do("run", **inference(count=2, deliveryMethod="sync", outputType="dataURI"))["items"]
        assert [one["imageDataURI"].partition(",")[0] for one in at_once] == ["data:image/jpeg;base64"] * 2

    posts = api.seen_at("POST", "/v1")
    submit = next(seen for seen in posts if seen.json[0]["taskType"] == "imageInference")
    (task,) = submit.json
    assert task == {
        **inference(inputs={"referenceImages": references}),
        "taskUUID": api.accepted[0],
        "deliveryMethod": "async",
    }
    assert submit.headers["authorization"] == "Bearer test-key"
    assert submit.headers["user-agent"].startswith("runware-python/1.8.0 (python/3.")
    polls = [seen.json for seen in posts if seen.json[0]["taskType"] == "getResponse"]
    assert polls[0] == [{"taskType": "getResponse", "taskUUID": api.accepted[0]}]
    assert {seen.status for seen in api.seen} == {200}


def test_the_official_client_reads_the_failures_as_they_are_meant() -> None:
    with running("runware", max_side=32, balance_usd="0.60") as api, client(api) as do:

        def error(fault: str = "", **more: Any) -> dict[str, Any]:
            asked = inference(f"kites [[emulate: {fault}]]" if fault else "kites", **more)
            told: dict[str, Any] = do("run", **asked)["error"]
            return told

        assert error("moderated")["code"] == "safety"
        assert error("frame-failed")["code"] == "safety"
        assert error("frame-failed-errors")["code"] == "safety"
        assert error("failed")["code"] == "provider"
        assert (error("failed-errors")["status_code"], error("401")["code"]) == (400, "auth")
        assert error("moderated-before")["code"] == "safety"
        assert error("no-funds")["code"] == "quota"
        assert error("unknown-model")["code"] == "validation"
        refused = error(width=1024, height=1024)
        assert (refused["code"], refused["parameter"], refused["status_code"]) == ("validation", "width", 400)
        assert error(count=15) | {"message": ""} == {
            "code": "quota",
            "message": "",
            "retryable": False,
            "parameter": None,
            "task_type": "imageInference",
            "task_uuid": api.seen[-1].json[0]["taskUUID"],
            "status_code": 402,
        }
        # A lost answer is sent again under the same id, which Runware calls a conflict: it is charged once.
        before = len(api.accepted)
        task_id = str(uuid4())
        api.fault("submit", "lost-answer")
        conflict = do("run", **inference(count=1, taskUUID=task_id))["error"]
        assert (conflict["parameter"], conflict["status_code"]) == ("taskUUID", 400)
        assert api.accepted[before:] == [task_id]
        assert [seen.json[0]["taskUUID"] for seen in api.seen[-2:]] == [task_id, task_id]
        # It stops at the first image of a server that hands them out one by one.
        assert len(do("run", **inference("kites [[emulate: trickle]]"))["items"]) == 1


def test_the_official_client_edits_with_seedream_5_5() -> None:
    with running("runware", max_side=64) as api, client(api) as do:
        plain = inference(model="bytedance:seedream@5.5", settings={}, width=1024, height=1024, outputFormat="PNG")
        (made,) = do("run", **plain)["items"]
        assert made["cost"] == 0.02
        (edited,) = do(
            "run", **{**plain, "width": 2048, "height": 2048}, inputs={"referenceImages": [made["imageURL"]]}
        )["items"]
        assert edited["cost"] == 0.043
        refused = do("run", **{**plain, "settings": {"maxSequentialImages": 2}})["error"]
        assert refused["code"] == "validation"
    assert len(api.accepted) == 2


def test_the_official_client_gets_every_variation_with_its_options() -> None:
    options = {
        "outputFormat": "WEBP",
        "outputQuality": 80,
        "ttl": 3600,
        "safety": {"checkContent": True},
        "uploadEndpoint": "https://bucket.example/a?sig=1",
    }
    with running("runware", max_side=64) as api, client(api) as do:
        plain = inference(model="bytedance:seedream@5.5", settings={}, width=1024, height=1024, numberResults=3)
        items = do("run", **plain, **options)["items"]
        assert len({item["imageUUID"] for item in items}) == 3 and [item["cost"] for item in items] == [0.02] * 3
        assert {item["NSFWContent"] for item in items} == {False}
        assert all(httpx2.get(item["imageURL"]).content[8:12] == b"WEBP" for item in items)
        assert do("run", **plain, **{**options, "outputQuality": 100})["error"]["code"] == "validation"
    submit = next(seen for seen in api.seen_at("POST", "/v1") if seen.json[0]["taskType"] == "imageInference")
    assert {name: submit.json[0][name] for name in options} == options and len(api.accepted) == 1
