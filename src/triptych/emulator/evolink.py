"""EvoLink's API and its files host on one loopback origin: submit, tasks, batch, uploads, catalog, credits.

Source: the official MCP server (npm @evolinkai/evolink-media 1.2.1), which this module serves unmodified, the newer
one's generated parameters, and the documentation (docs/providers/evolink.md#submit). `n` is reserved at submit and
settled to what came. An Idempotency-Key seen before gives the first answer again, with the header idempotency-replayed,
and accepts nothing; for how long the real one remembers a key is not known. The list of tasks has neither requests nor
links to results.

The real files host is another one than the API's; here their paths are told apart (`/v1/…` and `/api/v1/files/…`).
Switches: `balance_usd` is what the account holds; `files_kept` is the quota of uploaded files; `keys_kept_s` is for how
long an Idempotency-Key is remembered.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from triptych.emulator.evolink_models import Malformed, catalog, credits, pricing, understood
from triptych.emulator.evolink_tasks import ODDITIES, summary, task
from triptych.emulator.stage import Emulator, Fault, Order, UnreachableImage, Work, for_every_op, for_results

UPLOAD_LIMIT_BYTES = 100 * 1024 * 1024
FILES_KEPT = timedelta(hours=72)
IMAGE_KINDS = ("image/jpeg", "image/png", "image/gif", "image/webp")
ERRORS = {
    400: ("invalid_parameters", "Invalid request parameters"),
    401: ("invalid_api_key", "Invalid or expired API key"),
    402: ("insufficient_quota", "Insufficient account balance"),
    403: ("access_denied", "Access denied"),
    404: ("resource_not_found", "Resource not found"),
    409: ("idempotency_conflict", "This Idempotency-Key was used for another request"),
    413: ("request_too_large", "Request too large"),
    429: ("rate_limit_exceeded", "Rate limit exceeded. Please retry later"),
    451: ("region_not_supported", "Not available in your region"),
    500: ("internal_error", "Internal server error"),
    502: ("upstream_error", "Upstream service unavailable"),
    503: ("service_unavailable", "Service temporarily unavailable"),
    504: ("upstream_timeout", "Upstream timed out"),
}
REFUSALS = {
    "moderated-at-once": ("content_policy_violation", "The prompt was rejected by the content policy."),
    "user-quota": ("insufficient_user_quota", "The user's quota is used up."),
    "daily-quota": ("token_daily_quota_exceeded", "The key's daily quota is used up."),
    "model-unavailable": ("model_unavailable", "This model is currently unavailable."),
}
FILE_CODES = {400: 40001, 401: 40002, 403: 40003, 413: 40004}


class Emulated(Emulator):
    """EvoLink."""

    name = "evolink"
    key_variable = "EVOLINK_API_KEY"
    faults: ClassVar[tuple[Fault, ...]] = (
        *for_every_op(("submit", "poll", "batch", "tasks", "upload", "files", "models", "balance", "result")),
        Fault("submit", "moderated-at-once", "HTTP 400: the prompt is refused, nothing is accepted", refuses=400),
        Fault("submit", "user-quota", "HTTP 402 insufficient_user_quota", refuses=402),
        Fault("submit", "daily-quota", "HTTP 402 token_daily_quota_exceeded", refuses=402),
        Fault("submit", "model-unavailable", "HTTP 403: the model cannot be used now", refuses=403),
        Fault("submit", "502", "HTTP 502: the upstream is down, in the provider's own error shape"),
        Fault("submit", "no-id", "accepted, but the answer has no id", "work"),
        Fault("submit", "odd-ids", "an id with a slash, a colon and a letter outside ASCII", "work"),
        Fault("upload", "not-kept", "HTTP 200, success false, code 50001", "work"),
        *ODDITIES,
        *for_results(),
    )

    def __init__(
        self,
        *,
        balance_usd: Decimal | str = "125.50",
        files_kept: int = 100,
        keys_kept_s: float = 24 * 3600.0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self._balance_usd = Decimal(balance_usd)
        self._files_kept = files_kept
        self._keys_kept_s = keys_kept_s
        self._files: dict[str, dict[str, Any]] = {}
        self._replies: dict[str, tuple[str, str]] = {}

    def routes(self) -> Sequence[Route]:
        def in_path(request: Request) -> str:
            return str(request.path_params["id"])

        files = "/api/v1/files"
        return (
            self.at("submit", "POST", "/v1/images/generations", self._submit),
            self.at("batch", "POST", "/v1/tasks/batch", self._batch),
            self.at("tasks", "GET", "/v1/tasks", self._tasks),
            self.at("poll", "GET", "/v1/tasks/{id:path}", self._poll, work_id=in_path),
            self.at("balance", "GET", "/v1/credits", self._credits),
            self.at("models", "GET", "/v1/catalog/models", self._models),
            self.at("models", "GET", "/v1/catalog/pricing", self._pricing),
            self.at("upload", "POST", f"{files}/upload/stream", self._upload_stream),
            self.at("upload", "POST", f"{files}/upload/base64", self._upload_base64),
            self.at("upload", "POST", f"{files}/upload/url", self._upload_url),
            self.at("files", "GET", f"{files}/list", self._list_files),
            self.at("files", "GET", f"{files}/quota", self._quota),
            self.at("files", "DELETE", f"{files}/{{id}}", self._delete_file),
        )

    def refusal(self, request: Request, status: int, message: str = "", **options: Any) -> Response:
        if request.url.path.startswith("/api/v1/files"):
            text = message or ERRORS.get(status, ERRORS[500])[1]
            return JSONResponse({"success": False, "code": FILE_CODES.get(status, 50001), "msg": text}, status)
        code, said = REFUSALS.get(str(options.get("fault")), ERRORS.get(status, ERRORS[500]))
        request_id = uuid.uuid4().hex
        headers = {"X-Request-ID": request_id}
        if options.get("retry_after") is not None:
            headers["Retry-After"] = str(options["retry_after"])
        error: dict[str, Any] = {"code": code, "message": message or said, "type": code, "request_id": request_id}
        if status == 402:
            error["action_url"] = "https://evolink.ai/dashboard/billing"
        return JSONResponse({"error": error}, status, headers)

    # Paid

    async def _submit(self, request: Request) -> Response:
        raw = await request.body()
        key, digest = request.headers.get("idempotency-key"), hashlib.sha256(raw).hexdigest()
        first = self.work(self._replies[key][1]) if key and key in self._replies else None
        if key and first is not None and self.clock() - first.submitted_at < self._keys_kept_s:
            if self._replies[key][0] != digest:
                return self.refusal(request, 409)
            return self._told_submitted(first, {"idempotency-replayed": "true"})
        try:
            order = understood(_json(raw))
        except Malformed as error:
            return self.refusal(request, 400, str(error))
        if order.total_usd > self._balance_usd - self.charged_usd:
            return self.refusal(request, 402)
        work = self._accepted(request, order)
        if key:
            self._replies[key] = (digest, work.id)
        return self._told_submitted(work, {})

    def _accepted(self, request: Request, order: Order) -> Work:
        odd = any(armed.fault.name == "odd-ids" for armed in getattr(request.state, "asked", ()))
        kind = order.model.rpartition("doubao-")[2].replace(".", "")
        task_id = f"task-unified-{int(self.clock())}-{uuid.uuid4().hex[:8]}-{kind}"
        return self.accept(request, order, work_id=None if odd else task_id)

    def _told_submitted(self, work: Work, headers: dict[str, str]) -> Response:
        data = task(work, "new", [], Decimal(0))
        if "no-id" in work.traits:
            del data["id"]
        return JSONResponse(data, headers=headers)

    async def _poll(self, request: Request) -> Response:
        work = self.work(str(request.path_params["id"]))
        if work is None:
            return self.refusal(request, 404, "task not found")
        work.polls += 1
        return JSONResponse(await self._task(work))

    async def _batch(self, request: Request) -> Response:
        try:
            asked = _json(await request.body())
        except Malformed as error:
            return self.refusal(request, 400, str(error))
        ids = asked.get("task_ids") if isinstance(asked, dict) else None
        if not isinstance(ids, list) or not 1 <= len(ids) <= 50:
            return self.refusal(request, 400, "task_ids must have 1 to 50 items")
        found = [work for work in (self.work(str(one)) for one in ids) if work is not None]
        return JSONResponse({"data": [await self._task(work) for work in found]})

    async def _tasks(self, request: Request) -> Response:
        asked = request.query_params
        try:
            page, size = max(1, int(asked.get("page") or 1)), min(50, max(1, int(asked.get("page_size") or 20)))
        except ValueError:
            return self.refusal(request, 400, "page and page_size must be integers")
        told = [summary(await self._task(work)) for work in reversed(self.listed)]
        found = [one for one in told if all(asked.get(k) in (None, "", one[k]) for k in ("status", "type", "model"))]
        items = found[(page - 1) * size : page * size]
        return JSONResponse({"data": items, "total": len(found), "page": page, "page_size": size})

    async def _task(self, work: Work) -> dict[str, Any]:
        outcome = await self.outcome(work)
        missing_n = work.traits.get("frame-missing", {}).get("n", math.inf)
        work.missing = work.order.count if "empty-outputs" in work.traits else int(missing_n <= work.expected)
        outputs: list[Any] = list(self.output_urls(work)) if outcome == "done" else []
        return task(work, outcome, outputs, work.charge_usd(self.clock()))

    # Free

    async def _credits(self, _: Request) -> Response:
        spent = self.charged_usd
        user = {"remaining_credits": credits(self._balance_usd - spent), "used_credits": credits(spent)}
        token = {"remaining_credits": 99416.4429, "unlimited_credits": False, "used_credits": credits(spent)}
        return JSONResponse({"data": {"token": token, "user": user}, "message": "", "success": True})

    async def _models(self, request: Request) -> Response:
        told = catalog(self._now().isoformat())
        wanted = request.query_params.get("capability")
        lifecycle = request.query_params.get("lifecycle")
        told["models"] = [
            model
            for model in told["models"]
            if (not wanted or wanted in model["capabilities"]) and (not lifecycle or lifecycle == model["lifecycle"])
        ]
        tag = '"2026-11-21"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        return JSONResponse(told, headers={"ETag": tag})

    async def _pricing(self, _: Request) -> Response:
        return JSONResponse(pricing())

    # The files host

    async def _upload_stream(self, request: Request) -> Response:
        async with request.form() as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                return self.refusal(request, 400, "file is required")
            data, name = await file.read(), file.filename or "file"
            kind = file.content_type or "application/octet-stream"
            folder, given = str(form.get("uploadPath") or ""), str(form.get("fileName") or "")
        return self._kept(request, data, name, kind, folder, given)

    async def _upload_base64(self, request: Request) -> Response:
        try:
            asked = _json(await request.body())
            head, _, text = str(asked.get("base64_data", "")).rpartition(",")
            data = base64.b64decode(text, validate=True)
        except (Malformed, AttributeError, binascii.Error, ValueError):
            return self.refusal(request, 400, "base64_data is required and must be base64")
        kind = head.removeprefix("data:").partition(";")[0] or "image/png"
        name = str(asked.get("file_name") or f"upload.{kind.rpartition('/')[2]}")
        return self._kept(request, data, name, kind, str(asked.get("upload_path") or ""), name)

    async def _upload_url(self, request: Request) -> Response:
        try:
            asked = _json(await request.body())
            data = self.studio.read(str(asked.get("file_url", "")))
        except (Malformed, AttributeError, UnreachableImage):
            return self.refusal(request, 400, "file_url cannot be downloaded")
        name = str(asked.get("file_name") or "download.png")
        return self._kept(request, data, name, "image/png", str(asked.get("upload_path") or ""), name)

    def _kept(self, request: Request, data: bytes, name: str, kind: str, folder: str, given: str) -> Response:
        if any(armed.fault.name == "not-kept" for armed in getattr(request.state, "asked", ())):
            return JSONResponse({"success": False, "code": 50001, "msg": "storage failed"})
        if kind not in IMAGE_KINDS:
            return self.refusal(request, 400, f"unsupported file type {kind}")
        if len(data) > UPLOAD_LIMIT_BYTES:
            return self.refusal(request, 413)
        if len(self._files) >= self._files_kept:
            return self.refusal(request, 403, "the file quota is used up")
        name = name.replace("/", "_")
        url, file_id = self.keep_upload(name, data, kind), f"file_{uuid.uuid4().hex[:12]}"
        now = self._now()
        told = {
            "file_id": file_id,
            "file_name": given or name,
            "original_name": name,
            "file_size": len(data),
            "mime_type": kind,
            "upload_path": folder or "uploads",
            "file_url": url,
            "download_url": f"{url}?download=1",
            "upload_time": now.isoformat(),
            "expires_at": (now + FILES_KEPT).isoformat(),
        }
        self._files[file_id] = told
        return _success(told)

    async def _list_files(self, request: Request) -> Response:
        files = list(self._files.values())
        return _success({"files": files, "total": len(files), "page": 1, "page_size": 20})

    async def _quota(self, _: Request) -> Response:
        used = len(self._files)
        told = {"used_files": used, "max_files": self._files_kept, "remain_files": self._files_kept - used}
        return _success({**told, "user_group": "default"})

    async def _delete_file(self, request: Request) -> Response:
        if self._files.pop(str(request.path_params["id"]), None) is None:
            return self.refusal(request, 404)
        return _success(None)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)


def _success(data: Any) -> Response:
    return JSONResponse({"success": True, "code": 200, "msg": "success", "data": data})


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        raise Malformed("request body is not valid JSON") from None
