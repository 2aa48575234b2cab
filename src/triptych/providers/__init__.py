"""What a provider is: data and pure functions, one file each.

A provider's flows are generators in the style of httpx's auth flow: they yield an `HttpRequest`, are sent an
`HttpResponse`, and return the outcome. They hold no client, no clock and never await; the one driver in `client` runs
them all. So the same flow serves the worker, the tests and a dry run (which shows the first `HttpRequest` and stops).

A flow reports trouble by raising from `errors`:
  `Refused` and below    surely not accepted, nothing paid
  `Failed` and below     accepted, then decided against
  `Outage`               no usable answer; on a submit this means "may have been accepted"

This file must not know any provider by name: they are found by listing the folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeVar

from triptych.core import errors
from triptych.core.models import Done, Offer, Pending, Prediction, ProviderRequest, Quote, ReturnedImage, Upload

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request a flow wants sent: to a base URL by name, or to a whole URL that the provider gave.

    A whole URL has to be on the provider's own origin, or, without `authorize`, on the public internet (an upload
    ticket). `repeatable` says that sending it twice costs nothing (everything but a submit).
    With `stream`, an answer that is a stream of server-sent events has an empty body; `NextEvent` asks for its events.
    """

    method: str
    path: str
    base: str = "api"
    json: Any = None
    content: bytes | None = None
    files: Mapping[str, tuple[str, bytes, str]] | None = None
    params: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    authorize: bool = True
    repeatable: bool = True
    stream: bool = False
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class NextEvent:
    """The next event of a stream is wanted: it is sent as an `HttpResponse` with its data as the body.

    At the stream's end that answer's status is `STREAM_END`. A stream that is cut off raises `errors.AnswerLost` here.
    """


@dataclass(frozen=True, slots=True)
class FrameReceived:
    """A frame came before the flow is at its end; `index` is its place in the answer, from 0."""

    index: int
    output: ReturnedImage


STREAM_END = 0
"""The status of the answer that ends a stream."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What came back: a whole response, its body bounded by the driver."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the parsed body, or None where it is not JSON (an HTML page, an empty body, a tower of brackets)."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


Flow = Generator[HttpRequest | NextEvent | FrameReceived, HttpResponse, T]


@dataclass(frozen=True, slots=True)
class ReferenceLimits:
    """What a provider takes as a reference image; a larger one is fitted down, with a warning.

    `max_body_bytes` bounds a whole request whose references are inline (base64 makes them a third larger).
    """

    max_bytes: int | None = None
    max_pixels: int | None = None
    max_side: int | None = None
    formats: tuple[str, ...] = ("image/jpeg", "image/png", "image/webp")
    max_body_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """Where a provider lives by default, and the variable that moves it."""

    env: str
    default: str


@dataclass(frozen=True, slots=True)
class Listing:
    """A live model list: endpoint id → current price per image in USD, where it says one."""

    prices_usd: Mapping[str, Decimal | None]


@dataclass(frozen=True, slots=True)
class Sent:
    """When a request left: `at` by this machine's wall clock, `age_s` seconds ago by its monotonic clock.

    That clock rests while the machine sleeps: the request may be older by `slept_s`, which the wall clock says.
    """

    at: datetime
    age_s: float
    slept_s: float = 0.0

    @property
    def oldest_s(self) -> float:
        """The greatest age that one of the clocks says."""
        return self.age_s + self.slept_s


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as data and pure functions; what it cannot do is None.

    `key_env` None means that it needs no key and no network: its `submit` then runs to its end without a `HttpRequest`.
    `inline` providers take reference bytes in the request, where they have no URL for them yet; the others get URLs,
    made with `upload`.
    """

    name: str
    title: str
    key_env: str | None
    base_urls: Mapping[str, BaseUrl]
    offers: tuple[Offer, ...]
    submit: Callable[[ProviderRequest], Flow[Pending | Done]]
    offers_at: Callable[[Mapping[str, str]], tuple[Offer, ...]] | None = None
    """The offers at these base URLs, by name, where they differ from one place to another."""
    poll: Callable[[str, str | None], Flow[Pending | Done]] | None = None
    upload: Callable[[bytes, str, str], Flow[Upload]] | None = None
    find: Callable[[ProviderRequest, Prediction, Sent, frozenset[str]], Flow[Pending | None]] | None = None
    """Look for a submit whose answer was lost; the tickets are taken by other predictions. It sends nothing paid.

    None: the request surely was not accepted. Raises `errors.Unclear` when the provider's list was read and does not
    tell, another error when it could not be read.
    """
    quote: Callable[[ProviderRequest], Flow[Quote | None]] | None = None
    charge: Callable[[str, str | None], Flow[Decimal | None]] | None = None
    finished: Callable[[Sequence[str]], Flow[frozenset[str]]] | None = None
    """Of these tickets, those that one look at the provider's list shows as ended; a hint, where many run at once."""
    listing: Callable[[], Flow[Listing]] | None = None
    balance: Callable[[], Flow[Decimal | None]] | None = None
    inline: bool = False
    reference_limits: ReferenceLimits = ReferenceLimits()
    honours_ids_s: float | None = None
    """For so many seconds after a submit the provider is trusted to know it by an id or key of ours.

    Within them the same submit may be sent again, and pays nothing. None: it takes no id of ours.
    """
    result_lifetime_s: float | None = None
    max_running: int = 4
    deadline_s: float = 1800.0

    @property
    def offline(self) -> bool:
        return self.key_env is None


