"""Children that start as forks are what ordinary children are, and cheaper."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support import forked_start
from support.forked_start import ForkedPopen

pytestmark = pytest.mark.skipif(
    not issubclass(subprocess.Popen, ForkedPopen), reason="children start in the ordinary way here"
)

TELL = """
import json, os, random, sys, threading
json.dump({
    "pid": os.getpid(), "parent": os.getppid(), "session": os.getsid(0), "argv": sys.argv, "cwd": os.getcwd(),
    "env": dict(os.environ), "path": sys.path, "heard": sys.stdin.read(), "random": random.random(),
    "threads": threading.active_count(), "open": len(os.listdir("/proc/self/fd")),
    "imported": "triptych.server.transports" in sys.modules,
}, sys.stdout)
"""


def told(*argv: str, **options: Any) -> dict[str, Any]:
    command = [sys.executable, "-c", TELL, *argv]
    done = subprocess.run(command, capture_output=True, text=True, check=True, input="é", **options)
    assert done.stderr == ""
    return dict(json.loads(done.stdout))


def test_a_fork_has_its_imports_and_no_thread_or_file() -> None:
    child = told()
    assert child["imported"]
    assert child["threads"] == 1
    assert child["open"] == 4, "its streams, and the directory that it reads"


def test_a_fork_is_a_child_of_its_caller() -> None:
    with subprocess.Popen([sys.executable, "-c", "import os; print(os.getppid(), os.getpid())"], stdout=-1) as child:
        assert child.stdout and child.stdout.read().split() == [str(os.getpid()).encode(), str(child.pid).encode()]
    assert child.returncode == 0


def test_a_fork_is_told_what_an_ordinary_child_is(tmp_path: Path, ordinary_start: Any) -> None:
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "lib"), "UMLAUT": "ä\udc80"}
    ordinary = told("one", "two", cwd=tmp_path, env=env)
    ordinary_start.undo()
    fork = told("one", "two", cwd=tmp_path, env=env)
    own = ("pid", "random", "imported")
    assert not ordinary["imported"] and fork["imported"]
    assert {k: v for k, v in fork.items() if k not in own} == {k: v for k, v in ordinary.items() if k not in own}
    assert fork["random"] != told()["random"]


@pytest.mark.parametrize("own", [True, False])
def test_a_fork_begins_a_session_if_asked_to(own: bool) -> None:
    child = told(start_new_session=own)
    assert child["session"] == (child["pid"] if own else os.getsid(0))


@pytest.mark.parametrize(
    ("code", "status"), [("", 0), ("raise SystemExit(3)", 3), ("import os; os._exit(4)", 4), ("1 / 0", 1)]
)
def test_a_fork_ends_with_its_own_exit_code(code: str, status: int) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == status
    assert (b"ZeroDivisionError" in done.stderr) is (code == "1 / 0")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGINT"])
def test_a_signal_ends_the_fork_itself(name: str) -> None:
    number = signal.Signals[name]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = "import time; print('here', flush=True); time.sleep(600)"
        with subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1) as child:
            assert child.stdout and child.stdout.readline() == b"here\n"
            child.send_signal(number)
    finally:
        signal.signal(signal.SIGINT, before)
    assert child.returncode == -number


@pytest.mark.parametrize(
    "argv", [["-X", "utf8", "-c", ""], ["-m", "pip"], ["other.py"], []], ids=["option", "module", "script", "none"]
)
def test_other_programs_start_in_the_ordinary_way(argv: list[str]) -> None:
    assert not forked_start.has_our_imports(argv)
