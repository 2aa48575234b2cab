"""The predictions of Atlas Cloud: the usual body, and every odd one that was reported, as a table.

Source: the official MCP server and the product page for the body; the documentation and third-party reports for the
oddities (docs/providers/atlas.md#poll). One function per oddity; each changes a response.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from triptych_emulators.kit import EmulatedJob, FaultType, JobFailure, for_jobs

MODERATION = 1039
_MODERATED = JobFailure("The request was rejected by the content safety policy.", MODERATION)
_FAILED = JobFailure("Generation failed: the upstream model returned an error.")

Options = Mapping[str, Any]


@dataclass
class PollResponse:
    """A response to a poll; `message` is the envelope's."""

    job: EmulatedJob
    data: dict[str, Any]
    status: int = 200
    message: str = "success"

    @property
    def ended(self) -> bool:
        return "completed_at" in self.data


def prediction(job: EmulatedJob, outcome: str, url: str, outputs: list[str]) -> dict[str, Any]:
    """Return a prediction as in submit, poll and history; `outcome` is running, failed or done."""
    data: dict[str, Any] = {
        "id": job.id,
        "model": job.spec.model,
        "outputs": None,
        "urls": {"get": url},
        "has_nsfw_contents": None,
        "status": "processing",
        "created_at": job.created_at.isoformat().replace("+00:00", "Z"),
        "error": "",
        "executionTime": 0,
        "timings": {"inference": 0},
    }
    if outcome == "running":
        return data
    seconds = max(0.0, job.finish_at - job.submitted_at)
    data["completed_at"] = (job.created_at + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    data["executionTime"] = data["latency_ms"] = round(seconds * 1000)
    data["timings"] = {"inference": round(seconds * 1000)}
    if outcome == "failed" and job.failure is not None:
        data.update(status=job.failure.status, error=job.failure.message)
        if job.failure.code is not None:
            data["error_code"] = job.failure.code
        return data
    data.update(status="completed", outputs=outputs, has_nsfw_contents=[False] * len(outputs))
    data["metrics"] = {"predict_time": round(seconds, 3)}
    if job.spec.layers:
        data["layers"] = [_layer(job, n) for n in range(len(outputs))]
    return data


def _layer(job: EmulatedJob, n: int) -> dict[str, Any]:
    """Return a prediction's facts about one layer; the base, number 0, has no box."""
    width, height = job.spec.layer_size if n else job.spec.size
    layer: dict[str, Any] = {"image": {"width": width, "height": height}, "z_index": n}
    if n:
        layer |= {"bounding_box": job.spec.layer_boxes}
        layer |= {"name": f"element {n}", "description": f"Element {n} of the picture."}
    return layer


def _held(response: PollResponse, status: str) -> None:
    """Show the job as if it still ran."""
    response.data.update(status=status, outputs=None, has_nsfw_contents=None, error="", executionTime=0)
    for name in ("completed_at", "price", "metrics", "latency_ms", "error_code"):
        response.data.pop(name, None)


def _unknown_status(response: PollResponse, options: Options) -> None:
    if response.job.polls <= options["n"]:
        _held(response, str(options["status"]))


def _pending_after_processing(response: PollResponse, options: Options) -> None:
    if response.job.polls <= options["n"]:
        _held(response, "pending" if response.job.polls % 2 == 0 else "processing")


def _failed_500(response: PollResponse, _: Options) -> None:
    if response.ended:
        response.status, response.message = 500, f"Generation failed: {response.data['error']}"


def _200_then_500(response: PollResponse, options: Options) -> None:
    if response.job.polls_after_end > 1:
        _failed_500(response, options)


def _at_first(status: int) -> Callable[[PollResponse, Options], None]:
    def change(response: PollResponse, options: Options) -> None:
        if response.job.polls <= options["n"]:
            response.status, response.data = status, {}

    return change


def _outputs_string(response: PollResponse, _: Options) -> None:
    outputs = response.data["outputs"]
    if outputs and len(outputs) == 1:
        response.data["outputs"] = outputs[0]


def _outputs_objects(response: PollResponse, options: Options) -> None:
    if response.data["outputs"]:
        response.data["outputs"] = [{str(options["field"]): url} for url in response.data["outputs"]]


def _output_old_spelling(response: PollResponse, _: Options) -> None:
    response.data["output"] = response.data.pop("outputs")


def _error_object(response: PollResponse, _: Options) -> None:
    if response.data.get("error"):
        response.data["error"] = {"code": response.data.get("error_code", 500), "message": response.data["error"]}


def _empty_outputs(response: PollResponse, _: Options) -> None:
    if response.ended:
        response.data.update(outputs=[], has_nsfw_contents=[])


def _layers_missing(response: PollResponse, _: Options) -> None:
    response.data.pop("layers", None)


def _layers_fewer(response: PollResponse, _: Options) -> None:
    if response.data.get("layers"):
        response.data["layers"] = response.data["layers"][1:]


def _layers_odd(response: PollResponse, _: Options) -> None:
    for layer in response.data.get("layers", ()):
        layer.update(
            z_index="top", name=["x"], description="a\n\u202eb" * 400, bounding_box={"absolute": [9, 9, 1, "1"]}
        )


def _price_late(response: PollResponse, options: Options) -> None:
    if response.job.polls_after_end <= options["polls"]:
        response.data.pop("price", None)


def _price_never(response: PollResponse, _: Options) -> None:
    response.data.pop("price", None)


def _as_it_is(response: PollResponse, _: Options) -> None:
    """The fault has changed the job or its URL before."""


Change = Callable[[PollResponse, Options], None]


def _odd(
    name: str, about: str, change: Change, options: Options | None = None, fails: JobFailure | None = None
) -> tuple[FaultType, Change]:
    return for_jobs(name, about, fails, **(options or {})), change


_TEXT = {"message": _FAILED.message}
_TIMED_OUT = JobFailure("task timed out", None, "timeout")

ODDITIES: tuple[tuple[FaultType, Change], ...] = (
    _odd("unknown-status", "an undocumented status for n polls", _unknown_status, {"n": 2, "status": "warming"}),
    _odd("pending-after-processing", "processing, then pending, for n polls", _pending_after_processing, {"n": 2}),
    _odd("failed-200", "the job fails; HTTP 200 with status failed", _as_it_is, {"error_code": None, **_TEXT}, _FAILED),
    _odd("moderated", "the job fails for its content; HTTP 200, error_code 1039", _as_it_is, fails=_MODERATED),
    _odd("failed-500", "the job fails; the whole body under HTTP 500", _failed_500, {"error_code": None}, _FAILED),
    _odd("200-then-500", "the job fails; HTTP 200 at first, HTTP 500 from then on", _200_then_500, fails=_FAILED),
    _odd("400-at-first", "HTTP 400 for the first n polls", _at_first(400), {"n": 2}),
    _odd("404-at-first", "HTTP 404 for the first n polls", _at_first(404), {"n": 2}),
    _odd("timeout-status", "the job ends with status timeout", _as_it_is, fails=_TIMED_OUT),
    _odd("canceled", "the job ends with status canceled", _as_it_is, fails=JobFailure("", None, "canceled")),
    _odd("cancelled", "the job ends with status cancelled", _as_it_is, fails=JobFailure("", None, "cancelled")),
    _odd("outputs-string", "a single output is a bare string, not a list", _outputs_string),
    _odd("outputs-objects", "outputs are objects; field is url or download_url", _outputs_objects, {"field": "url"}),
    _odd("output-old-spelling", "the list is called output", _output_old_spelling),
    _odd("error-object", "the job fails, and error is an object", _error_object, {"error_code": None}, _FAILED),
    _odd("empty-outputs", "the job completes with an empty list", _empty_outputs),
    _odd("fewer", "n images fewer than requested, charged accordingly", _as_it_is, {"n": 1}),
    _odd("layers-missing", "a layer job has outputs alone, no list of layers", _layers_missing),
    _odd("layers-fewer", "the list of layers has one entry fewer than the outputs", _layers_fewer),
    _odd("layers-odd", "every field of the layers is of the wrong type or far too long", _layers_odd),
    _odd("price-late", "no price in the first `polls` responses after the end", _price_late, {"polls": 3}),
    _odd("price-never", "no price at all", _price_never),
    _odd("other-host-url", "urls.get names another host", _as_it_is, {"host": "https://poll.atlascloud.example"}),
)

_CHANGES = {fault.name: change for fault, change in ODDITIES}


def with_oddities(response: PollResponse) -> PollResponse:
    """Return the response, changed by the job's faults."""
    for name, options in response.job.faults.items():
        if name in _CHANGES and response.data:
            _CHANGES[name](response, options)
    return response
