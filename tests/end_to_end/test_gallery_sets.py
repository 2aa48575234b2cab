"""The gallery in a host's frame with large sets: tables, looks, what failed, delivery."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from support.gallery_host import MADE, SEASONS, Host, Told, made, seasons, shown
from support.servers import image_result
from triptych.core.models import Failure
from triptych.jobs.results import JobResult, Progress

pytestmark = pytest.mark.slow

JOB = "job_12345678"
TABLE_STEPS = ["on a {color} background", "a soft shadow"]
REFUSED = "The provider refused the request for its content."
CALL = {"images": ["products.csv"], "steps": TABLE_STEPS}
ROWS_DRAWN = "document.querySelectorAll('tbody tr').length"


def table(rows: int, failing: tuple[int, ...] = (), **more: Any) -> dict[str, Any]:
    """Return the request of a table's job, as its resource has it; the first step of the rows `failing` failed."""
    failed, done = ["failed", "cancelled"], ["done", "done"]
    states = [state for row in range(rows) for state in (failed if row in failing else done)]
    lanes = [[f"img_{row:08x}"] for row in range(rows)]
    making = made("edit_chain", TABLE_STEPS, lanes, states)
    for request in making["requests"]:
        if request["state"] == "failed":
            request["reason"] = REFUSED
    values = [[f"color {row}", f"note {row}"] for row in range(rows)]
    sources = [f"/shop/{row:03}.jpg" for row in range(rows)]
    return {**making, "is_table": True, "columns": ["color", "note"], "values": values, "sources": sources, **more}


def made_table(making: dict[str, Any], status: str = "done", **fields: Any) -> JobResult:
    """Return the result of a table's job."""
    images = [
        image_result(f"{JOB}/{r['first_output']}", width=640, height=480, source=[making["lanes"][r["lane"]][0]])
        for r in making["requests"]
        if r["state"] == "done"
    ]
    total = len(making["requests"])
    failed = any(r["state"] == "failed" for r in making["requests"])
    error = Failure(kind="moderated", message=REFUSED, retryable=False) if failed else None
    done = Progress(done=len(images), total=total)
    plain = {"requested": total, "progress": done, "images": images, "error": error}
    return seasons(len(images), status, **{**plain, **fields})


def open_table(open_host: Callable[..., Host], making: dict[str, Any], result: JobResult, **options: Any) -> Host:
    host = open_host(Told(making, result), **options)
    host.shows(CALL, shown(result))
    host.see("document.querySelector('table')")
    return host


def reads(host: Host) -> list[str]:
    """Return the images that the page has read, in order."""
    uris = [m["params"]["uri"] for m in host.heard if m.get("method") == "resources/read"]
    return [uri.removeprefix("triptych://images/") for uri in uris if "images/" in uri]


# -- tables ------------------------------------------------------------------------------------------------------------


def test_a_row_has_its_words_and_each_steps_state(open_host: Callable[..., Host]) -> None:
    making = table(4, failing=(1,))
    making["requests"][4]["state"], making["requests"][5]["state"] = "running", "waiting"
    host = open_table(open_host, making, made_table(making, "running"))
    cells = "[...document.querySelectorAll('tbody tr')].map((row) => [...row.children].map((cell) => cell.innerText))"
    rows = host.see(cells)
    assert rows[0][0].split("\n") == ["1", "000.jpg", "color: color 0", "note: note 0"]
    assert [text.replace("\n", " ") for text in rows[1][2:]] == [f"failed {REFUSED}", "cancelled"]
    assert rows[2][2:] == ["running", "waiting"]
    assert host.see("[...document.querySelectorAll('thead th')].map((head) => head.innerText)") == [
        "Row",
        "Before",
        "Step 1 on a {color} background",
        "Step 2 a soft shadow",
    ]
    host.frame.get_by_role("button", name="Row 4, step 2, open").click()
    assert host.text("#words") == TABLE_STEPS[1]
    host.picture("table-image")


