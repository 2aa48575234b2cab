"""How Atlas Cloud tells of a prediction: the usual body, and every odd one that was reported, as a table.

Source: the official MCP server and the product page for the body; the documentation and third-party reports for the
oddities (docs/providers/atlas.md#poll). One function per oddity; each changes the answer it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from triptych.emulator.stage import Failure, Fault, Work

MODERATION = 1039
_MODERATED = Failure("The request was rejected by the content safety policy.", MODERATION)
_FAILED = Failure("Generation failed: the upstream model returned an error.")

Options = Mapping[str, Any]


@dataclass
class Answer:
    """An answer to a poll while it is being made; `message` is the envelope's."""

    work: Work
    data: dict[str, Any]
    status: int = 200
    message: str = "success"

    @property
    def ended(self) -> bool:
        return "completed_at" in self.data


def prediction(work: Work, outcome: str, url: str, outputs: list[str]) -> dict[str, Any]:
    """Return a prediction as submit, poll and history tell it; `outcome` is running, failed or done."""
    data: dict[str, Any] = {
        "id": work.id,
        "model": work.order.model,
        "outputs": None,
        "urls": {"get": url},
        "has_nsfw_contents": None,
        "status": "processing",
        "created_at": work.created_at.isoformat().replace("+00:00", "Z"),
        "error": "",
        "executionTime": 0,
        "timings": {"inference": 0},
    }
    if outcome == "running":
        return data
    seconds = max(0.0, work.finish_at - work.submitted_at)
    data["completed_at"] = (work.created_at + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    data["executionTime"] = data["latency_ms"] = round(seconds * 1000)
    data["timings"] = {"inference": round(seconds * 1000)}
    if outcome == "failed" and work.failure is not None:
        data.update(status=work.failure.status, error=work.failure.message)
        if work.failure.code is not None:
            data["error_code"] = work.failure.code
        return data
    data.update(status="completed", outputs=outputs, has_nsfw_contents=[False] * len(outputs))
    data["metrics"] = {"predict_time": round(seconds, 3)}
    return data


def _held(answer: Answer, status: str) -> None:
    """Tell of the job as if it were still running."""
    answer.data.update(status=status, outputs=None, has_nsfw_contents=None, error="", executionTime=0)
    for name in ("completed_at", "price", "metrics", "latency_ms", "error_code"):
        answer.data.pop(name, None)


def _unknown_status(answer: Answer, options: Options) -> None:
    if answer.work.polls <= options["n"]:
        _held(answer, str(options["status"]))


def _pending_after_processing(answer: Answer, options: Options) -> None:
    if answer.work.polls <= options["n"]:
        _held(answer, "pending" if answer.work.polls % 2 == 0 else "processing")


def _failed_500(answer: Answer, _: Options) -> None:
    if answer.ended:
        answer.status, answer.message = 500, f"Generation failed: {answer.data['error']}"


def _200_then_500(answer: Answer, options: Options) -> None:
    if answer.work.polls_after_end > 1:
        _failed_500(answer, options)


def _at_first(status: int) -> Callable[[Answer, Options], None]:
    def change(answer: Answer, options: Options) -> None:
        if answer.work.polls <= options["n"]:
            answer.status, answer.data = status, {}

    return change


def _outputs_string(answer: Answer, _: Options) -> None:
    outputs = answer.data["outputs"]
    if outputs and len(outputs) == 1:
        answer.data["outputs"] = outputs[0]


def _outputs_objects(answer: Answer, options: Options) -> None:
    if answer.data["outputs"]:
        answer.data["outputs"] = [{str(options["field"]): url} for url in answer.data["outputs"]]


def _output_old_spelling(answer: Answer, _: Options) -> None:
    answer.data["output"] = answer.data.pop("outputs")


def _error_object(answer: Answer, _: Options) -> None:
    if answer.data.get("error"):
        answer.data["error"] = {"code": answer.data.get("error_code", 500), "message": answer.data["error"]}


def _empty_outputs(answer: Answer, _: Options) -> None:
    if answer.ended:
        answer.data.update(outputs=[], has_nsfw_contents=[])


def _price_late(answer: Answer, options: Options) -> None:
    if answer.work.polls_after_end <= options["polls"]:
        answer.data.pop("price", None)


def _price_never(answer: Answer, _: Options) -> None:
    answer.data.pop("price", None)


def _as_it_is(answer: Answer, _: Options) -> None:
    """The fault changed the job, or its URL, already."""


Change = Callable[[Answer, Options], None]


def _odd(
    name: str, about: str, change: Change, options: Options | None = None, fails: Failure | None = None
) -> tuple[Fault, Change]:
    return Fault("poll", name, about, "work", options or {}, fails), change


_TEXT = {"message": _FAILED.message}
_TIMED_OUT = Failure("task timed out", None, "timeout")

ODDITIES: tuple[tuple[Fault, Change], ...] = (
    _odd("unknown-status", "an undocumented status for n polls", _unknown_status, {"n": 2, "status": "warming"}),
    _odd("pending-after-processing", "processing, then pending, for n polls", _pending_after_processing, {"n": 2}),
    _odd("failed-200", "the job fails; HTTP 200 with status failed", _as_it_is, {"error_code": None, **_TEXT}, _FAILED),
    _odd("moderated", "the job fails for its content; HTTP 200, error_code 1039", _as_it_is, fails=_MODERATED),
    _odd("failed-500", "the job fails; the whole body under HTTP 500", _failed_500, {"error_code": None}, _FAILED),
    _odd("200-then-500", "the job fails; HTTP 200 at first, HTTP 500 from then on", _200_then_500, fails=_FAILED),
    _odd("400-at-first", "HTTP 400 for the first n polls", _at_first(400), {"n": 2}),
    _odd("404-at-first", "HTTP 404 for the first n polls", _at_first(404), {"n": 2}),
    _odd("timeout-status", "the job ends with status timeout", _as_it_is, fails=_TIMED_OUT),
    _odd("canceled", "the job ends with status canceled", _as_it_is, fails=Failure("", None, "canceled")),
    _odd("cancelled", "the job ends with status cancelled", _as_it_is, fails=Failure("", None, "cancelled")),
    _odd("outputs-string", "a single output is a bare string, not a list", _outputs_string),
    _odd("outputs-objects", "outputs are objects; field is url or download_url", _outputs_objects, {"field": "url"}),
    _odd("output-old-spelling", "the list is called output", _output_old_spelling),
    _odd("error-object", "the job fails, and error is an object", _error_object, {"error_code": None}, _FAILED),
    _odd("empty-outputs", "the job completes with an empty list", _empty_outputs),
    _odd("fewer", "n images fewer than asked for, charged accordingly", _as_it_is, {"n": 1}),
    _odd("price-late", "no price in the first `polls` answers after the end", _price_late, {"polls": 3}),
    _odd("price-never", "no price at all", _price_never),
    _odd("other-host-url", "urls.get names another host", _as_it_is, {"host": "https://poll.atlascloud.example"}),
)

_CHANGES = {fault.name: change for fault, change in ODDITIES}


def oddly(answer: Answer) -> Answer:
    """Return the answer as the job's faults make it."""
    for name, options in answer.work.traits.items():
        if name in _CHANGES and answer.data:
            _CHANGES[name](answer, options)
    return answer
