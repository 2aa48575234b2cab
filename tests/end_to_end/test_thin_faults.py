"""The thin start in a process of its own, when the client, the system or the home does not behave."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.servers import environ
from support.systems import needs_signals
from support.wire import REAL, TRIPTYCH, Talk
from triptych.thin import snapshots

HANDSHAKE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "anyone", "version": "1"}}


def line(method: str, request_id: Any = None, **params: Any) -> bytes:
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if request_id is not None:
        message["id"] = request_id
    return json.dumps(message | ({"params": params} if params else {})).encode() + b"\n"


OPENING = line("initialize", 0, **HANDSHAKE) + line("notifications/initialized") + line("tools/list", 1)


def call(request_id: Any, name: str = "list_jobs", **arguments: Any) -> bytes:
    return line("tools/call", request_id, name=name, arguments=arguments)


def begun(home: Path, argv: tuple[str, ...] = TRIPTYCH, **env: str) -> Talk:
    """Return a server that has answered a client's opening."""
    talk = Talk(environ(home, TRIPTYCH_MODELS="builtin", **env), argv)
    talk.say(OPENING)
    assert [json.loads(answer)["id"] for answer in talk.hear(2)] == [0, 1]
    return talk


# -- the client ------------------------------------------------------------------------------------------------------


def test_calls_during_the_import_are_each_answered_once(tmp_path: Path, ordinary_start: object) -> None:
    talk = begun(tmp_path / "home")
    asked = range(2, 60)
    for n in asked:
        talk.say(call(n) if n % 2 else line("tools/list", n))
    answered = sorted(json.loads(answer)["id"] for answer in talk.hear(len(asked)))
    assert answered == list(asked)
    assert talk.end() == []


def test_stdin_closed_at_any_moment_ends_the_process_well(tmp_path: Path) -> None:
    said = OPENING + call(2) + line("resources/list", 3)
    for cut in (0, 1, 40, len(OPENING) - 1, len(OPENING), len(OPENING) + 5, len(said) - 1, len(said)):
        talk = Talk(environ(tmp_path / "home"))
        talk.say(said[:cut])
        found = [json.loads(answer) for answer in talk.end()]
        assert len({str(answer.get("id")) for answer in found}) == len(found), cut


def test_a_reader_who_leaves_ends_it_without_a_traceback(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, *TRIPTYCH],
        env=environ(tmp_path / "home"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin and process.stdout and process.stderr
    process.stdin.write(OPENING)
    process.stdin.flush()
    assert process.stdout.readline() and process.stdout.readline()
    process.stdout.close()
    process.stdin.write(line("tools/list", 2))
    process.stdin.close()
    process.wait(timeout=30)
    with process.stderr:
        assert process.stderr.read() == b""


# -- the system ------------------------------------------------------------------------------------------------------


@needs_signals
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_thin_session_well(tmp_path: Path, number: int) -> None:
    talk = begun(tmp_path / "home")
    talk.process.send_signal(number)
    assert talk.process.wait(timeout=30) == 0
    assert talk.end() == []


@needs_signals
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_import_ends_the_process_well(tmp_path: Path, ordinary_start: object, number: int) -> None:
    talk = begun(tmp_path / "home")
    talk.say(call(2))
    time.sleep(0.15)
    talk.process.send_signal(number)
    assert talk.process.wait(timeout=30) == 0
    talk.end()


def test_an_idle_session_has_loaded_the_standard_library_alone(tmp_path: Path) -> None:
    code = (
        "import sys; from triptych import thin; real = thin.sys.exit\n"
        "def leave(code): print(sorted({m.partition('.')[0] for m in sys.modules} - set(sys.stdlib_module_names)),"
        " file=sys.stderr); real(code)\n"
        "thin.sys.exit = leave\n"
        "from triptych.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{code}"],
        input=OPENING,
        capture_output=True,
        env=environ(tmp_path / "home"),
        timeout=60,
        check=True,
    )
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr.decode().strip() == "['__main__', 'triptych']"


# -- the home --------------------------------------------------------------------------------------------------------


def missing(home: Path) -> None:
    pass


def a_file(home: Path) -> None:
    home.write_text("not a folder")


def under_a_file(home: Path) -> None:
    home.parent.rmdir()
    home.parent.write_text("not a folder")


def broken(home: Path) -> None:
    home.mkdir()
    (home / "triptych.db").write_bytes(b"this is no database" * 400)


def empty(home: Path) -> None:
    home.mkdir()
    (home / "triptych.db").touch()