def test_a_step_of_an_earlier_job_shows_its_image(open_host: Callable[..., Host]) -> None:
    making = table(2, done=[1, 0], originals=["img_0000000a", ""])
    making["lanes"][0] = ["job_0badcafe/5"]
    del making["requests"][0]
    host = open_table(open_host, making, made_table(making))
    host.see("document.querySelectorAll('tbody img').length === 6")
    handles = "[...document.querySelectorAll('tbody tr:first-child [data-handle]')].map((tile) => tile.dataset.handle)"
    assert host.see(handles) == ["img_0000000a", "job_0badcafe/5", f"{JOB}/2"]


@pytest.mark.parametrize("width", [320, 1100])
def test_a_table_is_one_to_a_screen_reader_at_any_width(open_host: Callable[..., Host], width: int) -> None:
    making = table(3, failing=(1,))
    host = open_table(open_host, making, made_table(making, "partial"), width=width)
    grid = host.frame.get_by_role("table", name="Rows")
    assert grid.get_by_role("row").count() == 4
    assert grid.get_by_role("rowheader").count() == 3 and grid.get_by_role("columnheader").count() == 4
    assert grid.get_by_role("cell").count() == 9
    assert host.see("document.querySelector('table').getAttribute('aria-rowcount')") == "4"
    assert host.see("document.documentElement.scrollWidth <= innerWidth")
    host.picture(f"table-{width}", width)


def test_the_words_of_a_table_are_shown_and_never_run(open_host: Callable[..., Host]) -> None:
    evil = '<img src=x onerror="alert(1)"><script>alert(2)</script>' + "x" * 200
    making = table(1, look={"name": evil, "version": 1, "words": evil, "images": ["img_0a1b2c3d"]})
    making |= {"columns": [evil, "note"], "values": [[evil, evil]], "sources": [evil], "prompts": [evil, "{note}"]}
    making["requests"][1] |= {"state": "failed", "reason": evil}
    host = open_table(open_host, making, made_table(making, "partial"))
    assert host.text("tbody th").count("<script>") == 3, "the name of the column, and two values"
    host.see("document.querySelectorAll('details').length >= 3")
    host.frame.locator("tbody th summary").first.click()
    assert evil in host.text("tbody th"), "the whole text can be read"
    assert host.see("!document.querySelector('table script, table img[src=x], #job-look script')")


def test_hundreds_of_rows_are_drawn_as_they_are_scrolled(open_host: Callable[..., Host]) -> None:
    making = table(500)
    host = open_table(open_host, making, made_table(making))
    host.see("document.querySelectorAll('tbody img').length >= 3")
    assert 30 <= host.see(ROWS_DRAWN) < 200
    assert len(reads(host)) < 60, "only what is seen is read"
    host.scroll(100_000, f"{ROWS_DRAWN} >= 60")
    host.frame.get_by_role("button", name="Show more rows").evaluate("(button) => button.click()")
    host.see(f"{ROWS_DRAWN} >= 90")


def test_pictures_that_were_scrolled_past_are_let_go(open_host: Callable[..., Host]) -> None:
    making = table(60)
    host = open_table(open_host, making, made_table(making))
    first = "document.querySelector('tbody tr .face').childElementCount"
    host.see(first)
    host.scroll(6_000, f"{first} === 0")
    host.scroll(-6_000, f"{first} === 1")


def test_a_keyboard_reaches_every_image_of_a_table(open_host: Callable[..., Host]) -> None:
    making = table(40)
    host = open_table(open_host, making, made_table(making))
    active = "document.activeElement.ariaLabel"
    assert host.see("document.querySelectorAll('tbody button.tile[tabindex=\"0\"]').length") == 1
    host.frame.evaluate("document.querySelector('tbody button.tile').focus()")
    for key, there in (
        ("ArrowRight", "Row 1, step 1, open"),
        ("ArrowRight", "Row 1, step 2, open"),
        ("ArrowDown", "Row 2, step 2, open"),
    ):
        host.page.keyboard.press(key)
        assert host.frame.evaluate(active) == there
    host.page.keyboard.press("Enter")
    host.see("document.getElementById('slider')")
    host.page.keyboard.press("Escape")
    host.see("document.querySelector('table')")
    host.comes_to(active, "Row 2, step 2, open")


