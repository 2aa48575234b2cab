"""A headless Chromium of this machine, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Dialog, Frame, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome", "msedge")
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
LIMIT_MS = 30_000
LIGHT = ("--disable-gpu", "--renderer-process-limit=1")
"""No process for a graphics card that draws nothing here, and as few for pages as there can be."""


def program() -> str | None:
    """Return the path of this machine's browser, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), str(MAC) if MAC.exists() else None)


@contextmanager
def running(path: str) -> Iterator[Browser]:
    """Yield one browser process."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=LIGHT)
        yield browser
        browser.close()


def wait_for(frame: Frame, expression: str) -> Any:
    """Return the value of a JavaScript expression as soon as it is true; errors and empty lists are false."""
    found = "Array.isArray(value) && !value.length ? false : value"
    predicate = f"() => {{ try {{ const value = {expression}; return {found}; }} catch {{ return false; }} }}"
    # Not at each animation frame, the default: a frame outside the viewport has none.
    return frame.wait_for_function(predicate, polling=20).json_value()


class Tab:
    """One page in a browser context of its own; it records every request and everything that goes wrong in it.

    `media` are options of the context, such as `color_scheme="dark"`.
    """

    def __init__(self, browser: Browser, width: int = 900, height: int = 900, **media: Any) -> None:
        self._context = browser.new_context(viewport={"width": width, "height": height}, **media)
        self._context.set_default_timeout(LIMIT_MS)
        self.page = self._context.new_page()
        self.requests: list[str] = []
        self.problems: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", self._refuse)
        self.page.on(
            "console",
            lambda message: (
                self.problems.append(f"{message.text} {message.location}")
                if message.type in ("error", "warning", "assert")
                else None
            ),
        )

    def _refuse(self, dialog: Dialog) -> None:
        self.problems.append(f"a dialog: {dialog.message}")
        dialog.accept()

    def close(self) -> None:
        self._context.close()
