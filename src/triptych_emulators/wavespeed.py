"""WaveSpeedAI's API on loopback: submit by model path, poll, ticket and form uploads, models, prices, history, balance.

Source: the official SDK (PyPI wavespeed 2.0.5), which this module serves unmodified, and the documentation
(docs/providers/wavespeed.md#submit). Only made images are charged. A ticket's PUT goes to this origin, with
exactly the ticket's headers: like a presigned URL it refuses an Authorization of its own and another Content-Type.

Switches: `default_count` is the default of `max_images` (1 on the newer page, 2 on the older one);
`history_shows` is the field of history items that has the request, with `include_inputs` ("inputs" or "input", both
read by the official CLI; "" for none); `sync_hold_s` is the longest wait of the sync mode; `balance_usd` is the balance
of the account, `no_funds_status` the status of a refusal when it is empty; `layer_count` is how many images a layer job
returns, its base among them; `extra_models` are further models of the catalogue (see `live_models.load`).
"""

from __future__ import annotations

import base64
import sys
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from triptych_emulators import live_models
from triptych_emulators.kit import (
    CALLBACK_FAULTS,
    EmulatedJob,
    Emulator,
    FaultType,
    InvalidRequest,
    JobSpec,
    for_every_op,
    for_results,
    form_file,
    id_in_path,
    may_be_called,
    retry_after,
)
from triptych_emulators.kit.validation import is_whole, parsed
from triptych_emulators.wavespeed_models import MODELS, listing, parse_submit
from triptych_emulators.wavespeed_polls import ODDITIES, SYNC_TIMED_OUT, prediction

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
    faults: ClassVar[tuple[FaultType, ...]] = (
        *for_every_op(("submit", "poll", "upload", "put", "form", "models", "price", "history", "balance", "result")),
        FaultType("submit", "moderated-at-once", "HTTP 400: the prompt is refused, nothing is accepted", refuses=400),
        FaultType("submit", "no-funds", "HTTP 403: the balance is too low", refuses=403),
        FaultType("submit", "no-id", "accepted, but the response has no id", "job"),
        FaultType("submit", "odd-ids", "an id with a slash, a colon and a letter outside ASCII", "job"),
        FaultType("submit", "sync-timeout", "sync mode gives up at once; the task goes on", "job"),
        FaultType("upload", "odd-ticket", "the ticket names another method than PUT", "job"),
        *ODDITIES,
        *for_results(),
        *CALLBACK_FAULTS,
    )

    def __init__(
        self,
        *,
        default_count: int = 1,
        history_shows: str = "inputs",
        sync_hold_s: float = 120.0,
        balance_usd: Decimal | str = "125.50",
        no_funds_status: int = 402,
        layer_count: int = 4,
        extra_models: Sequence[Mapping[str, Any]] = (),
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self._live = live_models.load("wavespeed", "image-to-image", extra_models, MODELS)
        self._default_count = default_count
        self._history_shows = history_shows
        self._sync_hold_s = sync_hold_s
        self._balance_usd = Decimal(balance_usd)
        self._no_funds_status = no_funds_status
        self.layer_count = layer_count
        self._tickets: dict[str, str] = {}
        self._deleted: set[str] = set()

    def routes(self) -> Sequence[Route]:
        return (
            self.at("poll", "GET", "/api/v3/predictions/{id:path}/result", self._poll, job_id=id_in_path),
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
        text, code = REFUSALS.get(str(options.get("fault")), (message or MESSAGES.get(status, "error"), None))
        body: dict[str, Any] = {"code": status, "message": text, "data": None}
        if code:
            body["error_code"] = code
        return JSONResponse(body, status, retry_after(options))

    # Paid

    async def _submit(self, request: Request) -> Response:
        name = str(request.path_params["model"])
        if name not in MODELS and name not in self._live:
            return self.refusal(request, 404, f"model not found: {name[:100]}")
        try:
            body = parsed(await request.body())
            spec = self._parse(name, body, self._follow(body))
        except InvalidRequest as error:
            return self.refusal(request, 400, str(error))
        url = request.query_params.get("webhook")
        if url is not None and not may_be_called(url):
            return self.refusal(request, 400, "webhook must be an https URL")
        if spec.total_usd > self._balance_usd - self.charged_usd:
            return self.refusal(request, self._no_funds_status, MESSAGES[402])
        job = self.accept(request, spec)
        await self.call_back(job, url, {"id": job.id, "model": spec.model})
        if spec.body.get("enable_sync_mode"):
            return await self._synchronous(job)
        shown = prediction(job, "running", self._poll_url(job), [])
        data = {name: shown[name] for name in ("id", "model", "outputs", "urls", "created_at")}
        data |= {"input": spec.body, "status": "created"}
        if "no-id" in job.faults:
            del data["id"]
        return _success(data)

    def _parse(self, name: str, body: Any, follow: tuple[int, int] | None = None) -> JobSpec:
        """Return the job of a submit's or quote's body; raise InvalidRequest."""
        if name in self._live:
            return live_models.parse(self._live[name], _object(body), self.files.size_of)
        return parse_submit(MODELS[name], body, self._default_count, follow, self.layer_count)

    async def _synchronous(self, job: EmulatedJob) -> Response:
        """Hold the response until the job has ended, or the sync mode gives up."""
        duration_s = job.finish_at - job.submitted_at
        if "sync-timeout" not in job.faults:
            share = self._sync_hold_s / duration_s if duration_s > self._sync_hold_s else 1.0
            outcome = await self.ended(job, share)
            if outcome != "running":
                return _success(prediction(job, outcome, self._poll_url(job), self._outputs(job, outcome)))
        url = self._poll_url(job)
        error = f"Sync mode timed out. The task is still running; query the result later at: {url}"
        return _success({**prediction(job, "running", url, []), "error": error, "code": SYNC_TIMED_OUT})

    async def _poll(self, request: Request) -> Response:
        job = self.job(str(request.path_params["id"]))
        if job is None:
            return self.refusal(request, 404, "prediction not found")
        outcome = await self.outcome(job)
        job.polls += 1
        job.polls_after_end += outcome != "running"
        data = prediction(job, outcome, self._poll_url(job), self._outputs(job, outcome))
        if job.id in self._deleted:
            data.update(status="deleted", outputs=[], has_nsfw_contents=[])
        return _success(data)

    def _poll_url(self, job: EmulatedJob) -> str:
        return f"{self.base_url}/api/v3/predictions/{quote(job.id, safe='')}/result"

    def _outputs(self, job: EmulatedJob, outcome: str) -> list[Any]:
        if outcome != "done":
            return []
        job.count_missing()
        if not job.spec.body.get("enable_base64_output"):
            return list(self.output_urls(job))
        return [base64.b64encode(data).decode() for data in job.pictures.result()[: job.expected]]

    def _follow(self, body: Any) -> tuple[int, int] | None:
        """Return the size of the first reference, or None when it cannot be read."""
        images = body.get("images") if isinstance(body, dict) else None
        if not isinstance(images, list) or not images or not isinstance(images[0], str) or body.get("size"):
            return None
        return self.files.size_of(images[0])

    # Free

    async def _ticket(self, request: Request) -> Response:
        try:
            fields = _object(parsed(await request.body()))
        except InvalidRequest as error:
            return self.refusal(request, 400, str(error))
        name, size = fields.get("filename"), fields.get("size")
        if not isinstance(name, str) or not name or not is_whole(size, 1, sys.maxsize):
            return self.refusal(request, 400, "filename and size are required")
        if size > UPLOAD_LIMIT_BYTES:
            return self.refusal(request, 413)
        key, kind = uuid.uuid4().hex, str(fields.get("content_type") or "application/octet-stream")
        path = f"{key}/{name.replace('/', '_')}"
        self._tickets[key] = f"{path}\n{kind}\n{size}"
        odd = self.has_fault(request, "odd-ticket")
        instruction = {
            "method": "POST" if odd else "PUT",
            "url": f"{self.base_url}/_put/{key}?X-Amz-Signature=0123",
            "headers": {"Content-Type": kind},
        }
        return _success({"download_url": f"{self.base_url}/_uploads/{quote(path)}", "upload": instruction})

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
        self.files.uploads.put(path, data, kind)
        return Response(status_code=200)

    async def _form(self, request: Request) -> Response:
        if (file := await form_file(request)) is None:
            return self.refusal(request, 400, "file is required")
        name, data, kind, _ = file
        url = self.keep_upload(name, data, kind)
        return _success({"type": kind.partition("/")[0], "download_url": url, "filename": name, "size": len(data)})

    async def _models(self, _: Request) -> Response:
        live = [live_models.wavespeed_entry(model, order) for order, model in enumerate(self._live.values(), start=100)]
        return JSONResponse({"code": 200, "message": "success", "data": [*listing(), *live]})

    async def _price(self, request: Request) -> Response:
        try:
            spec = await self._parse_price(request)
        except InvalidRequest as error:
            return self.refusal(request, 400, str(error))
        price = float(spec.total_usd)
        quoted = {"price": price, "discounted_price": price, "discount_rate": 0, "currency": "USD"}
        return _success({**quoted, "model_id": spec.model})

    async def _unit_price(self, request: Request) -> Response:
        try:
            spec = await self._parse_price(request)
        except InvalidRequest as error:
            return self.refusal(request, 400, str(error))
        return _success({"unit_price": float(spec.price_usd), "currency": "USD"})

    async def _parse_price(self, request: Request) -> JobSpec:
        fields = _object(parsed(await request.body()))
        name = str(fields.get("model_id", ""))
        if name not in MODELS and name not in self._live:
            raise InvalidRequest("model_id is required and must be a model")
        return self._parse(name, fields.get("inputs"))

    async def _history(self, request: Request) -> Response:
        try:
            query = _object(parsed(await request.body()))
            page, size = _number(query, "page", 1 << 30), _number(query, "page_size", 100)
            after, before = _time(query, "created_after"), _time(query, "created_before")
        except InvalidRequest as error:
            return self.refusal(request, 400, str(error))
        found = []
        for job in reversed(self.account_jobs):
            outcome = await self.outcome(job)
            item = prediction(job, outcome, self._poll_url(job), self._outputs(job, outcome))
            wanted = (("model", job.spec.model), ("status", item["status"]))
            if job.id in self._deleted or any(query.get(name) not in (None, "", value) for name, value in wanted):
                continue
            if (after and job.created_at <= after) or (before and job.created_at >= before):
                continue
            shown = self._history_shows if query.get("include_inputs") is True else ""
            found.append({**item, shown: job.spec.body} if shown else item)
        return _success({"page": page, "items": found[(page - 1) * size : page * size]})

    async def _delete(self, request: Request) -> Response:
        try:
            ids = _object(parsed(await request.body())).get("ids")
        except InvalidRequest as error:
            return self.refusal(request, 400, str(error))
        if not isinstance(ids, list):
            return self.refusal(request, 400, "ids is required")
        self._deleted.update(job.id for job in self.jobs if job.id in ids)
        return _success(None)

    async def _balance(self, _: Request) -> Response:
        return _success({"balance": float(self._balance_usd - self.charged_usd)})


def _success(data: Any) -> Response:
    return JSONResponse({"code": 200, "message": "success", "data": data})


def _object(body: Any) -> dict[str, Any]:
    return body if isinstance(body, dict) else {}


def _number(query: Mapping[str, Any], name: str, most: int) -> int:
    value = query.get(name)
    if not is_whole(value, 1, most):
        raise InvalidRequest(f"{name} is required and must be between 1 and {most}")
    return value


def _time(query: Mapping[str, Any], name: str) -> datetime | None:
    value = query.get(name)
    if not value:
        return None
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        raise InvalidRequest(f"{name} must be an ISO 8601 time") from None
