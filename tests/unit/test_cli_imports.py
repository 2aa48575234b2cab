"""What a command imports: people wait for it at every call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from triptych.cli import COMMANDS, cli

HEAVY = {"anyio", "asyncio", "httpx2", "jsonschema", "mcp", "mcp_types", "PIL", "pydantic", "tomlkit", "ssl"}

TELL = "import sys, json, atexit; atexit.register(lambda: print(json.dumps(list(sys.modules)))); "
RUN = "import runpy; sys.argv[0] = 'triptych'; runpy.run_module('triptych', run_name='__main__')"


def run(home: Path, *argv: str) -> str:
    """Return what a command writes to stdout, and on a last line the modules that it has imported when it ends."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("TRIPTYCH_")}
    env["TRIPTYCH_HOME"] = str(home)
    done = subprocess.run([sys.executable, "-c", TELL + RUN, *argv], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip()


def imported(home: Path, *argv: str) -> set[str]:
    """Return the libraries that a command has imported when it ends."""
    return {name.partition(".")[0] for name in json.loads(run(home, *argv).rpartition("\n")[2])}


@pytest.mark.usefixtures("ordinary_start")
@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["jobs", "--help"], ["generate", "--help"]])
def test_help_imports_click_alone(argv: list[str], tmp_path: Path) -> None:
    assert not imported(tmp_path, *argv) & (HEAVY | {"sqlite3"})


@pytest.mark.usefixtures("ordinary_start")
def test_commands_that_read_import_no_protocol_and_no_event_loop(tmp_path: Path) -> None:
    made = run(tmp_path, "generate", "-p", "a lighthouse", "--provider", "draft", "--json")
    job = json.loads(made.rpartition("\n")[0])["job_id"]
    for argv in (["jobs"], ["jobs", "--json"], ["status", job], ["spend"]):
        assert not imported(tmp_path, *argv) & HEAVY, argv


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_has_the_first_sentence_of_each_command(name: str) -> None:
    listed = click.Command(name, help=COMMANDS[name][1])
    for columns in (20, 60, 200):
        assert listed.get_short_help_str(columns) == cli.commands[name].get_short_help_str(columns)


def test_the_list_of_commands_shortens_no_sentence() -> None:
    shown = " ".join(CliRunner().invoke(cli, ["--help"], terminal_width=80).stdout.split())
    for name, (_, sentence) in COMMANDS.items():
        assert f"{name} {sentence}" in shown


def test_every_command_has_its_name() -> None:
    assert {name: command.name for name, command in cli.commands.items()} == {name: name for name in COMMANDS}
