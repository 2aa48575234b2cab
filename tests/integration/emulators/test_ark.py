"""The emulated ModelArk over real sockets: its own bodies, limits, prices and faults. The test moves the clock."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import threading
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from PIL import Image

from support.clients import AUTH
from support.clocks import HandClock, until
from support.emulated_apis import Api
from support.pictures import picture
from triptych_emulators import Emulator, faults, running
from triptych_emulators.ark import REFUSALS

EMULATED = {"name": "ark"}

GENERATE = "/api/v3/images/generations"
LITE = "seedream-5-0-260128"
SENSITIVE = "OutputImageSensitiveContentDetected"


def generic_api() -> Api:
    """Return this API as the generic tests need it."""
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


def uri(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def body(count: int | None = None, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"model": LITE, "prompt": "two lighthouses"}
    if count is not None:
        made["sequential_image_generation"] = "auto"
        made["sequential_image_generation_options"] = {"max_images": count}
    return {**made, **fields}


def generate(client: httpx2.Client, count: int | None = None, **fields: Any) -> httpx2.Response:
    return client.post(GENERATE, json=body(count, **fields))


def events(answer: httpx2.Response) -> list[dict[str, Any]]:
    """Return a whole stream's events; each has to be named as its data says."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in answer.text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if not lines or lines == ["data: [DONE]"]:
            continue
        kind, data = (line.partition(": ")[2] for line in lines)
        told = json.loads(data)
        assert kind == told.get("type", "error")
        found.append(told)
    return found


def kinds(told: list[dict[str, Any]]) -> list[str]:
    return [event.get("type", "image_generation.error").removeprefix("image_generation.") for event in told]


# The usual way


def test_references_become_a_sequence_of_real_images(api: Emulator, client: httpx2.Client) -> None:
    before = api.charged_usd
    answer = generate(
        client, 3, image=[uri(picture())], size="2304x1728", output_format="png", response_format="url", watermark=False
    )
    told = answer.json()
    assert (answer.status_code, told["model"], told["created"]) == (200, LITE, 1000)
    assert "X-Request-Id" in answer.headers and set(told) == {"model", "created", "data", "usage"}
    assert [entry["size"] for entry in told["data"]] == ["2304x1728"] * 3
    pictures = [client.get(entry["url"]) for entry in told["data"]]
    assert [Image.open(io.BytesIO(picture.content)).size for picture in pictures] == [(48, 36)] * 3
    assert [picture.headers["content-type"] for picture in pictures] == ["image/png"] * 3
    tokens = 3 * 2304 * 1728 // 256
    assert told["usage"] == {"generated_images": 3, "output_tokens": tokens, "total_tokens": tokens}
    assert api.charged_usd - before == Decimal("0.105")


def test_the_images_of_a_stream_come_as_events(api: Emulator, client: httpx2.Client) -> None:
    before = len(api.accepted)
    answer = generate(client, 2, stream=True)
    told = events(answer)
    assert kinds(told) == ["partial_succeeded", "partial_succeeded", "completed"]
    assert [event.get("image_index") for event in told] == [0, 1, None]
    assert {(event["model"], event["created"]) for event in told} == {(LITE, 1000)}
    assert told[-1]["usage"]["generated_images"] == 2
    assert answer.text.endswith("data: [DONE]\n\n")
    assert client.get(told[0]["url"]).headers["content-type"] == "image/jpeg"
    assert len(api.accepted) == before + 1


def test_null_is_as_good_as_absent(client: httpx2.Client) -> None:
    optional = "image seed guidance_scale size watermark tools output_format stream response_format optimize_prompt"
    nothing = dict.fromkeys([*optional.split(), "sequential_image_generation_options", "layer_decomposition"])
    for model in (LITE, "seedream-5-0-pro-260628"):
        answer = generate(client, model=model, sequential_image_generation=None, **nothing)
        assert [entry["size"] for entry in answer.json()["data"]] == ["2048x2048"]


