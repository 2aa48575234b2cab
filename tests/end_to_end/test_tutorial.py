"""The tutorial, run from its first line to its last: what it shows is what comes."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from support import ROOT

TUTORIAL = ROOT / "docs" / "tutorial.md"
PATIENT = """
import sys
from triptych.cli import job_commands, main
job_commands.PATIENCE_S = job_commands.CHARGE_WITHIN_S = 100.0
main()
"""
"""The command, without lines of progress where it is slow, and waiting for a charge however late it is told."""
BLOCKS = re.compile(r"^```(sh|python|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
JOB = re.compile(r"job_[0-9a-f]{8}")


@dataclass
class Reader:
    """Somebody who types what the tutorial says, in an empty directory, and compares."""

    here: Path
    env: dict[str, str]
    jobs: dict[str, str] = field(default_factory=dict)
    """Ids in the tutorial, and those that came in their place."""
    children: list[subprocess.Popen[str]] = field(default_factory=list)
    said: str = ""
    base: str = ""
    """Where the emulator listens."""
    _new: set[str] = field(default_factory=set)

    def type(self, line: str) -> None:
        """Do what a line of a shell block does; `said` is what it said, and its exit code where that is not 0."""
        line, _, expected = self.here_of(line).partition("   # exit code ")
        match shlex.split(line):
            case ["cp", source, target]:
                shutil.copy(source.replace("/path/to/triptych", str(ROOT)), self.here / target)
            case ["export", *settings]:
                self.env |= dict(setting.split("=", 1) for setting in settings)
            case ["unset", *names]:
                for name in names:
                    del self.env[name]
            case ["triptych", "emulate", *rest]:
                self._emulate(rest)
            case ["triptych", *rest]:
                done = subprocess.run(
                    [sys.executable, "-c", PATIENT, *rest],
                    cwd=self.here, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT, text=True, encoding="utf-8", timeout=120, check=False,
                )  # fmt: skip
                self.said += done.stdout
                assert done.returncode == int(expected or 0), f"{line}: {done.returncode}\n{done.stdout}"
            case other:
                raise AssertionError(f"the tutorial has a command that is not run: {other}")

    def _emulate(self, rest: list[str]) -> None:
        """Start it on a port that is free, and let the address in the tutorial be its own."""
        rest[rest.index("--port") + 1] = "0"
        command = [sys.executable, "-m", "triptych", "emulate", *rest]
        child = subprocess.Popen(command, env=self.env, stderr=subprocess.PIPE, text=True, encoding="utf-8")
        self.children.append(child)
        assert child.stderr is not None
        self.said += child.stderr.readline() + child.stderr.readline()
        self.base = re.findall(r"http://127\.0\.0\.1:\d+", self.said)[0]

    def compare(self, shown: str) -> None:
        """Hold what was said against what the tutorial shows; "…" there is anything on its line, alone any lines."""
        shown = self.here_of(shown)
        said, self.said = self.said.replace("\\", "/"), ""
        lines = [
            r"(?:.*\n)*?" if line == "…" else ".*?".join(map(re.escape, line.split("…"))) + r"[ \t]*\n"
            for line in shown.splitlines()
        ]
        # An id that is seen for the first time is whatever came, and the same from then on.
        pattern = re.sub(JOB, lambda job: self._learning(job[0]), "".join(lines))
        found = re.fullmatch(pattern, said)
        assert found, f"shown:\n{shown}\nsaid:\n{said}"
        self.jobs |= found.groupdict()

    def _learning(self, job: str) -> str:
        if job in self.jobs.values():
            return job
        if job in self._new:
            return f"(?P={job})"
        self._new.add(job)
        return f"(?P<{job}>job_[0-9a-f]{{8}})"

    def here_of(self, text: str) -> str:
        """Return the tutorial's words as they are here: ids as they came, the emulator where it listens."""
        text = JOB.sub(lambda job: self.jobs.get(job[0], job[0]), text)
        return text.replace("http://127.0.0.1:8901", self.base) if self.base else text


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    kept = ("PATH", "HOME", "LANG", "SYSTEMROOT", "TEMP", "USERPROFILE")
    env = {name: os.environ[name] for name in kept if name in os.environ}
    (tmp_path / "here").mkdir()
    reader = Reader(tmp_path / "here", env | {"TRIPTYCH_HOME": str(tmp_path / "home"), "PYTHONUTF8": "1"})
    yield reader
    for child in reader.children:
        child.terminate()
        child.communicate(timeout=60)


def calls(block: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the tool calls of a block."""
    for statement in ast.parse(block).body:
        assert isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
        function = statement.value.func
        assert isinstance(function, ast.Name)
        yield function.id, {str(word.arg): ast.literal_eval(word.value) for word in statement.value.keywords}


@pytest.mark.slow
@pytest.mark.anyio
async def test_the_tutorial_shows_what_its_commands_print(reader: Reader) -> None:
    text = TUTORIAL.read_text("utf-8")
    ran = 0
    for language, block in BLOCKS.findall(text):
        if language == "text":
            reader.compare(block)
        elif language == "sh":
            for line in block.replace("\\\n", " ").splitlines():
                reader.type(line)
                ran += 1
        else:
            server = StdioServerParameters(
                command=sys.executable, args=["-m", "triptych"], env=reader.env, cwd=reader.here
            )
            async with Client(server) as client:
                for tool, given in calls(reader.here_of(block)):
                    result = await client.call_tool(tool, given)
                    while (fields := result.structured_content or {}).get("status") in ("queued", "running"):
                        result = await client.call_tool("get_status", {"job_id": fields["job_id"], "wait_s": 50})
                    reader.said += "".join(f"{b.text}\n" if b.type == "text" else "" for b in result.content)
                    reader.said += "(an image)\n" * sum(b.type == "image" for b in result.content)
                    assert not result.is_error, reader.said
                    ran += 1
    assert ran > 15 and not reader.said.strip()
    saved = {path.name for path in (reader.here / "calendar").iterdir()}
    assert len(saved) == 4 and all(name in text for name in saved)
