"""The gallery in a real browser: what a person sees and can do, in a host's frame and in a tab of its own.

The host is played here: its page is a sandboxed frame under the policy that SEP-1865 prescribes where a resource
declares no domains, and every message of the frame is answered from this side, by a real server or as told.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import pytest

from support.servers import SAMPLES, Child, environ, image_result, job_result
from triptych.core.models import Failure
from triptych.jobs.results import Cost, JobResult, Page, Progress
from triptych.server import gallery, tools

pytest.importorskip("fcntl", reason="Chromium is driven through a pipe that Windows does not hand down")
from support import ROOT, chromium

pytestmark = pytest.mark.slow

POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "media-src 'self' data:; connect-src 'none'"
)
PICTURES = os.environ.get("TRIPTYCH_PICTURES")
"""Where screenshots are wanted, if they are."""
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
PIXEL = base64.b64encode((SAMPLES / "coffee.jpg").read_bytes()).decode()
HttpResponse = Callable[[str, dict[str, Any]], Any]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Chromium]:
    path = chromium.program()
    if not path:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium); the gallery's page is not tested")
    opened = chromium.Chromium(path, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


class Server:
    """A real server in a child process, spoken to as the gallery itself does."""

    def __init__(self, home: Path) -> None:
        program = "from triptych.__main__ import main; main()"
        saves = f"{SAMPLES}{os.pathsep}{home}"
        self.child = Child(
            "-c",
            program,
            "gallery",
            "--no-open",
            env=environ(home / "home", TRIPTYCH_ALLOWED_DIRS=saves),
            ready="gallery is at",
        )
        self.home = home
        self.page = self.child.url()
        self.base, _, self.token = self.page.partition("/gallery#token=")

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        name = params.get("name", params.get("uri"))
        answer = httpx2.post(
            f"{self.base}/mcp",
            json={"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": MODERN}},
            headers={
                "authorization": f"Bearer {self.token}",
                "accept": "application/json, text/event-stream",
                "mcp-protocol-version": "2026-07-28",
                "mcp-method": method,
                "mcp-name": name,
            },
            timeout=60,
        ).json()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return dict(answer["result"])

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        return self.ask("tools/call", {"name": name, "arguments": arguments})


@pytest.fixture
def tab(browser: chromium.Chromium) -> Iterator[chromium.Page]:
    page = browser.page()
    yield page
    page.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("gallery"))
    yield running
    assert running.child.end() == 0, "".join(running.child.said)


class Host:
    """A host around one frame: answers `tools/call` and `resources/read` through `answer`, remembers everything."""

    def __init__(self, page: chromium.Page, answer: HttpResponse, **context: Any) -> None:
        self.page = page
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.heard: list[dict[str, Any]] = []
        self._answer = answer
        self._context = {"theme": "light", "displayMode": "inline", "availableDisplayModes": ["inline"], **context}
        self._heard = threading.Condition()
        page.bind("hostHears", self._hear)
        page.go("about:blank")
        policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        html = gallery.page().replace("<head>", f"<head>{policy}", 1)
        page.evaluate(
            "document.body.style.margin = 0;"
            "addEventListener('message', (e) => { if (e.data.method === 'ui/notifications/size-changed')"
            " frame.style.height = e.data.params.height + 'px'; hostHears(JSON.stringify(e.data)); });"
            "const frame = document.createElement('iframe'); frame.id = 'frame'; frame.title = 'gallery';"
            "frame.setAttribute('sandbox', 'allow-scripts');"  # no same origin, no forms, no pop-ups
            "frame.style.cssText = 'width: 100%; height: 100px; border: 0; display: block';"
            f"frame.srcdoc = {json.dumps(html)}; document.body.append(frame);"
        )
        self.hears("ui/notifications/initialized")

    def say(self, message: dict[str, Any]) -> None:
        text = json.dumps({"jsonrpc": "2.0", **message})
        self.page.evaluate(f"document.getElementById('frame').contentWindow.postMessage({text}, '*')")

    def notify(self, method: str, **params: Any) -> None:
        self.say({"method": f"ui/notifications/{method}", "params": params})

    def hears(self, method: str | None = None, answer_to: int = 0) -> dict[str, Any]:
        """Return the first message of this method, or the answer to a request of ours, once it has come."""

        def found() -> dict[str, Any] | None:
            said = (m for m in self.heard if m.get("method") == method and (method or m["id"] == answer_to))
            return next(said, None)

        with self._heard:
            assert self._heard.wait_for(found, 30), f"{method or answer_to} never came: {self.page.problems}"
        return found() or {}

    def shows(self, arguments: dict[str, Any], answer: dict[str, Any]) -> None:
        """Let the frame be that of a tool call with these arguments and this answer."""
        self.notify("tool-input", arguments=arguments)
        self.notify("tool-result", **answer)

    def _hear(self, message: dict[str, Any]) -> None:
        with self._heard:
            self.heard.append(message)
            self._heard.notify_all()
        method, params = message.get("method"), message.get("params", {})
        if method is None or "id" not in message:
            return
        try:
            self.say({"id": message["id"], "result": self.result(method, params)})
        except Exception as error:
            code, text = error.args if len(error.args) == 2 else (-32000, str(error))
            self.say({"id": message["id"], "error": {"code": code, "message": text}})

    def result(self, method: str, params: dict[str, Any]) -> Any:
        if method == "ui/initialize":
            return {
                "protocolVersion": "2026-01-26",
                "hostInfo": {"name": "test", "version": "1"},
                "hostCapabilities": {
                    "serverTools": {},
                    "serverResources": {},
                    "openLinks": {},
                    "updateModelContext": {},
                },
                "hostContext": self._context,
            }
        if method == "ui/request-display-mode":
            return {"mode": params["mode"]}
        if method.startswith("ui/"):
            return {}
        if method == "tools/call":
            self.calls.append((params["name"], params["arguments"]))
        return self._answer(method, params)

    # -- what a person sees and does

    def see(self, expression: str) -> Any:
        return self.page.wait_for(expression, frame=True)

    def text(self, selector: str = "main") -> str:
        return str(self.see(f"document.querySelector({json.dumps(selector)})?.innerText"))

    def click(self, words: str) -> None:
        """Click the button that reads like this, once there is one."""
        self.see(
            "(() => { const found = [...document.querySelectorAll('button')].find((b) => !b.disabled && b.offsetParent"
            f" && [b.innerText.trim(), b.ariaLabel].some((said) => said?.startsWith({json.dumps(words)})));"
            " found?.click(); return Boolean(found); })()"
        )

    def fill(self, name: str, value: str) -> None:
        self.see(
            f"(() => {{ const field = document.querySelector('[name={name}]'); if (!field) return false; field.value = "
            f"{json.dumps(value)}; field.dispatchEvent(new Event('input')); return true; }})()"
        )

    def paid(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the calls that can cost something: those that are no dry run."""
        names = ("edit_sequence", "edit_chain", "generate_sequence")
        return [(name, given) for name, given in self.calls if name in names and not given.get("dry_run")]

    def picture(self, name: str, width: int = 900) -> None:
        """Keep a screenshot if they are wanted, once all previews are there."""
        if PICTURES:
            self.page.resize(width, int(self.see("document.body.offsetHeight")))
            self.see(
                "[...document.querySelectorAll('.face, .thumb')].every((f) => f.childElementCount || !f.fill"
                " || f.getBoundingClientRect().left > innerWidth)"
            )
            self.page.evaluate("new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")
            self.page.screenshot(Path(PICTURES) / f"{name}.jpg")


