"""How long a person waits for a command that reads, and for an HTTP server that listens.

Each command is a process of its own, in turns with a bare interpreter that does nothing, so that whatever else the
machine does happens to both. The home has one finished job of four images. The time is that from the start of the
process to its end; of `serve`, to the address on stderr, in turns with the import of the SDK alone. The CPU time is the
kernel's: a busy machine changes it less than the time. Where the kernel does not tell it is 0.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

from benchmarks.table import Row, main

ROUNDS = 9
LIMIT_MS = 120.0
BARE = ("-c", "pass")
SDK = ("-c", "import mcp.server, uvicorn")
ENTRY = ("-m", "triptych")
SERVE = (*ENTRY, "serve", "--transport", "http", "--port", "0")


def measure() -> list[Row]:
    """Return the median time of each command, beside a bare interpreter."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRIPTYCH_")}
    with tempfile.TemporaryDirectory() as home:
        env = {**kept, "TRIPTYCH_HOME": home}
        job_id = _finished(env)
        commands = {
            "--help": (*ENTRY, "--help"),
            "jobs": (*ENTRY, "jobs"),
            "jobs --json": (*ENTRY, "jobs", "--json"),
            "status": (*ENTRY, "status", job_id),
            "bare": BARE,
            "sdk": SDK,
        }
        times_ms: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        listening_ms: list[float] = []
        for n in range(ROUNDS + 1):
            for name, command in commands.items():
                took_ms = _ended_ms(command, env)
                times_ms[name] += [took_ms] if n else []  # the first round writes byte code and fills the file cache
            listening_ms += [_listening_ms(env)][: min(n, 1)]
    medians_ms = {name: tuple(map(statistics.median, zip(*some, strict=True))) for name, some in times_ms.items()}
    bare_ms, (sdk_ms, _), serve_ms = medians_ms.pop("bare"), medians_ms.pop("sdk"), statistics.median(listening_ms)
    return [
        *(_row(name, took_ms, bare_ms) for name, took_ms in medians_ms.items()),
        Row(
            "start: `serve --transport http` → listening",
            f"{serve_ms:,.0f} ms",
            f"{sdk_ms:,.0f} ms (import of the SDK and uvicorn)",
            serve_ms / sdk_ms,
        ),
    ]


def _row(name: str, took_ms: tuple[float, ...], bare_ms: tuple[float, ...]) -> Row:
    ours, theirs = (f"{ms:,.0f} ms, {cpu_ms:,.0f} ms of CPU" for ms, cpu_ms in (took_ms, bare_ms))
    ms, ratio = took_ms[0], took_ms[0] / bare_ms[0]
    return Row(
        f"start: `triptych {name}`", ours, f"{theirs} (`python -c pass`)", ratio, f"< {LIMIT_MS:g} ms", ms < LIMIT_MS
    )


def _finished(env: Mapping[str, str]) -> str:
    """Return the id of a finished job of four images."""
    argv = [sys.executable, *ENTRY, "generate", "-p", "a lighthouse", "-n", "4", "--provider", "draft", "--json"]
    done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return str(json.loads(done.stdout)["job_id"])


def _ended_ms(command: Sequence[str], env: Mapping[str, str]) -> tuple[float, float]:
    """Return the time and the CPU time of a process from its start to its end."""
    began, cpu_began_s = time.perf_counter(), _cpu_of_children_s()
    subprocess.run([sys.executable, *command], env=env, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return (time.perf_counter() - began) * 1000, (_cpu_of_children_s() - cpu_began_s) * 1000


def _cpu_of_children_s() -> float:
    if sys.platform == "win32":
        return 0.0
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _listening_ms(env: Mapping[str, str]) -> float:
    """Return the time from the start of an HTTP server to its address on stderr."""
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *SERVE], env=env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        line = next((line for line in process.stderr if "http://" in line), "")
        took_ms = (time.perf_counter() - began) * 1000
        process.terminate()
        process.stderr.read()
    assert line, "the server ended before it listened"
    return took_ms


if __name__ == "__main__":
    main(measure)
