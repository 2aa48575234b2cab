"""The files below `deploy/`: they name what exists, other programs accept them, and the balancer really balances."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import yaml
from mcp import Client

from integration.server.test_probes import free_port, read_metrics, total
from support import postgres
from support.servers import SERVE, SMALL, Child, environ
from triptych import settings
from triptych.server.metrics import Metrics

pytestmark = pytest.mark.anyio

DEPLOY = Path(__file__).parents[3] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
DASHBOARD = json.loads((DEPLOY / "grafana" / "triptych.json").read_text("utf-8"))
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
OURS = ("replica-1", "replica-2", "worker")


def program(name: str) -> str:
    """Return the path of a program; CI installs prometheus and nginx on Linux."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin")
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# -- compose


def test_every_secret_is_a_file_that_its_service_mounts() -> None:
    for name, service in COMPOSE["services"].items():
        mounted = {f"/run/secrets/{secret}" for secret in service.get("secrets", ())}
        text = json.dumps(service)
        assert set(re.findall(r"/run/secrets/\w+", text)) <= mounted, name
        assert mounted <= {f"/run/secrets/{secret}" for secret in COMPOSE["secrets"]}
        for variable, value in service.get("environment", {}).items():
            if variable.endswith("_FILE"):
                assert value in mounted, variable
            assert not variable.endswith(("_KEY", "_TOKEN", "_PASSWORD")), f"{variable} is a secret in the open"


def test_every_setting_of_the_services_is_one_that_is_read() -> None:
    asked = settings.variables()
    for name in OURS:
        for variable in COMPOSE["services"][name]["environment"]:
            if variable.startswith("TRIPTYCH_") or "API_KEY" in variable:
                assert variable.removesuffix("_FILE") in asked, variable


def test_images_have_versions_and_services_checks() -> None:
    for name, service in COMPOSE["services"].items():
        assert name in OURS or re.fullmatch(r"[\w./-]+:v?[\d.]+(-\w+)?", service["image"]), name
        if name not in ("bucket", "prometheus", "grafana"):
            assert service["healthcheck"], name


def test_the_balancer_knows_exactly_the_replicas() -> None:
    text = (DEPLOY / "nginx" / "nginx.conf").read_text("utf-8")
    assert set(re.findall(r"server (\S+):8765", text)) == {name for name in COMPOSE["services"] if "replica" in name}
    targets = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text("utf-8"))["scrape_configs"][0]
    assert {target.partition(":")[0] for target in targets["static_configs"][0]["targets"]} == set(OURS)


def test_compose_itself_accepts_the_file(tmp_path: Path) -> None:
    docker = program("docker")
    if subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("this docker has no compose")
    run(docker, "compose", "--file", str(DEPLOY / "compose.yaml"), "config", "--quiet")


