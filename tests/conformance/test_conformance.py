"""The official conformance suite, against the server as it ships and against it with the suite's fixtures in front.

What is expected to fail stands with its reason in `judges/shipped.yml` and `judges/fixtures.yml`, in the suite's own
format. The suite judges only what a revision requires; here extensions and pending scenarios are held to the list too.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import ROOT
from support.servers import Child, environ

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

ORACLES = ROOT / ".oracles"
JUDGES = Path(__file__).parent / "judges"
SERVERS = {
    "shipped": ("-m", "triptych", "serve", "--transport", "http", "--port", "0"),
    "fixtures": (str(JUDGES / "conformance_server.py"),),
}
ENTRY = re.compile(r"  - (?P<name>[\w-]+(:[\w$-]+)?) # \S.*")
SEVERITY = ("INFO", "SKIPPED", "SUCCESS", "WARNING", "FAILURE")


@dataclass(frozen=True, slots=True)
class Suite:
    """One run of the suite: a release of it, what it is told to run, and how many scenarios that is."""

    release: str
    arguments: tuple[str, ...]
    scenarios: int


SUITES = {
    "2025-11-25-stable": Suite("conformance-stable", ("--suite", "all"), 32),
    "2025-11-25": Suite("conformance", ("--requirements", "2025-11-25"), 33),
    "2026-07-28": Suite("conformance", ("--requirements", "2026-07-28"), 50),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one run found: the state of each `scenario:check`, and what the suite itself made of it."""

    exit_code: int
    output: str
    checks: dict[str, str]

    def having(self, *states: str) -> set[str]:
        return {check for check, state in self.checks.items() if state in states}


def expected_of(baseline: Path) -> set[str]:
    """Return the entries of a list of expected failures, a `scenario` or a `scenario:check` each, with its reason."""
    names = set()
    for line in baseline.read_text("utf-8").splitlines():
        if line.lstrip().startswith("-"):
            entry = ENTRY.fullmatch(line)
            assert entry, f"an entry is `  - scenario:check # reason`, and this is not: {line}"
            names.add(entry["name"])
    return names


def run(suite: Suite, node: str, url: str, baseline: Path, results: Path) -> Verdict:
    results.mkdir()
    if suite.release == "conformance-stable":
        # It knows scenarios only, not their checks.
        names = sorted({entry.partition(":")[0] for entry in expected_of(baseline)})
        baseline = results / "baseline.yml"
        baseline.write_text("\n".join(["server:", *(f"  - {name}" for name in names)]), "utf-8")
    program = ORACLES / suite.release / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    told = ("server", "--url", url, "--expected-failures", str(baseline), "--output-dir", str(results))
    done = subprocess.run(
        [node, str(program), *told, *suite.arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=180,
        check=False,
    )
    return Verdict(done.returncode, done.stdout + done.stderr, read(results))


def read(results: Path) -> dict[str, str]:
    """Return each `scenario:check` of a run with the worst that was found of it."""
    found: dict[str, str] = {}
    for path in results.glob("*/checks.json"):
        scenario = re.fullmatch(r"server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z", path.parent.name)
        assert scenario, path.parent.name
        for check in json.loads(path.read_text("utf-8")):
            name = f"{scenario[1]}:{check['id']}"
            found[name] = max(found.get(name, "INFO"), check["status"], key=SEVERITY.index)
    return found


def test_the_skills_extension_is_served_as_the_suite_says(node: str, tmp_path: Path) -> None:
    if not (ORACLES / "conformance" / "node_modules").is_dir():
        pytest.skip("the conformance suite is not installed; run scripts/oracles (it needs npm)")
    server = Child(*SERVERS["shipped"], env=environ(tmp_path / "home"))
    try:
        url = server.url()
        for scenario in ("enumeration", "manifest"):
            told = ("--scenario", f"sep-2640-skills-{scenario}", "--spec-version", "2026-07-28", "--force")
            nothing = tmp_path / "nothing.yml"
            nothing.write_text("server: []\n", "utf-8")
            verdict = run(Suite("conformance", told, 1), node, url, nothing, tmp_path / scenario)
            # The suite declares no extension, and only a client that does has skills in its list of resources.
            unseen = {f"sep-2640-skills-manifest:sep-2640-skillmd-metadata-{name}" for name in ("name", "description")}
            assert verdict.having("FAILURE", "WARNING") - unseen == set(), verdict.output
            assert len(verdict.having("SUCCESS")) >= 4 and verdict.having("SKIPPED") == set()
    finally:
        server.end()


@pytest.mark.parametrize("name", SERVERS)
def test_the_suites_find_exactly_what_is_expected(node: str, tmp_path: Path, name: str) -> None:
    for suite in SUITES.values():
        if not (ORACLES / suite.release / "node_modules").is_dir():
            pytest.skip("the conformance suite is not installed; run scripts/oracles (it needs npm)")
    baseline = JUDGES / f"{name}.yml"
    expected = expected_of(baseline)
    failing, passing = set(), set()
    server = Child(*SERVERS[name], env=environ(tmp_path / "home"))
    try:
        url = server.url()
        for revision, suite in SUITES.items():
            verdict = run(suite, node, url, baseline, tmp_path / revision)
            assert len({check.partition(":")[0] for check in verdict.checks}) == suite.scenarios, revision
            wrong = verdict.having("FAILURE", "WARNING")
            assert {check for check in wrong if not {check, check.partition(":")[0]} & expected} == set(), revision
            assert verdict.exit_code == 0, verdict.output[-3000:]
            failing |= wrong | {check.partition(":")[0] for check in wrong}
            passing |= verdict.having("SUCCESS")
    finally:
        assert server.end() == 0, "".join(server.said)
    assert expected - failing == set(), "these never fail: take them off the list"
    assert expected & passing == set(), "these pass in one of the runs: take them off the list"
