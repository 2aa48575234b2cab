"""Providers' flows, driven without a network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

from hypothesis import strategies as st

from triptych.core import errors
from triptych.core.models import Prediction, ProviderRequest, Reference, State
from triptych.core.offers import Offer, Operation, Size
from triptych.core.requests import Request
from triptych.providers import (
    STREAM_END,
    Flow,
    FrameReceived,
    HttpRequest,
    HttpResponse,
    NextEvent,
    Provider,
    SubmitTimes,
)

T = TypeVar("T")
HTML = b"<html><body>502 Bad Gateway</body></html>"
OVER = HttpResponse(STREAM_END, {}, b"")
SENT_AT = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
SENT = SubmitTimes(SENT_AT, 20.0)


def answer(status: int = 200, body: Any = None, headers: Mapping[str, str] | None = None) -> HttpResponse:
    return HttpResponse(status, headers or {}, body if isinstance(body, bytes) else json.dumps(body).encode())


def drive(flow: Flow[T], *answers: HttpResponse | errors.TriptychError) -> tuple[T, list[HttpRequest]]:
    """Return what a flow without streams returns, and the calls it made; it has to want exactly these answers."""
    value, calls, _ = _driven(flow, answers, streams=False)
    return value, calls


def drive_stream(
    flow: Flow[T], *answers: HttpResponse | errors.TriptychError
) -> tuple[T, list[HttpRequest], list[FrameReceived]]:
    """Return what a flow returns, the calls it made and the frames it handed over; it has to want all the answers."""
    return _driven(flow, answers, streams=True)


def _driven(
    flow: Flow[T], answers: Sequence[HttpResponse | errors.TriptychError], *, streams: bool
) -> tuple[T, list[HttpRequest], list[FrameReceived]]:
    calls: list[HttpRequest] = []
    came: list[FrameReceived] = []
    waiting = list(answers)
    try:
        wanted = next(flow)
        while True:
            assert streams or (isinstance(wanted, HttpRequest) and not wanted.stream)
            if isinstance(wanted, FrameReceived):
                came.append(wanted)
                wanted = flow.send(OVER)
                continue
            if isinstance(wanted, HttpRequest):
                calls.append(wanted)
            else:
                assert wanted == NextEvent() and calls[-1].stream
            assert waiting, f"one answer too few for {wanted}"
            following = waiting.pop(0)
            wanted = flow.throw(following) if isinstance(following, Exception) else flow.send(following)
    except StopIteration as stop:
        assert not waiting, "an answer was not wanted"
        value: T = stop.value
        return value, calls, came


def asked(
    offer: Offer,
    *,
    prompt: str = "two cats",
    count: int = 1,
    size: Size | None = (2048, 2048),
    format: str | None = None,
    references: tuple[Reference, ...] = (),
    client_id: str = "",
    variation: str = "",
    params: Mapping[str, Any] | None = None,
) -> ProviderRequest:
    """Return a request as a provider gets it; an image among the parameters is a `Reference`."""
    tool = "edit_sequence" if offer.operation.edits else "generate_sequence"
    images = tuple(f"img_{n:08}" for n in range(len(references)))
    request = Request(tool, (prompt,), images, count=count, format=format, params=params)
    return ProviderRequest(offer, request, prompt, size, references, params or {}, client_id, variation)


def edit(
    provider: Provider,
    operation: Operation = Operation.EDIT_SEQUENTIAL,
    family: str = "seedream-5.0-lite",
    references: int | tuple[Reference, ...] = 1,
    **changes: Any,
) -> ProviderRequest:
    """Return a request for one of the provider's offers; a number of references stands for that many URLs."""
    offer = next(o for o in provider.offers if (o.family, o.operation) == (family, operation))
    if isinstance(references, int):
        urls = [f"https://host.example/{n}.png" for n in range(references if operation.edits else 0)]
        references = tuple(Reference("00", "image/png", url=url) for url in urls)
    plain = {
        "count": 2 if operation.sequential else 1,
        "format": "png" if offer.formats else None,
        "references": references,
    }
    return asked(changes.pop("offer", offer), **{**plain, **changes})


def lost(request: ProviderRequest) -> Prediction:
    """Return the prediction of a request that went out at `SENT_AT` and was never answered."""
    return Prediction(
        id="pre_1", job_id="job_1", request=request.request, lane=0, step=0, after_id=None, first_output=1,
        provider=request.offer.provider, endpoint=request.offer.endpoint, operation=request.offer.operation,
        size=request.size, client_id=request.client_id, variation="", quoted_usd=Decimal(0), quote_exact=False,
        state=State.SUBMITTING, submitted_at=SENT_AT, attempts=1,
    )  # fmt: skip


def any_json(leaves: st.SearchStrategy[Any], keys: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Return a strategy for JSON of these leaves and keys, nested as it likes."""
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5), max_leaves=12
    )


def any_answer(bodies: st.SearchStrategy[Any]) -> st.SearchStrategy[HttpResponse]:
    """Return a strategy for answers of every status and header that means something, with such a body or with bytes."""
    return st.builds(
        HttpResponse,
        st.sampled_from([200, 201, 204, 302, 400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 451, 500, 502, 503]),
        st.dictionaries(st.sampled_from(["X-Request-ID", "retry-after"]), st.text(max_size=10)),
        st.binary(max_size=40) | bodies.map(lambda body: json.dumps(body).encode()),
    )
