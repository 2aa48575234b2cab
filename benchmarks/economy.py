"""What a finished set of images costs an assistant: calls, and bytes of its context, in scripted conversations.

A real server over stdio, with Atlas Cloud's emulator behind it, is driven as an assistant would drive it. Bytes in are
the names and arguments of the calls, bytes out the whole results as JSON, text, links and structured content alike;
pixels are only where `view_images` shows them, and are counted apart. A host shows its assistant a part of that: the
structured content and the links, or the text and the links. The longer of the two is what the two long chains are
measured by; they are read to their ends by the literal `next` of each result, with the emulator's URLs and with URLs as
long as a provider's signed ones.

Two conversations are about whole catalogues: a folder of 200 photos restyled with a look and saved at two sizes, and a
table of 60 rows of which three fail and are made again. A wait is a `get_status` whose job still runs: it is counted
apart, has at most 600 characters, and says how long the job still takes.
"""

from __future__ import annotations

import ast
import json
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from PIL import Image

import triptych
from benchmarks.table import Row, main
from triptych.cli.demo import preview_pictures
from triptych_emulators import Emulator, running

LATENCY_S = 1.0
SLOW_S = 8.0
"""So slow that the client has to wait for whole catalogues."""
PHOTOS = 12
MOST_CHARS = 9_000
SIGNED_URL_CHARS = 300
LANES = 40
CATALOGUE = 200
ROWS, FAILED = 60, 3
MOST_WAIT_CHARS = 600
LITERAL = re.compile(r'get_status\(job_id="(?P<job_id>\w+)", (?P<name>wait_s|page)=(?P<value>\d+)\)')
BASE64 = re.compile(r"[A-Za-z0-9+/]{200}")
SAMPLES = Path(triptych.__file__).parent / "samples"