def test_a_single_string_or_an_earlier_result_is_a_reference(client: httpx2.Client) -> None:
    first = generate(client, image=uri(picture(kind="JPEG"), "jpeg")).json()["data"][0]["url"]
    assert generate(client, image=first).status_code == 200
    assert generate(client, image=[first, uri(picture())]).status_code == 200


def test_base64_comes_instead_of_urls_when_asked_for(client: httpx2.Client) -> None:
    plain = generate(client, response_format="b64_json").json()["data"][0]
    streamed = events(generate(client, 2, response_format="b64_json", stream=True))[0]
    for entry in (plain, streamed):
        assert "url" not in entry and Image.open(io.BytesIO(base64.b64decode(entry["b64_json"]))).size == (48, 48)


def test_the_paths_work_without_their_beginning_too(client: httpx2.Client) -> None:
    assert client.post("/images/generations", json=body()).status_code == 200
    listed = client.get("/api/v3/models").json()
    assert listed == client.get("/models").json() and listed["object"] == "list"
    assert {"id": LITE, "object": "model"} in listed["data"]


@pytest.mark.parametrize(
    "name", [LITE, "seedream-5-0-lite-260128", "ep-20261121-abcde", "dola-seedream-5-0-pro-260628"]
)
def test_every_id_of_a_model_is_understood_and_repeated(client: httpx2.Client, name: str) -> None:
    assert generate(client, model=name).json()["model"] == name


def test_volcengine_sells_under_its_own_ids() -> None:
    with running("ark", max_side=16, volcengine=True) as api:
        with httpx2.Client(base_url=api.base_url, headers=AUTH) as client:
            assert generate(client, model="doubao-" + LITE).status_code == 200
            refused = generate(client)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "InvalidEndpointOrModel.NotFound")
        assert len(api.accepted) == 1


