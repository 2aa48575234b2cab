"""How MCP clients of other authors use Triptych: each drives it over stdio and HTTP, from upload to save.

    python -m benchmarks.clients [--only NAME …] [--transport stdio|http] [--at-once N]
                                 [--log FOLDER] [--write]

`client_list` has the clients with their versions, and installs them into `.clients/`. Atlas Cloud's emulator takes
`LATENCY_S` for an image. A client's own program (`drivers/`) talks to a stand-in for its model's API (`model_api`),
behind which a script is the assistant (`assistant`); so what is counted is what the client's own code hands to a model.
A client that cannot be installed, fails or hangs is a row with its exception.

A driver gets one JSON object as its first argument: `url` of the server, or "" and then `command`, `env` and `cwd` to
start it with; `api`, the root of the stand-in; `packages`, the folder that Node packages are in. It lets its client's
agent run on any prompt until the agent says its last words, and ends with 0. A client that has no agent asks `raw` for
its calls.

Columns: calls that the assistant made (6 is the fewest), and how many of them showed no result; paid requests that
reached the provider (3 are right); characters of all results in the model's context, and of the tools' descriptions;
whether the model saw the picture of `view_images` as a picture; of the four images made, how many the model knows the
URL of, and the path. `--log` keeps what each model saw and what each client said; `--write` puts the table into
docs/hosts.md.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import triptych
from benchmarks import assistant, model_api
from benchmarks.client_list import CLIENTS, CannotInstall, Client, installed, node, python
from triptych_emulators import running

LATENCY_S = 6.0
MAX_SIDE = 512
RUN_LIMIT_S = 300

ROOT = Path(__file__).parents[1]
DRIVERS = Path(__file__).parent / "drivers"
PAGE = ROOT / "docs/hosts.md"
SAMPLE = Path(triptych.__file__).parent / "samples" / "cat.jpg"
MARKS = ("<!-- clients: begin -->", "<!-- clients: end -->")
COMMAND = [sys.executable, "-m", "triptych"]
TRANSPORTS = ("stdio", "http")
EXCEPTION = re.compile(r"^(\w+\.)*\w*(Error|Exception|Timeout|Group)\b.*:")
WRONG = re.compile(r"error|exception|timed? ?out|required|refused|invalid|must", re.IGNORECASE)
MOST_TOLD = 4
JOB = r"job_[0-9a-f]{8}"
SHOWN = {"upload_images": r"img_[0-9a-f]{8}", "save_images": r"variant-\d", "view_images": ""}
"""What a result shows at the least; of all other tools, the job."""
ALONE = {
    "DO_NOT_TRACK": "1",
    "MCP_USE_ANONYMIZED_TELEMETRY": "false",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost",
    "PYTHONUTF8": "1",
}
"""What keeps a client's telemetry and updates on this machine."""


@dataclass(slots=True)
class Outcome:
    """What a run showed."""

    client: Client
    transport: str
    log: list[str] = field(default_factory=list)
    paid: int = 0
    calls: int = 0
    lost: int = 0
    """Calls whose result the model did not see: a timeout, or an exception of the client."""
    chars: int = 0
    tools_chars: int = 0
    picture: str = "no"
    urls: int = 0
    paths: int = 0
    images: int = 0
    pictures_by_url: int = 0
    seconds: float = 0.0
    finished: bool = False
    trouble: list[str] = field(default_factory=list)


# -- one run -----------------------------------------------------------------------------------------------------------


def drive(client: Client, transport: str) -> Outcome:
    """Let a client do the whole work once; whatever goes wrong is in the outcome."""
    outcome = Outcome(client, transport)
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
            _drive(outcome, Path(home))
    except Exception as error:
        outcome.trouble.append(f"{type(error).__name__}: {error}")
    outcome.trouble = [line.replace(home, "…").replace(str(ROOT), "…") for line in outcome.trouble]
    outcome.seconds = time.monotonic() - began
    return outcome


