"""How much one edit takes beyond the provider's own time, and how often it is asked for, beside the official client.

Each provider's emulator runs with a fixed latency. Triptych and the provider's official client, each a warm process of
its own, take turns with one and the same request: Triptych shows it in a dry run, and the client sends that. Its
reference is an image that lies at the provider, so neither uploads anything. What counts is the time from the call
until the result URLs are known (in Triptych: written down, and told to who watches the job), less the latency, and the
requests that ask how far the job has come. Triptych then fetches, checks and keeps the image, which no client does; the
time until then is told beside it.

The latency of what is polled lies in the middle between two looks of a loop of 1 s and of one of 3 s: in step with a
loop, nothing would be measured but the step. Polls are counted and have no target: they cost nothing.

The official clients of EvoLink and Atlas Cloud submit and look, but do not wait: their looks come every 3 s here, which
is what the one recommends and the other has written down as its interval.

ModelArk and Novita hold the call until the images are made. What is left there is a few milliseconds on either side,
and of Triptych's some are spent on what a client does not do: the job is on the disk before its request leaves, and its
answer before a caller can see it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp import ClientSession, StdioServerParameters, stdio_client

from benchmarks.table import Row, main
from triptych import providers, settings
from triptych.core.requests import Request
from triptych.jobs.planning import Terms
from triptych.jobs.service import ImageService, open_service
from triptych_emulators import Emulator, running

ROUNDS = 7
POLLED_LATENCY_S = 4.5
HELD_LATENCY_S = 0.5
LOOK_S = 3.0
LIMIT = 1.2
MOST_BYTES = 1 << 20
PROMPT = "the same harbour at night"
MODEL = "seedream-4.5"
MODELS = {"atlas": "seedream-5.0-lite"}
POLLED = ("wavespeed", "runware", "evolink", "atlas")
HELD = ("ark", "novita")

ROOT = Path(__file__).parents[1]
ORACLES = ROOT / ".oracles"
LOADERS = ROOT / "tests/conformance/oracle"
CLIENTS = {
    "ark": ORACLES / "ark-venv/bin/python",
    "runware": ORACLES / "runware-venv/bin/python",
    "wavespeed": ORACLES / "wavespeed-venv/bin/python",
    "novita": ORACLES / "novita/node_modules/novita-sdk",
    "evolink": ORACLES / "evolink/node_modules/@evolinkai/evolink-media/dist/evolink-media/src/index.js",
    "atlas": ORACLES / "atlas/node_modules/atlascloud-mcp/dist/index.js",
}
TITLES = {"evolink": "its MCP server, 3 s loop", "atlas": "its MCP server, 3 s loop"}

Edit = Callable[[dict[str, Any]], Any]
"""Makes the edit of a request once; returns what was told of it, `known_s` among it."""


@dataclass(slots=True)
class Runs:
    """One side's runs: seconds until the URLs were known, until the image was home, and polls."""

    known_s: list[float] = field(default_factory=list)
    home_s: list[float] = field(default_factory=list)
    polls: list[int] = field(default_factory=list)


def measure() -> list[Row]:
    """Return overhead and polls of the median of seven edits, for every provider whose client is installed."""
    return anyio.run(_measure)


async def _measure() -> list[Row]:
    rows: dict[str, list[Row]] = {}

    async def one(name: str, latency_s: float) -> None:
        rows[name] = await _provider(name, latency_s)

    # These do nothing but wait nearly all the time, so they wait together.
    async with anyio.create_task_group() as tasks:
        for name in POLLED:
            tasks.start_soon(one, name, POLLED_LATENCY_S)
    for name in HELD:
        await one(name, HELD_LATENCY_S)
    return [row for name in (*POLLED, *HELD) for row in rows[name]]


