"""The gallery in a host's frame: what costs something shows its price and wants a second click."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.gallery_host import (
    CHAIN,
    MADE,
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
from triptych.core.models import Failure

pytestmark = pytest.mark.slow


def test_a_price_and_a_second_click_precede_payment(open_host: Callable[..., Host]) -> None:
    host = open_host(Told(MADE, seasons(4, "done")))
    host.shows({"prompt": SEASONS, "count": 4}, shown(seasons(4, "done")))
    host.click("Image 3")
    host.click("Redo this image")
    words = host.see("document.querySelector('[name=prompt]').value")
    assert words.startswith("Only image 3 of this set of 4, again, in the look of the others.") and SEASONS in words
    host.click("Show the price")
    host.see("document.getElementById('price').innerText.includes('It costs $0.064')")
    assert host.paid() == []
    host.picture("price")
    host.fill("prompt", "autumn, with fog")
    assert host.see("document.getElementById('price').innerText === ''"), "another instruction may have another price"
    host.click("Show the price")
    host.click("Pay $0.064 and make it")
    host.see("document.querySelector('#grid')")
    given = {
        "images": ["img_0a1b2c3d", "job_12345678/2", "job_12345678/4"],
        "prompt": "autumn, with fog",
        "count": 1,
        "model": "seedream-4.0",
        "provider": "atlas",
        "again": True,
    }
    assert host.paid() == [("edit_sequence", {**given, "max_cost_usd": 0.064, "wait_s": 0})]
    assert [given for name, given in host.calls if given.get("dry_run")][-1] == {**given, "dry_run": True}
    [told] = host.hears("ui/update-model-context")["params"]["content"]
    assert "the user started job_12345678 with edit_sequence: a redo of job_12345678/3" in told["text"]


def test_a_paid_call_without_answer_is_not_offered_again(open_host: Callable[..., Host]) -> None:
    told = Told(MADE, seasons(4, "done"))
    host = open_host(told)
    host.shows({"prompt": SEASONS, "count": 4}, shown(seasons(4, "done")))
    host.click("Image 1")
    host.click("Edit from here")
    host.fill("prompt", "make it night")
    host.fill("count", "3")
    host.click("Show the price")
    host.see("document.getElementById('price').innerText.includes('$0.064')")
    told.refuses["edit_sequence"] = ValueError(-32001, "Request timed out")
    host.click("Pay $0.064")
    host.see("document.getElementById('price').innerText.includes('may have been paid for')")
    assert host.see(
        "![...document.querySelectorAll('button')].some((b) => b.offsetParent && b.innerText.startsWith('Pay'))"
    )
    assert [(name, given["images"], given["count"]) for name, given in host.paid()] == [
        ("edit_sequence", ["job_12345678/1"], 3)
    ]


def test_a_refusal_is_shown_and_the_price_can_be_raised(open_host: Callable[..., Host]) -> None:
    told = Told(MADE, seasons(4, "done"))
    host = open_host(told)
    host.shows({"prompt": SEASONS, "count": 4}, shown(seasons(4, "done")))
    host.click("Image 1")
    host.click("Edit from here")
    host.fill("prompt", "make it night")
    host.click("Show the price")
    host.see("document.getElementById('price').innerText.includes('$0.064')")
    told.refuses["edit_sequence"] = ValueError(-32602, "The quote of $0.08 is above max_cost_usd=0.064.")
    host.click("Pay $0.064")
    host.see("document.getElementById('price').innerText.includes('above max_cost_usd')")
    told.refuses.clear()
    host.fill("most", "0.08")
    host.click("Pay up to $0.08 and make it")
    host.see("document.querySelector('#grid')")
    assert [given["max_cost_usd"] for _, given in host.paid()] == [0.064, 0.08]


def test_an_uncertain_job_has_its_three_ways_out(open_host: Callable[..., Host]) -> None:
    making = made("edit_sequence", [SEASONS], [["img_0a1b2c3d"]], ["uncertain"], count=4)
    error = Failure(kind="uncertain", message="The connection broke after the request left.", retryable=False)
    host = open_host(Told(making, seasons(0, "uncertain", error=error)))
    host.shows({"prompt": SEASONS, "count": 4}, shown(seasons(0, "uncertain", error=error)))
    assert "may have been paid, and its answer was lost" in host.text("#uncertain")
    assert tiles(host) == [f"Image {n}, not known" for n in (1, 2, 3, 4)]
    host.picture("uncertain")
    host.click("Look again")
    host.see("!document.querySelector('#uncertain button').disabled")
    host.click("Accept it as lost")
    host.click("Really give it up?")
    host.see("!document.querySelector('.confirming')")
    host.click("Pay for a new one")
    host.click("Show the price")
    host.click("Pay $0.064")
    host.see("!document.getElementById('price')")
    assert [call for call in host.calls if not call[1].get("dry_run")] == [
        ("get_status", {"job_id": "job_12345678", "wait_s": 30}),
        ("cancel_job", {"job_id": "job_12345678"}),
        (
            "edit_sequence",
            {
                "model": "seedream-4.0",
                "provider": "atlas",
                "prompt": SEASONS,
                "count": 4,
                "images": ["img_0a1b2c3d"],
                "again": True,
                "max_cost_usd": 0.064,
                "wait_s": 0,
            },
        ),
    ]


def test_a_job_made_again_has_its_look_and_its_original(open_host: Callable[..., Host]) -> None:
    making = made("edit_chain", ["warmer", "a cup!"], [["img_0a1b2c3d"]], ["uncertain", "waiting"])
    look = {"name": "coffee", "version": 1, "words": "soft light", "images": ["img_4e5f6a7b"]}
    sent = ["warmer. Keep this look: soft light", "a cup! Keep this look: soft light"]
    making |= {"references": ["original"], "look": look, "sent": sent}
    error = Failure(kind="uncertain", message="The connection broke after the request left.", retryable=False)
    host = open_host(Told(making, seasons(0, "uncertain", error=error)))
    host.shows({"images": ["a.jpg"], "steps": ["warmer", "a cup!"]}, shown(seasons(0, "uncertain", error=error)))
    host.see("document.getElementById('job-look').innerText.includes('Look coffee, version 1')")
    host.picture("look")
    host.click("Pay for a new one")
    host.click("Show the price")
    host.click("Pay $0.064")
    host.see("!document.getElementById('price')")
    ((tool, given),) = host.paid()
    assert tool == "edit_chain" and given["images"] == ["img_0a1b2c3d"]
    assert given["steps"] == sent
    assert given["references"] == ["original", "img_4e5f6a7b"]


def test_one_click_does_not_cancel_a_job(open_host: Callable[..., Host]) -> None:
    told = Told(MADE, seasons(2))
    host = open_host(told)
    host.shows({"prompt": SEASONS, "count": 4}, shown(seasons(2)))
    host.click("Cancel the job")
    host.see("document.querySelector('.confirming').innerText === 'Really cancel?'")
    assert not [name for name, _ in host.calls if name == "cancel_job"]
    told.after_cancel = seasons(2, "cancelled")
    host.click("Really cancel?")
    host.see("document.querySelector('.chip').innerText === 'cancelled'")
    assert tiles(host)[2:] == ["Image 3, did not come", "Image 4, did not come"]


def test_a_step_of_a_chain_is_redone_from_its_source(
    open_host: Callable[..., Host],
) -> None:
    told = Told(CHAIN, chain())
    host = open_host(told)
    host.shows({"images": ["a.jpg", "b.jpg"], "steps": STEPS, "references": ["look.jpg"]}, shown(chain()))
    host.see("document.querySelectorAll('#grid img').length === 6")
    lanes = host.see(
        "[...document.querySelectorAll('.lane')].map((l) => [...l.querySelectorAll('.tile')].map((t) => t.ariaLabel))"
    )
    assert lanes == [
        ["Before: img_0a1b2c3d, open", *(f"Image {n}: {words}, open" for n, words in enumerate(STEPS, 1))],
        [
            "Before: img_4e5f6a7b, open",
            f"Image 4: {STEPS[0]}, open",
            "Image 5, still to come",
            "Image 6, still to come",
        ],
    ]
    assert host.text("h1") == " → ".join(STEPS)
    headings = host.see("[...document.querySelectorAll('.lane b')].map((b) => b.innerText)")
    assert headings == ["Before", "Step 1", "Step 2", "Step 3"] * 2
    host.picture("chain")
    host.page.evaluate("document.getElementById('frame').focus()")
    host.frame.evaluate("document.querySelector('[aria-label^=\"Image 1\"]').focus()")
    for key, there in (
        ("ArrowDown", "Image 4"),
        ("ArrowLeft", "Before: img_4e5f6a7b"),
        ("ArrowUp", "Before: img_0a1b2c3d"),
    ):
        host.page.keyboard.press(key)
        assert str(host.frame.evaluate("document.activeElement.ariaLabel")).startswith(there)
    host.click("Image 2")
    assert host.text("#words") == STEPS[1]
    host.see("document.getElementById('slider')?.ariaLabel.includes('job_12345678/1')")
    lineage = "[...document.querySelectorAll('#lineage button')].map((b) => b.title)"
    host.comes_to(lineage, ["job_12345678/1", "img_99999999", "job_12345678/3"])
    host.click("Redo this image")
    host.click("Show the price")
    host.click("Pay $0.064")
    host.see("document.querySelector('#grid')")
    assert host.paid() == [
        (
            "edit_chain",
            {
                "model": "seedream-4.0",
                "provider": "atlas",
                "images": ["job_12345678/1"],
                "steps": [STEPS[1]],
                "references": ["img_99999999"],
                "again": True,
                "max_cost_usd": 0.064,
                "wait_s": 0,
            },
        )
    ]
