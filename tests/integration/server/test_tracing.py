"""OpenTelemetry traces of a served process, decoded by a collector on loopback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mcp import Client

import triptych_emulators
from support.collector import collecting
from support.servers import SAMPLES, SERVE, SMALL, Child, environ
from triptych.server import tracing

pytestmark = pytest.mark.anyio

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PROMPT = "a secret fox nobody may read about"
KEY = "atlas-key-that-nobody-may-see"


async def test_a_job_is_traced_from_the_callers_span_on(tmp_path: Path) -> None:
    with triptych_emulators.running("atlas", max_side=48, key=KEY) as api, collecting() as collector:
        env = environ(
            tmp_path,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            ATLASCLOUD_API_KEY=KEY,
            ATLASCLOUD_BASE_URL=api.base_url,
            ATLASCLOUD_STATIC_BASE_URL=api.base_url,
            TRIPTYCH_MODELS="builtin",
        )
        child = Child("-c", SERVE, "http", env=env)
        async with Client(child.url()) as client:
            result = await client.call_tool(
                "edit_sequence",
                {"images": [str(SAMPLES / "coffee.jpg")], "prompt": PROMPT, "wait_s": 50},
                meta={"traceparent": f"00-{TRACE}-{PARENT}-01"},
            )
            refused = await client.call_tool("edit_sequence", {"images": ["img_00000000"], "prompt": PROMPT})
        assert child.end() == 0, "".join(child.said)
    assert result.structured_content and result.structured_content["status"] == "done", result
    assert refused.is_error
    job_id = result.structured_content["job_id"]

    (call,) = [span for span in collector.named("tools/call edit_sequence") if span.trace_id == TRACE]
    assert call.parent_id == PARENT
    (job,) = collector.named("job")
    assert call.links == [(job.trace_id, job.span_id)]
    assert job.links == [(TRACE, call.span_id)]
    assert job.attributes["triptych.job_id"] == job_id
    assert job.attributes["triptych.model"].startswith("seedream")
    steps = collector.named("step")
    assert {"step queued", "step running"} <= {step.name for step in steps}
    for step in steps:  # whichever process makes them
        assert (step.trace_id, step.parent_id) == (job.trace_id, job.span_id)
        assert step.attributes["triptych.job_id"] == job_id
        assert step.attributes["triptych.provider"] == "atlas"
        assert step.attributes["triptych.prediction_id"]
    calls = {span.name: span for span in collector.named("provider ")}
    assert calls["provider submit"].parent_id in {step.span_id for step in steps}
    sent = [span for span in collector.named("provider request") if span.parent_id == calls["provider submit"].span_id]
    assert [span.attributes["triptych.status"] for span in sent] == [200]
    assert {span.service for span in collector.spans} == {"triptych"}
    assert [span for span in collector.named("tools/call") if span.is_error]
    for secret in (PROMPT, KEY, api.base_url, "coffee.jpg", "http://"):
        assert not [span for span in collector.spans if secret in str(span)], secret


def test_the_ids_of_a_jobs_trace_follow_from_its_id() -> None:
    assert tracing.job_ids("job_12345678") == tracing.job_ids("job_12345678")
    assert tracing.job_ids("job_12345678") != tracing.job_ids("job_12345679")
    assert 0 < tracing.job_ids("job_12345678")[0] < 2**128
    assert 0 < tracing.job_ids("job_12345678")[1] < 2**64


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, False),
    ],
)
def test_the_usual_variables_turn_traces_on(environ: dict[str, str], wanted: bool) -> None:
    assert tracing.is_wanted(environ) is wanted


async def test_a_dead_collector_stops_no_job(tmp_path: Path) -> None:
    env = environ(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_EXPORTER_OTLP_TIMEOUT="1")
    child = Child("-c", SERVE, "http", env=env)
    async with Client(child.url()) as client:
        made = await client.call_tool("generate_sequence", {"prompt": "a fox", "size": SMALL, "wait_s": 50})
    assert child.end() == 0, "".join(child.said)
    assert made.structured_content and made.structured_content["status"] == "done"


LOADED = """
import sys
from triptych import settings
from triptych.server import app, http, health, transports
from triptych.jobs import service
extra = ("prometheus_client", "opentelemetry.sdk", "opentelemetry.exporter")
print([name for name in sys.modules if name.startswith(extra)])
"""


def test_nothing_of_the_extra_is_imported_without_its_settings(tmp_path: Path) -> None:
    said = subprocess.run([sys.executable, "-c", LOADED], env=environ(tmp_path), capture_output=True, check=True)
    assert said.stdout.strip() == b"[]"