@pytest.mark.parametrize(("prompt", "came"), [("a kite", 1), ("three kites", 3), ("5 kites", 4)])
def test_the_prompt_can_decide_how_many_images_come(prompt: str, came: int) -> None:
    with (
        running("ark", max_side=16, by_prompt=True) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        assert len(generate(client, 4, prompt=prompt).json()["data"]) == came


def test_a_size_word_leaves_the_shape_to_the_model(client: httpx2.Client) -> None:
    sizes = {generate(client, prompt=f"kite {n}", size="2K").json()["data"][0]["size"] for n in range(6)}
    assert len(sizes) > 1 and all(size.count("x") == 1 for size in sizes)


# What is refused


@pytest.mark.parametrize(
    ("fields", "status", "code", "about"),
    [
        ({"model": None}, 400, "MissingParameter.model", "`model`"),
        ({"prompt": " "}, 400, "MissingParameter.prompt", "`prompt`"),
        ({"model": "seedream-5-0-lite"}, 404, "InvalidEndpointOrModel.NotFound", "does not exist"),
        ({"size": "1152x2048"}, 400, "InvalidParameter", "image size must be at least 3686400 pixels"),
        ({"size": "6240x2720"}, 400, "InvalidParameter", "at most 16777216"),
        ({"size": "16384x256"}, 400, "InvalidParameter", "aspect ratio"),
        ({"size": "2048*2048"}, 400, "InvalidParameter", "`size`"),
        ({"size": "1K"}, 400, "InvalidParameter", "1K is not supported"),
        ({"model": "seedream-4-5-251128", "size": "3K"}, 400, "InvalidParameter", "3K is not supported"),
        ({"model": "seedream-4-0-250828", "output_format": "png"}, 400, "InvalidParameter", "output_format"),
        ({"output_format": "webp"}, 400, "InvalidParameter", "output_format"),
        ({"response_format": "uri"}, 400, "InvalidParameter", "response_format"),
        ({"watermark": "no"}, 400, "InvalidParameter", "watermark"),
        ({"optimize_prompt_options": {"mode": "fast"}}, 400, "InvalidParameter", "optimize_prompt_options"),
        ({"sequential_image_generation": "on"}, 400, "InvalidParameter", "sequential_image_generation"),
        ({"image": []}, 400, "InvalidParameter", "`image`"),
        ({"image": 7}, 400, "InvalidParameter", "`image`"),
        ({"image": [uri(picture())] * 15}, 400, "InvalidParameter", "must not exceed 14"),
        ({"image": base64.b64encode(picture()).decode()}, 400, "InvalidParameter", "lower case"),
        ({"image": uri(picture(), "PNG")}, 400, "InvalidParameter", "lower case"),
        ({"image": uri(b"no image")}, 400, "InvalidImageURL.Unreachable", "image[0]"),
        ({"image": "https://example.org/cat.png"}, 400, "InvalidImageURL.Unreachable", "image[0]"),
        ({"image": uri(picture(size=(14, 100)))}, 400, "InvalidParameter", "greater than 14 pixels"),
        ({"image": uri(picture(size=(20, 400)))}, 400, "InvalidParameter", "aspect ratio"),
        ({"image": uri(picture(size=(6001, 6000), kind="GIF"), "gif")}, 400, "InvalidParameter", "36000000"),
        ({"image": uri(picture() + bytes(10 * 2**20))}, 400, "InvalidParameter", "10MB"),
        ({"model": "seedream-5-0-pro-260628", "stream": False}, 400, "InvalidParameter", "`stream`"),
        (
            {"model": "seedream-5-0-flash-260915", "sequential_image_generation": "disabled"},
            400,
            "InvalidParameter",
            "`sequential_image_generation`",
        ),
    ],
)
def test_a_request_outside_the_limits_is_refused(
    api: Emulator, client: httpx2.Client, fields: dict[str, Any], status: int, code: str, about: str
) -> None:
    before = len(api.accepted)
    answer = generate(client, **fields)
    told = answer.json().get("error", answer.json())
    assert (answer.status_code, told["code"]) == (status, code)
    assert about in told["message"] and "Request id: 02" in told["message"]
    assert len(api.accepted) == before


@pytest.mark.parametrize(("count", "references"), [(0, 0), (16, 0), ("3", 0), (True, 0), (15, 1), (2, 14)])
def test_a_sequence_and_its_references_are_fifteen_at_most(client: httpx2.Client, count: Any, references: int) -> None:
    more = {"image": [uri(picture())] * references} if references else {}
    assert "max_images" in generate(client, count, **more).json()["message"]


def test_without_a_number_a_sequence_has_all_it_may(client: httpx2.Client) -> None:
    answer = generate(client, sequential_image_generation="auto", image=[uri(picture())] * 12)
    assert len(answer.json()["data"]) == 3


def test_the_disputed_limits_are_switches() -> None:
    with (
        running("ark", max_side=16, max_area=10_404_496, reference_limit_mb=30) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        assert generate(client, size="4K").status_code == generate(client, size="4096x4096").status_code == 400
        assert generate(client, size="3K").status_code == 200
        assert generate(client, image=uri(picture() + bytes(20 * 2**20))).status_code == 200


def test_a_body_over_64_mb_is_413(client: httpx2.Client) -> None:
    assert client.post(GENERATE, content=bytes(64 * 2**20 + 1)).status_code == 413


@pytest.mark.parametrize(("shape", "bare", "wrapped"), [("both", 1, 1), ("wrapped", 0, 2), ("bare", 2, 0)])
def test_both_shapes_of_an_error_are_given(shape: str, bare: int, wrapped: int) -> None:
    with (
        running("ark", error_shape=shape) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        answers = [generate(client, size="1x1").json(), generate(client, model="nothing").json()]
        assert sum("code" in told for told in answers) == bare
        assert sum("error" in told for told in answers) == wrapped
        for told in answers:
            assert set(told.get("error", told)) == {"code", "message", "param", "type"}


def test_a_wrong_key_is_401_in_the_wrapped_shape(client: httpx2.Client) -> None:
    answer = client.post(GENERATE, json=body(), headers={"Authorization": "Bearer wrong"})
    told = answer.json()["error"]
    assert (answer.status_code, told["code"], told["type"]) == (401, "AuthenticationError", "Unauthorized")
    assert client.get("/api/v3/nowhere").status_code == 404


# Held until it is done


def test_a_response_is_held_and_a_stream_comes_in_steps() -> None:
    clock = HandClock()
    with (
        running("ark", max_side=16, latency_s=60.0, clock=clock) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        with client.stream("POST", GENERATE, json=body(3, stream=True)) as answer:
            lines = answer.iter_lines()
            for n in range(3):
                clock.now += 20
                assert f'"image_index": {n}' in next(line for line in lines if line.startswith("data:"))
            assert "completed" in next(line for line in lines if line.startswith("data:"))
        plain = threading.Thread(target=generate, args=(client,))
        plain.start()
        while len(api.jobs) < 2:
            plain.join(0.005)
        assert plain.is_alive()
        api.finish_all()
        plain.join(60)
        assert not plain.is_alive()


def test_a_held_response_does_not_keep_the_emulator_running() -> None:
    with (
        running("ark", max_side=16, latency_s=1e6) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        with pytest.raises(httpx2.TimeoutException):
            client.post(GENERATE, json=body(), timeout=httpx2.Timeout(60, read=0.05))
        until(lambda: len(api.accepted) == 1)


# The faults of this API alone


@pytest.mark.parametrize(("name", "status", "code"), [entry[:3] for entry in REFUSALS])
def test_every_documented_error_can_be_asked_for(
    api: Emulator, client: httpx2.Client, name: str, status: int, code: str
) -> None:
    before = len(api.accepted)
    api.fault("submit", name, retry_after=3)
    answer = generate(client)
    told = answer.json().get("error", answer.json())
    assert (answer.status_code, told["code"], answer.headers["retry-after"]) == (status, code, "3")
    assert len(api.accepted) == before
    assert generate(client, prompt=f"a kite [[emulate: {name}]]").status_code == status


FRAMES: dict[str, tuple[dict[str, Any], list[str | None]]] = {
    "fewer": ({}, [None, None]),
    "frame-failed": ({}, [None, SENSITIVE, None]),
    "frame-broken": ({}, [None, "InternalServiceError"]),
    "all-failed": ({}, [SENSITIVE] * 3),
    "top-error": ({}, []),
    "empty": ({}, []),
    "no-usage": ({}, [None] * 3),
    "previews": ({}, [None] * 3),
    "no-done": ({}, [None] * 3),
    "stream-error": ({"after": 2}, [None, None, "InternalServiceError"]),
    "charset": ({"charset": "utf-7"}, [None] * 3),
    "cut": ({"after": 1}, [None] * 3),
    "not-streamed": ({}, [None] * 3),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_sequence_can_be_partial_and_is_charged_so(api: Emulator, client: httpx2.Client, name: str) -> None:
    options, frames = FRAMES[name]
    before = api.charged_usd
    api.fault("submit", name, **options)
    told = generate(client, 3).json()
    assert [entry.get("error", {}).get("code") for entry in told["data"]] == frames
    assert ["url" in entry for entry in told["data"]] == [code is None for code in frames]
    assert told.get("error", {}).get("code") == (SENSITIVE if name == "top-error" else None)
    came = sum(code is None for code in frames)
    assert told.get("usage", {}).get("generated_images") == (None if name == "no-usage" else came)
    assert api.charged_usd - before == came * Decimal("0.035")


STREAMS: dict[str, list[str]] = {
    "fewer": ["partial_succeeded", "partial_succeeded", "completed"],
    "frame-failed": ["partial_succeeded", "partial_failed", "partial_succeeded", "completed"],
    "frame-broken": ["partial_succeeded", "partial_failed", "completed"],
    "all-failed": ["partial_failed", "partial_failed", "partial_failed", "completed"],
    "top-error": ["completed"],
    "empty": ["completed"],
    "no-usage": ["partial_succeeded"] * 3 + ["completed"],
    "previews": ["partial_image", "partial_succeeded"] * 3 + ["completed"],
    "no-done": ["partial_succeeded"] * 3 + ["completed"],
    "stream-error": ["partial_succeeded", "error"],
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_has_the_same_parts_as_events(api: Emulator, client: httpx2.Client, name: str) -> None:
    api.fault("submit", name)
    answer = generate(client, 3, stream=True)
    told = events(answer)
    assert kinds(told) == STREAMS[name]
    assert answer.text.endswith("data: [DONE]\n\n") == (name != "no-done")
    assert [event["image_index"] for event in told if event.get("url")] == [
        n for n, code in enumerate(FRAMES[name][1]) if code is None
    ][: 1 if name == "stream-error" else None]


def test_an_error_can_stand_beside_some_images(api: Emulator, client: httpx2.Client) -> None:
    for stream in (False, True):
        api.fault("submit", "stopped")
        told = generate(client, 3, stream=stream)
        last = events(told)[-1] if stream else told.json()
        assert last["error"]["code"] == "InternalServiceError" and last["usage"]["generated_images"] == 1


@pytest.mark.parametrize("what", ["image", "no-image", "no-base64"])
def test_an_image_can_come_inline_and_be_none(api: Emulator, client: httpx2.Client, what: str) -> None:
    api.fault("submit", "inline", n=2, what=what)
    first, second = generate(client, 2).json()["data"]
    assert "url" in first and "url" not in second
    data = b""
    with contextlib.suppress(ValueError):
        data = base64.b64decode(second["b64_json"], validate=True)
    assert (bool(data), data.startswith(b"\xff\xd8")) == (what != "no-base64", what == "image")


def test_a_stream_can_claim_any_charset(api: Emulator, client: httpx2.Client) -> None:
    api.fault("submit", "charset", charset="hex")
    assert generate(client, 2, stream=True).headers["content-type"] == "text/event-stream; charset=hex"


def test_a_stream_can_be_cut_in_the_middle(api: Emulator, client: httpx2.Client) -> None:
    before = api.charged_usd
    api.fault("submit", "cut", after=2)
    received = b""
    with (
        pytest.raises(httpx2.RemoteProtocolError),
        client.stream("POST", GENERATE, json=body(3, stream=True)) as answer,
    ):
        for chunk in answer.iter_bytes():
            received += chunk
    assert received.count(b"partial_succeeded") == 2 * 2
    assert api.charged_usd - before == Decimal("0.105")


def test_a_stream_can_end_too_early_and_quietly(api: Emulator, client: httpx2.Client) -> None:
    api.fault("submit", "cut", after=1, quietly=True)
    assert kinds(events(generate(client, 3, stream=True))) == ["partial_succeeded"]


def test_a_stream_can_be_answered_with_plain_json(api: Emulator, client: httpx2.Client) -> None:
    api.fault("submit", "not-streamed")
    assert len(generate(client, 3, stream=True).json()["data"]) == 3


def test_every_fault_of_a_job_is_exercised_here() -> None:
    assert {fault.name for fault in faults("ark") if fault.reach == "job"} == {
        *FRAMES,
        "stopped",
        "inline",
        "odd-layers",
    }


# Seedream 5.5, 5.0 pro and flash: one image per request

V5_5 = "seedream-5-5-261028"


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (V5_5, {"sequential_image_generation": "disabled"}),
        (V5_5, {"sequential_image_generation_options": {"max_images": 1}}),
        (V5_5, {"stream": False}),
        (V5_5, {"size": "3K"}),
        (V5_5, {"size": "4096x4096"}),
        (V5_5, {"size": "900x900"}),
        (V5_5, {"image": [uri(picture())] * 11}),
        (V5_5, {"background": "none"}),
        (V5_5, {"background": "transparent", "output_format": "jpeg"}),
        (V5_5, {"optimize_prompt_options": {"mode": "fast"}}),
        ("seedream-5-0-flash-260915", {"optimize_prompt_options": {"mode": "fast"}}),
        ("seedream-5-0-pro-260628", {"background": "auto"}),
        ("seedream-5-0-pro-260628", {"background": "transparent", "output_format": "png"}),
    ],
)
def test_a_single_image_model_refuses_sequences_and_streams(
    api: Emulator, client: httpx2.Client, model: str, fields: dict[str, Any]
) -> None:
    before = len(api.accepted)
    answer = generate(client, **{"model": model, **fields})
    assert (answer.status_code, answer.json()["code"]) == (400, "InvalidParameter")
    assert len(api.accepted) == before


@pytest.mark.parametrize("name", [V5_5, f"dola-{V5_5}"])
def test_5_5_answers_with_background_format_and_references(api: Emulator, client: httpx2.Client, name: str) -> None:
    before = api.charged_usd
    told = generate(client, model=name, size="1.5K", image=[uri(picture())] * 2, background="transparent", n=4).json()
    (entry,) = told["data"]
    assert (entry["background"], entry["output_format"]) == ("transparent", "png")
    assert (told["usage"]["generated_images"], told["usage"]["input_images"]) == (1, 2)
    image = Image.open(io.BytesIO(client.get(entry["url"]).content))
    assert image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 255)
    assert api.charged_usd - before == Decimal("0.036")


def test_5_5_makes_an_opaque_png_at_2k_by_itself(api: Emulator, client: httpx2.Client) -> None:
    before = api.charged_usd
    (entry,) = generate(client, model=V5_5).json()["data"]
    assert (entry["size"], entry["background"]) == ("2048x2048", "opaque")
    assert client.get(entry["url"]).headers["content-type"] == "image/png"
    assert api.charged_usd - before == Decimal("0.035")


# Layers and endpoint ids

V5_5 = "seedream-5-5-261028"


def layers(client: httpx2.Client, **fields: Any) -> httpx2.Response:
    given = {"model": V5_5, "image": uri(picture()), "layer_decomposition": True, **fields}
    return client.post(GENERATE, json={name: value for name, value in given.items() if value is not None})


def test_a_picture_is_taken_apart_into_base_and_layers() -> None:
    with (
        running("ark", layers_made=3, max_side=64) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        answer = layers(client, output_format="png").json()
        base, first, second = answer["data"]
        assert (base["z_index"], base["size"], "bounding_box" in base, "name" in base) == (0, "2048x2048", False, False)
        assert (first["z_index"], second["z_index"], first["output_format"]) == (1, 2, "png")
        assert first["size"] == "1536x1536" and first["bounding_box"]["absolute"] == [256, 256, 1792, 1792]
        assert first["bounding_box"]["normalized"] == [125, 125, 875, 875]
        modes = [Image.open(io.BytesIO(client.get(entry["url"]).content)).mode for entry in answer["data"]]
        assert modes == ["RGB", "RGBA", "RGBA"]
        assert answer["usage"]["generated_images"] == 3 and answer["usage"]["input_images"] == 1
        assert api.charged_usd == Decimal("0.083")  # 0.035 and twice 0.020, and 0.008 for the input


@pytest.mark.parametrize(
    ("fields", "parameter"),
    [
        ({"image": None}, "image"),
        ({"image": [uri(picture()), uri(picture())]}, "image"),
        ({"background": "auto"}, "background"),
        ({"size": "2048x2048"}, "size"),
        ({"size": "16:9"}, "size"),
        ({"stream": True}, "stream"),
        ({"sequential_image_generation": "disabled"}, "sequential_image_generation"),
        ({"model": LITE, "prompt": "a cup"}, "layer_decomposition"),
    ],
)
def test_layers_refuse_what_they_do_not_take(fields: dict[str, Any], parameter: str) -> None:
    with running("ark") as api, httpx2.Client(base_url=api.base_url, headers=AUTH) as client:
        refused = layers(client, **fields)
        assert refused.status_code == 400 and f"`{parameter}`" in refused.json()["message"]
        assert not api.accepted


def test_an_endpoint_id_stands_for_the_model_behind_it() -> None:
    endpoint = "ep-20261101-abc12"
    with running("ark", endpoint_model=V5_5, max_side=32) as api:
        with httpx2.Client(base_url=api.base_url, headers=AUTH) as client:
            made = client.post(GENERATE, json={"model": endpoint, "prompt": "a cup", "background": "transparent"})
        assert made.json()["model"] == endpoint and made.json()["data"][0]["background"] == "transparent"
