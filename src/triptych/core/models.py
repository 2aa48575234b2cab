"""The words of Triptych as frozen values: images, jobs, predictions, offers, quotes.

Rules: every type is frozen and knows nothing of files, networks, clocks or databases. Money is `Decimal` in US dollars,
time is a UTC `datetime`, a size is `(width, height)` in pixels. What a tool answers is in `jobs.results`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path

from triptych.core.offers import Offer, Operation, Size


class State(StrEnum):
    """Where a prediction stands; the allowed moves are in `states`."""

    WAITING = "waiting"
    QUEUED = "queued"
    SUBMITTING = "submitting"
    RUNNING = "running"
    FETCHING = "fetching"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNCERTAIN = "uncertain"


class Status(StrEnum):
    """Where a job stands, as the assistant sees it."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True, slots=True)
class Image:
    """A stored picture: verified bytes on disk under their sha256."""

    sha256: str
    handle: str
    mime_type: str
    width: int
    height: int
    bytes: int
    path: Path
    pruned_at: datetime | None = None
    """When its file was removed to free space; None while it is there."""

    @property
    def size(self) -> Size:
        return (self.width, self.height)


@dataclass(frozen=True, slots=True)
class Reference:
    """An input image as a request carries it: a URL the provider can read, or the bytes themselves."""

    sha256: str
    mime_type: str
    url: str | None = None
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What one paid call asks for, in its caller's words: made once at the door, hashed, stored and carried whole.

    `images` and `references` are handles, once the images that they name are stored. A chain has a lane for each image
    and a step for each prompt; `references` go into each of its requests. Elsewhere there is one lane and one prompt.
    """

    tool: str
    prompts: tuple[str, ...]
    images: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    count: int = 1
    model: str | None = None
    provider: str | None = None
    size: str | None = None
    format: str | None = None

    @property
    def is_chain(self) -> bool:
        return self.tool == "edit_chain"

    @property
    def operation(self) -> Operation:
        if self.is_chain:
            return Operation.EDIT
        return Operation.EDIT_SEQUENTIAL if self.tool == "edit_sequence" else Operation.GENERATE_SEQUENTIAL

    @property
    def prompt(self) -> str:
        """The prompts in one line."""
        return " → ".join(self.prompts)

    @property
    def lanes(self) -> int:
        return len(self.images) if self.is_chain else 1

    @property
    def steps(self) -> int:
        return len(self.prompts)

    @property
    def requested(self) -> int:
        """How many images are asked for."""
        return self.lanes * self.steps * self.count

    @property
    def inputs_each(self) -> int:
        """How many images each of its requests carries."""
        return 1 + len(self.references) if self.is_chain else len(self.images)

    def inputs(self, lane: int) -> tuple[str, ...]:
        """Return the handles that a lane's first request carries, in the order that the model sees them."""
        return (self.images[lane], *self.references) if self.is_chain else self.images

    def fingerprint(self, owner: str | None, sha256_of: Mapping[str, str]) -> str:
        """Return a hash that is the same for every call that asks for the same; images count by their content.

        A field that is None does not count: a new field leaves the hashes of older requests as they are.
        """
        asked = {field.name: getattr(self, field.name) for field in fields(self)}
        asked = {name: value for name, value in asked.items() if value not in (None, ())}
        for name in ("images", "references"):
            asked[name] = [sha256_of[handle] for handle in asked.get(name, ())]
        return hashlib.sha256(json.dumps([owner, asked], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """One request as a provider is asked it: what was asked for, at one offer, with what that offer needs."""

    offer: Offer
    request: Request
    prompt: str
    """The prompt of this step, as this model wants it."""
    size: Size | None
    references: tuple[Reference, ...] = ()
    client_id: str = ""
    """A UUID made before anything is sent: the ticket or the idempotency key where the provider takes one."""
    variation: str = ""
    """Set when another result of the same request is wanted, for a provider that would otherwise repeat itself."""

    @property
    def count(self) -> int:
        return self.request.count

    @property
    def format(self) -> str | None:
        return self.request.format


@dataclass(frozen=True, slots=True)
class ReturnedImage:
    """One frame of an answer, in order: a URL, or the bytes, or why it is missing.

    With `handed_over` the bytes were handed over before the answer's end (`providers.FrameReceived`); they are not
    kept twice.
    """

    url: str | None = None
    data: bytes | None = None
    error: str | None = None
    handed_over: bool = False

    @property
    def has_image(self) -> bool:
        """Whether this is an image, and not the reason why there is none."""
        return bool(self.url or self.data or self.handed_over)


@dataclass(frozen=True, slots=True)
class Pending:
    """The provider accepted; `ticket` is how it calls the prediction, `poll_url` where it says to ask."""

    ticket: str
    poll_url: str | None = None
    done: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """The provider finished: its frames in order, the charge, when its URLs expire (seconds).

    `charge_is_estimate` says that the charge is the list price, because the provider reports none. `settle_s` is set
    where it does not say whether more frames come: the answer is the end only once the number of frames has stayed the
    same for so many seconds.
    """

    outputs: tuple[ReturnedImage, ...]
    charged_usd: Decimal | None = None
    url_lifetime_s: float | None = None
    warnings: tuple[str, ...] = ()
    settle_s: float | None = None
    charge_is_estimate: bool = False


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded file at a provider: its URL and how long it stays (seconds)."""

    url: str
    lifetime_s: float


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a prediction or job did not work out, kept as data."""

    kind: str
    message: str
    retryable: bool
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """One request to a provider, and how far it came.

    `request` is the job's; `step` and `lane` place this prediction in a chain (0 elsewhere). `after_id` is the
    prediction whose first output is this one's first input. `first_output` is the place in the job of this prediction's
    first output (from 1).

    `due_at`, `deadline_at` and every `…_mono` are seconds of the monotonic clock; a restart of the machine sets them
    anew or to None. `looked_mono` is the first look for a lost submit. `sent_urls` are the references as the request
    carried them, None for one sent as bytes.
    """

    id: str
    job_id: str
    request: Request
    lane: int
    step: int
    after_id: str | None
    first_output: int
    provider: str
    endpoint: str
    operation: Operation
    size: Size | None
    client_id: str
    variation: str
    quoted_usd: Decimal
    quote_exact: bool
    state: State = State.QUEUED
    charged_usd: Decimal | None = None
    charge_is_estimate: bool = False
    ticket: str | None = None
    poll_url: str | None = None
    submitted_at: datetime | None = None
    deadline_at: float | None = None
    finished_at: datetime | None = None
    due_at: float = 0.0
    attempts: int = 0
    fault: Failure | None = None
    created_mono: float | None = None
    submitted_mono: float | None = None
    looked_mono: float | None = None
    sent_urls: tuple[str | None, ...] = ()

    @property
    def prompt(self) -> str:
        """The prompt of this step, in the caller's words."""
        return self.request.prompts[self.step]

    @property
    def count(self) -> int:
        return self.request.count

    @property
    def inputs(self) -> tuple[str, ...]:
        """The handles that the request carries, in the order that the model sees them."""
        if self.step:
            return (f"{self.job_id}/{self.first_output - 1}", *self.request.references)
        return self.request.inputs(self.lane)


@dataclass(frozen=True, slots=True)
class Route:
    """Another provider that a job may go to when the one before it refuses before accepting.

    `sizes` and `quotes_usd` (US dollars for one request) have one entry for each lane.
    """

    provider: str
    family: str
    endpoint: str
    operation: Operation
    sizes: tuple[Size | None, ...]
    quotes_usd: tuple[Decimal, ...]


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a job: `n` is its place (from 1). `sha256` is set once the image is stored."""

    job_id: str
    n: int
    prediction_id: str
    url: str | None
    url_expires_at: datetime | None
    sha256: str | None
    saved_path: str | None
    source: tuple[str, ...]
    error: str | None = None

    @property
    def handle(self) -> str:
        return f"{self.job_id}/{self.n}"


@dataclass(frozen=True, slots=True)
class Job:
    """What one paid call made; its predictions and outputs are kept beside it.

    `status`, `returned` (outputs that are stored) and `may_be_charged` follow from its predictions.
    """

    id: str
    request: Request
    created_at: datetime
    fingerprint: str
    provider: str
    model: str
    endpoint: str
    save_to: str | None = None
    warnings: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    owner: str | None = None
    """Whose token made it; None for the person at the machine."""
    cancel_requested: bool = False
    status: Status = Status.QUEUED
    returned: int = 0
    may_be_charged: bool = True
    page_size: int | None = None
    """How many images a page of its result lists, once that is fixed."""
