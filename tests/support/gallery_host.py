"""The gallery's page in a browser, with the host around it played here.

The host's page is a sandboxed frame under the policy that SEP-1865 prescribes for a resource without domains. Every
message of the frame is answered from this side, by a real server (`Server.ask`) or from a script (`Told`).
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image
from playwright.sync_api import Browser

from support import chromium
from support.servers import SAMPLES, Child, environ, image_result, job_result
from triptych.jobs.results import Cost, JobResult, Progress
from triptych.server import gallery, tools

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


def _photo() -> bytes:
    """Return the picture of every image: small, but where screenshots are wanted."""
    if PICTURES:
        return (SAMPLES / "coffee.jpg").read_bytes()
    with Image.open(SAMPLES / "coffee.jpg") as photo, io.BytesIO() as small:
        photo.resize((96, 64)).save(small, "JPEG")
        return small.getvalue()


PIXEL = base64.b64encode(_photo()).decode()
HOST_PAGE = """(html) => {
    document.body.style.margin = 0;
    const frame = document.createElement('iframe');
    frame.id = 'frame';
    frame.title = 'gallery';
    frame.setAttribute('sandbox', 'allow-scripts');  // no same origin, no forms, no pop-ups
    frame.style.cssText = 'width: 100%; height: 100px; border: 0; display: block';
    window.heard = [];
    window.say = (message) => frame.contentWindow.postMessage(message, '*');
    addEventListener('message', async ({ data }) => {
        heard.push(data);
        if (data.method === 'ui/notifications/size-changed') frame.style.height = `${data.params.height}px`;
        const response = await answerTo(data);
        if (response) say(response);
    });
    frame.srcdoc = html;
    document.body.append(frame);
}"""
"""The script of the host's page: it hands every message of the frame to `answerTo`, and what that returns back."""
Respond = Callable[[str, dict[str, Any]], Any]


class Server:
    """A real server in a child process, spoken to as the gallery itself does."""

    def __init__(self, home: Path, **more: str) -> None:
        program = "from triptych.__main__ import main; main()"
        saves = f"{SAMPLES}{os.pathsep}{home}"
        self.child = Child(
            "-c",
            program,
            "gallery",
            "--no-open",
            env=environ(home / "home", TRIPTYCH_ALLOWED_DIRS=saves, **more),
            ready="gallery is at",
        )
        self.home = home
        self.page = self.child.url()
        self.base, _, self.token = self.page.partition("/gallery#token=")

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        name = str(params.get("name", params.get("uri")))
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


