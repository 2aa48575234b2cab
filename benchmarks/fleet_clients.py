"""The fleet's clients: five owners, each with a token, who make jobs, wait for them, and try what is not theirs.

A call whose connection dies, or that is refused for a moment, is made again as it was, as hosts and models do. All that
is said to an owner is searched for job ids; the audit asks whether each of them is that owner's.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import random
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

from benchmarks.fleet_net import ERAS, Door, Gone

PROVIDERS = ("atlas", "wavespeed", "ark", "evolink", "runware", "novita")
JOB_ID = re.compile(r"job_[0-9a-f]{8}")
LATER = "the same call may help later"
CALL_LIMIT_S = 600.0
"""So long a call is made again and again; a fleet that does not answer within it has lost the caller.

With a kill every four seconds, a call that waits for 20 s is cut two times of three."""
JOB_LIMIT_S = 90.0
"""So long a client waits for the end of its job; the audit waits longer."""
PAUSE_S = 0.3
NEWS_S = 1.5
"""So long after its job's end a subscription is still heard."""
ENDED = ("done", "partial", "failed", "cancelled", "uncertain")


class Refused(Exception):
    """A tool's refusal, or a JSON-RPC error."""


@dataclass(slots=True)
class Told:
    """What the clients did and heard."""

    calls: int = 0
    repeated: Counter[str] = field(default_factory=Counter)
    """Calls that were made again, by why."""
    jobs: dict[str, int] = field(default_factory=dict)
    """The promised jobs, by id, with the owner's number."""
    numbers: dict[int, set[str]] = field(default_factory=dict)
    """The jobs that each planned request led to."""
    twins: list[tuple[int, set[str]]] = field(default_factory=list)
    shown: set[tuple[int, str]] = field(default_factory=set)
    """Every job id that an owner was shown without naming it."""
    submit_s: list[float] = field(default_factory=list)
    """From the first try of a paid call to its answer."""
    heard_at: dict[str, float] = field(default_factory=dict)
    """When a client was answered that its job has ended, on the wall clock."""
    told_at: dict[str, float] = field(default_factory=dict)
    """When a subscription last told of a job."""
    images: dict[str, str] = field(default_factory=dict)
    """The SHA-256 of what signed URLs returned, by handle."""
    no_image: list[str] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    attacks: Counter[str] = field(default_factory=Counter)
    leaks: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Answers that no caller should ever get."""
    gave_up: list[str] = field(default_factory=list)


@dataclass
class Owner:
    """One owner: the door with its token, and its input images."""

    number: int
    door: Door
    told: Told
    images: list[str] = field(default_factory=list)
    uploads: list[tuple[str, str]] = field(default_factory=list)
    """Their handles and signed URLs."""

    @property
    def hears(self) -> bool:
        """Whether its era has subscriptions that any server serves."""
        return self.door.era == ERAS[0]

    async def call(self, tool: str, arguments: Mapping[str, Any], *, named: Sequence[str] = ()) -> Any:
        """Return a tool's structured result, calling again while that may help. Raises: `Refused`."""
        return await self.ask("tools/call", {"name": tool, "arguments": dict(arguments)}, named=named)

    async def ask(self, method: str, params: Mapping[str, Any], *, named: Sequence[str] = ()) -> Any:
        began = time.monotonic()
        while time.monotonic() - began < CALL_LIMIT_S:
            self.told.calls += 1
            try:
                answer = await self.door.ask(method, params)
            except Gone as error:
                self.told.repeated[f"gone: {str(error)[:40]}"] += 1
                await asyncio.sleep(PAUSE_S)
                continue
            if answer.status != 200 and answer.status not in (400, 404):
                if answer.status not in (429, 502, 503):
                    self.told.broken.append(f"HTTP {answer.status} to {method}: {answer.body[:300]!r}")
                self.told.repeated[f"HTTP {answer.status}"] += 1
                await asyncio.sleep(PAUSE_S)
                continue
            text = answer.body.decode(errors="replace")
            self.told.shown |= {(self.number, job) for job in set(JOB_ID.findall(text)) - set(named)}
            try:
                said = answer.message()
            except (ValueError, Gone):
                self.told.broken.append(f"HTTP {answer.status} to {method} with {answer.body[:300]!r}")
                continue
            if "error" in said:
                raise Refused(f"{said['error'].get('code')}: {said['error'].get('message')}")
            result = said["result"]
            if not result.get("isError"):
                return result.get("structuredContent", result)
            refusal = result["content"][0]["text"]
            self.told.refusals[plain(refusal)] += 1
            if "failed inside Triptych" in refusal or "Traceback" in refusal:
                self.told.broken.append(f"{params.get('name', method)}: {refusal}")
            elif LATER not in refusal:
                raise Refused(refusal)
            self.told.repeated["refused for now"] += 1
            await asyncio.sleep(PAUSE_S)
        self.told.gave_up.append(f"{method} {json.dumps(params)[:200]}")
        raise Refused("gave up")

    async def bring_images(self) -> None:
        """Upload the images that this owner's edits begin with."""
        from PIL import Image

        for n in range(3):
            Image.new("RGB", (64, 48), (40 * n, 50 * self.number, 200)).save(data := io.BytesIO(), "PNG")
            url = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
            made = await self.call("upload_images", {"images": [url]})
            image = made["images"][0]
            self.images.append(image["handle"])
            self.uploads.append((image["handle"], image["url"]))