def newer(home: Path) -> None:
    home.mkdir()
    with sqlite3.connect(home / "triptych.db") as connection:
        connection.execute("CREATE TABLE one (x)")
        connection.execute("PRAGMA user_version = 9999")
        connection.execute("PRAGMA application_id = 9999")
    connection.close()


def a_folder(home: Path) -> None:
    (home / "triptych.db").mkdir(parents=True)


HOMES = (missing, a_file, under_a_file, broken, empty, newer, a_folder)
ASKED = (*OPENING.splitlines(keepends=True), line("resources/list", 2), call(3), line("resources/list", 4))


def replies(talk: Talk) -> tuple[list[Any], Any]:
    """Return the answers to each line of `ASKED`, said one by one, and how the process ended."""
    answers = []
    for asked in ASKED:
        talk.say(asked)
        answers += talk.hear(b'"id"' in asked)
    return answers, talk.end()


@pytest.mark.parametrize("make", HOMES, ids=lambda make: make.__name__)
def test_a_home_in_any_state_is_answered_alike(tmp_path: Path, make: Callable[[Path], None]) -> None:
    heard = []
    for argv in (TRIPTYCH, REAL):
        home = tmp_path / "of" / "home"  # the same path: messages name it
        if home.parent.is_file():
            home.parent.unlink()
        elif home.parent.exists():
            home.parent.rename(tmp_path / "before")
        home.parent.mkdir()
        make(home)
        heard.append(replies(Talk(environ(home, TRIPTYCH_MODELS="builtin"), argv)))
    assert heard[0] == heard[1]


BROKEN_SETTINGS: dict[str, dict[str, str]] = {
    "amount": {"TRIPTYCH_BUDGET_USD": "a lot"},
    "unknown": {"TRIPTYCH_BUDGET": "5"},
    "home": {"TRIPTYCH_HOME": "relative/home"},
    "dirs": {"TRIPTYCH_ALLOWED_DIRS": "relative"},
    "url": {"ATLASCLOUD_BASE_URL": "ftp://example"},
    "provider": {"TRIPTYCH_PROVIDER": "nobody"},
    "key": {"ATLASCLOUD_API_KEY": "two words\x7f"},
    "log": {"TRIPTYCH_LOG_LEVEL": "loud"},
    "database": {"TRIPTYCH_DATABASE_URL": "mysql://x"},
}


@pytest.mark.parametrize("name", BROKEN_SETTINGS)
def test_broken_settings_are_reported_alike(tmp_path: Path, name: str) -> None:
    env = environ(tmp_path / "home") | BROKEN_SETTINGS[name]
    thin, real = (replies(Talk(env, argv, cwd=tmp_path)) for argv in (TRIPTYCH, REAL))
    assert thin == real


SETTINGS: dict[str, dict[str, str]] = {
    "keys": {"ATLASCLOUD_API_KEY": "a-key", "ARK_API_KEY": "another", "TRIPTYCH_LINKS": "off"},
    "amounts": {"TRIPTYCH_BUDGET_USD": "5", "TRIPTYCH_CONFIRM_USD": "0.5", "TRIPTYCH_LOG_LEVEL": "ERROR"},
    "live": {"NOVITA_API_KEY": "a-key", "NOVITA_BASE_URL": "http://127.0.0.1:9/x", "TRIPTYCH_MODELS": "live"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_with_any_settings_all_lists_are_alike(tmp_path: Path, name: str) -> None:
    asked = [*OPENING.splitlines(keepends=True)]
    asked += [line(f"{kind}/list", n) for n, kind in enumerate(("prompts", "resources", "resources/templates"), 2)]
    heard = []
    for argv in (TRIPTYCH, REAL):
        talk = Talk(environ(tmp_path / "home") | SETTINGS[name], argv)
        talk.say(b"".join(asked))
        heard.append((sorted(talk.hear(5)), talk.end()))
    assert heard[0] == heard[1]


# -- the answers that were written down ------------------------------------------------------------------------------


def test_no_cut_and_no_changed_byte_makes_another_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Path(snapshots.PACKAGED).read_bytes()
    head = whole.index(b"\n")
    end = len(whole)
    damaged = [whole[:cut] for cut in (0, 1, head // 2, head, head + 1, end // 2, end - 40, end - 2)]
    damaged += [whole[:at] + b"X" + whole[at + 1 :] for at in (1, head + 30, end // 2, end - 40)]
    for spoilt in damaged:
        (tmp_path / "answers.txt").write_bytes(spoilt)
        monkeypatch.setattr(snapshots, "PACKAGED", str(tmp_path / "answers.txt"))
        assert snapshots.find(None) is None, len(spoilt)