def tiles(host: Host) -> list[str]:
    return list(host.see("[...document.querySelectorAll('#grid .tile')].map((t) => t.ariaLabel)"))


@pytest.fixture
def open_host(browser: chromium.Chromium) -> Iterator[Callable[..., Host]]:
    """Open hosts; at the end nothing in them was loaded from anywhere, and nothing went wrong."""
    opened: list[Host] = []

    def open_it(answer: HttpResponse, *, width: int = 900, media: dict[str, str] | None = None, **context: Any) -> Host:
        opened.append(Host(browser.page(width, **(media or {})), answer, **context))
        return opened[-1]

    yield open_it
    for host in opened:
        host.page.close()
        assert [url for url in host.page.requests if not url.startswith(("data:", "about:"))] == []
        assert host.page.problems == []


# -- answers as told ---------------------------------------------------------------------------------------------------


def shown(result: JobResult) -> dict[str, Any]:
    """Return a result as a tool answers with it: of a job that runs, no images."""
    if result.status in ("queued", "running"):
        result = result.model_copy(update={"images": []})
    return tools.answer(result).model_dump(by_alias=True, exclude_none=True, mode="json")


def made(tool: str, prompts: list[str], lanes: list[list[str]], states: list[str], count: int = 1) -> dict[str, Any]:
    steps = len(prompts)
    places = [
        {
            "lane": i // steps,
            "step": i % steps,
            "first_output": i * count + 1,
            "count": count,
            "size": None,
            "state": state,
        }
        for i, state in enumerate(states)
    ]
    return {"tool": tool, "prompts": prompts, "lanes": lanes, "format": None, "requests": places}


