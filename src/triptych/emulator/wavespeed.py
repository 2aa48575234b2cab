"""WaveSpeedAI's API on loopback: submit by model path, poll, ticket and form uploads, models, prices, history, balance.

Source: the official SDK (PyPI wavespeed 2.0.5), which this module serves unmodified, and the documentation
(docs/providers/wavespeed.md#submit). Only the images that came are charged. A ticket's PUT goes to this origin, with
exactly the ticket's headers: like a presigned URL it refuses an Authorization of its own and another Content-Type.

Switches: `default_count` is what `max_images` means when it is not sent (1 on the newer page, 2 on the older one);
`history_shows` is the field that has the request in history items where `include_inputs` asks for it ("inputs" or
"input", both read by the official CLI; "" for none); `sync_hold_s` is how long the
sync mode waits; `balance_usd` is what the account holds, `no_funds_status` how an empty one refuses.
"""

from __future__ import annotations

import base64
import json
import math
import uuid
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import quote

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from triptych.emulator.stage import Emulator, Fault, Order, UnreachableImage, Work, for_every_op, for_results
from triptych.emulator.wavespeed_models import OFFERS, Malformed, listing, understood
from triptych.emulator.wavespeed_polls import ODDITIES, SYNC_TIMED_OUT, prediction

UPLOAD_LIMIT_BYTES = 200 * 1024 * 1024
MESSAGES = {
    400: "bad request",
    401: "unauthorized: invalid API key",
    402: "Insufficient credits. Please top up to continue.",
    403: "forbidden",
    404: "not found",
    413: "request entity too large",
    429: "too many requests",
    451: "unavailable in your region",
    500: "internal server error",
    503: "service unavailable",
    504: "gateway timeout",
}
REFUSALS = {
    "moderated-at-once": ("The prompt was rejected: it may contain sensitive content.", "1200"),
    "no-funds": ("Insufficient credits. Please top up to continue.", "insufficient_credits"),
}


