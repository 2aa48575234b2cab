"""What a release publishes: the registry's entry, the workflows' rights and pins, constraints, bounds of versions."""

from __future__ import annotations

import hashlib
import json
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import yaml

from support import ROOT
from triptych import __version__, sdk
from triptych.cli.formatting import Exit
from triptych.cli.output import Screen, command

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
CONSTRAINTS = (ROOT / "constraints.txt").read_text("utf-8")
DIGEST = f"sha256:{'0123456789abcdef' * 4}"


# -- the registry's entry


def fill(folder: Path, **changed: str) -> subprocess.CompletedProcess[str]:
    bundle = folder / changed.get("bundle", f"triptych-{__version__}.mcpb")
    bundle.write_bytes(b"the bundle")
    options = {"repository": "triptych-mcp/triptych", "digest": DIGEST} | changed | {"bundle": str(bundle)}
    command = [sys.executable, str(ROOT / "scripts" / "registry_entry"), "--out", str(folder / "server.json")]
    command += [part for name, value in options.items() for part in (f"--{name}", value)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_release_fills_hash_digest_and_version_in(tmp_path: Path) -> None:
    assert fill(tmp_path).returncode == 0
    entry = json.loads((tmp_path / "server.json").read_text("utf-8"))
    pypi, oci, mcpb = entry["packages"]
    assert entry["version"] == pypi["version"] == __version__
    assert oci["identifier"] == f"ghcr.io/triptych-mcp/triptych:{__version__}@{DIGEST}"
    assert mcpb["fileSha256"] == hashlib.sha256(b"the bundle").hexdigest()
    assert mcpb["identifier"].endswith(f"/releases/download/v{__version__}/triptych-{__version__}.mcpb")
    schema = json.loads((ROOT / "tests/support/registry_entry.schema.json").read_text("utf-8"))
    jsonschema.validate(entry, schema)


def test_the_registry_image_is_a_stdio_server_with_the_keys(tmp_path: Path) -> None:
    fill(tmp_path)
    pypi, oci, _ = json.loads((tmp_path / "server.json").read_text("utf-8"))["packages"]
    assert oci["packageArguments"] == [{"type": "positional", "value": "triptych"}]
    names = [{item["name"] for item in package["environmentVariables"]} for package in (pypi, oci)]
    assert names[0] - names[1] == {"TRIPTYCH_ALLOWED_DIRS"} and "ATLASCLOUD_API_KEY" in names[1]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"digest": "sha256:12"}, "64 hexadecimal digits"),
        ({"bundle": "triptych-9.9.9.mcpb"}, f"triptych-{__version__}.mcpb"),
        ({"repository": "another/triptych"}, "io.github.another/"),
    ],
)
def test_an_entry_that_does_not_fit_is_refused(changed: dict[str, str], said: str, tmp_path: Path) -> None:
    done = fill(tmp_path, **changed)
    assert done.returncode == 1 and said in done.stderr and not (tmp_path / "server.json").exists()


def test_every_place_names_the_same_server() -> None:
    name = json.loads((ROOT / "server.json").read_text("utf-8"))["name"]
    assert f"mcp-name: {name} -->" in (ROOT / "README.md").read_text("utf-8")
    assert f'io.modelcontextprotocol.server.name="{name}"' in (ROOT / "Dockerfile").read_text("utf-8")


# -- the workflows


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RELEASE = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text("utf-8"))["jobs"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_each_action_is_pinned_by_its_commit(path: Path) -> None:
    used = [line.strip() for line in path.read_text("utf-8").splitlines() if "uses:" in line and "uses: ./" not in line]
    wrong = [line for line in used if not re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line)]
    assert used and not wrong


