"""Accepted jobs: when they end, what they cost, and their pictures.

Rules: a job's pictures are drawn off the event loop, from the moment it is accepted, so that they are there when its
time has passed. Inputs are read from this origin, from data URIs and from base64, never from the network. The same
request gives the same pixels. What is kept in memory is bounded: the oldest files go first.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import random
import threading
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import unquote, urlsplit

from triptych_emulators.stage.faults import Armed, Failure, without_directives

KEPT_BYTES = 256 * 1024 * 1024
"""Result files and uploads kept, each."""

REMEMBERED_BYTES = 32 * 1024 * 1024
"""Drawings kept so that the same request is drawn once: a test suite asks for the same few pictures all the time."""

EXTENSIONS: Mapping[str, str] = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True)
class Order:
    """What an API understood of a paid request; `references` are URLs, data URIs or base64, in order."""

    model: str
    prompt: str
    references: Sequence[str]
    count: int
    size: tuple[int, int]
    mime_type: str
    price_usd: Decimal
    """Per image."""
    fee_usd: Decimal = Decimal(0)
    """Once for a request with any image: what its references cost."""
    transparent: bool = False
    """The pictures have no background."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """The request as it came, for APIs that give it back."""

    @property
    def total_usd(self) -> Decimal:
        """What the request costs if all of it comes."""
        return self.price_usd * self.count + self.fee_usd


@dataclass
class Work:
    """One accepted job. Times are of the emulator's clock, in UTC seconds."""

    order: Order
    id: str
    key: str
    """Stands in the URLs of its result files."""
    number: int
    submitted_at: float
    finish_at: float
    pictures: Future[tuple[bytes, ...]]
    created_at: datetime
    traits: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    waiting: list[Armed] = field(default_factory=list)
    failure: Failure | None = None
    missing: int = 0
    """How many of the images failed by themselves; they are not charged."""
    polls: int = 0
    polls_after_end: int = 0
    stranger: bool = False
    """Somebody else's who uses the same account; it is listed, and it is not in our books."""

    @property
    def expected(self) -> int:
        """How many images this job delivers."""
        return max(0, self.order.count - int(self.traits.get("fewer", {}).get("n", 0)))

    def attach(self, armed: Armed) -> None:
        """Change this job from now on."""
        self.traits[armed.fault.name] = armed.options
        if (fails := armed.fault.fails) is not None:
            code = armed.options.get("error_code", fails.code)
            self.failure = Failure(str(armed.options.get("message", fails.message)), code, fails.status)

    def charge_usd(self, now: float) -> Decimal:
        """What is charged for this job: all of it at submit, nothing once it has failed."""
        if now >= self.finish_at:
            drawn = self.pictures
            if self.failure or (drawn.done() and not drawn.cancelled() and drawn.exception()):
                return Decimal(0)
        came = max(0, self.expected - self.missing)
        return self.order.price_usd * came + self.order.fee_usd if came else Decimal(0)


class UnreachableImage(Exception):
    """An input that the provider could not fetch or decode; the message is the provider's."""


class Shelf:
    """Files by name, the oldest thrown away when there are too many bytes."""

    def __init__(self, limit_bytes: int = KEPT_BYTES) -> None:
        self._files: dict[str, tuple[bytes, str]] = {}
        self._bytes = 0
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()

    def put(self, name: str, data: bytes, mime_type: str) -> None:
        with self._lock:
            self._files[name] = (data, mime_type)
            self._bytes += len(data)
            while self._bytes > self._limit_bytes and len(self._files) > 1:
                oldest = next(iter(self._files))
                self._bytes -= len(self._files.pop(oldest)[0])

    def get(self, name: str) -> tuple[bytes, str] | None:
        """Return the bytes and media type, or None when there is no such file any more."""
        with self._lock:
            return self._files.get(name)


