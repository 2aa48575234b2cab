"""The gallery in a host's frame: what a person sees, and what the page sends to its host."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import jsonschema
import pytest

from support import ROOT
from support.gallery_host import (
    CHAIN,
    MADE,
    PIXEL,
    SEASONS,
    STEPS,
    Host,
    Told,
    chain,
    made,
    seasons,
    shown,
    tiles,
)
from support.servers import image_result, job_result
from triptych.core.models import Failure
from triptych.jobs.results import Cost, Page, Progress
from triptych.server import gallery, tools

pytestmark = pytest.mark.slow


def test_images_appear_in_place_until_the_job_ends(
    open_host: Callable[..., Host],
) -> None:
    told = Told(MADE, seasons(1), seasons(3), seasons(4, "done"))
    host = open_host(told)
    host.notify("tool-input", arguments={"images": ["coffee.jpg"], "prompt": SEASONS, "count": 4})
    assert tiles(host) == [f"Image {n}, still to come" for n in (1, 2, 3, 4)]
    assert host.text("h1") == SEASONS
    host.notify("tool-result", **shown(seasons(1)))
    host.see("document.querySelectorAll('#grid button.tile').length === 1")
    assert tiles(host) == ["Image 1, open", *(f"Image {n}, still to come" for n in (2, 3, 4))]
    told.moves.release()
    host.see("document.querySelectorAll('#grid button.tile').length === 3")
    host.picture("running")
    told.moves.release()
    host.see("document.querySelector('.chip').innerText === 'done'")
    assert tiles(host) == [f"Image {n}, open" for n in (1, 2, 3, 4)]
    assert "4 of 4 images · seedream-4.0 on atlas · quoted $0.128, charged $0.128" in host.text("#facts")
    assert host.calls == []
    assert any(m.get("method") == "ui/notifications/size-changed" and m["params"]["height"] > 100 for m in host.heard)


CHARGES = [
    ("done", Cost(quoted=Decimal("0.1"), charged=Decimal("0.066667"), charge_is_estimate=True),
     "charged about $0.066667, the provider reports no charge"),
    ("failed", Cost(quoted=Decimal("0.1"), charged=Decimal("0")), "nothing was charged"),
    ("uncertain", Cost(quoted=Decimal("0.1")), "it may have been charged"),
]  # fmt: skip


def test_the_page_says_what_was_charged_and_by_whose_word(open_host: Callable[..., Host]) -> None:
    told = Told(MADE)
    host = open_host(told)
    for status, cost, said in CHARGES:
        told.results = [seasons(0, status, cost=cost)]
        host.notify("tool-result", **shown(told.results[0]))
        host.see(f"document.querySelector('#facts').innerText.includes({json.dumps(said)})")


def test_failed_status_calls_are_given_up_with_a_word(open_host: Callable[..., Host]) -> None:
    told = Told(MADE, seasons(1))
    told.refuses["triptych://jobs"] = told.refuses["get_status"] = ValueError(-32000, "the server is gone")
    host = open_host(told)
    # The waits between failures double; the page's clock is hurried, its logic is not.
    host.frame.evaluate("(() => { const real = setTimeout; window.setTimeout = (f, ms) => real(f, ms / 100); })()")
    host.shows({"prompt": "x"}, shown(seasons(1)))
    host.see("document.getElementById('notice').innerText.includes('stopped asking: the server is gone')")
    assert len(host.calls) == 5


def test_a_host_without_resources_shows_every_page_at_the_end(open_host: Callable[..., Host]) -> None:
    whole = seasons(4, "done")
    pages = [replace(whole, images=whole.images[at : at + 2], page=Page(number=at // 2 + 1, of=2)) for at in (0, 2)]
    told = Told(MADE, seasons(2), pages[0])
    told.pages = pages
    told.refuses["triptych://jobs"] = ValueError(-32601, "no resources here")
    host = open_host(told)
    host.shows({"images": ["coffee.jpg"], "prompt": SEASONS, "count": 4}, shown(seasons(2)))
    assert tiles(host) == [f"Image {n}, still to come" for n in (1, 2, 3, 4)]
    told.moves.release()
    host.see("document.querySelectorAll('#grid button.tile').length === 4")
    assert ("get_status", {"job_id": "job_12345678", "page": 2}) in host.calls


def test_words_from_outside_are_shown_and_never_run(open_host: Callable[..., Host]) -> None:
    evil = '<img src=x onerror="alert(1)"><script>alert(2)</script><b>bold</b>'
    making = made("edit_sequence", [evil], [["img_0a1b2c3d"]], ["failed"])
    error = Failure(kind="refused", message=evil, retryable=False)
    image = image_result("job_12345678/1", url="javascript:alert(3)", path=evil, source=["img_0a1b2c3d"])
    host = open_host(Told(making, seasons(1, "partial", images=[image], error=error, warnings=[evil])))
    host.shows(
        {"prompt": evil},
        shown(seasons(1, "partial", images=[replace(image, url=None)], error=error, warnings=[evil])),
    )
    assert host.text("h1") == evil
    assert host.text("#notices").count(evil) == 2
    host.click("Image 1")
    assert host.text("#path") == evil
    assert host.see("document.querySelector('#open') === null && !document.querySelector('b b, p b, h1 *')")


ADDRESSES = {
    "https://images.example.com/files/job_12345678/1?e=1&s=a": True,
    "http://127.0.0.1:8765/files/job_12345678/1?e=1&s=a": True,
    "http://[::1]:8765/a.png": True,
    "http://images.example.com/a.png": False,
    "http://127.0.0.1.example.com/a.png": False,
    "file:///home/a.png": False,
}


def test_the_full_image_opens_from_web_or_disk(open_host: Callable[..., Host]) -> None:
    images = [
        image_result(f"job_12345678/{n}", url=url, path=f"/home/{n}.png", source=["img_0a1b2c3d"])
        for n, url in enumerate(ADDRESSES, 1)
    ]
    total = {"requested": len(images), "progress": Progress(done=len(images), total=len(images))}
    result = seasons(len(images), "done", images=images, **total)
    host = open_host(Told(made("edit_sequence", [SEASONS], [["img_0a1b2c3d"]], ["done"], count=len(images)), result))
    host.shows({"prompt": SEASONS, "count": len(images)}, shown(result))
    for n, (url, opens) in enumerate(ADDRESSES.items(), 1):
        host.click(f"Image {n}")
        host.see(f"document.querySelector('#path')?.innerText === '/home/{n}.png'")
        assert host.see(f"(document.querySelector('#open') !== null) === {str(opens).lower()}"), url
        host.page.keyboard.press("Escape")
        host.see("document.querySelector('#grid')")


def test_a_keyboard_is_enough(open_host: Callable[..., Host]) -> None:
    host = open_host(Told(MADE, seasons(4, "done")))
    host.shows({"prompt": SEASONS, "count": 4}, shown(seasons(4, "done")))
    host.see("document.querySelectorAll('#grid img').length === 4")
    active = "document.activeElement.ariaLabel ?? document.activeElement.innerText"
    assert host.see("document.querySelectorAll('#grid [tabindex=\"0\"]').length") == 1
    host.page.evaluate("document.getElementById('frame').focus()")
    seen = []
    while "Image 1, open" not in seen:
        host.page.keyboard.press("Tab")
        seen.append(host.frame.evaluate(active))
        assert len(seen) < 12, seen
    for key, there in (
        ("ArrowRight", 2),
        ("End", 4),
        ("ArrowRight", 4),
        ("ArrowLeft", 3),
        ("Home", 1),
        ("ArrowRight", 2),
    ):
        host.page.keyboard.press(key)
        assert host.frame.evaluate(active) == f"Image {there}, open"
    assert host.see("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    host.page.keyboard.press("Enter")
    host.see("document.getElementById('slider')")
    host.frame.evaluate("document.getElementById('slider').focus()")
    for _ in range(5):
        host.page.keyboard.press("ArrowRight")
    assert host.see("document.getElementById('slider').ariaValueText") == "55 % before"
    assert host.see("document.querySelector('.stage').style.getPropertyValue('--at')") == "55%"
    assert "Before (img_0a1b2c3d) and after" in host.see("document.getElementById('slider').ariaLabel")
    host.picture("image")
    host.page.keyboard.press("Escape")
    host.see("document.querySelector('#grid')")
    host.comes_to(active, "Image 2, open")


@pytest.mark.parametrize("width", [320, 1600])
def test_nothing_sticks_out_at_any_width(open_host: Callable[..., Host], width: int) -> None:
    warning = "A/very/long/path/without/any/place/to/break/it/" + "x" * 80
    host = open_host(Told(CHAIN, chain("done")), width=width)
    host.shows({"steps": STEPS}, shown(replace(chain("done"), warnings=[warning])))
    host.see("document.querySelectorAll('#grid img').length >= 4")
    fits = "document.documentElement.scrollWidth <= innerWidth"
    assert host.see(fits)
    host.picture(f"chain-{width}", width)
    host.click("Image 2")
    host.see("document.getElementById('slider')")
    assert host.see(fits)
    host.click("Edit from here")
    assert host.see(fits)
    host.picture(f"image-{width}", width)


def test_it_follows_the_theme_of_host_or_system(open_host: Callable[..., Host]) -> None:
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    told = Told(MADE, seasons(4, "done"))
    host = open_host(told, theme="dark")
    assert host.see(paper) == "rgb(27, 28, 31)"
    host.shows({"prompt": SEASONS, "count": 4}, shown(seasons(4, "done")))
    host.see("document.querySelectorAll('#grid img').length === 4")
    host.picture("dark")
    host.notify("host-context-changed", theme="light")
    assert host.see(f"{paper} === 'rgb(255, 255, 255)'")
    host.notify(
        "host-context-changed", styles={"variables": {"--color-background-primary": "light-dark(#fafaf0, #111)"}}
    )
    assert host.see(f"{paper} === 'rgb(250, 250, 240)'")
    by_system = open_host(told, media={"color_scheme": "dark"}, theme=None)
    assert by_system.see(paper) == "rgb(27, 28, 31)"


def test_nothing_moves_for_those_who_do_not_want_it(open_host: Callable[..., Host]) -> None:
    told = Told(MADE, seasons(1))
    animation = "getComputedStyle(document.querySelector('.coming .face')).animationName"
    for wish, name in (("no-preference", "pass"), ("reduce", "none")):
        host = open_host(told, media={"reduced_motion": wish})
        host.shows({"prompt": SEASONS, "count": 4}, shown(seasons(1)))
        assert host.see(animation) == name


def test_a_host_can_show_it_full_screen_and_end_it(open_host: Callable[..., Host]) -> None:
    host = open_host(Told(MADE, seasons(4, "done")), availableDisplayModes=["inline", "fullscreen"])
    host.shows({"prompt": SEASONS, "count": 4}, shown(seasons(4, "done")))
    host.click("Full screen")
    host.see("document.getElementById('full').innerText === 'Leave full screen'")
    host.click("Image 1")
    host.click("Open the full image")
    host.say({"id": 77, "method": "ui/resource-teardown", "params": {"reason": "closed"}})
    host.say({"id": 78, "method": "ping"})
    host.say({"id": 79, "method": "sampling/createMessage"})
    assert host.hears("ui/request-display-mode")["params"] == {"mode": "fullscreen"}
    assert host.hears("ui/open-link")["params"] == {"url": "https://cdn.example/1.png"}
    assert host.hears(answer_to=77)["result"] == host.hears(answer_to=78)["result"] == {}
    assert host.hears(answer_to=79)["error"]["code"] == -32601


def test_a_host_that_passes_no_resources_on_still_shows_images(open_host: Callable[..., Host]) -> None:
    told = Told(MADE, seasons(4, "done"))

    def without_resources(method: str, params: dict[str, Any]) -> Any:
        if method == "resources/read":
            raise ValueError(-32601, "no resources here")
        if params["name"] == "view_images":
            return {"content": [{"type": "image", "data": PIXEL, "mimeType": "image/jpeg"}]}
        return told(method, params)

    host = open_host(without_resources)
    host.shows({"images": ["coffee.jpg"], "prompt": SEASONS, "count": 4}, shown(seasons(4, "done")))
    host.see("document.querySelectorAll('#grid img').length === 4")
    assert host.text("h1") == SEASONS


def test_refused_calls_and_dry_runs_say_so(open_host: Callable[..., Host]) -> None:
    host = open_host(Told(MADE, seasons(4, "done")))
    host.shows(
        {"images": ["nowhere.jpg"], "prompt": "x"},
        {"isError": True, "content": [{"type": "text", "text": "nowhere.jpg is not there"}]},
    )
    assert "nowhere.jpg is not there" in host.text("#view")
    dry = open_host(Told(MADE, seasons(4, "done")))
    result = job_result(
        job_id=None,
        status="dry_run",
        requested=2,
        returned=0,
        cost=Cost(quoted=Decimal("0.07")),
        warnings=["A dry run: nothing was sent."],
    )
    dry.shows({"prompt": "a boat", "count": 2, "dry_run": True}, shown(result))
    dry.see("document.querySelector('.chip')?.innerText === 'dry run'")
    assert "quoted $0.07" in dry.text("#facts") and "nothing was sent" in dry.text("#notices")


# -- by the official package's schemas --------------------------------------------------------------------------------

SCHEMAS = ROOT / ".oracles/apps/node_modules/@modelcontextprotocol/ext-apps/dist/src/generated"
KINDS = {
    "ui/initialize": "McpUiInitializeRequest",
    "ui/open-link": "McpUiOpenLinkRequest",
    "ui/request-display-mode": "McpUiRequestDisplayModeRequest",
    "ui/update-model-context": "McpUiUpdateModelContextRequest",
    "ui/notifications/initialized": "McpUiInitializedNotification",
    "ui/notifications/size-changed": "McpUiSizeChangedNotification",
}


@pytest.mark.oracle
def test_every_message_is_one_that_the_official_package_knows(open_host: Callable[..., Host]) -> None:
    if not SCHEMAS.is_dir():
        pytest.skip("the schemas of MCP Apps are not installed; run scripts/oracles (it needs npm)")
    schemas = json.loads((SCHEMAS / "schema.json").read_text("utf-8"))["$defs"]

    def check(kind: str, value: dict[str, Any]) -> None:
        jsonschema.Draft202012Validator(schemas[kind]).validate(value)

    host = open_host(Told(MADE, seasons(4, "done")), availableDisplayModes=["inline", "fullscreen"])
    host.shows({"prompt": SEASONS, "count": 4}, shown(seasons(4, "done")))
    host.click("Full screen")
    host.click("Image 1")
    host.click("Open the full image")
    host.click("Redo this image")
    host.click("Show the price")
    host.click("Pay $0.064")
    host.hears("ui/update-model-context")
    said = [m for m in host.heard if m.get("method", "").startswith("ui/")]
    assert {m["method"] for m in said} == set(KINDS)
    for message in said:
        check(KINDS[message["method"]], {key: message[key] for key in ("method", "params") if key in message})
    # The host that is played here says what a host may say.
    check("McpUiInitializeResult", host.result("ui/initialize", {}))
    check("McpUiToolMeta", gallery.linked(tools.listing()).tools[1].model_dump(by_alias=True)["_meta"]["ui"])
    check("McpUiResourceMeta", (gallery.read().contents[0].meta or {})["ui"])
