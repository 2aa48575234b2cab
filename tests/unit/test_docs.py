"""What the documents say is so: names, settings, exit codes, states; and the configuration blocks start the server."""

from __future__ import annotations

import ast
import base64
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from support import ROOT
from support.systems import child_environment
from triptych import __version__, settings
from triptych.cli import cli, formatting, mcp_clients
from triptych.cli.machine import Machine
from triptych.core.states import MOVES
from triptych.server import prompts, schemas, tools

README = (ROOT / "README.md").read_text("utf-8")
DOCS = ROOT / "docs"
INSTALL = (DOCS / "install.md").read_text("utf-8")
COMMANDS = (DOCS / "command-line.md").read_text("utf-8")
SETTINGS = (DOCS / "settings.md").read_text("utf-8")
EXAMPLE = (ROOT / "mcp.json.example").read_text("utf-8")
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "mcp.json.example"]


def table(head: str, text: str) -> list[list[str]]:
    """Return the cells of the table whose first column has this head, without code marks."""
    rows = iter(text.splitlines())
    for line in rows:
        if line.startswith(f"| {head} |"):
            break
    next(rows)
    found = []
    for line in rows:
        if not line.startswith("|"):
            break
        cells = re.split(r"(?<!\\)\|", line)[1:-1]
        found.append([cell.strip().replace("`", "") for cell in cells])
    assert found, f"no table of {head}"
    return found


def blocks(language: str) -> list[str]:
    pages = INSTALL + (DOCS / "self-hosting.md").read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", pages, re.DOTALL)


