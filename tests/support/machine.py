"""The tests' needs of the machine: time for an answer, certificates and migrations once, directories in memory."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sqlite3
import ssl
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import httpcore2
import httpx2
from jsonschema import Draft202012Validator

from triptych.providers.preview import scene_painter
from triptych.storage.migrations import migrate

PATIENCE = httpx2.Timeout(60.0)
PAINT_SIDE_PX = 400
MEMORY = Path("/dev/shm")
MEMORY_FREE_BYTES = 2 * 1024**3


def wait_longer_for_answers() -> None:
    """Give an HTTP answer a minute: by default it has five seconds, which a busy machine may need."""
    methods = (httpx2.Client.__init__, httpx2.AsyncClient.__init__)
    for call in (*methods, httpx2.request, httpx2.get, httpx2.head, httpx2.post, httpx2.put):
        call.__kwdefaults__ = {**(call.__kwdefaults__ or {}), "timeout": PATIENCE}


def read_certificates_once() -> None:
    """Share one TLS context between all clients: each would read the system's certificates, which takes 20 ms."""
    read = httpcore2.default_ssl_context

    @functools.cache
    def shared(trust_env: bool, *names: str | None) -> ssl.SSLContext:
        return read(_trust_env=trust_env)

    def context(*, _trust_env: bool = True) -> ssl.SSLContext:
        return shared(_trust_env, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))

    httpcore2.default_ssl_context = context


def check_schemas_once() -> None:
    """Let a JSON schema be found valid once: each client checks that of every tool it calls, which takes 30 ms."""
    check, valid = Draft202012Validator.check_schema, set[str]()

    def check_new(schema: Any, **options: Any) -> None:
        text = json.dumps([schema, list(options)], sort_keys=True, default=repr)
        if text not in valid:
            check(schema, **options)
            valid.add(text)

    Draft202012Validator.check_schema = check_new


@functools.cache
def migrated() -> bytes:
    """Return a new database as this version leaves it."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as new:
        migrate(new)
        return new.serialize()


def copy_migrated(connection: sqlite3.Connection) -> None:
    """Migrate a database; a new one becomes a copy of one that is migrated already, which takes a tenth of the time."""
    if connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        migrate(connection)
        return
    with closing(sqlite3.connect(":memory:")) as template:
        template.deserialize(migrated())
        template.backup(connection)


def paint_small_scenes() -> None:
    """Let the offline engine paint scenes at a quarter of its size, in a tenth of the time; it enlarges them then."""
    scene_painter.PAINT_SIDE_PX = PAINT_SIDE_PX


def keep_files_in_memory() -> None:
    """Put temporary directories on a file system in memory, where there is one: a commit waits for a disk."""
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > MEMORY_FREE_BYTES:
        tempfile.tempdir = str(MEMORY)
