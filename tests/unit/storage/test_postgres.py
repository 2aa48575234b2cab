"""PostgreSQL that is away, full, read-only, wrong or newer: each a sentence that says what mends it; outages pass."""

from __future__ import annotations

import builtins
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support import postgres
from support.clocks import when
from support.database_proxy import proxied
from support.refusals import tells_operator
from support.stored import NOW, add, claim, prediction
from triptych import logs, settings
from triptych.core import errors
from triptych.storage import postgres as module
from triptych.storage import postgres_pool
from triptych.storage.database import open_database
from triptych.storage.jobs import Store
from triptych.storage.migrations import postgres as migrations
from triptych.storage.postgres import Database
from triptych.storage.postgres_errors import Target

IMAGES = Path("/images")


@pytest.fixture
def url() -> Iterator[str]:
    with postgres.database() as url:
        yield url


def name_in(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


# -- a URL that cannot be used -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:top@secret@host/db",
        "postgresql://me:top/secret@host/db",
        "postgresql://me:topsecret@host:port/db",
        "postgresql://me:top#secret@host/db",
        "postgresql://me:top%secret@host/db",
        "postgresql://me:topsecret@host/db?nosuchoption=1",
        "mysql://me:topsecret@host/db",
    ],
)
def test_a_url_that_cannot_be_read_is_not_shown(url: str) -> None:
    with pytest.raises(errors.Unusable) as refused:
        Database(url)
    assert "TRIPTYCH_DATABASE_URL" in refused.value.found
    assert "%40" in refused.value.mend
    assert not re.search("top|secret", refused.value.for_operator)


def test_another_databases_url_is_refused_by_the_settings() -> None:
    with pytest.raises(errors.BadRequest, match=r"TRIPTYCH_DATABASE_URL must be postgresql://user:password@host") as no:
        settings.read({"TRIPTYCH_DATABASE_URL": "mysql://me:topsecret@host/db"})
    assert "topsecret" not in no.value.message


def test_the_settings_never_show_the_password() -> None:
    environ = {"TRIPTYCH_DATABASE_URL": "postgresql://me:topsecret@host/db"}
    assert "topsecret" not in repr(settings.read(environ))
    line = logs.SafeLines(environ).without_secrets("cannot reach postgresql://me:topsecret@host/db")
    assert "topsecret" not in line


# -- a server that refuses ---------------------------------------------------------------------------------------------


def refused(url: str) -> errors.Outage:
    with pytest.raises(errors.Outage) as raised:
        Database(url)
    assert postgres.PASSWORD not in raised.value.for_operator
    assert "topsecret" not in raised.value.for_operator
    return raised.value


def test_a_wrong_password_names_the_setting() -> None:
    postgres.server().add_guarded()
    url = f"postgresql://guarded:topsecret@127.0.0.1:{postgres.server().port}/postgres"
    error = refused(url)
    assert isinstance(error, errors.Unusable)
    assert "refused the login" in error.found
    assert "TRIPTYCH_DATABASE_URL" in error.mend


def test_a_right_password_opens_the_database(url: str) -> None:
    postgres.server().add_guarded()
    server = postgres.server()
    with closing(
        Database(f"postgresql://guarded:{postgres.PASSWORD}@127.0.0.1:{server.port}/{name_in(url)}")
    ) as database:
        database.check()


def test_an_unknown_user_is_a_refused_login() -> None:
    assert "refused the login" in refused(postgres.server().url("postgres", "nobody_here")).for_operator


def test_a_missing_database_says_how_to_make_it() -> None:
    error = refused(postgres.server().url("nowhere"))
    assert isinstance(error, errors.Unusable)
    assert 'database "nowhere" at' in error.found.replace("'", '"')
    assert "createdb" in error.mend


def test_a_database_of_another_encoding_says_how_to_make_one() -> None:
    server = postgres.server()
    server.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
    try:
        assert "ENCODING 'UTF8'" in refused(server.url("ascii")).for_operator
    finally:
        server.drop("ascii")