class Studio:
    """Where pictures are made: one worker thread, one shelf for results, one for uploads."""

    def __init__(self, *, seed: int, max_side: int | None, latency_s: float | None) -> None:
        self.results = Shelf()
        self.uploads = Shelf()
        self._seed = seed
        self._max_side = max_side
        self._latency_s = latency_s
        self._drawn: dict[tuple[object, ...], tuple[bytes, ...]] = {}
        self._hands = ThreadPoolExecutor(max_workers=1, thread_name_prefix="emulator-pictures")

    def close(self) -> None:
        self._hands.shutdown(wait=True, cancel_futures=True)

    def accept(self, order: Order, number: int, now: float, asked: Sequence[Armed] = ()) -> Work:
        """Return the job for an order, with its pictures being drawn."""
        traits = [armed for armed in asked if armed.fault.reach == "work"]
        odd = any(armed.fault.name == "odd-ids" for armed in traits)
        key = uuid.uuid4().hex
        work = Work(
            order=order,
            id=f"pred:{key[:8]}/ü+{number}" if odd else key,
            key=key,
            number=number,
            submitted_at=now,
            finish_at=now + self._duration_s(number, order.count),
            pictures=Future(),
            created_at=datetime.fromtimestamp(now, UTC),
            waiting=[armed for armed in asked if armed.fault.reach != "work"],
        )
        for armed in traits:
            work.attach(armed)
        if work.failure is None:
            work.pictures = self._hands.submit(self._draw, work)
        else:
            work.pictures.set_result(())
        return work

    def _duration_s(self, number: int, count: int) -> float:
        if self._latency_s is not None:
            return self._latency_s
        chance = random.Random(f"{self._seed}:{number}")  # noqa: S311 - a rehearsal, not a secret
        return (8.0 + 2.0 * (count - 1)) * math.exp(chance.gauss(0.0, 0.35))

    def _draw(self, work: Work) -> tuple[bytes, ...]:
        from triptych.providers import preview

        order = work.order
        images = [self.read(reference) for reference in order.references]
        prompt, seed, size = without_directives(order.prompt), str(self._seed), self._fitted(order.size)
        sources = tuple(hashlib.sha256(data).digest() for data in images)
        request = (prompt, sources, order.count, size, order.mime_type, order.transparent)
        drawn = self._drawn.get(request)
        if drawn is None:
            mime_type = order.mime_type
            if images:
                made = preview.edit(images, prompt, count=order.count, size=size, mime_type=mime_type, seed=seed)
            else:
                made = preview.draw(prompt, count=order.count, size=size, mime_type=mime_type, seed=seed)
            drawn = tuple(map(_cut_out, made.images)) if order.transparent else tuple(made.images)
            self._remember(request, drawn)
        extension = EXTENSIONS[order.mime_type]
        for index, data in enumerate(drawn, start=1):
            self.results.put(f"{work.key}/{index}.{extension}", data, order.mime_type)
        return drawn

    def _remember(self, request: tuple[object, ...], drawn: tuple[bytes, ...]) -> None:
        self._drawn[request] = drawn
        while len(self._drawn) > 1 and sum(len(d) for made in self._drawn.values() for d in made) > REMEMBERED_BYTES:
            self._drawn.pop(next(iter(self._drawn)))

    def _fitted(self, size: tuple[int, int]) -> tuple[int, int]:
        if self._max_side is None or max(size) <= self._max_side:
            return size
        scale = self._max_side / max(size)
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

    def read(self, reference: str) -> bytes:
        """Return the bytes of an input image; raise UnreachableImage in the provider's words."""
        from triptych.images import processing

        data = self._bytes_of(reference)
        try:
            processing.verify(data)
        except Exception as error:
            raise UnreachableImage(f"invalid image: cannot decode {_short(reference)}") from error
        return data

    def _bytes_of(self, reference: str) -> bytes:
        parts = urlsplit(reference)
        if parts.scheme in ("http", "https"):
            shelf, _, name = unquote(parts.path).removeprefix("/").partition("/")
            if (parts.hostname or "") in _LOOPBACK and shelf in ("_uploads", "_results"):
                found = (self.uploads if shelf == "_uploads" else self.results).get(name)
                if found is not None:
                    return found[0]
            raise UnreachableImage(f"failed to download image: {_short(reference)}: unreachable or not found")
        text = reference.partition(",")[2] if parts.scheme == "data" else reference
        try:
            return base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise UnreachableImage("invalid image: neither a URL nor base64") from error


def _cut_out(data: bytes) -> bytes:
    """Return a PNG of a picture's middle with a soft edge; around it nothing is painted."""
    import io

    from PIL import Image, ImageDraw, ImageFilter

    image = Image.open(io.BytesIO(data)).convert("RGBA")
    width, height = image.size
    alpha = Image.new("L", image.size, 0)
    ImageDraw.Draw(alpha).ellipse((width // 8, height // 8, width - width // 8, height - height // 8), fill=255)
    image.putalpha(alpha.filter(ImageFilter.GaussianBlur(min(width, height) / 60)))
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=2)
    return out.getvalue()


def _short(reference: str) -> str:
    return reference if len(reference) <= 120 else reference[:119] + "…"
