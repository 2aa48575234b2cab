"""The emulated APIs as the generic tests need them: how to submit, to poll and to reach every operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx2

from support.pictures import picture

Send = Callable[[httpx2.Client], httpx2.Response]
FILE = {"file": ("cat.png", picture(), "image/png")}


@dataclass(frozen=True)
class Api:
    """One API on the wire. `poll` is None where the submit itself is held until the images are made."""

    name: str
    submit: Callable[[httpx2.Client, str], httpx2.Response]
    """Send a request for one image."""
    job_id: Callable[[Any], str]
    """Read the job's id from the body of a submit's response."""
    poll: Callable[[httpx2.Client, str], httpx2.Response] | None
    status: Callable[[Any], str]
    """Read the job's status from the body of a poll."""
    urls: Callable[[Any], list[str]]
    """Read the result URLs from the body of a poll, or of a held submit."""
    code: Callable[[Any], Any]
    """Read the error code from the body of a refusal."""
    price_usd: str
    switches: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, Send] = field(default_factory=dict)
    """The operations besides submit, poll and result."""


def _atlas() -> Api:
    model = "bytedance/seedream-v5.0-lite/sequential"
    base = "/api/v1/model"
    return Api(
        "atlas",
        lambda c, prompt: c.post(f"{base}/generateImage", json={"model": model, "prompt": prompt}),
        lambda body: body["data"]["id"],
        lambda c, job_id: c.get(f"{base}/prediction/{quote(job_id, safe='')}"),
        lambda body: body["data"]["status"],
        lambda body: body["data"]["outputs"],
        lambda body: body["error"]["code"] if "error" in body else body["code"],
        "0.032",
        {"balance_usd": "1000"},
        {
            "upload": lambda c: c.post(f"{base}/uploadMedia", files=FILE),
            "models": lambda c: c.get("/api/v1/models"),
            "calculate": lambda c: c.post(f"{base}/calculate", json={"model": model, "prompt": "two"}),
            "history": lambda c: c.get(f"{base}/history"),
            "balance": lambda c: c.get("/public/v1/balance"),
        },
    )


def _wavespeed() -> Api:
    model = "bytedance/seedream-v5.0-lite/sequential"

    def put(client: httpx2.Client) -> httpx2.Response:
        asked = {"filename": "cat.png", "size": len(picture()), "content_type": "image/png"}
        upload = client.post("/api/v3/media/uploads", json=asked).json()["data"]["upload"]
        return httpx2.put(upload["url"], content=picture(), headers=upload["headers"])

    return Api(
        "wavespeed",
        lambda c, prompt: c.post(f"/api/v3/{model}", json={"prompt": prompt}),
        lambda body: body["data"]["id"],
        lambda c, job_id: c.get(f"/api/v3/predictions/{quote(job_id, safe='')}/result"),
        lambda body: body["data"]["status"],
        lambda body: body["data"]["outputs"],
        lambda body: body.get("error_code", body["code"]),
        "0.035",
        {"balance_usd": "1000"},
        {
            "upload": lambda c: c.post("/api/v3/media/uploads", json={"filename": "cat.png", "size": 1}),
            "put": put,
            "form": lambda c: c.post("/api/v3/media/upload/binary", files=FILE),
            "models": lambda c: c.get("/api/v3/models"),
            "price": lambda c: c.post("/api/v3/model/price", json={"model_id": model, "inputs": {"prompt": "two"}}),
            "history": lambda c: c.post("/api/v3/predictions", json={"page": 1, "page_size": 20}),
            "balance": lambda c: c.get("/api/v3/balance"),
        },
    )


def _evolink() -> Api:
    submit = {"model": "doubao-seedream-5.0-lite"}
    return Api(
        "evolink",
        lambda c, prompt: c.post("/v1/images/generations", json={**submit, "prompt": prompt}),
        lambda body: body["id"],
        lambda c, job_id: c.get(f"/v1/tasks/{quote(job_id, safe='')}"),
        lambda body: body["status"],
        lambda body: body["results"],
        lambda body: body["error"]["code"] if "error" in body else body["code"],
        "0.032",
        {"balance_usd": "1000"},
        {
            "batch": lambda c: c.post("/v1/tasks/batch", json={"task_ids": ["x"]}),
            "tasks": lambda c: c.get("/v1/tasks"),
            "upload": lambda c: c.post("/api/v1/files/upload/stream", files=FILE),
            "files": lambda c: c.get("/api/v1/files/list"),
            "models": lambda c: c.get("/v1/catalog/models"),
            "balance": lambda c: c.get("/v1/credits"),
        },
    )


def _runware() -> Api:
    def send(client: httpx2.Client, kind: str, task_id: str | None = None, **fields: Any) -> httpx2.Response:
        return client.post("/v1", json=[{"taskType": kind, "taskUUID": task_id or str(uuid4()), **fields}])

    def submit(client: httpx2.Client, prompt: str) -> httpx2.Response:
        fields = {"model": "bytedance:seedream@5.0-lite", "positivePrompt": prompt, "deliveryMethod": "async"}
        return send(client, "imageInference", **fields)

    def details(client: httpx2.Client) -> httpx2.Response:
        return send(client, "getTaskDetails", submit(client, "details").json()["data"][0]["taskUUID"])

    return Api(
        "runware",
        submit,
        lambda body: body["data"][0]["taskUUID"],
        lambda c, job_id: send(c, "getResponse", job_id),
        lambda body: body["data"][0]["status"],
        lambda body: [item["imageURL"] for item in body["data"]],
        lambda body: body["errors"][0]["code"],
        "0.035",
        {"balance_usd": "1000"},
        {
            "details": details,
            "upload": lambda c: send(c, "mediaStorage", operation="delete", media="x"),
            "models": lambda c: send(c, "modelSearch", search="seedream"),
            "account": lambda c: send(c, "accountManagement", operation="getDetails"),
        },
    )


def _ark() -> Api:
    body = {"model": "seedream-5-0-260128"}
    return Api(
        "ark",
        lambda c, prompt: c.post("/api/v3/images/generations", json={**body, "prompt": prompt}),
        lambda body: "",
        None,
        lambda body: "done",
        lambda body: [entry["url"] for entry in body["data"]],
        lambda body: body.get("error", body)["code"],
        "0.035",
        {},
        {"models": lambda c: c.get("/api/v3/models")},
    )


def _novita() -> Api:
    return Api(
        "novita",
        lambda c, prompt: c.post("/v3/seedream-5.0-lite", json={"prompt": prompt}),
        lambda body: "",
        None,
        lambda body: "done",
        lambda body: body["images"],
        lambda body: body["error"]["code"] if "error" in body else body["reason"],
        "0.035",
    )


APIS = {api.name: api for api in (_ark(), _atlas(), _evolink(), _novita(), _runware(), _wavespeed())}
