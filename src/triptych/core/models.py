"""The domain values of Triptych besides the request: images, jobs, predictions, outputs.

Rules: every type is frozen and knows nothing of files, networks, clocks or databases. Money is `Decimal` in US dollars,
time is a UTC `datetime`, a size is `(width, height)` in pixels. The results of tools are in `jobs.results`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

from triptych.core.offers import Offer, Operation, Size
from triptych.core.requests import Request


class State(StrEnum):
    """The state of a prediction; the allowed moves are in `states`."""

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
    """The status of a job, as the assistant sees it."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNCERTAIN = "uncertain"

    @property
    def has_ended(self) -> bool:
        """Whether the job is neither queued nor running; an uncertain one may still be found."""
        return self not in (Status.QUEUED, Status.RUNNING)


@dataclass(frozen=True, slots=True)
class Image:
    """A stored image: verified bytes under their sha256, in a file or in an object store."""

    sha256: str
    handle: str
    mime_type: str
    width: int
    height: int
    bytes: int
    path: Path | None = None
    """Its file; None for one in an object store."""
    pruned_at: datetime | None = None
    """When its file or object was removed to free space; None while it exists."""

    @property
    def size(self) -> Size:
        return (self.width, self.height)


@dataclass(frozen=True, slots=True)
class Reference:
    """An input image in a request to a provider: a URL that the provider can read, or the bytes."""

    sha256: str
    mime_type: str
    url: str | None = None
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """One request to a provider: the job's request at one offer, with the references for it."""

    offer: Offer
    request: Request
    prompt: str
    """The prompt of this step, as this model wants it."""
    size: Size | None
    references: tuple[Reference, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    """The request's parameters; one that is an image is a `Reference`."""
    client_id: str = ""
    """A UUID made before the request is sent: its ticket or idempotency key, if the provider accepts one."""
    variation: str = ""
    """Set to get another result for the same request, from a provider that would otherwise return the same one."""
    callback_url: str | None = None
    """The provider calls it when the request has ended."""

    @property
    def count(self) -> int:
        return self.request.count

    @property
    def format(self) -> str | None:
        return self.request.format


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image that was taken apart, as the provider describes it.

    `z_index` is 0 for the base, which has no box; `box` is left, top, right and bottom in pixels of the base. `name`
    and `description` are data from outside.
    """

    z_index: int
    name: str = ""
    description: str = ""
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class ReturnedImage:
    """One image of a response, in order: a URL, or the bytes, or the error if it is missing.

    `handed_over`: the bytes came before the end of the response (`providers.FrameReceived`), and are not kept twice.
    """

    url: str | None = None
    data: bytes | None = None
    error: str | None = None
    handed_over: bool = False
    layer: Layer | None = None

    @property
    def has_image(self) -> bool:
        """Whether this is an image, not an error."""
        return bool(self.url or self.data or self.handed_over)


@dataclass(frozen=True, slots=True)
class Pending:
    """The provider accepted the request; `ticket` is its id of the prediction, `poll_url` its URL for polls."""

    ticket: str
    poll_url: str | None = None
    done: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """The provider finished: its images in order, the charge, the lifetime of its URLs in seconds.

    `charge_is_estimate`: the charge is the list price, because the provider reports none. `settle_s` is set if the
    provider does not report whether more images come: the prediction has ended once the number of images has stayed
    the same for so many seconds.
    """

    outputs: tuple[ReturnedImage, ...]
    charged_usd: Decimal | None = None
    url_lifetime_s: float | None = None
    warnings: tuple[str, ...] = ()
    settle_s: float | None = None
    charge_is_estimate: bool = False


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded file at a provider: its URL and its lifetime in seconds."""

    url: str
    lifetime_s: float


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a prediction or job failed, as data."""

    kind: str
    message: str
    retryable: bool
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """One request to a provider, and its state.

    `request` is the job's; `step` and `lane` place this prediction in a chain (0 elsewhere). `after_id` is the
    prediction whose first output is this one's first input. `first_output` is the place in the job of this prediction's
    first output (from 1).

    `due_at`, `deadline_at` and every `…_mono` are seconds of the monotonic clock; a restart of the machine resets them
    or sets them to None. `looked_mono` is the time of the first search for a lost submit. `sent_urls` are the URLs of
    the references in the request, None for a reference sent as bytes.
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
    live_offer: Offer | None = None
    """`Job.live_offer` of its job."""

    @property
    def prompt(self) -> str:
        """The prompt of this step, in the caller's words."""
        return self.request.prompt_at(self.lane, self.step)

    @property
    def count(self) -> int:
        return self.request.count

    @property
    def inputs(self) -> tuple[str, ...]:
        """The input handles of the request, in the order that the model sees them."""
        return self.request.inputs(self.lane, self.step, self.job_id)


@dataclass(frozen=True, slots=True)
class Route:
    """Another provider for a job, used if the provider before it refuses the request.

    `sizes` and `quotes_usd` (US dollars for a lane's first request) have one entry for each lane.
    """

    provider: str
    family: str
    endpoint: str
    operation: Operation
    sizes: tuple[Size | None, ...]
    quotes_usd: tuple[Decimal, ...]
    later_usd: tuple[Decimal, ...] = ()
    """The same for each later request of a lane; empty if none costs something else than the first."""
    words: tuple[str, Operation] | None = None
    """The endpoint and operation of a request without images, in a job that has others with images; else None."""

    def usd(self, lane: int, *, is_first: bool) -> Decimal:
        """Return the quote of one request of a lane."""
        return self.quotes_usd[lane] if is_first or not self.later_usd else self.later_usd[lane]


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
    layer: Layer | None = None

    @property
    def handle(self) -> str:
        return f"{self.job_id}/{self.n}"


@dataclass(frozen=True, slots=True)
class Job:
    """The job of one paid call; its predictions and outputs are stored beside it.

    `status`, `returned` (the number of stored outputs) and `may_be_charged` follow from its predictions.
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
    """The owner whose token made it; None for the person at the machine."""
    budget_group: str | None = None
    """The group whose budget it counts against, beside its owner's and the installation's."""
    cancel_requested: bool = False
    status: Status = Status.QUEUED
    returned: int = 0
    may_be_charged: bool = True
    page_size: int | None = None
    """How many images a page of its result lists; None until that is fixed."""
    live_offer: Offer | None = None
    """The offer that it was made under, if no table has it: a live one, or one made for a name; None otherwise."""
    sources: tuple[str, ...] | None = None
    """The caller's text for each lane's first image (of a request without lanes: for each image), such as its path; a
    lane without an image has "". None in jobs of earlier versions."""
