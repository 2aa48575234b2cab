"""The kit of the emulated APIs: injected faults, log, pictures, start and stop. Atlas Cloud is the example."""

from __future__ import annotations

import io
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import httpx2
import pytest
from PIL import Image, ImageChops, ImageStat

from support.clients import AUTH
from support.clocks import HandClock
from support.pictures import picture
from triptych import providers
from triptych_emulators import Emulator, faults, names, running
from triptych_emulators.kit.painter import paint

EMULATED = {"name": "atlas", "balance_usd": "1000"}

SUBMIT = "/api/v1/model/generateImage"
MODEL = "bytedance/seedream-v5.0-lite/sequential"


def submit(client: httpx2.Client, prompt: str = "two lighthouses", **fields: Any) -> httpx2.Response:
    return client.post(SUBMIT, json={"model": MODEL, "prompt": prompt, **fields})


def submitted(client: httpx2.Client, prompt: str = "two lighthouses", **fields: Any) -> str:
    return str(submit(client, prompt, **fields).json()["data"]["id"])


def output(client: httpx2.Client, prompt: str = "two lighthouses") -> bytes:
    polled = client.get(f"/api/v1/model/prediction/{submitted(client, prompt)}").json()
    return client.get(polled["data"]["outputs"][0]).content


# Names


def test_the_apis_are_found_by_listing_the_package() -> None:
    hosted = [name for name in providers.names() if not providers.load(name).offline]
    assert list(names()) == hosted and len(hosted) >= 6


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LookupError, match="atlas"), running("atlantis"):
        pass


# Injected faults


def test_a_directive_spoils_a_submit_once(api: Emulator, client: httpx2.Client) -> None:
    before = len(api.accepted)
    prompt = "a kite [[emulate: 429 retry_after=7, poll/html-502 times=2]]"
    refused = submit(client, prompt)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
    job_id = submitted(client, prompt)
    assert len(api.accepted) == before + 1
    statuses = [client.get(f"/api/v1/model/prediction/{job_id}").status_code for _ in range(3)]
    assert statuses == [502, 502, 200]


def test_a_lost_response_is_an_accepted_job(api: Emulator, client: httpx2.Client) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        submit(client, "a lost kite [[emulate: lost-answer]]")
    items = client.get("/api/v1/model/history", params={"model": MODEL, "size": 1}).json()["data"]["items"]
    assert items[0]["ID"] == api.accepted[-1]
    assert api.seen_at("POST", SUBMIT)[-1].status == 0


def test_an_unknown_directive_is_a_400_with_the_known_ones(client: httpx2.Client) -> None:
    refused = submit(client, "a kite [[emulate: earthquake]]")
    assert refused.status_code == 400 and "moderated" in refused.json()["msg"]


def test_a_refused_submit_is_not_spoiled_once_more(api: Emulator, client: httpx2.Client) -> None:
    api.fault("submit", "broken-json")
    refused = submit(client, prompt="")
    assert refused.status_code == 400 and "prompt is required" in refused.json()["msg"]


def test_an_unknown_fault_or_option_is_refused(api: Emulator, client: httpx2.Client) -> None:
    with pytest.raises(ValueError, match="no fault 'earthquake'"):
        api.fault("poll", "earthquake")
    with pytest.raises(ValueError, match="no option 'often'"):
        api.fault("poll", "fewer", often=True)
    assert client.post("/_emulator/faults", json={"op": "poll", "name": "earthquake"}).status_code == 400
    assert client.post("/_emulator/faults", json={"name": "404"}).status_code == 400


def test_faults_come_first_in_first_out_or_stay(api: Emulator, client: httpx2.Client) -> None:
    api.fault("models", "503")
    api.fault("models", "html-502", times=2)
    api.fault("models", "429", times=None, retry_after=1)
    got = [client.get("/api/v1/models").status_code for _ in range(6)]
    assert got == [503, 502, 502, 429, 429, 429]
    assert client.request("DELETE", "/_emulator/faults").status_code == 204
    assert client.get("/api/v1/models").status_code == 200


def test_an_injected_fault_of_a_job_changes_that_job(api: Emulator, client: httpx2.Client) -> None:
    job_id = submitted(client)
    api.fault("poll", "price-never")
    for _ in range(3):
        assert "price" not in client.get(f"/api/v1/model/prediction/{job_id}").json()["data"]


@pytest.mark.parametrize("name", names())
def test_directives_take_numbers_and_truth_values(name: str) -> None:
    declared = {(fault.op, fault.name) for fault in faults(name)}
    with running(name, max_side=16) as api:
        text = "[[emulate: 429 retry_after=2, submit/504 accepted=true times=always, result/slow seconds=0.5]]"
        found = list(api._injector.directives(text))
    assert {(active.type.op, active.type.name) for active in found} <= declared
    assert [active.times for active in found] == [1, None, 1]
    assert found[0].options["retry_after"] == 2 and found[1].options["accepted"] is True
    assert found[2].options["seconds"] == 0.5


# The log and the books


