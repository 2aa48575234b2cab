"""What the command line writes to a pipe whose encoding is small, as on Windows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.systems import child_environment

WORDS = "東京の夜 – „quiet“ ✓"


def written(encoding: str, home: Path, *argv: str) -> bytes:
    env = child_environment(TRIPTYCH_HOME=str(home), PYTHONIOENCODING=encoding)
    command = [sys.executable, "-m", "triptych", *argv]
    done = subprocess.run(command, env=env, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode(encoding, "replace")
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    written("utf-8", home, "generate", "-p", WORDS, "--size", "400x300")
    return home


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "cp932"])
def test_json_keeps_every_letter_in_any_encoding(encoding: str, home: Path) -> None:
    jobs = json.loads(written(encoding, home, "jobs", "--json").decode(encoding))
    assert jobs["jobs"][0]["prompt"] == WORDS


def test_text_in_a_small_encoding_loses_letters_and_not_the_command(home: Path) -> None:
    said = written("cp1252", home, "doctor", "--offline").decode("cp1252")
    assert "? versions: triptych" in said and "All is well." in said
