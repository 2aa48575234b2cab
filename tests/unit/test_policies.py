"""The pages about security, privacy and support, and GitHub's own files: they are valid, and what they name exists."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import ROOT
from triptych import __version__

GITHUB = ROOT / ".github"
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
PAGES = ("SECURITY.md", "PRIVACY.md", "SUPPORT.md", "CODE_OF_CONDUCT.md")


def page(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.dependabot", [GITHUB / "dependabot.yml"]),
        ("vendor.github-issue-config", [GITHUB / "ISSUE_TEMPLATE" / "config.yml"]),
        ("vendor.github-issue-forms", FORMS),
        ("vendor.github-workflows", WORKFLOWS),
        ("custom.github-workflows-require-timeout", WORKFLOWS),
    ],
)
def test_githubs_files_keep_to_githubs_schemas(schema: str, files: list[Path]) -> None:
    assert files
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


def test_every_action_is_pinned_by_hash_with_its_version() -> None:
    for path in [GITHUB / "workflows" / "code-scanning.yml"]:
        used = re.findall(r"uses: (.*)$", path.read_text("utf-8"), re.MULTILINE)
        assert used and all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", one) for one in used), path.name


def test_code_scanning_may_read_and_report_alone() -> None:
    workflow = read(GITHUB / "workflows" / "code-scanning.yml")
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert job["permissions"] == {"contents": "read", "security-events": "write"}
        checkout = next(step for step in job["steps"] if step["uses"].startswith("actions/checkout@"))
        assert checkout["with"]["persist-credentials"] is False


def test_a_bug_report_asks_for_the_doctor_and_no_secret() -> None:
    fields = {field["id"]: field for field in read(GITHUB / "ISSUE_TEMPLATE" / "bug.yml")["body"] if "id" in field}
    assert "triptych doctor" in fields["doctor"]["attributes"]["label"] and fields["doctor"]["validations"]["required"]
    for form in FORMS:
        if form.stem != "idea":
            asked = form.read_text("utf-8")
            assert "There is no key, token, signed URL or private picture in this issue." in asked


def test_the_links_of_the_forms_lead_to_this_repository() -> None:
    owner, name = json.loads(page("server.json"))["name"].removeprefix("io.github.").split("/")
    for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml"):
        for link in re.findall(r"https://github\.com/[^\s)]+", path.read_text("utf-8")):
            assert link.startswith(f"https://github.com/{owner}/{name}/")
            file = link.partition("/blob/main/")[2]
            assert not file or (ROOT / file).is_file(), link


def test_the_template_of_changes_links_to_pages_that_exist() -> None:
    text = (GITHUB / "PULL_REQUEST_TEMPLATE.md").read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (GITHUB / target).resolve().is_file(), target
    for name in re.findall(r"`(\w+\.md)`", text):
        assert (ROOT / name).is_file(), name


def test_the_policies_lead_to_each_other_and_from_the_readme() -> None:
    for name in PAGES:
        assert f"]({name})" in page("README.md"), name
    assert "](docs/security.md)" in page("SECURITY.md") and "](PRIVACY.md)" in page("SECURITY.md")
    assert "](SECURITY.md)" in page("PRIVACY.md") and "](SUPPORT.md)" in page("PRIVACY.md")


def test_the_supported_version_is_this_one() -> None:
    assert f"(now {__version__.rpartition('.')[0]})" in page("SECURITY.md")


@pytest.mark.parametrize("name", ["PRIVACY.md", "docs/versioning.md", "docs/platforms.md"])
def test_every_test_that_a_policy_names_exists(name: str) -> None:
    known = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", page(name))
    assert len(named) > 6
    for test in named:
        assert re.search(rf"^(?:async )?def {test}\(", known, re.MULTILINE), test


def test_every_skip_for_a_system_has_its_reason_in_one_place() -> None:
    """A few tests are of one system; all others take a mark of `support.systems`."""
    own = {"test_transports.py", "test_systems.py", "test_tables.py"}
    for path in (ROOT / "tests").rglob("test_*.py"):
        if path.name not in own:
            skips = re.findall(r"skipif\([^)]*(?:win32|darwin|os\.name)", path.read_text("utf-8"))
            assert not skips, path.name
