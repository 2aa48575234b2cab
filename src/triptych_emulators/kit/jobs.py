"""Accepted jobs of an emulated API: their time, their cost and their pictures.

Rules: the pictures of a job are painted off the event loop, from its acceptance on, so that they are ready when its
time has passed. The same request gives the same pixels.
"""

from __future__ import annotations

import hashlib
import math
import random
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from triptych_emulators.kit.faults import ActiveFault, JobFailure, without_directives
from triptych_emulators.kit.images import EXTENSIONS, ImageFiles, cut_out
from triptych_emulators.kit.painter import Painter
from triptych_emulators.kit.prices import PriceTiers

CACHE_BYTES = 32 * 1024 * 1024
"""Of painted pictures, by request: a test suite requests the same few pictures again and again."""


@dataclass(frozen=True)
class JobSpec:
    """A paid request as an API parsed it; `references` are URLs, data URIs or base64, in order."""

    model: str
    prompt: str
    references: Sequence[str]
    count: int
    size: tuple[int, int]
    mime_type: str
    prices: PriceTiers
    transparent: bool = False
    """The pictures have no background."""
    independent: bool = False
    """Each picture is independent, and pays for the references."""
    layers: bool = False
    """The first picture is the base; the others are its layers, each a PNG without a background."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """The request body, for APIs that return it."""

    @property
    def price_usd(self) -> Decimal:
        """The price of one image."""
        fee_usd = self.prices.fee_usd(len(self.references)) if self.independent else Decimal(0)
        return self.prices.each_usd(self.size) + fee_usd

    @property
    def fee_usd(self) -> Decimal:
        """The price of the references, charged once for a request with any image."""
        return Decimal(0) if self.independent else self.prices.fee_usd(len(self.references))

    def mime_type_of(self, n: int) -> str:
        """Return the media type of picture number `n`, from 1."""
        return "image/png" if self.layers and n > 1 else self.mime_type

    @property
    def layer_box(self) -> tuple[int, int, int, int]:
        """Where each layer lies in the base: left, top, right and bottom in pixels."""
        (width, height), margin = self.size, 8
        return (width // margin, height // margin, width - width // margin, height - height // margin)

    @property
    def layer_boxes(self) -> dict[str, list[int]]:
        """The box of each layer in pixels of the base, and in thousandths of its sides."""
        box = self.layer_box
        thousandths = [round(1000 * side / self.size[place % 2]) for place, side in enumerate(box)]
        return {"absolute": [*box], "normalized": thousandths}

    @property
    def layer_size(self) -> tuple[int, int]:
        left, top, right, bottom = self.layer_box
        return (right - left, bottom - top)

    def images_usd(self, count: int) -> Decimal:
        """Return the price of so many of its images; each layer is priced by its own area."""
        if not self.layers or not count:
            return self.price_usd * count
        return self.price_usd + self.prices.each_usd(self.layer_size) * (count - 1)

    @property
    def total_usd(self) -> Decimal:
        """The price of the request if all of its images are made."""
        return self.images_usd(self.count) + self.fee_usd


@dataclass
class EmulatedJob:
    """One accepted job. Times are of the emulator's clock, in UTC seconds."""

    spec: JobSpec
    id: str
    key: str
    """Part of the URLs of its result files."""
    number: int
    submitted_at: float
    finish_at: float
    pictures: Future[tuple[bytes, ...]]
    created_at: datetime
    faults: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """The faults that change this job, by name, with their options."""
    pending_faults: list[ActiveFault] = field(default_factory=list)
    """The faults that its later requests get."""
    failure: JobFailure | None = None
    missing: int = 0
    """The number of images that failed while the others were made; they are not charged."""
    polls: int = 0
    polls_after_end: int = 0
    stranger: bool = False
    """Another client of the same account sent it: it is listed, and it is not in the books of this test."""

    @property
    def expected(self) -> int:
        """The number of images that this job delivers."""
        return max(0, self.spec.count - int(self.option("fewer", "n", 0)))

    def option(self, fault: str, name: str, default: Any = None) -> Any:
        """Return an option of one of the job's faults, or the default without that fault."""
        return self.faults.get(fault, {}).get(name, default)

    def add(self, active: ActiveFault) -> None:
        """Change this job from now on."""
        self.faults[active.type.name] = active.options
        if (fails := active.type.fails) is not None:
            code = active.options.get("error_code", fails.code)
            self.failure = JobFailure(str(active.options.get("message", fails.message)), code, fails.status)

    def count_missing(self) -> None:
        """Set how many images are missing by the faults `empty-outputs` and `frame-missing`."""
        bad = self.option("frame-missing", "n", math.inf)
        self.missing = self.spec.count if "empty-outputs" in self.faults else int(bad <= self.expected)

    def charge_usd(self, now: float) -> Decimal:
        """Return the charge: for all of the images from the submit on, nothing once the job has failed."""
        if now >= self.finish_at:
            painted = self.pictures
            if self.failure or (painted.done() and not painted.cancelled() and painted.exception()):
                return Decimal(0)
        delivered = max(0, self.expected - self.missing)
        return self.spec.images_usd(delivered) + self.spec.fee_usd if delivered else Decimal(0)


