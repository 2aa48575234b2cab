"""The contract of a provider: data and pure functions, one file for each provider.

A provider's flows are generators in the style of httpx's auth flow: they yield an `HttpRequest`, are sent an
`HttpResponse`, and return the outcome. They have no client and no clock and never await; the driver in `client` runs
them. The same flow serves the worker, the tests and a dry run (which shows the first `HttpRequest` and stops).

A flow reports failures by raising from `errors`:
  `Refused` and below    surely not accepted, nothing paid
  `Failed` and below     accepted, then decided against
  `Outage`               no usable response; on a submit this means "may have been accepted"

    NAME         one provider: `PROVIDER`, its offers and its flows
    accounts           `Account` is one key at one provider
    client             the only sender of requests to providers
    event_stream       a provider's stream of server-sent events
    guarded_transport  reads URLs from outside
    operator_urls      asks URLs that the operator set
    url_safety         which URLs may be read
    preview/           the offline engine behind `draft`
    _NAME_models, _NAME_catalogue, _NAME_…    parts of the provider NAME
    _offers, _reading, _history, _listed, _live    shared by several providers

Must not know: any provider by name. They are found by listing the folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeVar

from triptych.core import errors
from triptych.core.models import Done, Pending, Prediction, ProviderRequest, ReturnedImage, Upload
from triptych.core.offers import ListedModel, Offer, Quote

__all__ = [
    "STREAM_END",
    "BaseUrl",
    "Flow",
    "FrameReceived",
    "HttpRequest",
    "HttpResponse",
    "ModelList",
    "NextEvent",
    "Provider",
    "ReferenceLimits",
    "SubmitTimes",
    "accounts",
    "client",
    "load",
    "names",
    "operator_urls",
    "preview",
    "refuse",
    "url_safety",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request that a flow wants sent: to a base URL by name, or to a whole URL from the provider.

    A whole URL must be on the provider's own origin, or, without `authorize`, on the public internet (an upload
    ticket). `repeatable` means that sending it twice costs nothing: all requests but a submit. With `stream`, a
    response of server-sent events has an empty body; `NextEvent` asks for its events.
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
    """Ask for the next event of a stream. It is sent as an `HttpResponse` with the event's data as the body.

    At the end of the stream the status of that response is `STREAM_END`. A stream that breaks off raises
    `errors.AnswerLost`.
    """


@dataclass(frozen=True, slots=True)
class FrameReceived:
    """One image received before the flow ends; `index` is its place among the outputs, from 0."""

    index: int
    output: ReturnedImage


STREAM_END = 0
"""The status of the response that ends a stream."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A whole response. The driver bounds its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the parsed body, or None if it is not JSON (an HTML page, an empty body, extreme nesting)."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


Flow = Generator[HttpRequest | NextEvent | FrameReceived, HttpResponse, T]


@dataclass(frozen=True, slots=True)
class ReferenceLimits:
    """The limits of a provider's reference images. A larger image is fitted to them, with a warning.

    `max_body_bytes` limits a whole request with inline references (base64 makes them a third larger).
    """

    max_bytes: int | None = None
    max_pixels: int | None = None
    max_side: int | None = None
    formats: tuple[str, ...] = ("image/jpeg", "image/png", "image/webp")
    max_body_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """A provider's default base URL, and the variable that replaces it. Jobs do without an `optional` one."""

    env: str
    default: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class ModelList:
    """A live list of models: endpoint id → current price per image in USD, None without a price."""

    prices_usd: Mapping[str, Decimal | None]


