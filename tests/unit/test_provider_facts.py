"""The pages of provider facts: comments point to headings that exist, and the pages agree with the offers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import ROOT
from triptych import providers

PAGES = ROOT / "docs" / "providers"
HOSTED = tuple(name for name in providers.names() if not providers.load(name).offline)
HEADINGS = (
    "Keys and base URLs",
    "Models",
    "Submit",
    "Results and their lifetime",
    "Errors",
    "Prices",
    "Sizes and limits",
    "Official client",
    "What is not known",
)
"""What every provider's page has."""
KIND = "documented|observed|official client|third party|inferred"
FACT = re.compile(rf"- .*[.,:;)\w`] \((?:{KIND})(?: and (?:{KIND}))?, 20\d\d-[01]\d-[0-3]\d\)")
POINTER = re.compile(r"(?<!\w/)docs/providers/(?:([\w-]+\.md)(?:#([\w-]+))?)?")
GONE = re.compile(r"(?i:\bwire\s+(?:#\s+)?notes?\b)|\bDESIGN\b|\b(?:WIRE[\w-]*|REVIEW|STYLE)\.md\b")
"""Citations of documents that are not in the repository."""


def texts() -> Iterator[tuple[Path, str]]:
    """Yield every text of the repository but this one."""
    files = [*ROOT.glob("*.md")]
    for folder in ("src", "tests", "benchmarks", "scripts", "docs", "plugin"):
        files += (ROOT / folder).rglob("*")
    kinds = ("", ".py", ".md", ".sql", ".mjs", ".cjs", ".js", ".html", ".css", ".yml", ".json")
    for path in files:
        if path.suffix in kinds and path.is_file() and path != Path(__file__):
            yield path.relative_to(ROOT), path.read_text("utf-8", errors="replace")


def slugs(page: str) -> set[str]:
    """Return what links call the headings of a page, by GitHub's rules."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ +(.*?) *$", re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE), re.M):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def dead(text: str, *, code: bool = True) -> list[str]:
    """Return the pointers of a text that lead nowhere; one in code has to name a heading."""
    lost = []
    for pointer in POINTER.finditer(text):
        name, heading = pointer.groups()
        page = PAGES / (name or "none")
        if name == "NAME.md" and not code:
            continue
        if not page.is_file() or ((heading or code) and heading not in slugs(page.read_text("utf-8"))):
            lost.append(pointer[0])
    return lost


def section(name: str, heading: str) -> str:
    """Return the text under a heading of a provider's page."""
    text = (PAGES / f"{name}.md").read_text("utf-8")
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_every_pointer_to_a_provider_fact_leads_to_a_heading() -> None:
    lost = {str(path): gone for path, text in texts() if (gone := dead(text, code=path.suffix != ".md"))}
    assert not lost
    assert sum(len(POINTER.findall(text)) for path, text in texts() if path.parts[0] == "src") > 50


@pytest.mark.parametrize(
    "pointer", [f"docs/providers/{place}" for place in ("atlas.md#nowhere", "nobody.md#submit", "atlas.md", "")]
)
def test_a_dead_pointer_is_found(pointer: str) -> None:
    assert dead(f"# Submits ({pointer})") == [pointer]
    assert not dead("# Submits (docs/providers/atlas.md#submit)")


def test_headings_are_named_as_github_names_them() -> None:
    page = "# What is `known`, Ark's: all\n## A b\n```sh\n# no heading\n```\n## A b\n### snake_case – dash\n"
    assert slugs(page) == {"what-is-known-arks-all", "a-b", "a-b-1", "snake_case--dash"}


def test_nothing_cites_documents_outside_the_repository() -> None:
    assert not {str(path): found[0] for path, text in texts() if (found := GONE.search(text))}


def test_every_hosted_provider_has_a_page_with_the_usual_headings() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == {*HOSTED, "README"}
    index = (PAGES / "README.md").read_text("utf-8")
    for name in HOSTED:
        headings = re.findall(r"^## (.*)$", (PAGES / f"{name}.md").read_text("utf-8"), re.MULTILINE)
        assert [heading for heading in headings if heading in HEADINGS] == list(HEADINGS), name
        assert f"| `{name}` | [" in index and f"]({name}.md)" in index


def test_every_fact_ends_with_its_evidence_and_its_day() -> None:
    for page in PAGES.glob("*.md"):
        facts = re.findall(r"^- .*$", page.read_text("utf-8").partition("\n## What is not known\n")[0], re.MULTILINE)
        assert len(facts) > 15
        assert not [fact for fact in facts if not FACT.fullmatch(fact)], page.name


@pytest.mark.parametrize("name", HOSTED)
def test_a_page_names_the_key_and_the_base_urls(name: str) -> None:
    provider, keys = providers.load(name), section(name, "Keys and base URLs")
    assert f"`{provider.key_env}`" in keys
    assert all(f"`{url.default}" in keys for url in provider.base_urls.values())


@pytest.mark.parametrize("name", HOSTED)
def test_the_prices_of_a_page_are_those_of_the_offers(name: str) -> None:
    prices, offers = section(name, "Prices"), providers.load(name).offers
    shown = {
        (family, endpoint, source)
        for family, ids, source in re.findall(r"^\| `(.*?)` \| (.*?) \| (.*?) \|$", prices, re.MULTILINE)
        for endpoint in re.findall(r"`(.*?)`", ids)
    }
    assert shown == {(offer.family, offer.endpoint, offer.price.source) for offer in offers}
    assert all(offer.price.as_of in prices for offer in offers)
