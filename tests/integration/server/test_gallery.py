"""The gallery on the wire: who is offered it, what the page is, and how it is reached over HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.extension import advertise
from mcp.server import apps

from support.servers import SAMPLES, SERVE, Child, Connect, environ
from triptych import settings
from triptych.core.models import Failure, Job, Prediction, State
from triptych.core.offers import Operation
from triptych.core.requests import Look, Request, Row
from triptych.jobs import request_facts
from triptych.server import gallery, icons, tools
from triptych.server.app import build
from triptych.server.service_holder import ServiceHolder, service_opener

TOKEN = "a-long-random-text"
EARLIER = "job_0badcafe"
JOB = Job("job_12345678", Request("edit_chain", ()), datetime(2026, 11, 22, tzinfo=UTC), "", "atlas", "m", "m/edit")
SHOWS_APPS = advertise(gallery.EXTENSION, {"mimeTypes": [gallery.MIME_TYPE]})
SHOWS_NO_APPS = [
    [],
    [advertise(gallery.EXTENSION)],
    [advertise(gallery.EXTENSION, {"mimeTypes": ["text/plain"]})],
    [advertise(gallery.EXTENSION, {"mimeTypes": gallery.MIME_TYPE})],
    [advertise("com.example/other", {"mimeTypes": [gallery.MIME_TYPE]})],
]


def bare(listed: types.ListToolsResult) -> list[dict[str, Any]]:
    return [tool.model_dump(by_alias=True, exclude_none=True, mode="json") for tool in listed.tools]


def test_the_names_are_those_of_the_specification() -> None:
    assert (gallery.EXTENSION, gallery.MIME_TYPE) == (apps.EXTENSION_ID, apps.APP_MIME_TYPE)


@pytest.mark.anyio
async def test_a_host_with_apps_finds_the_gallery_at_job_tools(client_of: Connect) -> None:
    async with client_of(extensions=[SHOWS_APPS]) as client:
        if client.protocol_version >= "2026":  # earlier initialize results have no place for it
            assert (client.server_capabilities.extensions or {})[gallery.EXTENSION] == {}
        listed = await client.list_tools()
        resources = (await client.list_resources()).resources
        linked = {tool.name: tool.meta for tool in listed.tools if tool.meta}
        [uri] = {meta["ui"]["resourceUri"] for meta in linked.values()}
        [page] = (await client.read_resource(uri)).contents
    assert set(linked) == {"edit_sequence", "edit_chain", "generate_sequence", "get_status"}
    assert [(r.uri, r.mime_type) for r in resources if r.uri.startswith("ui:")] == [(uri, apps.APP_MIME_TYPE)]
    assert isinstance(page, types.TextResourceContents) and page.mime_type == apps.APP_MIME_TYPE
    assert page.text == gallery.page() and page.meta == {"ui": {"prefersBorder": True}}, "no domains are asked for"
    # A shared cache must not hand this list to a host that shows no apps.
    assert listed.cache_scope == "private"


@pytest.mark.anyio
@pytest.mark.parametrize("extensions", SHOWS_NO_APPS)
async def test_other_hosts_see_no_gallery_but_may_read_it(client_of: Connect, extensions: list[Any]) -> None:
    async with client_of(extensions=extensions) as client:
        assert bare(await client.list_tools()) == bare(tools.listing())
        assert not any(r.uri.startswith("ui:") for r in (await client.list_resources()).resources)
        assert (await client.read_resource(gallery.URI)).contents


def test_a_model_reads_the_same_in_both_tool_lists() -> None:
    linked, plain = bare(gallery.linked(tools.listing())), bare(tools.listing())
    assert [{k: v for k, v in tool.items() if k != "_meta"} for tool in linked] == plain
    assert not any("_meta" in tool for tool in plain)


def test_the_page_loads_nothing_and_writes_no_markup() -> None:
    page = gallery.page()
    assert not re.findall(r"https?://", page)
    assert not re.findall(r"(?:src|href)=|@import|url\(", page.replace(f'="{icons.data_url()}"', ""))
    assert not re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser", page
    )
    assert (page.count("<script>"), page.count("<style>")) == (1, 1)
    assert not re.findall(r'\s(?:on\w+|style)="', page), "what the policy would refuse"
    assert len(page.encode()) < 110_000


def test_the_tab_and_the_head_of_the_page_show_the_icon() -> None:
    page = gallery.page()
    assert f'<link rel="icon" href="{icons.data_url()}">' in page and f'<img src="{icons.data_url()}" alt=""' in page
    assert "img-src data:" in gallery.headers()["Content-Security-Policy"]


def test_every_file_of_the_gallery_is_in_its_page() -> None:
    files = [path for path in Path(gallery.__file__).parent.iterdir() if path.suffix in (".css", ".js")]
    assert len(files) == 9
    assert all(path.read_text("utf-8") in gallery.page() for path in files)


def prediction(request: Request, lane: int, step: int) -> Prediction:
    """Return a finished request of a chain's job."""
    return Prediction(
        id=f"{lane}-{step}", job_id=JOB.id, request=request, lane=lane, step=step, after_id=None,
        first_output=lane * request.steps + step + 1, provider="atlas", endpoint="m/edit", operation=Operation.EDIT,
        size=None, client_id="", variation="", quoted_usd=Decimal(0), quote_exact=True, state=State.DONE,
    )  # fmt: skip