class Host:
    """A host around one frame: answers `tools/call` and `resources/read` through `answer`, remembers everything."""

    def __init__(self, tab: chromium.Tab, answer: Respond, **context: Any) -> None:
        self.tab = tab
        self.page = tab.page
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.heard: list[dict[str, Any]] = []
        self._answer = answer
        self._context = {"theme": "light", "displayMode": "inline", "availableDisplayModes": ["inline"], **context}
        self.page.expose_function("answerTo", self._answer_to)
        policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        self.page.evaluate(HOST_PAGE, gallery.page().replace("<head>", f"<head>{policy}", 1))
        self.frame = self.page.frames[1]
        self.hears("ui/notifications/initialized")

    def say(self, message: dict[str, Any]) -> None:
        self.page.evaluate("(message) => say(message)", {"jsonrpc": "2.0", **message})

    def notify(self, method: str, **params: Any) -> None:
        self.say({"method": f"ui/notifications/{method}", "params": params})

    def hears(self, method: str | None = None, answer_to: int = 0) -> dict[str, Any]:
        """Return the first message of this method, or the answer to a request of ours, once it has come."""
        found = "([method, id]) => heard.find((m) => (method ? m.method === method : !m.method && m.id === id))"
        message = self.page.wait_for_function(found, arg=[method, answer_to], polling=20)
        return dict(message.json_value())

    def shows(self, arguments: dict[str, Any], answer: dict[str, Any]) -> None:
        """Let the frame be that of a tool call with these arguments and this answer."""
        self.notify("tool-input", arguments=arguments)
        self.notify("tool-result", **answer)

    def _answer_to(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """Return the response to a message of the frame; None for a notification or a response."""
        self.heard.append(message)
        method, params = message.get("method"), message.get("params", {})
        if method is None or "id" not in message:
            return None
        try:
            return {"jsonrpc": "2.0", "id": message["id"], "result": self.result(method, params)}
        except Exception as error:
            code, text = error.args if len(error.args) == 2 else (-32000, str(error))
            return {"jsonrpc": "2.0", "id": message["id"], "error": {"code": code, "message": text}}

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
        """Return the value of an expression in the frame as soon as it is true and no empty list."""
        return chromium.wait_for(self.frame, expression)

    def comes_to(self, expression: str, value: Any) -> None:
        """Wait until an expression in the frame has this value."""
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        self.see(f"JSON.stringify({expression}) === {json.dumps(text)}")

    def scroll(self, by: int, until: str) -> None:
        """Turn the wheel, again while the page still grows, until an expression in the frame is true."""
        for _ in range(chromium.LIMIT_MS // 100):
            if self.frame.evaluate(f"Boolean({until})"):
                return
            self.page.mouse.wheel(0, by)
            self.page.wait_for_timeout(100)
        raise AssertionError(f"not after scrolling: {until}")

    def text(self, selector: str = "main") -> str:
        return str(self.see(f"document.querySelector({json.dumps(selector)})?.innerText"))

    def click(self, words: str) -> None:
        """Click the button whose name begins like this, once there is one and it is enabled."""
        begins = re.compile("^" + re.escape(words).replace("/", r"\/"))  # Playwright writes it as /…/
        self.frame.get_by_role("button", name=begins, disabled=False).first.click()

    def fill(self, name: str, value: str) -> None:
        self.frame.locator(f"[name={name}]").fill(value)

    def paid(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the calls that can cost something: those that are no dry run."""
        names = ("edit_sequence", "edit_chain", "generate_sequence")
        return [(name, given) for name, given in self.calls if name in names and not given.get("dry_run")]

    def picture(self, name: str, width: int = 900) -> None:
        """Keep a screenshot if they are wanted, once all previews are there."""
        if PICTURES:
            self.page.set_viewport_size({"width": width, "height": int(self.see("document.body.offsetHeight"))})
            self.see(
                "[...document.querySelectorAll('.face, .thumb')].every((f) => f.childElementCount || !f.fill"
                " || f.getBoundingClientRect().left > innerWidth)"
            )
            self.page.screenshot(path=Path(PICTURES) / f"{name}.jpg", quality=80, caret="initial")


def tiles(host: Host) -> list[str]:
    return list(host.see("[...document.querySelectorAll('#grid .tile')].map((t) => t.ariaLabel)"))


def shown(result: JobResult) -> dict[str, Any]:
    """Return a result as a tool answers with it: of a job that runs, no images."""
    if result.status in ("queued", "running"):
        result = replace(result, images=[])
    answered: dict[str, Any] = tools.tool_result(result).model_dump(by_alias=True, exclude_none=True, mode="json")
    return answered


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
    return {"tool": tool, "prompts": prompts, "lanes": lanes, "count": count, "format": None, "requests": places}


class Told:
    """Answers from the results that a job goes through, with one picture for every image."""

    def __init__(self, making: dict[str, Any], *results: JobResult) -> None:
        self.making = making
        self.results = list(results)
        self.refuses: dict[str, Exception] = {}
        self.moves = threading.Semaphore(0)
        """Released once for each move of the job to its next result."""
        self.after_cancel: JobResult | None = None
        self.looks: dict[str, str] = {}
        """The words of each look."""
        self.facts: dict[str, Any] = {}
        """What the resource of every image says besides what was made from it."""
        self.answers: dict[str, dict[str, Any]] = {}
        """The structured results of tools that make no job."""
        self.pages: list[JobResult] = []

    def __call__(self, method: str, params: dict[str, Any]) -> Any:
        if method == "resources/read":
            uri = params["uri"]
            if uri.startswith("triptych://images/"):
                facts = {"made_from_it": [], **self.facts}
                return {"contents": [{"uri": uri, "mimeType": "image/jpeg", "blob": PIXEL, "_meta": facts}]}
            if uri == "triptych://looks":
                text = json.dumps({"looks": [{"name": name, "words": words} for name, words in self.looks.items()]})
                return {"contents": [{"uri": uri, "mimeType": "application/json", "text": text}]}
            if error := self.refuses.get("triptych://jobs"):
                raise error
            self._move()
            text = json.dumps({name: value for name, value in self.results[0].as_json().items() if name != "request"})
            meta = {"making": self.making}
            return {"contents": [{"uri": uri, "mimeType": "application/json", "text": text, "_meta": meta}]}
        name, given = params["name"], params["arguments"]
        if error := self.refuses.get(name):
            raise error
        if name in self.answers:
            return {"structuredContent": self.answers[name], "content": []}
        if given.get("dry_run"):
            return shown(
                job_result(
                    job_id=None,
                    status="dry_run",
                    model="seedream-4.0",
                    provider="atlas",
                    cost=Cost(quoted=Decimal("0.064")),
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
        "cost": Cost(quoted=Decimal("0.128"), charged=Decimal("0.128") if status == "done" else None),
    }
    return job_result(**{**plain, **fields})


SEASONS = "Four seasonal variants of this photo: spring, summer, autumn, winter"
MADE = made("edit_sequence", [SEASONS], [["img_0a1b2c3d"]], ["running"], count=4)


def chain(status: str = "running") -> JobResult:
    sources = {1: "img_0a1b2c3d", 2: "job_12345678/1", 3: "job_12345678/2", 4: "img_4e5f6a7b"}
    images = [
        image_result(f"job_12345678/{n}", width=1536, height=1024, source=[s, "img_99999999"])
        for n, s in sources.items()
    ]
    return seasons(4, status, requested=6, progress=Progress(done=4, total=6), images=images)


STEPS = ["remove the background", "soft evening light", "a paper texture"]
CHAIN = {
    **made("edit_chain", STEPS, [["img_0a1b2c3d"], ["img_4e5f6a7b"]], ["done"] * 4 + ["running", "waiting"]),
    "references": ["img_99999999"],
}


# -- fixtures ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """No longer than a module: an event loop that Playwright keeps running stands in the way of async tests."""
    path = chromium.program()
    if not path:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium); the gallery's page is not tested")
    with chromium.running(path) as opened:
        yield opened


@pytest.fixture
def tab(browser: Browser) -> Iterator[chromium.Tab]:
    opened = chromium.Tab(browser)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("gallery"))
    yield running
    assert running.child.end() == 0, "".join(running.child.said)


@pytest.fixture
def open_host(browser: Browser) -> Iterator[Callable[..., Host]]:
    """Open hosts; at the end nothing in them was loaded from anywhere, and nothing went wrong."""
    opened: list[Host] = []

    def open_it(answer: Respond, *, width: int = 900, media: dict[str, Any] | None = None, **context: Any) -> Host:
        opened.append(Host(chromium.Tab(browser, width, **(media or {})), answer, **context))
        return opened[-1]

    yield open_it
    for host in opened:
        host.tab.close()
        assert [url for url in host.tab.requests if not url.startswith(("data:", "about:"))] == []
        assert host.tab.problems == []
