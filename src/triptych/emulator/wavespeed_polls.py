"""How WaveSpeedAI tells of a prediction: the usual body, its statuses and task codes, and every odd one, as a table.

Source: the official SDK for the statuses, the documentation for the task codes, a live transcript for the body
(docs/providers/wavespeed.md#poll). One function per oddity; each changes the answer it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from triptych.emulator.stage import Failure, Fault, Work

MODERATION = 1200
CODES: Mapping[int, str] = {
    1400: "missing parameter: images",
    1401: "invalid parameter: size",
    1402: "failed to access media: the URL could not be downloaded",
    1403: "model execution failed",
    1405: "task failed",
    1406: "task failed: no output",
    1407: "task failed: upstream error",
    5000: "internal server error",
    5003: "task timed out in the queue",
}
SYNC_TIMED_OUT = 5004

Options = Mapping[str, Any]


def prediction(work: Work, outcome: str, url: str, outputs: list[Any]) -> dict[str, Any]:
    """Return a prediction as poll and history tell it; `outcome` is running, failed or done."""
    data: dict[str, Any] = {
        "id": work.id,
        "model": work.order.model,
        "outputs": outputs if outcome == "done" else [],
        "urls": {"get": url},
        "has_nsfw_contents": [False] * len(outputs) if outcome == "done" else [],
        "status": "completed" if outcome == "done" else "processing",
        "created_at": work.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "error": "",
        "timings": {"inference": round((work.finish_at - work.submitted_at) * 1000) if outcome != "running" else 0},
    }
    if outcome == "failed" and work.failure is not None:
        code = {400: 1402, 500: 5000}.get(work.failure.code or 0, work.failure.code)
        data.update(status=work.failure.status, error=work.failure.message)
        if code is not None:
            data["code"] = code
    if outcome == "done":
        for name, options in work.traits.items():
            if name in _CHANGES:
                _CHANGES[name](data, options)
    odd = work.traits.get("unknown-status")
    if odd is not None and work.polls <= odd["n"]:
        data.update(status=odd["status"], outputs=[], has_nsfw_contents=[], error="")
        data.pop("code", None)
    return data


def _empty(data: dict[str, Any], _: Options) -> None:
    data.update(outputs=[], has_nsfw_contents=[])


def _objects(data: dict[str, Any], options: Options) -> None:
    data["outputs"] = [{str(options["field"]): url} for url in data["outputs"]]


def _string(data: dict[str, Any], _: Options) -> None:
    if len(data["outputs"]) == 1:
        data["outputs"] = data["outputs"][0]


def _frame_missing(data: dict[str, Any], options: Options) -> None:
    at = int(options["n"]) - 1
    if at < len(data["outputs"]):
        data["outputs"] = [None if i == at else url for i, url in enumerate(data["outputs"])]


def _no_model(data: dict[str, Any], _: Options) -> None:
    del data["model"], data["has_nsfw_contents"], data["timings"], data["error"]


def _fails(name: str, about: str, failure: Failure, options: Options | None = None) -> Fault:
    return Fault("poll", name, about, "work", options or {}, failure)


_CHANGES: Mapping[str, Callable[[dict[str, Any], Options], None]] = {
    "empty-outputs": _empty,
    "outputs-objects": _objects,
    "outputs-string": _string,
    "frame-missing": _frame_missing,
    "bare": _no_model,
}
_REASON = Failure("model execution failed: the upstream returned an error", 1403)
ODDITIES: tuple[Fault, ...] = (
    Fault("poll", "unknown-status", "an undocumented status for n polls", "work", {"n": 2, "status": "warming"}),
    _fails("failed-200", "the job fails", _REASON, {"error_code": 1403, "message": _REASON.message}),
    _fails("no-code", "the job fails without a task code", Failure("something went wrong")),
    _fails("moderated", "the job fails for its content", Failure("Content flagged as potentially unsafe.", MODERATION)),
    *(_fails(f"code-{code}", f"the job fails with task code {code}", Failure(t, code)) for code, t in CODES.items()),
    _fails("cancelled", "the job ends with status cancelled", Failure("", None, "cancelled")),
    _fails("timeout-status", "the job ends with status timeout", Failure("task timed out", None, "timeout")),
    _fails("deleted", "the job ends with status deleted", Failure("", None, "deleted")),
    Fault("poll", "empty-outputs", "the job completes with an empty list", "work"),
    Fault("poll", "outputs-objects", "outputs are objects; field is url or download_url", "work", {"field": "url"}),
    Fault("poll", "outputs-string", "a single output is a bare string, not a list", "work"),
    Fault("poll", "frame-missing", "the n-th output is null", "work", {"n": 1}),
    Fault("poll", "bare", "nothing but id, urls, status, outputs and created_at", "work"),
    Fault("poll", "fewer", "n images fewer than asked for, charged accordingly", "work", {"n": 1}),
)
