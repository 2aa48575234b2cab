"""The documentation site: every page has its place, and `scripts/site` finds what is wrong with built pages."""

from __future__ import annotations

import re
import runpy
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support import ROOT
from triptych.core.states import MOVES


@pytest.fixture(scope="module")
def site() -> Any:
    """Return what the script defines."""
    return SimpleNamespace(**runpy.run_path(str(ROOT / "scripts" / "_site.py")))


def listed(nav: Any) -> Iterator[str]:
    """Yield the pages of `nav` in order."""
    if isinstance(nav, str):
        yield nav
    for entry in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from listed(entry)


def test_every_page_has_one_place_in_the_site(site: Any) -> None:
    nav = list(listed(tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]["nav"]))
    places = [place.as_posix() for place in site.sources().values() if place.suffix == ".md"]
    assert sorted(nav) == sorted(places) and nav[0] == "index.md"


def test_the_first_page_has_five_tasks_each_whole() -> None:
    tasks = re.split(r"^### ", (ROOT / "docs" / "index.md").read_text("utf-8"), flags=re.MULTILINE)[1:]
    assert [task[0] for task in tasks] == list("12345")
    for task in tasks:
        task = task.partition("\n## ")[0]
        assert task.count("> **Say:** ") == 1, "the words to say"
        [picture] = re.findall(r"!\[.+\]\((.+)\)", task)
        assert (ROOT / "docs" / picture).stat().st_size < 150_000
        assert re.search(r"^Read on: \[", task, re.MULTILINE)


def test_the_pages_link_to_each_other_at_their_new_places(site: Any) -> None:
    places = site.sources()

    def moved(page: str, text: str, repository: str | None = None) -> str:
        return str(site.moved(ROOT / page, text, places, repository))

    assert moved("CONTRIBUTING.md", "[a](docs/install.md#x)") == "[a](../install.md#x)"
    assert moved("docs/install.md", "[a](../CHANGELOG.md)") == "[a](project/CHANGELOG.md)"
    picture = "![a](../pictures/look.jpg)"
    assert moved(str(Path("docs", "providers", "atlas.md")), picture) == picture
    outside = "[the `file`](../mcp.json.example)"
    assert moved("docs/install.md", outside) == "the `file`"
    assert (
        moved("docs/install.md", outside, "https://a.test/main") == "[the `file`](https://a.test/main/mcp.json.example)"
    )
    for kept in ("[a](nowhere.md)", "![a](nowhere.png)", "[a](https://a.test)", "[a](#b)", "```sh\n[a](../x.md)\n```"):
        assert moved("docs/install.md", kept) == kept


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Three things:\n- a\n  more\n- b\n", "Three things:\n\n- a\n  more\n- b\n"),
        ("First:\n1. a\n2. b\n", "First:\n\n1. a\n2. b\n"),
        ("- a\n- b\n\n- c\n", "- a\n- b\n\n- c\n"),
        ("```text\na\n- b\n```\n", "```text\na\n- b\n```\n"),
    ],
)
def test_a_list_needs_no_empty_line_before_it(site: Any, text: str, expected: str) -> None:
    assert site.moved(ROOT / "docs" / "install.md", text, {}, None) == expected


def test_the_drawing_of_states_becomes_a_table_with_every_move(site: Any) -> None:
    page = ROOT / "docs" / "how-a-job-lives.md"
    text = site.moved(page, page.read_text("utf-8"), site.sources(), None)
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE)
    found = {(old, new) for old, news in rows for new in re.findall(r"`(\w+)`", news)}
    assert {(str(old), str(new)) for old, news in MOVES.items() for new in news} <= found
    assert "```mermaid" not in text


GOOD = '<a href="b.html#here">b</a> <img src="a.png" alt="a"> <a href="https://a.test/">a link loads nothing</a>'


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (GOOD, None),
        (GOOD + '<a href="c.html">c</a>', "c.html leads nowhere"),
        (GOOD + '<a href="b.html#there">b</a>', "b.html#there has no such anchor"),
        (GOOD + '<a href="#there">b</a>', "#there has no such anchor"),
        (GOOD + '<img src="b.png" alt="b">', "b.png leads nowhere"),
        (GOOD + '<img src="a.png">', "the picture a.png has no words beside it"),
        (GOOD + '<img src="https://a.test/a.png" alt="a">', "loads https://a.test/a.png from another host"),
        (GOOD + '<script src="//a.test/a.js"></script>', "loads //a.test/a.js from another host"),
        (GOOD + '<link rel="stylesheet" href="https://a.test/a.css">', "loads https://a.test/a.css from another host"),
        (GOOD + "<article><p>text\n- an item</p></article>", "this is still Markdown: - an item"),
        (GOOD + "<article><li>text<p>```sh</p></li></article>", "this is still Markdown: ```sh"),
        ('<img src="a.png" alt="a">', "b.html: no page leads here"),
    ],
)
def test_each_mistake_of_a_built_page_is_found(site: Any, tmp_path: Path, body: str, said: str | None) -> None:
    (tmp_path / "index.html").write_text(body, encoding="utf-8")
    (tmp_path / "b.html").write_text('<h2 id="here">b</h2>', encoding="utf-8")
    (tmp_path / "a.png").touch()
    (tmp_path / "a.css").write_text("body { background: url(a.png) }", encoding="utf-8")
    found = list(site.problems(tmp_path))
    assert found == [] if said is None else any(said in one for one in found), found


def test_a_style_sheet_that_loads_from_elsewhere_is_found(site: Any, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("", encoding="utf-8")
    (tmp_path / "a.css").write_text('@import "https://a.test/fonts.css"; a { background: url(//b.test/a.png) }')
    assert len(list(site.problems(tmp_path))) == 2