def test_all_workflows_use_the_same_commit_of_an_action() -> None:
    text = "".join(path.read_text("utf-8") for path in WORKFLOWS)
    used = set(re.findall(r"uses: ([\w./-]+)@([0-9a-f]{40})", text))
    assert len({action for action, _ in used}) == len(used)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_each_job_has_only_rights_that_it_names(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text("utf-8"))
    assert workflow["permissions"] == {} and "concurrency" in workflow
    for name, job in workflow["jobs"].items():
        assert isinstance(job["permissions"], dict), name
        assert "uses" in job or job["timeout-minutes"] <= 45, name
    assert not re.search(r"\bsecrets\b", path.read_text("utf-8"))


def rights(job: dict[str, Any]) -> set[str]:
    return {name for name, right in job["permissions"].items() if right == "write"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_each_job_has_a_name(path: Path) -> None:
    """zizmor, which stops a release, has a finding for a job of steps without one."""
    jobs = yaml.safe_load(path.read_text("utf-8"))["jobs"]
    assert [name for name, job in jobs.items() if not (job.get("name") or job.get("uses"))] == []


def test_the_bundle_is_validated_with_its_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    release = runpy.run_path(str(ROOT / "scripts" / "release"))
    validated = []

    def run(*command: Any, **_: Any) -> None:
        if "validate" in command:
            validated.append((command[-1].parent / "icons" / "512.png").read_bytes())

    with zipfile.ZipFile(tmp_path / "triptych-1.2.3.mcpb", "w") as packed:
        packed.writestr("manifest.json", '{"icon": "icons/512.png"}')
        packed.writestr("icons/512.png", b"a picture")
    (tmp_path / "cli.js").touch()
    for name, value in {"run": run, "DIST": tmp_path, "MCPB": tmp_path / "cli.js"}.items():
        monkeypatch.setitem(release["bundle"].__globals__, name, value)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    assert release["bundle"]("1.2.3", tmp_path) == "mcpb validate"
    assert validated == [b"a picture"]


def test_no_job_with_an_identity_runs_our_code() -> None:
    assert {name: rights(job) for name, job in RELEASE.items() if rights(job)} == {
        "image": {"packages"},
        "provenance": {"id-token", "attestations"},
        "pypi": {"id-token"},
        "github": {"contents"},
        "registry": {"id-token"},
    }
    for name in ("provenance", "pypi", "registry"):
        steps = RELEASE[name]["steps"]
        assert not any("actions/checkout" in step.get("uses", "") for step in steps)
        assert not any("scripts/" in step.get("run", "") for step in steps)


def test_publishing_waits_for_tests_and_everything_built() -> None:
    def before(name: str) -> set[str]:
        needs = RELEASE[name].get("needs", [])
        direct = {needs} if isinstance(needs, str) else set(needs)
        return direct.union(*map(before, direct))

    assert before("pypi") == {"test", "build", "image", "provenance"}
    assert before("registry") == {*before("pypi"), "pypi", "github"}
    assert {name: job["environment"]["name"] for name, job in RELEASE.items() if "environment" in job} == {
        "pypi": "pypi",
        "registry": "mcp-registry",
    }


def test_no_step_puts_an_expression_into_a_script() -> None:
    for path in WORKFLOWS:
        for job in yaml.safe_load(path.read_text("utf-8"))["jobs"].values():
            assert not any("${{" in step.get("run", "") for step in job.get("steps", []))


def test_the_classifiers_are_the_pythons_that_are_tested() -> None:
    tested = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text("utf-8"))["jobs"]["test"]
    said = [item.split(" :: ")[-1] for item in PYPROJECT["project"]["classifiers"] if "Python :: 3." in item]
    assert said == tested["strategy"]["matrix"]["python"]
    assert PYPROJECT["project"]["requires-python"] == f">={said[0]}"


# -- constraints and bounds


def sections() -> dict[str, str]:
    return dict(part.split("\n", 1) for part in CONSTRAINTS.split("# -- ")[1:])


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=[ ]", item)[0].lower().replace("_", "-") for item in requirements}


def extras() -> list[str]:
    return [item for items in PYPROJECT["project"]["optional-dependencies"].values() for item in items]


