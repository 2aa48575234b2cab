"""EvoLink's API and its files host on one loopback origin: submit, tasks, batch, uploads, catalog, credits.

Source: the official MCP server (npm @evolinkai/evolink-media 1.2.1), which this module serves unmodified, the newer
one's generated parameters, and the documentation (docs/providers/evolink.md#submit). `n` is reserved at submit and
settled to the images that were made. A known Idempotency-Key gets the first response again, with the header
idempotency-replayed, and accepts nothing; how long the real one remembers a key is not known. The list of tasks has
neither requests nor links to results.

The real files host is another one than the API's; here their paths differ (`/v1/…` and `/api/v1/files/…`).
Switches: `balance_usd` is the balance of the account; `files_kept` is the quota of uploaded files; `keys_kept_s` is the
time for which an Idempotency-Key is remembered; `layers_made` is the number of images of a layer decomposition.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from triptych_emulators.evolink_models import catalog, credits, parse_submit, pricing
from triptych_emulators.evolink_tasks import ODDITIES, summary, task
from triptych_emulators.kit import (
    CALLBACK_FAULTS,
    EmulatedJob,
    Emulator,
    FaultType,
    InvalidRequest,
    JobSpec,
    UnreachableImage,
    for_every_op,
    for_results,
    form_file,
    id_in_path,
    may_be_called,
    retry_after,
)
from triptych_emulators.kit.validation import parsed

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
    faults: ClassVar[tuple[FaultType, ...]] = (
        *for_every_op(("submit", "poll", "batch", "tasks", "upload", "files", "models", "balance", "result")),
        FaultType("submit", "moderated-at-once", "HTTP 400: the prompt is refused, nothing is accepted", refuses=400),
        FaultType("submit", "user-quota", "HTTP 402 insufficient_user_quota", refuses=402),
        FaultType("submit", "daily-quota", "HTTP 402 token_daily_quota_exceeded", refuses=402),
        FaultType("submit", "model-unavailable", "HTTP 403: the model cannot be used now", refuses=403),
        FaultType("submit", "502", "HTTP 502: the upstream is down, in the provider's own error shape"),
        FaultType("submit", "no-id", "accepted, but the response has no id", "job"),
        FaultType("submit", "odd-ids", "an id with a slash, a colon and a letter outside ASCII", "job"),
        FaultType("upload", "not-kept", "HTTP 200, success false, code 50001", "job"),
        *ODDITIES,
        *for_results(),
        *CALLBACK_FAULTS,
    )

    def __init__(
        self,
        *,
        balance_usd: Decimal | str = "125.50",
        files_kept: int = 100,
        keys_kept_s: float = 24 * 3600.0,
        layers_made: int = 4,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self._balance_usd = Decimal(balance_usd)
        self._files_kept = files_kept
        self._keys_kept_s = keys_kept_s
        self._layers_made = layers_made
        self._files: dict[str, dict[str, Any]] = {}
        self._replies: dict[str, tuple[str, str]] = {}

    def routes(self) -> Sequence[Route]:
        files = "/api/v1/files"
        return (
            self.at("submit", "POST", "/v1/images/generations", self._submit),
            self.at("batch", "POST", "/v1/tasks/batch", self._batch),
            self.at("tasks", "GET", "/v1/tasks", self._tasks),
            self.at("poll", "GET", "/v1/tasks/{id:path}", self._poll, job_id=id_in_path),
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
        code, usual = REFUSALS.get(str(options.get("fault")), ERRORS.get(status, ERRORS[500]))
        request_id = uuid.uuid4().hex
        headers = {"X-Request-ID": request_id, **retry_after(options)}
        error: dict[str, Any] = {"code": code, "message": message or usual, "type": code, "request_id": request_id}
        if status == 402:
            error["action_url"] = "https://evolink.ai/dashboard/billing"
        return JSONResponse({"error": error}, status, headers)

    # Paid

    async def _submit(self, request: Request) -> Response:
        raw = await request.body()
        key, digest = request.headers.get("idempotency-key"), hashlib.sha256(raw).hexdigest()
        first = self.job(self._replies[key][1]) if key and key in self._replies else None
        if key and first is not None and self.clock() - first.submitted_at < self._keys_kept_s:
            if self._replies[key][0] != digest:
                return self.refusal(request, 409)
            return self._submitted(first, {"idempotency-replayed": "true"})
        try:
            body = parsed(raw)
            spec = parse_submit(body, self._layers_made)
            if "callback_url" in body and not may_be_called(body["callback_url"]):
                raise InvalidRequest("callback_url must be an https URL")
        except InvalidRequest as error:
            return self.refusal(request, 400, str(error))
        if spec.total_usd > self._balance_usd - self.charged_usd:
            return self.refusal(request, 402)
        job = self._accepted(request, spec)
        if key:
            self._replies[key] = (digest, job.id)
        await self.call_back(job, body.get("callback_url"), {"id": job.id, "model": spec.model})
        return self._submitted(job, {})

    def _accepted(self, request: Request, spec: JobSpec) -> EmulatedJob:
        odd = self.has_fault(request, "odd-ids")
        kind = spec.model.rpartition("doubao-")[2].replace(".", "")
        task_id = f"task-unified-{int(self.clock())}-{uuid.uuid4().hex[:8]}-{kind}"
        return self.accept(request, spec, job_id=None if odd else task_id)

    def _submitted(self, job: EmulatedJob, headers: dict[str, str]) -> Response:
        data = task(job, "new", [], Decimal(0))
        if "no-id" in job.faults:
            del data["id"]
        return JSONResponse(data, headers=headers)

    async def _poll(self, request: Request) -> Response:
        job = self.job(str(request.path_params["id"]))
        if job is None:
            return self.refusal(request, 404, "task not found")
        job.polls += 1
        return JSONResponse(await self._task(job))

    async def _batch(self, request: Request) -> Response:
        try:
            body = parsed(await request.body())
        except InvalidRequest as error:
            return self.refusal(request, 400, str(error))
        ids = body.get("task_ids") if isinstance(body, dict) else None
        if not isinstance(ids, list) or not 1 <= len(ids) <= 50:
            return self.refusal(request, 400, "task_ids must have 1 to 50 items")
        found = [job for job in (self.job(str(one)) for one in ids) if job is not None]
        return JSONResponse({"data": [await self._task(job) for job in found]})

    async def _tasks(self, request: Request) -> Response:
        query = request.query_params
        try:
            page, size = max(1, int(query.get("page") or 1)), min(50, max(1, int(query.get("page_size") or 20)))
        except ValueError:
            return self.refusal(request, 400, "page and page_size must be integers")
        tasks = [summary(await self._task(job)) for job in reversed(self.account_jobs)]
        found = [one for one in tasks if all(query.get(k) in (None, "", one[k]) for k in ("status", "type", "model"))]
        items = found[(page - 1) * size : page * size]
        return JSONResponse({"data": items, "total": len(found), "page": page, "page_size": size})

    async def _task(self, job: EmulatedJob) -> dict[str, Any]:
        outcome = await self.outcome(job)
        job.count_missing()
        outputs: list[Any] = list(self.output_urls(job)) if outcome == "done" else []
        return task(job, outcome, outputs, job.charge_usd(self.clock()))

    # Free

    async def _credits(self, _: Request) -> Response:
        spent = self.charged_usd
        user = {"remaining_credits": credits(self._balance_usd - spent), "used_credits": credits(spent)}
        token = {"remaining_credits": 99416.4429, "unlimited_credits": False, "used_credits": credits(spent)}
        return JSONResponse({"data": {"token": token, "user": user}, "message": "", "success": True})

    async def _models(self, request: Request) -> Response:
        listed = catalog(self._now().isoformat())
        wanted = request.query_params.get("capability")
        lifecycle = request.query_params.get("lifecycle")
        listed["models"] = [
            model
            for model in listed["models"]
            if (not wanted or wanted in model["capabilities"]) and (not lifecycle or lifecycle == model["lifecycle"])
        ]
        tag = '"2026-11-21"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        return JSONResponse(listed, headers={"ETag": tag})

    async def _pricing(self, _: Request) -> Response:
        return JSONResponse(pricing())

    # The files host

    async def _upload_stream(self, request: Request) -> Response:
        if (file := await form_file(request)) is None:
            return self.refusal(request, 400, "file is required")
        name, data, kind, form = file
        return self._kept(request, data, name, kind, str(form.get("uploadPath") or ""), str(form.get("fileName") or ""))

    async def _upload_base64(self, request: Request) -> Response:
        try:
            fields = parsed(await request.body())
            head, _, text = str(fields.get("base64_data", "")).rpartition(",")
            data = base64.b64decode(text, validate=True)
        except (InvalidRequest, AttributeError, binascii.Error, ValueError):
            return self.refusal(request, 400, "base64_data is required and must be base64")
        kind = head.removeprefix("data:").partition(";")[0] or "image/png"
        name = str(fields.get("file_name") or f"upload.{kind.rpartition('/')[2]}")
        return self._kept(request, data, name, kind, str(fields.get("upload_path") or ""), name)

    async def _upload_url(self, request: Request) -> Response:
        try:
            fields = parsed(await request.body())
            data = self.files.read(str(fields.get("file_url", "")))
        except (InvalidRequest, AttributeError, UnreachableImage):
            return self.refusal(request, 400, "file_url cannot be downloaded")
        name = str(fields.get("file_name") or "download.png")
        return self._kept(request, data, name, "image/png", str(fields.get("upload_path") or ""), name)

    def _kept(self, request: Request, data: bytes, name: str, kind: str, folder: str, given: str) -> Response:
        if self.has_fault(request, "not-kept"):
            return JSONResponse({"success": False, "code": 50001, "msg": "storage failed"})
        if kind not in IMAGE_KINDS:
            return self.refusal(request, 400, f"unsupported file type {kind}")
        if len(data) > UPLOAD_LIMIT_BYTES:
            return self.refusal(request, 413)
        if len(self._files) >= self._files_kept:
            return self.refusal(request, 403, "the file quota is used up")
        name, file_id = name.replace("/", "_"), f"file_{uuid.uuid4().hex[:12]}"
        unique = given or f"{file_id.removeprefix('file_')}-{name}"
        url = self.keep_upload(unique, data, kind)
        now = self._now()
        stored = {
            "file_id": file_id,
            "file_name": unique,
            "original_name": name,
            "file_size": len(data),
            "mime_type": kind,
            "upload_path": folder or "uploads",
            "file_url": url,
            "download_url": f"{url}?download=1",
            "upload_time": now.isoformat(),
            "expires_at": (now + FILES_KEPT).isoformat(),
        }
        self._files[file_id] = stored
        return _success(stored)

    async def _list_files(self, request: Request) -> Response:
        query = request.query_params
        try:
            number, size = max(1, int(query.get("page") or 1)), min(100, max(1, int(query.get("pageSize") or 20)))
        except ValueError:
            return self.refusal(request, 400, "page and pageSize must be integers")
        shown = ("file_id", "file_name", "file_size", "upload_time")
        files = [{name: file[name] for name in shown} for file in reversed(self._files.values())]
        page = files[(number - 1) * size : number * size]
        return _success({"files": page, "total": len(files), "page": number, "page_size": size})

    async def _quota(self, _: Request) -> Response:
        used = len(self._files)
        quota = {"used_files": used, "max_files": self._files_kept, "remain_files": self._files_kept - used}
        return _success({**quota, "user_group": "default"})

    async def _delete_file(self, request: Request) -> Response:
        file = self._files.pop(str(request.path_params["id"]), None)
        if file is None:
            return self.refusal(request, 404)
        self.files.uploads.drop(unquote(urlsplit(file["file_url"]).path).removeprefix("/_uploads/"))
        return _success(None)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)


def _success(data: Any) -> Response:
    return JSONResponse({"success": True, "code": 200, "msg": "success", "data": data})