SHARED = frozenset({"client", "guarded_transport", "url_safety", "preview"})


def names() -> tuple[str, ...]:
    """Return every provider's name, found by listing this folder; imports none of them.

    A module with a leading underscore and those in `SHARED` serve several providers.
    """
    found = {module.name for module in iter_modules(__path__) if not module.name.startswith("_")}
    return tuple(sorted(found - SHARED))


def load(name: str) -> Provider:
    """Return the provider of that name.

    Raises: `errors.UnknownModel` when there is none.
    """
    if name not in names():
        raise errors.UnknownModel(f"There is no provider {errors.quoted(name, 40)}; there are: {', '.join(names())}.")
    provider: Provider = import_module(f"{__name__}.{name}").PROVIDER
    return provider


def refuse(status: int, message: str, *, request_id: str | None = None, retry_after: str | None = None) -> None:
    """Raise what an HTTP status means when the provider itself wrote it; return for a 2xx.

    401 and 403 → `KeyRejected`, 402 → `NoFunds`, 404 → `NotOffered`, 429 → `RateLimited`, other 4xx → `Refused`; 408,
    425, 499 and the rest → `Outage`.
    """
    said = f"HTTP {status}: {errors.quoted(message)}"
    retry_after_s = float(retry_after) if retry_after and re.fullmatch(r"[0-9]{1,6}", retry_after) else None
    match status:
        case _ if 200 <= status < 300:
            return
        case 401 | 403:
            raise errors.KeyRejected(
                f"The provider rejected the API key or its rights ({said}).", request_id=request_id
            )
        case 402:
            raise errors.NoFunds(f"The provider's balance is too low ({said}).", request_id=request_id)
        case 404:
            raise errors.NotOffered(f"The provider did not find it ({said}).", request_id=request_id)
        case 429:
            raise errors.RateLimited(
                f"The provider is limiting requests ({said}).",
                request_id=request_id,
                retry_after_s=retry_after_s,
            )
        case 408 | 425 | 499:  # written by what stands in front of the provider, maybe after the request was accepted
            raise errors.Outage(
                f"The provider's answer is not usable ({said}).", request_id=request_id, retry_after_s=retry_after_s
            )
        case _ if 400 <= status < 500:
            raise errors.Refused(f"The provider refused the request ({said}).", request_id=request_id)
        case _:
            raise errors.Outage(
                f"The provider's answer is not usable ({said}).", request_id=request_id, retry_after_s=retry_after_s
            )