@dataclass(slots=True)
class Assistant:
    """Calls tools and keeps count."""

    client: Client
    calls: int = 0
    bytes_in: int = 0
    results: list[int] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)
    """Characters of each result as a host shows it to its model, at most."""
    waits: list[int] = field(default_factory=list)
    """The same of each `get_status` whose job still runs, in `wait`."""
    told_time: int = 0
    """How many of them say how long the job still takes."""
    pixels: int = 0
    strays: int = 0
    """Results with base64 in them that should have none."""

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Return a call's fields; its status must be `done` where it has one."""
        fields = await self.ask(tool, **arguments)
        assert fields.get("status", "done") == "done", fields
        return fields

    async def ask(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Return a call's fields."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        said = result.model_dump(mode="json", by_alias=True, exclude_none=True)
        said.pop("_meta", None)
        for block in said["content"]:
            self.pixels += len(block.pop("data", ""))
        text = json.dumps(said, separators=(",", ":"), ensure_ascii=False)
        self.calls += 1
        self.bytes_in += len(json.dumps({"name": tool, "arguments": arguments}, separators=(",", ":")))
        self.results.append(len(text.encode()))
        self.strays += bool(BASE64.search(text))
        forms = [json.dumps(said.get("structuredContent", {}), separators=(",", ":"), ensure_ascii=False)]
        forms.append("".join(block["text"] for block in said["content"] if block["type"] == "text"))
        links = [block for block in said["content"] if block["type"] == "resource_link"]
        self.shown.append(max(map(len, forms)) + (len(json.dumps(links, separators=(",", ":"))) if links else 0))
        return result.structured_content or {}

    async def wait(self, job: dict[str, Any]) -> dict[str, Any]:
        """Return a job at its end, by the literal `next` of each result. The waits are no calls."""
        while job["status"] in ("queued", "running"):
            named = LITERAL.fullmatch(job["next"])
            assert named, job
            job = await self.ask("get_status", job_id=named["job_id"], wait_s=int(named["value"]))
            self.calls -= 1
            if job["status"] in ("queued", "running"):
                self.waits.append(self.shown.pop())
                self.told_time += "remaining_s" in job["progress"]
        return job

    async def read_through(self, job: dict[str, Any]) -> list[str]:
        """Wait for a job and read all its pages, by the literal `next` of each result; return all handles."""
        handles = [image["handle"] for image in job["images"]]
        while named := LITERAL.fullmatch(job["next"] or ""):
            job = await self.ask("get_status", job_id=named["job_id"], **{named["name"]: int(named["value"])})
            handles += [image["handle"] for image in job["images"]]
        assert job["status"] == "done", job
        return handles


async def seasons(assistant: Assistant, folder: Path) -> None:
    """Four seasonal variants of one local photo, and a look at them."""
    job = await assistant.call(
        "edit_sequence",
        images=[str(folder / "product-01.jpg")],
        prompt="The same scene and composition in spring, summer, autumn and winter",
        count=4,
    )
    await assistant.call("view_images", images=[job["job_id"]])


async def restyle(assistant: Assistant, folder: Path) -> None:
    """Twelve product photos in one look, a look at them, and the files."""
    photos = [str(folder / f"product-{n:02}.jpg") for n in range(1, PHOTOS + 1)]
    job = await assistant.call(
        "edit_chain", images=photos, steps=["Warm evening light on a plain sand-coloured background"]
    )
    await assistant.call("view_images", images=[job["job_id"]])
    handles = [image["handle"] for image in job["images"]]
    saved = await assistant.call("save_images", images=handles, directory=str(folder / "restyled"), name="product")
    assert len(saved["saved"]) == PHOTOS


async def refine(assistant: Assistant, folder: Path) -> None:
    """One image refined three times; the second wish is undone."""
    job = await assistant.call("edit_sequence", images=[str(folder / "product-02.jpg")], prompt="Warmer light")
    first = job["images"][0]["handle"]
    job = await assistant.call("edit_sequence", images=[first], prompt="Make the background blue")
    await assistant.call("view_images", images=[first, job["images"][0]["handle"]])
    job = await assistant.call("edit_sequence", images=[first], prompt="A little more contrast")
    await assistant.call("view_images", images=[job["job_id"]])


async def forty(assistant: Assistant, folder: Path) -> None:
    """Forty images through one step, read to the end."""
    photos = [str(folder / f"product-{1 + n % PHOTOS:02}.jpg") for n in range(LANES)]
    job = await assistant.ask("edit_chain", images=photos, steps=["Warm light"], max_cost_usd=5)
    handles = await assistant.read_through(job)
    assert len(set(handles)) == len(handles) == LANES


async def staged(assistant: Assistant, folder: Path) -> None:
    """Ten images through three steps, read to the end."""
    photos = [str(folder / f"product-{n:02}.jpg") for n in range(1, 11)]
    steps = ["Remove the background", "Soft evening light", "A paper texture"]
    job = await assistant.ask("edit_chain", images=photos, steps=steps, max_cost_usd=5)
    handles = await assistant.read_through(job)
    assert len(set(handles)) == len(handles) == 30
    assert {int(handle.partition("/")[2]) % 3 for handle in handles[:10]} == {0}


async def catalogue(assistant: Assistant, folder: Path, api: Emulator) -> None:
    """Two hundred photos restyled with a look, looked at, and saved at two sizes."""
    photos = folder / "catalogue"
    _photos(photos, CATALOGUE, side=256)
    style = [str(folder / f"product-0{n}.jpg") for n in (1, 2)]
    await assistant.call("upload_images", images=style, look="coffee", words="Warm morning light, linen, soft shadows")
    job = await assistant.ask(
        "edit_chain", images=[str(photos)], steps=["Restyle"], references=["look:coffee"], max_cost_usd=15
    )
    job = await assistant.wait(job)
    assert job["status"] == "done" and job["returned"] == CATALOGUE == len(api.accepted), job
    await assistant.call("view_images", images=[job["job_id"]])
    directory = str(folder / "shop")
    await assistant.call("save_images", images=[job["job_id"]], directory=directory, size="512x512, 128x128")
    assert len(list(Path(directory).rglob("*.*"))) == 2 * CATALOGUE


async def table(assistant: Assistant, folder: Path, api: Emulator) -> None:
    """Sixty rows of a table, of which three fail; then those alone again, and a look at them."""
    rows = [f"product-{1 + n % PHOTOS:02}.jpg,product {n},{n} km" for n in range(ROWS)]
    (folder / "products.csv").write_text("\n".join(["image,name,place", *rows]) + "\n", encoding="utf-8")
    api.fault("submit", "moderated-before", times=FAILED)
    job = await assistant.ask(
        "edit_chain", images=[str(folder / "products.csv")], steps=["{name} on a table, {place} away"], max_cost_usd=5
    )
    job = await assistant.wait(job)
    assert job["status"] == "partial" and job["returned"] == ROWS - FAILED, job
    paid, calls = len(api.accepted), assistant.calls
    retry = ast.parse(job["next"], mode="eval").body
    assert isinstance(retry, ast.Call) and ast.unparse(retry.func) == "edit_chain", job["next"]
    named = {one.arg: ast.literal_eval(one.value) for one in retry.keywords if one.arg}
    again = await assistant.wait(await assistant.ask("edit_chain", **named))
    assert again["status"] == "done" and again["returned"] == FAILED, again
    await assistant.call("view_images", images=[again["job_id"]])
    assert len(api.accepted) == paid + FAILED and assistant.calls <= calls + 2


Conversation = Callable[[Assistant, Path], Awaitable[None]]
CONVERSATIONS: tuple[tuple[str, Conversation, int], ...] = (
    ("four seasonal variants of a photo", seasons, 2),
    ("twelve product photos restyled and saved", restyle, 3),
    ("one image refined three times, one undo", refine, 5),
)
LONG: tuple[tuple[str, Conversation, int, int, int | None], ...] = (
    ("a chain 40 × 1", forty, 0, 5, 40_000),
    (f"a chain 40 × 1, URLs of {SIGNED_URL_CHARS} characters", forty, SIGNED_URL_CHARS, 8, 50_000),
    ("a chain 10 × 3", staged, 0, 4, None),
)
"""Title, conversation, characters of a URL (0: the emulator's own), most calls, most characters in the context."""

CATALOGUES: tuple[tuple[str, Callable[[Assistant, Path, Emulator], Awaitable[None]], int, int, int], ...] = (
    (f"{CATALOGUE} photos of a folder restyled with a look, saved at two sizes", catalogue, 4, 30_000, 1),
    (f"{ROWS} rows of a table, {FAILED} that fail made again", table, 3, 30_000, 0),
)
"""Title, conversation, most calls, most characters in the context (both without the waits), fewest waits."""


def measure() -> list[Row]:
    """Return calls and bytes of each conversation."""
    return anyio.run(_measure)


async def _measure() -> list[Row]:
    rows = []
    for title, converse, limit in CONVERSATIONS:
        async with _connected() as (client, folder, _):
            assistant = Assistant(client)
            await converse(assistant, folder)
        largest = max(assistant.shown)
        rows += [
            Row(f"{title}: calls", f"{assistant.calls}", target=f"≤ {limit}", met=assistant.calls <= limit),
            Row(f"{title}: bytes in, out", f"{assistant.bytes_in:,}, {sum(assistant.results):,}"),
            Row(
                f"{title}: largest result",
                f"{largest:,}",
                target=f"≤ {MOST_CHARS:,}",
                met=largest <= MOST_CHARS,
            ),
            Row(f"{title}: base64 of view_images", f"{assistant.pixels / 1000:,.0f} KB"),
            Row(f"{title}: base64 elsewhere", f"{assistant.strays} results", target="0", met=not assistant.strays),
        ]
    for title, converse, url_chars, calls, chars in LONG:
        async with _connected(url_chars) as (client, folder, _):
            assistant = Assistant(client)
            await converse(assistant, folder)
        context, largest = sum(assistant.shown), max(assistant.shown)
        met = chars is None or context <= chars
        rows += [
            Row(f"{title}: calls", f"{assistant.calls}", target=f"≤ {calls}", met=assistant.calls <= calls),
            Row(f"{title}: characters in the context", f"{context:,}", target=f"≤ {chars:,}" if chars else "", met=met),
            Row(f"{title}: largest result", f"{largest:,}", target=f"≤ {MOST_CHARS:,}", met=largest <= MOST_CHARS),
        ]
    for title, restyled, calls, chars, fewest_waits in CATALOGUES:
        async with _connected(latency_s=SLOW_S) as (client, folder, api):
            assistant = Assistant(client)
            await restyled(assistant, folder, api)
        context, largest = sum(assistant.shown), max(assistant.shown)
        waits, longest = len(assistant.waits), max(assistant.waits, default=0)
        rows += [
            Row(f"{title}: calls", f"{assistant.calls}", target=f"≤ {calls}", met=assistant.calls <= calls),
            Row(f"{title}: characters in the context", f"{context:,}", target=f"≤ {chars:,}", met=context <= chars),
            Row(f"{title}: largest result", f"{largest:,}", target=f"≤ {MOST_CHARS:,}", met=largest <= MOST_CHARS),
            Row(
                f"{title}: waits, longest",
                f"{waits}, {longest:,}",
                target=f"≥ {fewest_waits}, < {MOST_WAIT_CHARS} each, with the time left",
                met=fewest_waits <= waits == assistant.told_time and longest < MOST_WAIT_CHARS,
            ),
        ]
    return rows


@asynccontextmanager
async def _connected(url_chars: int = 0, latency_s: float = LATENCY_S) -> AsyncIterator[tuple[Client, Path, Emulator]]:
    with (
        tempfile.TemporaryDirectory() as home,
        running("atlas", latency_s=latency_s, max_side=512, url_chars=url_chars, painter=preview_pictures) as api,
    ):
        folder = Path(home) / "photos"
        _photos(folder)
        env = {name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ}
        env |= {
            "TRIPTYCH_HOME": str(Path(home) / ".local/share/triptych"),
            "ATLASCLOUD_API_KEY": api.key,
            "ATLASCLOUD_BASE_URL": api.base_url,
            "TRIPTYCH_ALLOWED_DIRS": str(folder),
            "TRIPTYCH_BUDGET_USD": "20",
        }
        server = StdioServerParameters(command=sys.executable, args=["-m", "triptych"], env=env, cwd=home)
        async with Client(server) as client:
            yield client, folder, api


def _photos(folder: Path, count: int = PHOTOS, side: int | None = None) -> None:
    """Write different photos."""
    folder.mkdir()
    samples = sorted(SAMPLES.glob("*.jpg"))
    for n in range(count):
        with Image.open(samples[n % len(samples)]) as photo:
            photo.thumbnail((side, side) if side else photo.size)
            photo.rotate(n // len(samples) * 3).save(folder / f"product-{n + 1:02}.jpg", quality=90)


if __name__ == "__main__":
    main(measure)