def servers(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for key in ("mcpServers", "servers", "mcp_servers"):
        yield from document.get(key, {}).values()


def test_the_readme_lists_the_tools_there_are_in_their_order() -> None:
    assert [row[0] for row in table("tool", README)] == [tool.name for tool in tools.listing().tools]


def test_the_reference_lists_the_prompts_there_are_in_their_order() -> None:
    rows = table("prompt", (DOCS / "tools.md").read_text("utf-8"))
    assert [row[0] for row in rows] == [prompt.name for prompt in prompts.listing().prompts]


def test_the_readme_is_short_and_names_its_dependencies() -> None:
    assert len(README.splitlines()) < 200
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    built_on = README.partition("## Built on")[2].partition("##")[0]
    for item in [*project["dependencies"], "sqlite3", "pytest"]:
        assert f"`{re.split(r'[<>=]', item)[0]}`" in built_on


def test_every_call_in_the_documents_is_valid() -> None:
    shown = 0
    for document in DOCUMENTS:
        text = document.read_text("utf-8")
        written = [" ".join(call.split()) for call in re.findall(r"`(\w+\([^`]*\))`", text) if "…" not in call]
        written += re.findall(r"^```python\n(\w+\(.*?)```", text, re.DOTALL | re.MULTILINE)
        for block in written:
            if block.partition("(")[0] in tools.TOOLS:
                for made in ast.parse(block).body:
                    assert isinstance(made, ast.Expr) and isinstance(made.value, ast.Call), block
                    tool = tools.TOOLS[ast.unparse(made.value.func)]
                    given = {str(word.arg): ast.literal_eval(word.value) for word in made.value.keywords}
                    schemas.read(tool.arguments, tool.name, given)
                    shown += 1
    assert shown > 10


def test_the_page_of_commands_lists_every_command() -> None:
    listed = [row[0].split()[1] for row in table("command", COMMANDS)]
    assert listed == list(dict.fromkeys(listed))
    assert set(listed) == set(cli.commands)


def test_the_options_in_the_table_of_commands_exist() -> None:
    for usage, _ in table("command", COMMANDS):
        command = cli.commands[usage.split()[1]]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", usage)) <= known, usage


def test_the_documented_exit_codes_are_the_command_lines() -> None:
    meanings = [[str(int(code)), meaning] for code, meaning in formatting.EXIT_MEANINGS.items()]
    assert table("exit code", COMMANDS) == meanings


def test_the_settings_page_lists_exactly_the_variables_read() -> None:
    assert {row[0] for row in table("variable", SETTINGS)} == settings.variables()


def test_the_documented_defaults_are_those_of_an_empty_environment() -> None:
    defaults = {row[0]: row[2] for row in table("variable", SETTINGS)}
    setup = settings.read({}).setup
    assert defaults["TRIPTYCH_BUDGET_USD"] == f"{setup.budget_usd:f}"
    assert float(defaults["TRIPTYCH_CONFIRM_USD"]) == setup.confirm_usd
    assert defaults["TRIPTYCH_LOG_LEVEL"] == settings.log_level({})
    assert defaults["ATLASCLOUD_BASE_URL"] == setup.accounts["atlas"].base_urls["api"]


def test_every_configuration_block_parses_and_names_a_server() -> None:
    documents = [json.loads(block) for block in blocks("json")]
    documents += [tomllib.loads(block) for block in blocks("toml")]
    for document in documents:
        [server] = servers(document)
        assert server.get("command", "").endswith("/.venv/bin/triptych") or server["url"].endswith("/mcp")


def test_the_example_has_every_transport() -> None:
    stdio, http, sse = servers(json.loads(EXAMPLE))
    assert stdio["command"].endswith("/.venv/bin/triptych")
    assert (http["type"], http["url"]) == ("http", "http://127.0.0.1:8765/mcp")
    assert (sse["type"], sse["url"]) == ("sse", "http://127.0.0.1:8765/sse")


@pytest.mark.parametrize("host", list(mcp_clients.hosts())[:7])
def test_the_page_of_hosts_shows_what_install_writes(host: str) -> None:
    machine = Machine("linux", {"TRIPTYCH_ALLOWED_DIRS": "/path/to/your/pictures"}, Path("/"), Path("/"))
    if host != "claude-desktop":
        machine = replace(machine, environ={})
    row = mcp_clients.hosts()[host]
    entry = mcp_clients.stdio_entry(row, ["/path/to/triptych/.venv/bin/triptych"], machine)
    assert mcp_clients.snippet(row, entry) in blocks("toml" if host == "codex" else "json")


def test_the_table_of_hosts_names_each_host() -> None:
    assert [row[0] for row in table("host", INSTALL)] == list(mcp_clients.hosts())


def test_the_link_adds_to_cursor_what_install_writes() -> None:
    cursor = mcp_clients.hosts()["cursor"]
    entry = mcp_clients.stdio_entry(cursor, ["triptych"], Machine("linux", {}, Path("/"), Path("/")))
    [link] = re.findall(r"\]\((cursor://[^)]+)\)", INSTALL)
    assert link == mcp_clients.deeplink(entry)
    settings = parse_qs(urlsplit(link).query)["config"][0]
    assert json.loads(base64.b64decode(settings, validate=True)) == entry


@pytest.mark.anyio
@pytest.mark.usefixtures("ordinary_start")
async def test_the_example_starts_the_server_once_the_path_is_right(tmp_path: Path) -> None:
    server = next(servers(json.loads(EXAMPLE)))
    # The command of the block, in this environment; the settings as they stand in it.
    env = {**child_environment(), **server["env"], "TRIPTYCH_HOME": str(tmp_path)}
    command = StdioServerParameters(command=sys.executable, args=["-m", "triptych", *server["args"]], env=env)
    async with Client(stdio_client(command), mode="legacy") as client:
        assert client.server_info is not None
        assert (client.server_info.name, client.server_info.version) == ("triptych", __version__)
        models = await client.call_tool("list_models", {"provider": "draft"})
        assert models.structured_content["default_provider"] == "draft"


def test_the_drawing_of_a_jobs_life_matches_the_moves() -> None:
    text = (ROOT / "docs" / "how-a-job-lives.md").read_text("utf-8")
    drawn = set(re.findall(r"^    (\w+) --> (\w+)$", text, re.MULTILINE))
    assert drawn == {(str(old), str(new)) for old, news in MOVES.items() for new in news}
    assert re.findall(r"^- `(\w+)`:", text, re.MULTILINE) == [str(state) for state in MOVES]


def test_every_link_between_the_documents_leads_somewhere() -> None:
    for document in DOCUMENTS:
        for target, heading in re.findall(
            r"\]\((?!https?:|cursor:)([^)#]*)(?:#([^)]*))?\)", document.read_text("utf-8")
        ):
            led = document.parent / target if target else document
            assert led.exists(), f"{document.name}: {target}"
            assert not heading or heading in headings(led), f"{document.name}: {target}#{heading}"


def headings(document: Path) -> set[str]:
    """Return what links call the headings of a document."""
    found = re.findall(r"^#+ (.*)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_the_changelog_knows_this_version() -> None:
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_scripts_can_be_run_and_ci_runs_the_tests() -> None:
    for name in ("scripts/demo", "scripts/test", "scripts/lint", "scripts/fix", "scripts/bundle", ".ci/run"):
        assert os.access(ROOT / name, os.X_OK), name
    assert "./scripts/test" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_the_table_of_providers_follows_from_the_catalog() -> None:
    checked = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "tables"), "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_every_list_of_providers_has_all_of_them() -> None:
    checked = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "variables"), "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_what_contributing_shows_of_a_provider_is_what_stands_there() -> None:
    shown = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.DOTALL)
    source = (ROOT / "src" / "triptych" / "providers" / "novita.py").read_text("utf-8")
    assert shown and all(part in source for part in shown)
    files = re.findall(r"^\+\+\+ (\S+)", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.MULTILINE)
    assert len(files) == 6 and all((ROOT / name).is_file() for name in files)


