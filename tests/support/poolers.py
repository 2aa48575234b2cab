"""Transaction poolers before the tests' PostgreSQL server: pgbouncer where it is installed, and always a double.

The double gives each client one server connection, and discards its session after every transaction: prepared
statements, settings, LISTEN and session locks are gone then, as if the next transaction ran on another connection.
"""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from support.postgres import drop_privileges, free_port, server

KINDS = ["double", *(["pgbouncer"] if shutil.which("pgbouncer") or Path("/usr/sbin/pgbouncer").exists() else [])]
ENCRYPTION = {80877103, 80877104}
"""The codes of the questions for TLS and for GSSAPI."""
DISCARD = b"Q" + struct.pack("!I", 4 + len(b"DISCARD ALL\0")) + b"DISCARD ALL\0"


@contextmanager
def pooler(kind: str, url: str) -> Iterator[str]:
    """Run a pooler before a database; give the URL through it."""
    database = url.partition("?")[0].rpartition("/")[2]
    with _double() if kind == "double" else _pgbouncer() as port:
        yield f"postgresql://postgres@127.0.0.1:{port}/{database}"


@contextmanager
def _double() -> Iterator[int]:
    listening = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=_serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.close()


def _serve(client: socket.socket) -> None:
    with client, socket.create_connection(("127.0.0.1", server().port)) as behind, suppress(OSError):
        for one in (client, behind):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_pump, args=(client, behind), daemon=True).start()
        read = behind.makefile("rb")
        started = discarding = False
        while head := read.read(1):
            size = read.read(4)
            body = read.read(struct.unpack("!I", size)[0] - 4)
            if head == b"K":  # a pooler's cancellation keys are its own
                body = b"\x00\x00\x00\x07" + body[4:]
            if head == b"Z" and discarding:
                discarding = False
                client.sendall(head + size + body)
            elif head == b"Z" and body == b"I" and started:
                discarding = True
                behind.sendall(DISCARD)
            elif not discarding:
                started |= head == b"Z"
                client.sendall(head + size + body)


def _pump(client: socket.socket, behind: socket.socket) -> None:
    with suppress(OSError, struct.error):
        read = client.makefile("rb")
        while (first := read.read(8)) and struct.unpack("!II", first)[1] in ENCRYPTION:
            client.sendall(b"N")
        behind.sendall(first + read.read(struct.unpack("!II", first)[0] - 8))
        while data := read.read1(65536):
            behind.sendall(data)
        behind.shutdown(socket.SHUT_RDWR)


@contextmanager
def _pgbouncer() -> Iterator[int]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="triptych-bouncer-") as directory:
        home = Path(directory)
        home.chmod(0o755)
        (home / "pgbouncer.ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={server().port} user=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\npool_mode = transaction\nauth_type = any\n"
            "unix_socket_dir =\ndefault_pool_size = 3\nlogfile =\n"
        )
        (home / "pgbouncer.ini").chmod(0o644)
        program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        process = subprocess.Popen(
            [program, "-q", str(home / "pgbouncer.ini")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **drop_privileges(),
        )  # fmt: skip
        try:
            _wait_for(port, process)
            yield port
        finally:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    raise AssertionError("pgbouncer did not start")