async def _provider(name: str, latency_s: float) -> list[Row]:
    if not CLIENTS[name].exists() or (CLIENTS[name].name != "python" and not shutil.which("node")):
        target = f"≤ {LIMIT:g}×"
        return [Row(f"edit at {name}: overhead", "not measured", "run ./scripts/oracles", target=target)]
    ours, theirs = Runs(), Runs()
    with running(name, max_side=64, latency_s=latency_s) as api:
        async with _triptych(api) as (call, edit), _official(name, api) as official:
            # Triptych is warm by now; the client makes its first call outside the measurement too.
            await official(call)
            for _ in range(ROUNDS):
                for runs, make in ((ours, edit), (theirs, official)):
                    told = await make(call)
                    runs.known_s.append(told["known_s"] - latency_s)
                    runs.home_s.append(told.get("home_s", 0.0) - latency_s)
                    runs.polls.append(_polls(api))
    return _rows(name, ours, theirs)


def _polls(api: Emulator) -> int:
    """Return how often it was asked for the newest job."""
    ticket = api.accepted[-1]
    asked = [
        seen for seen in api.seen if ticket in seen.path or (b"getResponse" in seen.body and ticket in str(seen.json))
    ]
    return sum(1 for seen in asked if not seen.path.startswith("/_results/"))


def _rows(name: str, ours: Runs, theirs: Runs) -> list[Row]:
    known_s, official_s = statistics.median(ours.known_s), statistics.median(theirs.known_s)
    home_s, title = statistics.median(ours.home_s), TITLES.get(name, "its SDK")
    rows = [
        Row(
            f"edit at {name}: overhead",
            f"{known_s * 1000:,.0f} ms ({home_s * 1000:,.0f} ms until it is home)",
            f"{official_s * 1000:,.0f} ms ({title})",
            known_s / official_s,
            f"≤ {LIMIT:g}×",
            known_s <= LIMIT * official_s,
        )
    ]
    if name in POLLED:
        asked, official_asked = statistics.median(ours.polls), statistics.median(theirs.polls)
        rows.append(
            Row(
                f"edit at {name}: polls",
                f"{asked:g}",
                f"{official_asked:g} ({title})",
                asked / official_asked,
            )
        )
    return rows


# -- the two sides ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _lines(command: list[str], env: dict[str, str]) -> AsyncIterator[Callable[..., Any]]:
    """Yield a function that hands a child process a line of JSON, if any, and returns the next line that it prints."""
    async with await anyio.open_process(command, env=env, cwd=ROOT, stderr=None) as child:
        assert child.stdin and child.stdout
        stdin, stdout = child.stdin, BufferedByteReceiveStream(child.stdout)

        async def ask(line: Any = None) -> Any:
            if line is not None:
                await stdin.send(json.dumps(line).encode() + b"\n")
            return json.loads(await stdout.receive_until(b"\n", MOST_BYTES))

        yield ask
        await stdin.aclose()
        await child.wait()


@asynccontextmanager
async def _triptych(api: Emulator) -> AsyncIterator[tuple[dict[str, Any], Edit]]:
    """Yield the request that Triptych would send, and what lets it make that edit, warm."""
    provider = providers.load(api.name)
    assert provider.key_env
    with tempfile.TemporaryDirectory() as home:
        env = _env() | {"TRIPTYCH_HOME": home, provider.key_env: api.key}
        env |= {url.env: api.base_url + urlsplit(url.default).path for url in provider.base_urls.values()}
        async with _lines([sys.executable, "-m", "benchmarks.overhead", api.name], env) as ask:
            yield await ask(), ask


def _official(name: str, api: Emulator) -> AbstractAsyncContextManager[Edit]:
    return _waits_itself(name, api) if name not in TITLES else _is_looked_after(name, api)


