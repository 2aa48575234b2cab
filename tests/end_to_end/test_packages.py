"""What others find and run Triptych by: registry entry, MCPB bundle, plugin, container image, workflow, commit hook."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import jsonschema
import pytest
import yaml
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from PIL import Image

from support import ROOT
from support.systems import child_environment
from triptych import __version__
from triptych.cli import mcp_clients
from triptych.cli.machine import Machine, key_variables
from triptych.server.tools import TOOLS

pytestmark = pytest.mark.usefixtures("ordinary_start")

ORACLES = ROOT / ".oracles"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
KEY = "sk-the-users-own-1234567890"


def document(*path: str) -> Any:
    return json.loads(ROOT.joinpath(*path).read_text("utf-8"))


def test_every_package_has_this_version_and_name() -> None:
    entry = document("server.json")
    plugin = document("plugin", ".claude-plugin", "plugin.json")
    assert PROJECT["version"] == entry["version"] == entry["packages"][0]["version"] == plugin["version"] == __version__
    assert PROJECT["name"] == entry["packages"][0]["identifier"] == plugin["name"] == "triptych"
    assert PROJECT["description"].removeprefix("An MCP server for making and editing ") in (
        entry["description"].removeprefix("Makes and edits ")
    )
    assert plugin["description"] == entry["description"]
    listed = document(".claude-plugin", "marketplace.json")["plugins"]
    assert [(item["name"], item["source"]) for item in listed] == [("triptych", "./plugin")]


# -- the MCP registry


def test_the_registry_entry_keeps_to_the_registrys_schema() -> None:
    jsonschema.validate(document("server.json"), document("tests", "support", "registry_entry.schema.json"))


def test_the_registry_entry_marks_every_key_as_a_secret() -> None:
    entry = document("server.json")
    variables = entry["packages"][0]["environmentVariables"]
    assert {item["name"] for item in variables if item["isSecret"]} == set(key_variables())
    readme = (ROOT / "README.md").read_text("utf-8")
    assert f"<!-- mcp-name: {entry['name']} -->" in readme
    settings = (ROOT / "docs" / "settings.md").read_text("utf-8")
    assert all(f"| `{item['name']}` |" in settings for item in variables)


# -- the MCPB bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, str(ROOT / "scripts" / "bundle"), "--out", str(out)], check=True, timeout=120)
    return out / f"triptych-{__version__}.mcpb"


@pytest.fixture(scope="module")
def unpacked(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(bundle) as packed:
        packed.extractall(folder)
    return folder


def test_the_bundle_asks_for_keys_as_secrets(unpacked: Path) -> None:
    manifest = json.loads((unpacked / "manifest.json").read_text("utf-8"))
    assert (manifest["manifest_version"], manifest["server"]["type"]) == ("0.4", "uv")
    assert (manifest["name"], manifest["version"]) == ("triptych", __version__)
    assert [tool["name"] for tool in manifest["tools"]] == list(TOOLS)
    asked, env = manifest["user_config"], manifest["server"]["mcp_config"]["env"]
    references = {name: value.removeprefix("${user_config.").removesuffix("}") for name, value in env.items()}
    assert set(references.values()) == set(asked)
    secret = {name for name, field in references.items() if asked[field].get("sensitive")}
    assert secret == set(key_variables())
    assert [name for name, field in asked.items() if field["required"]] == ["pictures"]
    assert manifest["privacy_policies"] == ["https://github.com/triptych-mcp/triptych/blob/main/PRIVACY.md"]
    assert references["ARK_BASE_URL"] == "ark_base_url" and "Volcengine" in asked["ark_base_url"]["description"]


def test_the_bundle_shows_an_icon_of_each_size(unpacked: Path) -> None:
    manifest = json.loads((unpacked / "manifest.json").read_text("utf-8"))
    for icon in [*manifest["icons"], {"src": manifest["icon"], "size": "512x512"}]:
        with Image.open(unpacked / icon["src"]) as image:
            assert (image.format, f"{image.width}x{image.height}") == ("PNG", icon["size"])
    sizes = [icon["size"].partition("x")[0] for icon in manifest["icons"]]
    assert sizes == ["16", "32", "48", "64", "128", "256", "512"]


def test_the_bundle_holds_source_and_pinned_versions_alone(unpacked: Path) -> None:
    held = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    outside = {name for name in held if not name.startswith(("src/triptych/", "src/triptych_emulators/"))}
    assert outside == {"manifest.json", "server.py", "pyproject.toml", "README.md", "LICENSE"}
    assert {
        "src/triptych/__main__.py",
        "src/triptych/storage/migrations/0001_initial.sql",
        "src/triptych/thin/answers.txt",
        "src/triptych/py.typed",
        *(f"src/triptych/server/gallery/{name}" for name in ("index.html", "style.css", "connection.js", "app.js")),
    } <= held
    assert not any("__pycache__" in name for name in held)
    uv = tomllib.loads((unpacked / "pyproject.toml").read_text("utf-8"))["tool"]["uv"]
    assert uv["default-groups"] == []
    held_fast = {item.split("==")[0] for item in uv["constraint-dependencies"]}
    assert {"mcp", "pillow", "psycopg"} <= held_fast and "pytest" not in held_fast
    assert "mcp==2.3.0" in uv["constraint-dependencies"]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+( ; .+[^\\ ])?", item) for item in uv["constraint-dependencies"])


def test_the_same_source_makes_the_same_bundle(bundle: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "scripts" / "bundle"), "--out", str(tmp_path)], check=True, timeout=120)
    assert (tmp_path / bundle.name).read_bytes() == bundle.read_bytes()


async def listed(command: str, args: list[str], env: Mapping[str, str]) -> list[str]:
    parameters = StdioServerParameters(command=command, args=args, env=dict(env))
    async with Client(stdio_client(parameters), mode="legacy") as client:
        assert client.server_info is not None and client.server_info.version == __version__
        models = await client.call_tool("list_models", {"provider": "draft"})
        assert models.structured_content["default_provider"] == "draft"
        return [tool.name for tool in (await client.list_tools()).tools]


@pytest.mark.anyio
async def test_the_bundles_entry_point_starts_the_bundles_own_code(unpacked: Path, tmp_path: Path) -> None:
    env = child_environment(PYTHONPATH=str(unpacked / "src"), TRIPTYCH_HOME=str(tmp_path))
    where = "import triptych; print(triptych.__file__)"
    told = await anyio.run_process([sys.executable, "-c", where], env=env)
    assert Path(told.stdout.decode().strip()).is_relative_to(unpacked)
    assert await listed(sys.executable, [str(unpacked / "server.py")], env) == list(TOOLS)


@pytest.mark.anyio
@pytest.mark.oracle
async def test_the_manifests_command_starts_the_bundle_with_uv(unpacked: Path, tmp_path: Path) -> None:
    """With uv itself, which is told to take this environment instead of making one, so that nothing is fetched."""
    uv = next((p for p in ORACLES.glob("uv-venv/*/uv*") if p.stem == "uv"), None)
    if uv is None:
        pytest.skip("uv is not installed; run scripts/oracles")
    started = json.loads((unpacked / "manifest.json").read_text("utf-8"))["server"]["mcp_config"]
    assert started["command"] == "uv"
    env = started["env"] | {
        "TRIPTYCH_ALLOWED_DIRS": str(tmp_path),
        "TRIPTYCH_BUDGET_USD": "10",
        "TRIPTYCH_HOME": str(tmp_path / "home"),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(unpacked / "src"),
        "UV_PROJECT_ENVIRONMENT": sys.prefix,
        "UV_NO_SYNC": "1",
        "UV_OFFLINE": "1",
    }
    args = [item.replace("${__dirname}", str(unpacked)) for item in started["args"]]
    assert await listed(str(uv), args, env) == list(TOOLS)


@pytest.fixture(scope="module")
def mcpb() -> Path:
    package = ORACLES / "mcpb" / "node_modules" / "@anthropic-ai" / "mcpb" / "dist"
    if not package.is_dir() or not shutil.which("node"):
        pytest.skip("the MCPB tools are not installed; run scripts/oracles (it needs npm)")
    return package


@pytest.mark.oracle
def test_the_bundle_tools_find_the_manifest_valid(mcpb: Path, unpacked: Path) -> None:
    command = ["node", str(mcpb / "cli" / "cli.js"), "validate", str(unpacked / "manifest.json")]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


ASK_CONFIG = """
const { getMcpConfigForManifest } = await import(process.argv[1]);
const { readFileSync } = await import("node:fs");
const manifest = JSON.parse(readFileSync(process.argv[2], "utf-8"));
console.log(JSON.stringify(await getMcpConfigForManifest({
    manifest, extensionPath: "/there", systemDirs: { HOME: "/home/you" }, pathSeparator: "/",
    userConfig: JSON.parse(process.argv[3]),
})));
"""


@pytest.mark.oracle
def test_keys_left_empty_in_the_bundle_count_as_none(mcpb: Path, unpacked: Path) -> None:
    from triptych import settings

    given = json.dumps({"pictures": "/home/you/Pictures", "runware_key": KEY})
    image_access = (mcpb / "index.js").as_uri()
    command = ["node", "--input-type=module", "-e", ASK_CONFIG, image_access, str(unpacked / "manifest.json"), given]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    started = json.loads(told.stdout)
    assert started["args"] == ["run", "--directory", "/there", "server.py"]
    setup = settings.read(started["env"] | {"TRIPTYCH_HOME": "/there"}).setup
    assert [name for name, account in setup.accounts.items() if account.key] == ["runware"]
    assert setup.budget_usd == 10 and Path("/home/you/Pictures").absolute() in setup.allowed_dirs


# -- the Claude Code plugin


def test_the_plugins_server_is_what_install_writes_for_a_project() -> None:
    host = mcp_clients.hosts()["claude-code"]
    entry = mcp_clients.stdio_entry(host, ["triptych"], Machine("linux", {}, Path("/"), Path("/")))
    assert (ROOT / "plugin" / ".mcp.json").read_text("utf-8").rstrip() == mcp_clients.snippet(host, entry).rstrip()


# -- the container image


DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")


def instruction(name: str) -> list[str]:
    joined = re.sub(r"\\\n\s*", "", DOCKERFILE)
    return [found.strip() for found in re.findall(rf"^{name}\s+(.*)$", joined, re.MULTILINE)]


def test_the_image_runs_unprivileged_and_holds_no_secret() -> None:
    order = re.findall(r"^([A-Z]+) ", DOCKERFILE, re.MULTILINE)
    assert order[0] == "FROM" and order.index("USER") < order.index("CMD")
    assert instruction("USER") == ["10001:10001"] and any("useradd --uid 10001" in run for run in instruction("RUN"))
    assert instruction("VOLUME") == ['["/data"]'] and "TRIPTYCH_HOME=/data" in instruction("ENV")[0]
    assert "latest" not in DOCKERFILE
    assert not re.search(r"(_KEY|_TOKEN)=", " ".join(instruction("ENV") + instruction("ARG")))


def test_the_image_gets_what_it_copies_and_no_more() -> None:
    ignore = (ROOT / ".dockerignore").read_text("utf-8").split()
    let_in = {name.removeprefix("!") for name in ignore if name.startswith("!")}
    copied = {
        part.removeprefix("./").rstrip("/")
        for line in instruction("COPY")
        if "--from" not in line
        for part in line.split()[:-1]
    }
    assert ignore[0] == "*" and let_in == copied
    assert all((ROOT / name).exists() for name in copied)


def in_this_environment(told: str) -> list[str]:
    program, *args = json.loads(told)
    return [sys.executable, "-m", "triptych", *args] if program == "triptych" else [sys.executable, *args]


@pytest.mark.slow
def test_the_images_command_needs_a_token_and_reports_health(tmp_path: Path) -> None:
    [told] = instruction("CMD")
    [check] = re.findall(r"CMD (\[.*\])$", instruction("HEALTHCHECK")[0])
    env = {**os.environ, "TRIPTYCH_HOME": str(tmp_path)}
    command = [*in_this_environment(told), "--port", "0"]
    refused = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2 and "TRIPTYCH_AUTH_TOKEN" in refused.stderr
    env["TRIPTYCH_AUTH_TOKEN"] = KEY
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as served:
        try:
            assert served.stderr is not None
            [port] = re.findall(r":(\d+)/mcp", served.stderr.readline())
            assert f"EXPOSE {8765}" in DOCKERFILE and check.count("8765") == 1
            healthy = in_this_environment(check.replace("8765", port))
            assert subprocess.run(healthy, env=env, timeout=60, check=False).returncode == 0
        finally:
            served.terminate()
    with socket.socket() as held:  # so that no other server takes the port
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", int(port)))
        assert subprocess.run(healthy, env=env, timeout=60, check=False, capture_output=True).returncode != 0


# -- the workflow and the commit hook


WORKFLOW = (ROOT / ".github" / "workflows" / "test.yml").read_text("utf-8")
HOOKS = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")


def test_the_workflow_and_the_hooks_parse_as_meant() -> None:
    workflow, hooks = yaml.safe_load(WORKFLOW), yaml.safe_load(HOOKS)
    job = workflow["jobs"]["test"]
    assert job["strategy"]["matrix"]["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]
    runs = [step for step in job["steps"] if "run" in step]
    assert runs[-1]["run"] == "./scripts/test"
    assert all(step["shell"] == "bash" for step in runs)
    [repo] = hooks["repos"]
    assert repo["repo"] == "local"
    assert [hook["entry"] for hook in repo["hooks"]] == ["bash scripts/lint"]


def test_the_commit_hook_and_ci_check_the_same() -> None:
    lint = (ROOT / "scripts" / "lint").read_text("utf-8")
    assert re.findall(r'^"\$bin/(.*)$', lint, re.MULTILINE) == [
        'ruff" check .',
        'ruff" format --check .',
        'mypy" --strict',
    ]
    assert "scripts/lint" in (ROOT / "scripts" / "test").read_text("utf-8")


def test_scripts_keep_their_line_endings_on_every_platform() -> None:
    assert "* text=auto eol=lf" in (ROOT / ".gitattributes").read_text("utf-8").splitlines()
    for script in (ROOT / "scripts").iterdir():
        if script.is_file():
            assert b"\r" not in script.read_bytes(), script.name
