"""Every block of code in the documents does what it says, as far as that can be seen without running it.

A command of ours is read by the command line's own parser, a setting exists, JSON, TOML and YAML parse, Python
compiles, and calls of tools keep to their schemas. `tests/end_to_end/test_tutorial.py` runs the tutorial for real.
"""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from support import ROOT
from triptych.cli import cli
from triptych.core.errors import BadRequest
from triptych.server import schemas, tools

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
OPTIONS = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")
OF_OTHERS = frozenset({"cd", "cp", "createdb", "docker", "gh", "node", "pipx", "rsync", "umask", "uv"})
"""Programs that are not ours: what the documents say to them is not checked."""
FREE = frozenset({"text", "mermaid", "diff", "ts"})
"""Languages of blocks that nothing here reads; "mermaid" and "diff" have tests of their own."""
SETTINGS = frozenset(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "settings.md").read_text("utf-8"), re.MULTILINE))
SERVER_FIELDS = frozenset(
    {"type", "command", "args", "env", "url", "headers", "cwd", "timeout"}
    | {"required", "env_vars", "startup_timeout_sec", "tool_timeout_sec", "http_headers", "bearer_token_env_var"}
    | {"httpUrl", "serverUrl", "trust", "envFile"}
)


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}-{self.line}-{self.language or 'none'}"


def blocks() -> Iterator[Block]:
    for page in DOCUMENTS:
        text = page.read_text("utf-8")
        for found in BLOCK.finditer(text):
            inner = "".join(line.removeprefix(found[1]) for line in found[3].splitlines(keepends=True))
            yield Block(page, text.count("\n", 0, found.start()) + 1, found[2], inner)


# -- the readers, one for each language


def read_shell(text: str) -> None:
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if word.strip(";&|"):
                command.append(word)
            else:
                read_command(command)
                command = []


def read_command(words: list[str]) -> None:
    match words:
        case []:
            pass
        case ["triptych", *rest]:
            read_ours(rest)
        case ["export" | "unset", *names]:
            for name in (item.partition("=")[0] for item in names):
                assert name in SETTINGS or name.startswith("AWS_"), f"no such setting: {name}"
        case ["python", "-c", code, *_]:
            compile(code, "a command", "exec")
        case ["python", "-m", module, *_]:
            assert module == "pytest" or (ROOT / f"{module.replace('.', '/')}.py").is_file(), f"no module {module}"
        case ["pip" | "python", *rest]:
            for extra in re.findall(r"\[(.*?)\]", " ".join(rest)):
                assert set(extra.split(",")) <= EXTRAS, f"no such extra: {extra}"
            assert all((ROOT / name).is_file() for name in rest if name.endswith(".py")), rest
        case [program, *_] if program.startswith("./"):
            assert os.access(ROOT / program, os.X_OK), f"{program} cannot be run"
        case [program, *_]:
            assert program in OF_OTHERS, f"{program} is neither run, nor read, nor known here"