@pytest.mark.anyio
async def test_a_job_tells_its_request_and_an_image_its_results(tmp_path: Path) -> None:
    holder = ServiceHolder(service_opener(settings.read(environ(tmp_path / "home"))))
    coffee = str(SAMPLES / "coffee.jpg")
    async with holder.running(), Client(build(holder, remote=False)) as client:

        async def meta(uri: str) -> dict[str, Any]:
            return (await client.read_resource(uri)).contents[0].meta or {}

        given = {"images": [coffee], "steps": ["warmer", "black and white"], "references": [coffee], "format": "jpeg"}
        chain = (await client.call_tool("edit_chain", given)).structured_content
        source = chain["images"][1]["source"][0]
        job_id = chain["job_id"]
        made = (await meta(f"triptych://jobs/{job_id}"))["making"]
        first = await meta(f"triptych://images/{job_id}/1")
        upload = await meta(f"triptych://images/{source}")
        last = await meta(f"triptych://images/{job_id}/2")
        words = {"prompt": "three sails", "count": 3, "size": "1024x512"}
        sails = (await client.call_tool("generate_sequence", words)).structured_content
        sequence = (await meta(f"triptych://jobs/{sails['job_id']}"))["making"]
    assert (made["tool"], made["prompts"], made["format"]) == ("edit_chain", given["steps"], "jpeg")
    assert (made["lanes"], made["references"], made["sources"]) == ([[source]], [source], [coffee])
    assert (made["count"], made["took_s"] >= 0) == (1, True)
    assert not {"columns", "values", "look", "is_table", "size"} & made.keys(), "what is empty is left out"
    assert [(r["lane"], r["step"], r["first_output"], r["count"], r["state"]) for r in made["requests"]] == [
        (0, 0, 1, 1, "done"),
        (0, 1, 2, 1, "done"),
    ]
    assert first["made_from_it"] == [f"{job_id}/2"]
    assert upload["made_from_it"] == [f"{job_id}/1", f"{job_id}/2"]
    assert last["made_from_it"] == []
    assert (first["prompt"], last["prompt"]) == tuple(given["steps"]) and "prompt" not in upload
    assert (sequence["prompts"], sequence["lanes"]) == (["three sails"], [[]])
    assert [(r["count"], r["size"]) for r in sequence["requests"]] == [(3, "1024x512")]
    assert sequence["size"] == "1024x512"


def test_a_tables_job_tells_its_rows_and_look_shortly() -> None:
    rows = [Row((f"img_{n:08x}",), {"color": f"color {n}", "size": "L"}) for n in range(200)]
    rows[7] = Row((f"{EARLIER}/15",), {"color": "teal"}, done=1, original="img_00000007")
    look = Look("coffee", 3, "soft light", ("img_99999999",))
    request = Request(
        "edit_chain", ("on {color}", "a shadow"), references=("original",), rows=tuple(rows), look=look, size="2K"
    )
    failed = Failure(kind="refused", message="no " * 200, retryable=False)
    predictions = [prediction(request, lane, step) for lane, step in request.places()]
    predictions[3] = replace(predictions[3], state=State.FAILED, fault=failed)
    job = replace(JOB, request=request, sources=tuple(f"/shop/{n}.jpg" for n in range(200)))
    told = request_facts.making(job, predictions).as_json()
    assert (told["columns"], told["is_table"], told["size"]) == (["color", "size"], True, "2K")
    assert told["values"][6:9] == [["color 6", "L"], ["teal", ""], ["color 8", "L"]]
    assert told["lanes"][7] == [f"{EARLIER}/15"] and told["references"] == ["original"]
    assert (told["sources"][7], told["done"][6:9]) == ("/shop/7.jpg", [0, 1, 0])
    assert told["sent"] == ["on {color}. Keep this look: soft light", "a shadow. Keep this look: soft light"]
    assert told["originals"][6:9] == ["", "img_00000007", ""]
    assert told["look"] == {"name": "coffee", "version": 3, "words": "soft light", "images": ["img_99999999"]}
    assert [r["step"] for r in told["requests"] if r["lane"] == 7] == [1]
    [reason] = [r["reason"] for r in told["requests"] if "reason" in r]
    assert len(reason) == request_facts.REASON_CHARS
    assert len(json.dumps(told)) < 50_000, "the page reads it again while the job runs"


