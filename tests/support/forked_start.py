"""Children of the tests that are Python programs start as forks of `fork_server.py`, which saves their imports.

`install` replaces `subprocess.Popen`, so that `subprocess.run`, anyio and the MCP SDK take part. A forked child is a
child of this process like any other: it has its own pid and exit code, and signals reach it. It differs from an
ordinary one in that its modules are imported already, and in the hash seed, which all forks of one server share.

The ordinary start remains: on systems other than Linux; while coverage is measured; for other programs and options of
the interpreter; in tests that use the fixture `ordinary_start`. Those prove that each transport, the command line, the
demo and the packages start and end by themselves, and what a kill leaves.
"""

from __future__ import annotations

import ctypes
import inspect
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support import ROOT

PROGRAM = Path(__file__).with_name("fork_server.py")
PYTHON = sys.executable  # a test may replace it
PR_SET_CHILD_SUBREAPER = 36
OrdinaryPopen = subprocess.Popen
NOT_FOLLOWED = {
    "executable": None,
    "preexec_fn": None,
    "close_fds": True,
    "pass_fds": (),
    "shell": False,
    "restore_signals": True,
    "gid": None,
    "gids": None,
    "uid": None,
    "umask": -1,
    "process_group": -1,
}
"""Arguments of `Popen` that a fork does not follow, with their defaults."""
PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
CHILDS_PIPES = ("p2cread", "c2pwrite", "errwrite")
INTERPRETERS_OWN = ("PYTHONHASHSEED", "PYTHONIOENCODING", "PYTHONUTF8", "PYTHONWARNINGS")
"""Variables that the interpreter reads when it starts."""


def adopt(orphans: bool) -> bool:
    """Let a child whose parent has ended belong to this process, not to init; return whether the system does that."""
    done: int = ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(orphans), 0, 0, 0)
    return done == 0


class ForkServer:
    """The process that forks; it starts with the first child and ends with `close`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: socket.socket | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def fork(self, request: Mapping[str, Any], streams: list[int]) -> int:
        """Return the pid of a new child of this process."""
        body = json.dumps(request).encode()
        with self._lock:
            requests = self._requests = self._requests or self._started()
            adopt(orphans=True)
            try:
                socket.send_fds(requests, [len(body).to_bytes(8, "big")], streams)
                requests.sendall(body)
                answer = requests.recv(8, socket.MSG_WAITALL)
            finally:
                adopt(orphans=False)
        if not answer:
            raise RuntimeError(f"{PROGRAM.name} has ended; its stderr says why.")
        return int.from_bytes(answer, "big")

    def _started(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = OrdinaryPopen(
                [PYTHON, str(PROGRAM), str(theirs.fileno())],
                env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        return ours

    def close(self) -> None:
        if self._requests and self.process:
            self._requests.close()
            self.process.wait()
        self._requests = self.process = None


class ForkedPopen(OrdinaryPopen[Any]):
    """A `Popen` whose Python programs are forks."""

    server: ForkServer

    def _execute_child(self, *given: Any, **named: Any) -> None:
        ordinary = super()._execute_child  # type: ignore[misc]
        arguments = inspect.signature(ordinary).bind(*given, **named).arguments
        request = request_for(arguments)
        if not request:
            ordinary(*given, **named)
            return
        streams = [arguments[pipe] if arguments[pipe] != -1 else fd for fd, pipe in enumerate(CHILDS_PIPES)]
        self.pid = self.server.fork(request, streams)
        self._child_created = True
        self._close_pipe_fds(*(arguments[pipe] for pipe in PIPES))  # type: ignore[attr-defined]


def request_for(arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the fork server is asked for, or None for a child that starts in the ordinary way."""
    args = arguments["args"]
    program, *argv = [os.fspath(arg) for arg in args] if isinstance(args, (list, tuple)) else [args]
    if program != PYTHON or not has_our_imports(argv):
        return None
    if any(arguments.get(name, default) != default for name, default in NOT_FOLLOWED.items()):
        return None
    env = os.environ if arguments["env"] is None else arguments["env"]
    env = {os.fsdecode(name): os.fsdecode(value) for name, value in env.items()}
    cwd = os.fspath(arguments["cwd"] or Path.cwd())
    if any(env.get(name) != os.environ.get(name) for name in INTERPRETERS_OWN) or not Path(cwd).is_dir():
        return None
    return {
        "argv": argv,
        "cwd": cwd,
        "env": env,
        "session": arguments["start_new_session"],
        "interrupts": signal.getsignal(signal.SIGINT) != signal.SIG_IGN,
    }


def has_our_imports(argv: list[str]) -> bool:
    """Return whether these arguments of the interpreter are for code of Triptych or of its tests."""
    match argv:
        case ["-m", "triptych" | "benchmarks.soak_child", *_] | ["-c", _, *_]:
            return True
        case [script, *_]:
            return Path(script).parent in (PROGRAM.parent, ROOT / "scripts")
    return False


def install() -> None:
    """Let children of this process be forks, where the system gives this process the children of another."""
    if sys.platform == "linux" and "coverage" not in sys.modules and adopt(orphans=False):
        ForkedPopen.server = ForkServer()
        subprocess.Popen = ForkedPopen  # type: ignore[misc]


def remove() -> None:
    """End the fork server, if there is one."""
    if issubclass(subprocess.Popen, ForkedPopen):
        subprocess.Popen = OrdinaryPopen  # type: ignore[misc]
        ForkedPopen.server.close()
