"""The gallery with a real server: through a host, and in a tab of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support import chromium
from support.gallery_host import (
    PICTURES,
    SEASONS,
    Host,
    Server,
    tiles,
)
from support.pictures import picture
from support.servers import SAMPLES
from triptych_emulators import running

pytestmark = pytest.mark.slow


def test_a_host_shows_edits_and_saves_a_real_job(open_host: Callable[..., Host], server: Server) -> None:
    arguments = {"images": [str(SAMPLES / "coffee.jpg")], "prompt": SEASONS, "count": 4}
    answer = server.call("edit_sequence", **arguments)
    job_id = answer["structuredContent"]["job_id"]
    host = open_host(server.ask)
    host.shows(arguments, answer)
    host.see("document.querySelectorAll('#grid img').length === 4")
    assert tiles(host) == [f"Image {n}, open" for n in (1, 2, 3, 4)]
    host.picture("seasons")
    host.click("Image 4")
    host.see("document.getElementById('slider')")
    host.click("Edit from here")
    host.fill("prompt", "make it warmer")
    host.click("Show the price")
    host.see("document.getElementById('price').innerText.startsWith('It is free')")
    host.click("Make it")
    host.see(
        "document.querySelector('h1')?.innerText === 'make it warmer'"
        " && document.querySelectorAll('#grid img').length === 1"
    )
    host.see("document.querySelector('.chip').innerText === 'done'")
    [(tool, given)] = host.paid()
    assert (tool, given["images"], given["count"]) == ("edit_sequence", [f"{job_id}/4"], 1)
    host.click("Image 1")
    host.see("document.getElementById('slider')")
    host.click(f"Open {job_id}/4")
    host.see(f"document.querySelector('#view b')?.innerText === '{job_id}/4'")
    host.comes_to(
        "[...document.querySelectorAll('#lineage h2')].map((t) => t.innerText)", ["Made from", "Made from it"]
    )
    host.click("Save…")
    host.fill("directory", str(server.home / "kept"))
    host.fill("name", "winter")
    host.click("Save 1 image")
    host.see("document.getElementById('panel').innerText.includes('Saved: ')")
    assert [path.stem for path in (server.home / "kept").iterdir()] == ["winter"]
    host.picture("saved")


def test_a_real_chain_is_redone_in_the_middle(open_host: Callable[..., Host], server: Server) -> None:
    photographs = [str(SAMPLES / name) for name in ("coffee.jpg", "rocket.jpg")]
    arguments = {"images": photographs, "steps": ["autumn", "black and white", "a warm sepia tone"]}
    answer = server.call("edit_chain", **arguments)
    host = open_host(server.ask, theme="dark")
    host.shows(arguments, answer)
    host.see("document.querySelectorAll('#grid img').length === 8")
    host.picture("real-chain")
    host.click("Image 5")
    host.see("document.getElementById('slider')")
    host.click("Redo this image")
    assert host.see("document.querySelector('[name=prompt]').value") == "black and white"
    host.fill("prompt", "at night")
    host.click("Show the price")
    host.click("Make it")
    host.see("document.querySelector('h1')?.innerText === 'at night'")
    assert host.see("document.activeElement.id === 'title'"), "the keyboard is not lost with the form"
    host.see("document.querySelector('.chip').innerText === 'done'")
    [(tool, given)] = host.paid()
    job_id = answer["structuredContent"]["job_id"]
    assert (tool, given["images"], given["steps"]) == ("edit_chain", [f"{job_id}/4"], ["at night"])
    assert [t.split(",")[0] for t in tiles(host)] == [f"Before: {job_id}/4", "Image 1: at night"]


def test_a_redo_of_a_real_frame_is_another_picture(open_host: Callable[..., Host], server: Server) -> None:
    arguments = {"prompt": "a boat at sunset, a boat at night", "count": 2}
    answer = server.call("generate_sequence", **arguments)
    host = open_host(server.ask)
    host.shows(arguments, answer)
    host.click("Image 2")
    host.click("Redo this image")
    host.click("Show the price")
    host.click("Make it")
    host.see(
        "document.querySelector('.chip')?.innerText === 'done'"
        " && document.querySelectorAll('#grid button.tile').length === 1"
    )
    [(tool, given)] = host.paid()
    assert (
        tool == "edit_sequence" and given["images"] == [f"{answer['structuredContent']['job_id']}/1"] and given["again"]
    )


def test_in_its_own_tab_it_lists_and_shows_jobs(tab: chromium.Tab, server: Server) -> None:
    answer = server.call("generate_sequence", prompt="three sails", count=3)["structuredContent"]
    tab.page.goto(server.page)
    chromium.wait_for(tab.page.main_frame, "document.querySelector('.job')")
    assert server.token not in tab.page.evaluate("location.href"), "the token stays out of the address bar"
    chromium.wait_for(tab.page.main_frame, f"document.querySelector('.job').dataset.job === '{answer['job_id']}'")
    chromium.wait_for(tab.page.main_frame, "document.querySelector('.job img')")
    if PICTURES:
        tab.page.screenshot(path=Path(PICTURES) / "jobs.jpg", quality=80)
    tab.page.evaluate("document.querySelector('.job').click()")
    chromium.wait_for(tab.page.main_frame, "document.querySelectorAll('#grid button.tile img').length === 3")
    tab.page.evaluate("document.querySelector('#grid button.tile').click()")
    chromium.wait_for(tab.page.main_frame, "document.querySelector('.stage img')")
    for there in ("document.querySelectorAll('#grid button.tile').length === 3", "document.querySelector('.job')"):
        tab.page.evaluate("history.back()")
        chromium.wait_for(tab.page.main_frame, there)
    tab.page.evaluate("history.forward()")
    chromium.wait_for(tab.page.main_frame, "document.querySelector('h1').innerText === 'three sails'")
    tab.page.reload()
    chromium.wait_for(tab.page.main_frame, "document.querySelector('h1')?.innerText === 'three sails'")
    assert {url.split("#")[0] for url in tab.requests if not url.startswith("data:")} == {
        f"{server.base}/gallery",
        f"{server.base}/mcp",
    }
    assert tab.problems == []


def test_a_server_without_a_token_is_not_asked_for_one(tab: chromium.Tab, http_url: str) -> None:
    tab.page.goto(http_url.replace("/mcp", "/gallery"))
    chromium.wait_for(tab.page.main_frame, "document.querySelector('h1')?.innerText === 'Recent jobs'")
    assert not tab.page.evaluate("Boolean(document.querySelector('[name=token]'))") and tab.problems == []


def test_in_a_tab_without_the_token_it_asks(tab: chromium.Tab, server: Server) -> None:
    tab.page.goto(f"{server.base}/gallery")
    for token, said in (
        ("wrong", "This server asks for a token"),
        (server.token, "The server does not take this token"),
    ):
        chromium.wait_for(tab.page.main_frame, f"document.querySelector('.panel h2')?.innerText === {json.dumps(said)}")
        tab.page.locator("[name=token]").fill(token)
        tab.page.locator("[name=token]").press("Enter")
    listed = "document.querySelector('.job') || document.body.innerText.includes('There are no jobs yet')"
    chromium.wait_for(tab.page.main_frame, listed)
    assert [p for p in tab.problems if "401" not in p] == []


def test_a_real_table_with_a_look_is_redone_where_it_failed(open_host: Callable[..., Host], tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    for n in range(4):
        (shop / f"{n}.png").write_bytes(picture(f"rgb({n},90,90)"))
    marks = {2: "[[emulate:submit/moderated-before]]"}
    rows = [f"{n}.png,color {n} {marks.get(n, '')}" for n in range(4)]
    (shop / "products.csv").write_text("\n".join(["image,color", *rows]))
    with running("atlas", max_side=96) as api:
        server = Server(tmp_path, ATLASCLOUD_API_KEY="test-key", ATLASCLOUD_BASE_URL=api.base_url)
        server.call("upload_images", images=[str(SAMPLES / "coffee.jpg")], look="coffee", words="soft light")
        arguments = {
            "images": [str(shop / "products.csv")], "steps": ["on {color}", "a shadow"], "references": ["look:coffee"],
            "max_cost_usd": 9, "wait_s": 0,
        }  # fmt: skip
        host = open_host(server.ask)
        host.shows(arguments, server.call("edit_chain", **arguments))
        host.see("document.querySelector('.chip').innerText === 'partial'")
        states = "[...document.querySelectorAll('tbody tr')].map((row) => row.querySelectorAll('.lost').length)"
        host.comes_to(states, [0, 0, 2, 0])
        assert "Look coffee, version 1" in host.text("#job-look")
        host.frame.get_by_role("button", name="Row 2, step 1, open").click()
        assert host.text("#words").strip() == "on color 1", "the values of the row are in the instruction"
        host.click("← All images")
        host.click("Make the failed ones again")
        host.click("Show the price")
        host.see("document.getElementById('price').innerText.includes('for 2 images')")
        assert len(api.jobs) == 6
        host.click("Pay $")
        host.see("document.querySelector('.chip')?.innerText === 'done'")
        assert host.see("[...document.querySelectorAll('tbody th .file')].map((file) => file.innerText)") == ["2.png"]
        sent = [job.spec.body["prompt"] for job in api.jobs[6:]]
        assert len(sent) == 2 and all("Keep this look: soft light" in prompt for prompt in sent)
        assert server.child.end() == 0