class Told:
    """Answers from the results that a job goes through, with one picture for every image."""

    def __init__(self, making: dict[str, Any], *results: JobResult) -> None:
        self.making = making
        self.results = list(results)
        self.refuses: dict[str, Exception] = {}
        self.moves = threading.Semaphore(0)
        """Released once for each move of the job to its next result."""
        self.after_cancel: JobResult | None = None
        self.pages: list[JobResult] = []

    def __call__(self, method: str, params: dict[str, Any]) -> Any:
        if method == "resources/read":
            uri = params["uri"]
            if uri.startswith("triptych://images/"):
                return {
                    "contents": [{"uri": uri, "mimeType": "image/jpeg", "blob": PIXEL, "_meta": {"made_from_it": []}}]
                }
            if error := self.refuses.get("triptych://jobs"):
                raise error
            self._move()
            text = self.results[0].model_dump_json(exclude={"request"})
            meta = {"making": self.making}
            return {"contents": [{"uri": uri, "mimeType": "application/json", "text": text, "_meta": meta}]}
        name, given = params["name"], params["arguments"]
        if error := self.refuses.get(name):
            raise error
        if given.get("dry_run"):
            return shown(
                job_result(
                    job_id=None, status="dry_run", model="seedream-4.0", provider="atlas", cost=Cost(quoted="0.064")
                )
            )
        if name == "get_status":
            self._move()
            if "page" in given:
                return shown(self.pages[given["page"] - 1])
        if name == "cancel_job" and self.after_cancel:
            self.results = [self.after_cancel]
        return shown(self.results[0])

    def _move(self) -> None:
        if len(self.results) > 1 and self.moves.acquire(blocking=False):
            self.results.pop(0)


def seasons(returned: int, status: str = "running", **fields: Any) -> JobResult:
    images = [
        image_result(
            f"job_12345678/{n}",
            url=f"https://cdn.example/{n}.png",
            width=2304,
            height=1536,
            mime_type="image/png",
            source=["img_0a1b2c3d"],
        )
        for n in range(1, returned + 1)
    ]
    plain = {
        "status": status,
        "provider": "atlas",
        "model": "seedream-4.0",
        "endpoint": "bytedance/seedream-v4/edit-sequential",
        "progress": Progress(done=returned, total=4),
        "requested": 4,
        "returned": returned,
        "images": images,
        "cost": Cost(quoted="0.128", charged="0.128" if status == "done" else None),
    }
    return job_result(**{**plain, **fields})


SEASONS = "Four seasonal variants of this photo: spring, summer, autumn, winter"
MADE = made("edit_sequence", [SEASONS], [["img_0a1b2c3d"]], ["running"], count=4)


# -- the claims --------------------------------------------------------------------------------------------------------


