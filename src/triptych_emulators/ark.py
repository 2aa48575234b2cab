"""BytePlus ModelArk's image API on loopback: one synchronous call, with JSON or a stream of events as its response.

Source: the documentation, published live responses, and the official client (PyPI volcengine-ark-runtime 5.0.54), which
this module serves unmodified (docs/providers/ark.md#submit). A request is held until its images are made; only made
images are charged. The paths are served with and without the /api/v3 in front. Without a fault there is no rate limit.

Switches: `volcengine` sells under the doubao- ids; `max_area` is the disputed largest area of 5.0 lite (16,777,216 or
10,404,496); `reference_limit_mb` the disputed size of a reference (10 or 30); with `by_prompt` the prompt decides the
number of images of a sequence, as the model does; `layers_made` is the number of images of a layer decomposition;
`endpoint_model` is the model behind the endpoint ids (`ep-…`), without it the first one; `error_shape` is "both"
(parameter errors bare, all others wrapped, as seen), "wrapped" or "bare".
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from triptych_emulators.ark_models import ParsedRequest, Refused, check_reference, models, parse_submit
from triptych_emulators.kit import (
    EmulatedJob,
    Emulator,
    EventStream,
    FaultType,
    UnreachableImage,
    for_every_op,
    for_results,
    refusals,
    retry_after,
)
from triptych_emulators.kit.validation import parsed_or_none

BODY_LIMIT_BYTES = 64 * 1024 * 1024
SENSITIVE = "OutputImageSensitiveContentDetected"
MESSAGES = {
    SENSITIVE: "The request failed because the output image may contain sensitive information.",
    "InternalServiceError": "The service encountered an unexpected internal error.",
    "RateLimitExceeded.EndpointRPMExceeded": "The requests per minute (RPM) limit of the endpoint is exceeded.",
    "ModelAccountIpmRateLimitExceeded": "The images per minute (IPM) limit of the account for this model is exceeded.",
    "AccountRateLimitExceeded": "The requests per minute (RPM) limit of your account is exceeded.",
    "QuotaExceeded": "Your account has exceeded its quota.",
    "SetLimitExceeded": "Your account has reached the set inference limit for this model.",
    "ServerOverloaded": "The service is currently unable to handle additional requests due to server overload.",
    "RequestBurstTooFast": "The system detected a surge of requests.",
}
USUAL: dict[int, tuple[str, str]] = {
    400: ("InvalidParameter", "A parameter specified in the request is not valid."),
    401: ("AuthenticationError", "The API key or AK/SK in the request is missing or invalid."),
    402: ("AccountOverdueError", "The request failed because your account has an overdue balance."),
    403: ("AccessDenied", "The request failed because you do not have access to the requested resource."),
    404: ("InvalidEndpointOrModel.NotFound", "The model or endpoint does not exist or you do not have access to it."),
    413: ("RequestEntityTooLarge", "The request body exceeds 64 MB."),
    429: ("RateLimitExceeded.EndpointRPMExceeded", MESSAGES["RateLimitExceeded.EndpointRPMExceeded"]),
    451: ("AccessDenied", "Not available in your region."),
    500: ("InternalServiceError", MESSAGES["InternalServiceError"]),
    503: ("ServerOverloaded", MESSAGES["ServerOverloaded"]),
    504: ("InternalServiceError", "The upstream took too long."),
}
TYPES = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    429: "TooManyRequests",
    500: "InternalServerError",
}

REFUSALS: tuple[tuple[str, int, str, str], ...] = (
    ("moderated-before", 400, "InputTextSensitiveContentDetected", "the input text may contain sensitive information"),
    ("image-moderated-before", 400, "InputImageSensitiveContentDetected.PrivacyInformation", "a real person was found"),
    ("moderated", 400, SENSITIVE, "the output image may contain sensitive information"),
    ("invalid-image-url", 400, "InvalidImageURL.Unreachable", "the image URL cannot be read"),
    ("key-format", 401, "AuthenticationError", "the API key format is incorrect"),
    ("key-unknown", 401, "AuthenticationError", "the API key doesn't exist"),
    ("operation-denied", 403, "OperationDenied.ServiceNotOpen", "the service is not open"),
    ("no-funds", 403, "AccountOverdueError", "your account has an overdue balance"),
    ("model-not-open", 404, "ModelNotOpen", "your account has not activated the model"),
    ("model-not-found", 404, "InvalidEndpointOrModel.NotFound", "the model or endpoint does not exist"),
    ("unsupported-model", 404, "UnsupportedModel", "the plan does not include the model"),
    *(
        (name, 429, code, MESSAGES[code].rstrip(".").lower())
        for name, code in (
            ("account-rpm", "AccountRateLimitExceeded"),
            ("model-ipm", "ModelAccountIpmRateLimitExceeded"),
            ("quota", "QuotaExceeded"),
            ("set-limit", "SetLimitExceeded"),
            ("overloaded", "ServerOverloaded"),
            ("burst", "RequestBurstTooFast"),
        )
    ),
)
"""Errors by name: status, code and reason, in the shape of `error_shape`."""

_REFUSED = {name: (code, why) for name, _, code, why in REFUSALS}
_FRAME = {"n": 2, "code": SENSITIVE}


class Emulated(Emulator):
    """BytePlus ModelArk."""

    name = "ark"
    key_variable = "ARK_API_KEY"
    faults: ClassVar[tuple[FaultType, ...]] = (
        *for_every_op(("submit", "models", "result")),
        *refusals(REFUSALS),
        FaultType("submit", "fewer", "n images fewer than submit for, charged accordingly", "job", {"n": 1}),
        FaultType("submit", "frame-failed", "image n fails, the others come; option code", "job", _FRAME),
        FaultType("submit", "frame-broken", "image n meets an internal error; no later one is tried", "job", {"n": 2}),
        FaultType("submit", "all-failed", "every image fails, each with its own error", "job", {"code": SENSITIVE}),
        FaultType("submit", "top-error", "all images fail: no entries, one error beside the empty list", "job"),
        FaultType("submit", "empty", "success without any image or error", "job"),
        FaultType("submit", "no-usage", "success without usage", "job"),
        FaultType("submit", "not-streamed", "plain JSON although the request wants a stream", "job"),
        FaultType("submit", "previews", "a stream shows partial_image events and comments too", "job"),
        FaultType("submit", "no-done", "a stream ends without the [DONE] line", "job"),
        FaultType(
            "submit",
            "cut",
            "a stream breaks off after `after` events; quietly: it ends as if it were whole",
            "job",
            {"after": 1, "quietly": False},
        ),
        FaultType("submit", "stream-error", "after `after` images the stream has an error event", "job", {"after": 1}),
        FaultType("submit", "stopped", "`after` images, and one error beside them for the others", "job", {"after": 1}),
        FaultType(
            "submit",
            "inline",
            "image n comes as b64_json, although the request wants a URL; `what`: image, no-image or no-base64",
            "job",
            {"n": 1, "what": "image"},
        ),
        FaultType("submit", "odd-layers", "layers in reverse, with odd boxes and hostile names", "job"),
        FaultType("submit", "charset", "a stream's content type names any `charset`", "job", {"charset": "hex"}),
        *for_results(),
    )

    def __init__(
        self,
        *,
        volcengine: bool = False,
        max_area: int = 16_777_216,
        reference_limit_mb: int = 10,
        by_prompt: bool = False,
        layers_made: int = 4,
        endpoint_model: str = "",
        error_shape: str = "both",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self._sold = models(max_area, volcengine=volcengine)
        self._reference_limit_bytes = reference_limit_mb * 2**20
        self._parsing: dict[str, Any] = {
            "by_prompt": by_prompt,
            "layers_made": layers_made,
            "endpoint_model": endpoint_model,
        }
        self._error_shape = error_shape

    def routes(self) -> Sequence[Route]:
        return tuple(
            route
            for prefix in ("/api/v3", "")
            for route in (
                self.at("submit", "POST", f"{prefix}/images/generations", self._generate),
                self.at("models", "GET", f"{prefix}/models", self._models),
            )
        )

    def refusal(self, request: Request, status: int, message: str = "", **options: Any) -> Response:
        code, usual = USUAL.get(status, ("InternalServiceError", "The request failed."))
        if (fault := options.get("fault")) in _REFUSED:
            code, why = _REFUSED[fault]
            usual = f"The request failed because {why}."
        code, request_id = options.get("code") or code, self._request_id()
        error = {
            "code": code,
            "message": f"{message or usual} Request id: {request_id}",
            "param": "",
            "type": TYPES.get(status, "BadRequest" if status == 400 else ""),
        }
        bare = code.startswith(("InvalidParameter", "MissingParameter")) and self._error_shape == "both"
        if bare or self._error_shape == "bare":
            error["type"] = ""
            body: dict[str, Any] = error
        else:
            body = {"error": error}
        return JSONResponse(body, status, {"X-Request-Id": request_id, **retry_after(options)})

    # The one paid call

    async def _generate(self, request: Request) -> Response:
        raw = await request.body()
        if len(raw) > BODY_LIMIT_BYTES:
            return self.refusal(request, 413)
        try:
            submit = parse_submit(parsed_or_none(raw), self._sold, **self._parsing)
            for index, reference in enumerate(submit.spec.references):
                await asyncio.to_thread(self._check_reference, index, reference)
        except Refused as error:
            return self.refusal(request, error.status, str(error), code=error.code)
        job = self.accept(request, submit.spec)
        frames = _frames(job)
        job.missing = job.expected - sum("error" not in frame for frame in frames)
        if submit.base64 or "inline" in job.faults:
            await asyncio.wait([asyncio.wrap_future(job.pictures)])
        if submit.streamed and "not-streamed" not in job.faults:
            return self._stream(job, submit, frames)
        outcome = await self.ended(job)
        if outcome != "done":
            return self.refusal(request, 500, job.failure.message if job.failure else "")
        body: dict[str, Any] = {"model": job.spec.model, "created": int(job.finish_at)}
        body["data"] = [self._entry(job, submit, index, frame) for index, frame in enumerate(frames)]
        if "odd-layers" in job.faults:
            body["data"].reverse()
        if top_error := _top_error(job):
            body["error"] = top_error
        if "no-usage" not in job.faults:
            body["usage"] = _usage(job, submit)
        return JSONResponse(body, headers={"X-Request-Id": self._request_id()})

    def _check_reference(self, index: int, reference: str) -> None:
        from triptych.images import processing

        try:
            data = self.files.read(reference)
        except UnreachableImage as error:
            raise Refused(400, "InvalidImageURL.Unreachable", f"image[{index}]: {error}") from error
        facts = processing.verify(data)
        check_reference(index, facts.width, facts.height, len(data), self._reference_limit_bytes)

    def _entry(self, job: EmulatedJob, submit: ParsedRequest, index: int, frame: dict[str, Any]) -> dict[str, Any]:
        """Return an entry of `data`: a URL or base64 with the size, or the error."""
        if "error" in frame:
            return frame
        entry: dict[str, Any] = {"size": "{}x{}".format(*job.spec.size)}
        if job.spec.layers:
            entry = _layer(job, index)
        elif submit.model.background == "made":
            entry["background"] = "transparent" if job.spec.transparent else "opaque"
            entry["output_format"] = job.spec.mime_type.removeprefix("image/")
        inline = job.faults.get("inline", {})
        if inline.get("n") == index + 1:
            what = {"no-image": b"<Error>AccessDenied</Error>"}.get(inline["what"]) or job.pictures.result()[index]
            text = "{not base64}" if inline["what"] == "no-base64" else base64.b64encode(what).decode()
            return {"b64_json": text, **entry}
        if submit.base64:
            return {"b64_json": base64.b64encode(job.pictures.result()[index]).decode(), **entry}
        return {"url": self.output_urls(job)[index], **entry}

    def _stream(self, job: EmulatedJob, submit: ParsedRequest, frames: Sequence[dict[str, Any]]) -> Response:
        common = {"model": job.spec.model, "created": int(job.finish_at)}
        events: list[str] = []
        when: list[float] = []

        def add(kind: str, share: float, **more: Any) -> None:
            event = {"type": f"image_generation.{kind}", **common, **more}
            events.append(f"event: image_generation.{kind}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n")
            when.append(share)

        failing = job.option("stream-error", "after")
        for index, frame in enumerate(frames[:failing]):
            share = (index + 1) / len(frames)
            if "previews" in job.faults:
                events.append(": still drawing\n\n")
                when.append(share)
                add("partial_image", share, image_index=index, partial_image_index=0, b64_json="/9j/4AAQ")
            kind = "partial_failed" if "error" in frame else "partial_succeeded"
            add(kind, share, image_index=index, **self._entry(job, submit, index, frame))
        if failing is not None:
            error = {"code": "InternalServiceError", "message": MESSAGES["InternalServiceError"]}
            events.append(f"event: error\ndata: {json.dumps({'error': error})}\n\n")
            when.append(1.0)
        else:
            top = {"error": top_error} if (top_error := _top_error(job)) else {}
            usage = {} if "no-usage" in job.faults else {"usage": _usage(job, submit)}
            add("completed", 1.0, **usage, **top)
        if "no-done" not in job.faults:
            events.append("data: [DONE]\n\n")
            when.append(1.0)

        async def due(index: int) -> None:
            await self.ended(job, when[index])
            await asyncio.wait([asyncio.wrap_future(job.pictures)])

        cut = job.faults.get("cut", {})
        headers = {"X-Request-Id": self._request_id()}
        if "charset" in job.faults:
            headers["Content-Type"] = f"text/event-stream; charset={job.faults['charset']['charset']}"
        return EventStream(events, due, cut=cut.get("after"), quietly=bool(cut.get("quietly")), headers=headers)

    # Free

    async def _models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in self._sold]})

    def _request_id(self) -> str:
        stamp = datetime.fromtimestamp(self.clock(), UTC)
        return f"02{int(self.clock() * 1000)}{stamp:%f}{len(self.seen):08x}"


def _frames(job: EmulatedJob) -> list[dict[str, Any]]:
    """Return one entry per attempted image: empty for a made image, with an error for a failed one."""
    traits = job.faults
    if "empty" in traits or "top-error" in traits:
        return []
    frames: list[dict[str, Any]] = [{} for _ in range(job.expected)]
    if "all-failed" in traits:
        frames = [_failed(traits["all-failed"]["code"]) for _ in frames]
    if "frame-failed" in traits and traits["frame-failed"]["n"] <= len(frames):
        frames[traits["frame-failed"]["n"] - 1] = _failed(traits["frame-failed"]["code"])
    if "frame-broken" in traits and traits["frame-broken"]["n"] <= len(frames):
        frames[traits["frame-broken"]["n"] - 1 :] = [_failed("InternalServiceError")]
    if "stopped" in traits:
        frames = frames[: traits["stopped"]["after"]]
    if "stream-error" in traits:
        frames = [*frames[: traits["stream-error"]["after"]], _failed("InternalServiceError")]
    return frames


def _top_error(job: EmulatedJob) -> dict[str, str]:
    """Return the error beside the entries, if there is one."""
    code = SENSITIVE if "top-error" in job.faults else "InternalServiceError" if "stopped" in job.faults else ""
    return {"code": code, "message": MESSAGES[code]} if code else {}


def _layer(job: EmulatedJob, index: int) -> dict[str, Any]:
    """Return an entry's facts about a layer; number 0 is the base, which has no box."""
    extension = job.spec.mime_type_of(index + 1).removeprefix("image/")
    base = {"size": "{}x{}".format(*job.spec.size), "output_format": extension, "z_index": index}
    if not index:
        return base
    names, boxes = {"name": f"layer {index}", "description": f"element {index} of the picture"}, job.spec.layer_boxes
    if "odd-layers" in job.faults:
        names = {"name": "\x1b[2J" + "x" * 5000, "description": "a\nb"}
        boxes = {**boxes, "absolute": [9, 9, 1, 1]}
    text = {"content": "SALE", "font": "serif"}
    size = "{}x{}".format(*job.spec.layer_size)
    return {**base, "size": size, **names, "text": text, "bounding_box": boxes}


def _failed(code: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": MESSAGES.get(code, "The image failed.")}}


def _usage(job: EmulatedJob, submit: ParsedRequest) -> dict[str, Any]:
    made = job.expected - job.missing
    tokens = made * job.spec.size[0] * job.spec.size[1] // 256
    usage: dict[str, Any] = {"generated_images": made, "output_tokens": tokens, "total_tokens": tokens}
    if not submit.model.sequences:
        usage["input_images"] = len(job.spec.references)
    if submit.searched:
        usage["tool_usage"] = {"web_search": 1}
    return usage
