"""Build the documentation site from docs/*.md into .site/html, and check every page of it: `scripts/site`.

The pages are docs/ and the root's CONTRIBUTING, CHANGELOG and the like, as they are. A link to another file of the
repository leads to `--repository`; without that it becomes plain text. Exit code 1: a dead link or anchor, a missing
picture, a page that no other page leads to, or something that a browser would load from another host.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[1]
BUILT = ROOT / ".site"
ICONS = ROOT / "src" / "triptych" / "server" / "icons"
NO_PAGES = frozenset({"README.md"})
"""Files of the root that are no pages: docs/index.md is the first page."""
LINK = re.compile(r"(!?)\[([^\[\]]*)\]\((?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?\)")
LIST_AT_ONCE = re.compile(r"^((?![-*] |\d+\. |[\s|>]).+)\n(?=[-*] |1\. )", re.MULTILINE)
"""A line of text and a list below it: the generator needs an empty line between them, which CommonMark does not."""
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}
NOT_LOADED = frozenset({"canonical", "edit", "next", "prev", "alternate"})


def main() -> int | str:
    """Return 0 once the site is built and has no mistake; else what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", help="the address of the repository's files, such as https://…/blob/main")
    repository = parser.parse_args().repository
    shutil.rmtree(BUILT, ignore_errors=True)
    stage(repository)
    generator = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(generator, cwd=ROOT, env=os.environ | {"NO_COLOR": "1"}, check=False)  # noqa: S603 - a fixed command
    if done.returncode:
        return "The generator refused the pages, as said above."
    found = list(problems(BUILT / "html"))
    return "\n".join([*found, f"{len(found)} mistakes"]) if found else 0


# -- the pages, with links that fit their new places


def sources() -> dict[Path, Path]:
    """Return every page and picture of the site: its place there, by its place in the repository."""
    kept = {path: path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*") if path.is_file()}
    del kept[ROOT / "docs" / "pictures" / "README.md"]
    # In a folder of their own: SECURITY.md beside security.md is one file on macOS and Windows.
    kept |= {path: Path("project", path.name) for path in ROOT.glob("*.md") if path.name not in NO_PAGES}
    return kept | {path: Path("icons", path.name) for path in (ICONS / "icon.svg", ICONS / "64.png")}


def stage(repository: str | None) -> None:
    """Copy the pages and pictures into .site/docs."""
    places = sources()
    for path, place in places.items():
        copy = BUILT / "docs" / place
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            copy.write_bytes(moved(path, path.read_text("utf-8"), places, repository).encode())
        else:
            shutil.copyfile(path, copy)


def moved(path: Path, text: str, places: Mapping[Path, Path], repository: str | None) -> str:
    """Return a page's text with the links that it has at its place in the site."""

    def link(found: re.Match[str]) -> str:
        image, words, target, anchor = found.groups(default="")
        to = Path(os.path.normpath(path.parent / unquote(target)))
        if to in places:
            relative = os.path.relpath(places[to], places[path].parent)
            return f"{image}[{words}]({Path(relative).as_posix()}{anchor})"
        if image or not to.exists() or not to.is_relative_to(ROOT):
            return found[0]  # the generator refuses it
        return f"[{words}]({repository}/{to.relative_to(ROOT).as_posix()}{anchor})" if repository else words

    text = re.sub(r"^```mermaid\nstateDiagram-v2\n(.*?)^```$", moves, text, flags=re.DOTALL | re.MULTILINE)
    parts = re.split(r"(^ *```.*?^ *```$)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if n % 2 else LINK.sub(link, LIST_AT_ONCE.sub(r"\1\n\n", part)) for n, part in enumerate(parts))


def moves(drawing: re.Match[str]) -> str:
    """Return a drawing of states as a table: the script that draws it would come from another host."""
    rows: dict[str, list[str]] = {}
    for old, new, note in re.findall(r"^ *(\S+) --> (\S+?)(?:: (.*))?$", drawing[1], re.MULTILINE):
        name = f"`{new}`" if new != "[*]" else "nothing else"
        rows.setdefault("at first" if old == "[*]" else f"`{old}`", []).append(f"{name} ({note})" if note else name)
    lines = [f"| {old} | {', '.join(names)} |" for old, names in rows.items()]
    return "\n".join(["| state | may become |", "|---|---|", *lines])


# -- the built site


@dataclass
class Page(HTMLParser):
    """The anchors, links and pictures of one built page, and the files that a browser loads for it."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    """Pictures without words for those who do not see them."""
    left: list[str] = field(default_factory=list)
    """Lines of Markdown that are still there as text."""
    inside: list[str] = field(default_factory=list)
    """The open elements that matter for `left`."""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and not NOT_LOADED & set(given.get("rel", "").split()):
            self.loaded.append(given.get("href", ""))
        if given.get(LOADED.get(tag, "")):
            self.loaded.append(given[LOADED[tag]])
        if tag == "img" and "alt" not in given:
            self.unnamed.append(given.get("src", ""))
        if tag in ("article", "p", "li", "pre", "code"):
            self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.inside:
            while self.inside.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if "article" in self.inside and self.inside[-1] in ("p", "li"):
            self.left += re.findall(r"^ *(?:```.*|\|.*\|$|[-*] .*|\d+\. .*|#+ .*)", data, re.MULTILINE)


def problems(html: Path) -> Iterator[str]:
    """Yield every mistake of a built site, one line each."""
    pages = {path: read(path) for path in sorted(html.rglob("*.html")) if path.name != "404.html"}
    reached: set[Path] = set()
    for path, page in pages.items():
        name = path.relative_to(html).as_posix()
        for link in [*page.links, *page.loaded]:
            address = urlsplit(link)
            if address.scheme or address.netloc:
                if link in page.loaded and address.scheme != "data":
                    yield f"{name}: loads {link} from another host"
                continue
            to = Path(os.path.normpath(path.parent / unquote(address.path))) if address.path else path
            to = to / "index.html" if to.is_dir() else to
            if not to.is_file():
                yield f"{name}: {link} leads nowhere"
            elif to in pages and address.fragment and unquote(address.fragment) not in pages[to].anchors:
                yield f"{name}: {link} has no such anchor"
            elif to != path:
                reached.add(to)
        yield from (f"{name}: the picture {picture} has no words beside it" for picture in page.unnamed)
        yield from (f"{name}: this is still Markdown: {line}" for line in page.left)
    for path in pages.keys() - reached - {html / "index.html"}:
        yield f"{path.relative_to(html).as_posix()}: no page leads here"
    for path in html.rglob("*.css"):
        for address in re.findall(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)", path.read_text("utf-8")):
            yield f"{path.relative_to(html).as_posix()}: loads {address} from another host"


def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text("utf-8"))
    page.close()
    return page


if __name__ == "__main__":
    sys.exit(main())