def test_every_pinned_package_has_hashes_and_no_address() -> None:
    for line in CONSTRAINTS.splitlines()[1:]:
        assert re.fullmatch(r"# -- [a-z]+|[\w.-]+==[\w.]+( ; [^\\]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line), (
            line
        )
    entries = re.split(r"\n(?=\S)", "\n".join(sections().values()).strip())
    assert all("--hash=sha256:" in entry for entry in entries if entry)


def test_constraints_name_what_pyproject_asks_for() -> None:
    held = {name: set(re.findall(r"^([\w.-]+)==", text, re.MULTILINE)) for name, text in sections().items()}
    project, groups = PYPROJECT["project"], PYPROJECT["dependency-groups"]
    assert names(project["dependencies"]) <= held["package"]
    assert names(extras()) <= held["package"] | held["extras"]
    assert names(groups["dev"]) <= held["package"] | held["extras"] | held["dev"]
    assert all(names(groups[group]) <= held[group] for group in groups if group != "dev")
    assert list(held) == ["package", "extras", *groups]


def test_the_tests_do_not_install_the_tools_of_a_release() -> None:
    setup = (ROOT / "scripts" / "_venv").read_text("utf-8")
    assert "release" not in re.findall(r"sections\+?=\((.*?)\)", setup) and "sections+=(extras dev)" in setup
    assert "--require-hashes" in setup


def test_a_section_is_printed_for_pip() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "constraints"), "--print"]
    told = subprocess.run([*command, "package"], capture_output=True, text=True, check=True)
    assert "mcp==2" in told.stdout and "pytest==" not in told.stdout
    refused = subprocess.run([*command, "tests"], capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "it has package, extras, dev" in refused.stderr


def test_extras_and_tests_ask_for_the_same_bounds() -> None:
    assert set(extras()) <= set(PYPROJECT["dependency-groups"]["dev"])


# -- an environment with an earlier mcp


def test_the_supported_mcp_is_the_one_that_is_asked_for() -> None:
    [bound] = [item for item in PYPROJECT["project"]["dependencies"] if item.startswith("mcp>")]
    assert re.fullmatch(rf"mcp>={sdk.SUPPORTED}\.\d+,<{int(sdk.SUPPORTED) + 1}", bound)


START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from triptych.__main__ import main; main()"


@pytest.mark.usefixtures("ordinary_start")
@pytest.mark.parametrize("arguments", [[], ["serve"]])
def test_an_earlier_mcp_gets_a_sentence_not_a_traceback(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "mcp").mkdir()
    (tmp_path / "mcp" / "__init__.py").write_text("class ClientSession: ...\n", "utf-8")
    told = tmp_path / "mcp-1.28.1.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: mcp\nVersion: 1.28.1\n", "utf-8")
    asked = '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "list_models"}}\n'
    command = [sys.executable, "-c", START, str(tmp_path), *arguments]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stdout == ""
    assert "has mcp 1.28.1;" in done.stderr and "needs mcp 2." in done.stderr and "mcp>=2,<3" in done.stderr


def test_the_sentence_names_no_package_of_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until Triptych is published, `install triptych` fails, or installs what another project has put there."""
    monkeypatch.setattr(metadata, "version", lambda _name: "1.28.1")
    said = sdk.mismatch() or ""
    assert "pipx install" in said and not re.search(r"(uvx|install|--upgrade) triptych", said)


def test_a_command_gives_the_same_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def needs_the_sdk(_screen: Screen) -> Exit:
        raise ImportError("cannot import name 'Client' from 'mcp'")

    monkeypatch.setattr(metadata, "version", lambda _name: "1.28.1")
    with pytest.raises(SystemExit) as ended:
        click.command()(command(needs_the_sdk)).main(["--json"], standalone_mode=False)
    assert ended.value.code == 2
    assert "has mcp 1.28.1;" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_another_import_error_stays_what_it_is() -> None:
    error = ImportError("of something else")
    assert sdk.refusal(error) is error
