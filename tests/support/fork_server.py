"""A process that imports what servers import, and forks each child that `forked_start` asks for.

    python fork_server.py FD

FD is a Unix socket. A request is the length of a JSON object in eight bytes, with the child's stdin, stdout and stderr
beside them, then the object: `argv` (the interpreter's arguments), `cwd`, `env`, `session` (whether the child begins a
session) and `interrupts` (whether SIGINT reaches it). The answer is the child's pid in eight bytes. The child has no
parent here: the process in between ends before the answer, so the child belongs to the process that asked.

The imports start no thread and no event loop, open no database and read no variable that a test sets.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import runpy
import signal
import socket
import sys
import time
import types
from pathlib import Path
from typing import Any

PRELOADED = (
    "triptych.cli.commands",
    "triptych.cli.read_commands",
    "triptych.server.transports",
    "triptych.server.http",
    "triptych.jobs.service",
    "triptych_emulators",
    # What a server imports when it is first used.
    "anyio._backends._asyncio",
    "jsonschema",
    "triptych.images.cleaning",
    "triptych.images.metadata",
    "triptych.providers.preview.engine",
    "triptych.providers.preview.scene_painter",
    "triptych.server.confirmation",
    "PIL.ImageCms",
)


def preload() -> None:
    gc.disable()
    for name in PRELOADED:
        importlib.import_module(name)
    from PIL import Image

    from triptych import providers
    from triptych.providers.preview import scene_painter
    from triptych.server import tools

    tools.listing()
    scene_painter.PAINT_SIDE_PX = 400  # as in `machine.paint_small_scenes`
    Image.init()
    for name in providers.names():
        providers.load(name)
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page that holds an object
    gc.enable()


def next_child(requests: socket.socket) -> dict[str, Any]:
    """Serve requests; return, in each child, its own request. The process ends when the other end is closed."""
    while True:
        size, streams, _, _ = socket.recv_fds(requests, 8, 3)
        if not size:
            os._exit(0)
        request = json.loads(requests.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL))
        receiver, sender = os.pipe()
        between = os.fork()
        if between == 0:
            between = os.getpid()
            if os.fork():
                os._exit(0)
            if request.pop("session"):
                os.setsid()  # before the caller knows the pid, and can signal the whole group
            os.write(sender, os.getpid().to_bytes(8, "big"))
            for fd in (receiver, sender):
                os.close(fd)
            requests.close()
            take_streams(streams)
            while os.getppid() == between:
                time.sleep(0.001)
            return dict(request)
        os.close(sender)
        os.waitpid(between, 0)
        requests.sendall(os.read(receiver, 8))
        for fd in (receiver, *streams):
            os.close(fd)


def take_streams(streams: list[int]) -> None:
    for fd, stream in enumerate(streams):
        os.dup2(stream, fd)
        os.close(stream)
    stdin, stdout, stderr = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = os.fdopen(0, encoding=stdin.encoding, errors=stdin.errors, closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding=stdout.encoding, errors=stdout.errors, closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, encoding=stderr.encoding, errors=stderr.errors, closefd=False)


def become(argv: list[str], cwd: str, env: dict[str, str], interrupts: bool) -> None:
    """Make this process what a fresh interpreter with these arguments would be, and run its program."""
    signal.signal(signal.SIGINT, signal.default_int_handler if interrupts else signal.SIG_IGN)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    random.seed()
    if env.get("PYTHONPATH"):
        sys.path[:0] = env["PYTHONPATH"].split(os.pathsep)
    kind, *rest = argv
    if kind == "-c":
        code, *rest = rest
        sys.argv = ["-c", *rest]
        sys.path.insert(0, "")
        program = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(code, "<string>", "exec"), program.__dict__)
    elif kind == "-m":
        sys.argv = rest
        sys.path.insert(0, cwd)
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = argv
        sys.path.insert(0, str(Path(kind).parent))
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    del sys.path[0]
    preload()
    become(**next_child(socket.socket(fileno=int(sys.argv[1]))))
