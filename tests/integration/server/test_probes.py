"""`/healthz`, `/readyz` and `/metrics` of a served process: who may ask, and what is said."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from prometheus_client.parser import text_string_to_metric_families

from support import object_store
from support.servers import SERVE, SMALL, Child, environ
from triptych.core import errors
from triptych.images.files import ImageFiles
from triptych.server import health
from triptych.server.health import Health, in_order

pytestmark = pytest.mark.anyio

TOKEN = "a-long-random-client-token"
METRICS_TOKEN = "a-long-random-metrics-token"


@pytest.fixture(scope="module", params=["http", "sse"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with both tokens; its address without a path."""
    env = environ(tmp_path_factory.mktemp("probed"), TRIPTYCH_AUTH_TOKEN=TOKEN, TRIPTYCH_METRICS_TOKEN=METRICS_TOKEN)
    child = Child("-c", SERVE, request.param, env=env)
    yield child.url().rpartition("/")[0]
    assert child.end() == 0, "".join(child.said)


def asked(url: str, method: str = "GET", **headers: str | bytes) -> httpx2.Response:
    return httpx2.request(method, url, headers=headers, timeout=30)


def test_health_needs_neither_a_token_nor_a_known_host(served: str) -> None:
    response = asked(f"{served}/healthz", Host="10.1.2.3:8765")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert response.headers["cache-control"] == "no-store"


async def test_a_working_server_is_ready_and_says_why(served: str) -> None:
    for _ in range(50):
        response = asked(f"{served}/readyz")
        if response.status_code == 200:
            break
        await anyio.sleep(0.1)
    everything = {"database": "ok", "objects": "ok", "worker": "ok", "draining": "ok"}
    assert response.json() == {"ready": True, "checks": everything}


def test_probes_take_reads_alone(served: str) -> None:
    for path in ("healthz", "readyz", "metrics"):
        assert asked(f"{served}/{path}", "POST").status_code == 405
        assert asked(f"{served}/{path}/x").status_code == 401  # it is no probe, and needs a token like the rest
    assert asked(f"{served}/healthz", "HEAD").status_code == 200


@pytest.mark.parametrize("token", [None, TOKEN, METRICS_TOKEN[:-1], METRICS_TOKEN + "x", "ä" * 20])
def test_only_the_metrics_token_opens_the_metrics(served: str, token: str | None) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}".encode()}
    response = asked(f"{served}/metrics", **headers)
    assert response.status_code == 401
    assert "triptych_" not in response.text


def test_the_metrics_token_opens_nothing_else(served: str) -> None:
    for path in ("mcp", "sse", "messages/", "gallery/api/jobs"):
        assert asked(f"{served}/{path}", Authorization=f"Bearer {METRICS_TOKEN}").status_code == 401


def read_metrics(url: str, token: str | None = METRICS_TOKEN) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every sample of the page by its name and labels."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    response = asked(f"{url}/metrics", **headers)
    assert response.status_code == 200, response.text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def total(samples: dict[Any, float], name: str, **labels: str) -> float:
    return sum(v for (n, ls), v in samples.items() if n == name and ls >= set(labels.items()))


async def test_a_job_shows_in_the_metrics(tmp_path: Path) -> None:
    child = Child("-c", SERVE, "http", env=environ(tmp_path, TRIPTYCH_METRICS="on"))
    url = child.url()
    base = url.rpartition("/")[0]
    try:
        async with Client(url) as client:
            made = await client.call_tool("generate_sequence", {"prompt": "a fox", "size": SMALL, "wait_s": 50})
            assert made.structured_content and made.structured_content["status"] == "done"
            await client.call_tool("generate_sequence", {"prompt": "a fox", "size": "wrong"})
        now = read_metrics(base, None)
    finally:
        assert child.end() == 0
    assert total(now, "triptych_tool_calls_total", tool="generate_sequence", outcome="ok") == 1
    assert total(now, "triptych_tool_calls_total", tool="generate_sequence", outcome="refused") == 1
    assert total(now, "triptych_prediction_moves_total", provider="draft", state="done") == 1
    assert total(now, "triptych_provider_calls_total", provider="draft", kind="submit", outcome="ok") == 1
    assert total(now, "triptych_jobs") == 0  # it has ended
    assert total(now, "triptych_ready", check="database") == 1
    assert total(now, "triptych_account_limit", provider="draft") > 0
    assert ("triptych_predictions", frozenset({("provider", "draft"), ("state", "running")})) in now
    assert total(now, "triptych_http_requests_total", route="mcp") >= 2
    assert total(now, "triptych_database_call_duration_seconds_count") > 5
    assert ("triptych_spent_usd", frozenset()) in now
    assert ("triptych_reserved_usd", frozenset()) in now
    assert ("triptych_oldest_due_prediction_age_seconds", frozenset()) in now