EXTRAS = frozenset(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"])


def read_ours(words: list[str]) -> None:
    """Let the command line's own parser read the words; a dead command, option or choice raises."""
    command: click.Command = cli
    names = ["triptych"]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"no command {words[0]}"
        command, names, words = found, [*names, words[0]], words[1:]
    try:
        command.make_context(" ".join(names), [*words])
    except click.exceptions.Exit:
        pass  # --help, --version
    except click.UsageError as error:
        raise AssertionError(f"{' '.join(names)}: {error.format_message()}") from None


def read_python(text: str) -> None:
    if text.startswith("PROVIDER = ") and text in (ROOT / "src/triptych/providers/novita.py").read_text("utf-8"):
        return  # the beginning of a declaration, as it stands in our source
    compile(text, "a block", "exec")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in tools.TOOLS:
            tool = tools.TOOLS[node.func.id]
            given = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
            schemas.read(tool.arguments, tool.name, given)


def read_configuration(document: Any) -> None:
    """Read a host's configuration; a document that is none of these is only parsed."""
    if not isinstance(document, dict):
        return
    for key in ("mcpServers", "servers", "mcp_servers", "context_servers", "mcp"):
        for server in document.get(key, {}).values():
            read_server(server)


def read_server(server: Mapping[str, Any]) -> None:
    assert set(server) <= SERVER_FIELDS, f"no host knows {set(server) - SERVER_FIELDS}"
    assert ("command" in server) != bool({"url", "httpUrl", "serverUrl"} & set(server)), "one of command and address"
    assert set(server.get("env", {})) <= SETTINGS
    if server.get("command", "").endswith("triptych"):
        read_ours(list(server.get("args", [])))


def read_csv(text: str) -> None:
    assert len({len(row) for row in csv.reader(text.splitlines())}) == 1


READERS: Mapping[str, Callable[[str], None]] = {
    "sh": read_shell,
    "python": read_python,
    "json": lambda text: read_configuration(json.loads(text)),
    "toml": lambda text: read_configuration(tomllib.loads(text)),
    "yaml": lambda text: yaml.safe_load(text),
    "csv": read_csv,
}


@pytest.mark.parametrize("block", list(blocks()), ids=str)
def test_each_block_of_code_can_be_used_as_it_stands(block: Block) -> None:
    if block.language not in FREE:
        assert block.language in READERS, f"say the block's language: one of {sorted([*READERS, *FREE])}"
        READERS[block.language](block.text)


def test_commands_within_a_sentence_and_their_options_exist() -> None:
    seen = 0
    for page in DOCUMENTS:
        for usage in re.findall(r"`triptych ([a-z][^`]*)`", page.read_text("utf-8")):
            command: click.Command = cli
            words = usage.replace("\\|", "|").split()
            while isinstance(command, click.Group) and words and re.match(r"[a-z]", words[0]):
                for name in words[0].split("|"):
                    found = command.get_command(click.Context(command), name)
                    assert found is not None, f"{page.name}: triptych {usage}"
                command, words = found, words[1:]
            known = {option for item in command.params for option in (*item.opts, *item.secondary_opts)}
            assert set(OPTIONS.findall(" ".join(words))) <= known | {"-h", "--help"}, f"{page.name}: triptych {usage}"
            seen += 1
    assert seen > 80


# -- the readers find what is wrong


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("sh", "triptych edit cup.jpg -p fog --sideways\n"),
        ("sh", "triptych polish cup.jpg\n"),
        ("sh", "triptych db vacuum\n"),
        ("sh", "triptych serve --transport carrier-pigeon\n"),
        ("sh", "cd deploy && triptych jobs --colour\n"),
        ("sh", "triptych edit \\\n    cup.jpg -n many -p fog\n"),
        ("sh", "export TRIPTYCH_BUGDET_USD=3\n"),
        ("sh", "python -c 'import sys;;'\n"),
        ("sh", "python -m benchmarks.nothing\n"),
        ("sh", "./scripts/nothing\n"),
        ("sh", "pip install 'triptych[everything]'\n"),
        ("sh", "frobnicate\n"),
        ("python", "edit_chain(images=['a.jpg'], step=['fog'])\n"),
        ("python", "edit_chain(images=['a.jpg'\n"),
        ("json", '{"mcpServers": {"triptych": {"command": "triptych", "arguments": []}}}'),
        ("json", '{"mcpServers": {"triptych": {"command": "triptych", "env": {"TRIPTYCH_KEY": ""}}}}'),
        ("json", '{"mcpServers": {"triptych": {"command": "triptych", "args": ["serv"]}}}'),
        ("json", '{"a": 1,}'),
        ("csv", "a,b\n1\n"),
    ],
)
def test_a_block_that_cannot_be_used_is_found(language: str, text: str) -> None:
    with pytest.raises((AssertionError, ValueError, SyntaxError, BadRequest)):
        READERS[language](text)
