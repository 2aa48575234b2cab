"""`triptych demo`: an emulated provider, the real server as a child process, and a real MCP client, on this machine.

    tools/list → upload_images → a four-panel edit_sequence → a two-lane, three-step edit_chain → get_status
    → resources → view_images

Rules: every step is checked, and the demo fails if a check fails. Nothing leaves the machine and nothing is paid: the
costs shown are the emulator's. Must not import the service: everything shown is received over the protocol.
"""

from __future__ import annotations

import base64
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio

from triptych.core import errors
from triptych.core.json_fields import Result
from triptych.images import processing
from triptych.jobs.results import Cost
from triptych.providers import load, names, preview
from triptych_emulators import Emulator, running

SAMPLES = Path(__file__).parents[1] / "samples"
LATENCY_S = 4.0
PATIENCE_S = 180.0
SEASONS = "Four seasonal variants of this photo: spring, summer, autumn, winter"
LANES = ("cat.jpg", "rocket.jpg")
STEPS = ("golden hour light", "more contrast and a soft vignette", 'add a caption "Triptych"')
MARGIN = "  "

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown(Result):
    """The result of the demo, with the paths of its files."""

    ok: bool
    seconds: float
    out: str
    sheets: list[str]
    urls: list[str]
    quoted_usd: float
    charged_usd: float
    wrong: list[str]


