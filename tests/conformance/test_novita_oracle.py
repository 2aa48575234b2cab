"""The official Novita client against the emulator: an emulator that repeats our own belief proves nothing.

npm novita-sdk has no Seedream method, but a generic one that sends the key, and reads the errors, of every endpoint.
It runs unmodified as a child process; `oracle/novita_client.cjs` hands it its calls.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support import ROOT
from support.clients import lines_through
from triptych_emulators import Emulator, running

CLIENT = ROOT / ".oracles/novita/node_modules/novita-sdk"
DRIVER = Path(__file__).parent / "oracle/novita_client.cjs"
LITE = "/v3/seedream-5.0-lite"

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(
        shutil.which("node") is None or not CLIENT.exists(),
        reason="needs Node and the official client novita-sdk: run ./scripts/oracles",
    ),
]


def made_of(api: Emulator, *calls: tuple[str, dict[str, Any]], key: str | None = None) -> list[dict[str, Any]]:
    """Return what the official client makes of each call."""
    command = ["node", DRIVER, CLIENT, api.base_url, key or api.key]
    return lines_through(command, [{"url": url, "data": data} for url, data in calls])


@pytest.mark.parametrize("scheme", ["", "Bearer "])
def test_the_official_client_makes_a_sequence_with_its_key(scheme: str) -> None:
    with running("novita", max_side=32) as api:
        (single,) = made_of(api, (LITE, {"prompt": "a cat"}), key=scheme + api.key)
        url = single["answer"]["images"][0]
        body = {
            "prompt": "three cats",
            "image": [url],
            "size": "2048x2048",
            "watermark": False,
            "sequential_image_generation": "auto",
            "sequential_image_generation_options": {"max_images": 3},
        }
        older = {"prompt": "a cat", "images": [url], "sequential_image_generation": "auto", "max_images": 2}
        sequence, four = made_of(api, (LITE, body), ("/v3/seedream-4.0", older), key=scheme + api.key)
        assert [httpx2.get(image).content[:2] for image in sequence["answer"]["images"]] == [b"\xff\xd8"] * 3
        assert len(four["answer"]["images"]) == 2
        sent = api.seen_at("POST", LITE)[1]
        assert sent.json == body
        assert sent.headers["authorization"] == f"{scheme}test-key"
        assert sent.headers["content-type"] == "application/json"
        assert sent.headers["x-novita-source"] == sent.headers["x-api-source"] == "js-sdk-novita/3.1.2"
        assert len(api.accepted) == 3


def test_the_official_client_reads_the_errors_as_they_are_meant() -> None:
    with running("novita", max_side=32) as api:
        (wrong,) = made_of(api, (LITE, {"prompt": "a cat"}), key="another-key")
        assert (wrong["code"], wrong["reason"]) == (403, "INVALID_API_KEY")
        assert wrong["message"] == "invalid api-key" and wrong["metadata"]["trace_id"]
        poor, limited, small, nowhere = made_of(
            api,
            (LITE, {"prompt": "a cat [[emulate: no-funds]]"}),
            (LITE, {"prompt": "a cat [[emulate: 429]]"}),
            (LITE, {"prompt": "a cat", "size": "1152x2048"}),
            ("/v3/seedream-9", {}),
        )
        assert (poor["code"], poor["reason"]) == (403, "NOT_ENOUGH_BALANCE")
        assert (limited["code"], limited["reason"]) == (429, "RATE_LIMIT_EXCEEDED")
        assert (small["code"], small["reason"]) == (400, "INVALID_REQUEST_BODY") and "3686400" in small["message"]
        assert (nowhere["code"], nowhere["reason"]) == (404, "PATH_NOT_FOUND")
        assert api.accepted == [] and len(api.seen) == 5  # nothing is ever sent again