# -- what failed -------------------------------------------------------------------------------------------------------


def test_what_failed_is_made_again_after_its_price(open_host: Callable[..., Host]) -> None:
    making = table(40, failing=(4, 37))
    result = made_table(making, "partial", next=f'edit_chain(images=["{JOB}/failed"])')
    host = open_table(open_host, making, result)
    assert "4 of 40 requests" not in host.text("#failures")
    assert "4 of 80 requests did not succeed" in host.text("#failures") and f"2 × {REFUSED}" in host.text("#failures")
    host.frame.locator("select[name=rows]").select_option(label="Rows that failed (2)")
    host.see(f"{ROWS_DRAWN} === 2")
    assert host.see("[...document.querySelectorAll('tbody th b')].map((row) => row.innerText)") == ["5", "38"]
    host.click("Make the failed ones again")
    host.click("Show the price")
    host.see("document.getElementById('price').innerText.includes('It costs $0.064')")
    assert host.paid() == []
    host.picture("retry")
    host.click("Pay $0.064 and make it")
    host.see("!document.getElementById('price')")
    given = {"images": [f"{JOB}/failed"]}
    assert host.calls == [
        ("edit_chain", {**given, "dry_run": True}),
        ("edit_chain", {**given, "max_cost_usd": 0.064, "wait_s": 0}),
    ]


def test_no_retry_is_offered_where_the_server_names_none(open_host: Callable[..., Host]) -> None:
    making = table(3, failing=(1,))
    host = open_table(open_host, making, made_table(making, "partial", next=f'get_status(job_id="{JOB}", wait_s=50)'))
    assert "did not succeed" in host.text("#failures")
    assert host.see("document.getElementById('retry') === null")


# -- looks -------------------------------------------------------------------------------------------------------------

LOOK = {"name": "coffee", "version": 3, "words": "soft light from the left", "images": ["img_99999999", "img_88888888"]}


def test_a_job_shows_its_look_and_a_redo_keeps_it(open_host: Callable[..., Host]) -> None:
    making = table(2, look=LOOK)
    result = made_table(making)
    images = [replace(i, source=[*i.source, *LOOK["images"]]) for i in result.images]  # type: ignore[misc]
    result = replace(result, images=images)
    told = Told(making, result)
    told.facts = {"prompt": "on a color 0 background", "sent": "on a color 0 background. Keep this look: soft light"}
    host = open_host(told)
    host.shows(CALL, shown(result))
    assert "Look coffee, version 3\nsoft light from the left" in host.text("#job-look")
    assert host.see("[...document.querySelectorAll('#job-look button')].map((b) => b.title)") == LOOK["images"]
    host.frame.get_by_role("button", name="Row 1, step 1, open").click()
    assert host.text("#words") == "on a color 0 background"
    host.click("Redo this image")
    host.click("Show the price")
    host.click("Pay $0.064")
    host.see("!document.getElementById('price')")
    [(tool, given)] = host.paid()
    assert (tool, given["images"], given["steps"]) == ("edit_chain", ["img_00000000"], [told.facts["sent"]])
    assert given["references"] == LOOK["images"], "the version that it used, not the newest of the name"