async def test_names_follow_the_conventions_and_labels_are_few(tmp_path: Path) -> None:
    child = Child("-c", SERVE, "http", env=environ(tmp_path, TRIPTYCH_METRICS="on"))
    base = child.url().rpartition("/")[0]
    try:
        for _ in range(20):
            asked(f"{base}/made-up-{_}")
        families = list(text_string_to_metric_families(asked(f"{base}/metrics").text))
    finally:
        child.end()
    labels = {name for family in families for sample in family.samples for name in sample.labels}
    assert labels <= {
        *("provider", "kind", "state", "status", "outcome", "tool", "call", "route", "method", "code"),
        *("account", "check", "version", "generation", "le"),
    }
    for family in families:
        assert re.fullmatch(r"(triptych|process)_[a-z_]+", family.name), family.name
        assert family.documentation, family.name
        if family.type == "histogram":
            assert family.name.endswith("_seconds"), family.name
    assert not [f for f in families for s in f.samples if "made-up" in str(s.labels)]


def test_metrics_are_off_unless_asked_for(http_url: str) -> None:
    assert asked(http_url.replace("/mcp", "/metrics")).status_code == 404


@pytest.mark.parametrize("command", [("serve", "--transport", "http", "--port", "0"), ("worker", "--health-port", "0")])
def test_metrics_that_others_can_reach_need_their_token(tmp_path: Path, command: tuple[str, ...]) -> None:
    env = environ(tmp_path, TRIPTYCH_AUTH_TOKEN=TOKEN, TRIPTYCH_METRICS="on", TRIPTYCH_PUBLIC_URL="https://a.example")
    ended = subprocess.run([sys.executable, "-m", "triptych", *command], env=env, capture_output=True, timeout=60)
    assert ended.returncode != 0
    assert b"TRIPTYCH_METRICS_TOKEN" in ended.stderr


async def test_a_worker_alone_is_probed_at_its_own_port(tmp_path: Path) -> None:
    port = free_port()
    env = environ(tmp_path, TRIPTYCH_METRICS="on")
    child = Child("-m", "triptych", "worker", "--health-port", str(port), env=env, ready="works on jobs")
    child.url()
    base = f"http://127.0.0.1:{port}"
    for _ in range(50):
        response = asked(f"{base}/readyz")
        if response.status_code == 200:
            break
        await anyio.sleep(0.1)
    assert response.json()["checks"] == {"database": "ok", "objects": "ok", "worker": "ok", "draining": "ok"}
    assert total(read_metrics(base, None), "triptych_ready", check="worker") == 1
    assert child.end() == 0, "".join(child.said)


def test_a_server_without_a_worker_is_ready(tmp_path: Path) -> None:
    child = Child("-m", "triptych", "serve", "--transport", "http", "--port", "0", "--no-worker", env=environ(tmp_path))
    base = child.url().rpartition("/")[0]
    assert asked(f"{base}/readyz").json()["checks"] == {"database": "ok", "objects": "ok", "draining": "ok"}
    assert child.end() == 0, "".join(child.said)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port


# -- readiness, part by part


