"""Run a stdio server, and write down what its client sends: `python tee.py FOLDER COMMAND …`.

Each start makes one file in the folder, `N.jsonl`: the client's bytes as they came. `N.answers.jsonl` beside it has the
server's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import BinaryIO


def copy(source: int, *targets: BinaryIO) -> None:
    """Write what comes from the descriptor to each of the targets, at once."""
    while chunk := os.read(source, 1 << 16):
        for target in targets:
            target.write(chunk)
            target.flush()


def main() -> None:
    folder = Path(sys.argv[1])
    number = 0
    while True:
        try:
            said = (folder / f"{number:02}.jsonl").open("xb")
            break
        except FileExistsError:
            number += 1
    with (
        said,
        (folder / f"{number:02}.answers.jsonl").open("xb") as answered,
        subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server,
    ):
        signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        assert server.stdin and server.stdout
        threading.Thread(target=copy, args=(server.stdout.fileno(), answered, sys.stdout.buffer), daemon=True).start()
        copy(0, said, server.stdin)
        server.stdin.close()
        server.wait()


if __name__ == "__main__":
    main()