def test_images_appear_in_their_places_as_they_come_and_asking_ends_with_the_job(
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


@pytest.mark.parametrize(
    ("status", "cost", "said"),
    [
        ("done", Cost(quoted="0.1", charged="0.066667", charge_is_estimate=True),
         "charged about $0.066667, the provider reports no charge"),
        ("failed", Cost(quoted="0.1", charged="0"), "nothing was charged"),
        ("uncertain", Cost(quoted="0.1"), "it may have been charged"),
    ],
)  # fmt: skip
def test_the_page_says_what_was_charged_and_by_whose_word(
    open_host: Callable[..., Host], status: str, cost: Cost, said: str
) -> None:
    host = open_host(Told(MADE, seasons(0, status, cost=cost)))
    host.notify("tool-result", **shown(seasons(0, status, cost=cost)))
    host.see(f"document.querySelector('#facts').innerText.includes({json.dumps(said)})")


def test_asking_that_fails_is_given_up_after_a_few_times_and_said(open_host: Callable[..., Host]) -> None:
    told = Told(MADE, seasons(1))
    told.refuses["triptych://jobs"] = told.refuses["get_status"] = ValueError(-32000, "the server is gone")
    host = open_host(told)
    # The waits between failures double; the page's clock is hurried, its logic is not.
    host.page.evaluate(
        "(() => { const real = setTimeout; window.setTimeout = (f, ms) => real(f, ms / 100); })()", frame=True
    )
    host.shows({"prompt": "x"}, shown(seasons(1)))
    host.see("document.getElementById('said').innerText.includes('stopped asking: the server is gone')")
    assert len(host.calls) == 5


def test_a_host_without_resources_shows_every_page_at_the_end(open_host: Callable[..., Host]) -> None:
    whole = seasons(4, "done")
    pages = [
        whole.model_copy(update={"images": whole.images[at : at + 2], "page": Page(number=at // 2 + 1, of=2)})
        for at in (0, 2)
    ]
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
        shown(seasons(1, "partial", images=[image.model_copy(update={"url": None})], error=error, warnings=[evil])),
    )
    assert host.text("h1") == evil
    assert host.text("#notices").count(evil) == 2
    host.click("Image 1")
    assert host.text("#path") == evil
    assert host.see("document.querySelector('#open') === null && !document.querySelector('b b, p b, h1 *')")


@pytest.mark.parametrize(
    ("url", "opens"),
    [
        ("https://images.example.com/files/job_12345678/1?e=1&s=a", True),
        ("http://127.0.0.1:8765/files/job_12345678/1?e=1&s=a", True),
        ("http://[::1]:8765/a.png", True),
        ("http://images.example.com/a.png", False),
        ("http://127.0.0.1.example.com/a.png", False),
        ("file:///home/a.png", False),
    ],
)
def test_the_full_image_opens_where_the_web_or_this_machine_has_it(
    open_host: Callable[..., Host], url: str, opens: bool
) -> None:
    image = image_result("job_12345678/1", url=url, path="/home/a.png", source=["img_0a1b2c3d"])
    host = open_host(Told(MADE, seasons(1, "done", images=[image])))
    host.shows({"prompt": SEASONS}, shown(seasons(1, "done", images=[image])))
    host.click("Image 1")
    host.see("document.querySelector('#path')")
    assert host.see(f"(document.querySelector('#open') !== null) === {str(opens).lower()}")


def test_a_keyboard_is_enough(open_host: Callable[..., Host]) -> None:
    host = open_host(Told(MADE, seasons(4, "done")))
    host.shows({"prompt": SEASONS, "count": 4}, shown(seasons(4, "done")))
    host.see("document.querySelectorAll('#grid img').length === 4")
    active = "document.activeElement.ariaLabel ?? document.activeElement.innerText"
    assert host.see("document.querySelectorAll('#grid [tabindex=\"0\"]').length") == 1
    host.page.evaluate("document.getElementById('frame').focus()")
    seen = []
    while "Image 1, open" not in seen:
        host.page.key("Tab")
        seen.append(host.page.evaluate(active, frame=True))
        assert len(seen) < 12, seen
    for key, there in (
        ("ArrowRight", 2),
        ("End", 4),
        ("ArrowRight", 4),
        ("ArrowLeft", 3),
        ("Home", 1),
        ("ArrowRight", 2),
    ):
        host.page.key(key)
        assert host.page.evaluate(active, frame=True) == f"Image {there}, open"
    assert host.see("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    host.page.key("Enter")
    host.see("document.getElementById('slider')")
    host.page.evaluate("document.getElementById('slider').focus()", frame=True)
    for _ in range(5):
        host.page.key("ArrowRight")
    assert host.see("document.getElementById('slider').ariaValueText") == "55 % before"
    assert host.see("document.querySelector('.stage').style.getPropertyValue('--at')") == "55%"
    assert "Before (img_0a1b2c3d) and after" in host.see("document.getElementById('slider').ariaLabel")
    host.picture("image")
    host.page.key("Escape")
    host.see("document.querySelector('#grid')")
    assert host.page.evaluate(active, frame=True) == "Image 2, open"


def test_nothing_is_paid_for_before_its_price_was_shown_and_a_second_click(open_host: Callable[..., Host]) -> None:
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


def test_a_paid_call_whose_answer_is_lost_is_never_offered_again(open_host: Callable[..., Host]) -> None:
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
    host.see("!document.querySelector('.sure')")
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


def test_one_click_does_not_cancel_a_job(open_host: Callable[..., Host]) -> None:
    told = Told(MADE, seasons(2))
    host = open_host(told)
    host.shows({"prompt": SEASONS, "count": 4}, shown(seasons(2)))
    host.click("Cancel the job")
    host.see("document.querySelector('.sure').innerText === 'Really cancel?'")
    assert not [name for name, _ in host.calls if name == "cancel_job"]
    told.after_cancel = seasons(2, "cancelled")
    host.click("Really cancel?")
    host.see("document.querySelector('.chip').innerText === 'cancelled'")
    assert tiles(host)[2:] == ["Image 3, did not come", "Image 4, did not come"]


def chain(status: str = "running") -> JobResult:
    sources = {1: "img_0a1b2c3d", 2: "job_12345678/1", 3: "job_12345678/2", 4: "img_4e5f6a7b"}
    images = [
        image_result(f"job_12345678/{n}", width=1536, height=1024, source=[s, "img_99999999"])
        for n, s in sources.items()
    ]
    return seasons(4, status, requested=6, progress=Progress(done=4, total=6), images=images)


STEPS = ["remove the background", "soft evening light", "a paper texture"]
CHAIN = made(
    "edit_chain",
    STEPS,
    [["img_0a1b2c3d", "img_99999999"], ["img_4e5f6a7b", "img_99999999"]],
    ["done"] * 4 + ["running", "waiting"],
)


def test_a_chain_is_lanes_and_steps_and_a_step_is_redone_on_what_it_was_made_from(
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
    host.page.evaluate("document.querySelector('[aria-label^=\"Image 1\"]').focus()", frame=True)
    for key, there in (
        ("ArrowDown", "Image 4"),
        ("ArrowLeft", "Before: img_4e5f6a7b"),
        ("ArrowUp", "Before: img_0a1b2c3d"),
    ):
        host.page.key(key)
        assert str(host.page.evaluate("document.activeElement.ariaLabel", frame=True)).startswith(there)
    host.click("Image 2")
    assert host.text("#words") == STEPS[1]
    host.see("document.getElementById('slider')?.ariaLabel.includes('job_12345678/1')")
    lineage = "[...document.querySelectorAll('#lineage button')].map((b) => b.title)"
    assert host.see(lineage) == ["job_12345678/1", "img_99999999", "job_12345678/3"]
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


@pytest.mark.parametrize("width", [320, 1600])
def test_nothing_sticks_out_at_any_width(open_host: Callable[..., Host], width: int) -> None:
    warning = "A/very/long/path/without/any/place/to/break/it/" + "x" * 80
    host = open_host(Told(CHAIN, chain("done")), width=width)
    host.shows({"steps": STEPS}, shown(chain("done").model_copy(update={"warnings": [warning]})))
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


def test_it_looks_as_the_host_says_or_else_as_the_system_does(open_host: Callable[..., Host]) -> None:
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
    by_system = open_host(told, media={"prefers_color_scheme": "dark"}, theme=None)
    assert by_system.see(paper) == "rgb(27, 28, 31)"


def test_nothing_moves_for_those_who_do_not_want_it(open_host: Callable[..., Host]) -> None:
    told = Told(MADE, seasons(1))
    animation = "getComputedStyle(document.querySelector('.coming .face')).animationName"
    for wish, name in (("no-preference", "pass"), ("reduce", "none")):
        host = open_host(told, media={"prefers_reduced_motion": wish})
        host.shows({"prompt": SEASONS, "count": 4}, shown(seasons(1)))
        assert host.see(animation) == name


def test_a_host_can_give_it_the_full_screen_and_take_it_down(open_host: Callable[..., Host]) -> None:
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


def test_a_refused_call_and_a_dry_run_say_what_they_are(open_host: Callable[..., Host]) -> None:
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
        cost=Cost(quoted="0.07"),
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


# -- with a real server ------------------------------------------------------------------------------------------------


def test_through_a_host_a_real_job_is_seen_edited_and_saved(open_host: Callable[..., Host], server: Server) -> None:
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
    assert host.see("[...document.querySelectorAll('#lineage h2')].map((t) => t.innerText)") == [
        "Made from",
        "Made from it",
    ]
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


def test_in_a_tab_of_its_own_it_lists_jobs_and_shows_one(tab: chromium.Page, server: Server) -> None:
    answer = server.call("generate_sequence", prompt="three sails", count=3)["structuredContent"]
    tab.go(server.page)
    tab.wait_for("document.querySelector('.job')")
    assert server.token not in tab.evaluate("location.href"), "the token stays out of the address bar"
    assert tab.evaluate("document.querySelector('.job').dataset.job") == answer["job_id"]
    tab.wait_for("document.querySelector('.job img')")
    if PICTURES:
        tab.screenshot(Path(PICTURES) / "jobs.jpg")
    tab.evaluate("document.querySelector('.job').click()")
    tab.wait_for("document.querySelectorAll('#grid button.tile img').length === 3")
    tab.evaluate("document.querySelector('#grid button.tile').click()")
    tab.wait_for("document.querySelector('.stage img')")
    for there in ("document.querySelectorAll('#grid button.tile').length === 3", "document.querySelector('.job')"):
        tab.evaluate("history.back()")
        tab.wait_for(there)
    tab.evaluate("history.forward()")
    tab.wait_for("document.querySelector('h1').innerText === 'three sails'")
    tab.send("Page.reload")
    tab.wait_for("document.querySelector('h1')?.innerText === 'three sails'")
    assert {url.split("#")[0] for url in tab.requests if not url.startswith("data:")} == {
        f"{server.base}/gallery",
        f"{server.base}/mcp",
    }
    assert tab.problems == []


def test_a_server_without_a_token_is_not_asked_for_one(tab: chromium.Page, http_url: str) -> None:
    tab.go(http_url.replace("/mcp", "/gallery"))
    tab.wait_for("document.querySelector('h1')?.innerText === 'Recent jobs'")
    assert not tab.evaluate("Boolean(document.querySelector('[name=token]'))") and tab.problems == []


def test_in_a_tab_without_the_token_it_asks_and_tells_a_wrong_one(tab: chromium.Page, server: Server) -> None:
    tab.go(f"{server.base}/gallery")
    for token, said in (
        ("wrong", "This server asks for a token"),
        (server.token, "The server does not take this token"),
    ):
        tab.wait_for(f"document.querySelector('.panel h2')?.innerText === {json.dumps(said)}")
        tab.type(token)
        tab.key("Enter")
    tab.wait_for("document.querySelector('.job')")
    assert [p for p in tab.problems if "401" not in p] == []