class Broken:
    """A service whose parts fail as they are told."""

    def __init__(self, home: Path) -> None:
        self.asked = 0
        self.error: Exception | None = None
        self.waits = False
        self.store = self
        self.config = self
        self.home = home
        self.worker = self
        self.is_alive = True

    async def __call__(self) -> Any:
        return self

    async def reach_images(self) -> None:
        if not self.home.exists():
            raise errors.Outage("https://me:secret@bucket is gone")

    async def require_current(self) -> None:
        self.asked += 1
        if self.waits:
            await anyio.sleep_forever()
        if self.error:
            raise self.error


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (errors.Outage("postgresql://me:secret@db is gone"), "unreachable"),
        (errors.Outdated("old", "new"), "outdated"),
        (errors.Unusable("torn", "restore"), "unusable"),
        (RuntimeError("secret"), "unreachable"),
    ],
)
async def test_a_database_that_fails_is_named_by_a_fixed_word(tmp_path: Path, error: Exception, word: str) -> None:
    service = Broken(tmp_path)
    service.error = error
    assert await Health(service).checks() == {"database": word, "draining": "ok"}


async def test_a_database_that_hangs_is_unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Broken(tmp_path)
    service.waits = True
    monkeypatch.setattr(health, "CHECK_LIMIT_S", 0.05)
    assert (await Health(service).checks())["database"] == "unreachable"


async def test_a_stopped_worker_counts_only_where_one_is_wanted(tmp_path: Path) -> None:
    service = Broken(tmp_path)
    service.is_alive = False
    assert (await Health(service).checks())["worker"] == "stopped"
    assert in_order(await Health(service, works=False).checks())


async def test_images_that_cannot_be_stored_are_unreachable(tmp_path: Path) -> None:
    assert (await Health(Broken(tmp_path / "gone")).checks())["objects"] == "unreachable"


async def test_a_draining_process_is_not_ready(tmp_path: Path) -> None:
    told = Health(Broken(tmp_path))
    assert in_order(await told.checks())
    told.draining = True  # at once, whatever is kept
    assert not in_order(await told.checks())


async def test_many_probes_cost_one_check_a_second(tmp_path: Path) -> None:
    service = Broken(tmp_path)
    told = Health(service)
    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(told.checks)
    assert service.asked == 1


async def test_a_worker_serves_the_probes_alone(tmp_path: Path) -> None:
    told = Health(Broken(tmp_path))
    transport = httpx2.ASGITransport(app=health.app(told))  # type: ignore[arg-type]
    async with httpx2.AsyncClient(transport=transport, base_url="http://any.example") as client:
        assert (await client.get("/readyz")).json()["ready"] is True
        assert (await client.get("/mcp")).status_code == 404
        assert (await client.get("/metrics")).status_code == 404


async def test_the_probes_can_have_a_port_of_their_own(tmp_path: Path) -> None:
    from triptych.server import http

    listener = http.bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/healthz"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(health.serve, health.app(Health(Broken(tmp_path))), listener)
        async with httpx2.AsyncClient() as client:
            assert (await client.get(url)).status_code == 200
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("fault", ["forbidden", "away"])
async def test_a_failing_bucket_makes_a_server_not_ready(tmp_path: Path, fault: str) -> None:
    with object_store.bucket() as bucket:
        child = Child("-c", SERVE, "http", env=environ(tmp_path, **bucket.environ))
        base = child.url().rpartition("/")[0]
        try:
            await answered(base, 200)
            bucket.fail("*", fault, times=10_000)
            checks = {"database": "ok", "objects": "unreachable", "worker": "ok", "draining": "ok"}
            assert await answered(base, 503) == {"ready": False, "checks": checks}
            assert asked(f"{base}/healthz").status_code == 200
            await anyio.sleep(health.KEEP_S)
            assert asked(f"{base}/readyz").status_code == 503
            bucket.faults.clear()
            await answered(base, 200)
        finally:
            assert child.end() == 0
    said = [text for text in child.said if "images cannot be reached" in text]
    assert len(said) == 2 and "over after" in said[1], "".join(child.said)
    assert object_store.SECRET not in "".join(child.said)


async def answered(base: str, status: int) -> Any:
    """Return what `/readyz` says once it has this status; an answer is kept for a second."""
    for _ in range(300):
        if (response := asked(f"{base}/readyz")).status_code == status:
            return response.json()
        await anyio.sleep(0.1)
    raise AssertionError(response.text)


def test_files_are_unreachable_where_nothing_can_be_written(tmp_path: Path) -> None:
    async def fetch(url: str) -> bytes:
        raise AssertionError

    ImageFiles(tmp_path, fetch).reach()
    with pytest.raises(errors.Outage):
        ImageFiles(tmp_path / "gone" / "home", fetch).reach()