def test_an_old_server_names_the_oldest_that_works(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OLDEST_SERVER", 990000)
    assert "PostgreSQL 14 or newer" in refused(url).for_operator


def test_a_user_without_rights_is_told_which() -> None:
    server = postgres.server()
    server.execute(
        "DO $$ BEGIN CREATE ROLE poor LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
    )
    with postgres.database(empty=True) as url:
        error = refused(server.url(name_in(url), "poor"))
    assert isinstance(error, errors.Unusable)
    assert "triptych db migrate" in error.mend


def test_no_free_connection_is_an_outage() -> None:
    server = postgres.server()
    server.execute("DO $$ BEGIN CREATE ROLE few LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    server.execute("ALTER ROLE few CONNECTION LIMIT 0")
    error = refused(server.url("postgres", "few"))
    assert error.retryable
    assert "pgbouncer" in error.for_operator


def test_a_server_that_is_not_there_is_an_outage() -> None:
    error = refused(f"postgresql://me:topsecret@127.0.0.1:{postgres.free_port()}/db")
    assert error.retryable
    assert "does not answer" in error.for_operator


def test_an_unknown_host_is_an_outage() -> None:
    assert "TRIPTYCH_DATABASE_URL" in refused("postgresql://me:topsecret@no-such-host.invalid/db").for_operator


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "triptych.storage.postgres")
    importing = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "triptych.storage.postgres":
            raise ModuleNotFoundError("No module named 'psycopg'")
        return importing(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(errors.Unusable, check=tells_operator(r'pip install "triptych\[postgres\]"')):
        open_database(tmp_path / "x.db", "postgresql://host/db")


# -- a server that goes away -------------------------------------------------------------------------------------------


def test_a_lost_connection_is_replaced(url: str) -> None:
    with proxied(url) as (proxy, through), closing(Store(Database(through), IMAGES)) as store:
        add(store, prediction())
        proxy.cut()
        assert store.job("job_00000001")
        assert proxy.connections == 2


def test_a_connection_lost_in_a_transaction_writes_nothing(url: str) -> None:
    with proxied(url) as (proxy, through), closing(Store(Database(through), IMAGES)) as store:
        with pytest.raises(errors.Outage, check=tells_operator("does not answer")), store._db.transaction():
            store._db.run("save_also", job_id="j", directory="d")
            proxy.cut()
            store._db.one("job", id="j")
        assert add(store, prediction()) is None


def test_a_restart_of_the_server_is_an_outage_that_passes(tmp_path: Path) -> None:
    with postgres.own_server() as server:
        url = server.url(server.create())
        with closing(Store(Database(url), IMAGES)) as store:
            add(store, prediction())
            for how in (signal.SIGINT, signal.SIGQUIT):  # an orderly stop, and a crash
                server.halt(how)
                with pytest.raises(errors.Outage) as away:
                    claim(store)
                assert away.value.retryable
                server.start()
                assert store.job("job_00000001")
            assert claim(store)


def test_a_standby_is_an_outage_until_it_is_promoted(url: str) -> None:
    database = name_in(url)
    with closing(Store(Database(url), IMAGES)) as store:
        with store._db._pool.connection() as connection:  # type: ignore[attr-defined]
            connection.execute("SET default_transaction_read_only = on")
        postgres.server().execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        try:
            with pytest.raises(errors.Outage, check=tells_operator("standby that cannot be written")) as standby:
                add(store, prediction())
            assert standby.value.retryable
            assert "promoted" in refused(url).for_operator
        finally:
            postgres.server().execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
        assert add(store, prediction()) is None


def test_a_full_disk_is_an_outage() -> None:
    target = Target("postgresql://me:topsecret@host/db")
    full = target.error(psycopg.errors.DiskFull("could not extend file"))
    assert full.retryable
    assert "no space left" in full.for_operator


def test_every_error_of_the_driver_becomes_ours() -> None:
    """None has the password, even if the driver or the server repeats it."""
    target = Target("postgresql://me:top%20secret@host/db?sslpassword=other")
    kinds = [
        kind for kind in vars(psycopg.errors).values() if isinstance(kind, type) and issubclass(kind, psycopg.Error)
    ]
    assert len(kinds) > 200
    for kind in kinds:
        made = target.error(kind("said top secret and top%20secret and other"))
        assert isinstance(made, errors.Outage)
        assert not re.search("top( |%20)secret|other", made.for_operator.replace("another", "").replace("Another", ""))


def test_a_frozen_process_does_not_keep_its_locks(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = module._BEGIN.replace("session_timeout = '30s'", "session_timeout = '1s'")
    with closing(Store(Database(url), IMAGES)) as frozen, closing(Store(Database(url), IMAGES)) as other:
        add(frozen, prediction())
        monkeypatch.setattr(module, "_BEGIN", begin)
        with pytest.raises(errors.Outage), frozen._db.transaction():
            monkeypatch.undo()  # the other process is not frozen
            frozen._db.one("lock_job", id="job_00000001")
            # It waits for the lock, until the server ends the frozen one's session.
            other.cancel("job_00000001", when(NOW))
            frozen._db.one("lock_job", id="job_00000001")
        assert other.job("job_00000001").cancel_requested  # type: ignore[union-attr]


def test_a_lock_that_is_never_given_is_an_outage(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Store(Database(url), IMAGES)) as one, closing(Store(Database(url), IMAGES)) as other:
        add(one, prediction())
        with one._db.transaction():
            one._db.one("lock_job", id="job_00000001")
            monkeypatch.setattr(
                module, "_BEGIN", module._BEGIN.replace("lock_timeout = '10s'", "lock_timeout = '50ms'")
            )
            with pytest.raises(errors.Outage, check=tells_operator("Triptych asks again")):
                other.cancel("job_00000001", when(NOW))


def test_a_process_uses_no_more_connections_than_it_may(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_pool, "FREE_TIMEOUT_S", 0.05)
    monkeypatch.setattr(module, "CONNECTIONS", 1)
    said = tells_operator("in use")
    with closing(Database(url)) as database, database._pool.connection(), pytest.raises(errors.Outage, check=said):
        database.one("job", id="j")


# -- versions of the tables --------------------------------------------------------------------------------------------


def test_a_compatible_newer_version_works_side_by_side(url: str) -> None:
    with closing(Store(Database(url), IMAGES)) as store:
        postgres.server().execute("UPDATE triptych_version SET version = 99", name_in(url))
        add(store, prediction())
        assert claim(store)
        Database(url).close()
        postgres.server().execute(f"UPDATE triptych_version SET version = {migrations.newest()}", name_in(url))


def test_an_incompatible_newer_version_stops_claims_but_no_answer(url: str) -> None:
    with closing(Store(Database(url), IMAGES)) as store:
        add(store, prediction())
        held = claim(store)
        assert held
        postgres.server().execute("UPDATE triptych_version SET version = 99, minimum = 99", name_in(url))
        try:
            with pytest.raises(errors.Outdated, check=tells_operator("Restart with the newer Triptych")):
                claim(store)
            with pytest.raises(errors.Outdated):
                Database(url)
            assert store.move(held, held.prediction.state, now=when(NOW), due_at=0)
        finally:
            newest = migrations.newest()
            postgres.server().execute(
                f"UPDATE triptych_version SET version = {newest}, minimum = {newest}", name_in(url)
            )


def test_several_processes_migrate_an_empty_database_once() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with postgres.database(empty=True) as url, ThreadPoolExecutor(6) as threads:
        for database in list(threads.map(lambda _: Database(url), range(6))):
            version, minimum = database.versions()
            assert minimum <= version == migrations.newest()
            database.check()
            database.close()


def test_a_migration_waits_for_the_transactions_that_run(url: str) -> None:
    with closing(Store(Database(url), IMAGES)) as store, psycopg.connect(url, autocommit=True) as other:
        other.execute("SET lock_timeout = '50ms'")
        with store._db.transaction(), pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("SELECT pg_advisory_xact_lock(%s)", [migrations.LOCK])
        other.execute("SELECT pg_advisory_xact_lock(%s)", [migrations.LOCK])


def test_the_first_schema_is_that_of_sqlite(url: str, tmp_path: Path) -> None:
    """Every table and column of SQLite's database is there, and no other, except for what belongs to the server."""
    with closing(Store(tmp_path / "t.db", IMAGES)) as store:
        connection = store._db.connection  # type: ignore[attr-defined]
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        ours = {(table, row["name"]) for table in tables for row in connection.execute(f"PRAGMA table_xinfo({table})")}
    found = postgres.server().execute(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' "
        "AND table_name NOT IN ('commits', 'triptych_version', 'prediction_money')",
        name_in(url),
    )
    assert set(found) == {pair for pair in ours if pair[0] != "boot"}
