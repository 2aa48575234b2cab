"""The differences between Linux, macOS and Windows, each behind one function.

`platform` is that of `sys.platform`; a test gives another one, so that each branch runs on every system.
docs/platforms.md lists the differences and what is proven where. Other differences: `private_files` (rights),
`clock` (boots, sleep).
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

REPLACE_TRIES = 20
REPLACE_WAIT_S = 0.05
_SIGBREAK = 21
_F_FULLFSYNC = 51
_SO_EXCLUSIVEADDRUSE = ~socket.SO_REUSEADDR
"""The numbers of Windows and macOS where this Python does not know the names."""


def stop_signals(platform: str = sys.platform) -> tuple[int, ...]:
    """Return the signals that tell a process to stop. On Windows Ctrl-Break and a closed console are SIGBREAK."""
    usual = (int(signal.SIGINT), int(signal.SIGTERM))
    return (*usual, int(getattr(signal, "SIGBREAK", _SIGBREAK))) if platform == "win32" else usual


def names_ignore_case(platform: str = sys.platform) -> bool:
    """Return whether file names that differ in case alone name the same file, as file systems usually are there."""
    return platform in ("win32", "darwin")


def claim_address(listener: socket.socket, platform: str = sys.platform) -> None:
    """Let a socket that is not bound yet have its address alone, also right after a process that had it has ended.

    On Windows SO_REUSEADDR would let two processes listen on one port, and one could take the other's clients.
    """
    if platform == "win32":
        option = getattr(socket, "SO_EXCLUSIVEADDRUSE", _SO_EXCLUSIVEADDRUSE)
    else:
        option = socket.SO_REUSEADDR
    listener.setsockopt(socket.SOL_SOCKET, option, 1)


def flush_file(descriptor: int, platform: str = sys.platform) -> None:
    """Return when the bytes of an open file are on the disk. Raises: `OSError`.

    On macOS `fsync` ends when the drive has them in its cache, which a power cut empties.
    """
    if platform == "darwin":
        import fcntl

        try:
            fcntl.fcntl(descriptor, getattr(fcntl, "F_FULLFSYNC", _F_FULLFSYNC))
        except OSError:  # a network file system cannot
            os.fsync(descriptor)
    else:
        os.fsync(descriptor)


def flush_directory(directory: Path, platform: str = sys.platform) -> None:
    """Flush a directory to disk: without it a power cut loses the name of a file whose bytes are stored.

    Windows opens no directory; its file systems log a rename themselves.
    """
    if platform == "win32":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        flush_file(descriptor, platform)
    finally:
        os.close(descriptor)


def replace(
    source: Path, target: Path, platform: str = sys.platform, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Move a file to its place, over one that is there.

    Windows refuses that while any program has the target open (a reader, a virus scanner): there it is tried for a
    second. Raises: `OSError`.
    """
    for left in reversed(range(REPLACE_TRIES if platform == "win32" else 1)):
        try:
            source.replace(target)
            return
        except PermissionError:
            if not left:
                raise
            sleep(REPLACE_WAIT_S)