def plain(text: str) -> str:
    """Return a refusal without what differs from case to case."""
    return re.sub(r"[0-9a-f]{8,}|[0-9]+(\.[0-9]+)?", "#", text)[:160]


def request(n: int, lot: random.Random, images: Sequence[str]) -> tuple[str, dict[str, Any], str]:
    """Return the n-th request: its tool, its arguments and its twist; most are one image from text."""
    arguments: dict[str, Any] = {"wait_s": 0, "provider": lot.choice(PROVIDERS)}
    kind = lot.random()
    if kind < 0.05:
        tool = "edit_chain"
        arguments |= {"images": [lot.choice(images)], "steps": [f"step {k}, warmer #{n}.{k}" for k in (1, 2)]}
    elif kind < 0.35:
        tool = "edit_sequence"
        arguments |= {"images": [lot.choice(images)], "prompt": f"at dusk #{n}.1", "count": lot.choice((1, 1, 1, 2))}
    else:
        tool = "generate_sequence"
        arguments |= {"prompt": f"a red kite over dunes #{n}.1", "count": lot.choice((1, 1, 1, 2))}
    twist = lot.choices(("", "twin", "again", "cancel", "listen"), (78, 7, 2, 4, 9))[0]
    return tool, arguments, twist


async def make(n: int, owners: Sequence[Owner], seed: int) -> None:
    """Make one job as its twist says, wait for its end, look at an image, and let another owner try for it."""
    lot = random.Random(f"{seed}:{n}")
    owner = owners[n % len(owners)]
    tool, arguments, twist = request(n, lot, owner.images)
    told, ids = owner.told, set[str]()

    async def once(**more: Any) -> str | None:
        began = time.monotonic()
        try:
            answer = await owner.call(tool, arguments | more)
        except Refused:
            return None
        told.submit_s.append(time.monotonic() - began)
        job_id = str(answer["job_id"])
        told.jobs[job_id] = owner.number
        told.numbers.setdefault(n, set()).add(job_id)
        ids.add(job_id)
        return job_id

    if twist == "twin":
        made = await asyncio.gather(once(), once())
        told.twins.append((n, {job for job in made if job}))
        job_id = made[0] or made[1]
    else:
        job_id = await once()
    if not job_id:
        return
    if twist == "again":
        await once(again=True)
    if twist == "cancel":
        with suppress(Refused):
            await owner.call("cancel_job", {"job_id": job_id}, named=[job_id])
    news = asyncio.create_task(_listen(owner, job_id)) if twist == "listen" and owner.hears else None
    ended = await _wait(owner, job_id)
    if news:
        await asyncio.sleep(NEWS_S)
        news.cancel()
    if ended and lot.random() < 0.2:
        await _look(owner, ended)
    if lot.random() < 0.1:
        stranger = owners[(owner.number + 1 + lot.randrange(len(owners) - 1)) % len(owners)]
        await _attack(stranger, owner, job_id, ended or {}, lot)


async def _wait(owner: Owner, job_id: str) -> Any:
    """Return a job's result at its end, None if that does not come soon."""
    began = time.monotonic()
    while time.monotonic() - began < JOB_LIMIT_S:
        try:
            seen = await owner.call("get_status", {"job_id": job_id, "wait_s": 20}, named=[job_id])
        except Refused as error:
            owner.told.broken.append(f"get_status {job_id}: {error}")
            return None
        if seen["status"] in ENDED:
            owner.told.heard_at.setdefault(job_id, time.time())
            return seen
    return None


