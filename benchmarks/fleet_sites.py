"""Where a fleet keeps its state: PostgreSQL with an S3 API, or one SQLite home with a directory of images."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import soak_audit
from benchmarks.fleet_net import HOST, Relay
from benchmarks.soak import ROOT
from benchmarks.soak_audit import Kept

LEFT = """
SELECT COALESCE(SUM(CASE WHEN state NOT IN ('done', 'failed', 'cancelled', 'uncertain')
                           OR (state = 'done' AND charged_usd IS NULL AND ticket IS NOT NULL AND attempts < 6)
                    THEN 1 ELSE 0 END), 0) AS open, SUM(due_at) AS due, SUM(attempts) AS attempts
FROM predictions
"""
"""How many predictions have not ended or wait for their charge, and what changes when one moves."""
OPEN_JOBS = "SELECT id, owner FROM jobs WHERE status IN ('partial', 'failed', 'uncertain') ORDER BY created_at"
COUNTED = "SELECT * FROM accounts", "SELECT * FROM queues WHERE queued <> 0", "SELECT * FROM money"
"""What is kept as running totals beside the predictions."""
BUCKET = "fleet"


@dataclass
class SqliteSite:
    """One home directory, which several processes may share."""

    room: Path
    away_s = 0.0
    stateless = False
    """Whether clients of the era before 2026-07-28 are served without sessions, and so by any replica."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SqliteSite]:
        yield self

    def settings(self, member: str) -> Mapping[str, str]:
        return {"TRIPTYCH_HOME": str(self.room / "home")}

    def rows(self, sql: str) -> Sequence[dict[str, Any]]:
        with closing(sqlite3.connect(self.room / "home" / "triptych.db", timeout=30)) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(sql)]

    def kept(self) -> Kept:
        return soak_audit.read(self.room / "home")

    async def restart_database(self) -> None:
        """SQLite has no server to restart."""

    async def lose_objects(self, seconds: float) -> None:
        """The images are files."""


@dataclass
class PostgresSite:
    """A PostgreSQL server and an S3 API on loopback; every member has a home of its own, as on a machine of its own."""

    room: Path
    stateless = True
    server: Any = None
    url: str = ""
    objects: Relay = field(default_factory=lambda: Relay([], says_502=False))
    away_s: float = 0.0
    """How long PostgreSQL took to stop and to start again."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[PostgresSite]:
        sys.path[:0] = [str(ROOT / "tests")]
        from support import postgres

        # What is measured is a server that keeps its word, not one that is fast for tests.
        postgres.OPTIONS.update(fsync="on", full_page_writes="on", autovacuum="on", max_connections="200")
        s3 = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.fleet_child", "s3", BUCKET,
            cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert s3.stdin
        assert s3.stdout
        self.server = await asyncio.to_thread(postgres.Server)
        try:
            self.server.execute("CREATE DATABASE fleet TEMPLATE template0")
            self.url = self.server.url("fleet", tcp=True)
            self.objects.backends = [(HOST, int(await s3.stdout.readline()))]
            async with self.objects.running():
                yield self
        finally:
            await asyncio.to_thread(self.server.stop)
            s3.stdin.close()
            await s3.wait()

    def settings(self, member: str) -> Mapping[str, str]:
        return {
            "TRIPTYCH_HOME": str(self.room / f"home-{member.replace(' ', '-')}"),
            "TRIPTYCH_DATABASE_URL": self.url,
            "TRIPTYCH_OBJECTS_URL": f"s3://{BUCKET}/made",
            **self._s3(),
        }

    def _s3(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://{HOST}:{self.objects.port}",
            "AWS_ACCESS_KEY_ID": "fleet",
            "AWS_SECRET_ACCESS_KEY": "fleet-secret",
            "AWS_REGION": "us-east-1",
        }

    def rows(self, sql: str) -> Sequence[dict[str, Any]]:
        import psycopg
        from psycopg.rows import dict_row

        with psycopg.connect(self.url, autocommit=True, row_factory=dict_row) as db:
            return db.execute(sql.encode()).fetchall()

    def kept(self) -> Kept:
        import obstore
        from obstore import store

        from triptych.images.naming import key_of

        port = self.objects.backends[0][1]
        config: Any = {"endpoint": f"http://{HOST}:{port}", "access_key_id": "fleet"}
        config |= {"secret_access_key": "fleet-secret", "region": "us-east-1"}
        stored = store.from_url(
            f"s3://{BUCKET}/made",
            config=config,
            client_options={"allow_http": True},
        )

        def bytes_of(image: Mapping[str, Any]) -> bytes | None:
            try:
                return bytes(obstore.get(stored, key_of(image["sha256"], image["mime_type"])).bytes())
            except FileNotFoundError:
                return None

        found = [
            self.rows(sql) for sql in (soak_audit.REQUESTED, soak_audit.JOBS, soak_audit.FRAMES, soak_audit.IMAGES)
        ]
        return Kept(*found, bytes_of)

    async def restart_database(self) -> None:
        """Stop PostgreSQL as its operator does, and start it again."""
        began = time.monotonic()
        await asyncio.to_thread(self.server.halt)
        await asyncio.to_thread(self.server.start)
        self.away_s = time.monotonic() - began

    async def lose_objects(self, seconds: float) -> None:
        """Cut the way to the object store for so long."""
        self.objects.shut()
        await asyncio.sleep(seconds)
        self.objects.open()
