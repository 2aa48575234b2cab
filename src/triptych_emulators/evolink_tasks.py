"""The tasks of EvoLink: the usual body, its error codes, and every odd one, as a table.

Source: the documentation and the official MCP server (docs/providers/evolink.md#poll). One function per oddity; each
changes a response.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from triptych_emulators.evolink_models import credits
from triptych_emulators.kit import EmulatedJob, FaultType, JobFailure, for_jobs

CODES: Mapping[str, str] = {
    "content_policy_violation": "The request was rejected by the content policy.",
    "invalid_parameters": "A parameter is outside the supported range.",
    "image_dimension_mismatch": "The input image's dimensions do not match.",
    "image_processing_error": "Failed to process the input image.",
    "request_cancelled": "The request was cancelled.",
    "resource_not_found": "The resource was not found.",
    "generation_timeout": "Generation timed out.",
    "quota_exceeded": "The quota is exceeded.",
    "resource_exhausted": "Server resources are exhausted.",
    "generation_failed_no_content": "The model produced no output.",
    "service_error": "Internal service error.",
    "service_unavailable": "The service is temporarily unavailable.",
    "upstream_error": "The upstream returned an error.",
    "rate_limited": "Too many requests upstream.",
    "unknown_error": "Unknown error.",
}
Options = Mapping[str, Any]


def task(job: EmulatedJob, outcome: str, outputs: list[Any], charged_usd: Any) -> dict[str, Any]:
    """Return a task as in submit, poll and batch; `outcome` is new, running, failed or done."""
    ended = outcome in ("failed", "done")
    share = credits(job.spec.total_usd)
    data: dict[str, Any] = {
        "created": int(job.submitted_at),
        "id": job.id,
        "model": job.spec.model,
        "object": "image.generation.task",
        "progress": {"new": 0, "running": 40}.get(outcome, 100),
        "status": {"new": "pending", "running": "processing", "done": "completed"}.get(outcome, outcome),
        "task_info": {"can_cancel": False} if ended else {"can_cancel": True, "estimated_time": 45},
        "type": "image",
        "usage": {"billing_rule": "per_call", "credits_reserved": share, "user_group": "default"},
    }
    if outcome == "failed" and job.failure is not None:
        _add_failure(data, job.failure)
    if outcome == "done":
        cost = {"credits": credits(charged_usd), "usd": float(charged_usd), "cny": round(float(charged_usd) * 7.1, 4)}
        data |= {"results": outputs, "usage": {"credits_used": cost["credits"], "cost": cost}}
        if job.spec.layers:
            data["result_data"] = [_layer(job, index, url) for index, url in enumerate(outputs)]
        for name, options in job.faults.items():
            if name in _CHANGES:
                _CHANGES[name](data, options)
    odd = job.faults.get("unknown-status")
    if odd is not None and outcome != "new" and job.polls <= odd["n"]:
        data.update(status=odd["status"], progress=40)
        data.pop("results", None)
        data.pop("error", None)
    return data


def _layer(job: EmulatedJob, index: int, url: str) -> dict[str, Any]:
    """Return a result of a layer decomposition; number 0 is the base, which has no box. Its shape is the origin's."""
    base = {"url": url, "z_index": index}
    if not index:
        return base
    boxes = {"absolute": [*job.spec.layer_box]}
    return {**base, "name": f"layer {index}", "description": f"element {index}", "bounding_box": boxes}


def summary(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task as in the list of tasks."""
    common = {name: task[name] for name in ("id", "model", "type", "status", "progress")}
    results = task.get("results") or task.get("result_data") or []
    ended = {"has_results": bool(results), "result_count": len(results), "has_error": "error" in task}
    return {**common, "created_at": task["created"], **(ended if task["progress"] == 100 else {})}


def _add_failure(data: dict[str, Any], failure: JobFailure) -> None:
    code = {400: "image_processing_error", 500: "service_error"}.get(failure.code or 0)
    known = code or next((c for c in CODES if failure.message == CODES[c]), "unknown_error")
    data["status"] = failure.status
    data["usage"] = {"credits_used": 0, "cost": {"credits": 0, "usd": 0, "cny": 0}}
    if failure.message:
        data["error"] = {"code": known, "message": failure.message, "type": "task_error"}


def _empty(data: dict[str, Any], _: Options) -> None:
    data["results"] = []
    data.pop("result_data", None)


def _objects(data: dict[str, Any], options: Options) -> None:
    data["result_data"] = [{str(options["field"]): url} for url in data.pop("results")]


def _frame_missing(data: dict[str, Any], options: Options) -> None:
    at = int(options["n"]) - 1
    data["results"] = [None if i == at else url for i, url in enumerate(data["results"])]


def _layers_inside(data: dict[str, Any], _: Options) -> None:
    data["results"] = data.pop("result_data", data["results"])


def _layers_bare(data: dict[str, Any], _: Options) -> None:
    data.pop("result_data", None)


def _no_cost(data: dict[str, Any], _: Options) -> None:
    data["usage"] = {"credits_reserved": data["usage"]["credits_used"]}


def _credits_only(data: dict[str, Any], _: Options) -> None:
    del data["usage"]["cost"]


_CHANGES: Mapping[str, Callable[[dict[str, Any], Options], None]] = {
    "empty-outputs": _empty,
    "result-data": _objects,
    "frame-missing": _frame_missing,
    "layers-inside": _layers_inside,
    "layers-bare": _layers_bare,
    "price-never": _no_cost,
    "credits-only": _credits_only,
}


_FAILED, _POLICY = CODES["upstream_error"], CODES["content_policy_violation"]
ODDITIES: tuple[FaultType, ...] = (
    for_jobs("unknown-status", "an undocumented status for n polls", n=2, status="warming"),
    for_jobs("failed-200", "the task fails", JobFailure(_FAILED), message=_FAILED),
    for_jobs("moderated", "the task fails for its content", JobFailure(_POLICY)),
    *(for_jobs(code, f"the task fails with code {code}", JobFailure(text)) for code, text in CODES.items()),
    for_jobs("no-reason", "the task fails without an error", JobFailure("")),
    for_jobs("cancelled", "the task ends with status cancelled", JobFailure("", None, "cancelled")),
    for_jobs("empty-outputs", "the task completes with an empty list"),
    for_jobs("result-data", "result_data, not results; field is image_url or url", field="image_url"),
    for_jobs("frame-missing", "the n-th result is null", n=1),
    for_jobs("fewer", "n images fewer than requested, charged accordingly", n=1),
    for_jobs("layers-inside", "the names of layers are in the results, not beside them"),
    for_jobs("layers-bare", "layers without names and boxes"),
    for_jobs("price-never", "no cost at all"),
    for_jobs("credits-only", "the cost in credits alone"),
)
