"""Runware's REST API on loopback: arrays of tasks, all POSTed to one address.

Source: the official client (PyPI runware-sdk 1.8.0), which this module serves unmodified, and the documentation
(docs/providers/runware.md#submit). A task's id is the client's; the same id twice is `conflictTaskUUID`, so a submit
that is sent again is charged once. Images that came are charged. How an unknown task is refused, and the balance's
shape, are inferred. Tasks are served at the root and at /v1. Result files outlive their `ttl` here.

Switches: `unknown_task` ("errors" or "empty") is how getResponse says that it does not know a task; `balance_usd` is
what the account holds.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from triptych.emulator.runware_models import OFFERS, Asked, Malformed, named, understood
from triptych.emulator.stage import Emulator, Failure, Fault, Work, for_every_op, for_results

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
"""Marks an error that is about the image, not about the question."""

ENDS: Mapping[str, tuple[str, str]] = {"failed": _FAILED, "failed-errors": _FAILED, "moderated": _MODERATED}
"""How a task that fails as a whole says so."""


def _poll(name: str, about: str, options: Mapping[str, Any] | None = None, fails: bool = False) -> Fault:
    return Fault("poll", name, about, "work", options or {}, Failure(ENDS[name][1]) if fails else None)


class Emulated(Emulator):
    """Runware."""

    name = "runware"
    key_variable = "RUNWARE_API_KEY"
    faults: ClassVar[tuple[Fault, ...]] = (
        *for_every_op(("submit", "poll", "details", "upload", "models", "account", "result")),
        Fault("submit", "moderated-before", "HTTP 400: the prompt is blocked before acceptance", refuses=400),
        Fault("submit", "no-funds", "HTTP 200 whose only content is an error about credits", refuses=200),
        Fault("submit", "unknown-model", "HTTP 400: the model is not known", refuses=400),
        Fault("submit", "model-unavailable", "HTTP 503: the model is not available", refuses=503),
        Fault(
            "submit", "at-once", "the answer is held until the images are there, although async was asked for", "work"
        ),
        Fault("submit", "no-id", "accepted, but the acknowledgement does not name the task", "work"),
        _poll("failed", "the task fails: an item with status error", fails=True),
        _poll("failed-errors", "the task fails: HTTP 400 with errors beside an empty list", fails=True),
        _poll("moderated", "the task fails for its content: an item with status error", fails=True),
        _poll("frame-failed", "image n fails: an item with status error among the others", {"n": 2}),
        _poll("frame-failed-errors", "image n fails: an entry of errors beside the others", {"n": 2}),
        _poll("all-failed", "every image fails, and each says so"),
        _poll("empty-outputs", "success without any image"),
        _poll("fewer", "n images fewer than asked for, charged accordingly", {"n": 1}),
        _poll("unknown-status", "an undocumented status for n polls", {"n": 2, "status": "warming"}),
        _poll("not-found-at-first", "the task is not known for the first n polls", {"n": 2}),
        _poll("empty-at-first", "an empty list for the first n polls", {"n": 2}),
        _poll("trickle", "one image more with each poll, and an item that is processing until the last"),
        _poll("trickle-bare", "one image more with each poll, and no word about the others"),
        _poll("one-by-one", "one image more every `seconds`, and no word about the others", {"seconds": 12.0}),
        _poll("one-late", "the last image comes `seconds` after the others, and no word of it", {"seconds": 100.0}),
        _poll("forgotten", "once finished, only getTaskDetails still knows the task"),
        _poll("no-cost", "items without their cost"),
        *for_results(),
    )

    def __init__(self, *, unknown_task: str = "errors", balance_usd: Decimal | str = "125.50", **common: Any) -> None:
        super().__init__(**common)
        self._unknown_task = unknown_task
        self._balance_usd = Decimal(balance_usd)
        self._asked: dict[str, Asked] = {}
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
        retry_after = options.get("retry_after")
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        return JSONResponse({"errors": [error]}, status, headers)

    # Every request

    async def _tasks(self, request: Request) -> Response:
        tasks, session = _parsed(await request.body()), []
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
        work = self.work(str(first.get("taskUUID"))) if single else None
        return await self._perform(operation, request, self._do_all, work)

    async def _do_all(self, request: Request) -> Response:
        """Do each task; data and errors of all of them stand in one answer, and errors alone make it an HTTP error."""
        data: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        status = 200
        for task in request.state.tasks:
            try:
                done, errors = await self._one[str(task.get("taskType"))](self, request, task)
            except KeyError:
                done, errors = [], [(400, "invalidTaskType", "Unknown task type.", "taskType")]
            except Malformed as error:
                done, errors = [], [(400, error.code, str(error), error.parameter)]
            data += done
            for http_status, code, message, parameter in errors:
                status = http_status
                told = {"code": code, "message": message, "taskType": task.get("taskType")}
                told |= {"taskUUID": task.get("taskUUID"), **({"parameter": parameter} if parameter else {})}
                if parameter == _DECIDED:
                    told = {**told, "taskType": "imageInference", "status": "error", "parameter": None}
                failed.append(told)
        if not failed:
            return JSONResponse({"data": data})
        body = {"data": data, "errors": failed} if data or status == 400 else {"errors": failed}
        return JSONResponse(body, 200 if data else status)

    # Paid

    async def _submit(self, request: Request, task: Mapping[str, Any]) -> Said:
        asked = understood(task, self._resolved)
        if self.work(asked.task_id) is not None:
            message = "A task with this 'taskUUID' exists already."
            return [], [(400, "conflictTaskUUID", message, "taskUUID")]
        if asked.order.total_usd > self._balance_usd - self.charged_usd:
            return [], [(402, *USUAL[402], "")]
        work = self.accept(request, asked.order, work_id=asked.task_id)
        self._asked[work.id] = asked
        self._count_missing(work)
        if asked.at_once or "at-once" in work.traits:
            return self._ended(work, await self.ended(work), with_status=False)
        named_ = {} if "no-id" in work.traits else {"taskUUID": work.id}
        return [{"taskType": "imageInference", **named_}], []

    async def _response(self, _: Request, task: Mapping[str, Any]) -> Said:
        work = self.work(named(task))
        if work is None:
            return self._unknown()
        work.polls += 1
        self._count_missing(work)
        outcome = await self.outcome(work)
        work.polls_after_end += outcome != "running"
        if (odd := self._not_yet(work, outcome)) is not None:
            return odd
        processing = {"taskType": "imageInference", "taskUUID": work.id, "status": "processing"}
        if outcome == "running":
            return [processing], []
        data, errors = self._ended(work, outcome, with_status=True)
        if work.polls_after_end < len(data) and {"trickle", "trickle-bare"} & set(work.traits):
            data = data[: work.polls_after_end] + ([processing] if "trickle" in work.traits else [])
        since_s = self.clock() - work.finish_at
        if (every := work.traits.get("one-by-one")) is not None:
            data = data[: 1 + int(since_s // float(every["seconds"]))]
        if (late := work.traits.get("one-late")) is not None and since_s < float(late["seconds"]):
            data = data[:-1]
        return data, errors

    def _not_yet(self, work: Work, outcome: str) -> Said | None:
        """Return what an odd task says instead of where it stands."""

        def now(name: str) -> bool:
            return work.polls <= int(work.traits.get(name, {}).get("n", 0))

        if now("not-found-at-first"):
            return [], [(404, *USUAL[404], "")]
        if now("empty-at-first"):
            return [], []
        if now("unknown-status"):
            status = str(work.traits["unknown-status"]["status"])
            return [{"taskType": "imageInference", "taskUUID": work.id, "status": status}], []
        return self._unknown() if "forgotten" in work.traits and outcome != "running" else None

    def _count_missing(self, work: Work) -> None:
        bad = work.traits.get("frame-failed", work.traits.get("frame-failed-errors", {})).get("n")
        if bad is not None and bad <= work.expected:
            work.missing = 1
        if {"all-failed", "empty-outputs"} & set(work.traits):
            work.missing = work.order.count

    def _unknown(self) -> Said:
        return [], ([] if self._unknown_task == "empty" else [(404, *USUAL[404], "")])

    def _ended(self, work: Work, outcome: str, *, with_status: bool) -> Said:
        """Return a finished task's items and errors."""
        common = {"taskType": "imageInference", "taskUUID": work.id}
        if outcome != "done":
            end = next((ENDS[name] for name in work.traits if name in ENDS), None)
            code, message = end or ("invalidImage", work.failure.message if work.failure else "failed")
            if "failed-errors" in work.traits:
                return [], [(400, code, message, _DECIDED)]
            return [{**common, "status": "error", "error": {"code": code, "message": message}}], []
        if "empty-outputs" in work.traits:
            return [{**common, "status": "success"}], []
        data: list[dict[str, Any]] = []
        errors: list[tuple[int, str, str, str]] = []
        for index, url in enumerate(self.output_urls(work)):
            image_id = str(uuid.uuid5(uuid.NAMESPACE_URL, url))
            item: dict[str, Any] = {**common, "imageUUID": image_id}
            bad = work.traits.get("frame-failed", work.traits.get("frame-failed-errors", {})).get("n")
            if "all-failed" in work.traits or bad == index + 1:
                if "frame-failed-errors" in work.traits:
                    errors.append((400, *_FRAME, _DECIDED))
                else:
                    told = {"code": _FRAME[0], "message": _FRAME[1]}
                    data.append({**item, "status": "error", "error": told})
                continue
            self._media[image_id] = url
            item |= self._picture(work, index, url)
            if with_status:
                item["status"] = "success"
            if self._asked[work.id].tells_cost and "no-cost" not in work.traits:
                item["cost"] = float(work.order.price_usd + work.order.fee_usd / work.order.count)
            data.append(item)
        return data, errors

    def _picture(self, work: Work, index: int, url: str) -> dict[str, str]:
        kind = self._asked[work.id].output_type
        if kind == "URL":
            return {"imageURL": url}
        plain = base64.b64encode(work.pictures.result()[index]).decode()
        if kind == "base64Data":
            return {"imageBase64Data": plain}
        return {"imageDataURI": f"data:{work.order.mime_type};base64,{plain}"}

    def _resolved(self, image_id: str) -> str:
        if image_id not in self._media:
            raise Malformed("invalidImage", "inputs.referenceImages", f"The image {image_id} was not found.")
        return self._media[image_id]

    # Free

    async def _details(self, _: Request, task: Mapping[str, Any]) -> Said:
        work = self.work(named(task))
        if work is None or (outcome := await self.outcome(work)) == "running":
            return [], [(404, *USUAL[404], "")]
        data, errors = self._ended(work, outcome, with_status=False)
        response: dict[str, Any] = {"data": data}
        if errors:
            response["errors"] = [{"code": code, "message": message} for _, code, message, _ in errors]
        told = {"taskType": "getTaskDetails", "taskUUID": work.id, "request": [work.order.body], "response": response}
        return [told], []

    async def _upload_media(self, _: Request, task: Mapping[str, Any]) -> Said:
        common, kind = {"taskType": task["taskType"], "taskUUID": named(task)}, task["taskType"]
        if kind == "mediaStorage":
            common["operation"] = str(task.get("operation"))
        if task.get("operation") == "delete" and kind == "mediaStorage":
            self._media.pop(str(task.get("media")), None)
            return [{**common, "mediaUUID": str(task.get("media"))}], []
        if kind == "mediaStorage" and task.get("operation") != "upload":
            raise Malformed("invalidOperation", "operation", "The operation must be one of: upload, delete.")
        field = "image" if kind == "imageUpload" else "media"
        try:
            data = self.studio.read(str(task.get(field, "")))
        except Exception as error:
            raise Malformed("invalidImage", field, str(error)) from error
        from triptych import imaging

        facts = imaging.verify(data)
        media_id = str(uuid.uuid4())
        extension = facts.mime_type.partition("/")[2].replace("jpeg", "jpg")
        self._media[media_id] = url = self.keep_upload(f"{media_id}.{extension}", data, facts.mime_type)
        return [{**common, f"{field}UUID": media_id, f"{field}URL": url}], []

    async def _search(self, _: Request, task: Mapping[str, Any]) -> Said:
        words = str(task.get("search", "")).casefold().split()
        found = [
            {"name": offer.title, "air": offer.air, "category": "checkpoint", "architecture": "seedream"}
            for offer in OFFERS.values()
            if all(word in f"{offer.title} {offer.air}".casefold() for word in words)
        ]
        first = int(task.get("offset") or 0)
        page = found[first : first + int(task.get("limit") or 20)]
        told = {"taskType": "modelSearch", "taskUUID": named(task), "totalResults": len(found), "results": page}
        return [told], []

    async def _account(self, _: Request, task: Mapping[str, Any]) -> Said:
        left = self._balance_usd - self.charged_usd
        told = {"taskType": "accountManagement", "taskUUID": named(task), "operation": str(task.get("operation"))}
        balance = {"amount": float(left), "currency": "USD"}
        return [
            {**told, "organizationName": "Emulated", "organizationUUID": str(uuid.UUID(int=1)), "balance": balance}
        ], []

    _one: ClassVar[Mapping[str, Callable[..., Awaitable[Said]]]] = {
        "imageInference": _submit,
        "getResponse": _response,
        "getTaskDetails": _details,
        "imageUpload": _upload_media,
        "mediaStorage": _upload_media,
        "modelSearch": _search,
        "accountManagement": _account,
    }


Said = tuple[list[dict[str, Any]], list[tuple[int, str, str, str]]]
"""A task's data, and its errors: HTTP status, code, message, parameter."""


def _parsed(raw: bytes) -> list[dict[str, Any]] | None:
    try:
        body = json.loads(raw)
    except ValueError:
        return None
    return body if isinstance(body, list) and body and all(isinstance(task, dict) for task in body) else None