class Demo:
    """One run: its client, its output, and its failed checks so far."""

    def __init__(self, out: Path, say: Say, provider: str, *, live: bool) -> None:
        self.client: Any = None
        self.out = out
        self.provider = provider
        self.say = say
        self.live = live
        self.wrong: list[str] = []
        self.sheets: list[Path] = []
        self.urls: list[str] = []
        self.quoted = self.charged = Decimal(0)

    def check(self, holds: bool, claim: str) -> None:
        """Record a claim that does not hold."""
        if not holds:
            self.wrong.append(claim)
            self.say(f"{MARGIN}✗ {claim}")

    async def call(self, tool: str, **arguments: Any) -> Any:
        """Call a tool and return its result's fields (its content for `view_images`).

        Raises: `Unfinished` if it is refused.
        """
        result = await self.client.call_tool(tool, arguments)
        return self._fields(tool, result)

    async def job(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Make a job, show its progress, and return its result once it has ended and its charge is known.

        Raises: `Unfinished` if it is refused.
        """
        meter = Meter(self.say, live=self.live)

        async def progress(done: float, total: float | None, message: str | None) -> None:
            if message and message.startswith("job_"):
                meter.set(done, total or 1)

        async with meter.running():
            result = await self.client.call_tool(tool, arguments, progress_callback=progress)
            job = self._fields(tool, result)
            while job["status"] in ("queued", "running"):
                # The call in the field `next`.
                look = {"job_id": job["job_id"], "wait_s": 25}
                job = self._fields(
                    "get_status", await self.client.call_tool("get_status", look, progress_callback=progress)
                )
        return await self._settled(dict(job))

    def _fields(self, tool: str, result: Any) -> Any:
        if result.is_error:
            self.check(False, f"{tool} was refused: {result.content[0].text}")
            raise Unfinished
        return result.content if result.structured_content is None else result.structured_content

    async def _settled(self, job: dict[str, Any]) -> dict[str, Any]:
        """Check a job that has ended, wait a moment for its charge, and count it."""
        for _ in range(20):
            if job["cost"]["charged"] is not None:
                break
            await anyio.sleep(0.25)
            job = await self.call("get_status", job_id=job["job_id"])
        self.check(job["status"] == "done", f"{job['job_id']} should be done; it is {job['status']}: {job['error']}")
        self.check(job["returned"] == job["requested"], f"{job['requested']} images wanted, {job['returned']} came")
        fields = job["cost"]
        charged = None if fields["charged"] is None else Decimal(str(fields["charged"]))
        cost = Cost(**{**fields, "quoted": Decimal(str(fields["quoted"])), "charged": charged})
        self.quoted += cost.quoted
        self.charged += cost.charged or 0
        self.urls += [image["url"] for image in job["images"]]
        self.say(f"{MARGIN}{job['status']}: {cost.text(job['status'])} (by the emulator)")
        return job

    def sheet(self, name: str, jpeg: bytes) -> None:
        """Write a picture into the output directory."""
        self.check(processing.sniff(jpeg[:32]) == "image/jpeg", f"{name} should be a JPEG")
        path = self.out / name
        path.write_bytes(jpeg)
        self.sheets.append(path)


class Meter:
    """A progress bar: redrawn in place on a terminal, a line per image elsewhere."""

    def __init__(self, say: Say, *, live: bool) -> None:
        self._say = say
        self._live = live
        self._began = time.monotonic()
        self._done, self._total = 0.0, 0.0

    def set(self, done: float, total: float) -> None:
        """Set the progress of the job."""
        done = float(int(done))  # servers may report fractions, because progress must always grow
        if (done, total) != (self._done, self._total):
            self._done, self._total = done, total
            if not self._live:
                self._say(self._line())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Draw while the block runs."""
        async with anyio.create_task_group() as tasks:
            if self._live:
                tasks.start_soon(self._redraw)
            yield
            tasks.cancel_scope.cancel()
        if self._live:
            self._say(f"\r{self._line()}")

    async def _redraw(self) -> None:
        while True:
            sys.stdout.write(f"\r{self._line()}")
            sys.stdout.flush()
            await anyio.sleep(0.25)

    def _line(self, width: int = 24) -> str:
        if not self._total:
            return f"{MARGIN}{'░' * width} starting"
        full = round(width * self._done / self._total)
        bar = "█" * full + "░" * (width - full)
        return f"{MARGIN}{bar} {self._done:.0f} of {self._total:.0f} images, {time.monotonic() - self._began:.0f} s "


class Unfinished(Exception):
    """A step failed that the next ones need; its error is recorded already."""


async def show(out: Path, provider: str, say: Say, *, live: bool = False) -> Shown:
    """Run the demo into the directory `out`, print its steps with `say`, and return its result.

    `live` redraws progress in place on stdout.
    Raises: `errors.NotAllowed` if the directory cannot be written to.
    """
    began = time.monotonic()
    home = _fresh_home(out)
    say("Triptych, all of it on this machine: an emulated provider, the real server, a real MCP client.")
    say("No key, no network, nothing paid.\n")
    demo = Demo(out, say, provider, live=live)
    with running(provider, latency_s=LATENCY_S, key="demo-key", painter=preview_pictures) as api:
        try:
            async with _connected(api, home) as demo.client:
                with suppress(Unfinished), anyio.fail_after(PATIENCE_S):
                    await _run_steps(demo)
        except TimeoutError:
            demo.check(False, f"it took longer than {PATIENCE_S:.0f} s; {out / 'server.log'} may say why")
        except Exception as error:  # any error of the connection ends the demo with a message
            demo.check(False, f"the connection broke ({error!r}); {out / 'server.log'} may say why")
        accepted = len(api.accepted)
    expected = 1 + len(LANES) * len(STEPS)
    demo.check(accepted == expected, f"{expected} paid requests should have been sent; {accepted} were")
    seconds = time.monotonic() - began
    _close(demo, seconds, accepted)
    return Shown(
        ok=not demo.wrong,
        seconds=round(seconds, 1),
        out=str(out),
        sheets=[str(path) for path in demo.sheets],
        urls=demo.urls,
        quoted_usd=float(errors.six_decimals(demo.quoted)),
        charged_usd=float(errors.six_decimals(demo.charged)),
        wrong=demo.wrong,
    )


def preview_pictures(images: Sequence[bytes], prompt: str, **options: Any) -> Sequence[bytes]:
    """Return the offline engine's pictures, as the emulator's results."""
    return preview.render(images, prompt, **options).images


def _fresh_home(out: Path) -> Path:
    """Return an empty TRIPTYCH_HOME below `out`: the uploads of an earlier demo are gone with its emulator."""
    home = out / "home"
    mark = home / "made-by-triptych-demo"
    if home.exists() and not mark.exists():
        raise errors.NotAllowed(
            f"{home} is there already and was not made by a demo; choose another directory (--out)."
        )
    try:
        if home.exists():
            shutil.rmtree(home)
        home.mkdir(parents=True)
        mark.touch()
    except OSError as error:
        raise errors.NotAllowed(f"{out} cannot be written to ({error.strerror}); choose another (--out).") from error
    return home


@asynccontextmanager
async def _connected(api: Emulator, home: Path) -> AsyncIterator[Any]:
    """Start the server as an MCP host does, with its log in a file, and connect to it."""
    from mcp import Client
    from mcp.client.stdio import StdioServerParameters, stdio_client

    # The server gets only the emulator's key: the demo must not be able to pay.
    others = {provider.key_env for name in names() if (provider := load(name)).key_env}
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TRIPTYCH_") and name not in others and not name.endswith("_BASE_URL")
    }
    mine = load(api.name)
    env |= {url.env: api.base_url + urlsplit(url.default).path for url in mine.base_urls.values()}
    env |= {
        str(mine.key_env): api.key,
        "TRIPTYCH_PROVIDER": mine.name,
        "TRIPTYCH_HOME": str(home),
        "TRIPTYCH_ALLOWED_DIRS": str(SAMPLES),
    }
    command = StdioServerParameters(command=sys.executable, args=["-m", "triptych"], env=env)
    with (home.parent / "server.log").open("w", encoding="utf-8") as log:
        async with Client(stdio_client(command, errlog=log), read_timeout_seconds=60) as client:
            yield client


