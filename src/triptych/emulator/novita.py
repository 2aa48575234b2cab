"""Novita AI's Seedream endpoints on loopback: one synchronous call each, answered with a list of URLs.

Source: the documentation and a live error, as in docs/providers/novita.md#submit, and the official client (npm
novita-sdk 3.1.3), which this module serves unmodified. A key is taken with and without `Bearer`, and a wrong one is a
403. A request is held until its images are made; those that came are charged, and the answer says nothing of money. The
asynchronous task-result path is there for completeness: nothing here makes such a task.

Switches: `inline` says which base64 is taken, "both", "uri" or "plain"; `error_shape` is "own" or "upstream".
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from triptych.emulator.novita_models import OFFERS, Malformed, Offer, understood
from triptych.emulator.stage import Emulator, Fault, UnreachableImage, Work, for_every_op, for_results

SENSITIVE = "OutputImageSensitiveContentDetected"
USUAL: dict[int, tuple[str, str]] = {
    400: ("INVALID_REQUEST_BODY", "invalid request body"),
    401: ("FAILED_TO_AUTH", "failed to authenticate"),
    402: ("NOT_ENOUGH_BALANCE", "not enough balance"),
    403: ("INVALID_API_KEY", "invalid api-key"),
    404: ("PATH_NOT_FOUND", "path not found"),
    413: ("INVALID_REQUEST_BODY", "request entity too large"),
    429: ("RATE_LIMIT_EXCEEDED", "rate limit exceeded"),
    451: ("ACCESS_DENY", "not available in your region"),
    500: ("TASK_FAILED", "task failed"),
    503: ("SERVICE_NOT_AVAILABLE", "service not available"),
    504: ("TASK_FAILED", "upstream timeout"),
}
REFUSALS: tuple[tuple[str, int, str, str], ...] = (
    ("failed-to-auth", 401, "FAILED_TO_AUTH", "failed to authenticate"),
    ("no-funds", 403, "NOT_ENOUGH_BALANCE", "not enough balance"),
    ("access-deny", 403, "ACCESS_DENY", "access denied"),
    ("model-not-found", 404, "MODEL_NOT_FOUND", "model not found"),
    ("token-limit", 429, "TOKEN_LIMIT_EXCEEDED", "token limit exceeded"),
    ("task-failed", 500, "TASK_FAILED", "the upstream model returned an error"),
    ("busy", 503, "SERVICE_NOT_AVAILABLE", "service not available"),
)
"""Errors in the provider's own shape, by name: status, reason, message."""

UPSTREAM: tuple[tuple[str, int, str, str], ...] = (
    ("moderated-before", 400, "InputTextSensitiveContentDetected", "The input text may contain sensitive information."),
    ("moderated", 400, SENSITIVE, "The output image may contain sensitive information."),
    ("upstream-500", 500, "InternalServiceError", "The service encountered an unexpected internal error."),
)
"""Errors handed through from the origin in its own shape, by name: status, code, message."""

_OWN = {name: (reason, message) for name, _, reason, message in REFUSALS}
_ORIGIN = {name: (code, message) for name, _, code, message in UPSTREAM}


class Emulated(Emulator):
    """Novita AI."""

    name = "novita"
    key_variable = "NOVITA_API_KEY"
    faults: ClassVar[tuple[Fault, ...]] = (
        *for_every_op(("submit", "result")),
        *(
            Fault("submit", name, f"HTTP {status} {code}: {message}", options={"retry_after": None}, refuses=status)
            for name, status, code, message in (*REFUSALS, *UPSTREAM)
        ),
        Fault("submit", "fewer", "n images fewer than asked for, charged accordingly", "work", {"n": 1}),
        Fault("submit", "empty", "success with an empty list", "work"),
        Fault("submit", "no-images", "success without the list", "work"),
        Fault("submit", "frame-failed", "image n is null, the others come", "work", {"n": 2}),
        Fault("submit", "objects", "images are objects; field is url or image_url", "work", {"field": "image_url"}),
        Fault("submit", "moderated-200", "HTTP 200 with the origin's error in place of images", "work"),
        Fault("submit", "task-id", "the answer is a task id, as of the asynchronous endpoints", "work"),
        *for_results(),
    )

    def __init__(self, *, inline: str = "both", error_shape: str = "own", **common: Any) -> None:
        super().__init__(**common)
        self._inline = inline
        self._error_shape = error_shape

    def routes(self) -> Sequence[Route]:
        paid = (self.at("submit", "POST", offer.path, partial(self._generate, offer)) for offer in OFFERS)
        return (*paid, Route("/v3/async/task-result", self._task_result, methods=["GET"]))

    def authorised(self, request: Request) -> bool:
        scheme, _, token = request.headers.get("authorization", "").rpartition(" ")
        return scheme.lower() in ("", "bearer") and (token == self._key if self._key else bool(token))

    def refusal(self, request: Request, status: int, message: str = "", **options: Any) -> Response:
        # The key is looked at first, and the answer to a wrong one is a 403 (docs/providers/novita.md#errors).
        fault = options.get("fault")
        if status == 401 and fault is None:
            status = 403
        reason, usual = _OWN.get(str(fault)) or USUAL.get(status, ("UNKNOWN", "unknown error"))
        headers = {}
        if options.get("retry_after") is not None:
            headers["Retry-After"] = str(options["retry_after"])
        if fault in _ORIGIN or self._error_shape == "upstream":
            code, text = _ORIGIN.get(str(fault), (reason, usual))
            return JSONResponse({"error": {"code": code, "message": message or text}}, status, headers)
        body = {
            "code": status,
            "reason": reason,
            "message": message or usual,
            "metadata": {"trace_id": uuid.uuid4().hex},
        }
        return JSONResponse(body, status, headers)

    async def _generate(self, offer: Offer, request: Request) -> Response:
        try:
            order = understood(_parsed(await request.body()), offer, inline=self._inline)
            for reference in order.references:
                await asyncio.to_thread(self.studio.read, reference)
        except (Malformed, UnreachableImage) as error:
            return self.refusal(request, 400, str(error))
        work = self.accept(request, order)
        urls = _came(work, self.output_urls(work))
        work.missing = work.expected - sum(url is not None for url in urls)
        if await self.ended(work) != "done":
            return self.refusal(request, 500, work.failure.message if work.failure else "")
        return JSONResponse(_told(work, urls))

    async def _task_result(self, request: Request) -> Response:
        return self.refusal(request, 404 if self.authorised(request) else 401)


def _came(work: Work, urls: list[str]) -> list[str | None]:
    """Return the list as the answer has it: None where an image is missing."""
    if {"empty", "no-images", "moderated-200"} & set(work.traits):
        return []
    missing = work.traits.get("frame-failed", {}).get("n")
    return [None if place == missing else url for place, url in enumerate(urls, start=1)]


def _told(work: Work, urls: list[str | None]) -> dict[str, Any]:
    if "moderated-200" in work.traits:
        code, message = _ORIGIN["moderated"]
        return {"error": {"code": code, "message": message}}
    if "task-id" in work.traits:
        return {"task_id": work.id}
    if "no-images" in work.traits:
        return {}
    if field := work.traits.get("objects", {}).get("field"):
        return {"images": [{field: url, "image_type": "jpeg"} for url in urls]}
    return {"images": urls}


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None
