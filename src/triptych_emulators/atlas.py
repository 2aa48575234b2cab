"""Atlas Cloud's media API on loopback: submit, poll, upload, models, quotes, history, balance.

Source: the official MCP server (npm atlascloud-mcp 1.7.0), which this module serves unmodified, the product pages and
the documentation (docs/providers/atlas.md#submit). Image jobs are charged at submit and released when they fail. An
unknown path gets a 401, as at the real one. Without a fault there is no rate limit, and no Retry-After.

Switches: `edit_field` ("images" or "image") is the disputed reference field of v5.0-lite/edit; `price` ("late",
"prompt", "never") is when polls have the charge; `balance_usd` is the balance of the account; `short_form` leaves out
the envelope of submit responses; `layer_count` is the number of images of a layer job, with its base;
`extra_models` are further models of the catalogue (see `live_models.load`), and with `static_host` the list names the
schemas on the real static host, whose paths are served here too. `unknown_keys` has the fields of all submits to live
models that their schemas do not have: they are ignored, as at the real one.
"""

from __future__ import annotations

import base64
import json
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from triptych_emulators import live_models
from triptych_emulators.atlas_models import listing, models, parse_submit, schema
from triptych_emulators.atlas_polls import ODDITIES, PollResponse, prediction, with_oddities
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
from triptych_emulators.kit.validation import parsed

UPLOAD_LIMIT_BYTES = 50 * 1024 * 1024
PRICE_DELAY_S = 1.0
"""A poll this long after the end has the charge, even if it is the first one."""

MESSAGES = {
    400: "bad request",
    401: "unauthorized",
    402: "insufficient balance",
    403: "forbidden",
    404: "not found",
    413: "request entity too large",
    429: "too many requests",
    451: "unavailable in your region",
    500: "internal server error",
    503: "service unavailable",
    504: "gateway timeout",
}
MODERATED = "The request was rejected by the content safety policy."
REQUEST_RETENTION = "x-atlascloud-request-retention-hours"
RETENTION = {"x-atlascloud-object-expiration-hours": (1, 336), REQUEST_RETENTION: (0, 336)}