class Emulated(Emulator):
    """WaveSpeedAI."""

    name = "wavespeed"
    key_variable = "WAVESPEED_API_KEY"
    faults: ClassVar[tuple[Fault, ...]] = (
        *for_every_op(("submit", "poll", "upload", "put", "form", "models", "price", "history", "balance", "result")),
        Fault("submit", "moderated-at-once", "HTTP 400: the prompt is refused, nothing is accepted", refuses=400),
        Fault("submit", "no-funds", "HTTP 403: the balance is too low", refuses=403),
        Fault("submit", "no-id", "accepted, but the answer has no id", "work"),
        Fault("submit", "odd-ids", "an id with a slash, a colon and a letter outside ASCII", "work"),
        Fault("submit", "sync-timeout", "sync mode gives up at once; the task goes on", "work"),
        Fault("upload", "odd-ticket", "the ticket asks for another method than PUT", "work"),
        *ODDITIES,
        *for_results(),
    )

    def __init__(
        self,
        *,
        default_count: int = 1,
        history_shows: str = "inputs",
        sync_hold_s: float = 120.0,
        balance_usd: Decimal | str = "125.50",
        no_funds_status: int = 402,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self._default_count = default_count
        self._history_shows = history_shows
        self._sync_hold_s = sync_hold_s
        self._balance_usd = Decimal(balance_usd)
        self._no_funds_status = no_funds_status
        self._tickets: dict[str, str] = {}
        self._deleted: set[str] = set()

    def routes(self) -> Sequence[Route]:
        def in_path(request: Request) -> str:
            return str(request.path_params["id"])

        return (
            self.at("poll", "GET", "/api/v3/predictions/{id:path}/result", self._poll, work_id=in_path),
            self.at("history", "POST", "/api/v3/predictions", self._history),
            self.at("history", "POST", "/api/v3/predictions/delete", self._delete),
            self.at("upload", "POST", "/api/v3/media/uploads", self._ticket),
            self.at("put", "PUT", "/_put/{key}", self._put, key_needed=False),
            self.at("form", "POST", "/api/v3/media/upload/binary", self._form),
            self.at("models", "GET", "/api/v3/models", self._models),
            self.at("price", "POST", "/api/v3/model/price", self._price),
            self.at("price", "POST", "/api/v3/model/pricing", self._unit_price),
            self.at("balance", "GET", "/api/v3/balance", self._balance),
            self.at("submit", "POST", "/api/v3/{model:path}", self._submit),
        )

    def refusal(self, request: Request, status: int, message: str = "", **options: Any) -> Response:
        said, code = REFUSALS.get(str(options.get("fault")), (message or MESSAGES.get(status, "error"), None))
        body: dict[str, Any] = {"code": status, "message": said, "data": None}
        if code:
            body["error_code"] = code
        headers = {"Retry-After": str(options["retry_after"])} if options.get("retry_after") is not None else {}
        return JSONResponse(body, status, headers)

    # Paid

    async def _submit(self, request: Request) -> Response:
        offer = OFFERS.get(str(request.path_params["model"]))
        if offer is None:
            return self.refusal(request, 404, f"model not found: {str(request.path_params['model'])[:100]}")
        try:
            body = await _json(request)
            order = understood(offer, body, self._default_count, self._follow(body))
        except Malformed as error:
            return self.refusal(request, 400, str(error))
        if order.total_usd > self._balance_usd - self.charged_usd:
            return self.refusal(request, self._no_funds_status, MESSAGES[402])
        work = self.accept(request, order)
        if order.body.get("enable_sync_mode"):
            return await self._synchronous(work)
        told = prediction(work, "running", self._poll_url(work), [])
        data = {name: told[name] for name in ("id", "model", "outputs", "urls", "created_at")}
        data |= {"input": order.body, "status": "created"}
        if "no-id" in work.traits:
            del data["id"]
        return _told(data)

    async def _synchronous(self, work: Work) -> Response:
        """Hold the answer until the job has ended, or the sync mode gives up."""
        duration_s = work.finish_at - work.submitted_at
        if "sync-timeout" not in work.traits:
            share = self._sync_hold_s / duration_s if duration_s > self._sync_hold_s else 1.0
            outcome = await self.ended(work, share)
            if outcome != "running":
                return _told(prediction(work, outcome, self._poll_url(work), self._outputs(work, outcome)))
        url = self._poll_url(work)
        error = f"Sync mode timed out. The task is still running; query the result later at: {url}"
        return _told({**prediction(work, "running", url, []), "error": error, "code": SYNC_TIMED_OUT})

    async def _poll(self, request: Request) -> Response:
        work = self.work(str(request.path_params["id"]))
        if work is None:
            return self.refusal(request, 404, "prediction not found")
        outcome = await self.outcome(work)
        work.polls += 1
        work.polls_after_end += outcome != "running"
        data = prediction(work, outcome, self._poll_url(work), self._outputs(work, outcome))
        if work.id in self._deleted:
            data.update(status="deleted", outputs=[], has_nsfw_contents=[])
        return _told(data)

    def _poll_url(self, work: Work) -> str:
        return f"{self.base_url}/api/v3/predictions/{quote(work.id, safe='')}/result"

    def _outputs(self, work: Work, outcome: str) -> list[Any]:
        if outcome != "done":
            return []
        missing_n = work.traits.get("frame-missing", {}).get("n", math.inf)
        work.missing = work.order.count if "empty-outputs" in work.traits else int(missing_n <= work.expected)
        if not work.order.body.get("enable_base64_output"):
            return list(self.output_urls(work))
        return [base64.b64encode(data).decode() for data in work.pictures.result()[: work.expected]]

    def _follow(self, body: Any) -> tuple[int, int] | None:
        """The size of the first reference, where it can be read."""
        from triptych import imaging

        images = body.get("images") if isinstance(body, dict) else None
        if not isinstance(images, list) or not images or not isinstance(images[0], str) or body.get("size"):
            return None
        try:
            found = imaging.verify(self.studio.read(images[0]))
        except UnreachableImage:
            return None
        return found.width, found.height

    # Free

    async def _ticket(self, request: Request) -> Response:
        try:
            asked = await _json(request)
        except Malformed as error:
            return self.refusal(request, 400, str(error))
        name, size = (asked.get("filename"), asked.get("size")) if isinstance(asked, dict) else (None, None)
        if not isinstance(name, str) or not name or isinstance(size, bool) or not isinstance(size, int) or size < 1:
            return self.refusal(request, 400, "filename and size are required")
        if size > UPLOAD_LIMIT_BYTES:
            return self.refusal(request, 413)
        key, kind = uuid.uuid4().hex, str(asked.get("content_type") or "application/octet-stream")
        path = f"{key}/{name.replace('/', '_')}"
        self._tickets[key] = f"{path}\n{kind}\n{size}"
        odd = any(armed.fault.name == "odd-ticket" for armed in getattr(request.state, "asked", ()))
        instruction = {
            "method": "POST" if odd else "PUT",
            "url": f"{self.base_url}/_put/{key}?X-Amz-Signature=0123",
            "headers": {"Content-Type": kind},
        }
        return _told({"download_url": f"{self.base_url}/_uploads/{quote(path)}", "upload": instruction})

    async def _put(self, request: Request) -> Response:
        ticket = self._tickets.get(str(request.path_params["key"]))
        if ticket is None:
            return Response("<Error><Code>AccessDenied</Code></Error>", 403, media_type="application/xml")
        path, kind, size = ticket.split("\n")
        data = await request.body()
        if "authorization" in request.headers:
            return Response("<Error><Code>InvalidArgument</Code></Error>", 400, media_type="application/xml")
        if request.headers.get("content-type") != kind or len(data) != int(size):
            return Response("<Error><Code>SignatureDoesNotMatch</Code></Error>", 403, media_type="application/xml")
        self.studio.uploads.put(path, data, kind)
        return Response(status_code=200)

    async def _form(self, request: Request) -> Response:
        async with request.form() as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                return self.refusal(request, 400, "file is required")
            data, name = await file.read(), (file.filename or "file").replace("/", "_")
            kind = file.content_type or "application/octet-stream"
        url = self.keep_upload(name, data, kind)
        return _told({"type": kind.partition("/")[0], "download_url": url, "filename": name, "size": len(data)})

    async def _models(self, _: Request) -> Response:
        return JSONResponse({"code": 200, "message": "success", "data": listing()})

    async def _price(self, request: Request) -> Response:
        try:
            order = await self._asked_price(request)
        except Malformed as error:
            return self.refusal(request, 400, str(error))
        price = float(order.total_usd)
        told = {"price": price, "discounted_price": price, "discount_rate": 0, "currency": "USD"}
        return _told({**told, "model_id": order.model})

    async def _unit_price(self, request: Request) -> Response:
        try:
            order = await self._asked_price(request)
        except Malformed as error:
            return self.refusal(request, 400, str(error))
        return _told({"unit_price": float(order.price_usd), "currency": "USD"})

    async def _asked_price(self, request: Request) -> Order:
        asked = await _json(request)
        fields = asked if isinstance(asked, dict) else {}
        offer = OFFERS.get(str(fields.get("model_id", "")))
        if offer is None:
            raise Malformed("model_id is required and must be a model")
        return understood(offer, fields.get("inputs"), self._default_count, None)

    async def _history(self, request: Request) -> Response:
        try:
            asked = await _json(request)
            page, size = _counting(asked, "page", 1 << 30), _counting(asked, "page_size", 100)
            after, before = _moment(asked, "created_after"), _moment(asked, "created_before")
        except Malformed as error:
            return self.refusal(request, 400, str(error))
        found = []
        for work in reversed(self.listed):
            outcome = await self.outcome(work)
            told = prediction(work, outcome, self._poll_url(work), self._outputs(work, outcome))
            wanted = (("model", work.order.model), ("status", told["status"]))
            if work.id in self._deleted or any(asked.get(name) not in (None, "", value) for name, value in wanted):
                continue
            if (after and work.created_at <= after) or (before and work.created_at >= before):
                continue
            shown = self._history_shows if asked.get("include_inputs") is True else ""
            found.append({**told, shown: work.order.body} if shown else told)
        return _told({"page": page, "items": found[(page - 1) * size : page * size]})

    async def _delete(self, request: Request) -> Response:
        try:
            asked = await _json(request)
        except Malformed as error:
            return self.refusal(request, 400, str(error))
        ids = asked.get("ids") if isinstance(asked, dict) else None
        if not isinstance(ids, list):
            return self.refusal(request, 400, "ids is required")
        self._deleted.update(work.id for work in self.works if work.id in ids)
        return _told(None)

    async def _balance(self, _: Request) -> Response:
        return _told({"balance": float(self._balance_usd - self.charged_usd)})


def _told(data: Any) -> Response:
    return JSONResponse({"code": 200, "message": "success", "data": data})


async def _json(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except ValueError:
        raise Malformed("request body is not valid JSON") from None


def _counting(asked: Any, name: str, most: int) -> int:
    value = asked.get(name) if isinstance(asked, dict) else None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise Malformed(f"{name} is required and must be between 1 and {most}")
    return value


def _moment(asked: Any, name: str) -> datetime | None:
    value = asked.get(name)
    if not value:
        return None
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        raise Malformed(f"{name} must be an ISO 8601 time") from None