def test_the_secrets_can_be_made(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "make_secrets.py", tmp_path)
    (tmp_path / "secrets").mkdir()
    said = subprocess.run([sys.executable, "make_secrets.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    made = {path.name: path.read_text("utf-8") for path in (tmp_path / "secrets").iterdir()}
    wanted = {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()}
    left = {line.rpartition("/")[2] for line in said.stderr.replace("\\", "/").splitlines()}
    assert made.keys() | left == wanted and not made.keys() & left
    assert made["postgres_password"] in made["database_url"]
    assert made["objects_secret"] in made["objects_keys.json"]
    subprocess.run([sys.executable, "make_secrets.py"], cwd=tmp_path, capture_output=True, check=True)
    assert (tmp_path / "secrets" / "auth_tokens").read_text("utf-8") == made["auth_tokens"]


# -- Prometheus and Grafana


def expressions() -> list[str]:
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    rules = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"][0]["rules"]
    return [t["expr"] for panel in panels for t in panel["targets"]] + [rule["expr"] for rule in rules]


def test_every_metric_that_is_drawn_or_alerted_exists() -> None:
    async def nothing() -> Any:
        raise AssertionError

    registry = Metrics(nothing, nothing).registry
    from_database = set(
        re.findall(
            r'"(triptych_\w+)"', Path(settings.__file__).with_name("server").joinpath("metrics.py").read_text("utf-8")
        )
    )
    known = {sample.name for family in registry.collect() for sample in family.samples} | from_database
    known |= {f"{family.name}_bucket" for family in registry.collect()}
    known |= {"process_cpu_seconds_total", "process_resident_memory_bytes"}  # Linux alone
    for expression in expressions():
        for name in re.findall(r"\b(?:triptych|process)_\w+", expression):
            assert name in known, name


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_promtool_accepts_the_rules_and_their_tests() -> None:
    promtool = program("promtool")
    run(promtool, "check", "rules", str(ALERTS))
    run(promtool, "test", "rules", str(ALERTS.with_name("alerts_test.yaml")))
    run(promtool, "check", "config", "--syntax-only", str(ALERTS.with_name("prometheus.yaml")))


async def test_a_real_prometheus_answers_every_panel_and_rule(tmp_path: Path) -> None:
    prometheus = program("prometheus")
    child = Child("-c", SERVE, "http", env=environ(tmp_path / "home", TRIPTYCH_METRICS="on"))
    url = child.url()
    target = url.split("/")[2]
    config = tmp_path / "prometheus.yaml"
    scrape = {"job_name": "triptych", "static_configs": [{"targets": [target]}]}
    config.write_text(
        json.dumps({"global": {"scrape_interval": "1s"}, "rule_files": [str(ALERTS)], "scrape_configs": [scrape]})
    )
    port = free_port()
    options = (f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}")
    with process(prometheus, *options, f"--web.listen-address=127.0.0.1:{port}"):
        async with Client(url) as client, httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1") as api:
            await client.call_tool("generate_sequence", {"prompt": "a fox", "size": SMALL, "wait_s": 50})

            async def ask(expression: str) -> Any:
                query = expression.replace("$job", ".+").replace("$__rate_interval", "30s")
                answer = (await api.get("/query", params={"query": query})).json()
                assert answer["status"] == "success", (expression, answer)
                return answer["data"]["result"]

            end = time.monotonic() + 60
            while not await scraped(ask):
                assert time.monotonic() < end
                await anyio.sleep(0.2)
            for expression in expressions():
                await ask(expression)
            rules = (await api.get("/rules")).json()["data"]["groups"][0]["rules"]
    assert child.end() == 0
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}


async def scraped(ask: Any) -> bool:
    try:
        return len(await ask('triptych_tool_calls_total{outcome="ok"}')) > 0
    except (httpx2.HTTPError, ValueError):  # it starts
        return False


# -- the balancer


@contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield started
    finally:
        started.terminate()
        started.wait(30)


def balancer_config(folder: Path, port: int, replicas: list[str]) -> Path:
    """Return our nginx.conf for loopback: other addresses, no TLS, no Docker; every other line stays."""
    text = (DEPLOY / "nginx" / "nginx.conf").read_text("utf-8")
    text = re.sub(r"^.*(resolver |zone replicas|ssl_|listen 80 default_server).*$", "", text, flags=re.MULTILINE)
    text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{port}").replace("objects:8333", "127.0.0.1:9")
    text = text.replace("listen 8443 ssl", f"listen 127.0.0.1:{free_port()}")
    text = text.replace("server_name images.example.com", "server_name 127.0.0.1")
    text = text.replace("return 301 https://$host$request_uri;", "listen 127.0.0.1:1; return 404;")
    for name, address in zip(("replica-1:8765 resolve", "replica-2:8765 resolve"), replicas, strict=True):
        text = text.replace(name, address)
    text = text.replace("/dev/stdout", str(folder / "access.log")).replace("/dev/stderr", str(folder / "error.log"))
    temporary = "\n".join(
        f"{kind}_temp_path {folder / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = text.replace("http {", f"http {{\n{temporary}", 1)
    config = folder / "nginx.conf"
    config.write_text(f"daemon off; pid {folder / 'nginx.pid'};\n{text}")
    return config


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str], Path]]:
    """nginx before two servers, and a worker at its own port, on PostgreSQL: as in compose.yaml.

    Return the public URL, the addresses of the three processes, and nginx's access log.
    """
    nginx = program("nginx")
    folder, port, probes = tmp_path_factory.mktemp("installation"), free_port(), free_port()
    with postgres.database() as database:
        more = {
            "TRIPTYCH_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "TRIPTYCH_DATABASE_URL": database,
            "TRIPTYCH_METRICS": "on",
        }
        env = environ(folder / "home", **more)
        server = ("-m", "triptych", "serve", "--transport", "http", "--port", "0", "--no-worker")
        worker = ("-m", "triptych", "worker", "--health-port", str(probes))
        children = [Child(*server, env=env), Child(*server, env=env), Child(*worker, env=env, ready="works on jobs")]
        addresses = [child.url().split("/")[2] for child in children[:2]]
        children[2].url()
        config = balancer_config(folder, port, addresses)
        run(nginx, "-t", "-c", str(config), "-e", str(folder / "error.log"))
        with process(nginx, "-c", str(config), "-e", str(folder / "error.log")):
            yield more["TRIPTYCH_PUBLIC_URL"], [*addresses, f"127.0.0.1:{probes}"], folder / "access.log"
        for child in children:
            assert child.end() == 0, "".join(child.said)


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_the_balancer_serves_both_eras_through_two_replicas(
    installation: tuple[str, list[str], Path], era: str
) -> None:
    public, addresses, log = installation
    async with httpx2.AsyncClient() as http:
        for path in ("healthz", "readyz"):
            end = time.monotonic() + 60
            while not await answers(http, f"{public}/{path}"):
                assert time.monotonic() < end, path
                await anyio.sleep(0.1)
        assert (await http.get(f"{public}/metrics")).status_code == 404
        assert (await http.get(f"http://{addresses[2]}/readyz")).json()["checks"]["worker"] == "ok"

    def calls() -> list[float]:
        return [total(read_metrics(f"http://{one}", None), "triptych_tool_calls_total") for one in addresses[:2]]

    before = calls()
    async with Client(f"{public}/mcp", mode=era) as client:
        for n in range(4):
            prompt = {"prompt": f"fox {n} {era}", "size": SMALL, "wait_s": 0}
            made = (await client.call_tool("generate_sequence", prompt)).structured_content
            assert made
            ended = await client.call_tool("get_status", {"job_id": made["job_id"], "wait_s": 50})
            assert ended.structured_content and ended.structured_content["status"] == "done"
            await client.call_tool("list_jobs", {})
    after = calls()
    assert sum(after) - sum(before) == 12
    assert all(now > then for now, then in zip(after, before, strict=True)), "both replicas had calls"
    worker = read_metrics(f"http://{addresses[2]}", None)
    assert total(worker, "triptych_prediction_moves_total", state="done") >= 4
    assert total(worker, "triptych_account_limit", provider="draft") > 0
    written = log.read_text()
    assert "POST /mcp" in written and "?" not in written


async def test_the_balancer_passes_events_on_at_once(installation: tuple[str, list[str], Path]) -> None:
    public, _, _ = installation
    progress: list[float] = []

    async def note(done: float, most: float | None, message: str | None) -> None:
        progress.append(anyio.current_time())

    async with Client(f"{public}/mcp") as client:
        asked = {"prompt": "foxes in the snow", "size": "2048x2048", "count": 3, "wait_s": 50}
        made = await client.call_tool("generate_sequence", asked, progress_callback=note)
        ended = anyio.current_time()
    assert made.structured_content
    assert progress and progress[0] < ended - 0.2, "progress comes while the call goes on, not at its end"


async def answers(http: httpx2.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).status_code == 200
    except httpx2.HTTPError:
        return False


def test_the_balancers_time_outs_are_longer_than_a_call() -> None:
    text = (DEPLOY / "nginx" / "nginx.conf").read_text("utf-8")
    for name in ("proxy_read_timeout", "proxy_send_timeout"):
        assert all(int(seconds) > 60 for seconds in re.findall(rf"{name} (\d+)s", text))
    assert "proxy_buffering off" in text