def test_the_reference_of_the_tools_follows_from_their_schemas() -> None:
    checked = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "reference"), "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_every_defence_names_tests_that_exist() -> None:
    files = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    known = set(re.findall(r"^(?:async )?def test_(\w+)", "\n".join(files.values()), re.MULTILINE))
    rows = re.findall(r"^\| .* \| (`.*) \|$", (ROOT / "docs" / "security.md").read_text("utf-8"), re.MULTILINE)
    assert len(rows) > 30
    for proof in rows:
        for name in re.findall(r"`([^`]+)`", proof):
            start = name.removesuffix("…")
            assert name in files or name in known or (name != start and any(one.startswith(start) for one in known)), (
                name
            )


def test_every_file_and_benchmark_that_the_documents_name_exists() -> None:
    for document in DOCUMENTS:
        text = document.read_text("utf-8")
        for name in re.findall(r"(?<![\w/])(?:tests|benchmarks|scripts|src)/[\w/]+\.\w+", text):
            assert "NAME" in name or "NNNN" in name or (ROOT / name).is_file(), f"{document.name}: {name}"
        for name in re.findall(r"python -m (benchmarks\.\w+)", text):
            assert (ROOT / f"{name.replace('.', '/')}.py").is_file(), f"{document.name}: {name}"
        for named in re.findall(r"python -m pytest ([^`\n#;]+)", text):
            paths, _, word = named.strip().partition(" -k ")
            found = "".join((ROOT / path).read_text("utf-8") for path in paths.split())
            assert re.search(rf"def test_\w*{word.strip()}", found), f"{document.name}: {named}"


def sayings() -> set[str]:
    """Return every text in the source, "…" in the place of what differs."""
    found = set()
    for path in (ROOT / "src" / "triptych").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.add("".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_no_text_promises_fifteen_images_beside_references() -> None:
    texts = [document.read_text("utf-8") for document in DOCUMENTS if document.name != "CHANGELOG.md"]
    texts += [str(tool.description) for tool in tools.listing().tools]
    texts += [command.help or "" for command in cli.commands.values()]
    for text in texts:
        assert not re.search(r"1[-–]14 ref\w+[^.|]{0,40}1[-–]15|references? [^.|]{0,40}→ 1[-–]15", text)


def test_every_error_that_troubleshooting_quotes_is_one_that_triptych_says() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    quoted = re.findall(r"^> (.*)$", text, re.MULTILINE)
    said = sayings()
    assert len(quoted) > 25
    for sentence in quoted:
        assert any(sentence in one for one in said), sentence
