"""The emulated EvoLink over real sockets: its own bodies, limits, prices and faults. The test moves the clock."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from PIL import Image

from support.clients import AUTH
from support.clocks import HandClock
from support.emulated_apis import FORM_FILE, Api
from support.pictures import picture
from triptych_emulators import Emulator, faults, running
from triptych_emulators.evolink_tasks import CODES

EMULATED = {"name": "evolink", "balance_usd": "1000"}

SUBMIT = "/v1/images/generations"
LITE = "doubao-seedream-5.0-lite"
FILES = "/api/v1/files"


def generic_api() -> Api:
    """Return this API as the generic tests need it."""
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
            "upload": lambda c: c.post("/api/v1/files/upload/stream", files=FORM_FILE),
            "files": lambda c: c.get("/api/v1/files/list"),
            "models": lambda c: c.get("/v1/catalog/models"),
            "balance": lambda c: c.get("/v1/credits"),
        },
    )


def submit(
    client: httpx2.Client, prompt: str = "two lighthouses", key: str | None = None, **fields: Any
) -> httpx2.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return client.post(SUBMIT, json={"model": LITE, "prompt": prompt, **fields}, headers=headers)


def submitted(client: httpx2.Client, prompt: str = "two lighthouses", **fields: Any) -> str:
    return str(submit(client, prompt, **fields).json()["id"])


def poll(client: httpx2.Client, task_id: str) -> httpx2.Response:
    return client.get(f"/v1/tasks/{quote(task_id, safe='')}")


def polled(client: httpx2.Client, task_id: str) -> dict[str, Any]:
    told: dict[str, Any] = poll(client, task_id).json()
    return told


def upload(client: httpx2.Client, data: bytes, kind: str = "image/png") -> httpx2.Response:
    return client.post(f"{FILES}/upload/stream", files={"file": ("cat.png", data, kind)})


def uploaded(client: httpx2.Client, data: bytes) -> str:
    return str(upload(client, data).json()["data"]["file_url"])


# The usual way


def test_uploaded_images_are_edited_into_several_real_images(api: Emulator, client: httpx2.Client) -> None:
    url = uploaded(client, picture())
    before = api.charged_usd
    params = {"output_format": "png"}
    told = submit(client, "three warm ones", n=3, size="2304x1728", image_urls=[url], model_params=params).json()
    assert told["id"].startswith("task-unified-1000-") and told["id"].endswith("-seedream-50-lite")
    assert (told["status"], told["object"], told["progress"]) == ("pending", "image.generation.task", 0)
    assert told["task_info"] == {"can_cancel": True, "estimated_time": 45}
    assert told["usage"] == {"billing_rule": "per_call", "credits_reserved": 6.528, "user_group": "default"}
    done = polled(client, told["id"])
    assert (done["status"], done["progress"], done["task_info"]) == ("completed", 100, {"can_cancel": False})
    assert done["usage"]["cost"]["usd"] == 0.096 and done["usage"]["credits_used"] == 6.528
    pictures = [client.get(output) for output in done["results"]]
    assert [picture.headers["content-type"] for picture in pictures] == ["image/png"] * 3
    assert [Image.open(io.BytesIO(picture.content)).size for picture in pictures] == [(48, 36)] * 3
    assert client.get(url).content == picture()
    assert api.charged_usd - before == Decimal("0.096") and api.accepted[-1] == told["id"]


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ({}, (48, 48)),
        ({"size": "auto", "quality": "4K"}, (48, 48)),
        ({"size": "16:9"}, (48, 27)),
        ({"size": "9:16", "quality": "3K"}, (27, 48)),
        ({"size": "2K", "model": "doubao-seedream-4.5"}, (48, 48)),
        ({"size": "1024x1024", "model": "doubao-seedream-4.0"}, (48, 48)),
    ],
)
def test_a_size_is_auto_a_ratio_a_word_or_pixels(
    client: httpx2.Client, fields: dict[str, Any], shape: tuple[int, int]
) -> None:
    output = polled(client, submitted(client, **fields))["results"][0]
    assert output.endswith(".jpg") and Image.open(io.BytesIO(client.get(output).content)).size == shape


def test_a_known_idempotency_key_accepts_nothing_new(api: Emulator, client: httpx2.Client) -> None:
    before = len(api.accepted)
    first, again = submit(client, key="k-1"), submit(client, key="k-1")
    assert again.json() == first.json()
    assert "idempotency-replayed" not in first.headers and again.headers["idempotency-replayed"] == "true"
    assert len(api.accepted) == before + 1
    assert submit(client, "another", key="k-1").status_code == 409
    assert submit(client, key="k-2").json()["id"] != first.json()["id"]
    api.fault("submit", "lost-answer")
    with pytest.raises(httpx2.RemoteProtocolError):
        submit(client, "lost", key="k-3")
    assert submit(client, "lost", key="k-3").json()["id"] == api.accepted[-1]
    assert len(api.accepted) == before + 3


def test_a_task_ends_when_its_time_has_passed() -> None:
    clock = HandClock()
    with (
        running("evolink", max_side=16, latency_s=9.0, clock=clock) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        task_id = submitted(client)
        clock.now += 8.9
        told = polled(client, task_id)
        assert told["status"] == "processing" and "results" not in told
        clock.now += 0.1
        assert polled(client, task_id)["status"] == "completed"


def test_many_tasks_are_read_at_once_or_listed(client: httpx2.Client) -> None:
    first, second = submitted(client), submitted(client, "x [[emulate: moderated]]")
    told = client.post("/v1/tasks/batch", json={"task_ids": [second, first, "unknown"]}).json()["data"]
    assert [(one["id"], one["status"]) for one in told] == [(second, "failed"), (first, "completed")]
    listed = client.get("/v1/tasks", params={"page_size": 2}).json()
    assert [one["id"] for one in listed["data"]] == [second, first] and listed["total"] >= 2
    assert client.get("/v1/tasks", params={"status": "failed"}).json()["data"][0]["id"] == second
    assert client.get("/v1/tasks", params={"model": "doubao-seedream-9"}).json()["data"] == []
    for ids in ([], [first] * 51, "x"):
        assert client.post("/v1/tasks/batch", json={"task_ids": ids}).status_code == 400
    assert client.get("/v1/tasks", params={"page": "x"}).status_code == 400


def test_the_list_of_tasks_shows_neither_requests_nor_results(client: httpx2.Client) -> None:
    task_id = submitted(client)
    polled(client, task_id)
    (listed,) = client.get("/v1/tasks", params={"page_size": 1}).json()["data"]
    made = listed.pop("created_at")
    assert isinstance(made, int)
    assert listed == {
        "id": task_id,
        "model": "doubao-seedream-5.0-lite",
        "type": "image",
        "status": "completed",
        "progress": 100,
        "has_results": True,
        "result_count": 1,
        "has_error": False,
    }


def test_an_idempotency_key_is_forgotten_after_its_time() -> None:
    clock = HandClock()
    with (
        running("evolink", max_side=16, clock=clock, keys_kept_s=60) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        first = submit(client, key="k-1").json()["id"]
        clock.now += 59
        assert submit(client, key="k-1").json()["id"] == first
        clock.now += 1
        assert submit(client, key="k-1").json()["id"] != first and len(api.accepted) == 2


@pytest.mark.parametrize(
    ("fields", "about"),
    [
        ({"model": "doubao-seedream-9"}, "model not found"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 2001}, "2000"),
        ({"model": "doubao-seedream-4.0", "prompt": "x" * 1001}, "1000"),
        ({"n": 16}, "between 1 and 15"),
        ({"n": "2"}, "between 1 and 15"),
        ({"model": "doubao-seedream-5.0-pro", "n": 2}, "between 1 and 1"),
        ({"size": "2048*2048"}, "size"),
        ({"size": "1024x1024"}, "area"),
        ({"size": "8192x500"}, "aspect"),
        ({"quality": "9K"}, "quality"),
        ({"image_urls": ["https://x.example/1.png"] * 15}, "at most 14"),
        ({"image_urls": ["https://x.example/1.png"] * 14, "n": 2}, "must not exceed 15"),
        ({"image_urls": ["data:image/png;base64,eA=="]}, "URLs"),
        ({"model_params": {"output_format": "gif"}}, "output_format"),
    ],
)
def test_a_request_outside_the_limits_is_a_400(
    api: Emulator, client: httpx2.Client, fields: dict[str, Any], about: str
) -> None:
    before = len(api.accepted)
    refused = client.post(SUBMIT, json={"model": LITE, "prompt": "two", **fields})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (400, "invalid_parameters") and about in error["message"]
    assert len(api.accepted) == before


def test_an_unreadable_input_fails_the_task_and_costs_nothing(api: Emulator, client: httpx2.Client) -> None:
    before = api.charged_usd
    told = polled(client, submitted(client, image_urls=["https://example.org/cat.png"]))
    assert (told["status"], told["error"]["code"]) == ("failed", "image_processing_error")
    assert api.charged_usd == before


def test_an_empty_account_is_a_402_with_an_action() -> None:
    with (
        running("evolink", max_side=16, balance_usd="0.07", clock=HandClock()) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        assert submit(client, n=2).status_code == 200
        user = client.get("/v1/credits").json()["data"]["user"]
        assert user == {"remaining_credits": 0.408, "used_credits": 4.352}
        error = submit(client).json()["error"]
        assert (error["code"], "action_url" in error, len(api.accepted)) == ("insufficient_quota", True, 1)


def test_errors_have_the_shape_of_their_host(client: httpx2.Client) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    refused = client.post(SUBMIT, json={}, headers=wrong)
    assert refused.status_code == 401 and refused.json()["error"]["request_id"] == refused.headers["x-request-id"]
    files = client.get(f"{FILES}/quota", headers=wrong)
    assert (files.status_code, files.json()["success"], files.json()["code"]) == (401, False, 40002)


def test_the_catalog_is_filtered_and_tagged(client: httpx2.Client) -> None:
    told = client.get("/v1/catalog/models", params={"capability": "image"})
    assert {"model_id", "display_name", "capabilities", "lifecycle"} <= set(told.json()["models"][0])
    assert len(told.json()["models"]) == 7 and len(client.get("/v1/catalog/models").json()["models"]) == 8
    assert client.get("/v1/catalog/models", params={"lifecycle": "retired"}).json()["models"] == []
    tagged = {"If-None-Match": told.headers["etag"]}
    assert client.get("/v1/catalog/models", headers=tagged).status_code == 304
    assert client.get("/v1/catalog/pricing").json()["models"][0]["usd"] == 0.032


def test_files_are_uploaded_three_ways_listed_and_deleted() -> None:
    with (
        running("evolink", max_side=16, files_kept=3, clock=HandClock()) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        first = upload(client, picture()).json()
        assert (first["success"], first["code"], first["data"]["original_name"]) == (True, 200, "cat.png")
        assert first["data"]["expires_at"].startswith("1970-01-04T00:16:40")
        coded = base64.b64encode(picture()).decode()
        for path, body in (("base64", {"base64_data": f"data:image/png;base64,{coded}"}),
                           ("url", {"file_url": first["data"]["file_url"], "file_name": "x.png"})):  # fmt: skip
            told = client.post(f"{FILES}/upload/{path}", json=body).json()["data"]
            assert client.get(told["file_url"]).content == picture()
        assert client.get(f"{FILES}/quota").json()["data"]["remain_files"] == 0
        assert upload(client, picture()).json()["code"] == 40003
        assert client.get(f"{FILES}/list").json()["data"]["total"] == 3
        assert client.delete(f"{FILES}/{first['data']['file_id']}").json()["success"] is True
        assert client.delete(f"{FILES}/nothing").status_code == 404
        assert upload(client, b"text", "text/plain").status_code == 400
        assert client.post(f"{FILES}/upload/stream", files={"other": ("a", b"a")}).status_code == 400
        assert client.post(f"{FILES}/upload/base64", json={"base64_data": "!"}).status_code == 400
        assert client.post(f"{FILES}/upload/url", json={"file_url": "https://example.org/x.png"}).status_code == 400


# The faults of this API alone


Check = Callable[[list[dict[str, Any]]], None]


def ends(status: str, code: str | None) -> Check:
    def check(polls: list[dict[str, Any]]) -> None:
        for told in polls:
            assert told["status"] == status and "results" not in told
            assert told.get("error", {}).get("code") == code
            assert told["usage"]["cost"]["usd"] == 0

    return check


def each(check: Callable[[dict[str, Any]], bool]) -> Check:
    def checked(polls: list[dict[str, Any]]) -> None:
        assert all(told["status"] == "completed" and check(told) for told in polls)

    return checked


def check_unknown(polls: list[dict[str, Any]]) -> None:
    assert [told["status"] for told in polls] == ["warming", "warming", "completed"]


ODD_POLLS: dict[str, Check] = {
    "unknown-status": check_unknown,
    "failed-200": ends("failed", "upstream_error"),
    "moderated": ends("failed", "content_policy_violation"),
    **{code: ends("failed", code) for code in CODES},
    "no-reason": ends("failed", None),
    "cancelled": ends("cancelled", None),
    "empty-outputs": each(lambda told: told["results"] == []),
    "result-data": each(lambda told: "results" not in told and told["result_data"][0]["image_url"].startswith("http")),
    "frame-missing": each(lambda told: told["results"] == [None] and told["usage"]["cost"]["usd"] == 0),
    "fewer": each(lambda told: told["results"] == [] and told["usage"]["cost"]["usd"] == 0),
    "layers-inside": each(lambda told: "result_data" not in told),
    "layers-bare": each(lambda told: "result_data" not in told),
    "price-never": each(lambda told: "cost" not in told["usage"]),
    "credits-only": each(lambda told: "cost" not in told["usage"] and told["usage"]["credits_used"] == 2.176),
}
PAID = {"layers-inside", "layers-bare", "unknown-status", "result-data", "price-never", "credits-only"}


@pytest.mark.parametrize("name", [f.name for f in faults("evolink") if f.op == "poll" and f.reach == "job"])
def test_an_odd_task_is_odd_in_every_poll(api: Emulator, client: httpx2.Client, name: str) -> None:
    before = api.charged_usd
    api.fault("poll", name)
    task_id = submitted(client, "one kite")
    ODD_POLLS[name]([polled(client, task_id) for _ in range(3)])
    assert api.charged_usd - before == (Decimal("0.032") if name in PAID else 0)


def test_an_upload_can_fail_with_200(api: Emulator, client: httpx2.Client) -> None:
    api.fault("upload", "not-kept")
    told = upload(client, picture())
    assert (told.status_code, told.json()["success"], told.json()["code"]) == (200, False, 50001)


# Layers

PRO = "doubao-seedream-5.0-pro"


def test_layerize_gives_a_base_and_layers_with_their_boxes() -> None:
    with (
        running("evolink", max_side=32, layers_made=3, clock=HandClock()) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        url = upload(client, picture()).json()["data"]["file_url"]
        told = submit(client, "", model=f"{PRO}-layerize", image_urls=[url], quality="2K", output_format="png")
        api.finish_all()
        task = polled(client, told.json()["id"])
        base, first, second = task["result_data"]
        assert [entry["url"] for entry in task["result_data"]] == task["results"]
        assert "bounding_box" not in base and first["bounding_box"]["absolute"] == [256, 256, 1792, 1792]
        modes = [Image.open(io.BytesIO(client.get(entry["url"]).content)).mode for entry in (base, first, second)]
        assert modes == ["RGB", "RGBA", "RGBA"]
        assert task["usage"]["cost"]["usd"] == 0.18 == float(api.charged_usd)  # 0.09 and twice 0.045


@pytest.mark.parametrize(
    "fields",
    [
        {"model": f"{PRO}-layerize"},
        {"model": f"{PRO}-layerize", "image_urls": ["https://a.example/1.png"], "size": "1:1"},
        {"model": f"{PRO}-layerize", "image_urls": ["https://a.example/1.png"], "quality": "4K"},
        {"model": f"{PRO}-layerize", "image_urls": ["https://a.example/1.png"], "background": "opaque"},
        {"model": "doubao-seedream-5.0-flash", "prompt_priority": "fast"},
        {"model": PRO, "background": "transparent"},
        {"model": PRO, "background": "auto"},
        {"model": PRO, "watermark": "yes"},
    ],
)
def test_a_field_that_the_model_has_not_is_refused(client: httpx2.Client, fields: dict[str, Any]) -> None:
    assert submit(client, **fields).status_code == 400
