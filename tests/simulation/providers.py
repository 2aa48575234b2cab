"""The providers: the emulated APIs in process, with honest books of what each request made them accept.

Their pictures are tiny, drawn once, and told apart by a comment in the file: so the audit knows whose image is stored.
Their time is the true one; nothing that happens to the machine of the servers happens to them.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import io
import json
import random
import zlib
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote, urlsplit

from simulation.extras import BEHIND_ENDPOINT, SHARED, Catalogue, foreign_files, is_sent, is_submitted
from simulation.loop import PROCESS, Process
from simulation.network import EXCHANGE, TAG, Tag
from triptych_emulators.kit.faults import MAY_HAVE_BEEN_ACCEPTED, ActiveFault, FaultType
from triptych_emulators.kit.images import EXTENSIONS, UnreachableImage

NAMES = ("ark", "atlas", "evolink", "novita", "runware", "wavespeed")
REPEATABLE = frozenset({"evolink", "runware"})
"""Where the same submit under the same id is accepted once."""
LISTS = frozenset({"history", "tasks", "batch"})
WALL_S = 1_795_262_400.0
"""The true wall clock at the beginning: 2026-11-21 12:00 UTC."""
KEY_KEPT_S = 3600.0
"""EvoLink does not say for how long it keeps an idempotency key."""
KEPT_FILES: dict[str, bool] = {}


@dataclass(slots=True)
class Accepted:
    """One paid request that a provider took."""

    provider: str
    work: Any
    tag: Tag
    at_s: float
    images: tuple[str, ...] = ()
    """The hashes of the images that the request had, in order."""

    @property
    def prompt(self) -> str:
        return str(self.work.spec.prompt)


class Inline:
    """Runs at once what would run in a thread."""

    def submit(self, func: Any, *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, **_: Any) -> None:
        pass


class Provider:
    """One emulated API of a world."""

    def __init__(self, world: Any, name: str, chance: random.Random) -> None:
        self.world = world
        self.name = name
        self.host = f"api.{name}.example"
        self.repeatable = name in REPEATABLE
        self.process = Process(name, "provider")
        self.accepted: list[Accepted] = []
        self.strangers: set[str] = set()
        emulated = importlib.import_module(f"triptych_emulators.{name}").Emulated
        switches: dict[str, Any] = {}
        if name == "wavespeed":
            switches["history_shows"] = chance.choice(("inputs", "input", ""))
        if name == "evolink":
            switches["keys_kept_s"] = KEY_KEPT_S
        if name == "atlas":
            switches["price"] = chance.choice(("late", "prompt"))
        own = world.chance(f"extras at {name}")
        if name == "evolink" and world.extras:
            few = world.theme.name == "a provider that keeps few files"
            switches["files_kept"] = own.choice((3, 4, 6) if few else (4, 100, 100))
        if name in ("ark", "evolink") and world.extras:
            switches["layers_made"] = own.choice((1, 4, 7))
        if name in SHARED and world.extras:
            switches["layer_count"] = own.choice((1, 4, 7))
        if name == "ark":
            switches["endpoint_model"] = BEHIND_ENDPOINT
        latency_s = chance.choice((None, None, 0.0, 4.0, 30.0, 90.0))
        self.api = emulated(latency_s=latency_s, seed=chance.randrange(1000), clock=self.clock, **switches)
        self.api.base_url = f"https://{self.host}"
        self.catalogue = Catalogue(self.api, name, own) if name in SHARED and world.extras else None
        self._gone: set[str] = set()
        """Uploads that were deleted here, by their path."""
        self._foreign: set[str] = set()
        if name == "evolink" and world.extras:
            self._foreign = foreign_files(self.api, own.choice((0, 0, 1)), plain_picture(9))
        self._real_drop, self.api.files.uploads.drop = self.api.files.uploads.drop, self._drop
        self.app = self.api.app()
        self.api.runner._executor.shutdown()
        self.api.runner._executor = Inline()
        self.api.runner._paint = self._draw
        self.api.files.read = self._read
        self.api.ended = self._ended
        self._real_accept, self.api.accept = self.api.accept, self._accept
        self.api._injector._random = Oddities(self)

    def clock(self) -> float:
        return WALL_S + float(self.world.loop.now)

    def environ(self) -> dict[str, str]:
        """Return the settings that lead a server here."""
        from triptych import providers

        provider = providers.load(self.name)
        assert provider.key_env
        return {
            provider.key_env: self.api.key,
            **{base.env: f"https://{self.host}{urlsplit(base.default).path}" for base in provider.base_urls.values()},
        }

    def op_of(self, method: str, path: str, body: bytes) -> str:
        """Return what a request is for: submit, poll, list, result, upload or other."""
        if self.name == "runware" and method == "POST" and path in ("/", "/v1", "/v1/", ""):
            return _runware_op(body)
        if path.startswith("/_results/"):
            return "result"
        if path.startswith(("/_put/", "/_uploads/")) or "upload" in path.lower():
            return "upload"
        if method == "POST" and path == "/api/v3/predictions":
            return "list"
        if method == "POST" and path in ("/v1/tasks/batch",):
            return "list"
        if path.endswith("/history") or (method == "GET" and path == "/v1/tasks"):
            return "list"
        if "/prediction" in path or path.startswith("/v1/tasks/"):
            return "poll"
        if self.catalogue and (path in ("/api/v1/models", "/api/v3/models") or path.startswith("/_schemas/")):
            return "catalogue"
        if path.endswith(("/models", "/balance", "/credits", "/calculate", "/price", "/pricing")):
            return "other"
        return "submit" if method == "POST" else "other"

    def _accept(self, request: Any, order: Any, **options: Any) -> Any:
        work = self._real_accept(request, order, **options)
        accepted = Accepted(self.name, work, TAG.get(), self.world.loop.now, self._hashes(work.spec.references))
        self.accepted.append(accepted)
        self.world.was_accepted(accepted)
        named = [path for path in self._gone if any(path in reference for reference in work.spec.references)]
        if named and is_submitted(self.world, accepted.tag.client_id):
            self.world.wrong("an upload in use was deleted", f"{named[0]} at {self.name}, before it was needed")
        return work

    def _hashes(self, references: Any) -> tuple[str, ...]:
        found = []
        for reference in references:
            try:
                found.append(hashlib.sha256(self.api.files.bytes_of(reference)).hexdigest())
            except Exception:
                found.append("gone")
        return tuple(found)

    def _drop(self, name: str) -> None:
        path = quote(name)
        self._gone.add(path)
        if path in self._foreign:
            self.world.wrong("a file of another program was deleted", f"{path} at {self.name}")
        if is_sent(self.world, self.name, path):
            self.world.wrong("an upload in use was deleted", f"{path} at {self.name}")
        self._real_drop(name)

    async def _ended(self, work: Any, share: float = 1.0) -> str:
        due = work.submitted_at + share * (work.finish_at - work.submitted_at)
        await asyncio.sleep(max(0.0, min(due, work.finish_at) - self.clock()) + 1e-6)
        return "running" if share < 1.0 else str(await self.api.outcome(work))

    def _draw(self, work: Any) -> tuple[bytes, ...]:
        for reference in work.spec.references:
            self._read(reference)
        kinds = [work.spec.mime_type_of(n) for n in range(1, work.spec.count + 1)]
        made = tuple(picture(kind, f"{self.name} {work.key} {n}") for n, kind in enumerate(kinds, 1))
        for n, (data, kind) in enumerate(zip(made, kinds, strict=True), 1):
            self.api.files.results.put(f"{work.key}/{n}.{EXTENSIONS[kind]}", data, kind)
            self.world.drawn[hashlib.sha256(data).hexdigest()] = (self.name, work.key, n)
        return made

    def _read(self, reference: str) -> bytes:
        """Return an input's bytes; what was looked at once is not decoded again."""
        from triptych.images import processing

        data = self.api.files.bytes_of(reference)
        known = hashlib.sha256(data).hexdigest()
        if known not in KEPT_FILES:
            try:
                processing.verify(data)
                KEPT_FILES[known] = True
            except Exception:
                KEPT_FILES[known] = False
        if not KEPT_FILES[known]:
            raise UnreachableImage("invalid image: cannot decode")
        return bytes(data)


