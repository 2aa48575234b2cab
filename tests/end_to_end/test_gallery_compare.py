"""The gallery in a host's frame: one request on several models, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from support.gallery_host import Host, Told, made, seasons, shown
from support.servers import image_result, job_result
from triptych.jobs.results import Cost, JobResult, Progress

pytestmark = pytest.mark.slow

JOB = "job_12345678"


class Market(Told):
    """Three other models of a price each; a call makes the job `job_` and eight times the model's last character."""

    PRICES: ClassVar = {"model-a": "0.03", "model-b": "0.04", "model-c": "0.05"}

    def __call__(self, method: str, params: dict[str, Any]) -> Any:
        if method == "resources/read" and (job := self._named(params["uri"].rpartition("/")[2])):
            text = json.dumps({name: value for name, value in job.as_json().items() if name != "request"})
            meta = {"making": {**self.making, "count": 1, "took_s": 12.4}}
            return {"contents": [{"uri": params["uri"], "mimeType": "application/json", "text": text, "_meta": meta}]}
        given = params.get("arguments", {})
        if params.get("name") == "list_models":
            models = [self._offer(name, price) for name, price in self.PRICES.items()]
            return {"structuredContent": {"models": [self._offer("seedream-4.0", "0.02"), *models]}, "content": []}
        if params.get("name") == "get_status" and (job := self._named(given["job_id"])):
            return shown(job)
        model = given.get("model")
        if model in self.PRICES and (error := self.refuses.get(model)):
            raise error
        if model in self.PRICES and given.get("dry_run"):
            cost = Cost(quoted=Decimal(self.PRICES[model]))
            return shown(job_result(job_id=None, status="dry_run", model=model, provider="atlas", cost=cost))
        if model in self.PRICES:
            return shown(self._job(model))
        return super().__call__(method, params)

    def _offer(self, model: str, price: str) -> dict[str, Any]:
        offer = {"model": model, "provider": "atlas", "usd_per_image": float(price)}
        return {**offer, "usable": model != "model-c", "why_not": "no key"}

    def _named(self, job_id: str) -> JobResult | None:
        return next((self._job(model) for model in self.PRICES if job_id == f"job_{model[-1] * 8}"), None)

    def _job(self, model: str) -> JobResult:
        job_id = f"job_{model[-1] * 8}"
        image = image_result(f"{job_id}/1", width=1536, height=1024, source=["img_0a1b2c3d"])
        cost = Cost(quoted=Decimal(self.PRICES[model]), charged=Decimal(self.PRICES[model]))
        return seasons(1, "done", job_id=job_id, model=model, requested=1, images=[image], cost=cost)


def one_image(status: str = "done") -> JobResult:
    return seasons(1, status, requested=1, progress=Progress(done=1, total=1))


def open_market(open_host: Callable[..., Host], **options: Any) -> tuple[Host, Market]:
    told = Market(made("edit_sequence", ["at night"], [["img_0a1b2c3d"]], ["done"]), one_image())
    host = open_host(told, **options)
    host.shows({"images": ["a.jpg"], "prompt": "at night"}, shown(one_image()))
    host.click("Compare with other models")
    host.see("document.querySelectorAll('.choice').length === 3")
    return host, told


def test_models_are_compared_after_the_sum_of_prices(open_host: Callable[..., Host]) -> None:
    host, _ = open_market(open_host)
    assert host.calls == [("list_models", {"operation": "edit"})]
    boxes = "[...document.querySelectorAll('.choice input')].map((box) => box.disabled)"
    assert host.see(boxes) == [False, False, True]
    for name in ("model-a", "model-b"):
        host.frame.get_by_role("checkbox", name=name).check()
    host.click("Show the prices")
    host.see("document.getElementById('price').innerText.startsWith('Together they cost $0.07')")
    assert host.paid() == []
    host.picture("compare")
    host.click("Pay $0.07 and make them")
    host.see("document.querySelectorAll('.compared .keep').length === 3")
    given = {"prompt": "at night", "count": 1, "images": ["img_0a1b2c3d"], "provider": "atlas", "wait_s": 0}
    assert host.paid() == [
        ("edit_sequence", {**given, "model": "model-a", "max_cost_usd": 0.03}),
        ("edit_sequence", {**given, "model": "model-b", "max_cost_usd": 0.04}),
    ]
    heads = host.see("[...document.querySelectorAll('.compared thead th')].map((head) => head.innerText)")
    assert [head.split("\n")[0] for head in heads] == [
        "Before",
        "seedream-4.0 on atlas",
        "model-a on atlas",
        "model-b on atlas",
    ]
    assert "quoted $0.04, charged $0.04 · took 12 s" in heads[3]
    host.picture("compared")
    host.frame.get_by_role("button", name="Keep this one, job_bbbbbbbb/1").click()
    host.fill("prompt", "with snow")
    host.click("Show the price")
    host.click("Pay $0.04")
    host.see("!document.getElementById('price')")
    assert host.paid()[-1][1]["images"] == ["job_bbbbbbbb/1"]
    told = [m["params"]["content"][0]["text"] for m in host.heard if m.get("method") == "ui/update-model-context"]
    assert told[0].startswith("In the gallery the user started job_aaaaaaaa, job_bbbbbbbb with edit_sequence")
    assert f"compared {JOB}, job_aaaaaaaa, job_bbbbbbbb and kept job_bbbbbbbb/1, made by model-b on atlas" in told[1]


def test_a_model_that_refuses_is_not_in_the_sum(open_host: Callable[..., Host]) -> None:
    host, told = open_market(open_host)
    told.refuses["model-a"] = ValueError(-32602, "model-a has no size like that")
    for name in ("model-a", "model-b"):
        host.frame.get_by_role("checkbox", name=name).check()
    host.click("Show the prices")
    host.see("document.getElementById('price').innerText.startsWith('Together they cost $0.04')")
    assert "model-a has no size like that" in host.text(".choices")
    host.frame.get_by_role("checkbox", name="model-a").uncheck()
    assert host.see("document.getElementById('price').innerText === ''"), "another choice has another sum"


def test_a_lost_answer_ends_a_comparison_unrepeated(open_host: Callable[..., Host]) -> None:
    host, told = open_market(open_host)
    for name in ("model-a", "model-b"):
        host.frame.get_by_role("checkbox", name=name).check()
    host.click("Show the prices")
    host.see("document.getElementById('price').innerText.startsWith('Together')")
    told.refuses["model-a"] = ValueError(-32001, "Request timed out")
    host.click("Pay $0.07")
    host.see("document.getElementById('price').innerText.includes('may have been paid for')")
    assert [given["model"] for _, given in host.paid()] == ["model-a"], "nothing more is paid after a lost answer"
    pay = "[...document.querySelectorAll('button')].some((b) => b.offsetParent && b.innerText.startsWith('Pay'))"
    assert host.frame.evaluate(pay) is False


@pytest.mark.parametrize("width", [320, 1100])
def test_a_comparison_fits_at_any_width(open_host: Callable[..., Host], width: int) -> None:
    host, _ = open_market(open_host, width=width, theme="dark")
    host.frame.get_by_role("checkbox", name="model-a").check()
    host.click("Show the prices")
    host.click("Pay $0.03")
    host.see("document.querySelectorAll('.compared .keep').length === 2")
    assert host.see("document.documentElement.scrollWidth <= innerWidth")
    host.picture(f"compared-{width}", width)