@dataclass(frozen=True, slots=True)
class SubmitTimes:
    """When a request left: `at` by the wall clock, `age_s` seconds ago by the monotonic clock.

    The monotonic clock may pause while the machine sleeps: by the wall clock the request is older by `slept_s`.
    """

    at: datetime
    age_s: float
    slept_s: float = 0.0

    @property
    def oldest_s(self) -> float:
        """The greatest age by either clock."""
        return self.age_s + self.slept_s


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as data and pure functions. A function that it does not support is None.

    With `key_env` None it needs no key and no network: its `submit` ends without an `HttpRequest`. With `inline` it
    takes reference bytes in the request, where no URL exists for them yet; other providers get URLs, made with
    `upload`.
    """

    name: str
    title: str
    key_env: str | None
    base_urls: Mapping[str, BaseUrl]
    offers: tuple[Offer, ...]
    submit: Callable[[ProviderRequest], Flow[Pending | Done]]
    offers_at: Callable[[Mapping[str, str]], tuple[Offer, ...]] | None = None
    """The offers at these base URLs, by name, if they depend on the base URL."""
    offers_for: Callable[[str], tuple[Offer, ...]] | None = None
    """The offers for a model name that is in no offer, such as the id of an endpoint of the account; they are
    `Offer.assumed`. None for any other name. Raises: `errors.UnknownModel`."""
    poll: Callable[[str, str | None], Flow[Pending | Done]] | None = None
    upload: Callable[[bytes, str, str], Flow[Upload]] | None = None
    """Upload a file. Raises: `errors.NoRoom` if the provider keeps no more files for this account."""
    delete: Callable[[Sequence[str]], Flow[frozenset[str]]] | None = None
    """Delete uploads by their URLs; return those that are gone, or may be. It touches no other file.

    It raises only before the first deletion.
    """
    find: Callable[[ProviderRequest, Prediction, SubmitTimes, frozenset[str]], Flow[Pending | None]] | None = None
    """Find a submit whose response was lost. The tickets belong to other predictions. It sends nothing paid.

    Returns None if the request surely was not accepted. Raises `errors.Unclear` if the provider's list was read and
    does not decide it, another error if it cannot be read.
    """
    quote: Callable[[ProviderRequest], Flow[Quote | None]] | None = None
    charge: Callable[[str, str | None], Flow[Decimal | None]] | None = None
    finished: Callable[[Sequence[str]], Flow[frozenset[str]]] | None = None
    """Of these tickets, those that one read of the provider's list shows as ended. A hint, for many running at once."""
    listing: Callable[[], Flow[ModelList]] | None = None
    balance: Callable[[], Flow[Decimal | None]] | None = None
    catalogue: Callable[[], Flow[tuple[ListedModel, ...]]] | None = None
    """Read the live catalogue: every model that may make or edit images."""
    schema: Callable[[ListedModel], Flow[Mapping[str, Any]]] | None = None
    """Read the schema of a model whose catalogue entry only names its place. Raises: `errors.Outage`."""
    rank: int = 100
    """The order of preference: the hosted provider with a key and the lowest rank is the default."""
    calls_back: bool = False
    """`submit` sends `ProviderRequest.callback_url`."""
    inline: bool = False
    reference_limits: ReferenceLimits = ReferenceLimits()
    honours_ids_s: float | None = None
    """For so many seconds after a submit the provider recognises it by an id or key of ours.

    Within this time the same submit may be sent again and is not paid twice. None: it takes no id of ours.
    """
    result_lifetime_s: float | None = None
    max_running: int = 4
    deadline_s: float = 1800.0

    def offers_by_name(self, model: str | None) -> tuple[Offer, ...]:
        """Return the offers, after those for this very name. Raises: as `offers_for`."""
        named = self.offers_for(model.strip()) if self.offers_for and model else ()
        return (*named, *self.offers)

    @property
    def offline(self) -> bool:
        return self.key_env is None


SHARED = frozenset(
    {"accounts", "client", "event_stream", "guarded_transport", "operator_urls", "url_safety", "preview"}
)


@cache
def names() -> tuple[str, ...]:
    """Return every provider's name, from the files in this folder, without importing them.

    A module with a leading underscore, and those in `SHARED`, serve several providers.
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
    detail = f"HTTP {status}: {errors.quoted(message)}"
    retry_after_s = float(retry_after) if retry_after and re.fullmatch(r"[0-9]{1,6}", retry_after) else None
    match status:
        case _ if 200 <= status < 300:
            return
        case 401 | 403:
            raise errors.KeyRejected(
                f"The provider rejected the API key or its rights ({detail}).", request_id=request_id
            )
        case 402:
            raise errors.NoFunds(f"The provider's balance is too low ({detail}).", request_id=request_id)
        case 404:
            raise errors.NotOffered(f"The provider did not find it ({detail}).", request_id=request_id)
        case 429:
            raise errors.RateLimited(
                f"The provider is limiting requests ({detail}).",
                request_id=request_id,
                retry_after_s=retry_after_s,
            )
        case 408 | 425 | 499:  # a gateway writes these, maybe after the provider accepted the request
            raise errors.Outage(
                f"The provider's answer is not usable ({detail}).", request_id=request_id, retry_after_s=retry_after_s
            )
        case _ if 400 <= status < 500:
            raise errors.Refused(f"The provider refused the request ({detail}).", request_id=request_id)
        case _:
            raise errors.Outage(
                f"The provider's answer is not usable ({detail}).", request_id=request_id, retry_after_s=retry_after_s
            )