def _drive(outcome: Outcome, home: Path) -> None:
    client = outcome.client
    photo, folder = home / "work/photo.jpg", home / "work/saved"
    folder.mkdir(parents=True)
    shutil.copy(SAMPLE, photo)
    with running("atlas", latency_s=LATENCY_S, max_side=MAX_SIDE) as api:
        env = environ(home) | {
            "ATLASCLOUD_API_KEY": api.key or "",
            "ATLASCLOUD_BASE_URL": api.base_url,
            "TRIPTYCH_HOME": str(home / "triptych"),
            "TRIPTYCH_ALLOWED_DIRS": str(photo.parent),
        }
        script = assistant.Assistant(str(photo), str(folder))
        with served(outcome.transport, env, photo.parent) as url, model_api.serving(script) as (model_url, model):
            setup = {
                "url": url,
                "command": COMMAND,
                "env": env,
                "cwd": str(photo.parent),
                "api": model_url,
                "packages": str(client.folder),
            }
            said = run(outcome, setup, home)
        outcome.paid = len(api.accepted)
        outcome.trouble += [f"asked {path} of the model's API" for path in dict.fromkeys(model.refused)]
        outcome.tools_chars = model.tools_chars
        outcome.trouble += said
        judge(outcome, script, env)


def environ(home: Path) -> dict[str, str]:
    """Return an environment in which everything is new."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TEMP", "LANG") if name in os.environ}
    return kept | {"HOME": str(home), "USERPROFILE": str(home)}


@contextlib.contextmanager
def served(transport: str, env: dict[str, str], cwd: Path) -> Iterator[str]:
    """Yield the URL of a server over HTTP, or "" where the client starts one over stdio."""
    if transport == "stdio":
        yield ""
        return
    command = [sys.executable, "-m", "triptych", "serve", "--transport", "http", "--port", "0"]
    server = subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert server.stderr
    try:
        line = next((line for line in server.stderr if "is listening on" in line), "")
        # Without a reader a full pipe would stop the server.
        threading.Thread(target=server.stderr.read, daemon=True).start()
        if not line:
            raise RuntimeError("triptych serve ended before it listened")
        yield line.split()[-1]
    finally:
        end(server)


def end(process: subprocess.Popen[Any]) -> None:
    """Ask a process to end, and make it end if it does not."""
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run(outcome: Outcome, setup: dict[str, Any], home: Path) -> list[str]:
    """Run the client's driver to its end; return its exceptions, one a line."""
    client = outcome.client
    program = node() if client.is_node else str(python(client.folder))
    command = [program, str(DRIVERS / client.driver), json.dumps(setup), *client.arguments]
    with (home / "stderr.txt").open("w+b") as stderr:
        process = subprocess.Popen(
            command,
            env=environ(home) | ALONE,
            cwd=setup["cwd"],
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
        )
        try:
            code: int | None = process.wait(timeout=RUN_LIMIT_S)
        except subprocess.TimeoutExpired:
            end(process)
            code = None
        stderr.seek(0)
        said = stderr.read().decode(errors="replace")
    outcome.log.append(said)
    found = [line.strip(" |+-") for line in said.splitlines() if EXCEPTION.match(line.strip(" |+-"))]
    ended = [] if code == 0 else [f"no end in {RUN_LIMIT_S} s" if code is None else f"exit status {code}"]
    return ended + list(dict.fromkeys(found))


def judge(outcome: Outcome, script: assistant.Assistant, env: dict[str, str]) -> None:
    """Fill the outcome from what the model saw."""
    shown = [exchange for exchange in script.exchanges if exchange.seen is not None]
    outcome.calls = len(script.exchanges)
    outcome.finished = script.finished
    texts = []
    for exchange in shown:
        seen = exchange.seen
        assert seen
        outcome.chars += len(seen.text)
        text = seen.plain()
        texts.append(text)
        outcome.log += [f"\n{exchange.call.tool} {exchange.call.arguments} after {exchange.seconds:.1f} s:", seen.text]
        if exchange.call.tool == "view_images":
            outcome.picture = "yes" if seen.pictures else "no"
            if seen.base64_chars():
                outcome.picture += f", and {seen.base64_chars():,} characters of base64"
        elif seen.base64_chars():
            outcome.trouble.append(f"{exchange.call.tool}: {seen.base64_chars():,} characters of base64")
        outcome.pictures_by_url += len(seen.linked)
        if not re.search(SHOWN.get(exchange.call.tool, JOB), text):
            outcome.lost += 1
            told_of = next((line for line in text.splitlines() if len(line) > 12 and WRONG.search(line)), text[-160:])
            outcome.trouble.append(f"{exchange.call.tool} after {exchange.seconds:.0f} s: {told_of[:160]!r}")
    if script.gave_up:
        outcome.trouble.append(script.gave_up)
    everything = "\n".join(texts)
    for job in set(re.findall(JOB, everything)):
        for image in truth(job, env):
            outcome.images += 1
            outcome.urls += (image["url"] or "?") in everything
            outcome.paths += (image["path"] or "?") in everything