class Oddities:
    """Stands in for an emulator's chance: its own faults, drawn by the world."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._possible: dict[str, list[FaultType]] = {}
        for fault in provider.api._injector.known.values():
            if fault.name == "credits-only":
                continue  # without a charge in dollars there is nothing to hold the ledger against
            op = "submit" if fault.op == "poll" and fault.reach == "job" else fault.op
            self._possible.setdefault(op, []).append(fault)

    def draw(self, op: str) -> ActiveFault | None:
        provider = self._provider
        if TAG.get() == Tag():
            return None  # a stranger's request, or the world's own
        again = op == "submit" and len(provider.world.attempts.by_id.get(TAG.get().client_id, ())) > 1
        lot = provider.world.lot("provider", f"{provider.name}.{op}", times=3.0 if again else 1.0)
        if lot is None or op not in self._possible:
            return None
        fault = lot.choice(self._possible[op])
        options = dict(fault.options)
        if "seconds" in options:
            options["seconds"] = lot.choice((0.5, 3.0, 12.0, 25.0, 40.0))
        if "what" in options:
            options["what"] = lot.choice(("image", "no-image", "no-base64"))
        if "charset" in options:
            options["charset"] = lot.choice(("hex", "utf-7", "undefined", "rot13"))
        if "accepted" in options:
            options["accepted"] = fault.name in MAY_HAVE_BEEN_ACCEPTED and lot.random() < 0.5
        if "n" in options and isinstance(options["n"], int):
            options["n"] = lot.randint(1, 3)
        lot.is_(fault.name, f"{op} at {provider.name}")
        if fault.reach != "job":
            EXCHANGE.get().spoiled = True
        return ActiveFault(fault, options)


def _runware_op(body: bytes) -> str:
    try:
        tasks = json.loads(body)
        kinds = {task.get("taskType") for task in tasks}
    except (ValueError, AttributeError, TypeError):
        return "other"
    if "imageInference" in kinds:
        return "submit"
    if kinds & {"getResponse", "getTaskDetails"}:
        return "list" if len(tasks) > 1 else "poll"
    return "upload" if kinds & {"mediaStorage", "imageUpload"} else "other"


@cache
def _blank(kind: str, colour: tuple[int, int, int] = (200, 120, 40)) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    image = Image.new("RGB", (16, 16), colour)
    image.save(out, {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}[kind])
    return out.getvalue()


def picture(kind: str, words: str) -> bytes:
    """Return a tiny picture whose bytes are those of no other words."""
    blank, said = _blank(kind), words.encode()
    if kind == "image/jpeg":
        return blank[:2] + b"\xff\xfe" + (len(said) + 2).to_bytes(2, "big") + said + blank[2:]
    if kind == "image/png":
        chunk = b"tEXt" + b"Comment\x00" + said
        end = blank.rindex(b"IEND") - 4
        told = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
        return blank[:end] + told + blank[end:]
    size = len(said) + len(said) % 2
    more = b"XMP " + len(said).to_bytes(4, "little") + said + b"\x00" * (size - len(said))
    return blank[:4] + (len(blank) - 8 + len(more)).to_bytes(4, "little") + blank[8:] + more


def plain_picture(n: int) -> bytes:
    """Return a tiny picture of another colour for every number."""
    return _blank("image/png", (40 + 50 * (n % 4), 90, 200 - 40 * (n % 4)))


async def stranger(provider: Provider, body: dict[str, Any], path: str, headers: list[tuple[bytes, bytes]]) -> None:
    """Let somebody else's program with the same key ask a provider for something."""
    data = json.dumps(body).encode()
    given = False

    async def receive() -> dict[str, Any]:
        nonlocal given
        if given:
            await asyncio.Event().wait()
        given = True
        return {"type": "http.request", "body": data, "more_body": False}

    async def send(message: Any) -> None:
        pass

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "headers": [(b"content-type", b"application/json"), (b"x-emulator-stranger", b"1"), *headers],
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "server": (provider.host, 443),
        "client": ("192.0.2.9", 40000),
        "root_path": "",
        "state": {},
    }
    context = copy_context()
    context.run(PROCESS.set, provider.process)
    context.run(TAG.set, Tag())
    await provider.world.loop.create_task(provider.app(scope, receive, send), context=context)
