"""Novita AI's Seedream endpoints on loopback: one synchronous call each, with a list of URLs as its response.

Source: the documentation and a live error, as in docs/providers/novita.md#submit, and the official client (npm
novita-sdk 3.1.3), which this module serves unmodified. A key is accepted with and without `Bearer`; a wrong
one gets a 403. A request is held until its images are made; those are charged, and the response has no price. The
asynchronous task-result path exists for completeness: no request here makes such a task.

Unknown fields are accepted silently. Prices of 4.5 and 4.0 are the origin's.

Switches: `inline` is the accepted base64, "both", "uri" or "plain"; `error_shape` is "own" or "upstream".
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from triptych_emulators.kit import (
    EmulatedJob,
    Emulator,
    FaultType,
    InvalidRequest,
    JobSpec,
    UnreachableImage,
    for_every_op,
    for_results,
    refusals,
    retry_after,
)
from triptych_emulators.kit.prices import PriceTiers, flat
from triptych_emulators.kit.validation import (
    MAX_TOTAL,
    check_aspect,
    fields_of,
    is_texts,
    is_whole,
    parsed_or_none,
    prompt_of,
)

# The errors -----------------------------------------------------------------------------------------------------------

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


# The models (docs/providers/novita.md#models) -------------------------------------------------------------------------

_WORDS: Mapping[str, tuple[tuple[int, int], ...]] = {
    "1K": ((1024, 1024), (1280, 832), (832, 1280)),
    "2K": ((2048, 2048), (2304, 1728), (1664, 2496)),
    "3K": ((3072, 3072), (3456, 2592), (2496, 3744)),
    "4K": ((4096, 4096), (4704, 3520), (3328, 4992)),
}
_URI = re.compile(r"data:image/[a-z]+;base64,")


@dataclass(frozen=True)
class Model:
    """One path: the name of its reference field, whether the count is nested, and its limits."""

    id: str
    prices: PriceTiers
    words: tuple[str, ...]
    area: tuple[int, int]
    reference_field: str = "image"
    references: int = 14
    nested_count: bool = True
    optimizes: bool = False
    """It takes `optimize_prompt_options`, with `standard` as its only mode."""

    @property
    def path(self) -> str:
        return f"/v3/{self.id}"


MODELS: tuple[Model, ...] = (
    Model("seedream-5.0-lite", flat("0.035"), ("2K", "3K"), (3_686_400, 10_404_496), optimizes=True),
    Model("seedream-4.5", flat("0.04"), ("2K", "4K"), (3_686_400, 16_777_216)),
    Model("seedream-4.0", flat("0.03"), ("1K", "2K", "4K"), (1_048_576, 16_777_216), "images", 10, False),
)


# The server -----------------------------------------------------------------------------------------------------------


class Emulated(Emulator):
    """Novita AI."""

    name = "novita"
    key_variable = "NOVITA_API_KEY"
    faults: ClassVar[tuple[FaultType, ...]] = (
        *for_every_op(("submit", "result")),
        *refusals((*REFUSALS, *UPSTREAM)),
        FaultType("submit", "fewer", "n images fewer than requested, charged accordingly", "job", {"n": 1}),
        FaultType("submit", "empty", "success with an empty list", "job"),
        FaultType("submit", "no-images", "success without the list", "job"),
        FaultType("submit", "frame-failed", "image n is null, the others come", "job", {"n": 2}),
        FaultType("submit", "objects", "images are objects; field is url or image_url", "job", {"field": "image_url"}),
        FaultType("submit", "moderated-200", "HTTP 200 with the origin's error in place of images", "job"),
        FaultType("submit", "task-id", "the response is a task id, as of the asynchronous endpoints", "job"),
        *for_results(),
    )

    def __init__(self, *, inline: str = "both", error_shape: str = "own", **common: Any) -> None:
        super().__init__(**common)
        self._inline = inline
        self._error_shape = error_shape

    def routes(self) -> Sequence[Route]:
        paid = (self.at("submit", "POST", model.path, partial(self._generate, model)) for model in MODELS)
        return (*paid, Route("/v3/async/task-result", self._task_result, methods=["GET"]))

    def authorised(self, request: Request) -> bool:
        scheme, _, token = request.headers.get("authorization", "").rpartition(" ")
        return scheme.lower() in ("", "bearer") and (token == self._key if self._key else bool(token))

    def refusal(self, request: Request, status: int, message: str = "", **options: Any) -> Response:
        # The key is checked first, and a wrong one gets a 403 (docs/providers/novita.md#errors).
        fault = options.get("fault")
        if status == 401 and fault is None:
            status = 403
        reason, usual = _OWN.get(str(fault)) or USUAL.get(status, ("UNKNOWN", "unknown error"))
        headers = retry_after(options)
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

    async def _generate(self, model: Model, request: Request) -> Response:
        try:
            spec = parse_submit(parsed_or_none(await request.body()), model, inline=self._inline)
            for reference in spec.references:
                await asyncio.to_thread(self.files.read, reference)
        except (InvalidRequest, UnreachableImage) as error:
            return self.refusal(request, 400, str(error))
        job = self.accept(request, spec)
        urls = _delivered(job, self.output_urls(job))
        job.missing = job.expected - sum(url is not None for url in urls)
        if await self.ended(job) != "done":
            return self.refusal(request, 500, job.failure.message if job.failure else "")
        return JSONResponse(_body(job, urls))

    async def _task_result(self, request: Request) -> Response:
        return self.refusal(request, 404 if self.authorised(request) else 401)


def _delivered(job: EmulatedJob, urls: list[str]) -> list[str | None]:
    """Return the URLs of the response: None where an image is missing."""
    if {"empty", "no-images", "moderated-200"} & set(job.faults):
        return []
    missing = job.option("frame-failed", "n")
    return [None if place == missing else url for place, url in enumerate(urls, start=1)]


def _body(job: EmulatedJob, urls: list[str | None]) -> dict[str, Any]:
    if "moderated-200" in job.faults:
        code, message = _ORIGIN["moderated"]
        return {"error": {"code": code, "message": message}}
    if "task-id" in job.faults:
        return {"task_id": job.id}
    if "no-images" in job.faults:
        return {}
    if field := job.option("objects", "field"):
        return {"images": [{field: url, "image_type": "jpeg"} for url in urls]}
    return {"images": urls}


# What a submit asks for -----------------------------------------------------------------------------------------------


def parse_submit(body: Any, model: Model, *, inline: str) -> JobSpec:
    """Return the job of a body; raise InvalidRequest. `inline` is "both", "uri" or "plain": the accepted base64."""
    fields_of(body)
    prompt = prompt_of(body)
    if not isinstance(body.get("watermark", True), bool):
        raise InvalidRequest("watermark must be a boolean")
    if model.optimizes and body.get("optimize_prompt_options", {"mode": "standard"}) != {"mode": "standard"}:
        raise InvalidRequest("optimize_prompt_options.mode must be standard")
    references = _references(body, model, inline)
    return JobSpec(
        model=model.id,
        prompt=prompt,
        references=references,
        count=_count(body, model, len(references)),
        size=_size(body, model),
        mime_type="image/jpeg",
        prices=model.prices,
        body=body,
    )


def _references(body: Mapping[str, Any], model: Model, inline: str) -> list[str]:
    given = body.get(model.reference_field)
    if given is None:
        return []
    if not given or not is_texts(given):
        raise InvalidRequest(f"{model.reference_field} must be an array of strings")
    if len(given) > model.references:
        raise InvalidRequest(f"{model.reference_field}: at most {model.references} items")
    for item in given:
        is_uri = bool(_URI.match(item))
        if not item.startswith(("http://", "https://")) and inline == ("plain" if is_uri else "uri"):
            wanted = "plain base64" if inline == "plain" else "data:image/<format>;base64,<data>"
            raise InvalidRequest(f"{model.reference_field}: invalid image, the base64 format must be {wanted}")
    return given


def _count(body: Mapping[str, Any], model: Model, references: int) -> int:
    mode = body.get("sequential_image_generation", "disabled")
    if mode not in ("auto", "disabled"):
        raise InvalidRequest("sequential_image_generation must be auto or disabled")
    if mode == "disabled":
        return 1
    options = body.get("sequential_image_generation_options", {}) if model.nested_count else body
    most = options.get("max_images", MAX_TOTAL - references) if isinstance(options, dict) else None
    if not is_whole(most, 1, MAX_TOTAL):
        raise InvalidRequest("max_images must be an integer between 1 and 15")
    if references + most > MAX_TOTAL:
        raise InvalidRequest("the number of input images plus max_images must not exceed 15")
    return most


def _size(body: Mapping[str, Any], model: Model) -> tuple[int, int]:
    size = body.get("size", "2048x2048")
    if size in model.words:
        # The model chooses the shape of a word; here the prompt decides.
        shapes = _WORDS[size]
        return shapes[hashlib.sha256(str(body["prompt"]).encode()).digest()[0] % len(shapes)]
    if not isinstance(size, str) or not re.fullmatch(r"[1-9][0-9]{1,4}x[1-9][0-9]{1,4}", size):
        raise InvalidRequest(f"size must be one of {', '.join(model.words)} or <width>x<height>")
    width, height = (int(side) for side in size.split("x"))
    low, high = model.area
    if not low <= width * height <= high:
        raise InvalidRequest(f"size: the total pixels must be between {low} and {high}")
    check_aspect((width, height))
    return width, height
