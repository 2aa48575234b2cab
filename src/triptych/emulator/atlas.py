"""Atlas Cloud's media API on loopback: submit, poll, upload, models, quotes, history, balance.

Source: the official MCP server (npm atlascloud-mcp 1.7.0), which this module serves unmodified, the product pages and
the documentation (docs/providers/atlas.md#submit). Image jobs are charged at submit and released when they fail. An
unknown path answers 401, as the real one does. Nothing limits the rate unless a fault says so, and Retry-After is never
sent unasked.

Switches: `edit_field` ("images" or "image") is the disputed reference field of v5.0-lite/edit; `price` ("late",
"prompt", "never") is when polls tell the charge; `balance_usd` is what the account holds; `short_form` leaves out the
envelope of submit answers.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import quote

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from triptych.emulator.atlas_models import Malformed, listing, offers, schema, understood
from triptych.emulator.atlas_polls import ODDITIES, Answer, oddly, prediction
from triptych.emulator.stage import Emulator, Fault, Work, for_every_op, for_results

UPLOAD_LIMIT_BYTES = 50 * 1024 * 1024
PRICE_DELAY_S = 1.0
"""A poll this long after the end tells the charge, even if it is the first one."""

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
RETENTION = {"x-atlascloud-object-expiration-hours": (1, 336), "x-atlascloud-request-retention-hours": (0, 336)}


class Emulated(Emulator):
    """Atlas Cloud."""

    name = "atlas"
    key_variable = "ATLASCLOUD_API_KEY"
    unknown_path_status = 401
    faults: ClassVar[tuple[Fault, ...]] = (
        *for_every_op(("submit", "poll", "upload", "models", "calculate", "history", "balance", "result")),
        Fault("submit", "moderated-before", "HTTP 400: the content is refused at once (inferred)", refuses=400),
        Fault("submit", "short-form", 'the answer is {"id":…} without an envelope', "work"),
        Fault("submit", "no-id", "accepted, but the answer has no id", "work"),
        Fault("submit", "odd-ids", "an id with a slash, a colon and a letter outside ASCII", "work"),
        *(fault for fault, _ in ODDITIES),
        *for_results(),
    )

    def __init__(
        self,
        *,
        edit_field: str = "images",
        price: str = "late",
        balance_usd: Decimal | str = "125.50",
        short_form: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self._sold = offers(edit_field)
        self._price = price
        self._balance_usd = Decimal(balance_usd)
        self._short_form = short_form

    def routes(self) -> Sequence[Route]:
        def in_path(request: Request) -> str:
            return str(request.path_params["id"])

        return (
            self.at("submit", "POST", "/api/v1/model/generateImage", self._submit),
            self.at("poll", "GET", "/api/v1/model/prediction/{id:path}", self._poll, work_id=in_path),
            self.at("poll", "GET", "/api/v1/model/result/{id:path}", self._poll, work_id=in_path),
            self.at("upload", "POST", "/api/v1/model/uploadMedia", self._upload_media),
            self.at("calculate", "POST", "/api/v1/model/calculate", self._calculate),
            self.at("history", "GET", "/api/v1/model/history", self._history),
            self.at("models", "GET", "/api/v1/models", self._models, key_needed=False),
            Route("/_schemas/{model:path}.json", self._schema, methods=["GET"]),
            self.at("balance", "GET", "/public/v1/balance", self._balance),
            self.at("balance", "GET", "/public/v1/model-usage", self._usage),
            self.at("balance", "GET", "/public/v1/model-costs", self._costs),
        )

    def refusal(self, request: Request, status: int, message: str = "", **options: Any) -> Response:
        usual = MODERATED if options.get("fault") == "moderated-before" else MESSAGES.get(status, "error")
        said, request_id = message or usual, uuid.uuid4().hex
        headers = {"X-Request-ID": request_id}
        if options.get("retry_after") is not None:
            headers["Retry-After"] = str(options["retry_after"])
        body: dict[str, Any] = {"code": status, "msg": said, "request_id": request_id, "data": None}
        if request.url.path.startswith("/public/"):
            error = {"type": "invalid_request_error", "code": said.replace(" ", "_"), "message": said, "param": None}
            body = {"error": error, "request_id": request_id}
        return JSONResponse(body, status, headers)

    # Paid

    async def _submit(self, request: Request) -> Response:
        try:
            order = understood(await _json(request), self._sold)
            _check_retention(request)
        except Malformed as error:
            return self.refusal(request, 400, str(error))
        if order.total_usd > self._balance_usd - self.charged_usd:
            return self.refusal(request, 402)
        work = self.accept(request, order)
        # The real answer dates the job to the year 1 and has no message.
        data = {**prediction(work, "running", self._poll_url(work), []), "created_at": "0001-01-01T00:00:00Z"}
        if "no-id" in work.traits:
            data.pop("id")
        if "short-form" in work.traits or self._short_form:
            short = {name: data[name] for name in ("id", "status", "model", "created_at") if name in data}
            return JSONResponse(short)
        return JSONResponse({"code": 200, "message": "", "data": data})

    async def _poll(self, request: Request) -> Response:
        work = self.work(str(request.path_params["id"]))
        if work is None:
            return self.refusal(request, 404, "prediction not found")
        outcome = await self.outcome(work)
        work.polls += 1
        work.polls_after_end += outcome != "running"
        work.missing = work.order.count if "empty-outputs" in work.traits else 0
        data = prediction(work, outcome, self._poll_url(work), self._outputs(work, outcome))
        if outcome == "done" and self._tells_price(work):
            data["price"] = str(work.charge_usd(self.clock()))
        answer = oddly(Answer(work, data))
        if not answer.data:
            return self.refusal(request, answer.status)
        return JSONResponse({"code": answer.status, "message": answer.message, "data": answer.data}, answer.status)

    def _poll_url(self, work: Work) -> str:
        host = work.traits.get("other-host-url", {}).get("host", self.base_url)
        return f"{host}/api/v1/model/prediction/{quote(work.id, safe='')}"

    def _outputs(self, work: Work, outcome: str) -> list[str]:
        if outcome != "done":
            return []
        if not work.order.body.get("enable_base64_output") or not self._sold[work.order.model].base64_output:
            return self.output_urls(work)
        pictures = work.pictures.result()[: work.expected]
        return [f"data:{work.order.mime_type};base64,{base64.b64encode(data).decode()}" for data in pictures]

    def _tells_price(self, work: Work) -> bool:
        if "price-late" in work.traits or self._price == "prompt":
            return True
        late = work.polls_after_end > 1 or self.clock() >= work.finish_at + PRICE_DELAY_S
        return self._price == "late" and late

    # Free

    async def _upload_media(self, request: Request) -> Response:
        if len(await request.body()) > UPLOAD_LIMIT_BYTES:
            return self.refusal(request, 413)
        async with request.form() as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                return self.refusal(request, 400, "file is required")
            data, name = await file.read(), (file.filename or "file").replace("/", "_")
            kind = file.content_type or "application/octet-stream"
        url = self.keep_upload(name, data, kind)
        told = {"type": kind.partition("/")[0], "download_url": url, "filename": name, "size": len(data)}
        return JSONResponse({"code": 200, "message": "success", "data": told})

    async def _calculate(self, request: Request) -> Response:
        try:
            order = understood(await _json(request), self._sold)
        except Malformed as error:
            return self.refusal(request, 400, str(error))
        price = str(order.total_usd)
        quote_ = {"price": price, "origin_price": price, "discount": "100", "estimated": True, "currency": "USD"}
        return JSONResponse({"code": 200, "message": "success", "data": quote_})

    async def _history(self, request: Request) -> Response:
        asked = request.query_params
        try:
            page, size = max(1, int(asked.get("no") or 1)), min(100, max(1, int(asked.get("size") or 10)))
        except ValueError:
            return self.refusal(request, 400, "no and size must be integers")
        found = []
        for work in reversed(self.listed):
            outcome = await self.outcome(work)
            told = prediction(work, outcome, self._poll_url(work), self._outputs(work, outcome))
            wanted = (("model", work.order.model), ("status", told["status"]), ("sessionID", work.id))
            if any(asked.get(name) not in (None, "", value) for name, value in wanted):
                continue
            found.append(
                {
                    "ID": work.id,
                    "createdAt": int(work.created_at.timestamp()),
                    "model": work.order.model,
                    "requestBody": json.dumps(work.order.body, ensure_ascii=False),
                    "result": told,
                    "status": told["status"],
                }
            )
        items = found[(page - 1) * size : page * size]
        data = {"items": items, "pageNo": page, "pageSize": size, "total": len(found)}
        return JSONResponse({"code": 200, "message": "success", "data": data})

    async def _models(self, _: Request) -> Response:
        return JSONResponse({"code": "200", "data": listing(self._sold, self.base_url)})

    async def _schema(self, request: Request) -> Response:
        offer = self._sold.get(str(request.path_params["model"]))
        return JSONResponse(schema(offer)) if offer else Response(status_code=404)

    async def _balance(self, _: Request) -> Response:
        left = self._balance_usd - self.charged_usd
        none = _money(Decimal(0))
        account = {"id": "acc_1", "name": "Emulated", "type": "personal"}
        told = {"object": "balance", "scope": "account", "account": account, "available": _money(left)}
        told |= {"cash": _money(left), "bonus": none, "frozen": none, "request_id": uuid.uuid4().hex}
        return JSONResponse(told)

    async def _usage(self, request: Request) -> Response:
        def usage(works: list[Work]) -> dict[str, Any]:
            return {"requests": len(works), "images": sum(work.expected for work in works)}

        return self._by_day(request, usage)

    async def _costs(self, request: Request) -> Response:
        now = self.clock()

        def costs(works: list[Work]) -> dict[str, Any]:
            return {"amount": _money(sum((work.charge_usd(now) for work in works), Decimal(0)))}

        return self._by_day(request, costs)

    def _by_day(self, request: Request, summed: Callable[[list[Work]], dict[str, Any]]) -> Response:
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
            works = [work for work in self.works if work.created_at.date() == day]
            results = [summed(works)]
            if by_model:
                models = sorted({work.order.model for work in works})
                results = [{"model": m, **summed([work for work in works if work.order.model == m])} for m in models]
            partial = day == datetime.fromtimestamp(self.clock(), UTC).date()
            days.append({"object": "bucket", "date": day.isoformat(), "partial": partial, "results": results})
        told = {"object": "list", "scope": "self", "data": days, "has_more": False, "next_page": None}
        return JSONResponse(told)


def _money(amount: Decimal) -> dict[str, str]:
    return {"value": f"{amount:.6f}", "currency": "usd"}


async def _json(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except ValueError:
        raise Malformed("request body is not valid JSON") from None


def _check_retention(request: Request) -> None:
    for name, (low, high) in RETENTION.items():
        value = request.headers.get(name)
        if value is not None and not (value.isdecimal() and low <= int(value) <= high):
            raise Malformed(f"{name} must be between {low} and {high}")
