"""The official ModelArk client against the emulator: an emulator that repeats our own belief proves nothing.

PyPI volcengine-ark-runtime lives in an environment of its own and runs there, unmodified, as a child process;
`oracle/ark_client.py` only hands it its calls and prints what it made of the answers.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from support import ROOT
from support.clients import lines_through
from support.systems import python_of
from triptych_emulators import Emulator, running

PYTHON = python_of(ROOT / ".oracles/ark-venv")
DRIVER = Path(__file__).parent / "oracle/ark_client.py"
LITE = "seedream-5-0-260128"
SENSITIVE = "OutputImageSensitiveContentDetected"

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(
        not list(PYTHON.parents[1].glob("installed-volcengine-ark-runtime-*")),
        reason="needs the official client volcengine-ark-runtime: run ./scripts/oracles",
    ),
]


def made_of(api: Emulator, *calls: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the official client makes of each call."""
    command = [PYTHON, DRIVER, f"{api.base_url}/api/v3", api.key]
    return lines_through(command, [{"call": call, "arguments": arguments} for call, arguments in calls])


def asked(prompt: str = "two cats", **more: Any) -> dict[str, Any]:
    return {"model": LITE, "prompt": prompt, **more}


def test_the_official_client_makes_a_sequence_whole_and_streamed() -> None:
    with running("ark", max_side=32) as api:
        # The result of one call is the reference of the next.
        (plain,) = made_of(api, ("generate", asked(watermark=False, size="2048x2048", response_format="url")))
        url = plain["answer"]["data"][0]["url"]
        assert api.files.read(url)[:2] == b"\xff\xd8"
        whole, streamed, pro = made_of(
            api,
            ("generate", asked(max_images=3, image=[url], size="2K", output_format="png", watermark=False)),
            ("stream", asked(max_images=2, image=url)),
            ("generate", {"model": "seedream-5-0-pro-260628", "prompt": "a cat"}),
        )
        assert len(pro["answer"]["data"]) == 1

        answer = whole["answer"]
        assert [entry["url"].endswith(".png") for entry in answer["data"]] == [True] * 3
        assert answer["usage"]["generated_images"] == 3 and answer["error"] is None
        # The wire says `created`; the client's own type knows only `created_at`, and keeps the other as an extra.
        assert answer["created_at"] is None and answer["created"] > 0

        kinds = [event["type"].removeprefix("image_generation.") for event in streamed["events"]]
        assert kinds == ["partial_succeeded", "partial_succeeded", "completed"]
        assert [event["image_index"] for event in streamed["events"]] == [0, 1, None]
        assert streamed["events"][-1]["usage"]["generated_images"] == 2

        _, sequence, stream, _ = api.seen
        assert sequence.path == "/api/v3/images/generations"
        assert sequence.json == {
            "model": LITE,
            "prompt": "two cats",
            "image": [url],
            "response_format": None,
            "size": "2K",
            "seed": None,
            "guidance_scale": None,
            "watermark": False,
            "optimize_prompt": None,
            "optimize_prompt_options": None,
            "sequential_image_generation": "auto",
            "sequential_image_generation_options": {"max_images": 3},
            "tools": None,
            "output_format": "png",
            "layer_decomposition": None,
        }
        assert stream.json["stream"] is True and stream.json["image"] == url
        assert sequence.headers["authorization"] == "Bearer test-key"
        assert sequence.headers["user-agent"] == "volc-sdk-python/1.0.0"
        assert len(api.accepted) == 4 and {seen.status for seen in api.seen} == {200}


def test_the_official_client_reads_the_errors_in_both_shapes() -> None:
    with running("ark", max_side=32) as api:
        bare, overdue, closed, moderated, key = made_of(
            api,
            ("generate", asked(size="1152x2048")),
            ("generate", asked("a cat [[emulate: no-funds]]")),
            ("stream", asked("a cat [[emulate: model-not-open]]", max_images=2)),
            ("generate", asked("a cat [[emulate: moderated-before]]")),
            ("generate", asked("a cat [[emulate: key-unknown]]")),
        )
        assert (bare["error"], bare["status_code"], bare["code"]) == ("ArkBadRequestError", 400, "InvalidParameter")
        assert "at least 3686400 pixels. Request id: 02" in bare["body"]["message"] and bare["body"]["type"] == ""
        assert (overdue["error"], overdue["code"]) == ("ArkPermissionDeniedError", "AccountOverdueError")
        assert (closed["error"], closed["code"]) == ("ArkNotFoundError", "ModelNotOpen")
        assert moderated["body"]["code"] == "InputTextSensitiveContentDetected"
        assert (key["error"], key["body"]["type"]) == ("ArkAuthenticationError", "Unauthorized")
        assert api.accepted == []


