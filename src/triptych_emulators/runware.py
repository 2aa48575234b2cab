"""Runware's REST API on loopback: arrays of tasks, all POSTed to one address.

Source: the official client (PyPI runware-sdk 1.8.0), which this module serves unmodified, and the documentation
(docs/providers/runware.md#submit). A task's id is the client's; the same id twice is `conflictTaskUUID`, so a
repeated submit is charged once. Only made images are charged. The refusal of an unknown task and the shape of the
balance are inferred. Tasks are served at the root and at /v1. Result files outlive their `ttl` here, and an
`uploadEndpoint` gets nothing.

Switches: `unknown_task` ("errors" or "empty") is the response of getResponse for an unknown task; `balance_usd` is the
balance of the account.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from triptych_emulators.kit import (
    CALLBACK_FAULTS,
    EmulatedJob,
    Emulator,
    FaultType,
    JobFailure,
    for_every_op,
    for_jobs,
    for_results,
    may_be_called,
    retry_after,
)
from triptych_emulators.kit.validation import parsed_or_none
from triptych_emulators.runware_models import MODELS, ParsedTask, Refused, id_of, parse_submit

OPERATIONS: Mapping[str, str] = {
    "imageInference": "submit",
    "getResponse": "poll",
    "getTaskDetails": "details",
    "imageUpload": "upload",
    "mediaStorage": "upload",
    "modelSearch": "models",
    "accountManagement": "account",
}
USUAL: Mapping[int, tuple[str, str]] = {
    400: ("validationFailed", "The request is not valid."),
    401: ("invalidApiKey", "Invalid API key. Get one at https://my.runware.ai/signup"),
    402: ("insufficientCredits", "Insufficient credits. Add funds to your account to continue."),
    403: ("insufficientPermissions", "Your API key does not have permission for this operation."),
    404: ("taskFailedOrNotFound", "The task failed or was not found."),
    413: ("payloadTooLarge", "The request body is too large."),
    429: ("rateLimitExceeded", "Too many requests. Try again later."),
    451: ("regionNotSupported", "Not available in your region."),
    500: ("internalServerError", "An internal server error occurred."),
    503: ("noAvailableServer", "No server is available for this task at the moment."),
    504: ("timeoutProvider", "The external provider did not respond within the timeout window."),
}
CODES: Mapping[str, tuple[str, str]] = {
    "moderated-before": ("contentPolicyViolation", "The prompt was blocked by the content policy."),
    "no-funds": ("insufficientCredits", "Insufficient credits. Add funds to your account to continue."),
    "unknown-model": ("invalidModel", "Invalid value for 'model': the model was not found."),
    "model-unavailable": ("modelUnavailable", "The model is not available at the moment."),
}
_MODERATED = ("invalidProviderContent", "The provider's content filter rejected the request.")
_FAILED = ("providerError", "The provider could not generate the image.")
_FRAME = ("providerContentPolicyViolation", "The provider's content filter rejected this image.")

_DECIDED = "(decided)"
"""Marks an error of the image, not of the request."""

ENDS: Mapping[str, tuple[str, str]] = {"failed": _FAILED, "failed-errors": _FAILED, "moderated": _MODERATED}
"""The code and message of a task that fails as a whole."""


def _failing(name: str, about: str) -> FaultType:
    return for_jobs(name, about, JobFailure(ENDS[name][1]))


class Emulated(Emulator):
    """Runware."""

    name = "runware"
    key_variable = "RUNWARE_API_KEY"
    faults: ClassVar[tuple[FaultType, ...]] = (
        *for_every_op(("submit", "poll", "details", "upload", "models", "account", "result")),
        FaultType("submit", "moderated-before", "HTTP 400: the prompt is blocked before acceptance", refuses=400),
        FaultType("submit", "no-funds", "HTTP 200 whose only content is an error about credits", refuses=200),
        FaultType("submit", "unknown-model", "HTTP 400: the model is not known", refuses=400),
        FaultType("submit", "model-unavailable", "HTTP 503: the model is not available", refuses=503),
        FaultType("submit", "at-once", "the response waits for the images, although the request wants async", "job"),
        FaultType("submit", "no-id", "accepted, but the acknowledgement does not name the task", "job"),
        _failing("failed", "the task fails: an item with status error"),
        _failing("failed-errors", "the task fails: HTTP 400 with errors beside an empty list"),
        _failing("moderated", "the task fails for its content: an item with status error"),
        for_jobs("frame-failed", "image n fails: an item with status error among the others", n=2),
        for_jobs("frame-failed-errors", "image n fails: an entry of errors beside the others", n=2),
        for_jobs("all-failed", "every image fails, each with its own error"),
        for_jobs("empty-outputs", "success without any image"),
        for_jobs("fewer", "n images fewer than requested, charged accordingly", n=1),
        for_jobs("unknown-status", "an undocumented status for n polls", n=2, status="warming"),
        for_jobs("not-found-at-first", "the task is not known for the first n polls", n=2),
        for_jobs("empty-at-first", "an empty list for the first n polls", n=2),
        for_jobs("trickle", "one image more with each poll, and an item that is processing until the last"),
        for_jobs("trickle-bare", "one image more with each poll, and nothing about the others"),
        for_jobs("one-by-one", "one image more every `seconds`, and nothing about the others", seconds=12.0),
        for_jobs("one-late", "the last image comes `seconds` after the others, without notice", seconds=100.0),
        for_jobs("forgotten", "once finished, only getTaskDetails still knows the task"),
        for_jobs("no-cost", "items without their cost"),
        for_jobs("flagged", "the check of the content, if requested, flags image n", n=1),
        *for_results(),
        *CALLBACK_FAULTS,
    )

    def __init__(self, *, unknown_task: str = "errors", balance_usd: Decimal | str = "125.50", **common: Any) -> None:
        super().__init__(**common)
        self._unknown_task = unknown_task
        self._balance_usd = Decimal(balance_usd)
        self._tasks_by_id: dict[str, ParsedTask] = {}
        self._media: dict[str, str] = {}

    def routes(self) -> Sequence[Route]:
        return tuple(Route(path, self._tasks, methods=["POST"]) for path in ("/", "/v1", "/v1/"))

    def refusal(self, request: Request, status: int, message: str = "", **options: Any) -> Response:
        code, usual = CODES.get(str(options.get("fault"))) or USUAL.get(status, USUAL[500])
        error = {"code": options.get("code") or code, "message": message or usual}
        if options.get("parameter"):
            error["parameter"] = options["parameter"]
        task: dict[str, Any] = next(iter(getattr(request.state, "tasks", ())), {})
        error["taskType"] = str(task.get("taskType", ""))
        if code == "invalidApiKey":
            error |= {"parameter": "apiKey", "taskType": "authentication"}
        if isinstance(task.get("taskUUID"), str):
            error["taskUUID"] = task["taskUUID"]
        error["documentation"] = "https://runware.ai/docs/platform/errors"
        return JSONResponse({"errors": [error]}, status, retry_after(options))

    # Every request

    async def _tasks(self, request: Request) -> Response:
        tasks, session = _tasks_of(await request.body()), []
        if tasks and tasks[0].get("taskType") == "authentication":
            session = [{"taskType": "authentication", "connectionSessionUUID": str(uuid.uuid4())}]
            request.state.tasks, given = tasks[1:], tasks[0].get("apiKey")
            allowed = given == self._key if self._key else bool(given)
        else:
            request.state.tasks, allowed = tasks or [], self.authorised(request)
        if not allowed:
            return self.refusal(request, 401)
        if tasks is None:
            return self.refusal(request, 400, "The body must be a JSON array of objects.", code="invalidRequest")
        if not request.state.tasks:
            return JSONResponse({"data": session})
        first = request.state.tasks[0]
        operation = OPERATIONS.get(str(first.get("taskType")))
        if operation is None:
            return self.refusal(request, 400, code="invalidTaskType", parameter="taskType")
        single = len(request.state.tasks) == 1 and operation in ("poll", "details")
        job = self.job(str(first.get("taskUUID"))) if single else None
        return await self._perform(operation, request, self._do_all, job)

    async def _do_all(self, request: Request) -> Response:
        """Do each task; one response has the data and errors of all, and errors alone make it an HTTP error."""
        data: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        status = 200
        for task in request.state.tasks:
            try:
                done, errors = await self._one[str(task.get("taskType"))](self, request, task)
            except KeyError:
                done, errors = [], [(400, "invalidTaskType", "Unknown task type.", "taskType")]
            except Refused as error:
                done, errors = [], [(400, error.code, str(error), error.parameter)]
            data += done
            for http_status, code, message, parameter in errors:
                status = http_status
                entry = {"code": code, "message": message, "taskType": task.get("taskType")}
                entry |= {"taskUUID": task.get("taskUUID"), **({"parameter": parameter} if parameter else {})}
                if parameter == _DECIDED:
                    entry = {**entry, "taskType": "imageInference", "status": "error", "parameter": None}
                failed.append(entry)
        if not failed:
            return JSONResponse({"data": data})
        body = {"data": data, "errors": failed} if data or status == 400 else {"errors": failed}
        return JSONResponse(body, 200 if data else status)

    # Paid

    async def _submit(self, request: Request, task: Mapping[str, Any]) -> TaskResult:
        wanted = parse_submit(task, self._resolved)
        url = task.get("webhookURL")
        if url is not None and not may_be_called(url):
            raise Refused("invalidWebhookUrl", "webhookURL", "The webhookURL must be an https URL.")
        if self.job(wanted.task_id) is not None:
            message = "A task with this 'taskUUID' exists already."
            return [], [(400, "conflictTaskUUID", message, "taskUUID")]
        if wanted.spec.total_usd > self._balance_usd - self.charged_usd:
            return [], [(402, *USUAL[402], "")]
        job = self.accept(request, wanted.spec, job_id=wanted.task_id)
        self._tasks_by_id[job.id] = wanted
        self._count_missing(job)
        await self.call_back(job, url, {"taskType": "imageInference", "taskUUID": job.id})
        if wanted.at_once or "at-once" in job.faults:
            return self._ended(job, await self.ended(job), with_status=False)
        identity = {} if "no-id" in job.faults else {"taskUUID": job.id}
        return [{"taskType": "imageInference", **identity}], []

    async def _response(self, _: Request, task: Mapping[str, Any]) -> TaskResult:
        job = self.job(id_of(task))
        if job is None:
            return self._unknown()
        job.polls += 1
        self._count_missing(job)
        outcome = await self.outcome(job)
        job.polls_after_end += outcome != "running"
        if (odd := self._not_yet(job, outcome)) is not None:
            return odd
        processing = {"taskType": "imageInference", "taskUUID": job.id, "status": "processing"}
        if outcome == "running":
            return [processing], []
        data, errors = self._ended(job, outcome, with_status=True)
        if job.polls_after_end < len(data) and {"trickle", "trickle-bare"} & set(job.faults):
            data = data[: job.polls_after_end] + ([processing] if "trickle" in job.faults else [])
        since_s = self.clock() - job.finish_at
        if (every := job.faults.get("one-by-one")) is not None:
            data = data[: 1 + int(since_s // float(every["seconds"]))]
        if (late := job.faults.get("one-late")) is not None and since_s < float(late["seconds"]):
            data = data[:-1]
        return data, errors

    def _not_yet(self, job: EmulatedJob, outcome: str) -> TaskResult | None:
        """Return the response of an odd task in place of its state, or None."""

        def now(name: str) -> bool:
            return job.polls <= int(job.option(name, "n", 0))

        if now("not-found-at-first"):
            return [], [(404, *USUAL[404], "")]
        if now("empty-at-first"):
            return [], []
        if now("unknown-status"):
            status = str(job.faults["unknown-status"]["status"])
            return [{"taskType": "imageInference", "taskUUID": job.id, "status": status}], []
        return self._unknown() if "forgotten" in job.faults and outcome != "running" else None

    def _count_missing(self, job: EmulatedJob) -> None:
        bad = job.faults.get("frame-failed", job.faults.get("frame-failed-errors", {})).get("n")
        if bad is not None and bad <= job.expected:
            job.missing = 1
        if {"all-failed", "empty-outputs"} & set(job.faults):
            job.missing = job.spec.count

    def _unknown(self) -> TaskResult:
        return [], ([] if self._unknown_task == "empty" else [(404, *USUAL[404], "")])

    def _ended(self, job: EmulatedJob, outcome: str, *, with_status: bool) -> TaskResult:
        """Return a finished task's items and errors."""
        common = {"taskType": "imageInference", "taskUUID": job.id}
        if outcome != "done":
            end = next((ENDS[name] for name in job.faults if name in ENDS), None)
            code, message = end or ("invalidImage", job.failure.message if job.failure else "failed")
            if "failed-errors" in job.faults:
                return [], [(400, code, message, _DECIDED)]
            return [{**common, "status": "error", "error": {"code": code, "message": message}}], []
        if "empty-outputs" in job.faults:
            return [{**common, "status": "success"}], []
        data: list[dict[str, Any]] = []
        errors: list[tuple[int, str, str, str]] = []
        for index, url in enumerate(self.output_urls(job)):
            image_id = str(uuid.uuid5(uuid.NAMESPACE_URL, url))
            item: dict[str, Any] = {**common, "imageUUID": image_id}
            bad = job.faults.get("frame-failed", job.faults.get("frame-failed-errors", {})).get("n")
            if "all-failed" in job.faults or bad == index + 1:
                if "frame-failed-errors" in job.faults:
                    errors.append((400, *_FRAME, _DECIDED))
                else:
                    error = {"code": _FRAME[0], "message": _FRAME[1]}
                    data.append({**item, "status": "error", "error": error})
                continue
            self._media[image_id] = url
            item |= self._picture(job, index, url)
            if self._tasks_by_id[job.id].checks_content:
                item["NSFWContent"] = index + 1 == job.option("flagged", "n")
            if with_status:
                item["status"] = "success"
            if self._tasks_by_id[job.id].includes_cost and "no-cost" not in job.faults:
                item["cost"] = float(job.spec.price_usd + job.spec.fee_usd / job.spec.count)
            data.append(item)
        return data, errors

    def _picture(self, job: EmulatedJob, index: int, url: str) -> dict[str, str]:
        kind = self._tasks_by_id[job.id].output_type
        if kind == "URL":
            return {"imageURL": url}
        plain = base64.b64encode(job.pictures.result()[index]).decode()
        if kind == "base64Data":
            return {"imageBase64Data": plain}
        return {"imageDataURI": f"data:{job.spec.mime_type};base64,{plain}"}

    def _resolved(self, image_id: str) -> str:
        if image_id not in self._media:
            raise Refused("invalidImage", "inputs.referenceImages", f"The image {image_id} was not found.")
        return self._media[image_id]

    # Free

    async def _details(self, _: Request, task: Mapping[str, Any]) -> TaskResult:
        job = self.job(id_of(task))
        if job is None or (outcome := await self.outcome(job)) == "running":
            return [], [(404, *USUAL[404], "")]
        data, errors = self._ended(job, outcome, with_status=False)
        response: dict[str, Any] = {"data": data}
        if errors:
            response["errors"] = [{"code": code, "message": message} for _, code, message, _ in errors]
        details = {"taskType": "getTaskDetails", "taskUUID": job.id, "request": [job.spec.body], "response": response}
        return [details], []

    async def _upload_media(self, _: Request, task: Mapping[str, Any]) -> TaskResult:
        common, kind = {"taskType": task["taskType"], "taskUUID": id_of(task)}, task["taskType"]
        if kind == "mediaStorage":
            common["operation"] = str(task.get("operation"))
        if task.get("operation") == "delete" and kind == "mediaStorage":
            self._media.pop(str(task.get("media")), None)
            return [{**common, "mediaUUID": str(task.get("media"))}], []
        if kind == "mediaStorage" and task.get("operation") != "upload":
            raise Refused("invalidOperation", "operation", "The operation must be one of: upload, delete.")
        field = "image" if kind == "imageUpload" else "media"
        try:
            data = self.files.read(str(task.get(field, "")))
        except Exception as error:
            raise Refused("invalidImage", field, str(error)) from error
        from triptych.images import processing

        facts = processing.verify(data)
        media_id = str(uuid.uuid4())
        extension = facts.mime_type.partition("/")[2].replace("jpeg", "jpg")
        self._media[media_id] = url = self.keep_upload(f"{media_id}.{extension}", data, facts.mime_type)
        return [{**common, f"{field}UUID": media_id, f"{field}URL": url}], []

    async def _search(self, _: Request, task: Mapping[str, Any]) -> TaskResult:
        words = str(task.get("search", "")).casefold().split()
        found = [
            {"name": model.title, "air": model.air, "category": "checkpoint", "architecture": "seedream"}
            for model in MODELS.values()
            if all(word in f"{model.title} {model.air}".casefold() for word in words)
        ]
        first = int(task.get("offset") or 0)
        page = found[first : first + int(task.get("limit") or 20)]
        listed = {"taskType": "modelSearch", "taskUUID": id_of(task), "totalResults": len(found), "results": page}
        return [listed], []

    async def _account(self, _: Request, task: Mapping[str, Any]) -> TaskResult:
        left = self._balance_usd - self.charged_usd
        account = {"taskType": "accountManagement", "taskUUID": id_of(task), "operation": str(task.get("operation"))}
        balance = {"amount": float(left), "currency": "USD"}
        return [
            {**account, "organizationName": "Emulated", "organizationUUID": str(uuid.UUID(int=1)), "balance": balance}
        ], []

    _one: ClassVar[Mapping[str, Callable[..., Awaitable[TaskResult]]]] = {
        "imageInference": _submit,
        "getResponse": _response,
        "getTaskDetails": _details,
        "imageUpload": _upload_media,
        "mediaStorage": _upload_media,
        "modelSearch": _search,
        "accountManagement": _account,
    }


TaskResult = tuple[list[dict[str, Any]], list[tuple[int, str, str, str]]]
"""A task's data, and its errors: HTTP status, code, message, parameter."""


def _tasks_of(raw: bytes) -> list[dict[str, Any]] | None:
    body = parsed_or_none(raw)
    return body if isinstance(body, list) and body and all(isinstance(task, dict) for task in body) else None
