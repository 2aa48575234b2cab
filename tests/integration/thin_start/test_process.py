"""A `triptych` process that starts thin: what it imports, how it ends, and how it becomes the real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from support.clocks import until
from support.servers import SMALL, environ
from support.stored import open_store
from support.systems import needs_signals
from triptych import settings, thin
from triptych.core.models import Status
from triptych.jobs.job_creation import Request
from triptych.jobs.service import Terms, open_service
from triptych.thin import messages, pipe, session, snapshots
from triptych.thin.database import Unclear, Work
from triptych.thin.messages import Unknown

INFO = {"name": "a", "version": "1"}
OPENED = (
    {
        "id": 0,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": INFO},
    },
    {"method": "notifications/initialized"},
)
META = {messages.VERSION: "2026-07-28", messages.CLIENT: INFO, messages.CAPABILITIES: {}}
LISTS = ("tools/list", "prompts/list", "resources/templates/list", "resources/list")
EARLIER = (*OPENED, *({"id": n, "method": method} for n, method in enumerate(("ping", *LISTS), 1)))
MODERN = (
    *({"id": n, "method": method, "params": {"_meta": META}} for n, method in enumerate(("server/discover", *LISTS))),
    {
        "id": "l",
        "method": "subscriptions/listen",
        "params": {"_meta": META, "notifications": {"resourcesListChanged": True}},
    },
)

pytestmark = [
    pytest.mark.usefixtures("ordinary_start"),
    pytest.mark.skipif(snapshots.find(None) is None, reason="the package has no answers of the installed SDK"),
]


def lines(*said: dict[str, Any]) -> bytes:
    return b"".join(json.dumps({"jsonrpc": "2.0", **one}).encode() + b"\n" for one in said)


class Process:
    """A stdio server, and its client."""

    def __init__(self, home: Path, *options: str, **env: str) -> None:
        command = [sys.executable, *options, "-m", "triptych"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, env=environ(home, **env), **pipes)  # type: ignore[call-overload]

    def say(self, *said: dict[str, Any]) -> None:
        self.process.stdin.write(lines(*said))
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        return dict(json.loads(self.process.stdout.readline()))

    def ask(self, *said: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the answers to these messages; a stream is answered by its first notification."""
        self.say(*said)
        return [self.hear() for one in said if "id" in one]

    def end(self) -> tuple[int, bytes, bytes]:
        """Close stdin; return the exit code and what was still said."""
        said, error = self.process.communicate(timeout=60)
        return self.process.returncode, said, error


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def thin_process(home: Path) -> Iterator[Process]:
    started = Process(home)
    yield started
    started.process.kill()
    started.process.communicate()


def made(home: Path, *, worker: bool) -> str:
    """Make one image with the offline engine; without `worker` its job stays queued."""

    async def make() -> str:
        async with open_service(settings.read({"TRIPTYCH_HOME": str(home)}).setup, worker=worker) as service:
            terms = Terms(wait_s=60.0 if worker else 0.0)
            job = await service.make(Request("generate_sequence", ("a boat",), size=SMALL), terms)
            assert job.job_id and (job.status == "done") is worker
            return job.job_id

    return anyio.run(make)


def imported(home: Path, *said: dict[str, Any]) -> set[str]:
    """Return the modules that a process imports for a conversation."""
    started = Process(home, "-X", "importtime")
    started.ask(*said)
    code, _, errors = started.end()
    assert code == 0
    return {line.rpartition("|")[2].strip() for line in errors.decode().splitlines()}


@pytest.mark.parametrize("conversation", [EARLIER, MODERN], ids=["earlier", "modern"])
def test_an_idle_process_has_the_standard_library_alone(home: Path, conversation: tuple[dict[str, Any], ...]) -> None:
    made(home, worker=True)
    bare = subprocess.run([sys.executable, "-X", "importtime", "-c", ""], capture_output=True, check=True).stderr
    of_the_interpreter = {line.rpartition("|")[2].strip().split(".")[0] for line in bare.decode().splitlines()}
    found = imported(home, *conversation)
    foreign = {name.split(".")[0] for name in found} - sys.stdlib_module_names - of_the_interpreter
    assert foreign - {"imported package"} == {"triptych"}
    assert {name for name in found if name.startswith("triptych.")} == {
        "triptych.thin",
        *(f"triptych.thin.{name}" for name in ("database", "environment", "images", "messages", "pipe", "session")),
        "triptych.thin.snapshots",
    }
    assert not found & {"typing", "asyncio", "dataclasses", "pathlib", "logging", "argparse", "ssl", "socket"}


def test_an_idle_process_makes_no_file(home: Path, thin_process: Process) -> None:
    thin_process.ask(*EARLIER)
    assert thin_process.end() == (0, b"", b"")
    assert not home.exists()


def test_the_first_call_is_answered_by_the_real_server(home: Path, thin_process: Process) -> None:
    thin_process.ask(*EARLIER)
    call = {"id": 9, "method": "tools/call", "params": {"name": "list_jobs", "arguments": {}}}
    assert thin_process.ask(call)[0]["result"]["structuredContent"]["jobs"] == []
    assert thin_process.ask({"id": 9, "method": "ping"})[0] == {"jsonrpc": "2.0", "id": 9, "result": {}}
    assert thin_process.end()[:2] == (0, b"")
    assert (home / "triptych.db").exists()


def test_what_is_said_while_the_import_runs_is_answered(thin_process: Process) -> None:
    call = {"id": "c", "method": "tools/call", "params": {"name": "list_models", "arguments": {}}}
    pings = [{"id": n, "method": "ping"} for n in range(10, 400)]
    found = thin_process.ask(*OPENED, call, *pings)
    assert found[0]["id"] == 0
    assert {one["id"] for one in found[1:]} == {"c", *range(10, 400)}
    assert thin_process.end()[0] == 0