def test_the_control_paths_need_no_key_and_show_none(api: Emulator, client: httpx2.Client) -> None:
    submitted(client)
    with httpx2.Client(base_url=api.base_url) as client:
        seen = client.get("/_emulator/seen").json()
        assert [(entry["method"], entry["path"], entry["status"]) for entry in seen] == [("POST", SUBMIT, 200)]
        assert "test-key" not in json.dumps(seen)
        assert client.get("/_emulator/ledger").json()["accepted"] == api.accepted
        assert client.post("/_emulator/finish").status_code == 204
        assert {entry["op"] for entry in client.get("/_emulator/faults").json()} >= {"submit", "poll", "result"}
    assert api.seen[0].headers["authorization"] == "Bearer test-key"


def test_any_key_is_accepted_when_none_is_set() -> None:
    with running("atlas", key=None) as api, httpx2.Client(base_url=api.base_url) as client:
        assert client.get("/public/v1/balance", headers={"Authorization": "Bearer whatever"}).status_code == 200
        assert client.get("/public/v1/balance").status_code == 401


def test_every_response_has_the_emulators_own_time(client: httpx2.Client) -> None:
    assert client.get("/api/v1/models").headers.get_list("date") == ["Thu, 01 Jan 1970 00:16:40 GMT"]


@pytest.mark.parametrize("path", ["/_results/x/1.png", "/_uploads/x.png"])
def test_an_unknown_file_is_a_404(client: httpx2.Client, path: str) -> None:
    assert client.get(path).status_code == 404


# Time and pictures


def test_realistic_latency_depends_on_seed_and_count() -> None:
    def durations(seed: int) -> list[float]:
        with (
            running("atlas", max_side=16, latency_s=None, seed=seed, clock=HandClock()) as api,
            httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
        ):
            submitted(client)
            submitted(client, max_images=15)
            return [job.finish_at - job.submitted_at for job in api.jobs]

    once = durations(7)
    assert once == durations(7) != durations(8)
    assert 2 < once[0] < 32 and once[1] > once[0]


def test_the_same_request_gives_the_same_pixels_everywhere(client: httpx2.Client) -> None:
    with running("atlas", max_side=48) as other, httpx2.Client(base_url=other.base_url, headers=AUTH) as elsewhere:
        assert output(client) == output(elsewhere)


def test_directives_do_not_reach_the_pixels(client: httpx2.Client) -> None:
    assert output(client, "a red kite") == output(client, "a red [[emulate: price-never]] kite")


def test_a_caller_can_hand_in_a_painter() -> None:
    def red(images: Sequence[bytes], prompt: str, *, count: int, size: tuple[int, int], **_: Any) -> list[bytes]:
        return [picture("red", size)] * count

    with (
        running("atlas", max_side=16, painter=red) as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH) as client,
    ):
        assert Image.open(io.BytesIO(output(client))).convert("RGB").getpixel((3, 3)) == (255, 0, 0)


def painted(
    *images: bytes, prompt: str = "a kite", count: int = 1, seed: str = "", side: int = 96
) -> list[Image.Image]:
    files = paint(images, prompt, count=count, size=(side, side), mime_type="image/png", seed=seed)
    return [Image.open(io.BytesIO(data)).convert("RGB") for data in files]


def difference(one: Image.Image, other: Image.Image) -> float:
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).mean) / 3


@pytest.mark.parametrize("images", [(), (picture("teal"),)])
def test_pictures_of_a_set_differ_visibly(images: tuple[bytes, ...]) -> None:
    panels = painted(*images, count=15)
    assert min(difference(a, b) for a, b in itertools.combinations(panels, 2)) > 2.5


@pytest.mark.parametrize("images", [(), (picture("teal"),)])
def test_another_prompt_or_seed_is_another_picture(images: tuple[bytes, ...]) -> None:
    one = painted(*images)[0]
    assert difference(one, painted(*images)[0]) == 0
    assert difference(one, painted(*images, prompt="a boat")[0]) > 2.5
    assert difference(one, painted(*images, seed="1")[0]) > 2.5


def test_a_picture_shows_all_of_its_inputs() -> None:
    black, white = picture("black"), picture("white")
    alone, joined = painted(black, side=40)[0], painted(black, white, side=40)[0]
    changed = ImageChops.difference(alone, joined).getbbox()
    assert changed == (30, 0, 40, 10)
    assert difference(alone, painted(white, side=40)[0]) > 100


def test_a_caption_stands_on_all_but_tiny_pictures() -> None:
    plain, lettered = (painted(prompt=prompt)[0] for prompt in ("", "a kite"))
    assert lettered.getpixel((95, 94)) == (20, 20, 24)
    assert plain.getpixel((95, 94)) != (20, 20, 24)
    assert painted(side=16)[0].getpixel((15, 15)) != (20, 20, 24)


# Start and stop


def test_a_hanging_response_does_not_keep_the_emulator_running() -> None:
    with (
        running("atlas") as api,
        httpx2.Client(base_url=api.base_url, headers=AUTH, timeout=httpx2.Timeout(60, read=0.05)) as client,
    ):
        api.fault("models", "hang")
        with pytest.raises(httpx2.TimeoutException):
            client.get("/api/v1/models")


def test_it_runs_in_the_foreground_until_interrupted() -> None:
    code = "from triptych_emulators import serve; serve('atlas', port=0, on_ready=lambda url: print(url, flush=True))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        with httpx2.Client(base_url=base_url) as client:
            assert client.get("/api/v1/models").status_code == 200
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, "")


def test_a_taken_port_is_an_error_at_once(api: Emulator) -> None:
    with pytest.raises(OSError), running("atlas", port=int(api.base_url.rpartition(":")[2])):
        pass