@asynccontextmanager
async def _waits_itself(name: str, api: Emulator) -> AsyncIterator[Edit]:
    here = Path(__file__).parent
    command = [str(CLIENTS[name]), "-I", str(here / "official.py"), name, api.base_url, api.key]
    if name == "novita":
        command = ["node", str(here / "official_novita.cjs"), str(CLIENTS[name]), api.base_url, api.key]
    async with _lines(command, _env()) as ask:

        async def edit(call: dict[str, Any]) -> Any:
            path = urlsplit(call["url"]).path
            match name:
                case "wavespeed":
                    told = await ask({"model": path.removeprefix("/api/v3/"), "input": call["json"]})
                case "novita":
                    told = await ask({"url": path, "data": call["json"]})
                case _:
                    told = await ask(call["json"])
            assert len(told["urls"]) == 1, told
            return told

        yield edit


@asynccontextmanager
async def _is_looked_after(name: str, api: Emulator) -> AsyncIterator[Edit]:
    """Yield an edit by an official MCP server that submits, and looks when it is told to."""
    keys = {"EVOLINK_API_KEY": api.key, "ATLASCLOUD_API_KEY": api.key}
    env = _env() | keys | {f"TRIPTYCH_{name.upper()}_BASE_URL": api.base_url}
    loader = (LOADERS / f"{name}_on_loopback.mjs").as_uri()
    server = StdioServerParameters(command="node", args=["--import", loader, str(CLIENTS[name])], env=env)
    with _nowhere() as quiet:
        async with stdio_client(server, errlog=quiet) as streams, ClientSession(*streams) as session:
            await session.initialize()

            async def tool(tool_name: str, arguments: dict[str, Any]) -> str:
                result = await session.call_tool(tool_name, arguments)
                return "\n".join(getattr(block, "text", "") for block in result.content)

            async def edit(call: dict[str, Any]) -> Any:
                body = dict(call["json"])
                began = time.perf_counter()
                if name == "evolink":
                    submitted = await tool("generate_image", body)
                else:
                    submitted = await tool("atlas_generate_image", {"model": body.pop("model"), "params": body})
                found = re.search(r"(?:Task ID: |Prediction ID\*\*: `)([^\s`]+)", submitted)
                assert found, submitted
                while True:
                    await anyio.sleep(LOOK_S)
                    if name == "evolink":
                        told = await tool("check_task", {"task_id": found[1]})
                    else:
                        told = await tool("atlas_get_prediction", {"prediction_id": found[1]})
                    if re.search(r"Status(\*\*)?: completed", told):
                        return {"known_s": time.perf_counter() - began}

            yield edit


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


def _env() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ}


# -- Triptych's own process -------------------------------------------------------------------------------------------


async def _edits(provider: str) -> None:
    """Warm up, print the request of the edit, and then make that edit for every line of input."""
    # The same request within an hour would be the same job.
    model, terms = MODELS.get(provider, MODEL), Terms(wait_s=55, again=True)
    async with open_service(settings.read(os.environ).setup) as service:
        harbour = Request("generate_sequence", ("a harbour",), provider=provider, model=model)
        made = await service.make(harbour, terms)
        edit = Request("edit_sequence", (PROMPT,), (made.images[0].handle,), provider=provider, model=model)
        await _edit(service, edit, terms)
        shown = await service.make(edit, Terms(dry_run=True))
        print(json.dumps(shown.request), flush=True)
        while await anyio.to_thread.run_sync(sys.stdin.readline):
            print(json.dumps(await _edit(service, edit, terms)), flush=True)


async def _edit(service: ImageService, edit: Request, terms: Terms) -> dict[str, Any]:
    known: list[float] = []

    def moved(job_id: str) -> None:
        if not known and any(frame.url for frame in service.store.plain.outputs(job_id)):
            known.append(time.perf_counter())

    forget = service.watch(moved)
    began = time.perf_counter()
    result = await service.make(edit, terms)
    home = time.perf_counter()
    forget()
    assert result.status == "done", result
    return {"known_s": known[0] - began, "home_s": home - began}


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1] in providers.names():
        anyio.run(_edits, sys.argv[1])
    else:
        main(measure)