def test_a_failed_frame_ends_the_official_clients_stream_alone() -> None:
    with running("ark", max_side=32) as api:
        prompt = "a cat [[emulate: frame-failed]]"
        streamed, plain = made_of(
            api, ("stream", asked(prompt, max_images=3)), ("generate", asked(prompt, max_images=3))
        )
        assert (streamed["error"], streamed["code"]) == ("ArkAPIError", SENSITIVE)
        assert [event["image_index"] for event in streamed["events"]] == [0]
        frames = plain["answer"]["data"]
        assert [bool(frame["url"]) for frame in frames] == [True, False, True]
        assert frames[1]["error"]["code"] == SENSITIVE
        assert plain["answer"]["usage"]["generated_images"] == 2


def test_the_official_client_repeats_a_429_and_a_lost_answer() -> None:
    with running("ark", max_side=32) as api:
        limited, lost, cut = made_of(
            api,
            ("generate", asked("a cat [[emulate: 429 times=3 retry_after=1]]")),
            ("generate", asked("a dog [[emulate: lost-answer]]")),
            ("stream", asked("a bird [[emulate: cut after=2]]", max_images=3)),
        )
        assert (limited["error"], limited["code"]) == ("ArkRateLimitError", "RateLimitExceeded.EndpointRPMExceeded")
        assert [seen.status for seen in api.seen] == [429, 429, 429, 0, 200, 200]
        ids = [seen.headers["x-client-request-id"] for seen in api.seen]
        assert len(set(ids)) == 6
        assert len(lost["answer"]["data"]) == 1 and len(api.accepted) == 3
        assert cut["error"] == "RemoteProtocolError" and len(cut["events"]) == 2


def test_the_official_client_makes_a_transparent_picture_with_5_5() -> None:
    model = {"model": "seedream-5-5-261028", "size": "1K", "prompt": "a cup"}
    with running("ark", max_side=32) as api:
        (made,) = made_of(api, ("generate", {**model, "extra_body": {"background": "transparent"}}))
        (entry,) = made["answer"]["data"]
        assert (entry["background"], entry["output_format"]) == ("transparent", "png")
        edited, sequence, streamed, jpeg = made_of(
            api,
            ("generate", {**model, "image": [entry["url"]]}),
            ("generate", {**model, "sequential_image_generation": "disabled"}),
            ("stream", model),
            ("generate", {**model, "output_format": "jpeg", "extra_body": {"background": "transparent"}}),
        )
        assert edited["answer"]["usage"]["input_images"] == 1
        for refused in (sequence, streamed, jpeg):
            assert (refused["status_code"], refused["code"]) == (400, "InvalidParameter")
        assert len(api.accepted) == 2 and api.charged_usd == Decimal("0.048")


def test_the_official_client_takes_a_picture_apart() -> None:
    cup = {"model": "seedream-5-5-261028", "prompt": "a cup", "size": "1K"}
    with running("ark", max_side=32, layers_made=3) as api:
        (made,) = made_of(api, ("generate", cup))
        url = made["answer"]["data"][0]["url"]
        apart = {**cup, "image": url, "layer_decomposition": True, "prompt": ""}
        layered, sized = made_of(api, ("generate", apart), ("generate", {**apart, "size": "1024x1024"}))
        base, first, second = layered["answer"]["data"]
        assert (base["z_index"], first["z_index"], second["z_index"]) == (0, 1, 2)
        assert first["name"] == "layer 1" and first["bounding_box"]["absolute"] == [128, 128, 896, 896]
        assert (sized["status_code"], sized["code"]) == (400, "InvalidParameter")
