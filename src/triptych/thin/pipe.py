"""The client's side of the pipe: a thread reads stdin from the start, and no byte is lost.

The thin start takes whole lines. After it the real server reads a `HandedOver`: first the answered lines that it must
know, then every byte that is not answered.
"""

from __future__ import annotations

import io
import os
import queue
import threading
import time

from triptych.thin.messages import LONGEST_LINE_BYTES, RequestId

TYPE_CHECKING = False  # importing `typing` costs a start
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from triptych.thin.session import Replayed

CHUNK_BYTES = 65_536
MOST_CHUNKS = 16
"""More than that waits in the pipe, and then the client waits, as with the real server."""
REPLAY_LIMIT_S = 30.0


class Pipe:
    """Bytes that a thread reads from a file descriptor; `b""` is the end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._chunks: queue.Queue[bytes] = queue.Queue(MOST_CHUNKS)
        self._read = b""
        self.ended = False

    def start(self) -> None:
        """Begin to read."""
        threading.Thread(target=self._run, name="stdin", daemon=True).start()

    def _run(self) -> None:
        chunk = b"\n"
        while chunk:
            try:
                chunk = os.read(self._fd, CHUNK_BYTES)
            except OSError:
                chunk = b""
            self._chunks.put(chunk)

    def line(self, until: float, now: Callable[[], float] = time.monotonic) -> bytes | None:
        """Return the next line with its newline; None at `until`, or at the end of the pipe (`ended`).

        A line that is longer than `LONGEST_LINE_BYTES`, or that the end cuts off, is returned without a newline.
        """
        while not self.ended and b"\n" not in self._read and len(self._read) <= LONGEST_LINE_BYTES:
            try:
                chunk = self._chunks.get(timeout=max(until - now(), 0.0))
            except queue.Empty:
                return None
            if not chunk:
                self.ended = True
                break
            self._read += chunk
        if not self._read:
            return None
        line, newline, rest = self._read.partition(b"\n")
        self._read = rest
        return line + newline

    def unread(self, line: bytes) -> None:
        """Put a line back: it is the next one again."""
        self._read = line + self._read

    def take(self) -> bytes:
        """Return some bytes, waiting for them; `b""` at the end."""
        found, self._read = self._read, b""
        if not found and not self.ended:
            found = self._chunks.get()
            self.ended = not found
        return found


class HandedOver(io.RawIOBase):
    """The stdin of the real server after a thin start.

    It gives one of the `replayed` lines at a time, and goes on once the server has answered that line. The client has
    that answer already: `drops` recognizes it among the server's messages. `has_work`: work in the database ended the
    thin start, not a message.
    """

    def __init__(self, pipe: Pipe, replayed: Sequence[Replayed], has_work: bool = False) -> None:
        super().__init__()
        self.has_work = has_work
        self._pipe = pipe
        self._replayed = list(replayed)
        self._awaited: RequestId | None = None
        self._answered = threading.Event()
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer as far as there are bytes; 0 is the end of the pipe."""
        if not self._rest:
            self._rest = self._next()
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _next(self) -> bytes:
        if self._awaited is not None:
            self._answered.wait(REPLAY_LIMIT_S)
            self._awaited = None
            self._answered.clear()
        if not self._replayed:
            return self._pipe.take()
        line, self._awaited = self._replayed.pop(0)
        return line

    def drops(self, request_id: RequestId | None) -> bool:
        """Return whether the client has an answer to this request already. This is so once for each replayed line."""
        if self._awaited is None or self._answered.is_set() or type(request_id) is not type(self._awaited):
            return False
        if request_id == self._awaited:
            self._answered.set()
            return True
        return False