async def _listen(owner: Owner, job_id: str) -> None:
    """Hear of a job by a subscription, which any server may serve; what a cut stream heard does not count."""
    try:
        async with aclosing(owner.door.listen([f"triptych://jobs/{job_id}"], JOB_LIMIT_S)) as events:
            async for event in events:
                if job_id in json.dumps(event) and event.get("method") == "notifications/resources/updated":
                    owner.told.told_at[job_id] = time.time()
    except Gone:
        owner.told.told_at.pop(job_id, None)


async def _look(owner: Owner, ended: Any) -> None:
    """Read an image of a job by its URL, and one that was uploaded by its signed URL, from any server."""
    urls = [(image["handle"], image.get("url") or "") for image in ended["images"][:1]]
    for handle, url in [*urls, owner.uploads[ended["returned"] % len(owner.uploads)]]:
        if not url:
            owner.told.no_image.append(f"{handle} has no URL")
            continue
        for _ in range(60):
            with suppress(Gone):
                answer = await owner.door.get(url)
                if answer.status == 200:
                    if "/_" not in url:  # a provider's URL returns what a fault makes of it
                        owner.told.images[handle] = hashlib.sha256(answer.body).hexdigest()
                    break
                owner.told.repeated[f"image: HTTP {answer.status}"] += 1
            await asyncio.sleep(PAUSE_S)
        else:
            owner.told.no_image.append(f"{handle} could not be read at {url}")


async def _attack(stranger: Owner, owner: Owner, job_id: str, ended: Any, lot: random.Random) -> None:
    """Let a stranger try for a job, its images, its files and its news; each answer has to give nothing away."""
    told = stranger.told
    images = ended.get("images") or []
    handle = images[0]["handle"] if images else f"{job_id}/1"
    named = [job_id]

    async def refused(what: str, method: str, params: Mapping[str, Any]) -> None:
        told.attacks[what] += 1
        try:
            given = await stranger.ask(method, params, named=named)
        except Refused:
            return
        told.leaks.append(f"{what} of {job_id} gave owner {stranger.number} {json.dumps(given)[:300]}")

    def tool(name: str, **arguments: Any) -> dict[str, Any]:
        return {"name": name, "arguments": arguments}

    match lot.randrange(9):
        case 0:
            await refused("get_status", "tools/call", tool("get_status", job_id=job_id))
        case 1:
            await refused("cancel_job", "tools/call", tool("cancel_job", job_id=job_id))
        case 2:
            await refused("view_images", "tools/call", tool("view_images", images=[handle]))
        case 3:
            await refused("edit", "tools/call", tool("edit_sequence", images=[handle], prompt="warmer", wait_s=0))
        case 4:
            await refused("job resource", "resources/read", {"uri": f"triptych://jobs/{job_id}"})
        case 5:
            await refused("image resource", "resources/read", {"uri": f"triptych://images/{handle}"})
        case 6 if stranger.hears:
            told.attacks["listen"] += 1
            with suppress(Gone):
                async with aclosing(stranger.door.listen([f"triptych://jobs/{job_id}"], 2)) as events:
                    async for event in events:
                        if job_id in json.dumps(event):
                            told.leaks.append(f"a subscription of owner {stranger.number} heard {event}")
        case _ if lot.random() < 0.5:
            own = [image["url"] for image in images if "/files/" in (image.get("url") or "")]
            own += [url for _, url in owner.uploads if "/files/" in url]
            if own:
                await _forge(stranger, lot.choice(own), lot)
        case _:
            told.attacks["list_jobs"] += 1
            with suppress(Refused):  # what it lists goes to `shown`, and the audit looks whose it is
                await stranger.call("list_jobs", {"limit": 100})


async def _forge(stranger: Owner, url: str, lot: random.Random) -> None:
    """Try another owner's signed URL with its end, its handle or its signature changed."""
    path, _, query = url.partition("?")
    ends, _, signature = query.partition("&s=")
    base = path.partition("/files/")[0]
    forged = {
        "a later end": f"{path}?e={int(ends.removeprefix('e=') or 0) + 900}&s={signature}",
        "another handle": f"{base}/files/{stranger.images[0]}?{query}",
        "another signature": f"{path}?{ends}&s={signature[::-1]}",
        "no signature": path,
    }
    what = lot.choice(list(forged))
    stranger.told.attacks[f"a URL with {what}"] += 1
    with suppress(Gone):
        answer = await stranger.door.get(forged[what])
        if answer.status == 200:
            stranger.told.leaks.append(f"{forged[what]} ({what}) was answered with {len(answer.body)} bytes")
