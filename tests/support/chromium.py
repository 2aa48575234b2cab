"""A headless Chromium, driven through the DevTools protocol over its pipe: no driver, no port, no package needed.

One `Chromium` is one process; each `Page` is a browser context of its own and remembers every request it made and
everything that went wrong in it (console errors, exceptions, refused loads).
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
LIMIT_S = 60.0
KEYS = {"Enter": 13, "Escape": 27, "Tab": 9, "Home": 36, "End": 35, "ArrowLeft": 37, "ArrowUp": 38}
KEYS |= {"ArrowRight": 39, "ArrowDown": 40}


def program() -> str | None:
    """Return the browser of this machine, if it has one."""
    return next((found for name in NAMES if (found := shutil.which(name))), str(MAC) if MAC.exists() else None)


class Chromium:
    """One browser process."""

    def __init__(self, path: str, profile: Path) -> None:
        to_read, self._out = os.pipe()
        self._in, to_write = os.pipe()
        # Above 9, so that the shell below cannot overwrite one with the other.
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_read, to_write)]
        for end in (to_read, to_write):
            os.close(end)
        shell = f'exec "$0" "$@" 3<&{theirs[0]} 4>&{theirs[1]}'
        options = [
            "--headless=new",
            "--remote-debugging-pipe",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            # So that a sandboxed frame's script context is in its page's session.
            "--disable-features=IsolateSandboxedIframes",
            f"--user-data-dir={profile}",
        ]
        self.process = subprocess.Popen(
            ["/bin/bash", "-c", shell, path, *options], pass_fds=theirs, stderr=subprocess.DEVNULL
        )
        for end in theirs:
            os.close(end)
        self._ids = 0
        self._lock = threading.Lock()
        self._waiting: dict[int, tuple[str | None, Future[dict[str, Any]]]] = {}
        self._pages: dict[str, Page] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        return self.send_soon(method, session, **params).result(LIMIT_S)

    def send_soon(self, method: str, session: str | None = None, **params: Any) -> Future[dict[str, Any]]:
        future: Future[dict[str, Any]] = Future()
        with self._lock:
            self._ids += 1
            message = {"id": self._ids, "method": method, "params": params}
            self._waiting[self._ids] = (session, future)
            if session:
                message["sessionId"] = session
            os.write(self._out, json.dumps(message).encode() + b"\0")
        return future

    def _read(self) -> None:
        rest = b""
        while data := os.read(self._in, 1 << 16):
            *messages, rest = (rest + data).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    _, future = self._waiting.pop(message["id"], (None, Future()))
                    if "error" in message:
                        future.set_exception(RuntimeError(str(message["error"])))
                    else:
                        future.set_result(message["result"])
                elif page := self._pages.get(message.get("sessionId", "")):
                    page.hear(message["method"], message["params"])

    def page(self, width: int = 900, height: int = 900, **media: str) -> Page:
        """Return an empty page; `media` are features such as prefers_color_scheme="dark"."""
        context = self.send("Target.createBrowserContext")["browserContextId"]
        target = self.send("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session, context)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.send(f"{domain}.enable")
        page.resize(width, height)
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        page.send("Emulation.setEmulatedMedia", features=features)
        return page

    def forget(self, session: str, context: str) -> None:
        """Close a page; whoever still waits for an answer from it hears that there is none."""
        del self._pages[session]
        self.send("Target.disposeBrowserContext", browserContextId=context)
        with self._lock:
            gone = [number for number, (of, _) in self._waiting.items() if of == session]
            for number in gone:
                self._waiting.pop(number)[1].set_exception(RuntimeError("the page was closed"))

    def close(self) -> None:
        self.send("Browser.close")
        self.process.wait(LIMIT_S)
        self._reader.join(LIMIT_S)
        os.close(self._in)
        os.close(self._out)


class Page:
    """One page; `frame` is evaluated in the first frame inside it where there is one."""

    def __init__(self, browser: Chromium, session: str, context: str) -> None:
        self._browser = browser
        self._context = context
        self._session = session
        self._contexts: dict[int, bool] = {}
        self._main = ""
        self._bound: dict[str, Callable[[Any], None]] = {}
        self._workers = ThreadPoolExecutor(4)
        self.requests: list[str] = []
        self.problems: list[str] = []

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.send(method, self._session, **params)

    def hear(self, method: str, params: dict[str, Any]) -> None:
        match method:
            case "Runtime.executionContextCreated":
                if params["context"]["auxData"].get("isDefault"):
                    self._contexts[params["context"]["id"]] = params["context"]["auxData"]["frameId"] == self._main
            case "Runtime.executionContextDestroyed":
                self._contexts.pop(params["executionContextId"], None)
            case "Runtime.executionContextsCleared":
                self._contexts.clear()
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.problems.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.problems.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.problems.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            case "Page.javascriptDialogOpening":
                self.problems.append(f"a dialog: {params['message']}")
                self._browser.send_soon("Page.handleJavaScriptDialog", self._session, accept=True)
            case "Runtime.bindingCalled":
                self._workers.submit(self._bound[params["name"]], json.loads(params["payload"]))

    def resize(self, width: int, height: int) -> None:
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def go(self, url: str) -> None:
        self._main = self.send("Page.getFrameTree")["frameTree"]["frame"]["id"]
        self.send("Page.navigate", url=url)

    def bind(self, name: str, hear: Callable[[Any], None]) -> None:
        """Give the page a function of this name that hands its JSON argument to `hear`, in a thread."""
        self._bound[name] = hear
        self.send("Runtime.addBinding", name=name)

    def evaluate(self, expression: str, *, frame: bool = False) -> Any:
        """Return what an expression, or the promise it makes, comes to."""
        extra = {}
        if frame:
            extra["contextId"] = next(number for number, main in reversed(self._contexts.items()) if not main)
        done = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, **extra)
        if "exceptionDetails" in done:
            raise AssertionError(f"{expression}: {done['exceptionDetails']}")
        return done["result"].get("value")

    def wait_for(self, expression: str, *, frame: bool = False) -> Any:
        """Return what an expression comes to as soon as that is true; an element counts as true."""
        waiting = f"""new Promise((resolve) => {{
            const end = performance.now() + {LIMIT_S * 500};
            (function look() {{
                let found, fault = '';
                try {{ found = {expression}; }} catch (error) {{ fault = String(error); }}
                if (found) resolve({{ found: found instanceof Node || found }});
                else if (performance.now() > end) resolve({{ fault }});
                else setTimeout(look, 20);
            }})();
        }})"""
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            try:
                seen = self.evaluate(waiting, frame=frame)
            except (StopIteration, RuntimeError):  # it is not loaded yet, or was loaded anew
                time.sleep(0.02)
                continue
            assert "found" in seen, f"never true: {expression} ({seen['fault']}); problems: {self.problems}"
            return seen["found"]
        raise AssertionError(f"never loaded, for: {expression}; problems: {self.problems}")

    def key(self, name: str, text: str = "") -> None:
        """Press a key, as a person does."""
        key = {"key": name, "code": name, "windowsVirtualKeyCode": KEYS.get(name, 0)}
        if name == "Enter":
            text = "\r"
        self.send("Input.dispatchKeyEvent", type="keyDown", **key, **({"text": text} if text else {}))
        self.send("Input.dispatchKeyEvent", type="keyUp", **key)

    def type(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def screenshot(self, path: Path, *, quality: int = 80) -> None:
        kind: dict[str, Any] = {"format": "png"} if path.suffix == ".png" else {"format": "jpeg", "quality": quality}
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", **kind)["data"]))

    def close(self) -> None:
        self._browser.forget(self._session, self._context)
        self._workers.shutdown()