def test_an_edit_takes_a_look_of_those_that_there_are(open_host: Callable[..., Host]) -> None:
    told = Told(MADE, seasons(4, "done"))
    told.looks = {"coffee": "soft light", "night": ""}
    host = open_host(told)
    host.shows({"prompt": SEASONS, "count": 4}, shown(seasons(4, "done")))
    host.click("Image 1")
    host.click("Edit from here")
    assert host.see("[...document.querySelectorAll('#looks option')].map((o) => o.value)") == ["coffee", "night"]
    host.fill("prompt", "make it night")
    host.click("Show the price")
    host.see("document.getElementById('price').innerText.includes('$0.064')")
    host.fill("look", "look:night")
    assert host.see("document.getElementById('price').innerText === ''"), "a look may change the price"
    host.click("Show the price")
    host.click("Pay $0.064")
    host.see("!document.getElementById('price')")
    assert [given["images"] for _, given in host.paid()] == [[f"{JOB}/1", "look:night"]]


def test_a_picture_is_kept_as_a_look(open_host: Callable[..., Host]) -> None:
    told = Told(MADE, seasons(4, "done"))
    told.answers["upload_images"] = {"images": [], "provider": "atlas", "look": "look:warm version 1", "warnings": []}
    host = open_host(told)
    host.shows({"prompt": SEASONS, "count": 4}, shown(seasons(4, "done")))
    host.click("Image 2")
    host.click("Keep as a look…")
    host.fill("look", "warm")
    host.fill("words", "low sun")
    host.frame.get_by_role("button", name="Keep as a look", exact=True).click()
    host.see("document.getElementById('panel').innerText.includes('look:warm version 1.')")
    assert host.calls == [("upload_images", {"images": [f"{JOB}/2"], "look": "warm", "words": "low sun"})]
    [said] = host.hears("ui/update-model-context")["params"]["content"]
    assert said["text"] == f"In the gallery the user stored {JOB}/2 as look:warm."


# -- delivery ----------------------------------------------------------------------------------------------------------


def test_a_job_is_saved_at_sizes_into_an_archive(open_host: Callable[..., Host]) -> None:
    making = table(40)
    result = made_table(making)
    told = Told(making, result)
    saved = [{"handle": f"{JOB}/{n}", "path": f"{n:03}.webp"} for n in range(20)]
    told.answers["save_images"] = {
        "saved": saved, "count": 80, "directory": "/kept", "archive": "/kept/set.zip", "warnings": ["2 were enlarged."]
    }  # fmt: skip
    host = open_host(told)
    host.shows(CALL, shown(result))
    host.click("Save all")
    assert host.see("[...document.querySelectorAll('[name=what] option')].map((o) => o.innerText)") == [
        "the final images",
        "every image, 80",
    ]
    host.fill("directory", "/kept/set.zip")
    host.fill("size", "1080x1080, contain 800x600 white")
    host.frame.locator("[name=format]").select_option("webp")
    host.click("Save them")
    host.see("document.getElementById('saved').innerText.includes('with 80 files')")
    said = host.text("#saved")
    assert "Saved: /kept/set.zip" in said and "and 72 more" in said and "2 were enlarged." in said
    assert host.calls == [
        (
            "save_images",
            {
                "images": [JOB],
                "directory": "/kept/set.zip",
                "size": "1080x1080, contain 800x600 white",
                "format": "webp",
            },
        )
    ]
    host.frame.locator("[name=what]").select_option(label="every image, 80")
    host.click("Save them")
    host.see("!document.querySelector('#panel .main').disabled")
    assert host.calls[1][1]["images"] == [f"{JOB}/{n}" for n in range(1, 81)]


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_running_job_says_its_remaining_time(open_host: Callable[..., Host]) -> None:
    told = Told(MADE, seasons(1))
    told.refuses["triptych://jobs"] = ValueError(-32601, "no resources here")
    host = open_host(told)
    for remaining_s, said in ((47, "about 45 s left"), (200, "about 3 min left")):
        result = shown(seasons(1))
        result["structuredContent"]["progress"]["remaining_s"] = remaining_s
        host.shows({"prompt": SEASONS, "count": 4}, result)
        host.see(f"document.querySelector('#facts').innerText.includes({json.dumps(said)})")