# -- over HTTP ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.URL]:
    child = Child("-c", SERVE, "http", env=environ(tmp_path_factory.mktemp("guarded"), TRIPTYCH_AUTH_TOKEN=TOKEN))
    yield httpx2.URL(child.url())
    assert child.end() == 0


def test_the_page_alone_needs_no_token(guarded: httpx2.URL) -> None:
    answer = httpx2.get(guarded.join("/gallery"))
    assert answer.status_code == 200 and answer.text == gallery.page()
    assert TOKEN not in answer.text
    assert httpx2.head(guarded.join("/gallery")).status_code == 200
    for method, path in (
        ("POST", "/gallery"),
        ("GET", "/gallery/"),
        ("GET", "/gallery.html"),
        ("GET", "/Gallery"),
        ("GET", "/mcp"),
    ):
        assert httpx2.request(method, guarded.join(path)).status_code == 401, path


def test_the_page_allows_its_own_script_and_server_alone(guarded: httpx2.URL) -> None:
    headers = httpx2.get(guarded.join("/gallery")).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    [script] = re.findall(r"<script>(.*?)</script>", gallery.page(), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy["script-src"] == f"'sha256-{digest}'"
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert (policy["connect-src"], policy["img-src"]) == ("'self'", "data:")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer" and headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("header", "value", "status"), [("host", "evil.example", 421), ("origin", "http://evil.example", 403)]
)
def test_the_page_is_not_served_under_another_sites_name(
    guarded: httpx2.URL, header: str, value: str, status: int
) -> None:
    assert httpx2.get(guarded.join("/gallery"), headers={header: value}).status_code == status


def test_the_sse_transport_has_no_gallery(sse_url: str) -> None:
    assert httpx2.get(httpx2.URL(sse_url).join("/gallery")).status_code == 404


# -- the command -------------------------------------------------------------------------------------------------------

OPENING = """
import sys, webbrowser
webbrowser.open = lambda url: print(f"opened {url}", file=sys.stderr, flush=True)
from triptych.__main__ import main
main()
"""


@pytest.mark.parametrize("opens", [True, False])
def test_triptych_gallery_serves_on_loopback_with_its_own_token(tmp_path: Path, opens: bool) -> None:
    options = () if opens else ("--no-open",)
    child = Child(
        "-c",
        OPENING,
        "gallery",
        "job_12345678",
        *options,
        env=environ(tmp_path),
        ready="opened" if opens else "gallery is at",
    )
    page = httpx2.URL(child.url())
    fragment = re.fullmatch(r"token=([\w-]{43})&show=job_12345678", page.fragment)
    assert fragment and page.host == "127.0.0.1" and page.path == "/gallery"
    assert httpx2.get(page).text == gallery.page()
    assert httpx2.post(page.join("/mcp"), json={}).status_code == 401
    admitted = httpx2.post(page.join("/mcp"), json={}, headers={"authorization": f"Bearer {fragment[1]}"})
    assert admitted.status_code not in (401, 403, 421)
    assert child.end() == 0
    said = "".join(child.said)
    assert ("opened" in said) is opens and "gallery is at" in said and "Traceback" not in said


def test_triptych_gallery_shows_jobs_made_elsewhere(tmp_path: Path) -> None:
    env = environ(tmp_path)
    made = subprocess.run(
        [sys.executable, "-m", "triptych", "generate", "-p", "a lighthouse", "--json"],
        env=env,
        capture_output=True,
        check=True,
        timeout=120,
    )
    job_id = json.loads(made.stdout)["job_id"]
    child = Child("-m", "triptych", "gallery", "--no-open", env=env, ready="gallery is at")
    page = httpx2.URL(child.url())
    name = "get_status"
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    answer = httpx2.post(
        page.join("/mcp"),
        json={
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": name, "arguments": {"job_id": job_id}, "_meta": meta},
        },
        headers={
            "authorization": f"Bearer {page.fragment.removeprefix('token=')}",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": "tools/call",
            "mcp-name": name,
        },
        timeout=60,
    ).json()
    assert child.end() == 0
    assert answer["result"]["structuredContent"]["status"] == "done", answer