def test_a_stream_goes_on_in_the_real_server(thin_process: Process) -> None:
    assert thin_process.ask(*MODERN)[-1]["method"] == "notifications/subscriptions/acknowledged"
    arguments = {"prompt": "a boat", "size": SMALL}
    call = {"name": "generate_sequence", "arguments": arguments, "_meta": META}
    thin_process.say({"id": 9, "method": "tools/call", "params": call})
    heard = [thin_process.hear()]
    while len({one.get("id", one.get("method")) for one in heard}) < 2:
        heard.append(thin_process.hear())
    told = next(one for one in heard if "method" in one)
    assert told["method"] == "notifications/resources/list_changed"
    assert told["params"]["_meta"] == {"io.modelcontextprotocol/subscriptionId": "l"}
    code, said, _ = thin_process.end()
    assert code == 0 and [json.loads(line)["id"] for line in said.splitlines() if b'"id"' in line] == ["l"]


def test_unfinished_work_wakes_an_unused_process(home: Path) -> None:
    job_id = made(home, worker=False)
    started = Process(home)
    with closing(open_store(home / "triptych.db", home / "images")) as store:

        def is_done() -> bool:
            job = store.job(job_id)
            return job is not None and job.status is Status.DONE

        until(is_done)
    assert started.ask(*OPENED, {"id": 1, "method": "ping"})[-1]["result"] == {}
    assert started.end()[0] == 0


@needs_signals
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("said", [(), EARLIER])
def test_a_signal_ends_an_idle_process_with_0(
    thin_process: Process, number: int, said: tuple[dict[str, Any], ...]
) -> None:
    thin_process.ask(*OPENED, *said[2:])
    thin_process.process.send_signal(number)
    assert thin_process.end() == (0, b"", b"")


@needs_signals
def test_a_signal_during_the_import_ends_the_process_with_0(thin_process: Process) -> None:
    thin_process.ask(*OPENED)
    thin_process.say({"id": 1, "method": "tools/call", "params": {"name": "list_jobs", "arguments": {}}})
    thin_process.process.send_signal(signal.SIGTERM)
    code, _, errors = thin_process.end()
    assert code == 0 and b"Traceback" not in errors


def test_nobody_reads_stdin_behind_the_real_server(thin_process: Process, home: Path) -> None:
    call = {"id": 1, "method": "tools/call", "params": {"name": "list_jobs", "arguments": {}}}
    thin_process.ask(*OPENED, call)
    if sys.platform == "linux":
        assert Path(f"/proc/{thin_process.process.pid}/fd/0").readlink() == Path(os.devnull)
    assert thin_process.end()[0] == 0


NEWER_SDK = """
import sys
from triptych import __version__
from triptych.thin import snapshots
versions = {"triptych": __version__, **dict.fromkeys(snapshots.VERSIONED, "99.0")}
snapshots.installed = lambda path: versions
if sys.argv[1] == "first":
    from triptych.server import transports
    transports.KEEP_AFTER_S = 0.0
from triptych.__main__ import main
del sys.argv[1]
try:
    main()
finally:
    print("triptych.server" in sys.modules, file=sys.stderr)
"""


def test_with_a_newer_sdk_the_second_start_is_thin(home: Path) -> None:
    home.mkdir()
    real = []
    for start in ("first", "second"):
        command = [sys.executable, "-c", NEWER_SDK, start]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, env=environ(home), **pipes)  # type: ignore[call-overload]
        process.stdin.write(lines(*OPENED))
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["result"]["serverInfo"]["name"] == "triptych"
        until((home / snapshots.NAME).exists)
        real.append(process.communicate(timeout=60)[1].decode().split())
    assert real == [["True"], ["False"]]


# -- the loop, with the clock in hand ----------------------------------------------------------------------------------


class Rows:
    """A database that answers as it is told."""

    def __init__(self) -> None:
        self.work = self.overdue = self.broken = False
        self.looks: list[str] = []

    def has_work(self) -> bool:
        return self._look("work", self.work)

    def has_overdue_work(self) -> bool:
        return self._look("overdue", self.overdue)

    def images(self) -> list[str]:
        return []

    def _look(self, name: str, found: bool) -> bool:
        self.looks.append(name)
        if self.broken:
            raise Unclear
        return found


class Loop:
    """The loop on a pipe, whose clock jumps to the next look at each look; the client leaves after so many."""

    def __init__(self, looks: int = 3) -> None:
        read, self.client = os.pipe()
        self.rows, self.pipe, self.now, self._left = Rows(), pipe.Pipe(read), 0.0, looks
        self.pipe.start()
        snapshot = snapshots.Snapshot(Path(snapshots.PACKAGED).read_bytes())
        self.session = session.Session(snapshot, self.rows.images)

    def run(self) -> None:
        thin.serve(self.session, self.pipe, self.rows, self._clock)

    def _clock(self) -> float:
        self.now += 20.0  # past the next look, so that nothing waits
        if len(self.rows.looks) == self._left:
            self._left = -1
            os.close(self.client)
        return self.now if self._left >= 0 else 0.0


def test_the_database_is_looked_at_again_and_again() -> None:
    loop = Loop(looks=4)
    loop.run()
    assert loop.rows.looks == ["work", "overdue", "overdue", "overdue"]


@pytest.mark.parametrize("field", ["work", "overdue", "broken"])
def test_work_and_a_database_that_cannot_be_read_wake(field: str) -> None:
    loop = Loop(looks=9)
    setattr(loop.rows, field, True)
    with pytest.raises(Unknown) as woken:
        loop.run()
    assert len(loop.rows.looks) <= 2
    assert isinstance(woken.value, Unclear if field == "broken" else Work)