class JobRunner:
    """Accepts jobs and paints their pictures in one worker thread."""

    def __init__(
        self, files: ImageFiles, painter: Painter, *, seed: int, max_side: int | None, latency_s: float | None
    ) -> None:
        self.latency_s = latency_s
        self._files = files
        self._painter = painter
        self._seed = seed
        self._max_side = max_side
        self._cache: dict[tuple[object, ...], tuple[bytes, ...]] = {}
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="emulator-pictures")

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    def accept(self, spec: JobSpec, number: int, now: float, faults: Sequence[ActiveFault] = ()) -> EmulatedJob:
        """Return the job of a request; its pictures are being painted."""
        changes = [active for active in faults if active.type.reach == "job"]
        odd_id = any(active.type.name == "odd-ids" for active in changes)
        key = uuid.uuid4().hex
        job = EmulatedJob(
            spec=spec,
            id=f"pred:{key[:8]}/ü+{number}" if odd_id else key,
            key=key,
            number=number,
            submitted_at=now,
            finish_at=now + self._duration_s(number, spec.count),
            pictures=Future(),
            created_at=datetime.fromtimestamp(now, UTC),
            pending_faults=[active for active in faults if active.type.reach != "job"],
        )
        for active in changes:
            job.add(active)
        if job.failure is None:
            job.pictures = self._executor.submit(self._paint, job)
        else:
            job.pictures.set_result(())
        return job

    def _duration_s(self, number: int, count: int) -> float:
        if self.latency_s is not None:
            return self.latency_s
        chance = random.Random(f"{self._seed}:{number}")  # noqa: S311 - not a secret
        return (8.0 + 2.0 * (count - 1)) * math.exp(chance.gauss(0.0, 0.35))

    def _paint(self, job: EmulatedJob) -> tuple[bytes, ...]:
        spec = job.spec
        images = [self._files.read(reference) for reference in spec.references]
        prompt, size = without_directives(spec.prompt), self._limited(spec.size)
        sources = tuple(hashlib.sha256(data).digest() for data in images)
        request = (prompt, sources, spec.count, size, spec.mime_type, spec.transparent, spec.layers)
        pictures = self._cache.get(request)
        if pictures is None:
            painted = self._painter(
                images, prompt, count=spec.count, size=size, mime_type=spec.mime_type, seed=str(self._seed)
            )
            clear = 0 if spec.transparent else 1 if spec.layers else len(painted)
            pictures = (
                *painted[:clear],
                *(cut_out(one, "image/png" if spec.layers else spec.mime_type) for one in painted[clear:]),
            )
            self._remember(request, pictures)
        for index, data in enumerate(pictures, start=1):
            mime_type = spec.mime_type_of(index)
            self._files.results.put(f"{job.key}/{index}.{EXTENSIONS[mime_type]}", data, mime_type)
        return pictures

    def _remember(self, request: tuple[object, ...], pictures: tuple[bytes, ...]) -> None:
        self._cache[request] = pictures
        while len(self._cache) > 1 and sum(len(d) for kept in self._cache.values() for d in kept) > CACHE_BYTES:
            self._cache.pop(next(iter(self._cache)))

    def _limited(self, size: tuple[int, int]) -> tuple[int, int]:
        if self._max_side is None or max(size) <= self._max_side:
            return size
        scale = self._max_side / max(size)
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
