"""Log lines as JSON and as text: their fields, and no secret in any of them."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest
from mcp import Client

import triptych_emulators
from support.collector import collecting
from support.servers import SAMPLES, SERVE, Child, environ
from triptych import logs
from triptych.core import telemetry

pytestmark = pytest.mark.anyio

TOKENS = ("token-of-ann-1234567890", "token-of-ben-1234567890")
METRICS_TOKEN = "token-of-prometheus-123456"
KEY = "atlas/key+that-nobody-may-see"
DATABASE_PASSWORD = "db pass/word"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"


async def test_json_lines_have_ids_and_no_secret(tmp_path: Path) -> None:
    with triptych_emulators.running("atlas", max_side=48, key=KEY) as api, collecting() as collector:
        env = environ(
            tmp_path,
            TRIPTYCH_LOG_LEVEL="DEBUG",
            TRIPTYCH_LOG_FORMAT="json",
            TRIPTYCH_AUTH_TOKEN=", ".join(TOKENS),
            TRIPTYCH_METRICS_TOKEN=METRICS_TOKEN,
            ATLASCLOUD_API_KEY=KEY,
            ATLASCLOUD_BASE_URL=api.base_url,
            TRIPTYCH_MODELS="builtin",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            SOME_URL=f"postgresql://me:{quote(DATABASE_PASSWORD, safe='')}@db/triptych",
        )
        child = Child("-c", SERVE, "http", env=env)
        url = child.url()
        base = url.rpartition("/")[0]
        signed = []
        for token in TOKENS:
            http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60)
            async with http, connected(url, http) as client:
                made = await client.call_tool(
                    "edit_sequence", {"images": [str(SAMPLES / "coffee.jpg")], "prompt": "a fox", "wait_s": 50}
                )
                assert made.structured_content and made.structured_content["status"] == "done", made
                upload = await client.call_tool("generate_sequence", {"prompt": "x", "provider": "draft", "wait_s": 50})
                signed += [image["url"] for image in (upload.structured_content or {}).get("images", [])]
        for file in signed:
            httpx2.get(file.replace("s=", "s=x"))
            httpx2.get(file)
        for wrong in (JWT, "short"):
            httpx2.get(url, headers={"Authorization": f"Bearer {wrong}"})
        httpx2.get(f"{base}/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}, timeout=30)
        assert child.end() == 0, "".join(child.said)
    lines = [line for line in "".join(child.said).splitlines() if not line.startswith(("Triptych is", "Clients"))]
    read = [json.loads(line) for line in lines]
    assert len(read) > 10
    for one in read:
        assert {"time", "level", "logger", "message"} <= one.keys()
        assert one["time"].endswith("+00:00")
    of_jobs = [one for one in read if "job_id" in one]
    assert of_jobs and all(one["prediction_id"] and one["provider"] for one in of_jobs)
    assert [one for one in of_jobs if len(one["trace_id"]) == 32]
    assert {len(one["owner"]) for one in read if "owner" in one} <= {32}
    signatures = [file.partition("?")[2] for file in signed]
    assert signatures
    for secret in (*TOKENS, METRICS_TOKEN, KEY, quote(KEY, safe=""), DATABASE_PASSWORD, JWT, *signatures):
        assert not [line for line in lines if secret in line], secret


def connected(url: str, http: httpx2.AsyncClient) -> Client:
    from mcp.client.streamable_http import streamable_http_client

    return Client(streamable_http_client(url, http_client=http))


SECRETS = {
    "DATABASE": "cannot connect to postgresql://me:hunter2x@db.example:5432/triptych?sslmode=require",
    "EMPTY USER": "redis://:hunter2x@cache",
    "CONNINFO": "host=db user=me password=hunter2x dbname=triptych",
    "QUOTED": "password = 'hunter2x' host=db",
    "S3": "GET https://b.s3.amazonaws.com/k?X-Amz-Credential=hunter2x&X-Amz-Signature=hunter2x&X-Amz-Date=1",
    "GCS": "https://storage.googleapis.com/b/k?X-Goog-Signature=hunter2x",
    "AZURE": "https://a.blob.core.windows.net/c/k?sv=2024&sig=hunter2x",
    "FILE": "https://images.example.com/files/job_1/2?e=1&s=hunter2x",
    "HEADER": "headers: {'Authorization': 'Bearer hunter2xhunter2x'}",
    "JWT": f"token {JWT}",
    "OAUTH": "POST /token?client_secret=hunter2x&access_token=hunter2x",
}


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("shape", [logs.SafeLines, logs.JsonLines])
def test_secrets_are_known_by_their_shape(shape: type[logs.SafeLines], text: str) -> None:
    said = shape({}).format(logging.LogRecord("x", logging.INFO, "", 0, "%s", (text,), None))
    assert "hunter2x" not in said and JWT not in said
    assert "…" in said


@pytest.mark.parametrize("text", ["see https://example.com/a?b=1&page=2", "bearer of news", "a@b.example: done"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert text in logs.SafeLines({}).format(logging.LogRecord("x", logging.INFO, "", 0, text, None, None))


def test_each_token_and_password_of_the_environment_is_removed() -> None:
    lines = logs.SafeLines({"TRIPTYCH_AUTH_TOKEN": "first-token-1234, second-token-123", "PGPASSWORD": "of-postgres"})
    said = lines.format(logging.LogRecord("x", logging.INFO, "", 0, "second-token-123 of-postgres", None, None))
    assert said.endswith("[key] [key]")


def test_an_exception_is_a_field_without_its_secrets() -> None:
    try:
        raise ValueError("key-of-the-house is wrong")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "a\nforged line", None, sys.exc_info())
    line = logs.JsonLines({"SOME_KEY": "key-of-the-house"}).format(record)
    assert "\n" not in line
    read = json.loads(line)
    assert read["message"] == "a forged line"
    assert read["error"].endswith("ValueError: [key] is wrong")


def test_a_line_names_what_is_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "listeners", [telemetry.Listener()])
    record = logging.LogRecord("x", logging.INFO, "", 0, "hello", None, None)
    with telemetry.span("step", job_id="job_1", prediction_id="p1", provider="atlas"), telemetry.span("database"):
        read = json.loads(logs.JsonLines({}).format(record))
    assert (read["job_id"], read["prediction_id"], read["provider"]) == ("job_1", "p1", "atlas")
    assert "job_id" not in json.loads(logs.JsonLines({}).format(record))


def test_a_broken_listener_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(telemetry.Listener):
        def started(self, span: telemetry.Span) -> None:
            raise RuntimeError

        def valued(self, *_: object) -> None:
            raise RuntimeError

    monkeypatch.setattr(telemetry, "listeners", [Broken()])
    with telemetry.span("step", job_id="job_1"):
        telemetry.value("moves", 1)


def test_a_span_without_listeners_keeps_nothing() -> None:
    assert telemetry.span("a") is telemetry.span("b")
