"""What a finished set of images costs an assistant: calls, and bytes of its context, in scripted conversations.

A real server over stdio, with Atlas Cloud's emulator behind it, is driven as an assistant would drive it. Bytes in are
the names and arguments of the calls, bytes out the whole results as JSON, text, links and structured content alike;
pixels are only where `view_images` shows them, and are counted apart. A host shows its assistant a part of that: the
structured content and the links, or the text and the links. The longer of the two is what the two long chains are
measured by; they are read to their ends by the literal `next` of each result, with the emulator's URLs and with URLs as
long as a provider's signed ones.
"""

from __future__ import annotations

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
from triptych_emulators import running

LATENCY_S = 1.0
PHOTOS = 12
MOST_CHARS = 9_000
SIGNED_URL_CHARS = 300
LANES = 40
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


def measure() -> list[Row]:
    """Return calls and bytes of each conversation."""
    return anyio.run(_measure)


async def _measure() -> list[Row]:
    rows = []
    for title, converse, limit in CONVERSATIONS:
        async with _connected() as (client, folder):
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
        async with _connected(url_chars) as (client, folder):
            assistant = Assistant(client)
            await converse(assistant, folder)
        context, largest = sum(assistant.shown), max(assistant.shown)
        met = chars is None or context <= chars
        rows += [
            Row(f"{title}: calls", f"{assistant.calls}", target=f"≤ {calls}", met=assistant.calls <= calls),
            Row(f"{title}: characters in the context", f"{context:,}", target=f"≤ {chars:,}" if chars else "", met=met),
            Row(f"{title}: largest result", f"{largest:,}", target=f"≤ {MOST_CHARS:,}", met=largest <= MOST_CHARS),
        ]
    return rows


@asynccontextmanager
async def _connected(url_chars: int = 0) -> AsyncIterator[tuple[Client, Path]]:
    with (
        tempfile.TemporaryDirectory() as home,
        running("atlas", latency_s=LATENCY_S, max_side=512, url_chars=url_chars, painter=preview_pictures) as api,
    ):
        folder = Path(home) / "photos"
        _photos(folder)
        env = {name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ}
        env |= {
            "TRIPTYCH_HOME": str(Path(home) / ".local/share/triptych"),
            "ATLASCLOUD_API_KEY": api.key,
            "ATLASCLOUD_BASE_URL": api.base_url,
            "TRIPTYCH_ALLOWED_DIRS": str(folder),
        }
        server = StdioServerParameters(command=sys.executable, args=["-m", "triptych"], env=env, cwd=home)
        async with Client(server) as client:
            yield client, folder


def _photos(folder: Path) -> None:
    """Write twelve different photos."""
    folder.mkdir()
    samples = sorted(SAMPLES.glob("*.jpg"))
    for n in range(PHOTOS):
        with Image.open(samples[n % len(samples)]) as photo:
            photo.rotate(3 * (n // len(samples))).save(folder / f"product-{n + 1:02}.jpg", quality=90)


if __name__ == "__main__":
    main(measure)