async def _run_steps(demo: Demo) -> None:
    say, client = demo.say, demo.client
    tools = [tool.name for tool in (await client.list_tools()).tools]
    demo.check(len(tools) == 10, f"ten tools should be listed; there are {len(tools)}")
    say(f"1  Connected over stdio, protocol {client.protocol_version}: {len(tools)} tools ({', '.join(tools[:4])}, …)")

    photos = ("coffee.jpg", *LANES)
    say(f"\n2  upload_images: {', '.join(photos)}")
    uploaded = (await demo.call("upload_images", images=[str(SAMPLES / photo) for photo in photos]))["images"]
    handles = [image["handle"] for image in uploaded]
    # A provider with inline references has no storage; the image is then only on this machine.
    where = "http" if load(demo.provider).upload else "file:"
    demo.check(all(image["url"].startswith(where) for image in uploaded), f"every upload should have a URL ({where})")
    say(f"{MARGIN}handles: {', '.join(handles)}")

    say(f'\n3  edit_sequence, 4 coherent images in one request:\n{MARGIN}"{SEASONS}"')
    seasons = await demo.job("edit_sequence", images=handles[:1], prompt=SEASONS, count=4)

    say(f"\n4  edit_chain, {len(LANES)} photographs through {len(STEPS)} steps, each on the last one's output:")
    say("\n".join(f"{MARGIN}{n}. {step}" for n, step in enumerate(STEPS, 1)))
    chain = await demo.job("edit_chain", images=handles[1:], steps=list(STEPS))

    status = await demo.call("get_status", job_id=chain["job_id"])
    last = status["images"][len(LANES) - 1]  # the final images come first
    say(f"\n5  get_status: {status['status']}; {last['handle']} was made from {', '.join(last['source'])}")
    demo.check(
        last["source"] == [f"{chain['job_id']}/{len(status['images']) - 1}"], "a step edits the last one's output"
    )

    resources = [str(resource.uri) for resource in (await client.list_resources()).resources]
    uri = seasons["images"][0]["uri"]
    demo.check(uri in resources, f"{uri} should be listed as a resource")
    read = (await client.read_resource(uri)).contents[0]
    kilobytes = len(base64.b64decode(read.blob)) // 1024
    say(f"\n6  resources: {len(resources)} listed; {uri} reads as a preview of {kilobytes} KB")

    paths = {image["path"] for image in seasons["images"]}
    demo.check(len(paths) == 4, "the four panels should all be different")
    say("\n7  view_images: what the assistant sees of them")
    for name, job in (("contact-sheet.jpg", seasons), ("chain.jpg", chain)):
        content = await demo.call("view_images", images=[job["job_id"]])
        jpeg = base64.b64decode(next(block.data for block in content if block.type == "image"))
        demo.sheet(name, jpeg)
        say(f"{MARGIN}{name}, {len(jpeg) // 1024} KB: {next(b.text for b in content if b.type == 'text')}")


def _close(demo: Demo, seconds: float, accepted: int) -> None:
    say = demo.say
    say("\nWhere it lies")
    for path in demo.sheets:
        say(f"{MARGIN}{path}")
    say(f"{MARGIN}{demo.out / 'home'} (images at full size, and the jobs)")
    if demo.urls:
        say(f"{MARGIN}a result's URL, while the emulator ran: {demo.urls[0]}")
    say(
        f"\n{accepted} requests, quoted ${errors.format_usd(demo.quoted)}, charged ${errors.format_usd(demo.charged)} "
        f"by the emulator, in {seconds:.0f} s. "
        + ("All as it should be." if not demo.wrong else f"{len(demo.wrong)} not as it should be.")
    )
