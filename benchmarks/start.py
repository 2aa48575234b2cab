"""How long a client waits for a new server, and how large that server is by then.

A server process is started over stdio and asked its first question; the clock stops at the answer. Triptych and a bare
server of the same SDK, without a single tool, take turns, so that whatever else the machine does happens to both. Each
era of the protocol has its own first question: `initialize`, and `server/discover` in 2026-07-28.

The peak memory is the kernel's VmHWM at that moment; where there is no /proc it is not measured.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.table import Row, at_most, main

ROUNDS = 7
LIMIT = 1.15
BARE = 'from mcp.server import MCPServer\n\nMCPServer("bare").run()\n'

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


@dataclass(frozen=True, slots=True)
class Started:
    """One start: seconds from spawn to the first answer and to the list of tools, and the peak memory between."""

    first_s: float
    listed_s: float
    peak_kib: int | None


def measure() -> list[Row]:
    """Return time and memory of the median of seven starts, for each era."""
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.py"
        bare.write_text(BARE, "utf-8")
        commands = {"bare": [sys.executable, str(bare)], "triptych": [sys.executable, "-m", "triptych"]}
        rows: list[Row] = []
        for method in FIRST:
            runs: dict[str, list[Started]] = {name: [] for name in commands}
            for n in range(ROUNDS + 1):
                for name, command in commands.items():
                    started = start(command, method, Path(folder) / f"{method.partition('/')[0]}{n}")
                    if n:  # the first round writes byte code and fills the file cache
                        runs[name].append(started)
            rows += _rows(method, runs)
    return rows


def _rows(method: str, runs: dict[str, list[Started]]) -> list[Row]:
    def median(name: str, field: str) -> float:
        return float(statistics.median(getattr(run, field) for run in runs[name]))

    rows = [
        at_most(
            f"start: spawn → `{method}` answered",
            median("triptych", "first_s") * 1000,
            median("bare", "first_s") * 1000,
            "ms",
            limit=LIMIT,
            name="bare server",
        )
    ]
    if all(run.peak_kib for started in runs.values() for run in started):
        rows.append(
            at_most(
                f"start: peak memory at `{method}`",
                median("triptych", "peak_kib") / 1024,
                median("bare", "peak_kib") / 1024,
                "MiB",
                limit=LIMIT,
                name="bare server",
                digits=1,
            )
        )
    else:
        rows.append(Row(f"start: peak memory at `{method}`", "not measured", target=f"≤ {LIMIT:g}×"))
    ours, theirs = median("triptych", "listed_s"), median("bare", "listed_s")
    rows.append(
        Row(
            f"start: spawn → `tools/list` answered after `{method}`",
            f"{ours * 1000:,.0f} ms",
            f"{theirs * 1000:,.0f} ms (bare server, no tools)",
            ours / theirs,
        )
    )
    return rows


def start(command: Sequence[str], method: str, home: Path) -> Started:
    """Start a server, ask the first question and for its tools, and end it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRIPTYCH_")}
    began = time.perf_counter()
    with subprocess.Popen(
        command,
        env={**kept, "TRIPTYCH_HOME": str(home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        _ask(process, method, FIRST[method])
        first_s = time.perf_counter() - began
        peak_kib = peak_memory_kib(process.pid)
        if method == "initialize":
            _say(process, {"jsonrpc": "2.0", "method": "notifications/initialized"})
        _ask(process, "tools/list", MODERN if FIRST[method] is MODERN else {})
        listed_s = time.perf_counter() - began
        assert process.stdin
        process.stdin.close()
        process.wait(timeout=30)
    return Started(first_s, listed_s, peak_kib)


def peak_memory_kib(pid: int) -> int | None:
    """Return the largest resident size a process has had, or None where the system does not tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii")
    except OSError:
        return None
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), None)


def _ask(process: subprocess.Popen[bytes], method: str, params: dict[str, Any]) -> None:
    _say(process, {"jsonrpc": "2.0", "id": method, "method": method, "params": params})
    assert process.stdout
    for line in process.stdout:
        answer = json.loads(line)
        if answer.get("id") == method:
            assert "result" in answer, answer
            return
    raise AssertionError(f"the server ended before it answered {method}")


def _say(process: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
    assert process.stdin
    process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()


if __name__ == "__main__":
    main(measure)
