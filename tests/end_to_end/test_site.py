"""The documentation site in a browser. It needs the dependency group "docs", which `scripts/test` does not install."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from support import ROOT, chromium

pytest.importorskip("zensical", reason="the dependency group docs is not installed")
pytestmark = pytest.mark.slow
PAGES = ("index", "settings", "models", "tools", "how-a-job-lives", "reliability")
PHONE_PX, DESK_PX = 390, 1280
TOO_WIDE = """[...document.querySelectorAll("article *")].filter((element) => {
  if (element.getBoundingClientRect().right <= innerWidth + 1) return false;
  for (let outer = element.parentElement; outer; outer = outer.parentElement)
    if (getComputedStyle(outer).overflowX !== "visible") return false;
  return true;
}).map((element) => element.outerHTML.slice(0, 200))"""
SEARCH = ".md-search__button, [for=__search], [aria-label=Search]"
FIELD = "document.activeElement.shadowRoot.activeElement.matches('input')"
FOUND = """[...document.querySelectorAll("*")].flatMap((element) => element.shadowRoot ?? [])
  .map((root) => root.textContent).find((text) => text.includes("Budgets"))"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """Build the site, serve it, and return its address."""
    built = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "_site.py")], capture_output=True, text=True, timeout=300, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    handler = partial(Quiet, directory=str(ROOT / ".site" / "html"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_built_site_fits_its_screens_and_loads_nothing_foreign(base: str) -> None:
    program = chromium.program()
    if program is None:
        pytest.skip("there is no Chromium on this machine")
    with chromium.running(program) as browser:
        for width in (PHONE_PX, DESK_PX):
            for scheme in ("light", "dark"):
                tab = chromium.Tab(browser, width, color_scheme=scheme)
                for page in PAGES:
                    tab.page.goto(f"{base}/{page}.html")
                    assert tab.page.evaluate(TOO_WIDE) == [], (page, width)
                    assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (page, width)
                    dark = tab.page.evaluate("getComputedStyle(document.body).getPropertyValue('color-scheme')")
                    assert dark == scheme, page
                tab.page.goto(f"{base}/index.html")
                tab.page.locator(SEARCH).locator("visible=true").first.click()
                # Its field appears with the index; keys pressed before that are lost.
                chromium.wait_for(tab.page.main_frame, FIELD)
                tab.page.keyboard.type("budget")
                chromium.wait_for(tab.page.main_frame, FOUND)
                tab.page.keyboard.press("Enter")
                tab.page.wait_for_url("**/*.html?h=b*")
                foreign = [url for url in tab.requests if not url.startswith((base, "data:", "blob:"))]
                assert (foreign, tab.problems) == ([], [])
                tab.close()