class Emulated(Emulator):
    """Atlas Cloud."""

    name = "atlas"
    key_variable = "ATLASCLOUD_API_KEY"
    unknown_path_status = 401
    faults: ClassVar[tuple[FaultType, ...]] = (
        *for_every_op(("submit", "poll", "upload", "models", "calculate", "history", "balance", "result")),
        FaultType("submit", "moderated-before", "HTTP 400: the content is refused at once (inferred)", refuses=400),
        FaultType("submit", "short-form", 'the response is {"id":…} without an envelope', "job"),
        FaultType("submit", "no-id", "accepted, but the response has no id", "job"),
        FaultType("submit", "odd-ids", "an id with a slash, a colon and a letter outside ASCII", "job"),
        *(fault for fault, _ in ODDITIES),
        *for_results(),
        *CALLBACK_FAULTS,
    )

    def __init__(
        self,
        *,
        edit_field: str = "images",
        price: str = "late",
        balance_usd: Decimal | str = "125.50",
        short_form: bool = False,
        layer_count: int = 4,
        extra_models: Sequence[Mapping[str, Any]] = (),
        static_host: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self._sold = models(edit_field)
        self._live = live_models.load("atlas", "IMAGE-TO-IMAGE", extra_models, self._sold)
        self._static_host = static_host
        self.unknown_keys: set[str] = set()
        self._price = price
        self._balance_usd = Decimal(balance_usd)
        self._short_form = short_form
        self.layer_count = layer_count
        self._kept_s: dict[str, float] = {}
        """How long the requests with a retention header are kept, by job."""

    def routes(self) -> Sequence[Route]:
        return (
            self.at("submit", "POST", "/api/v1/model/generateImage", self._submit),
            self.at("poll", "GET", "/api/v1/model/prediction/{id:path}", self._poll, job_id=id_in_path),
            self.at("poll", "GET", "/api/v1/model/result/{id:path}", self._poll, job_id=id_in_path),
            self.at("upload", "POST", "/api/v1/model/uploadMedia", self._upload_media),
            self.at("calculate", "POST", "/api/v1/model/calculate", self._calculate),
            self.at("history", "GET", "/api/v1/model/history", self._history),
            self.at("models", "GET", "/api/v1/models", self._models, key_needed=False),
            Route("/_schemas/{model:path}.json", self._schema, methods=["GET"]),
            Route("/model/schema/{name}.json", self._static_schema, methods=["GET"]),
            self.at("balance", "GET", "/public/v1/balance", self._balance),
            self.at("balance", "GET", "/public/v1/model-usage", self._usage),
            self.at("balance", "GET", "/public/v1/model-costs", self._costs),
        )

    def refusal(self, request: Request, status: int, message: str = "", **options: Any) -> Response:
        usual = MODERATED if options.get("fault") == "moderated-before" else MESSAGES.get(status, "error")
        text, request_id = message or usual, uuid.uuid4().hex
        headers = {"X-Request-ID": request_id, **retry_after(options)}
        body: dict[str, Any] = {"code": status, "msg": text, "request_id": request_id, "data": None}
        if request.url.path.startswith("/public/"):
            error = {"type": "invalid_request_error", "code": text.replace(" ", "_"), "message": text, "param": None}
            body = {"error": error, "request_id": request_id}
        return JSONResponse(body, status, headers)

    # Paid

    async def _submit(self, request: Request) -> Response:
        try:
            spec, url = self._parse(await request.body())
            _check_retention(request)
        except InvalidRequest as error:
            return self.refusal(request, 400, str(error))
        if spec.total_usd > self._balance_usd - self.charged_usd:
            return self.refusal(request, 402)
        job = self.accept(request, spec)
        if hours := request.headers.get(REQUEST_RETENTION):
            self._kept_s[job.id] = int(hours) * 3600.0
        report = {"event": "image.task.terminal", "data": {"id": job.id}}
        await self.call_back(job, url, report)
        # The real response dates the job to the year 1 and has no message.
        data = {**prediction(job, "running", self._poll_url(job), []), "created_at": "0001-01-01T00:00:00Z"}
        if "no-id" in job.faults:
            data.pop("id")
        if "short-form" in job.faults or self._short_form:
            short = {name: data[name] for name in ("id", "status", "model", "created_at") if name in data}
            return JSONResponse(short)
        return JSONResponse({"code": 200, "message": "", "data": data})

    def _parse(self, raw: bytes) -> tuple[JobSpec, Any]:
        """Return the job of a submit or calculate body, and the URL to call back; raise InvalidRequest."""
        body = parsed(raw)
        url = body.pop("webhook_url", None) if isinstance(body, dict) else None
        if url is not None and not may_be_called(url):
            raise InvalidRequest("webhook_url must be an https URL")
        live = self._live.get(str(body.get("model", ""))) if isinstance(body, dict) else None
        if not live:
            return parse_submit(body, self._sold, self.layer_count), url
        self.unknown_keys |= live_models.unknown_keys(live, body)
        return live_models.parse(live, body, self.files.size_of), url

    async def _poll(self, request: Request) -> Response:
        job = self.job(str(request.path_params["id"]))
        if job is None or self._is_forgotten(job):
            return self.refusal(request, 404, "prediction not found")
        outcome = await self.outcome(job)
        job.polls += 1
        job.polls_after_end += outcome != "running"
        job.missing = job.spec.count if "empty-outputs" in job.faults else 0
        data = prediction(job, outcome, self._poll_url(job), self._outputs(job, outcome))
        if outcome == "done" and self._shows_price(job):
            data["price"] = str(job.charge_usd(self.clock()))
        shown = with_oddities(PollResponse(job, data))
        if not shown.data:
            return self.refusal(request, shown.status)
        return JSONResponse({"code": shown.status, "message": shown.message, "data": shown.data}, shown.status)

    def _is_forgotten(self, job: EmulatedJob) -> bool:
        return self.clock() - job.submitted_at > self._kept_s.get(job.id, math.inf)

    def _poll_url(self, job: EmulatedJob) -> str:
        host = job.option("other-host-url", "host", self.base_url)
        return f"{host}/api/v1/model/prediction/{quote(job.id, safe='')}"

    def _outputs(self, job: EmulatedJob, outcome: str) -> list[str]:
        if outcome != "done":
            return []
        if not job.spec.body.get("enable_base64_output") or not self._has_base64(job):
            return self.output_urls(job)
        pictures = job.pictures.result()[: job.expected]
        return [f"data:{job.spec.mime_type};base64,{base64.b64encode(data).decode()}" for data in pictures]

    def _has_base64(self, job: EmulatedJob) -> bool:
        return job.spec.model in self._live or self._sold[job.spec.model].base64_output

    def _shows_price(self, job: EmulatedJob) -> bool:
        if "price-late" in job.faults or self._price == "prompt":
            return True
        late = job.polls_after_end > 1 or self.clock() >= job.finish_at + PRICE_DELAY_S
        return self._price == "late" and late

    # Free

    async def _upload_media(self, request: Request) -> Response:
        if len(await request.body()) > UPLOAD_LIMIT_BYTES:
            return self.refusal(request, 413)
        if (file := await form_file(request)) is None:
            return self.refusal(request, 400, "file is required")
        name, data, kind, _ = file
        url = self.keep_upload(name, data, kind)
        stored = {"type": kind.partition("/")[0], "download_url": url, "filename": name, "size": len(data)}
        return JSONResponse({"code": 200, "message": "success", "data": stored})

    async def _calculate(self, request: Request) -> Response:
        try:
            spec, _ = self._parse(await request.body())
        except InvalidRequest as error:
            return self.refusal(request, 400, str(error))
        price = str(spec.total_usd)
        quote_ = {"price": price, "origin_price": price, "discount": "100", "estimated": True, "currency": "USD"}
        return JSONResponse({"code": 200, "message": "success", "data": quote_})

    async def _history(self, request: Request) -> Response:
        query = request.query_params
        try:
            page, size = max(1, int(query.get("no") or 1)), min(100, max(1, int(query.get("size") or 10)))
        except ValueError:
            return self.refusal(request, 400, "no and size must be integers")
        found = []
        for job in reversed(self.account_jobs):
            outcome = await self.outcome(job)
            shown = prediction(job, outcome, self._poll_url(job), self._outputs(job, outcome))
            wanted = (("model", job.spec.model), ("status", shown["status"]), ("sessionID", job.id))
            if self._is_forgotten(job) or any(query.get(name) not in (None, "", value) for name, value in wanted):
                continue
            found.append(
                {
                    "ID": job.id,
                    "createdAt": int(job.created_at.timestamp()),
                    "model": job.spec.model,
                    "requestBody": json.dumps(job.spec.body, ensure_ascii=False),
                    "result": shown,
                    "status": shown["status"],
                }
            )
        items = found[(page - 1) * size : page * size]
        data = {"items": items, "pageNo": page, "pageSize": size, "total": len(found)}
        return JSONResponse({"code": 200, "message": "success", "data": data})

    async def _models(self, _: Request) -> Response:
        live = [live_models.atlas_entry(model, self._schema_url(model.id)) for model in self._live.values()]
        return JSONResponse({"code": "200", "data": [*listing(self._sold, self.base_url), *live]})

    def _schema_url(self, model: str) -> str:
        name = model.replace("/", "-")
        static = f"https://static.atlascloud.ai/model/schema/{name}.json"
        return static if self._static_host else f"{self.base_url}/_schemas/{model}.json"

    async def _schema(self, request: Request) -> Response:
        return self._document(str(request.path_params["model"]))

    async def _static_schema(self, request: Request) -> Response:
        name = request.path_params["name"]
        return self._document(next((model for model in self._live if model.replace("/", "-") == name), ""))

    def _document(self, name: str) -> Response:
        if live := self._live.get(name):
            return JSONResponse(live_models.atlas_document(live))
        model = self._sold.get(name)
        return JSONResponse(schema(model)) if model else Response(status_code=404)

    async def _balance(self, _: Request) -> Response:
        left = self._balance_usd - self.charged_usd
        none = _money(Decimal(0))
        account = {"id": "acc_1", "name": "Emulated", "type": "personal"}
        balance = {"object": "balance", "scope": "account", "account": account, "available": _money(left)}
        balance |= {"cash": _money(left), "bonus": none, "frozen": none, "request_id": uuid.uuid4().hex}
        return JSONResponse(balance)

    async def _usage(self, request: Request) -> Response:
        def usage(jobs: list[EmulatedJob]) -> dict[str, Any]:
            return {"requests": len(jobs), "images": sum(job.expected for job in jobs)}

        return self._by_day(request, usage)

    async def _costs(self, request: Request) -> Response:
        now = self.clock()

        def costs(jobs: list[EmulatedJob]) -> dict[str, Any]:
            return {"amount": _money(sum((job.charge_usd(now) for job in jobs), Decimal(0)))}

        return self._by_day(request, costs)

    def _by_day(self, request: Request, summed: Callable[[list[EmulatedJob]], dict[str, Any]]) -> Response:
        try:
            first = date.fromisoformat(request.query_params["start_date"])
            last = date.fromisoformat(request.query_params["end_date"])
        except (KeyError, ValueError):
            return self.refusal(request, 400, "start_date and end_date must be dates")
        if not 0 < (last - first).days <= 180:
            return self.refusal(request, 400, "the range must cover 1 to 180 days")
        by_model = "model" in request.query_params.getlist("group_by[]")
        days = []
        for offset in range((last - first).days):
            day = first + timedelta(days=offset)
            jobs = [job for job in self.jobs if job.created_at.date() == day]
            results = [summed(jobs)]
            if by_model:
                models = sorted({job.spec.model for job in jobs})
                results = [{"model": m, **summed([job for job in jobs if job.spec.model == m])} for m in models]
            partial = day == datetime.fromtimestamp(self.clock(), UTC).date()
            days.append({"object": "bucket", "date": day.isoformat(), "partial": partial, "results": results})
        return JSONResponse({"object": "list", "scope": "self", "data": days, "has_more": False, "next_page": None})


def _money(amount: Decimal) -> dict[str, str]:
    return {"value": f"{amount:.6f}", "currency": "usd"}


def _check_retention(request: Request) -> None:
    for name, (low, high) in RETENTION.items():
        value = request.headers.get(name)
        if value is not None and not (value.isdecimal() and low <= int(value) <= high):
            raise InvalidRequest(f"{name} must be between {low} and {high}")
