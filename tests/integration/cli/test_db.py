"""`triptych db`, and the commands that read the database of TRIPTYCH_DATABASE_URL."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from support import object_store, postgres
from support.stored import add, prediction
from triptych.cli import cli
from triptych.cli.formatting import Exit
from triptych.storage.jobs import Store
from triptych.storage.postgres import Database


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIPTYCH_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def url(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with postgres.database(empty=True) as url:
        monkeypatch.setenv("TRIPTYCH_DATABASE_URL", url)
        yield url


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def test_migrate_makes_the_tables_once(url: str) -> None:
    assert "ran 0011_tables.sql" in run("db", "migrate").output
    assert "The tables have this version." in run("db", "migrate").output


def test_check_wants_the_tables_and_changes_nothing(url: str) -> None:
    missing = run("db", "check")
    assert missing.exit_code
    assert "Run triptych db migrate." in missing.output
    run("db", "migrate")
    assert run("db", "check").exit_code == Exit.DONE
    with closing(Store(Database(url), Path("/images"))) as store:
        add(store, prediction())
    postgres.server().execute("UPDATE money SET reserved_nano = 0", url.partition("?")[0].rpartition("/")[2])
    wrong = json.loads(run("db", "check", "--json").stdout)
    assert len(wrong["differences"]) == 2
    assert run("db", "check").exit_code == Exit.FAILED


def test_copy_moves_the_file_and_says_what_it_did(home: Path, url: str) -> None:
    with closing(Store(home / "triptych.db", home / "images")) as store:
        add(store, prediction())
    copied = run("db", "copy", "--json")
    assert json.loads(copied.stdout)["rows"]["predictions"] == 1
    assert run("db", "check").exit_code == Exit.DONE
    assert "job_00000001" in run("jobs").output
    assert "It was copied before" in run("db", "copy").output


def test_copy_without_a_file_names_the_setting(url: str) -> None:
    assert "TRIPTYCH_HOME" in run("db", "copy").output


@pytest.mark.parametrize("name", ["migrate", "copy"])
def test_without_a_url_the_setting_is_named(name: str, home: Path) -> None:
    refused = run("db", name)
    assert refused.exit_code == Exit.BAD_REQUEST
    assert "TRIPTYCH_DATABASE_URL is not set" in refused.output


def test_sqlite_can_be_checked_too(home: Path) -> None:
    assert run("db", "check").exit_code == Exit.DONE


@pytest.mark.parametrize(
    "command", [("jobs",), ("prune",), ("doctor", "--offline"), ("revoke-urls",), ("objects", "copy")]
)
def test_other_commands_use_the_database_of_the_setting(
    command: tuple[str, ...], home: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if command[0] == "objects":  # nothing is asked of it, because there is no image
        monkeypatch.setenv("TRIPTYCH_OBJECTS_URL", "s3://bucket/prefix")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
    with closing(Store(Database(url), Path("/images"))) as store:
        add(store, prediction())
    done = run(*command)
    assert done.exit_code == Exit.DONE, done.output
    assert not (home / "triptych.db").exists()


def test_an_outage_is_a_sentence_without_the_password(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = postgres.free_port()
    monkeypatch.setenv("TRIPTYCH_DATABASE_URL", f"postgresql://me:topsecret@127.0.0.1:{free}/db")
    for command in (("jobs",), ("db", "check"), ("doctor", "--offline")):
        away = run(*command)
        assert away.exit_code
        assert "does not answer" in away.output
        assert "topsecret" not in away.output


def test_doctor_migrates_no_shared_database(home: Path, url: str) -> None:
    done = run("doctor", "--offline")
    assert done.exit_code == Exit.DONE, done.output
    assert "PostgreSQL, without tables" in done.output
    assert "have version 0" in run("db", "check").output
    run("db", "migrate")
    assert "with the tables of this version" in run("doctor", "--offline").output


def test_an_outage_is_asked_about_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPTYCH_DATABASE_URL", f"postgresql://me@127.0.0.1:{postgres.free_port()}/db")
    assert run("jobs").output.count("Is the server running") == 1


def test_a_copied_homes_files_go_into_the_object_store(home: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("generate", "-p", "a red fox", "-n", "2", "--provider", "draft", "--yes").exit_code == Exit.DONE
    assert run("jobs").exit_code == Exit.DONE
    with object_store.bucket() as bucket:
        for name, value in bucket.environ.items():
            monkeypatch.setenv(name, value)
        done = run("objects", "copy")
        assert "Copied 2 images" in done.output, done.output
        assert len(bucket.stored()) == 2