def truth(job: str, env: dict[str, str]) -> list[dict[str, Any]]:
    """Return a job's images as our own command tells them."""
    command = [sys.executable, "-m", "triptych", "status", job, "--json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, encoding="utf-8", timeout=60, check=False)
    images: list[dict[str, Any]] = json.loads(done.stdout)["images"]
    return images


# -- the table ---------------------------------------------------------------------------------------------------------

HEAD = (
    "client",
    "model's API",
    "transport",
    "calls",
    "paid",
    "characters",
    "tools",
    "picture",
    "URLs",
    "paths",
    "exceptions",
)


def cells(outcome: Outcome) -> tuple[str, ...]:
    """Return a row."""
    head = (outcome.client.title, outcome.client.model, outcome.transport)
    if not outcome.calls:
        return (*head, "0", f"{outcome.paid}", "", "", "", "", "", told(outcome))
    return (
        *head,
        f"{outcome.calls}" + (f", {outcome.lost} lost" if outcome.lost else ""),
        f"{outcome.paid}",
        f"{outcome.chars:,}",
        f"{outcome.tools_chars:,}",
        outcome.picture,
        f"{outcome.urls} of {outcome.images}",
        f"{outcome.paths} of {outcome.images}",
        told(outcome),
    )


def told(outcome: Outcome) -> str:
    """Return what went wrong, in a cell."""
    said = list(outcome.trouble)
    if outcome.pictures_by_url:
        said.append(f"{outcome.pictures_by_url} links handed to the model's API as pictures")
    if not outcome.finished and not said:
        said.append("not finished")
    counted = {line: said.count(line) for line in said}
    lines = [f"{times} × {line}" if times > 1 else line for line, times in counted.items()]
    rest = [f"and {len(lines) - MOST_TOLD} more"] if len(lines) > MOST_TOLD else []
    short = [re.sub(r"\s+", " ", line).replace("|", "\\|")[:300] for line in lines[:MOST_TOLD]]
    return "; ".join(short + rest) or "none"


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the table in Markdown."""
    rows = [HEAD, tuple("---" for _ in HEAD), *(cells(outcome) for outcome in outcomes)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    """Install, drive and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME", help="a client by the beginning of its name")
    parser.add_argument("--transport", choices=TRANSPORTS)
    parser.add_argument("--write", action="store_true", help="put the table into docs/hosts.md")
    parser.add_argument("--log", type=Path, metavar="FOLDER", help="keep what each model saw and each client said")
    parser.add_argument("--at-once", type=int, default=2, metavar="N", help="runs side by side; 2 by default")
    asked = parser.parse_args()
    if asked.write and (asked.only or asked.transport):
        parser.error("--write needs all clients over both transports; leave out --only and --transport")
    chosen = [client for client in CLIENTS if not asked.only or client.name.startswith(tuple(asked.only))]
    transports = [asked.transport] if asked.transport else list(TRANSPORTS)
    outcomes: dict[tuple[str, str], Outcome] = {}
    pool = ThreadPoolExecutor(asked.at_once)
    try:
        for client in chosen:
            try:
                installed(client)
            except CannotInstall as error:
                for transport in transports:
                    outcomes[client.name, transport] = Outcome(client, transport, trouble=[str(error)])
        waiting = [
            pool.submit(drive, client, transport)
            for client in chosen
            for transport in transports
            if (client.name, transport) not in outcomes
        ]
        for future in waiting:
            outcome = future.result()
            outcomes[outcome.client.name, outcome.transport] = outcome
            print(f"{outcome.seconds:3.0f} s  " + "  ".join(cells(outcome)), file=sys.stderr, flush=True)
            if asked.log:
                keep(outcome, asked.log)
    finally:
        pool.shutdown(cancel_futures=True)
    text = table([outcomes[client.name, transport] for client in chosen for transport in transports])
    print(text)
    if asked.write:
        write(text)


def keep(outcome: Outcome, folder: Path) -> None:
    """Write what the client said, and what its model saw, into a file of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "-", f"{outcome.client.name}-{outcome.transport}") + ".txt"
    (folder / name).write_text("\n".join(outcome.log), "utf-8")


def write(text: str) -> None:
    """Put the table, its day and the versions between the marks of docs/hosts.md."""
    page = PAGE.read_text("utf-8")
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    head = f"Run on {day}; an image takes the emulator {LATENCY_S:g} s."
    PAGE.write_text(f"{before}{MARKS[0]}\n{head}\n\n{text}\n{MARKS[1]}{after}", "utf-8", newline="\n")


if __name__ == "__main__":
    main()
